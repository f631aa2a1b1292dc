// SPDX-License-Identifier: GPL-2.0-or-later
// passwd, group and hosts as text: see accounts.h. Owns nothing beyond the text that it returns.
#include "guest/accounts.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libvc/cleanup.h"
#include "libvc/parse.h"

#define HOSTS_BEGIN "# vcluster: members begin\n"
#define HOSTS_END "# vcluster: members end\n"

// One line of a colon-separated file, cut into its first fields; the rest stays in the last one.
struct entry {
	char *name;
	uint64_t id;
	bool has_id;
};

// Fills e from a copy of the line; passwd and group both have the number in the third field.
static int entry_parse(const char *line, size_t len, struct entry *e)
{
	*e = (struct entry){.name = strndup(line, len)};
	if (!e->name)
		return -1;
	char *p = e->name;
	char *fields[3] = {NULL};
	for (int i = 0; i < 3; i++)
		fields[i] = strsep(&p, ":");
	if (fields[2] && vc_parse_u64("id", fields[2], 0, UINT32_MAX, &e->id, NULL) == 0)
		e->has_id = true;
	return 0;
}

struct text {
	char *data;
	size_t len;
	FILE *f;
};

static int text_open(struct text *t, struct vc_error *err)
{
	t->f = open_memstream(&t->data, &t->len);
	return t->f ? 0 : vc_error_errno(err, "memory for a file of accounts");
}

static char *text_close(struct text *t, struct vc_error *err)
{
	if (fclose(t->f) == 0)
		return t->data;
	vc_error_errno(err, "memory for a file of accounts");
	free(t->data);
	return NULL;
}

// What becomes of an old line when `name`/`id` is to be injected.
enum verdict { KEEP, DROP, KEEP_AND_DONE };

// An old entry with our number wins its name only where it is ours; a person's entry with our name but another number
// would send files to a stranger, so it goes; a system account stays.
static enum verdict judge(const struct entry *e, const char *name, uint64_t id)
{
	bool same_name = !strcmp(e->name, name), same_id = e->has_id && e->id == id;
	if (same_id && (same_name || id < ACCOUNTS_SYSTEM_MAX))
		return KEEP_AND_DONE;
	if (same_name && e->has_id && e->id < ACCOUNTS_SYSTEM_MAX)
		return KEEP_AND_DONE;
	return same_id || same_name ? DROP : KEEP;
}

static const char *next_line(const char *p, size_t *ret_len)
{
	size_t len = strcspn(p, "\n");
	*ret_len = len;
	return p[len] ? p + len + 1 : p + len;
}

// Copies the lines that stay; *ret_done when the entry is there already.
static int copy_lines(FILE *out, const char *old, const char *name, uint64_t id, bool *ret_done, struct vc_error *err)
{
	size_t len;
	for (const char *p = old, *next; *p; p = next) {
		struct entry e;
		next = next_line(p, &len);
		if (entry_parse(p, len, &e) < 0)
			return vc_error_errno(err, "an account");
		enum verdict v = judge(&e, name, id);
		free(e.name);
		if (v == KEEP_AND_DONE)
			*ret_done = true;
		if (v != DROP && len)
			fprintf(out, "%.*s\n", (int)len, p);
	}
	return 0;
}

char *accounts_passwd(const char *old, const struct setup_owner *owner, const char *shell, struct vc_error *err)
{
	struct text t = {0};
	bool done = false;
	if (text_open(&t, err) < 0)
		return NULL;
	if (copy_lines(t.f, old, owner->user, owner->uid, &done, err) < 0) {
		fclose(t.f);
		free(t.data);
		return NULL;
	}
	if (!done)
		fprintf(t.f, "%s:x:%u:%u::%s:%s\n", owner->user, (unsigned)owner->uid, (unsigned)owner->gid, owner->home, shell);
	return text_close(&t, err);
}

static bool list_has(const char *list, size_t len, const char *name)
{
	size_t n = strlen(name);
	for (const char *p = list; len >= n; ) {
		size_t item = 0;
		while (item < len && p[item] != ',')
			item++;
		if (item == n && !memcmp(p, name, n))
			return true;
		if (item >= len)
			return false;
		p += item + 1;
		len -= item + 1;
	}
	return false;
}

// Writes an existing line of the group's number with the user added to its list of members.
static void add_to_line(FILE *out, const char *line, size_t len, const char *user)
{
	const char *colon = memrchr(line, ':', len);
	size_t head = colon ? (size_t)(colon - line) + 1 : len;
	bool there = colon && list_has(line + head, len - head, user);
	fprintf(out, "%.*s%s%s\n", (int)len, line, there ? "" : len > head ? "," : "", there ? "" : user);
}

static char *inject_group(const char *old, const struct setup_group *g, const char *user, struct vc_error *err)
{
	struct text t = {0};
	bool done = false;
	size_t len;
	if (text_open(&t, err) < 0)
		return NULL;
	for (const char *p = old, *next; *p; p = next) {
		struct entry e;
		next = next_line(p, &len);
		if (entry_parse(p, len, &e) < 0) {
			vc_error_errno(err, "a group");
			fclose(t.f);
			free(t.data);
			return NULL;
		}
		enum verdict v = judge(&e, g->name, g->gid);
		bool ours = v == KEEP_AND_DONE && e.has_id && e.id == g->gid;
		free(e.name);
		done = done || v == KEEP_AND_DONE;
		if (ours)
			add_to_line(t.f, p, len, user);
		else if (v != DROP && len)
			fprintf(t.f, "%.*s\n", (int)len, p);
	}
	if (!done)
		fprintf(t.f, "%s:x:%u:%s\n", g->name, (unsigned)g->gid, user);
	return text_close(&t, err);
}

char *accounts_group(const char *old, const struct setup_owner *owner, struct vc_error *err)
{
	vc_autofree char *text = strdup(old);
	if (!text) {
		vc_error_errno(err, "a group");
		return NULL;
	}
	for (size_t i = 0; i < owner->n_groups; i++) {
		if (owner->groups[i].gid == 0)
			continue; // root's group needs no member to be root's
		char *next = inject_group(text, &owner->groups[i], owner->user, err);
		if (!next)
			return NULL;
		free(text);
		text = next;
	}
	return vc_steal(&text);
}

char *accounts_hosts(const char *old, const struct setup_member *members, size_t n, struct vc_error *err)
{
	struct text t = {0};
	if (text_open(&t, err) < 0)
		return NULL;
	const char *begin = strstr(old, HOSTS_BEGIN), *end = begin ? strstr(begin, HOSTS_END) : NULL;
	size_t head = begin ? (size_t)(begin - old) : strlen(old);
	fprintf(t.f, "%.*s", (int)head, old);
	if (head && old[head - 1] != '\n')
		fputc('\n', t.f);
	if (end)
		fputs(end + strlen(HOSTS_END), t.f);
	if (!strstr(old, "localhost"))
		fputs("127.0.0.1 localhost\n", t.f);
	fputs(HOSTS_BEGIN, t.f);
	for (size_t i = 0; i < n; i++)
		fprintf(t.f, "%s %s\n", members[i].addr, members[i].name);
	fputs(HOSTS_END, t.f);
	return text_close(&t, err);
}
