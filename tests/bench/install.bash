# SPDX-License-Identifier: GPL-2.0-or-later
# About: the time to bring an image to many hosts, against the wire and against other tools
#
# A lab of hosts whose links are shaped both ways (tbf on the host's port and on the switch's), so that one machine stands for
# a network. The image is noise (a file system's magic number in it), so that nothing compresses and every chunk is known. What is
# measured is what an admin does: `vcctl image stage`, from the command's start to its end, when the last host has published its copy.
# The hosts' stores are on tmpfs in every case: the machine has one disk, not one per host. In the same lab and with as many bytes: a
# chain of socat and tee (the admin's classic: no checks, dies with any member), a star of socats, udpcast.
#
# Parts (BENCH_PARTS): stage, always; chain star udpcast; kill cut: one vcd in the middle killed, or its host cut off, at half time, and
# the time of the others; cpu; delta: one chunk in twenty changed, the bytes that leave each link's qdisc for what was changed; gaps: hosts
# lack different random halves, the same for what the link's receiver lacks; fair: two images at once, Jain's index of their rates; debian:
# a real image to two hosts, against zstd -3 of its file on the wire; fit: T(N) = S/B + (N-1)h + c over 2 to N hosts, 16 MiB each.
# BENCH_NET: "8@200mbit" (default), "32@50mbit" and the like; the names of bars end in the number of hosts. BENCH_MIB: size (64).

BENCH_PAIRS=3

NET=${BENCH_NET:-8@200mbit}
N=${NET%%@*}
RATE=${NET##*@}
MIB=${BENCH_MIB:-64}
if [ "$N" -ge 32 ]; then PARTS=${BENCH_PARTS:-chain cpu fit}; else PARTS=${BENCH_PARTS:-chain star udpcast kill cut cpu delta gaps fair debian}; fi
FIT_MIB=16 FIT_TRIES=3   # of which the median counts
DEBIAN_HOSTS=2           # unpacking and hashing 600 MB on each takes the processors that all hosts share here
STORE=/var/lib/vcluster/images
PORT=9000

bench_main() {
    local bits=${RATE%mbit} pair
    WIRE_MS=$((MIB * 8388608 / bits / 1000))
    lab_up 0 --hosts "$N" --slurm-plugins no --cpus 1 --mem 1024
    each_host prepare_host
    agent_start ctl 0 ctl
    agent_start ctl2 0 ctl
    say "size / rate is $WIRE_MS ms"
    ! part debian || build_debian
    for ((pair = 1; pair <= PAIRS; pair++)); do
        stage_noise "$pair"
        ! part chain || tee_chain "$pair"
        ! part star || star "$pair"
        ! part udpcast || udpcast "$pair"
        ! part kill || disturbed kill "$pair"
        ! part cut || disturbed cut "$pair"
        ! part delta || delta "$pair"
        ! part gaps || gaps "$pair"
        ! part fair || fair "$pair"
        ! part debian || debian "$pair"
        ! part fit || fit "$pair"
    done
    say_bars
}

part() { [[ " $PARTS " == *" $1 "* ]]; }

say_bars() {
    local note="$PAIRS pairs of seconds each on 2 cores" wire=1.10
    [ "$N" -lt 32 ] || wire=1.08
    bar "install_vs_wire_$N" ratio stage wire 1 lower "$wire" - 3 "$note"
    if part chain; then
        bar "install_vs_chain_$N" ratio stage chain 1 lower 1.04 - 3 "$note"
        bar "chain_vs_wire_$N" ratio chain wire 1 lower -
    fi
    ! part star || bar "star_vs_wire_$N" ratio star wire 1 lower -
    ! part udpcast || bar "udpcast_vs_wire_$N" ratio udpcast wire 1 lower -
    ! part delta || bar install_delta_bytes value delta - 1 lower 1.08 0.15 3 "$note"
    ! part gaps || bar install_gaps_bytes value gaps - 1 lower 1.08 0.15 3 "$note"
    ! part fair || bar install_fairness value fairness - 1 higher 0.9 0.15 3 "$note"
    ! part debian || bar install_debian_vs_zstd ratio debian debian_zstd 1 lower 1.25 - 3 "$note"
    if part fit; then
        bar install_h_ms value h - ms lower 10 10 3 "$note; each of $FIT_TRIES tries for each N"
        bar install_fit_r2 value r2 - 1 higher 0.98 0.15 3 "$note"
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

# import NAME FILE: as an image of everybody's
import() { on ctl vcctl image import "$1" "$2" --public >>"$WORK/log" 2>&1 || die "image $1 could not be made: $(tail -n 2 "$WORK/log")"; }

# The magic number of a file system: without it nobody takes the noise for an image.
as_file_system() { on ctl sh -c 'printf "\123\357" | dd of="$1" bs=1 seek=1080 conv=notrunc status=none' magic "$1"; }

# noise NAME [MIB]
noise() {
    on ctl sh -c 'head -c "$1M" /dev/urandom >/run/bench/noise' noise "${2:-$MIB}"
    as_file_system /run/bench/noise
    import "$1" /run/bench/noise
}

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

# stage_now IMAGE HOSTS: sets MICROSECONDS
stage_now() {
    stage_send "$1" "$2"
    stage_wait
    last_ms "$ANSWER" >/dev/null || die "$1: not all hosts got it: $ANSWER"
}

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

# Each host has a socat of its own from the controller: its link carries every copy.
star_member() { echo "socat -u TCP-LISTEN:$PORT,reuseaddr OPEN:/run/bench/copy,creat,trunc"; }
ready_star() { local h; for h in $(hosts); do wait_listener "$h"; done; }
star() {
    source_file
    [ "$1" = 1 ] || return 0
    race "$1" star star_member "for h in $(hosts | xargs); do socat -u OPEN:/run/bench/src TCP:\$h:$PORT & done; wait"
}

udpcast_member() { echo "udp-receiver --nokbd --interface eth0 --portbase $PORT --file /run/bench/copy --start-timeout 60 >/dev/null"; }
ready_udpcast() { local h; for h in $(hosts); do wait_until 30 "udp-receiver on $h" on "$h" sh -c "ss -lun | grep -q :$PORT"; done; }
# told the rate of the wire: without, it drowns the queue, and is slower
udpcast() {
    source_file
    race "$1" udpcast udpcast_member "udp-sender --nokbd --interface eth0 --portbase $PORT --file /run/bench/src --min-receivers $N \
        --max-wait 60 --full-duplex --max-bitrate $((${RATE%mbit} * 93 / 100))m >/dev/null"
}

# ---- bytes ----

# bytes that have left each host's qdisc, ctl first
qdisc_bytes() {
    local h
    for h in ctl $(hosts); do on "$h" tc -j -s qdisc show dev eth0 | python3 -c 'import json,sys; print(json.load(sys.stdin)[0]["bytes"])'; done
}

# worst_link BEFORE AFTER LACKING...: of the links into n1, n2...: bytes out of the sender's qdisc for the bytes that the receiver lacked
worst_link() {
    python3 -c 'import sys
before, after, lacking = ([int(x) for x in a.split()] for a in sys.argv[1:4])
print("%.4f" % max((after[i] - before[i]) / lacking[i] for i in range(len(lacking))))' "$1" "$2" "${*:3}"
}

# 64 KiB chunks: chunk 0 has the magic number and stays
delta() {
    local before after lacking changed
    noise "base$1"
    stage_now "base$1" "$(all)"
    changed=$(on ctl python3 -c 'import os,random,sys
random.seed(int(sys.argv[1]))
with open("/run/bench/noise", "r+b") as f:
    n = os.fstat(f.fileno()).st_size // 65536
    chunks = random.sample(range(1, n), n // 20)
    for c in chunks:
        f.seek(c * 65536); f.write(os.urandom(65536))
print(len(chunks) * 65536)' "$1")
    import "changed$1" /run/bench/noise
    lacking=$(hosts | sed "s/.*/$changed/" | xargs)
    before=$(qdisc_bytes)
    stage_now "changed$1" "$(all)"
    after=$(qdisc_bytes)
    row delta "$1" "$(worst_link "$(xargs <<<"$before")" "$(xargs <<<"$after")" "$lacking")" 1
}

gaps() {
    local before after lacking h
    noise "whole$1"
    lacking=$(on ctl python3 -c 'import os,random,sys
random.seed(int(sys.argv[1])); lacking = []
with open("/run/bench/noise", "rb") as f:
    n = os.fstat(f.fileno()).st_size // 65536
    for h in range(int(sys.argv[2])):
        gone = set(random.sample(range(1, n), n // 2))
        with open("/run/bench/half%d" % (h + 1), "wb") as out:
            for c in range(n):
                f.seek(c * 65536); data = f.read(65536)
                if c not in gone: out.seek(c * 65536); out.write(data)
            out.truncate(n * 65536)
        lacking.append(len(gone) * 65536)
print(*lacking)' "$1" "$N")
    for h in $(hosts); do
        import "half$1-$h" "/run/bench/half${h#n}"
        stage_now "half$1-$h" "$h"
    done
    on ctl sh -c 'rm -f /run/bench/half*'
    before=$(qdisc_bytes)
    stage_now "whole$1" "$(all)"
    after=$(qdisc_bytes)
    row gaps "$1" "$(worst_link "$(xargs <<<"$before")" "$(xargs <<<"$after")" "$lacking")" 1
}

# ---- several images, a real one, several sizes of chain ----

fair() {
    local a b
    noise "fair$1a"
    noise "fair$1b"
    stage_send "fair$1a" "$(all)"
    agent_send ctl2 "vcctl image stage fair$1b $(all) --json >/run/bench/answer2 2>/dev/null"
    stage_wait
    a=$MICROSECONDS
    agent_wait ctl2
    b=$MICROSECONDS
    row fairness "$1" "$(awk -v a="$a" -v b="$b" 'BEGIN { x = 1 / a; y = 1 / b; printf "%.4f", (x + y) ^ 2 / (2 * (x * x + y * y)) }')" 1
}

build_debian() {
    say "building a Debian image"
    on ctl sh -ec 'cd /root; printf "name = debian\npackages = { \"mpich\" }\nvisibility = public\n" >debian.recipe; vcctl image build debian.recipe' \
        >>"$WORK/log" 2>&1 || die "the Debian image could not be built: $(tail -n 2 "$WORK/log")"
    DEBIAN_BYTES=$(on ctl sh -c 'id=$(vcctl image show debian --json | sed -n "s/.*\"digest\": *\"\([0-9a-f]*\)\".*/\1/p" | head -n1)
        zstd -3 -q -c "/var/lib/vcluster/images/$id/root.raw" | wc -c')
    say "zstd -3 of it has $((DEBIAN_BYTES >> 20)) MiB"
}

# hosts that do not have it yet
debian() {
    local first=$((($1 - 1) * DEBIAN_HOSTS + 1))
    [ $((first + DEBIAN_HOSTS - 1)) -le "$N" ] || return 0
    stage_now debian "n[$first-$((first + DEBIAN_HOSTS - 1))]"
    row debian "$1" "$(ms "$MICROSECONDS")" ms
    row debian_zstd "$1" "$((DEBIAN_BYTES * 8 / ${RATE%mbit} / 1000))" ms
}

fit() {
    local n try line
    : >"$WORK/fit"
    for ((try = 1; try <= FIT_TRIES; try++)); do
        for n in 2 4 8 16 32; do
            [ "$n" -le "$N" ] || continue
            noise "fit$1-$n-$try" "$FIT_MIB"
            stage_now "fit$1-$n-$try" "n[1-$n]"
            echo "$n $MICROSECONDS" >>"$WORK/fit"
        done
    done
    line=$(python3 -c 'import sys, statistics
t = {}
for n, us in (map(int, l.split()) for l in open(sys.argv[1])): t.setdefault(n, []).append(us / 1000)
x = [n - 1 for n in t]; y = [statistics.median(v) for v in t.values()]
mx, my = statistics.mean(x), statistics.mean(y)
h = sum((a - mx) * (b - my) for a, b in zip(x, y)) / sum((a - mx) ** 2 for a in x)
rest = sum((b - my - h * (a - mx)) ** 2 for a, b in zip(x, y))
print("%.3f %.4f" % (h, 1 - rest / sum((b - my) ** 2 for b in y)))' "$WORK/fit")
    row h "$1" "${line% *}" ms
    row r2 "$1" "${line#* }" 1
}

source_file() { on ctl sh -c "[ -e /run/bench/src ] || head -c ${MIB}M /dev/urandom >/run/bench/src"; }

tee_member() {
    if [ -n "$2" ]; then echo "socat -u TCP-LISTEN:$PORT,reuseaddr - | tee /run/bench/copy | socat -u - TCP:$2:$PORT,retry=300,interval=0.1"
    else echo "socat -u TCP-LISTEN:$PORT,reuseaddr OPEN:/run/bench/copy,creat,trunc"; fi
}
tee_chain() { source_file; race "$1" chain tee_member "socat -u OPEN:/run/bench/src TCP:n1:$PORT"; }
