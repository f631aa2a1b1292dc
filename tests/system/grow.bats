#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# Clusters that grow and shrink while they run: a host of another job joins, leaves, comes again; a controller and a host that die
# in the middle; a host that the others left behind and that returns.
#
# A lab of three hosts of its own, up only while this file runs. The image is busybox alone.

load helper

IMAGE=grow-tiny
VCRPC=/usr/libexec/vcluster/tests/vcrpc

setup_file() {
    require_vcd
    other_lab_up --hosts 3
    import_busybox alice "$IMAGE"
}

teardown_file() { other_lab_down; }

setup() { [ ! -e "$BATS_FILE_TMPDIR/job" ] || read -r JOB LEASE_JOB <"$BATS_FILE_TMPDIR/job"; }
teardown() { dump_logs; }
keep() { echo "$JOB ${LEASE_JOB:-}" >"$BATS_FILE_TMPDIR/job"; }

# lease_job HOST: a job of the same user that has that host and no cluster
lease_job() {
    local primary=$JOB
    submit alice -N1 -w "$1" -c1 --mem=400 --wrap 'sleep 1000'
    LEASE_JOB=$JOB JOB=$primary
    wait_until 30 "the lease's job to run" job_is_in_state "$LEASE_JOB" RUNNING
}
grow() { lab_exec ctl "$VCRPC" cluster.grow "{\"job\": $JOB, \"lease\": $1, \"from\": $LEASE_JOB}" 120000; }
shrink() { lab_exec ctl "$VCRPC" cluster.shrink "{\"job\": $JOB, \"lease\": $1, \"deadline_ms\": $2, \"reason\": \"test\"}" 120000; }

inside() { as alice vcctl exec "$JOB" "$1" -- "${@:2}"; }
usable() { inside "$1" cat /run/vcluster/hostfile.plain | tr '\n' ' '; }
is_usable() { [ "$(usable "$1")" = "$2" ]; }
epoch() { inside "$1" cat /run/vcluster/view.json | grep -oE '"epoch": ?[0-9]+' | grep -oE '[0-9]+'; }
state_of() { inside 0 cat /run/vcluster/view.json | tr '{' '\n' | grep "\"vc$JOB-$1\"" | grep -oE '"state": ?"[a-z]+"' | cut -d'"' -f4; }
state_is() { [ "$(state_of "$1")" = "$2" ]; }
leftovers() { lab_exec "$1" sh -c "virsh -q -c qemu:///system list --all; ip -br link | grep -oE '^(vc[bx]|vt)[0-9a-f]{8}[^ ]*'; true"; }

@test "a cluster on one host grows by a host of another job: its members are in everybody's view and reach each other" {
    submit alice -N1 -w n1 -c1 --mem=400 --no-requeue --vcluster="$IMAGE" --wrap 'sleep 1000'
    wait_until 120 "job $JOB to be ready" cluster_is_ready alice "$JOB"
    lease_job n2
    keep
    grow 1
    wait_until 10 "member 0 to see it" is_usable 0 "vc$JOB-0 vc$JOB-1 "
    assert_equal "$(usable 1)" "vc$JOB-0 vc$JOB-1 "
    assert_equal "$(epoch 1)" "$(epoch 0)"
    assert_equal "$(inside 0 vcrsh "vc$JOB-1" hostname)" "vc$JOB-1"
    assert_equal "$(inside 1 vcrsh "vc$JOB-0" hostname)" "vc$JOB-0"
    grow 1 # it is there: done at once
    run grow 2
    [ "$status" -ne 0 ]
    assert_contains "$output" "already: submit the lease's job with --exclude"
}

@test "a job's further host leaves: announced first, then gone without a trace" {
    inside 1 sh -c 'touch /tmp/working; sleep 5' &
    local working=$! shrinking started=$SECONDS
    wait_until 10 "the task in member 1" inside 1 test -e /tmp/working
    shrink 1 60000 &
    shrinking=$!
    wait_until 10 "member 1 to be announced" state_is 1 leaving
    assert_equal "$(usable 0)" "vc$JOB-0 "
    wait $working # it may end
    wait $shrinking
    [ $((SECONDS - started)) -lt 30 ] # and nobody waits for the deadline
    wait_until 10 "it to be gone" state_is 1 gone
    assert_equal "n2: $(leftovers n2)" "n2: "
    wait_until 10 "n1 to forget its peer" n1_is_alone
}
n1_is_alone() { ! leftovers n1 | grep -q vcx; }

@test "the host comes again, with another rank and address; the controller dies in the middle and goes on" {
    grow 3 &
    local growing=$!
    wait_until 30 "the growth to begin" growth_has_begun
    lab stop ctl vcd KILL
    wait $growing || true
    lab start ctl vcd
    wait_until 60 "member 2" is_usable 0 "vc$JOB-0 vc$JOB-2 "
    assert_equal "$(inside 0 vcrsh "vc$JOB-2" hostname)" "vc$JOB-2"
    assert_equal "$(state_of 1)" gone
    grow 3
}
growth_has_begun() { lab log ctl vcd | grep -q "lease 3: grow-booting"; }

@test "a vcd that was stopped past every limit comes back with its members, which are not those of before" {
    lab_exec n2 sh -c 'kill -s STOP "$(cat /run/vclab/vcd.pid)"'
    wait_until 30 "the view without n2" is_usable 0 "vc$JOB-0 "
    lab_exec n2 sh -c 'kill -s CONT "$(cat /run/vclab/vcd.pid)"'
    wait_until 30 "n2 and its member to be back" is_usable 0 "vc$JOB-0 vc$JOB-2 "
    wait_until 10 "the member to be active" state_is 2 active
    assert_equal "$(incarnation_of 2)" 2
    wait_until 10 "its own view to be the same" has_epoch 2 "$(epoch 0)"
    assert_equal "$(inside 2 vcrsh "vc$JOB-0" hostname)" "vc$JOB-0"
}
incarnation_of() { inside 0 cat /run/vcluster/view.json | tr '{' '\n' | grep "\"vc$JOB-$1\"" | grep -oE '"incarnation": ?[0-9]+' | grep -oE '[0-9]+'; }
has_epoch() { [ "$(epoch "$1")" = "$2" ]; }

@test "a host that dies while it comes in is taken back, and so is its lease" {
    [ -n "${VC_FULL:-}" ] || skip "three times 15 s until a host counts as gone: tests/run --long"
    lease_job n3
    keep
    grow 4 >"$BATS_TEST_TMPDIR/grow.log" 2>&1 &
    local growing=$!
    wait_until 60 "its machine to boot" host_boots
    lab kill n3
    ! wait $growing
    assert_contains "$(cat "$BATS_TEST_TMPDIR/grow.log")" "host n3"
    assert_equal "$(usable 0)" "vc$JOB-0 vc$JOB-2 "
    lab boot n3 >&2
    lab_exec ctl scancel "$LEASE_JOB"
    wait_until 60 "n3 to be clean" n3_is_clean
}
host_boots() { lab log n3 vcd | grep -q ": booting"; }
n3_is_clean() { [ -z "$(leftovers n3)" ]; }

@test "the end of the job takes its further hosts along" {
    lab_exec ctl scancel -u alice
    wait_until 60 "the end of job $JOB" job_has_ended "$JOB"
    assert_clean
}
