/* SPDX-License-Identifier: MIT */
#include "tests/check.h"

#include <errno.h>
#include <string.h>

#include "mpsc/wire.h"
#include "tests/unit/dice.h"

static const struct {
	enum peal__wire_type type;
	size_t bytes;
} kinds[] = {
	{PEAL__WIRE_HELLO, 120}, {PEAL__WIRE_WELCOME, 120},
	{PEAL__WIRE_READY, 16},  {PEAL__WIRE_BYE, 16},
	{PEAL__WIRE_ERROR, 176}, {PEAL__WIRE_STATUS, 16},
};

/* A packet of this type as a peer would send it, noise behind its head. */
static size_t sealed(union peal__packet *packet, enum peal__wire_type type)
{
	memset(packet, 0x5a, sizeof(*packet));
	if (type == PEAL__WIRE_ERROR)
		return peal__wire_error(packet, -EBUSY, "no");
	return peal__wire_seal(packet, type);
}

static void sealed_packet_passes_the_check(void **state)
{
	union peal__packet packet;

	(void)state;
	for (size_t i = 0; i < CHECK_COUNT(kinds); i++) {
		size_t bytes = sealed(&packet, kinds[i].type);

		assert_int_equal(bytes, kinds[i].bytes);
		assert_int_equal(packet.head.bytes, bytes);
		assert_int_equal(packet.head.type, kinds[i].type);
		assert_int_equal(peal__wire_check(&packet, bytes),
		                 kinds[i].type);
	}
}

static void head_begins_as_it_is_drawn(void **state)
{
	union peal__packet packet;

	(void)state;
	sealed(&packet, PEAL__WIRE_HELLO);
	assert_memory_equal(packet.bytes, "PEAL", 4);
	assert_memory_equal(packet.bytes + 4, "\1\0\0\0", 4);
	assert_memory_equal(packet.bytes + 8, "\1\0\0\0", 4);
	assert_memory_equal(packet.bytes + 12, "\170\0\0\0", 4);
}

static void seal_leaves_the_body_alone(void **state)
{
	union peal__packet packet;

	(void)state;
	memset(&packet, 0, sizeof(packet));
	packet.hello.nonce = 4711;
	packet.hello.role = PEAL__ROLE_PRODUCER;
	peal__wire_seal(&packet, PEAL__WIRE_HELLO);
	assert_int_equal(packet.hello.nonce, 4711);
	assert_int_equal(packet.hello.role, PEAL__ROLE_PRODUCER);
}

static void packet_of_any_other_length_is_eproto(void **state)
{
	union peal__packet packet;

	(void)state;
	for (size_t i = 0; i < CHECK_COUNT(kinds); i++)
		for (size_t got = 0; got <= sizeof(packet); got++) {
			size_t bytes = sealed(&packet, kinds[i].type);

			/* What was received, what it says: both must agree. */
			if (got != bytes)
				assert_int_equal(peal__wire_check(&packet, got),
				                 -EPROTO);
			packet.head.bytes = (uint32_t)got;
			if (got != bytes)
				assert_int_equal(peal__wire_check(&packet,
				                                  bytes),
				                 -EPROTO);
			if (got < bytes)
				assert_int_equal(peal__wire_check(&packet, got),
				                 -EPROTO);
		}
}

static void packet_of_a_later_minor_version_may_be_longer(void **state)
{
	union peal__packet packet;

	(void)state;
	for (size_t i = 0; i < CHECK_COUNT(kinds); i++) {
		size_t bytes = sealed(&packet, kinds[i].type) + 24;

		packet.head.minor = 7;
		packet.head.bytes = (uint32_t)bytes;
		assert_int_equal(peal__wire_check(&packet, bytes),
		                 kinds[i].type);
	}
}

static void packet_of_another_major_version_is_not_understood(void **state)
{
	static const uint16_t majors[] = {0, 2, 3, 255, 256, UINT16_MAX};
	union peal__packet packet;

	(void)state;
	for (size_t i = 0; i < CHECK_COUNT(majors); i++) {
		size_t bytes = sealed(&packet, PEAL__WIRE_HELLO);

		packet.head.major = majors[i];
		assert_int_equal(peal__wire_check(&packet, bytes),
		                 -EPROTONOSUPPORT);
		/* Whatever else is in it: it may mean anything there. */
		packet.head.type = 4711;
		packet.head.bytes = 3;
		assert_int_equal(peal__wire_check(&packet, 16),
		                 -EPROTONOSUPPORT);
		assert_int_equal(peal__wire_check(&packet, 200),
		                 -EPROTONOSUPPORT);
		/* But for the magic, and a head there must be. */
		assert_int_equal(peal__wire_check(&packet, 15), -EPROTO);
		packet.head.magic++;
		assert_int_equal(peal__wire_check(&packet, bytes), -EPROTO);
	}
}

static void packet_without_the_magic_is_eproto(void **state)
{
	union peal__packet packet;

	(void)state;
	for (int bit = 0; bit < 32; bit++) {
		size_t bytes = sealed(&packet, PEAL__WIRE_READY);

		packet.head.magic ^= UINT32_C(1) << bit;
		assert_int_equal(peal__wire_check(&packet, bytes), -EPROTO);
	}
}

static void packet_of_no_known_type_is_eproto(void **state)
{
	static const uint32_t types[] = {0,   7,   8,          256,
	                                 257, 255, UINT32_MAX, 0x80000001};
	union peal__packet packet;

	(void)state;
	for (size_t i = 0; i < CHECK_COUNT(types); i++)
		for (size_t k = 0; k < CHECK_COUNT(kinds); k++) {
			size_t bytes = sealed(&packet, kinds[k].type);

			packet.head.type = types[i];
			assert_int_equal(peal__wire_check(&packet, bytes),
			                 -EPROTO);
		}
}

static void wake_byte_is_no_packet(void **state)
{
	union peal__packet packet;

	(void)state;
	memset(&packet, 0, sizeof(packet));
	packet.bytes[0] = 0x57;
	assert_int_equal(peal__wire_check(&packet, 1), -EPROTO);
}

static void error_carries_its_code_and_its_sentence(void **state)
{
	union peal__packet packet;
	size_t bytes;

	(void)state;
	memset(&packet, 0x5a, sizeof(packet));
	bytes = peal__wire_error(&packet, -EACCES, "You may not.");
	assert_int_equal(peal__wire_check(&packet, bytes), PEAL__WIRE_ERROR);
	assert_int_equal(packet.error.code, -EACCES);
	assert_string_equal(packet.error.text, "You may not.");
	/* Nothing of what was in that memory goes out with it. */
	for (size_t i = 13; i < sizeof(packet.error.text); i++)
		assert_int_equal(packet.error.text[i], 0);
}

static void sentence_that_is_too_long_is_cut(void **state)
{
	union peal__packet packet;
	char text[400];

	(void)state;
	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	peal__wire_error(&packet, -EIO, text);
	assert_int_equal(strlen(packet.error.text),
	                 sizeof(packet.error.text) - 1);
}

static void text_of_a_peer_is_terminated_by_us(void **state)
{
	union peal__packet packet;
	size_t bytes;

	(void)state;
	bytes = sealed(&packet, PEAL__WIRE_ERROR);
	memset(packet.error.text, 'x', sizeof(packet.error.text));
	assert_int_equal(peal__wire_check(&packet, bytes), PEAL__WIRE_ERROR);
	assert_int_equal(strlen(packet.error.text),
	                 sizeof(packet.error.text) - 1);
}

static void text_of_a_peer_says_something_and_moves_no_cursor(void **state)
{
	union peal__packet packet;
	size_t bytes;

	(void)state;
	bytes = sealed(&packet, PEAL__WIRE_ERROR);
	strcpy(packet.error.text, "\033[2Jno\nseat\177");
	assert_int_equal(peal__wire_check(&packet, bytes), PEAL__WIRE_ERROR);
	assert_string_equal(packet.error.text, "?[2Jno?seat?");
	packet.error.text[0] = '\0';
	assert_int_equal(peal__wire_check(&packet, bytes), PEAL__WIRE_ERROR);
	assert_string_equal(packet.error.text, "the server does not say why");
}

/* A caller takes a code of 0 or more for success. */
static void code_of_a_peer_that_is_no_error_becomes_eproto(void **state)
{
	static const int32_t codes[] = {0, 1, 22, INT32_MAX, -4096, INT32_MIN};
	union peal__packet packet;

	(void)state;
	for (size_t i = 0; i < CHECK_COUNT(codes); i++) {
		size_t bytes = peal__wire_error(&packet, codes[i], "?");

		assert_int_equal(peal__wire_check(&packet, bytes),
		                 PEAL__WIRE_ERROR);
		assert_int_equal(packet.error.code, -EPROTO);
	}
	peal__wire_error(&packet, -4095, "?");
	assert_int_equal(peal__wire_check(&packet, 176), PEAL__WIRE_ERROR);
	assert_int_equal(packet.error.code, -4095);
}

static void noise_is_never_taken_for_what_it_is_not(void **state)
{
	struct dice dice = dice_with(dice_seed());
	union peal__packet packet;
	int taken = 0;

	(void)state;
	for (int round = 0; round < 200000; round++) {
		size_t got = (size_t)dice_below(&dice, sizeof(packet) + 1);
		int type;

		for (size_t i = 0; i < sizeof(packet); i++)
			packet.bytes[i] = (unsigned char)dice_roll(&dice);
		packet.head.magic = PEAL__WIRE_MAGIC;
		packet.head.major = PEAL__WIRE_MAJOR;
		packet.head.type = (uint32_t)dice_below(&dice, 9);
		if (round % 2)
			packet.head.bytes = (uint32_t)got;
		type = peal__wire_check(&packet, got);
		if (type == -EPROTO)
			continue;
		taken++;
		assert_in_range(type, PEAL__WIRE_HELLO, PEAL__WIRE_STATUS);
		assert_true(got >= kinds[type - 1].bytes);
		assert_int_equal(packet.head.bytes, got);
		if (type == PEAL__WIRE_ERROR)
			assert_in_range(-packet.error.code, 1, 4095);
	}
	assert_true(taken > 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sealed_packet_passes_the_check),
		cmocka_unit_test(head_begins_as_it_is_drawn),
		cmocka_unit_test(seal_leaves_the_body_alone),
		cmocka_unit_test(packet_of_any_other_length_is_eproto),
		cmocka_unit_test(packet_of_a_later_minor_version_may_be_longer),
		cmocka_unit_test(
			packet_of_another_major_version_is_not_understood),
		cmocka_unit_test(packet_without_the_magic_is_eproto),
		cmocka_unit_test(packet_of_no_known_type_is_eproto),
		cmocka_unit_test(wake_byte_is_no_packet),
		cmocka_unit_test(error_carries_its_code_and_its_sentence),
		cmocka_unit_test(sentence_that_is_too_long_is_cut),
		cmocka_unit_test(text_of_a_peer_is_terminated_by_us),
		cmocka_unit_test(
			text_of_a_peer_says_something_and_moves_no_cursor),
		cmocka_unit_test(
			code_of_a_peer_that_is_no_error_becomes_eproto),
		cmocka_unit_test(noise_is_never_taken_for_what_it_is_not),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
