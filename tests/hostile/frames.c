// SPDX-License-Identifier: GPL-2.0-or-later
// Raw frames, for tests/system/tenant_guest.bats: static, so that it runs in a guest of busybox alone.
//
//   frames send IFACE DST SRC TEXT [N]              N Ethernet frames of the experimental type 0x88b5, as root
//   frames listen IFACE TEXT SECONDS                "heard" when such a frame comes; "silence" when one of "end-TEXT" came,
//                                                   and it not before nor soon after; "deaf" when neither comes
//   frames macs IFACE N                             N frames from as many random source addresses, to everybody
//   frames port SECONDS                             garbage, false lengths and floods into the guest link, in the place
//                                                   of vcguestd, whose descriptor root can have
//   frames vxlan HOST PORT VNI TEXT                 the frame of `send`, to everybody, in VXLAN over UDP: as any user
#include <arpa/inet.h>
#include <errno.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netpacket/packet.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define TYPE 0x88b5 // local experimental use
#define FRAME_LEN 128
#define LATE_MS 500 // what was sent before "end-TEXT" may take another way

static int fail(const char *what)
{
	perror(what);
	return 2;
}

static bool parse_mac(const char *text, uint8_t ret[6])
{
	return sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx", &ret[0], &ret[1], &ret[2], &ret[3], &ret[4], &ret[5]) == 6;
}

static void make(uint8_t frame[FRAME_LEN], const uint8_t dst[6], const uint8_t src[6], const char *text)
{
	memset(frame, 0, FRAME_LEN);
	memcpy(frame, dst, 6);
	memcpy(frame + 6, src, 6);
	frame[12] = TYPE >> 8;
	frame[13] = TYPE & 0xff;
	snprintf((char *)frame + 14, FRAME_LEN - 14, "%s", text);
}

static int packet_socket(const char *iface, int *ret_index)
{
	struct sockaddr_ll addr = {.sll_family = AF_PACKET, .sll_protocol = htons(TYPE)};
	*ret_index = addr.sll_ifindex = (int)if_nametoindex(iface);
	int fd = socket(AF_PACKET, SOCK_RAW, htons(TYPE));
	return fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ? -1 : fd;
}

static int send_frames(const char *iface, const uint8_t dst[6], const uint8_t src[6], const char *text, int n)
{
	uint8_t frame[FRAME_LEN], from[6];
	int index, fd = packet_socket(iface, &index);
	if (fd < 0)
		return fail(iface);
	for (int i = 0; i < n; i++) {
		for (int k = 0; k < 6; k++)
			from[k] = src ? src[k] : (uint8_t)(k ? random() : 2);
		make(frame, dst, from, text);
		while (send(fd, frame, sizeof(frame), 0) < 0) {
			if (errno != ENOBUFS)
				return fail("send");
			poll(NULL, 0, 1);
		}
	}
	return 0;
}

static int64_t now_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

// The text of the next frame, "" when none comes before end.
static const char *next_text(int fd, int64_t end, uint8_t frame[2048])
{
	for (int64_t left; (left = end - now_ms()) > 0;) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		ssize_t n = poll(&p, 1, (int)left) > 0 ? recv(fd, frame, 2047, 0) : 0;
		if (n <= 14)
			continue;
		frame[n] = 0;
		return (char *)frame + 14;
	}
	return "";
}

static int listen_for(const char *iface, const char *text, int seconds)
{
	uint8_t frame[2048];
	char over[FRAME_LEN];
	const char *came, *said = "deaf";
	int index, fd = packet_socket(iface, &index);
	int64_t end = now_ms() + seconds * 1000;
	if (fd < 0)
		return fail(iface);
	snprintf(over, sizeof(over), "end-%s", text);
	puts("listening");
	fflush(stdout);
	while (*(came = next_text(fd, end, frame)) && strcmp(came, text) != 0) {
		if (strcmp(came, over) != 0)
			continue;
		said = "silence";
		end = now_ms() + LATE_MS;
	}
	puts(*came ? "heard" : said);
	return *came ? 0 : 1;
}

static int send_vxlan(const char *host, int port, unsigned vni, const char *text)
{
	static const uint8_t all[6] = {255, 255, 255, 255, 255, 255}, src[6] = {2, 0, 0, 0, 0, 99};
	uint8_t packet[8 + FRAME_LEN] = {0x08, 0, 0, 0, (uint8_t)(vni >> 16), (uint8_t)(vni >> 8), (uint8_t)vni, 0};
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	if (fd < 0 || inet_pton(AF_INET, host, &addr.sin_addr) != 1)
		return fail(host);
	make(packet + 8, all, src, text);
	for (int i = 0; i < 5; i++) {
		if (sendto(fd, packet, sizeof(packet), 0, (struct sockaddr *)&addr, sizeof(addr)) < 0)
			printf("sendto: %s\n", strerror(errno)); // a filter's refusal may be visible here
	}
	puts("sent");
	return 0;
}

// --- the guest link ---

// vcguestd is process 1; its port is the character device that it has open.
static int steal_port(void)
{
	int pidfd = (int)syscall(SYS_pidfd_open, 1, 0);
	for (int i = 3; pidfd >= 0 && i < 64; i++) {
		char path[64], target[64] = "";
		snprintf(path, sizeof(path), "/proc/1/fd/%d", i);
		if (readlink(path, target, sizeof(target) - 1) > 0 && strncmp(target, "/dev/vport", 10) == 0)
			return (int)syscall(SYS_pidfd_getfd, pidfd, i, 0);
	}
	errno = ENOENT;
	return -1;
}

static size_t fill(uint8_t *data, size_t size, int round)
{
	static const uint8_t head[16] = {'V', 'C', 'L', 1, 3, 1, 0, 0, 0xff, 0xff, 0xff, 0xff};
	for (size_t i = 0; i < size; i++)
		data[i] = round % 3 == 0 ? (uint8_t)random() : 0;
	for (size_t i = 0; round % 3 == 1 && i + sizeof(head) < size; i += 24)
		memcpy(data + i, head, sizeof(head)); // frames of 4 GiB
	return size;
}

static int attack_port(int seconds)
{
	static uint8_t data[64 * 1024];
	unsigned long bytes = 0;
	int fd = steal_port();
	time_t end = time(NULL) + seconds;
	if (fd < 0)
		return fail("port");
	for (int round = 0; time(NULL) < end; round++) {
		size_t size = fill(data, sizeof(data), round / 20);
		ssize_t n = write(fd, data, size);
		if (n > 0)
			bytes += (unsigned long)n;
		else if (errno == EAGAIN)
			poll(NULL, 0, 5);
		else
			return fail("write");
	}
	printf("port %lu bytes\n", bytes);
	return bytes ? 0 : 1;
}

static int number(const char *text)
{
	return (int)strtoul(text, NULL, 10);
}

int main(int argc, char **argv)
{
	static const uint8_t all[6] = {255, 255, 255, 255, 255, 255};
	uint8_t dst[6], src[6];
	const char *verb = argc > 1 ? argv[1] : "";
	if (strcmp(verb, "send") == 0 && argc >= 6 && parse_mac(argv[3], dst) && parse_mac(argv[4], src))
		return send_frames(argv[2], dst, src, argv[5], argc > 6 ? number(argv[6]) : 3);
	if (strcmp(verb, "macs") == 0 && argc == 4)
		return send_frames(argv[2], all, NULL, "flood", number(argv[3]));
	if (strcmp(verb, "listen") == 0 && argc == 5)
		return listen_for(argv[2], argv[3], number(argv[4]));
	if (strcmp(verb, "port") == 0 && argc == 3)
		return attack_port(number(argv[2]));
	if (strcmp(verb, "vxlan") == 0 && argc == 6)
		return send_vxlan(argv[2], number(argv[3]), (unsigned)number(argv[4]), argv[5]);
	fputs("frames: see the source\n", stderr);
	return 2;
}
