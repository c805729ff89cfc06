/* SPDX-License-Identifier: MIT */
/*
 * The way round a server that does not answer: its process, seen through /proc.
 *
 *	socket --SO_PEERCRED--> pid --> /proc/PID/stat        stopped?
 *	                            --> /proc/PID/fd/N        the status region
 *
 * A pid is only a number and may come to mean another process, so every answer
 * that was found by one counts only while the pidfd says that it lives.
 *
 * Callers: any thread.
 *
 * Progress: system calls on local pseudo files. Whatever a hostile process puts
 *	into its table of descriptors, nothing but a memfd is opened: no FIFO
 *	that blocks, no device, no file system of its own.
 *
 * Errors: -EACCES (neither its user nor root), -ENOENT (no such region),
 *	-ENOTUNIQ (several, and none of exactly this name), -ETIMEDOUT,
 *	-ECONNRESET (the process has gone), -EMFILE, -ENOMEM.
 *
 * Source: proc_pid_fd(5), unix(7), pidfd_open(2).
 */
#ifndef PEAL_MPSC_OBSERVER_PROC_H
#define PEAL_MPSC_OBSERVER_PROC_H

#include <stdbool.h>
#include <stdint.h>

/* What stands before the name of a server in that of its status region. */
#define PEAL__STATUS_REGION "peal-status:"

struct peal__process {
	int32_t pid; /* 0: not visible from our pid namespace, or no pidfd */
	uint32_t uid;
	int pidfd; /* -1: none to be had */
};

/* Whose socket is at the other end of @socket_fd? 0 or -errno. */
int peal__process_of_peer(int socket_fd, struct peal__process *ret_process);

/* False also when it cannot be known. */
bool peal__process_has_gone(const struct peal__process *process);
bool peal__process_is_stopped(const struct peal__process *process);

/*
 * Open the status region of the server @name in that process, read-only. A name
 * and a path that ends in it mean the same server, unless the process has two.
 * 0, or an error of the list above; what it holds is not looked at.
 */
int peal__process_open_status(const struct peal__process *process,
                              const char *name, uint64_t deadline_ns,
                              int *ret_fd);

#endif
