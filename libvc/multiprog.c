// SPDX-License-Identifier: GPL-2.0-or-later
// multi-prog files: see multiprog.h. Pure; what Slurm would complain about is an error here too.
#include "libvc/multiprog.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libvc/buf.h"
#include "libvc/cleanup.h"

#define BLANKS " \t\r\v\f"

struct line {
	const char *ranks;
	size_t ranks_len;
	const char *command; // up to the end of the line
	size_t command_len;
};

// One piece of a set of ranks: a number or a range, either of which Slurm takes for 0 when its digits are missing.
static bool is_range(const char *s, size_t len)
{
	static const char digits[] = "0123456789";
	size_t low = strspn(s, digits);
	if (len == 0 || low >= len)
		return len > 0;
	return s[low] == '-' && low + 1 + strspn(s + low + 1, digits) >= len;
}

// Whether Slurm could find a rank in it.
static bool is_set(const char *s, size_t len)
{
	if (len == 1 && s[0] == '*')
		return true;
	for (size_t at = 0; at < len;) {
		const char *comma = memchr(s + at, ',', len - at);
		size_t piece = comma ? (size_t)(comma - s) - at : len - at;
		if (is_range(s + at, piece))
			return true;
		at += piece + 1;
	}
	return false;
}

// 1: a line with a program; 0: blank, a comment or no set of ranks; -1: an error.
static int split_line(const char *text, size_t len, struct line *ret, struct vc_error *err)
{
	size_t skip = strspn(text, BLANKS);
	if (skip >= len || text[skip] == '#')
		return 0;
	ret->ranks = text + skip;
	ret->ranks_len = strcspn(ret->ranks, BLANKS "\n");
	ret->command = ret->ranks + ret->ranks_len;
	ret->command += strspn(ret->command, BLANKS);
	if (!is_set(ret->ranks, ret->ranks_len))
		return 0;
	if (ret->command >= text + len)
		return vc_error_set(err, VC_EUSER, "--multi-prog: '%.*s' names no program", (int)(len > 64 ? 64 : len), text);
	ret->command_len = (size_t)(text + len - ret->command);
	return 1;
}

static uint64_t number(const char *s, size_t len)
{
	uint64_t n = 0;
	for (size_t i = 0; i < len && s[i] >= '0' && s[i] <= '9' && n <= UINT32_MAX; i++)
		n = n * 10 + (uint64_t)(s[i] - '0');
	return n;
}

// Whether the rank is in the set, and how many ranks of the set come before it.
static bool find_rank(const struct line *line, uint32_t rank, uint64_t *ret_offset)
{
	const char *s = line->ranks, *end = s + line->ranks_len;
	uint64_t passed = 0;
	if (line->ranks_len == 1 && *s == '*') {
		*ret_offset = rank;
		return true;
	}
	while (s < end) {
		const char *comma = memchr(s, ',', (size_t)(end - s)), *piece_end = comma ? comma : end;
		const char *dash = memchr(s, '-', (size_t)(piece_end - s));
		bool good = is_range(s, (size_t)(piece_end - s));
		uint64_t low = number(s, (size_t)(piece_end - s)), high = dash ? number(dash + 1, (size_t)(piece_end - dash - 1)) : low;
		if (good && rank >= low && rank <= high) {
			*ret_offset = passed + rank - low;
			return true;
		}
		passed += good && high >= low ? high - low + 1 : 0;
		s = piece_end + 1;
	}
	return false;
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
	vc_autostrv char **argv = calloc(line->command_len / 2 + 2, sizeof(*argv)); // a word takes two bytes, but for the last
	if (!argv)
		return vc_error_errno(err, "--multi-prog");
	if (read_words(&r, argv, err) < 0)
		return -1;
	*ret_argv = vc_steal(&argv);
	return 0;
}

// Calls fn for each line until it returns non-zero; continued lines are one.
typedef int (*line_fn)(void *ctx, const char *text, size_t len, struct vc_error *err);

static int each_line(const char *text, line_fn fn, void *ctx, struct vc_error *err)
{
	size_t len = strnlen(text, MULTIPROG_TEXT_MAX + 1), n = 0;
	if (len > MULTIPROG_TEXT_MAX)
		return vc_error_set(err, VC_EUSER, "--multi-prog: more than %d bytes", MULTIPROG_TEXT_MAX);
	vc_autofree char *joined = malloc(len + 1);
	if (!joined)
		return vc_error_errno(err, "--multi-prog");
	for (size_t i = 0; i < len; i++) {
		if (text[i] == '\\' && text[i + 1] == '\n')
			i++;
		else
			joined[n++] = text[i];
	}
	joined[n] = '\0';
	for (const char *p = joined; *p;) {
		size_t line = strcspn(p, "\n");
		int rc = fn(ctx, p, line, err);
		if (rc != 0)
			return rc;
		p += line + (p[line] == '\n');
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
	if (!find_rank(&line, s->rank, &offset))
		return 0;
	return line_argv(&line, s->rank, offset, &s->argv, err) < 0 ? -1 : 1;
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

// --- what srun says of a text before a step begins ---------------------------------------------------------------------

struct range {
	uint64_t low, high;
};

struct check {
	uint32_t ntasks; // 0: not given
	bool all;	 // there was a line of '*'
	struct range *ranges;
	size_t n;
};

static int check_range(struct check *c, const char *s, size_t len, struct vc_error *err)
{
	const char *dash = memchr(s, '-', len);
	uint64_t low = number(s, len), high = dash ? number(dash + 1, len - (size_t)(dash - s) - 1) : low;
	if (!is_range(s, len))
		return vc_error_set(err, VC_EUSER, "--multi-prog: Invalid task range specification (%.*s)", (int)(len > 64 ? 64 : len), s);
	if (low > high)
		return vc_error_set(err, VC_EUSER, "--multi-prog: Invalid task range, %" PRIu64 "-%" PRIu64, low, high);
	if (high >= (c->ntasks ? c->ntasks : UINT32_MAX))
		return vc_error_set(err, VC_EUSER, "--multi-prog: Invalid task id, %" PRIu64 " >= ntasks", high);
	c->ranges[c->n++] = (struct range){low, high};
	return 0;
}

static int check_ranks(struct check *c, const char *s, size_t len, struct vc_error *err)
{
	if (len == 1 && *s == '*') {
		c->all = true;
		return 0;
	}
	if (c->all)
		return vc_error_set(err, VC_EUSER, "--multi-prog: Task range specification with asterisk must be last");
	for (size_t at = 0; at < len;) {
		const char *comma = memchr(s + at, ',', len - at);
		size_t piece = comma ? (size_t)(comma - s) - at : len - at;
		if (piece > 0 && check_range(c, s + at, piece, err) < 0)
			return -1;
		at += piece + 1;
	}
	return 0;
}

static int check_line(void *ctx, const char *text, size_t len, struct vc_error *err)
{
	struct line line = {0};
	vc_autostrv char **argv = NULL;
	size_t skip = strspn(text, BLANKS);
	int rc = split_line(text, len, &line, err);
	if (rc < 0 || skip >= len || text[skip] == '#')
		return rc;
	if (check_ranks(ctx, line.ranks, line.ranks_len, err) < 0)
		return -1;
	return rc == 0 ? vc_error_set(err, VC_EUSER, "--multi-prog: '%.*s' names no task", (int)(len > 64 ? 64 : len), text)
		       : line_argv(&line, 0, 0, &argv, err);
}

static int compare_ranges(const void *va, const void *vb)
{
	const struct range *a = va, *b = vb;
	return a->low < b->low ? -1 : a->low > b->low;
}

static int check_coverage(struct check *c, uint32_t *ret_ntasks, struct vc_error *err)
{
	uint64_t next = 0; // the first rank behind those seen
	qsort(c->ranges, c->n, sizeof(*c->ranges), compare_ranges);
	for (size_t i = 0; i < c->n; i++) {
		if (c->ranges[i].low < next)
			return vc_error_set(err, VC_EUSER, "--multi-prog: Duplicate record for task %" PRIu64, c->ranges[i].low);
		if (c->ranges[i].low > next && !c->all)
			return vc_error_set(err, VC_EUSER, "--multi-prog: no program for task %" PRIu64, next);
		next = c->ranges[i].high + 1;
	}
	uint32_t ntasks = c->ntasks ? c->ntasks : next ? (uint32_t)next : 1;
	if (next < ntasks && !c->all)
		return vc_error_set(err, VC_EUSER, "--multi-prog: no program for task %" PRIu64, next);
	*ret_ntasks = ntasks;
	return 0;
}

int multiprog_check(const char *text, uint32_t ntasks, uint32_t *ret_ntasks, struct vc_error *err)
{
	struct check c = {.ntasks = ntasks};
	vc_autofree struct range *ranges = c.ranges = calloc(strnlen(text, MULTIPROG_TEXT_MAX) + 1, sizeof(*ranges));
	if (!ranges)
		return vc_error_errno(err, "--multi-prog");
	return each_line(text, check_line, &c, err) < 0 ? -1 : check_coverage(&c, ret_ntasks, err);
}

// --- what a text is, line by line as it stands: continued lines, too, could be taken for the beginning of one -------------

// The first line, at *text or behind, in which Slurm could find a program: its words behind the set of ranks, else NULL.
static const char *next_command(const char **text)
{
	while (**text) {
		const char *word = *text + strspn(*text, BLANKS);
		size_t len = strcspn(word, BLANKS "\n");
		const char *rest = word + len + strspn(word + len, BLANKS);
		bool more = *rest != '\0' && (*rest != '\n' || rest[1] != '\0');
		*text += strcspn(*text, "\n");
		*text += **text == '\n';
		if (*word != '#' && more && is_set(word, len > 1 && word[len - 1] == '\\' ? len - 1 : len))
			return rest;
	}
	return NULL;
}

bool multiprog_possible(const char *text)
{
	return next_command(&text) != NULL;
}

bool multiprog_is_wrapped(const char *text, const char *wrapper)
{
	size_t len = strlen(wrapper);
	const char *command;
	if (!multiprog_possible(text))
		return false;
	while ((command = next_command(&text))) {
		if (strncmp(command, wrapper, len) != 0 || strncmp(command + len, " -- ", 4) != 0)
			return false;
	}
	return true;
}

bool multiprog_is_file(const char *path, const char *text)
{
	char buf[4096];
	vc_autoclose int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	for (;;) {
		ssize_t n = fd < 0 ? -1 : read(fd, buf, sizeof(buf));
		if (n <= 0)
			return n == 0 && *text == '\0';
		if (strnlen(text, (size_t)n) < (size_t)n || memcmp(text, buf, (size_t)n) != 0)
			return false;
		text += n;
	}
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
