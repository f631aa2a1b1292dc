// SPDX-License-Identifier: GPL-2.0-or-later
// Sizes over time as SVG and CSV: the figure of Cluster-on-Demand. Pure; texts are escaped.
#ifndef VCD_ELASTIC_PLOT_H
#define VCD_ELASTIC_PLOT_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "libvc/error.h"

#define PLOT_SERIES_MAX 64     // more curves in one figure cannot be told apart
#define PLOT_POINTS_MAX 200000 // of one series; an event each minute for four months

struct plot_point {
	double at_s, value;
};
struct plot_series {
	char *name;
	struct plot_point *points; // in the order of time; each value holds until the next
	size_t n, room;
};
struct plot {
	char *title, *unit; // of the values
	struct plot_series series[PLOT_SERIES_MAX];
	size_t n;
};

int plot_init(struct plot *p, const char *title, const char *unit, struct vc_error *err);
int plot_series(struct plot *p, const char *name, struct vc_error *err); // its index, -1
int plot_add(struct plot *p, size_t series, double at_s, double value, struct vc_error *err);
int plot_svg(const struct plot *p, FILE *out, struct vc_error *err);
int plot_csv(const struct plot *p, FILE *out, struct vc_error *err); // time_s,series,value
void plot_clear(struct plot *p);

#endif
