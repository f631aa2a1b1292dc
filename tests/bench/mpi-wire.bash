# SPDX-License-Identifier: GPL-2.0-or-later
# About: MPI ping-pong between members on two hosts, against the same guests on a plain tap and bridge
#
# One cluster of two machines on two hosts. tests/mpi/pingpong.c runs between them over the cluster's network (tap, bridge,
# VXLAN, packet filter), and over a plain one: the same guests, processes, addresses and MTU, their taps moved for the time of the
# measurement to a bridge that is joined to the other host's by a port of the lab's switch, without VXLAN. Beside it, stated, the
# same between processes of the two hosts (srun --mpi=pmix).

BENCH_PAIRS=11
LAB_N=0

bench_main() {
    local job
    STAGE=$BUILD/stage
    lab_up 0 --hosts 2 --cpus 8
    agent_start user 0 ctl --user alice
    agent_start host_n1 0 n1
    agent_start host_n2 0 n2
    lab 0 exec ctl --user alice sh -c 'cat >pingpong.c' <"$TOP/tests/mpi/pingpong.c"
    lab 0 exec ctl --user alice sh -c 'cat >openmpi.recipe' <"$TOP/contrib/recipes/openmpi.recipe"
    agent_ask user 'mpicc.openmpi -O2 -o pingpong pingpong.c && vcctl image build openmpi.recipe'
    agent_start job 0 ctl --user alice -- salloc -Q -N2 -n2 -c2 --mem=1000 --vcluster=openmpi --vcluster-mem=512M
    agent_start bare 0 ctl --user alice -- salloc -Q -N2 -n2 --mem=500
    agent_ask job 'echo "$SLURM_JOB_ID"'
    job=$OUTPUT
    agent_ask user "vcctl cp pingpong $job:all:"
    agent_start guest 0 ctl --user alice -- vcctl exec "$job" 0 --
    plain_wire n1
    plain_wire n2
    wire_pairs
}

wire_pairs() {
    cluster_wire 0; plain_wire_run 0
    interleave cluster_wire plain_wire_run
    BARE_PAIRS=$((PAIRS < 5 ? PAIRS : 5))
    for ((pair = 1; pair <= BARE_PAIRS; pair++)); do pingpong bare bare "$pair" 'srun -N2 -n2 --mpi=pmix ./pingpong'; done
    bar wire_latency_ratio ratio latency_cluster latency_plain us lower 1.05
    bar wire_bandwidth_ratio ratio bandwidth_cluster bandwidth_plain MiB/s higher 0.95
}

# a second port of the host at the lab's switch, in a bridge without addresses
plain_wire() {
    local state=/var/tmp/vclab-$((FIRST_LAB + LAB_N)) switch pid
    switch=$(<"$state/switch.pid") pid=$(<"$state/hosts/$1/pid")
    nsenter --net="/proc/$switch/ns/net" sh -ec "ip link add $1-plain type veth peer name plainwire netns $pid
        ip link set $1-plain master s1; ip link set $1-plain up" || die "no second port for $1"
    agent_ask "host_$1" 'ip link add vcbench0 type bridge forward_delay 0 && ip link set plainwire master vcbench0 &&
        ip link set plainwire up && ip link set vcbench0 up'
    agent_ask "host_$1" "ls /sys/class/net/*/brif/vt* -d | sed 's#/sys/class/net/##; s#/brif/# #'"
    eval "TAP_$1=\${OUTPUT#* } BRIDGE_$1=\${OUTPUT%% *}"
}

# to_bridge HOST BRIDGE
to_bridge() {
    local tap=TAP_$1
    agent_ask "host_$1" "ip link set ${!tap} master $2"
}

# pingpong AGENT NAME PAIR COMMAND
pingpong() {
    agent_ask "$1" "$4"
    [[ $OUTPUT =~ ^[0-9.]+\ [0-9.]+$ ]] || die "pingpong said '$OUTPUT'"
    [ "$3" -gt 0 ] || return 0
    row "latency_$2" "$3" "${OUTPUT% *}" us
    row "bandwidth_$2" "$3" "${OUTPUT#* }" MiB/s
}

in_guests() { pingpong guest "$1" "$2" 'mpirun.openmpi -n 2 --map-by node ./pingpong'; }

cluster_wire() {
    to_bridge n1 "$BRIDGE_n1"
    to_bridge n2 "$BRIDGE_n2"
    in_guests cluster "$1"
}

plain_wire_run() {
    to_bridge n1 vcbench0
    to_bridge n2 vcbench0
    in_guests plain "$1"
}
