// SPDX-License-Identifier: GPL-2.0-or-later
// What a job's description says about the CPUs and memory it can get on one host. Pure, for job_submit.
#ifndef PLUGINS_REQUEST_H
#define PLUGINS_REQUEST_H

#include <stdbool.h>
#include <stddef.h>

#include <slurm/slurm.h>

#include "libvc/spec.h"

#define REQUEST_THREADS 2 // threads per core of the machines this is for: Slurm hands out whole cores

// whole_hosts: this site may give jobs whole hosts that they did not ask for, so CPUs are not limited by the request.
void request_from_job(const job_desc_msg_t *job, bool whole_hosts, struct vc_spec_request *ret);

// Whether a slurm.conf with this text may do so: select/linear, exclusive partitions, or parts in other files.
bool request_site_gives_whole_hosts(const char *slurm_conf);

#endif
