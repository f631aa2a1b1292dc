// SPDX-License-Identifier: GPL-2.0-or-later
// Draws what the soak test measured, and judges whether its lines are flat.
//
//   plot FILE >soak.svg      FILE has lines "CYCLE PANEL SERIES VALUE"; the verdict goes to standard error
//
// A series is flat when the median of its last quarter is at most its first quarter's (after the warm-up of the first
// tenth) plus the panel's slack; of leftovers there must be none at all. Status 0: all flat, 1: one is not, 2: FILE is no measurement. All in memory, bounded.
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libvc/cleanup.h"

#define POINTS_MAX 20000 // of one series
#define SERIES_MAX 32
#define NAME_MAX_LEN 31
#define WIDTH 900
#define PANEL_HEIGHT 220
#define MARGIN_LEFT 70
#define MARGIN_TOP 34
#define MARGIN_BOTTOM 26
#define LEGEND_WIDTH 190

static const struct slack {
	const char *panel, *unit;
	double add, percent; // that the last quarter may be above the first
} slacks[] = {
	{"descriptors", "open", 2, 0},	   // a connection that comes and goes
	{"memory", "KiB resident", 1024, 5}, // the allocator's and SQLite's caches
	{"leftovers", "things", 0, 0},
};

struct series {
	char panel[NAME_MAX_LEN + 1], name[NAME_MAX_LEN + 1];
	double *x, *y;
	size_t n;
	double first, last;
	bool flat;
};

struct soak {
	struct series series[SERIES_MAX];
	size_t n;
	double x_max;
};

static struct series *find(struct soak *s, const char *panel, const char *name)
{
	for (size_t i = 0; i < s->n; i++) {
		if (strcmp(s->series[i].panel, panel) == 0 && strcmp(s->series[i].name, name) == 0)
			return &s->series[i];
	}
	if (s->n == SERIES_MAX)
		return NULL;
	struct series *new = &s->series[s->n];
	snprintf(new->panel, sizeof(new->panel), "%s", panel);
	snprintf(new->name, sizeof(new->name), "%s", name);
	new->x = calloc(POINTS_MAX, sizeof(double));
	new->y = calloc(POINTS_MAX, sizeof(double));
	if (!new->x || !new->y)
		return NULL;
	s->n++;
	return new;
}

static int read_file(struct soak *s, FILE *f)
{
	char line[256], panel[NAME_MAX_LEN + 1], name[NAME_MAX_LEN + 1];
	double x, y;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lf %31s %31s %lf", &x, panel, name, &y) != 4)
			return -1;
		struct series *series = find(s, panel, name);
		if (!series || series->n == POINTS_MAX)
			return -1;
		series->x[series->n] = x;
		series->y[series->n++] = y;
		s->x_max = x > s->x_max ? x : s->x_max;
	}
	return s->n ? 0 : -1;
}

// --- the verdict ---

static int compare(const void *a, const void *b)
{
	const double *x = a, *y = b;
	return (*x > *y) - (*x < *y);
}

static double median(const double *values, size_t n)
{
	vc_autofree double *sorted = calloc(n ? n : 1, sizeof(double));
	if (!sorted || !n)
		return 0;
	memcpy(sorted, values, n * sizeof(double));
	qsort(sorted, n, sizeof(double), compare);
	return n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

static const struct slack *slack_of(const char *panel)
{
	for (size_t i = 0; i < VC_ARRAY_LEN(slacks); i++) {
		if (strcmp(slacks[i].panel, panel) == 0)
			return &slacks[i];
	}
	return NULL;
}

static void judge(struct series *s)
{
	const struct slack *slack = slack_of(s->panel);
	size_t warm = s->n / 10, quarter = (s->n - warm) / 4 ? (s->n - warm) / 4 : 1;
	s->first = median(s->y + warm, quarter);
	s->last = median(s->y + s->n - quarter, quarter);
	s->flat = slack && s->last <= s->first + slack->add + s->first * slack->percent / 100;
	for (size_t i = 0; i < s->n && strcmp(s->panel, "leftovers") == 0; i++)
		s->flat = s->flat && s->y[i] == 0; // one is one too many, at any time
}

static bool judge_all(struct soak *s)
{
	bool flat = true;
	for (size_t i = 0; i < s->n; i++) {
		judge(&s->series[i]);
		fprintf(stderr, "%-12s %-16s first quarter %.0f, last quarter %.0f: %s\n", s->series[i].panel, s->series[i].name,
			s->series[i].first, s->series[i].last, s->series[i].flat ? "flat" : "NOT FLAT");
		flat = flat && s->series[i].flat;
	}
	return flat;
}

// --- the drawing ---

static double panel_max(const struct soak *s, const char *panel)
{
	double max = 1;
	for (size_t i = 0; i < s->n; i++) {
		for (size_t k = 0; strcmp(s->series[i].panel, panel) == 0 && k < s->series[i].n; k++)
			max = s->series[i].y[k] > max ? s->series[i].y[k] : max;
	}
	return max * 1.1;
}

static void draw_axes(const struct soak *s, const struct slack *panel, double top, double max)
{
	double height = PANEL_HEIGHT - MARGIN_TOP - MARGIN_BOTTOM, width = WIDTH - MARGIN_LEFT - LEGEND_WIDTH;
	printf("<text x='%d' y='%.0f' font-weight='bold'>%s (%s)</text>\n", MARGIN_LEFT, top - 10, panel->panel, panel->unit);
	for (int i = 0; i <= 4; i++) {
		double y = top + height - height * i / 4, x = MARGIN_LEFT + width * i / 4;
		printf("<line x1='%d' y1='%.1f' x2='%.0f' y2='%.1f' stroke='#ddd'/>", MARGIN_LEFT, y, MARGIN_LEFT + width, y);
		printf("<text x='%d' y='%.1f' text-anchor='end'>%.*f</text>", MARGIN_LEFT - 6, y + 4, max < 10 ? 1 : 0, max * i / 4);
		printf("<text x='%.0f' y='%.0f' text-anchor='middle'>%.0f</text>\n", x, top + height + 16, s->x_max * i / 4);
	}
}

static void draw_series(const struct soak *s, const struct series *series, double top, double max, unsigned nth)
{
	static const char *const colours[] = {"#1b6ca8", "#c0392b", "#27813d", "#8e44ad", "#b9770e", "#16796f"};
	double height = PANEL_HEIGHT - MARGIN_TOP - MARGIN_BOTTOM, width = WIDTH - MARGIN_LEFT - LEGEND_WIDTH;
	const char *colour = colours[nth % VC_ARRAY_LEN(colours)];
	printf("<polyline fill='none' stroke-width='1.5' stroke='%s' points='", colour);
	for (size_t k = 0; k < series->n; k++)
		printf("%.1f,%.1f ", MARGIN_LEFT + width * series->x[k] / (s->x_max > 0 ? s->x_max : 1),
		       top + height - height * series->y[k] / max);
	printf("'/>\n<text x='%d' y='%.0f' fill='%s'>%s: %.0f to %.0f</text>\n", WIDTH - LEGEND_WIDTH + 12, top + 12 + nth * 16, colour,
	       series->name, series->first, series->last);
}

static void draw(const struct soak *s)
{
	printf("<svg xmlns='http://www.w3.org/2000/svg' width='%d' height='%zu' font-family='sans-serif' font-size='12'>\n", WIDTH,
	       VC_ARRAY_LEN(slacks) * PANEL_HEIGHT + 20);
	printf("<rect width='100%%' height='100%%' fill='white'/>\n");
	for (size_t p = 0; p < VC_ARRAY_LEN(slacks); p++) {
		double top = (double)p * PANEL_HEIGHT + MARGIN_TOP, max = panel_max(s, slacks[p].panel);
		unsigned nth = 0;
		draw_axes(s, &slacks[p], top, max);
		for (size_t i = 0; i < s->n; i++) {
			if (strcmp(s->series[i].panel, slacks[p].panel) == 0)
				draw_series(s, &s->series[i], top, max, nth++);
		}
	}
	printf("<text x='%d' y='%zu'>cycles</text>\n</svg>\n", MARGIN_LEFT, VC_ARRAY_LEN(slacks) * PANEL_HEIGHT + 12);
}

int main(int argc, char **argv)
{
	static struct soak soak;
	vc_autofclose FILE *f = argc == 2 ? fopen(argv[1], "r") : NULL;
	if (!f || read_file(&soak, f) < 0) {
		fprintf(stderr, "plot: %s: not a measurement\n", argc == 2 ? argv[1] : "usage: plot FILE");
		return 2;
	}
	bool flat = judge_all(&soak);
	draw(&soak);
	for (size_t i = 0; i < soak.n; i++) {
		free(soak.series[i].x);
		free(soak.series[i].y);
	}
	return flat ? 0 : 1;
}
