/* SPDX-License-Identifier: MIT */
/*
 * Walks an operation: its first call fails, its second, its third, until it is
 * through without having met one.
 *
 *	for each list of errors, for N = 1, 2, 3 ...
 *	  prepare --> run, the N-th call fails --> undo     is nothing left?
 *	  and if that came to an error:
 *	  prepare --> run, nothing fails       --> undo     does it work again?
 *
 * What a step may come to: a result that is that call's very error, as -errno
 * and with its sentence, or one of those that the operation lists; or success,
 * when it can do without. EINTR is never told. errno is left alone.
 */
#ifndef PEAL_TESTS_FAULT_WALK_H
#define PEAL_TESTS_FAULT_WALK_H

#include "tests/scene.h"

#include "tests/fault/fault.h"

#define WALK_STEPS_MAX 2000
#define WALK_SLACK 3 /* other threads do not make the same calls every time */
#define WALK_FAULTS_ENOUGH 3
#define WALK_CALM_COUNT 15
#define WALK_HANG_S 30
#define WALK_SETTLE_NS (5 * SCENE_S)
#define WALK_NAP_MAX_NS (5 * SCENE_MS)    /* to look takes time itself */
#define WALK_LATE_MIN_NS (900 * SCENE_MS) /* a handshake has a second */
#define WALK_LATE_MAX_NS (5 * SCENE_S)
#define WALK_LATE_TRIES 8
#define WALK_NAME_MAX 64
#define WALK_TRIES 3
#define WALK_ERRNO 4711
#define WALK_DID_NOT_END (-10000) /* a result that nothing allows */

/* What this call's failure may come to besides itself. */
struct walk_exception {
	const char *call; /* NULL: any */
	int error;        /* that was met; 0: any */
	int result;
};

struct operation {
	const char *name;
	enum fault_whose whose;
	bool has_sentence; /* takes a struct peal_failure */
	bool never_fails;
	const struct walk_exception *exceptions; /* until one with result 0 */

	/* What is not to fail, before and after. @result is that of run, and
	 * undo sees that what there is does its work; 0, or -1 with a word. */
	int (*prepare)(void);
	int (*run)(struct peal_failure *failure);
	int (*undo)(int result);

	/* What is to have failed at least once, with spaces between; or it was
	 * not this operation that was walked. */
	const char *strikes;
};

struct walk_held {
	uint32_t fds, threads;
	int64_t allocations, mapped_bytes;
};

static struct {
	const struct operation *operation;
	int pass;
	uint32_t number;
	uint32_t struck_count, told_count, fault_count;
	bool has_grown, is_again; /* memory was kept; looked at once more */
	bool was_late;

	/* What was struck, and "all(ENOMEM)" when from some place on nothing
	 * could be had that needs memory. */
	const char *names[WALK_NAME_MAX];
	uint32_t name_count;
} walk;

/* What was struck last, for undo. */
static struct fault walk_fault;

/* What an operation noticed, for the line that tells of it. */
static char walk_word[200];

#define walk_say(...) scene_fault(walk_word, sizeof(walk_word), __VA_ARGS__)

static inline struct walk_held walk_held(void)
{
	return (struct walk_held){
		.fds = scene_count_entries("/proc/self/fd"),
		.threads = scene_count_entries("/proc/self/task"),
		.allocations = fault_live_allocations(),
		.mapped_bytes = fault_mapped_bytes(),
	};
}

static inline bool walk_is_same(const struct walk_held *a,
                                const struct walk_held *b)
{
	return a->fds == b->fds && a->threads == b->threads &&
	       a->allocations == b->allocations &&
	       a->mapped_bytes == b->mapped_bytes;
}

/* A server lets go a moment after its client has left. */
static inline bool walk_settle(const struct walk_held *base,
                               struct walk_held *ret_held)
{
	/* Where something is left, the next one need not be waited for. */
	uint64_t end_ns =
		scene_now_ns() +
		(walk.fault_count == 0 ? WALK_SETTLE_NS : 100 * SCENE_MS);

	for (uint64_t nap_ns = 50 * SCENE_US;; nap_ns += nap_ns / 2) {
		*ret_held = walk_held();
		if (walk_is_same(base, ret_held))
			return true;
		if (scene_now_ns() > end_ns)
			return false;
		if (nap_ns > WALK_NAP_MAX_NS)
			nap_ns = WALK_NAP_MAX_NS;
		scene_sleep_ns(nap_ns);
	}
}

/* When nothing has been let go for a while, also on a busy machine. */
static inline struct walk_held walk_held_at_rest(void)
{
	struct walk_held held = walk_held(), again;

	for (int calm = 0; calm < WALK_CALM_COUNT; calm++) {
		scene_sleep_ns(10 * SCENE_MS);
		again = walk_held();
		if (!walk_is_same(&held, &again))
			calm = 0;
		held = again;
	}
	return held;
}

static inline void walk_hangs(int signal_number)
{
	struct fault fault = fault_look();
	char line[300];
	int bytes = snprintf(line, sizeof(line),
	                     "fault: HANGS: %s, pass %d, place %u: %s, %s\n",
	                     walk.operation->name, walk.pass, walk.number,
	                     fault.name != NULL ? fault.name : "not struck",
	                     fault.name != NULL ? strerror(fault.error) : "");

	(void)signal_number;
	if (write(STDERR_FILENO, line, (size_t)bytes) < 0)
		_exit(98);
	_exit(99);
}

static inline void __attribute__((format(printf, 2, 3)))
walk_wrong(const struct fault *fault, const char *format, ...)
{
	va_list arguments;

	walk.fault_count++;
	print_message("fault: %s, pass %d, place %u (%s: %s): ",
	              walk.operation->name, walk.pass, walk.number,
	              fault->name != NULL ? fault->name : "none",
	              fault->name != NULL ? strerror(fault->error) : "");
	va_start(arguments, format);
	vprint_message(format, arguments);
	va_end(arguments);
	print_message("\n");
}

static inline bool walk_is_allowed(const struct fault *fault, int result)
{
	const struct walk_exception *other = walk.operation->exceptions;

	if (fault_has(fault, -result) && result != -EINTR)
		return true;
	for (; other != NULL && other->result != 0; other++)
		if (other->result == result &&
		    (other->call == NULL ||
		     strcmp(other->call, fault->name) == 0) &&
		    (other->error == 0 || fault_has(fault, other->error)))
			return true;
	return false;
}

/* Somebody was not let run for so long that he was too late, as happens on a busy
 * machine; or nobody noticed that something had failed. */
static inline bool walk_is_late(int result, uint64_t took_ns)
{
	return (result == -ETIMEDOUT || result == -ECONNRESET) &&
	       took_ns > WALK_LATE_MIN_NS && took_ns < WALK_LATE_MAX_NS;
}

static inline bool walk_has_struck(const char *name)
{
	for (uint32_t i = 0; i < walk.name_count; i++)
		if (strcmp(walk.names[i], name) == 0)
			return true;
	return false;
}

static inline void walk_note_name(const char *name)
{
	if (!walk_has_struck(name) && walk.name_count < WALK_NAME_MAX)
		walk.names[walk.name_count++] = name;
}

static inline void walk_note(const struct fault *fault)
{
	if (fault->name == NULL)
		return;
	walk.struck_count++;
	walk_note_name(fault->name);
	if (walk.pass != FAULT_PASS_FROM_NOW_ON)
		return;
	if (fault_has(fault, ENOMEM))
		walk_note_name("all(ENOMEM)");
	if (fault_has(fault, EMFILE))
		walk_note_name("all(EMFILE)");
}

static inline void walk_judge(const struct fault *fault, int result,
                              const struct peal_failure *failure, int error,
                              uint64_t took_ns)
{
	const struct operation *operation = walk.operation;

	if (error != WALK_ERRNO)
		walk_wrong(fault, "errno was changed to %d", error);
	walk.was_late = result < 0 && walk_is_late(result, took_ns);
	if (walk.was_late)
		print_message("fault: %s, pass %d, place %u (%s): %d, after "
		              "%.1f s\n",
		              operation->name, walk.pass, walk.number,
		              fault->name != NULL ? fault->name : "none",
		              result, (double)took_ns / 1e9);
	if (result >= 0 || walk.was_late)
		return;
	walk.told_count++;
	if (fault->name == NULL)
		walk_wrong(fault, "%d, and nothing was struck", result);
	else if (operation->never_fails || !walk_is_allowed(fault, result))
		walk_wrong(fault, "it came to %d (%s)", result, failure->text);
	if (operation->has_sentence &&
	    (failure->code != result || failure->text[0] == '\0'))
		walk_wrong(fault, "%d, and the sentence is %d: '%s'", result,
		           failure->code, failure->text);
}

/* One run; was anything struck? */
static inline bool walk_run(const struct walk_held *base, bool is_struck)
{
	const struct operation *operation = walk.operation;
	struct peal_failure failure = {0};
	struct fault fault = {0};
	struct walk_held held;
	uint64_t start_ns;
	int result, error;

	alarm(WALK_HANG_S);
	walk_word[0] = '\0';
	if (operation->prepare != NULL && operation->prepare() != 0)
		walk_wrong(&fault, "it could not be prepared: %s", walk_word);
	if (is_struck)
		fault_arm(operation->whose, walk.number, walk.pass);
	start_ns = scene_now_ns();
	errno = WALK_ERRNO;
	result = operation->run(&failure);
	error = errno;
	if (is_struck)
		fault = fault_disarm();
	walk_fault = fault;
	walk_judge(&fault, result, &failure, error, scene_now_ns() - start_ns);
	walk_note(&fault);
	if (operation->undo != NULL && operation->undo(result) != 0)
		walk_wrong(&fault, "afterwards: %s", walk_word);
	if (base == NULL || walk_settle(base, &held))
		return fault.name != NULL;
	walk.has_grown = !walk.is_again && held.fds == base->fds &&
	                 held.threads == base->threads;
	if (!walk.has_grown)
		walk_wrong(&fault,
		           "left behind: %d descriptors, %d threads, %lld "
		           "allocations, %lld mapped bytes",
		           (int)(held.fds - base->fds),
		           (int)(held.threads - base->threads),
		           (long long)(held.allocations - base->allocations),
		           (long long)(held.mapped_bytes - base->mapped_bytes));
	return fault.name != NULL;
}

/*
 * The same, and if it came too late again, until the same call has been struck
 * and it was in time: a machine is not busy at one place time and again, and a
 * failure that nobody notices is late every time.
 */
static inline bool walk_once(const struct walk_held *base, bool is_struck)
{
	bool was_struck = walk_run(base, is_struck);
	struct fault late = walk_fault;

	if (!walk.was_late)
		return was_struck;
	for (int tries = 1; tries < WALK_LATE_TRIES; tries++) {
		walk_run(base, is_struck);
		if (!walk.was_late && walk_fault.name == late.name)
			return was_struck;
	}
	walk_wrong(&late, "it is late every time");
	return was_struck;
}

/* The same, and once more if memory was kept: a pool that has grown for a thread
 * that came late does so once, a leak again. */
static inline bool walk_for_sure(struct walk_held *base, bool is_struck)
{
	bool was_struck = walk_once(base, is_struck);

	if (!walk.has_grown)
		return was_struck;
	walk.has_grown = false;
	*base = walk_held();
	walk.is_again = true;
	was_struck = walk_once(base, is_struck);
	walk.is_again = false;
	return was_struck;
}

static inline void walk_pass(int pass, struct walk_held *base)
{
	uint32_t missed = 0;

	walk.pass = pass;
	for (walk.number = 1; walk.number < WALK_STEPS_MAX; walk.number++) {
		uint32_t before = walk.fault_count;
		uint32_t told = walk.told_count;
		bool was_struck = walk_for_sure(base, true);

		/* What could do without has been used already. */
		if (walk.told_count != told)
			walk_for_sure(base, false);
		if (walk.fault_count != before)
			*base = walk_held_at_rest(); /* lost is lost */
		missed = was_struck ? 0 : missed + 1;
		if (walk.fault_count >= WALK_FAULTS_ENOUGH ||
		    missed == (walk.operation->whose == FAULT_MINE
		                       ? 1
		                       : WALK_SLACK))
			return;
	}
	walk_wrong(&(struct fault){0}, "it has no end");
}

/* The first of what is promised that was not struck yet, or NULL. */
static inline const char *walk_missing(void)
{
	static char names[600];
	char *rest, *name;

	snprintf(names, sizeof(names), "%s", walk.operation->strikes);
	for (name = strtok_r(names, " ", &rest); name != NULL;
	     name = strtok_r(NULL, " ", &rest))
		if (!walk_has_struck(name))
			return name;
	return NULL;
}

/* All passes, and once more if other threads made their calls in such an order
 * that one was never the one. */
static inline void walk_all(struct walk_held *base)
{
	int tries = 0;

	do
		for (int pass = 0; pass < FAULT_PASSES && walk.fault_count == 0;
		     pass++)
			walk_pass(pass, base);
	while (walk.fault_count == 0 && walk_missing() != NULL &&
	       ++tries < WALK_TRIES);
	if (walk.fault_count == 0 && walk_missing() != NULL)
		walk_wrong(&(struct fault){0}, "%s was never struck",
		           walk_missing());
}

static inline void
every_place_that_fails_is_told_and_leaves_nothing(void **state)
{
	uint64_t start_ns = scene_now_ns();
	struct walk_held base;

	memset(&walk, 0, sizeof(walk));
	walk.operation = *state;
	signal(SIGALRM, walk_hangs);
	/* Twice: what is made once and kept is no leak. */
	for (int i = 0; i < 2; i++)
		walk_once(NULL, false);
	base = walk_held_at_rest();
	walk_all(&base);
	alarm(0);
	print_message("fault: %-28s %5u places failed, %5u told an error, "
	              "%4.1f s\n",
	              walk.operation->name, walk.struck_count, walk.told_count,
	              (double)(scene_now_ns() - start_ns) / 1e9);
	assert_int_equal(walk.fault_count, 0);
	assert_true(walk.struck_count > 0);
}

#define WALK(operation)                                                    \
	{                                                                  \
		(operation)->name,                                         \
			every_place_that_fails_is_told_and_leaves_nothing, \
			NULL, NULL, (void *)(uintptr_t)(operation)         \
	}

#endif
