/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <string.h>

#include "peal/base.h"

#define TEXT2(x) #x
#define TEXT(x) TEXT2(x)

static const struct {
	int error;
	const char *text;
} meanings[] = {
	{0, "success"},
	{EAGAIN,
         "full or empty at the moment: publish, receive or release first, or try later"},
	{ETIMEDOUT, "the time given is over"},
	{EMSGSIZE, "larger than this ring can ever carry"},
	{EBUSY, "a cap of the server is reached, or a handler still runs"},
	{EACCES, "the server or a directory does not allow this user"},
	{EPROTO, "the peer's bytes make no sense"},
	{EPROTONOSUPPORT,
         "the peer speaks another version of the protocol, or is of another kind"},
	{ECONNREFUSED, "no server has this name"},
	{ECONNRESET, "the peer has died, or has sent us away"},
	{ESHUTDOWN, "the server has closed or is shutting down"},
	{ECANCELED, "cancelled, or woken"},
	{ESTALE, "the peer has gone, or this is a forked child"},
	{EIO, "the handler gave no answer"},
	{ENOSYS, "the client has no handler for calls"},
	{EDEADLK, "the call would wait for itself"},
	{EADDRINUSE, "a living server already has this name"},
	{EINVAL,
         "an argument makes no sense, or this thread or mode may not call it"},
	{ENOSPC, "no room left in the shared memory file system"},
	{ENOMEM, "not enough memory"},
};

const char *peal_strerror(int error)
{
	const char *text;

	if (error < 0 && error > -4096)
		error = -error;
	for (size_t i = 0; i < sizeof(meanings) / sizeof(meanings[0]); i++)
		if (meanings[i].error == error)
			return meanings[i].text;
	text = strerrordesc_np(error);
	return text != NULL ? text : "unknown error";
}

const char *peal_version(void)
{
	return TEXT(PEAL_VERSION_MAJOR) "." TEXT(PEAL_VERSION_MINOR) "." TEXT(
		PEAL_VERSION_PATCH);
}
