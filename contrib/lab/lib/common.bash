# SPDX-License-Identifier: GPL-2.0-or-later
# The lab's identity, its state directory and small helpers.

die() { printf 'vclab: %s\n' "$*" >&2; exit 1; }
note() { printf 'vclab: %s\n' "$*" >&2; }

# What every command needs: who the lab is and where its state lives.
lab_init() {
    [ "$(id -u)" -eq 0 ] || die "must be run as root (it makes namespaces)"
    LAB_ID=${VCLAB_ID:-0}
    [[ $LAB_ID =~ ^[0-9]{1,2}$ ]] || die "VCLAB_ID is '$LAB_ID': use a number from 0 to 99"
    LAB_ID=$((10#$LAB_ID))
    LAB=vclab-$LAB_ID
    LAB_STATE=/var/tmp/$LAB
    LAB_NET=10.77.$LAB_ID
    close_inherited
    LAB_PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
}

# The daemons outlive this script and must not hold its caller's files open.
close_inherited() {
    local fd
    for fd in /proc/"$BASHPID"/fd/*; do
        fd=${fd##*/}
        [ "$fd" -le 2 ] || [ "$fd" -ge 250 ] || eval "exec $fd>&-"
    done
}

# The lab's settings (those of `up`) as variables LAB_HOSTS, LAB_CPUS, ...
lab_load() {
    [ -r "$LAB_STATE/lab.conf" ] || die "lab $LAB_ID is not up; start it with: vclab up"
    # shellcheck source=/dev/null
    . "$LAB_STATE/lab.conf"
}

lab_save() {
    local name
    for name in LAB_HOSTS LAB_SITES LAB_CPUS LAB_MEM LAB_VCD LAB_PLUGINS LAB_ACCOUNTING LAB_MIRROR LAB_STAGE LAB_VCD_CONF LAB_SLURM_CONF; do
        printf '%s=%q\n' "$name" "${!name:-}"
    done >"$LAB_STATE/lab.conf"
}

compute_hosts() {
    local i
    for ((i = 1; i <= LAB_HOSTS; i++)); do printf 'n%d\n' "$i"; done
}

all_hosts() { echo ctl; compute_hosts; }

require_host() {
    [ -n "${1:-}" ] || die "which host? one of: $(all_hosts | xargs)"
    all_hosts | grep -x -- "$1" >/dev/null || die "no host '$1' in lab $LAB_ID; there are: $(all_hosts | xargs)"
}

# host_addr HOST -> address in the lab's network
host_addr() {
    case $1 in
        ctl) echo "$LAB_NET.2" ;;
        mirror) echo "$LAB_NET.254" ;;
        n*) echo "$LAB_NET.$((10 + ${1#n}))" ;;
    esac
}

# host_site HOST -> s1..sS; neighbours share a site, ctl is in the first
host_site() {
    [ "$1" != ctl ] || { echo s1; return; }
    echo "s$(((${1#n} - 1) * LAB_SITES / LAB_HOSTS + 1))"
}

# wait_for SECONDS COMMAND...: polls until the command succeeds, quietly
wait_for() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.05
    done
}

want_number() {
    [[ $2 =~ ^[0-9]{1,7}$ ]] && [ "$2" -ge "$3" ] && [ "$2" -le "$4" ] ||
        die "$1 wants a number from $3 to $4, got '$2'"
}
