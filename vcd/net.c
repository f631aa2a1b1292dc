// SPDX-License-Identifier: GPL-2.0-or-later
// Links through rtnetlink: see net.h. Messages are built by hand where libnl-route has no setter (bridge options,
// forwarding entries with several destinations). One socket per call.
#include "vcd/net.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/route/addr.h>
#include <netlink/route/link.h>
#include <netlink/socket.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "libvc/cleanup.h"
#include "libvc/log.h"
#include "vcd/netguard.h"

#define VXLAN_PREFIX "vcx"
#define TAP_PREFIX "vt"
#define LINKS_MAX 65536 // of one host; bounds the list

static void free_sock(struct nl_sock **s)
{
	nl_socket_free(*s); // takes NULL
}
static void free_msg(struct nl_msg **m)
{
	nlmsg_free(*m);
}
static void free_cache(struct nl_cache **c)
{
	nl_cache_free(*c);
}
#define auto_sock __attribute__((cleanup(free_sock)))
#define auto_msg __attribute__((cleanup(free_msg)))
#define auto_cache __attribute__((cleanup(free_cache)))

struct addr {
	int family;
	size_t len;
	uint8_t bytes[16];
};

static int parse_addr(const char *text, struct addr *ret, struct vc_error *err)
{
	ret->family = strchr(text, ':') ? AF_INET6 : AF_INET;
	ret->len = ret->family == AF_INET6 ? 16 : 4;
	if (inet_pton(ret->family, text, ret->bytes) != 1)
		return vc_error_set(err, VC_EPROTO, "'%s' is not an IP address", text);
	return 0;
}

static int parse_mac(const char *text, uint8_t ret[ETH_ALEN], struct vc_error *err)
{
	char extra;
	if (strlen(text) != 17 || sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%c", &ret[0], &ret[1], &ret[2], &ret[3],
					 &ret[4], &ret[5], &extra) != ETH_ALEN)
		return vc_error_set(err, VC_EPROTO, "'%s' is not a MAC address", text);
	return 0;
}

static int check_id(const char *id, struct vc_error *err)
{
	for (size_t i = 0; i < NET_SHORT_LEN; i++) {
		if (!isxdigit((unsigned char)id[i]))
			return vc_error_set(err, VC_EPROTO, "'%s' is not a cluster id", id);
	}
	return 0;
}

static const char *link_name(const char *prefix, const char *id, char ret[NET_NAME_LEN])
{
	snprintf(ret, NET_NAME_LEN, "%s%.*s", prefix, NET_SHORT_LEN, id);
	return ret;
}

const char *net_tap_name(const char *id, uint32_t rank, char ret[NET_NAME_LEN])
{
	snprintf(ret, NET_NAME_LEN, TAP_PREFIX "%.*s.%" PRIu32, NET_SHORT_LEN, id, rank);
	return ret;
}

// --- netlink --------------------------------------------------------------------------------------------------

static struct nl_sock *open_sock(struct vc_error *err)
{
	struct nl_sock *sock = nl_socket_alloc();
	int rc = sock ? nl_connect(sock, NETLINK_ROUTE) : -NLE_NOMEM;
	if (rc == 0)
		return sock;
	nl_socket_free(sock);
	vc_error_set(err, VC_EHOST, "rtnetlink: %s", nl_geterror(rc));
	return NULL;
}

// Sends and waits for the kernel's answer; `may_be` is an answer that is as good (NLE_EXIST, NLE_NODEV), or 0.
static int talk(struct nl_sock *sock, struct nl_msg *msg, int may_be, const char *what, struct vc_error *err)
{
	int rc = nl_send_auto_complete(sock, msg);
	if (rc >= 0)
		rc = nl_wait_for_ack(sock);
	if (rc >= 0 || (may_be && -rc == may_be))
		return 0;
	return vc_error_set(err, VC_EHOST, "%s: %s", what, nl_geterror(rc));
}

static struct nl_msg *link_msg(int type, int flags, const char *name)
{
	struct ifinfomsg info = {.ifi_family = AF_UNSPEC};
	struct nl_msg *msg = nlmsg_alloc_simple(type, NLM_F_REQUEST | flags);
	if (msg && nlmsg_append(msg, &info, sizeof(info), NLMSG_ALIGNTO) == 0 && nla_put_string(msg, IFLA_IFNAME, name) == 0)
		return msg;
	nlmsg_free(msg);
	return NULL;
}

// Changes a link that exists: up, with this MTU, at this bridge (0: none), without a link-local address.
static int bring_up(struct nl_sock *sock, const char *name, uint32_t mtu, uint32_t master, struct vc_error *err)
{
	auto_msg struct nl_msg *msg = link_msg(RTM_NEWLINK, 0, name);
	if (!msg)
		return vc_error_set(err, ENOMEM, "%s", name);
	struct ifinfomsg *info = nlmsg_data(nlmsg_hdr(msg));
	info->ifi_flags = info->ifi_change = IFF_UP;
	nla_put_u32(msg, IFLA_MTU, mtu);
	if (master)
		nla_put_u32(msg, IFLA_MASTER, master);
	if (talk(sock, msg, 0, name, err) < 0)
		return vc_error_wrap(err, "bring up");
	return 0;
}

// No file: the kernel has no IPv6.
static int set_sysctl(const char *family, const char *name, const char *key, const char *value, struct vc_error *err)
{
	char path[128];
	snprintf(path, sizeof(path), "/proc/sys/net/%s/conf/%s/%s", family, name, key);
	vc_autoclose int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : vc_error_errno(err, "%s", path);
	return write(fd, value, strlen(value)) == (ssize_t)strlen(value) ? 0 : vc_error_errno(err, "%s", path);
}

// No IPv6 on the host's side of a segment: guests must not reach the host.
static int disable_ipv6(const char *name, struct vc_error *err)
{
	return set_sysctl("ipv6", name, "disable_ipv6", "1", err);
}

// IPv4 cannot be turned off, and Linux answers for all its addresses on every interface, also on one without any. With
// the check of return paths no source is a right one there, so neither ARP nor a packet is taken; no ARP answer at all.
static int refuse_ipv4(const char *name, struct vc_error *err)
{
	if (set_sysctl("ipv4", name, "rp_filter", "1", err) < 0)
		return -1;
	return set_sysctl("ipv4", name, "arp_ignore", "8", err);
}

static int create_link(struct nl_sock *sock, const char *name, const char *kind, uint32_t mtu,
		       int (*fill)(struct nl_msg *msg, const void *arg), const void *arg, struct vc_error *err)
{
	auto_msg struct nl_msg *msg = link_msg(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, name);
	struct nlattr *info, *data;
	if (!msg || nla_put_u32(msg, IFLA_MTU, mtu) < 0 || !(info = nla_nest_start(msg, IFLA_LINKINFO)) ||
	    nla_put_string(msg, IFLA_INFO_KIND, kind) < 0 || !(data = nla_nest_start(msg, IFLA_INFO_DATA)) ||
	    fill(msg, arg) < 0)
		return vc_error_set(err, ENOMEM, "%s", name);
	nla_nest_end(msg, data);
	nla_nest_end(msg, info);
	if (talk(sock, msg, NLE_EXIST, name, err) < 0)
		return vc_error_wrap(err, "create %s", kind);
	return disable_ipv6(name, err);
}

static int fill_bridge(struct nl_msg *msg, const void *arg)
{
	(void)arg;
	// without snooping no querier is needed for multicast among the guests
	return nla_put_u32(msg, IFLA_BR_STP_STATE, 0) < 0 || nla_put_u32(msg, IFLA_BR_FORWARD_DELAY, 0) < 0 ||
			       nla_put_u8(msg, IFLA_BR_MCAST_SNOOPING, 0) < 0
		       ? -1
		       : 0;
}

struct vxlan {
	const struct net_segment *seg;
	struct addr local;
};

static int fill_vxlan(struct nl_msg *msg, const void *arg)
{
	const struct vxlan *v = arg;
	int attr = v->local.family == AF_INET ? IFLA_VXLAN_LOCAL : IFLA_VXLAN_LOCAL6;
	uint16_t port = htons((uint16_t)v->seg->port);
	return nla_put_u32(msg, IFLA_VXLAN_ID, v->seg->vni) < 0 || nla_put(msg, attr, (int)v->local.len, v->local.bytes) < 0 ||
			       nla_put_u16(msg, IFLA_VXLAN_PORT, port) < 0 || nla_put_u8(msg, IFLA_VXLAN_LEARNING, 0) < 0
		       ? -1
		       : 0;
}

// A forwarding entry of the VXLAN: packets for this MAC go to that host. append: one of several (flooding).
static int put_fdb(struct nl_sock *sock, uint32_t index, const uint8_t mac[ETH_ALEN], const char *host, int flag,
		   struct vc_error *err)
{
	struct ndmsg ndm = {.ndm_family = PF_BRIDGE, .ndm_ifindex = (int)index, .ndm_flags = NTF_SELF};
	ndm.ndm_state = NUD_NOARP | NUD_PERMANENT;
	struct addr addr = {0};
	if (parse_addr(host, &addr, err) < 0)
		return -1;
	auto_msg struct nl_msg *msg = nlmsg_alloc_simple(RTM_NEWNEIGH, NLM_F_REQUEST | NLM_F_CREATE | flag);
	if (!msg || nlmsg_append(msg, &ndm, sizeof(ndm), NLMSG_ALIGNTO) < 0 || nla_put(msg, NDA_LLADDR, ETH_ALEN, mac) < 0 ||
	    nla_put(msg, NDA_DST, (int)addr.len, addr.bytes) < 0)
		return vc_error_set(err, ENOMEM, "VXLAN peer %s", host);
	if (talk(sock, msg, NLE_EXIST, host, err) < 0)
		return vc_error_wrap(err, "VXLAN peer");
	return 0;
}

// And no more, whether it is there or not. bridge: the static entry of the bridge's port; host NULL: the MAC's only one.
static int drop_fdb(struct nl_sock *sock, uint32_t index, const uint8_t mac[ETH_ALEN], const char *host, bool bridge, struct vc_error *err)
{
	struct ndmsg ndm = {.ndm_family = PF_BRIDGE, .ndm_ifindex = (int)index, .ndm_flags = bridge ? NTF_MASTER : NTF_SELF};
	struct addr addr = {0};
	if (host && parse_addr(host, &addr, err) < 0)
		return -1;
	auto_msg struct nl_msg *msg = nlmsg_alloc_simple(RTM_DELNEIGH, NLM_F_REQUEST);
	if (!msg || nlmsg_append(msg, &ndm, sizeof(ndm), NLMSG_ALIGNTO) < 0 || nla_put(msg, NDA_LLADDR, ETH_ALEN, mac) < 0 ||
	    (host && nla_put(msg, NDA_DST, (int)addr.len, addr.bytes) < 0))
		return vc_error_set(err, ENOMEM, "forwarding entry");
	if (talk(sock, msg, NLE_OBJ_NOTFOUND, "forwarding entry", err) < 0)
		return vc_error_wrap(err, "remove");
	return 0;
}

// A static entry of the bridge: frames for this MAC go out by that port, whatever a guest claims.
static int put_port_mac(struct nl_sock *sock, uint32_t port, const char *text, struct vc_error *err)
{
	struct ndmsg ndm = {.ndm_family = PF_BRIDGE, .ndm_ifindex = (int)port, .ndm_flags = NTF_MASTER, .ndm_state = NUD_NOARP};
	uint8_t mac[ETH_ALEN];
	if (parse_mac(text, mac, err) < 0)
		return -1;
	auto_msg struct nl_msg *msg = nlmsg_alloc_simple(RTM_NEWNEIGH, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_REPLACE);
	if (!msg || nlmsg_append(msg, &ndm, sizeof(ndm), NLMSG_ALIGNTO) < 0 || nla_put(msg, NDA_LLADDR, ETH_ALEN, mac) < 0)
		return vc_error_set(err, ENOMEM, "bridge entry %s", text);
	if (talk(sock, msg, 0, text, err) < 0)
		return vc_error_wrap(err, "bridge entry");
	return 0;
}

// Nothing that comes in by this port is taken into the bridge's table.
static int stop_learning(struct nl_sock *sock, const char *name, uint32_t port, struct vc_error *err)
{
	struct ifinfomsg info = {.ifi_family = PF_BRIDGE, .ifi_index = (int)port};
	struct nlattr *nest;
	auto_msg struct nl_msg *msg = nlmsg_alloc_simple(RTM_SETLINK, NLM_F_REQUEST);
	if (!msg || nlmsg_append(msg, &info, sizeof(info), NLMSG_ALIGNTO) < 0 ||
	    !(nest = nla_nest_start(msg, IFLA_PROTINFO | NLA_F_NESTED)) || nla_put_u8(msg, IFLA_BRPORT_LEARNING, 0) < 0)
		return vc_error_set(err, ENOMEM, "%s", name);
	nla_nest_end(msg, nest);
	if (talk(sock, msg, 0, name, err) < 0)
		return vc_error_wrap(err, "stop learning");
	return 0;
}

static int link_index(const char *name, uint32_t *ret, struct vc_error *err)
{
	*ret = if_nametoindex(name);
	return *ret ? 0 : vc_error_errno(err, "network link %s", name);
}

// --- ensure ---------------------------------------------------------------------------------------------------

static int ensure_bridge(struct nl_sock *sock, const struct net_segment *seg, uint32_t *ret_index, struct vc_error *err)
{
	char name[NET_NAME_LEN];
	link_name(NET_BRIDGE_PREFIX, seg->id, name);
	if (create_link(sock, name, "bridge", seg->mtu, fill_bridge, NULL, err) < 0 || link_index(name, ret_index, err) < 0 ||
	    refuse_ipv4(name, err) < 0)
		return -1;
	return bring_up(sock, name, seg->mtu, 0, err);
}

static const uint8_t everybody[ETH_ALEN];

static int drop_gone(struct nl_sock *sock, const struct net_segment *seg, uint32_t index, struct vc_error *err)
{
	for (size_t i = 0; i < seg->n_gone_peers; i++) {
		if (drop_fdb(sock, index, everybody, seg->gone_peers[i].addr, false, err) < 0)
			return -1;
	}
	for (size_t i = 0; i < seg->n_gone; i++) {
		uint8_t mac[ETH_ALEN];
		if (parse_mac(seg->gone[i].mac, mac, err) < 0 || drop_fdb(sock, index, mac, NULL, true, err) < 0 ||
		    drop_fdb(sock, index, mac, NULL, false, err) < 0)
			return -1;
	}
	return 0;
}

static int ensure_peers(struct nl_sock *sock, const struct net_segment *seg, uint32_t index, struct vc_error *err)
{
	for (size_t i = 0; i < seg->n_peers; i++) {
		if (put_fdb(sock, index, everybody, seg->peers[i].addr, NLM_F_APPEND, err) < 0)
			return -1;
	}
	for (size_t i = 0; i < seg->n_remotes; i++) {
		uint8_t mac[ETH_ALEN];
		if (parse_mac(seg->remotes[i].mac, mac, err) < 0 ||
		    put_fdb(sock, index, mac, seg->remotes[i].addr, NLM_F_REPLACE, err) < 0 ||
		    put_port_mac(sock, index, seg->remotes[i].mac, err) < 0)
			return -1;
	}
	return 0;
}

static int ensure_vxlan(struct nl_sock *sock, const struct net_segment *seg, uint32_t bridge, struct vc_error *err)
{
	char name[NET_NAME_LEN];
	uint32_t index;
	struct vxlan v = {.seg = seg};
	if (parse_addr(seg->local, &v.local, err) < 0)
		return -1;
	link_name(VXLAN_PREFIX, seg->id, name);
	if (create_link(sock, name, "vxlan", seg->mtu, fill_vxlan, &v, err) < 0 || link_index(name, &index, err) < 0 ||
	    bring_up(sock, name, seg->mtu, bridge, err) < 0 || stop_learning(sock, name, index, err) < 0)
		return -1;
	return drop_gone(sock, seg, index, err) < 0 ? -1 : ensure_peers(sock, seg, index, err);
}

static int remove_link(struct nl_sock *sock, const char *name, struct vc_error *err);

static int no_vxlan(struct nl_sock *sock, const struct net_segment *seg, struct vc_error *err)
{
	char name[NET_NAME_LEN];
	link_name(VXLAN_PREFIX, seg->id, name);
	return if_nametoindex(name) ? remove_link(sock, name, err) : 0;
}

static int create_tap(const char *name, uid_t owner, struct vc_error *err)
{
	struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	vc_autoclose int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return vc_error_errno(err, "/dev/net/tun");
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	if (ioctl(fd, TUNSETIFF, &ifr) < 0 || ioctl(fd, TUNSETOWNER, (unsigned long)owner) < 0 ||
	    ioctl(fd, TUNSETPERSIST, 1UL) < 0)
		return vc_error_errno(err, "create tap %s", name);
	return 0;
}

static int ensure_tap(struct nl_sock *sock, const struct net_segment *seg, const struct net_local *local, uint32_t bridge,
		      struct vc_error *err)
{
	char name[NET_NAME_LEN];
	uint32_t index;
	net_tap_name(seg->id, local->rank, name);
	if (!if_nametoindex(name) && create_tap(name, seg->tap_owner, err) < 0)
		return -1;
	if (disable_ipv6(name, err) < 0 || bring_up(sock, name, seg->mtu, bridge, err) < 0 || link_index(name, &index, err) < 0 ||
	    stop_learning(sock, name, index, err) < 0)
		return -1;
	return local->mac ? put_port_mac(sock, index, local->mac, err) : 0;
}

static int ensure_all(struct nl_sock *sock, const struct net_segment *seg, struct vc_error *err)
{
	uint32_t bridge;
	// the filter comes before what it guards
	if (netguard_ensure(seg, err) < 0 || ensure_bridge(sock, seg, &bridge, err) < 0)
		return -1;
	// a cluster on one host needs no way out
	if ((seg->n_peers ? ensure_vxlan(sock, seg, bridge, err) : no_vxlan(sock, seg, err)) < 0)
		return -1;
	for (size_t i = 0; i < seg->n_locals; i++) {
		if (ensure_tap(sock, seg, &seg->locals[i], bridge, err) < 0)
			return -1;
	}
	return 0;
}

int net_ensure(const struct net_segment *seg, struct vc_error *err)
{
	if (check_id(seg->id, err) < 0)
		return -1;
	auto_sock struct nl_sock *sock = open_sock(err);
	if (!sock)
		return -1;
	if (ensure_all(sock, seg, err) == 0)
		return 0;
	if (seg->keep)
		return vc_error_wrap(err, "network of cluster %.*s", NET_SHORT_LEN, seg->id);
	struct vc_error again = VC_ERROR_INIT;
	if (net_remove(seg->id, &again) < 0)
		vc_log_warning("network of cluster %.*s: %s", NET_SHORT_LEN, seg->id, again.text);
	return vc_error_wrap(err, "network of cluster %.*s", NET_SHORT_LEN, seg->id);
}

// --- list and remove ------------------------------------------------------------------------------------------

int net_name_cluster(const char *name, char ret[NET_SHORT_LEN + 1])
{
	static const char *const prefixes[] = {NET_BRIDGE_PREFIX, VXLAN_PREFIX, TAP_PREFIX, NETGUARD_PREFIX};
	for (size_t i = 0; i < VC_ARRAY_LEN(prefixes); i++) {
		size_t n = strlen(prefixes[i]);
		if (strncmp(name, prefixes[i], n) != 0 || strspn(name + n, "0123456789abcdef") != NET_SHORT_LEN)
			continue;
		const char *rest = name + n + NET_SHORT_LEN;
		bool tap = strcmp(prefixes[i], TAP_PREFIX) == 0;
		if (tap ? rest[0] != '.' || !rest[1] || strspn(rest + 1, "0123456789") != strlen(rest + 1) : rest[0] != '\0')
			continue;
		memcpy(ret, name + n, NET_SHORT_LEN);
		ret[NET_SHORT_LEN] = '\0';
		return 0;
	}
	return -1;
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

struct names {
	char **names;
	size_t n;
};

static int add_name(const char *name, void *ctx)
{
	struct names *found = ctx;
	char cluster[NET_SHORT_LEN + 1];
	if (net_name_cluster(name, cluster) < 0)
		return 0;
	char **grown = found->n < LINKS_MAX ? reallocarray(found->names, found->n + 1, sizeof(*grown)) : NULL;
	if (!grown)
		return -1;
	found->names = grown;
	found->names[found->n] = strdup(name);
	return found->names[found->n] ? (int)(found->n++, 0) : -1;
}

int net_list(char ***ret, struct vc_error *err)
{
	struct nl_cache *raw = NULL;
	auto_sock struct nl_sock *sock = open_sock(err);
	if (!sock)
		return -1;
	int rc = rtnl_link_alloc_cache(sock, AF_UNSPEC, &raw);
	auto_cache struct nl_cache *cache = raw;
	if (rc < 0)
		return vc_error_set(err, VC_EHOST, "list of network links: %s", nl_geterror(rc));
	struct names found = {0};
	for (struct nl_object *o = nl_cache_get_first(cache); rc == 0 && o; o = nl_cache_get_next(o)) {
		const char *name = rtnl_link_get_name((struct rtnl_link *)o);
		rc = name ? add_name(name, &found) : 0;
	}
	if (rc == 0)
		rc = netguard_each(add_name, &found, err);
	vc_autostrv char **names = rc == 0 ? reallocarray(found.names, found.n + 1, sizeof(*names)) : NULL;
	if (!names) {
		for (size_t i = 0; i < found.n; i++)
			free(found.names[i]);
		free(found.names);
		return err && err->code ? -1 : vc_error_set(err, ENOMEM, "list of network links");
	}
	names[found.n] = NULL;
	qsort(names, found.n, sizeof(*names), compare);
	*ret = vc_steal(&names);
	return 0;
}

static int remove_link(struct nl_sock *sock, const char *name, struct vc_error *err)
{
	if (strncmp(name, NETGUARD_PREFIX, strlen(NETGUARD_PREFIX)) == 0)
		return netguard_remove(name, err);
	auto_msg struct nl_msg *msg = link_msg(RTM_DELLINK, 0, name);
	if (!msg)
		return vc_error_set(err, ENOMEM, "%s", name);
	if (talk(sock, msg, NLE_NODEV, name, err) < 0)
		return vc_error_wrap(err, "remove");
	return 0;
}

// Goes on after a failure, so that one stuck link keeps no other; reports the last error.
int net_remove(const char *id, struct vc_error *err)
{
	vc_autostrv char **names = NULL;
	int rc = 0;
	if (check_id(id, err) < 0 || net_list(&names, err) < 0)
		return -1;
	auto_sock struct nl_sock *sock = open_sock(err);
	if (!sock)
		return -1;
	for (size_t i = 0; names[i]; i++) {
		char cluster[NET_SHORT_LEN + 1];
		if (net_name_cluster(names[i], cluster) == 0 && strncmp(cluster, id, NET_SHORT_LEN) == 0 &&
		    remove_link(sock, names[i], err) < 0)
			rc = -1;
	}
	return rc;
}

// --- a member that moves --------------------------------------------------------------------------------------

// Frames for it go out by its tap.
static int member_here(struct nl_sock *sock, const struct net_move *move, struct vc_error *err)
{
	char name[NET_NAME_LEN];
	uint8_t mac[ETH_ALEN];
	uint32_t index;
	if (parse_mac(move->mac, mac, err) < 0 || link_index(net_tap_name(move->id, move->rank, name), &index, err) < 0 ||
	    put_port_mac(sock, index, move->mac, err) < 0)
		return -1;
	index = if_nametoindex(link_name(VXLAN_PREFIX, move->id, name));
	return index ? drop_fdb(sock, index, mac, NULL, false, err) : 0; // its former way
}

// They go to its host; a tap that it had here goes.
static int member_there(struct nl_sock *sock, const struct net_move *move, struct vc_error *err)
{
	char name[NET_NAME_LEN];
	uint8_t mac[ETH_ALEN];
	uint32_t index;
	if (parse_mac(move->mac, mac, err) < 0 || link_index(link_name(VXLAN_PREFIX, move->id, name), &index, err) < 0 ||
	    put_fdb(sock, index, mac, move->addr, NLM_F_REPLACE, err) < 0 || put_port_mac(sock, index, move->mac, err) < 0)
		return -1;
	net_tap_name(move->id, move->rank, name);
	return if_nametoindex(name) ? remove_link(sock, name, err) : 0;
}

int net_move(const struct net_move *move, struct vc_error *err)
{
	if (check_id(move->id, err) < 0)
		return -1;
	auto_sock struct nl_sock *sock = open_sock(err);
	if (!sock)
		return -1;
	return move->addr ? member_there(sock, move, err) : member_here(sock, move, err);
}

// --- underlay -------------------------------------------------------------------------------------------------

static int address_link(struct nl_sock *sock, const struct addr *want, int *ret_index)
{
	struct nl_cache *raw = NULL;
	int rc = rtnl_addr_alloc_cache(sock, &raw);
	auto_cache struct nl_cache *cache = raw;
	*ret_index = 0;
	if (rc < 0)
		return rc;
	for (struct nl_object *o = nl_cache_get_first(cache); o; o = nl_cache_get_next(o)) {
		struct rtnl_addr *a = (struct rtnl_addr *)o;
		struct nl_addr *local = rtnl_addr_get_local(a);
		if (local && nl_addr_get_family(local) == want->family && nl_addr_get_len(local) == want->len &&
		    memcmp(nl_addr_get_binary_addr(local), want->bytes, want->len) == 0)
			*ret_index = rtnl_addr_get_ifindex(a);
	}
	return 0;
}

int net_underlay_mtu(const char *text, uint32_t *ret, struct vc_error *err)
{
	struct addr addr = {0};
	struct rtnl_link *link = NULL;
	int index = 0;
	if (parse_addr(text, &addr, err) < 0)
		return -1;
	auto_sock struct nl_sock *sock = open_sock(err);
	if (!sock)
		return -1;
	int rc = address_link(sock, &addr, &index);
	if (rc == 0 && !index)
		return vc_error_set(err, VC_EHOST, "no interface of this host has the address %s: check the hosts in vcd.conf", text);
	if (rc == 0)
		rc = rtnl_link_get_kernel(sock, index, NULL, &link);
	if (rc < 0)
		return vc_error_set(err, VC_EHOST, "underlay address %s: %s", text, nl_geterror(rc));
	*ret = rtnl_link_get_mtu(link);
	rtnl_link_put(link);
	return 0;
}
