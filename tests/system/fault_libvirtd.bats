#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# libvirtd goes away, comes back, or hangs while vcd needs it. Its windows are hit by vcd's own fault points around the
# calls (vcd/hv.c), and inside libvirtd by its hook script, which holds a start at each of its stages.

load faults

HOST=n2
HOOK=/etc/libvirt/hooks/qemu

setup_file() { faults_begin; }

teardown() {
    lab_exec "$HOST" sh -c 'rm -f "$1" /run/vclab/hook.*; kill -s CONT "$(cat /run/vclab/libvirtd.pid)"' teardown "$HOOK" || true
    lab start "$HOST" libvirtd >/dev/null 2>&1 || true
    faults_over
}

domain() { lab_exec "$HOST" virsh -q -c qemu:///system list --name | grep -m1 '^vc-'; }
domain_runs() { [ "$(lab_exec "$HOST" virsh -q -c qemu:///system domstate "$(domain)")" = running ]; }

# libvirtd calls this at each stage of a domain's life; it waits as long as hook.hold names the stage
plant_hook() {
    lab_exec "$HOST" sh -c 'mkdir -p "${1%/*}" && cat >"$1" && chmod 755 "$1"' plant "$HOOK" <<'SH'
#!/bin/sh
echo "$2" >>/run/vclab/hook.seen
while grep -sqx "$2" /run/vclab/hook.hold; do sleep 0.05; done
SH
}
hook_holds() { lab_exec "$HOST" sh -c 'rm -f /run/vclab/hook.seen; printf "%s\n" "$1" >/run/vclab/hook.hold' holds "$1"; }
hook_is_at() { lab_exec "$HOST" grep -qx "$1" /run/vclab/hook.seen; }

restart_libvirtd() { lab restart "$HOST" libvirtd; }

# held_at POINT: vcd has come to that point of vcd/fault.h since held was called last
held_at() { [ "$(point_count "$1")" -gt "${SEEN:-0}" ]; }
point_count() { lab log "$HOST" vcd | grep -c "fault point $1: hold" || true; }
hold() {
    SEEN=$(point_count "$1")
    faults "$HOST" "$1=hold"
}
wait_held() { wait_until 60 "vcd to come to $1" held_at "$1"; }

@test "libvirtd is restarted at each point of a start, inside and outside of it: the job runs once" {
    local point
    local -A after=([prepare]=start [start]=started [started]=)
    need_fault_points
    plant_hook
    restart_libvirtd # which looks for its hooks when it starts
    hold hv-look
    start_job "$RUN_ONCE" -N1 -w "$HOST"
    wait_held hv-look
    restart_libvirtd
    hold hv-create
    wait_held hv-create
    hook_holds prepare
    restart_libvirtd
    faults "$HOST" ""
    for point in prepare start started; do
        wait_until 60 "libvirtd to come to its hook $point" hook_is_at "$point"
        lab stop "$HOST" libvirtd KILL
        hook_holds "${after[$point]}"
        lab start "$HOST" libvirtd
    done
    wait_job "$JOB" 120
    assert_ran_once "$JOB"
    ends_well 30 "$JOB"
}

@test "libvirtd is restarted while machines boot: the job runs once" {
    start_job "$RUN_ONCE" -N1 -w "$HOST"
    wait_until 60 "a machine on $HOST" domain
    restart_libvirtd
    wait_job "$JOB" 120
    assert_ran_once "$JOB"
    ends_well 30 "$JOB"
}

@test "libvirtd is away when a job comes, its answer is lost, it is restarted while machines are ended: the job runs once" {
    need_fault_points
    lab stop "$HOST" libvirtd
    SEEN=$(point_count hv-kill)
    faults "$HOST" "hv-created=fail,hv-kill=hold"
    start_job "$RUN_ONCE" -N1 -w "$HOST"
    job_phase "$JOB" booting
    lab start "$HOST" libvirtd
    wait_held hv-kill
    assert_contains "$(lab log "$HOST" vcd | tail -n 20)" "fault point hv-created: fail"
    restart_libvirtd
    faults "$HOST" ""
    wait_job "$JOB" 60
    assert_ran_once "$JOB"
    ends_well 30 "$JOB"
}

@test "libvirtd is killed under a running job, and a machine while it is away: its task says so, others go on" {
    start_job 'echo up; srun -N2 -n2 sh -c "[ \$SLURM_PROCID = 0 ] || sleep 600"; echo "srun said $?"' -N2
    job_runs "$JOB"
    wait_until 10 "a running domain" domain_runs
    local name
    name=$(domain)
    lab stop "$HOST" libvirtd KILL
    as alice vcctl exec "$JOB" 1 -- true # goes on without libvirtd
    lab_exec "$HOST" sh -c 'kill -KILL "$(cat "/run/libvirt/qemu/$1.pid")"' kill "$name"
    lab start "$HOST" libvirtd
    wait_job "$JOB" 30
    assert_job_completed "$JOB"
    assert_contains "$(job_output "$JOB")" "member vc$JOB-1 stopped: "
    assert_contains "$(job_output "$JOB")" "srun said 1"
    ends_well 30 "$JOB"
}

@test "libvirtd hangs: the start fails with the reason within the limit, nothing is left when it is back" {
    vcd_conf ctl 'release-timeout = "5s"' # the user is told once the hosts had that long to clean up
    vcd_conf "$HOST" 'libvirt-timeout = "5s"'
    lab_exec "$HOST" sh -c 'kill -s STOP "$(cat /run/vclab/libvirtd.pid)"'
    start_job "$RUN_ONCE" -N1 -w "$HOST"
    wait_until 60 "job $JOB to say why" job_says_why
    lab_exec "$HOST" sh -c 'kill -s CONT "$(cat /run/vclab/libvirtd.pid)"'
    ends_well 60 "$JOB"
    assert_equal "$(job_state "$JOB")" FAILED
}
job_says_why() { job_output "$JOB" | grep -q "host $HOST: libvirt, start of a domain: did not end in time"; }
