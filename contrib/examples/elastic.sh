#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Runs elastic.c in a virtual cluster whose members come and go (libvcluster.so.0 is copied, as images need not have it):
#   cp -L "$(pkg-config --variable=libdir vcluster)/libvcluster.so.0" .
#   sbatch -N2 -n4 --no-kill --vcluster=openmpi --vcluster-stage-in=elastic,libvcluster.so.0 contrib/examples/elastic.sh 500
# A run that a dying member ended is followed by another, which goes on where the journal ends.
items=${1:-100} journal=elastic.journal
IDLE_SECONDS=5

children() { cat "/proc/$1/task/"*/children 2>/dev/null; }

# Open MPI's mpirun waits for ever for its daemon on a host that died, long after all ranks have ended: it is ended here once it
# has had processes and has had none for a while.
run() {
    local pid had=no idle=0
    # the master uses next to no processor: its member's workers run beside it, also where that has one slot
    mpirun -n 1 --oversubscribe --host "$(hostname)" ./elastic "$items" "$journal" &
    pid=$!
    while kill -0 "$pid" 2>/dev/null && [ "$idle" -lt "$IDLE_SECONDS" ]; do
        sleep 1
        if [ -n "$(children "$pid")" ]; then had=yes idle=0; elif [ "$had" = yes ]; then idle=$((idle + 1)); fi
    done
    [ "$idle" -lt "$IDLE_SECONDS" ] || kill -KILL "$pid"
    wait "$pid"
}

for _ in 1 2 3 4 5; do
    run && exit 0
done
echo "elastic: five runs did not finish" >&2
exit 1
