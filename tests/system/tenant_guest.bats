#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# Root in a guest, and a plain job on its host, against the host and another cluster: nothing arrives. Each silence stands
# beside the same frame or question inside one cluster, which is heard. docs/security.md.
#
# alice has a member on n1 and one on n2, and so has bob, with the same addresses.

load helper

IMAGE=tenant-guest
TOOLS=${HOSTILE_TOOLS:-${BUILD:-$TOP/_build}/sanitized/tests/hostile}
ALL=ff:ff:ff:ff:ff:ff

setup_file() {
    local user
    require_vcd
    import_busybox alice "$IMAGE"
    import_busybox bob "$IMAGE"
    for user in alice bob; do
        as "$user" sh -c 'cat >frames && chmod 755 frames' <"$TOOLS/frames"
        submit "$user" -N2 -c1 --mem=400 --vcluster="$IMAGE" --vcluster-mem=160M --wrap='sleep 1800'
        echo "$JOB" >"$BATS_FILE_TMPDIR/$user"
    done
    for user in alice bob; do
        JOB=$(cat "$BATS_FILE_TMPDIR/$user")
        wait_until 240 "the cluster of $user" cluster_is_ready "$user" "$JOB"
        as "$user" vcctl show "$JOB" --json >"$BATS_FILE_TMPDIR/$user.show"
        as "$user" vcctl cp frames "$JOB:all:/tmp/"
    done
    # an address that only bob's second member has
    in_guest bob 1 ip addr add 10.42.77.77/16 dev eth0
}

teardown_file() {
    lab_exec ctl scancel -u alice,bob || true
    lab_exec ctl scancel -u alice || true
    lab_exec ctl scancel -u bob || true
    wait_nodes idle 60 || true
    as alice vcctl image rm "$IMAGE" || true
    as bob vcctl image rm "$IMAGE" || true
}

teardown() { dump_logs; }

job_of() { cat "$BATS_FILE_TMPDIR/$1"; }

# in_guest USER RANK COMMAND...: in that user's guest, as the root that a user becomes by an own setuid program
in_guest() { lab_exec ctl timeout 60 vcctl exec --root "$(job_of "$1")" "$2" -- "${@:3}" </dev/null; }

field() { python3 -c 'import json,sys; d=json.load(open(sys.argv[1])); print(eval(sys.argv[2]))' "$BATS_FILE_TMPDIR/$1.show" "$2"; }
mac() { field "$1" "d['plan']['members'][$2]['mac']"; }
vni() { field "$1" 'd["plan"]["net"]["vni"]'; }
short_id() { field "$1" 'd["plan"]["cluster"]["id"][:8]'; }
host_addr() { field alice "[h['addr'] for h in d['plan']['hosts'] if h['name'] == '$1'][0]"; }

# hears USER RANK TEXT COMMAND...: what that member hears of a frame with TEXT that COMMAND sends: "heard" or "silence".
# Its own cluster's other member sends a frame afterwards, which ends the silence, and without which it is none.
hears() {
    local out=$BATS_TEST_TMPDIR/hears other=$((1 - $2)) pid
    : >"$out"
    in_guest "$1" "$2" /tmp/frames listen eth0 "$3" 30 >"$out" &
    pid=$!
    wait_until 30 "the listener in member $2 of $1" grep -q listening "$out" || return
    "${@:4}" >"$BATS_TEST_TMPDIR/sent" 2>&1 || true
    in_guest "$1" "$other" /tmp/frames send eth0 "$ALL" "$(mac "$1" "$other")" "end-$3" || true
    wait "$pid" || true
    grep -oE '^(heard|silence|deaf)' "$out"
}

@test "ARP, IPv6 link-local and broadcasts stay in their cluster" {
    local ll
    assert_contains "$(in_guest bob 0 arping -c 2 -w 5 -I eth0 10.42.77.77)" "reply from"
    run in_guest alice 0 arping -c 2 -w 4 -I eth0 10.42.77.77
    [[ $output == *ARPING* && $output != *"reply from"* ]]
    ll=$(in_guest bob 1 ip -6 addr show dev eth0 scope link | grep -oE 'fe80[0-9a-f:]+' | head -n1)
    [ -n "$ll" ]
    in_guest bob 0 ping -6 -c 1 -W 5 "$ll%eth0"
    run in_guest alice 0 ping -6 -c 1 -W 3 "$ll%eth0"
    [ "$status" -ne 0 ]
    assert_equal "$(hears bob 1 own-1 in_guest bob 0 /tmp/frames send eth0 "$ALL" "$(mac bob 0)" own-1)" heard
    assert_equal "$(hears bob 1 other-1 in_guest alice 0 /tmp/frames send eth0 "$ALL" "$(mac alice 0)" other-1)" silence
}

@test "forged source and destination addresses lead into no other cluster" {
    assert_equal "$(hears bob 1 own-2 in_guest bob 0 /tmp/frames send eth0 "$(mac bob 1)" "$(mac bob 0)" own-2)" heard
    assert_equal "$(hears bob 1 other-2 in_guest alice 0 /tmp/frames send eth0 "$(mac bob 1)" "$(mac bob 0)" other-2)" silence
    assert_equal "$(hears bob 1 other-3 in_guest alice 1 /tmp/frames send eth0 "$(mac bob 1)" "$(mac alice 1)" other-3)" silence
}

@test "a member that claims another's MAC gets none of its frames, a flood of MACs fills no table" {
    local before after
    before=$(lab_exec n1 bridge fdb show br "vcb$(short_id alice)" | wc -l)
    # member 0 says that it is member 1, a thousand times, and from 5000 other addresses
    in_guest alice 0 /tmp/frames send eth0 "$ALL" "$(mac alice 1)" stolen 1000
    in_guest alice 0 /tmp/frames macs eth0 5000
    after=$(lab_exec n1 bridge fdb show br "vcb$(short_id alice)" | wc -l)
    assert_equal "$after" "$before"
    lab_exec n1 bridge fdb show br "vcb$(short_id alice)" | grep -qi "$(mac alice 1) dev vcx"
    in_guest alice 0 ping -c 1 -W 5 10.42.0.2
}

@test "no host answers in a segment, whatever address a guest takes" {
    local n1 own
    n1=$(host_addr n1)
    own=${n1%.*}
    in_guest alice 0 ip addr add "$own.200/24" dev eth0
    in_guest alice 1 ip addr add "$own.201/24" dev eth0
    in_guest alice 0 ping -c 1 -W 5 "$own.201"
    for host in "$n1" "$(host_addr n2)" "$own.1"; do
        run in_guest alice 0 arping -c 2 -w 3 -I eth0 "$host"
        [[ $output == *ARPING* && $output != *"reply from"* ]] || { echo "$output" >&2; return 1; }
        run in_guest alice 0 ping -c 1 -W 2 "$host"
        [ "$status" -ne 0 ]
    done
    # the hosts have no address on any bridge, tap or VXLAN
    for host in n1 n2; do
        assert_equal "$(lab_exec "$host" sh -c 'ip -o addr show | grep -E "vc[bx]|vt[0-9a-f]"')" ""
    done
    # all nodes: the other member, and nobody else
    run in_guest alice 0 ping -6 -c 2 -W 3 ff02::1%eth0
    assert_equal "$(grep -oE 'fe80[0-9a-f:]+' <<<"$output" | sed 's/:$//' | sort -u | wc -l)" 2
}

# to an address of the host's network, by a neighbour entry that sends it to the bridge itself, in the name of another host
vxlan_from_guest() {
    local bridge
    bridge=$(lab_exec n1 cat "/sys/class/net/vcb$(short_id alice)/address")
    in_guest alice 0 sh -c "ip addr add $4/24 dev eth0; ip neigh replace $1 lladdr $bridge dev eth0
        ip route replace $1 dev eth0 src $4; /tmp/frames vxlan $1 4789 $2 $3; ip addr del $4/24 dev eth0"
}

@test "VXLAN packets from a guest do not reach a host's port" {
    local n1 n2
    n1=$(host_addr n1) n2=$(host_addr n2)
    # alice's member is on n1: it says to be n2, a host of bob's cluster, and asks n1 to pass a frame on
    assert_equal "$(hears bob 0 guest-vxlan vxlan_from_guest "$n1" "$(vni bob)" guest-vxlan "$n2")" silence
    assert_contains "$(cat "$BATS_TEST_TMPDIR/sent")" sent
    assert_equal "$(hears bob 0 guest-vxlan-root lab_exec n2 /home/bob/frames vxlan "$n1" 4789 "$(vni bob)" guest-vxlan-root)" heard
}

from_job() { as bob srun -w "$1" -N1 --mem=64 ./frames vxlan "$2" 4789 "$3" "$4"; }
from_root() { lab_exec "$1" /home/bob/frames vxlan "$2" 4789 "$3" "$4"; }

@test "a plain job forges no VXLAN packet: not from a host of the cluster, nor from another machine" {
    local n1 n2
    n1=$(host_addr n1) n2=$(host_addr n2)
    # the control: root on a host of the cluster can, so the packet is a right one
    assert_equal "$(hears alice 0 by-root from_root n2 "$n1" "$(vni alice)" by-root)" heard
    assert_equal "$(hears alice 0 by-job from_job n2 "$n1" "$(vni alice)" by-job)" silence
    assert_equal "$(hears alice 0 by-local from_job n1 "$n1" "$(vni alice)" by-local)" silence
    # from a machine that is no host of the cluster, even as root; also into another VNI
    assert_equal "$(hears alice 0 by-other from_root ctl "$n1" "$(vni alice)" by-other)" silence
    assert_equal "$(hears alice 0 by-vni from_root n2 "$n1" "$(vni bob)" by-vni)" silence
}

# ---- what a guest does to its own machine ----

answers_within() {
    local started=$SECONDS
    as bob timeout "$1" vcctl exec "$(job_of bob)" 0 -- true </dev/null || return
    [ $((SECONDS - started)) -le "$1" ]
}

# root takes vcguestd's own descriptor of the port and writes into it, for seconds
@test "garbage, floods and false lengths on the guest link harm the guest alone" {
    local pid
    in_guest alice 0 /tmp/frames port 6 >"$BATS_TEST_TMPDIR/port" &
    pid=$!
    answers_within 20
    for host in n1 n2; do lab_exec "$host" vcctl ping; done
    wait "$pid"
    # the control: megabytes went into the link, and a task's own bytes came through them
    [ "$(sed -n 's/^port \([0-9]*\) bytes$/\1/p' "$BATS_TEST_TMPDIR/port")" -gt 1000000 ]
    assert_equal "$(in_guest alice 0 echo back)" back
}

@test "a fork bomb and a full disk in a guest leave others alone" {
    local pid
    assert_contains "$(in_guest alice 0 sh -c 'dd if=/dev/zero of=/fill bs=1M 2>&1')" "No space left"
    in_guest alice 0 rm /fill
    in_guest alice 1 sh -c 'f() { f | f & }; f; sleep 30; echo over' >"$BATS_TEST_TMPDIR/bomb" 2>&1 &
    pid=$!
    answers_within 30
    lab_exec n2 vcctl ping
    answers_within 30
    assert_equal "$(node_state n2 | grep -oE 'down|drain')" ""
    as alice scancel "$(job_of alice)"
    wait_job "$(job_of alice)" 90 # hosts are free although the machine never rests
    wait "$pid" || true
    wait_until 60 "alice's share of n2 to be gone" no_share_of alice
}

no_share_of() { ! lab_exec n2 ip link show "vcb$(short_id "$1")"; }

@test "clusters of attackers end as all others, and leave nothing" {
    as bob scancel "$(job_of bob)"
    wait_job "$(job_of bob)" 90
    assert_clean
    for host in n1 n2; do assert_equal "$(lab_exec "$host" nft list tables inet)" ""; done
}
