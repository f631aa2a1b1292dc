// SPDX-License-Identifier: GPL-2.0-or-later
// vcd/net in a private network namespace (as root; skipped otherwise), and its pure parts anywhere.
#include "tests/unit/test.h"

#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <sys/stat.h>

#include "libvc/cleanup.h"
#include "vcd/net.h"
#include "vcd/netguard.h"

#define ID "0123abcd00000000000000000000ffff"
#define OTHER "9999abcd00000000000000000000ffff"

static const struct net_peer peers[] = {{"127.0.0.2"}, {"127.0.0.3"}};
static const struct net_remote remotes[] = {{"02:00:10:01:00:02", "127.0.0.2"}, {"02:00:10:01:00:03", "127.0.0.3"}};
static const struct net_local locals[] = {{0, "02:00:10:01:00:00"}, {1, "02:00:10:01:00:01"}};
static const struct net_segment segment = {
	.id = ID, .vni = 4097, .mtu = 1450, .port = 4789, .local = "127.0.0.1", .peers = peers, .n_peers = 2,
	.remotes = remotes, .n_remotes = 2, .locals = locals, .n_locals = 2,
};

static void test_names(void **state)
{
	(void)state;
	static const struct {
		const char *name, *cluster;
	} rows[] = {
		{"vcb0123abcd", "0123abcd"}, {"vcx0123abcd", "0123abcd"}, {"vt0123abcd.12", "0123abcd"},
		{"vcb0123abc", NULL},	     {"vcb0123abcde", NULL},	  {"vt0123abcd", NULL},
		{"vt0123abcd.", NULL},	     {"vt0123abcd.x", NULL},	  {"vcb0123ABCD", NULL},
		{"eth0", NULL},		     {"", NULL},
	};
	for (size_t i = 0; i < VC_ARRAY_LEN(rows); i++) {
		char cluster[NET_SHORT_LEN + 1] = "";
		assert_int_equal(net_name_cluster(rows[i].name, cluster), rows[i].cluster ? 0 : -1);
		assert_string_equal(cluster, rows[i].cluster ? rows[i].cluster : "");
	}
	char tap[NET_NAME_LEN];
	assert_string_equal(net_tap_name(ID, 8191, tap), "vt0123abcd.8191");
}

static void need_namespace(void)
{
	if (unshare(CLONE_NEWNET) < 0 || access("/dev/net/tun", R_OK | W_OK) < 0)
		skip();
}

static void ensure(const struct net_segment *seg)
{
	struct vc_error err = VC_ERROR_INIT;
	if (net_ensure(seg, &err) < 0)
		fail_msg("%s", err.text);
}

static size_t count(void)
{
	vc_autostrv char **names = NULL;
	size_t n = 0;
	assert_int_equal(net_list(&names, NULL), 0);
	while (names[n])
		n++;
	return n;
}

static void test_ensure_remove(void **state)
{
	(void)state;
	need_namespace();
	struct net_segment other = segment;
	other.id = OTHER;
	other.vni = 4098;
	ensure(&segment);
	ensure(&segment); // idempotent
	ensure(&other);
	assert_int_equal(count(), 10); // a bridge, a VXLAN, two taps and a filter each
	assert_int_not_equal(if_nametoindex("vcb0123abcd"), 0);
	assert_int_not_equal(if_nametoindex("vcx0123abcd"), 0);
	assert_int_not_equal(if_nametoindex("vt0123abcd.1"), 0);
	assert_int_equal(net_remove(ID, NULL), 0);
	assert_int_equal(net_remove(ID, NULL), 0);
	assert_int_equal(count(), 5);
	assert_int_equal(if_nametoindex("vcb0123abcd"), 0);
	assert_int_equal(net_remove(OTHER, NULL), 0);
	assert_int_equal(count(), 0);
}

static void test_alone(void **state)
{
	(void)state;
	need_namespace();
	struct net_segment alone = segment;
	alone.n_peers = alone.n_remotes = 0;
	ensure(&alone);
	assert_int_equal(if_nametoindex("vcx0123abcd"), 0);
	assert_int_equal(count(), 4); // a bridge, two taps, a filter
	ensure(&segment); // it grows by two hosts
	assert_int_not_equal(if_nametoindex("vcx0123abcd"), 0);
	struct net_segment less = segment; // one of them goes, twice as after a restart, then the other
	less.n_peers = less.n_remotes = less.n_gone_peers = less.n_gone = 1;
	less.gone_peers = peers + 1;
	less.gone = remotes + 1;
	ensure(&less);
	ensure(&less);
	alone.gone_peers = peers;
	alone.gone = remotes;
	alone.n_gone_peers = alone.n_gone = 2;
	ensure(&alone);
	assert_int_equal(if_nametoindex("vcx0123abcd"), 0);
	assert_int_equal(net_remove(ID, NULL), 0);
}

// A failure leaves nothing of the segment behind.
static void test_failures(void **state)
{
	(void)state;
	need_namespace();
	struct vc_error err = VC_ERROR_INIT;
	static const struct net_remote bad_mac[] = {{"02:00:10:01:00", "127.0.0.2"}};
	struct net_segment bad = segment;
	bad.remotes = bad_mac;
	bad.n_remotes = 1;
	assert_int_equal(net_ensure(&bad, &err), -1);
	assert_contains(err.text, "not a MAC");
	assert_contains(err.text, "0123abcd");
	assert_int_equal(count(), 0);
	bad = segment;
	bad.id = "../../x";
	assert_int_equal(net_ensure(&bad, &err), -1);
	assert_contains(err.text, "not a cluster id");
	ensure(&segment);
	bad = segment;
	bad.id = OTHER; // the same VNI again
	assert_int_equal(net_ensure(&bad, &err), -1);
	assert_int_equal(count(), 5);
	assert_int_equal(net_remove(ID, NULL), 0);
}

static void test_filter(void **state)
{
	(void)state;
	struct vc_error err = VC_ERROR_INIT;
	vc_autofree char *text = netguard_rules(&segment, &err);
	assert_non_null(text);
	assert_contains(text, "table inet vcf0123abcd {");
	assert_contains(text, "udp dport 4789 @th,96,24 4097 ip saddr != { 127.0.0.2, 127.0.0.3 } drop");
	assert_contains(text, "udp dport 4789 meta skuid != 0 drop");
	assert_contains(text, "iifname \"vcb0123abcd\" drop");
	static const struct net_peer six[] = {{"fd00::2"}};
	struct net_segment other = segment;
	other.local = "fd00::1";
	other.peers = six;
	other.n_peers = 1;
	vc_autofree char *text6 = netguard_rules(&other, &err);
	assert_contains(text6, "ip6 saddr != { fd00::2 } drop");
	static const struct net_peer bad[] = {{"127.0.0.2 } accept"}};
	other = segment;
	other.peers = bad;
	other.n_peers = 1;
	assert_null(netguard_rules(&other, &err));
	assert_contains(err.text, "is not an address");
}

static void test_underlay(void **state)
{
	(void)state;
	struct vc_error err = VC_ERROR_INIT;
	uint32_t mtu = 0;
	assert_int_equal(net_underlay_mtu("203.0.113.77", &mtu, &err), -1);
	assert_contains(err.text, "203.0.113.77");
	assert_int_equal(net_underlay_mtu("n1", &mtu, &err), -1);
	assert_contains(err.text, "not an IP address");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),	 cmocka_unit_test(test_ensure_remove), cmocka_unit_test(test_alone),
		cmocka_unit_test(test_failures), cmocka_unit_test(test_filter),	cmocka_unit_test(test_underlay),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
