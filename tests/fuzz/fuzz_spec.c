// SPDX-License-Identifier: GPL-2.0-or-later
// Fuzz target for the spec: what users write behind --vcluster..., and the variable that carries it, which they can forge.
//
// The first byte chooses: 0 the carried text, else option n-1 set from the text, twice. What is accepted must come back
// the same from its own text.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "libvc/cleanup.h"
#include "libvc/spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void round_trip(const struct vc_spec *spec)
{
	vc_autofree char *text = vc_spec_to_text(spec, NULL);
	if (!text || !spec->image)
		return; // too long for its variable, or no virtual cluster
	vc_autospec struct vc_spec *again = vc_spec_from_text(text, NULL);
	if (!again || !vc_spec_equal(spec, again))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	vc_autofree char *text = strndup((const char *)data + 1, size - 1);
	unsigned which = data[0] % (VC_SPEC_OPTS + 1u);
	vc_autospec struct vc_spec *spec = !text ? NULL : which ? vc_spec_create() : vc_spec_from_text(text, NULL);
	if (!spec)
		return 0;
	struct vc_spec_request request = {.cpus_per_host_max = 4, .mem_mib_per_host = 1024};
	if (which)
		(void)vc_spec_set(spec, VC_SPEC_OPT_IMAGE, "mpich", NULL);
	for (int i = 0; which && i < 2; i++)
		(void)vc_spec_set(spec, (enum vc_spec_opt)(which - 1), text, NULL);
	(void)vc_spec_resolve_files(spec, "/home/alice/../x", NULL);
	(void)vc_spec_check(spec, &request, NULL);
	round_trip(spec);
	return 0;
}
