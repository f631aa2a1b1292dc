# SPDX-License-Identifier: GPL-2.0-or-later
# About: real vcds against serf: a killed daemon, a host without power, bytes at rest (BENCH_HOSTS=190)
#
# N vcds on loopback in a network namespace of their own, with libvirt's test hypervisor (a fake: no guests), one cluster of all of
# them; then N agents of Debian's serf with its lan profile. The same program starts both, reads what they say as it comes,
# and counts the bytes of the interface, so that headers are in both. A host without power: its daemon is stopped and what
# is sent to it is dropped. Each pair has another victim; a killed daemon is started again before the next.
#
# BENCH_HOSTS: how many (190). BENCH_REST: seconds at rest (600).

BENCH_PAIRS=11

bench_main() {
    local hosts=${BENCH_HOSTS:-190} rest=${BENCH_REST:-600}
    [ -x /usr/bin/serf ] || die "install Debian's serf"
    measure vcd "$hosts" "$rest"
    measure serf "$hosts" "$((rest < 60 ? rest : 60))"
    bar "kill_to_all_ms_$hosts" value vcd_kill_all - ms lower 60
    bar "kill_to_all_busy_ms_$hosts" value vcd_busy_all - ms lower 200
    bar poweroff_to_all_vs_serf ratio vcd_poweroff_all serf_poweroff_all 1 lower 0.4
    bar disagreement_vs_serf ratio vcd_poweroff_window serf_poweroff_window 1 lower 0.1
    bar bytes_at_rest_vs_serf ratio vcd_rest_bytes serf_rest_bytes 1 lower 1.0 - 1 "one long measurement"
    bar false_failures value vcd_rest_false_failures - hosts lower 0 - 1 "one long measurement"
    bar false_failures_busy value vcd_busy_rest_false_failures - hosts lower 0 - 1 "one long measurement"
    bar views_for_10_killed value vcd_views_for_killed - views lower 2 - 1 "one kill of $hosts / 19 at once"
    bar vcd_cpu_us_per_s value vcd_rest_cpu_us - us lower -
    bar serf_cpu_us_per_s value serf_rest_cpu_us - us lower -
    bar vcd_bytes_per_s value vcd_rest_bytes - B/s lower -
    bar serf_bytes_per_s value serf_rest_bytes - B/s lower -
    bar vcd_kill_first_ms value vcd_kill_first - ms lower -
    bar vcd_poweroff_all_ms value vcd_poweroff_all - ms lower -
    bar serf_poweroff_all_ms value serf_poweroff_all - ms lower -
    bar serf_kill_all_ms value serf_kill_all - ms lower -
}

# measure WHAT HOSTS SECONDS
measure() {
    local name value
    local -A pair=()
    say "$1, $2 of them"
    unshare -n sh -c 'ip link set lo up && exec "$@"' sh "$BUILD/normal/tests/bench/memberbench" "$1" "$2" "$3" "$PAIRS" >"$WORK/out" ||
        die "memberbench $1 $2 failed; it said: $(tail -n 3 "$WORK/out" | xargs)"
    while read -r name value; do
        pair[$name]=$((${pair[$name]:-0} + 1))
        row "$1_$name" "${pair[$name]}" "$value" "$(unit_of "$name")"
    done <"$WORK/out"
}

unit_of() {
    case $1 in
        *_bytes) echo B/s ;;
        *_cpu_us) echo us ;;
        *_failures|killed_together) echo hosts ;;
        views_*) echo views ;;
        *) echo ms ;;
    esac
}
