// SPDX-License-Identifier: GPL-2.0-or-later
// libvc/pieces: connections one after another, however the stream is cut, and lengths that cannot be.
#include "tests/unit/test.h"

#include "libvc/pieces.h"

// What a reader makes of a stream that comes in blocks of `block` bytes: '|' ends a connection, '!' is a wrong length.
static void read_all(const uint8_t *data, size_t len, size_t block, char *text)
{
	struct vc_pieces p = {0};
	for (size_t at = 0; at < len;) {
		size_t n = len - at < block ? len - at : block, used, bytes;
		enum vc_piece what = vc_pieces_next(&p, data + at, n, &used, &bytes);
		assert_true(used + bytes <= n);
		at += used;
		memcpy(text, data + at, bytes);
		text += bytes;
		vc_pieces_taken(&p, bytes);
		at += bytes;
		if (what == VC_PIECE_END || what == VC_PIECE_WRONG)
			*text++ = what == VC_PIECE_END ? '|' : '!';
		if (what == VC_PIECE_WRONG)
			break;
	}
	*text = '\0';
}

static void test_cut(void **state)
{
	static const uint8_t data[] = "\0\0\0\3abc\0\0\0\1d\0\0\0\0\0\0\0\0\0\0\0\2ef";
	char text[64];
	(void)state;
	for (size_t block = 1; block < sizeof(data); block++) {
		read_all(data, sizeof(data) - 1, block, text);
		assert_string_equal(text, "abcd||ef");
	}
}

static void test_wrong(void **state)
{
	static const uint8_t data[] = "\0\0\0\1a\0\1\0\1bcd", most[] = "\0\1\0\0x";
	char text[64];
	(void)state;
	read_all(data, sizeof(data) - 1, 3, text);
	assert_string_equal(text, "a!");
	read_all(most, sizeof(most) - 1, 5, text);
	assert_string_equal(text, "x");
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_cut), cmocka_unit_test(test_wrong)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
