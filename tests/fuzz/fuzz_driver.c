// SPDX-License-Identifier: GPL-2.0-or-later
// Runs a fuzz target without a fuzzer: on files that are given, or on a bounded number of deterministic random inputs.
//
// For make check, and to replay what a fuzzer found. Never fails by itself: a crash or a sanitizer is the verdict.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS 60000
#define SIZE_MAX_INPUT 3000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay(const char *path)
{
	static uint8_t data[1 << 20];
	FILE *f = fopen(path, "rb");
	if (!f) {
		perror(path);
		return 1;
	}
	size_t len = fread(data, 1, sizeof(data), f);
	fclose(f);
	LLVMFuzzerTestOneInput(data, len);
	return 0;
}

// Small numbers and protocol words more often than chance would give them.
static size_t random_input(uint8_t *data, unsigned *seed)
{
	static const char *const words[] = {"VCL\x01", "{\"type\":\"", "start", "\"argv\":\"YQA=\"", "signal", "\",\"sig\":\"TERM\"}",
					    "{\"v\":1,\"boot\":\"", "\",\"epoch\":", "exit", "\"status\":3}", "error", "winsize"};
	size_t size = 1 + (size_t)rand_r(seed) % SIZE_MAX_INPUT;
	int small = rand_r(seed) % 2;
	for (size_t i = 0; i < size; i++)
		data[i] = (uint8_t)(small && rand_r(seed) % 4 ? rand_r(seed) % 12 : rand_r(seed));
	for (int n = rand_r(seed) % 8; n > 0; n--) {
		const char *w = words[(size_t)rand_r(seed) % (sizeof(words) / sizeof(words[0]))];
		size_t at = 1 + (size_t)rand_r(seed) % size;
		if (at + strlen(w) <= size)
			memcpy(data + at, w, strlen(w));
	}
	data[0] = (uint8_t)(rand_r(seed) % 5);
	return size;
}

int main(int argc, char **argv)
{
	static uint8_t data[SIZE_MAX_INPUT];
	unsigned seed = 20240229;
	for (int i = 1; i < argc; i++) {
		if (replay(argv[i]) != 0)
			return 1;
	}
	for (int i = 0; argc == 1 && i < ROUNDS; i++) {
		size_t size = random_input(data, &seed);
		LLVMFuzzerTestOneInput(data, size);
	}
	return 0;
}
