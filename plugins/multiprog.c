// SPDX-License-Identifier: GPL-2.0-or-later
// multi-prog files: see multiprog.h. Pure; what Slurm would complain about is an error here too.
#include "plugins/multiprog.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "libvc/buf.h"
#include "libvc/cleanup.h"
#include "libvc/parse.h"

#define BLANKS " \t\r\v\f"

struct line {
	const char *ranks;
	size_t ranks_len;
	const char *command; // up to the end of the line
	size_t command_len;
};

// 1: a line with a program; 0: blank or a comment; -1: an error.
static int split_line(const char *text, size_t len, struct line *ret, struct vc_error *err)
{
	size_t skip = strspn(text, BLANKS);
	if (skip >= len || text[skip] == '#')
		return 0;
	if (len > MULTIPROG_LINE_MAX)
		return vc_error_set(err, VC_EUSER, "--multi-prog: a line has more than %d bytes", MULTIPROG_LINE_MAX);
	ret->ranks = text + skip;
	ret->ranks_len = strcspn(ret->ranks, BLANKS "\n");
	ret->command = ret->ranks + ret->ranks_len;
	ret->command += strspn(ret->command, BLANKS);
	if (ret->command >= text + len)
		return vc_error_set(err, VC_EUSER, "--multi-prog: '%.*s' names no program", (int)(len > 64 ? 64 : len), text);
	ret->command_len = (size_t)(text + len - ret->command);
	return 1;
}

static int parse_range(const char *range, uint64_t *ret_low, uint64_t *ret_high)
{
	vc_autostrv char **ends = NULL;
	if (vc_parse_list("ranks", range, '-', 2, &ends, NULL) < 0)
		return -1;
	if (vc_parse_u64("rank", ends[0], 0, UINT32_MAX, ret_low, NULL) < 0)
		return -1;
	*ret_high = *ret_low;
	return ends[1] ? vc_parse_u64("rank", ends[1], *ret_low, UINT32_MAX, ret_high, NULL) : 0;
}

// 1: the rank is in the set, 0: it is not, -1: not a set of ranks.
static int find_rank(const struct line *line, uint32_t rank, uint64_t *ret_offset)
{
	if (line->ranks_len == 1 && line->ranks[0] == '*') {
		*ret_offset = rank;
		return 1;
	}
	vc_autofree char *set = strndup(line->ranks, line->ranks_len);
	vc_autostrv char **ranges = NULL;
	if (!set || vc_parse_list("ranks", set, ',', MULTIPROG_LINE_MAX, &ranges, NULL) < 0)
		return -1;
	int found = 0;
	uint64_t passed = 0;
	for (size_t i = 0; ranges[i]; i++) {
		uint64_t low, high;
		if (parse_range(ranges[i], &low, &high) < 0)
			return -1;
		if (!found && rank >= low && rank <= high) {
			*ret_offset = passed + rank - low;
			found = 1;
		}
		passed += high - low + 1;
	}
	return found;
}

struct reader {
	const char *p, *end;
	uint32_t rank;
	uint64_t offset;
};

static int add_percent(struct reader *r, struct vc_buf *word)
{
	char number[24];
	char kind = r->p + 1 < r->end ? r->p[1] : '\0';
	if (kind != 't' && kind != 'o') {
		r->p++;
		return vc_buf_append(word, "%", 1);
	}
	int n = snprintf(number, sizeof(number), "%" PRIu64, kind == 't' ? (uint64_t)r->rank : r->offset);
	r->p += 2;
	return vc_buf_append(word, number, (size_t)n);
}

static int add_quoted(struct reader *r, struct vc_buf *word, struct vc_error *err)
{
	const char *start = r->p + 1;
	const char *quote = memchr(start, '\'', (size_t)(r->end - start));
	if (!quote)
		return vc_error_set(err, VC_EUSER, "--multi-prog: a quote is not closed");
	r->p = quote + 1;
	return vc_buf_append(word, start, (size_t)(quote - start));
}

// One word, NUL-terminated, into `word`.
static int read_word(struct reader *r, struct vc_buf *word, struct vc_error *err)
{
	int rc = 0;
	while (rc == 0 && r->p < r->end && !strchr(BLANKS, *r->p)) {
		if (*r->p == '%') {
			rc = add_percent(r, word);
		} else if (*r->p == '\'') {
			rc = add_quoted(r, word, err);
		} else {
			r->p += *r->p == '\\' && r->p + 1 < r->end;
			rc = vc_buf_append(word, r->p++, 1);
		}
	}
	return rc < 0 || vc_buf_append(word, "", 1) < 0 ? -1 : 0;
}

static int read_words(struct reader *r, char **argv, struct vc_error *err)
{
	for (size_t n = 0; r->p < r->end; n++) {
		vc_autobuf struct vc_buf word = VC_BUF_INIT(0);
		if (n == MULTIPROG_ARGS_MAX)
			return vc_error_set(err, VC_EUSER, "--multi-prog: more than %d arguments", MULTIPROG_ARGS_MAX);
		if (read_word(r, &word, err) < 0)
			return -1;
		argv[n] = strdup((const char *)vc_buf_head(&word));
		if (!argv[n])
			return vc_error_errno(err, "--multi-prog");
		while (r->p < r->end && strchr(BLANKS, *r->p))
			r->p++;
	}
	return 0;
}

static int line_argv(const struct line *line, uint32_t rank, uint64_t offset, char ***ret_argv, struct vc_error *err)
{
	struct reader r = {.p = line->command, .end = line->command + line->command_len, .rank = rank, .offset = offset};
	vc_autostrv char **argv = calloc(MULTIPROG_ARGS_MAX + 1, sizeof(*argv));
	if (!argv)
		return vc_error_errno(err, "--multi-prog");
	if (read_words(&r, argv, err) < 0)
		return -1;
	*ret_argv = vc_steal(&argv);
	return 0;
}

// Calls fn for each line until it returns non-zero.
typedef int (*line_fn)(void *ctx, const char *text, size_t len, struct vc_error *err);

static int each_line(const char *text, line_fn fn, void *ctx, struct vc_error *err)
{
	if (strnlen(text, MULTIPROG_TEXT_MAX + 1) > MULTIPROG_TEXT_MAX)
		return vc_error_set(err, VC_EUSER, "--multi-prog: more than %d bytes", MULTIPROG_TEXT_MAX);
	while (*text) {
		size_t len = strcspn(text, "\n");
		int rc = fn(ctx, text, len, err);
		if (rc != 0)
			return rc;
		text += len + (text[len] == '\n');
	}
	return 0;
}

struct search {
	uint32_t rank;
	char **argv;
};

static int search_line(void *ctx, const char *text, size_t len, struct vc_error *err)
{
	struct search *s = ctx;
	struct line line;
	uint64_t offset = 0;
	int rc = split_line(text, len, &line, err);
	if (rc <= 0)
		return rc;
	rc = find_rank(&line, s->rank, &offset);
	if (rc < 0)
		return vc_error_set(err, VC_EUSER, "--multi-prog: '%.*s' is not a set of ranks",
				    (int)(line.ranks_len > 64 ? 64 : line.ranks_len), line.ranks);
	return rc == 0 ? 0 : line_argv(&line, s->rank, offset, &s->argv, err) < 0 ? -1 : 1;
}

int multiprog_argv(const char *text, uint32_t rank, char ***ret_argv, struct vc_error *err)
{
	struct search s = {.rank = rank};
	int rc = each_line(text, search_line, &s, err);
	if (rc < 0)
		return -1;
	if (rc == 0)
		return vc_error_set(err, VC_EUSER, "--multi-prog: no program for task %" PRIu32, rank);
	*ret_argv = s.argv;
	return 0;
}

struct wrap {
	const char *wrapper;
	struct vc_buf out;
};

static int add_text(struct vc_buf *out, const char *s, size_t len, struct vc_error *err)
{
	return vc_buf_append(out, s, len) < 0 ? vc_error_set(err, VC_EUSER, "--multi-prog: the file is too long") : 0;
}

static int wrap_line(void *ctx, const char *text, size_t len, struct vc_error *err)
{
	struct wrap *w = ctx;
	struct line line;
	int rc = split_line(text, len, &line, err);
	if (rc <= 0)
		return rc;
	if (add_text(&w->out, line.ranks, line.ranks_len, err) < 0 || add_text(&w->out, " ", 1, err) < 0 ||
	    add_text(&w->out, w->wrapper, strlen(w->wrapper), err) < 0 || add_text(&w->out, " -- ", 4, err) < 0 ||
	    add_text(&w->out, line.command, line.command_len, err) < 0 || add_text(&w->out, "\n", 1, err) < 0)
		return -1;
	return 0;
}

char *multiprog_wrap(const char *text, const char *wrapper, struct vc_error *err)
{
	struct wrap w = {.wrapper = wrapper, .out = VC_BUF_INIT(MULTIPROG_TEXT_MAX)};
	char *copy = NULL;
	if (each_line(text, wrap_line, &w, err) == 0) {
		copy = strndup(w.out.len ? (const char *)vc_buf_head(&w.out) : "", w.out.len);
		if (!copy)
			vc_error_errno(err, "--multi-prog");
	}
	vc_buf_clear(&w.out);
	return copy;
}
