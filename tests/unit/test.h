// SPDX-License-Identifier: GPL-2.0-or-later
// What every cmocka program includes, in the order cmocka wants.
#ifndef TESTS_UNIT_TEST_H
#define TESTS_UNIT_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define assert_contains(text, part)                                                     \
	do {                                                                            \
		if (!strstr((text), (part)))                                            \
			fail_msg("'%s' does not contain '%s'", (text), (part));         \
	} while (0)

// For what differs in valgrind's machine; `make valgrind` sets the variable.
#define skip_under_valgrind()              \
	do {                               \
		if (getenv("VC_VALGRIND")) \
			skip();            \
	} while (0)

#endif
