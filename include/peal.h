/* SPDX-License-Identifier: MIT */
/*
 * peal: calls between the programs of one machine through shared memory.
 *
 *	base.h      version, errors
 *	shm.h       regions of memory
 *	doorbell.h  sleeping and waking
 *	ring.h      one producer, one consumer
 *	mpsc.h      many producers attach to a name; one consumer
 *	reactor.h   a server that answers calls
 *	client.h    who calls it
 *	observer.h  looking at a server from outside
 *
 * Callers: see each header.
 */
#ifndef PEAL_H
#define PEAL_H

#include <peal/base.h>
#include <peal/client.h>
#include <peal/doorbell.h>
#include <peal/mpsc.h>
#include <peal/observer.h>
#include <peal/reactor.h>
#include <peal/ring.h>
#include <peal/shm.h>

#endif
