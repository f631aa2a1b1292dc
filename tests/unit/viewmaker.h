// SPDX-License-Identifier: GPL-2.0-or-later
// Views for tests: n active members on two hosts, sealed with the epoch asked for.
#ifndef TESTS_UNIT_VIEWMAKER_H
#define TESTS_UNIT_VIEWMAKER_H

#include <stdio.h>

#include "tests/unit/test.h"
#include "vcd/member/view.h"

#define TEST_CLUSTER "0123456789abcdef0123456789abcdef"

static inline struct view_member make_member(uint32_t rank)
{
	struct view_member m = {.rank = rank, .state = VIEW_ACTIVE, .incarnation = 1, .slots = 2, .site = "default"};
	snprintf(m.name, sizeof(m.name), "vc123-%u", rank);
	snprintf(m.addr, sizeof(m.addr), "10.42.%u.%u", (rank + 1) / 256 % 256, (rank + 1) % 256);
	snprintf(m.host, sizeof(m.host), "n%u", rank % 2 + 1);
	return m;
}

static inline struct view *make_view(uint32_t n, uint64_t epoch)
{
	struct view *view = view_create(TEST_CLUSTER, 123, NULL);
	assert_non_null(view);
	for (uint32_t rank = 0; rank < n; rank++) {
		struct view_member m = make_member(rank);
		assert_int_equal(view_add(view, &m, NULL), 0);
	}
	if (epoch)
		assert_int_equal(view_seal(view, epoch, NULL), 0);
	return view;
}

#endif
