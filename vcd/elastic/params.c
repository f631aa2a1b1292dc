// SPDX-License-Identifier: GPL-2.0-or-later
// The table of the policies' numbers: see params.h.
#include "vcd/elastic/params.h"

#include <stdio.h>
#include <string.h>

#include "libvc/parse.h"

#define TEXT_MAX 128	       // bytes of one key=value
#define DAY_MS (24 * 3600000L) // no wait of a policy is longer
#define FRACTION_DIGITS 3      // permille

#define PARAM(field, name, unit, standard, min, max, reason) \
	{name, offsetof(struct elastic_params, field), unit, standard, min, max, reason}

const struct elastic_param elastic_param_table[ELASTIC_PARAMS] = {
	PARAM(interval_ms, "interval", ELASTIC_MS, 10000, 1000, DAY_MS, "between decisions; a tenth of a machine's whole way in"),
	PARAM(rise_ms, "rise", ELASTIC_MS, 2000, 0, DAY_MS, "time constant of a load that rises: waiting work is felt at once"),
	PARAM(fall_ms, "fall", ELASTIC_MS, 60000, 0, DAY_MS, "time constant of a load that falls: gaps between jobs pass unseen"),
	PARAM(cool_down_ms, "cool-down", ELASTIC_MS, 120000, 0, DAY_MS, "a size turns at most twice within it; six boots"),
	PARAM(shrink_hold_ms, "shrink-hold", ELASTIC_MS, 60000, 0, DAY_MS, "under-load lasts this long before hosts are given back"),
	PARAM(shrink_band, "shrink-band", ELASTIC_PERMILLE, 100, 0, 1000, "of the size: less than this too much is kept"),
	PARAM(headroom, "headroom", ELASTIC_PERMILLE, 100, 0, 2000, "of the load, held above it: hides the time of a boot"),
	PARAM(scavenge, "scavenge", ELASTIC_PERMILLE, 500, 0, 1000, "of the idle pool, lent beyond the load while nobody queues"),
	PARAM(deadline_ms, "deadline", ELASTIC_MS, 300000, 0, DAY_MS, "a reclaimed host with work on it may be kept this long"),
	PARAM(high, "high", ELASTIC_PERMILLE, 900, 1, 2000, "of a host's CPUs: above it, the host is overloaded"),
	PARAM(low, "low", ELASTIC_PERMILLE, 300, 0, 1000, "of a host's CPUs: below it, the host is underloaded"),
	PARAM(pressure, "pressure", ELASTIC_PERMILLE, 250, 0, 4000, "of a host, that a host counts more whose processes wait all the time: what samples miss"),
	PARAM(mem_high, "mem-high", ELASTIC_PERMILLE, 900, 100, 1000, "of the members' memory: a cluster that fills more asks for hosts"),
	PARAM(dirty, "dirty", ELASTIC_COUNT, 100, 0, 1000000, "MiB a second: who dirties its memory faster is moved last; what one stream carries"),
	PARAM(mem_slack, "mem-slack", ELASTIC_PERMILLE, 50, 0, 900, "of a host's memory, left free for page caches and migration"),
	PARAM(squeeze, "squeeze", ELASTIC_PERMILLE, 2000, 0, 16000, "virtual processors per CPU of a host that takes reclaimed members: slower, not lost"),
	PARAM(min_gain, "min-gain", ELASTIC_PERMILLE, 50, 0, 1000, "of the yield: members are not moved for less"),
	PARAM(max_moves, "max-moves", ELASTIC_COUNT, 4, 0, 64, "migrations of one decision; each takes seconds of both hosts"),
};

struct elastic_params elastic_params_standard(void)
{
	struct elastic_params p;
	for (size_t i = 0; i < ELASTIC_PARAMS; i++)
		elastic_param_put(&p, &elastic_param_table[i], elastic_param_table[i].standard);
	return p;
}

int64_t elastic_param_get(const struct elastic_params *p, const struct elastic_param *param)
{
	int64_t value;
	memcpy(&value, (const char *)p + param->offset, sizeof(value));
	return value;
}

void elastic_param_put(struct elastic_params *p, const struct elastic_param *param, int64_t value)
{
	memcpy((char *)p + param->offset, &value, sizeof(value));
}

const struct elastic_param *elastic_param_find(const char *name)
{
	for (size_t i = 0; i < ELASTIC_PARAMS; i++) {
		if (strcmp(elastic_param_table[i].name, name) == 0)
			return &elastic_param_table[i];
	}
	return NULL;
}

// "0.25" is 250, "1.5" is 1500; without a point the number is permille already.
static int parse_permille(const char *name, const char *text, uint64_t *ret, struct vc_error *err)
{
	const char *point = strchr(text, '.');
	char whole[TEXT_MAX], digits[FRACTION_DIGITS + 1] = "000";
	uint64_t units = 0, rest = 0;
	if (!point)
		return vc_parse_u64(name, text, 0, UINT32_MAX, ret, err);
	size_t n = strlen(point + 1);
	if (n == 0 || n > FRACTION_DIGITS || point == text)
		return vc_error_set(err, VC_EUSER, "%s wants a fraction with one to three decimals, not '%s'", name, text);
	snprintf(whole, sizeof(whole), "%.*s", (int)(point - text), text);
	memcpy(digits, point + 1, n);
	if (vc_parse_u64(name, whole, 0, 1000, &units, err) < 0 || vc_parse_u64(name, digits, 0, 999, &rest, err) < 0)
		return -1;
	*ret = units * 1000 + rest;
	return 0;
}

static int unknown(const char *text, struct vc_error *err)
{
	char names[512] = "";
	size_t used = 0;
	for (size_t i = 0; i < ELASTIC_PARAMS && used < sizeof(names); i++)
		used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%s", i ? ", " : "", elastic_param_table[i].name);
	return vc_error_set(err, VC_EUSER, "'%s' is no setting of elastic policies; NAME=VALUE with one of: %s", text, names);
}

int elastic_param_set(struct elastic_params *p, const char *text, struct vc_error *err)
{
	char name[TEXT_MAX];
	const char *equals = strchr(text, '=');
	if (!equals || strlen(text) >= sizeof(name))
		return unknown(text, err);
	snprintf(name, sizeof(name), "%.*s", (int)(equals - text), text);
	const struct elastic_param *param = elastic_param_find(name);
	if (!param)
		return unknown(text, err);
	uint64_t value = 0;
	int rc = param->unit == ELASTIC_MS	   ? vc_parse_duration_ms(name, equals + 1, (uint64_t)param->max, &value, err)
		 : param->unit == ELASTIC_PERMILLE ? parse_permille(name, equals + 1, &value, err)
						   : vc_parse_u64(name, equals + 1, 0, UINT32_MAX, &value, err);
	if (rc < 0)
		return -1;
	if ((int64_t)value < param->min || (int64_t)value > param->max)
		return vc_error_set(err, VC_EUSER, "%s is outside %lld to %lld", text, (long long)param->min,
				    (long long)param->max);
	elastic_param_put(p, param, (int64_t)value);
	return 0;
}
