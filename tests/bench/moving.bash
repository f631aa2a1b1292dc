# SPDX-License-Identifier: GPL-2.0-or-later
# What migrate and evacuate share: a cluster on n1 and n2, its machines moved by vcctl, and the same machines moved by virsh.
#
# virsh moves the product's own domains, so that both sides have the same machine with the same load: vcd is stopped on both hosts
# meanwhile (machines go on), overlay and tap are made at the target before the clock starts, and they end where they began. virsh
# reaches the target's libvirtd through a TCP port (socat before its socket), QEMU reaches QEMU directly: no encryption and no
# authentication, which vcd's way has.
#
# How long a machine was stopped: from libvirt's event at the source (suspended) to that at the target (resumed).

RATE_MIB=${BENCH_RATE_MIB:-40}       # --bandwidth of both sides
LAB_N=0

in_lab() { lab "$LAB_N" exec "$@"; }

# moving_lab VMS MEM SBATCH-OPTIONS: sets JOB, SHORT_ID
moving_lab() {
    local host
    STAGE=$WORK/stage
    cp -a "$BUILD/stage" "$STAGE"
    mkdir -p "$STAGE/usr/libexec/vcluster/bench"
    cp "$BUILD/normal/tests/bench/dirty" "$STAGE/usr/libexec/vcluster/bench/"
    lab_up 0 --hosts 2
    lab_image 0 alice
    agent_start user 0 ctl --user alice
    for host in n1 n2; do
        agent_start "host_$host" 0 "$host"
        agent_ask "host_$host" 'setsid socat TCP-LISTEN:16509,reuseaddr,fork UNIX-CONNECT:/run/libvirt/libvirt-sock >/dev/null 2>&1 &
            setsid virsh -q -c qemu:///system event --event lifecycle --loop --timestamp >>/run/bench.events 2>/dev/null &'
    done
    agent_ask user "sbatch --parsable -N2 --no-requeue --time=600 --vcluster=tiny --vcluster-vms=$1 --vcluster-mem=$2 ${*:3} --wrap 'sleep 30000'"
    JOB=$OUTPUT
    wait_until 300 "the cluster of job $JOB" cluster_is_ready
    SHORT_ID=$(in_lab ctl vcctl show "$JOB" --json | jq -r '.cluster[:8]')
    agent_ask user "vcctl cp /usr/libexec/vcluster/bench/dirty $JOB:all:/tmp/"
}

cluster_is_ready() { [ "$(in_lab ctl vcctl show "$JOB" --json 2>/dev/null | jq -r .phase)" = ready ]; }
other_host() { if [ "$1" = n1 ]; then echo n2; else echo n1; fi; }

# load RANK MIB MIB_S: what dirties that member's memory from now on; MIB_S 0: nothing
load() {
    agent_ask user "vcctl exec $JOB $1 -- sh -c 'killall -q dirty; rm -f /tmp/pages'"
    [ "$3" -gt 0 ] || return 0
    agent_ask user "vcctl exec $JOB $1 -- sh -c 'setsid /tmp/dirty $2 $3 /tmp/pages </dev/null >/dev/null 2>&1 &
        while [ ! -s /tmp/pages ] || [ \$(od -An -t u8 /tmp/pages) -eq 0 ]; do usleep 50000; done'"
}

# events_begin: forgets what was; stopped_ms RANK FROM TO: how long it was stopped on its way
events_begin() { local host; for host in n1 n2; do agent_ask "host_$host" ': >/run/bench.events'; done; }
stopped_ms() {
    local a b
    a=$(event_ms "$2" "$1" Suspended head)
    b=$(event_ms "$3" "$1" Resumed tail)
    [ -n "$a" ] && [ -n "$b" ] || die "no events of member $1 from $2 to $3"
    echo "$((b - a))"
}
event_ms() {
    local stamp
    stamp=$(in_lab "$1" grep "vc-$SHORT_ID-$2': $3" /run/bench.events | "$4" -n1 | cut -d+ -f1)
    [ -z "$stamp" ] || date -ud "$stamp" +%s%3N
}

# ---- by virsh ----

vcds() { local host; for host in n1 n2; do lab 0 "$1" "$host" vcd >>"$WORK/log" 2>&1 || die "vcd on $host: $1"; done; }

# files RANK FROM TO: overlay, tap and nothing of an earlier move at TO
files() {
    local path
    path=/var/lib/vcluster/overlays/$SHORT_ID/$1.qcow2
    agent_ask "host_$2" "qemu-img info -U --output=json $path | sed -n 's/.*\"full-backing-filename\": \"\\(.*\\)\".*/\\1/p'"
    agent_ask "host_$3" "rm -f $path /run/vcd/guests/$SHORT_ID/$1.link /run/vcd/guests/$SHORT_ID/$1.console &&
        qemu-img create -q -f qcow2 -F raw -b '$OUTPUT' $path && chown libvirt-qemu: $path &&
        { [ -e /sys/class/net/vt$SHORT_ID.$1 ] || ip tuntap add dev vt$SHORT_ID.$1 mode tap; } &&
        ip link set vt$SHORT_ID.$1 mtu 1450 master vcb$SHORT_ID up"
}

# virsh_move RANK FROM TO: MICROSECONDS
virsh_move() {
    agent_ask "host_$2" "virsh -q -c qemu:///system migrate --live --copy-storage-inc --bandwidth $RATE_MIB vc-$SHORT_ID-$1 qemu+tcp://$3/system"
}

# away RANK HOST: what virsh left there
away() { agent_ask "host_$2" "ip link del vt$SHORT_ID.$1; rm -f /var/lib/vcluster/overlays/$SHORT_ID/$1.*"; }
