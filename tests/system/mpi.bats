#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# Real MPI programs in a real image: plain `mpirun` of both libraries uses every member, with no option and no host file
# named; `srun --mpi=pmi2` (MPICH) and `srun --mpi=pmix` (Open MPI) start ranks in the members, and they share memory
# exactly where they share a machine; what ends badly leaves no rank; a host is lost; Debian's hpcc runs all its parts.
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
    as alice sh -c 'cat >spawn.c' <"$TOP/tests/mpi/spawn.c"
    as alice sh -c 'cat >pmispawn.c' <"$TOP/tests/mpi/pmispawn.c"
    as alice gcc -O2 -Wall -o mpi/pmispawn pmispawn.c
    for library in mpich openmpi; do
        as alice "mpicc.$library" -O2 -Wall -o "mpi/spawn.$library" spawn.c
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
    as alice rm -rf mpi result libvcluster hello_mpi.c locality.c suite.c spawn.c pmispawn.c elastic.c hpcc.recipe
}

setup() { JOB=$(cat "$BATS_FILE_TMPDIR/job"); }

teardown() { dump_logs; }

# hpcc's own example input with a smaller matrix: all its parts run
run_job() {
    submit alice -N2 -n2 -c2 --mem=1000 --no-kill --no-requeue --vcluster="$IMAGE" --vcluster-vms=2 \
        --vcluster-stage-in=mpi --vcluster-stage-out=result <<'SCRIPT'
#!/bin/bash
mkdir result && echo done >result/state
cd mpi
part() {
    echo "$1:"
    local started=$SECONDS
    timeout "${LIMIT:-180}" "${@:2}"
    echo "$1 ended with $?"
    echo "(after $((SECONDS - started)) s)"
}
# left NAME: looks at all members until no rank is there, nor what started one
left() {
    part "$1-left" srun -n4 -c1 sh -c 'for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        grep -qsE "^(locality|suite|hello|orted|hydra_pmi_proxy)" /proc/[0-9]*/comm || exit 0
        sleep 1
    done; grep -h . /proc/[0-9]*/comm; echo left; exit 1'
}
# ends NAME COMMAND...: a rank that aborts, and one that dies
ends() {
    part "$1-abort" "${@:2}" abort
    part "$1-die" "${@:2}" die
    left "$1"
}
# waits COMMAND...: until its ranks do nothing but wait to be ended
waits() {
    "$@" wait >wait.out 2>&1 &
    until grep -q ^step wait.out; do sleep 0.2; done
}
step_cancelled() {
    waits "$@"
    scancel "$SLURM_JOB_ID.$(sed -n 's/^step //p' wait.out)"
    wait
}
mpirun_ended() {
    waits "$@"
    kill %%
    wait %%
}
export -f waits step_cancelled mpirun_ended
export OMPI_MCA_rmaps_base_oversubscribe=1
pmi2="srun -n8 -c1 --overcommit --mpi=pmi2"
pmix="srun -n8 -c1 --overcommit --mpi=pmix"
part mpich mpirun.mpich ./hello.mpich
for i in 1 2 3; do part finalize$i mpirun.mpich ./locality.mpich >out; tail -n2 out; done
part mpich-suite mpirun.mpich -n 8 ./suite.mpich
ends mpich mpirun.mpich -n 8 ./locality.mpich
part openmpi mpirun.openmpi ./hello.openmpi
part openmpi-suite mpirun.openmpi -n 8 ./suite.openmpi
ends openmpi mpirun.openmpi -n 8 ./locality.openmpi
part pmi2 $pmi2 ./hello.mpich
part locality $pmi2 ./locality.mpich
part cyclic $pmi2 --distribution=cyclic ./locality.mpich
part pmi2-suite $pmi2 ./suite.mpich
ends pmi2 $pmi2 --kill-on-bad-exit ./locality.mpich # as on bare hosts, mpi/pmi2 alone lets the others wait
part pmix $pmix ./hello.openmpi
part pmix-locality $pmix sh -c "./hello.openmpi >hello.out && ./locality.openmpi"
part pmix-cyclic $pmix --distribution=cyclic ./locality.openmpi
part pmix-suite $pmix ./suite.openmpi
part pmix-two sh -c "$pmix --overlap ./hello.openmpi & $pmix --overlap ./hello.openmpi; wait"
ends pmix $pmix ./locality.openmpi
part mpich-kill bash -c "mpirun_ended mpirun.mpich -n 8 ./locality.mpich"
part openmpi-kill bash -c "mpirun_ended mpirun.openmpi -n 8 ./locality.openmpi"
part pmi2-scancel bash -c "step_cancelled $pmi2 ./locality.mpich"
part pmix-scancel bash -c "step_cancelled $pmix ./locality.openmpi"
left cancelled
SLURM_OVERLAP=1 part spawn-pmi1 srun --overlap -N1 -n1 -c1 --mpi=pmi2 ./pmispawn 1
SLURM_OVERLAP=1 part spawn-pmi2 srun --overlap -N1 -n1 -c1 --mpi=pmi2 ./pmispawn 2
part spawn-mpich srun -N1 -n1 -c1 --mpi=pmi2 ./spawn.mpich
part spawn-openmpi srun -N1 -n1 -c1 --mpi=pmix ./spawn.openmpi
part spawn-mpirun mpirun.openmpi -n 1 ./spawn.openmpi
part pmix-user $pmix sh -c 'echo $SLURM_PROCID $PMIX_GDS_MODULE $PMIX_SECURITY_MODE $PMIX_HOSTNAME $(hostname) $(id -u) $(id -g)'
sed -e '/ Ns$/s/^1000/96/' -e '/ NBs$/s/^80/32/' /usr/share/doc/hpcc/examples/_hpccinf.txt >hpccinf.txt
LIMIT=600 part hpcc mpirun.openmpi hpcc
grep -E '^(CommWorldProcs|HPL_N|Success)=' hpccoutf.txt
cp hpccoutf.txt ../result/
LIMIT=500 part elastic ./elastic.sh 150 >elastic.out 2>&1 &
for ((i = 0; i < 600; i++)); do [ "$(cat elastic.journal 2>/dev/null | wc -l)" -lt 10 ] || break; sleep 0.1; done
echo waits for the loss of a host
for ((i = 0; i < 600; i++)); do [ "$(wc -l </run/vcluster/hostfile.plain)" = 4 ] || break; sleep 0.1; done
wait
cat elastic.out
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
    wait_until 800 "the script to wait for it" says "waits for the loss of a host"
    lab cut n2
    lab kill n2
    wait_until 600 "mpirun of the second library after that" said "^openmpi-after ended"
    lab boot n2 >&2
    lab heal n2
    assert_ranks mpich-after 2
    assert_ranks openmpi-after 2
    as alice vcctl view "$JOB" | grep -cw gone | grep -qx 2
}
said() { job_output "$JOB" | grep -q -- "$1"; }

@test "mpirun of MPICH and of Open MPI in the batch script use all members" {
    wait_job "$JOB" 120
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

@test "ring, collectives and one-sided communication of both libraries, by srun and by mpirun" {
    local name
    for name in mpich openmpi pmi2 pmix; do
        assert_equal "$(part_of $name-suite | tr '\n' ';')" "ring ok;large ok;collectives ok;one-sided ok;$name-suite ended with 0;"
    done
}

@test "srun --mpi=pmix: the user's ids, the hash store and the member's name in each task" {
    local rank expected= ids
    ids="$(as alice id -u) $(as alice id -g)"
    for rank in 0 1 2 3 4 5 6 7; do
        expected+="$rank hash native vc$JOB-$((rank / 2)) vc$JOB-$((rank / 2)) $ids;"
    done
    assert_equal "$(part_of pmix-user | grep -v ended | sort | tr '\n' ';')" "$expected"
}

# ended NAME: it ended itself, not by timeout's 124: with Abort's own status, or that of the killed
ended() { [[ $(part_of "$1" | tail -n1) =~ ^"$1 ended with "([1-9]|1[5-9]|137|143|255)$ ]] || { part_of "$1"; return 1; }; }

@test "MPI_Abort of a rank and a rank that dies end all the others: both libraries, by srun and by mpirun" {
    local name
    for name in mpich openmpi pmi2 pmix; do
        ended $name-abort
        ended $name-die
    done
    assert_contains "$(part_of mpich-abort)" "application called MPI_Abort(MPI_COMM_WORLD, 7)"
    assert_contains "$(part_of pmi2-abort)" "application called MPI_Abort(MPI_COMM_WORLD, 7)"
    assert_contains "$(part_of pmix-abort)" "MPI_ABORT was invoked on rank 1"
}

@test "scancel of a step ends it, and a signal to mpirun ends that" {
    [[ $(part_of pmi2-scancel | tail -n1) =~ ^'pmi2-scancel ended with '(0|137|143)$ ]]
    [[ $(part_of pmix-scancel | tail -n1) =~ ^'pmix-scancel ended with '(0|137|143)$ ]]
    ended mpich-kill
    ended openmpi-kill
}

@test "of what was ended so no rank is left in any member, nor a daemon that started it" {
    local name
    for name in mpich openmpi pmi2 pmix cancelled; do
        assert_equal "$(part_of $name-left | grep -v '^srun: ')" "$name-left ended with 0"
    done
}

# pmispawn speaks PMI itself, as Debian's MPICH is built without a spawn: that, and Slurm's PMIx without one, are as on bare hosts
@test "spawn: what Slurm's mpi/pmi2 starts for a rank is in the members; what the libraries refuse on bare hosts they refuse here" {
    local version mpi library bare
    for version in 1 2; do
        assert_equal "$(part_of spawn-pmi$version | sort | tr '\n' ';')" \
            "child 0 of 2 on vc$JOB-0: 17;child 1 of 2 on vc$JOB-2: 17;spawn-pmi$version ended with 0;spawned;"
    done
    for library in mpich openmpi; do
        mpi=pmi2
        [ $library = mpich ] || mpi=pmix
        bare=$(as alice timeout 120 srun -N1 -n1 --mem=100 --mpi=$mpi "mpi/spawn.$library")
        assert_contains "$bare" "refused: MPI"
        assert_equal "$(part_of spawn-$library | tr '\n' ';')" "$bare;spawn-$library ended with 0;"
    done
    assert_contains "$(part_of spawn-mpirun)" "spawned 3"
}

# the host is lost in the midst of the work, with two of the four members: their MPI jobs end, the others' go on
@test "the elastic example: workers are spawned on each member that the view names, no item is lost when a host is" {
    local part
    part=$(part_of elastic)
    echo "$part"
    assert_equal "$(grep -E '^member .*: 1 workers' <<<"$part" | sort | awk '{ print $2 }' | xargs)" \
        "vc$JOB-0: vc$JOB-1: vc$JOB-2: vc$JOB-3:"
    assert_equal "$(grep -cE "^member vc$JOB-[23]: (died|mpirun ended) .*, [01] items are open again" <<<"$part")" 2
    assert_equal "$(grep ': let go$' <<<"$part" | sort | awk '{ print $2 }' | xargs)" "vc$JOB-0: vc$JOB-1:"
    assert_contains "$part" "970704 primes below 15000000"
    assert_equal "$(tail -n1 <<<"$part")" "elastic ended with 0"
}

@test "a directory was staged in to all members, and another out" {
    assert_equal "$(as alice cat result/state)" done
}

@test "hpcc runs on four machines on two hosts" {
    assert_contains "$(part_of hpcc)" "hpcc ended with 0"
    assert_equal "$(job_output "$JOB" | grep -E '^(CommWorldProcs|HPL_N|Success)=' | LC_ALL=C sort | xargs)" \
        "CommWorldProcs=4 HPL_N=96 Success=1"
    assert_contains "$(as alice cat result/hpccoutf.txt)" "End of HPC Challenge"
}

# a lease's host; the lease would end at the deadline, five minutes later, if anything of MPI stayed on its member
@test "the elastic example: workers are spawned on a member that joins; one that leaves is let go before, and nothing of MPI holds it" {
    submit alice -N1 -w n1 -n1 -c1 --mem=700 --no-requeue --vcluster="$IMAGE" --vcluster-size=1-2 --vcluster-stage-in=mpi \
        --wrap 'cd mpi && exec ./elastic.sh 1000000'
    wait_until 180 "the first result" has_results 1
    as alice vcctl resize "$JOB" +1
    wait_until 180 "a worker in the member that joined" as alice vcctl exec "$JOB" 1 -- sh -c 'grep -qsx elastic /proc/[0-9]*/comm'
    assert_contains "$(job_output "$JOB")" "member vc$JOB-1: 1 workers"
    wait_until 120 "ten results" has_results 10
    as alice vcctl resize "$JOB" -1
    wait_until 120 "the member to be let go" says "member vc$JOB-1: let go"
    wait_until 120 "the lease to end" lease_has_ended
    assert_equal "$(as alice vcctl leases "$JOB" --json | python3 -c 'import json,sys; print(json.load(sys.stdin)["leases"][-1]["end"])')" released
    # all items in order but those under way; the first member goes on
    local before
    before=$(journal | wc -l)
    wait_until 120 "one more result" has_results $((before + 1))
    journal | python3 -c 'import sys; items = sorted(int(l.split()[0]) for l in sys.stdin)
assert len(set(items)) == len(items), items
assert items[-1] - len(items) + 1 <= 1, items'
    as alice scancel "$JOB"
    wait_job "$JOB" 120
}
journal() { as alice vcctl exec "$JOB" 0 -- cat mpi/elastic.journal; }
has_results() { [ "$(journal | wc -l)" -ge "$1" ]; }
lease_has_ended() { as alice vcctl leases "$JOB" --json | grep -q '"state": *"ended"'; }

@test "after that nothing is left" {
    assert_clean
}
