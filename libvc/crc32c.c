// SPDX-License-Identifier: GPL-2.0-or-later
// CRC-32C (Castagnoli): the processor's instruction where there is one, else a table.
//
// Owns the table, filled once. Link headers are 28 bytes, so one table of 256 words is enough.
#include "libvc/link.h"

#include <pthread.h>
#include <string.h>

#define POLY 0x82f63b78u // reflected

static uint32_t table[256];
static pthread_once_t table_once = PTHREAD_ONCE_INIT;

static void fill_table(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t crc = i;
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? POLY : 0);
		table[i] = crc;
	}
}

uint32_t vc_crc32c_table(uint32_t crc, const void *data, size_t len)
{
	pthread_once(&table_once, fill_table);
	const uint8_t *p = data;
	crc = ~crc;
	while (len--)
		crc = crc >> 8 ^ table[(crc ^ *p++) & 0xff];
	return ~crc;
}

#ifdef __x86_64__
__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(uint32_t crc, const void *data, size_t len)
{
	const uint8_t *p = data;
	uint64_t c = ~crc;
	for (; len >= 8; len -= 8, p += 8) {
		uint64_t word;
		memcpy(&word, p, sizeof(word));
		c = __builtin_ia32_crc32di(c, word);
	}
	while (len--)
		c = __builtin_ia32_crc32qi((uint32_t)c, *p++);
	return ~(uint32_t)c;
}
#endif

uint32_t vc_crc32c(uint32_t crc, const void *data, size_t len)
{
#ifdef __x86_64__
	if (__builtin_cpu_supports("sse4.2"))
		return crc32c_sse42(crc, data, len);
#endif
	return vc_crc32c_table(crc, data, len);
}
