# SPDX-License-Identifier: GPL-2.0-or-later
# About: simulated: views that need the fallback, and messages per event, up to 10,000 hosts
#
# The protocol's own code on a simulated network (tests/bench/membersim.c): no daemon, no wire, no disk. For 1 to 10 of 190 vcds
# killed at the same time: which share of the views was not decided in one round. And the messages of one host's failure
# against M(M-1) + N-M; reports of the failure, M-1 of them, are in the count, acknowledgements are stated apart.

BENCH_PAIRS=22

bench_main() {
    local pair k n
    for ((pair = 1; pair <= PAIRS; pair++)); do rows_of "$pair" kills "$pair"; done
    for n in 190 1000 10000; do rows_of 1 messages "$n"; done
    bar fallback_share value fallback - share lower 0.05
    for k in 1 2 3 4 5 6 7 8 9 10; do
        bar "fallback_$k" value "fallback_$k" - share lower -
        bar "views_$k" value "views_$k" - views lower -
    done
    for n in 190 1000 10000; do
        bar "messages_$n" value "messages_$n" - messages lower -
        bar "formula_$n" value "formula_$n" - messages lower -
        bar "acknowledgements_$n" value "acknowledgements_$n" - messages lower -
        bar "status_$n" value "status_$n" - messages lower -
    done
}

rows_of() {
    local pair=$1 name value
    shift
    "$BUILD/normal/tests/bench/membersim" "$@" >"$WORK/out" || die "membersim $* failed"
    while read -r name value; do
        case $name in
            messages_*|formula_*|acknowledgements_*|status_*) row "$name" "$pair" "$value" messages ;;
            views_*) row "$name" "$pair" "$value" views ;;
            *) row "$name" "$pair" "$value" share ;;
        esac
    done <"$WORK/out"
}
