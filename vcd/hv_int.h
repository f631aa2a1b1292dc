// SPDX-License-Identifier: GPL-2.0-or-later
// What hv.c and hvmigrate.c share, which are the only users of libvirt; nobody else.
#ifndef VCD_HV_INT_H
#define VCD_HV_INT_H

#include <libvirt/libvirt.h>

#include "vcd/hv.h"

// How often a call is done again, and what its failure is taken for.
struct hv_manner {
	bool waits;	  // for a libvirtd that is away, up to the patience; else one new connection is tried
	uint64_t lost_ms; // a failure is the connection's when that is lost so soon afterwards
};
extern const struct hv_manner hv_once;

enum { HV_CALL_AGAIN = 1 };

// run: 0, -1, or HV_CALL_AGAIN with the reason in err: libvirt is still at it.
typedef int (*hv_call_fn)(struct hv *hv, virConnectPtr conn, void *ctx, struct vc_error *err);
int hv_call(struct hv *hv, const struct hv_manner *manner, hv_call_fn run, void *ctx, struct vc_error *err);

// With libvirt's own words behind the text; -1.
int __attribute__((format(printf, 2, 3))) hv_error(struct vc_error *err, const char *fmt, ...);

int hv_pid(const char *name, uint64_t *ret); // of the process that libvirt's pid file names

static inline void hv_free_domain(virDomainPtr *dom)
{
	if (*dom)
		virDomainFree(*dom);
}

#endif
