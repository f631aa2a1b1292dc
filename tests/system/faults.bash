# SPDX-License-Identifier: GPL-2.0-or-later
# What the fault_*.bats files share. Each fault asserts: the text that the user gets, the hosts' states, a bound in
# seconds (the limits of the waits), and that nothing is left: ends_well.
#
# Owns the image $IMAGE of alice, made once per lab, the faults that vcd is told (vcd/fault.h), and the lines that
# vcd_conf (helper.bash) adds to a host's vcd.conf; faults_over takes both away.

bats_require_minimum_version 1.5.0

load helper

IMAGE=busy
RUN_ONCE='echo ran on $(hostname)'

faults_begin() {
    require_vcd
    import_busybox alice "$IMAGE"
}

# start_job SCRIPT SBATCH-ARGUMENTS...: sets JOB
start_job() { submit alice -c1 --mem=400 --vcluster="$IMAGE" "${@:2}" < <(printf '#!/bin/sh\n%s\n' "$1"); }

job_says() { job_output "$1" | grep -qx -- "$2"; }
job_runs() { wait_until "${2:-120}" "job $1 to say up" job_says "$1" up; }
# by the controller's log: a phase may be over before it is asked for
job_phase() { wait_until "${3:-60}" "job $1 to be $2" has_come_to "$1" "$2"; }
has_come_to() { lab log ctl vcd | grep -q "job [^ ]*/$1\.[0-9]*: $2 after "; }

# assert_failed JOB TEXT: the job failed by itself, and its output says why
assert_failed() {
    assert_equal "$(job_state "$1")" FAILED || { lab_exec ctl scontrol show job "$1" >&2; return 1; }
    assert_contains "$(job_output "$1")" "$2"
}

# it ran once, in its first incarnation
assert_ran_once() {
    assert_job_completed "$1" || return
    assert_equal "$(job_output "$1")" "ran on vc$1-0" || return
    assert_equal "$(job_field "$1" Restarts)" 0
}

# its hosts have released it; a job whose cluster was never made is gone as well
cluster_is_gone() { ! lab_exec ctl vcctl show "$1" || cluster_has_phase root "$1" released; }

# Slurm holds a requeued job back for two minutes, until its credential has expired: not for us
TWICE='echo up; echo run ${SLURM_RESTART_COUNT:-0} on $(hostname); [ "${SLURM_RESTART_COUNT:-0}" = 1 ] || sleep 600'
run_again() {
    wait_until "${2:-60}" "job $1 to be requeued" was_requeued "$1" || return
    lab_exec ctl scontrol update "JobId=$1" StartTime=now
    wait_job "$1" 150
    assert_job_completed "$1" || return
    assert_equal "$(job_field "$1" Restarts)" 1 || return
    assert_equal "$(job_output "$1" | grep -c "^run 1 on vc$1-0$")" 1
}
was_requeued() { [ "$(job_field "$1" Restarts)" = 1 ] && job_is_in_state "$1" PENDING; }

no_reason() { [ "$(lab_exec ctl scontrol -o show node "$1" | grep -c ' Reason=')" = 0 ]; }

# ends_well SECONDS JOB...: by then the jobs' clusters are gone, every host is idle with no reason set against it, and
# neither vcd nor libvirt knows of anything that is left
ends_well() {
    local limit=$1 job host end=$((SECONDS + $1))
    shift
    for job in "$@"; do
        wait_until "$limit" "job $job to have ended" job_has_ended "$job" || return
        wait_until "$limit" "the release of job $job" cluster_is_gone "$job" || return
    done
    wait_nodes idle "$limit" || return
    for host in $(lab_hosts); do
        no_reason "$host" || { lab_exec ctl scontrol show node "$host" >&2; return 1; }
    done
    assert_clean || return
    [ "$SECONDS" -le $((end + 5)) ] || { echo "it took $((SECONDS - end + limit)) s, the bound is $limit s" >&2; return 1; }
}

# ---- faults in vcd ----

has_fault_points() { lab_exec ctl grep -q 'fault point %s: ' /usr/sbin/vcd; }
need_fault_points() { has_fault_points || skip "vcd was built without --enable-fault-points"; }

# faults HOST LIST: what vcd there is to do at its next points
faults() { lab_exec "$1" sh -c 'printf "%s\n" "$1" >/run/vcd/faults' faults "$2"; }

vcd_is_dead() { lab_exec "$1" sh -c '! kill -0 "$(cat /run/vclab/vcd.pid)"'; }
vcd_is_stopped() { lab_exec "$1" sh -c 'grep -q "^State:.T" "/proc/$(cat /run/vclab/vcd.pid)/status"'; }

faults_over() {
    local host
    for host in ctl $(lab_hosts); do
        lab_exec "$host" sh -c 'rm -f /run/vcd/faults; cd /etc/vcluster; [ ! -e vcd.conf.kept ] || mv vcd.conf.kept vcd.conf
            p=$(cat /run/vclab/vcd.pid); kill -s CONT "$p" && kill -s HUP "$p"' >/dev/null 2>&1 ||
            lab start "$host" vcd >/dev/null 2>&1 || true
    done
    [ -n "${BATS_TEST_COMPLETED:-}" ] || [ -z "${JOB:-}" ] || lab_exec ctl scancel -u alice || true
    dump_logs
}
