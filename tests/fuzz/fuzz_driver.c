// SPDX-License-Identifier: GPL-2.0-or-later
// Runs a fuzz target without a fuzzer: on the files that are given, or on its corpus and bounded mutations of it.
//
//   run_NAME                      the corpus tests/fuzz/corpus/NAME, then mutations: what make check does
//   run_NAME -seconds N           mutations for N seconds
//   run_NAME FILE...              only these: what a fuzzer, or an earlier run, has found
//
// Never fails by itself: a crash or a sanitizer is the verdict. The input under way lies in ./run_NAME.input, which is
// still there after a crash. Deterministic, but for the number of rounds that fit into the time.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "libvc/cleanup.h"
#include "libvc/parse.h"

#define INPUT_MAX (64u << 10) // bytes of one input: more than the largest limit that a text runs into quickly
#define CORPUS_MAX 512	      // files of one corpus
#define DEFAULT_MS 1500	      // of a run in make check, for which there are seven targets in two builds
#define SECONDS_MAX 86400

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	uint8_t *data;
	size_t size;
};

struct run {
	struct input corpus[CORPUS_MAX];
	size_t n;
	uint8_t *now; // INPUT_MAX bytes of a file, so that a crash leaves them
	unsigned seed;
	char path[64];
};

static size_t random_below(struct run *run, size_t n)
{
	return n ? (size_t)rand_r(&run->seed) % n : 0;
}

static int load(struct run *run, const char *path)
{
	vc_autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct input in = {.data = malloc(INPUT_MAX)};
	ssize_t n = fd < 0 || !in.data ? -1 : read(fd, in.data, INPUT_MAX);
	if (n < 0 || run->n == CORPUS_MAX) {
		perror(path);
		free(in.data);
		return -1;
	}
	in.size = (size_t)n;
	run->corpus[run->n++] = in;
	return 0;
}

static int no_dots(const struct dirent *e)
{
	return e->d_name[0] != '.';
}

static int load_corpus(struct run *run, const char *dir)
{
	struct dirent **names = NULL;
	int n = scandir(dir, &names, no_dots, alphasort), rc = n <= 0 ? -1 : 0;
	if (rc < 0)
		fprintf(stderr, "%s: no corpus\n", dir);
	for (int i = 0; i < n; i++) {
		vc_autofree char *path = NULL;
		if (rc == 0)
			rc = asprintf(&path, "%s/%s", dir, names[i]->d_name) < 0 ? -1 : load(run, path);
		free(names[i]);
	}
	free(names);
	return rc;
}

// --- mutations: each takes the size and returns the new one ---

static size_t flip(struct run *run, size_t size)
{
	if (size)
		run->now[random_below(run, size)] ^= (uint8_t)(1u << random_below(run, 8));
	return size;
}

static size_t poke(struct run *run, size_t size)
{
	static const uint8_t values[] = {0, 1, 0x7f, 0x80, 0xff, '"', '\\', '{', '[', ']', ',', '-', '0', '9', '\n', '='};
	if (size)
		run->now[random_below(run, size)] = values[random_below(run, sizeof(values))];
	return size;
}

static size_t number(struct run *run, size_t size)
{
	static const char *const words[] = {"0", "-1", "4294967295", "4294967296", "18446744073709551615", "1e999", "null", "true", "[[[[",
					    "{\"\":", "\"\\u0000\"", "%s%n", "[0-99999999]", "../../", "\xff\xfe", "\xc3\xa4"};
	const char *w = words[random_below(run, VC_ARRAY_LEN(words))];
	size_t len = strlen(w), at = random_below(run, size + 1);
	if (size + len > INPUT_MAX)
		return size;
	memmove(run->now + at + len, run->now + at, size - at);
	memcpy(run->now + at, w, len);
	return size + len;
}

static size_t cut(struct run *run, size_t size)
{
	size_t at = random_below(run, size), n = random_below(run, size - at + 1);
	memmove(run->now + at, run->now + at + n, size - at - n);
	return size - n;
}

static size_t repeat(struct run *run, size_t size)
{
	size_t at = random_below(run, size), n = random_below(run, size - at);
	if (size + n > INPUT_MAX)
		return size;
	memmove(run->now + at + n, run->now + at, size - at);
	return size + n;
}

static size_t splice_in(struct run *run, size_t size)
{
	const struct input *other = &run->corpus[random_below(run, run->n)];
	size_t from = random_below(run, other->size), n = random_below(run, other->size - from), at = random_below(run, size + 1);
	if (at + n > INPUT_MAX)
		return size;
	memcpy(run->now + at, other->data + from, n);
	return at + n > size ? at + n : size;
}

static void mutate_once(struct run *run)
{
	static size_t (*const mutations[])(struct run *, size_t) = {flip, poke, number, cut, repeat, splice_in};
	const struct input *from = &run->corpus[random_below(run, run->n)];
	size_t size = from->size;
	memcpy(run->now, from->data, size);
	for (size_t n = 1 + random_below(run, 6); n > 0; n--)
		size = mutations[random_below(run, VC_ARRAY_LEN(mutations))](run, size);
	// an own allocation, so that a read past the end is seen
	uint8_t *copy = malloc(size + !size);
	if (!copy)
		return;
	memcpy(copy, run->now, size);
	LLVMFuzzerTestOneInput(copy, size);
	free(copy);
}

static uint64_t now_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void replay(struct run *run)
{
	for (size_t i = 0; i < run->n; i++) {
		memcpy(run->now, run->corpus[i].data, run->corpus[i].size);
		LLVMFuzzerTestOneInput(run->corpus[i].data, run->corpus[i].size);
	}
}

static void mutate(struct run *run, uint64_t ms)
{
	unsigned long rounds = 0;
	for (uint64_t end = now_ms() + ms; now_ms() < end; rounds++)
		mutate_once(run);
	printf("%zu inputs of the corpus, %lu mutations\n", run->n, rounds);
}

static int map_input(struct run *run, const char *name)
{
	snprintf(run->path, sizeof(run->path), "%s.input", name);
	vc_autoclose int fd = open(run->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0 || ftruncate(fd, INPUT_MAX) < 0)
		return -1;
	run->now = mmap(NULL, INPUT_MAX, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	return run->now == MAP_FAILED ? -1 : 0;
}

static int fill(struct run *run, const char *name, char **files)
{
	vc_autofree char *dir = NULL;
	int rc = 0;
	for (; *files && rc == 0; files++)
		rc = load(run, *files);
	if (run->n || rc < 0)
		return rc;
	return asprintf(&dir, FUZZ_CORPUS "/%s", name + strlen("run_")) < 0 ? -1 : load_corpus(run, dir);
}

int main(int argc, char **argv)
{
	static struct run run = {.seed = 20240229};
	uint64_t seconds = 0;
	const char *name = strstr(program_invocation_short_name, "run_");
	int first = 1;
	if (argc >= 3 && strcmp(argv[1], "-seconds") == 0) {
		first = 3;
		if (vc_parse_u64("-seconds", argv[2], 1, SECONDS_MAX, &seconds, NULL) < 0)
			return 2;
	}
	if (!name || map_input(&run, name) < 0 || fill(&run, name, argv + first) < 0)
		return 1;
	replay(&run);
	if (!argv[first])
		mutate(&run, seconds ? seconds * 1000 : DEFAULT_MS);
	unlink(run.path);
	for (size_t i = 0; i < run.n; i++)
		free(run.corpus[i].data);
	return 0;
}
