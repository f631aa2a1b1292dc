// SPDX-License-Identifier: GPL-2.0-or-later
// From what a benchmark measured (rows) and what it is judged by (bars) to its JSON object and its table.
//
// Both files are lines of tab-separated fields, written by tests/bench/lib.bash:
//   rows  SERIES PAIR VALUE UNIT
//   bars  NAME KIND SERIES BASELINE UNIT BETTER LIMIT WIDTH PAIRS_MIN NOTE
// KIND: ratio (SERIES / BASELINE of each pair), difference (SERIES - BASELINE of each pair), value (SERIES alone, BASELINE
// "-"). LIMIT "-": stated only. WIDTH "-": the kind's own (0.15 of a ratio, the limit of a difference). PAIRS_MIN "-": 11.
// A pair counts when both its rows are there. Anything malformed fails with file and line.
#ifndef TESTS_BENCH_REPORT_H
#define TESTS_BENCH_REPORT_H

#include <json-c/json.h>
#include <stdio.h>

#include "libvc/error.h"

// *ret is a new object {"bench", "bars": [...], "stated": [...], "series": [...], "rows": [...]}.
int report_make(const char *bench, FILE *rows, FILE *bars, struct json_object **ret, struct vc_error *err);
void report_table(struct json_object *report, FILE *out);
// 0: every bar passed, 1: one failed or is inconclusive.
int report_status(struct json_object *report);

#endif
