// SPDX-License-Identifier: GPL-2.0-or-later
// Loads made steady: an exponentially weighted mean, bands that have to last, and a gate that bounds how often a size
// turns. Integers only, no clock: what was recorded replays identically.
#ifndef VCD_ELASTIC_SMOOTH_H
#define VCD_ELASTIC_SMOOTH_H

#include <stdbool.h>
#include <stdint.h>

// Values are in thousandths of the caller's unit (0.. 10^12). `at_ms` below 0: no sample yet.
struct smooth {
	int64_t value, at_ms;
};
#define SMOOTH_INIT ((struct smooth){0, -1})

// Takes a sample: one that is above the mean counts with time constant `rise_ms`, one below it with `fall_ms` (0: at once).
// The first sample is the mean. A clock that stands still or goes back changes nothing but the time.
void smooth_add(struct smooth *s, int64_t sample, int64_t now_ms, int64_t rise_ms, int64_t fall_ms);

// Since when something holds; -1: it does not.
void smooth_since(int64_t *since_ms, bool holds, int64_t now_ms);
bool smooth_lasted(int64_t since_ms, int64_t hold_ms, int64_t now_ms);

// The gate of one size. A reversal is a change in the other direction than the one before. Within any cool-down there are
// at most GATE_REVERSALS of them, as long as forced changes come only after growth that gate_allows() let pass:
//   GATE_GROW     beyond what the cluster is sure of: leaves room for a forced reversal
//   GATE_RESTORE  growth up to what it is sure of: nobody can force it back
//   GATE_SHRINK   by its own will: a whole cool-down after the last change
//   GATE_FORCED   others have a better right: always
#define GATE_REVERSALS 2
enum gate_change { GATE_GROW, GATE_RESTORE, GATE_SHRINK, GATE_FORCED };
struct gate {
	int direction;			      // of the last change: 1, -1; 0: none yet
	int64_t changed_ms;		      // when
	int64_t reversed_ms[GATE_REVERSALS]; // the last reversals, newest first; -1: none
};
#define GATE_INIT ((struct gate){0, -1, {-1, -1}})

bool gate_allows(const struct gate *g, enum gate_change change, int64_t cool_down_ms, int64_t now_ms);
void gate_note(struct gate *g, enum gate_change change, int64_t now_ms);

#endif
