# SPDX-License-Identifier: GPL-2.0-or-later
# About: a running cluster that grows by one host, against a bare job plus a boot; preemption of a lease with a task on it
#
# Grow: from `vcctl resize JOB +1` to the first read of member 0's host file that has the new member. Baseline: a bare job of the
# same user on the same host, from srun to its end, plus the time that the host's vcd took to boot the same machine (its own
# stage `boot`, of the cluster's start in the same pair). Both in turn, on one lab of two hosts; the image is on the hosts already.
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
    lab_image 0 alice
    for ((pair = 1; pair <= PAIRS; pair++)); do
        one_pair "$pair"
    done
    bar grow_ratio ratio grow bare_and_boot 1 lower 1.2 - 3 "$PAIRS pairs on 2 cores, emulated machines"
    bar preempt_tasks_killed value killed - 1 lower 0 - 1 "one program in each pair"
    bar preempt_host_free_s value host_free - s lower "$GRACE" - 1
}

one_pair() {
    agent_ask user 'JOB=$(sbatch --parsable -N1 -w n1 -p low -c1 --mem=400 --time=60 --vcluster=tiny --vcluster-size=1-2 --wrap "sleep 3000")
        until [ "$(vcctl show $JOB --json | jq -r .phase)" = ready ]; do sleep 0.2; done; vcctl show $JOB --json | jq -r ".stages[] | select(.stage == \"boot\").ms"'
    local boot=$OUTPUT
    agent_ask user 'srun -N1 -w n2 -p low -c1 --mem=400 true'
    row bare_and_boot "$1" "$(awk -v us="$MICROSECONDS" -v ms="$boot" 'BEGIN { print us / 1e6 + ms / 1e3 }')" s
    agent_ask user 'until scontrol -o show node n2 | grep -q "State=IDLE "; do sleep 0.1; done'
    agent_ask user 'vcctl resize $JOB +1 >/dev/null; until vcctl exec $JOB 0 -- grep -q -- "-1$" /run/vcluster/hostfile.plain; do sleep 0.1; done'
    row grow "$1" "$(seconds "$MICROSECONDS")" s
    preempt "$1"
    agent_ask user 'scancel $JOB; until [ -z "$(squeue -h -u alice)" ]; do sleep 0.2; done'
    agent_ask user 'for h in n1 n2; do until scontrol -o show node $h | grep -q "State=IDLE "; do sleep 0.2; done; done'
}

preempt() {
    agent_ask user 'until vcctl leases $JOB | grep -q " held "; do sleep 0.1; done
        (vcctl exec $JOB 1 -- sh -c "until tr \"{\" \"\\n\" </run/vcluster/view.json | grep \"\\-1\\\"\" | grep -q leaving; do sleep 0.2; done; echo saw" >task.out 2>&1; echo "status $?" >>task.out) & sleep 6'
    agent_ask bob 'B=$(sbatch --parsable -N1 -w n2 -p high -c8 --mem=3500 --wrap "sleep 1"); until squeue -h -j $B -t all -o %T | grep -qE "RUNNING|COMPLET"; do sleep 0.1; done'
    row host_free "$1" "$(seconds "$MICROSECONDS")" s
    agent_ask user 'wait; cat task.out'
    if [ "$OUTPUT" = "saw status 0" ]; then row killed "$1" 0 1; else row killed "$1" 1 1; say "the task: $OUTPUT"; fi
}
