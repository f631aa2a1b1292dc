// SPDX-License-Identifier: GPL-2.0-or-later
// The sending side of image.fetch: a worker reads a run, the loop sends it, the next read waits until it has drained.
#include "vcd/imgserve.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libvc/buf.h"
#include "libvc/cleanup.h"
#include "libvc/json.h"
#include "vcd/image/store.h"
#include "vcd/vcd.h"
#include "vcd/work.h"

#define READ_TIMEOUT_MS 60000	 // one run of at most IMAGE_RUN_MAX from a busy disk
#define OFFSET_LEN 8		 // bytes in front of each run
#define SEND_MAX (256u << 10)	 // bytes of one DATA frame: relays and clients want bounded pieces

struct imgserve {
	struct vcd *vcd;
	struct store *store;
	struct rpc_request *req;
	char digest[DIGEST_HEX_LEN];
	char pin[IMAGE_CLUSTER_ID_MAX];
	uint64_t next;	 // offset to read from
	uint64_t offset; // of the run in data
	size_t len, sent;
	bool waiting; // for drained()
	uint8_t *data;
};

static void serve_end(struct imgserve *s, const struct vc_error *err)
{
	if (err)
		vc_log_ctx(VC_LOG_WARNING, rpc_log(s->req), "image %.12s: sending failed: %s", s->digest, err->text);
	rpc_data_end(s->req, err);
	store_unpin(s->store, s->digest, s->pin);
	free(s->data);
	free(s);
}

static int read_run(void *ctx, struct vc_error *err)
{
	struct imgserve *s = ctx;
	if (store_next_data(s->store, s->digest, s->next, &s->offset, &s->len, err) < 0)
		return -1;
	return s->len ? store_read(s->store, s->digest, s->offset, s->data, s->len, err) : 0;
}

static void serve_send(struct imgserve *s);

static void read_done(void *ctx, const struct vc_error *err)
{
	struct imgserve *s = ctx;
	if (err || s->len == 0 || rpc_canceled(s->req)) {
		serve_end(s, err);
		return;
	}
	s->next = s->offset + s->len;
	s->sent = 0;
	serve_send(s);
}

static void serve_read(struct imgserve *s)
{
	struct vc_error err = VC_ERROR_INIT;
	struct work_args args = {.pool = WORK_GENERAL,
				 .what = "read an image",
				 .deadline_ms = READ_TIMEOUT_MS,
				 .run = read_run,
				 .done = read_done,
				 .ctx = s};
	if (work_submit(s->vcd->work, &args, NULL, &err) < 0)
		serve_end(s, &err);
}

static void serve_send(struct imgserve *s)
{
	uint8_t frame[OFFSET_LEN + SEND_MAX];
	struct vc_error err = VC_ERROR_INIT;
	while (s->sent < s->len) {
		size_t n = s->len - s->sent < SEND_MAX ? s->len - s->sent : SEND_MAX;
		vc_put_be64(frame, s->offset + s->sent);
		memcpy(frame + OFFSET_LEN, s->data + s->sent, n);
		s->sent += n;
		int rc = rpc_data_send(s->req, frame, OFFSET_LEN + n, &err);
		if (rc < 0) {
			serve_end(s, &err);
			return;
		}
		if (rc == 1) {
			s->waiting = true; // drained() goes on
			return;
		}
	}
	serve_read(s);
}

static void drained(struct rpc_request *req, void *ctx)
{
	struct imgserve *s = ctx;
	(void)req;
	if (!s->waiting) // a queue that was never full has drained: a read is under way
		return;
	s->waiting = false;
	serve_send(s);
}

static const struct rpc_data_ops serve_ops = {.drained = drained};

// The receiver is gone. A read under way finds out by itself when it is done.
static void on_cancel(struct rpc_request *req, void *ctx)
{
	struct imgserve *s = ctx;
	(void)req;
	if (s->waiting)
		serve_end(s, NULL);
}

static int serve_open(struct imgserve *s, struct vc_error *err)
{
	vc_autofree char *meta = NULL;
	if (store_meta(s->store, s->digest, &meta, err) < 0)
		return -1;
	vc_autojson struct json_object *obj = vc_json_parse(meta, strlen(meta), err);
	uint64_t size = 0;
	if (!obj || vc_json_u64(obj, "size", IMAGE_SIZE_MAX, &size, err) < 0)
		return -1;
	struct json_object *result = json_object_new_object();
	vc_json_add_str(result, "meta", meta);
	vc_json_add_u64(result, "size", size);
	if (rpc_data_open(s->req, &serve_ops, s, err) < 0 || rpc_data_reply(s->req, result, err) < 0) {
		json_object_put(result);
		return -1;
	}
	return 0;
}

int imgserve_start(struct vcd *vcd, struct store *store, const char *digest, struct rpc_request *req, struct vc_error *err)
{
	struct imgserve *s = calloc(1, sizeof(*s));
	uint8_t *data = malloc(IMAGE_RUN_MAX);
	if (!s || !data) {
		free(s);
		free(data);
		return vc_error_errno(err, "image");
	}
	*s = (struct imgserve){.vcd = vcd, .store = store, .req = req, .data = data};
	snprintf(s->digest, sizeof(s->digest), "%s", digest);
	snprintf(s->pin, sizeof(s->pin), "fetch-%p", (void *)s);
	if (store_pin(store, digest, s->pin, err) < 0)
		goto fail;
	if (serve_open(s, err) < 0) {
		store_unpin(store, digest, s->pin);
		goto fail;
	}
	serve_read(s);
	rpc_on_cancel(req, on_cancel, s);
	return 0;
fail:
	free(data);
	free(s);
	return -1;
}
