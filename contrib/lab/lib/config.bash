# SPDX-License-Identifier: GPL-2.0-or-later
# The configuration files of the hosts. What all hosts share is made once in
# $LAB_STATE/etc; each host gets a copy as the upper layer of its /etc.

LAB_USERS=(alice:2001 bob:2002 carol:2003)
LAB_ADMIN_GROUP=vcadmin:2100

config_common() {
    local etc=$LAB_STATE/etc
    install -d -m 755 "$etc" "$etc/slurm" "$etc/slurm/plugstack.conf.d" "$etc/libvirt" "$etc/vcluster"
    config_users "$etc"
    config_names >"$etc/hosts"
    echo "# no name server: the lab has no way out" >"$etc/resolv.conf"
    config_munge_key "$etc"
    config_slurm >"$etc/slurm/slurm.conf"
    config_cgroup >"$etc/slurm/cgroup.conf"
    config_plugstack "$etc/slurm"
    config_accounting "$etc/slurm"
    config_qemu >"$etc/libvirt/qemu.conf"
}

# alice and bob use the cluster, carol (and root) administer it
config_users() {
    local etc=$1 entry
    cp -a /etc/passwd /etc/group /etc/shadow "$etc/"
    config_kvm_group "$etc"
    add_group "$etc" libvirt-qemu 64055
    add_group "$etc" libvirt 64056
    add_user "$etc" libvirt-qemu 64055 64055 /var/lib/libvirt /usr/sbin/nologin
    add_group "$etc" "${LAB_ADMIN_GROUP%:*}" "${LAB_ADMIN_GROUP#*:}"
    for entry in "${LAB_USERS[@]}"; do
        add_group "$etc" "${entry%:*}" "${entry#*:}"
        add_user "$etc" "${entry%:*}" "${entry#*:}" "${entry#*:}" "/home/${entry%:*}" /bin/bash
    done
    sed -i "s/^${LAB_ADMIN_GROUP%:*}:.*/&root,carol/" "$etc/group"
}

# The group is that of the device, whatever the machine's /etc/group says:
# libvirt probes QEMU anew before each start, for seconds, as long as the probe
# could open /dev/kvm and libvirt-qemu could not.
config_kvm_group() {
    local gid=108
    [ ! -e /dev/kvm ] || gid=$(stat -c %g /dev/kvm)
    sed -i '/^kvm:/d' "$1/group"
    echo "kvm:x:$gid:libvirt-qemu" >>"$1/group"
}

add_group() { grep -q "^$2:" "$1/group" || echo "$2:x:$3:" >>"$1/group"; }

add_user() {
    grep -q "^$2:" "$1/passwd" && return
    echo "$2:x:$3:$4:$2:$5:$6" >>"$1/passwd"
    echo "$2:*:19000:0:99999:7:::" >>"$1/shadow"
}

config_names() {
    local host
    echo "127.0.0.1 localhost"
    for host in $(all_hosts) mirror; do echo "$(host_addr "$host") $host"; done
}

config_munge_key() {
    install -d -m 700 -o munge -g munge "$1/munge"
    (umask 077; head -c 128 /dev/urandom >"$1/munge/munge.key")
    chown munge:munge "$1/munge/munge.key"
    chmod 400 "$1/munge/munge.key"
}

config_slurm() {
    cat <<CONF
ClusterName=$LAB
SlurmctldHost=ctl($(host_addr ctl))
SlurmUser=slurm
AuthType=auth/munge
CredType=cred/munge
StateSaveLocation=/var/lib/slurm/slurmctld
SlurmdSpoolDir=/var/lib/slurm/slurmd
SlurmctldPidFile=/run/slurm/slurmctld.pid
SlurmdPidFile=/run/slurm/slurmd.pid
SlurmctldLogFile=/var/log/slurm/slurmctld.log
SlurmdLogFile=/var/log/slurm/slurmd.log
SlurmctldDebug=verbose
SlurmdDebug=verbose
MailProg=/bin/true
MpiDefault=none
$(config_slurm_cgroup)
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,bf_interval=5,sched_interval=5
ReturnToService=2
SlurmctldTimeout=30
SlurmdTimeout=30
KillWait=5
# a site sets 300 (README.md): here hosts lose their power and come back at once, and a batch job that went with its host is found after this
BatchStartTimeout=10
MessageTimeout=10
MinJobAge=600
PrologFlags=Alloc,DeferBatch
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=n[1-$LAB_HOSTS] CPUs=$LAB_CPUS RealMemory=$LAB_MEM State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=high Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
CONF
    config_slurm_accounting
    config_slurm_product
    [ -z "${LAB_SLURM_CONF:-}" ] || cat "$LAB_SLURM_CONF"
}

# Slurm's cgroup plugins where they work without systemd: version 1
config_slurm_cgroup() {
    if cgroup_mounts | grep -q freezer; then
        echo "ProctrackType=proctrack/cgroup"
        echo "TaskPlugin=task/cgroup,task/affinity"
    else
        echo "ProctrackType=proctrack/linuxproc"
        echo "TaskPlugin=task/affinity"
    fi
}

# the lines that a site adds for slurm-vcluster, for what the stage really has
config_slurm_product() {
    [ "$LAB_PLUGINS" = yes ] || return 0
    if [ -x "$LAB_STAGE/usr/libexec/vcluster/vc-prolog" ]; then
        echo "PrologSlurmctld=/usr/libexec/vcluster/vc-prolog"
        echo "EpilogSlurmctld=/usr/libexec/vcluster/vc-prolog"
    fi
    [ -z "$(stage_slurm_plugin job_submit_vcluster.so)" ] || echo "JobSubmitPlugins=vcluster"
}

stage_slurm_plugin() { find "$LAB_STAGE/usr" -name "$1" -path '*slurm*' 2>/dev/null | head -n1; }

config_cgroup() {
    cat <<CONF
CgroupMountpoint=/sys/fs/cgroup
CgroupAutomount=no
ConstrainCores=no
ConstrainRAMSpace=no
CONF
}

config_plugstack() {
    if [ "$LAB_PLUGINS" = yes ] && [ -n "$(stage_slurm_plugin spank_vcluster.so)" ]; then
        echo "include /etc/slurm/plugstack.conf.d/*.conf" >"$1/plugstack.conf"
        [ -n "$(find "$LAB_STAGE/etc/slurm/plugstack.conf.d" -name '*.conf' 2>/dev/null)" ] ||
            echo "required spank_vcluster.so" >"$1/plugstack.conf.d/vcluster.conf"
    else
        echo "# no plugins" >"$1/plugstack.conf"
    fi
}

config_qemu() {
    cat <<'CONF'
user = "libvirt-qemu"
group = "libvirt-qemu"
security_driver = "none"
CONF
}

# what differs from host to host
config_host() {
    local host=$1 etc=$LAB_STATE/hosts/$1/etc
    mkdir -p "$etc"
    cp -a "$LAB_STATE/etc/." "$etc/"
    echo "$host" >"$etc/hostname"
    cat /proc/sys/kernel/random/uuid | tr -d - >"$etc/machine-id"
    config_libvirtd "$host" >"$etc/libvirt/libvirtd.conf"
    config_vcd "$host" >"$etc/vcluster/vcd.conf"
}

# libvirt refuses to migrate between two daemons of one host_uuid; the TCP
# socket is for migration and is reachable from the lab's hosts only
config_libvirtd() {
    cat <<CONF
host_uuid = "$(cat /proc/sys/kernel/random/uuid)"
unix_sock_group = "libvirt"
unix_sock_rw_perms = "0770"
auth_unix_ro = "none"
auth_unix_rw = "none"
listen_tls = 0
listen_tcp = 1
listen_addr = "$(host_addr "$1")"
auth_tcp = "none"
CONF
}

# only what differs from the defaults; vcd.conf(5)
config_vcd() {
    cat <<CONF
# $1 of lab $LAB_ID
controller = {"ctl"}
cluster-name = "$LAB"
admin-groups = {"${LAB_ADMIN_GROUP%:*}"}
qemu-user = "libvirt-qemu"
mirror = "$LAB_MIRROR"
mirror-proxy = "http://$(host_addr mirror):3142"
CONF
    [ -z "${LAB_VCD_CONF:-}" ] || cat "$LAB_VCD_CONF"
}
