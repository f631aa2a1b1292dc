// SPDX-License-Identifier: GPL-2.0-or-later
// cachereplay: a trace of image requests against vcd's cache policy and against LRU, both of the same capacity.
//
//   cachereplay [--capacity BYTES] TRACE       lines "KEY SECONDS BYTES", as they were asked for
//   cachereplay [--capacity BYTES] --seed N    a made trace: popularity by Zipf, cost and size log-normal, drifting
//
// Prints one line of JSON: the seconds that each policy saves, and their ratio. A miss costs its seconds; what is
// admitted saves them at the next use. The policy is the code that vcd runs (vcd/image/gdsf.c).
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "libvc/cleanup.h"
#include "libvc/parse.h"
#include "vcd/image/gdsf.h"

#define ITEMS 400	   // different images of a made trace
#define REQUESTS 20000	   // of a made trace
#define DRIFT_EVERY 50	   // requests after which two neighbours in popularity change places
#define ZIPF 0.9	   // exponent
#define CAPACITY_SHARE 10  // of the items' bytes together, when no capacity is given
#define LINE_MAX_BYTES 256 // of a trace's line
#define KEYS_MAX 100000	   // of a trace

struct object {
	char key[DIGEST_HEX_LEN];
	double seconds;
	uint64_t bytes;
	uint64_t used; // LRU: number of its last use
	bool in_lru;
};

struct trace {
	struct object *objects;
	size_t n;
	uint32_t *requests;
	size_t n_requests;
};

struct result {
	double wanted, gdsf, lru; // seconds
};

// --- traces ----------------------------------------------------------------------------------------------------

static uint64_t next_random(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15u); // splitmix64
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static double uniform(uint64_t *state)
{
	return (double)(next_random(state) >> 11) / 9007199254740992.0;
}

static double log_normal(uint64_t *state, double median, double sigma)
{
	double u = 1 - uniform(state), v = uniform(state);
	return median * exp(sigma * sqrt(-2 * log(u)) * cos(2 * M_PI * v));
}

static int allocate(struct trace *t, size_t objects, size_t requests)
{
	t->objects = calloc(objects, sizeof(*t->objects));
	t->requests = calloc(requests, sizeof(*t->requests));
	return t->objects && t->requests ? 0 : -1;
}

static size_t draw(const double *cumulated, double u)
{
	size_t low = 0, high = ITEMS - 1;
	while (low < high) {
		size_t mid = (low + high) / 2;
		if (cumulated[mid] < u)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

// Builds of 10 s to 10 min and deltas of some MiB to GiB, as docs/images.md measured them; both vary independently.
static int make_trace(struct trace *t, uint64_t seed)
{
	double cumulated[ITEMS], sum = 0;
	uint32_t order[ITEMS];
	if (allocate(t, ITEMS, REQUESTS) < 0)
		return -1;
	for (uint32_t i = 0; i < ITEMS; i++) {
		struct object *o = &t->objects[i];
		snprintf(o->key, sizeof(o->key), "%u", i);
		o->seconds = log_normal(&seed, 30, 1);
		o->bytes = (uint64_t)log_normal(&seed, 200e6, 1);
		cumulated[i] = sum += 1 / pow(i + 1, ZIPF);
		order[i] = i;
	}
	t->n = ITEMS;
	for (size_t i = 0; i < REQUESTS; i++) {
		t->requests[t->n_requests++] = order[draw(cumulated, uniform(&seed) * sum)];
		if (i % DRIFT_EVERY == 0) {
			size_t at = next_random(&seed) % (ITEMS - 1);
			uint32_t keep = order[at];
			order[at] = order[at + 1];
			order[at + 1] = keep;
		}
	}
	return 0;
}

static uint32_t object_of(struct trace *t, const char *key, double seconds, double bytes)
{
	size_t i = 0;
	while (i < t->n && strcmp(t->objects[i].key, key) != 0)
		i++;
	if (i == t->n) {
		t->objects[t->n++] = (struct object){.seconds = seconds, .bytes = (uint64_t)bytes};
		memcpy(t->objects[i].key, key, strlen(key) + 1);
	}
	return (uint32_t)i;
}

static int read_trace(struct trace *t, const char *path)
{
	char line[LINE_MAX_BYTES], key[DIGEST_HEX_LEN];
	double seconds, bytes;
	vc_autofclose FILE *f = fopen(path, "re");
	if (!f || allocate(t, KEYS_MAX, KEYS_MAX * 10) < 0)
		return -1;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%64s %lf %lf", key, &seconds, &bytes) != 3 || !(seconds >= 0) || !(bytes >= 0 && bytes < 1e18) ||
		    t->n == KEYS_MAX || t->n_requests == KEYS_MAX * 10)
			return -1;
		t->requests[t->n_requests++] = object_of(t, key, seconds, bytes);
	}
	return t->n ? 0 : -1;
}

// --- policies --------------------------------------------------------------------------------------------------

static bool lru_use(struct trace *t, struct object *o, uint64_t now, uint64_t capacity, uint64_t *bytes)
{
	bool hit = o->in_lru;
	o->used = now;
	if (hit || o->bytes > capacity)
		return hit;
	while (*bytes + o->bytes > capacity) {
		struct object *oldest = NULL;
		for (size_t i = 0; i < t->n; i++) {
			if (t->objects[i].in_lru && (!oldest || t->objects[i].used < oldest->used))
				oldest = &t->objects[i];
		}
		oldest->in_lru = false;
		*bytes -= oldest->bytes;
	}
	o->in_lru = true;
	*bytes += o->bytes;
	return false;
}

static void replay(struct trace *t, uint64_t capacity, struct result *r)
{
	struct gdsf *g = gdsf_create(capacity);
	uint64_t lru_bytes = 0;
	for (size_t i = 0; g && i < t->n_requests; i++) {
		struct object *o = &t->objects[t->requests[i]];
		r->wanted += o->seconds;
		if (lru_use(t, o, i + 1, capacity, &lru_bytes))
			r->lru += o->seconds;
		if (gdsf_use(g, o->key)) {
			r->gdsf += o->seconds;
			continue;
		}
		char(*victims)[DIGEST_HEX_LEN] = NULL;
		size_t n = 0;
		(void)gdsf_admit(g, o->key, o->seconds, o->bytes, &victims, &n);
		free(victims);
	}
	gdsf_destroy(g);
}

static uint64_t default_capacity(const struct trace *t)
{
	uint64_t sum = 0;
	for (size_t i = 0; i < t->n; i++)
		sum += t->objects[i].bytes;
	return sum / CAPACITY_SHARE;
}

static int usage(void)
{
	fprintf(stderr, "Usage: cachereplay [--capacity BYTES] TRACE | --seed N\n");
	return 2;
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{"capacity", required_argument, NULL, 'c'}, {"seed", required_argument, NULL, 's'}, {NULL, 0, NULL, 0}};
	uint64_t capacity = 0, seed = 0;
	bool made = false;
	int c;
	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (c != 'c' && c != 's')
			return usage();
		if (vc_parse_u64("value", optarg, 0, UINT64_MAX, c == 'c' ? &capacity : &seed, NULL) < 0)
			return usage();
		made |= c == 's';
	}
	if (made == (optind < argc))
		return usage();
	struct trace t = {0};
	struct result r = {0};
	int rc = made ? make_trace(&t, seed) : read_trace(&t, argv[optind]);
	if (rc == 0) {
		capacity = capacity ? capacity : default_capacity(&t);
		replay(&t, capacity, &r);
		printf("{\"requests\": %zu, \"items\": %zu, \"capacity\": %llu, \"wanted_s\": %.3f, \"saved_s\": %.3f, "
		       "\"lru_saved_s\": %.3f, \"saved_vs_lru\": %.4f}\n",
		       t.n_requests, t.n, (unsigned long long)capacity, r.wanted, r.gdsf, r.lru, r.lru > 0 ? r.gdsf / r.lru : 0);
	} else {
		fprintf(stderr, "cachereplay: the trace cannot be used\n");
	}
	free(t.objects);
	free(t.requests);
	return rc == 0 ? 0 : 3;
}
