# SPDX-License-Identifier: GPL-2.0-or-later
# About: elastic policies in virtual time (vcsim) against static partitions, one shared queue and the exact optimum
#
# No lab: the daemon's policies, lease book and packer in vcsim, at fixed seeds, so figures do not depend on the machine.
# pool    eight days of three groups on 80 hosts, loads 0.5, 0.7, 0.9, groups in and out of phase, SEEDS seeds: a pair is one
#         of these traces. Transitions are charged (vcsim(1)); the baselines run the same jobs at no cost. The shared queue
#         has neither isolation nor reservations. slowdown_vs_bound is stated.
# violin  five environments on two hosts, with and without migration.
# yield   500 cases per slack against the exact optimum; bars at slack 0.3, the others stated. A bar's value is that of 500
#         cases; its interval is over 11 such sets.

BENCH_PAIRS=20          # seeds of the pool
VIOLIN_SEEDS=41
YIELD_SETS=11
VCSIM=$BUILD/normal/vcsim
WIDTH=0.3               # of the pool's ratios: they span loads and phases by design, 120 pairs

bench_main() {
    local part
    for part in ${BENCH_PARTS:-pool violin yield}; do "part_$part"; done
}

# sim ARGUMENT... -> FIGURES[name]
sim() {
    local name value
    declare -gA FIGURES=()
    while read -r name value; do FIGURES[$name]=$value; done < <("$VCSIM" "$@")
    [ "${#FIGURES[@]}" -gt 0 ] || die "vcsim $* failed"
}

figure() { row "$1" "$3" "${FIGURES[$2]}" "$4"; }   # SERIES FIGURE PAIR UNIT

part_pool() {
    local seed load phase pair=0 name worst=0
    for ((seed = 1; seed <= PAIRS; seed++)); do
        for load in 0.5 0.7 0.9; do
            for phase in in out; do
                pair=$((pair + 1))
                sim pool --seed "$seed" --load "$load" --phase "$phase"
                for name in elastic static easy bound; do
                    figure "slowdown_$name" "${name}_slowdown" "$pair" 1
                    figure "slowdown_${name}_${load}_$phase" "${name}_slowdown" "$pair" 1
                done
                worst=$(awk -v a="$worst" -v b="${FIGURES[reservation_violation_s]}" 'BEGIN { print (b > a ? b : a) }')
                figure work_lost work_lost "$pair" 1
                figure utilisation_elastic elastic_utilisation "$pair" 1
                figure utilisation_easy easy_utilisation "$pair" 1
            done
        done
    done
    bar slowdown_vs_static ratio slowdown_elastic slowdown_static 1 lower 0.45 "$WIDTH"
    bar slowdown_vs_easy ratio slowdown_elastic slowdown_easy 1 lower 1.5 "$WIDTH"
    row reservation_violation 1 "$worst" s
    bar reservation_violation_s value reservation_violation - s lower 0 1 1 "the worst of $pair runs"
    bar slowdown_vs_bound ratio slowdown_elastic slowdown_bound 1 lower -
    bar work_lost value work_lost - 1 lower -
    bar utilisation_vs_easy ratio utilisation_elastic utilisation_easy 1 higher -
    for load in 0.5 0.7 0.9; do
        for phase in in out; do
            bar "slowdown_vs_static_${load}_$phase" ratio "slowdown_elastic_${load}_$phase" "slowdown_static_${load}_$phase" 1 lower -
            bar "slowdown_vs_easy_${load}_$phase" ratio "slowdown_elastic_${load}_$phase" "slowdown_easy_${load}_$phase" 1 lower -
        done
    done
}

part_violin() {
    local seed
    for ((seed = 1; seed <= VIOLIN_SEEDS; seed++)); do
        sim violin --seed "$seed"
        figure makespan_adapted adapted_makespan_s "$seed" s
        figure makespan_static static_makespan_s "$seed" s
        figure moves moves "$seed" 1
    done
    bar makespan_vs_static ratio makespan_adapted makespan_static 1 lower 0.9
    bar moves value moves - 1 lower -
}

part_yield() {
    local slack set name limit
    for slack in 0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8 0.9; do
        for ((set = 1; set <= YIELD_SETS; set++)); do
            sim yield --slack "$slack" --seed "$set"
            for name in min_yield_mean min_yield_worst placement_found; do figure "${name}_$slack" "$name" "$set" 1; done
        done
        for name in min_yield_mean min_yield_worst placement_found; do
            limit=-
            [ "$slack" != 0.3 ] || case $name in min_yield_mean) limit=0.90 ;; min_yield_worst) limit=0.75 ;; *) limit=0.95 ;; esac
            if [ "$limit" = - ]; then bar "${name}_$slack" value "${name}_$slack" - 1 higher -
            else bar "$name" value "${name}_$slack" - 1 higher "$limit"; fi
        done
    done
}
