/* SPDX-License-Identifier: MIT */
#include "mpsc/wire.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static size_t bytes_of(uint32_t type)
{
	switch (type) {
	case PEAL__WIRE_HELLO:
		return sizeof(struct peal__hello);
	case PEAL__WIRE_WELCOME:
		return sizeof(struct peal__welcome);
	case PEAL__WIRE_ERROR:
		return sizeof(struct peal__wire_error);
	case PEAL__WIRE_READY:
	case PEAL__WIRE_BYE:
	case PEAL__WIRE_STATUS:
		return sizeof(struct peal__wire_head);
	default:
		return 0;
	}
}

size_t peal__wire_seal(union peal__packet *packet, enum peal__wire_type type)
{
	size_t bytes = bytes_of(type);

	packet->head = (struct peal__wire_head){
		.magic = PEAL__WIRE_MAGIC,
		.major = PEAL__WIRE_MAJOR,
		.minor = PEAL__WIRE_MINOR,
		.type = type,
		.bytes = (uint32_t)bytes,
	};
	return bytes;
}

size_t peal__wire_error(union peal__packet *packet, int code, const char *text)
{
	memset(packet, 0, sizeof(*packet));
	packet->error.code = code;
	snprintf(packet->error.text, sizeof(packet->error.text), "%s", text);
	return peal__wire_seal(packet, PEAL__WIRE_ERROR);
}

/* A person reads it, often on a terminal: it ends, says something, and moves no
 * cursor. */
static void make_readable(struct peal__wire_error *error)
{
	error->text[sizeof(error->text) - 1] = '\0';
	if (error->text[0] == '\0')
		strcpy(error->text, "the server does not say why");
	for (char *at = error->text; *at != '\0'; at++)
		if ((unsigned char)*at < ' ' || *at == 0x7f)
			*at = '?';
}

int peal__wire_check(union peal__packet *packet, size_t bytes)
{
	size_t expected;

	if (bytes < sizeof(packet->head) ||
	    packet->head.magic != PEAL__WIRE_MAGIC)
		return -EPROTO;
	/* A later major version may mean anything by the rest. */
	if (packet->head.major != PEAL__WIRE_MAJOR)
		return -EPROTONOSUPPORT;
	expected = bytes_of(packet->head.type);
	/* A later minor version may have appended fields, which we ignore. */
	if (expected == 0 || bytes < expected || packet->head.bytes != bytes)
		return -EPROTO;
	if (packet->head.type == PEAL__WIRE_ERROR) {
		make_readable(&packet->error);
		if (packet->error.code >= 0 || packet->error.code < -4095)
			packet->error.code = -EPROTO;
	}
	return (int)packet->head.type;
}
