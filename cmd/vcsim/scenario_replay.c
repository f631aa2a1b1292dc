// SPDX-License-Identifier: GPL-2.0-or-later
// Scenario replay: decisions that were recorded are made again, and must be the same to the last digit.
#include <stdio.h>
#include <string.h>

#include "cmd/vcsim/vcsim.h"
#include "libvc/cleanup.h"
#include "libvc/json.h"

static int replay_line(const char *line, size_t len, unsigned number, struct vc_error *err)
{
	bool same = false;
	vc_autojson struct json_object *record = vc_json_parse(line, len, err), *again = NULL;
	if (!record || elastic_replay(record, &same, &again, err) < 0)
		return vc_error_wrap(err, "line %u", number);
	const char *text = vc_json_text(again, NULL);
	return same ? 0 : vc_error_set(err, VC_EFAILED, "line %u: decided now: %.600s", number, text);
}

int scenario_replay(const struct vcsim_options *o, struct figures *f, struct vc_error *err)
{
	vc_autofree char *line = NULL;
	size_t room = 0;
	unsigned number = 0;
	if (!o->trace)
		return vc_error_set(err, VC_EUSER, "replay wants --trace FILE, which --save-records wrote");
	vc_autofclose FILE *in = fopen(o->trace, "re");
	if (!in)
		return vc_error_errno(err, "%s", o->trace);
	for (ssize_t len; (len = getline(&line, &room, in)) > 0;) {
		if (replay_line(line, (size_t)len, ++number, err) < 0)
			return vc_error_wrap(err, "%s", o->trace);
	}
	figures_add(f, "decisions_replayed", number);
	return 0;
}
