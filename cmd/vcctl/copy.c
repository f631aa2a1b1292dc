// SPDX-License-Identifier: GPL-2.0-or-later
// Words of vcctl cp: see copy.h.
#include "cmd/vcctl/copy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libvc/cleanup.h"

void copy_side_clear(struct copy_side *side)
{
	int saved = errno;
	free(side->job);
	free(side->member);
	free(side->path);
	*side = (struct copy_side){0};
	errno = saved;
}

// A path of this host that looks like one of a member can be written as ./123:0:file.
static bool names_member(const char *text, size_t *ret_job, size_t *ret_member)
{
	size_t job = strspn(text, "0123456789");
	if (job == 0 || text[job] != ':')
		return false;
	size_t member = strcspn(text + job + 1, ":/");
	if (member == 0 || text[job + 1 + member] != ':')
		return false;
	*ret_job = job;
	*ret_member = member;
	return true;
}

int copy_side_parse(const char *text, struct copy_side *ret, struct vc_error *err)
{
	struct copy_side side = {0};
	size_t job, member;
	if (!*text)
		return vc_error_set(err, VC_EUSER, "an empty path cannot be copied");
	if (names_member(text, &job, &member)) {
		side.job = strndup(text, job);
		side.member = strndup(text + job + 1, member);
		const char *path = text + job + member + 2;
		side.path = strdup(*path ? path : ".");
	} else {
		side.path = strdup(text);
	}
	if (!side.path || (!side.job != !side.member)) {
		copy_side_clear(&side);
		return vc_error_set(err, ENOMEM, "out of memory");
	}
	*ret = side;
	return 0;
}

int copy_split(const char *path, char **ret_dir, char **ret_name, struct vc_error *err)
{
	size_t end = strlen(path);
	while (end > 1 && path[end - 1] == '/')
		end--;
	size_t start = end;
	while (start > 0 && path[start - 1] != '/')
		start--;
	vc_autofree char *name = strndup(path + start, end - start);
	vc_autofree char *dir = start ? strndup(path, start > 1 ? start - 1 : 1) : strdup(".");
	if (!name || !dir)
		return vc_error_set(err, ENOMEM, "out of memory");
	if (!*name || strcmp(name, "/") == 0 || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return vc_error_set(err, VC_EUSER, "'%.200s' has no name to copy: name the file or directory itself", path);
	*ret_dir = vc_steal(&dir);
	*ret_name = vc_steal(&name);
	return 0;
}
