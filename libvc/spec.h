// SPDX-License-Identifier: GPL-2.0-or-later
// What a user asks for with --vcluster...: one struct, set option by option, carried as JSON or as one string.
//
// Owns its strings and lists. Everything that enters (option text, JSON, the carried string) is validated the same
// way and refused with VC_EUSER and the option's name; a failed call leaves the spec as it was. No I/O: whether the
// image exists or a mount is allowed is vcd's to say.
#ifndef LIBVC_SPEC_H
#define LIBVC_SPEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libvc/error.h"
#include "libvc/limits.h"

#define VC_SPEC_VERSION 1		  // of the JSON form
#define VC_SPEC_CPUS_MAX 1024		  // vCPUs of one member; more than libvirt gives a guest today
#define VC_SPEC_MEM_MAX_MIB (16ull << 20) // 16 TiB per member; keeps vms x memory far from overflow
#define VC_SPEC_WEIGHT_MAX 1000		  // of --vcluster-elastic
#define VC_SPEC_CONTROL_NAME "VCLUSTER_SPEC" // job control variable; hooks of Slurm see it as SPANK_VCLUSTER_SPEC

enum vc_spec_script {
	VC_SPEC_SCRIPT_GUEST, // the batch script runs on member 0
	VC_SPEC_SCRIPT_HOST,  // it runs on the first host, its sruns go to guests
};

enum vc_spec_preempt { // what the preemption of a leased host does to its cluster
	VC_SPEC_PREEMPT_SHRINK, // its members leave the view, the others go on
	VC_SPEC_PREEMPT_KILL,	// the job is cancelled: its program cannot lose a member
};

// --vcluster-elastic: who decides about the size, and this cluster's part in it.
struct vc_spec_elastic {
	char policy[VC_NAME_MAX + 1]; // "": nobody but `vcctl resize`
	uint32_t weight;	      // its share among clusters of one priority; 0: not said, 1
	uint32_t reserve;	      // hosts that it gets within a bounded time when its load asks for them
};

struct vc_spec_mount {
	char *src; // absolute path on the host
	char *dst; // absolute path in the guest
	bool ro;
};

struct vc_spec {
	char *image;   // NULL: no virtual cluster was asked for
	uint32_t vms;  // members per host, at least 1
	uint32_t cpus; // vCPUs per member; 0: the host's share divided among its members
	uint64_t mem_mib; // memory per member; 0: the same
	enum vc_spec_script script;
	uint32_t size_min, size_max; // hosts; 0: what Slurm allocated at first
	struct vc_spec_elastic elastic;
	enum vc_spec_preempt on_preempt;
	struct vc_spec_mount *mounts;
	size_t n_mounts;
	char **packages; // Debian packages beside the image's; NULL-terminated vectors, NULL when empty
	char **stage_in;
	char **stage_out;
};

// NAME or NAME=VERSION, as Debian writes them; also for recipes.
int vc_check_package(const char *what, const char *package, struct vc_error *err);

struct vc_spec *vc_spec_create(void); // the defaults; NULL without memory
void vc_spec_destroy(struct vc_spec *spec);
bool vc_spec_equal(const struct vc_spec *a, const struct vc_spec *b);

// The options as users write them, in the order of --help.
enum vc_spec_opt {
	VC_SPEC_OPT_IMAGE,
	VC_SPEC_OPT_VMS,
	VC_SPEC_OPT_CPUS,
	VC_SPEC_OPT_MEM,
	VC_SPEC_OPT_SCRIPT,
	VC_SPEC_OPT_MOUNT,
	VC_SPEC_OPT_STAGE_IN,
	VC_SPEC_OPT_STAGE_OUT,
	VC_SPEC_OPT_PACKAGES,
	VC_SPEC_OPT_SIZE,
	VC_SPEC_OPT_ELASTIC,
	VC_SPEC_OPT_ON_PREEMPT,
	VC_SPEC_OPTS
};

struct vc_spec_option {
	const char *name;    // "vcluster-vms", without the dashes
	const char *env;     // "VCLUSTER_OPT_VMS": its default from the environment
	const char *arginfo; // "K"
	const char *usage;   // one line for --help
	bool list;	     // repeating the option adds to it
};

// The policies that --vcluster-elastic may name: those of vcd/elastic that decide about sizes. NULL ends it.
extern const char *const vc_spec_policies[];

extern const struct vc_spec_option vc_spec_options[VC_SPEC_OPTS];

// Sets one option. A list option adds its entries; an entry that is there already changes nothing, so that a value
// handed over twice (Slurm does that) is harmless.
int vc_spec_set(struct vc_spec *spec, enum vc_spec_opt opt, const char *value, struct vc_error *err);
// The value of --vcluster-elastic alone: POLICY[,key=value...].
int vc_spec_parse_elastic(const char *what, const char *value, struct vc_spec_elastic *ret, struct vc_error *err);
// The same by name ("vcluster-vms"); an unknown name is VC_EUSER.
int vc_spec_set_by_name(struct vc_spec *spec, const char *name, const char *value, struct vc_error *err);

// Makes the names of staged files absolute, as seen from dir, without "." and "..": what the client does with its own
// directory before the spec leaves it.
int vc_spec_resolve_files(struct vc_spec *spec, const char *dir, struct vc_error *err);

// What a job asks Slurm for, as far as it is known before there is an allocation. 0: not known, or not limited.
struct vc_spec_request {
	uint32_t cpus_per_host_max; // no host can give this job more CPUs
	uint64_t mem_mib_per_host;  // --mem
};

// Refuses (VC_EUSER, with the numbers) what cannot fit whatever hosts Slurm chooses; also options without --vcluster.
int vc_spec_check(const struct vc_spec *spec, const struct vc_spec_request *request, struct vc_error *err);

struct json_object;
// A new object; NULL without memory.
struct json_object *vc_spec_to_json(const struct vc_spec *spec);
// Validates everything; an unknown key is an error: it is an option that this version would silently ignore.
struct vc_spec *vc_spec_from_json(struct json_object *obj, struct vc_error *err);

// Compact JSON of at most VC_SPEC_MAX bytes, for one environment variable. The caller frees it.
char *vc_spec_to_text(const struct vc_spec *spec, struct vc_error *err);
struct vc_spec *vc_spec_from_text(const char *text, struct vc_error *err);

static inline void vc_spec_cleanup(struct vc_spec **spec)
{
	vc_spec_destroy(*spec);
}
#define vc_autospec __attribute__((cleanup(vc_spec_cleanup)))

#endif
