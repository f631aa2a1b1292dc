#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Runs elastic.c in a virtual cluster whose members come and go (libvcluster.so.0 is copied, as images need not have it):
#   cp -L "$(pkg-config --variable=libdir vcluster)/libvcluster.so.0" .
#   sbatch -N2 -n4 --no-kill --vcluster=openmpi --vcluster-stage-in=elastic,libvcluster.so.0 contrib/examples/elastic.sh 500
# A run that found no member to work on for a while (status 75) is followed by another, which goes on where the journal ends.
items=${1:-100} journal=elastic.journal

for _ in 1 2 3 4 5; do
    ./elastic "$items" "$journal"
    status=$?
    [ "$status" = 75 ] || exit "$status"
done
echo "elastic: five runs did not finish" >&2
exit 1
