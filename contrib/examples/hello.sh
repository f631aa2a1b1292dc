#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# sbatch -N2 --vcluster=mpich --vcluster-vms=2 --vcluster-stage-in=hello_mpi hello.sh
#
# Runs on member 0 of the virtual cluster; mpirun finds the other members by
# itself.
echo "job $SLURM_JOB_ID has $VCLUSTER_SIZE members:"
cat /run/vcluster/hostfile.plain
mpirun ./hello_mpi
