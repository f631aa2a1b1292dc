#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# Failures while a member moves, at the points of vcd/fault.h: vcd is killed at its source, at its target and on the
# controller; the network between the hosts is cut; a host loses its power. One copy runs afterwards, or none where its
# host died; and nothing is left.
#
# One cluster of two busybox members on two hosts of the run's lab for all tests; the last one ends it. The whole table is
# for --long: the decision's own points stand for it otherwise.

load faults
load moving

MOVING=1 # the member

setup_file() {
    faults_begin
    start_cluster
}
teardown_file() { lab_exec ctl scancel -u alice || true; }

setup() {
    need_fault_points
    JOB=$(cat "$BATS_FILE_TMPDIR/job")
}
teardown() {
    local host
    for host in ctl $(lab_hosts); do lab heal "$host" || true; done
    ! has_fault_points || faults_over
}

start_cluster() {
    submit alice -N2 -c1 --mem=900 --no-kill --no-requeue --vcluster="$IMAGE" --vcluster-mem=256M <<<'#!/bin/sh
while :; do sleep 1; done'
    echo "$JOB" >"$BATS_FILE_TMPDIR/job"
    wait_until 120 "the cluster of job $JOB" cluster_is_ready alice "$JOB"
}

long() { [ -n "${VC_FULL:-}" ] || skip "$1: tests/run --long"; }

other_host() { [ "$1" = n1 ] && echo n2 || echo n1; }
copies() { { domains n1; domains n2; } | tr ' ' '\n' | grep "^$MOVING:" | sort | tr '\n' ' '; }
has_one_copy() { [ "$(copies)" = "$MOVING:running " ]; }
no_move() { as alice vcctl show "$JOB" --json | python3 -c 'import json,sys; sys.exit("moving" in json.load(sys.stdin))'; }
is_at() { lab log "$1" vcd | tail -n 20 | grep -q "fault point $2:"; }

# begin_move [OPTIONS]: to the other host; sets SOURCE, TARGET and MIGRATE
begin_move() {
    SOURCE=$(member_host "$MOVING")
    TARGET=$(other_host "$SOURCE")
    as alice vcctl migrate "$JOB" "$MOVING" --to "$TARGET" --policy pre-copy "$@" >"$BATS_TEST_TMPDIR/said" 2>&1 3>&- &
    MIGRATE=$!
}

# at SOURCE|TARGET|ctl: the host
at() { case $1 in source) member_host "$MOVING" ;; target) other_host "$(member_host "$MOVING")" ;; *) echo "$1" ;; esac; }

# goes_well: one copy, which answers, where the view has it
goes_well() {
    wait_until 60 "one running copy" has_one_copy || return
    wait_until 60 "the end of the move" no_move || return
    wait_until 30 "member $MOVING to answer" answers "$MOVING" || return
    wait_until 30 "a clean site" no_problems || return
    assert_equal "$(domains "$(member_host "$MOVING")" | grep -c "$MOVING:running")" 1
}

# killed WHERE POINT: vcd there kills itself at that point and is started again
killed() {
    local host
    host=$(at "$1")
    echo "# vcd on the $1 dies at $2" >&2
    faults "$host" "$2=crash"
    begin_move
    wait_until 60 "vcd on $host to crash at $2" vcd_is_dead "$host" || return
    faults "$host" ""
    lab start "$host" vcd || return
    wait "$MIGRATE" || true # the controller's repeated call finds the first attempt, or begins a second
    goes_well
}

@test "vcd dies around the decision, at the source, the target and on the controller: one copy runs" {
    killed source move-decided
    member_is_on "$MOVING" "$TARGET"
    killed target move-arrive
    member_is_on "$MOVING" "$TARGET"
    killed ctl move-done
    member_is_on "$MOVING" "$TARGET"
}

@test "vcd dies at each other point of a move: one copy runs" {
    local point
    long "nine restarts of vcd"
    for point in move-ask move-copy move-decide move-told; do killed source "$point"; done
    for point in move-come move-run; do killed target "$point"; done
    killed ctl move-step
}

# hold_move WHERE POINT: a move begins, and vcd there, $HOLDER, is held at that point until let_go
hold_move() {
    HOLDER=$(at "$1")
    faults "$HOLDER" "$2=hold"
    begin_move
    wait_until 60 "vcd on $HOLDER to be at $2" is_at "$HOLDER" "$2"
}
let_go() { faults "$HOLDER" ""; }

# cut_off WHERE POINT SECONDS: the target is cut off while vcd is held at that point
cut_off() {
    echo "# the network is cut while the $1 is at $2" >&2
    hold_move "$1" "$2" || return
    lab cut "$TARGET"
    let_go
    sleep "$3" # the cut's own length, of which nothing tells
    lab heal "$TARGET"
    wait "$MIGRATE" || true
    goes_well
}

@test "the network is cut for a second in each phase of a move: one copy runs" {
    local point
    long "six cuts"
    for point in move-ask move-copy move-decide move-decided; do cut_off source "$point" 1; done
    for point in move-come move-run; do cut_off target "$point" 1; done
}

@test "a second migration of a member that moves is refused, and the first goes on" {
    hold_move source move-ask
    run as alice vcctl migrate "$JOB" "$MOVING" --to "$TARGET"
    let_go
    assert_equal "$status" 1
    assert_contains "$output" "members of job $JOB are moving already"
    wait "$MIGRATE"
    member_is_on "$MOVING" "$TARGET"
    goes_well
}

@test "a target that lacks the image refuses, and the member stays" {
    local images
    SOURCE=$(member_host "$MOVING")
    TARGET=$(other_host "$SOURCE")
    images=/var/lib/vcluster/images
    lab_exec "$TARGET" sh -c 'cd "$1" && for d in ????????????????????????????????????????????????????????????????; do mv "$d" "$d.away"; done' away "$images"
    run as alice vcctl migrate "$JOB" "$MOVING" --to "$TARGET"
    lab_exec "$TARGET" sh -c 'cd "$1" && for d in *.away; do mv "$d" "${d%.away}"; done' back "$images"
    assert_equal "$status" 1
    assert_contains "$output" "stays on host $SOURCE: host $TARGET"
    member_is_on "$MOVING" "$SOURCE"
    goes_well
}

@test "the target loses its power before and after the decision: the member goes on, or is called gone" {
    long "a host is lost and booted"
    hold_move source move-decide
    lab kill "$TARGET"
    let_go
    wait_until 90 "member $MOVING to be called gone" member_is_gone
    assert_equal "$(domains "$SOURCE" | grep -c "$MOVING:" || true)" 0
    lab_exec ctl scancel "$JOB"
    lab boot "$TARGET"
    wait "$MIGRATE" || true
    ends_well 90 "$JOB"
    start_cluster
}
member_is_gone() { as alice vcctl view "$JOB" --json | python3 -c "import json,sys; sys.exit(json.load(sys.stdin)['members'][$MOVING]['state'] != 'gone')"; }

@test "scancel while a move is decided: nothing is left on either host" {
    hold_move source move-decided
    as alice scancel "$JOB"
    let_go
    wait "$MIGRATE" || true
    ends_well 60 "$JOB"
}
