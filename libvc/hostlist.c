// SPDX-License-Identifier: GPL-2.0-or-later
// Host lists: see hostlist.h.
#include "libvc/hostlist.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "libvc/cleanup.h"
#include "libvc/limits.h"

#define DIGITS_MAX 18 // of a host number in a range; fits uint64_t

struct names {
	char **items;
	size_t n, max, alloc;
};

static int names_add(struct names *names, const char *name, struct vc_error *err)
{
	if (names->n >= names->max)
		return vc_error_set(err, VC_EUSER, "host list: more than %zu hosts", names->max);
	if (strlen(name) > VC_HOSTNAME_MAX)
		return vc_error_set(err, VC_EUSER, "host list: '%.32s...' has more than %d bytes", name, VC_HOSTNAME_MAX);
	if (names->n + 1 >= names->alloc) {
		size_t alloc = names->alloc ? names->alloc * 2 : 16;
		char **items = reallocarray(names->items, alloc, sizeof(*items));
		if (!items)
			return vc_error_errno(err, "host list");
		names->items = items;
		names->alloc = alloc;
	}
	names->items[names->n] = strdup(name);
	if (!names->items[names->n])
		return vc_error_errno(err, "host list");
	names->items[++names->n] = NULL;
	return 0;
}

// Reads digits at *p and moves it behind them; the width, 0 when there are none or too many.
static int take_number(const char **p, uint64_t *ret)
{
	size_t width = strspn(*p, "0123456789");
	*ret = 0;
	for (size_t i = 0; i < width && width <= DIGITS_MAX; i++)
		*ret = *ret * 10 + (uint64_t)((*p)[i] - '0');
	*p += width;
	return width <= DIGITS_MAX ? (int)width : 0;
}

// "3" or "1-3" inside a bracket.
static int expand_range(const char **p, const char *prefix, int prefix_len, const char *suffix, int suffix_len,
			struct names *names, struct vc_error *err)
{
	char name[2 * VC_HOSTNAME_MAX + DIGITS_MAX];
	uint64_t first = 0, last = 0;
	const char *text = *p;
	int width = take_number(p, &first);
	if (*p > text && **p != '-') { // one number, of any length
		snprintf(name, sizeof(name), "%.*s%.*s%.*s", prefix_len, prefix, (int)(*p - text), text, suffix_len, suffix);
		return names_add(names, name, err);
	}
	if (width) {
		(*p)++;
		if (!take_number(p, &last) || last < first)
			width = 0;
	}
	if (!width)
		return vc_error_set(err, VC_EUSER, "host list: bad range in '%.*s[...]'", prefix_len, prefix);
	for (uint64_t i = first; i <= last; i++) {
		snprintf(name, sizeof(name), "%.*s%0*" PRIu64 "%.*s", prefix_len, prefix, width, i, suffix_len, suffix);
		if (names_add(names, name, err) < 0)
			return -1;
	}
	return 0;
}

// One item without a comma outside brackets.
static int expand_item(const char *item, int len, struct names *names, struct vc_error *err)
{
	const char *open = memchr(item, '[', (size_t)len), *close = memchr(item, ']', (size_t)len);
	if (len == 0 || len > 64 * 1024 || !open != !close || (open && close < open))
		return vc_error_set(err, VC_EUSER, "host list: bad item '%.*s'", len < 64 ? len : 64, item);
	if (!open) {
		char name[VC_HOSTNAME_MAX + 2];
		snprintf(name, sizeof(name), "%.*s", len, item);
		return names_add(names, name, err);
	}
	int prefix_len = (int)(open - item), suffix_len = len - (int)(close + 1 - item);
	if (prefix_len > VC_HOSTNAME_MAX || suffix_len > VC_HOSTNAME_MAX || memchr(close + 1, '[', (size_t)suffix_len) ||
	    memchr(close + 1, ']', (size_t)suffix_len))
		return vc_error_set(err, VC_EUSER, "host list: bad item '%.64s'", item);
	for (const char *p = open + 1;; p++) {
		if (expand_range(&p, item, prefix_len, close + 1, suffix_len, names, err) < 0)
			return -1;
		if (p == close)
			return 0;
		if (*p != ',')
			return vc_error_set(err, VC_EUSER, "host list: bad range in '%.*s[...]'", prefix_len, item);
	}
}

static int item_length(const char *s)
{
	int depth = 0, len = 0;
	for (; s[len] && (depth || s[len] != ','); len++)
		depth += s[len] == '[' ? 1 : s[len] == ']' ? -1 : 0;
	return len;
}

int vc_hostlist_expand(const char *list, size_t max, char ***ret, size_t *ret_n, struct vc_error *err)
{
	struct names names = {.max = max};
	if (strlen(list) > INT32_MAX / 2)
		return vc_error_set(err, VC_EUSER, "host list: too long");
	for (const char *p = list;; p++) {
		int len = item_length(p);
		if (expand_item(p, len, &names, err) < 0) {
			vc_strv_free(names.items);
			return -1;
		}
		p += len;
		if (!*p)
			break;
	}
	*ret = names.items;
	if (ret_n)
		*ret_n = names.n;
	return 0;
}

struct numbered {
	int prefix_len, width;
	uint64_t number;
};

static struct numbered split(const char *name)
{
	int len = (int)strlen(name), start = len;
	while (start > 0 && name[start - 1] >= '0' && name[start - 1] <= '9' && len - start < DIGITS_MAX)
		start--;
	struct numbered r = {.prefix_len = start};
	const char *p = name + start;
	r.width = take_number(&p, &r.number);
	return r;
}

// How a name goes on after the one before it.
static bool same_prefix(const char *a, struct numbered na, const char *b, struct numbered nb)
{
	return na.width && na.width == nb.width && na.prefix_len == nb.prefix_len &&
	       strncmp(a, b, (size_t)na.prefix_len) == 0;
}

// Writes the numbers of names[from..to), which share a prefix, joined into ranges.
static void write_numbers(FILE *out, char *const *names, size_t from, size_t to)
{
	for (size_t i = from, end; i < to; i = end) {
		struct numbered first = split(names[i]);
		for (end = i + 1; end < to && split(names[end]).number == first.number + (end - i); end++)
			;
		fprintf(out, "%s%0*" PRIu64, i > from ? "," : "", first.width, first.number);
		if (end - i > 1)
			fprintf(out, "-%0*" PRIu64, first.width, first.number + (end - i - 1));
	}
}

char *vc_hostlist_compress(char *const *names, struct vc_error *err)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);
	if (!out) {
		vc_error_errno(err, "host list");
		return NULL;
	}
	for (size_t i = 0, end; names[i]; i = end) {
		struct numbered first = split(names[i]);
		for (end = i + 1; names[end] && same_prefix(names[i], first, names[end], split(names[end])); end++)
			;
		fprintf(out, "%s", i ? "," : "");
		if (end - i == 1) {
			fprintf(out, "%s", names[i]);
			continue;
		}
		fprintf(out, "%.*s[", first.prefix_len, names[i]);
		write_numbers(out, names, i, end);
		fprintf(out, "]");
	}
	if (fclose(out) != 0) {
		vc_error_errno(err, "host list");
		free(text);
		return NULL;
	}
	return text;
}
