// SPDX-License-Identifier: GPL-2.0-or-later
// From a guest's request to a command of this host: see slurmcmd.h.
#include "vcd/slurmcmd.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "guest/iofile.h"
#include "guest/taskenv.h"
#include "libvc/cleanup.h"
#include "libvc/hostlist.h"
#include "libvc/multiprog.h"
#include "libvc/parse.h"
#include "libvc/taskref.h"

#define VALUE_MAX 4096u	    // bytes of a SLURM_ variable that srun reads
#define EXPORT_NAMES_MAX 256u // items of --export

// What srun reads from its environment as a batch script has it; all else of SLURM_* only travels to the tasks.
static const char *const srun_inputs[] = {
	"SLURM_NTASKS",	       "SLURM_NPROCS",		"SLURM_NTASKS_PER_NODE", "SLURM_TASKS_PER_NODE", "SLURM_NNODES",
	"SLURM_JOB_NUM_NODES", "SLURM_CPUS_PER_TASK",	"SLURM_MEM_PER_NODE",	 "SLURM_MEM_PER_CPU",	 "SLURM_DISTRIBUTION",
	"SLURM_JOB_NODELIST",  "SLURM_JOB_CPUS_PER_NODE", "SLURM_LABELIO",	 "SLURM_UNBUFFEREDIO",	 "SLURM_KILL_BAD_EXIT",
	"SLURM_WAIT",	       "SLURM_OVERLAP",		"SLURM_EXACT",		 "SLURM_CPU_BIND",	 "SLURM_THREADS",
	"SLURM_JOB_NAME",      "SLURM_NTASKS_PER_CORE", "SLURM_NTASKS_PER_SOCKET",
};

// --- a growing vector ------------------------------------------------------------------------------------------

struct vec {
	char **items;
	size_t n, alloc;
};

static void vec_clear(struct vec *v)
{
	vc_strv_free(v->items);
}
#define autovec __attribute__((cleanup(vec_clear)))

// Takes item; NULL is the failure of whoever made it.
static int vec_add(struct vec *v, char *item, struct vc_error *err)
{
	if (item && v->n + 2 > v->alloc) {
		size_t alloc = v->alloc ? v->alloc * 2 : 64;
		char **items = reallocarray(v->items, alloc, sizeof(*items));
		if (!items) {
			free(item);
			item = NULL;
		} else {
			v->items = items;
			v->alloc = alloc;
		}
	}
	if (!item)
		return vc_error_set(err, ENOMEM, "Slurm command: no memory");
	v->items[v->n++] = item;
	v->items[v->n] = NULL;
	return 0;
}

static int vec_addf(struct vec *v, struct vc_error *err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static int vec_addf(struct vec *v, struct vc_error *err, const char *fmt, ...)
{
	char *text;
	va_list ap;
	va_start(ap, fmt);
	int rc = vasprintf(&text, fmt, ap);
	va_end(ap);
	return vec_add(v, rc < 0 ? NULL : text, err);
}

// --- hosts -----------------------------------------------------------------------------------------------------

static const struct plan_member *member_by_name(const struct plan *plan, const char *name)
{
	for (size_t i = 0; i < plan->n_members; i++) {
		if (!strcmp(plan->members[i].name, name))
			return &plan->members[i];
	}
	return NULL;
}

static size_t members_of(const struct plan *plan, uint32_t host)
{
	size_t n = 0;
	for (size_t i = 0; i < plan->n_members; i++)
		n += plan->members[i].home == host;
	return n;
}

// A step can be put on hosts, not on one member of several on a host.
static const char *host_for(const struct plan *plan, const char *name, struct vc_error *err)
{
	const struct plan_member *m = member_by_name(plan, name);
	if (!m && plan_host_index(plan, name) >= 0)
		return name;
	if (!m) {
		vc_error_set(err, VC_EUSER, "srun: '%.64s' is neither a member nor a host of this job", name);
		return NULL;
	}
	if (members_of(plan, m->home) > 1) {
		vc_error_set(err, VC_EUSER, "srun: %s shares its host with other members: name the host %s instead", name,
			     plan->hosts[m->home].name);
		return NULL;
	}
	return plan->hosts[m->home].name;
}

static int add_nodelist(const struct plan *plan, const char *option, const char *list, struct vec *out, struct vc_error *err)
{
	vc_autostrv char **names = NULL;
	size_t n;
	if (vc_hostlist_expand(list, VC_MEMBERS_MAX, &names, &n, err) < 0)
		return vc_error_wrap(err, "srun: --%s", option);
	vc_autostrv char **hosts = calloc(n + 1, sizeof(*hosts));
	for (size_t i = 0; hosts && i < n; i++) {
		const char *host = host_for(plan, names[i], err);
		if (!host)
			return -1;
		hosts[i] = strdup(host);
		if (!hosts[i])
			return vc_error_errno(err, "srun: --%s", option);
	}
	vc_autofree char *text = hosts ? vc_hostlist_compress(hosts, err) : NULL;
	return text ? vec_addf(out, err, "--%s=%s", option, text) : -1;
}

// --- each tool's rules -----------------------------------------------------------------------------------------

static int is_this_job(const struct plan *plan, const char *text)
{
	uint64_t id;
	return vc_parse_u64("job", text, 1, UINT32_MAX, &id, NULL) == 0 && id == plan->key.job;
}

static int not_ours(const struct plan *plan, const char *tool, const char *what, struct vc_error *err)
{
	return vc_error_set(err, VC_EDENIED, "%s: '%.64s' is not possible here: this virtual cluster may only act on its own job %u",
			    tool, what, plan->key.job);
}

// Files of tasks are opened where these run, others by the guest's own srun: the real one opens none, on this host.
static int check_streams(const struct slurmopt_request *r, struct vc_error *err)
{
	static const char *const options[] = {"input", "output", "error"};
	for (size_t i = 0; i < VC_ARRAY_LEN(options); i++) {
		const char *value = slurmopt_get(r, options[i]);
		if (iofile_kind(value) == IOFILE_ONE)
			return vc_error_set(err, VC_EPROTO, "srun: --%s=%.64s: files are the guest's to open", options[i], value);
	}
	return 0;
}

static int srun_extra(const struct plan *plan, struct slurmopt_request *r, struct vec *out, struct vc_error *err)
{
	static const char *const lists[] = {"nodelist", "exclude"};
	const char *job = slurmopt_get(r, "jobid");
	if (job && !is_this_job(plan, job))
		return not_ours(plan, "srun", job, err);
	for (size_t i = 0; i < VC_ARRAY_LEN(lists); i++) {
		const char *list = slurmopt_get(r, lists[i]);
		if (list && add_nodelist(plan, lists[i], list, out, err) < 0)
			return -1;
	}
	if (check_streams(r, err) < 0)
		return -1;
	return vec_addf(out, err, "--jobid=%u", plan->key.job) < 0 || vec_addf(out, err, "--chdir=/") < 0 ||
			       vec_addf(out, err, "--export=ALL") < 0
		       ? -1
		       : 0;
}

// JOB or JOB.STEP
static int scancel_extra(const struct plan *plan, struct slurmopt_request *r, struct vec *out, struct vc_error *err)
{
	if (r->n_rest == 0)
		return vc_error_set(err, VC_EUSER, "scancel: name the job (%u) or one of its steps (%u.STEP)", plan->key.job,
				    plan->key.job);
	for (size_t i = 0; i < r->n_rest; i++) {
		const char *operand = r->rest[i], *dot = strchr(operand, '.');
		vc_autofree char *job = strndup(operand, dot ? (size_t)(dot - operand) : strlen(operand));
		uint64_t step;
		if (!job)
			return vc_error_errno(err, "scancel");
		if (!is_this_job(plan, job) || (dot && vc_parse_u64("step", dot + 1, 0, UINT32_MAX, &step, NULL) < 0))
			return not_ours(plan, "scancel", operand, err);
		if (vec_addf(out, err, "%u%s", plan->key.job, dot ? dot : "") < 0)
			return -1;
	}
	r->n_rest = 0;
	return 0;
}

static int squeue_extra(const struct plan *plan, struct slurmopt_request *r, struct vec *out, struct vc_error *err)
{
	static const char *const names[] = {"jobs", "job"};
	for (size_t i = 0; i < VC_ARRAY_LEN(names); i++) {
		const char *job = slurmopt_get(r, names[i]);
		if (job && *job && !is_this_job(plan, job))
			return not_ours(plan, "squeue", job, err);
	}
	for (size_t i = 0; i < r->n_rest; i++) {
		if (!is_this_job(plan, r->rest[i]))
			return not_ours(plan, "squeue", r->rest[i], err);
	}
	r->n_rest = 0;
	return vec_addf(out, err, "--jobs=%u", plan->key.job);
}

static int scontrol_extra(const struct plan *plan, struct slurmopt_request *r, struct vec *out, struct vc_error *err)
{
	if (r->n_rest < 2 || strcmp(r->rest[0], "show") != 0 || (strcmp(r->rest[1], "job") != 0 && strcmp(r->rest[1], "jobs") != 0))
		return vc_error_set(err, VC_EDENIED,
				    "scontrol: only 'show job' and 'show hostnames' are possible in a virtual cluster");
	if (r->n_rest > 3 || (r->n_rest == 3 && !is_this_job(plan, r->rest[2])))
		return not_ours(plan, "scontrol", r->rest[2], err);
	r->n_rest = 0;
	return vec_addf(out, err, "show") < 0 || vec_addf(out, err, "job") < 0 || vec_addf(out, err, "%u", plan->key.job) < 0 ? -1
															      : 0;
}

static int (*const extras[SLURMOPT_TOOLS])(const struct plan *, struct slurmopt_request *, struct vec *, struct vc_error *) = {
	[SLURMOPT_SRUN] = srun_extra,
	[SLURMOPT_SCANCEL] = scancel_extra,
	[SLURMOPT_SQUEUE] = squeue_extra,
	[SLURMOPT_SCONTROL] = scontrol_extra,
};

static int add_extra(const struct plan *plan, struct slurmopt_request *r, struct vec *out, struct vc_error *err)
{
	if (!slurmopt_get(r, "version"))
		return extras[r->tool](plan, r, out, err);
	r->n_rest = 0;
	return 0;
}

// --- environment -----------------------------------------------------------------------------------------------

static int fixed_env(const struct plan *plan, const struct slurmcmd_conf *conf, struct vec *env, struct vc_error *err)
{
	if (vec_addf(env, err, "PATH=%s", SLURMCMD_NO_PATH) < 0 || vec_addf(env, err, "HOME=%s", plan->owner.home) < 0 ||
	    vec_addf(env, err, "USER=%s", plan->owner.user) < 0 || vec_addf(env, err, "LOGNAME=%s", plan->owner.user) < 0 ||
	    vec_addf(env, err, VC_TASKREF_ONE_PROGRAM_ENV "=1") < 0 || vec_addf(env, err, "SLURM_JOB_ID=%u", plan->key.job) < 0 || vec_addf(env, err, "SLURM_JOBID=%u", plan->key.job) < 0)
		return -1;
	return conf->slurm_conf ? vec_addf(env, err, "SLURM_CONF=%s", conf->slurm_conf) : 0;
}

static bool is_input(const char *var, size_t name_len)
{
	for (size_t i = 0; i < VC_ARRAY_LEN(srun_inputs); i++) {
		if (strlen(srun_inputs[i]) == name_len && !memcmp(srun_inputs[i], var, name_len))
			return true;
	}
	return false;
}

static bool plain_value(const char *value)
{
	size_t len = strlen(value);
	for (size_t i = 0; i < len; i++) {
		if (!isprint((unsigned char)value[i]))
			return false;
	}
	return len <= VALUE_MAX;
}

// Which of the guest's variables the tasks get.
struct export {
	bool all;
	char **names; // "K" or "K=V"
};

static int export_parse(const char *text, struct export *ret, struct vc_error *err)
{
	vc_autostrv char **names = NULL;
	if (vc_parse_list("--export", text, ',', EXPORT_NAMES_MAX, &names, err) < 0)
		return vc_error_wrap(err, "srun");
	for (size_t i = 0; names[i]; i++) {
		if (!strcmp(names[i], "ALL"))
			ret->all = true;
		if (names[i][0] == '=' || strchr(names[i], '\n'))
			return vc_error_set(err, VC_EUSER, "srun: --export: '%.64s' is not a variable", names[i]);
	}
	ret->names = vc_steal(&names);
	return 0;
}

static bool export_has(const struct export *e, const char *var, size_t name_len)
{
	for (size_t i = 0; e->names && e->names[i]; i++) {
		const char *n = e->names[i];
		if (!strncmp(n, var, name_len) && n[name_len] == '\0')
			return true;
	}
	return false;
}

static bool export_overrides(const struct export *e, const char *var, size_t name_len)
{
	for (size_t i = 0; e->names && e->names[i]; i++) {
		if (!strncmp(e->names[i], var, name_len) && e->names[i][name_len] == '=')
			return true;
	}
	return false;
}

static int add_guest_var(const struct export *e, const char *var, struct vec *env, struct vc_error *err)
{
	size_t n = strcspn(var, "=");
	bool slurm = !strncmp(var, "SLURM_", 6);
	if (var[n] != '=' || n == 0 || !strncmp(var, "VCLUSTER_", 9))
		return 0; // the target sets its own
	if (slurm && is_input(var, n) && plain_value(var + n + 1))
		return vec_addf(env, err, "%s", var);
	if (!slurm && !e->all && !export_has(e, var, n))
		return 0;
	return export_overrides(e, var, n) ? 0 : vec_addf(env, err, TASKENV_PASS "%s", var);
}

static int guest_env(const struct export *e, char *const *vars, const char *cwd, struct vec *env, struct vc_error *err)
{
	for (size_t i = 0; vars && vars[i]; i++) {
		if (add_guest_var(e, vars[i], env, err) < 0)
			return -1;
	}
	for (size_t i = 0; e->names && e->names[i]; i++) {
		if (strchr(e->names[i], '=') && vec_addf(env, err, TASKENV_PASS "%s", e->names[i]) < 0)
			return -1;
	}
	return cwd ? vec_addf(env, err, TASKENV_CWD "=%s", cwd) : 0;
}

static const char *find_var(char *const *vars, const char *name)
{
	size_t n = strlen(name);
	for (; vars && *vars; vars++) {
		if (!strncmp(*vars, name, n) && (*vars)[n] == '=')
			return *vars + n + 1;
	}
	return NULL;
}

// For the tasks' own machines: nothing of it is opened or run here.
static int step_env(const struct slurmopt_request *r, char *const *vars, struct vec *env, struct vc_error *err)
{
	static const struct {
		const char *option, *name;
	} files[] = {{"input", TASKENV_STDIN}, {"output", TASKENV_STDOUT}, {"error", TASKENV_STDERR}};
	const char *text = find_var(vars, TASKENV_PROGRAMS), *mode = slurmopt_get(r, "open-mode");
	const char *arrow = mode && mode[0] == 'a' ? ">>" : ">";
	for (size_t i = 0; i < VC_ARRAY_LEN(files); i++) {
		const char *value = slurmopt_get(r, files[i].option);
		if (iofile_kind(value) != IOFILE_ALL && vec_addf(env, err, "%s=%s%s", files[i].name, i == 0 ? "<" : arrow, value) < 0)
			return -1;
	}
	if (!slurmopt_get(r, "multi-prog"))
		return 0;
	if (!text || strnlen(text, MULTIPROG_TEXT_MAX + 1) > MULTIPROG_TEXT_MAX)
		return vc_error_set(err, VC_EUSER, "srun: --multi-prog: the file has more than %d bytes", MULTIPROG_TEXT_MAX);
	return vec_addf(env, err, TASKENV_PROGRAMS "=%s", text);
}

static int build_env(const struct plan *plan, const struct slurmcmd_conf *conf, const struct slurmopt_request *r,
		     const struct vc_exec_start *start, struct vec *env, struct vc_error *err)
{
	struct export e = {.all = true};
	const char *text = slurmopt_get(r, "export");
	if (fixed_env(plan, conf, env, err) < 0)
		return -1;
	if (r->tool != SLURMOPT_SRUN)
		return 0;
	if (!text)
		text = find_var(start->env, "SLURM_EXPORT_ENV");
	if (text) {
		e.all = false;
		if (export_parse(text, &e, err) < 0)
			return -1;
	}
	int rc = guest_env(&e, start->env, start->cwd, env, err);
	vc_strv_free(e.names);
	return rc < 0 ? -1 : step_env(r, start->env, env, err);
}

// --- all together ----------------------------------------------------------------------------------------------

static void replace(struct vc_exec_start *start, char **argv, char **env, char *cwd)
{
	vc_strv_free(start->argv);
	vc_strv_free(start->env);
	free(start->cwd);
	free(start->rlimits);
	start->argv = argv;
	start->env = env;
	start->cwd = cwd;
	start->rlimits = NULL;
	start->rlimit_count = 0;
	start->umask &= 0777;
}

int slurmcmd_build(const struct plan *plan, const struct slurmcmd_conf *conf, enum slurmopt_tool tool,
		   struct vc_exec_start *start, struct vc_error *err)
{
	struct slurmopt_request r;
	autovec struct vec extra = {0}, env = {0};
	if (!start->argv || !start->argv[0] || strcmp(start->argv[0], slurmopt_tool_name(tool)) != 0)
		return vc_error_set(err, VC_EPROTO, "the session is for %s only", slurmopt_tool_name(tool));
	if (start->script || (start->pty && tool != SLURMOPT_SRUN))
		return vc_error_set(err, VC_EPROTO, "%s takes neither a script nor a terminal", slurmopt_tool_name(tool));
	if (slurmopt_parse(tool, start->argv, &r, err) < 0 || add_extra(plan, &r, &extra, err) < 0 ||
	    build_env(plan, conf, &r, start, &env, err) < 0)
		return -1;
	vc_autofree char *program = NULL, *cwd = strdup("/");
	if (asprintf(&program, "%s/%s", conf->bin_dir, slurmopt_tool_name(tool)) < 0) {
		program = NULL;
		return vc_error_errno(err, "%s", slurmopt_tool_name(tool));
	}
	char **argv = cwd ? slurmopt_rebuild(&r, program, 1u << SLURMOPT_PASS, extra.items, err) : NULL;
	if (!argv)
		return cwd ? -1 : vc_error_errno(err, "%s", slurmopt_tool_name(tool));
	replace(start, argv, vc_steal(&env.items), vc_steal(&cwd));
	return 0;
}
