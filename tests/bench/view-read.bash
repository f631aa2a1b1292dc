# SPDX-License-Identifier: GPL-2.0-or-later
# About: what a program pays to look at its view
#
# libvcluster on a view of 190 members: the check of the epoch with one member by rank, and the copy of all members. On this
# machine, as a guest's processor would do it; no system call is in it (that is what makes 50 ns possible).

BENCH_PAIRS=22

bench_main() {
    local pair
    for ((pair = 1; pair <= PAIRS; pair++)); do
        "$BUILD/normal/tests/bench/viewread" "$WORK/view" >"$WORK/out" || die "viewread failed"
        while read -r name value; do row "$name" "$pair" "$value" ns; done <"$WORK/out"
    done
    bar view_read_ns value read - ns lower 50
    bar view_copy_ns value copy - ns lower -
}
