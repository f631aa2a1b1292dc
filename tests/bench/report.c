// SPDX-License-Identifier: GPL-2.0-or-later
// Rows and bars to JSON: see report.h. Owns what it parsed; strings live in the lines that were read.
#include "tests/bench/report.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "libvc/parse.h"
#include "tests/bench/sample.h"

#define ROW_FIELDS 4u
#define BAR_FIELDS 10u
#define ROWS_MAX 1000000u // bounds memory, a benchmark has thousands
#define BARS_MAX 256u

struct row {
	char *line, *series, *unit;
	uint64_t pair;
	double value;
};

struct bar {
	char *line, *name, *series, *baseline, *unit, *note;
	enum bar_kind { BAR_RATIO, BAR_DIFFERENCE, BAR_VALUE } kind;
	struct bar_rule rule;
};

struct report {
	struct row *rows;
	size_t n_rows;
	struct bar *bars;
	size_t n_bars;
};

static void report_clear(struct report *r)
{
	for (size_t i = 0; i < r->n_rows; i++)
		free(r->rows[i].line);
	for (size_t i = 0; i < r->n_bars; i++)
		free(r->bars[i].line);
	free(r->rows);
	free(r->bars);
}

// ---- parsing ----

static int parse_number(const char *what, const char *s, double *ret, struct vc_error *err)
{
	char *end;
	errno = 0;
	double v = strtod(s, &end);
	if (end == s || *end || errno || !isfinite(v))
		return vc_error_set(err, VC_EPROTO, "%s: '%s' is not a number", what, s);
	*ret = v;
	return 0;
}

static int parse_optional(const char *what, const char *s, double *ret, struct vc_error *err)
{
	return strcmp(s, "-") == 0 ? 0 : parse_number(what, s, ret, err);
}

// Cuts the line into exactly n fields.
static int split(char *line, char **fields, size_t n, struct vc_error *err)
{
	line[strcspn(line, "\n")] = '\0';
	for (size_t i = 0; i < n; i++) {
		fields[i] = line;
		line += strcspn(line, "\t");
		if (*line == '\0' && i + 1 < n)
			return vc_error_set(err, VC_EPROTO, "%zu fields, want %zu separated by tabs", i + 1, n);
		if (i + 1 < n)
			*line++ = '\0';
	}
	return *line ? vc_error_set(err, VC_EPROTO, "more than %zu fields", n) : 0;
}

static int parse_row(char *line, struct row *ret, struct vc_error *err)
{
	char *f[ROW_FIELDS];
	struct row row = {.line = line};
	if (split(line, f, ROW_FIELDS, err) < 0 || vc_parse_u64("pair", f[1], 0, UINT32_MAX, &row.pair, err) < 0 ||
	    parse_number("value", f[2], &row.value, err) < 0)
		return -1;
	row.series = f[0];
	row.unit = f[3];
	*ret = row;
	return 0;
}

static int parse_kind(const char *s, enum bar_kind *ret, struct vc_error *err)
{
	static const char *const names[] = {"ratio", "difference", "value"};
	for (size_t i = 0; i < VC_ARRAY_LEN(names); i++) {
		if (strcmp(s, names[i]) == 0) {
			*ret = (enum bar_kind)i;
			return 0;
		}
	}
	return vc_error_set(err, VC_EPROTO, "kind '%s': want ratio, difference or value", s);
}

static int parse_rule(struct bar *bar, char **f, struct vc_error *err)
{
	struct bar_rule *rule = &bar->rule;
	double pairs = SAMPLE_PAIRS_MIN;
	if (strcmp(f[5], "higher") != 0 && strcmp(f[5], "lower") != 0)
		return vc_error_set(err, VC_EPROTO, "'%s': want higher or lower", f[5]);
	rule->higher_is_better = f[5][0] == 'h';
	rule->has_limit = strcmp(f[6], "-") != 0;
	if (parse_optional("limit", f[6], &rule->limit, err) < 0)
		return -1;
	if (bar->kind != BAR_VALUE)
		rule->width_max = bar->kind == BAR_RATIO ? SAMPLE_RATIO_WIDTH : fabs(rule->limit);
	if (parse_optional("width", f[7], &rule->width_max, err) < 0 || parse_optional("pairs", f[8], &pairs, err) < 0)
		return -1;
	rule->pairs_min = pairs > 0 ? (size_t)pairs : 0;
	return 0;
}

static int parse_bar(char *line, struct bar *ret, struct vc_error *err)
{
	char *f[BAR_FIELDS];
	struct bar bar = {.line = line};
	if (split(line, f, BAR_FIELDS, err) < 0 || parse_kind(f[1], &bar.kind, err) < 0 || parse_rule(&bar, f, err) < 0)
		return -1;
	bar.name = f[0];
	bar.series = f[2];
	bar.baseline = f[3];
	bar.unit = f[4];
	bar.note = f[9];
	*ret = bar;
	return 0;
}

// Room for one more item of an array that grows by doubling.
static int grow(void **items, size_t n, size_t size, size_t max, struct vc_error *err)
{
	if (n >= max)
		return vc_error_set(err, VC_EPROTO, "more than %zu lines", max);
	if (n & (n - 1))
		return 0;
	void *p = realloc(*items, (n ? n * 2 : 1) * size);
	if (!p)
		return vc_error_errno(err, "memory for %zu lines", n * 2);
	*items = p;
	return 0;
}

static int read_rows(FILE *in, struct report *r, struct vc_error *err)
{
	char *line = NULL;
	size_t size = 0;
	while (getline(&line, &size, in) > 0) {
		if (grow((void **)&r->rows, r->n_rows, sizeof(*r->rows), ROWS_MAX, err) < 0 ||
		    parse_row(line, &r->rows[r->n_rows], err) < 0) {
			free(line);
			return vc_error_wrap(err, "rows, line %zu", r->n_rows + 1);
		}
		r->n_rows++;
		line = NULL;
		size = 0;
	}
	free(line);
	return ferror(in) ? vc_error_errno(err, "rows") : 0;
}

static int read_bars(FILE *in, struct report *r, struct vc_error *err)
{
	char *line = NULL;
	size_t size = 0;
	while (getline(&line, &size, in) > 0) {
		if (grow((void **)&r->bars, r->n_bars, sizeof(*r->bars), BARS_MAX, err) < 0 ||
		    parse_bar(line, &r->bars[r->n_bars], err) < 0) {
			free(line);
			return vc_error_wrap(err, "bars, line %zu", r->n_bars + 1);
		}
		r->n_bars++;
		line = NULL;
		size = 0;
	}
	free(line);
	return ferror(in) ? vc_error_errno(err, "bars") : 0;
}

// ---- figures ----

static const struct row *find_row(const struct report *r, const char *series, uint64_t pair)
{
	for (size_t i = 0; i < r->n_rows; i++) {
		if (r->rows[i].pair == pair && strcmp(r->rows[i].series, series) == 0)
			return &r->rows[i];
	}
	return NULL;
}

struct figures {
	double *values, *base; // one per pair that is complete
	size_t n;
};

static int combine(const struct bar *bar, double value, double base, double *ret, struct vc_error *err)
{
	if (bar->kind == BAR_RATIO && base == 0)
		return vc_error_set(err, VC_EPROTO, "a row of %s is 0: no ratio", bar->baseline);
	*ret = bar->kind == BAR_RATIO ? value / base : bar->kind == BAR_DIFFERENCE ? value - base : value;
	return 0;
}

static int collect(const struct report *r, const struct bar *bar, struct figures *fig, struct vc_error *err)
{
	fig->values = calloc(r->n_rows + 1, sizeof(double));
	fig->base = calloc(r->n_rows + 1, sizeof(double));
	if (!fig->values || !fig->base)
		return vc_error_errno(err, "bar %s", bar->name);
	for (size_t i = 0; i < r->n_rows; i++) {
		const struct row *row = &r->rows[i], *base = NULL;
		if (strcmp(row->series, bar->series) != 0)
			continue;
		if (bar->kind != BAR_VALUE && !(base = find_row(r, bar->baseline, row->pair)))
			continue;
		fig->base[fig->n] = base ? base->value : 0;
		if (combine(bar, row->value, fig->base[fig->n], &fig->values[fig->n], err) < 0)
			return -1;
		fig->n++;
	}
	return fig->n ? 0 : vc_error_set(err, VC_EPROTO, "bar %s: no measurement", bar->name);
}

// With the digits that a measurement has: json-c alone would print seventeen.
static struct json_object *number_json(double v)
{
	char text[32];
	snprintf(text, sizeof(text), "%.7g", v);
	return json_object_new_double_s(v, text);
}

static void add_number(struct json_object *obj, const char *key, double v)
{
	vc_json_add(obj, key, number_json(v));
}

static struct json_object *interval_json(struct sample_interval ci)
{
	struct json_object *array = json_object_new_array();
	json_object_array_add(array, number_json(ci.lo));
	json_object_array_add(array, number_json(ci.hi));
	return array;
}

static double mean(const double *v, size_t n)
{
	double sum = 0;
	for (size_t i = 0; i < n; i++)
		sum += v[i];
	return sum / (double)n;
}

static struct json_object *bar_object(const struct bar *bar, const struct figures *fig, double value, double base,
				      struct sample_interval ci)
{
	struct json_object *obj = json_object_new_object();
	vc_json_add_str(obj, "name", bar->name);
	add_number(obj, "value", value);
	vc_json_add(obj, "ci95", interval_json(ci));
	vc_json_add_str(obj, "unit", bar->unit);
	vc_json_add(obj, "baseline", bar->kind == BAR_VALUE ? NULL : number_json(base));
	vc_json_add(obj, "limit", bar->rule.has_limit ? number_json(bar->rule.limit) : NULL);
	vc_json_add_str(obj, "better", bar->rule.higher_is_better ? "higher" : "lower");
	vc_json_add_str(obj, "verdict", verdict_name(bar_judge(&bar->rule, value, ci, fig->n)));
	vc_json_add_u64(obj, "pairs", fig->n);
	add_number(obj, "mean", mean(fig->values, fig->n));
	vc_json_add_str(obj, "note", bar->note[0] && strcmp(bar->note, "-") != 0 ? bar->note : NULL);
	return obj;
}

static int bar_json(const struct report *r, const struct bar *bar, struct json_object **ret, struct vc_error *err)
{
	struct figures fig = {0};
	double value = 0, base = 0;
	struct sample_interval ci;
	int rc = collect(r, bar, &fig, err);
	if (!rc && (sample_median(fig.values, fig.n, &value) < 0 || sample_median(fig.base, fig.n, &base) < 0 ||
		    sample_bootstrap(fig.values, fig.n, SAMPLE_SEED, SAMPLE_ROUNDS, &ci) < 0))
		rc = vc_error_errno(err, "bar %s", bar->name);
	if (!rc)
		*ret = bar_object(bar, &fig, value, base, ci);
	free(fig.values);
	free(fig.base);
	return rc;
}

static int add_bars(const struct report *r, struct json_object *obj, struct vc_error *err)
{
	struct json_object *judged = json_object_new_array(), *stated = json_object_new_array();
	vc_json_add(obj, "bars", judged);
	vc_json_add(obj, "stated", stated);
	for (size_t i = 0; i < r->n_bars; i++) {
		struct json_object *bar = NULL;
		if (bar_json(r, &r->bars[i], &bar, err) < 0)
			return -1;
		json_object_array_add(r->bars[i].rule.has_limit ? judged : stated, bar);
	}
	return 0;
}

// The absolute numbers of each series, in the order of their first row.
static int series_json(const struct report *r, size_t first, struct json_object **ret, struct vc_error *err)
{
	struct bar as_bar = {.name = r->rows[first].series, .series = r->rows[first].series, .kind = BAR_VALUE};
	struct figures fig = {0};
	double value = 0;
	struct sample_interval ci;
	int rc = collect(r, &as_bar, &fig, err);
	if (!rc && (sample_median(fig.values, fig.n, &value) < 0 ||
		    sample_bootstrap(fig.values, fig.n, SAMPLE_SEED, SAMPLE_ROUNDS, &ci) < 0))
		rc = vc_error_errno(err, "series %s", as_bar.series);
	if (!rc) {
		*ret = json_object_new_object();
		vc_json_add_str(*ret, "name", as_bar.series);
		add_number(*ret, "median", value);
		vc_json_add(*ret, "ci95", interval_json(ci));
		add_number(*ret, "mean", mean(fig.values, fig.n));
		vc_json_add_str(*ret, "unit", r->rows[first].unit);
		vc_json_add_u64(*ret, "n", fig.n);
	}
	free(fig.values);
	free(fig.base);
	return rc;
}

static bool seen_before(const struct report *r, size_t i)
{
	for (size_t k = 0; k < i; k++) {
		if (strcmp(r->rows[k].series, r->rows[i].series) == 0)
			return true;
	}
	return false;
}

static int add_series(const struct report *r, struct json_object *obj, struct vc_error *err)
{
	struct json_object *array = json_object_new_array(), *one = NULL;
	vc_json_add(obj, "series", array);
	for (size_t i = 0; i < r->n_rows; i++) {
		if (seen_before(r, i))
			continue;
		if (series_json(r, i, &one, err) < 0)
			return -1;
		json_object_array_add(array, one);
	}
	return 0;
}

static void add_rows(const struct report *r, struct json_object *obj)
{
	struct json_object *array = json_object_new_array();
	vc_json_add(obj, "rows", array);
	for (size_t i = 0; i < r->n_rows; i++) {
		struct json_object *row = json_object_new_object();
		vc_json_add_str(row, "series", r->rows[i].series);
		vc_json_add_u64(row, "pair", r->rows[i].pair);
		add_number(row, "value", r->rows[i].value);
		vc_json_add_str(row, "unit", r->rows[i].unit);
		json_object_array_add(array, row);
	}
}

int report_make(const char *bench, FILE *rows, FILE *bars, struct json_object **ret, struct vc_error *err)
{
	struct report r = {0};
	vc_autojson struct json_object *obj = json_object_new_object();
	int rc = vc_json_add_str(obj, "bench", bench);
	if (!rc)
		rc = read_rows(rows, &r, err);
	if (!rc)
		rc = read_bars(bars, &r, err);
	if (!rc)
		rc = add_bars(&r, obj, err);
	if (!rc)
		rc = add_series(&r, obj, err);
	if (!rc) {
		add_rows(&r, obj);
		*ret = vc_steal(&obj);
	}
	report_clear(&r);
	return rc;
}

// ---- for people ----

static double number(struct json_object *obj, const char *key)
{
	return json_object_get_double(json_object_object_get(obj, key));
}

static const char *text(struct json_object *obj, const char *key)
{
	struct json_object *value = json_object_object_get(obj, key);
	return value ? json_object_get_string(value) : "";
}

static void table_interval(struct json_object *obj, FILE *out)
{
	struct json_object *ci = json_object_object_get(obj, "ci95");
	fprintf(out, " [%9.3f, %9.3f] %-6s", json_object_get_double(json_object_array_get_idx(ci, 0)),
		json_object_get_double(json_object_array_get_idx(ci, 1)), text(obj, "unit"));
}

static void table_bar(struct json_object *bar, FILE *out)
{
	fprintf(out, "%-24s %9.3f", text(bar, "name"), number(bar, "value"));
	table_interval(bar, out);
	if (json_object_object_get(bar, "limit"))
		fprintf(out, " %s %g", strcmp(text(bar, "better"), "higher") == 0 ? "at least" : "at most", number(bar, "limit"));
	fprintf(out, "  %s (%s pairs", text(bar, "verdict"), text(bar, "pairs"));
	if (json_object_object_get(bar, "baseline"))
		fprintf(out, ", baseline %.3f", number(bar, "baseline"));
	fprintf(out, ")\n");
	if (*text(bar, "note"))
		fprintf(out, "    %s\n", text(bar, "note"));
}

static void table_array(struct json_object *array, FILE *out)
{
	for (size_t i = 0; i < json_object_array_length(array); i++)
		table_bar(json_object_array_get_idx(array, i), out);
}

void report_table(struct json_object *report, FILE *out)
{
	struct json_object *series = json_object_object_get(report, "series");
	fprintf(out, "%s\n", text(report, "bench"));
	for (size_t i = 0; i < json_object_array_length(series); i++) {
		struct json_object *one = json_object_array_get_idx(series, i);
		fprintf(out, "  %-22s %9.3f", text(one, "name"), number(one, "median"));
		table_interval(one, out);
		fprintf(out, " median of %s, mean %.3f\n", text(one, "n"), number(one, "mean"));
	}
	table_array(json_object_object_get(report, "bars"), out);
	table_array(json_object_object_get(report, "stated"), out);
}

int report_status(struct json_object *report)
{
	struct json_object *bars = json_object_object_get(report, "bars");
	for (size_t i = 0; i < json_object_array_length(bars); i++) {
		if (strcmp(text(json_object_array_get_idx(bars, i), "verdict"), "passed") != 0)
			return 1;
	}
	return 0;
}
