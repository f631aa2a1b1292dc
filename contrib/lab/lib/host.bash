# SPDX-License-Identifier: GPL-2.0-or-later
# One host: its namespaces, what is mounted in them, its init; and the commands.

host_pid() { cat "$LAB_STATE/hosts/$1/pid" 2>/dev/null; }

host_is_up() {
    local pid
    pid=$(host_pid "$1") && [ -n "$pid" ] && [ -d "/proc/$pid/ns" ]
}

# run a command in HOST's namespaces, with a clean environment
in_host() {
    local host=$1
    shift
    host_is_up "$host" || { note "host $host is down"; return 125; }
    nsenter -t "$(host_pid "$host")" -n -u -m -p -i -C env -i "PATH=$LAB_PATH" HOME=/root LANG=C.UTF-8 "$@"
}

# the same, as a process of the host's cgroups too: for daemons
in_host_joined() {
    (cgroup_enter "$1" "$BASHPID"; in_host "$@")
}

# ---- starting ----

host_create() {
    local host=$1 dir=$LAB_STATE/hosts/$1
    mkdir -p "$dir"/{work,tmp,root} "$dir"/var/{lib,log,spool,tmp,cache}
    config_host "$host"
    host_boot "$host"
}

host_boot() {
    local host=$1 dir=$LAB_STATE/hosts/$1
    rm -f "$dir/pid" "$dir/failed"
    cgroup_make "$host"
    (
        cgroup_enter "$host" "$BASHPID"
        exec setsid unshare --net --uts --mount --pid --ipc --cgroup --fork --kill-child \
            env -i "PATH=$LAB_PATH" "VCLAB_ID=$LAB_ID" bash "$VCLAB_PROGRAM" __host_init "$host"
    ) </dev/null >"$dir/init.log" 2>&1 &
    wait_for 15 test -s "$dir/pid" || { cat "$dir/init.log" >&2; die "host $host did not start"; }
    switch_plug "$host" "$(host_pid "$host")"
}

# Runs as process 1 of the host: mounts, then reaps what is left to it until
# it is killed, which ends all the host's processes.
host_init() {
    local host=$1 outer
    lab_load
    read -r outer _ </proc/self/stat      # /proc is still the machine's, but $$ is 1
    hostname "$host"
    cd "$LAB_STATE/hosts/$host"
    host_mount "$PWD"
    host_directories
    [ "$host" != ctl ] || accounting_prepare
    echo "$outer" >pid.new
    mv pid.new pid                        # through the directory: its path is hidden now
    cd /
    while :; do sleep infinity & wait || true; done
}

host_mount() {
    local dir=$1 lower=/etc part
    mount --make-rprivate /
    [ ! -d "$LAB_STAGE/usr" ] || mount -t overlay -o "lowerdir=$LAB_STAGE/usr:/usr" usr /usr
    [ ! -d "$LAB_STAGE/etc" ] || lower=$LAB_STAGE/etc:/etc
    mount -t overlay -o "lowerdir=$lower,upperdir=$dir/etc,workdir=$dir/work" etc /etc
    mkdir -p "$dir/var/lib/dpkg"
    mount --bind -o ro /var/lib/dpkg "$dir/var/lib/dpkg"
    for part in lib log spool cache; do mount --rbind "$dir/var/$part" "/var/$part"; done
    mount --bind "$LAB_STATE/home" /home
    mount --bind "$dir/root" /root
    mount -t tmpfs -o mode=755 run /run
    mkdir -p /run/vclab/stages
    mount --bind "$LAB_STATE/stages" /run/vclab/stages
    mount -t devpts -o newinstance,mode=620,gid=5,ptmxmode=666 devpts /dev/pts
    mount -t tmpfs -o mode=1777 shm /dev/shm
    cgroup_remount
    # the last two hide the lab's state and the machine's processes
    mount --bind "$dir/tmp" /tmp
    mount --bind "$dir/var/tmp" "/var/tmp"
    mount -t proc proc /proc
}

host_directories() {
    chmod 1777 /tmp /var/tmp
    install -d -m 755 /run/lock /run/vclab /var/log/vclab /run/libvirt /var/lib/libvirt /var/lib/slurm
    install -d -m 1777 /var/log/vclab/sanitizers # any user's programs report here: tests/sanitizers.c
    install -d -m 755 -o munge -g munge /run/munge
    install -d -m 700 -o munge -g munge /var/lib/munge /var/log/munge
    install -d -m 755 -o slurm -g slurm /run/slurm /var/log/slurm /var/lib/slurm/slurmctld
    install -d -m 755 /var/lib/slurm/slurmd
}

# ---- ending ----

# what a power cut does: the init dies and with it every process of the host
host_kill() {
    local pid
    host_is_up "$1" || return 0
    pid=$(host_pid "$1")
    kill -KILL "$pid"
    wait_for 15 test ! -d "/proc/$pid" || die "host $1 does not die"
    rm -f "$LAB_STATE/hosts/$1/pid"
    wait_for 5 switch_lost_port "$1" || in_switch ip link del "$1"
}

switch_lost_port() { ! in_switch ip link show "$1"; }
