// SPDX-License-Identifier: GPL-2.0-or-later
// Interfaces by ioctl: see netif.h. Fails with the interface and the request that the kernel refused.
#include "guest/netif.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libvc/cleanup.h"

static int control_socket(struct vc_error *err)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		vc_error_errno(err, "a socket to configure the network");
	return fd;
}

static int set_flags(int fd, const char *name, short set, short clear, struct vc_error *err)
{
	struct ifreq ifr = {0};
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	if (ioctl(fd, SIOCGIFFLAGS, &ifr) < 0)
		return vc_error_errno(err, "%s", name);
	ifr.ifr_flags = (short)((ifr.ifr_flags | set) & ~clear);
	return ioctl(fd, SIOCSIFFLAGS, &ifr) < 0 ? vc_error_errno(err, "%s: set flags", name) : 0;
}

int netif_loopback_up(struct vc_error *err)
{
	vc_autoclose int fd = control_socket(err);
	return fd < 0 ? -1 : set_flags(fd, "lo", IFF_UP, 0, err);
}

static int read_mac(const char *name, char mac[18])
{
	char path[64 + IFNAMSIZ];
	snprintf(path, sizeof(path), "/sys/class/net/%.*s/address", IFNAMSIZ, name);
	vc_autoclose int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, mac, 17);
	if (n != 17)
		return -1;
	mac[17] = '\0';
	return 0;
}

static int find_by_mac(const char *mac, char name[IFNAMSIZ], struct vc_error *err)
{
	DIR *dir = opendir("/sys/class/net");
	struct dirent *e;
	bool found = false;
	if (!dir)
		return vc_error_errno(err, "/sys/class/net");
	while (!found && (e = readdir(dir))) {
		char have[18];
		if (strlen(e->d_name) >= IFNAMSIZ || read_mac(e->d_name, have) < 0 || strcasecmp(have, mac) != 0)
			continue;
		snprintf(name, IFNAMSIZ, "%.*s", IFNAMSIZ - 1, e->d_name);
		found = true;
	}
	closedir(dir);
	if (!found)
		return vc_error_set(err, VC_EHOST, "no network interface has the address %s: is virtio_net in the initramfs?", mac);
	return 0;
}

static int rename_if(int fd, char name[IFNAMSIZ], struct vc_error *err)
{
	struct ifreq ifr = {0};
	if (!strcmp(name, NETIF_NAME))
		return 0;
	if (set_flags(fd, name, 0, IFF_UP, err) < 0)
		return -1;
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	snprintf(ifr.ifr_newname, sizeof(ifr.ifr_newname), "%s", NETIF_NAME);
	if (ioctl(fd, SIOCSIFNAME, &ifr) < 0)
		return vc_error_errno(err, "%s: rename to %s", name, NETIF_NAME);
	snprintf(name, IFNAMSIZ, "%s", NETIF_NAME);
	return 0;
}

static int set_inet(int fd, unsigned long request, const char *what, struct in_addr in, struct vc_error *err)
{
	struct ifreq ifr = {0};
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr = in};
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", NETIF_NAME);
	memcpy(&ifr.ifr_addr, &sin, sizeof(sin));
	return ioctl(fd, request, &ifr) < 0 ? vc_error_errno(err, "%s: set %s", NETIF_NAME, what) : 0;
}

static int set_mtu(int fd, uint32_t mtu, struct vc_error *err)
{
	struct ifreq ifr = {.ifr_mtu = (int)mtu};
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", NETIF_NAME);
	return ioctl(fd, SIOCSIFMTU, &ifr) < 0 ? vc_error_errno(err, "%s: set mtu %u", NETIF_NAME, mtu) : 0;
}

int netif_configure(const char *mac, const char *addr, uint32_t prefix, uint32_t mtu, struct vc_error *err)
{
	char name[IFNAMSIZ];
	struct in_addr in, mask = {htonl(prefix ? ~0u << (32 - prefix) : 0)};
	if (inet_pton(AF_INET, addr, &in) != 1)
		return vc_error_set(err, VC_EPROTO, "'%s' is not an IPv4 address", addr);
	vc_autoclose int fd = control_socket(err);
	if (fd < 0 || find_by_mac(mac, name, err) < 0 || rename_if(fd, name, err) < 0 || set_mtu(fd, mtu, err) < 0 ||
	    set_inet(fd, SIOCSIFADDR, "its address", in, err) < 0 || set_inet(fd, SIOCSIFNETMASK, "its mask", mask, err) < 0)
		return -1;
	return set_flags(fd, NETIF_NAME, IFF_UP, 0, err);
}
