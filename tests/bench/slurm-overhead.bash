# SPDX-License-Identifier: GPL-2.0-or-later
# About: what plain jobs pay on a site that has slurm-vcluster loaded
#
# Two labs side by side, of one host each and with the same flags: in one everything is loaded (vcd, spank plugin,
# job_submit plugin, vc-prolog as PrologSlurmctld and EpilogSlurmctld), in the other nothing. A user runs
# `srun -N1 true` in turn here and there. srun sits on a 100 ms grid, so single pairs differ by that; the median of many
# does not.

BENCH_PAIRS=80

LOADED_PARTS=(sbin/vcd vcluster/vc-prolog spank_vcluster.so job_submit_vcluster.so)

bench_main() {
    local part
    for part in "${LOADED_PARTS[@]}"; do stage_has "$part" || die "the stage has no $part: nothing to compare"; done
    # without it a job takes all the host's memory, and the next one waits for its epilog
    echo "DefMemPerCPU=16" >"$WORK/slurm.conf"
    lab_up 0 --hosts 1 --slurm-conf "$WORK/slurm.conf" --no-vcd
    lab_up 1 --hosts 1 --slurm-conf "$WORK/slurm.conf"
    agent_start plain 0 ctl --user alice
    agent_start loaded 1 ctl --user alice
    check_loaded
    measure plain 0 >/dev/null
    measure loaded 0 >/dev/null
    : >"$WORK/rows"                    # the first of each was a warm-up
    interleave plain loaded
    bar plain_added_ms difference loaded plain ms lower 10
}

# says what is loaded rather than trusting the lab
check_loaded() {
    local line
    line=$(lab 1 exec ctl scontrol show config)
    [[ $line == *vc-prolog* && $line =~ JobSubmitPlugins[[:space:]]*=[[:space:]]*vcluster ]] ||
        die "the loaded lab's slurmctld has no vc-prolog or job_submit plugin"
    lab 1 exec ctl --user alice srun --help | grep -q -- --vcluster || die "the loaded lab's srun has no --vcluster"
    [[ $(lab 0 exec ctl scontrol show config) != *vc-prolog* ]] || die "the plain lab has vc-prolog"
}

measure() {
    agent_ask "$1" 'srun -N1 true'
    row "$1" "$2" "$(ms "$MICROSECONDS")" ms
}

plain() { measure plain "$1"; }
loaded() { measure loaded "$1"; }
