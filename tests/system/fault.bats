#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# A host's vcd dies, or fails, at each step of a start (vcd/fault.h): the job runs once after a restart, or says why
# not, and nothing is left. Needs a product configured with --enable-fault-points.

load helper

IMAGE=fault-tiny
HOST=n2
STEPS="plan image network disks domains guests"

has_faults() { lab_exec "$HOST" grep -q 'fault point %s: ' /usr/sbin/vcd; }

setup_file() {
    require_vcd
    has_faults || return 0
    "$TOP/contrib/recipes/make-tiny-root" "$BATS_FILE_TMPDIR/tiny.tar"
    as alice sh -c 'cat >fault-tiny.tar' <"$BATS_FILE_TMPDIR/tiny.tar"
    as alice vcctl image import "$IMAGE" fault-tiny.tar
}

teardown_file() {
    as alice vcctl image rm "$IMAGE" || true
    as alice rm -f fault-tiny.tar
}

setup() { has_faults || skip "vcd was built without --enable-fault-points"; }

teardown() {
    has_faults || return 0
    faults ''
    lab start "$HOST" vcd || true
    [ -z "${JOB:-}" ] || lab_exec ctl scancel "$JOB" || true
    dump_logs
}

# faults LIST: what vcd on $HOST is to do; each point reads it
faults() { lab_exec "$HOST" sh -c 'printf "%s\n" "$1" >/run/vcd/faults' faults "$1"; }

vcd_is_dead() { lab_exec "$HOST" sh -c '! kill -0 "$(cat /run/vclab/vcd.pid)"'; }

start_job() { submit alice -N1 -w "$HOST" -c1 --mem=400 --vcluster="$IMAGE" < <(printf '#!/bin/sh\necho ran on $(hostname)\n'); }

gone() { wait_until 60 "the release of job $1" cluster_has_phase alice "$1" released && lab_exec ctl vcctl check; }

@test "vcd dies at each step of a start: the job runs once" {
    local step
    for step in $STEPS; do
        faults "$step=crash"
        start_job
        wait_until 60 "vcd to die at step $step" vcd_is_dead
        faults ''
        lab start "$HOST" vcd
        wait_job "$JOB" 120
        assert_job_completed "$JOB"
        assert_equal "$(job_output "$JOB")" "ran on vc$JOB-0"
        assert_equal "$(job_field "$JOB" Restarts)" 0
        gone "$JOB"
    done
}

@test "each step of a start fails: the job says so, and nothing is left" {
    local step
    for step in $STEPS; do
        faults "$step=fail"
        start_job
        wait_job "$JOB" 60
        assert_equal "$(job_state "$JOB")" FAILED
        assert_contains "$(job_output "$JOB")" "host $HOST: fault point $step"
        gone "$JOB"
    done
}
