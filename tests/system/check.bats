#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# vcctl check: a clean site has no problem, and each kind of orphan is found when one is planted.

load helper

ID=0badcafe # no cluster has it
OVERLAYS=/var/lib/vcluster/overlays/$ID
GUESTS=/run/vcd/guests/$ID
JOBS=/run/vcd/jobs

setup() {
    require_vcd
    lab_exec n1 mkdir -p "$JOBS" # vcd makes it with a host's first cluster
}

teardown() {
    lab_exec n1 sh -c "virsh -c qemu:///system destroy vc-$ID-0; umount $GUESTS/mnt; rm -rf $OVERLAYS $GUESTS
        rm -f /run/vcd/jobs/4000000000; for l in vt$ID.0 vcx$ID vcb$ID; do ip link del \$l; done" >/dev/null 2>&1 || true
    sql n1 "DELETE FROM shares WHERE job = 4000000000" || true
    sql ctl "DELETE FROM clusters WHERE job = 4000000000" || true
    dump_logs
}

sql() {
    lab_exec "$1" python3 -c 'import sqlite3, sys
db = sqlite3.connect("/var/lib/vcluster/vcd.db", timeout=10); db.execute(sys.argv[1]); db.commit()' "$2"
}

# finds HOST TEXT: a problem there whose first line has the text; the exit status says so
finds() {
    run lab_exec ctl vcctl check --json
    assert_equal "$status" 1
    python3 -c 'import json, sys
host, text = sys.argv[1:]
found = [f for f in json.load(sys.stdin)["findings"] if f["level"] != "info"]
if not any(f["where"] == host and text in f["what"] and f["do"] for f in found): sys.exit("not found: %s on %s in %s" % (text, host, found))' \
        "$1" "$2" <<<"$output"
}

@test "a clean site has no problems, and every host was asked" {
    run lab_exec ctl vcctl check
    assert_equal "$status" 0
    assert_contains "$output" "no problems"
    assert_equal "$(lab_exec n1 --user alice vcctl check --json | python3 -c 'import json,sys; print(*sorted(json.load(sys.stdin)["hosts"]))')" \
        "ctl $(lab_hosts)"
}

@test "a host that is away is a problem, and so is one that hangs; neither is waited for long" {
    local started
    lab stop n2 vcd
    started=$SECONDS
    run lab_exec ctl vcctl check
    lab start n2 vcd
    assert_equal "$status" 1
    assert_contains "$output" "error on n2"
    [ $((SECONDS - started)) -le 12 ] # four seconds; the rest is a busy machine's
    lab_exec n2 sh -c 'kill -STOP "$(cat /run/vclab/vcd.pid)"'
    started=$SECONDS
    run lab_exec ctl vcctl check
    lab_exec n2 sh -c 'kill -CONT "$(cat /run/vclab/vcd.pid)"'
    assert_equal "$status" 1
    assert_contains "$output" "error on n2"
    [ $((SECONDS - started)) -le 12 ]
}

@test "libvirt that is away is a problem on a compute host" {
    lab stop n1 libvirtd
    run lab_exec ctl vcctl check
    lab start n1 libvirtd
    assert_equal "$status" 1
    assert_contains "$output" "error on n1"
    wait_until 30 "libvirt to answer again" lab_exec ctl vcctl check
}

@test "an orphaned domain is found" {
    lab_exec n1 sh -c "cat >/tmp/orphan.xml && virsh -q -c qemu:///system create /tmp/orphan.xml" <<XML
<domain type='qemu'><name>vc-$ID-0</name><memory unit='MiB'>32</memory><os><type>hvm</type></os>
<metadata><vcluster:member xmlns:vcluster='https://slurm-vcluster.org/xmlns/member/1' cluster='${ID}0badcafe0badcafe0badcafe' slurm='lab' job='4000000000' restart='0'
rank='0' uid='2001'/></metadata></domain>
XML
    finds n1 "domain vc-$ID-0"
}

@test "an orphaned bridge, VXLAN and tap are found" {
    lab_exec n1 sh -c "ip link add vcb$ID type bridge; ip link add vcx$ID type vxlan id 7777 dstport 8472; ip tuntap add vt$ID.0 mode tap"
    finds n1 "network link vcb$ID"
    finds n1 "network link vcx$ID"
    finds n1 "network link vt$ID.0"
}

@test "an orphaned overlay, socket and mount are found" {
    lab_exec n1 sh -c "mkdir -p $OVERLAYS $GUESTS/mnt && touch $OVERLAYS/0.qcow2"
    lab_exec n1 python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])' "$GUESTS/0.link"
    finds n1 "overlay $OVERLAYS/0.qcow2"
    finds n1 "socket $GUESTS/0.link"
    lab_exec n1 nsenter -t "$(lab_exec n1 pidof vcd)" -m mount -t tmpfs none "$GUESTS/mnt"
    finds n1 "mount $GUESTS/mnt"
}

@test "an orphaned job marker is found" {
    lab_exec n1 sh -c "echo ${ID}0badcafe0badcafe0badcafe >$JOBS/4000000000"
    finds n1 "job marker 4000000000"
}

@test "orphaned database rows are found, of the controller and of a host" {
    sql ctl "INSERT INTO clusters VALUES ('${ID}0badcafe0badcafe0badcafe', 'lab', 4000000000, 0, 2001, 0, 'ready',
        NULL, NULL, NULL, NULL, NULL, 0, 0)"
    finds ctl "database row of cluster"
    sql n1 "INSERT INTO shares VALUES ('${ID}0badcafe0badcafe0badcafe', 'lab', 4000000000, 0, 'up', NULL, NULL)"
    finds n1 "database row of cluster"
}

@test "a restarted vcd removes what belongs to nobody" {
    lab_exec n1 sh -c "ip link add vcb$ID type bridge; mkdir -p $OVERLAYS $GUESTS; touch $OVERLAYS/0.qcow2
        echo ${ID}0badcafe0badcafe0badcafe >$JOBS/4000000000"
    finds n1 "$ID"
    lab restart n1 vcd
    wait_until 30 "vcctl check to find nothing" lab_exec ctl vcctl check
}
