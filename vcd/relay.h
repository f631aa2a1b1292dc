// SPDX-License-Identifier: GPL-2.0-or-later
// Streams of local programs carried to another host's vcd over sealed sessions of their own, each by a thread.
//
// A migration's relay listens on three unix sockets, to which libvirtd and QEMU of this host connect; the other vcd connects
// each stream to the same of its own host (host.stream). So neither daemon listens on the network. A thread ends with its
// stream; those of a relay that is destroyed are cut off.
#ifndef VCD_RELAY_H
#define VCD_RELAY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "libvc/error.h"

struct relay;
struct relays; // of this vcd: how many threads there are
struct vc_client;
struct vcd;

enum relay_stream { RELAY_LIBVIRT, RELAY_MEMORY, RELAY_DISK, RELAY_STREAMS };
#define RELAY_CONNECT_MS 10000u // to reach the other vcd
#define RELAY_THREADS_MAX 1024u // of this vcd: streams under way

extern const char *const relay_stream_names[RELAY_STREAMS]; // "libvirt", "memory", "disk": sockets in the directory, and `what`

struct relays *relays_create(struct vc_error *err);
void relays_destroy(struct relays *rs); // threads under way hold it as long as they need it

struct relay_args {
	const char *host;    // the other one
	const char *cluster; // whose member comes there
	uint32_t rank;
	const char *dir;     // of the sockets; exists
	uid_t user;	     // QEMU's, which must be able to connect
	uint64_t hold_after; // bytes of memory; 0: nothing is held, see relay_pass()
	const char *trace;
};
struct relay *relay_create(struct vcd *vcd, const struct relay_args *args, struct vc_error *err);
void relay_destroy(struct relay *r); // NULL is fine
struct relay *relay_ref(struct relay *r);
void relay_unref(struct relay *r);
// Calls fn while the stream cannot end: its local end has heard of no end so far, and hears of none meanwhile. -1 without a call: it has ended.
int relay_while_open(struct relay *r, enum relay_stream what, int (*fn)(void *ctx, struct vc_error *err), void *ctx, struct vc_error *err);
// A relay that holds carries so many bytes of the memory stream and no more, until relay_pass() lets it go on; and nothing of what
// libvirt here says after its first words about memory (its last step: the copy may run), but for its signs of life.
void relay_pass(struct relay *r, enum relay_stream what);
bool relay_is_holding(const struct relay *r, enum relay_stream what); // there was something to hold
uint64_t relay_sent(const struct relay *r, enum relay_stream what); // bytes, so far

// Where another vcd is, as a thread needs it.
struct relay_target;
struct relay_target *relay_target_create(struct vcd *vcd, const char *host, const char *trace, struct vc_error *err);
void relay_target_destroy(struct relay_target *t);
struct vc_client *relay_dial(const struct relay_target *t, struct vc_error *err); // in a thread

// Carries bytes between fd (non-blocking) and the session of a call that was answered. Takes both in every case.
int relay_carry(struct relays *rs, struct vc_client *client, int fd, struct vc_error *err);

#endif
