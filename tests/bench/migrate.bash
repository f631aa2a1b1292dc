# SPDX-License-Identifier: GPL-2.0-or-later
# About: one member moves to the other host and back, against virsh migrate --live of the same machine
#
# bars      idle, and dirtying its memory: total time (the whole command) and how long the machine was stopped, there and back
#           together, with the same bandwidth and pre-copy on both sides (moving.bash says what virsh is spared). Bytes of the
#           disk against what the overlay holds. The pages that the member wrote meanwhile, per second: stated.
# policies  how long it was stopped for each policy at each dirty rate: tests/bench/migrate-plot draws that. Stated.

BENCH_PAIRS=11
MEMBER=1
MEMORY=${BENCH_MEMORY:-512M}
WORKING_SET=128                      # MiB that are dirtied
RATES=${BENCH_RATES:-0 10}           # MiB a second, of the bars
POLICY_RATES=${BENCH_POLICY_RATES:-0 5 10 20 40 80}
POLICIES=${BENCH_POLICIES:-pre-copy auto-converge compress multifd auto}

. "$BENCH_DIR/moving.bash"

bench_main() {
    local part
    moving_lab 1 "$MEMORY" -c1 --mem=1400
    for part in ${BENCH_PARTS:-bars policies}; do "part_$part"; done
}

part_bars() {
    local rate name
    for rate in $RATES; do
        load "$MEMBER" "$WORKING_SET" "$rate"
        LOAD=$rate
        interleave ours theirs
    done
    for rate in $RATES; do
        name=$([ "$rate" = 0 ] && echo migrate || echo "migrate_dirty$rate")
        bar "${name}_total_ratio" ratio "ours_total_$rate" "virsh_total_$rate" 1 lower 1.10
        bar "${name}_downtime_ratio" ratio "ours_stopped_$rate" "virsh_stopped_$rate" 1 lower 1.10
    done
    bar disk_bytes_ratio ratio "disk_sent_${RATES%% *}" "disk_held_${RATES%% *}" 1 lower 1.1
}

# there and back: the sums
ours() {
    local from to total=0 stopped=0 sent=0 held=0
    while read -r from to; do
        agent_ask "host_$from" "stat -c %b /var/lib/vcluster/overlays/$SHORT_ID/$MEMBER.qcow2"
        held=$((held + OUTPUT * 512))
        events_begin
        agent_ask user "vcctl migrate $JOB $MEMBER --to $to --policy pre-copy --bandwidth $RATE_MIB --json 2>/dev/null | jq .moves[0].numbers.disk_bytes"
        total=$((total + MICROSECONDS)) sent=$((sent + OUTPUT))
        stopped=$((stopped + $(stopped_ms "$MEMBER" "$from" "$to")))
    done <<<$'n2 n1\nn1 n2'
    row "ours_total_$LOAD" "$1" "$(ms "$total")" ms
    row "ours_stopped_$LOAD" "$1" "$stopped" ms
    row "disk_sent_$LOAD" "$1" "$sent" B
    row "disk_held_$LOAD" "$1" "$held" B
}

theirs() {
    local from to total=0 stopped=0
    vcds stop
    while read -r from to; do
        files "$MEMBER" "$from" "$to"
        events_begin
        virsh_move "$MEMBER" "$from" "$to"
        total=$((total + MICROSECONDS))
        stopped=$((stopped + $(stopped_ms "$MEMBER" "$from" "$to")))
    done <<<$'n2 n1\nn1 n2'
    away "$MEMBER" n1
    vcds start
    wait_until 60 "the cluster after virsh" member_answers
    row "virsh_total_$LOAD" "$1" "$(ms "$total")" ms
    row "virsh_stopped_$LOAD" "$1" "$stopped" ms
}
member_answers() { in_lab ctl --user alice timeout 5 vcctl exec "$JOB" "$MEMBER" -- true; }

part_policies() {
    local rate policy to pair
    to=n1
    for rate in $POLICY_RATES; do
        load "$MEMBER" "$WORKING_SET" "$rate"
        for ((pair = 1; pair <= (PAIRS < 3 ? PAIRS : 3); pair++)); do
            for policy in $POLICIES; do
                one_policy "$policy" "$rate" "$pair" "$to"
                to=$(other_host "$to")
            done
        done
    done
    for policy in $POLICIES; do bar "stopped_${policy}_ms" value "stopped:$policy:${POLICY_RATES##* }" - ms lower -; done
}

# one_policy POLICY RATE PAIR TO
one_policy() {
    local total wrote
    events_begin
    wrote=$(pages "$2")
    agent_ask user "vcctl migrate $JOB $MEMBER --to $4 --policy $1 --bandwidth $RATE_MIB --json 2>/dev/null | jq .moves[0].numbers.memory_bytes"
    total=$MICROSECONDS
    row "stopped:$1:$2" "$3" "$(stopped_ms "$MEMBER" "$(other_host "$4")" "$4")" ms
    row "total:$1:$2" "$3" "$(ms "$total")" ms
    row "sent:$1:$2" "$3" "$OUTPUT" B
    [ "$2" = 0 ] || row "wrote:$1:$2" "$3" "$(mib_per_s $((($(pages "$2") - wrote) * 4096)) "$total")" MiB/s
}
pages() { [ "$1" = 0 ] || in_lab ctl --user alice vcctl exec "$JOB" "$MEMBER" -- od -An -t u8 /tmp/pages | tr -d ' '; }
