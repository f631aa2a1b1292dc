// SPDX-License-Identifier: GPL-2.0-or-later
// srun, sbatch and salloc (contexts local and allocator): options in, one spec out, before the job is submitted.
//
// The spec travels in one job control variable, which the prologs of the job see as SPANK_VCLUSTER_SPEC. A default
// from the environment is handed to Slurm in the variable that Slurm itself uses for option defaults, so that the
// option also counts as set in slurmstepd. Failing here fails the command, with a message, before anything is queued.
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "libvc/buf.h"
#include "libvc/cleanup.h"
#include "libvc/client.h"
#include "libvc/json.h"
#include "libvc/multiprog.h"
#include "libvc/taskref.h"
#include "plugins/plugin.h"

#define SLURM_OPTION_PREFIX "SLURM_SPANK__SLURM_SPANK_OPTION_vcluster_" // + the option's name, '_' for '-'
#define VARIABLE_MAX 128						// bytes of such a variable's name
#define WANT_MS 3000 // ms that a submission may wait for vcd's word; it answers in one
#define CMDLINE_MAX (2u << 20)						// bytes of /proc/self/cmdline, as ARG_MAX

// Exported by Slurm since 2.x, declared in no public header: strings that Slurm may free come from its allocator.
extern char *slurm_xstrdup(const char *s);

static const char *slurm_variable(enum vc_spec_opt opt, char buf[VARIABLE_MAX])
{
	snprintf(buf, VARIABLE_MAX, SLURM_OPTION_PREFIX "%s", vc_spec_options[opt].name);
	for (char *p = buf; *p; p++) {
		if (!isalnum((unsigned char)*p))
			*p = '_';
	}
	return buf;
}

int submit_init(struct plugin *p)
{
	char name[VARIABLE_MAX];
	struct vc_error err = VC_ERROR_INIT;
	for (int i = 0; i < VC_SPEC_OPTS; i++) {
		if (options_default(&p->options, (enum vc_spec_opt)i, getenv(vc_spec_options[i].env), &err) < 0) {
			plugin_say(&err);
			return -1;
		}
		if (p->options.inherited[i])
			setenv(slurm_variable((enum vc_spec_opt)i, name), p->options.inherited[i], 0);
	}
	return 0;
}

int submit_option(struct plugin *p, enum vc_spec_opt opt, const char *value)
{
	struct vc_error err = VC_ERROR_INIT;
	if (options_take(&p->options, opt, value, &err) == 0)
		return 0;
	plugin_say(&err);
	return -1;
}

static int set_spec(spank_t sp, const struct vc_spec *spec, struct vc_error *err)
{
	vc_autofree char *text = vc_spec_to_text(spec, err);
	if (!text)
		return -1;
	spank_err_t rc = spank_job_control_setenv(sp, VC_SPEC_CONTROL_NAME, text, 1);
	if (rc != ESPANK_SUCCESS)
		return vc_error_set(err, VC_EFAILED, "cannot hand the options to the job: %s", spank_strerror(rc));
	return 0;
}

// Names of files mean what they mean in the directory of the command.
static int resolve_files(struct vc_spec *spec, struct vc_error *err)
{
	if (!spec->stage_in && !spec->stage_out)
		return 0;
	vc_autofree char *dir = get_current_dir_name();
	if (!dir)
		return vc_error_errno(err, "current directory");
	return vc_spec_resolve_files(spec, dir, err);
}

// Said at once, and no more: another job may still have to write it, and hosts may see what this one does not.
static void say_missing(const struct vc_spec *spec)
{
	struct stat st;
	for (size_t i = 0; spec->stage_in && spec->stage_in[i] && !getenv("SLURM_JOB_ID"); i++) {
		if (lstat(spec->stage_in[i], &st) < 0)
			slurm_info("vcluster: --vcluster-stage-in: %s: %s here; if the job's hosts lack it as well, it will fail",
				   spec->stage_in[i], strerror(errno));
	}
}

// The controller's vcd learns what the job is to need, and builds it and brings it to hosts while the job is queued. Without
// a vcd here, or without an answer, that is done when the job starts. What cannot be is said now; the job may still be right.
static void want_image(const struct plugin *p, const struct vc_spec *spec)
{
	struct vc_error err = VC_ERROR_INIT;
	const struct vc_client_opts opts = {.path = p->args.socket, .timeout_ms = WANT_MS};
	if (!spec->packages && getenv("SLURM_JOB_ID"))
		return; // a step: its job's hosts have the image
	vc_autojson struct json_object *params = json_object_new_object();
	if (vc_json_add_str(params, "image", spec->image) < 0 || vc_json_add_strv(params, "packages", spec->packages) < 0)
		return;
	vc_autoclient struct vc_client *vcd = vc_client_connect(&opts, NULL);
	if (vcd && vc_client_call(vcd, "image.want", params, WANT_MS, NULL, NULL, NULL, &err) < 0 && err.code == VC_EUSER)
		slurm_info("vcluster: the image cannot be %s while the job waits: %s", spec->packages ? "built" : "brought to hosts", err.text);
}

int submit_post_opt(struct plugin *p, spank_t sp)
{
	struct vc_error err = VC_ERROR_INIT;
	vc_autospec struct vc_spec *spec = NULL;
	if (options_build(&p->options, &spec, &err) == 0 &&
	    (!spec || (resolve_files(spec, &err) == 0 && set_spec(sp, spec, &err) == 0))) {
		if (spec) {
			say_missing(spec);
			want_image(p, spec);
		}
		return 0;
	}
	plugin_say(&err);
	return -1;
}

// --- srun, when its step is about to be launched ----------------------------------------------------------------

static int read_cmdline(struct vc_buf *buf)
{
	vc_autoclose int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : 0;
	do {
		uint8_t *room = n < 0 ? NULL : vc_buf_reserve(buf, 4096);
		n = room ? read(fd, room, 4096) : -1;
		if (n > 0)
			vc_buf_commit(buf, (size_t)n);
	} while (n > 0);
	return n < 0 ? -1 : 0;
}

static bool is_bcast_option(const char *arg)
{
	return strcmp(arg, "--bcast") == 0 || strncmp(arg, "--bcast=", 8) == 0;
}

// --multi-prog, or so much of it that getopt takes it for that; a program's own argument may pass for it, which is no harm.
static bool is_multiprog_option(const char *arg)
{
	size_t len = strlen(arg);
	return len >= strlen("--mu") && strncmp("--multi-prog", arg, len) == 0;
}

// For slurmstepd's hook, which cannot tell a command with such an argument from a file with such a text.
static void mark_one_program(void)
{
	vc_autobuf struct vc_buf buf = VC_BUF_INIT(CMDLINE_MAX);
	bool one = read_cmdline(&buf) == 0 && buf.len > 0 && vc_buf_append(&buf, "", 1) == 0;
	const char *text = one ? (const char *)vc_buf_head(&buf) : NULL;
	for (const char *p = text; one && p < text + buf.len; p += strlen(p) + 1)
		one = !is_multiprog_option(p);
	if (one)
		setenv(VC_TASKREF_ONE_PROGRAM_ENV, "1", 1);
	else
		unsetenv(VC_TASKREF_ONE_PROGRAM_ENV);
}

// srun replaces the program by its copy's place: then its own command line ends differently from the task's.
static bool uses_bcast(int argc, char *const argv[])
{
	vc_autobuf struct vc_buf buf = VC_BUF_INIT(CMDLINE_MAX);
	if (read_cmdline(&buf) < 0 || buf.len == 0 || argc < 1)
		return false;
	const char *text = (const char *)vc_buf_head(&buf), *end = text + buf.len;
	bool asked = getenv("SLURM_BCAST") != NULL;
	size_t words = 0;
	for (const char *p = text; p < end; p += strnlen(p, (size_t)(end - p)) + 1) {
		asked = asked || is_bcast_option(p);
		words++;
	}
	const char *program = text;
	for (size_t i = (size_t)argc; i < words; i++)
		program += strlen(program) + 1;
	return asked && strcmp(program, argv[0]) != 0;
}

// The programs of a --multi-prog file become arguments of vcexec here, where Slurm has not yet parsed the text: so
// limits, TMPDIR and task prologs apply to them too. slurmstepd's hook checks that it happened.
static int wrap_multiprog(const struct plugin *p, char **argv, struct vc_error *err)
{
	if (!multiprog_is_file(argv[0], argv[1]) || !multiprog_possible(argv[1]))
		return 0;
	vc_autofree char *text = multiprog_wrap(argv[1], p->args.vcexec, err);
	char *slurms = text ? slurm_xstrdup(text) : NULL;
	if (!slurms)
		return -1;
	argv[1] = slurms; // srun ends soon; its own text is not ours to free
	return 0;
}

int submit_local_user(struct plugin *p, spank_t sp)
{
	int argc = 0;
	char **argv = NULL;
	struct vc_error err = VC_ERROR_INIT;
	if (!p->options.value[VC_SPEC_OPT_IMAGE])
		return 0;
	mark_one_program();
	if (spank_get_item(sp, S_JOB_ARGV, &argc, &argv) != ESPANK_SUCCESS || argc < 1)
		return 0;
	if (argc >= 2 && wrap_multiprog(p, argv, &err) < 0) {
		plugin_say(&err);
		return -1;
	}
	if (argc < 2 || !multiprog_is_wrapped(argv[1], p->args.vcexec)) {
		if (!uses_bcast(argc, argv))
			return 0;
		vc_error_set(&err, VC_EUSER, "--bcast copies to the hosts, which the machines do not see: "
			     "use --vcluster-stage-in, or sbcast in the job");
		plugin_say(&err);
		return -1;
	}
	return 0;
}
