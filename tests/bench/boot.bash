# SPDX-License-Identifier: GPL-2.0-or-later
# About: a cluster of 4 machines on 2 and on 4 hosts, against plain libvirt
#
# Ours: from vc-prolog's start (it sends job.ensure) to its end, when view 1 is readable in every guest. It is timed in a
# site's own PrologSlurmctld that calls vc-prolog. `vcctl show` gives vcd's stage times beside it.
#
# Theirs: `virsh create` of all domains at once, each host its own, until /run/vcluster/view is there in the last guest.
# XML, kernel, initramfs and base image are the product's (plain.bash adapts names and paths); overlays, taps and bridge
# exist before the clock starts, which favours the baseline. Somebody has to tell plain guests what their view is: that is
# plainguest, which says hello, guest.configure and guest.view over each guest's port and nothing else, without vcd.
#
# Both sides have their image on the hosts already. Parts: 2 4 (hosts).

BENCH_PAIRS=11
MEMBERS=4

bench_main() {
    local hosts part=0
    plain_stage
    for hosts in ${BENCH_PARTS:-2 4}; do
        boot_on "$hosts" "$part"
        part=$((part + 1))
    done
}

boot_on() {
    HOSTS=$1 LAB_N=$2 VMS=$((MEMBERS / $1))
    local options=(-N"$HOSTS" --ntasks-per-node="$VMS" --vcluster="$IMAGE" --vcluster-vms="$VMS" --vcluster-mem=256M)
    say "$MEMBERS members on $HOSTS hosts"
    plain_lab "$LAB_N" "$HOSTS"
    agent_start "user$HOSTS" "$LAB_N" ctl --user alice
    plain_learn "$HOSTS" "$VMS" --ntasks-per-node="$VMS" --vcluster-mem=256M
    OURS="salloc -Q ${options[*]} sh -c 'echo \$SLURM_JOB_ID; vcctl show \$SLURM_JOB_ID --json >show.json'"
    interleave ours theirs
    bar "boot_ratio_${HOSTS}hosts" ratio "vcluster_$HOSTS" "plain_$HOSTS" 1 lower 1.15
    labs_end
}

ours() {
    local job
    agent_ask "user$HOSTS" "$OURS"
    job=$OUTPUT
    row "vcluster_$HOSTS" "$1" "$(seconds "$(prolog_us "$job")")" s
    row "salloc_$HOSTS" "$1" "$(seconds "$MICROSECONDS")" s
    in_lab ctl cat /home/alice/show.json >"$WORK/show-$HOSTS-$1.json"
    stage_rows "$1"
    plain_idle
}

prolog_us() {
    local us
    us=$(in_lab ctl sed -n "s/^$1 //p" /var/log/slurm/bench-prolog.log)
    [[ $us =~ ^[0-9]+$ ]] || die "PrologSlurmctld said nothing of job $1"
    echo "$us"
}

stage_rows() {
    local stage ms
    while read -r stage ms; do
        row "stage_${stage}_$HOSTS" "$1" "$ms" ms
    done < <(jq -r '.stages[] | "\(.stage) \(.ms)"' "$WORK/show-$HOSTS-$1.json")
}

theirs() {
    local host started
    for host in $(lab_hosts "$LAB_N"); do plain_disks "$host"; done
    started=${EPOCHREALTIME/./}
    for host in $(lab_hosts "$LAB_N"); do agent_send "host_$host" "$(start_command "$host")"; done
    for host in $(lab_hosts "$LAB_N"); do
        agent_wait "host_$host"
        [ "$VERBOSE" = no ] || say "$host: rank, ms to its socket, guest.hello, view: $OUTPUT"
    done
    row "plain_$HOSTS" "$1" "$(seconds "$((${EPOCHREALTIME/./} - started))")" s
    for host in $(lab_hosts "$LAB_N"); do plain_destroy "$host"; done
}

start_command() {
    local rank command='' sockets=''
    for rank in $(ranks_of "$1"); do
        command+="virsh -q create /run/vcbench/$rank.xml & "
        sockets+=" $rank=/run/vcbench/$rank.link"
    done
    echo "$command $STAGE_BENCH/plainguest /run/vcbench/plan.json /run/vcbench/view.json$sockets"
}
