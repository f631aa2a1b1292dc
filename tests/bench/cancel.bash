# SPDX-License-Identifier: GPL-2.0-or-later
# About: how soon hosts are free after scancel of a job whose cluster is being started
#
# A user submits a job of 4 members on 2 hosts and cancels it at a stage of its start; the clock runs from before scancel
# until no host has a domain or an overlay of it and Slurm calls all hosts idle. The stages come in turn: while the hosts
# prepare it, and some time after its machines began to boot. Beside them, without limit, a cluster that is ready. Both the
# user's commands and the looks at the hosts are what anybody can do.

BENCH_PAIRS=11

STAGES=(preparing booting)
HOSTS=(n1 n2)

bench_main() {
    local host pair
    lab_up 0 --hosts 2
    for host in ctl "${HOSTS[@]}"; do agent_start "$host" 0 "$host"; done
    agent_start user 0 ctl --user alice
    lab_image 0 alice
    measure ready 0
    : >"$WORK/rows" # a warm-up: hosts fetched the image and know their hypervisor
    for ((pair = 1; pair <= PAIRS; pair++)); do
        for stage in "${STAGES[@]}" ready; do measure "$stage" "$pair"; done
    done
    bar cancel_in_start_s value start - s lower 5
    bar cancel_when_ready_s value ready - s lower -
}

# measure STAGE PAIR
measure() {
    local begun took host series=$1
    agent_ask user 'sbatch --parsable -o /dev/null -N2 -c2 --mem=800 --vcluster=tiny --vcluster-vms=2 --wrap "sleep 3600"'
    JOB=${OUTPUT%% *}
    wait_stage "$1"
    begun=${EPOCHREALTIME/./}
    agent_ask user "scancel $JOB"
    for host in "${HOSTS[@]}"; do
        agent_send "$host" 'until [ -z "$(virsh -q -c qemu:///system list --all --name)" ] &&
            [ -z "$(ls /var/lib/vcluster/overlays)" ]; do sleep 0.05; done'
    done
    agent_ask ctl "until [ \"\$(scontrol -o show node | grep -c 'State=IDLE ')\" = ${#HOSTS[@]} ]; do sleep 0.05; done"
    for host in "${HOSTS[@]}"; do agent_wait "$host"; done
    took=$((${EPOCHREALTIME/./} - begun))
    [ "$1" = ready ] || series=start
    row "$series" "$2" "$(seconds "$took")" s
}

# until the job is there, polled by the user; 'booting' is left a moment to be in the middle of it
wait_stage() {
    agent_ask user "until vcctl show $JOB --json 2>/dev/null | grep -qE '\"phase\": *\"$1\"'; do sleep 0.02; done"
    [ "$1" != booting ] || sleep "0.$((RANDOM % 9 + 1))"
}
