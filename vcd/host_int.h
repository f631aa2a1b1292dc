// SPDX-License-Identifier: GPL-2.0-or-later
// What host.c (resources, take-back) and hostrpc.c (methods, admission) share.
#ifndef VCD_HOST_INT_H
#define VCD_HOST_INT_H

#include <json-c/json.h>
#include <uv.h>

#include "vcd/host.h"

#define HOST_EARLY_MAX 1024  // requests that wait for the take-back; every host of a site may call at once
#define HOST_EARLY_MS 20000  // and for how long: libvirt answers in milliseconds, or its daemon is not there

struct admission;
struct early;
struct roster;
struct rpc_request;
struct tasks;
struct vsock;

struct taken { // a share of the database, until it is walked
	struct taken *next;
	char id[PLAN_ID_LEN + 1];
	struct share *share; // NULL: it could not be read, the row goes
	char *phase;
	struct json_object *extra;
};

struct failure { // what host.fail said
	struct plan_key key;
	uid_t uid;
	char reason[VC_ERROR_TEXT_MAX];
};

struct released {
	char id[PLAN_ID_LEN + 1]; // "" when it was released by its key before its plan came
	uint64_t version; // plans up to it are refused
	struct plan_key key;
	struct json_object *usage; // what its members have used; NULL: unknown
};

struct host {
	struct vcd *vcd;
	struct hv *hv;
	struct vsock *vsock; // NULL: links are virtio-serial ports
	struct tasks *tasks;
	uv_timer_t timer;
	bool timer_up, stopped;
	bool ready; // what an earlier vcd left was taken back
	bool polling, libvirt_lost;
	uint64_t poll_at; // loop time
	struct share *shares, *dead;
	struct taken *taken;
	struct roster *roster;
	char *run_dir, *state_dir; // for checks in workers
	uint64_t mem_mib;	   // of this host

	bool finding, machine_known;
	char *kernel, *initrd;
	struct sharework_machine machine;

	struct early *early; // requests before `ready`
	unsigned n_early;
	struct admission *waiting;
	struct failure *failures; // rings
	size_t n_failures, next_failure;
	struct released *released;
	size_t n_released, next_released;
};

struct share *host_find_cluster(struct host *h, const char *id);
// Takes work.
struct share *host_add_share(struct host *h, struct sharework *work, struct vc_error *err);

void host_remember_usage(struct host *h, struct share *s); // of a released one, for the controller's call

// hostmove.c
int host_load(struct rpc_request *req, void *ctx, struct vc_error *err); // hostload.c
int host_share(struct rpc_request *req, void *ctx, struct vc_error *err);
int host_migrate(struct rpc_request *req, void *ctx, struct vc_error *err);
int host_estimate(struct rpc_request *req, void *ctx, struct vc_error *err);
int host_incoming(struct rpc_request *req, void *ctx, struct vc_error *err);
int host_arrived(struct rpc_request *req, void *ctx, struct vc_error *err);
int host_drop(struct rpc_request *req, void *ctx, struct vc_error *err);
int host_moving(struct rpc_request *req, void *ctx, struct vc_error *err);
int host_stream(struct rpc_request *req, void *ctx, struct vc_error *err);

int host_methods_register(struct host *h, struct vc_error *err);
void host_methods_stop(struct host *h); // answers what waits for admission
void host_admit_waiting(struct host *h);
void host_serve_early(struct host *h); // ready, or too late

#endif
