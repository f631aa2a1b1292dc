// SPDX-License-Identifier: GPL-2.0-or-later
// view-read's figures: what a program pays that looks at its view through libvcluster. Prints rows for tests/bench.
//
// viewread FILE: makes a view of 190 members in FILE, and times in turn the check of the epoch together with one member by its
// rank, and the copy of the whole view. Nanoseconds of one, mean of many: the best of nothing.
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "libvcluster/vcluster.h"
#include "libvcluster/writer.h"
#include "vcd/member/view.h"

#define MEMBERS 190
#define READS 2000000
#define COPIES 20000

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int publish(const char *path, struct vc_error *err)
{
	view_auto struct view *view = view_create("0123456789abcdef0123456789abcdef", 1, err);
	for (uint32_t rank = 0; view && rank < MEMBERS; rank++) {
		struct view_member m = {.rank = rank, .state = VIEW_ACTIVE, .incarnation = 1, .slots = 2, .site = "default"};
		snprintf(m.name, sizeof(m.name), "vc1-%u", rank);
		snprintf(m.addr, sizeof(m.addr), "10.42.0.%u", rank + 1);
		snprintf(m.host, sizeof(m.host), "n%u", rank + 1);
		if (view_add(view, &m, err) < 0)
			return -1;
	}
	if (!view || view_seal(view, 1, err) < 0)
		return -1;
	struct vcluster_writer *w = vcluster_writer_create(path, MEMBERS, err);
	int status = w ? vcluster_writer_publish(w, view, UINT64_MAX, err) : -1;
	vcluster_writer_destroy(w);
	return status;
}

static double read_ns(const struct vcluster *v)
{
	struct vcluster_member m;
	uint64_t sum = 0, start = now_ns();
	for (uint32_t i = 0; i < READS; i++) {
		sum += vcluster_epoch(v);
		if (vcluster_member_by_rank(v, i % MEMBERS, &m) != 0)
			return -1;
		sum += m.slots;
	}
	uint64_t end = now_ns();
	return sum == (uint64_t)READS * 3 ? (double)(end - start) / READS : -1;
}

static double copy_ns(const struct vcluster *v)
{
	static struct vcluster_member members[MEMBERS];
	uint64_t start = now_ns();
	for (uint32_t i = 0; i < COPIES; i++)
		if (vcluster_copy_view(v, NULL, members, MEMBERS) != MEMBERS)
			return -1;
	return (double)(now_ns() - start) / COPIES;
}

int main(int argc, char **argv)
{
	struct vc_error err;
	if (argc != 2) {
		fprintf(stderr, "Usage: viewread FILE\n");
		return 2;
	}
	if (publish(argv[1], &err) < 0) {
		fprintf(stderr, "viewread: %s\n", err.text);
		return 1;
	}
	struct vcluster *v = vcluster_open(argv[1]);
	double read = v ? read_ns(v) : -1, copy = v ? copy_ns(v) : -1;
	vcluster_close(v);
	if (read < 0 || copy < 0) {
		fprintf(stderr, "viewread: the view cannot be read\n");
		return 1;
	}
	printf("read %.2f\ncopy %.1f\n", read, copy);
	return 0;
}
