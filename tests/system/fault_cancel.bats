#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# Ends that come from outside: scancel at each stage of a job, requeues, and jobs that meet on a host where another is
# still being torn down.

load faults

HOST=n2
# From scancel to free hosts: the bar is 5 s, and tests/bench's cancel holds it on a quiet machine; here a busy one adds to it.
FREE_SECONDS=15

setup_file() { faults_begin; }
teardown_file() { as alice rm -f slow.recipe; }
teardown() { faults_over; }

# free_within SECONDS: the hosts are idle, and their members' domains are gone
free_within() {
    wait_nodes idle "$1" || return
    ends_well "$1" "$JOB"
}

builds() { lab_exec ctl find /var/lib/vcluster/images/builds -mindepth 1 -maxdepth 1; }
builder_runs() { lab_exec ctl pgrep -x vc-build; }
no_builder() { ! builder_runs && [ -z "$(builds)" ]; }

@test "the user gives up while the image is built: the build ends, nothing is left" {
    as alice sh -c 'printf "name = \"slow\"\nbase = \"import:%s.tar\"\ncommands = {\"sleep 600\"}\n" "$1" >slow.recipe' sh "$IMAGE"
    "$VCLAB" exec ctl --user alice vcctl image build slow.recipe 3>&- &
    local client=$!
    wait_until 60 "the build to run" builder_runs
    kill "$client"
    wait_until $FREE_SECONDS "the build to be gone" no_builder
    run as alice vcctl image show slow
    assert_equal "$status" 3
    ends_well 10
}

@test "scancel while it boots: the hosts are free within seconds" {
    start_job "$RUN_ONCE" -N2
    job_phase "$JOB" booting
    lab_exec ctl scancel "$JOB"
    free_within $FREE_SECONDS
    assert_equal "$(job_state "$JOB")" CANCELLED
}

# or has ended
job_ends() { job_is_in_state "$1" COMPLETING || job_has_ended "$1"; }

@test "scancel while a host does not answer: the others are free, it is when it answers" {
    vcd_signal "$HOST" STOP
    start_job "$RUN_ONCE" -N2
    job_phase "$JOB" preparing
    lab_exec ctl scancel "$JOB"
    wait_until 60 "job $JOB to end" job_ends "$JOB"
    wait_until 30 "n1 to be free" node_is n1 idle
    vcd_signal "$HOST" CONT
    free_within 20
    assert_equal "$(job_state "$JOB")" CANCELLED
}

@test "scancel while it runs: the task gets SIGTERM, then the hosts are free" {
    start_job 'trap "echo got TERM; exit 0" TERM; echo up; sleep 600 & wait' -N2
    job_runs "$JOB"
    lab_exec ctl scancel "$JOB"
    free_within 30 # KillWait of the lab is 5 s
    assert_equal "$(job_state "$JOB")" CANCELLED
    assert_contains "$(job_output "$JOB")" "got TERM"
    assert_contains "$(job_output "$JOB")" "CANCELLED AT"
}

@test "scancel of a job whose machine hangs: it is destroyed, the host is free within the epilog's limit" {
    start_job 'echo up; sleep 600' -N1 -w "$HOST"
    job_runs "$JOB"
    lab_exec "$HOST" sh -c 'kill -STOP $(cat /run/libvirt/qemu/vc-*.pid)'
    lab_exec ctl scancel "$JOB"
    free_within 40 # KillWait, and what libvirt gives a machine before it kills it
    assert_equal "$(job_state "$JOB")" CANCELLED
}

@test "an salloc that is interrupted while its cluster starts leaves nothing" {
    "$VCLAB" exec ctl --user alice salloc -N2 --mem=400 --vcluster="$IMAGE" true 3>&- &
    local client=$!
    wait_until 60 "machines" has_domains
    kill "$client"
    wait "$client" || true
    ends_well 20
}
has_domains() { lab_exec "$HOST" virsh -q -c qemu:///system list --name | grep -q '^vc-'; }

# ---- again on the same hosts ----

@test "scontrol requeue: the job runs again on the same hosts in a new cluster" {
    start_job "$TWICE" -N2 --requeue
    job_runs "$JOB"
    lab_exec ctl scontrol requeue "$JOB"
    run_again "$JOB"
    ends_well 30 "$JOB"
}

@test "scontrol requeue while it boots: the job runs in a new cluster" {
    start_job "$TWICE" -N2 --requeue
    job_phase "$JOB" booting
    lab_exec ctl scontrol requeue "$JOB"
    run_again "$JOB"
    ends_well 30 "$JOB"
}

# A host whose first job is being torn down has no memory for the second: its start waits, and says for whom.
@test "a job that comes while its host tears another down waits, with the reason, and then runs" {
    local first second
    need_fault_points
    vcd_conf "$HOST" 'release-timeout = "5s"'
    start_job "$RUN_ONCE" -N1 -w "$HOST"
    first=$JOB
    faults "$HOST" "undo-domains=fail"
    wait_until 120 "the tear-down of job $first to hang" tear_down_hangs "$first"
    IMAGE=$IMAGE submit alice -N1 -w "$HOST" -c1 --mem=3500 --vcluster="$IMAGE" < <(printf '#!/bin/sh\n%s\n' "$RUN_ONCE")
    second=$JOB
    wait_until 60 "job $second to say for whom it waits" waits_for "$second" "$first"
    faults "$HOST" ""
    wait_job "$second" 120
    assert_ran_once "$second"
    ends_well 30 "$first" "$second"
}
tear_down_hangs() { lab log "$HOST" vcd | grep -q "job $1: release of .*: fault point undo-domains"; }
waits_for() { as alice vcctl show "$1" | grep -q "job $2"; }
