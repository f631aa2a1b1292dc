#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# Leases: `vcctl resize` grows a cluster by a further Slurm job of its owner and shrinks it by that job's end; what a user may not;
# preemption of a lease; a controller that dies in the middle; the end of the primary; a host that the policy `pack` empties.
#
# A lab of two hosts of its own, with a partition whose jobs are preempted with a grace time, up only while this
# file runs. The image is busybox alone.

load helper

IMAGE=elastic-tiny
GRACE=25

setup_file() {
    require_vcd
    printf '%s\n' "PartitionName=low Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=CANCEL GraceTime=$GRACE" \
        >"$BATS_FILE_TMPDIR/slurm.conf"
    echo 'elastic-params = {"interval=3s", "fall=1s", "shrink-hold=5s"}' >"$BATS_FILE_TMPDIR/vcd.conf"
    other_lab_up --hosts 2 --accounting --slurm-conf "$BATS_FILE_TMPDIR/slurm.conf" --vcd-conf "$BATS_FILE_TMPDIR/vcd.conf"
    import_busybox alice "$IMAGE"
}

teardown_file() { other_lab_down; }

setup() { [ ! -e "$BATS_FILE_TMPDIR/job" ] || JOB=$(cat "$BATS_FILE_TMPDIR/job"); }
teardown() { dump_logs; }

leases() { as alice vcctl leases "$JOB" --json; }
# field of the last lease
lease() { leases | python3 -c 'import json,sys; print(json.load(sys.stdin)["leases"][-1][sys.argv[1]])' "$1"; }
lease_is() { [ "$(lease state)" = "$1" ]; }
inside() { as alice vcctl exec "$JOB" "$1" -- "${@:2}"; }
usable() { inside "$1" cat /run/vcluster/hostfile.plain | tr '\n' ' '; }
is_usable() { [ "$(usable "$1")" = "$2" ]; }
sacct_state() { lab_exec ctl sacct -nX -j "$1" -o State%-20 | tr -d ' '; }
sacct_says() { [[ $(sacct_state "$1") == $2* ]]; }

@test "resize +1: a job of the same user and account brings a host, and both members see each other" {
    submit alice -N1 -w n1 -p low -c1 --mem=400 --time=30 --no-requeue --vcluster="$IMAGE" --vcluster-size=1-2 \
        --wrap 'sleep 1000'
    echo "$JOB" >"$BATS_FILE_TMPDIR/job"
    wait_until 120 "job $JOB to be ready" cluster_is_ready alice "$JOB"
    run as alice vcctl resize "$JOB" +1 --dry-run
    assert_equal "$status" 0
    assert_equal "$(leases | grep -c '"lease":' || true)" 0
    as alice vcctl resize "$JOB" +1
    wait_until 120 "the lease to be held" lease_is held
    wait_until 20 "both members" is_usable 0 "vc$JOB-0 vc$JOB-1 "
    assert_equal "$(usable 1)" "vc$JOB-0 vc$JOB-1 "
    local job
    job=$(lease job)
    assert_equal "$(job_field "$job" UserId)" "$(job_field "$JOB" UserId)"
    assert_equal "$(job_field "$job" Account)" "$(job_field "$JOB" Account)"
    assert_equal "$(job_field "$job" Partition)" low
    wait_until 20 "the job of the lease to run" job_is_in_state "$job" RUNNING
}

@test "nobody runs a task in the job of a lease, nor resizes another's cluster, nor beyond its bounds" {
    run as alice srun --overlap --jobid="$(lease job)" hostname
    [ "$status" -ne 0 ]
    assert_contains "$output" "this job only holds a host"
    run as bob vcctl resize "$JOB" 1
    assert_equal "$status" 4
    run as alice vcctl resize "$JOB" 3
    assert_equal "$status" 1
    assert_contains "$output" "outside --vcluster-size=1-2"
}

@test "resize -1: the member leaves the view, the job ends by itself, the host is Slurm's again" {
    local job
    job=$(lease job)
    as alice vcctl resize "$JOB" -1
    wait_until 60 "the lease to end" lease_is ended
    assert_equal "$(lease end)" released
    wait_until 20 "one member" is_usable 0 "vc$JOB-0 "
    wait_until 30 "n2 to be idle" node_is n2 idle
    wait_until 30 "sacct to say COMPLETED of job $job (it says $(sacct_state "$job"))" sacct_says "$job" COMPLETED
    assert_equal "$(lab_exec n2 virsh -q -c qemu:///system list --all)" ""
}

@test "a controller that is killed before slurmctld's answer finds the job, and submits none twice" {
    lab_exec ctl sh -c "echo lease-submitted=crash >/run/vcd/faults"
    run as alice vcctl resize "$JOB" +1
    lab_exec ctl rm -f /run/vcd/faults
    lab start ctl vcd
    wait_until 120 "the lease to be held" lease_is held
    assert_equal "$(lab_exec ctl squeue -h -n vcluster-lease | wc -l)" 1
}

@test "preemption of a lease: its member is announced and gone before the grace time ends" {
    local job started high
    job=$(lease job)
    submit bob -N1 -w n2 -p high -c8 --mem=3000 --wrap 'sleep 30'
    high=$JOB started=$SECONDS JOB=$(cat "$BATS_FILE_TMPDIR/job")
    wait_until "$GRACE" "the lease to end" lease_is ended
    assert_equal "$(lease end)" preempted
    wait_until 10 "one member" is_usable 0 "vc$JOB-0 "
    wait_until 30 "the other job to run" job_is_in_state "$high" RUNNING
    [ $((SECONDS - started)) -le $((GRACE + 10)) ]
    lab_exec ctl scancel "$high"
}

@test "with the primary everything ends" {
    as alice vcctl resize "$JOB" 2
    wait_until 120 "the lease to be held" lease_is held
    local job
    job=$(lease job)
    as alice scancel "$JOB"
    wait_job "$JOB" 60
    wait_until 60 "the job of the lease to end" job_has_ended "$job"
    run as alice vcctl events "$JOB"
    assert_contains "$output" "state held"
    as alice vcctl plot "$JOB" | grep -q '<svg'
    assert_clean
}

@test "policy pack: the member of a further host that has nothing to do moves to the job's own host, and the host is given back" {
    submit alice -N1 -w n1 -p low -c2 --mem=1400 --time=30 --no-requeue --vcluster="$IMAGE" --vcluster-mem=256M --vcluster-size=1-2 \
        --vcluster-elastic=pack --wrap 'sleep 1000'
    wait_until 120 "job $JOB to be ready" cluster_is_ready alice "$JOB"
    as alice vcctl resize "$JOB" +1
    wait_until 120 "the lease to be held" lease_is held
    wait_until 20 "both members" is_usable 0 "vc$JOB-0 vc$JOB-1 "
    inside 1 sh -c 'echo kept >/tmp/kept'
    wait_until 90 "the lease to end" lease_is ended
    assert_equal "$(lease end)" released
    assert_equal "$(usable 0)" "vc$JOB-0 vc$JOB-1 "
    assert_equal "$(inside 1 cat /tmp/kept)" kept
    wait_until 30 "n2 to be idle" node_is n2 idle
    assert_equal "$(lab_exec n2 virsh -q -c qemu:///system list --all)" ""
    run as alice vcctl elastic "$JOB" replay
    assert_equal "$status" 0
    as alice scancel "$JOB"
    wait_job "$JOB" 60
    assert_clean
}
