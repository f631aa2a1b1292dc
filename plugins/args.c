// SPDX-License-Identifier: GPL-2.0-or-later
// plugstack.conf arguments: see args.h.
#include "plugins/args.h"

#include <stddef.h>
#include <string.h>

#include "libvc/cleanup.h"
#include "libvc/limits.h"
#include "libvc/parse.h"

#define MARKS_DIR VC_RUN_DIR "/jobs"
#define PROLOG_MS 2000		 // vcd answers a ping in a millisecond; every job waits for this
#define EPILOG_MS (60 * 1000)	 // guests are destroyed, not shut down: seconds even on a loaded host
#define TIMEOUT_MAX_MS (600 * 1000) // past this Slurm itself would call the host stuck

enum arg_type { ARG_PATH, ARG_TIME, ARG_BOOL };

static const struct arg {
	const char *key;
	enum arg_type type;
	size_t offset;
} args[] = {
	{"socket", ARG_PATH, offsetof(struct plugin_args, socket)},
	{"vcexec", ARG_PATH, offsetof(struct plugin_args, vcexec)},
	{"marks", ARG_PATH, offsetof(struct plugin_args, marks)},
	{"prolog-timeout", ARG_TIME, offsetof(struct plugin_args, prolog_ms)},
	{"epilog-timeout", ARG_TIME, offsetof(struct plugin_args, epilog_ms)},
	{"drain", ARG_BOOL, offsetof(struct plugin_args, drain)},
};

static int set_path(const struct arg *arg, const char *value, const char **ret, struct vc_error *err)
{
	if (value[0] != '/' || strlen(value) >= VC_PATH_MAX)
		return vc_error_set(err, VC_EHOST, "plugstack.conf: %s='%.128s' is not an absolute path", arg->key, value);
	*ret = value;
	return 0;
}

static int set_bool(const struct arg *arg, const char *value, bool *ret, struct vc_error *err)
{
	bool yes = strcmp(value, "yes") == 0;
	if (!yes && strcmp(value, "no") != 0)
		return vc_error_set(err, VC_EHOST, "plugstack.conf: %s='%.64s' is neither 'yes' nor 'no'", arg->key, value);
	*ret = yes;
	return 0;
}

static int set_arg(struct plugin_args *ret, const struct arg *arg, const char *value, struct vc_error *err)
{
	void *field = (char *)ret + arg->offset;
	switch (arg->type) {
	case ARG_PATH:
		return set_path(arg, value, field, err);
	case ARG_TIME:
		if (vc_parse_duration_ms(arg->key, value, TIMEOUT_MAX_MS, field, err) == 0)
			return 0;
		return vc_error_wrap(err, "plugstack.conf");
	case ARG_BOOL:
		return set_bool(arg, value, field, err);
	}
	return -1;
}

static int parse_one(struct plugin_args *ret, const char *text, struct vc_error *err)
{
	for (size_t i = 0; i < VC_ARRAY_LEN(args); i++) {
		size_t len = strlen(args[i].key);
		if (strncmp(text, args[i].key, len) == 0 && text[len] == '=')
			return set_arg(ret, &args[i], text + len + 1, err);
	}
	return vc_error_set(err, VC_EHOST, "plugstack.conf: unknown argument '%.128s'; see spank_vcluster(8)", text);
}

int plugin_args_parse(int argc, char *const argv[], struct plugin_args *ret, struct vc_error *err)
{
	struct plugin_args parsed = {
		.socket = VC_SOCKET_PATH,
		.vcexec = VC_LIBEXECDIR "/vcexec",
		.marks = MARKS_DIR,
		.prolog_ms = PROLOG_MS,
		.epilog_ms = EPILOG_MS,
		.drain = true,
	};
	for (int i = 0; i < argc; i++) {
		if (parse_one(&parsed, argv[i], err) < 0)
			return -1;
	}
	*ret = parsed;
	return 0;
}
