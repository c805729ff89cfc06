/* SPDX-License-Identifier: MIT */
/*
 * A server inside a libuv loop, beside a timer and a pipe of the program's own:
 * who calls "echo" gets an echo, who connects to the pipe is told how many
 * calls and ticks there were, until SIGTERM or Ctrl-C. No thread is started.
 *
 *	uv_prepare  peal_reactor_prepare(): with work at hand uv_idle keeps
 *	            the loop from sleeping, else uv_timer bounds the sleep
 *	uv_poll     ends the sleep
 *	uv_check    peal_reactor_dispatch(), whatever it was that ended it
 *
 *	cc embed_libuv.c $(pkg-config --cflags --libs peal libuv) -o embed_libuv
 *	./embed_libuv ./status & sleep 1; ./echo_client "hello, world"; nc -U ./status
 */
#include <peal/reactor.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <uv.h>

static struct peal_reactor *reactor;
static unsigned long call_count, tick_count;
static uv_idle_t busy;
static uv_timer_t bound;

static void echo(struct peal_request *request, void *arg)
{
	size_t bytes;
	const void *data = peal_request_data(request, &bytes);

	(void)arg;
	call_count++;
	if (peal_reply(request, data, bytes) < 0)
		peal_request_drop(request);
}

/* These two only have to end the sleep. */
static void on_busy(uv_idle_t *handle)
{
	uv_idle_stop(handle);
}

static void on_poll(uv_poll_t *handle, int status, int events)
{
	(void)handle, (void)status, (void)events;
}

static void on_timer(uv_timer_t *handle)
{
	tick_count += handle != &bound;
}

static void before_sleep(uv_prepare_t *handle)
{
	uint64_t timeout_ns = PEAL_FOREVER;

	uv_timer_stop(&bound);
	if (peal_reactor_prepare(reactor, &timeout_ns) != 0)
		uv_idle_start(&busy, on_busy);
	else if (timeout_ns != PEAL_FOREVER)
		uv_timer_start(&bound, on_timer, timeout_ns / 1000000 + 1, 0);
	(void)handle;
}

static void after_sleep(uv_check_t *handle)
{
	if (peal_reactor_dispatch(reactor) != 0)
		uv_stop(handle->loop); /* stopped, and all is answered */
}

static void on_signal(uv_signal_t *handle, int number)
{
	(void)handle, (void)number;
	peal_reactor_stop(reactor, 1000000000);
}

static void free_pipe(uv_handle_t *handle)
{
	free(handle);
}

static void on_guest(uv_stream_t *listener, int status)
{
	uv_pipe_t *guest = malloc(sizeof(*guest));
	char text[64];
	uv_buf_t line = {text, 0};

	if (guest == NULL)
		return;
	line.len = (size_t)sprintf(text, "%lu calls, %lu ticks\n", call_count,
	                           tick_count);
	uv_pipe_init(listener->loop, guest, 0);
	if (status == 0 && uv_accept(listener, (uv_stream_t *)guest) == 0)
		uv_try_write((uv_stream_t *)guest, &line, 1);
	uv_close((uv_handle_t *)guest, free_pipe);
}

int main(int argc, char **argv)
{
	struct peal_reactor_options options = PEAL_REACTOR_OPTIONS_INIT;
	struct peal_failure failure;
	uv_loop_t *loop = uv_default_loop();
	uv_prepare_t before;
	uv_check_t after;
	uv_poll_t bell;
	uv_signal_t terminate, interrupt;
	uv_timer_t tick;
	uv_pipe_t listener;
	int error;

	options.name = "echo";
	options.on_request = echo;
	options.wait_mode = PEAL_WAIT_FD;
	options.ret_failure = &failure;
	if (argc != 2) {
		fprintf(stderr, "usage: embed_libuv SOCKET\n");
		return 1;
	}
	if (peal_reactor_open(&options, &reactor) < 0) {
		fprintf(stderr, "embed_libuv: %s\n", failure.text);
		return 1;
	}
	uv_prepare_init(loop, &before);
	uv_check_init(loop, &after);
	uv_idle_init(loop, &busy);
	uv_timer_init(loop, &bound);
	uv_timer_init(loop, &tick);
	uv_signal_init(loop, &terminate);
	uv_signal_init(loop, &interrupt);
	uv_pipe_init(loop, &listener, 0);
	uv_poll_init(loop, &bell, peal_reactor_fd(reactor));
	if ((error = uv_pipe_bind(&listener, argv[1])) < 0 ||
	    (error = uv_listen((uv_stream_t *)&listener, 16, on_guest)) < 0) {
		fprintf(stderr, "%s: %s\n", argv[1], uv_strerror(error));
		peal_reactor_close(reactor);
		return 1;
	}
	uv_prepare_start(&before, before_sleep);
	uv_check_start(&after, after_sleep);
	uv_poll_start(&bell, UV_READABLE, on_poll);
	uv_timer_start(&tick, on_timer, 100, 100);
	uv_signal_start(&terminate, on_signal, SIGTERM);
	uv_signal_start(&interrupt, on_signal, SIGINT);
	uv_run(loop, UV_RUN_DEFAULT);
	unlink(argv[1]);
	return peal_reactor_close(reactor);
}
