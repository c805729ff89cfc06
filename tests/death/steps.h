/* SPDX-License-Identifier: MIT */
/*
 * Killed at an instruction: a process is stepped through an operation of the
 * library, and ends by SIGKILL where it is told to.
 *
 *	victim   everything up to the operation, at full speed
 *	         steps_begin()          stopped, and from here on stepped
 *	         the operation          a boundary before each instruction of
 *	                                ours, and three in each system call:
 *	                                entered, asleep in it, left
 *	         steps_end()
 *	parent   steps_run()            as far as boundary N, and kill
 *
 * Ours is what lies in the text of this program, into which the layers are
 * linked; between the marks nothing else of it runs. The C library counts where
 * @everywhere is set; else only what it asks of the kernel does. One victim dies at one
 * boundary: the next one begins anew, so that no state is shared but what the
 * dead left behind.
 *
 * Only the first victim is really stepped, to learn which boundaries there are.
 * The others run at full speed into a breakpoint of the processor, which
 * belongs to their thread alone: a step costs 30 us on a virtual machine.
 *
 * Callers: the parent traces its own children, any thread of them.
 */
#ifndef PEAL_TESTS_DEATH_STEPS_H
#define PEAL_TESTS_DEATH_STEPS_H

#include "tests/scene.h"

#include <sched.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/user.h>

#define STEPS_NEVER UINT64_MAX
#define STEPS_MAX 100000        /* boundaries of an operation */
#define STEPS_STEPS_MAX 2000000 /* then it goes in circles */
#define STEPS_CALL_STOP 0x80    /* of a signal: it is in a system call */
#define STEPS_YIELDS 5
#define STEPS_HURRY 10
#define STEPS_PATIENCE_NS (20 * SCENE_S)

enum steps_kind {
	STEPS_AT_INSTRUCTION,
	STEPS_ENTERED, /* a system call */
	STEPS_ASLEEP,  /* in one */
	STEPS_LEFT,    /* one */
	STEPS_OVER,    /* after the operation */
	STEPS_FAILED,  /* the victim ended by itself, or could not be traced */
};

struct steps_boundary {
	uintptr_t rip;
	enum steps_kind kind;
};

/* One operation: its boundaries, and where the last victim has ended. */
struct steps {
	bool everywhere;
	void (*unblock)(void); /* wake it; NULL: somebody else does */

	uint64_t *kill_ns; /* when it was killed; or NULL */

	uint64_t count; /* boundaries, of the victim that was stepped */
	struct steps_boundary boundaries[STEPS_MAX];
	uint32_t call_count;

	uint64_t passed; /* by the last victim, as far as it was stepped */
	enum steps_kind kind;
	uintptr_t rip;
	long call; /* number of the system call it was in, or -1 */
};

#if defined(__x86_64__)
#define STEPS_ARE_POSSIBLE true
#define STEPS_CALL_INSTRUCTION 0x050f
#define STEPS_RIP offsetof(struct user_regs_struct, rip)
#define STEPS_RSP offsetof(struct user_regs_struct, rsp)
#define STEPS_NUMBER offsetof(struct user_regs_struct, orig_rax)
#define STEPS_DEBUG(i) offsetof(struct user, u_debugreg[i])
#else
#define STEPS_ARE_POSSIBLE false
#define STEPS_CALL_INSTRUCTION 0
#define STEPS_RIP 0
#define STEPS_RSP 0
#define STEPS_NUMBER 0
#define STEPS_DEBUG(i) 0
#endif

extern const char __executable_start[], etext[];

/* the victim's side --------------------------------------------------------- */

/* -1: not allowed; the victim is to end with a status that says so. */
static inline int steps_begin(void)
{
	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
		return -1;
	return (int)syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGSTOP);
}

static __attribute__((noinline)) void steps_end(void)
{
	__asm__ volatile("" ::: "memory");
}

/* the parent's side --------------------------------------------------------- */

static inline bool steps_is_ours(uintptr_t rip)
{
	return rip >= (uintptr_t)__executable_start && rip < (uintptr_t)etext;
}

static inline uintptr_t steps_register(pid_t tid, size_t offset)
{
	errno = 0;
	return (uintptr_t)ptrace(PTRACE_PEEKUSER, tid, (void *)offset, NULL);
}

/* Note a boundary. Is it the one at which to die? */
static inline bool steps_pass(struct steps *steps, uint64_t target,
                              enum steps_kind kind)
{
	steps->kind = kind;
	if (target == STEPS_NEVER && steps->passed < STEPS_MAX) {
		steps->boundaries[steps->passed].rip = steps->rip;
		steps->boundaries[steps->passed].kind = kind;
		steps->count = steps->passed + 1;
		steps->call_count += kind != STEPS_AT_INSTRUCTION;
	}
	return ++steps->passed == target;
}

/* Does the kernel say that it sleeps? */
static inline bool steps_is_asleep(pid_t tid)
{
	char path[64], text[256];
	const char *state = NULL;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)tid);
	file = fopen(path, "re");
	if (file == NULL)
		return false;
	if (fgets(text, sizeof(text), file) != NULL)
		state = strrchr(text, ')');
	fclose(file);
	return state != NULL && strncmp(state, ") S", 3) == 0;
}

/*
 * Wait until it stops. Where it falls asleep and nobody else wakes it, that is
 * a boundary, and we do: STEPS_ASLEEP, it is to die there. Else STEPS_LEFT, or
 * STEPS_FAILED.
 */
static inline enum steps_kind steps_wait(pid_t tid, struct steps *steps,
                                         uint64_t target)
{
	uint64_t end_ns = scene_now_ns() + STEPS_PATIENCE_NS;
	bool was_asleep = steps->unblock == NULL;
	int status = 0;
	pid_t got;

	for (int i = 0; (got = waitpid(tid, &status, __WALL | WNOHANG)) == 0 &&
	                scene_now_ns() < end_ns;
	     i++) {
		if (i < STEPS_YIELDS) {
			sched_yield();
			continue;
		}
		scene_sleep_ns(50 * SCENE_US);
		if (was_asleep || !steps_is_asleep(tid))
			continue;
		was_asleep = true;
		if (steps_pass(steps, target, STEPS_ASLEEP))
			return STEPS_ASLEEP;
		steps->unblock();
	}
	return got == tid && WIFSTOPPED(status) &&
	                       (WSTOPSIG(status) & ~STEPS_CALL_STOP) == SIGTRAP
	               ? STEPS_LEFT
	               : STEPS_FAILED;
}

/* It has entered a system call. True when it is over with this victim. */
static inline bool steps_through_call(pid_t tid, struct steps *steps,
                                      uint64_t target)
{
	steps->call = (long)steps_register(tid, STEPS_NUMBER);
	if (steps_pass(steps, target, STEPS_ENTERED))
		return true;
	if (ptrace(PTRACE_SYSCALL, tid, NULL, NULL) != 0)
		steps->kind = STEPS_FAILED;
	else
		steps->kind = steps_wait(tid, steps, target);
	return steps->kind != STEPS_LEFT ||
	       steps_pass(steps, target, STEPS_LEFT);
}

/* Go on, as @request says, until it stops; the signal, or 0: it has ended. */
static inline int steps_go_on(pid_t tid, int request)
{
	int status;

	if (ptrace((enum __ptrace_request)request, tid, NULL, NULL) != 0 ||
	    waitpid(tid, &status, __WALL) != tid || !WIFSTOPPED(status))
		return 0;
	return WSTOPSIG(status);
}

/* Stop before the instructions at @rip and at the end. False: it cannot. */
static inline bool steps_set_breakpoints(pid_t tid, uintptr_t rip)
{
	const uintptr_t words[] = {rip, (uintptr_t)steps_end, 1 << 0 | 1 << 2};
	const int numbers[] = {0, 1, 7};

	for (size_t i = 0; i < CHECK_COUNT(words); i++)
		if (ptrace(PTRACE_POKEUSER, tid,
		           (void *)(uintptr_t)STEPS_DEBUG(numbers[i]),
		           (void *)words[i]) != 0)
			return false;
	return true;
}

/* It has just called the C library. True when it is over with this victim. */
static inline bool steps_over_library(pid_t tid, struct steps *steps,
                                      uint64_t target)
{
	int signal;

	while ((signal = steps_go_on(tid, PTRACE_SYSCALL)) ==
	       (SIGTRAP | STEPS_CALL_STOP)) {
		/* The instruction itself is two bytes long. */
		steps->rip = steps_register(tid, STEPS_RIP) - 2;
		if (steps_through_call(tid, steps, target))
			return true;
	}
	if (signal != SIGTRAP)
		steps->kind = STEPS_FAILED;
	return signal != SIGTRAP;
}

/* One step, of the victim that stands at @rip. True when it is over with it. */
static inline bool steps_once(pid_t tid, struct steps *steps, uint64_t target)
{
	bool is_ours = steps_is_ours(steps->rip), is_call = false;
	uintptr_t stack;

	if ((is_ours || steps->everywhere) &&
	    steps_pass(steps, target, STEPS_AT_INSTRUCTION))
		return true;
	if (!is_ours && !steps->everywhere) {
		stack = steps_register(tid, STEPS_RSP);
		stack = (uintptr_t)ptrace(PTRACE_PEEKDATA, tid, (void *)stack,
		                          NULL);
		if (steps_is_ours(stack) && steps_set_breakpoints(tid, stack))
			return steps_over_library(tid, steps, target);
	}
	if (!is_ours)
		is_call = (ptrace(PTRACE_PEEKTEXT, tid, (void *)steps->rip,
		                  NULL) &
		           0xffff) == STEPS_CALL_INSTRUCTION;
	if (is_call && steps_go_on(tid, PTRACE_SYSCALL) != 0)
		return steps_through_call(tid, steps, target);
	if (!is_call && steps_go_on(tid, PTRACE_SINGLESTEP) == SIGTRAP)
		return false;
	steps->kind = STEPS_FAILED;
	return true;
}

/* Step by step to @target. */
static inline void steps_walk(pid_t tid, uint64_t target, struct steps *steps)
{
	steps->passed = 0;
	for (uint64_t i = 0; i < STEPS_STEPS_MAX; i++) {
		steps->call = -1;
		steps->rip = steps_register(tid, STEPS_RIP);
		if (steps->rip == (uintptr_t)steps_end) {
			steps->kind = STEPS_OVER;
			return;
		}
		if (steps_once(tid, steps, target))
			return;
	}
	steps->kind = STEPS_FAILED;
}

/* To the @passing-th time that it stands at @rip. False when it ends before. */
static inline bool steps_leap(pid_t tid, struct steps *steps, uintptr_t rip,
                              uint64_t passing)
{
	while (passing > 0) {
		steps->kind = STEPS_FAILED;
		if (ptrace(PTRACE_CONT, tid, NULL, NULL) != 0 ||
		    steps_wait(tid, steps, 0) != STEPS_LEFT)
			return false;
		steps->rip = steps_register(tid, STEPS_RIP);
		steps->kind = STEPS_OVER;
		if (steps->rip == (uintptr_t)steps_end)
			return false;
		passing -= steps->rip == rip;
	}
	return ptrace(PTRACE_POKEUSER, tid, (void *)(uintptr_t)STEPS_DEBUG(7),
	              NULL) == 0;
}

/* The same with a breakpoint, for a boundary that is known. */
static inline void steps_jump(pid_t tid, uint64_t target, struct steps *steps)
{
	const struct steps_boundary *last = &steps->boundaries[target - 1];
	bool is_call = last->kind != STEPS_AT_INSTRUCTION;
	enum steps_kind counted = is_call ? STEPS_ENTERED
	                                  : STEPS_AT_INSTRUCTION;
	uint64_t passing = 0;

	for (uint64_t i = 0; i < target; i++)
		passing += steps->boundaries[i].rip == last->rip &&
		           steps->boundaries[i].kind == counted;
	/* An instruction that repeats itself is one for a breakpoint. */
	if ((target > 1 && last[-1].rip == last->rip && !is_call) ||
	    !steps_set_breakpoints(tid, last->rip)) {
		steps_walk(tid, target, steps);
		return;
	}
	if (!steps_leap(tid, steps, last->rip, passing))
		return;
	steps->kind = last->kind;
	if (!is_call)
		return;
	/* As far into the call as wanted; nothing else is passed meanwhile. */
	steps->passed = 0;
	if (steps_go_on(tid, PTRACE_SYSCALL) == 0)
		steps->kind = STEPS_FAILED;
	else
		steps_through_call(tid, steps,
		                   1 + (uint64_t)(last->kind - STEPS_ENTERED) -
		                           (last->kind == STEPS_LEFT &&
		                            last[-1].kind != STEPS_ASLEEP));
}

/* Wait for the mark. -errno: there is nobody to be stepped. */
static inline int steps_await(pid_t tid)
{
	uint64_t end_ns = scene_now_ns() + STEPS_PATIENCE_NS;
	siginfo_t info = {0};
	int status;

	/*
	 * A thread is not ours to be waited for until it is traced, -ECHILD.
	 * One that has ended is left to scene_wait().
	 */
	while ((waitid(P_PID, (id_t)tid, &info,
	               WEXITED | WSTOPPED | WNOHANG | WNOWAIT | __WALL) == 0
	                ? info.si_pid != tid
	                : errno == ECHILD) &&
	       scene_now_ns() < end_ns)
		scene_sleep_ns(20 * SCENE_US);
	if (info.si_pid != tid || info.si_code != CLD_TRAPPED ||
	    waitpid(tid, &status, __WALL) != tid)
		return -ESRCH;
	return ptrace(PTRACE_SETOPTIONS, tid, NULL,
	              (void *)(uintptr_t)(PTRACE_O_EXITKILL |
	                                  PTRACE_O_TRACESYSGOOD)) == 0
	               ? 0
	               : -errno;
}

/* The parent and whom it steps take turns: on one processor that is quick. */
static inline void steps_share(pid_t tid, cpu_set_t *ret_all)
{
	cpu_set_t one;

	sched_getaffinity(0, sizeof(*ret_all), ret_all);
	CPU_ZERO(&one);
	CPU_SET((size_t)sched_getcpu(), &one);
	sched_setaffinity(0, sizeof(one), &one);
	sched_setaffinity(tid, sizeof(one), &one);
}

static inline void steps_set_nice(pid_t tid, int nice)
{
	setpriority(PRIO_PROCESS, 0, nice);
	setpriority(PRIO_PROCESS, (id_t)tid, nice);
}

/*
 * The thread @tid of our child @pid goes on from its mark to boundary @target,
 * where its process is killed: true. False when the operation ended before:
 * then it is let go, and lives on. With STEPS_NEVER it is stepped to the end,
 * and that tells the boundaries.
 */
static inline bool steps_run(pid_t pid, pid_t tid, uint64_t target,
                             struct steps *steps)
{
	int nice = getpriority(PRIO_PROCESS, 0), status;
	cpu_set_t all;

	steps->call = -1;
	steps->kind = STEPS_FAILED;
	if (steps_await(tid) != 0)
		return false;
	steps_share(tid, &all);
	if (target == STEPS_NEVER) {
		steps->count = steps->call_count = 0;
		/* Who takes a second to say hello is turned away: they go
		 * before others, where we may ask for that. */
		steps_set_nice(tid, nice - STEPS_HURRY);
		steps_walk(tid, target, steps);
		steps_set_nice(tid, nice);
	} else {
		steps_jump(tid, target, steps);
	}
	sched_setaffinity(0, sizeof(all), &all);
	if (steps->kind == STEPS_OVER || steps->kind == STEPS_FAILED) {
		sched_setaffinity(tid, sizeof(all), &all);
		ptrace(PTRACE_POKEUSER, tid, (void *)(uintptr_t)STEPS_DEBUG(7),
		       NULL);
		ptrace(PTRACE_DETACH, tid, NULL, NULL);
		return false;
	}
	if (steps->kill_ns != NULL)
		scene_put(steps->kill_ns, scene_now_ns());
	kill(pid, SIGKILL);
	/* A traced thread that has died keeps its process until it is seen. */
	while (tid != pid && waitpid(tid, &status, __WALL) == tid &&
	       WIFSTOPPED(status))
		;
	return true;
}

/* telling ------------------------------------------------------------------- */

/* What became of the victim of the operation @name. */
static inline const char *steps_describe(const char *name,
                                         const struct steps *steps)
{
	static const char *const kinds[] = {
		[STEPS_AT_INSTRUCTION] = "at an instruction",
		[STEPS_ENTERED] = "having entered a system call",
		[STEPS_ASLEEP] = "asleep in a system call",
		[STEPS_LEFT] = "having left a system call",
		[STEPS_OVER] = "not at all",
		[STEPS_FAILED] = "not at all, it could not be traced",
	};
	uintptr_t base = (uintptr_t)__executable_start;
	static char text[200];

	snprintf(text, sizeof(text), "%s, killed %s, 0x%llx of %s, call %ld",
	         name, kinds[steps->kind],
	         (unsigned long long)(steps_is_ours(steps->rip)
	                                      ? steps->rip - base
	                                      : steps->rip),
	         steps_is_ours(steps->rip) ? "the program" : "memory",
	         steps->call);
	return text;
}

/* possible here? ------------------------------------------------------------- */

static inline int steps_try(void *arg)
{
	(void)arg;
	if (steps_begin() != 0)
		return 1;
	steps_end();
	return 0;
}

/* NULL, or why nobody can be stepped on this machine. */
static inline const char *steps_refuse(void)
{
	static struct steps steps;
	pid_t pid;

	if (!STEPS_ARE_POSSIBLE)
		return "only x86-64 is known well enough to be stepped";
	if (SCENE_IS_SANITIZED)
		return "the steps would be the sanitizer's";
	pid = scene_start(steps_try, NULL);
	if (pid < 0)
		return "no process is to be had";
	steps_run(pid, pid, STEPS_NEVER, &steps);
	return scene_wait(pid, SCENE_S) == 0 && steps.kind == STEPS_OVER
	               ? NULL
	               : "ptrace(2) is not allowed here";
}

/* Or said why not: then the program ends with 77. */
static inline bool steps_are_allowed(void)
{
	const char *refusal = steps_refuse();

	if (refusal != NULL)
		printf("skipped: %s\n", refusal);
	return refusal == NULL;
}

#endif
