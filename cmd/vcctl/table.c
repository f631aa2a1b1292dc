// SPDX-License-Identifier: GPL-2.0-or-later
// Tables for people: see table.h.
#include "cmd/vcctl/table.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "libvc/cleanup.h"
#include "libvc/parse.h"

#define COLUMNS_MAX 16	    // of one table
#define CUT_MIN 6	    // characters that a cut column keeps
#define DEFAULT_WIDTH 80    // of a terminal that does not say
#define TERMINAL_WIDTH_MAX 4096

struct table {
	const struct table_column *columns;
	size_t n;
	char **cells; // row by row
	size_t rows;
};

struct table *table_create(const struct table_column *columns, size_t n)
{
	struct table *t = n <= COLUMNS_MAX ? calloc(1, sizeof(*t)) : NULL;
	if (t) {
		t->columns = columns;
		t->n = n;
	}
	return t;
}

void table_destroy(struct table *t)
{
	int saved = errno;
	for (size_t i = 0; t && i < t->rows * t->n; i++)
		free(t->cells[i]);
	if (t)
		free(t->cells);
	free(t);
	errno = saved;
}

static char *clean_copy(const char *text)
{
	char *copy = strdup(text && *text ? text : "-");
	for (char *p = copy; p && *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = *p == '\n' || *p == '\t' ? ' ' : '?';
	return copy;
}

int table_add(struct table *t, const char *const *cells)
{
	char **more = realloc(t->cells, (t->rows + 1) * t->n * sizeof(*more));
	if (!more)
		return -1;
	t->cells = more;
	char **row = more + t->rows * t->n;
	memset(row, 0, t->n * sizeof(*row));
	for (size_t i = 0; i < t->n; i++) {
		row[i] = clean_copy(cells[i]);
		if (row[i])
			continue;
		while (i-- > 0)
			free(row[i]);
		return -1;
	}
	t->rows++;
	return 0;
}

size_t table_rows(const struct table *t)
{
	return t->rows;
}

// Characters of UTF-8: its continuation bytes do not count. Good for names and messages; wide letters count once.
static size_t text_width(const char *s)
{
	size_t n = 0;
	for (; *s; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

static size_t text_bytes(const char *s, size_t width)
{
	size_t i = 0;
	for (size_t seen = 0; s[i]; i++) {
		if (((unsigned char)s[i] & 0xc0) != 0x80 && seen++ == width)
			break;
	}
	return i;
}

static void natural_widths(const struct table *t, size_t *widths)
{
	for (size_t c = 0; c < t->n; c++) {
		widths[c] = text_width(t->columns[c].title);
		for (size_t r = 0; r < t->rows; r++) {
			size_t w = text_width(t->cells[r * t->n + c]);
			if (w > widths[c])
				widths[c] = w;
		}
	}
}

// Takes one character at a time from the widest column that may be cut, until the row fits.
static void fit_widths(const struct table *t, size_t *widths, size_t limit)
{
	size_t total = t->n ? t->n - 1 : 0;
	for (size_t c = 0; c < t->n; c++)
		total += widths[c];
	while (total > limit) {
		size_t widest = t->n;
		for (size_t c = 0; c < t->n; c++) {
			size_t least = text_width(t->columns[c].title);
			least = least > CUT_MIN ? least : CUT_MIN;
			if (t->columns[c].cut && widths[c] > least && (widest == t->n || widths[c] > widths[widest]))
				widest = c;
		}
		if (widest == t->n)
			return;
		widths[widest]--;
		total--;
	}
}

static void print_padding(size_t n, FILE *out)
{
	fprintf(out, "%*s", (int)n, "");
}

static void print_cell(const struct table_column *column, const char *text, size_t width, bool last, FILE *out)
{
	size_t w = text_width(text);
	if (w > width) {
		fprintf(out, "%.*s+", (int)text_bytes(text, width - 1), text);
		w = width;
	} else {
		if (column->right)
			print_padding(width - w, out);
		fputs(text, out);
	}
	if (!last && !(column->right && w < width))
		print_padding(width - w, out);
	fputc(last ? '\n' : ' ', out);
}

void table_print(const struct table *t, size_t width, FILE *out)
{
	size_t widths[COLUMNS_MAX];
	natural_widths(t, widths);
	if (width)
		fit_widths(t, widths, width);
	for (size_t c = 0; c < t->n; c++)
		print_cell(&t->columns[c], t->columns[c].title, widths[c], c + 1 == t->n, out);
	for (size_t r = 0; r < t->rows; r++)
		for (size_t c = 0; c < t->n; c++)
			print_cell(&t->columns[c], t->cells[r * t->n + c], widths[c], c + 1 == t->n, out);
}

size_t table_terminal_width(int fd)
{
	const char *columns = getenv("COLUMNS");
	uint64_t n;
	if (columns && vc_parse_u64("COLUMNS", columns, 1, TERMINAL_WIDTH_MAX, &n, NULL) == 0)
		return (size_t)n;
	if (!isatty(fd))
		return 0;
	struct winsize ws;
	return ioctl(fd, TIOCGWINSZ, &ws) == 0 && ws.ws_col ? ws.ws_col : DEFAULT_WIDTH;
}

void table_print_clean(const char *text, size_t len, FILE *out)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];
		fputc((c < 0x20 && c != '\n' && c != '\t') || c == 0x7f ? '?' : c, out);
	}
}
