// SPDX-License-Identifier: GPL-2.0-or-later
// Names of files for standard streams: see iofile.h. What is no pattern of Slurm's stays as it is.
#include "guest/iofile.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libvc/cleanup.h"
#include "libvc/limits.h"

#define NO_ARRAY "4294967294" // what Slurm writes for %a of a job that is none of an array

// %[WIDTH]LETTER; *ret_next is behind it.
static char letter_at(const char *percent, int *ret_width, const char **ret_next)
{
	const char *p = percent + 1;
	int width = 0;
	for (; isdigit((unsigned char)*p); p++)
		width = width > IOFILE_WIDTH_MAX ? width : width * 10 + (*p - '0');
	*ret_width = width < IOFILE_WIDTH_MAX ? width : IOFILE_WIDTH_MAX;
	*ret_next = *p ? p + 1 : p;
	return *p;
}

static bool is_of_each(const char *pattern)
{
	const char *p = pattern, *next;
	int width;
	while ((p = strchr(p, '%'))) {
		char letter = letter_at(p, &width, &next);
		if (letter && strchr("tnNsJ", letter))
			return true;
		p = next;
	}
	return false;
}

enum iofile_kind iofile_kind(const char *pattern)
{
	if (!pattern || !*pattern || !strcmp(pattern, "all") || !strcmp(pattern, "-"))
		return IOFILE_ALL;
	if (strspn(pattern, "0123456789") == strlen(pattern))
		return IOFILE_TASK;
	return !strchr(pattern, '\\') && is_of_each(pattern) ? IOFILE_EACH : IOFILE_ONE;
}

// False: no pattern.
static bool put(FILE *out, char letter, int width, const struct iofile_facts *f)
{
	const struct {
		char letter;
		bool number;
		const char *text;
	} table[] = {
		{'j', true, f->job},	{'A', true, f->array_job ? f->array_job : f->job},
		{'s', true, f->step},	{'a', true, f->array_task ? f->array_task : NO_ARRAY},
		{'J', true, f->job},	{'t', true, f->task},
		{'n', true, f->node_id}, {'N', false, f->node},
		{'u', false, f->user},	{'x', false, f->name},
	};
	if (letter == '%')
		return fputc('%', out) != EOF;
	for (size_t i = 0; i < VC_ARRAY_LEN(table); i++) {
		const char *text = table[i].text ? table[i].text : "";
		if (table[i].letter != letter)
			continue;
		for (int n = (int)strlen(text); table[i].number && n < width; n++)
			fputc('0', out);
		fputs(text, out);
		if (letter == 'J' && f->step)
			fprintf(out, ".%s", f->step);
		return true;
	}
	return false;
}

static void expand(const char *pattern, const struct iofile_facts *facts, FILE *out)
{
	bool escaped = strchr(pattern, '\\') != NULL;
	for (const char *p = pattern, *next; *p && ftell(out) < VC_PATH_MAX; p = next) { // a name of a job may be long
		int width = 0;
		next = p + 1;
		if (escaped || *p != '%') {
			if (*p != '\\')
				fputc(*p, out);
			continue;
		}
		char letter = letter_at(p, &width, &next);
		if (!put(out, letter, width, facts))
			fwrite(p, 1, (size_t)(next - p), out);
	}
}

int iofile_path(const char *pattern, const struct iofile_facts *facts, char **ret_path, struct vc_error *err)
{
	vc_autofree char *path = NULL;
	size_t len;
	if (!strcmp(pattern, "none"))
		pattern = "/dev/null";
	FILE *out = open_memstream(&path, &len);
	if (!out)
		return vc_error_errno(err, "%.64s", pattern);
	if (strlen(pattern) < VC_PATH_MAX)
		expand(pattern, facts, out);
	if (fclose(out) != 0)
		return vc_error_errno(err, "%.64s", pattern);
	if (len == 0 || len >= VC_PATH_MAX)
		return vc_error_set(err, VC_EUSER, "'%.64s' is no name of a file", pattern);
	*ret_path = vc_steal(&path);
	return 0;
}

bool iofile_first(struct iofile_seen *seen, const char *key)
{
	size_t i = 0;
	while (i < IOFILE_SEEN_MAX && seen->keys[i] && strcmp(seen->keys[i], key) != 0)
		i++;
	bool known = i < IOFILE_SEEN_MAX && seen->keys[i];
	char *mine = known ? seen->keys[i] : strdup(key);
	if (!mine)
		return false;
	if (i == IOFILE_SEEN_MAX)
		free(seen->keys[--i]);
	memmove(seen->keys + 1, seen->keys, i * sizeof(*seen->keys));
	seen->keys[0] = mine;
	return !known;
}
