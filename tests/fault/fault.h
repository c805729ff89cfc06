/* SPDX-License-Identifier: MIT */
/*
 * One call of the kernel, or of the allocator, that fails.
 *
 *	library --close()--> __wrap_close() --+-- the third one? --> -1, EINTR
 *	                                      +-- else ------------> close()
 *
 * The linker puts these wrappers between the objects of the program, the
 * library among them, and the C library (--wrap, see meson.build); what the C
 * library calls itself is left alone. Each has a list of the errors that the
 * call really has. A pass takes the first of each list, the next pass the
 * second, and the last one makes everything fail that needs memory or a
 * descriptor, from the struck call on.
 *
 * What the library holds is counted all the time: allocations and bytes of
 * mappings, which a process otherwise has for many reasons.
 */
#ifndef PEAL_TESTS_FAULT_FAULT_H
#define PEAL_TESTS_FAULT_FAULT_H

#include <stdbool.h>
#include <stdint.h>

enum fault_whose {
	FAULT_NOBODYS,
	FAULT_MINE,   /* calls of the thread that arms */
	FAULT_OTHERS, /* of all other threads */
};

enum {
	FAULT_ERROR_PASSES = 4, /* the longest list of errors */
	FAULT_PASS_FROM_NOW_ON = FAULT_ERROR_PASSES,
	FAULT_PASSES,
};

/* What was struck; @name is NULL when no call was the one. */
struct fault {
	const char *name;
	int error;          /* positive; of the first one */
	uint64_t errors[3]; /* a bit for each error of those that followed */
};

/* Also what is called so often, or matters so little, that it takes long. */
extern bool fault_is_full;

/* As before Linux 6.5: whoever wants a pidfd has to open one. */
extern bool fault_has_no_peerpidfd;

/* The @number-th call, from 1, fails as this pass has it. */
void fault_arm(enum fault_whose whose, uint32_t number, int pass);
struct fault fault_disarm(void);

/* Instead: so many calls of one name fail, the next ones, with one error. */
struct fault_aim {
	const char *name; /* as fault.c has it; NULL ends the list */
	int error;
	uint32_t times;
};
void fault_arm_at(enum fault_whose whose, const struct fault_aim *aims);

/* What stands armed now, for a signal handler that tells of a hang. */
struct fault fault_look(void);

static inline bool fault_has(const struct fault *fault, int error)
{
	return error > 0 && error < 192 &&
	       (fault->errors[error / 64] >> error % 64 & 1) != 0;
}

int64_t fault_live_allocations(void);
int64_t fault_mapped_bytes(void);

#endif
