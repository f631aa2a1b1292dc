// SPDX-License-Identifier: GPL-2.0-or-later
// Figures of a run as lines or JSON, and its plot as files.
#include <stdio.h>

#include "cmd/vcsim/vcsim.h"
#include "libvc/cleanup.h"
#include "libvc/json.h"

void figures_add(struct figures *f, const char *name, double value)
{
	vc_json_add(f->obj, name, json_object_new_double(value));
}

void figures_print(const struct figures *f, bool json)
{
	if (json) {
		puts(json_object_to_json_string_ext(f->obj, JSON_C_TO_STRING_PLAIN));
		return;
	}
	json_object_object_foreach(f->obj, name, value)
		printf("%-28s %.6g\n", name, json_object_get_double(value));
}

static int write_one(const char *path, const struct plot *plot, int (*write)(const struct plot *, FILE *, struct vc_error *),
		     struct vc_error *err)
{
	if (!path)
		return 0;
	vc_autofclose FILE *out = fopen(path, "we");
	if (!out)
		return vc_error_errno(err, "%s", path);
	return write(plot, out, err) < 0 ? vc_error_wrap(err, "%s", path) : 0;
}

int write_plot(const struct vcsim_options *o, const struct plot *plot, struct vc_error *err)
{
	return write_one(o->csv, plot, plot_csv, err) < 0 || write_one(o->svg, plot, plot_svg, err) < 0 ? -1 : 0;
}
