// SPDX-License-Identifier: GPL-2.0-or-later
// Options of Slurm's commands in a guest: see slurmopt.h. An option that is not in a table is refused.
#include "guest/slurmopt.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libvc/cleanup.h"
#include "libvc/parse.h"

static bool is_count(const char *v)
{
	uint64_t n;
	return vc_parse_u64("count", v, 1, 1000000, &n, NULL) == 0;
}

static bool is_number(const char *v)
{
	uint64_t n;
	return vc_parse_u64("number", v, 0, 1000000, &n, NULL) == 0;
}

static bool only(const char *v, const char *extra, size_t max)
{
	size_t len = strlen(v);
	if (len == 0 || len > max)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (!isalnum((unsigned char)v[i]) && !strchr(extra, v[i]))
			return false;
	}
	return true;
}

static bool is_range(const char *v)
{
	return isdigit((unsigned char)v[0]) && strspn(v, "0123456789-") == strlen(v) && strlen(v) < 24;
}
static bool is_size(const char *v)
{
	return isdigit((unsigned char)v[0]) && only(v, "", 24);
}
static bool is_time(const char *v)
{
	return only(v, ":-", 32);
}
static bool is_word(const char *v)
{
	return only(v, "_.,:=+-", 256);
}
static bool is_label(const char *v)
{
	return only(v, "_.,:=+-@ ", 128);
}
static bool is_nodelist(const char *v)
{
	return v[0] != '-' && only(v, "_.,-[]", SLURMOPT_VALUE_MAX);
}
static bool is_mpi(const char *v)
{
	return !strcmp(v, "none") || !strcmp(v, "pmi2") || !strcmp(v, "pmix") || !strcmp(v, "pmix_v4") || !strcmp(v, "list");
}
static bool is_features(const char *v)
{
	return only(v, "_.,:&|*[]()-", 256);
}
static bool is_off(const char *v)
{
	return !strcmp(v, "off");
}
static bool is_none(const char *v)
{
	return !strcmp(v, "none");
}
static bool is_open_mode(const char *v)
{
	return !strcmp(v, "append") || !strcmp(v, "truncate") || !strcmp(v, "a") || !strcmp(v, "t");
}
static bool is_bool(const char *v)
{
	return !strcmp(v, "0") || !strcmp(v, "1");
}
static bool is_format(const char *v)
{
	size_t len = strlen(v);
	for (size_t i = 0; i < len; i++) {
		if (!isprint((unsigned char)v[i]))
			return false;
	}
	return len > 0 && len <= 1024;
}

#define NO_JOB "a virtual cluster's commands act on its own job"
#define NO_HOST "it would run a program on the host"
#define NO_DEVICE "the guests have no such devices"
#define HELP {"help", 0, '0', SLURMOPT_CLIENT, NULL, NULL}, {"usage", 0, '0', SLURMOPT_CLIENT, NULL, NULL}
#define W_COUNT "want a number of 1 or more"
#define W_NUMBER "want a number"
#define W_SIZE "want a size, as 512M"
#define W_TIME "want a time, as 10 or 1:30:00"
#define W_WORD "want letters, digits and _.,:=+-"

static const struct slurmopt_option srun_options[] = {
	{"ntasks", 'n', '1', SLURMOPT_PASS, is_count, W_COUNT},
	{"nodes", 'N', '1', SLURMOPT_PASS, is_range, "want a number or a range, as 2 or 1-4"},
	{"cpus-per-task", 'c', '1', SLURMOPT_PASS, is_count, W_COUNT},
	{"ntasks-per-node", 0, '1', SLURMOPT_PASS, is_count, W_COUNT},
	{"ntasks-per-core", 0, '1', SLURMOPT_PASS, is_count, W_COUNT},
	{"ntasks-per-socket", 0, '1', SLURMOPT_PASS, is_count, W_COUNT},
	{"label", 'l', '0', SLURMOPT_PASS, NULL, NULL},
	{"unbuffered", 'u', '0', SLURMOPT_PASS, NULL, NULL},
	{"kill-on-bad-exit", 'K', '?', SLURMOPT_PASS, is_bool, "want 0 or 1"},
	{"wait", 'W', '1', SLURMOPT_PASS, is_number, W_NUMBER},
	{"time", 't', '1', SLURMOPT_PASS, is_time, W_TIME},
	{"mem", 0, '1', SLURMOPT_PASS, is_size, W_SIZE},
	{"mem-per-cpu", 0, '1', SLURMOPT_PASS, is_size, W_SIZE},
	{"exact", 0, '0', SLURMOPT_PASS, NULL, NULL},
	{"overlap", 0, '0', SLURMOPT_PASS, NULL, NULL},
	{"exclusive", 0, '0', SLURMOPT_PASS, NULL, NULL},
	{"overcommit", 'O', '0', SLURMOPT_PASS, NULL, NULL},
	{"oversubscribe", 's', '0', SLURMOPT_PASS, NULL, NULL},
	{"relative", 'r', '1', SLURMOPT_PASS, is_number, W_NUMBER},
	{"distribution", 'm', '1', SLURMOPT_PASS, is_word, W_WORD},
	{"cpu-bind", 0, '1', SLURMOPT_PASS, is_word, W_WORD},
	{"hint", 0, '1', SLURMOPT_PASS, is_word, W_WORD},
	{"mpi", 0, '1', SLURMOPT_PASS, is_mpi, "want none, pmi2, pmix, pmix_v4 or list; other libraries start with mpirun"},
	{"job-name", 'J', '1', SLURMOPT_PASS, is_label, "want letters, digits, blanks and _.,:=+-@"},
	{"quiet", 'Q', '0', SLURMOPT_PASS, NULL, NULL},
	{"verbose", 'v', '0', SLURMOPT_PASS, NULL, NULL},
	{"threads", 'T', '1', SLURMOPT_PASS, is_count, W_COUNT},
	{"disable-status", 'X', '0', SLURMOPT_PASS, NULL, NULL},
	{"version", 'V', '0', SLURMOPT_PASS, NULL, NULL},
	{"pty", 0, '?', SLURMOPT_PASS, is_number, W_NUMBER},
	{"signal", 0, '1', SLURMOPT_PASS, is_word, W_WORD},
	{"nodelist", 'w', '1', SLURMOPT_HOST, is_nodelist, "want names of members or of the job's hosts"},
	{"exclude", 'x', '1', SLURMOPT_HOST, is_nodelist, "want names of members or of the job's hosts"},
	{"export", 0, '1', SLURMOPT_HOST, NULL, "want ALL, NONE or a list of variables"},
	{"multi-prog", 0, '0', SLURMOPT_HOST, NULL, NULL},
	{"output", 'o', '1', SLURMOPT_CLIENT, NULL, NULL},
	{"error", 'e', '1', SLURMOPT_CLIENT, NULL, NULL},
	{"input", 'i', '1', SLURMOPT_CLIENT, NULL, NULL},
	{"open-mode", 0, '1', SLURMOPT_CLIENT, is_open_mode, "want append or truncate"},
	{"chdir", 'D', '1', SLURMOPT_CLIENT, NULL, NULL},
	{"preserve-env", 'E', '0', SLURMOPT_IGNORE, NULL, NULL},
	{"comment", 0, '1', SLURMOPT_IGNORE, NULL, NULL},
	{"mem-bind", 0, '1', SLURMOPT_IGNORE, NULL, NULL}, // a guest has one memory node
	{"propagate", 0, '?', SLURMOPT_IGNORE, NULL, NULL}, // all limits come along
	{"spread-job", 0, '0', SLURMOPT_IGNORE, NULL, NULL},
	// of an allocation: in a step Slurm passes over them
	{"partition", 'p', '1', SLURMOPT_IGNORE, NULL, NULL},
	{"account", 'A', '1', SLURMOPT_IGNORE, NULL, NULL},
	{"qos", 'q', '1', SLURMOPT_IGNORE, NULL, NULL},
	{"reservation", 0, '1', SLURMOPT_IGNORE, NULL, NULL},
	{"licenses", 'L', '1', SLURMOPT_IGNORE, NULL, NULL},
	{"dependency", 'd', '1', SLURMOPT_IGNORE, NULL, NULL},
	{"begin", 'b', '1', SLURMOPT_IGNORE, NULL, NULL},
	{"deadline", 0, '1', SLURMOPT_IGNORE, NULL, NULL},
	{"time-min", 0, '1', SLURMOPT_IGNORE, NULL, NULL},
	{"priority", 0, '1', SLURMOPT_IGNORE, NULL, NULL},
	{"wckey", 0, '1', SLURMOPT_IGNORE, NULL, NULL},
	{"mail-type", 0, '1', SLURMOPT_IGNORE, NULL, NULL},
	{"mail-user", 0, '1', SLURMOPT_IGNORE, NULL, NULL},
	{"mincpus", 0, '1', SLURMOPT_IGNORE, NULL, NULL},
	{"tmp", 0, '1', SLURMOPT_IGNORE, NULL, NULL},
	{"switches", 0, '1', SLURMOPT_IGNORE, NULL, NULL},
	{"core-spec", 'S', '1', SLURMOPT_IGNORE, NULL, NULL},
	{"thread-spec", 0, '1', SLURMOPT_IGNORE, NULL, NULL},
	{"extra-node-info", 'B', '1', SLURMOPT_IGNORE, NULL, NULL},
	{"sockets-per-node", 0, '1', SLURMOPT_IGNORE, NULL, NULL},
	{"cores-per-socket", 0, '1', SLURMOPT_IGNORE, NULL, NULL},
	{"acctg-freq", 0, '1', SLURMOPT_IGNORE, NULL, NULL},
	{"cpu-freq", 0, '1', SLURMOPT_IGNORE, NULL, NULL},
	{"nice", 0, '?', SLURMOPT_IGNORE, NULL, NULL},
	{"hold", 'H', '0', SLURMOPT_IGNORE, NULL, NULL},
	{"contiguous", 0, '0', SLURMOPT_IGNORE, NULL, NULL},
	{"use-min-nodes", 0, '0', SLURMOPT_IGNORE, NULL, NULL},
	{"reboot", 0, '0', SLURMOPT_IGNORE, NULL, NULL},
	{"jobid", 0, '1', SLURMOPT_HOST, is_word, "want the job's id"},
	{"clusters", 'M', '1', SLURMOPT_REFUSE, NULL, NO_JOB},
	{"het-group", 0, '1', SLURMOPT_REFUSE, NULL, NO_JOB},
	{"uid", 0, '1', SLURMOPT_REFUSE, NULL, NO_JOB},
	{"gid", 0, '1', SLURMOPT_REFUSE, NULL, NO_JOB},
	{"no-allocate", 'Z', '0', SLURMOPT_REFUSE, NULL, NO_JOB},
	{"constraint", 'C', '1', SLURMOPT_PASS, is_features, "want names of features"},
	{"immediate", 'I', '?', SLURMOPT_PASS, is_number, W_NUMBER},
	{"no-kill", 'k', '?', SLURMOPT_PASS, is_off, "want off"},
	{"threads-per-core", 0, '1', SLURMOPT_PASS, is_count, W_COUNT},
	{"quit-on-interrupt", 0, '0', SLURMOPT_PASS, NULL, NULL},
	{"whole", 0, '0', SLURMOPT_PASS, NULL, NULL},
	{"gres", 0, '1', SLURMOPT_PASS, is_none, "want none: " NO_DEVICE},
	{"test-only", 0, '0', SLURMOPT_PASS, NULL, NULL},
	{"gpus", 'G', '1', SLURMOPT_REFUSE, NULL, NO_DEVICE},
	{"gpus-per-task", 0, '1', SLURMOPT_REFUSE, NULL, NO_DEVICE},
	{"gpus-per-node", 0, '1', SLURMOPT_REFUSE, NULL, NO_DEVICE},
	{"prolog", 0, '1', SLURMOPT_REFUSE, NULL, NO_HOST},
	{"epilog", 0, '1', SLURMOPT_REFUSE, NULL, NO_HOST},
	{"task-prolog", 0, '1', SLURMOPT_REFUSE, NULL, NO_HOST},
	{"task-epilog", 0, '1', SLURMOPT_REFUSE, NULL, NO_HOST},
	{"debugger-test", 0, '0', SLURMOPT_REFUSE, NULL, NO_HOST},
	{"container", 0, '1', SLURMOPT_REFUSE, NULL, NO_HOST},
	{"slurmd-debug", 0, '1', SLURMOPT_REFUSE, NULL, NO_HOST},
	{"bcast", 0, '?', SLURMOPT_REFUSE, NULL, "use sbcast, which copies between the guests"},
	{"help", 'h', '0', SLURMOPT_CLIENT, NULL, NULL},
	{"usage", 0, '0', SLURMOPT_CLIENT, NULL, NULL},
	{NULL, 0, 0, 0, NULL, NULL},
};

static const struct slurmopt_option scancel_options[] = {
	{"signal", 's', '1', SLURMOPT_PASS, is_word, W_WORD},
	{"batch", 'b', '0', SLURMOPT_PASS, NULL, NULL},
	{"full", 'f', '0', SLURMOPT_PASS, NULL, NULL},
	{"quiet", 'Q', '0', SLURMOPT_PASS, NULL, NULL},
	{"verbose", 'v', '0', SLURMOPT_PASS, NULL, NULL},
	{"version", 'V', '0', SLURMOPT_PASS, NULL, NULL},
	{"interactive", 'i', '0', SLURMOPT_REFUSE, NULL, "it asks no questions here"},
	{"user", 'u', '1', SLURMOPT_REFUSE, NULL, NO_JOB},
	{"name", 'n', '1', SLURMOPT_REFUSE, NULL, NO_JOB},
	{"jobname", 0, '1', SLURMOPT_REFUSE, NULL, NO_JOB},
	{"partition", 'p', '1', SLURMOPT_REFUSE, NULL, NO_JOB},
	{"account", 'A', '1', SLURMOPT_REFUSE, NULL, NO_JOB},
	{"state", 't', '1', SLURMOPT_REFUSE, NULL, NO_JOB},
	{"nodelist", 'w', '1', SLURMOPT_REFUSE, NULL, NO_JOB},
	{"clusters", 'M', '1', SLURMOPT_REFUSE, NULL, NO_JOB},
	HELP,
	{NULL, 0, 0, 0, NULL, NULL},
};

static const struct slurmopt_option squeue_options[] = {
	{"noheader", 'h', '0', SLURMOPT_PASS, NULL, NULL},
	{"format", 'o', '1', SLURMOPT_PASS, is_format, "want printable text"},
	{"Format", 'O', '1', SLURMOPT_PASS, is_format, "want printable text"},
	{"long", 'l', '0', SLURMOPT_PASS, NULL, NULL},
	{"steps", 's', '?', SLURMOPT_PASS, is_word, W_WORD},
	{"array", 'r', '0', SLURMOPT_PASS, NULL, NULL},
	{"states", 't', '1', SLURMOPT_PASS, is_word, W_WORD},
	{"version", 'V', '0', SLURMOPT_PASS, NULL, NULL},
	{"verbose", 'v', '0', SLURMOPT_PASS, NULL, NULL},
	{"me", 0, '0', SLURMOPT_IGNORE, NULL, NULL},
	{"user", 'u', '1', SLURMOPT_IGNORE, NULL, NULL},
	{"jobs", 'j', '?', SLURMOPT_HOST, is_word, "want the job's id"},
	{"job", 0, '?', SLURMOPT_HOST, is_word, "want the job's id"},
	{"iterate", 'i', '1', SLURMOPT_REFUSE, NULL, "call it again instead"},
	{"clusters", 'M', '1', SLURMOPT_REFUSE, NULL, NO_JOB},
	{"all", 'a', '0', SLURMOPT_REFUSE, NULL, NO_JOB},
	HELP,
	{NULL, 0, 0, 0, NULL, NULL},
};

static const struct slurmopt_option scontrol_options[] = {
	{"oneliner", 'o', '0', SLURMOPT_PASS, NULL, NULL},
	{"details", 'd', '0', SLURMOPT_PASS, NULL, NULL},
	{"quiet", 'Q', '0', SLURMOPT_PASS, NULL, NULL},
	{"version", 'V', '0', SLURMOPT_PASS, NULL, NULL},
	{"clusters", 'M', '1', SLURMOPT_REFUSE, NULL, NO_JOB},
	{"uid", 'u', '1', SLURMOPT_REFUSE, NULL, NO_JOB},
	HELP,
	{NULL, 0, 0, 0, NULL, NULL},
};

static const struct {
	const char *name;
	const struct slurmopt_option *options;
	bool operands_first; // options may follow operands, as getopt's permutation lets them
	const char *operands;
} tools[SLURMOPT_TOOLS] = {
	[SLURMOPT_SRUN] = {"srun", srun_options, false, "PROGRAM [ARGUMENT...]"},
	[SLURMOPT_SCANCEL] = {"scancel", scancel_options, true, "JOB[.STEP]..."},
	[SLURMOPT_SQUEUE] = {"squeue", squeue_options, true, ""},
	[SLURMOPT_SCONTROL] = {"scontrol", scontrol_options, true, "show job | show hostnames [LIST]"},
};

int slurmopt_tool_from_name(const char *name, enum slurmopt_tool *ret, struct vc_error *err)
{
	for (int i = 0; i < SLURMOPT_TOOLS; i++) {
		if (!strcmp(tools[i].name, name)) {
			*ret = (enum slurmopt_tool)i;
			return 0;
		}
	}
	return vc_error_set(err, VC_ENOTFOUND, "'%.64s' is not a Slurm command of a virtual cluster", name);
}

const char *slurmopt_tool_name(enum slurmopt_tool tool)
{
	return tools[tool].name;
}

// --- parsing ---------------------------------------------------------------------------------------------------

struct cursor {
	enum slurmopt_tool tool;
	char *const *argv;
	size_t i;
	struct slurmopt_request *req;
};

static int give(struct cursor *c, const struct slurmopt_option *o, const char *value, struct vc_error *err)
{
	const char *tool = tools[c->tool].name;
	if (o->fate == SLURMOPT_REFUSE)
		return vc_error_set(err, VC_EUSER, "%s: --%s is not possible in a virtual cluster: %s", tool, o->name, o->why);
	if (value && strlen(value) > SLURMOPT_VALUE_MAX)
		return vc_error_set(err, VC_EUSER, "%s: --%s: the value is longer than %d bytes", tool, o->name, SLURMOPT_VALUE_MAX);
	if (value && o->valid && !o->valid(value))
		return vc_error_set(err, VC_EUSER, "%s: --%s=%.64s: %s", tool, o->name, value, o->why);
	if (c->req->n_given == SLURMOPT_OPTIONS_MAX)
		return vc_error_set(err, VC_EUSER, "%s: more than %d options", tool, SLURMOPT_OPTIONS_MAX);
	c->req->given[c->req->n_given++] = (struct slurmopt_given){o, value};
	return 0;
}

// getopt_long's rule: an exact name, or a prefix that fits only one.
static const struct slurmopt_option *find_long(enum slurmopt_tool tool, const char *name, size_t len)
{
	const struct slurmopt_option *found = NULL;
	size_t n = 0;
	for (const struct slurmopt_option *o = tools[tool].options; o->name; o++) {
		if (strncmp(o->name, name, len) != 0)
			continue;
		if (strlen(o->name) == len)
			return o;
		found = o;
		n++;
	}
	return n == 1 ? found : NULL;
}

static int parse_long(struct cursor *c, const char *arg, struct vc_error *err)
{
	size_t len = strcspn(arg, "=");
	const struct slurmopt_option *o = find_long(c->tool, arg, len);
	const char *value = arg[len] ? arg + len + 1 : NULL;
	if (!o)
		return vc_error_set(err, VC_EUSER, "%s: --%.*s is unknown or not possible in a virtual cluster",
				    tools[c->tool].name, (int)(len < 64 ? len : 64), arg);
	if (value && o->arg == '0' && o->fate != SLURMOPT_REFUSE)
		return vc_error_set(err, VC_EUSER, "%s: --%s takes no value", tools[c->tool].name, o->name);
	if (!value && o->arg == '1' && o->fate != SLURMOPT_REFUSE) {
		value = c->argv[c->i];
		if (!value)
			return vc_error_set(err, VC_EUSER, "%s: --%s needs a value", tools[c->tool].name, o->name);
		c->i++;
	}
	return give(c, o, value, err);
}

static const struct slurmopt_option *find_letter(enum slurmopt_tool tool, char letter)
{
	const struct slurmopt_option *o = tools[tool].options;
	while (o->name && o->letter != letter)
		o++;
	return o->name && letter ? o : NULL;
}

static int parse_letters(struct cursor *c, const char *arg, struct vc_error *err)
{
	for (; *arg; arg++) {
		const struct slurmopt_option *o = find_letter(c->tool, *arg);
		const char *value = NULL;
		if (!o)
			return vc_error_set(err, VC_EUSER, "%s: -%c is unknown or not possible in a virtual cluster",
					    tools[c->tool].name, isprint((unsigned char)*arg) ? *arg : '?');
		if (o->arg != '0' && arg[1])
			value = arg + 1;
		if (o->arg == '1' && !value && o->fate != SLURMOPT_REFUSE) {
			value = c->argv[c->i];
			if (!value)
				return vc_error_set(err, VC_EUSER, "%s: -%c needs a value", tools[c->tool].name, *arg);
			c->i++;
		}
		if (give(c, o, value, err) < 0)
			return -1;
		if (o->arg != '0')
			return 0; // the rest of the word was its value
	}
	return 0;
}

// Options behind the operands of scancel, squeue, scontrol: getopt permutes, so do we, without moving argv.
static int parse_behind(struct cursor *c, struct vc_error *err)
{
	size_t n = 0;
	while (c->argv[c->i + n] && c->argv[c->i + n][0] != '-')
		n++;
	c->req->rest = c->argv + c->i;
	c->req->n_rest = n;
	c->i += n;
	while (c->argv[c->i]) {
		const char *arg = c->argv[c->i++];
		if (arg[0] != '-' || !arg[1])
			return vc_error_set(err, VC_EUSER, "%s: put options in front of '%.64s'", tools[c->tool].name, arg);
		if ((arg[1] == '-' ? parse_long(c, arg + 2, err) : parse_letters(c, arg + 1, err)) < 0)
			return -1;
	}
	return 0;
}

int slurmopt_parse(enum slurmopt_tool tool, char *const *argv, struct slurmopt_request *ret, struct vc_error *err)
{
	struct slurmopt_request req = {.tool = tool};
	struct cursor c = {.tool = tool, .argv = argv, .i = argv[0] ? 1 : 0, .req = &req};
	for (const char *arg; (arg = argv[c.i]) && arg[0] == '-' && arg[1];) {
		c.i++;
		if (!strcmp(arg, "--"))
			break;
		if ((arg[1] == '-' ? parse_long(&c, arg + 2, err) : parse_letters(&c, arg + 1, err)) < 0)
			return -1;
	}
	if (tools[tool].operands_first) {
		if (parse_behind(&c, err) < 0)
			return -1;
	} else {
		req.rest = argv + c.i;
		while (req.rest[req.n_rest])
			req.n_rest++;
	}
	*ret = req;
	return 0;
}

const char *slurmopt_get(const struct slurmopt_request *r, const char *name)
{
	const char *found = NULL;
	for (size_t i = 0; i < r->n_given; i++) {
		if (!strcmp(r->given[i].option->name, name))
			found = r->given[i].value ? r->given[i].value : "";
	}
	return found;
}

static char *option_text(const struct slurmopt_given *g)
{
	char *text;
	int rc = g->value ? asprintf(&text, "--%s=%s", g->option->name, g->value) : asprintf(&text, "--%s", g->option->name);
	return rc < 0 ? NULL : text;
}

char **slurmopt_rebuild(const struct slurmopt_request *r, const char *program, unsigned fates, char *const *extra,
			struct vc_error *err)
{
	size_t n = 0, n_extra = 0;
	while (extra && extra[n_extra])
		n_extra++;
	vc_autostrv char **argv = calloc(r->n_given + n_extra + r->n_rest + 3, sizeof(*argv));
	bool ok = argv && (argv[n++] = strdup(program));
	for (size_t i = 0; ok && i < r->n_given; i++) {
		if (fates & 1u << r->given[i].option->fate)
			ok = (argv[n++] = option_text(&r->given[i]));
	}
	for (size_t i = 0; ok && i < n_extra; i++)
		ok = (argv[n++] = strdup(extra[i]));
	if (ok && r->n_rest)
		ok = (argv[n++] = strdup("--")); // operands that look like options stay operands
	for (size_t i = 0; ok && i < r->n_rest; i++)
		ok = (argv[n++] = strdup(r->rest[i]));
	if (!ok) {
		vc_error_errno(err, "%s", program);
		return NULL;
	}
	return vc_steal(&argv);
}

// --- help ------------------------------------------------------------------------------------------------------

#define HELP_COLUMN 35 // where the words behind an option begin
#define HELP_WIDTH 80

static void help_option(const struct slurmopt_option *o, FILE *out)
{
	char name[64], letter[] = {'-', o->letter, ',', '\0'};
	const char *value = o->arg == '1' ? "=VALUE" : o->arg == '?' ? "[=VALUE]" : "", *why = o->why ? o->why : "";
	if (!strncmp(why, "want ", 5))
		why += 5;
	snprintf(name, sizeof(name), "  %-3s --%s%s", o->letter ? letter : "", o->name, value);
	if (HELP_COLUMN + strlen(why) > HELP_WIDTH)
		fprintf(out, "%s\n        %s\n", name, why);
	else if (*why)
		fprintf(out, "%-*s%s\n", HELP_COLUMN, name, why);
	else
		fprintf(out, "%s\n", name);
}

static void help_options(enum slurmopt_tool tool, bool refused, FILE *out)
{
	for (const struct slurmopt_option *o = tools[tool].options; o->name; o++) {
		if ((o->fate == SLURMOPT_REFUSE) == refused)
			help_option(o, out);
	}
}

void slurmopt_help(enum slurmopt_tool tool, bool brief, FILE *out)
{
	fprintf(out, "Usage: %s [OPTION...] %s\n", tools[tool].name, tools[tool].operands);
	if (brief)
		return;
	fprintf(out, "Acts on the job of this virtual cluster. %s(1) says what an option does.\nTaken are\n\n", tools[tool].name);
	help_options(tool, false, out);
	fputs("\nNot possible here are\n\n", out);
	help_options(tool, true, out);
}
