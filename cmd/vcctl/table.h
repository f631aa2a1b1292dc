// SPDX-License-Identifier: GPL-2.0-or-later
// Rows of text in columns, as squeue prints them: as wide as their content, cut to fit the terminal.
//
// Owns copies of its cells. Cells are shown with control characters replaced, since some come from guests.
#ifndef VCCTL_TABLE_H
#define VCCTL_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct table_column {
	const char *title;
	bool right; // numbers
	bool cut;   // may be shortened when the rows do not fit; "+" ends a cell that was
};

struct table;

struct table *table_create(const struct table_column *columns, size_t n); // columns must stay; NULL: no memory
void table_destroy(struct table *t);
// One row; cells NULL or "" show "-". -1 without memory.
int table_add(struct table *t, const char *const *cells);
size_t table_rows(const struct table *t);
// width 0: no limit. Never below the columns that may not be cut.
void table_print(const struct table *t, size_t width, FILE *out);

static inline void table_cleanup(struct table **t)
{
	table_destroy(*t);
}
#define table_auto __attribute__((cleanup(table_cleanup)))

// Columns of the terminal on fd: $COLUMNS, its window size, 80 for a terminal that does not say; 0 when it is none.
size_t table_terminal_width(int fd);
// Writes text with all control characters but newline and tab replaced.
void table_print_clean(const char *text, size_t len, FILE *out);

#endif
