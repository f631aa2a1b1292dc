# SPDX-License-Identifier: GPL-2.0-or-later
# About: 8 ranks of an MPI hello on 4 members: srun against the library's own mpirun, in the same guests
#
# One cluster of 4 machines on 2 hosts, of an image with both libraries. A shell in member 0, as a batch script's would be, starts
# contrib/examples/hello_mpi.c with `srun --mpi=pmi2` and `mpirun` (MPICH), and with `srun --mpi=pmix` and `mpirun` (Open MPI): the
# time is that of the whole command. Beside it, stated, the same on two bare hosts of the lab, where the shell runs on the login
# host and mpirun finds its hosts in the allocation; MPICH's MPI_Finalize would hang there now and then without vcmpich.so (docs/mpi.md).

BENCH_PAIRS=11
LAB_N=0
MPI_LIBRARIES="mpich openmpi"

bench_main() {
    local job
    STAGE=$BUILD/stage
    lab_up 0 --hosts 4 --cpus 8
    agent_start user 0 ctl --user alice
    mpi_programs
    agent_ask user 'vcctl image build hpcc.recipe'
    agent_start job 0 ctl --user alice -- salloc -Q -w n1,n2 -N2 -n2 -c2 --mem=1200 --vcluster=hpcc --vcluster-vms=2
    agent_start bare 0 ctl --user alice -- salloc -Q -w n3,n4 -N2 -n8
    agent_ask job 'echo "$SLURM_JOB_ID"'
    job=$OUTPUT
    agent_ask user "vcctl cp hello.mpich hello.openmpi $job:all:"
    agent_start guest 0 ctl --user alice -- vcctl exec "$job" 0 --
    for part in ${BENCH_PARTS:-pmi2 pmix}; do "part_$part"; done
}

mpi_programs() {
    local library
    lab 0 exec ctl --user alice sh -c 'cat >hello_mpi.c' <"$TOP/contrib/examples/hello_mpi.c"
    lab 0 exec ctl --user alice sh -c 'cat >hpcc.recipe' <"$TOP/contrib/recipes/hpcc.recipe"
    lab 0 exec ctl --user alice sh -c 'cat >vcmpich.so' <"$BUILD/normal/guest/vcmpich.so"
    for library in $MPI_LIBRARIES; do agent_ask user "mpicc.$library -O2 -o hello.$library hello_mpi.c"; done
}

# hello AGENT SERIES PAIR COMMAND...: pair 0, of a series without a bar, is the first run, which reads the program and the
# library from the disk. A run on bare hosts that fails (one of eight with PMIx, at a high load) is said, and not counted.
hello() {
    agent_ask "$1" "${*:4} 2>/dev/null | grep -c '^rank [0-7] of 8 on ' || true"
    if [ "$OUTPUT" != 8 ]; then
        [ "$1" = bare ] || die "$2: $OUTPUT of 8 ranks said hello"
        say "pair $3: $2: $OUTPUT of 8 ranks said hello: not counted"
    elif [ "$3" -gt 0 ]; then
        row "$2" "$3" "$(ms "$MICROSECONDS")" ms
    fi
}

guest_pmi2() { hello guest srun_pmi2 "$1" srun -n8 -c1 --overcommit --mpi=pmi2 ./hello.mpich; }
guest_mpich() { hello guest mpirun_mpich "$1" mpirun.mpich -n 8 ./hello.mpich; }
guest_pmix() { hello guest srun_pmix "$1" srun -n8 -c1 --overcommit --mpi=pmix ./hello.openmpi; }
guest_openmpi() { hello guest mpirun_openmpi "$1" mpirun.openmpi -n 8 --oversubscribe ./hello.openmpi; }
bare_pmi2() { hello bare bare_srun_pmi2 "$1" 'LD_PRELOAD=$PWD/vcmpich.so' srun -n8 --mpi=pmi2 ./hello.mpich; }
bare_mpich() { hello bare bare_mpirun_mpich "$1" 'LD_PRELOAD=$PWD/vcmpich.so' mpirun.mpich -n 8 ./hello.mpich; }
bare_pmix() { hello bare bare_srun_pmix "$1" srun -n8 --mpi=pmix ./hello.openmpi; }
bare_openmpi() { hello bare bare_mpirun_openmpi "$1" mpirun.openmpi -n 8 ./hello.openmpi; }

# part NAME LIBRARY
part() {
    "guest_$1" 0; "guest_$2" 0; "bare_$1" 0; "bare_$2" 0
    interleave "guest_$1" "guest_$2"
    interleave "bare_$1" "bare_$2"
    bar "$1_vs_guest_mpirun" ratio "srun_$1" "mpirun_$2" 1 lower 1.5
    bar "$1_vs_mpirun_bare" ratio "bare_srun_$1" "bare_mpirun_$2" 1 lower -
}

part_pmi2() { part pmi2 mpich; }
part_pmix() { part pmix openmpi; }
