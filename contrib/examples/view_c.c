// SPDX-License-Identifier: GPL-2.0-or-later
// Prints this virtual cluster's members, and again at each change until `changes` of them were seen.
//
// cc view_c.c $(pkg-config --cflags --libs vcluster) -o view_c && ./view_c 3
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vcluster.h>

#define WAIT_MS 60000 // look at least this often whether the view is still confirmed

static const char *const states[] = {"joining", "active", "leaving", "gone"};

static int print_view(const struct vcluster *v, uint64_t *ret_epoch)
{
	uint32_t n = vcluster_capacity(v);
	struct vcluster_member *members = calloc(n, sizeof(*members));
	struct vcluster_info info;
	int count = members ? vcluster_copy_view(v, &info, members, n) : -1;
	for (int i = 0; i < count; i++)
		printf("%" PRIu32 "\t%s\t%s\t%s\t%" PRIu32 " slots\n", members[i].rank, members[i].name, members[i].addr,
		       members[i].state < 4 ? states[members[i].state] : "?", members[i].slots);
	free(members);
	if (count < 0)
		return -1;
	printf("view %" PRIu64 " of job %" PRIu32 ": %" PRIu32 " members to use%s\n", info.epoch, info.job, info.size,
	       vcluster_stale(v) == 1 ? ", not confirmed at present" : "");
	*ret_epoch = info.epoch;
	return 0;
}

int main(int argc, char **argv)
{
	long changes = argc > 1 ? strtol(argv[1], NULL, 10) : 0;
	struct vcluster *v = vcluster_open(NULL);
	uint64_t epoch = 0;
	if (!v || print_view(v, &epoch) < 0) {
		fprintf(stderr, "no view: %s\n", strerror(errno));
		return 1;
	}
	while (changes > 0) {
		if (vcluster_wait(v, epoch, WAIT_MS) == 0) {
			if (print_view(v, &epoch) < 0)
				break;
			changes--;
		} else if (errno != ETIMEDOUT) {
			break;
		}
	}
	vcluster_close(v);
	return changes > 0;
}
