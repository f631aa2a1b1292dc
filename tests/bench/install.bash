# SPDX-License-Identifier: GPL-2.0-or-later
# About: the time to bring an image to many hosts, against the wire and against other tools
#
# A lab of hosts whose links are shaped both ways (tbf on the host's port and on the switch's), so that one machine stands for
# a network. The image is noise in a file system, so that nothing compresses. What is measured is what an admin does: `vcctl
# image stage`, from the command's start to its end, when the last host has published its copy. The hosts' stores are on tmpfs
# in every case: the machine has one disk, not one per host. In the same lab and with as many bytes: a chain of socat and tee (the
# admin's classic: no checks, dies with any member). Then one vcd in the middle killed, or its host cut off, at half time: the time
# of the others.
#
# BENCH_PARTS: chain kill cut cpu (all by default). BENCH_NET: "8@200mbit" (default) or
# "32@50mbit" and the like; the names of bars end in the number of hosts. BENCH_MIB: size (64).

BENCH_PAIRS=3

NET=${BENCH_NET:-8@200mbit}
N=${NET%%@*}
RATE=${NET##*@}
MIB=${BENCH_MIB:-64}
PARTS=${BENCH_PARTS:-chain kill cut cpu}
STORE=/var/lib/vcluster/images
PORT=9000

bench_main() {
    local bits=${RATE%mbit} pair
    WIRE_MS=$((MIB * 8388608 / bits / 1000))
    lab_up 0 --hosts "$N" --slurm-plugins no --cpus 1 --mem 1024
    each_host prepare_host
    agent_start ctl 0 ctl
    say "size / rate is $WIRE_MS ms"
    for ((pair = 1; pair <= PAIRS; pair++)); do
        stage_noise "$pair"
        ! part chain || tee_chain "$pair"
        ! part kill || disturbed kill "$pair"
        ! part cut || disturbed cut "$pair"
    done
    say_bars
}

part() { [[ " $PARTS " == *" $1 "* ]]; }

say_bars() {
    local note="$PAIRS pairs of seconds each on 2 cores" wire=1.10 chain=-
    [ "$N" -lt 32 ] || wire=1.08 chain=1.04
    bar "install_vs_wire_$N" ratio stage wire 1 lower "$wire" - 3 "$note"
    if part chain; then
        bar "install_vs_chain_$N" ratio stage chain 1 lower "$chain" - 3 "$note"
        bar "chain_vs_wire_$N" ratio chain wire 1 lower -
    fi
    ! part kill || bar "install_kill_process_$N" ratio kill stage 1 lower 1.15 - 3 "$note"
    ! part cut || bar "install_kill_host_$N" ratio cut stage 1 lower 1.6 - 3 "$note"
    ! part cpu || bar install_cpu_per_hop_s value cpu - s lower 0.4 0.2 3 "$note"
}

# ---- the lab ----

hosts() { seq -f 'n%.0f' 1 "$N"; }
on() { lab 0 exec "$@"; }
each_host() { local h jobs=(); for h in ctl $(hosts); do "$1" "$h" & jobs+=($!); done; for h in "${jobs[@]}"; do wait "$h" || die "$1 failed"; done; }

prepare_host() {
    lab 0 stop "$1" vcd 2>>"$WORK/log"
    on "$1" sh -ec 'mount -t tmpfs tmpfs "$1"; mkdir -p /run/bench; mount -t tmpfs tmpfs /run/bench
        tc qdisc add dev eth0 root tbf rate "$2" burst 32kb latency 40ms' prepare "$STORE" "$RATE"
    switch tc qdisc add dev "$1" root tbf rate "$RATE" burst 32kb latency 40ms
    lab 0 start "$1" vcd 2>>"$WORK/log"
}

switch() { nsenter --net="/proc/$(<"/var/tmp/vclab-$FIRST_LAB/switch.pid")/ns/net" "$@"; }

# ---- images ----

# import NAME: /root/r as an image of everybody's
import() {
    on ctl bash -ec 'cd /root; tar -cf r.tar -C r .; vcctl image import "$1" r.tar --public; rm -f r.tar' import "$1" >>"$WORK/log" 2>&1 ||
        die "image $1 could not be made: $(tail -n 2 "$WORK/log")"
}

noise() { on ctl bash -ec 'rm -rf /root/r; mkdir -p /root/r/bin; head -c "${1}M" /dev/urandom >/root/r/data' noise "$MIB"; import "$1"; }

all() { echo "n[1-$N]"; }

# the longest after_ms of the hosts but $2 in an answer
last_ms() { python3 -c 'import json,sys
r = json.loads(sys.argv[1])["hosts"]
bad = [h for h in r if "error" in r[h] and h != sys.argv[2]]
sys.exit("hosts failed: %s" % bad) if bad else print(max(v["after_ms"] for h, v in r.items() if h != sys.argv[2]))' "$1" "${2:-}"; }

busy() { awk '/^cpu / { print $2 + $3 + $4 + $7 + $8 + $9 }' /proc/stat; } # 1/100 s

# stage_send IMAGE HOSTS, stage_wait: MICROSECONDS, and ANSWER as vcctl gave it
stage_send() { agent_send ctl "vcctl image stage $1 $2 --json >/run/bench/answer 2>/dev/null || true"; }
stage_wait() { agent_wait ctl; ANSWER=$(on ctl cat /run/bench/answer); }

stage_noise() {
    local before idle after
    noise "noise$1"
    before=$(busy); sleep 2; idle=$(($(busy) - before))
    before=$(busy)
    stage_send "noise$1" "$(all)"
    agent_wait ctl
    after=$(busy)
    ANSWER=$(on ctl cat /run/bench/answer)
    last_ms "$ANSWER" >/dev/null || die "not all hosts got it: $ANSWER"
    STAGE_MS=$((MICROSECONDS / 1000))
    row stage "$1" "$(ms "$MICROSECONDS")" ms
    row wire "$1" "$WIRE_MS" ms
    ! part cpu || row cpu "$1" "$(awk -v b="$((after - before))" -v i="$idle" -v us="$MICROSECONDS" -v n="$N" -v m="$MIB" \
        'BEGIN { printf "%.3f", (b - i / 2 * us / 1e6) / 100 / n * 64 / m }')" s
}

# disturbed kill|cut PAIR: one host in the middle, at half time; the others' time
disturbed() {
    local victim=n$(((N + 1) / 2)) answer
    noise "$1$2"
    stage_send "$1$2" "$(all)"
    sleep "$(awk -v ms="$STAGE_MS" 'BEGIN { printf "%.3f", ms / 2000 }')"
    if [ "$1" = kill ]; then lab 0 stop "$victim" vcd KILL; else lab 0 cut "$victim"; fi 2>>"$WORK/log"
    if [ "$1" = cut ]; then sleep "$(awk -v ms="$STAGE_MS" 'BEGIN { printf "%.3f", ms / 1000 * 2 }')"; lab 0 heal "$victim"; fi
    stage_wait
    answer=$(last_ms "$ANSWER" "$victim") || die "after $1: $ANSWER"
    row "$1" "$2" "$answer" ms
    [ "$1" = cut ] || lab 0 start "$victim" vcd 2>>"$WORK/log"
}

# ---- others ----

wait_listener() { wait_until 30 "a listener on $1" on "$1" sh -c "ss -ltn | grep -q :$PORT"; }
# what shows that all receivers are ready; members of a chain take each other's listeners away as they connect, from its end
ready_chain() { wait_listener n1; sleep 2; }

# Starts COMMAND (a function of host and next host) on all hosts, then sends from ctl; the time until the last one has ended.
race() {
    local pair=$1 series=$2 command=$3 send=$4 h i=0 next began jobs=()
    for h in $(hosts); do
        i=$((i + 1))
        next=n$((i + 1)); [ "$i" -lt "$N" ] || next=
        on "$h" sh -c "$("$command" "$h" "$next")" 2>>"$WORK/log" & jobs+=($!)
    done
    "ready_$series"
    began=${EPOCHREALTIME/./}
    agent_send ctl "$send"
    for h in "${jobs[@]}"; do wait "$h" || die "$series: a receiver failed"; done
    row "$series" "$pair" "$(ms $((${EPOCHREALTIME/./} - began)))" ms
    agent_wait ctl
}

source_file() { on ctl sh -c "[ -e /run/bench/src ] || head -c ${MIB}M /dev/urandom >/run/bench/src"; }

tee_member() {
    if [ -n "$2" ]; then echo "socat -u TCP-LISTEN:$PORT,reuseaddr - | tee /run/bench/copy | socat -u - TCP:$2:$PORT,retry=300,interval=0.1"
    else echo "socat -u TCP-LISTEN:$PORT,reuseaddr OPEN:/run/bench/copy,creat,trunc"; fi
}
tee_chain() { source_file; race "$1" chain tee_member "socat -u OPEN:/run/bench/src TCP:n1:$PORT"; }
