# SPDX-License-Identifier: GPL-2.0-or-later
# About: what vcd costs slurmctld: RPCs a minute and CPU, at rest and with 1000 jobs pending
#
# One elastic cluster (cod) that holds a lease, so that everything that vcd ever asks is asked: the job's state, the owner's leases, idle hosts,
# the queue. RPCs are those of root in sdiag, all of which are vcd's here (slurmd's are SlurmUser's or counted by type). CPU is slurmctld's own
# in /proc, with vcd on ctl, less the same without, minute by minute in turn. Nothing is judged: the numbers are stated.

BENCH_PAIRS=3
WINDOW=60

bench_main() {
    lab_up 0 --hosts 2
    agent_start root 0 ctl
    agent_start user 0 ctl --user alice
    lab_image 0 alice
    agent_ask user 'JOB=$(sbatch --parsable -N1 -w n1 -c1 --mem=400 --vcluster=tiny --vcluster-size=2-2 --vcluster-elastic=cod --wrap "sleep 30000")
        until vcctl leases $JOB 2>/dev/null | grep -q " held "; do sleep 0.5; done'
    watch_it rest
    agent_ask user 'for i in $(seq 1000); do sbatch -Q -H -N1 --wrap true; done; squeue -h -t pd | wc -l'
    say "$OUTPUT jobs are pending"
    watch_it pending
    bar rpcs_per_minute_rest value rpcs_rest - 1 lower -
    bar rpcs_per_minute_1000_pending value rpcs_pending - 1 lower -
    bar slurmctld_cpu_ms_per_minute_rest difference with_rest without_rest ms lower -
    bar slurmctld_cpu_ms_per_minute_1000_pending difference with_pending without_pending ms lower -
}

# CPU of slurmctld over the window, ms (100 ticks a second), and root's RPCs in it
window() {
    agent_ask root "P=\$(pidof slurmctld); sdiag -r >/dev/null; A=\$(awk '{ print \$14 + \$15 }' /proc/\$P/stat); sleep $WINDOW
        B=\$(awk '{ print \$14 + \$15 }' /proc/\$P/stat); echo \$(((B - A) * 10)) \$(sdiag | awk '\$1 == \"root\" { gsub(/[^0-9 ]/, \" \"); print \$2 + 0 }' | tail -n1)"
}

watch_it() {
    local pair cpu rpcs
    for ((pair = 1; pair <= PAIRS; pair++)); do
        window
        read -r cpu rpcs <<<"$OUTPUT"
        row "with_$1" "$pair" "$cpu" ms
        row "rpcs_$1" "$pair" "${rpcs:-0}" 1
        lab 0 stop ctl vcd >/dev/null 2>&1
        window
        read -r cpu rpcs <<<"$OUTPUT"
        row "without_$1" "$pair" "$cpu" ms
        lab 0 start ctl vcd >/dev/null 2>&1
        agent_ask user 'until vcctl leases $JOB | grep -q " held "; do sleep 0.5; done; sleep 20'
    done
}
