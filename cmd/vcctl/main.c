// SPDX-License-Identifier: GPL-2.0-or-later
// vcctl: what users and admins ask of their virtual clusters. Options, the table of verbs, help, exit codes.
//
// One verb, one connection, one answer. Errors are one line on standard error, "vcctl: ...".
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/vcctl/vcctl.h"
#include "libvc/cleanup.h"

// Bits above what getopt_long() returns for itself.
enum opt {
	OPT_JSON = 1 << 10,
	OPT_ALL = 1 << 11,
	OPT_WATCH = 1 << 12,
	OPT_PUBLIC = 1 << 13,
	OPT_PTY = 1 << 14,
	OPT_ROOT = 1 << 15,
	OPT_REFRESH = 1 << 16,
	OPT_REPAIR = 1 << 17,
	OPT_DRY_RUN = 1 << 18,
	OPT_CSV = 1 << 19,
	OPT_TO = 1 << 20,
	OPT_POLICY = 1 << 21, // and what goes with it
};

static const struct verb {
	const char *name, *sub; // "image", "build"
	const char *args;	// as help shows them
	const char *help;
	const char *example;
	unsigned options; // enum opt
	int min, max;	  // words after the verb
	ctl_verb_fn run;
} verbs[] = {
	{"list", NULL, "", "virtual clusters; --all: those that have ended too", "vcctl list",
	 OPT_JSON | OPT_ALL, 0, 0, ctl_list},
	{"show", NULL, "JOB", "phase, reason and time per host, members, stages", "vcctl show 123",
	 OPT_JSON, 1, 1, ctl_show},
	{"watch", NULL, "JOB", "every change of a cluster, until it is gone", "vcctl watch 123", OPT_JSON, 1, 1, ctl_watch},
	{"view", NULL, "JOB", "the membership view; --watch: every following one", "vcctl view --watch 123",
	 OPT_JSON | OPT_WATCH, 1, 1, ctl_view},
	{"resize", NULL, "JOB HOSTS|+N|-N", "grow or shrink a cluster by hosts; --dry-run", "vcctl resize 123 +1", OPT_JSON | OPT_DRY_RUN,
	 2, 2, ctl_resize},
	{"leases", NULL, "JOB", "further hosts of a cluster, and their jobs", "vcctl leases 123", OPT_JSON, 1, 1,
	 ctl_leases},
	{"elastic", NULL, "JOB show|set POLICY|pause [off]|replay", "who decides about the size, what now, and why",
	 "vcctl elastic 123 set cod,weight=2", OPT_JSON, 2, 3, ctl_elastic},
	{"events", NULL, "JOB", "what happened to a cluster: phases, views, leases", "vcctl events 123", OPT_JSON, 1, 1, ctl_events},
	{"plot", NULL, "JOB...", "sizes of clusters over time as SVG, or --csv", "vcctl plot 123 124 >sizes.svg", OPT_CSV, 1, 64, ctl_plot},
	{"console", NULL, "JOB MEMBER", "the machine's serial console; ctrl-] ends it", "vcctl console 123 0", OPT_JSON,
	 2, 2, ctl_console},
	{"exec", NULL, "JOB MEMBER [-- COMMAND [ARG...]]", "run a command, or a shell, in a member",
	 "vcctl exec 123 vc123-1 -- ps aux", OPT_JSON | OPT_PTY | OPT_ROOT, 2, 1 << 16, ctl_exec},
	{"cp", NULL, "SRC... DST", "copy to or from members, as JOB:MEMBER:PATH",
	 "vcctl cp input.dat 123:all:/tmp/", OPT_JSON, 2, 1 << 16, ctl_cp},
	{"migrate", NULL, "JOB MEMBER...", "move members to other hosts of their job, while they run", "vcctl migrate 123 0 --to n2",
	 OPT_JSON | OPT_DRY_RUN | OPT_TO | OPT_POLICY, 2, 1 << 16, ctl_migrate},
	{"evacuate", NULL, "HOST", "move all members off a host (admins)", "vcctl evacuate --dry-run n1",
	 OPT_JSON | OPT_DRY_RUN | OPT_POLICY, 1, 1, ctl_evacuate},
	{"rebalance", NULL, "JOB", "spread a job's members over its hosts again", "vcctl rebalance 123",
	 OPT_JSON | OPT_DRY_RUN | OPT_POLICY, 1, 1, ctl_rebalance},
	{"image", "build", "RECIPE", "build it; --refresh: with the versions of today", "vcctl image build mpich.recipe",
	 OPT_JSON | OPT_REFRESH, 1, 1, ctl_image_build},
	{"image", "import", "NAME SOURCE", "of a tar, directory, OCI image, raw or qcow2; --public",
	 "vcctl image import mine root.tar.zst", OPT_JSON | OPT_PUBLIC, 2, 2, ctl_image_import},
	{"image", "list", "", "your images and public ones", "vcctl image list", OPT_JSON, 0, 0, ctl_image_list},
	{"image", "show", "NAME", "one image: digest, size, recipe's key", "vcctl image show mpich", OPT_JSON, 1, 1,
	 ctl_image_show},
	{"image", "rm", "NAME", "remove the name; the data goes when nothing uses it", "vcctl image rm mpich", OPT_JSON, 1, 1,
	 ctl_image_rm},
	{"image", "log", "NAME", "the end of the last build's log", "vcctl image log mpich", OPT_JSON, 1, 1, ctl_image_log},
	{"image", "stage", "NAME HOSTS", "put it on hosts before a job needs it (admins)", "vcctl image stage mpich n[1-8]", OPT_JSON,
	 2, 2, ctl_image_stage},
	{"image", "fsck", "HOSTS [NAME]", "read copies again; --repair fetches what is damaged",
	 "vcctl image fsck --repair n[1-8] mpich", OPT_JSON | OPT_REPAIR, 1, 2, ctl_image_fsck},
	{"check", NULL, "", "is the site set up right, is anything orphaned", "vcctl check", OPT_JSON, 0, 0, ctl_check},
	{"ping", NULL, "", "does the local vcd answer", "vcctl ping", OPT_JSON, 0, 0, ctl_ping},
};

static void print_verb_names(const struct verb *v, FILE *out)
{
	fprintf(out, "%s%s%s", v->name, v->sub ? " " : "", v->sub ? v->sub : "");
}

static int help_all(FILE *out)
{
	fputs("Example:\n"
	      "  vcctl image build mpich.recipe\n"
	      "  sbatch -N2 --vcluster=mpich --vcluster-vms=2 job.sh\n"
	      "  vcctl show 123\n\n"
	      "Usage: vcctl [--json] [--socket PATH] VERB [ARGS]; vcctl VERB --help\n\n",
	      out);
	for (size_t i = 0; i < VC_ARRAY_LEN(verbs); i++) {
		char left[64];
		snprintf(left, sizeof(left), "%s%s%s %s", verbs[i].name, verbs[i].sub ? " " : "",
			 verbs[i].sub ? verbs[i].sub : "", verbs[i].args);
		fprintf(out, strlen(left) > 20 ? "  %s\n%24s%s\n" : "  %-22s%s%s\n", left, "", verbs[i].help);
	}
	fputs("\nExit status: 0 done, 1 failed or check found something, 2 wrong usage,\n"
	      "3 no such job, member or image, 4 not allowed, 5 vcd does not answer.\n"
	      "exec: the command's own.\n",
	      out);
	return CTL_OK;
}

static int help_verb(const struct verb *v)
{
	printf("Example:\n  %s\n\nUsage: vcctl ", v->example);
	print_verb_names(v, stdout);
	static const struct {
		unsigned bit;
		const char *text;
	} names[] = {{OPT_JSON, " [--json]"}, {OPT_ALL, " [--all]"}, {OPT_WATCH, " [--watch]"}, {OPT_PUBLIC, " [--public]"},
		     {OPT_PTY, " [--pty]"},	     {OPT_ROOT, " [--root]"}, {OPT_REFRESH, " [--refresh]"},
		     {OPT_REPAIR, " [--repair]"}, {OPT_DRY_RUN, " [--dry-run]"}, {OPT_CSV, " [--csv]"}, {OPT_TO, " [--to HOST]"},
		     {OPT_POLICY, " [--policy P] [--bandwidth MIB] [--downtime MS] [--rounds N]"}};
	for (size_t i = 0; i < VC_ARRAY_LEN(names); i++)
		if (v->options & names[i].bit)
			fputs(names[i].text, stdout);
	printf(" %s\n  %s\n", v->args, v->help);
	return CTL_OK;
}

static int usage_error(const char *what, const char *which)
{
	fprintf(stderr, "vcctl: %s '%s'; vcctl --help shows how\n", what, which);
	return CTL_USAGE;
}

// The verb that words[0] (and words[1]) name; *ret_words says how many of them.
static const struct verb *find_verb(char **words, int n, int *ret_words)
{
	for (size_t i = 0; n > 0 && i < VC_ARRAY_LEN(verbs); i++) {
		const struct verb *v = &verbs[i];
		if (strcmp(words[0], v->name) != 0 || (v->sub && (n < 2 || strcmp(words[1], v->sub) != 0)))
			continue;
		*ret_words = v->sub ? 2 : 1;
		return v;
	}
	return NULL;
}

enum { LONG_SOCKET = 256, LONG_HELP, LONG_VERSION, LONG_TO, LONG_POLICY, LONG_BANDWIDTH, LONG_DOWNTIME, LONG_ROUNDS };
static const struct option long_options[] = {
	{"json", no_argument, NULL, OPT_JSON},	     {"all", no_argument, NULL, OPT_ALL},
	{"watch", no_argument, NULL, OPT_WATCH},     {"public", no_argument, NULL, OPT_PUBLIC},
	{"root", no_argument, NULL, OPT_ROOT},	     {"pty", no_argument, NULL, OPT_PTY},	     {"refresh", no_argument, NULL, OPT_REFRESH},
	{"repair", no_argument, NULL, OPT_REPAIR},   {"dry-run", no_argument, NULL, OPT_DRY_RUN}, {"csv", no_argument, NULL, OPT_CSV},
	{"to", required_argument, NULL, LONG_TO},    {"policy", required_argument, NULL, LONG_POLICY},
	{"bandwidth", required_argument, NULL, LONG_BANDWIDTH}, {"downtime", required_argument, NULL, LONG_DOWNTIME},
	{"rounds", required_argument, NULL, LONG_ROUNDS},
		     {"socket", required_argument, NULL, LONG_SOCKET},
	{"help", no_argument, NULL, LONG_HELP},	     {"version", no_argument, NULL, LONG_VERSION},
	{NULL, 0, NULL, 0},
};

struct words {
	char **v; // what is no option, in order; borrowed from argv
	int n;
	unsigned options; // enum opt that were given
	bool help, version;
};

// "-2" of `vcctl resize` is no option.
static bool is_negative(const char *word)
{
	return word[0] == '-' && word[1] && strspn(word + 1, "0123456789") == strlen(word + 1);
}

// Options with a value. False: c is none of them.
static bool take_value(struct ctl *ctl, struct words *w, int c)
{
	const struct {
		int c;
		const char **value;
		unsigned bit;
	} values[] = {{LONG_SOCKET, &ctl->socket, 0},		   {LONG_TO, &ctl->to, OPT_TO},
		      {LONG_POLICY, &ctl->policy, OPT_POLICY},	   {LONG_BANDWIDTH, &ctl->bandwidth, OPT_POLICY},
		      {LONG_DOWNTIME, &ctl->downtime, OPT_POLICY}, {LONG_ROUNDS, &ctl->rounds, OPT_POLICY}};
	for (size_t i = 0; i < VC_ARRAY_LEN(values); i++) {
		if (values[i].c != c)
			continue;
		*values[i].value = optarg;
		w->options |= values[i].bit;
		return true;
	}
	return false;
}

// Options may stand anywhere before "--": what follows that belongs to a command.
static int parse_words(int argc, char **argv, struct ctl *ctl, struct words *w)
{
	int c;
	opterr = 0;
	for (;;) {
		while (optind < argc && is_negative(argv[optind]))
			w->v[w->n++] = argv[optind++];
		if ((c = getopt_long(argc, argv, "-:h", long_options, NULL)) == -1)
			break;
		if (c == 1)
			w->v[w->n++] = optarg;
		else if (take_value(ctl, w, c))
			continue;
		else if (c == LONG_HELP || c == 'h')
			w->help = true;
		else if (c == LONG_VERSION)
			w->version = true;
		else if (c == '?' || c == ':')
			return usage_error(c == '?' ? "unknown option" : "a value is missing after", argv[optind - 1]);
		else
			w->options |= (unsigned)c;
	}
	while (optind < argc)
		w->v[w->n++] = argv[optind++];
	ctl->json = w->options & OPT_JSON;
	ctl->all = w->options & OPT_ALL;
	ctl->watch = w->options & OPT_WATCH;
	ctl->is_public = w->options & OPT_PUBLIC;
	ctl->pty = w->options & OPT_PTY;
	ctl->root = w->options & OPT_ROOT;
	ctl->refresh = w->options & OPT_REFRESH;
	ctl->repair = w->options & OPT_REPAIR;
	ctl->dry_run = w->options & OPT_DRY_RUN;
	ctl->csv = w->options & OPT_CSV;
	return CTL_OK;
}

static int run_verb(struct ctl *ctl, struct words *w)
{
	int used = 0;
	const struct verb *v = find_verb(w->v, w->n, &used);
	if (!v)
		return usage_error("there is no verb", w->v[0]);
	if (w->help)
		return help_verb(v);
	if (w->options & ~v->options)
		return usage_error("an option that is not for", v->name);
	int n = w->n - used;
	if (n < v->min || n > v->max) {
		fprintf(stderr, "vcctl: usage: vcctl ");
		print_verb_names(v, stderr);
		fprintf(stderr, " %s\n", v->args);
		return CTL_USAGE;
	}
	struct vc_error err = VC_ERROR_INIT;
	int status = v->run(ctl, w->v + used, n, &err);
	if (err.text[0])
		fprintf(stderr, "vcctl: %s\n", err.text);
	return status;
}

int main(int argc, char **argv)
{
	struct ctl ctl = {0};
	vc_autofree char **v = calloc((size_t)argc + 1, sizeof(*v));
	struct words w = {.v = v};
	if (!v)
		return CTL_FAILED;
	int status = parse_words(argc, argv, &ctl, &w);
	if (status != CTL_OK)
		return status;
	if (w.version) {
		puts("vcctl " PACKAGE_VERSION);
		return CTL_OK;
	}
	if (w.n == 0)
		return w.help ? help_all(stdout) : (help_all(stderr), CTL_USAGE);
	status = run_verb(&ctl, &w);
	if (fflush(stdout) != 0 && status == CTL_OK) {
		fprintf(stderr, "vcctl: standard output: write failed\n");
		return CTL_FAILED;
	}
	return status;
}
