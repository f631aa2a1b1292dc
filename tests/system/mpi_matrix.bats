#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# Both MPI libraries, started by srun and by mpirun, on 1 to 4 members per host and 1 to 4 hosts: who shares memory, ring,
# collectives, one-sided communication. In the long variant only, in a lab of four hosts of its own.

load helper

MATRIX_LAB=${VCLAB_OTHER_ID:-$(((VCLAB_ID + 50) % 100))}

setup_file() {
    local program library
    [ -n "${VC_FULL:-}" ] || return 0
    export BATS_TEST_TIMEOUT=900 VCLAB_ID=$MATRIX_LAB
    [ ! -e "/var/tmp/vclab-$VCLAB_ID" ] || lab down
    lab up --hosts 4 --mem 6000 --stage "${BUILD:-$TOP/_build}/stage.tested" 3>&-
    as alice mkdir -p mpi
    for program in locality suite; do
        as alice sh -c "cat >$program.c" <"$TOP/tests/mpi/$program.c"
        for library in mpich openmpi; do as alice "mpicc.$library" -O2 -o "mpi/$program.$library" "$program.c"; done
    done
    as alice sh -c 'cat >hpcc.recipe' <"$TOP/contrib/recipes/hpcc.recipe"
    as alice vcctl image build hpcc.recipe
}

teardown_file() { [ -z "${VC_FULL:-}" ] || VCLAB_ID=$MATRIX_LAB lab down; }

setup() {
    [ -n "${VC_FULL:-}" ] || skip "it takes ten minutes: tests/run --long"
    export VCLAB_ID=$MATRIX_LAB
}

teardown() { dump_logs; }

# matrix HOSTS MEMBERS-PER-HOST: two ranks per member. MPICH's status is not looked at (docs/mpi.md).
matrix() {
    local ranks=$(($1 * $2 * 2)) part
    submit alice -N"$1" --ntasks-per-node="$2" -c1 --mem=$((260 * $2 + 100)) --vcluster=hpcc --vcluster-vms="$2" --vcluster-stage-in=mpi \
        --export=ALL,RANKS="$ranks" <<'SCRIPT'
#!/bin/bash
cd mpi
export OMPI_MCA_rmaps_base_oversubscribe=1
for program in locality suite; do
    for start in "srun --mpi=pmi2 -c1 --overcommit" mpirun.mpich; do
        echo "$program mpich ${start%% *}: $(timeout 60 $start -n $RANKS ./$program.mpich 2>&1 | grep -E ' ?(ok|wrong)$' | xargs)"
    done
    for start in "srun --mpi=pmix -c1 --overcommit" mpirun.openmpi; do
        echo "$program openmpi ${start%% *}: $(timeout 60 $start -n $RANKS ./$program.openmpi 2>&1 | grep -E ' ?(ok|wrong)$' | xargs)"
    done
done
SCRIPT
    wait_job "$JOB" 800
    job_output "$JOB"
    for part in "mpich srun" "mpich mpirun.mpich" "openmpi srun" "openmpi mpirun.openmpi"; do
        job_output "$JOB" | grep -qx "locality $part: ok"
        job_output "$JOB" | grep -qx "suite $part: ring ok large ok collectives ok one-sided ok"
    done
}

@test "one host, one member" { matrix 1 1; }
@test "one host, four members" { matrix 1 4; }
@test "two hosts, one member each" { matrix 2 1; }
@test "two hosts, three members each" { matrix 2 3; }
@test "three hosts, two members each" { matrix 3 2; }
@test "four hosts, one member each" { matrix 4 1; }
@test "four hosts, two members each" { matrix 4 2; }
