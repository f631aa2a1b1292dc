// SPDX-License-Identifier: GPL-2.0-or-later
// The fake Slurm: see fake_spank.h.
#include "tests/unit/fake_spank.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

struct fake_spank fake;

char *slurm_xstrdup(const char *s);

void fake_reset(spank_context_t context)
{
	for (int i = 0; i < FAKE_ENV_MAX; i++)
		free(fake.env[i]);
	free(fake.control_name);
	free(fake.control_value);
	fake = (struct fake_spank){.context = context, .job = 123, .tasks = 1};
}

int fake_option(const char *name, const char *value)
{
	for (int i = 0; i < fake.n_options; i++) {
		if (strcmp(fake.options[i].name, name) == 0)
			return fake.options[i].cb(fake.options[i].val, value, fake.context == S_CTX_REMOTE);
	}
	return -1;
}

const char *fake_env(const char *name)
{
	size_t len = strlen(name);
	for (int i = 0; fake.env[i]; i++) {
		if (strncmp(fake.env[i], name, len) == 0 && fake.env[i][len] == '=')
			return fake.env[i] + len + 1;
	}
	return NULL;
}

void fake_env_set(const char *name, const char *value)
{
	for (int i = 0; i < FAKE_ENV_MAX; i++) {
		size_t len = strlen(name);
		if (fake.env[i] && (strncmp(fake.env[i], name, len) != 0 || fake.env[i][len] != '='))
			continue;
		free(fake.env[i]);
		if (asprintf(&fake.env[i], "%s=%s", name, value) < 0)
			abort();
		return;
	}
	abort();
}

spank_context_t spank_context(void)
{
	return fake.context;
}

int spank_remote(spank_t sp)
{
	(void)sp;
	return fake.context == S_CTX_REMOTE;
}

spank_err_t spank_option_register(spank_t sp, struct spank_option *opt)
{
	(void)sp;
	for (int i = 0; i < fake.n_options; i++) {
		if (strcmp(fake.options[i].name, opt->name) == 0)
			return ESPANK_BAD_ARG;
	}
	snprintf(fake.options[fake.n_options].name, sizeof(fake.options[0].name), "%s", opt->name);
	fake.options[fake.n_options].val = opt->val;
	fake.options[fake.n_options++].cb = opt->cb;
	return ESPANK_SUCCESS;
}

spank_err_t spank_get_item(spank_t sp, spank_item_t item, ...)
{
	(void)sp;
	va_list ap;
	spank_err_t rc = ESPANK_SUCCESS;
	if (fake.no_items || (fake.no_rank && item == S_TASK_GLOBAL_ID))
		return ESPANK_NOT_AVAIL;
	va_start(ap, item);
	switch (item) {
	case S_JOB_ID:
		*va_arg(ap, uint32_t *) = fake.job;
		break;
	case S_JOB_STEPID:
		*va_arg(ap, uint32_t *) = fake.step;
		break;
	case S_TASK_GLOBAL_ID:
		*va_arg(ap, uint32_t *) = fake.rank;
		break;
	case S_TASK_ID:
		*va_arg(ap, int *) = fake.local;
		break;
	case S_JOB_LOCAL_TASK_COUNT:
		*va_arg(ap, uint32_t *) = fake.tasks;
		break;
	case S_SLURM_RESTART_COUNT:
		*va_arg(ap, uint32_t *) = fake.restart;
		break;
	case S_JOB_ENV:
		*va_arg(ap, char ***) = fake.env;
		break;
	case S_JOB_ARGV:
		*va_arg(ap, int *) = fake.argc;
		*va_arg(ap, char ***) = fake.argv;
		break;
	default:
		rc = ESPANK_BAD_ARG;
	}
	va_end(ap);
	return rc;
}

spank_err_t spank_setenv(spank_t sp, const char *var, const char *val, int overwrite)
{
	(void)sp;
	if (fake.context != S_CTX_REMOTE)
		return ESPANK_NOT_REMOTE;
	if (fake_env(var) && !overwrite)
		return ESPANK_ENV_EXISTS;
	fake_env_set(var, val);
	return ESPANK_SUCCESS;
}

spank_err_t spank_unsetenv(spank_t sp, const char *var)
{
	(void)sp;
	size_t len = strlen(var);
	for (int i = 0; fake.env[i]; i++) {
		if (strncmp(fake.env[i], var, len) == 0 && fake.env[i][len] == '=')
			fake.env[i][len] = '-'; // as good as gone
	}
	return ESPANK_SUCCESS;
}

spank_err_t spank_job_control_setenv(spank_t sp, const char *name, const char *value, int overwrite)
{
	(void)sp;
	(void)overwrite;
	if (fake.context != S_CTX_LOCAL && fake.context != S_CTX_ALLOCATOR)
		return ESPANK_NOT_LOCAL;
	free(fake.control_name);
	free(fake.control_value);
	fake.control_name = strdup(name);
	fake.control_value = strdup(value);
	return ESPANK_SUCCESS;
}

const char *spank_strerror(spank_err_t err)
{
	return err == ESPANK_SUCCESS ? "Success" : "Failure";
}

static void log_add(const char *format, va_list ap)
{
	size_t len = strlen(fake.log);
	vsnprintf(fake.log + len, sizeof(fake.log) - len, format, ap);
	len = strlen(fake.log);
	snprintf(fake.log + len, sizeof(fake.log) - len, "\n");
}

void slurm_error(const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	log_add(format, ap);
	va_end(ap);
}

void slurm_info(const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	log_add(format, ap);
	va_end(ap);
}

char *slurm_xstrdup(const char *s)
{
	return strdup(s);
}
