// SPDX-License-Identifier: GPL-2.0-or-later
// vc-build with a busybox root: what it makes, what a hostile recipe or tar cannot do, how each limit ends it.
//
// Needs root (the sandbox maps a range of ids), busybox-static and e2fsprogs; skipped otherwise.
#include "tests/unit/test.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <ftw.h>
#include <glob.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "vcd/image/image_build.h"

#define PROGRAM "./vc-build" // make check runs in the build directory
#define OUTPUT_MAX (64u << 10)

static char dir[] = "/tmp/vc-test-build-XXXXXX";
static char tar_path[64], work[64];
static bool keep_stages;   // of the next build
static const char *parent; // that has its commands

struct result {
	int status; // exit status, -1 for a signal
	double seconds;
	char progress[OUTPUT_MAX];
	struct image_progress last;
};

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

// Runs a program and gives its status; its standard output goes to out, the rest nowhere.
static int run(char *const *argv, int in, char *out, size_t size)
{
	int fds[2], status = 0;
	size_t len = 0;
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	pid_t pid = fork();
	if (pid == 0) {
		int null = open("/dev/null", O_RDWR);
		dup2(in >= 0 ? in : null, 0);
		dup2(fds[1], 1);
		dup2(null, 2);
		execvp(argv[0], argv);
		_exit(127);
	}
	close(fds[1]);
	for (ssize_t n; len < size - 1 && (n = read(fds[0], out + len, size - 1 - len)) > 0;)
		len += (size_t)n;
	out[len] = '\0';
	close(fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void parse_last(struct result *r)
{
	char *end = r->progress + strlen(r->progress);
	if (end > r->progress && end[-1] == '\n')
		*--end = '\0';
	char *line = strrchr(r->progress, '\n');
	line = line ? line + 1 : r->progress;
	assert_int_equal(image_progress_parse(line, strlen(line), &r->last, NULL), 0);
}

static void build_from(const char *tar, const char *json, const char *limit, struct result *r)
{
	char work_option[96], tar_option[96], limit_option[64], parent_option[96], recipe[96];
	struct timespec a, b;
	snprintf(recipe, sizeof(recipe), "%s/recipe.json", dir);
	FILE *f = fopen(recipe, "we");
	fputs(json, f);
	fclose(f);
	vc_autoclose int in = open(recipe, O_RDONLY);
	snprintf(work_option, sizeof(work_option), "--work-dir=%s", work);
	snprintf(tar_option, sizeof(tar_option), "--import=%s", tar);
	snprintf(limit_option, sizeof(limit_option), "--time-limit=%s", limit);
	// A literal address: no test of ours asks a name server.
	char *argv[9] = {(char *)PROGRAM, work_option, tar_option, limit_option, (char *)"--mirror=http://127.0.0.1/debian"};
	size_t n = 5;
	if (keep_stages)
		argv[n++] = (char *)"--keep=1";
	if (parent) {
		snprintf(parent_option, sizeof(parent_option), "--parent=%s", parent);
		argv[n++] = parent_option;
		argv[n++] = (char *)"--parent-stage=commands";
		argv[n++] = (char *)"--parent-complete";
	}
	assert_int_equal(mkdir(work, 0700), 0);
	clock_gettime(CLOCK_MONOTONIC, &a);
	r->status = run(argv, in, r->progress, sizeof(r->progress));
	clock_gettime(CLOCK_MONOTONIC, &b);
	r->seconds = (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9;
	parse_last(r);
}

// The recipe of an import of `tar` with more members of the JSON object, as text.
static char *recipe_text(const char *tar, const char *more)
{
	recipe_auto struct recipe *r = NULL;
	struct vc_error err = VC_ERROR_INIT;
	char *text = NULL;
	if (recipe_for_import("test", false, tar, &r, &err) < 0)
		fail_msg("%s", err.text);
	assert_true(asprintf(&text,
			     "{\"name\":\"test\",\"base\":{\"type\":\"import\",\"digest\":\"%s\",\"size\":%llu},\"packages\":[],%s}",
			     r->import_digest, (unsigned long long)r->import_size, more) > 0);
	return text;
}

static void build(const char *more, const char *limit, struct result *r)
{
	vc_autofree char *text = recipe_text(tar_path, more);
	build_from(tar_path, text, limit, r);
}

// A file of the built image, read out of the file system by e2fsprogs.
static void image_file(const char *path, char *out, size_t size)
{
	char command[128], raw[96];
	snprintf(command, sizeof(command), "cat %s", path);
	snprintf(raw, sizeof(raw), "%s/root.raw", work);
	char *argv[] = {(char *)"debugfs", (char *)"-R", command, raw, NULL};
	assert_int_equal(run(argv, -1, out, size), 0);
}

static void remove_work(void)
{
	char out[OUTPUT_MAX], program[] = PROGRAM;
	vc_autostrv char **argv = NULL;
	struct image_build_conf conf = {.program = program};
	assert_int_equal(image_build_remove_argv(&conf, work, &argv, NULL), 0);
	assert_int_equal(run(argv, -1, out, sizeof(out)), 0);
	assert_int_equal(access(work, F_OK), -1);
}

static int group_setup(void **state)
{
	char out[256];
	(void)state;
	if (geteuid() != 0 || access(PROGRAM, X_OK) < 0)
		return 0;
	if (!mkdtemp(dir))
		return -1;
	snprintf(tar_path, sizeof(tar_path), "%s/root.tar", dir);
	snprintf(work, sizeof(work), "%s/work", dir);
	char *argv[] = {(char *)TEST_SRCDIR "/../contrib/recipes/make-tiny-root", tar_path, NULL};
	if (run(argv, -1, out, sizeof(out)) != 0)
		tar_path[0] = '\0';
	return 0;
}

static int group_teardown(void **state)
{
	(void)state;
	return work[0] ? nftw(dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS) : 0;
}


// What a failed test left must not fail the next one.
static int clean(void **state)
{
	(void)state;
	if (work[0])
		nftw(work, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
	return 0;
}

#define NEED()              \
	do {                \
		if (!tar_path[0]) \
			skip();   \
	} while (0)

static void test_tiny(void **state)
{
	(void)state;
	NEED();
	struct result r;
	char out[4096], raw[96];
	build("\"files\":[{\"path\":\"/etc/new/motd\",\"mode\":416,\"owner\":\"nobody:7\",\"data\":\"aGVsbG8=\"},"
	      "{\"path\":\"/bin/sh2\",\"mode\":2541,\"owner\":\"root:root\",\"data\":\"\"}],"
	      "\"commands\":[\"echo $(id -u):$(cat /etc/new/motd) > /etc/made\"]",
	      "30", &r);
	if (r.status != 0)
		fail_msg("%s", r.last.text);
	assert_int_equal(r.last.kind, IMAGE_PROGRESS_END);
	assert_string_equal(r.last.stage, "image");
	image_file("/etc/made", out, sizeof(out));
	assert_string_equal(out, "0:hello\n");
	snprintf(raw, sizeof(raw), "%s/root.raw", work);
	char *stat_argv[] = {(char *)"debugfs", (char *)"-R", (char *)"stat /etc/new/motd", raw, NULL};
	assert_int_equal(run(stat_argv, -1, out, sizeof(out)), 0);
	assert_contains(out, "Mode:  0640");
	assert_contains(out, "User: 65534   Group:     7");
	stat_argv[2] = (char *)"stat /bin/sh2";
	assert_int_equal(run(stat_argv, -1, out, sizeof(out)), 0);
	assert_contains(out, "Mode:  04755");
	char *fsck[] = {(char *)"e2fsck", (char *)"-fn", raw, NULL};
	assert_int_equal(run(fsck, -1, out, sizeof(out)), 0);
	struct stat st;
	assert_int_equal(stat(raw, &st), 0);
	assert_int_equal(st.st_uid, 0);
	assert_int_equal(st.st_size % IMAGE_CHUNK, 0);
	assert_true(st.st_blocks * 512 < 8 << 20); // sparse
	remove_work();
}

static void test_publish(void **state)
{
	(void)state;
	NEED();
	struct result r;
	char images[96];
	struct store *s = NULL;
	struct store_entry entry;
	struct vc_error err = VC_ERROR_INIT;
	recipe_auto struct recipe *recipe = NULL;
	build("\"commands\":[]", "30", &r);
	assert_int_equal(r.status, 0);
	snprintf(images, sizeof(images), "%s/images", dir);
	assert_int_equal(store_open(images, &s, NULL, NULL), 0);
	assert_int_equal(recipe_for_import("test", true, tar_path, &recipe, NULL), 0);
	vc_autojson struct json_object *built = NULL;
	if (image_finish(s, recipe, work, &entry, &built, &err) < 0)
		fail_msg("%s", err.text);
	assert_string_equal(entry.name, "");
	assert_int_equal(strlen(entry.key), 64);
	assert_int_equal(store_verify(s, entry.digest, NULL), 0);
	store_close(s);
	remove_work();
}

// Each attempt leaves "no" in a file of the image when it failed, as it must; "yes" otherwise.
static uint64_t chunks_that_differ(const char *a, const char *b)
{
	static char x[IMAGE_CHUNK], y[IMAGE_CHUNK];
	uint64_t n = 0;
	vc_autoclose int p = open(a, O_RDONLY), q = open(b, O_RDONLY);
	assert_true(p >= 0 && q >= 0);
	for (off_t at = 0;; at += IMAGE_CHUNK) {
		memset(x, 0, sizeof(x));
		memset(y, 0, sizeof(y));
		ssize_t i = pread(p, x, sizeof(x), at), k = pread(q, y, sizeof(y), at);
		if (i <= 0 && k <= 0)
			return n;
		n += memcmp(x, y, sizeof(x)) != 0;
	}
}

// A child that grows from a kept stage: what the stage did is not done again, and the rest stays where it was.
static void test_child_grows_in_place(void **state)
{
	(void)state;
	NEED();
	struct result r;
	char raw[96], kept[96], moved[96], lists[96], out[4096];
	static const char content[] = "\"files\":[{\"path\":\"/etc/new\",\"mode\":420,\"data\":\"aGVsbG8=\"}],";
	vc_autofree char *more = NULL;
	keep_stages = true;
	assert_true(asprintf(&more, "%s\"commands\":[\"sleep 1.2; date +%%s%%N > /etc/once\"]", content) > 0);
	build(more, "30", &r);
	keep_stages = false;
	assert_int_equal(r.status, 0);
	snprintf(raw, sizeof(raw), "%s/root.raw", work);
	snprintf(kept, sizeof(kept), "%s/kept.commands/root.raw", work);
	snprintf(lists, sizeof(lists), "%s/kept.files", work);
	assert_int_equal(access(lists, F_OK), -1); // too quick to be worth a copy
	snprintf(moved, sizeof(moved), "%s/kept.raw", dir);
	assert_int_equal(rename(kept, moved), 0);
	struct stat st;
	assert_int_equal(stat(moved, &st), 0);
	assert_int_equal(st.st_uid, 0);
	assert_int_equal(st.st_mode & 077, 0);
	assert_true(chunks_that_differ(raw, moved) <= 8); // the last stage removes little
	image_file("/etc/once", out, sizeof(out));
	vc_autofree char *once = strdup(out);
	remove_work();

	parent = moved;
	build(more, "30", &r);
	parent = NULL;
	if (r.status != 0)
		fail_msg("%s", r.last.text);
	assert_true(strstr(r.progress, "grown from a cached image") != NULL);
	assert_null(strstr(r.progress, "command 1"));
	image_file("/etc/once", out, sizeof(out));
	assert_string_equal(out, once);
	assert_true(chunks_that_differ(raw, moved) <= 8);
	char *fsck[] = {(char *)"e2fsck", (char *)"-fn", raw, NULL};
	assert_int_equal(run(fsck, -1, out, sizeof(out)), 0);
	remove_work();

	// A recipe with less room than its parent has is refused, not cut.
	vc_autofree char *small = NULL;
	assert_true(asprintf(&small, "%s\"size\":16777216,\"commands\":[]", content) > 0);
	parent = moved;
	build(small, "30", &r);
	parent = NULL;
	assert_int_equal(r.status, 1);
	assert_contains(r.last.text, "size in the recipe is too small");
	remove_work();
	assert_int_equal(unlink(moved), 0);
}

static void test_hostile_commands(void **state)
{
	(void)state;
	NEED();
	static const struct {
		const char *name, *command;
		bool works;
	} attempts[] = {
		{"control", "touch /inside", true}, // the same words do say yes
		{"outside", "touch /../../../../tmp/vc-escape || touch /build/x || touch /proc/1/root/tmp/vc-escape && ls /proc/1/root/build", false},
		{"munge", "cat /etc/munge/munge.key || cat /proc/1/root/etc/munge/munge.key", false},
		{"home", "ls /var/lib/vcluster || ls /run/vcd || ls /root/.ssh", false},
		{"network", "wget -T 2 -q -O /dev/null http://@ADDR@/", false},
		{"proxy", "wget -T 2 -q -O /dev/null http://127.0.0.1:3142/", false},
		{"link", "ip link add vc0 type dummy", false},
		{"mount", "mount -t tmpfs none /mnt || mount -o remount,rw /proc || umount /proc", false},
		{"mknod", "mknod /tmp/disk b 254 0 || mknod /tmp/mem c 1 1", false},
		{"processes", "[ $(ls -d /proc/[0-9]* | wc -l) -gt 12 ] || kill -0 @PID@", false},
		{"sysctl", "echo 1 > /proc/sys/kernel/sysrq || echo x > /proc/sys/kernel/core_pattern", false},
		{"userns", "unshare -U -r true && unshare -r -m mount -t tmpfs none /mnt", false},
	};
	struct result r;
	char out[256];
	vc_autojson struct json_object *commands = json_object_new_array();
	int sock = socket(AF_INET, SOCK_STREAM, 0); // somebody listens on the host: only the sandbox is in the way
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(addr);
	assert_int_equal(bind(sock, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(sock, 4), 0);
	getsockname(sock, (struct sockaddr *)&addr, &len);
	for (size_t i = 0; i < VC_ARRAY_LEN(attempts); i++) {
		char text[1024], filled[512];
		const char *at = strchr(attempts[i].command, '@');
		if (at)
			snprintf(filled, sizeof(filled), "%.*s%s%d%s", (int)(at - attempts[i].command), attempts[i].command,
				 at[1] == 'A' ? "127.0.0.1:" : "", at[1] == 'A' ? ntohs(addr.sin_port) : getppid(),
				 strchr(at + 1, '@') + 1);
		else
			snprintf(filled, sizeof(filled), "%s", attempts[i].command);
		snprintf(text, sizeof(text), "if { %s; } >/dev/null 2>&1; then echo yes; else echo no; fi > /etc/attempt-%s", filled,
			 attempts[i].name);
		json_object_array_add(commands, json_object_new_string(text));
	}
	vc_autofree char *more = NULL;
	assert_true(asprintf(&more, "\"commands\":%s", json_object_to_json_string(commands)) > 0);
	build(more, "60", &r);
	if (r.status != 0)
		fail_msg("%s", r.last.text);
	for (size_t i = 0; i < VC_ARRAY_LEN(attempts); i++) {
		char path[64];
		snprintf(path, sizeof(path), "/etc/attempt-%s", attempts[i].name);
		image_file(path, out, sizeof(out));
		if (strcmp(out, attempts[i].works ? "yes\n" : "no\n") != 0)
			fail_msg("attempt '%s' in the sandbox said %s", attempts[i].name, out);
	}
	assert_int_equal(access("/tmp/vc-escape", F_OK), -1);
	close(sock);
	remove_work();
}

static void test_failures_are_named(void **state)
{
	(void)state;
	NEED();
	static const struct {
		const char *more, *limit, *message;
		int status;
	} rows[] = {
		{"\"commands\":[\"true\",\"echo broken; exit 3\"]", "30", "command 2 (echo broken; exit 3): broken", 1},
		{"\"commands\":[\"exit 7\"]", "30", "command 1 (exit 7): exit status 7", 1},
		{"\"commands\":[\"while :; do :; done\"]", "2", "the build's time limit is over", 1},
		{"\"commands\":[\"b() { b | b & }; b; sleep 20\"]", "6", "command 1", 1},
		{"\"size\":16777216,\"commands\":[\"dd if=/dev/zero of=/big bs=1M count=20\"]", "30", "command 1", 1},
		{"\"size\":16777216,\"commands\":[\"for i in 1 2 3 4; do dd if=/dev/zero of=/big$i bs=1M count=6; done; sleep 5\"]",
		 "30", "above its limit of 16 MiB", 1},
		{"\"commands\":[],\"files\":[{\"path\":\"/etc/x\",\"mode\":420,\"owner\":\"alice:root\",\"data\":\"\"}]", "30",
		 "no user 'alice'", 1},
		{"\"commands\":[],\"files\":[{\"path\":\"/bin/busybox/x\",\"mode\":420,\"data\":\"\"}]", "30", "/bin/busybox/x", 1},
		{"\"commands\":7", "30", "'commands' must be", 1},
	};
	for (size_t i = 0; i < VC_ARRAY_LEN(rows); i++) {
		struct result r;
		char path[128];
		build(rows[i].more, rows[i].limit, &r);
		assert_int_equal(r.last.kind, IMAGE_PROGRESS_FAILED);
		if (!strstr(r.last.text, rows[i].message))
			fail_msg("'%s' does not contain '%s'", r.last.text, rows[i].message);
		assert_int_equal(r.status, rows[i].status);
		assert_true(r.seconds < 20);
		snprintf(path, sizeof(path), "%s/tree", work);
		assert_int_equal(access(path, F_OK), -1);
		remove_work();
	}
}

static void test_packages_need_debian(void **state)
{
	(void)state;
	NEED();
	struct result r;
	vc_autofree char *text = recipe_text(tar_path, "\"commands\":[]");
	char *packages = strstr(text, "\"packages\":[]");
	vc_autofree char *with = NULL;
	assert_true(asprintf(&with, "%.*s\"packages\":[\"mpich\"],\"commands\":[]}", (int)(packages - text), text) > 0);
	build_from(tar_path, with, "30", &r);
	assert_int_equal(r.status, 1);
	assert_contains(r.last.text, "packages need a Debian base");
	remove_work();
}

// A file system of the user's: its bytes become the image, and nothing is done to them.
static void test_imported_file_system(void **state)
{
	(void)state;
	NEED();
	struct result r;
	char raw[96], built[96], out[256];
	snprintf(raw, sizeof(raw), "%s/fs.raw", dir);
	snprintf(built, sizeof(built), "%s/root.raw", work);
	char *mkfs[] = {(char *)"mke2fs", (char *)"-q", (char *)"-F", (char *)"-t", (char *)"ext4", raw, (char *)"17000k", NULL};
	assert_int_equal(run(mkfs, -1, out, sizeof(out)), 0);
	vc_autofree char *text = recipe_text(raw, "\"commands\":[]");
	build_from(raw, text, "30", &r);
	if (r.status != 0)
		fail_msg("%s", r.last.text);
	struct stat st;
	assert_int_equal(stat(built, &st), 0);
	assert_int_equal(st.st_size, 17 << 20); // whole MiB
	assert_int_equal(chunks_that_differ(raw, built), 0);
	char *flag[] = {(char *)"grep", (char *)"-c", (char *)"\"imported\":true", NULL, NULL};
	char json[96];
	snprintf(json, sizeof(json), "%s/build.json", work);
	flag[3] = json;
	assert_int_equal(run(flag, -1, out, sizeof(out)), 0);
	remove_work();
	vc_autofree char *more = recipe_text(raw, "\"commands\":[\"true\"]");
	build_from(raw, more, "30", &r);
	assert_int_equal(r.status, 1);
	assert_contains(r.last.text, "is taken as it is");
	remove_work();
}

static void test_import_checks(void **state)
{
	(void)state;
	NEED();
	struct result r;
	char other[96], outside[96];
	vc_autofree char *text = recipe_text(tar_path, "\"commands\":[]");
	snprintf(other, sizeof(other), "%s/other.tar", dir);
	FILE *f = fopen(other, "we");
	fputs("not this one", f);
	fclose(f);
	build_from(other, text, "30", &r);
	assert_int_equal(r.status, 1);
	assert_contains(r.last.text, "is not the one of the recipe");
	remove_work();
	assert_int_equal(chmod(other, 0666), 0);
	build_from(other, text, "30", &r);
	assert_int_equal(r.status, 3);
	assert_contains(r.last.text, "only root can write");
	remove_work();
	// Members that climb: by name, by a link and then through it, by an absolute name.
	snprintf(outside, sizeof(outside), "%s/outside", dir);
	assert_int_equal(mkdir(outside, 0777), 0);
	assert_int_equal(chmod(outside, 0777), 0);
	char *argv[] = {(char *)"python3", (char *)"-c",
			(char *)"import tarfile,io,sys\n"
				"t=tarfile.open(sys.argv[1],'w'); o=sys.argv[2]\n"
				"def add(n,**k):\n"
				"  i=tarfile.TarInfo(n)\n"
				"  for a,b in k.items(): setattr(i,a,b)\n"
				"  i.size=1 if i.isreg() else 0\n"
				"  t.addfile(i,io.BytesIO(b'x') if i.isreg() else None)\n"
				"add('link',type=tarfile.SYMTYPE,linkname=o)\n"
				"add('link/through')\n"
				"add('../../../../../../../..'+o+'/dots')\n"
				"add(o+'/absolute')\n"
				"add('up',type=tarfile.SYMTYPE,linkname='../../../../../../..'+o)\n"
				"add('up/through')\n"
				"t.close()\n",
			other, outside, NULL};
	char out[256];
	assert_int_equal(unlink(other), 0);
	if (run(argv, -1, out, sizeof(out)) != 0)
		skip();
	vc_autofree char *evil = recipe_text(other, "\"commands\":[]");
	build_from(other, evil, "30", &r);
	assert_int_equal(rmdir(outside), 0); // is empty: nothing was written through
	remove_work();
}

// The build's progress, until a part of it has been seen.
static void read_until(int fd, const char *part)
{
	char text[OUTPUT_MAX];
	size_t len = 0;
	ssize_t n;
	do {
		n = read(fd, text + len, sizeof(text) - 1 - len);
		assert_true(n > 0);
		len += (size_t)n;
		text[len] = '\0';
	} while (!strstr(text, part));
}

// A loop device of this test's images.
static bool is_attached(void)
{
	glob_t found = {0};
	bool any = false;
	(void)glob("/sys/block/loop*/loop/backing_file", 0, NULL, &found);
	for (size_t i = 0; i < found.gl_pathc; i++) {
		char line[512] = "";
		vc_autofclose FILE *f = fopen(found.gl_pathv[i], "re");
		any |= f && fgets(line, sizeof(line), f) && strstr(line, work);
	}
	globfree(&found);
	return any;
}

static void test_killed_build_leaves_no_process(void **state)
{
	(void)state;
	NEED();
	char work_option[96], tar_option[96], recipe[96];
	vc_autofree char *text = recipe_text(tar_path, "\"commands\":[\"touch /started; sleep 1000\"]");
	snprintf(recipe, sizeof(recipe), "%s/recipe.json", dir);
	FILE *f = fopen(recipe, "we");
	fputs(text, f);
	fclose(f);
	snprintf(work_option, sizeof(work_option), "--work-dir=%s", work);
	snprintf(tar_option, sizeof(tar_option), "--import=%s", tar_path);
	assert_int_equal(mkdir(work, 0700), 0);
	int out[2];
	assert_int_equal(pipe(out), 0);
	pid_t pid = fork();
	if (pid == 0) {
		dup2(open(recipe, O_RDONLY), 0);
		dup2(out[1], 1);
		dup2(open("/dev/null", O_WRONLY), 2);
		close(out[0]);
		close(out[1]);
		execl(PROGRAM, PROGRAM, work_option, tar_option, "--mirror=http://127.0.0.1/debian", (char *)NULL);
		_exit(127);
	}
	close(out[1]);
	read_until(out[0], "command 1 (");
	assert_true(is_attached());
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	// The tree can be emptied and removed: nothing holds or fills it any more.
	remove_work();
	close(out[0]);
	for (int i = 0; i < 1000 && is_attached(); i++)
		usleep(10000); // the kernel detaches it when the last process of the sandbox is gone
	assert_false(is_attached());
}

#define TEST(f) cmocka_unit_test_teardown(f, clean)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_tiny),
		TEST(test_publish), TEST(test_child_grows_in_place),
		TEST(test_hostile_commands),
		TEST(test_failures_are_named),
		TEST(test_packages_need_debian),
		TEST(test_import_checks),
		TEST(test_imported_file_system),
		TEST(test_killed_build_leaves_no_process),
	};
	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
