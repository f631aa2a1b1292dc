// SPDX-License-Identifier: GPL-2.0-or-later
// One image build: see imgbuild.h. Steps: [spool the tar] -> spawn vc-build -> exit status -> publish -> reply.
//
// The work directory lies in the store's directory, so that publication is a rename; it is removed at the end in
// every case, in a worker.
#include "vcd/imgbuild.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "vcd/conf.h"
#include "vcd/image/image_build.h"
#include "vcd/image/imgcache.h"
#include "vcd/image/store.h"
#include "vcd/vcd.h"
#include "vcd/work.h"

#define FINISH_TIMEOUT_MS 600000 // hashing IMAGE_SIZE_MAX from a slow disk
#define IMGBUILD_DIR "builds"	 // of the store: work directories, emptied at start
#define REMOVE_DEPTH 32		 // descriptors that nftw keeps open

struct imgbuild {
	struct imgbuild_args args;
	struct recipe *recipe;
	struct json_object *json; // the recipe, for the child's standard input
	char *work_dir, *log_path;
	char *import_path;
	int import_fd;
	uint64_t import_bytes;
	uv_process_t process;
	uv_pipe_t in, out;
	uv_write_t write;
	int open_handles; // of the child; the build goes on when all are closed
	bool spawned, canceled;
	int64_t exit_status;
	int term_signal;
	struct vc_buf line;
	struct vc_error failure; // the child's last word
	struct imgcache_parent parent;
	struct store_entry entry;
};

static int remove_entry(const char *path, const struct stat *st, int flag, struct FTW *ftw);

const char *imgbuild_name(const struct imgbuild *b)
{
	return b->recipe->name;
}

char *imgbuild_log_path(const struct vcd *vcd, uid_t owner, const char *name)
{
	char *path = NULL;
	return asprintf(&path, "%s/builds/%u.%s.log", vcd->conf->state_dir, owner, name) < 0 ? NULL : path;
}

static int read_tail(const char *path, char **ret, struct vc_error *err)
{
	struct stat st;
	vc_autoclose int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 && errno == ENOENT)
		return vc_error_set(err, VC_ENOTFOUND, "there is no log of a build of that name of yours");
	if (fd < 0 || fstat(fd, &st) < 0)
		return vc_error_errno(err, "%s", path);
	off_t from = st.st_size > (off_t)IMGBUILD_LOG_MAX ? st.st_size - (off_t)IMGBUILD_LOG_MAX : 0;
	vc_autofree char *text = malloc(IMGBUILD_LOG_MAX + 1);
	ssize_t n = text ? pread(fd, text, IMGBUILD_LOG_MAX, from) : -1;
	if (n < 0)
		return vc_error_errno(err, "%s", path);
	text[n] = '\0';
	*ret = vc_steal(&text);
	return 0;
}

struct json_object *imgbuild_log_json(const struct vcd *vcd, uid_t owner, const char *name, struct vc_error *err)
{
	vc_autofree char *path = imgbuild_log_path(vcd, owner, name), *text = NULL;
	if (!path)
		vc_error_errno(err, "log of image %s", name);
	if (!path || read_tail(path, &text, err) < 0)
		return NULL;
	struct json_object *result = json_object_new_object();
	vc_json_add_bytes(result, "log", text, strlen(text)); // a package's output need not be UTF-8
	return result;
}

int imgbuild_clean(const struct vcd *vcd, struct store *store, struct vc_error *err)
{
	vc_autofree char *logs = NULL, *work = NULL;
	if (asprintf(&logs, "%s/builds", vcd->conf->state_dir) < 0 ||
	    asprintf(&work, "%s/" IMGBUILD_DIR, store_dir(store)) < 0)
		return vc_error_errno(err, "builds");
	if (mkdir(logs, 0700) < 0 && errno != EEXIST)
		return vc_error_errno(err, "%s", logs);
	if (nftw(work, remove_entry, REMOVE_DEPTH, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) < 0 && errno != ENOENT)
		return vc_error_errno(err, "%s", work);
	return mkdir(work, 0700) < 0 ? vc_error_errno(err, "%s", work) : 0;
}

static int remove_entry(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(path) < 0 && errno != ENOENT ? -1 : 0;
}

static int remove_run(void *ctx, struct vc_error *err)
{
	struct imgbuild *b = ctx;
	if (nftw(b->work_dir, remove_entry, REMOVE_DEPTH, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) < 0 && errno != ENOENT)
		return vc_error_errno(err, "%s", b->work_dir);
	return 0;
}

static void build_free(void *ctx)
{
	struct imgbuild *b = ctx;
	imgcache_end(b->args.cache, &b->parent);
	vc_buf_clear(&b->line);
	json_object_put(b->json);
	recipe_destroy(b->recipe);
	if (b->import_fd >= 0)
		close(b->import_fd);
	free(b->import_path);
	free(b->work_dir);
	free(b->log_path);
	free(b);
}

static void remove_done(void *ctx, const struct vc_error *err)
{
	struct imgbuild *b = ctx;
	if (err)
		vc_log_warning("image %s: work directory not removed: %s", b->recipe->name, err->text);
	b->args.ended(b->args.ctx);
}

// The request has been answered: everything else goes.
static void build_end(struct imgbuild *b)
{
	struct vc_error err = VC_ERROR_INIT;
	struct work_args args = {.pool = WORK_GENERAL,
				 .what = "remove a build's directory",
				 .deadline_ms = FINISH_TIMEOUT_MS,
				 .run = remove_run,
				 .done = remove_done,
				 .release = build_free,
				 .ctx = b};
	if (work_submit(b->args.vcd->work, &args, NULL, &err) == 0)
		return;
	vc_log_warning("image %s: %s stays: %s", b->recipe->name, b->work_dir, err.text);
	b->args.ended(b->args.ctx);
	build_free(b);
}

static void build_fail(struct imgbuild *b, const struct vc_error *err)
{
	vc_log_notice("image %s: build failed: %s", b->recipe->name, err->text);
	b->args.done(b->args.ctx, NULL, err);
	build_end(b);
}

// --- publication ---------------------------------------------------------------------------------------------------

static int finish_run(void *ctx, struct vc_error *err)
{
	struct imgbuild *b = ctx;
	struct vc_error why = VC_ERROR_INIT;
	vc_autojson struct json_object *build = NULL;
	if (image_finish(b->args.store, b->recipe, b->work_dir, &b->entry, &build, err) < 0)
		return -1;
	// The image is there; what is not cached only costs the next build some time.
	if (imgcache_keep(b->args.cache, b->recipe, &b->parent, b->work_dir, build, &b->entry, &why) < 0)
		vc_log_warning("image %s: %s", b->recipe->name, why.text);
	return 0;
}

static void finish_done(void *ctx, const struct vc_error *err)
{
	struct imgbuild *b = ctx;
	if (err) {
		build_fail(b, err);
		return;
	}
	vc_log_info("image %s: published as %s", b->recipe->name, b->entry.digest);
	b->args.done(b->args.ctx, &b->entry, NULL);
	build_end(b);
}

static void build_publish(struct imgbuild *b)
{
	struct vc_error err = VC_ERROR_INIT;
	struct work_args args = {.pool = WORK_GENERAL,
				 .what = "publish an image",
				 .deadline_ms = FINISH_TIMEOUT_MS,
				 .run = finish_run,
				 .done = finish_done,
				 .ctx = b};
	if (work_submit(b->args.vcd->work, &args, NULL, &err) < 0)
		build_fail(b, &err);
}

// --- the child -----------------------------------------------------------------------------------------------------

static void child_over(struct imgbuild *b)
{
	struct vc_error err = VC_ERROR_INIT;
	if (b->canceled)
		vc_error_set(&err, VC_ECANCELED, "image %s: the build was canceled", b->recipe->name);
	else if (b->failure.text[0])
		err = b->failure;
	else if (b->exit_status || b->term_signal)
		vc_error_set(&err, VC_EFAILED, "image %s: vc-build ended with status %lld, signal %d; see `vcctl image log %s`",
			     b->recipe->name, (long long)b->exit_status, b->term_signal, b->recipe->name);
	if (err.code)
		build_fail(b, &err);
	else
		build_publish(b);
}

static void child_closed(uv_handle_t *handle)
{
	struct imgbuild *b = handle->data;
	if (--b->open_handles == 0)
		child_over(b);
}

static void child_exit(uv_process_t *process, int64_t status, int signal)
{
	struct imgbuild *b = process->data;
	b->exit_status = status;
	b->term_signal = signal;
	uv_close((uv_handle_t *)process, child_closed);
	if (!uv_is_closing((uv_handle_t *)&b->in))
		uv_close((uv_handle_t *)&b->in, child_closed);
}

static void take_line(struct imgbuild *b, const char *line, size_t len)
{
	struct image_progress progress;
	if (image_progress_parse(line, len, &progress, NULL) < 0)
		return; // the child's own chatter is in its log
	if (progress.kind == IMAGE_PROGRESS_FAILED)
		vc_error_set(&b->failure, VC_EUSER, "image %s: %s", b->recipe->name, progress.text);
	struct json_object *params = json_object_new_object();
	vc_json_add_str(params, "stage", progress.stage);
	vc_json_add_str(params, "text", progress.text);
	vc_json_add(params, "seconds", json_object_new_double(progress.seconds));
	b->args.progress(b->args.ctx, params);
}

static void take_lines(struct imgbuild *b)
{
	uint8_t *nl;
	while (b->line.len && (nl = memchr(vc_buf_head(&b->line), '\n', b->line.len))) {
		size_t len = (size_t)(nl - vc_buf_head(&b->line));
		take_line(b, (const char *)vc_buf_head(&b->line), len);
		vc_buf_consume(&b->line, len + 1);
	}
}

static void out_alloc(uv_handle_t *handle, size_t size, uv_buf_t *buf)
{
	struct imgbuild *b = handle->data;
	(void)size;
	uint8_t *room = vc_buf_reserve(&b->line, IMAGE_BUILD_LINE_MAX);
	*buf = uv_buf_init((char *)room, room ? IMAGE_BUILD_LINE_MAX : 0);
}

static void out_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
	struct imgbuild *b = stream->data;
	(void)buf;
	if (n > 0) {
		vc_buf_commit(&b->line, (size_t)n);
		take_lines(b);
	}
	if (n < 0 && !uv_is_closing((uv_handle_t *)stream))
		uv_close((uv_handle_t *)stream, child_closed);
}

static void in_written(uv_write_t *write, int status)
{
	struct imgbuild *b = write->data;
	(void)status;
	if (!uv_is_closing((uv_handle_t *)&b->in))
		uv_close((uv_handle_t *)&b->in, child_closed);
}

static int spawn(struct imgbuild *b, char **argv, int log_fd)
{
	static char *env[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", NULL};
	uv_loop_t *loop = &b->args.vcd->loop;
	uv_stdio_container_t stdio[3] = {
		{.flags = UV_CREATE_PIPE | UV_READABLE_PIPE, .data.stream = (uv_stream_t *)&b->in},
		{.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&b->out},
		{.flags = UV_INHERIT_FD, .data.fd = log_fd},
	};
	uv_process_options_t options = {
		.exit_cb = child_exit, .file = argv[0], .args = argv, .env = env, .stdio_count = 3, .stdio = stdio};
	uv_pipe_init(loop, &b->in, 0);
	uv_pipe_init(loop, &b->out, 0);
	b->in.data = b->out.data = b->process.data = b;
	b->open_handles = 3;
	return uv_spawn(loop, &b->process, &options);
}

static void feed(struct imgbuild *b)
{
	size_t len = 0;
	const char *text = vc_json_text(b->json, &len);
	uv_buf_t buf = uv_buf_init((char *)text, (unsigned)len);
	b->write.data = b;
	uv_write(&b->write, (uv_stream_t *)&b->in, &buf, 1, in_written);
	uv_read_start((uv_stream_t *)&b->out, out_alloc, out_read);
}

static int build_argv(struct imgbuild *b, char ***ret, struct vc_error *err)
{
	const struct conf *conf = b->args.vcd->conf;
	struct image_build_conf build = {.mirror = conf->mirror[0] ? conf->mirror : NULL,
					 .mirror_proxy = conf->mirror_proxy[0] ? conf->mirror_proxy : NULL,
					 .import_path = b->import_path,
					 .parent = b->parent.raw,
					 .parent_stage = b->parent.stage,
					 .parent_complete = b->parent.complete,
					 .parent_lists = b->parent.lists,
					 .keep = true,
					 .seconds = (unsigned)(conf->build_timeout_ms / 1000),
					 .mem_mib = (unsigned)conf->build_mem_mib,
					 .max_mib = (unsigned)(b->args.max_mib < conf->image_max_mib ? b->args.max_mib : conf->image_max_mib)};
	return image_build_argv(&build, b->work_dir, ret, err);
}

static int build_spawn(struct imgbuild *b, struct vc_error *err)
{
	vc_autostrv char **argv = NULL;
	if (build_argv(b, &argv, err) < 0)
		return -1;
	vc_autoclose int log_fd = open(b->log_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (log_fd < 0)
		return vc_error_errno(err, "%s", b->log_path);
	int rc = spawn(b, argv, log_fd);
	if (rc < 0) {
		vc_error_set(&b->failure, VC_EHOST, "%s: %s", argv[0], uv_strerror(rc));
		uv_close((uv_handle_t *)&b->process, child_closed);
		uv_close((uv_handle_t *)&b->in, child_closed);
		uv_close((uv_handle_t *)&b->out, child_closed);
		return 0; // child_over() answers
	}
	b->spawned = true;
	feed(b);
	return 0;
}

// --- the spooled tar -------------------------------------------------------------------------------------------------

static int write_all(int fd, const uint8_t *data, size_t len)
{
	while (len) {
		ssize_t n = write(fd, data, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		data += n;
		len -= (size_t)n;
	}
	return 0;
}

// Zeros become a hole: file systems are full of them.
static int write_sparse(int fd, const uint8_t *data, size_t len)
{
	if (len > 1 && !data[0] && memcmp(data, data + 1, len - 1) == 0)
		return lseek(fd, (off_t)len, SEEK_CUR) < 0 ? -1 : 0;
	return write_all(fd, data, len);
}

static void import_fail(struct imgbuild *b)
{
	b->args.done(b->args.ctx, NULL, NULL); // rpc answers the request with our error
	build_end(b);
}

static int import_received(struct rpc_request *req, const uint8_t *data, size_t len, void *ctx, struct vc_error *err)
{
	struct imgbuild *b = ctx;
	(void)req;
	int rc = 0;
	if (len > 0) {
		b->import_bytes += len;
		if (b->import_bytes > b->recipe->import_size)
			rc = vc_error_set(err, VC_EUSER, "image %s: more bytes came than the %llu announced", b->recipe->name,
					  (unsigned long long)b->recipe->import_size);
		else if (write_sparse(b->import_fd, data, len) < 0)
			rc = vc_error_errno(err, "image %s: %s", b->recipe->name, b->import_path);
	} else if (ftruncate(b->import_fd, (off_t)b->import_bytes) < 0) { // it may end with a hole
		rc = vc_error_errno(err, "image %s: %s", b->recipe->name, b->import_path);
	} else {
		rc = build_spawn(b, err);
	}
	if (rc < 0)
		import_fail(b);
	return rc;
}

static const struct rpc_data_ops import_ops = {.received = import_received};

static int import_open(struct imgbuild *b, struct vc_error *err)
{
	if (asprintf(&b->import_path, "%s/import.tar", b->work_dir) < 0) {
		b->import_path = NULL;
		return vc_error_errno(err, "import");
	}
	b->import_fd = open(b->import_path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (b->import_fd < 0)
		return vc_error_errno(err, "%s", b->import_path);
	return rpc_data_open(b->args.import, &import_ops, b, err);
}

// --- life ----------------------------------------------------------------------------------------------------------

void imgbuild_stop(struct imgbuild *b)
{
	struct vc_error err = VC_ERROR_INIT;
	b->canceled = true;
	if (b->spawned && uv_is_active((uv_handle_t *)&b->process))
		uv_process_kill(&b->process, SIGTERM); // vc-build ends its sandbox
	if (b->spawned)
		return; // answered when the child is gone
	vc_error_set(&err, VC_ECANCELED, "image %s: the build was canceled", b->recipe->name);
	b->args.done(b->args.ctx, NULL, &err);
	build_end(b);
}

static int make_dirs(struct imgbuild *b, struct vc_error *err)
{
	b->log_path = imgbuild_log_path(b->args.vcd, b->args.owner, b->recipe->name);
	if (!b->log_path || asprintf(&b->work_dir, "%s/" IMGBUILD_DIR "/XXXXXX", store_dir(b->args.store)) < 0)
		return vc_error_errno(err, "build");
	if (!mkdtemp(b->work_dir)) {
		vc_error_errno(err, "%s", b->work_dir);
		free(b->work_dir);
		b->work_dir = NULL;
		return -1;
	}
	return 0;
}

static int build_begin(struct imgbuild *b, struct vc_error *err)
{
	b->json = recipe_to_json(b->recipe, err);
	if (!b->json || imgcache_begin(b->args.cache, b->recipe, b->args.refresh, &b->parent, err) < 0 || make_dirs(b, err) < 0)
		return -1;
	if (b->args.import ? import_open(b, err) < 0 : build_spawn(b, err) < 0) {
		remove_run(b, NULL);
		return -1;
	}
	return 0;
}

struct imgbuild *imgbuild_start(const struct imgbuild_args *args, struct vc_error *err)
{
	struct imgbuild *b = calloc(1, sizeof(*b));
	if (!b) {
		vc_error_errno(err, "build");
		return NULL;
	}
	b->args = *args;
	b->recipe = args->recipe;
	b->import_fd = -1;
	b->line = VC_BUF_INIT(IMAGE_BUILD_LINE_MAX * 4);
	if (build_begin(b, err) < 0) {
		b->recipe = NULL; // still the caller's
		build_free(b);
		return NULL;
	}
	return b;
}
