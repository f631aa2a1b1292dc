// SPDX-License-Identifier: GPL-2.0-or-later
// Collecting options: see options.h.
#include "plugins/options.h"

#include <stdio.h>
#include <string.h>

#include "libvc/cleanup.h"

void options_clear(struct options *o)
{
	for (size_t i = 0; i < VC_SPEC_OPTS; i++) {
		free(o->value[i]);
		free(o->inherited[i]);
		free(o->bad[i]);
	}
	*o = (struct options){0};
}

static int replace(char **field, const char *value, struct vc_error *err)
{
	char *copy = strdup(value);
	if (!copy)
		return vc_error_errno(err, "option");
	free(*field);
	*field = copy;
	return 0;
}

static int check(enum vc_spec_opt opt, const char *value, struct vc_error *err)
{
	vc_autospec struct vc_spec *spec = vc_spec_create();
	if (!spec)
		return vc_error_set(err, ENOMEM, "--%s: out of memory", vc_spec_options[opt].name);
	return vc_spec_set(spec, opt, value, err);
}

int options_default(struct options *o, enum vc_spec_opt opt, const char *value, struct vc_error *err)
{
	struct vc_error why = VC_ERROR_INIT;
	if (!value || !*value)
		return 0;
	if (check(opt, value, &why) < 0)
		return replace(&o->bad[opt], why.text, err);
	return replace(&o->inherited[opt], value, err);
}

static int append(struct options *o, enum vc_spec_opt opt, const char *value, struct vc_error *err)
{
	char *joined = NULL;
	if (asprintf(&joined, "%s,%s", o->value[opt], value) < 0)
		return vc_error_errno(err, "--%s", vc_spec_options[opt].name);
	vc_autofree char *owned = joined;
	return check(opt, owned, err) < 0 ? -1 : replace(&o->value[opt], owned, err);
}

int options_take(struct options *o, enum vc_spec_opt opt, const char *value, struct vc_error *err)
{
	if (check(opt, value, err) < 0)
		return -1;
	// Slurm hands the inherited default over like an option of the command line, before those.
	bool inherited = !o->given[opt] && !o->value[opt] && o->inherited[opt] && strcmp(o->inherited[opt], value) == 0;
	bool adds = vc_spec_options[opt].list && o->given[opt];
	if ((adds ? append(o, opt, value, err) : replace(&o->value[opt], value, err)) < 0)
		return -1;
	o->given[opt] = !inherited;
	return 0;
}

static int refuse_without_image(const struct options *o, struct vc_error *err)
{
	for (size_t i = 0; i < VC_SPEC_OPTS; i++) {
		if (o->given[i])
			return vc_error_set(err, VC_EUSER, "--%s needs --vcluster=IMAGE", vc_spec_options[i].name);
	}
	return 0;
}

static int refuse_bad_defaults(const struct options *o, struct vc_error *err)
{
	for (size_t i = 0; i < VC_SPEC_OPTS; i++) {
		if (o->bad[i] && !o->value[i])
			return vc_error_set(err, VC_EUSER, "environment variable %s: %s", vc_spec_options[i].env, o->bad[i]);
	}
	return 0;
}

int options_build(const struct options *o, struct vc_spec **ret_spec, struct vc_error *err)
{
	*ret_spec = NULL;
	if (o->bad[VC_SPEC_OPT_IMAGE] && !o->value[VC_SPEC_OPT_IMAGE])
		return refuse_bad_defaults(o, err);
	if (!o->value[VC_SPEC_OPT_IMAGE])
		return refuse_without_image(o, err);
	if (refuse_bad_defaults(o, err) < 0)
		return -1;
	vc_autospec struct vc_spec *spec = vc_spec_create();
	if (!spec)
		return vc_error_set(err, ENOMEM, "--vcluster: out of memory");
	for (size_t i = 0; i < VC_SPEC_OPTS; i++) {
		if (o->value[i] && vc_spec_set(spec, (enum vc_spec_opt)i, o->value[i], err) < 0)
			return -1;
	}
	static const struct vc_spec_request unknown; // the client does not see what else the job asks for
	if (vc_spec_check(spec, &unknown, err) < 0)
		return -1;
	*ret_spec = vc_steal(&spec);
	return 0;
}
