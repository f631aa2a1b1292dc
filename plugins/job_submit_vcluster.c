// SPDX-License-Identifier: GPL-2.0-or-later
// job_submit_vcluster.so: the --vcluster options validated once more inside slurmctld, where the user cannot interfere.
//
// Optional for a site. Runs under slurmctld's locks: job_submit and job_modify do no I/O and take no time. The one file
// that it reads, slurm.conf, is read when slurmctld loads the plugin. Strings handed over come from Slurm's allocator.
// Jobs without a spec are left alone. Owns one flag; fails by refusing the job with a message that sbatch prints.
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include <slurm/slurm.h>
#include <slurm/slurm_errno.h>

#include "libvc/cleanup.h"
#include "libvc/spec.h"
#include "plugins/request.h"

#define SLURM_CONF_MAX (4u << 20) // bytes read of slurm.conf; a longer one counts as unknown

// What Slurm's plugin loader looks up; its own header for job_submit plugins is not installed.
extern const char plugin_name[], plugin_type[];
extern const uint32_t plugin_version;
const char plugin_name[] = "Virtual clusters";
const char plugin_type[] = "job_submit/vcluster";
const uint32_t plugin_version = SLURM_VERSION_NUMBER;

// Exported by Slurm, declared in no public header.
extern char *slurm_xstrdup(const char *s);
extern void slurm_info(const char *format, ...) __attribute__((format(printf, 1, 2)));

int init(void);
int fini(void);
int job_submit(job_desc_msg_t *job, uint32_t submit_uid, char **err_msg);
struct job_record;
int job_modify(job_desc_msg_t *job, struct job_record *record, uint32_t submit_uid, char **err_msg);

static bool whole_hosts;

static char *read_slurm_conf(void)
{
	const char *path = getenv("SLURM_CONF");
	vc_autofclose FILE *f = fopen(path ? path : "/etc/slurm/slurm.conf", "re");
	vc_autofree char *text = f ? calloc(1, SLURM_CONF_MAX + 1) : NULL;
	if (!text || fread(text, 1, SLURM_CONF_MAX + 1, f) > SLURM_CONF_MAX)
		return NULL;
	return vc_steal(&text);
}

int init(void)
{
	vc_autofree char *text = read_slurm_conf();
	whole_hosts = !text || request_site_gives_whole_hosts(text);
	if (whole_hosts)
		slurm_info("vcluster: jobs may get whole hosts here: --vcluster-cpus is checked when a job starts, not at submission");
	return SLURM_SUCCESS;
}

int fini(void)
{
	return SLURM_SUCCESS;
}

// "VCLUSTER_SPEC=..." of the job's control environment, or NULL.
static const char *find_spec(const job_desc_msg_t *job)
{
	static const char name[] = VC_SPEC_CONTROL_NAME "=";
	for (uint32_t i = 0; job->spank_job_env && i < job->spank_job_env_size; i++) {
		if (job->spank_job_env[i] && strncmp(job->spank_job_env[i], name, sizeof(name) - 1) == 0)
			return job->spank_job_env[i] + sizeof(name) - 1;
	}
	return NULL;
}

static int refuse(char **err_msg, const struct vc_error *err)
{
	char text[VC_ERROR_TEXT_MAX + 16];
	snprintf(text, sizeof(text), "vcluster: %s", err->text);
	if (err_msg)
		*err_msg = slurm_xstrdup(text);
	return ESLURM_NOT_SUPPORTED;
}

static int check_job(const job_desc_msg_t *job, const char *text, struct vc_error *err)
{
	struct vc_spec_request request;
	vc_autospec struct vc_spec *spec = vc_spec_from_text(text, err);
	if (!spec)
		return -1;
	if (job->het_job_offset != NO_VAL)
		return vc_error_set(err, VC_EUSER,
				    "a heterogeneous job cannot be a virtual cluster: submit its parts as jobs of their own");
	if (job->container && *job->container)
		return vc_error_set(err, VC_EUSER, "--container cannot be used in a virtual cluster");
	request_from_job(job, whole_hosts, &request);
	return vc_spec_check(spec, &request, err);
}

int job_submit(job_desc_msg_t *job, uint32_t submit_uid, char **err_msg)
{
	(void)submit_uid;
	struct vc_error err = VC_ERROR_INIT;
	const char *text = find_spec(job);
	if (!text || check_job(job, text, &err) == 0)
		return SLURM_SUCCESS;
	return refuse(err_msg, &err);
}

int job_modify(job_desc_msg_t *job, struct job_record *record, uint32_t submit_uid, char **err_msg)
{
	(void)record;
	(void)submit_uid;
	struct vc_error err = VC_ERROR_INIT;
	if (!find_spec(job))
		return SLURM_SUCCESS;
	vc_error_set(&err, VC_EUSER, "the --vcluster options of a job cannot be changed: cancel it and submit it again");
	return refuse(err_msg, &err);
}
