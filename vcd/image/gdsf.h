// SPDX-License-Identifier: GPL-2.0-or-later
// What a cache keeps: Greedy-Dual-Size-Frequency with ageing, for admission as well as for eviction.
//
// Pure: no clock, no files; the caller says what was used and removes what this names. An item's rank is the age at
// its last use + uses x seconds / bytes: seconds that it would cost to have it again, bytes that its removal frees.
// Whatever leaves with the lowest rank raises the age to that rank, so that what is no longer used sinks. Uses are
// halved from time to time; they are also remembered for a bounded number of items that are not in the cache.
// A newcomer takes part like everybody else: if it has the lowest rank, it is not admitted.
#ifndef VCD_IMAGE_GDSF_H
#define VCD_IMAGE_GDSF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libvc/error.h"
#include "vcd/image/digest.h"

#define GDSF_REMEMBERED 1024 // items that are not in the cache, whose uses are remembered: 100 KiB
#define GDSF_HALVE_USES 16   // uses are halved when there were this many per known item since the last time

struct gdsf_item {
	char key[DIGEST_HEX_LEN];
	double seconds;	 // measured, to have it again
	uint64_t bytes;	 // that its removal frees
	double uses;	 // aged
	double rank;
	uint64_t last;	 // number of its last use, for the order of what is remembered
	unsigned holds;	 // in use or pinned: stays
	bool cached;
};

struct gdsf;
struct gdsf *gdsf_create(uint64_t capacity); // bytes; NULL without memory
void gdsf_destroy(struct gdsf *g);

// Counts a use, of an item in the cache or not. True: it is in the cache.
bool gdsf_use(struct gdsf *g, const char *key);
// Takes an item in, or gives one that is there new figures. *ret_victims (free() it) names what has to go for it; it
// is out of the table already. False: it is not worth what would have to go, or there is no room that is not held.
bool gdsf_admit(struct gdsf *g, const char *key, double seconds, uint64_t bytes, char (**ret_victims)[DIGEST_HEX_LEN],
		size_t *ret_n);
// Puts an item in as it was, without a look at the capacity: at start.
int gdsf_restore(struct gdsf *g, const char *key, double seconds, uint64_t bytes, double uses, struct vc_error *err);
// Names what has to go until the cache holds at most `bytes`; as for gdsf_admit().
void gdsf_shrink(struct gdsf *g, uint64_t bytes, char (**ret_victims)[DIGEST_HEX_LEN], size_t *ret_n);
void gdsf_remove(struct gdsf *g, const char *key); // by somebody's wish; its uses are forgotten
void gdsf_hold(struct gdsf *g, const char *key);   // counted
void gdsf_release(struct gdsf *g, const char *key);

const struct gdsf_item *gdsf_find(const struct gdsf *g, const char *key); // in the cache; NULL: not
uint64_t gdsf_bytes(const struct gdsf *g);

#endif
