#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# The phase matrices: vcd is killed on the host and on the controller, fails, or stands still while slurmctld is
# restarted, at each phase and step (the points of vcd/fault.h). The job runs once, or says why not, and nothing is
# left. One start goes through all points in turn, so that each costs a restart and not a boot.

load faults

HOST=n2
STEPS="plan image network disks domains guests"
UNDO="undo-guests undo-domains undo-disks undo-network undo-image undo-plan"
PHASES="waiting loading looking building preparing booting forming staging ready"

STAGED=/home/alice/fault.staged # a job with a file to stage passes the phase that looks for it

setup_file() {
    faults_begin
    as alice sh -c 'echo staged >"$1"' sh "$STAGED"
}
teardown_file() { as alice rm -f "$STAGED"; }
setup() { need_fault_points; }
teardown() { ! has_fault_points || faults_over; }

# through WHERE ACTION HANDLER POINT...: vcd on host WHERE does ACTION at each point in turn, and HANDLER then gets it going
through() {
    local where=$1 action=$2 handler=$3 point
    shift 3
    while [ $# -gt 0 ]; do
        point=$1
        shift
        wait_until 60 "vcd on $where to $action at $point" "vcd_is_$action" "$where" || return
        faults "$where" "${1:+$1=$action}"
        "$handler" "$where" || return
    done
}
vcd_is_crash() { vcd_is_dead "$1"; }
vcd_is_stop() { vcd_is_stopped "$1"; }
# it may be at its next point before it is seen to be ready
start_again() { lab start "$1" vcd || vcd_is_dead "$1"; }

@test "vcd dies on the host at each step of a start and of its release: the job runs once" {
    faults "$HOST" "plan=crash"
    start_job "$RUN_ONCE" -w "$HOST"
    through "$HOST" crash start_again $STEPS $UNDO
    wait_job "$JOB" 120
    assert_ran_once "$JOB"
    ends_well 60 "$JOB"
}

@test "vcd dies on the controller at each phase: the job runs once" {
    faults ctl "waiting=crash"
    start_job "$RUN_ONCE" -w "$HOST" --vcluster-stage-in="$STAGED"
    through ctl crash start_again $PHASES releasing released
    wait_job "$JOB" 120
    assert_ran_once "$JOB"
    ends_well 60 "$JOB"
}

restart_slurmctld() {
    lab restart "$1" slurmctld
    vcd_signal "$1" CONT
}

@test "slurmctld is restarted in each phase: the job runs once" {
    faults ctl "waiting=stop"
    start_job "$RUN_ONCE" -w "$HOST" --vcluster-stage-in="$STAGED"
    through ctl stop restart_slurmctld $PHASES releasing
    wait_job "$JOB" 120
    assert_ran_once "$JOB"
    ends_well 60 "$JOB"
}

releasing_again() { lab log "$HOST" vcd | tail -n 15 | grep -q "job $JOB: cluster .*: releasing"; }

@test "a release comes while a restarted vcd takes its cluster back: nothing is left on the host" {
    start_job 'echo up; sleep 600' -N1 -w "$HOST"
    job_runs "$JOB"
    lab stop "$HOST" vcd KILL
    faults "$HOST" "pin=hold" # the second of the steps that are walked again
    lab start "$HOST" vcd
    lab_exec ctl scancel "$JOB"
    wait_until 60 "the release of job $JOB to come" releasing_again
    faults "$HOST" ""
    ends_well 30 "$JOB"
}

@test "each step of a start fails: the job says so, and nothing is left" {
    local step
    for step in $STEPS; do
        faults "$HOST" "$step=fail"
        start_job "$RUN_ONCE" -w "$HOST"
        wait_job "$JOB" 60
        assert_failed "$JOB" "host $HOST: fault point $step"
        ends_well 30 "$JOB"
    done
}

@test "a phase fails on the controller: the job says so, and nothing is left" {
    local phase
    for phase in loading looking preparing booting; do
        faults ctl "$phase=fail"
        start_job "$RUN_ONCE" -w "$HOST" --vcluster-stage-in="$STAGED"
        wait_job "$JOB" 60
        assert_failed "$JOB" "fault point $phase"
        ends_well 30 "$JOB"
    done
}

undo_has_failed() { lab log "$HOST" vcd | grep -q "job $JOB: release of .*: fault point undo-network; trying again"; }

@test "undoing fails at first: it is tried again until nothing is left" {
    faults "$HOST" "undo-network=fail"
    start_job "$RUN_ONCE" -w "$HOST"
    wait_until 120 "the failed undo to be logged" undo_has_failed
    assert_equal "$(job_state "$JOB")" COMPLETING # the host is not free while something is left
    faults "$HOST" ""
    wait_job "$JOB" 30
    assert_ran_once "$JOB"
    ends_well 30 "$JOB"
}

@test "a pin that no cluster has any more is found by vcctl check" {
    faults "$HOST" "unpin=fail"
    start_job "$RUN_ONCE" -w "$HOST"
    wait_job "$JOB" 120
    assert_ran_once "$JOB"
    wait_until 30 "the release of job $JOB" cluster_is_gone "$JOB"
    run lab_exec ctl vcctl check
    lab restart "$HOST" vcd # before the assertions: what fails here must not fail elsewhere
    assert_equal "$status" 1
    assert_contains "$output" "warning on $HOST"
    assert_contains "$output" "is pinned by cluster"
    ends_well 30 "$JOB"
}
