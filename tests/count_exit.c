/* SPDX-License-Identifier: MIT */
/*
 * For tests/coverage: what a forked child did is counted too. gcov writes its
 * counts at exit(), and children leave by _exit(), which is called here first.
 */
#include <unistd.h>

void __gcov_dump(void);
void __real__exit(int status) __attribute__((noreturn));
void __wrap__exit(int status) __attribute__((noreturn));

void __wrap__exit(int status)
{
	__gcov_dump();
	__real__exit(status);
}
