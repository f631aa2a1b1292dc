#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# Faults of hosts and of what vcd stands on: power, munged, slurmd, slurmctld; libvirtd has a file of its own. A host is down only when it is
# the fault, and comes back by itself when it is there again.

load faults

HOST=n2

setup_file() { faults_begin; }

teardown() {
    local host name
    [ -z "${SLURMD_TIMEOUT:-}" ] || slurmd_timeout 30 || true
    for host in ctl $(lab_hosts); do lab heal "$host" || true; done
    lab status | awk '$4 == "down" { print $1 }' | while read -r host; do lab boot "$host" </dev/null || true; done
    for host in ctl $(lab_hosts); do
        for name in munged virtlogd libvirtd slurmctld slurmd vcd; do
            daemon_signal "$host" "$name" CONT || true
            lab start "$host" "$name" || true
        done
    done >/dev/null 2>&1
    faults_over
    wait_until 90 "the hosts to be idle" hosts_are_idle || true
}

daemon_signal() { lab_exec "$1" sh -c 'kill -s "$2" "$(cat "/run/vclab/$1.pid")"' signal "$2" "$3" 2>/dev/null; }
hosts_are_idle() { local host; for host in $(lab_hosts); do node_is "$host" idle || return; done; }
domain_runs() { lab_exec "$1" virsh -q -c qemu:///system list --name | grep -q '^vc-'; }

# ---- power ----

# the job is requeued when its host is down (an admin says so, Slurm itself takes SlurmdTimeout) and runs again
lose_host_and_run_again() {
    lab kill "$HOST"
    lab_exec ctl scontrol update "NodeName=$HOST" State=DOWN Reason=power
    lab boot "$HOST"
    run_again "$JOB" 90
}

@test "a host loses its power before the boot: the job is requeued, runs again and nothing is left" {
    vcd_signal "$HOST" STOP
    start_job "$TWICE" -N2 --requeue
    job_phase "$JOB" preparing
    lose_host_and_run_again
    ends_well 60 "$JOB"
}

@test "a host loses its power while its machines boot: the job is requeued and runs again" {
    start_job "$TWICE" -N2 --requeue
    wait_until 60 "a machine on $HOST" domain_runs "$HOST"
    lose_host_and_run_again
    ends_well 60 "$JOB"
}

# seconds until Slurm calls a host down that does not answer
slurmd_timeout() { SLURMD_TIMEOUT=$1; lab_exec ctl sh -c 'sed -i "s/^SlurmdTimeout=.*/SlurmdTimeout=$1/" /etc/slurm/slurm.conf && scontrol reconfigure' sh "$1"; }

@test "a host loses its power under a job: NODE_FAIL without requeue, the other host is free" {
    slurmd_timeout 8
    vcd_conf ctl 'release-timeout = "5s"' # for the host that cannot answer any more
    start_job 'echo up; sleep 600' -N2 --no-requeue
    job_runs "$JOB"
    lab kill "$HOST"
    wait_until 90 "the end of job $JOB" job_has_ended "$JOB"
    assert_equal "$(job_state "$JOB")" NODE_FAIL
    wait_until 30 "host n1 to be idle" node_is n1 idle
    assert_equal "$(lab_exec n1 virsh -q -c qemu:///system list --all --name | grep -c .)" 0
    lab boot "$HOST"
    ends_well 60 "$JOB"
}

# ---- munged ----

@test "munged is stopped on a host during a start: the job runs once when it is back" {
    start_job "$RUN_ONCE" -N2
    wait_until 60 "a machine on $HOST" domain_runs "$HOST"
    lab stop "$HOST" munged
    lab restart ctl vcd # a new session is needed, and cannot be had
    lab start "$HOST" munged
    wait_job "$JOB" 150
    assert_ran_once "$JOB"
    ends_well 60 "$JOB"
}

@test "munged is stopped on a host: vcctl there says what is wrong" {
    lab stop "$HOST" munged
    run lab_exec "$HOST" --user alice vcctl list
    [ "$status" -ne 0 ]
    assert_contains "$output" "munge"
    lab start "$HOST" munged
    ends_well 30
}

# ---- slurmd, slurmctld ----

@test "slurmd is restarted and Slurm reconfigured during a long start: the job runs once" {
    vcd_signal "$HOST" STOP
    start_job "$RUN_ONCE" -N2
    job_phase "$JOB" preparing
    lab restart "$HOST" slurmd
    lab_exec ctl scontrol reconfigure
    lab restart n1 slurmd
    vcd_signal "$HOST" CONT
    wait_job "$JOB" 150
    assert_ran_once "$JOB"
    ends_well 60 "$JOB"
}

@test "slurmd is restarted under a running job: the job goes on" {
    start_job 'echo up; while [ ! -e /tmp/go ]; do sleep 0.2; done; srun -n1 echo went on' -N1 -w "$HOST"
    job_runs "$JOB"
    lab restart "$HOST" slurmd
    as alice vcctl exec "$JOB" 0 -- touch /tmp/go
    wait_job "$JOB" 60
    assert_job_completed "$JOB"
    assert_contains "$(job_output "$JOB")" "went on"
    ends_well 30 "$JOB"
}
