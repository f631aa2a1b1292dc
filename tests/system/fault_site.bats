#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# Faults of a site: full directories, clocks that jump, and an upgrade while clusters run.

load faults

HOST=n2
SMALL_MIB=64

setup_file() { faults_begin; }

teardown() {
    local host
    for host in ctl "$HOST"; do
        lab_exec "$host" sh -c 'rm -f /run/vclab/vcd.env; umount /usr/sbin/vcd' >/dev/null 2>&1 || true
        roomy "$host" || true
    done
    lab_exec ctl scancel -u alice || true
    for host in ctl $(lab_hosts); do
        [ -n "${RESTORE:-}" ] || break
        lab restart "$host" vcd || true
    done
    faults_over
}

# ---- full directories ----

# small HOST: vcd's state lies on a small file system of its own, with what was there; roomy HOST: as before
small() {
    lab stop "$1" vcd
    lab_exec "$1" sh -ec 'mkdir -p /run/small; mount -t tmpfs -o "size=$1m,mode=711" small /run/small
        cp -a --sparse=always /var/lib/vcluster/. /run/small/; mount --move /run/small /var/lib/vcluster' small "$SMALL_MIB"
    lab start "$1" vcd
}
roomy() {
    lab_exec "$1" mountpoint -q /var/lib/vcluster || return 0
    lab stop "$1" vcd
    lab_exec "$1" umount /var/lib/vcluster
    lab start "$1" vcd
}
# fill HOST [MIB]: leaves so much
fill() {
    lab_exec "$1" sh -c 'cat /dev/zero >/var/lib/vcluster/fill 2>/dev/null; [ "$1" = 0 ] || truncate -s "-${1}M" /var/lib/vcluster/fill' fill "${2:-0}"
}
empty() { lab_exec "$1" rm -f /var/lib/vcluster/fill; }

@test "a full state directory on a host: the job says so, and the next one runs when there is room" {
    small "$HOST"
    fill "$HOST"
    start_job "$RUN_ONCE" -N1 -w "$HOST"
    wait_job "$JOB" 60
    assert_failed "$JOB" "host $HOST: "
    assert_contains "$(job_output "$JOB")" "full"
    empty "$HOST"
    ends_well 60 "$JOB"
    start_job "$RUN_ONCE" -N1 -w "$HOST"
    wait_job "$JOB" 120
    assert_ran_once "$JOB"
    ends_well 30 "$JOB"
}

@test "a full state directory on the controller: the job says so, and the next one runs when there is room" {
    small ctl
    fill ctl
    start_job "$RUN_ONCE" -N1 -w "$HOST"
    wait_job "$JOB" 60
    assert_failed "$JOB" "full"
    empty ctl
    ends_well 60 "$JOB"
    start_job "$RUN_ONCE" -N1 -w "$HOST"
    wait_job "$JOB" 120
    assert_ran_once "$JOB"
    ends_well 30 "$JOB"
}

# an image of $1 MiB that no host has
import_big() {
    as alice sh -ec 'rm -rf big.root; cp -a "$1.root" big.root; head -c "$2M" /dev/urandom >big.root/data
        tar -cf big.tar -C big.root .; vcctl image import big big.tar; rm -rf big.root big.tar' big "$IMAGE" "$1"
}

@test "a full image directory on a host: the job says so, nothing is left of the image, and it comes when there is room" {
    import_big 16
    small "$HOST"
    fill "$HOST" 4
    IMAGE=big start_job "$RUN_ONCE" -N1 -w "$HOST"
    wait_job "$JOB" 60
    assert_failed "$JOB" "host $HOST: fetch image big"
    assert_contains "$(job_output "$JOB")" "No space left on device"
    assert_equal "$(lab_exec "$HOST" find /var/lib/vcluster/images/incoming -mindepth 1)" ""
    empty "$HOST"
    ends_well 60 "$JOB"
    IMAGE=big start_job "$RUN_ONCE" -N1 -w "$HOST"
    wait_job "$JOB" 120
    assert_ran_once "$JOB"
    ends_well 30 "$JOB"
    as alice vcctl image rm big
}

@test "a full image directory on the controller: the import says so and leaves nothing" {
    small ctl
    fill ctl 2
    run as alice sh -c 'vcctl image import full "$1.tar"' sh "$IMAGE"
    [ "$status" -ne 0 ]
    assert_contains "$output" "space"
    assert_equal "$(lab_exec ctl find /var/lib/vcluster/images/builds /var/lib/vcluster/images/incoming -mindepth 1)" ""
    empty ctl
    ends_well 20
}

# ---- clocks ----

# with_clock HOST: vcd there runs by a wall clock that clock sets, seconds off; other clocks are the true ones
with_clock() {
    local asan so=$BATS_TEST_TMPDIR/wallclock.so
    [ -e "$so" ] || gcc -std=gnu11 -D_GNU_SOURCE -O2 -fPIC -shared "$TOP/tests/system/wallclock.c" -o "$so"
    lab_exec "$1" sh -c 'cat >/run/vclab/wallclock.so' <"$so"
    asan=$(lab_exec "$1" sh -c 'ldd /usr/sbin/vcd | sed -n "s/.*=> \(.*libasan[^ ]*\) .*/\1/p"') # comes first or not at all
    clock "$1" +0
    printf 'LD_PRELOAD="%s /run/vclab/wallclock.so"\nWALLCLOCK=/run/vclab/clock\n' "$asan" |
        lab_exec "$1" sh -c 'cat >/run/vclab/vcd.env'
    lab restart "$1" vcd
}
clock() { lab_exec "$1" sh -c 'echo "$1" >/run/vclab/clock.new && mv /run/vclab/clock.new /run/vclab/clock' clock "$2"; }
DAYS=259200 # three

# the last line that vcd on HOST logged carries a date of that many days from now
log_is_days_off() { [ "$(lab log "$1" vcd | tail -n 1 | cut -c1-10)" = "$(date -d "$2 days" +%F)" ]; }

@test "wall clocks jump on the controller and a host during a start and a run: nothing is noticed" {
    RESTORE=yes
    with_clock ctl
    with_clock "$HOST"
    start_job 'echo ran on $(hostname); while [ ! -e /tmp/go ]; do sleep 0.2; done' -N2
    job_phase "$JOB" booting
    clock ctl +$DAYS
    clock "$HOST" -$DAYS
    wait_until 120 "job $JOB to run" job_says "$JOB" "ran on vc$JOB-0"
    log_is_days_off ctl 3
    log_is_days_off "$HOST" -3
    clock ctl -$DAYS
    clock "$HOST" +$DAYS
    as alice vcctl exec "$JOB" 1 -- true
    as alice vcctl exec "$JOB" 0 -- touch /tmp/go
    wait_job "$JOB" 60
    assert_ran_once "$JOB"
    clock ctl +0
    clock "$HOST" +0
    ends_well 30 "$JOB"
}

# ---- upgrade ----

NEXT=/usr/libexec/vcluster/tests/vcd-next # vcd with the next minor of the protocol

# run_vcd HOST PROGRAM: as an upgrade does it, under what runs
run_vcd() {
    lab stop "$1" vcd
    lab_exec "$1" sh -c 'umount /usr/sbin/vcd 2>/dev/null; [ "$1" = /usr/sbin/vcd ] || mount --bind "$1" /usr/sbin/vcd' run_vcd "$2"
    lab start "$1" vcd
}

@test "vcd is upgraded to the next minor of its protocol, host by host and back, while clusters run" {
    local host first
    lab_exec ctl test -x "$NEXT" || skip "the stage has no vcd of another protocol minor"
    RESTORE=yes
    start_job 'echo ran on $(hostname); while [ ! -e /tmp/go ]; do sleep 0.2; done; srun -N2 -n2 hostname' -N2
    wait_until 120 "job $JOB to run" job_says "$JOB" "ran on vc$JOB-0"
    first=$JOB
    for host in "$HOST" ctl; do # both ways of a mixed pair: new host under an old controller, new controller over an old host
        run_vcd "$host" "$NEXT"
        as alice vcctl exec "$first" 1 -- true
        as alice vcctl exec "$first" 0 -- true
        wait_until 30 "the hosts to have each other back, and vcctl check to find nothing" lab_exec ctl vcctl check
    done
    start_job "$RUN_ONCE" -N2
    wait_job "$JOB" 120
    assert_ran_once "$JOB"
    run_vcd n1 "$NEXT"
    run_vcd ctl /usr/sbin/vcd # and back
    as alice vcctl exec "$first" 0 -- touch /tmp/go
    wait_job "$first" 60
    assert_job_completed "$first"
    assert_equal "$(job_output "$first" | tail -n 2 | sort | xargs)" "vc$first-0 vc$first-1"
    ends_well 30 "$JOB" "$first"
}
