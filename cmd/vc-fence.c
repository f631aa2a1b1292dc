// SPDX-License-Identifier: GPL-2.0-or-later
// vc-fence: the watchdog of fencing. Suspends or destroys machines whose host was not confirmed in time, also while vcd is
// stopped or hangs. It reads run-dir/fence, which vcd writes, and owns nothing else; vc-fence(8).
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "libvc/log.h"
#include "vcd/conf.h"
#include "vcd/fence.h"
#include "vcd/hv.h"

#define LOOK_NS 250000000 // between two looks: what a deadline may be late
#define NAME_MAX_BYTES 64

static volatile sig_atomic_t ended;

static void on_end(int sig)
{
	(void)sig;
	ended = 1;
}

static uint64_t boot_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static struct json_object *read_file(int dir, const char *name, struct vc_error *err)
{
	static char text[FENCE_FILE_MAX];
	vc_autoclose int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text));
	if (n < 0) {
		vc_error_errno(err, "%s", name);
		return NULL;
	}
	return vc_json_parse(text, (size_t)n, err);
}

static int act(struct hv *hv, struct json_object *obj, bool destroy, struct vc_error *err)
{
	vc_autostrv char **domains = NULL;
	int rc = 0;
	if (vc_json_strv(obj, "domains", VC_VMS_PER_HOST_MAX, NAME_MAX_BYTES, &domains, err) < 0)
		return -1;
	for (size_t i = 0; domains[i]; i++) {
		if ((destroy ? hv_kill(hv, domains[i], err) : hv_pause(hv, domains[i], true, err)) < 0)
			rc = -1;
		else
			vc_log_warning("%s was not confirmed in time: %s", domains[i], destroy ? "destroyed" : "suspended");
	}
	return rc;
}

// One cluster's file. After the action it goes: a vcd that comes back writes it anew.
static void look_at(int dir, const char *name, struct hv *hv)
{
	struct vc_error err = VC_ERROR_INIT;
	uint64_t deadline;
	const char *action;
	vc_autojson struct json_object *obj = read_file(dir, name, &err), *again = NULL;
	if (!obj || vc_json_u64(obj, "deadline_ms", INT64_MAX, &deadline, &err) < 0 ||
	    vc_json_str(obj, "action", 16, &action, &err) < 0) {
		if (err.code != ENOENT)
			vc_log_warning("%s: %s", name, err.text);
		return;
	}
	if (boot_ms() < deadline)
		return;
	if (act(hv, obj, strcmp(action, "destroy") == 0, &err) < 0) {
		vc_log_err("%s: %s; trying again", name, err.text);
		return;
	}
	uint64_t now_says = 0;
	again = read_file(dir, name, NULL);
	if (again && vc_json_u64(again, "deadline_ms", INT64_MAX, &now_says, NULL) == 0 && now_says == deadline)
		(void)unlinkat(dir, name, 0);
}

static void look(const char *path, struct hv *hv)
{
	DIR *d = opendir(path);
	for (struct dirent *e; d && (e = readdir(d));) {
		if (e->d_name[0] != '.' && !strstr(e->d_name, ".new"))
			look_at(dirfd(d), e->d_name, hv);
	}
	if (d)
		closedir(d);
}

static int take_lock(const struct conf *conf, struct vc_error *err)
{
	char path[PATH_MAX];
	snprintf(path, sizeof(path), "%s/" FENCE_LOCK, conf->run_dir);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600); // held until the process ends
	if (fd < 0)
		return vc_error_errno(err, "%s", path);
	return flock(fd, LOCK_EX | LOCK_NB) < 0 ? vc_error_set(err, VC_EHOST, "another vc-fence runs on this host") : fd;
}

static int run(const char *conf_path, struct vc_error *err)
{
	struct conf *conf = conf_load(conf_path, err);
	if (!conf)
		return -1;
	vc_log_open("vc-fence", conf->log_sink, conf->log_level);
	char dir[PATH_MAX];
	snprintf(dir, sizeof(dir), "%s/" FENCE_DIR, conf->run_dir);
	vc_autoclose int lock = take_lock(conf, err);
	struct hv *hv = lock < 0 ? NULL : hv_create(conf->libvirt_uri, NULL, NULL, NULL, err);
	conf_destroy(conf);
	if (!hv)
		return -1;
	vc_log_notice("vc-fence watches %s", dir);
	while (!ended) {
		look(dir, hv);
		nanosleep(&(struct timespec){.tv_nsec = LOOK_NS}, NULL);
	}
	hv_stop(hv);
	hv_destroy(hv);
	return 0;
}

int main(int argc, char **argv)
{
	const char *conf_path = CONF_DEFAULT_PATH;
	struct vc_error err = VC_ERROR_INIT;
	struct sigaction sa = {.sa_handler = on_end};
	int opt;
	while ((opt = getopt(argc, argv, "c:h")) != -1) {
		if (opt != 'c') {
			fprintf(opt == 'h' ? stdout : stderr, "Usage: vc-fence [-c vcd.conf]\n");
			return opt == 'h' ? 0 : 2;
		}
		conf_path = optarg;
	}
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	if (run(conf_path, &err) == 0)
		return 0;
	fprintf(stderr, "vc-fence: %s\n", err.text);
	return 1;
}
