// SPDX-License-Identifier: GPL-2.0-or-later
// Strict parsing of numbers, sizes, times and lists: the whole string or an error that quotes it.
#ifndef LIBVC_PARSE_H
#define LIBVC_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libvc/error.h"

// `what` names the value in the message, as "--vcluster-cpus".
int vc_parse_u64(const char *what, const char *s, uint64_t min, uint64_t max, uint64_t *ret, struct vc_error *err);
int vc_parse_int(const char *what, const char *s, int min, int max, int *ret, struct vc_error *err);
// A size with K, M, G or T (powers of 1024, any case, optional iB/B); a bare number is in `unit` bytes.
int vc_parse_size(const char *what, const char *s, uint64_t unit, uint64_t max, uint64_t *ret_bytes, struct vc_error *err);
// A time with ms, s, m, h; a bare number is seconds.
int vc_parse_duration_ms(const char *what, const char *s, uint64_t max_ms, uint64_t *ret_ms, struct vc_error *err);
// Splits at `sep` into a NULL-terminated vector (free with vc_strv_free); empty items are an error.
int vc_parse_list(const char *what, const char *s, char sep, size_t max_items, char ***ret, struct vc_error *err);

// Bytes of the UTF-8 sequence at s (a zero byte is one), 0 when there is none.
size_t vc_utf8_len(const char *s);
bool vc_is_utf8(const char *s);

#endif
