// SPDX-License-Identifier: GPL-2.0-or-later
// Fuzz target for host lists: what expands must compress, and expand to the same names again, within its bound.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "libvc/cleanup.h"
#include "libvc/hostlist.h"

#define MAX 300

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t n = 0, again_n = 0;
	vc_autofree char *text = strndup((const char *)data, size);
	vc_autostrv char **names = NULL, **again = NULL;
	if (!text || vc_hostlist_expand(text, MAX, &names, &n, NULL) < 0)
		return 0;
	if (n > MAX)
		abort();
	vc_autofree char *packed = vc_hostlist_compress(names, NULL);
	if (!packed || vc_hostlist_expand(packed, MAX, &again, &again_n, NULL) < 0 || again_n != n)
		abort();
	for (size_t i = 0; i < n; i++) {
		if (strcmp(names[i], again[i]) != 0)
			abort();
	}
	return 0;
}
