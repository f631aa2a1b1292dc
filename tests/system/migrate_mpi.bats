#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# A running MPI job moves: a ring of four ranks, of which every word is checked, crosses twenty migrations of one of its two
# members, once for each library.

load helper
load moving

IMAGE=hpcc
MOVES=20

setup_file() {
    local library
    [ -n "${VC_FULL:-}" ] || return 0
    require_vcd
    as alice sh -c 'cat >ring.c' <"$TOP/tests/mpi/ring.c"
    as alice sh -c 'cat >hpcc.recipe' <"$TOP/contrib/recipes/hpcc.recipe"
    as alice mkdir -p ring
    for library in mpich openmpi; do as alice "mpicc.$library" -O2 -Wall -o "ring/$library" ring.c; done
    as alice vcctl image build hpcc.recipe
    submit alice -N2 --ntasks-per-node=2 -c1 --mem=1800 --no-requeue --vcluster="$IMAGE" --vcluster-cpus=2 --vcluster-mem=700M --vcluster-stage-in=ring <<<'#!/bin/sh
cd ring
for library in mpich openmpi; do echo "$library begins"; mpirun.$library ./$library /tmp/stop.$library; echo "$library ended with $?"; done'
    echo "$JOB" >"$BATS_FILE_TMPDIR/job"
    wait_until 240 "the cluster of job $JOB" cluster_is_ready alice "$JOB"
}

teardown_file() {
    [ -n "${VC_FULL:-}" ] || return 0
    as alice scancel "$(cat "$BATS_FILE_TMPDIR/job")" || true
    as alice vcctl image rm "$IMAGE" || true
    as alice rm -rf ring ring.c hpcc.recipe
}

setup() { [ ! -e "$BATS_FILE_TMPDIR/job" ] || JOB=$(cat "$BATS_FILE_TMPDIR/job"); }
teardown() { dump_logs; }

says() { job_output "$JOB" | grep -q "$1"; }
# the ranks talk: both members' processes of that name are there
ring_runs() { local rank; for rank in 0 1; do as alice vcctl exec "$JOB" "$rank" -- sh -c 'ls -l /proc/[0-9]*/exe | grep -q "/ring/$1$"' ring "$1" || return; done; }

# moves LIBRARY
ring_moves() {
    local i to
    wait_until 120 "the ring of $1" says "$1 begins" || return
    wait_until 120 "the ranks of $1" ring_runs "$1" || return
    for i in $(seq "$MOVES"); do
        to=$((2 - i % 2)) # n1 first
        as alice vcctl migrate "$JOB" 1 --to "n$to" >/dev/null || return
        answers 1 || return
    done
    as alice vcctl exec "$JOB" 0 -- touch "/tmp/stop.$1"
    wait_until 180 "the last lap of $1" says "$1 ended with 0" || return
    job_output "$JOB" | grep -E "^[0-9]{2,} laps of 4 ranks, 0 wrong$" | wc -l
}

@test "an MPICH ring crosses twenty migrations" {
    [ -n "${VC_FULL:-}" ] || skip "twenty moves of a Debian member take minutes: tests/run --long"
    assert_equal "$(ring_moves mpich)" 1
}

@test "an Open MPI ring crosses twenty migrations" {
    [ -n "${VC_FULL:-}" ] || skip "twenty moves of a Debian member take minutes: tests/run --long"
    assert_equal "$(ring_moves openmpi)" 2
    wait_job "$JOB"
    assert_job_completed "$JOB"
    no_problems
}
