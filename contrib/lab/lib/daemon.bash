# SPDX-License-Identifier: GPL-2.0-or-later
# The daemons of a host: how each is started and how it is known to be ready.
# They run in the foreground inside the host's namespaces, children of its init.

LAB_READY_SECONDS=30

# daemons of HOST, in the order they start: a compute host takes jobs only when
# its vcd is there to serve them
host_daemons() {
    local vcd=vcd
    [ "$LAB_VCD" != no ] || vcd=
    case $1 in
        ctl) printf '%s\n' munged $(accounting_daemons) slurmctld $vcd ;;
        *) printf '%s\n' munged virtlogd libvirtd $vcd slurmd ;;
    esac
}

require_daemon() {
    host_daemons "$1" | grep -x -- "${2:-}" >/dev/null ||
        die "host $1 has no daemon '${2:-}'; it has: $(host_daemons "$1" | xargs)"
}

daemon_command() {
    case $1 in
        munged) echo setpriv --reuid=munge --regid=munge --init-groups /usr/sbin/munged --foreground ;;
        slurmctld) echo /usr/sbin/slurmctld -D ;;
        slurmd) echo /usr/sbin/slurmd -D ;;
        virtlogd) echo /usr/sbin/virtlogd ;;
        libvirtd) echo /usr/sbin/libvirtd --listen ;;
        mariadbd|slurmdbd) echo setpriv --reuid=slurm --regid=slurm --init-groups $(accounting_command "$1") ;;
        vcd) echo /usr/sbin/vcd -F -c /etc/vcluster/vcd.conf --ready-fd 9 ;;
    esac
}

daemon_log() {
    case $1 in
        slurmctld|slurmd|slurmdbd) echo "/var/log/slurm/$1.log" ;;
        *) echo "/var/log/vclab/$1.log" ;;
    esac
}

# a daemon that takes the question and does not answer is not ready
ask_host() { in_host "$1" timeout 5 "${@:2}"; }

daemon_is_ready() {
    local host=$1 name=$2
    daemon_is_alive "$host" "$name" || return 1
    case $name in
        munged) ask_host "$host" sh -c 'munge -n | unmunge' ;;
        slurmctld) ask_host "$host" scontrol ping | grep -q 'is UP' ;;
        slurmd) ask_host "$host" scontrol show slurmd ;;
        mariadbd) in_host "$host" test -S "$ACCOUNTING_SOCKET" ;;
        slurmdbd) ask_host "$host" sacctmgr -n show cluster ;;
        virtlogd) in_host "$host" test -S /run/libvirt/virtlogd-sock ;;
        libvirtd) ask_host "$host" virsh -q -c qemu:///system uri ;;
        vcd) in_host "$host" test -s /run/vclab/vcd.ready ;;
    esac >/dev/null 2>&1
}

daemon_is_alive() { in_host "$1" sh -c 'kill -0 "$(cat /run/vclab/$1.pid)"' alive "$2" 2>/dev/null; }

daemon_start() {
    local host=$1 name=$2 command
    read -ra command < <(daemon_command "$name")
    in_host_joined "$host" sh -c '
        name=$1; shift
        : >"/run/vclab/$name.ready"
        [ ! -r "/run/vclab/$name.env" ] || { set -a; . "/run/vclab/$name.env"; } # a test has it run with more
        setsid "$@" </dev/null >>"/var/log/vclab/$name.log" 2>&1 9>"/run/vclab/$name.ready" &
        echo $! >"/run/vclab/$name.pid"' start "$name" "${command[@]}"
}

# wait until it is ready; a daemon that died is reported at once
daemon_wait() {
    local host=$1 name=$2 end=$((SECONDS + LAB_READY_SECONDS))
    until daemon_is_ready "$host" "$name"; do
        daemon_is_alive "$host" "$name" || daemon_failed "$host" "$name" "ended"
        [ "$SECONDS" -lt "$end" ] || daemon_failed "$host" "$name" "is not ready after $LAB_READY_SECONDS s"
        sleep 0.05
    done
}

daemon_failed() {
    note "$2 on host $1 of lab $LAB_ID $3; its last lines:"
    in_host "$1" sh -c 'tail -qn 12 "/var/log/vclab/$1.log" "$2"' tail "$2" "$(daemon_log "$2")" 2>/dev/null |
        awk '!seen[$0]++' | sed 's/^/  /' >&2
    exit 1
}

daemon_stop() {
    local host=$1 name=$2 signal=${3:-TERM}
    daemon_is_alive "$host" "$name" || return 0
    in_host "$host" sh -c 'kill -s "$2" "$(cat /run/vclab/$1.pid)"' stop "$name" "$signal"
    wait_for 15 daemon_is_gone "$host" "$name" && return
    note "$name on $host did not end in 15 s after SIG$signal: killing it"
    in_host "$host" sh -c 'kill -KILL "$(cat /run/vclab/$1.pid)"' stop "$name"
    wait_for 5 daemon_is_gone "$host" "$name"
}

daemon_is_gone() { ! daemon_is_alive "$@"; }

# start all of a host's daemons, each as early as what it needs allows
host_start_daemons() {
    local host=$1 name
    for name in $(host_daemons "$host"); do
        daemon_start "$host" "$name"
        case $name in slurmctld|slurmd) ;; *) daemon_wait "$host" "$name" ;; esac
    done
}

host_wait_daemons() {
    local name
    for name in $(host_daemons "$1"); do daemon_wait "$1" "$name"; done
}
