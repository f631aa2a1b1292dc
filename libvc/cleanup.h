// SPDX-License-Identifier: GPL-2.0-or-later
// Cleanup attributes for memory, descriptors, streams, json objects and vectors of strings. Each keeps errno.
#ifndef LIBVC_CLEANUP_H
#define LIBVC_CLEANUP_H

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct json_object;
int json_object_put(struct json_object *obj);

// Gives a pointer away: `*ret_x = vc_steal(&x)`.
#define vc_steal(pp)                          \
	({                                    \
		__typeof__(*(pp)) _p = *(pp); \
		*(pp) = NULL;                 \
		_p;                           \
	})
// The same for a descriptor.
static inline int vc_steal_fd(int *fd)
{
	int r = *fd;
	*fd = -1;
	return r;
}

static inline void vc_cleanup_free(void *p)
{
	int saved = errno;
	free(*(void **)p);
	errno = saved;
}
static inline void vc_cleanup_close(int *fd)
{
	int saved = errno;
	if (*fd >= 0)
		close(*fd);
	errno = saved;
}
static inline void vc_cleanup_fclose(FILE **f)
{
	int saved = errno;
	if (*f)
		fclose(*f);
	errno = saved;
}
static inline void vc_cleanup_json(struct json_object **obj)
{
	int saved = errno;
	if (*obj)
		json_object_put(*obj);
	errno = saved;
}
// Frees a NULL-terminated vector of strings and the strings.
static inline void vc_strv_free(char **v)
{
	int saved = errno;
	for (size_t i = 0; v && v[i]; i++)
		free(v[i]);
	free(v);
	errno = saved;
}
// v may be NULL, here and below.
static inline size_t vc_strv_len(char *const *v)
{
	size_t n = 0;
	while (v && v[n])
		n++;
	return n;
}
static inline bool vc_strv_has(char *const *v, const char *s)
{
	for (; v && *v; v++) {
		if (strcmp(*v, s) == 0)
			return true;
	}
	return false;
}
static inline void vc_cleanup_strv(char ***v)
{
	vc_strv_free(*v);
}

#define vc_autofree __attribute__((cleanup(vc_cleanup_free)))
#define vc_autoclose __attribute__((cleanup(vc_cleanup_close)))
#define vc_autofclose __attribute__((cleanup(vc_cleanup_fclose)))
#define vc_autojson __attribute__((cleanup(vc_cleanup_json)))
#define vc_autostrv __attribute__((cleanup(vc_cleanup_strv)))

#define VC_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

#endif
