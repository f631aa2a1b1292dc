// SPDX-License-Identifier: GPL-2.0-or-later
// Strict parsing: see parse.h. No locale, no sign, no leading blanks.
#include "libvc/parse.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "libvc/cleanup.h"

// Reads decimal digits; returns how many, 0 when none, -1 on overflow.
static int read_digits(const char *s, uint64_t *ret)
{
	uint64_t value = 0;
	int n = 0;
	for (; s[n] >= '0' && s[n] <= '9'; n++) {
		if (__builtin_mul_overflow(value, 10, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(s[n] - '0'), &value))
			return -1;
	}
	*ret = value;
	return n;
}

int vc_parse_u64(const char *what, const char *s, uint64_t min, uint64_t max, uint64_t *ret, struct vc_error *err)
{
	uint64_t value;
	int n = read_digits(s, &value);
	if (n == 0 || (n > 0 && s[n]))
		return vc_error_set(err, VC_EUSER, "%s: '%.64s' is not a whole number", what, s);
	if (n < 0 || value < min || value > max)
		return vc_error_set(err, VC_EUSER, "%s: '%.64s' is outside %llu to %llu", what, s,
				    (unsigned long long)min, (unsigned long long)max);
	*ret = value;
	return 0;
}

int vc_parse_int(const char *what, const char *s, int min, int max, int *ret, struct vc_error *err)
{
	uint64_t value;
	if (vc_parse_u64(what, s, (uint64_t)min, (uint64_t)max, &value, err) < 0)
		return -1;
	*ret = (int)value;
	return 0;
}

struct suffix {
	const char *name;
	uint64_t factor;
};

static const struct suffix size_suffixes[] = {
	{"B", 1},
	{"K", 1ull << 10},   {"KB", 1ull << 10}, {"KiB", 1ull << 10},
	{"M", 1ull << 20},   {"MB", 1ull << 20}, {"MiB", 1ull << 20},
	{"G", 1ull << 30},   {"GB", 1ull << 30}, {"GiB", 1ull << 30},
	{"T", 1ull << 40},   {"TB", 1ull << 40}, {"TiB", 1ull << 40},
};
static const struct suffix time_suffixes[] = {
	{"ms", 1}, {"s", 1000}, {"m", 60 * 1000}, {"min", 60 * 1000}, {"h", 3600 * 1000},
};

static uint64_t suffix_factor(const struct suffix *table, size_t n, const char *s, uint64_t bare)
{
	if (!*s)
		return bare;
	for (size_t i = 0; i < n; i++) {
		if (strcasecmp(table[i].name, s) == 0)
			return table[i].factor;
	}
	return 0;
}

int vc_parse_size(const char *what, const char *s, uint64_t unit, uint64_t max, uint64_t *ret_bytes, struct vc_error *err)
{
	uint64_t value = 0;
	int n = read_digits(s, &value);
	uint64_t factor = n > 0 ? suffix_factor(size_suffixes, VC_ARRAY_LEN(size_suffixes), s + n, unit) : 0;
	if (n == 0 || (n > 0 && factor == 0))
		return vc_error_set(err, VC_EUSER, "%s: '%.64s' is not a size such as 512M or 2G", what, s);
	if (n < 0 || __builtin_mul_overflow(value, factor, &value) || value > max)
		return vc_error_set(err, VC_EUSER, "%s: '%.64s' is more than %llu bytes", what, s, (unsigned long long)max);
	*ret_bytes = value;
	return 0;
}

int vc_parse_duration_ms(const char *what, const char *s, uint64_t max_ms, uint64_t *ret_ms, struct vc_error *err)
{
	uint64_t value = 0;
	int n = read_digits(s, &value);
	uint64_t factor = n > 0 ? suffix_factor(time_suffixes, VC_ARRAY_LEN(time_suffixes), s + n, 1000) : 0;
	if (n == 0 || (n > 0 && factor == 0))
		return vc_error_set(err, VC_EUSER, "%s: '%.64s' is not a time such as 30s or 500ms", what, s);
	if (n < 0 || __builtin_mul_overflow(value, factor, &value) || value > max_ms)
		return vc_error_set(err, VC_EUSER, "%s: '%.64s' is more than %llu ms", what, s, (unsigned long long)max_ms);
	*ret_ms = value;
	return 0;
}

int vc_parse_list(const char *what, const char *s, char sep, size_t max_items, char ***ret, struct vc_error *err)
{
	size_t count = 1;
	for (const char *p = s; *p; p++)
		count += *p == sep;
	if (count > max_items)
		return vc_error_set(err, VC_EUSER, "%s: %zu items are more than %zu", what, count, max_items);
	vc_autostrv char **items = calloc(count + 1, sizeof(*items));
	if (!items)
		return vc_error_errno(err, "%s", what);
	for (size_t i = 0; i < count; i++) {
		size_t len = strcspn(s, (char[]){sep, '\0'});
		if (len == 0)
			return vc_error_set(err, VC_EUSER, "%s: item %zu is empty", what, i + 1);
		items[i] = strndup(s, len);
		if (!items[i])
			return vc_error_errno(err, "%s", what);
		s += len + (s[len] != '\0');
	}
	*ret = vc_steal(&items);
	return 0;
}

size_t vc_utf8_len(const char *text)
{
	const unsigned char *s = (const unsigned char *)text;
	static const struct {
		unsigned char mask, lead;
		uint32_t min;
	} forms[] = {{0x80, 0x00, 0}, {0xe0, 0xc0, 0x80}, {0xf0, 0xe0, 0x800}, {0xf8, 0xf0, 0x10000}};
	for (size_t n = 0; n < VC_ARRAY_LEN(forms); n++) {
		if ((s[0] & forms[n].mask) != forms[n].lead)
			continue;
		uint32_t code = s[0] & (unsigned char)~forms[n].mask;
		for (size_t i = 1; i <= n; i++) {
			if ((s[i] & 0xc0) != 0x80)
				return 0;
			code = code << 6 | (s[i] & 0x3f);
		}
		return code >= forms[n].min && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff) ? n + 1 : 0;
	}
	return 0;
}

bool vc_is_utf8(const char *s)
{
	size_t n = 1;
	for (; *s && n; s += n)
		n = vc_utf8_len(s);
	return n > 0;
}
