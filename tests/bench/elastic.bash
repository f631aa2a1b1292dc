# SPDX-License-Identifier: GPL-2.0-or-later
# About: a running cluster that grows by one host, against a bare job plus a boot; preemption of a lease with a task on it
#
# Grow: from `vcctl resize JOB +1` to the first read of member 0's host file that has the new member. Baseline: a bare job of the
# same user on the same host, from srun to its end, plus the time that the host's vcd took to define, start and boot the same machine
# (its own stages `define` and `boot`, of the cluster's start in the same pair). Both in turn, on one lab of two hosts; the image is on
# the hosts already. Stated beside it: the same against a bare batch job (from sbatch to its
# script's first command), which a lease is, too; against stage `boot` alone, which leaves the start of QEMU out; and where the time goes,
# by the cluster's events: slurm_ms until the job has a host (slurmctld starts batch jobs by a loop of one second, srun's at once),
# boot_ms of the new machine, vcd_ms the rest of what happened between the lease's first event and the new view.
#
# Preempt: a program runs in the leased member, started through vcctl exec (mpirun's launch agent takes the same way); it looks at the view
# and ends by itself when it is to leave. A job of a higher partition takes the host. Killed: it ended by a signal, or did not say that it
# saw the view. Then the time until the other job runs, against GraceTime.

BENCH_PAIRS=11
GRACE=30

bench_main() {
    local pair
    printf '%s\n' "PartitionName=low Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=CANCEL GraceTime=$GRACE" \
        >"$WORK/slurm.conf"
    lab_up 0 --hosts 2 --slurm-conf "$WORK/slurm.conf"
    agent_start user 0 ctl --user alice
    agent_start bob 0 ctl --user bob
    agent_ask user "WATCH='touch /tmp/watching; while :; do while read -r h; do case \$h in *-1) exit 0 ;; esac; done </run/vcluster/hostfile.plain; sleep 0.1; done'"
    lab_image 0 alice
    for ((pair = 1; pair <= PAIRS; pair++)); do
        one_pair "$pair"
    done
    bar grow_ratio ratio grow bare_and_boot 1 lower 1.2 - 3 "$PAIRS pairs on 2 cores, emulated machines"
    bar grow_ratio_batch ratio grow batch_and_boot 1 lower -
    bar grow_ratio_boot_stage ratio grow bare_and_boot_stage 1 lower -
    bar grow_slurm_ms value slurm_ms - ms lower -
    bar grow_boot_ms value boot_ms - ms lower -
    bar grow_vcd_ms value vcd_ms - ms lower -
    bar preempt_tasks_killed value killed - 1 lower 0 - 1 "one program in each pair"
    bar preempt_host_free_s value host_free - s lower "$GRACE" - 1
}

one_pair() {
    agent_ask user 'JOB=$(sbatch --parsable -N1 -w n1 -p low -c1 --mem=400 --time=60 --vcluster=tiny --vcluster-size=1-2 --wrap "sleep 3000")
        until [ "$(vcctl show $JOB --json | jq -r .phase)" = ready ]; do sleep 0.2; done; vcctl show $JOB --json | jq -r "[.stages[] | select(.stage == \"define\" or .stage == \"boot\").ms] | \"\(add) \(.[1])\""'
    local machine boot
    read -r machine boot <<<"$OUTPUT"
    agent_ask user 'srun -N1 -w n2 -p low -c1 --mem=400 true'
    row bare_and_boot "$1" "$(awk -v us="$MICROSECONDS" -v ms="$machine" 'BEGIN { print us / 1e6 + ms / 1e3 }')" s
    row bare_and_boot_stage "$1" "$(awk -v us="$MICROSECONDS" -v ms="$boot" 'BEGIN { print us / 1e6 + ms / 1e3 }')" s
    agent_ask user 'until scontrol -o show node n2 | grep -q "State=IDLE "; do sleep 0.1; done'
    agent_ask user 'T=$(date +%s%N); B=$(sbatch --parsable -N1 -w n2 -p low -c1 --mem=400 -o start.out --wrap "date +%s%N"); until [ -z "$(squeue -h -j $B)" ]; do sleep 0.2; done; echo $(($(cat start.out) - T))'
    row batch_and_boot "$1" "$(awk -v ns="$OUTPUT" -v ms="$machine" 'BEGIN { print ns / 1e9 + ms / 1e3 }')" s
    agent_ask user 'until scontrol -o show node n2 | grep -q "State=IDLE "; do sleep 0.1; done'
    # member 0 itself watches its host file: a new vcctl exec for each look took half of one of this machine's two CPUs from the boot
    agent_ask user 'vcctl exec $JOB 0 -- sh -c "$WATCH" & until vcctl exec $JOB 0 -- test -e /tmp/watching; do sleep 0.2; done'
    agent_ask user 'vcctl resize $JOB +1 >/dev/null; wait $!'
    row grow "$1" "$(seconds "$MICROSECONDS")" s
    parts "$1"
    preempt "$1"
    agent_ask user 'scancel $JOB; until [ -z "$(squeue -h -u alice)" ]; do sleep 0.2; done'
    agent_ask user 'for h in n1 n2; do until scontrol -o show node $h | grep -q "State=IDLE "; do sleep 0.2; done; done'
}

# Where the time of the growth went, by the events of the cluster.
parts() {
    local slurm boot all
    agent_ask user 'until vcctl leases $JOB | grep -q " held "; do sleep 0.1; done; vcctl events $JOB --json | jq -r "
        [.events[] | select(.what == \"lease\")] as \$e | def at(k; v): first(\$e[] | select(.data[k] == v).time_ms);
        \"\(at(\"state\"; \"joining\") - at(\"state\"; \"submitted\")) \(at(\"phase\"; \"grow-staging\") - at(\"phase\"; \"grow-booting\")) \(at(\"state\"; \"held\") - at(\"state\"; \"submitted\"))\""'
    read -r slurm boot all <<<"$OUTPUT"
    row slurm_ms "$1" "$slurm" ms
    row boot_ms "$1" "$boot" ms
    row vcd_ms "$1" $((all - slurm - boot)) ms
}

preempt() {
    agent_ask user 'until vcctl leases $JOB | grep -q " held "; do sleep 0.1; done
        (vcctl exec $JOB 1 -- sh -c "until tr \"{\" \"\\n\" </run/vcluster/view.json | grep \"\\-1\\\"\" | grep -q leaving; do sleep 0.2; done; echo saw" >task.out 2>&1; echo "status $?" >>task.out) & sleep 6'
    agent_ask bob 'B=$(sbatch --parsable -N1 -w n2 -p high -c8 --mem=3500 --wrap "sleep 1"); until squeue -h -j $B -t all -o %T | grep -qE "RUNNING|COMPLET"; do sleep 0.1; done'
    row host_free "$1" "$(seconds "$MICROSECONDS")" s
    agent_ask user 'wait; cat task.out'
    if [ "$OUTPUT" = "saw status 0" ]; then row killed "$1" 0 1; else row killed "$1" 1 1; say "the task: $OUTPUT"; fi
}
