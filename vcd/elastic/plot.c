// SPDX-License-Identifier: GPL-2.0-or-later
// The figure of sizes over time: see plot.h. Colours are Okabe and Ito's, which colour-blind people can tell apart.
#include "vcd/elastic/plot.h"

#include <stdlib.h>
#include <string.h>

#include "libvc/cleanup.h"

#define WIDTH 960
#define HEIGHT 400
#define LEFT 60
#define RIGHT 160 // the legend
#define TOP 40
#define BOTTOM 50
#define TICKS 8

static const char *const colours[] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999933"};

int plot_init(struct plot *p, const char *title, const char *unit, struct vc_error *err)
{
	*p = (struct plot){.title = strdup(title), .unit = strdup(unit)};
	if (p->title && p->unit)
		return 0;
	plot_clear(p);
	return vc_error_errno(err, "plot");
}

void plot_clear(struct plot *p)
{
	for (size_t i = 0; i < p->n; i++) {
		free(p->series[i].name);
		free(p->series[i].points);
	}
	free(p->title);
	free(p->unit);
	*p = (struct plot){0};
}

int plot_series(struct plot *p, const char *name, struct vc_error *err)
{
	if (p->n == PLOT_SERIES_MAX)
		return vc_error_set(err, VC_EUSER, "a plot of more than %d curves", PLOT_SERIES_MAX);
	char *copy = strdup(name);
	if (!copy)
		return vc_error_errno(err, "plot");
	p->series[p->n] = (struct plot_series){.name = copy};
	return (int)p->n++;
}

int plot_add(struct plot *p, size_t series, double at_s, double value, struct vc_error *err)
{
	struct plot_series *s = &p->series[series];
	if (s->n == PLOT_POINTS_MAX)
		return vc_error_set(err, VC_EUSER, "%s has more than %d points", s->name, PLOT_POINTS_MAX);
	if (s->n == s->room) {
		size_t more = s->room ? s->room * 2 : 64;
		struct plot_point *grown = reallocarray(s->points, more, sizeof(*grown));
		if (!grown)
			return vc_error_errno(err, "plot");
		s->points = grown;
		s->room = more;
	}
	s->points[s->n++] = (struct plot_point){at_s, value};
	return 0;
}

// --- SVG --------------------------------------------------------------------------------------------------------------

struct frame {
	double from_s, to_s, top; // of the values
};

static struct frame frame_of(const struct plot *p)
{
	struct frame f = {1e18, -1e18, 1};
	for (size_t i = 0; i < p->n; i++) {
		for (size_t k = 0; k < p->series[i].n; k++) {
			const struct plot_point *q = &p->series[i].points[k];
			f.from_s = q->at_s < f.from_s ? q->at_s : f.from_s;
			f.to_s = q->at_s > f.to_s ? q->at_s : f.to_s;
			f.top = q->value > f.top ? q->value : f.top;
		}
	}
	if (f.from_s > f.to_s)
		f.from_s = f.to_s = 0;
	if (f.to_s - f.from_s < 1)
		f.to_s = f.from_s + 1;
	return f;
}

static double x_of(const struct frame *f, double at_s)
{
	return LEFT + (at_s - f->from_s) / (f->to_s - f->from_s) * (WIDTH - LEFT - RIGHT);
}

static double y_of(const struct frame *f, double value)
{
	return HEIGHT - BOTTOM - value / f->top * (HEIGHT - TOP - BOTTOM);
}

static void escaped(const char *text, FILE *out)
{
	for (; *text; text++) {
		const char *as = *text == '<' ? "&lt;" : *text == '>' ? "&gt;" : *text == '&' ? "&amp;" : *text == '"' ? "&quot;" : NULL;
		if (as)
			fputs(as, out);
		else if ((unsigned char)*text >= ' ')
			fputc(*text, out);
	}
}

static void axes(const struct plot *p, const struct frame *f, FILE *out)
{
	double span = f->to_s - f->from_s, unit = span > 2 * 86400 ? 86400 : span > 7200 ? 3600 : span > 120 ? 60 : 1;
	const char *name = unit > 3600 ? "days" : unit > 60 ? "hours" : unit > 1 ? "minutes" : "seconds";
	for (int i = 0; i <= TICKS; i++) {
		double at = f->from_s + span * i / TICKS, value = f->top * i / TICKS;
		fprintf(out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.3g</text>\n", x_of(f, at), HEIGHT - BOTTOM + 18,
			(at - f->from_s) / unit);
		fprintf(out, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.3g</text>\n", LEFT - 6, y_of(f, value) + 4, value);
		fprintf(out, "<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#ddd\"/>\n", LEFT, WIDTH - RIGHT, y_of(f, value),
			y_of(f, value));
	}
	fprintf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">%s</text>\n<text x=\"%d\" y=\"%d\">", (LEFT + WIDTH - RIGHT) / 2,
		HEIGHT - 12, name, LEFT - 45, TOP - 10);
	escaped(p->unit, out);
	fputs("</text>\n", out);
}

// Steps: a size holds until it changes.
static void curve(const struct plot_series *s, const struct frame *f, size_t index, FILE *out)
{
	const char *colour = colours[index % VC_ARRAY_LEN(colours)];
	fprintf(out, "<path fill=\"none\" stroke=\"%s\" stroke-width=\"1.5\" d=\"", colour);
	for (size_t i = 0; i < s->n; i++) {
		if (i == 0)
			fprintf(out, "M%.1f %.1f", x_of(f, s->points[i].at_s), y_of(f, s->points[i].value));
		else
			fprintf(out, "H%.1fV%.1f", x_of(f, s->points[i].at_s), y_of(f, s->points[i].value));
	}
	fprintf(out, "\"/>\n<rect x=\"%d\" y=\"%zu\" width=\"14\" height=\"4\" fill=\"%s\"/>\n<text x=\"%d\" y=\"%zu\">", WIDTH - RIGHT + 12,
		TOP + 20 * index, colour, WIDTH - RIGHT + 32, TOP + 20 * index + 6);
	escaped(s->name, out);
	fputs("</text>\n", out);
}

int plot_svg(const struct plot *p, FILE *out, struct vc_error *err)
{
	struct frame f = frame_of(p);
	fprintf(out, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" font-family=\"sans-serif\" font-size=\"12\">\n"
		     "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n<text x=\"%d\" y=\"20\" font-size=\"14\">",
		WIDTH, HEIGHT, LEFT);
	escaped(p->title, out);
	fputs("</text>\n", out);
	axes(p, &f, out);
	for (size_t i = 0; i < p->n; i++)
		curve(&p->series[i], &f, i, out);
	fputs("</svg>\n", out);
	return ferror(out) ? vc_error_errno(err, "plot") : 0;
}

int plot_csv(const struct plot *p, FILE *out, struct vc_error *err)
{
	fputs("time_s,series,value\n", out);
	for (size_t i = 0; i < p->n; i++) {
		for (size_t k = 0; k < p->series[i].n; k++)
			fprintf(out, "%.3f,%s,%g\n", p->series[i].points[k].at_s, p->series[i].name, p->series[i].points[k].value);
	}
	return ferror(out) ? vc_error_errno(err, "plot") : 0;
}
