# SPDX-License-Identifier: GPL-2.0-or-later
# About: four members leave a host, against virsh moving the same machines one by one
#
# `vcctl evacuate n1` against four `virsh migrate --live` in turn, with the same bandwidth for each machine and pre-copy on both
# sides (moving.bash says what virsh is spared). Two hosts with two members each; those of n2 are brought to n1 first, and
# go back when all is over, neither part of any measurement.

BENCH_PAIRS=11

. "$BENCH_DIR/moving.bash"

bench_main() {
    moving_lab 2 256M -n4 --ntasks-per-node=2 --mem=2400
    agent_start root_ctl 0 ctl
    gather
    interleave ours theirs
    bar evacuate_ratio ratio ours virsh 1 lower 0.8
    bar evacuate_stopped_ratio ratio ours_stopped virsh_stopped 1 lower -
}

gather() { agent_ask user "vcctl migrate $JOB 0 1 2 3 --to n1 >/dev/null 2>&1; [ \"\$(vcctl view $JOB --json | jq -r '[.members[].host] | unique[]')\" = n1 ]"; }

ours() {
    local rank stopped=0
    events_begin
    agent_ask root_ctl "vcctl evacuate n1 --policy pre-copy --bandwidth $RATE_MIB"
    row ours "$1" "$(ms "$MICROSECONDS")" ms
    for rank in 0 1 2 3; do stopped=$((stopped + $(stopped_ms "$rank" n1 n2))); done
    row ours_stopped "$1" "$stopped" ms
    gather
}

theirs() {
    local rank total=0 stopped=0
    vcds stop
    for rank in 0 1 2 3; do files "$rank" n1 n2; done
    events_begin
    for rank in 0 1 2 3; do
        virsh_move "$rank" n1 n2
        total=$((total + MICROSECONDS))
    done
    for rank in 0 1 2 3; do stopped=$((stopped + $(stopped_ms "$rank" n1 n2))); done
    row virsh "$1" "$(ms "$total")" ms
    row virsh_stopped "$1" "$stopped" ms
    for rank in 0 1 2 3; do
        files "$rank" n2 n1
        virsh_move "$rank" n2 n1
        away "$rank" n2
    done
    vcds start
    wait_until 60 "the cluster after virsh" all_answer
}
all_answer() { local rank; for rank in 0 1 2 3; do in_lab ctl --user alice timeout 5 vcctl exec "$JOB" "$rank" -- true || return; done; }
