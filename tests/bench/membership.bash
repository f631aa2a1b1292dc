# SPDX-License-Identifier: GPL-2.0-or-later
# About: real vcds against serf: a killed daemon, a host without power, bytes at rest (BENCH_HOSTS=64, 128 or 190)
#
# N vcds on loopback in a network namespace of their own, with libvirt's test hypervisor (a fake: no guests), one cluster of all of
# them; then N agents of Debian's serf with its lan profile. The same program starts both, reads what they say as it comes,
# and counts the bytes of the interface, so that headers are in both. A host without power: its daemon is stopped and what
# is sent to it is dropped. Each pair has another victim; a killed daemon is started again before the next.
#
# Disks are in memory: the machine has one, not one per host, and 190 that wait for their fsync on it would measure that one.
#
# Parts (BENCH_PARTS), each with clusters of its own, so that one can be run at a time:
#   bytes      a minute at rest of vcd and of serf: bytes, processor time
#   kill busy  a daemon killed with the machine otherwise idle; with both cores busy
#   poweroff   vcd and serf
#   ten        ten of 190 (of others: hosts / 19) killed together, until their grace has ended
#   rest busyrest  ten minutes at rest, idle and with both cores busy: failures that were none
#   install    the same while an image of BENCH_MIB (16) goes to all hosts over a loopback of 400 Mbit/s
# At 190 hosts rest and busyrest take 11 minutes each, the others 1 to 6.
# BENCH_HOSTS: how many (190). BENCH_REST: seconds of rest and busyrest (600).

BENCH_PAIRS=11

HOSTS=${BENCH_HOSTS:-190}
MEMBERBENCH=$BUILD/normal/tests/bench/memberbench
ONCE="one long measurement"

bench_main() {
    local part
    [ -x /usr/bin/serf ] || die "install Debian's serf"
    for part in ${BENCH_PARTS:-bytes kill busy poweroff ten rest busyrest install}; do "part_$part"; done
}

part_bytes() {
    measure vcd rest 60
    measure serf rest 60
    bar bytes_at_rest_vs_serf ratio vcd_rest_bytes serf_rest_bytes 1 lower 1.0 - 1 "$ONCE"
    bar vcd_bytes_per_s value vcd_rest_bytes - B/s lower -
    bar serf_bytes_per_s value serf_rest_bytes - B/s lower -
    bar vcd_cpu_us_per_s value vcd_rest_cpu_us - us lower -
    bar serf_cpu_us_per_s value serf_rest_cpu_us - us lower -
}

part_kill() {
    measure vcd kill 1
    bar "kill_to_all_ms_$HOSTS" value vcd_kill_all - ms lower 60
    bar vcd_kill_first_ms value vcd_kill_first - ms lower -
}

part_busy() {
    measure vcd busy 1
    bar "kill_to_all_busy_ms_$HOSTS" value vcd_busy_all - ms lower 200
}

part_poweroff() {
    measure vcd poweroff 1
    measure serf poweroff 1
    bar poweroff_to_all_vs_serf ratio vcd_poweroff_all serf_poweroff_all 1 lower 0.4
    bar disagreement_vs_serf ratio vcd_poweroff_window serf_poweroff_window 1 lower 0.1
    bar vcd_poweroff_all_ms value vcd_poweroff_all - ms lower -
    bar serf_poweroff_all_ms value serf_poweroff_all - ms lower -
    bar vcd_poweroff_window_ms value vcd_poweroff_window - ms lower -
    bar serf_poweroff_window_ms value serf_poweroff_window - ms lower -
}

part_ten() {
    measure vcd ten 1
    bar views_for_10_killed value vcd_views_for_killed - views lower 2 - 1 "one kill of $HOSTS / 19 at once: lost, then gone"
    bar distinct_sizes_seen value vcd_distinct_sizes - sizes lower 3 - 1 "one kill of $HOSTS / 19 at once"
}

part_rest() {
    measure vcd rest "${BENCH_REST:-600}" long
    bar false_failures value vcd_long_false_failures - hosts lower 0 - 1 "$ONCE"
}

part_busyrest() {
    measure vcd busyrest "${BENCH_REST:-600}"
    bar false_failures_busy value vcd_busyrest_false_failures - hosts lower 0 - 1 "$ONCE"
}

part_install() {
    measure vcd install "${BENCH_MIB:-16}"
    bar false_failures_install value vcd_install_false_failures - hosts lower 0 - 1 "$ONCE"
    bar install_s value vcd_install_s - s lower -
    bar install_mbit value vcd_install_mbit - Mbit/s higher -
}

# measure WHAT PART SECONDS [NAME]: rows WHAT_PART_...; NAME in place of PART
measure() {
    local name value
    local -A pair=()
    say "$2: $1, $HOSTS of them"
    unshare -n -m sh -c 'mount -t tmpfs -o mode=1777 tmpfs /tmp && ip link set lo up && exec "$@"' sh "$MEMBERBENCH" "$1" "$2" "$HOSTS" "$3" "$PAIRS" \
        >"$WORK/out" 2>"$WORK/err" || die "memberbench $1 $2 $HOSTS failed; it said: $(tail -n 3 "$WORK/out" "$WORK/err" | xargs)"
    while read -r name value; do
        [ $# -lt 4 ] || name=$4${name#"$2"}
        pair[$name]=$((${pair[$name]:-0} + 1))
        row "$1_$name" "${pair[$name]}" "$value" "$(unit_of "$name")"
    done <"$WORK/out"
}

unit_of() {
    case $1 in
        *_bytes) echo B/s ;;
        *_cpu_us) echo us ;;
        *_failures|killed_together) echo hosts ;;
        *_s) echo s ;;
        *_mbit) echo Mbit/s ;;
        distinct_sizes) echo sizes ;;
        views_*) echo views ;;
        *) echo ms ;;
    esac
}
