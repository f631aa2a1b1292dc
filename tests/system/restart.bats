#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# What a restart may cost: nothing. vcd on hosts and on the controller and slurmctld are killed or restarted under
# streams, running jobs and starts; each time the job runs exactly once and nothing is left.
#
# One cluster on n1 (job $BASE) serves the tests of streams. VC_FULL=1 passes 1 GiB each way instead of 64 MiB.

bats_require_minimum_version 1.5.0

load helper

IMAGE=restart-tiny
KILLS=10

setup_file() {
    require_vcd
    "$TOP/contrib/recipes/make-tiny-root" "$BATS_FILE_TMPDIR/tiny.tar"
    as alice sh -c 'cat >restart-tiny.tar' <"$BATS_FILE_TMPDIR/tiny.tar"
    as alice vcctl image import "$IMAGE" restart-tiny.tar
    start_job 'echo up; sleep 3600' -w n1
    wait_until 120 "job $JOB to be up" job_says up
    export BASE=$JOB
}

teardown_file() {
    [ -z "${BASE:-}" ] || lab_exec ctl scancel "$BASE" || true
    wait_nodes idle 60 || true
    as alice vcctl image rm "$IMAGE" || true
    as alice rm -f restart-tiny.tar
}

teardown() {
    local host
    for host in ctl $(lab_hosts); do vcd_signal "$host" CONT || true; done
    [ -z "${KILLER:-}" ] || kill "$KILLER" 2>/dev/null || true
    if [ -n "${JOB:-}" ] && [ "$JOB" != "$BASE" ]; then lab_exec ctl scancel "$JOB" || true; fi
    dump_logs
}

# start_job SCRIPT SBATCH-ARGUMENTS...: sets JOB
start_job() { submit alice -N1 -c1 --mem=400 --vcluster="$IMAGE" "${@:2}" < <(printf '#!/bin/sh\n%s\n' "$1"); }

job_says() { job_output "$JOB" | grep -qx -- "$1"; }

in_guest() { lab_exec n1 --user alice vcctl exec "$BASE" 0 -- "$@"; }


kill_vcd() {
    lab stop "$1" vcd KILL
    lab start "$1" vcd
    wait_until 20 "vcd on $1 to answer" lab_exec "$1" vcctl ping
}

phase_is() { [ "$(phase "$1")" = "$2" ]; }
phase() {
    lab_exec ctl vcctl show "$1" --json |
        python3 -c 'import json,sys; print(json.load(sys.stdin)["phase"])'
}

# the job's script ran once, in its first incarnation, and all is gone
assert_ran_once() {
    wait_job "$JOB" 150
    assert_job_completed "$JOB"
    assert_equal "$(job_output "$JOB")" "ran on vc$JOB-0"
    assert_equal "$(job_field "$JOB" Restarts)" 0
    gone "$JOB"
}

RUN_ONCE='echo ran on $(hostname)'

# nothing of that job is left, while $BASE goes on
gone() {
    wait_until 60 "the release of job $1" phase_is "$1" released
    lab_exec ctl vcctl check
    assert_equal "$(virsh_count)" 1
}

virsh_count() {
    local host
    for host in $(lab_hosts); do lab_exec "$host" virsh -q -c qemu:///system list --all --name; done | grep -c .
}

# ---- streams ----

# random bytes until enough have passed and the killer is done
produce() {
    local n=0
    while [ "$n" -lt "$1" ] || [ ! -e "$BATS_TEST_TMPDIR/killed" ]; do
        head -c 1M /dev/urandom || return
        n=$((n + 1))
    done
}

bytes_back() { stat -c %s "$BATS_TEST_TMPDIR/back"; }
flows_past() { [ "$(bytes_back)" -gt "$1" ]; }

# killer BYTES SECONDS: kills vcd in the middle of the stream, each time when that many more bytes have come back
killer() {
    local i
    for ((i = 0; i < KILLS; i++)); do
        wait_until "$2" "bytes to flow (kill $i)" flows_past "$(($(bytes_back) + $1))" || break
        { lab stop n1 vcd KILL && lab start n1 vcd; } || break # the stream must end in any case
    done
    echo "$i" >"$BATS_TEST_TMPDIR/killed"
}

@test "a stream both ways is the same after vcd was killed ten times" {
    local mib=64 limit=60 status=0
    [ -z "${VC_FULL:-}" ] || mib=1024 limit=300
    : >"$BATS_TEST_TMPDIR/back"
    killer $((mib * 1048576 / (KILLS + 2))) "$limit" 3>&- &
    KILLER=$!
    SECONDS=0
    produce "$mib" 3>&- | tee >(sha256sum >"$BATS_TEST_TMPDIR/sent.sum") |
        timeout 1200 "$VCLAB" exec n1 --user alice srun --jobid="$BASE" --overlap -n1 sh -c 'cat; exit 7' >>"$BATS_TEST_TMPDIR/back" || status=$?
    echo "# $(bytes_back) bytes each way in $SECONDS s" >&3
    wait "$KILLER"
    assert_equal "$status" 7
    assert_equal "$(cat "$BATS_TEST_TMPDIR/killed")" "$KILLS"
    assert_equal "$(sha256sum <"$BATS_TEST_TMPDIR/back")" "$(cat "$BATS_TEST_TMPDIR/sent.sum")"
    [ "$(bytes_back)" -ge "$((mib * 1048576))" ]
}

@test "a stream that nobody reads does not stop the others of its guest" {
    local blocked=$BATS_TEST_TMPDIR/blocked reader writer
    mkfifo "$blocked"
    exec {reader}<>"$blocked"
    in_guest dd if=/dev/zero bs=64k count=512 >"$blocked" 2>/dev/null 3>&- &
    writer=$!
    run -0 timeout 120 "$VCLAB" exec n1 --user alice vcctl exec "$BASE" 0 -- sh -c 'dd if=/dev/zero bs=64k count=512 2>/dev/null | cat | sha256sum'
    assert_equal "${output%% *}" "$(head -c 32M /dev/zero | sha256sum | cut -d' ' -f1)"
    assert_equal "$(head -c 32M /dev/zero | in_guest cat | sha256sum)" "$(head -c 32M /dev/zero | sha256sum)"
    kill -0 "$writer" # it did wait
    assert_equal "$(timeout 120 head -c 32M <&"$reader" | sha256sum)" "$(head -c 32M /dev/zero | sha256sum)"
    exec {reader}<&-
    wait "$writer"
}

# ---- the controller ----

@test "the controller's vcd is killed while clusters run: it knows them, and releases what ends" {
    kill_vcd ctl
    wait_until 20 "job $BASE to be listed as ready" phase_is "$BASE" ready
    assert_contains "$(as alice vcctl list)" "$BASE"
    assert_equal "$(in_guest hostname)" "vc$BASE-0"
}

@test "a job that ends while the controller's vcd is away is released when it is back" {
    start_job 'echo up; sleep 3600'
    wait_until 120 "job $JOB to be up" job_says up
    lab stop ctl vcd KILL
    lab_exec ctl scancel "$JOB"
    wait_until 20 "job $JOB to be ending" job_is_in_state "$JOB" COMPLETING # until EpilogSlurmctld reaches vcd
    lab start ctl vcd
    wait_job "$JOB"
    gone "$JOB"
}

# submits a job whose start hangs in PHASE, as vcd on n2 does not answer
start_hanging() {
    vcd_signal n2 STOP
    start_job "$RUN_ONCE" -w n2
    wait_until 30 "job $JOB to be preparing" phase_is "$JOB" preparing
}

@test "the controller's vcd is killed while it prepares a cluster: the job runs once" {
    start_hanging
    kill_vcd ctl
    vcd_signal n2 CONT
    assert_ran_once
}

@test "the controller's vcd is killed while machines boot: the job runs once" {
    start_job "$RUN_ONCE" -w n2
    wait_until 60 "job $JOB to boot" phase_is "$JOB" booting
    kill_vcd ctl
    assert_ran_once
}

# ---- hosts, slurmctld ----

@test "a host's vcd is killed while its machines boot: the job runs once" {
    start_job "$RUN_ONCE" -w n2
    wait_until 60 "job $JOB to boot" phase_is "$JOB" booting
    kill_vcd n2
    assert_ran_once
}

@test "a host's vcd is stopped and started while its machines boot: the job runs once" {
    start_job "$RUN_ONCE" -w n2
    wait_until 60 "job $JOB to boot" phase_is "$JOB" booting
    lab restart n2 vcd
    assert_ran_once
}

@test "slurmctld is restarted during a long start: the job runs once" {
    start_hanging
    lab restart ctl slurmctld
    vcd_signal n2 CONT
    assert_ran_once
}

@test "a batch job goes on while both its vcds are killed, and nothing is left" {
    start_job 'for i in 1 2 3 4 5 6 7 8 9 10; do echo $i; sleep 0.5; done' -w n2
    wait_until 120 "the first line of job $JOB" job_says 1
    lab stop n2 vcd KILL
    lab stop ctl vcd KILL
    lab start n2 vcd
    lab start ctl vcd
    wait_job "$JOB" 90
    assert_job_completed "$JOB"
    assert_equal "$(job_output "$JOB")" "$(seq 10)"
    gone "$JOB"
}

@test "after all that, the cluster's end leaves nothing" {
    assert_equal "$(in_guest cat /etc/hostname 2>/dev/null || in_guest hostname)" "vc$BASE-0"
    lab_exec ctl scancel "$BASE"
    wait_job "$BASE"
    assert_clean
}
