#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# Plain `mpirun` of both MPI libraries in a batch script: it uses every member, with no option and no host file named.
#
# One image of Debian with both (contrib/recipes/hpcc.recipe: a user builds it), one cluster of four machines on two
# hosts whose batch script runs contrib/examples/hello_mpi.c, compiled once per library.

load helper

IMAGE=hpcc

setup_file() {
    local library
    require_vcd
    for library in mpich openmpi; do
        as alice sh -c 'cat >hello_mpi.c' <"$TOP/contrib/examples/hello_mpi.c"
        as alice "mpicc.$library" -O2 -Wall -o "hello.$library" hello_mpi.c
    done
    as alice sh -c 'cat >hpcc.recipe' <"$TOP/contrib/recipes/hpcc.recipe"
    as alice vcctl image build hpcc.recipe
}

teardown_file() {
    as alice vcctl image rm "$IMAGE" || true
    as alice rm -f hello_mpi.c hello.mpich hello.openmpi hpcc.recipe
}

teardown() {
    [ -z "${JOB:-}" ] || lab_exec ctl scancel "$JOB" || true
    dump_logs
}

# the ranks that LIBRARY's program printed: four, on four members, in order
assert_ranks() {
    local rank expected=
    for rank in 0 1 2 3; do expected+="rank $rank of 4 on vc$JOB-$rank;"; done
    assert_equal "$(job_output "$JOB" | sed -n "/^$1:/,/^$1 ended/p" | grep '^rank' | tr '\n' ';')" "$expected"
    job_output "$JOB" | grep -qx "$1 ended with 0"
}

@test "mpirun of MPICH and of Open MPI in the batch script use all members" {
    submit alice -N2 -n2 -c2 --mem=1000 --vcluster="$IMAGE" --vcluster-vms=2 --vcluster-stage-in=hello.mpich,hello.openmpi <<'SCRIPT'
#!/bin/bash
for library in mpich openmpi; do
    echo "$library:"
    timeout 120 mpirun.$library ./hello.$library
    echo "$library ended with $?"
done
SCRIPT
    wait_job "$JOB" 280
    job_output "$JOB"
    assert_job_completed "$JOB"
    assert_ranks mpich
    assert_ranks openmpi
}

@test "after that nothing is left" {
    assert_clean
}
