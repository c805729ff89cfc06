/* SPDX-License-Identifier: MIT */
#include "link.h"

#include <stdio.h>

void bench_full_name(const struct bench_side *side, const char *name,
                     char *ret_path, size_t bytes)
{
	snprintf(ret_path, bytes, "%s/%s", side->setting->directory, name);
}

/* Prefer the library's own sentence to ours. */
int bench_refused(struct bench_side *side, int error,
                  const struct peal_failure *failure, const char *what)
{
	return bench_fail(side, error,
	                  failure->text[0] != '\0' ? failure->text : what);
}

int bench_consumer_open(struct bench_side *side, const char *name,
                        struct peal_consumer **ret_consumer)
{
	struct peal_consumer_options options = PEAL_CONSUMER_OPTIONS_INIT;
	struct peal_failure failure = {0};
	char path[128];
	int result;

	bench_full_name(side, name, path, sizeof(path));
	options.name = path;
	options.spin_mode = side->work->spin_mode;
	options.producer_max = side->work->idle_count + 8;
	options.ret_failure = &failure;
	result = peal_consumer_open(&options, ret_consumer);
	if (result < 0)
		return bench_refused(side, result, &failure, "cannot open");
	return 0;
}

int bench_producer_attach(struct bench_side *side, const char *name,
                          uint64_t ring_bytes,
                          struct peal_producer **ret_producer)
{
	struct peal_producer_options options = PEAL_PRODUCER_OPTIONS_INIT;
	struct peal_failure failure = {0};
	char path[128];
	int result;

	bench_full_name(side, name, path, sizeof(path));
	options.name = path;
	options.ring_bytes = ring_bytes;
	options.spin_mode = side->work->spin_mode;
	options.ret_failure = &failure;
	result =
		peal_producer_attach(&options, BENCH_PATIENCE_NS, ret_producer);
	if (result < 0)
		return bench_refused(side, result, &failure, "cannot attach");
	return 0;
}
