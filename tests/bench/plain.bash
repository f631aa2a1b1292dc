# SPDX-License-Identifier: GPL-2.0-or-later
# Plain guests: machines that libvirt runs without vcd, from the XML of the product's own domains. Baselines of the
# benchmarks boot and exec; also the clusters that they are compared with.
#
# In each host of the lab: sockets, logs, XML, plan and view in /run/vcbench, overlays in /var/lib/vcbench, a bridge
# vcbench0 with one tap per guest. Their domains are called plain-RANK. All of it goes with the lab.

STAGE_BENCH=/usr/libexec/vcluster/bench      # in the hosts
IMAGE=tiny

# the stage, with the benchmark's own programs and a site's PrologSlurmctld that says how long vc-prolog took
plain_stage() {
    STAGE=$WORK/stage
    local dir=$STAGE$STAGE_BENCH
    cp -a "$BUILD/stage" "$STAGE"
    mkdir -p "$dir"
    cp "$BUILD"/normal/tests/bench/{plainguest,portpeer,portinit} "$dir/"
    cat >"$dir/prolog" <<'PROLOG'
#!/bin/bash
started=${EPOCHREALTIME/./}
/usr/libexec/vcluster/vc-prolog "$@"
status=$?
echo "$SLURM_JOB_ID $((${EPOCHREALTIME/./} - started))" >>/var/log/slurm/bench-prolog.log
exit "$status"
PROLOG
    chmod 755 "$dir/prolog"
    echo "PrologSlurmctld=$STAGE_BENCH/prolog" >"$WORK/slurm.conf"
}

# plain_lab N HOSTS: a lab with that stage, the tiny image, and a root agent per host, host_NAME
plain_lab() {
    local lab=$1 host
    lab_up "$lab" --hosts "$2" --slurm-conf "$WORK/slurm.conf"
    lab_image "$lab" root --public
    for host in $(lab_hosts "$lab"); do
        agent_start "host_$host" "$lab" "$host"
        agent_ask "host_$host" 'mkdir -p /run/vcbench /var/lib/vcbench && chmod 777 /run/vcbench /var/lib/vcbench &&
            ip link add vcbench0 type bridge && ip link set vcbench0 up'
    done
}

lab_hosts() { (eval "$(lab "$1" env)"; echo "$VCLAB_HOSTS"); }
in_lab() { lab "$LAB_N" exec "$@"; }

# ---- what the product makes ----

# plain_learn HOSTS VMS [SALLOC OPTIONS]: one cluster of the product as the pattern: its plan, its view and its domains' XML
plain_learn() {
    local hosts=$1 vms=$2 job
    shift 2
    job=$(in_lab ctl --user alice salloc --no-shell -N"$hosts" --vcluster="$IMAGE" \
        --vcluster-vms="$vms" "$@" 2>&1 | sed -n 's/.*Granted job allocation //p') && [ -n "$job" ] ||
        die "no cluster to learn from"
    in_lab ctl vcctl show "$job" --json >"$WORK/show.json" 2>>"$WORK/log" || die "vcctl show $job: $(tail -n 1 "$WORK/log")"
    plain_pattern "$job"
    in_lab ctl scancel "$job"
    plain_idle
}

plain_pattern() {
    local host rank
    plan_json >"$WORK/plan.json"
    jq -c .view "$WORK/show.json" >"$WORK/view.json"
    SHORT_ID=$(jq -r '.cluster[:8]' "$WORK/show.json")
    while read -r host rank; do
        in_lab "$host" virsh dumpxml --inactive "vc-$SHORT_ID-$rank" >"$WORK/product-$rank.xml" 2>>"$WORK/log" ||
            die "no XML of member $rank on $host (job $1)"
        plain_guest "$host" "$rank"
    done < <(members)
    for host in $(lab_hosts "$LAB_N"); do
        in_lab "$host" tee /run/vcbench/plan.json <"$WORK/plan.json" >/dev/null
        in_lab "$host" tee /run/vcbench/view.json <"$WORK/view.json" >/dev/null
    done
}

# the cluster's secret is not shown: any other does
plan_json() { jq -c '.plan + {secret: ("5e" * 32)}' "$WORK/show.json"; }
members() { jq -r '.plan.members[] | "\(.host) \(.rank)"' "$WORK/show.json"; }

# ---- the same without vcd ----

# plain_guest HOST RANK: its XML, tap and base image, from what the product's member has
plain_guest() {
    local host=$1 rank=$2 overlay
    overlay=$(grep -oE "'[^']*/overlays/[^']*qcow2'" "$WORK/product-$rank.xml" | tr -d "'")
    plain_xml "$rank" | in_lab "$host" tee "/run/vcbench/$rank.xml" >/dev/null
    agent_ask "host_$host" "qemu-img info -U --output=json '$overlay' |
        sed -n 's/.*\"full-backing-filename\": \"\\(.*\\)\".*/\\1/p' >/run/vcbench/$rank.base && [ -s /run/vcbench/$rank.base ]"
    agent_ask "host_$host" "ip tuntap add dev plain$rank mode tap && ip link set plain$rank mtu 1450 master vcbench0 up"
}

plain_xml() {
    sed -e "s#'/[^']*/overlays/$SHORT_ID/#'/var/lib/vcbench/#" -e "s#'/[^']*/guests/$SHORT_ID/#'/run/vcbench/#" \
        -e "s#vt$SHORT_ID\.#plain#" -e "s#vc-$SHORT_ID-#plain-#" -e '/<uuid>/d' -e '/<metadata>/,/<\/metadata>/d' "$WORK/product-$1.xml"
}

ranks_of() { members | sed -n "s/^$1 //p" | xargs; }

# plain_disks HOST: fresh overlays, not part of any measurement
plain_disks() {
    agent_ask "host_$1" "(for r in $(ranks_of "$1"); do
        rm -f /var/lib/vcbench/\$r.qcow2 /run/vcbench/\$r.link /run/vcbench/\$r.console /var/lib/vcbench/\$r.log
        qemu-img create -q -f qcow2 -F raw -b \"\$(cat /run/vcbench/\$r.base)\" /var/lib/vcbench/\$r.qcow2 &&
        chown libvirt-qemu: /var/lib/vcbench/\$r.qcow2 || exit 1
    done)"
}

plain_destroy() {
    agent_ask "host_$1" "(for r in $(ranks_of "$1"); do virsh -q destroy plain-\$r || exit 1; done)"
}

# ---- quiet ----

# until no job ends any more and no host has a domain: the last cluster is gone
plain_idle() { wait_until 120 "the last cluster's end" plain_is_idle; }

plain_is_idle() {
    local host
    [ -z "$(in_lab ctl squeue -ht CG)" ] || return 1
    for host in $(lab_hosts "$LAB_N"); do
        [ -z "$(in_lab "$host" virsh -q list --all --name | tr -d '\n')" ] || return 1
    done
}
