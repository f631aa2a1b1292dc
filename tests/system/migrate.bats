#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# Members move between hosts: a task and a TCP stream go on, the view has the new host, and where a vcd is killed in the
# middle there is exactly one running copy afterwards.
#
# One cluster of two busybox members on two hosts of the run's lab for all tests.

load helper
load moving

IMAGE=migrate-tiny

setup_file() {
    require_vcd
    import_busybox alice "$IMAGE"
    submit alice -N2 -c1 --mem=900 --no-requeue --vcluster="$IMAGE" --vcluster-mem=256M <<<'#!/bin/sh
while :; do sleep 1; done'
    echo "$JOB" >"$BATS_FILE_TMPDIR/job"
    wait_until 120 "the cluster of job $JOB" cluster_is_ready alice "$JOB"
}

teardown_file() { as alice scancel "$(cat "$BATS_FILE_TMPDIR/job")" || true; }

setup() { [ ! -e "$BATS_FILE_TMPDIR/job" ] || JOB=$(cat "$BATS_FILE_TMPDIR/job"); }
teardown() {
    dump_logs
    uffd_back
}

# uffd 0|1: whether QEMU may use userfaultfd, on all hosts, as they share a kernel; uffd_back: as it was
UFFD=/proc/sys/vm/unprivileged_userfaultfd
uffd() {
    [ -e "$BATS_FILE_TMPDIR/uffd" ] || cat "$UFFD" >"$BATS_FILE_TMPDIR/uffd"
    echo "$1" >"$UFFD"
}
uffd_back() { [ ! -e "$BATS_FILE_TMPDIR/uffd" ] || cat "$BATS_FILE_TMPDIR/uffd" >"$UFFD"; }

domains_are() { [ "$(domains "$1")" = "$2" ]; }
moving() { as alice vcctl show "$JOB" --json | python3 -c 'import json,sys; m=json.load(sys.stdin)["moving"]["moves"]; sys.exit(not any("round" in x["reason"] for x in m))'; }
has_one_copy() { [ "$(domains n1)$(domains n2)" = "0:running 1:running " ]; }
epoch() { as alice vcctl view "$JOB" --json | python3 -c 'import json,sys; print(json.load(sys.stdin)["epoch"])'; }

# the memory of a small guest, and what its overlay holds
assert_sent() { python3 -c 'import json,sys; n=json.load(open(sys.argv[1]))["moves"][0]["numbers"]; assert n["memory_bytes"] > 16 << 20 and n["disk_bytes"] > 64 << 10, n' "$1"; }

# a fifo for its standard input: nc ends where that does
RECEIVER='mkfifo /tmp/hold; nc -l -p 5000 <>/tmp/hold | md5sum'
# what the member sends twice, until it is told to stop: to its standard output, and over TCP to member 0
SENDER='gen() { i=0; while [ ! -e /tmp/stop ]; do i=$((i + 1)); seq $i 3000; sleep 0.1; done; echo "$i rounds"; }
mkfifo /tmp/pipe; nc 10.42.0.1 5000 </tmp/pipe & gen | tee /tmp/pipe; wait; rm /tmp/pipe'

# streams_begin: member 1 sends to its task's standard output and over TCP; streams_end: nothing of it was lost
streams_begin() {
    as alice vcctl exec "$JOB" 0 -- sh -c "$RECEIVER" >"$BATS_TEST_TMPDIR/tcp" 3>&- &
    wait_until 20 "the listener in member 0" as alice vcctl exec "$JOB" 0 -- sh -c 'netstat -ltn | grep -q :5000'
    as alice srun --jobid="$JOB" --overlap -N1 -n1 -w n2 sh -c "$SENDER" >"$BATS_TEST_TMPDIR/out" 3>&- &
    SRUN=$!
    wait_until 30 "the task's first lines" test -s "$BATS_TEST_TMPDIR/out"
}

streams_end() {
    local want rounds
    as alice vcctl exec "$JOB" 1 -- touch /tmp/stop
    wait "$SRUN"
    wait
    rounds=$(sed -n '$s/ rounds//p' "$BATS_TEST_TMPDIR/out")
    want=$({ for i in $(seq 1 "$rounds"); do seq "$i" 3000; done; echo "$rounds rounds"; } | md5sum | cut -d' ' -f1)
    assert_equal "$(md5sum <"$BATS_TEST_TMPDIR/out" | cut -d' ' -f1)" "$want"
    assert_equal "$(cut -d' ' -f1 "$BATS_TEST_TMPDIR/tcp")" "$want"
    as alice vcctl exec "$JOB" 1 -- rm /tmp/stop
    as alice vcctl exec "$JOB" 0 -- rm -f /tmp/hold
}

@test "a member moves there and back while a task streams and a TCP connection is open" {
    local before
    before=$(epoch)
    streams_begin
    as alice vcctl migrate "$JOB" 1 --to n1
    wait_until 10 "the view with member 1 on n1" member_is_on 1 n1
    assert_equal "$(domains n1)" "0:running 1:running "
    assert_equal "$(domains n2)" ""
    answers 1

    as alice vcctl migrate "$JOB" "vc$JOB-1" --to n2 --policy multifd --json >"$BATS_TEST_TMPDIR/numbers" # its streams in order
    wait_until 10 "the view with member 1 on n2" member_is_on 1 n2
    assert_equal "$(epoch)" $((before + 2))
    assert_sent "$BATS_TEST_TMPDIR/numbers"

    streams_end
    no_problems
}

@test "twenty moves under a task's stream and a TCP connection lose nothing" {
    local i
    [ -n "${VC_FULL:-}" ] || skip "a minute and a half: tests/run --long"
    streams_begin
    for i in $(seq 10); do
        as alice vcctl migrate "$JOB" 1 --to n1
        answers 1
        as alice vcctl migrate "$JOB" 1 --to n2
        answers 1
    done
    streams_end
    no_problems
}

@test "what cannot move says why, and a dry run moves nothing" {
    run as alice vcctl migrate "$JOB" 0 --to n9
    assert_equal "$status" 1
    assert_contains "$output" "another host of its own job"
    run as alice vcctl migrate "$JOB" 7
    assert_equal "$status" 3
    run as bob vcctl migrate "$JOB" 0
    assert_equal "$status" 4
    run as alice vcctl evacuate n1
    assert_equal "$status" 4
    run as alice vcctl migrate "$JOB" 0 --dry-run
    assert_equal "$status" 0
    assert_contains "$output" "vc$JOB-0 n1 -> n2: planned, wave 1, about "
    assert_contains "$output" "pre-copy, as it dirties "
    run as alice vcctl rebalance "$JOB"
    assert_equal "$output" "nothing moves"
    assert_equal "$(domains n1)$(domains n2)" "0:running 1:running "
}

@test "post-copy: a member runs at its target before its memory is there; where a host cannot, the reason is told" {
    uffd 0
    run as alice vcctl migrate "$JOB" 1 --to n1 --policy post-copy
    assert_equal "$status" 1
    assert_contains "$output" "stays on host n2: no post-copy: host n1: QEMU may not use userfaultfd"
    uffd 1
    streams_begin
    as alice vcctl migrate "$JOB" 1 --to n1 --policy post-copy --bandwidth 20 --json >"$BATS_TEST_TMPDIR/numbers"
    uffd_back
    assert_contains "$(cat "$BATS_TEST_TMPDIR/numbers")" '"policy": "post-copy"'
    wait_until 30 "the view with member 1 on n1" member_is_on 1 n1
    wait_until 60 "one running copy" domains_are n2 ""
    wait_until 60 "member 1" answers 1
    as alice vcctl migrate "$JOB" 1 --to n2
    streams_end
    wait_until 30 "a clean site" no_problems
}

@test "a post-copy that fails: the member is called gone, and runs nowhere" {
    [ -n "${VC_FULL:-}" ] || skip "a cluster of its own, and a slow move: tests/run --long"
    local first=$JOB
    submit alice -N2 -c1 --mem=900 --no-kill --no-requeue --vcluster="$IMAGE" --vcluster-mem=256M <<<'#!/bin/sh
sleep 600'
    wait_until 120 "the cluster of job $JOB" cluster_is_ready alice "$JOB"
    uffd 1
    as alice vcctl migrate "$JOB" 1 --to n1 --policy post-copy --bandwidth 2 >"$BATS_TEST_TMPDIR/said" 2>&1 3>&- &
    local migrate=$!
    wait_until 120 "the view with member 1 on n1" member_is_on 1 n1
    lab stop n2 vcd KILL
    lab start n2 vcd
    uffd_back
    wait_until 60 "member 1 to be called gone" is_gone 1
    wait "$migrate" || true
    assert_equal "$(lab_exec n1 virsh -q list --state-running | grep -c "$(cluster_id)-1" || true)" 0
    assert_equal "$(lab_exec n2 virsh -q list --state-running | grep -c "$(cluster_id)-1" || true)" 0
    as alice scancel "$JOB"
    wait_job "$JOB"
    JOB=$first
    wait_until 60 "the first cluster's machines alone" domains_are n2 "1:running "
    wait_until 60 "a clean site" no_problems
}
is_gone() { as alice vcctl view "$JOB" --json | python3 -c "import json,sys; sys.exit(json.load(sys.stdin)['members'][$1]['state'] != 'gone')"; }
cluster_id() { as alice vcctl show "$JOB" --json | python3 -c 'import json,sys; print(json.load(sys.stdin)["cluster"][:8])'; }

@test "the target's vcd is killed in the middle: the member goes on where it was" {
    as alice vcctl migrate "$JOB" 1 --to n1 --bandwidth 10 >"$BATS_TEST_TMPDIR/said" 2>&1 3>&- &
    local migrate=$!
    wait_until 20 "the copying" moving
    lab stop n1 vcd KILL
    wait "$migrate" || true
    assert_contains "$(cat "$BATS_TEST_TMPDIR/said")" "member 1 stays on host n2"
    assert_equal "$(domains n2)" "1:running "
    answers 1
    lab start n1 vcd
    wait_until 30 "n1 to destroy its copy" domains_are n1 "0:running "
    wait_until 30 "a clean site" no_problems
    member_is_on 1 n2
}

@test "the source's vcd is killed in the middle: one copy runs, here or there" {
    as alice vcctl migrate "$JOB" 1 --to n1 --bandwidth 10 >"$BATS_TEST_TMPDIR/said" 2>&1 3>&- &
    local migrate=$!
    wait_until 20 "the copying" moving
    lab stop n2 vcd KILL
    lab start n2 vcd
    wait "$migrate" || true # the controller's repeated call finds the first attempt, or begins a second
    wait_until 30 "one running copy" has_one_copy
    wait_until 20 "member 1" answers 1
    wait_until 30 "a clean site" no_problems
}

@test "a host is evacuated" {
    lab_exec ctl vcctl evacuate n2 --policy compress # whoever is there
    lab_exec ctl vcctl evacuate n1 --policy auto-converge
    assert_equal "$(domains n1)" ""
    assert_equal "$(domains n2)" "0:running 1:running "
    wait_until 10 "the view with both on n2" member_is_on 0 n2
    answers 0
    answers 1
    no_problems
}

@test "a host that is drained in Slurm is evacuated, where the site says so" {
    [ -n "${VC_FULL:-}" ] || skip "the controller looks each 30 s: tests/run --long"
    vcd_conf ctl 'drain-evacuates = yes'
    lab_exec ctl scontrol update NodeName=n2 State=DRAIN Reason=hardware
    wait_until 120 "member 1 to be on n1" member_is_on 1 n1
    wait_until 60 "member 0 to be on n1" member_is_on 0 n1
    lab_exec ctl scontrol update NodeName=n2 State=RESUME
    vcd_conf_back ctl
    assert_equal "$(domains n2)" ""
    answers 0
    answers 1
    no_problems
    as alice vcctl migrate "$JOB" 1 --to n2
}

@test "scancel while a member moves: nothing is left on either host" {
    as alice vcctl migrate "$JOB" 1 --to n1 --bandwidth 10 >"$BATS_TEST_TMPDIR/said" 2>&1 3>&- &
    local migrate=$!
    wait_until 20 "the copying" moving
    as alice scancel "$JOB"
    wait "$migrate" || true
    wait_job "$JOB"
    assert_clean
}
