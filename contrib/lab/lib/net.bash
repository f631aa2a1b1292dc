# SPDX-License-Identifier: GPL-2.0-or-later
# The lab's switch: a network namespace of its own with one bridge per site.
# Nothing of it shows in the machine's own namespace. The only way out is the
# forwarder to the package mirror, two socats joined by a unix socket.

in_switch() { nsenter --net="/proc/$(<"$LAB_STATE/switch.pid")/ns/net" "$@"; }

switch_start() {
    local i
    cgroup_make switch
    (
        cgroup_enter switch "$BASHPID"
        exec setsid unshare --net bash -c 'echo $$ >"$1.new"; mv "$1.new" "$1"; exec sleep infinity' \
            vclab-switch "$LAB_STATE/switch.pid"
    ) </dev/null >/dev/null 2>&1 &
    wait_for 10 test -s "$LAB_STATE/switch.pid" || die "the switch's namespace did not start"
    in_switch ip link set lo up
    in_switch ip link add core type bridge forward_delay 0
    in_switch sysctl -qw net.ipv6.conf.core.disable_ipv6=1
    in_switch ip addr add "$(host_addr mirror)/24" dev core
    in_switch ip link set core up
    for ((i = 1; i <= LAB_SITES; i++)); do switch_add_site "s$i"; done
}

# a site is a bridge with an uplink to the core
switch_add_site() {
    in_switch ip link add "$1" type bridge forward_delay 0
    in_switch ip link add "$1-up" master "$1" type veth peer name "$1-core"
    in_switch ip link set "$1-core" master core
    in_switch ip link set "$1" up
    in_switch ip link set "$1-up" up
    in_switch ip link set "$1-core" up
}

switch_plug() {
    local host=$1 pid=$2
    in_switch ip link add "$host" type veth peer name eth0 netns "$pid"
    in_switch ip link set "$host" master "$(host_site "$host")"
    in_switch ip link set "$host" up
    nsenter --net="/proc/$pid/ns/net" bash -ec '
        ip link set lo up
        sysctl -qw net.ipv6.conf.all.disable_ipv6=1
        ip addr add "$1/24" dev eth0
        ip link set eth0 up' plug "$(host_addr "$host")"
}

# A disabled port drops everything both ways; links and sockets notice nothing.
switch_port() { in_switch bridge link set dev "$1" state "$2"; }

switch_port_state() {
    in_switch bridge link show dev "$1" 2>/dev/null | grep -oE 'state [a-z]+' | head -n1 | cut -d' ' -f2
}

# host and port that the mirror's traffic goes to: the machine's proxy, or the
# host of its Debian package source
mirror_target() {
    local url
    url=$(apt-config dump Acquire::http::Proxy 2>/dev/null | sed -n 's/.*"\(http:[^"]*\)".*/\1/p' | head -n1)
    url=${url:-${http_proxy:-}}
    [ -n "$url" ] || url=$(mirror_url)
    url=${url#http://}; url=${url%%/*}
    case $url in *:*) echo "$url" ;; *) echo "$url:80" ;; esac
}

mirror_url() {
    local url
    url=$({ sed -n 's/^URIs:[[:space:]]*//p' /etc/apt/sources.list.d/*.sources
            sed -nE 's/^deb +(\[[^]]*\] +)?(http:[^ ]+).*/\2/p' /etc/apt/sources.list /etc/apt/sources.list.d/*.list
          } 2>/dev/null | tr ' ' '\n' | grep -E '^http://.*/debian/?$' | head -n1) || true
    echo "${url:-http://deb.debian.org/debian}"
}

mirror_start() {
    local socket=$LAB_STATE/mirror.sock
    (
        cgroup_enter switch "$BASHPID"
        setsid socat "UNIX-LISTEN:$socket,fork,mode=600" "TCP:$(mirror_target),connect-timeout=20" &
        exec setsid nsenter --net="/proc/$(<"$LAB_STATE/switch.pid")/ns/net" socat \
            "TCP-LISTEN:3142,bind=$(host_addr mirror),range=$LAB_NET.0/24,reuseaddr,fork" "UNIX-CONNECT:$socket"
    ) </dev/null >>"$LAB_STATE/mirror.log" 2>&1 &
}
