// SPDX-License-Identifier: GPL-2.0-or-later
// What this host holds of one image: all of it (published), or what has arrived so far of one that is on its way.
//
// Each chunk is verified when it is written and again whenever it is read: one that no longer matches on disk counts as
// lacking from then on. Chunks that other images of the store hold are copied from there (shared where the file system
// can), chunks of zeros are holes and always held. What was begun and not published disappears at close.
//
// One thread uses a holding, except that holding_publish() may run in another while this one goes on to read.
#ifndef VCD_IMAGE_HOLDING_H
#define VCD_IMAGE_HOLDING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libvc/error.h"

struct chunks;
struct holding;
struct store;

// A published image. The caller pins it meanwhile.
int holding_open(struct store *s, const char *digest, struct holding **ret, struct vc_error *err);
// The same, to be checked and repaired: chunks that do not match are lacking after holding_check(), may be written into their place, where
// running guests see them, and holding_publish() makes that durable.
int holding_open_for_repair(struct store *s, const char *digest, struct holding **ret, struct vc_error *err);
struct holding_damage {
	size_t chunks;	     // that do not match
	uint64_t first_byte; // of root.raw, of the first one
};
void holding_check(struct holding *h, struct holding_damage *ret); // reads all of it
// One that is to arrive. list is taken in every case, and must give the digest; meta is the sender's image.json.
int holding_begin(struct store *s, const char *digest, struct chunks *list, const char *meta, struct holding **ret,
		  struct vc_error *err);
void holding_close(struct holding *h);

const struct chunks *holding_chunks(const struct holding *h);
const char *holding_meta(const struct holding *h);
bool holding_has(const struct holding *h, size_t i);
// It is neither here nor about to come from another place of this host.
bool holding_wants(const struct holding *h, size_t i);
size_t holding_lacking(const struct holding *h); // chunks

// VC_EFAILED: what is on disk does not match; the chunk is lacking now.
int holding_read(struct holding *h, size_t i, void *buf, struct vc_error *err);
// VC_EPROTO: the data are not this chunk's, nothing was written. Also fills equal chunks of the image.
int holding_write(struct holding *h, size_t i, const void *data, struct vc_error *err);
// Copies one chunk that this host has elsewhere. 1: there may be more; 0: done; -1: the disk failed. A copy that turns
// out bad only makes the chunk wanted: *ret_wanted is its index then, otherwise SIZE_MAX.
int holding_adopt(struct holding *h, size_t *ret_wanted, struct vc_error *err);
uint64_t holding_adopted_bytes(const struct holding *h);

// Everything is here: makes it durable and visible in the store.
int holding_publish(struct holding *h, struct vc_error *err);

#endif
