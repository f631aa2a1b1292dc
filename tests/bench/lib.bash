# SPDX-License-Identifier: GPL-2.0-or-later
# What benchmarks share: rows and bars, labs of their own, and agents: shells that wait inside a lab's host, so that a
# measurement does not hold the time it takes to get there. Every wait has a limit.

VCLAB=$TOP/contrib/lab/vclab
STATS=$BUILD/normal/tests/bench/stats
FIRST_LAB=${VCLAB_ID:-20}
PRECEDENCE=${BENCH_PRECEDENCE:-15}   # 0: none
ASK_SECONDS=180          # one measurement
BUILD_SECONDS=1800

say() { printf 'bench: %s\n' "$*" >&2; }
die() { say "$*"; exit 3; }

# ---- begin and end ----

bench_begin() {
    WORK=$(mktemp -d /tmp/vcbench.XXXXXX)
    LABS=() AGENTS=() STAGE=$BUILD/stage
    : >"$WORK/rows"
    : >"$WORK/bars"
    take_precedence
    trap bench_end EXIT
    trap 'exit 3' INT TERM HUP
}

# Over the machine's other work, for this process and what it starts; labs have their own groups, see lab_up.
take_precedence() {
    [ "$PRECEDENCE" -gt 0 ] || return 0
    renice -n "-$PRECEDENCE" -p $$ >/dev/null 2>&1 || true
    echo "-$PRECEDENCE" >/proc/self/autogroup 2>/dev/null || true
}

bench_build() {
    say "building (log: $BUILD/log)"
    timeout "$BUILD_SECONDS" "$TOP/tests/run" --stage >&2 || die "the build failed"
}

# the trap: what was measured stays when something went wrong
bench_end() {
    local status=$?
    trap '' INT TERM HUP
    labs_end
    if [ "$status" -eq 3 ]; then say "what was measured and logged is in $WORK"; else rm -rf "$WORK"; fi
}

labs_end() {
    local lab
    agents_end
    for lab in ${LABS[@]+"${LABS[@]}"}; do
        [ "$KEEP_LABS" = no ] || { say "lab $lab stays up; remove it with: VCLAB_ID=$lab $VCLAB down"; continue; }
        VCLAB_ID=$lab timeout 120 "$VCLAB" down 2>>"$WORK/log" || say "lab $lab could not be taken down; see $WORK/log"
    done
    LABS=()
}

# ---- rows and bars ----

# row SERIES PAIR VALUE UNIT
row() {
    printf '%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$4" >>"$WORK/rows"
    [ "$VERBOSE" = no ] || say "pair $2: $1 $3 $4"
}

# bar NAME KIND SERIES BASELINE UNIT BETTER LIMIT [WIDTH [PAIRS_MIN [NOTE]]]: see report.h
bar() {
    local IFS=$'\t'
    printf '%s\n' "$1	$2	$3	$4	$5	$6	$7	${8:--}	${9:--}	${10:--}" >>"$WORK/bars"
}

# ms MICROSECONDS, and the like: decimals that bash has not
ms() { printf '%d.%03d' "$(($1 / 1000))" "$(($1 % 1000))"; }
seconds() { printf '%d.%06d' "$(($1 / 1000000))" "$(($1 % 1000000))"; }
mib_per_s() { awk -v b="$1" -v us="$2" 'BEGIN { printf "%.3f", b / 1048576 / (us / 1e6) }'; }   # BYTES MICROSECONDS

# interleave A B...: calls `A PAIR`, `B PAIR`... for each pair, in the other order in every other one
interleave() {
    local pair i
    for ((pair = 1; pair <= PAIRS; pair++)); do
        for ((i = 1; i <= $#; i++)); do
            if ((pair % 2)); then "${!i}" "$pair"; else local j=$(($# + 1 - i)); "${!j}" "$pair"; fi
        done
    done
}

wait_until() {
    local end=$((SECONDS + $1)) reason=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || die "waited too long for: $reason"
        sleep 0.1
    done
}

# ---- labs ----

# lab N COMMAND...: vclab for the benchmark's N-th lab (from 0)
lab() { VCLAB_ID=$((FIRST_LAB + $1)) "$VCLAB" "${@:2}"; }

# lab_up N OPTIONS...
lab_up() {
    local id=$((FIRST_LAB + $1))
    [ ! -e "/var/tmp/vclab-$id" ] || die "lab $id is up; remove it with: VCLAB_ID=$id $VCLAB down"
    LABS+=("$id")
    VCLAB_ID=$id timeout 180 "$VCLAB" up --stage "$STAGE" "${@:2}" 2>>"$WORK/log" ||
        die "lab $id did not come up: $(tail -n 3 "$WORK/log" | xargs -0)"
    lab_precedence "$id"
}

# cpu.shares (cgroup 1) or cpu.weight (cgroup 2) of the lab's own group
lab_precedence() {
    local file
    [ "$PRECEDENCE" -gt 0 ] || return 0
    for file in /sys/fs/cgroup/cpu*/"vclab-$1"/cpu.shares /sys/fs/cgroup/"vclab-$1"/cpu.weight; do
        [ ! -w "$file" ] || echo "$((PRECEDENCE * 600))" >"$file"
    done
}

# lab_image N USER [OPTIONS]: the image "tiny" of that user in the benchmark's N-th lab
# shellcheck disable=SC2016
lab_image() {
    "$TOP/contrib/recipes/make-tiny-root" "$WORK/tiny.tar" || die "no root file system for the image"
    lab "$1" exec ctl --user "$2" sh -c 'cd && cat >tiny.tar && vcctl image import tiny tiny.tar "$@"' sh "${@:3}" \
        <"$WORK/tiny.tar" >>"$WORK/log" 2>&1 || die "the image could not be imported: $(tail -n 2 "$WORK/log")"
}

stage_has() { [ -n "$(find "$BUILD/stage" -path "*/$1" -print -quit 2>/dev/null)" ]; }

# ---- agents ----

# Runs in the lab: commands end with a zero byte, each is answered by one line: microseconds, status, output. A command
# that may call exit has to be in parentheses.
# shellcheck disable=SC2016
AGENT_LOOP='
    dir=$(mktemp -d); trap "rm -rf \"$dir\"" EXIT
    echo ready
    while IFS= read -r -d "" agent_command; do
        agent_started=${EPOCHREALTIME/./}
        eval "$agent_command" </dev/null >"$dir/out" 2>"$dir/err"
        agent_status=$?
        echo "$((${EPOCHREALTIME/./} - agent_started)) $agent_status $(head -c 2000 "$dir/out" | tr "\n" " ") $(
            [ $agent_status -eq 0 ] || tail -c 500 "$dir/err" | tr "\n" " ")"
    done'

# agent_start NAME N HOST [VCLAB EXEC OPTIONS] [-- COMMAND THAT RUNS THE SHELL...]
agent_start() {
    local name=$1 lab=$2 host=$3 words=() line in out
    shift 3
    while [ $# -gt 0 ] && [ "$1" != -- ]; do words+=("$1"); shift; done
    [ $# -eq 0 ] || shift
    rm -f "$WORK/$name.in" "$WORK/$name.out"         # of an agent in a lab that has ended
    mkfifo "$WORK/$name.in" "$WORK/$name.out"
    VCLAB_ID=$((FIRST_LAB + lab)) "$VCLAB" exec "$host" ${words[@]+"${words[@]}"} "$@" bash -c "$AGENT_LOOP" \
        <"$WORK/$name.in" >"$WORK/$name.out" 2>>"$WORK/$name.err" &
    AGENTS+=("$name:$!")
    exec {in}>"$WORK/$name.in" {out}<"$WORK/$name.out"
    eval "AGENT_IN_$name=$in AGENT_OUT_$name=$out"
    read -r -t "$ASK_SECONDS" -u "$out" line && [ "$line" = ready ] ||
        die "$name did not start: $(tail -n 3 "$WORK/$name.err" | xargs -0)"
}

# agent_send NAME COMMAND; agent_wait NAME: sets MICROSECONDS and OUTPUT, fails with what the command said
agent_send() {
    local fd=AGENT_IN_$1
    printf '%s\0' "$2" >&"${!fd}"
}

agent_wait() {
    local fd=AGENT_OUT_$1 status
    read -r -t "$ASK_SECONDS" -u "${!fd}" MICROSECONDS status OUTPUT || die "$1 gave no answer within $ASK_SECONDS s"
    OUTPUT=${OUTPUT%% }
    [ "$status" -eq 0 ] || die "$1: a measured command failed with status $status: $OUTPUT"
}

agent_ask() { agent_send "$1" "$2"; agent_wait "$1"; }

agents_end() {
    local entry fd pid
    for entry in ${AGENTS[@]+"${AGENTS[@]}"}; do
        for fd in "AGENT_IN_${entry%%:*}" "AGENT_OUT_${entry%%:*}"; do eval "exec ${!fd}>&-"; done
    done
    for entry in ${AGENTS[@]+"${AGENTS[@]}"}; do
        pid=${entry##*:}
        timeout 10 tail --pid="$pid" -f /dev/null || kill "$pid" 2>/dev/null || true
    done
    AGENTS=()
}
