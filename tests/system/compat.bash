#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The rows of compat.table: reading them, running them on the login host, comparing, and writing them down in
# docs/compatibility.md. Called by compat.bats; `compat.bash --doc` prints the document's tables, `--doc FILE` puts
# them into FILE between its markers.
#
# On the login host the rows live in ~/compat/NUMBER: script, group; NUMBER/bare and NUMBER/virtual: output, status, and
# what the script left.

COMPAT_DIR=$(readlink -f "${BASH_SOURCE[0]%/*}")
COMPAT_TABLE=${COMPAT_TABLE:-$COMPAT_DIR/compat.table}

# Sets ROW_GROUP[i], ROW_NAME[i], ROW_VERDICT[i] (same, differs), ROW_WHY[i], ROW_SAYS[i] (lines), ROW_SCRIPT[i].
compat_load() {
    local line i=-1
    ROW_GROUP=() ROW_NAME=() ROW_VERDICT=() ROW_WHY=() ROW_SAYS=() ROW_SCRIPT=()
    while IFS= read -r line; do
        if [[ $line =~ ^==\ ([a-z]+):\ (.+)$ ]]; then
            i=$((i + 1))
            ROW_GROUP[i]=${BASH_REMATCH[1]} ROW_NAME[i]=${BASH_REMATCH[2]} ROW_VERDICT[i]='' ROW_SCRIPT[i]='' ROW_SAYS[i]=''
        elif [ "$i" -lt 0 ]; then
            [[ $line == '' || $line == '#'* ]] || { echo "compat.table: '$line' is before the first row" >&2; return 1; }
        elif [ -z "${ROW_VERDICT[i]}" ]; then
            [[ $line =~ ^(same|differs)(:\ (.*))?$ ]] || { echo "compat.table: row ${ROW_NAME[i]}: '$line'" >&2; return 1; }
            ROW_VERDICT[i]=${BASH_REMATCH[1]} ROW_WHY[i]=${BASH_REMATCH[3]}
        elif [[ $line == '> '* ]]; then
            ROW_SAYS[i]+=${line#> }$'\n'
        else
            ROW_SCRIPT[i]+=$line$'\n'
        fi
    done <"$COMPAT_TABLE"
    compat_check
}

compat_check() {
    local i
    for i in "${!ROW_NAME[@]}"; do
        [ "${ROW_VERDICT[i]}" = same ] || { [ -n "${ROW_WHY[i]}" ] && [ -n "${ROW_SAYS[i]}" ]; } ||
            { echo "compat.table: row ${ROW_NAME[i]} differs, but not why or how" >&2; return 1; }
    done
}

# ---- running: on the login host, as the user, in ~/compat ----

# compat_unpack DIRECTORY: the rows as files
compat_unpack() {
    local i
    for i in "${!ROW_NAME[@]}"; do
        mkdir -p "$1/$i/bare" "$1/$i/virtual"
        printf '%s' "${ROW_SCRIPT[i]}" >"$1/$i/script"
        echo "${ROW_GROUP[i]}" >"$1/$i/group"
    done
    cp "$COMPAT_DIR/compat.prelude" "$1/prelude"
    cp "$COMPAT_DIR/compat.run" "$1/"
}

# ---- comparing ----

# Host names become those of members; numbers of jobs and steps, and times, go. What srun and slurmstepd say comes last,
# sorted; which of the sentences about a step that waits or is ended it says depends on who is first, so those go. Nor does
# it count whether srun tells of tasks that end alike in one sentence or in several, nor which of the signals that a canceled
# step gets was first: SIGTERM of slurmd, or SIGKILL of an srun that got SIGTERM itself.
compat_normalise() {
    local dir=$1 jobs
    jobs=$(sort -rnu "$dir/jobs" 2>/dev/null | paste -sd'|')
    sed -E -e '/^(.*: )?vcluster: the directory .* created empty$/d' \
        -e '/^srun: (Force Terminated|Job step aborted|launch.slurm|error: IO: Hey|.*step creation|Step created)/d; /\*\*\* STEP .* CANCELLED AT/d' \
        -e 's/\bvc[0-9]+-([0-9]+)\b/host\1/g' -e 's/\bn([134])\b/host0/g' -e 's/\bn2\b/host1/g' \
        -e "s/(^|[^0-9A-Za-z.])(${jobs:-none})(_[0-9]|\\b)/\\1JOB\\3/g" -e 's/JOB(_[0-9]+)?\.[0-9]+/JOB\1.STEP/g' \
        -e 's/[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}/TIME/g' "$dir/output" |
        sed -E -e 's/^(JOB[_0-9]*\.STEP\|CANCELLED[^|]*\|)0:9\|/\10:15|/' |
        awk "$COMPAT_TASKS"' /^(srun|slurmstepd)/ { print | "sort"; next } { print } END { fflush() }'
    echo "status $(cat "$dir/status")"
}

# "srun: error: host0: tasks 0-1,3: Exited..." becomes a line for each task
COMPAT_TASKS='match($0, /: tasks? [0-9,-]+: /) && /^srun: error/ {
    before = substr($0, 1, RSTART - 1); list = substr($0, RSTART, RLENGTH); after = substr($0, RSTART + RLENGTH)
    gsub(/[^0-9,-]/, "", list); n = split(list, part, ",")
    for (i = 1; i <= n; i++) {
        m = split(part[i], end, "-")
        for (t = end[1]; t <= end[m]; t++) print before ": task " t + 0 ": " after | "sort"
    }
    next
}'

# compat_compare DIRECTORY ROW: says what is wrong; bare hosts' lines are what was expected
compat_compare() {
    local dir=$1 i=$2 bare virtual line
    [ -e "$dir/$i/bare/status" ] && [ -e "$dir/$i/virtual/status" ] || { echo "it has not run"; return 1; }
    bare=$(compat_normalise "$dir/$i/bare") virtual=$(compat_normalise "$dir/$i/virtual")
    if [ "${ROW_VERDICT[i]}" = same ]; then
        [ "$bare" = "$virtual" ] && return
        diff --old-line-format='expected: %L' --new-line-format='got:      %L' --unchanged-line-format='' \
            <(echo "$bare") <(echo "$virtual")
        return 1
    fi
    [ "$bare" != "$virtual" ] || { echo "the table says that it differs, but it does not:"$'\n'"$bare"; return 1; }
    while IFS= read -r line; do
        [ -z "$line" ] || [[ $virtual == *"$line"* ]] || { echo "no '$line' in:"$'\n'"$virtual"; return 1; }
    done <<<"${ROW_SAYS[i]}"
}

# compat_show DIRECTORY ROW...: all that they left
compat_show() {
    local dir=$1 i mode
    shift
    for i in "$@"; do
        for mode in bare virtual; do
            echo "--- row ${ROW_NAME[i]}, $mode: status $(cat "$dir/$i/$mode/status" 2>/dev/null)"
            tail -n 40 "$dir/$i/$mode/output" 2>/dev/null
        done
    done
}

# ---- the document ----

COMPAT_BEGIN='<!-- rows of tests/system/compat.table, written by tests/system/compat.bash --doc docs/compatibility.md -->'
COMPAT_END='<!-- end of the rows -->'

compat_doc() {
    local i
    printf '| what | in a virtual cluster |\n|---|---|\n'
    for i in "${!ROW_NAME[@]}"; do
        printf '| %s | %s%s |\n' "${ROW_NAME[i]}" "${ROW_VERDICT[i]}" "${ROW_WHY[i]:+: ${ROW_WHY[i]}}"
    done
}

compat_doc_of() { sed -n "\\|^$COMPAT_BEGIN\$|,\\|^$COMPAT_END\$|p" "$1" | sed '1d;$d'; }

compat_doc_write() {
    local rows
    rows=$(mktemp)
    compat_doc >"$rows"
    sed -i -e "\\|^$COMPAT_BEGIN\$|r $rows" -e "\\|^$COMPAT_BEGIN\$|,\\|^$COMPAT_END\$|{//!d}" "$1"
    rm -f "$rows"
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    [ "${1:-}" = --doc ] || { echo "Usage: compat.bash --doc [FILE]" >&2; exit 2; }
    compat_load || exit 1
    if [ -n "${2:-}" ]; then compat_doc_write "$2"; else compat_doc; fi
fi
