// SPDX-License-Identifier: GPL-2.0-or-later
// vcd/image/recipe, recipe_conf, image_build: what is accepted, what is refused with which words, keys.
#include "tests/unit/test.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "vcd/image/image_build.h"
#include "vcd/image/recipe_conf.h"

static char dir[] = "/tmp/vc-test-recipe-XXXXXX";

static const char *file_in(const char *name)
{
	static char path[256];
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static void write_file(const char *name, const char *text)
{
	FILE *f = fopen(file_in(name), "we");
	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
}

static struct recipe *parse(const char *text, struct vc_error *err)
{
	struct recipe *r = NULL;
	write_file("r", text);
	int rc = recipe_parse_file(file_in("r"), &r, err);
	assert_true((rc == 0) == (r != NULL));
	return r;
}

static int setup(void **state)
{
	(void)state;
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	static const char *const names[] = {"r", "motd", "root.tar", "fifo"};
	for (size_t i = 0; i < VC_ARRAY_LEN(names); i++)
		unlink(file_in(names[i]));
	return rmdir(dir);
}

static const char full[] = "# comment\n"
			   "name = \"my-mpi.1\"\n"
			   "base = \"debian:bookworm\"\n"
			   "packages = {\"mpich\", \"libc6=2.36-9+deb12u10\"}\n"
			   "file \"/etc/motd\" { source = \"motd\" mode = \"0600\" owner = \"nobody:nogroup\" }\n"
			   "file \"/etc/x\" { content = \"hello\\n\" }\n"
			   "commands = {'echo ${HOME} > /etc/home', \"true\"}\n"
			   "visibility = public\n"
			   "size = 2G\n";

static void test_full(void **state)
{
	(void)state;
	struct vc_error err = VC_ERROR_INIT;
	write_file("motd", "welcome");
	recipe_auto struct recipe *r = parse(full, &err);
	assert_string_equal(err.text, "");
	assert_non_null(r);
	assert_string_equal(r->name, "my-mpi.1");
	assert_string_equal(r->suite, "bookworm");
	assert_string_equal(r->packages[1], "libc6=2.36-9+deb12u10");
	assert_null(r->packages[2]);
	assert_int_equal(r->n_files, 2);
	assert_string_equal((char *)r->files[0].data, "welcome");
	assert_int_equal(r->files[0].mode, 0600);
	assert_string_equal(r->files[0].owner, "nobody:nogroup");
	assert_string_equal((char *)r->files[1].data, "hello\n");
	assert_int_equal(r->files[1].mode, 0644);
	assert_string_equal(r->commands[0], "echo ${HOME} > /etc/home");
	assert_true(r->is_public);
	assert_int_equal(r->size, 2ull << 30);
}

static void test_minimal(void **state)
{
	(void)state;
	recipe_auto struct recipe *r = parse("name = tiny\n", NULL);
	assert_non_null(r);
	assert_string_equal(r->suite, "bookworm");
	assert_false(r->is_public);
	assert_int_equal(r->size, 0);
	assert_null(r->packages[0]);
}

static void test_bad_text(void **state)
{
	(void)state;
	static const struct {
		const char *text, *message;
	} rows[] = {
		{"base = \"debian:bookworm\"\n", "r: name is missing"},
		{"name = x\ncolour = red\n", "r:2: no such option 'colour'"},
		{"name = \"Big\"\n", "r:1: image name 'Big' must be"},
		{"name = \"../x\"\n", "r:1: image name '../x'"},
		{"name = x\nbase = \"fedora:40\"\n", "r:2: base 'fedora:40' must be debian:RELEASE or import:TAR"},
		{"name = x\nbase = \"debian:../..\"\n", "r:2: Debian release '../..'"},
		{"name = x\n\npackages = {\"ok-name\", \"-oDebug=1\"}\n", "r:3: package '-oDebug=1' is not a Debian"},
		{"name = x\npackages = {\"a b\"}\n", "package 'a b'"},
		{"name = x\npackages = {\"mpich=\"}\n", "package 'mpich='"},
		{"name = x\nvisibility = secret\n", "r:2: visibility 'secret' must be private or public"},
		{"name = x\nsize = 1M\n", "r:2: size must be 16 MiB"},
		{"name = x\nsize = big\n", "r:2: size"},
		{"name = x\nfile \"etc/x\" { content = a }\n", "r:2: file 'etc/x' must be an absolute path"},
		{"name = x\nfile \"/etc/../x\" { content = a }\n", "must not hold '.', '..'"},
		{"name = x\nfile \"/etc/x\" { }\n", "r:2: file '/etc/x' needs either source or content"},
		{"name = x\nfile \"/x\" { content = a source = b }\n", "needs either source or content"},
		{"name = x\nfile \"/x\" { content = a mode = \"9\" }\n", "mode '9' must be octal"},
		{"name = x\nfile \"/x\" { content = a owner = me }\n", "owner 'me' must be USER:GROUP"},
		{"name = x\nfile \"/x\" {\n colour = a\n}\n", "r:3: no such option 'colour'"},
		{"name = x\nfile \"/x\" { source = nothere }\n", "nothere: No such file"},
		{"name = x\nfile \"/x\" { source = fifo }\n", "not a regular file"},
		{"name = x\nbase = \"import:nothere.tar\"\n", "nothere.tar: No such file"},
		{"name = x\ncommands = {\"\"}\n", "a command must have 1 to"},
		{"name = x\npackages = {\"un\n", "r:"},
	};
	mkfifo(file_in("fifo"), 0600);
	for (size_t i = 0; i < VC_ARRAY_LEN(rows); i++) {
		struct vc_error err = VC_ERROR_INIT;
		recipe_auto struct recipe *r = parse(rows[i].text, &err);
		if (r)
			fail_msg("accepted: %s", rows[i].text);
		assert_contains(err.text, rows[i].message);
	}
}

static void test_import(void **state)
{
	(void)state;
	write_file("root.tar", "abc");
	recipe_auto struct recipe *r = parse("name = x\nbase = \"import:root.tar\"\n", NULL);
	assert_non_null(r);
	assert_string_equal(r->import_digest, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	assert_int_equal(r->import_size, 3);
	vc_autojson struct json_object *obj = recipe_to_json(r, NULL);
	assert_null(strstr(json_object_to_json_string(obj), dir)); // a local path never leaves the client
	recipe_auto struct recipe *again = NULL;
	assert_int_equal(recipe_for_import("x", false, file_in("root.tar"), &again, NULL), 0);
	char a[DIGEST_HEX_LEN], b[DIGEST_HEX_LEN];
	assert_int_equal(recipe_key(again, NULL, a, NULL), 0);
	assert_int_equal(recipe_key(r, NULL, b, NULL), 0);
	assert_string_equal(a, b);
}

static void test_json_round_trip(void **state)
{
	(void)state;
	write_file("motd", "welcome");
	recipe_auto struct recipe *r = parse(full, NULL);
	vc_autojson struct json_object *obj = recipe_to_json(r, NULL);
	assert_non_null(obj);
	recipe_auto struct recipe *back = NULL;
	struct vc_error err = VC_ERROR_INIT;
	assert_int_equal(recipe_from_json(obj, &back, &err), 0);
	vc_autojson struct json_object *again = recipe_to_json(back, NULL);
	assert_string_equal(json_object_to_json_string(obj), json_object_to_json_string(again));
}

static void test_bad_json(void **state)
{
	(void)state;
#define REST "\"base\":{\"type\":\"debian\",\"suite\":\"bookworm\"},\"packages\":[],\"commands\":[]"
	static const struct {
		const char *text, *message;
	} rows[] = {
		{"[]", "must be an object"},
		{"{" REST "}", "'name' is missing"},
		{"{\"name\":\"x\",\"evil\":1," REST "}", "unknown key 'evil'"},
		{"{\"name\":\"x/y\"," REST "}", "image name 'x/y'"},
		{"{\"name\":\"\"," REST "}", "image name ''"},
		{"{\"name\":\"x\",\"size\":5," REST "}", "size must be"},
		{"{\"name\":\"x\",\"visibility\":\"all\"," REST "}", "visibility 'all'"},
		{"{\"name\":\"x\",\"base\":{\"type\":\"debian\",\"suite\":\"a b\"},\"packages\":[],\"commands\":[]}",
		 "Debian release 'a b'"},
		{"{\"name\":\"x\",\"base\":{\"type\":\"import\",\"digest\":\"ab\",\"size\":1},\"packages\":[],\"commands\":[]}",
		 "not SHA-256"},
		{"{\"name\":\"x\",\"base\":{\"type\":\"oci\"},\"packages\":[],\"commands\":[]}", "base type 'oci'"},
		{"{\"name\":\"x\",\"base\":{\"type\":\"debian\",\"suite\":\"s\"},\"packages\":[\"-y\"],\"commands\":[]}",
		 "package '-y'"},
		{"{\"name\":\"x\",\"files\":[{\"path\":\"/a/../../b\",\"mode\":420,\"data\":\"\"}]," REST "}", "'..'"},
		{"{\"name\":\"x\",\"files\":[{\"path\":\"/a\",\"mode\":99999,\"data\":\"\"}]," REST "}", "'mode' is outside"},
		{"{\"name\":\"x\",\"files\":[{\"path\":\"/a\",\"mode\":420,\"data\":\"*\"}]," REST "}", "base64"},
		{"{\"name\":\"x\",\"files\":[{\"path\":\"/a\\nb\",\"mode\":420,\"data\":\"\"}]," REST "}", "control"},
		{"{\"name\":\"x\",\"files\":[7]," REST "}", "file 1"},
	};
#undef REST
	for (size_t i = 0; i < VC_ARRAY_LEN(rows); i++) {
		struct vc_error err = VC_ERROR_INIT;
		struct recipe *r = NULL;
		vc_autojson struct json_object *obj = vc_json_parse(rows[i].text, strlen(rows[i].text), &err);
		assert_non_null(obj);
		if (recipe_from_json(obj, &r, &err) == 0)
			fail_msg("accepted: %s", rows[i].text);
		assert_null(r);
		assert_contains(err.text, rows[i].message);
	}
}

static void key_of(const char *text, const char *lock, char ret[DIGEST_HEX_LEN])
{
	recipe_auto struct recipe *r = parse(text, NULL);
	assert_non_null(r);
	assert_int_equal(recipe_key(r, lock, ret, NULL), 0);
}

static void test_key(void **state)
{
	(void)state;
	char a[DIGEST_HEX_LEN], b[DIGEST_HEX_LEN];
	key_of("name = a\npackages = {\"mpich\", \"hpcc\"}\n", NULL, a);
	// Any change to this value is a change of everybody's cache: raise IMAGE_BUILDER_VERSION instead.
	assert_string_equal(a, "56b13b6a6621a6d7814513857e6d2e28242d2ceed101dee633991136b3f54c0f");
	key_of("name = b\nvisibility = public\npackages = {\"hpcc\", \"mpich\"}\n", NULL, b);
	assert_string_equal(a, b); // neither name, visibility nor order of packages count
	static const char *const others[] = {
		"name = a\npackages = {\"mpich\"}\n",
		"name = a\nbase = \"debian:trixie\"\npackages = {\"mpich\", \"hpcc\"}\n",
		"name = a\npackages = {\"mpich\", \"hpcc\"}\ncommands = {\"true\"}\n",
		"name = a\npackages = {\"mpich\", \"hpcc\"}\nfile \"/x\" { content = y }\n",
		"name = a\npackages = {\"mpich\", \"hpcc\"}\nsize = 1G\n",
	};
	for (size_t i = 0; i < VC_ARRAY_LEN(others); i++) {
		key_of(others[i], NULL, b);
		assert_string_not_equal(a, b);
	}
	key_of("name = a\npackages = {\"mpich\", \"hpcc\"}\n", "lock", b);
	assert_string_not_equal(a, b);
	key_of("name = a\ncommands = {\"a\", \"b\"}\n", NULL, a);
	key_of("name = a\ncommands = {\"b\", \"a\"}\n", NULL, b);
	assert_string_not_equal(a, b); // the order of commands counts
}

static void test_progress(void **state)
{
	(void)state;
	struct image_progress p = {.kind = IMAGE_PROGRESS_END, .stage = "base", .text = "line \"x\"\n", .seconds = 1.5}, q;
	vc_autofree char *line = image_progress_format(&p);
	assert_non_null(line);
	assert_null(strchr(line, '\n'));
	assert_int_equal(image_progress_parse(line, strlen(line), &q, NULL), 0);
	assert_int_equal(q.kind, IMAGE_PROGRESS_END);
	assert_string_equal(q.stage, "base");
	assert_string_equal(q.text, p.text);
	assert_true(q.seconds == 1.5);
	static const char *const bad[] = {"", "x", "{}", "{\"stage\":\"a\",\"kind\":\"dance\"}",
					  "{\"stage\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\",\"kind\":\"text\"}"};
	for (size_t i = 0; i < VC_ARRAY_LEN(bad); i++)
		assert_int_equal(image_progress_parse(bad[i], strlen(bad[i]), &q, NULL), -1);
}

static void test_argv(void **state)
{
	(void)state;
	vc_autostrv char **argv = NULL;
	struct image_build_conf conf = {.program = "/x/vc-build", .import_path = "/spool/a", .mem_mib = 64};
	assert_int_equal(image_build_argv(&conf, "/w", &argv, NULL), 0);
	assert_string_equal(argv[0], "/x/vc-build");
	assert_string_equal(argv[1], "--work-dir=/w");
	assert_string_equal(argv[2], "--mirror=" IMAGE_DEFAULT_MIRROR);
	assert_string_equal(argv[3], "--import=/spool/a");
	assert_string_equal(argv[4], "--memory=64");
	assert_null(argv[5]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_full),	 cmocka_unit_test(test_minimal),	 cmocka_unit_test(test_bad_text),
		cmocka_unit_test(test_import),	 cmocka_unit_test(test_json_round_trip), cmocka_unit_test(test_bad_json),
		cmocka_unit_test(test_key),	 cmocka_unit_test(test_progress),	 cmocka_unit_test(test_argv),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
