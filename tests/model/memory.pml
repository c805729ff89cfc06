/* SPDX-License-Identifier: MIT */
/*
 * The memory that the processes of a model share.
 *
 *	           -DTSO                                without
 *	   process 0        process 1           process 0     process 1
 *	       | STORE          |                   | STORE       |
 *	   +---v---+        +---v---+               |             |
 *	   | FIFO  |        | FIFO  |               |             |
 *	   +---+---+        +---+---+               |             |
 *	       | at any time    |                   |             |
 *	   +---v----------------v---+           +---v-------------v---+
 *	   | cells                  |           | cells               |
 *	   +------------------------+           +---------------------+
 *
 * A LOAD finds the youngest store of its own process first, then the cell.
 * DRAINED is what a locked operation and a system call wait for: the own FIFO
 * is empty. That is all an x86-64 processor reorders: a load may pass an older
 * store of the same process to another cell. Release and acquire cost nothing
 * there, so what only needs these is not shown by -DTSO; ThreadSanitizer sees
 * it.
 *
 * A model defines CELLS, their names, and CPUS: who has a FIFO, 0 to 2 of them.
 * Who has none goes from one locked operation or system call to the next, so
 * it would always be empty where it matters.
 *
 * The store of a process that is killed is in its FIFO, and still comes out.
 */
byte cells[CELLS];

#ifdef TSO

#ifndef DEPTH
#define DEPTH 2 /* or 3 */
#endif

typedef Fifo {
	byte used;
	byte cell[3];
	byte value[3]
}
Fifo fifos[3];

#define HOLDS(cpu, i, c) (fifos[cpu].used > i && fifos[cpu].cell[i] == (c))
#define LOAD(cpu, c) (HOLDS(cpu, 2, c) -> fifos[cpu].value[2] : \
		     (HOLDS(cpu, 1, c) -> fifos[cpu].value[1] : \
		     (HOLDS(cpu, 0, c) -> fifos[cpu].value[0] : cells[c])))
#define STORE(cpu, c, v) \
	d_step { \
		fifos[cpu].used < DEPTH; \
		fifos[cpu].cell[fifos[cpu].used] = c; \
		fifos[cpu].value[fifos[cpu].used] = v; \
		fifos[cpu].used++ \
	}
#define DRAINED(cpu) (fifos[cpu].used == 0)

/* The oldest store reaches its cell. What is left empty is 0, or states that
 * are the same would look different. */
#define OLDEST_OUT(cpu) \
	d_step { \
		fifos[cpu].used > 0; \
		cells[fifos[cpu].cell[0]] = fifos[cpu].value[0]; \
		fifos[cpu].cell[0] = fifos[cpu].cell[1]; \
		fifos[cpu].value[0] = fifos[cpu].value[1]; \
		fifos[cpu].cell[1] = fifos[cpu].cell[2]; \
		fifos[cpu].value[1] = fifos[cpu].value[2]; \
		fifos[cpu].cell[2] = 0; \
		fifos[cpu].value[2] = 0; \
		fifos[cpu].used-- \
	}

active proctype fifos_empty_themselves()
{
end:	do
	:: OLDEST_OUT(0)
	:: OLDEST_OUT(1)
	:: OLDEST_OUT(2)
	od
}

#else

#define LOAD(cpu, c) cells[c]
#define STORE(cpu, c, v) cells[c] = v
#define DRAINED(cpu) true

#endif
