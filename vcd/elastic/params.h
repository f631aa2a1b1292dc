// SPDX-License-Identifier: GPL-2.0-or-later
// Every number that elastic policies use, in one table with its default, bounds, unit and reason.
//
// All are integers: what was recorded replays identically on any machine. `key=value` of --vcluster-elastic and
// vcd.conf sets them by the table's names.
#ifndef VCD_ELASTIC_PARAMS_H
#define VCD_ELASTIC_PARAMS_H

#include <stddef.h>
#include <stdint.h>

#include "libvc/error.h"

struct elastic_params {
	int64_t interval_ms;
	int64_t rise_ms;
	int64_t fall_ms;
	int64_t cool_down_ms;
	int64_t shrink_hold_ms;
	int64_t shrink_band;
	int64_t headroom;
	int64_t scavenge;
	int64_t deadline_ms;
	int64_t high;
	int64_t low;
	int64_t pressure;
	int64_t mem_high;
	int64_t dirty;
	int64_t mem_slack;
	int64_t squeeze;
	int64_t min_gain;
	int64_t max_moves;
};

enum elastic_unit { ELASTIC_MS, ELASTIC_PERMILLE, ELASTIC_COUNT };

struct elastic_param {
	const char *name;
	size_t offset; // in struct elastic_params
	enum elastic_unit unit;
	int64_t standard, min, max;
	const char *reason;
};

#define ELASTIC_PARAMS 18
extern const struct elastic_param elastic_param_table[ELASTIC_PARAMS];

struct elastic_params elastic_params_standard(void);
int64_t elastic_param_get(const struct elastic_params *p, const struct elastic_param *param);
void elastic_param_put(struct elastic_params *p, const struct elastic_param *param, int64_t value);
const struct elastic_param *elastic_param_find(const char *name); // NULL: none
// One `key=value`; times as "30s", shares as permille or as a fraction ("0.25"). VC_EUSER lists the names.
int elastic_param_set(struct elastic_params *p, const char *text, struct vc_error *err);

#endif
