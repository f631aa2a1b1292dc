// SPDX-License-Identifier: GPL-2.0-or-later
// spank_vcluster.so: Slurm's entry points. Parses its plugstack arguments, registers the options, dispatches by context.
//
// SPANK callbacks carry no pointer of ours, so the plugin's state is the one static struct of this file. Every hook
// returns at once in a context it has no business in. man/spank_vcluster.8 says what a site sees.
#include <stdint.h>

#include "plugins/plugin.h"

SPANK_PLUGIN(vcluster, 1);

static struct plugin plugin;

void plugin_say(const struct vc_error *err)
{
	slurm_error("vcluster: %s", err->text);
}

static bool at_submission(void)
{
	spank_context_t context = spank_context();
	return context == S_CTX_LOCAL || context == S_CTX_ALLOCATOR;
}

static int option_callback(int val, const char *value, int remote)
{
	if (val < 0 || val >= VC_SPEC_OPTS)
		return -1;
	if (!remote)
		return submit_option(&plugin, (enum vc_spec_opt)val, value);
	remote_option(&plugin, (enum vc_spec_opt)val, value);
	return 0;
}

static int register_options(spank_t sp)
{
	for (int i = 0; i < VC_SPEC_OPTS; i++) {
		struct spank_option option = {
			.name = (char *)vc_spec_options[i].name,
			.arginfo = (char *)vc_spec_options[i].arginfo,
			.usage = (char *)vc_spec_options[i].usage,
			.has_arg = 1,
			.val = i,
			.cb = option_callback,
		};
		if (spank_option_register(sp, &option) != ESPANK_SUCCESS) {
			slurm_error("vcluster: cannot register --%s; is spank_vcluster.so loaded twice?", option.name);
			return -1;
		}
	}
	return 0;
}

static int load_args(int ac, char *av[])
{
	struct vc_error err = VC_ERROR_INIT;
	if (plugin_args_parse(ac, av, &plugin.args, &err) == 0)
		return 0;
	plugin_say(&err);
	return -1;
}

int slurm_spank_init(spank_t sp, int ac, char *av[])
{
	if (load_args(ac, av) < 0)
		return -1;
	if (!at_submission() && spank_context() != S_CTX_REMOTE)
		return 0;
	if (at_submission() && submit_init(&plugin) < 0)
		return -1;
	return register_options(sp);
}

int slurm_spank_init_post_opt(spank_t sp, int ac, char *av[])
{
	(void)ac;
	(void)av;
	return at_submission() ? submit_post_opt(&plugin, sp) : 0;
}

int slurm_spank_local_user_init(spank_t sp, int ac, char *av[])
{
	(void)ac;
	(void)av;
	return submit_local_user(&plugin, sp);
}

int slurm_spank_task_init(spank_t sp, int ac, char *av[])
{
	(void)ac;
	(void)av;
	return remote_task(&plugin, sp);
}

// The job_script context calls no slurm_spank_init: the arguments are parsed here. A bad line in plugstack.conf is
// said, and drains nothing: slurmd itself would not have started with it.
int slurm_spank_job_prolog(spank_t sp, int ac, char *av[])
{
	return load_args(ac, av) < 0 ? 0 : job_script_prolog(&plugin, sp);
}

int slurm_spank_job_epilog(spank_t sp, int ac, char *av[])
{
	return load_args(ac, av) < 0 ? 0 : job_script_epilog(&plugin, sp);
}

int slurm_spank_exit(spank_t sp, int ac, char *av[])
{
	(void)sp;
	(void)ac;
	(void)av;
	options_clear(&plugin.options);
	plugin = (struct plugin){.args = plugin.args};
	return 0;
}
