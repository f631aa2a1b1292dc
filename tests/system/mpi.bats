#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# Real MPI programs in a real image: plain `mpirun` of both libraries uses every member, with no option and no host file
# named; `srun --mpi=pmi2` (MPICH) and `srun --mpi=pmix` (Open MPI) start ranks in the members, and they share memory
# exactly where they share a machine; Debian's hpcc runs all its parts on four machines.
#
# One image of Debian with both libraries (contrib/recipes/hpcc.recipe: a user builds it), and one cluster of four machines
# on two hosts, whose batch script does it all; each test looks at its part of the output.

load helper

IMAGE=hpcc

setup_file() {
    local library
    require_vcd
    as alice mkdir -p mpi
    as alice sh -c 'cat >hello_mpi.c' <"$TOP/contrib/examples/hello_mpi.c"
    as alice sh -c 'cat >locality.c' <"$TOP/tests/mpi/locality.c"
    as alice sh -c 'cat >suite.c' <"$TOP/tests/mpi/suite.c"
    for library in mpich openmpi; do
        as alice "mpicc.$library" -O2 -Wall -o "mpi/hello.$library" hello_mpi.c
        as alice "mpicc.$library" -O2 -Wall -o "mpi/locality.$library" locality.c
        as alice "mpicc.$library" -O2 -Wall -o "mpi/suite.$library" suite.c
    done
    as alice sh -c 'cat >elastic.c' <"$TOP/contrib/examples/elastic.c"
    as alice sh -c 'cat >mpi/elastic.sh; chmod +x mpi/elastic.sh' <"$TOP/contrib/examples/elastic.sh"
    # with the library's source: the lab's own library may need a sanitizer's, which the image has not
    tar -C "$TOP" -c libvcluster | as alice tar -x
    as alice mpicc.openmpi -O2 -Wall -Ilibvcluster -I. -D_GNU_SOURCE -o mpi/elastic elastic.c libvcluster/vcluster.c
    as alice sh -c 'cat >hpcc.recipe' <"$TOP/contrib/recipes/hpcc.recipe"
    as alice vcctl image build hpcc.recipe
    run_job >"$BATS_FILE_TMPDIR/job"
}

teardown_file() {
    as alice vcctl image rm "$IMAGE" || true
    as alice rm -rf mpi result libvcluster hello_mpi.c locality.c suite.c elastic.c hpcc.recipe
}

setup() { JOB=$(cat "$BATS_FILE_TMPDIR/job"); }

teardown() { dump_logs; }

# hpcc's own example input with a smaller matrix: all its parts run
run_job() {
    submit alice -N2 -n2 -c2 --mem=1000 --no-kill --no-requeue --vcluster="$IMAGE" --vcluster-vms=2 \
        --export=ALL,VC_FULL="${VC_FULL:-}" --vcluster-stage-in=mpi --vcluster-stage-out=result <<'SCRIPT'
#!/bin/bash
mkdir result && echo done >result/state
cd mpi
part() {
    echo "$1:"
    timeout "${LIMIT:-180}" "${@:2}"
    echo "$1 ended with $?"
}
part mpich mpirun.mpich ./hello.mpich
for i in 1 2 3; do part finalize$i mpirun.mpich ./locality.mpich >out; tail -n1 out; done
part openmpi mpirun.openmpi ./hello.openmpi
part pmi2 srun -n8 -c1 --overcommit --mpi=pmi2 ./hello.mpich
part locality srun -n8 -c1 --overcommit --mpi=pmi2 ./locality.mpich
part cyclic srun -n8 -c1 --overcommit --distribution=cyclic --mpi=pmi2 ./locality.mpich
part pmi2-abort srun -n8 -c1 --overcommit --mpi=pmi2 ./locality.mpich abort
pmix="srun -n8 -c1 --overcommit --mpi=pmix"
part pmix $pmix ./hello.openmpi
part pmix-locality $pmix sh -c "./hello.openmpi >hello.out && ./locality.openmpi"
part pmix-cyclic $pmix --distribution=cyclic ./locality.openmpi
part pmix-suite srun -n4 -c1 --mpi=pmix ./suite.openmpi
part pmix-two sh -c "$pmix --overlap ./hello.openmpi & $pmix --overlap ./hello.openmpi; wait"
part pmix-abort $pmix ./locality.openmpi abort
part pmix-die $pmix ./locality.openmpi die
part pmix-scancel sh -c "$pmix ./locality.openmpi wait >wait.out 2>&1 &
    until grep -q ^step wait.out; do sleep 0.2; done
    scancel $SLURM_JOB_ID.\$(sed -n 's/^step //p' wait.out)
    wait"
part pmix-user $pmix sh -c 'echo $SLURM_PROCID $PMIX_GDS_MODULE $PMIX_SECURITY_MODE $PMIX_HOSTNAME $(hostname) $(id -u) $(id -g)'
export OMPI_MCA_rmaps_base_oversubscribe=1
part elastic sh -c './elastic.sh 200 &
    until [ "$(grep -c . elastic.journal)" -ge 5 ]; do sleep 0.2; done 2>/dev/null
    vcrsh "vc$SLURM_JOB_ID-3" "for p in /proc/[0-9]*; do read c <\$p/comm && case \$c in orted|elastic) kill -9 \${p#/proc/};; esac; done" 2>/dev/null
    wait'
part left srun -n4 -c1 sh -c 'for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    grep -qsE "^(locality|suite|hello)" /proc/[0-9]*/comm || exit 0
    sleep 1
done; echo left; exit 1'
if [ -n "$VC_FULL" ]; then
    sed -e '/ Ns$/s/^1000/96/' -e '/ NBs$/s/^80/32/' /usr/share/doc/hpcc/examples/_hpccinf.txt >hpccinf.txt
    LIMIT=1200 part hpcc mpirun.openmpi hpcc
    grep -E '^(CommWorldProcs|HPL_N|Success)=' hpccoutf.txt
    cp hpccoutf.txt ../result/
fi
echo waits for the loss of a host
for ((i = 0; i < 600; i++)); do [ "$(wc -l </run/vcluster/hostfile.plain)" = 4 ] || break; sleep 0.1; done
part mpich-after mpirun.mpich ./hello.mpich
part openmpi-after mpirun.openmpi ./hello.openmpi
SCRIPT
    echo "$JOB"
}

# the lines of one part of the output, and "NAME ended with STATUS"
part_of() { job_output "$JOB" | sed -n "/^$1:/,/^$1 ended/p" | sed 1d; }

# assert_ranks PART [N]: the ranks that the program printed: four or N, on as many members, in order
assert_ranks() {
    local rank expected= n=${2:-4}
    for ((rank = 0; rank < n; rank++)); do expected+="rank $rank of $n on vc$JOB-$rank;"; done
    assert_equal "$(part_of "$1" | tr '\n' ';')" "$expected$1 ended with 0;"
}

says() { job_output "$JOB" | grep -qx -- "$1"; }

# the other tests look at what was printed before that
@test "a host is lost between two mpiruns: MPICH and Open MPI go on with the members that are left" {
    wait_until 1500 "the script to wait for it" says "waits for the loss of a host"
    lab cut n2
    lab kill n2
    wait_until 120 "mpirun of the second library after that" said "^openmpi-after ended"
    lab boot n2 >&2
    lab heal n2
    assert_ranks mpich-after 2
    assert_ranks openmpi-after 2
    as alice vcctl view "$JOB" | grep -cw gone | grep -qx 2
}
said() { job_output "$JOB" | grep -q -- "$1"; }

@test "mpirun of MPICH and of Open MPI in the batch script use all members" {
    wait_job "$JOB" 1500
    job_output "$JOB"
    assert_job_completed "$JOB"
    assert_ranks mpich
    assert_ranks openmpi
}

# Without vcmpich.so every second or third of these hung here.
@test "MPI_Finalize of MPICH ends also where one machine is later than another" {
    assert_contains "$(job_output "$JOB")" "finalize1 ended with 0"
    assert_contains "$(job_output "$JOB")" "finalize2 ended with 0"
    assert_contains "$(job_output "$JOB")" "finalize3 ended with 0"
}

# locality.c itself compares the communicator with the machines' names, and the shared window.
@test "srun --mpi=pmi2: ranks share memory exactly where they share a machine" {
    local rank expected=
    for rank in 0 1 2 3 4 5 6 7; do expected+="rank $rank of 8 on vc$JOB-$((rank / 2));"; done
    assert_equal "$(part_of pmi2 | tr '\n' ';')" "${expected}pmi2 ended with 0;"
    expected=
    for rank in 0 1 2 3 4 5 6 7; do
        expected+="rank $rank of 8 on vc$JOB-$((rank / 2)) shares memory with $((rank / 2 * 2)) $((rank / 2 * 2 + 1));"
    done
    assert_equal "$(part_of locality | tr '\n' ';')" "${expected}ok;locality ended with 0;"
}

@test "srun --mpi=pmi2 with a cyclic distribution: the same, with the ranks dealt in turn" {
    assert_contains "$(part_of cyclic)" "rank 0 of 8 on vc$JOB-0 shares memory with 0 2"
    assert_contains "$(part_of cyclic)" "rank 7 of 8 on vc$JOB-3 shares memory with 5 7"
    part_of cyclic | grep -qx ok
    assert_equal "$(part_of cyclic | tail -n1)" "cyclic ended with 0"
}

# the ranks of "rank N of 8 ..." in the members, two by two, and for locality whom they share memory with
assert_pairs() {
    local rank expected= with=
    for rank in 0 1 2 3 4 5 6 7; do
        [ -z "${2:-}" ] || with=" shares memory with $((rank / 2 * 2)) $((rank / 2 * 2 + 1))"
        expected+="rank $rank of 8 on vc$JOB-$((rank / 2))$with;"
    done
    assert_equal "$(part_of "$1" | grep -E '^(rank|ok|wrong)' | tr '\n' ';')" "$expected${2:+ok;}"
}

@test "srun --mpi=pmix: an Open MPI program's ranks are in the members, two steps at once" {
    assert_pairs pmix
    part_of pmix | grep -qx "pmix ended with 0"
    assert_equal "$(part_of pmix-two | sort | uniq -c | awk '$2 == "rank" { print $1 $3 }' | xargs)" "20 21 22 23 24 25 26 27"
    part_of pmix-two | grep -qx "pmix-two ended with 0"
}

# there each task has run another MPI program before
@test "srun --mpi=pmix: ranks share memory exactly where they share a machine, in blocks and in turn" {
    assert_pairs pmix-locality ok
    part_of pmix-locality | grep -qx "pmix-locality ended with 0"
    assert_contains "$(part_of pmix-cyclic)" "rank 0 of 8 on vc$JOB-0 shares memory with 0 2"
    assert_contains "$(part_of pmix-cyclic)" "rank 7 of 8 on vc$JOB-3 shares memory with 5 7"
    part_of pmix-cyclic | grep -qx ok
}

@test "srun --mpi=pmix: ring, collectives and one-sided communication between members" {
    assert_equal "$(part_of pmix-suite | tr '\n' ';')" "ring ok;large ok;collectives ok;one-sided ok;pmix-suite ended with 0;"
}

@test "srun --mpi=pmix: the user's ids, the hash store and the member's name in each task" {
    local rank expected= ids
    ids="$(as alice id -u) $(as alice id -g)"
    for rank in 0 1 2 3 4 5 6 7; do
        expected+="$rank hash native vc$JOB-$((rank / 2)) vc$JOB-$((rank / 2)) $ids;"
    done
    assert_equal "$(part_of pmix-user | grep -v ended | sort | tr '\n' ';')" "$expected"
}

@test "srun --mpi=pmix: MPI_Abort, a rank that dies and scancel end the step" {
    assert_contains "$(part_of pmix-abort)" "MPI_ABORT was invoked on rank 1"
    [[ $(part_of pmix-abort | tail -n1) =~ ^'pmix-abort ended with '(7|137|143)$ ]]
    [[ $(part_of pmix-die | tail -n1) =~ ^'pmix-die ended with '(137|143|9)$ ]]
    [[ $(part_of pmix-scancel | tail -n1) =~ ^'pmix-scancel ended with '(0|137|143)$ ]]
}

@test "srun --mpi=pmi2: MPI_Abort of one rank ends all of them" {
    assert_contains "$(part_of pmi2-abort)" "application called MPI_Abort(MPI_COMM_WORLD, 7)"
    [[ $(part_of pmi2-abort | tail -n1) =~ ^'pmi2-abort ended with '(7|137)$ ]] # Abort's own, or that of the killed
}

@test "of steps that were ended no rank is left in any member" {
    assert_equal "$(part_of left | grep -v '^srun: ')" "left ended with 0"
}

# all that is of MPI on one member dies in the midst of the work
@test "the elastic example: workers are spawned on each member that the view names, no item is lost when a member's die" {
    local part rank
    part=$(part_of elastic)
    for rank in 0 1 2 3; do assert_equal "$(grep -cx "member vc$JOB-$rank: 1 workers" <<<"$part")" 2; done
    [[ $part =~ ([0-9]+)" of 200 items were done before" ]]
    [ "${BASH_REMATCH[1]}" -lt 200 ]
    assert_contains "$part" "1270607 primes below 20000000"
    assert_equal "$(tail -n1 <<<"$part")" "elastic ended with 0"
}

@test "a directory was staged in to all members, and another out" {
    assert_equal "$(as alice cat result/state)" done
}

@test "hpcc runs on four machines on two hosts" {
    [ -n "${VC_FULL:-}" ] || skip "four emulated machines that spin on two processors take minutes: tests/run --long"
    assert_contains "$(part_of hpcc)" "hpcc ended with 0"
    assert_equal "$(job_output "$JOB" | grep -E '^(CommWorldProcs|HPL_N|Success)=' | LC_ALL=C sort | xargs)" \
        "CommWorldProcs=4 HPL_N=96 Success=1"
    assert_contains "$(as alice cat result/hpccoutf.txt)" "End of HPC Challenge"
}

@test "after that nothing is left" {
    assert_clean
}
