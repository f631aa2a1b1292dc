// SPDX-License-Identifier: GPL-2.0-or-later
// What the policies share; nobody else includes this.
#ifndef VCD_ELASTIC_POLICY_H
#define VCD_ELASTIC_POLICY_H

#include "vcd/elastic/elastic.h"

// Appends; the reason is formatted. -1 without memory.
struct elastic_action *policy_add(struct elastic_decision *d, enum elastic_verb verb, struct vc_error *err);
int policy_size(struct elastic_decision *d, enum elastic_verb verb, uint32_t cluster, int64_t n, int64_t deadline_ms,
		struct vc_error *err, const char *fmt, ...) __attribute__((format(printf, 7, 8)));
int policy_migrate(struct elastic_decision *d, const struct elastic_input *in, uint32_t member, uint32_t to,
		   struct vc_error *err, const char *fmt, ...) __attribute__((format(printf, 6, 7)));

static inline int64_t policy_min(int64_t a, int64_t b)
{
	return a < b ? a : b;
}
static inline int64_t policy_max(int64_t a, int64_t b)
{
	return a > b ? a : b;
}
// Moved after others: a live srun task holds it to its host, or its memory changes faster than it is copied.
static inline bool policy_reluctant(const struct elastic_input *in, const struct elastic_member *m)
{
	return m->anchor || m->dirty_mib > in->params.dirty;
}
// splitmix64: the next number of a seed's sequence.
uint64_t policy_random(uint64_t *seed);

// Hosts as members fill them; members move in it before they are told to.
struct layout {
	const struct elastic_input *in;
	uint32_t *at;	       // member -> host
	int64_t *cpu, *mem;    // host -> used by members
	size_t *count;	       // host -> members
};
int layout_init(struct layout *l, const struct elastic_input *in, struct vc_error *err);
void layout_clear(struct layout *l);
void layout_move(struct layout *l, uint32_t member, uint32_t to);
int64_t layout_mem_limit(const struct elastic_input *in, uint32_t host); // what mem-slack leaves
// Memory fits within the slack, and CPU needs stay within `limit` permille.
bool layout_fits(const struct layout *l, uint32_t member, uint32_t host, int64_t limit);
int64_t layout_load(const struct layout *l, uint32_t host); // permille of its CPUs
// Migrations for each member that is not where the input has it.
int layout_tell(const struct layout *l, struct elastic_decision *d, const char *reason, struct vc_error *err);
#define layout_auto __attribute__((cleanup(layout_clear)))

int policy_static(const struct elastic_input *in, int64_t now_ms, uint64_t seed, struct elastic_decision *ret,
		  struct vc_error *err);
int policy_cod(const struct elastic_input *in, int64_t now_ms, uint64_t seed, struct elastic_decision *ret,
	       struct vc_error *err);
int policy_balance(const struct elastic_input *in, int64_t now_ms, uint64_t seed, struct elastic_decision *ret,
		   struct vc_error *err);
int policy_pack(const struct elastic_input *in, int64_t now_ms, uint64_t seed, struct elastic_decision *ret,
		struct vc_error *err);
int policy_yield(const struct elastic_input *in, int64_t now_ms, uint64_t seed, struct elastic_decision *ret,
		 struct vc_error *err);

#endif
