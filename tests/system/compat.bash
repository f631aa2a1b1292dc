#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The rows of compat.table: reading them, running them on the login host, comparing, and writing them down in
# docs/compatibility.md. Called by compat.bats; `compat.bash --doc` prints the document's tables, `--doc FILE` puts
# them into FILE between its markers.
#
# On the login host the rows live in ~/compat/NUMBER: script, group; NUMBER/bare and NUMBER/virtual: output, status, and
# what the script left. Rows of the group step run once more, from inside a batch script that holds them all: output and
# status are then in NUMBER/inside.bare and NUMBER/inside.virtual.

COMPAT_DIR=$(readlink -f "${BASH_SOURCE[0]%/*}")
COMPAT_TABLE=${COMPAT_TABLE:-$COMPAT_DIR/compat.table}

# Sets ROW_GROUP[i], ROW_NAME[i], ROW_VERDICT[i] (same, differs), ROW_WHY[i], ROW_SAYS[i] (lines), ROW_SCRIPT[i]; and
# INSIDE_VERDICT[i] (also: no), INSIDE_WHY[i], INSIDE_SAYS[i]: of the same row inside, where it does not say: the same.
compat_load() {
    local line i=-1
    ROW_GROUP=() ROW_NAME=() ROW_VERDICT=() ROW_WHY=() ROW_SAYS=() ROW_SCRIPT=() INSIDE_VERDICT=() INSIDE_WHY=() INSIDE_SAYS=()
    while IFS= read -r line; do
        if [[ $line =~ ^==\ ([a-z]+):\ (.+)$ ]]; then
            i=$((i + 1))
            ROW_GROUP[i]=${BASH_REMATCH[1]} ROW_NAME[i]=${BASH_REMATCH[2]} ROW_VERDICT[i]='' ROW_SCRIPT[i]='' ROW_SAYS[i]='' INSIDE_VERDICT[i]='' INSIDE_SAYS[i]=''
        elif [ "$i" -lt 0 ]; then
            [[ $line == '' || $line == '#'* ]] || { echo "compat.table: '$line' is before the first row" >&2; return 1; }
        elif [ -z "${ROW_VERDICT[i]}" ]; then
            [[ $line =~ ^(same|differs)(:\ (.*))?$ ]] || { echo "compat.table: row ${ROW_NAME[i]}: '$line'" >&2; return 1; }
            ROW_VERDICT[i]=${BASH_REMATCH[1]} ROW_WHY[i]=${BASH_REMATCH[3]}
        elif [[ $line == '> '* ]]; then
            ROW_SAYS[i]+=${line#> }$'\n'
        elif [[ $line =~ ^inside\ (differs|no):\ (.*)$ ]]; then
            INSIDE_VERDICT[i]=${BASH_REMATCH[1]} INSIDE_WHY[i]=${BASH_REMATCH[2]}
        elif [[ $line == '>> '* ]]; then
            INSIDE_SAYS[i]+=${line#>> }$'\n'
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
        case ${INSIDE_VERDICT[i]} in
            '') INSIDE_VERDICT[i]=${ROW_VERDICT[i]} INSIDE_WHY[i]=${ROW_WHY[i]} INSIDE_SAYS[i]=${ROW_SAYS[i]} ;;
            differs) [ -n "${INSIDE_SAYS[i]}" ] || { echo "compat.table: row ${ROW_NAME[i]} differs inside, but not how" >&2; return 1; } ;;
        esac
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

# ---- inside a batch script ----

# A batch script that runs all rows of the group step, one after the other, in directories of the machine's own. What comes
# before a row's output is a line for compat_split.
compat_batch() {
    local i
    cat <<'SCRIPT'
#!/bin/sh
base=$HOME/inside.$SLURM_JOB_ID
mkdir "$base"
row() {
    mkdir "$base/$1"
    cd "$base/$1" || return
    { echo ". $base/prelude"; cat; } >"../$1.script"
    timeout 120 sh "../$1.script" >"../$1.output" 2>&1 </dev/null
    echo "=== row $1 ended with $?"
    cat "../$1.output"
    echo
}
SCRIPT
    echo "cat >\$base/prelude <<'END OF A ROW'"
    cat "$COMPAT_DIR/compat.prelude"
    echo "END OF A ROW"
    for i in "${!ROW_NAME[@]}"; do
        [ "${ROW_GROUP[i]}" = step ] && [ "${INSIDE_VERDICT[i]}" != no ] || continue
        echo "row $i <<'END OF A ROW'"
        printf '%s' "${ROW_SCRIPT[i]}"
        echo "END OF A ROW"
    done
    printf 'cd /\nrm -rf "$base"\necho "=== all rows have run"\n'
}

# compat_split DIRECTORY MODE JOB: the job's output, on standard input, to the rows' directories
compat_split() {
    local dir=$1 mode=$2 job=$3 line to=/dev/null
    while IFS= read -r line; do
        if [[ $line =~ ^===\ row\ ([0-9]+)\ ended\ with\ ([0-9]+)$ ]]; then
            to=$dir/${BASH_REMATCH[1]}/$mode
            mkdir -p "$to"
            echo "${BASH_REMATCH[2]}" >"$to/status"
            echo "$job" >"$to/jobs"
            to+=/output
            : >"$to"
        elif [ "$line" = '=== all rows have run' ]; then
            return
        elif [ -n "$line" ]; then
            echo "$line" >>"$to"
        fi
    done
    echo "the batch script ($mode) has no end" >&2
    return 1
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

# compat_compare DIRECTORY ROW [inside.]: says what is wrong; bare hosts' lines are what was expected
compat_compare() {
    local dir=$1 i=$2 where=${3:-} verdict=${ROW_VERDICT[i]} says=${ROW_SAYS[i]} bare virtual line
    [ -z "$where" ] || verdict=${INSIDE_VERDICT[i]} says=${INSIDE_SAYS[i]}
    [ -e "$dir/$i/${where}bare/status" ] && [ -e "$dir/$i/${where}virtual/status" ] || { echo "it has not run"; return 1; }
    bare=$(compat_normalise "$dir/$i/${where}bare") virtual=$(compat_normalise "$dir/$i/${where}virtual")
    if [ "$verdict" = same ]; then
        [ "$bare" = "$virtual" ] && return
        diff --old-line-format='expected: %L' --new-line-format='got:      %L' --unchanged-line-format='' \
            <(echo "$bare") <(echo "$virtual")
        return 1
    fi
    [ "$bare" != "$virtual" ] || { echo "the table says that it differs, but it does not:"$'\n'"$bare"; return 1; }
    while IFS= read -r line; do
        [ -z "$line" ] || [[ $virtual == *"$line"* ]] || { echo "no '$line' in:"$'\n'"$virtual"; return 1; }
    done <<<"$says"
}

# compat_show DIRECTORY WHERE ROW...: all that they left
compat_show() {
    local dir=$1 where=$2 i mode
    shift 2
    for i in "$@"; do
        for mode in "${where}bare" "${where}virtual"; do
            echo "--- row ${ROW_NAME[i]}, $mode: status $(cat "$dir/$i/$mode/status" 2>/dev/null)"
            tail -n 40 "$dir/$i/$mode/output" 2>/dev/null
        done
    done
}

# ---- the document ----

COMPAT_BEGIN='<!-- rows of tests/system/compat.table, written by tests/system/compat.bash --doc docs/compatibility.md -->'
COMPAT_END='<!-- end of the rows -->'

compat_doc_inside() {
    [ "${ROW_GROUP[$1]}" = step ] || return 0
    case ${INSIDE_VERDICT[$1]}/${INSIDE_WHY[$1]} in
        no/*) echo " not run: ${INSIDE_WHY[$1]}" ;;
        */"${ROW_WHY[$1]}") echo " ${INSIDE_VERDICT[$1]}" ;;
        *) echo " ${INSIDE_VERDICT[$1]}: ${INSIDE_WHY[$1]}" ;;
    esac
}

compat_doc() {
    local i
    printf '| what | in a virtual cluster | srun inside a batch script |\n|---|---|---|\n'
    for i in "${!ROW_NAME[@]}"; do
        printf '| %s | %s%s |%s |\n' "${ROW_NAME[i]}" "${ROW_VERDICT[i]}" "${ROW_WHY[i]:+: ${ROW_WHY[i]}}" "$(compat_doc_inside "$i")"
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
