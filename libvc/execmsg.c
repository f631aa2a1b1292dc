// SPDX-License-Identifier: GPL-2.0-or-later
// Messages of an exec session: see execmsg.h, and docs/protocol.md part 3 for the JSON.
#include "libvc/execmsg.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "libvc/json.h"
#include "libvc/limits.h"

#define TERM_MAX 128u
#define CODE_MAX 32u

static const struct {
	enum vc_exec_type type;
	const char *name;
} type_names[] = {
	{VC_EXEC_START, "start"},	{VC_EXEC_SIGNAL, "signal"}, {VC_EXEC_WINSIZE, "winsize"}, {VC_EXEC_DETACH, "detach"},
	{VC_EXEC_STARTED, "started"}, {VC_EXEC_NOTICE, "notice"}, {VC_EXEC_EXIT, "exit"},	  {VC_EXEC_ERROR, "error"},
};

static const struct {
	int resource;
	const char *name;
} limit_names[] = {
	{RLIMIT_AS, "as"},	     {RLIMIT_CORE, "core"},	  {RLIMIT_CPU, "cpu"},		   {RLIMIT_DATA, "data"},
	{RLIMIT_FSIZE, "fsize"},     {RLIMIT_LOCKS, "locks"},	  {RLIMIT_MEMLOCK, "memlock"},	   {RLIMIT_MSGQUEUE, "msgqueue"},
	{RLIMIT_NICE, "nice"},	     {RLIMIT_NOFILE, "nofile"},	  {RLIMIT_NPROC, "nproc"},	   {RLIMIT_RSS, "rss"},
	{RLIMIT_RTPRIO, "rtprio"},   {RLIMIT_RTTIME, "rttime"},	  {RLIMIT_SIGPENDING, "sigpending"}, {RLIMIT_STACK, "stack"},
};

// ---- names ----

static int signal_from_name(const char *name, int *ret)
{
	int n;
	for (int sig = 1; sig < SIGRTMIN; sig++) {
		const char *abbrev = sigabbrev_np(sig);
		if (abbrev && strcmp(abbrev, name) == 0) {
			*ret = sig;
			return 0;
		}
	}
	char rest;
	if (sscanf(name, "RTMIN+%2d%c", &n, &rest) != 1 || n < 0 || SIGRTMIN + n > SIGRTMAX)
		return -1;
	*ret = SIGRTMIN + n;
	return 0;
}

static int add_signal(struct json_object *obj, const char *key, int signo)
{
	char text[32];
	const char *abbrev = signo < SIGRTMIN ? sigabbrev_np(signo) : NULL;
	if (!abbrev && signo < SIGRTMIN)
		return -1;
	snprintf(text, sizeof(text), "RTMIN+%d", signo - SIGRTMIN);
	return vc_json_add_str(obj, key, abbrev ? abbrev : text);
}

static int get_signal(struct json_object *obj, const char *key, int *ret, struct vc_error *err)
{
	const char *name;
	if (vc_json_str(obj, key, 16, &name, err) < 0)
		return -1;
	if (signal_from_name(name, ret) < 0)
		return vc_error_set(err, VC_EPROTO, "'%s' names no signal: '%s'", key, name);
	return 0;
}

// ---- vectors of strings as one blob ----

static int add_vector(struct json_object *obj, const char *key, char *const *v)
{
	size_t len = 0, pos = 0;
	for (size_t i = 0; v && v[i]; i++)
		len += strlen(v[i]) + 1;
	vc_autofree char *blob = malloc(len + 1);
	if (!blob)
		return -1;
	for (size_t i = 0; v && v[i]; i++) {
		size_t n = strlen(v[i]) + 1;
		memcpy(blob + pos, v[i], n);
		pos += n;
	}
	return vc_json_add_bytes(obj, key, blob, len);
}

static int get_vector(struct json_object *obj, const char *key, size_t *budget, char ***ret, struct vc_error *err)
{
	vc_autofree uint8_t *blob = NULL;
	size_t len, count = 0;
	if (vc_json_bytes(obj, key, *budget, &blob, &len, err) < 0)
		return -1;
	for (size_t i = 0; i < len; i++)
		count += blob[i] == '\0';
	if (len > *budget || count > VC_EXEC_ARGS_MAX || (len && blob[len - 1] != '\0'))
		return vc_error_set(err, VC_EPROTO, "'%s' is too long, has too many strings (limit %u) or is cut off", key, VC_EXEC_ARGS_MAX);
	vc_autostrv char **v = calloc(count + 1, sizeof(*v));
	const char *p = (const char *)blob;
	for (size_t i = 0; v && i < count; i++, p += strlen(p) + 1) {
		v[i] = strdup(p);
		if (!v[i])
			return vc_error_errno(err, "'%s'", key);
	}
	if (!v)
		return vc_error_errno(err, "'%s'", key);
	*budget -= len;
	*ret = vc_steal(&v);
	return 0;
}

// ---- start ----

static int decode_pty(struct json_object *obj, struct vc_exec_start *st, struct vc_error *err)
{
	struct json_object *pty = NULL;
	if (!json_object_object_get_ex(obj, "pty", &pty) || !pty)
		return 0;
	const char *term = NULL;
	uint32_t rows, cols;
	if (vc_json_u32(pty, "rows", UINT16_MAX, &rows, err) < 0 || vc_json_u32(pty, "cols", UINT16_MAX, &cols, err) < 0 ||
	    vc_json_str_opt(pty, "term", TERM_MAX, &term, err) < 0)
		return -1;
	st->pty = true;
	st->rows = (uint16_t)rows;
	st->cols = (uint16_t)cols;
	if (term && !(st->term = strdup(term)))
		return vc_error_errno(err, "'term'");
	return 0;
}

static int decode_rlimit(struct json_object *item, struct vc_exec_rlimit *ret, struct vc_error *err)
{
	const char *name;
	if (vc_json_str(item, "name", 16, &name, err) < 0 || vc_json_u64(item, "soft", UINT64_MAX, &ret->soft, err) < 0 ||
	    vc_json_u64(item, "hard", UINT64_MAX, &ret->hard, err) < 0)
		return -1;
	for (size_t i = 0; i < VC_ARRAY_LEN(limit_names); i++) {
		if (strcmp(limit_names[i].name, name) == 0) {
			ret->resource = limit_names[i].resource;
			return 0;
		}
	}
	return vc_error_set(err, VC_EPROTO, "there is no resource limit '%s'", name);
}

static int decode_rlimits(struct json_object *obj, struct vc_exec_start *st, struct vc_error *err)
{
	struct json_object *list = NULL;
	if (vc_json_array_opt(obj, "rlimits", VC_EXEC_RLIMITS_MAX, &list, err) < 0)
		return -1;
	size_t n = list ? json_object_array_length(list) : 0;
	if (n && !(st->rlimits = calloc(n, sizeof(*st->rlimits))))
		return vc_error_errno(err, "'rlimits'");
	for (size_t i = 0; i < n; i++) {
		if (decode_rlimit(json_object_array_get_idx(list, i), &st->rlimits[i], err) < 0)
			return -1;
		st->rlimit_count++;
	}
	return 0;
}

static int decode_cpus(struct json_object *obj, struct vc_exec_start *st, struct vc_error *err)
{
	struct json_object *list = NULL;
	if (vc_json_array_opt(obj, "cpus", VC_EXEC_CPUS_MAX, &list, err) < 0)
		return -1;
	size_t n = list ? json_object_array_length(list) : 0;
	if (n && !(st->cpus = calloc(n, sizeof(*st->cpus))))
		return vc_error_errno(err, "'cpus'");
	for (size_t i = 0; i < n; i++) {
		struct json_object *item = json_object_array_get_idx(list, i);
		int64_t cpu = json_object_is_type(item, json_type_int) ? json_object_get_int64(item) : -1;
		if (cpu < 0 || cpu >= (int64_t)VC_EXEC_CPUS_MAX)
			return vc_error_set(err, VC_EPROTO, "'cpus' holds what is no processor's number");
		st->cpus[st->cpu_count++] = (uint32_t)cpu;
	}
	return 0;
}

static int decode_cwd(struct json_object *obj, struct vc_exec_start *st, struct vc_error *err)
{
	size_t len;
	if (!json_object_object_get_ex(obj, "cwd", NULL))
		return 0;
	if (vc_json_bytes(obj, "cwd", VC_PATH_MAX - 1, (uint8_t **)&st->cwd, &len, err) < 0)
		return -1;
	if (strlen(st->cwd) != len || st->cwd[0] != '/')
		return vc_error_set(err, VC_EPROTO, "'cwd' is not an absolute path");
	return 0;
}

static int decode_start(struct json_object *obj, struct vc_execmsg *msg, struct vc_error *err)
{
	struct vc_exec_start *st = &msg->start;
	size_t budget = VC_ARG_MAX;
	st->stdin_open = true;
	if (get_vector(obj, "argv", &budget, &st->argv, err) < 0 || get_vector(obj, "env", &budget, &st->env, err) < 0 ||
	    decode_cwd(obj, st, err) < 0 || vc_json_u32(obj, "umask", 0777, &st->umask, err) < 0 ||
	    vc_json_bool_opt(obj, "stdin", &st->stdin_open, err) < 0 || vc_json_bool_opt(obj, "pmi", &st->pmi, err) < 0 ||
	    vc_json_bool_opt(obj, "pmix", &st->pmix, err) < 0 || decode_pty(obj, st, err) < 0 ||
	    decode_rlimits(obj, st, err) < 0 || decode_cpus(obj, st, err) < 0)
		return -1;
	if (!st->argv[0])
		return vc_error_set(err, VC_EPROTO, "'argv' is empty");
	if (!json_object_object_get_ex(obj, "script", NULL))
		return 0;
	return vc_json_bytes(obj, "script", VC_SCRIPT_MAX, &st->script, &st->script_len, err);
}

static int encode_rlimits(struct json_object *obj, const struct vc_exec_start *st)
{
	struct json_object *list = json_object_new_array();
	for (size_t i = 0; list && i < st->rlimit_count; i++) {
		const struct vc_exec_rlimit *l = &st->rlimits[i];
		const char *name = NULL;
		for (size_t j = 0; j < VC_ARRAY_LEN(limit_names); j++) {
			if (limit_names[j].resource == l->resource)
				name = limit_names[j].name;
		}
		struct json_object *item = json_object_new_object();
		if (!name || !item || vc_json_add_str(item, "name", name) < 0 || vc_json_add_u64(item, "soft", l->soft) < 0 ||
		    vc_json_add_u64(item, "hard", l->hard) < 0 || json_object_array_add(list, item) < 0) {
			json_object_put(item);
			json_object_put(list);
			return -1;
		}
	}
	return vc_json_add(obj, "rlimits", list);
}

static int encode_cpus(struct json_object *obj, const struct vc_exec_start *st)
{
	struct json_object *list = st->cpu_count ? json_object_new_array() : NULL;
	for (size_t i = 0; list && i < st->cpu_count; i++)
		json_object_array_add(list, json_object_new_int64(st->cpus[i]));
	return list ? vc_json_add(obj, "cpus", list) : st->cpu_count ? -1 : 0;
}

static int encode_pty(struct json_object *obj, const struct vc_exec_start *st)
{
	if (!st->pty)
		return 0;
	struct json_object *pty = json_object_new_object();
	if (!pty || vc_json_add_int(pty, "rows", st->rows) < 0 || vc_json_add_int(pty, "cols", st->cols) < 0 ||
	    vc_json_add_str(pty, "term", st->term) < 0) {
		json_object_put(pty);
		return -1;
	}
	return vc_json_add(obj, "pty", pty);
}

static int encode_start(struct json_object *obj, const struct vc_execmsg *msg, struct vc_error *err)
{
	const struct vc_exec_start *st = &msg->start;
	size_t args = 0;
	for (size_t i = 0; st->argv[i]; i++)
		args += strlen(st->argv[i]) + 1;
	for (size_t i = 0; st->env && st->env[i]; i++)
		args += strlen(st->env[i]) + 1;
	if (args > VC_ARG_MAX || st->script_len > VC_SCRIPT_MAX)
		return vc_error_set(err, VC_EUSER, "arguments and environment (%zu bytes, limit %u) or script (%zu bytes, limit %u) are too long",
				    args, VC_ARG_MAX, st->script_len, VC_SCRIPT_MAX);
	if (add_vector(obj, "argv", st->argv) < 0 || add_vector(obj, "env", st->env) < 0 ||
	    vc_json_add_int(obj, "umask", st->umask) < 0 || vc_json_add_bool(obj, "stdin", st->stdin_open) < 0 ||
	    (st->pmi && vc_json_add_bool(obj, "pmi", true) < 0) || (st->pmix && vc_json_add_bool(obj, "pmix", true) < 0) ||
	    encode_rlimits(obj, st) < 0 || encode_cpus(obj, st) < 0 || encode_pty(obj, st) < 0)
		return -1;
	if (st->cwd && vc_json_add_bytes(obj, "cwd", st->cwd, strlen(st->cwd)) < 0)
		return -1;
	return st->script ? vc_json_add_bytes(obj, "script", st->script, st->script_len) : 0;
}

// ---- the others ----

static int get_text(struct json_object *obj, const char *key, size_t max, char **ret, struct vc_error *err)
{
	const char *s;
	if (vc_json_str(obj, key, max, &s, err) < 0)
		return -1;
	*ret = strdup(s);
	return *ret ? 0 : vc_error_errno(err, "'%s'", key);
}

static int decode_winsize(struct json_object *obj, struct vc_execmsg *msg, struct vc_error *err)
{
	uint32_t rows, cols;
	if (vc_json_u32(obj, "rows", UINT16_MAX, &rows, err) < 0 || vc_json_u32(obj, "cols", UINT16_MAX, &cols, err) < 0)
		return -1;
	msg->winsize.rows = (uint16_t)rows;
	msg->winsize.cols = (uint16_t)cols;
	return 0;
}

static int decode_exit(struct json_object *obj, struct vc_execmsg *msg, struct vc_error *err)
{
	if (!json_object_object_get_ex(obj, "signal", NULL))
		return vc_json_int(obj, "status", 0, 255, &msg->exit.status, err);
	if (vc_json_bool_opt(obj, "core", &msg->exit.core, err) < 0)
		return -1;
	return get_signal(obj, "signal", &msg->exit.signo, err);
}

static int decode_body(struct json_object *obj, struct vc_execmsg *msg, struct vc_error *err)
{
	uint64_t pid;
	switch (msg->type) {
	case VC_EXEC_START:
		return decode_start(obj, msg, err);
	case VC_EXEC_SIGNAL:
		return get_signal(obj, "sig", &msg->signo, err);
	case VC_EXEC_WINSIZE:
		return decode_winsize(obj, msg, err);
	case VC_EXEC_STARTED:
		if (vc_json_u64(obj, "pid", INT32_MAX, &pid, err) < 0)
			return -1;
		msg->started.pid = (int64_t)pid;
		return 0;
	case VC_EXEC_NOTICE:
		return get_text(obj, "text", VC_EXEC_TEXT_MAX, &msg->notice.text, err);
	case VC_EXEC_EXIT:
		return decode_exit(obj, msg, err);
	case VC_EXEC_ERROR:
		if (vc_json_int(obj, "status", 1, 255, &msg->error.status, err) < 0 ||
		    get_text(obj, "code", CODE_MAX, &msg->error.code, err) < 0)
			return -1;
		return get_text(obj, "message", VC_EXEC_TEXT_MAX, &msg->error.message, err);
	default:
		return 0;
	}
}

int vc_execmsg_decode(const char *text, size_t len, struct vc_execmsg *ret, struct vc_error *err)
{
	const char *name;
	struct vc_execmsg msg = VC_EXECMSG_INIT;
	vc_autojson struct json_object *obj = vc_json_parse(text, len, err);
	if (!obj || vc_json_str(obj, "type", 16, &name, err) < 0)
		return -1;
	for (size_t i = 0; i < VC_ARRAY_LEN(type_names); i++) {
		if (strcmp(type_names[i].name, name) == 0)
			msg.type = type_names[i].type;
	}
	if (!msg.type)
		return vc_error_set(err, VC_EPROTO, "an exec session has no message '%s'", name);
	if (decode_body(obj, &msg, err) < 0) {
		vc_execmsg_clear(&msg);
		return vc_error_wrap(err, "message '%s'", name);
	}
	*ret = msg;
	return 0;
}

// A text for a person, cut to what the other side accepts.
static int add_text(struct json_object *obj, const char *key, const char *text)
{
	size_t len = strnlen(text, VC_EXEC_TEXT_MAX);
	while (len == VC_EXEC_TEXT_MAX && len && (text[len] & 0xc0) == 0x80)
		len--; // not inside a UTF-8 sequence
	vc_autofree char *cut = strndup(text, len);
	return cut ? vc_json_add_str(obj, key, cut) : -1;
}

static int encode_body(struct json_object *obj, const struct vc_execmsg *msg, struct vc_error *err)
{
	switch (msg->type) {
	case VC_EXEC_START:
		return encode_start(obj, msg, err);
	case VC_EXEC_SIGNAL:
		return add_signal(obj, "sig", msg->signo);
	case VC_EXEC_WINSIZE:
		return vc_json_add_int(obj, "rows", msg->winsize.rows) < 0 ? -1 : vc_json_add_int(obj, "cols", msg->winsize.cols);
	case VC_EXEC_STARTED:
		return vc_json_add_int(obj, "pid", msg->started.pid);
	case VC_EXEC_NOTICE:
		return add_text(obj, "text", msg->notice.text);
	case VC_EXEC_EXIT:
		if (!msg->exit.signo)
			return vc_json_add_int(obj, "status", msg->exit.status);
		return vc_json_add_bool(obj, "core", msg->exit.core) < 0 ? -1 : add_signal(obj, "signal", msg->exit.signo);
	case VC_EXEC_ERROR:
		return vc_json_add_int(obj, "status", msg->error.status) < 0 || vc_json_add_str(obj, "code", msg->error.code) < 0
			       ? -1
			       : add_text(obj, "message", msg->error.message);
	default:
		return 0;
	}
}

char *vc_execmsg_encode(const struct vc_execmsg *msg, size_t *ret_len, struct vc_error *err)
{
	const char *name = NULL;
	struct vc_error inner = VC_ERROR_INIT;
	for (size_t i = 0; i < VC_ARRAY_LEN(type_names); i++) {
		if (type_names[i].type == msg->type)
			name = type_names[i].name;
	}
	vc_autojson struct json_object *obj = json_object_new_object();
	if (!name || !obj || vc_json_add_str(obj, "type", name) < 0 || encode_body(obj, msg, &inner) < 0) {
		vc_error_set(err, inner.code ? inner.code : VC_EFAILED, "%s", inner.code ? inner.text : "cannot encode a message of an exec session");
		return NULL;
	}
	const char *text = vc_json_text(obj, ret_len);
	char *copy = text ? strdup(text) : NULL;
	if (!copy)
		vc_error_set(err, VC_EFAILED, "no memory for message '%s'", name);
	return copy;
}

void vc_exec_start_clear(struct vc_exec_start *st)
{
	vc_strv_free(st->argv);
	vc_strv_free(st->env);
	free(st->cwd);
	free(st->rlimits);
	free(st->cpus);
	free(st->term);
	free(st->script);
	for (size_t i = 0; i < VC_ARRAY_LEN(st->files); i++)
		free(st->files[i].path);
	*st = (struct vc_exec_start){0};
}

void vc_execmsg_clear(struct vc_execmsg *msg)
{
	int saved = errno;
	switch (msg->type) {
	case VC_EXEC_START:
		vc_exec_start_clear(&msg->start);
		break;
	case VC_EXEC_NOTICE:
		free(msg->notice.text);
		break;
	case VC_EXEC_ERROR:
		free(msg->error.code);
		free(msg->error.message);
		break;
	default:
		break;
	}
	*msg = VC_EXECMSG_INIT;
	errno = saved;
}

// ---- environment ----

static char **env_slot(const struct vc_exec_start *st, const char *name, size_t *ret_count)
{
	size_t len = strlen(name), count = 0;
	char **found = NULL;
	for (; st->env && st->env[count]; count++) {
		if (!found && strncmp(st->env[count], name, len) == 0 && st->env[count][len] == '=')
			found = &st->env[count];
	}
	*ret_count = count;
	return found;
}

const char *vc_exec_getenv(const struct vc_exec_start *st, const char *name)
{
	size_t count;
	char **slot = env_slot(st, name, &count);
	return slot ? *slot + strlen(name) + 1 : NULL;
}

int vc_exec_setenv(struct vc_exec_start *st, const char *name, const char *value, struct vc_error *err)
{
	size_t count;
	char **slot = env_slot(st, name, &count), *text = NULL;
	if (value && asprintf(&text, "%s=%s", name, value) < 0)
		return vc_error_errno(err, "environment");
	if (slot) {
		free(*slot);
		*slot = text ? text : st->env[count - 1];
		if (!text)
			st->env[count - 1] = NULL;
		return 0;
	}
	if (!text)
		return 0;
	char **env = realloc(st->env, (count + 2) * sizeof(*env));
	if (!env) {
		free(text);
		return vc_error_errno(err, "environment");
	}
	env[count] = text;
	env[count + 1] = NULL;
	st->env = env;
	return 0;
}
