# SPDX-License-Identifier: GPL-2.0-or-later
# The commands of vclab, one function each.

# ---- up and down ----

cmd_up() {
    local stage='' started=$EPOCHREALTIME
    LAB_HOSTS=2 LAB_SITES=1 LAB_CPUS=8 LAB_MEM=4096 LAB_VCD=yes LAB_PLUGINS=yes LAB_ACCOUNTING=no
    LAB_MIRROR=$(mirror_url)
    up_options "$@"
    mkdir "$LAB_STATE" 2>/dev/null || die "lab $LAB_ID is up or half up; remove it with: VCLAB_ID=$LAB_ID vclab down"
    cgroup_make script
    cgroup_enter script "$BASHPID"       # so that `down` ends this one too
    mkdir -p "$LAB_STATE"/{hosts,home}
    stage_copy "$stage"
    config_common
    up_homes
    lab_save
    switch_start
    mirror_start
    up_hosts
    note "lab $LAB_ID is up: $(all_hosts | xargs) in $(seconds_since "$started") s$(up_says_vcd)"
}

up_options() {
    while [ $# -gt 0 ]; do
        case $1 in
            --no-vcd) LAB_VCD=no LAB_PLUGINS=no; shift; continue ;;
            --accounting) accounting_check; LAB_ACCOUNTING=yes; shift; continue ;;
            -h|--help) usage; exit 0 ;;
            --*) [ $# -ge 2 ] || die "$1 wants a value" ;;
        esac
        case $1 in
            --hosts) want_number "$1" "$2" 1 200; LAB_HOSTS=$((10#$2)) ;;
            --sites) want_number "$1" "$2" 1 20; LAB_SITES=$((10#$2)) ;;
            --cpus) want_number "$1" "$2" 1 1024; LAB_CPUS=$((10#$2)) ;;
            --mem) want_number "$1" "$2" 64 9999999; LAB_MEM=$((10#$2)) ;;
            --stage) [ -d "$2/usr" ] || die "--stage: no directory $2/usr"; stage=$2 ;;
            --slurm-plugins) [[ $2 =~ ^(yes|no)$ ]] || die "--slurm-plugins wants yes or no"; LAB_PLUGINS=$2 ;;
            --vcd-conf) [ -r "$2" ] || die "--vcd-conf: cannot read $2"; LAB_VCD_CONF=$(readlink -f "$2") ;;
            --slurm-conf) [ -r "$2" ] || die "--slurm-conf: cannot read $2"; LAB_SLURM_CONF=$(readlink -f "$2") ;;
            *) die "unknown option '$1'; see vclab --help" ;;
        esac
        shift 2
    done
    [ "$LAB_SITES" -le "$LAB_HOSTS" ] || die "$LAB_SITES sites need at least as many hosts"
    stage=${stage:-$(stage_default)}
}

# the stage that tests/run leaves in this clone
stage_default() {
    local dir
    dir=$(readlink -m "$VCLAB_DIR/../../_build/stage")
    [ ! -d "$dir/usr" ] || echo "$dir"
}

# The hosts run from a copy, LAB_STAGE: a `make install` beside them changes
# nothing until `restage`, which makes the next copy.
stage_copy() {
    local n=1
    while [ -e "$LAB_STATE/stages/$n" ]; do n=$((n + 1)); done
    LAB_STAGE=$LAB_STATE/stages/$n
    mkdir -p "$LAB_STAGE"
    [ -z "$1" ] || cp -a "$1/." "$LAB_STAGE/"
    [ -x "$LAB_STAGE/usr/sbin/vcd" ] || LAB_VCD=no
}

up_homes() {
    local entry
    for entry in "${LAB_USERS[@]}"; do
        install -d -m 700 -o "${entry#*:}" -g "${entry#*:}" "$LAB_STATE/home/${entry%:*}"
    done
}

# all hosts at once; the controller's own daemons first, they are waited for last
up_hosts() {
    local host jobs=()
    for host in $(all_hosts); do
        (host_create "$host" && host_start_daemons "$host") &
        jobs+=($!)
    done
    for host in "${jobs[@]}"; do wait "$host" || die "up failed; clean up with: VCLAB_ID=$LAB_ID vclab down"; done
    for host in $(all_hosts); do host_wait_daemons "$host"; done
    wait_for "$LAB_READY_SECONDS" nodes_are_idle ||
        die "not all hosts are idle: $(in_host ctl sinfo -hNo '%N=%T' | xargs)"
}

nodes_are_idle() { [ "$(in_host ctl sinfo -hNp main -t idle -o %N | wc -l)" -eq "$LAB_HOSTS" ]; }

seconds_since() { awk -v a="$1" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }'; }

up_says_vcd() { [ "$LAB_VCD" != no ] || echo " (without vcd)"; }

cmd_down() {
    cgroup_kill_all
    cgroup_remove
    rm -rf --one-file-system "$LAB_STATE"
    note "lab $LAB_ID is down"
}

# ---- looking ----

cmd_status() {
    local host
    lab_load
    if [ "${1:-}" = --json ]; then status_json; return; fi
    [ $# -eq 0 ] || die "status takes only --json"
    for host in $(all_hosts); do
        printf '%-4s %-14s %-3s %-5s %s\n' "$host" "$(host_addr "$host")" "$(host_site "$host")" \
            "$(host_state "$host")" "$(host_daemon_states "$host" '%s=%s ')"
    done
}

host_state() {
    host_is_up "$1" || { echo down; return; }
    [ "$(switch_port_state "$1")" = disabled ] && echo cut || echo up
}

host_daemon_states() {
    local name state
    host_is_up "$1" || return 0
    for name in $(host_daemons "$1"); do
        daemon_is_alive "$1" "$name" && state=up || state=down
        # shellcheck disable=SC2059
        printf "$2" "$name" "$state"
    done
}

status_json() {
    local host comma=
    printf '{"lab":%d,"hosts":[' "$LAB_ID"
    for host in $(all_hosts); do
        printf '%s{"name":"%s","address":"%s","site":"%s","state":"%s","daemons":{%s}}' "$comma" "$host" \
            "$(host_addr "$host")" "$(host_site "$host")" "$(host_state "$host")" \
            "$(host_daemon_states "$host" '"%s":"%s",' | sed 's/,$//')"
        comma=,
    done
    echo ']}'
}

cmd_env() {
    lab_load
    printf 'export VCLAB_ID=%d\nexport VCLAB_STATE=%q\nexport VCLAB_HOSTS=%q\nexport VCLAB_NET=%q\n' \
        "$LAB_ID" "$LAB_STATE" "$(compute_hosts | xargs)" "$LAB_NET"
    printf 'export VCLAB_VCD=%q\nexport VCLAB_PLUGINS=%q\n' "$LAB_VCD" "$LAB_PLUGINS"
}

cmd_log() {
    lab_load
    require_host "${1:-}"
    require_daemon "$1" "${2:-}"
    cat "$LAB_STATE/hosts/$1$(daemon_log "$2")"
}

# ---- acting ----

cmd_exec() {
    local host=${1:-} user=root dir='' vars=()
    lab_load
    require_host "$host"
    shift
    while [ $# -gt 0 ]; do
        case $1 in
            --user) user=${2:-}; shift 2 ;;
            --dir) dir=${2:-}; shift 2 ;;
            --env) vars+=("${2:-}"); shift 2 ;;
            --) shift; break ;;
            -*) die "exec: unknown option '$1'" ;;
            *) break ;;
        esac
    done
    [ $# -gt 0 ] || die "exec: which command?"
    host_is_up "$host" || die "host $host is down"
    [ -n "$dir" ] || dir=$(user_home "$user")
    cgroup_enter_census "$host"
    exec nsenter -t "$(host_pid "$host")" -n -u -m -p -i -C env -i -C "$dir" "PATH=$LAB_PATH" \
        "HOME=$(user_home "$user")" "USER=$user" "LOGNAME=$user" SHELL=/bin/bash LANG=C.UTF-8 "TERM=${TERM:-dumb}" \
        ${vars[@]+"${vars[@]}"} setpriv --pdeathsig TERM --reuid="$user" --regid="$(user_group "$user")" --init-groups "$@"
}

user_field() {
    awk -F: -v u="$1" -v f="$2" '$1 == u { print $f }' "$LAB_STATE/etc/passwd" | grep . || die "no user '$1' in the lab"
}

user_home() { user_field "$1" 6; }
user_group() { user_field "$1" 4; }

# enough to be found by `down`; joining every hierarchy is slow
cgroup_enter_census() { echo "$BASHPID" >"$(cgroup_census)/$LAB/$1/cgroup.procs"; }

cmd_kill() {
    lab_load
    require_host "${1:-}"
    host_kill "$1"
}

cmd_boot() {
    lab_load
    require_host "${1:-}"
    ! host_is_up "$1" || die "host $1 is up"
    rm -rf --one-file-system "$LAB_STATE/hosts/$1/tmp"
    mkdir "$LAB_STATE/hosts/$1/tmp"
    host_boot "$1"
    host_start_daemons "$1"
    host_wait_daemons "$1"
}

cmd_cut() { lab_load; require_host "${1:-}"; switch_port "$1" disabled; }
cmd_heal() { lab_load; require_host "${1:-}"; switch_port "$1" forwarding; }

cmd_stop() {
    lab_load
    require_host "${1:-}"
    require_daemon "$1" "${2:-}"
    daemon_stop "$1" "$2" "${3:-TERM}"
}

cmd_start() {
    lab_load
    require_host "${1:-}"
    require_daemon "$1" "${2:-}"
    ! daemon_is_alive "$1" "$2" || die "$2 runs on $1 already"
    daemon_start "$1" "$2"
    daemon_wait "$1" "$2"
}

cmd_restart() { cmd_stop "${@:1:2}"; cmd_start "${@:1:2}"; }


# New files of the product: mount the new copy in each host, then restart what
# has the old one loaded. The hosts' own configuration files stay.
cmd_restage() {
    local stage host
    lab_load
    stage=${1:-$(stage_default)}
    [ -n "$stage" ] && [ -d "$stage/usr" ] || die "restage: no directory '$stage/usr'"
    LAB_VCD=yes
    stage_copy "$stage"
    lab_save
    config_slurm >"$LAB_STATE/etc/slurm/slurm.conf"
    for host in $(all_hosts); do
        ! host_is_up "$host" || restage_host "$host"
    done
    for host in $(all_hosts); do
        ! host_is_up "$host" || host_wait_daemons "$host"
    done
}

restage_host() {
    local host=$1 name
    in_host "$host" sh -ec '
        ! mountpoint -q /usr || umount -l /usr
        mount -t overlay -o "lowerdir=/run/vclab/stages/$1/usr:/usr" usr /usr
        cat >/etc/slurm/slurm.conf' restage "${LAB_STAGE##*/}" <"$LAB_STATE/etc/slurm/slurm.conf"
    for name in slurmctld slurmd vcd; do
        host_daemons "$host" | grep -x "$name" >/dev/null || continue
        daemon_stop "$host" "$name"
        daemon_start "$host" "$name"
    done
}
