// SPDX-License-Identifier: GPL-2.0-or-later
// stats: reads a benchmark's rows and bars (report.h), prints its table and, as the last line, its JSON object.
//
// Exit status: 0 every bar passed, 1 a bar failed or is inconclusive, 2 wrong usage, 3 the files are not usable.
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "tests/bench/report.h"

enum { EXIT_USAGE = 2, EXIT_UNUSABLE = 3 };

static int make(const char *bench, const char *rows_path, const char *bars_path, struct json_object **ret, struct vc_error *err)
{
	vc_autofclose FILE *rows = fopen(rows_path, "re");
	if (!rows)
		return vc_error_errno(err, "%s", rows_path);
	vc_autofclose FILE *bars = fopen(bars_path, "re");
	if (!bars)
		return vc_error_errno(err, "%s", bars_path);
	return report_make(bench, rows, bars, ret, err);
}

int main(int argc, char **argv)
{
	bool json_only = argc > 1 && strcmp(argv[1], "--json") == 0;
	char **args = argv + (json_only ? 2 : 1);
	if (argc - (json_only ? 1 : 0) != 4) {
		fprintf(stderr, "Usage: stats [--json] BENCH ROWS BARS\n");
		return EXIT_USAGE;
	}
	struct vc_error err = VC_ERROR_INIT;
	vc_autojson struct json_object *report = NULL;
	if (make(args[0], args[1], args[2], &report, &err) < 0) {
		fprintf(stderr, "stats: %s\n", err.text);
		return EXIT_UNUSABLE;
	}
	if (!json_only)
		report_table(report, stdout);
	printf("%s\n", vc_json_text(report, NULL));
	return report_status(report);
}
