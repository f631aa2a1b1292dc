#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# The host role in real clusters: what survives a killed vcd or libvirtd, what a lost member does, and that a release
# leaves nothing. The image is busybox alone.

load helper

IMAGE=host-tiny

setup_file() {
    require_vcd
    "$TOP/contrib/recipes/make-tiny-root" "$BATS_FILE_TMPDIR/tiny.tar"
    as alice sh -c 'cat >host-tiny.tar' <"$BATS_FILE_TMPDIR/tiny.tar"
    as alice vcctl image import "$IMAGE" host-tiny.tar
}

teardown_file() {
    as alice vcctl image rm "$IMAGE" || true
    as alice rm -f host-tiny.tar
}

teardown() {
    [ -z "${JOB:-}" ] || lab_exec ctl scancel "$JOB" || true
    dump_logs
}

# a job that counts in its first member's batch script, on one host
start_counter() {
    submit alice -N1 -w n1 -c1 --mem=400 --vcluster="$IMAGE" "$@" <<'SCRIPT'
#!/bin/sh
i=0
while [ $i -lt 600 ]; do i=$((i + 1)); echo "tick $i"; sleep 0.1; done
SCRIPT
    wait_until 90 "the first output of job $JOB" says "tick 3"
}

says() { job_output "$JOB" | grep -qx -- "$1"; }

last_tick() { job_output "$JOB" | sed -n 's/^tick //p' | tail -n1; }

goes_on_from() { [ "$(last_tick)" -gt "$1" ]; }

no_gap() { assert_equal "$(job_output "$JOB" | sed -n 's/^tick //p' | awk '$1 != NR {print; exit}')" ""; }

host_is_empty() {
    local left
    left=$(lab_exec "$1" sh -c 'virsh -q -c qemu:///system list --all --name
        ip -o link | grep -oE "(vcb|vcx|vt)[0-9a-f]{8}[.0-9]*"
        ls /run/vcd/jobs /run/vcd/guests /var/lib/vcluster/overlays 2>/dev/null | grep -v ":$"' | tr -d '[:space:]')
    [ -z "$left" ] || { echo "left on $1: $left" >&2; return 1; }
}

@test "a task goes on while its host's vcd is killed, and loses no output" {
    start_counter
    for _ in 1 2 3; do
        lab stop n1 vcd KILL
        lab start n1 vcd
        wait_until 20 "output after the restart" goes_on_from "$(last_tick)"
    done
    no_gap
    assert_contains "$(lab log n1 vcd)" "is taken back (up)"
    [ "$(lab log n1 vcd | grep -cE 'KVM probe: (a|no) kernel boots')" -le 1 ] # remembered over restarts
}

@test "a restart of libvirtd changes nothing" {
    start_counter
    lab restart n1 libvirtd
    wait_until 20 "output after the restart" goes_on_from "$(last_tick)"
    no_gap
    lab_exec ctl scancel "$JOB"
    wait_until 30 "an empty host" host_is_empty n1
}

@test "the task of a member that dies ends with a message" {
    start_counter
    lab_exec n1 sh -c 'virsh -q -c qemu:///system list --name | grep -m1 ^vc- | xargs virsh -c qemu:///system destroy'
    wait_job "$JOB" 30
    assert_contains "$(job_output "$JOB")" "stopped: destroyed"
    wait_until 30 "an empty host" host_is_empty n1
}

@test "a release while vcd is away is made up for" {
    start_counter
    lab stop n1 vcd KILL
    lab_exec ctl scancel "$JOB"
    lab start n1 vcd
    wait_until 60 "an empty host" host_is_empty n1 || host_is_empty n1 # which says what is left
    wait_nodes idle 60
}

@test "what belongs to nobody is removed when vcd starts" {
    lab stop n1 vcd
    lab_exec n1 sh -c 'ip link add vcb0badcafe type bridge; mkdir -p /var/lib/vcluster/overlays/0badcafe /run/vcd/guests/0badcafe
        touch /var/lib/vcluster/overlays/0badcafe/0.qcow2; echo "0badcafe 0" >/run/vcd/jobs/4000000000'
    lab start n1 vcd
    wait_until 30 "an empty host" host_is_empty n1
    assert_contains "$(lab log n1 vcd)" "removed network link vcb0badcafe"
}

@test "tasks on a host are dealt to its members in blocks" {
    submit alice -N1 -w n1 -n4 -c1 --mem=900 --vcluster="$IMAGE" --vcluster-vms=2 --wrap 'srun -n4 -l hostname | sort'
    wait_job "$JOB" 120
    assert_job_completed "$JOB"
    assert_equal "$(job_output "$JOB" | tr '\n' ';')" "0: vc$JOB-0;1: vc$JOB-0;2: vc$JOB-1;3: vc$JOB-1;"
}

@test "nothing is left" {
    assert_clean
}
