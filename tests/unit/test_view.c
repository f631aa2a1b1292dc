// SPDX-License-Identifier: GPL-2.0-or-later
// Views: JSON there and back, everything that a hostile peer may get wrong, the digest, and the table of changes.
#include "tests/unit/golden.h"
#include "tests/unit/viewmaker.h"

#include "libvc/json.h"

_Static_assert(VIEW_SLOTS_MAX == 65536, "the table below names the first value past it");

static void test_roundtrip(void **state)
{
	(void)state;
	view_auto struct view *view = make_view(3, 7);
	view->members[2].state = VIEW_GONE;
	snprintf(view->members[1].addr, sizeof(view->members[1].addr), "fd00::2");
	assert_int_equal(view_seal(view, 7, NULL), 0);
	vc_autojson struct json_object *obj = view_to_json(view);
	vc_autojson struct json_object *again = NULL;
	size_t len;
	const char *text = vc_json_text(obj, &len);
	struct vc_error err = VC_ERROR_INIT;
	view_auto struct view *copy = view_from_json(obj, &err);
	assert_string_equal(err.text, "");
	assert_non_null(copy);
	assert_string_equal(copy->digest, view->digest);
	assert_int_equal(copy->epoch, 7);
	assert_int_equal(copy->n_members, 3);
	assert_int_equal(view_size(copy), 2);
	again = view_to_json(copy);
	assert_string_equal(vc_json_text(again, NULL), text);
}

// The JSON form is a contract: programs in guests read it.
static void test_golden(void **state)
{
	(void)state;
	view_auto struct view *view = make_view(2, 1);
	vc_autojson struct json_object *obj = view_to_json(view);
	assert_golden("view.json", json_object_to_json_string_ext(obj, JSON_C_TO_STRING_PRETTY));
	// The digest of the canonical form, computed by sha256sum from the text that docs/membership.md describes.
	assert_string_equal(view->digest, "c47a13f9cbfb7a5709dad8c8515054110ecac501f653b0176a13428d9753f4f9");
}

static const struct {
	const char *key;   // of the view, or of its member 1 when it starts with "m."
	const char *value; // JSON; NULL: removed
	const char *message;
} refusals[] = {
	{"version", "2", "version 2"},
	{"version", "\"1\"", "version"},
	{"cluster", "\"../../../etc\"", "cluster id"},
	{"cluster", "\"0123456789ABCDEF0123456789ABCDEF\"", "cluster id"},
	{"job", "-1", "job"},
	{"job", "4294967296", "job"},
	{"epoch", "0", "epoch"},
	{"epoch", "2", "digest"},
	{"epoch", "18446744073709551615", "epoch"},
	{"digest", "\"\"", "digest"},
	{"digest", NULL, "digest"},
	{"members", "{}", "members"},
	{"members", "[1]", "entry 0"},
	{"m.rank", "0", "ranks must grow"},
	{"m.rank", "-1", "rank"},
	{"m.name", "\"a b\"", "not a host name"},
	{"m.name", "\"a\\nb slots=99\"", "not a host name"},
	{"m.name", "\"-oProxyCommand=x\"", "not a host name"},
	{"m.name", "\"\"", "not a host name"},
	{"m.name", "\"a\\u0000b\"", "zero byte"},
	{"m.name", "\"vc123-0\"", "two members"},
	{"m.addr", "\"10.42.0\"", "address"},
	{"m.addr", "\"localhost\"", "address"},
	{"m.host", "\"n1 reboot\"", "host or site"},
	{"m.host", "\"n[1\"", "host or site"},
	{"m.host", "\"\"", "host or site"},
	{"m.host", "\"Odd_2.x-07@\u00e9;x\"", "digest"}, // a name that Slurm takes, but not the one that was sealed
	{"m.site", "\"\"", "host or site"},
	{"m.state", "\"dead\"", "state"},
	{"m.incarnation", "0", "incarnation"},
	{"m.slots", "0", "slots"},
	{"m.slots", "65537", "slots"},
	{"m.slots", "1.5", "slots"},
	{"m.slots", "3", "digest"}, // a right member, but not the one that was sealed
};

static void test_refusals(void **state)
{
	(void)state;
	for (size_t i = 0; i < VC_ARRAY_LEN(refusals); i++) {
		view_auto struct view *good = make_view(2, 1);
		vc_autojson struct json_object *obj = view_to_json(good);
		const char *key = refusals[i].key;
		struct json_object *target = obj;
		if (strncmp(key, "m.", 2) == 0) {
			target = json_object_array_get_idx(json_object_object_get(obj, "members"), 1);
			key += 2;
		}
		json_object_object_del(target, key);
		if (refusals[i].value) {
			char text[128];
			int len = snprintf(text, sizeof(text), "[%s]", refusals[i].value);
			vc_autojson struct json_object *array = vc_json_parse(text, (size_t)len, NULL);
			assert_non_null(array);
			json_object_object_add(target, key, json_object_get(json_object_array_get_idx(array, 0)));
		}
		struct vc_error err = VC_ERROR_INIT;
		assert_null(view_from_json(obj, &err));
		assert_contains(err.text, "view: ");
		assert_contains(err.text, refusals[i].message);
	}
	assert_null(view_from_json(NULL, NULL));
}

static void test_too_many_members(void **state)
{
	(void)state;
	view_auto struct view *view = make_view(VC_MEMBERS_MAX, 1);
	struct view_member one_more = make_member(VC_MEMBERS_MAX);
	assert_int_equal(view_add(view, &one_more, NULL), -1);
	vc_autojson struct json_object *obj = view_to_json(view);
	size_t len;
	vc_json_text(obj, &len);
	assert_true(len < VC_RPC_BODY_MAX);
	struct json_object *members = json_object_object_get(obj, "members");
	json_object_array_add(members, json_object_get(json_object_array_get_idx(members, 0)));
	struct vc_error err = VC_ERROR_INIT;
	assert_null(view_from_json(obj, &err));
	assert_contains(err.text, "members");
}

static void test_digest_covers_everything(void **state)
{
	(void)state;
	view_auto struct view *a = make_view(2, 1);
	struct view_member was = a->members[1];
	char first[VIEW_DIGEST_LEN + 1];
	memcpy(first, a->digest, sizeof(first));
#define DIFFERS(change)                                       \
	do {                                                  \
		struct view_member *m = &a->members[1];       \
		change;                                       \
		assert_int_equal(view_seal(a, 1, NULL), 0);   \
		assert_string_not_equal(a->digest, first);    \
		*m = was;                                     \
	} while (0)
	DIFFERS(m->rank = 9);
	DIFFERS(m->name[0] = 'x');
	DIFFERS(m->addr[0] = '2');
	DIFFERS(m->host[0] = 'x');
	DIFFERS(m->site[0] = 'x');
	DIFFERS(m->state = VIEW_LEAVING);
	DIFFERS(m->incarnation = 2);
	DIFFERS(m->slots = 3);
	assert_int_equal(view_seal(a, 2, NULL), 0);
	assert_string_not_equal(a->digest, first);
	assert_int_equal(view_seal(a, 1, NULL), 0);
	assert_string_equal(a->digest, first);
}

static void test_changes(void **state)
{
	(void)state;
	enum { NO = -1 };
	static const int want[VIEW_EVENTS][VIEW_STATES] = {
		[VIEW_JOIN] = {NO, NO, NO, NO}, // rank 0 exists already
		[VIEW_UP] = {VIEW_ACTIVE, NO, NO, NO},
		[VIEW_LEAVE] = {VIEW_LEAVING, VIEW_LEAVING, NO, NO},
		[VIEW_FAIL] = {VIEW_GONE, VIEW_GONE, VIEW_GONE, NO},
		[VIEW_RETURN] = {NO, NO, NO, VIEW_JOINING},
	};
	struct view_member same = make_member(0);
	for (int kind = 0; kind < VIEW_EVENTS; kind++) {
		for (int from = 0; from < VIEW_STATES; from++) {
			view_auto struct view *old = make_view(2, 4);
			old->members[0].state = (enum view_state)from;
			struct view_event event = {.kind = (enum view_event_kind)kind, .rank = 0, .member = &same};
			struct vc_error err = VC_ERROR_INIT;
			view_auto struct view *new = view_apply(old, &event, 1, &err);
			assert_int_equal(old->epoch, 4);
			assert_int_equal(old->members[0].state, from);
			if (want[kind][from] == NO) {
				assert_null(new);
				assert_true(err.text[0]);
				continue;
			}
			assert_non_null(new);
			assert_int_equal(new->epoch, 5);
			assert_int_equal(new->members[0].state, want[kind][from]);
			assert_int_equal(new->members[0].incarnation, kind == VIEW_RETURN ? 2 : 1);
		}
	}
}

static void test_changes_together(void **state)
{
	(void)state;
	view_auto struct view *old = make_view(3, 1);
	struct view_member joiner = make_member(3);
	struct view_event events[] = {{.kind = VIEW_FAIL, .rank = 1}, {.kind = VIEW_JOIN, .member = &joiner},
				      {.kind = VIEW_UP, .rank = 3},   {.kind = VIEW_LEAVE, .rank = 2}};
	view_auto struct view *new = view_apply(old, events, VC_ARRAY_LEN(events), NULL);
	assert_non_null(new);
	assert_int_equal(new->epoch, 2);
	assert_int_equal(view_size(new), 2);
	assert_int_equal(view_member_by_rank(new, 3)->state, VIEW_ACTIVE);
	assert_int_equal(view_member_by_name(new, "vc123-2")->state, VIEW_LEAVING);
	assert_null(view_member_by_rank(new, 4));
	assert_null(view_member_by_name(new, "vc123-4"));
	// One that does not apply refuses them all.
	struct view_event bad[] = {{.kind = VIEW_FAIL, .rank = 1}, {.kind = VIEW_FAIL, .rank = 77}};
	struct vc_error err = VC_ERROR_INIT;
	assert_null(view_apply(old, bad, 2, &err));
	assert_contains(err.text, "no member 77");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_roundtrip),
		cmocka_unit_test(test_golden),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_too_many_members),
		cmocka_unit_test(test_digest_covers_everything),
		cmocka_unit_test(test_changes),
		cmocka_unit_test(test_changes_together),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
