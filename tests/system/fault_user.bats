#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# Faults of what a user asks for, and of guests: an unknown image, a package that does not exist, an image that cannot
# boot or does not in time, a guest that dies or runs out of memory, the time limit. No host is drained for any.

load faults

HOST=n2

setup_file() { faults_begin; }
teardown_file() { as alice sh -c 'vcctl image rm never-boots; rm -rf never.root never.tar nopkg.recipe' >/dev/null 2>&1 || true; }
teardown() { faults_over; }

domain() { lab_exec "$HOST" virsh -q -c qemu:///system list --name | grep -m1 '^vc-'; }
has_domain() { [ -n "$(domain)" ]; }

@test "an unknown image: batch job, srun and salloc say so" {
    local no="there is no image 'nosuch'" srun_job
    IMAGE=nosuch start_job "$RUN_ONCE" -N1
    run as alice srun -N1 --mem=400 --vcluster=nosuch hostname
    assert_equal "$status" 1
    assert_contains "$output" "$no"
    run as alice salloc -N1 --mem=400 --vcluster=nosuch srun hostname
    assert_equal "$status" 1
    assert_contains "$output" "$no"
    wait_job "$JOB" 30
    assert_failed "$JOB" "$no"
    ends_well 30 "$JOB"
}

@test "a recipe with a package that does not exist: the build names it, nothing is left" {
    as alice sh -c 'printf "name = \"nopkg\"\npackages = {\"no-such-package\"}\n" >nopkg.recipe'
    run as alice timeout 200 vcctl image build nopkg.recipe
    assert_equal "$status" 1
    assert_contains "$output" "Unable to locate package no-such-package"
    run as alice vcctl image show nopkg
    assert_equal "$status" 3 # not there
    assert_equal "$(lab_exec ctl find /var/lib/vcluster/images/builds -mindepth 1)" ""
    ends_well 20
}

@test "an image that cannot boot: the job fails with the console's last lines" {
    as alice sh -ec "rm -rf never.root; cp -a $IMAGE.root never.root; rmdir never.root/sys || true; echo file >never.root/sys
        tar -cf never.tar -C never.root .; vcctl image import never-boots never.tar"
    IMAGE=never-boots start_job "$RUN_ONCE" -N1 -w "$HOST"
    wait_job "$JOB" 120
    assert_failed "$JOB" "host $HOST: member vc$JOB-0 stopped"
    assert_contains "$(job_output "$JOB")" "this guest cannot run: cannot switch to the root disk: move of /sys into the root"
    ends_well 30 "$JOB"
}

@test "a guest that does not come up in time: the job fails with the limit and its console" {
    vcd_conf "$HOST" 'boot-timeout = "8s"'
    start_job "$RUN_ONCE" -N1 -w "$HOST"
    wait_until 60 "a domain on $HOST" has_domain
    lab_exec "$HOST" virsh -q -c qemu:///system suspend "$(domain)"
    wait_job "$JOB" 60
    assert_failed "$JOB" "member vc$JOB-0 did not come up within 8 s; its console's last lines: "
    ends_well 30 "$JOB"
}

# the QEMU of a member, by its domain's name
kill_guest() { lab_exec "$1" sh -c 'kill -KILL "$(cat "/run/libvirt/qemu/$1.pid")"' kill "$2"; }

@test "a guest that dies under its task: the task says so, the others go on, the job decides" {
    start_job 'echo up; srun -N2 -n2 sh -c "[ \$SLURM_PROCID = 0 ] || sleep 600"; echo "srun said $?"
        grep -o "\"state\": *\"gone\"" /run/vcluster/view.json; srun -N1 -n1 -w n1 hostname' -N2
    job_runs "$JOB"
    kill_guest "$HOST" "$(domain)"
    wait_job "$JOB" 60
    assert_contains "$(job_output "$JOB")" "member vc$JOB-1 stopped: "
    assert_contains "$(job_output "$JOB")" "srun said 1"
    assert_contains "$(job_output "$JOB")" '"gone"'
    assert_contains "$(job_output "$JOB")" "vc$JOB-0"
    assert_job_completed "$JOB"
    ends_well 30 "$JOB"
}

@test "the guest of the batch script dies: the job fails and says why" {
    start_job 'echo up; sleep 600' -N1 -w "$HOST"
    job_runs "$JOB"
    kill_guest "$HOST" "$(domain)"
    wait_job "$JOB" 60
    assert_failed "$JOB" "member vc$JOB-0 stopped: "
    ends_well 30 "$JOB"
}

@test "a guest runs out of memory: the task is killed and says why, the guest goes on" {
    start_job 'srun -n1 tail /dev/zero; echo "srun said $?"; srun -n1 echo still here' -N1 -w "$HOST"
    wait_job "$JOB" 120
    assert_job_completed "$JOB"
    assert_contains "$(job_output "$JOB")" "vc$JOB-0 ran out of memory"
    assert_contains "$(job_output "$JOB")" "srun said 137"
    assert_contains "$(job_output "$JOB")" "still here"
    ends_well 30 "$JOB"
}

@test "the time limit: tasks in the guest get SIGTERM, then the job ends as TIMEOUT" {
    start_job 'trap "echo got TERM; exit 0" TERM; echo up; sleep 600 & wait' -N1 -w "$HOST" --time=10
    job_runs "$JOB"
    lab_exec ctl scontrol update "JobId=$JOB" EndTime=now
    wait_job "$JOB" 90
    assert_equal "$(job_state "$JOB")" TIMEOUT
    assert_contains "$(job_output "$JOB")" "DUE TO TIME LIMIT"
    assert_contains "$(job_output "$JOB")" "got TERM"
    ends_well 30 "$JOB"
}
