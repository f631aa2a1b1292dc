#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# Both MPI libraries, started by srun and by mpirun, on 1 to 4 members per host and 1 to 4 hosts: who shares memory, ring,
# collectives, one-sided communication. In the long variant only, in a lab of four hosts of its own.

load helper

setup_file() {
    local program library
    [ -n "${VC_FULL:-}" ] || return 0
    export BATS_TEST_TIMEOUT=900
    other_lab_up --hosts 4 --mem 6000
    as alice mkdir -p mpi
    for program in locality suite; do
        as alice sh -c "cat >$program.c" <"$TOP/tests/mpi/$program.c"
        for library in mpich openmpi; do as alice "mpicc.$library" -O2 -o "mpi/$program.$library" "$program.c"; done
    done
    as alice sh -c 'cat >hpcc.recipe' <"$TOP/contrib/recipes/hpcc.recipe"
    as alice vcctl image build hpcc.recipe
}

teardown_file() { [ -z "${VC_FULL:-}" ] || other_lab_down; }

setup() { [ -n "${VC_FULL:-}" ] || skip "sixteen clusters take a quarter of an hour: tests/run --long"; }

teardown() { dump_logs; }

# matrix HOSTS MEMBERS-PER-HOST: two ranks per member
matrix() {
    local ranks=$(($1 * $2 * 2)) library start
    submit alice -N"$1" --ntasks-per-node="$2" -c1 --mem=$((260 * $2 + 100)) --vcluster=hpcc --vcluster-vms="$2" --vcluster-stage-in=mpi \
        --export=ALL,RANKS="$ranks" <<'SCRIPT'
#!/bin/bash
cd mpi
export OMPI_MCA_rmaps_base_oversubscribe=1
# run LIBRARY COMMAND...: "PROGRAM LIBRARY COMMAND: what it said of its parts, and its status"
run() {
    local program status
    for program in locality suite; do
        timeout 120 "${@:2}" -n "$RANKS" "./$program.$1" >out 2>err
        status=$?
        echo "$program $1 $2: $(grep -E '^(.* )?(ok|wrong)$' out | xargs) $status" "$(head -n 3 err)"
    done
}
run mpich srun --mpi=pmi2 -c1 --overcommit
run mpich mpirun.mpich
run openmpi srun --mpi=pmix -c1 --overcommit
run openmpi mpirun.openmpi
echo "in $SECONDS s"
SCRIPT
    wait_job "$JOB" 800
    job_output "$JOB"
    job_output "$JOB" | sed "s/^/# $1 x $2: /" >&3
    for library in mpich openmpi; do
        for start in srun "mpirun.$library"; do
            job_output "$JOB" | grep -q "^locality $library $start: ok 0"
            job_output "$JOB" | grep -q "^suite $library $start: ring ok large ok collectives ok one-sided ok 0"
        done
    done
}

@test "one host, one member" { matrix 1 1; }
@test "one host, two members" { matrix 1 2; }
@test "one host, three members" { matrix 1 3; }
@test "one host, four members" { matrix 1 4; }
@test "two hosts, one member each" { matrix 2 1; }
@test "two hosts, two members each" { matrix 2 2; }
@test "two hosts, three members each" { matrix 2 3; }
@test "two hosts, four members each" { matrix 2 4; }
@test "three hosts, one member each" { matrix 3 1; }
@test "three hosts, two members each" { matrix 3 2; }
@test "three hosts, three members each" { matrix 3 3; }
@test "three hosts, four members each" { matrix 3 4; }
@test "four hosts, one member each" { matrix 4 1; }
@test "four hosts, two members each" { matrix 4 2; }
@test "four hosts, three members each" { matrix 4 3; }
@test "four hosts, four members each" { matrix 4 4; }
