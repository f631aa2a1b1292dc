// SPDX-License-Identifier: GPL-2.0-or-later
// Fuzz target for vcd.conf: whatever an admin's editor left there is a configuration or one error with file and line.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "libvc/cleanup.h"
#include "tests/fuzz/memfile.h"
#include "vcd/conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char path[32];
	struct vc_error err = VC_ERROR_INIT;
	vc_autoclose int fd = memfile(data, size, path);
	struct conf *conf = fd < 0 ? NULL : conf_load(path, &err);
	if (fd >= 0 && !conf && (!err.code || !err.text[0]))
		abort();
	if (conf && (!conf->controllers || !conf->controllers[0] || conf->port < 0 || conf->port > 65535 || conf->vni_min > conf->vni_max))
		abort();
	conf_destroy(conf);
	return 0;
}
