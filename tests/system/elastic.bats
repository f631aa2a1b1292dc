#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# Leases: `vcctl resize` grows a cluster by a further Slurm job of its owner and shrinks it by that job's end; what a user may not;
# preemption of a lease; a controller that dies in the middle; the end of the primary; limits, holds, partitions that are down; members that
# move away from a host that goes; the policies `pack` and `yield`.
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
    echo 'elastic-params = {"interval=3s", "fall=1s", "shrink-hold=5s", "cool-down=10s"}' >"$BATS_FILE_TMPDIR/vcd.conf"
    echo 'AccountingStorageEnforce=limits,qos' >>"$BATS_FILE_TMPDIR/slurm.conf"
    other_lab_up --hosts 2 --accounting --slurm-conf "$BATS_FILE_TMPDIR/slurm.conf" --vcd-conf "$BATS_FILE_TMPDIR/vcd.conf"
    lab_exec ctl sacctmgr -i add account lab >&2
    lab_exec ctl sacctmgr -i add user alice,bob account=lab >&2
    wait_until 60 "slurmctld to know the users" as bob sbatch --test-only --wrap true
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

job_reason_is() { [[ $(job_field "$(lease job)" Reason) == $1* ]]; }

# pending_for REASON: a further lease waits for that, until it is taken back
pending_for() {
    as alice vcctl resize "$JOB" +1
    wait_until 60 "the lease to be pending for $1 (it is $(lease state))" lease_is pending
    wait_until 60 "Slurm's reason $1 (it is $(job_field "$(lease job)" Reason))" job_reason_is "$1"
    as alice vcctl resize "$JOB" 1
    wait_until 60 "the lease to end" lease_is ended
    assert_equal "$(lease end)" released
    wait_until 60 "its job to end" job_has_ended "$(lease job)"
}

@test "MaxSubmit refuses a lease, with slurmctld's words; MaxJobs, a QOS and a partition that is down keep it pending; a hold until it is released" {
    submit alice -N1 -w n1 -p low -c1 --mem=400 --time=30 --no-requeue --vcluster="$IMAGE" --vcluster-size=1-2 --wrap 'sleep 1000'
    echo "$JOB" >"$BATS_FILE_TMPDIR/job"
    wait_until 120 "job $JOB to be ready" cluster_is_ready alice "$JOB"

    lab_exec ctl sacctmgr -i modify user alice set MaxSubmitJobs=1 >&2
    as alice vcctl resize "$JOB" +1
    wait_until 60 "the lease to end" lease_is ended
    assert_equal "$(lease end)" refused
    assert_contains "$(lease reason)" "accounting/QOS policy"
    as alice vcctl resize "$JOB" 1
    lab_exec ctl sacctmgr -i modify user alice set MaxSubmitJobs=-1 MaxJobs=1 >&2
    pending_for AssocMaxJobsLimit
    lab_exec ctl sacctmgr -i modify user alice set MaxJobs=-1 >&2
    lab_exec ctl sacctmgr -i modify qos normal set MaxJobsPerUser=1 >&2
    pending_for QOSMaxJobsPerUserLimit
    lab_exec ctl sacctmgr -i modify qos normal set MaxJobsPerUser=-1 >&2
    lab_exec ctl scontrol update PartitionName=low State=DOWN
    pending_for PartitionDown
    lab_exec ctl scontrol update PartitionName=low State=UP

    submit bob -N1 -w n2 -p high -c8 --mem=3500 --wrap 'sleep 1000' # so that it can be held before it runs
    local other=$JOB held
    JOB=$(cat "$BATS_FILE_TMPDIR/job")
    wait_until 60 "the other job to run" job_is_in_state "$other" RUNNING
    as alice vcctl resize "$JOB" +1
    wait_until 60 "the lease to be pending" lease_is pending
    held=$(lease job)
    as alice scontrol hold "$held"
    lab_exec ctl scancel "$other"
    wait_until 60 "n2 to be idle" node_is n2 idle
    assert_equal "$(job_field "$held" JobState)" PENDING
    lease_is pending
}

@test "a lease that starts after its primary has ended, while the controller was away, brings nothing and ends" {
    local held
    held=$(lease job)
    lab stop ctl vcd KILL
    as alice scancel "$JOB"
    as alice scontrol release "$held"
    wait_until 60 "the lease's job to have a host" job_has_host "$held"
    lab start ctl vcd
    wait_until 90 "the lease's job to end" job_has_ended "$held"
    wait_job "$JOB" 90
    assert_clean
}
job_has_host() { [[ $(job_field "$1" NodeList) == n2 ]]; }

vcd_is_dead() { ! lab_exec ctl sh -c 'kill -0 "$(cat /run/vclab/vcd.pid)"' 2>/dev/null; }
# crash_at POINT CHANGE: the controller dies there on the way of a resize, and comes again
crash_at() {
    lab_exec ctl sh -c 'echo "$1=crash" >/run/vcd/faults' crash "$1"
    as alice vcctl resize "$JOB" "$2" || true
    wait_until 60 "the controller to die at $1" vcd_is_dead
    lab_exec ctl rm -f /run/vcd/faults
    lab start ctl vcd
}

@test "kill -9 of the controller at each step of a lease's way in and out: it comes and goes all the same, once" {
    [ -n "${VC_FULL:-}" ] || skip "two minutes: tests/run --long"
    local i in=(leases-save lease-submitted grow-preparing grow-booting grow-telling grow-joining grow-held)
    local out=(leases-save shrink-moving shrink-leaving shrink-dropping shrink-releasing shrink-forgetting shrink-moving)
    submit alice -N1 -w n1 -p low -c1 --mem=400 --time=30 --no-requeue --vcluster="$IMAGE" --vcluster-size=1-2 --wrap 'sleep 1000'
    echo "$JOB" >"$BATS_FILE_TMPDIR/job"
    wait_until 120 "job $JOB to be ready" cluster_is_ready alice "$JOB"
    for i in "${!in[@]}"; do
        crash_at "${in[i]}" 2
        [ "${in[i]}" != leases-save ] || as alice vcctl resize "$JOB" 2 # nobody was told that it had been taken
        wait_until 120 "the lease to be held after a crash at ${in[i]}" lease_is held
        wait_until 60 "both members" is_usable 0 "vc$JOB-0 vc$JOB-$((i + 1)) "
        assert_equal "$(lab_exec ctl squeue -h -n vcluster-lease | wc -l)" 1
        crash_at "${out[i]}" 1
        [ "${out[i]}" != leases-save ] || as alice vcctl resize "$JOB" 1
        wait_until 120 "the lease to end after a crash at ${out[i]}" lease_is ended
        assert_equal "$(lease end)" released
        wait_until 60 "one member" is_usable 0 "vc$JOB-0 "
        wait_until 60 "n2 to be idle" node_is n2 idle
        assert_equal "$(lab_exec n2 virsh -q -c qemu:///system list --all)" ""
    done
    as alice scancel "$JOB"
    wait_job "$JOB" 60
    assert_clean
}

@test "preemption of a lease whose member fits on the hosts that stay: it migrates there, and the tasks in it go on" {
    submit alice -N1 -w n1 -p low -c2 --mem=2000 --time=30 --no-requeue --vcluster="$IMAGE" --vcluster-mem=256M --vcluster-size=1-2 \
        --wrap 'sleep 1000'
    echo "$JOB" >"$BATS_FILE_TMPDIR/job"
    wait_until 120 "job $JOB to be ready" cluster_is_ready alice "$JOB"
    as alice vcctl resize "$JOB" +1
    wait_until 120 "the lease to be held" lease_is held
    wait_until 20 "both members" is_usable 0 "vc$JOB-0 vc$JOB-1 "
    inside 0 sh -c "vcrsh vc$JOB-1 'touch /tmp/working; while [ ! -e /tmp/end ]; do sleep 0.2; done; echo whole' >/tmp/said 2>&1" &
    local task=$! high
    wait_until 30 "the task in member 1" inside 1 test -e /tmp/working
    submit bob -N1 -w n2 -p high -c8 --mem=3000 --wrap 'sleep 1000'
    high=$JOB JOB=$(cat "$BATS_FILE_TMPDIR/job")
    wait_until 60 "the lease to end" lease_is ended
    assert_equal "$(lease end)" preempted
    wait_until 60 "the other job to run" job_is_in_state "$high" RUNNING
    assert_equal "$(usable 0)" "vc$JOB-0 vc$JOB-1 "
    inside 1 touch /tmp/end
    wait $task
    assert_equal "$(inside 0 cat /tmp/said)" whole
    lab_exec ctl scancel "$high"
    wait_until 60 "n2 to be idle" node_is n2 idle
}

@test "policy pack: the member of a further host that has nothing to do moves to the job's own host, and the host is given back" {
    as alice vcctl elastic "$JOB" set pack
    as alice vcctl resize "$JOB" +1
    wait_until 120 "the lease to be held" lease_is held
    wait_until 20 "all members" is_usable 0 "vc$JOB-0 vc$JOB-1 vc$JOB-2 "
    inside 2 sh -c 'echo kept >/tmp/kept'
    wait_until 90 "the lease to end" lease_is ended
    assert_equal "$(lease end)" released
    assert_equal "$(usable 0)" "vc$JOB-0 vc$JOB-1 vc$JOB-2 "
    assert_equal "$(inside 2 cat /tmp/kept)" kept
    wait_until 30 "n2 to be idle" node_is n2 idle
    assert_equal "$(lab_exec n2 virsh -q -c qemu:///system list --all)" ""
    run as alice vcctl elastic "$JOB" replay
    assert_equal "$status" 0
}

quota() { lab_exec n1 sh -c "virsh -c qemu:///system schedinfo \"\$(basename /run/libvirt/qemu/vc-*-$1.pid .pid)\"" | awk '$1 == "global_quota" { print $3 }'; }
quota_is_between() { local q; q=$(quota "$1"); [ "$q" -ge "$2" ] && [ "$q" -le "$3" ]; }
quota_is_off() { local q; q=$(quota "$1"); [ "$q" -lt 0 ] || [ "$q" -gt 1000000 ]; }
cpu_ms() { lab_exec n1 sh -c "awk '{ print (\$14 + \$15) * 10 }' /proc/\$(cat /run/libvirt/qemu/vc-*-$1.pid)/stat"; }

@test "policy yield: members that share a host get no more of it than the share that is best for the one that gets least" {
    local i tasks=() used quota began took
    as alice vcctl elastic "$JOB" set yield
    for i in 0 1 1 2 2; do # needs 1, 2 and 2 on two processors: yield 0.4
        inside $i sh -c 'while :; do :; done' 3>&- &
        tasks+=($!)
    done
    wait_until 120 "member 0 to be capped" quota_is_between 0 30000 60000
    wait_until 120 "member 1 to be capped" quota_is_between 1 60000 100000
    quota=$(quota 0) used=$(cpu_ms 0) began=$(date +%s%3N)
    sleep 4 # what is measured
    used=$(($(cpu_ms 0) - used)) took=$(($(date +%s%3N) - began))
    [ $((used * 100)) -le $((took * 66)) ] # its quota at most; less when the machine has other work
    echo "member 0 used $used ms of $took with a quota of $quota of 100000" >&2
    run as alice vcctl elastic "$JOB" show --json
    assert_contains "$output" '"dirty_mib"'
    assert_contains "$output" '"steal"'
    run as alice vcctl elastic "$JOB" replay
    assert_equal "$status" 0
    as alice vcctl elastic "$JOB" set static
    wait_until 60 "the caps to be gone" quota_is_off 0
    wait_until 60 "the caps to be gone" quota_is_off 1
    as alice scancel "$JOB"
    wait "${tasks[@]}" || true
    wait_job "$JOB" 60
    assert_clean
}

size_is() { [ "$(as "$1" vcctl leases "$2" --json | python3 -c 'import json,sys; d=json.load(sys.stdin); print(d["own"] + d["held"])')" = "$3" ]; }
load_on() { # USER JOB: two processes in member 0 that use all they get, until load_off
    local i
    as "$1" vcctl exec "$2" 0 -- touch /tmp/load
    for i in 1 2; do as "$1" vcctl exec "$2" 0 -- sh -c 'while [ -e /tmp/load ]; do i=$((i + 1)); done' >/dev/null 2>&1 3>&- & done
}
load_off() { as "$1" vcctl exec "$2" 0 -- rm /tmp/load; }

@test "policy cod: a host goes from one user's cluster to another's as their loads change, and nobody does anything" {
    [ -n "${VC_FULL:-}" ] || skip "a minute: tests/run --long"
    local a b job user options=(-N1 -w n1 -p low -c1 --mem=400 --time=30 --no-requeue --vcluster="$IMAGE" --vcluster-size=1-2
        --vcluster-elastic=cod --wrap 'sleep 1000')
    submit alice "${options[@]}" && a=$JOB
    import_busybox bob "$IMAGE"
    submit bob "${options[@]}" && b=$JOB
    wait_until 120 "job $a to be ready" cluster_is_ready alice "$a"
    wait_until 120 "job $b to be ready" cluster_is_ready bob "$b"
    load_on alice "$a"
    wait_until 120 "alice's cluster to have two hosts" size_is alice "$a" 2
    size_is bob "$b" 1
    load_off alice "$a"
    load_on bob "$b"
    wait_until 120 "bob's cluster to have two hosts" size_is bob "$b" 2
    wait_until 120 "alice's cluster to have one host" size_is alice "$a" 1
    load_off bob "$b"
    wait_until 120 "bob's cluster to have one host" size_is bob "$b" 1
    wait_until 60 "n2 to be idle" node_is n2 idle
    for user in alice bob; do
        job=$a
        [ $user = alice ] || job=$b
        run as $user vcctl elastic "$job" replay
        assert_equal "$status" 0
        wait_until 30 "sacct to tell of $user's lease" lease_is_completed $user
        as $user scancel "$job"
        wait_job "$job" 60
    done
    wait
    assert_clean
}
# the last job that brought the user a host
lease_is_completed() { [[ $(lab_exec ctl sacct -nX -u "$1" --name=vcluster-lease -o State%-20 | tail -n 1) == COMPLETED* ]]; }
