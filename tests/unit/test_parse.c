// SPDX-License-Identifier: GPL-2.0-or-later
// libvc/parse, json, buf and error: accepted and refused input.
#include "tests/unit/test.h"

#include <errno.h>

#include "libvc/buf.h"
#include "libvc/json.h"
#include "libvc/parse.h"

static void test_sizes(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		uint64_t bytes;
		int ok;
	} rows[] = {
		{"512M", 512ull << 20, 1}, {"2g", 2ull << 30, 1}, {"7", 7ull << 20, 1},	   {"1KiB", 1024, 1},
		{"", 0, 0},		   {"M", 0, 0},		  {"-1", 0, 0},		   {"1X", 0, 0},
		{"99999999999T", 0, 0},	   {"1 M", 0, 0},	  {"18446744073709551616", 0, 0},
	};
	for (size_t i = 0; i < VC_ARRAY_LEN(rows); i++) {
		uint64_t bytes = 0;
		struct vc_error err = VC_ERROR_INIT;
		int rc = vc_parse_size("--vcluster-mem", rows[i].text, 1 << 20, 1ull << 50, &bytes, &err);
		assert_int_equal(rc, rows[i].ok ? 0 : -1);
		assert_int_equal(bytes, rows[i].bytes);
		if (rc < 0)
			assert_contains(err.text, "--vcluster-mem");
	}
}

static void test_durations(void **state)
{
	(void)state;
	uint64_t ms = 0;
	assert_int_equal(vc_parse_duration_ms("t", "500ms", 1000000, &ms, NULL), 0);
	assert_int_equal(ms, 500);
	assert_int_equal(vc_parse_duration_ms("t", "2m", 1000000, &ms, NULL), 0);
	assert_int_equal(ms, 120000);
	assert_int_equal(vc_parse_duration_ms("t", "3", 1000000, &ms, NULL), 0);
	assert_int_equal(ms, 3000);
	assert_int_equal(vc_parse_duration_ms("t", "3x", 1000000, &ms, NULL), -1);
	assert_int_equal(vc_parse_duration_ms("t", "2h", 1000, &ms, NULL), -1);
}

static void test_lists(void **state)
{
	(void)state;
	vc_autostrv char **v = NULL;
	assert_int_equal(vc_parse_list("l", "a,bc,d", ',', 8, &v, NULL), 0);
	assert_string_equal(v[1], "bc");
	assert_null(v[3]);
	char **bad = NULL;
	assert_int_equal(vc_parse_list("l", "a,,d", ',', 8, &bad, NULL), -1);
	assert_int_equal(vc_parse_list("l", "a,b,c", ',', 2, &bad, NULL), -1);
	assert_null(bad);
}

static void test_json(void **state)
{
	(void)state;
	static const char text[] = "{\"a\":\"x\",\"n\":7,\"neg\":-1,\"l\":[\"p\",\"q\"],\"z\":\"a\\u0000b\"}";
	vc_autojson struct json_object *obj = vc_json_parse(text, strlen(text), NULL);
	assert_non_null(obj);
	const char *s = NULL;
	uint64_t n = 0;
	struct vc_error err = VC_ERROR_INIT;
	assert_int_equal(vc_json_str(obj, "a", 1, &s, &err), 0);
	assert_string_equal(s, "x");
	assert_int_equal(vc_json_str(obj, "a", 0, &s, &err), -1);
	assert_int_equal(vc_json_str(obj, "z", 10, &s, &err), -1);
	assert_contains(err.text, "zero byte");
	assert_int_equal(vc_json_u64(obj, "n", 7, &n, &err), 0);
	assert_int_equal(vc_json_u64(obj, "n", 6, &n, &err), -1);
	assert_int_equal(vc_json_u64(obj, "neg", UINT64_MAX, &n, &err), -1);
	assert_int_equal(vc_json_u64(obj, "gone", 6, &n, &err), -1);
	assert_contains(err.text, "'gone' is missing");
	vc_autostrv char **v = NULL;
	assert_int_equal(vc_json_strv(obj, "l", 2, 4, &v, &err), 0);
	assert_string_equal(v[1], "q");
	assert_null(vc_json_parse("{} x", 4, &err));
	assert_null(vc_json_parse("{", 1, &err));
}

static void test_json_bytes(void **state)
{
	(void)state;
	uint8_t data[256];
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7);
	for (size_t len = 0; len <= sizeof(data); len++) {
		vc_autojson struct json_object *obj = json_object_new_object();
		assert_int_equal(vc_json_add_bytes(obj, "b", data, len), 0);
		vc_autofree uint8_t *back = NULL;
		size_t back_len = 0;
		assert_int_equal(vc_json_bytes(obj, "b", sizeof(data), &back, &back_len, NULL), 0);
		assert_int_equal(back_len, len);
		assert_memory_equal(back, data, len);
	}
}

static void test_buf(void **state)
{
	(void)state;
	vc_autobuf struct vc_buf b = VC_BUF_INIT(10);
	assert_int_equal(vc_buf_append(&b, "hello", 5), 0);
	assert_int_equal(vc_buf_append(&b, "world", 5), 0);
	assert_int_equal(vc_buf_append(&b, "!", 1), -1);
	vc_buf_consume(&b, 6);
	assert_int_equal(vc_buf_append(&b, "!", 1), 0);
	assert_memory_equal(vc_buf_head(&b), "orld!", 5);
}

static void test_error_wrap(void **state)
{
	(void)state;
	struct vc_error err = VC_ERROR_INIT;
	assert_int_equal(vc_error_set(&err, VC_EUSER, "no image '%s'", "x"), -1);
	vc_error_wrap(&err, "job %d", 7);
	assert_string_equal(err.text, "job 7: no image 'x'");
	assert_string_equal(vc_error_name(err.code), "user");
	assert_string_equal(vc_error_name(ENOENT), "ENOENT");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes), cmocka_unit_test(test_durations),	 cmocka_unit_test(test_lists),
		cmocka_unit_test(test_json),  cmocka_unit_test(test_json_bytes), cmocka_unit_test(test_buf),
		cmocka_unit_test(test_error_wrap),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
