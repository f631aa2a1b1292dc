// SPDX-License-Identifier: GPL-2.0-or-later
// Host files of a view with members in every state: golden files, one per launcher.
#include "tests/unit/golden.h"
#include "tests/unit/viewmaker.h"

#include "libvc/cleanup.h"

static const struct {
	const char *golden;
	char *(*render)(const struct view *view);
} forms[] = {
	{"hostfile", view_render_hostfile},
	{"hostfile.hydra", view_render_hydra},
	{"hostfile.plain", view_render_plain},
};

static void test_forms(void **state)
{
	(void)state;
	view_auto struct view *view = make_view(5, 0);
	view->members[1].state = VIEW_LEAVING;
	view->members[2].state = VIEW_GONE;
	view->members[3].state = VIEW_JOINING;
	view->members[4].slots = 16;
	assert_int_equal(view_seal(view, 3, NULL), 0);
	for (size_t i = 0; i < VC_ARRAY_LEN(forms); i++) {
		vc_autofree char *text = forms[i].render(view);
		assert_non_null(text);
		assert_golden(forms[i].golden, text);
	}
}

static void test_empty(void **state)
{
	(void)state;
	view_auto struct view *view = make_view(0, 1);
	for (size_t i = 0; i < VC_ARRAY_LEN(forms); i++) {
		vc_autofree char *text = forms[i].render(view);
		assert_string_equal(text, "");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_forms), cmocka_unit_test(test_empty)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
