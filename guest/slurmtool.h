// SPDX-License-Identifier: GPL-2.0-or-later
// srun, scancel, squeue, scontrol in a guest: clients whose request the host's vcd turns into the real command.
#ifndef GUEST_SLURMTOOL_H
#define GUEST_SLURMTOOL_H

int slurmtool_main(int argc, char **argv);

#endif
