// SPDX-License-Identifier: GPL-2.0-or-later
// Checks of what a site has to set up in Slurm: slurm.conf, plugstack.conf, the plugins' versions; and whom to ask.
//
// Owns a libslurm context. Where slurmctld does not answer, that is the finding.
#ifndef VCD_SLURMCHECK_H
#define VCD_SLURMCHECK_H

#include <stdbool.h>
#include <stdint.h>

#include "libvc/error.h"

struct vcd;
struct slurmcheck;
struct slurmctl_setup;

struct slurmcheck *slurmcheck_create(struct vcd *vcd, struct vc_error *err); // registers
// The names of Slurm's nodes, NULL-terminated (vc_strv_free); blocks: for workers.
int slurmcheck_nodes(const struct slurmcheck *sc, char ***ret, struct vc_error *err);
struct slurmctl_queue;
int slurmcheck_queue(const struct slurmcheck *sc, struct slurmctl_queue *queue, struct vc_error *err); // as slurmctl_load_queue
void slurmcheck_destroy(struct slurmcheck *sc);				     // after the loop has run dry; NULL is fine

// The finding about slurm.conf number `i`, from 0; NULL past the last. *ret_is_error: else a remark. Pure.
const char *slurmcheck_conf(const struct slurmctl_setup *setup, unsigned i, bool *ret_is_error);
// Whether plugstack.conf or a file that it includes has the plugin; its path or name in *ret (free), NULL without.
int slurmcheck_find_plugin(const char *plugstack, char **ret, struct vc_error *err);
// The variable plugin_version of a plugin's file, without loading it.
int slurmcheck_plugin_version(const char *path, uint32_t *ret, struct vc_error *err);
// "22.05.8" -> 0x160508; 0 for what is none.
uint32_t slurmcheck_version(const char *text);

#endif
