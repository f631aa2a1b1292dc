// SPDX-License-Identifier: GPL-2.0-or-later
// A recipe's text, by libconfuse: see recipe_conf.h.
//
// libconfuse gives its error callback no user pointer: the file's name and the caller's error travel in a
// thread-local that is set for the time of one parse.
#include "vcd/image/recipe_conf.h"

#include <confuse.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "libvc/cleanup.h"
#include "libvc/limits.h"
#include "libvc/parse.h"

struct parse_state {
	const char *path;
	struct vc_error *err;
	bool failed; // the first message is the one that counts
};

static _Thread_local struct parse_state *current;

static void __attribute__((format(printf, 2, 0))) on_error(cfg_t *cfg, const char *fmt, va_list ap)
{
	if (!current || current->failed)
		return;
	current->failed = true;
	vc_error_vset(current->err, VC_EUSER, fmt, ap);
	vc_error_wrap(current->err, "%s:%d", current->path, cfg ? cfg->line : 0);
}

// --- checks with line numbers ------------------------------------------------------------------------------

static int check_base_text(const char *text, struct vc_error *err)
{
	if (strncmp(text, "debian:", 7) == 0)
		return recipe_check_suite(text + 7, err);
	if (strncmp(text, "import:", 7) == 0 && text[7])
		return 0;
	return vc_error_set(err, VC_EUSER, "base '%.80s' must be debian:RELEASE or import:TAR", text);
}

static int check_visibility(const char *text, struct vc_error *err)
{
	if (strcmp(text, "private") == 0 || strcmp(text, "public") == 0)
		return 0;
	return vc_error_set(err, VC_EUSER, "visibility '%.80s' must be private or public", text);
}

static int parse_size(const char *text, uint64_t *ret, struct vc_error *err)
{
	uint64_t size = 0;
	if (vc_parse_size("size", text, 1, IMAGE_SIZE_MAX, &size, err) < 0 || recipe_check_size(size, err) < 0)
		return -1;
	*ret = size;
	return 0;
}

static int check_size_text(const char *text, struct vc_error *err)
{
	uint64_t size;
	return parse_size(text, &size, err);
}

static int parse_mode(const char *text, unsigned *ret, struct vc_error *err)
{
	size_t len = strlen(text);
	if (len < 3 || len > 5 || strspn(text, "01234567") != len)
		return vc_error_set(err, VC_EUSER, "mode '%.80s' must be octal, as 0644", text);
	unsigned mode = 0;
	for (size_t i = 0; i < len; i++)
		mode = mode * 8 + (unsigned)(text[i] - '0');
	if (mode > 07777)
		return vc_error_set(err, VC_EUSER, "mode '%s' is more than 7777", text);
	*ret = mode;
	return 0;
}

static int check_mode_text(const char *text, struct vc_error *err)
{
	unsigned mode;
	return parse_mode(text, &mode, err);
}

static const struct option_check {
	const char *option;
	int (*check)(const char *text, struct vc_error *err);
} option_checks[] = {
	{"name", recipe_check_name},	     {"base", check_base_text},	      {"packages", recipe_check_package},
	{"from", recipe_check_from},
	{"commands", recipe_check_command},  {"visibility", check_visibility}, {"size", check_size_text},
	{"file|mode", check_mode_text},	     {"file|owner", recipe_check_owner},
};

static int validate_option(cfg_t *cfg, cfg_opt_t *opt)
{
	for (size_t i = 0; i < VC_ARRAY_LEN(option_checks); i++) {
		const char *bar = strchr(option_checks[i].option, '|');
		if (strcmp(bar ? bar + 1 : option_checks[i].option, cfg_opt_name(opt)) != 0)
			continue;
		struct vc_error err = VC_ERROR_INIT;
		const char *text = cfg_opt_getnstr(opt, cfg_opt_size(opt) - 1);
		if (text && option_checks[i].check(text, &err) < 0) {
			cfg_error(cfg, "%s", err.text);
			return -1;
		}
	}
	return 0;
}

static int validate_file(cfg_t *cfg, cfg_opt_t *opt)
{
	cfg_t *sec = cfg_opt_getnsec(opt, cfg_opt_size(opt) - 1);
	struct vc_error err = VC_ERROR_INIT;
	if (recipe_check_path(cfg_title(sec), &err) < 0) {
		cfg_error(cfg, "%s", err.text);
		return -1;
	}
	if (!cfg_getstr(sec, "source") == !cfg_getstr(sec, "content")) {
		cfg_error(cfg, "file '%s' needs either source or content", cfg_title(sec));
		return -1;
	}
	return 0;
}

static void set_checks(cfg_t *cfg)
{
	for (size_t i = 0; i < VC_ARRAY_LEN(option_checks); i++)
		cfg_set_validate_func(cfg, option_checks[i].option, validate_option);
	cfg_set_validate_func(cfg, "file", validate_file);
}

// --- reading files with the user's rights ------------------------------------------------------------------

static int open_regular(const char *path, uint64_t max, int *ret_fd, uint64_t *ret_size, struct vc_error *err)
{
	vc_autoclose int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0)
		return vc_error_errno(err, "%s", path);
	if (!S_ISREG(st.st_mode))
		return vc_error_set(err, VC_EUSER, "%s: not a regular file", path);
	if ((uint64_t)st.st_size > max)
		return vc_error_set(err, VC_EUSER, "%s: has %lld bytes, more than %llu", path, (long long)st.st_size,
				    (unsigned long long)max);
	*ret_size = (uint64_t)st.st_size;
	*ret_fd = vc_steal_fd(&fd);
	return 0;
}

// The whole file, with a zero byte behind it.
static int read_file(const char *path, size_t max, uint8_t **ret, size_t *ret_len, struct vc_error *err)
{
	vc_autoclose int fd = -1;
	uint64_t size = 0;
	if (open_regular(path, max, &fd, &size, err) < 0)
		return -1;
	vc_autofree uint8_t *data = malloc(size + 1);
	if (!data)
		return vc_error_set(err, ENOMEM, "%s: out of memory", path);
	size_t len = 0;
	while (len < size) {
		ssize_t n = read(fd, data + len, size - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return vc_error_errno(err, "%s", path);
		if (n == 0)
			break;
		len += (size_t)n;
	}
	data[len] = '\0';
	*ret_len = len;
	*ret = vc_steal(&data);
	return 0;
}

// A path of the recipe is relative to the recipe's own directory.
static char *beside(const char *recipe_path, const char *path)
{
	const char *slash = strrchr(recipe_path, '/');
	char *full = NULL;
	if (path[0] == '/' || !slash)
		return strdup(path);
	return asprintf(&full, "%.*s/%s", (int)(slash - recipe_path), recipe_path, path) < 0 ? NULL : full;
}

// --- libconfuse's tree to a recipe -------------------------------------------------------------------------

static int take_base(cfg_t *cfg, const char *path, struct recipe *r, struct vc_error *err)
{
	const char *text = cfg_getstr(cfg, "base"), *from = cfg_getstr(cfg, "from");
	if (text && from)
		return vc_error_set(err, VC_EUSER, "%s: either base or from, not both", path);
	if (from) {
		r->base = RECIPE_BASE_IMAGE;
		r->from = strdup(from);
		return r->from ? 0 : vc_error_set(err, ENOMEM, "%s: out of memory", path);
	}
	if (!text)
		text = "debian:" RECIPE_DEFAULT_SUITE;
	if (strncmp(text, "debian:", 7) == 0) {
		r->base = RECIPE_BASE_DEBIAN;
		r->suite = strdup(text + 7);
		return r->suite ? 0 : vc_error_set(err, ENOMEM, "%s: out of memory", path);
	}
	vc_autoclose int fd = -1;
	uint8_t digest[DIGEST_LEN];
	uint64_t size = 0;
	r->base = RECIPE_BASE_IMPORT;
	r->import_path = beside(path, text + 7);
	if (!r->import_path)
		return vc_error_set(err, ENOMEM, "%s: out of memory", path);
	if (open_regular(r->import_path, IMAGE_IMPORT_MAX, &fd, &size, err) < 0)
		return vc_error_wrap(err, "%s: base", path);
	if (digest_fd(fd, IMAGE_IMPORT_MAX, digest, &r->import_size, err) < 0)
		return vc_error_wrap(err, "%s: base: %s", path, r->import_path);
	digest_hex(digest, r->import_digest);
	return 0;
}

static int take_list(cfg_t *cfg, const char *option, char ***ret, struct vc_error *err)
{
	unsigned n = cfg_size(cfg, option);
	vc_autostrv char **items = calloc(n + 1, sizeof(*items));
	for (unsigned i = 0; items && i < n; i++) {
		items[i] = strdup(cfg_getnstr(cfg, option, i));
		if (!items[i])
			return vc_error_set(err, ENOMEM, "recipe: out of memory");
	}
	if (!items)
		return vc_error_set(err, ENOMEM, "recipe: out of memory");
	*ret = vc_steal(&items);
	return 0;
}

static int take_file(cfg_t *sec, const char *path, struct recipe_file *f, struct vc_error *err)
{
	const char *source = cfg_getstr(sec, "source");
	f->path = strdup(cfg_title(sec));
	f->owner = strdup(cfg_getstr(sec, "owner"));
	if (!f->path || !f->owner || parse_mode(cfg_getstr(sec, "mode"), &f->mode, err) < 0)
		return vc_error_set(err, ENOMEM, "%s: out of memory", path);
	if (source) {
		vc_autofree char *full = beside(path, source);
		if (!full)
			return vc_error_set(err, ENOMEM, "%s: out of memory", path);
		if (read_file(full, IMAGE_FILE_BYTES_MAX, &f->data, &f->len, err) < 0)
			return vc_error_wrap(err, "%s: file '%s'", path, f->path);
		return 0;
	}
	f->data = (uint8_t *)strdup(cfg_getstr(sec, "content"));
	f->len = f->data ? strlen((char *)f->data) : 0;
	return f->data ? 0 : vc_error_set(err, ENOMEM, "%s: out of memory", path);
}

static int take_files(cfg_t *cfg, const char *path, struct recipe *r, struct vc_error *err)
{
	unsigned n = cfg_size(cfg, "file");
	if (n > IMAGE_FILES_MAX)
		return vc_error_set(err, VC_EUSER, "%s: more than %d files", path, IMAGE_FILES_MAX);
	r->files = calloc(n ? n : 1, sizeof(*r->files));
	if (!r->files)
		return vc_error_set(err, ENOMEM, "%s: out of memory", path);
	for (unsigned i = 0; i < n; i++) {
		r->n_files = i + 1;
		if (take_file(cfg_getnsec(cfg, "file", i), path, &r->files[i], err) < 0)
			return -1;
	}
	return 0;
}

static int take_recipe(cfg_t *cfg, const char *path, struct recipe *r, struct vc_error *err)
{
	const char *name = cfg_getstr(cfg, "name"), *size = cfg_getstr(cfg, "size");
	if (!name)
		return vc_error_set(err, VC_EUSER, "%s: name is missing", path);
	r->name = strdup(name);
	if (!r->name)
		return vc_error_set(err, ENOMEM, "%s: out of memory", path);
	r->is_public = strcmp(cfg_getstr(cfg, "visibility"), "public") == 0;
	if (size && parse_size(size, &r->size, err) < 0)
		return vc_error_wrap(err, "%s", path);
	if (take_base(cfg, path, r, err) < 0 || take_files(cfg, path, r, err) < 0)
		return -1;
	if (take_list(cfg, "packages", &r->packages, err) < 0 || take_list(cfg, "commands", &r->commands, err) < 0)
		return -1;
	return recipe_validate(r, err) < 0 ? vc_error_wrap(err, "%s", path) : 0;
}

static cfg_t *parse_text(const char *text, const char *path, struct vc_error *err)
{
	cfg_opt_t file_opts[] = {
		CFG_STR("source", NULL, CFGF_NODEFAULT),  CFG_STR("content", NULL, CFGF_NODEFAULT),
		CFG_STR("mode", "0644", CFGF_NONE),	  CFG_STR("owner", "root:root", CFGF_NONE),
		CFG_END(),
	};
	cfg_opt_t opts[] = {
		CFG_STR("name", NULL, CFGF_NODEFAULT),
		CFG_STR("base", NULL, CFGF_NODEFAULT),
		CFG_STR("from", NULL, CFGF_NODEFAULT),
		CFG_STR_LIST("packages", "{}", CFGF_NONE),
		CFG_SEC("file", file_opts, CFGF_MULTI | CFGF_TITLE | CFGF_NO_TITLE_DUPES),
		CFG_STR_LIST("commands", "{}", CFGF_NONE),
		CFG_STR("visibility", "private", CFGF_NONE),
		CFG_STR("size", NULL, CFGF_NODEFAULT),
		CFG_END(),
	};
	struct parse_state state = {.path = path, .err = err};
	cfg_t *cfg = cfg_init(opts, CFGF_NONE);
	if (!cfg) {
		vc_error_set(err, ENOMEM, "%s: out of memory", path);
		return NULL;
	}
	current = &state;
	cfg_set_error_function(cfg, on_error);
	set_checks(cfg);
	int rc = cfg_parse_buf(cfg, text);
	current = NULL;
	if (rc == CFG_SUCCESS && !state.failed)
		return cfg;
	if (!state.failed)
		vc_error_set(err, VC_EUSER, "%s: cannot be parsed", path);
	cfg_free(cfg);
	return NULL;
}

int recipe_parse_file(const char *path, struct recipe **ret, struct vc_error *err)
{
	vc_autofree uint8_t *text = NULL;
	size_t len = 0;
	if (read_file(path, IMAGE_RECIPE_TEXT_MAX, &text, &len, err) < 0)
		return vc_error_wrap(err, "recipe");
	if (strlen((char *)text) != len)
		return vc_error_set(err, VC_EUSER, "%s: holds a zero byte", path);
	cfg_t *cfg = parse_text((char *)text, path, err);
	if (!cfg)
		return -1;
	recipe_auto struct recipe *r = calloc(1, sizeof(*r));
	int rc = r ? take_recipe(cfg, path, r, err) : vc_error_set(err, ENOMEM, "%s: out of memory", path);
	cfg_free(cfg);
	if (rc == 0)
		*ret = vc_steal(&r);
	return rc;
}
