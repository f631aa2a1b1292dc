#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# Slurm as Slurm: each row of compat.table runs on bare hosts and in a virtual cluster, and what it prints, its status
# and what sacct says of it are the same, or differ as the table says. docs/compatibility.md shows that table.
#
# In a lab of its own, with accounting and partitions for preemption. The rows of all groups run beside
# each other from the start of the file; the tests wait for them. What waits for a time limit costs time and no
# processor: it comes first, and the rest is done meanwhile.

load helper
. "$BATS_TEST_DIRNAME/compat.bash"

ROWS_HOME=/var/tmp/vclab-$VCLAB_OTHER_ID/home/alice/compat

slurm_conf() {
    cat <<'CONF'
# job numbers that are not also counts; a requeued job starts after this many seconds, not 120: see later() in compat.prelude
FirstJobId=7001
AuthInfo=cred_expire=15
PreemptMode=GANG,REQUEUE
PartitionName=again Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE
PartitionName=killed Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=CANCEL
PartitionName=paused Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=SUSPEND OverSubscribe=FORCE:1
CONF
}

# scontrol for rows, as root; its words come through a pipe
operator() {
    local line
    while read -ra line; do lab_exec ctl scontrol "${line[@]}" || true; done <>"$ROWS_HOME/operator"
}

unpack() {
    mkdir -p "$ROWS_HOME"
    compat_load
    compat_unpack "$ROWS_HOME"
    compat_batch >"$ROWS_HOME/inside.sh"
    mkfifo "$ROWS_HOME/operator"
    echo --vcluster=busybox >"$ROWS_HOME/options"
    chown -R 2001:2001 "$ROWS_HOME"
}

# An allocation whose environment the steps use; salloc lives until it is released.
allocate() {
    local options=''
    [ "$1" = bare ] || options=$(cat "$ROWS_HOME/options")
    # shellcheck disable=SC2086
    lab_exec ctl --user alice --dir /home/alice/compat salloc -Q $options -N2 -n4 --ntasks-per-node=2 --mem=400 -w n1,n2 \
        sh -c 'export -p >allocation.new; mv allocation.new "allocation.$1"; exec sleep infinity' allocate "$1"
}

rows() { as alice sh compat/compat.run "$@"; }

# background NAME COMMAND...: its process id in $BATS_FILE_TMPDIR/NAME.pid
background() {
    local name=$1
    shift
    "$@" >"$BATS_FILE_TMPDIR/$name.log" 2>&1 </dev/null 3>&- &
    echo $! >"$BATS_FILE_TMPDIR/$name.pid"
}

step_rows() {
    wait_until 200 "the allocation ($1)" test -e "$ROWS_HOME/allocation.$1" && rows "$1" step 1
    submit_inside "$1"
}

# The rows of steps once more, inside a batch script: the same text on a bare host and on member 0.
submit_inside() {
    local options=''
    [ "$1" = bare ] || options=$(cat "$ROWS_HOME/options")
    # shellcheck disable=SC2086
    as alice sbatch --parsable $options -N2 -n4 --ntasks-per-node=2 --mem=400 -w n1,n2 -D compat -o "inside.$1" compat/inside.sh \
        >"$ROWS_HOME/inside.$1.job"
}

inside_rows() {
    local mode job
    for mode in bare virtual; do
        job=$(cat "$ROWS_HOME/inside.$mode.job")
        wait_until 290 "the end of the batch script ($mode)" job_has_ended "$job" || return
        compat_split "$ROWS_HOME" "inside.$mode" "$job" <"$ROWS_HOME/inside.$mode" || { tail -n 20 "$ROWS_HOME/inside.$mode" >&2; return 1; }
    done
}

setup_file() {
    local mode
    slurm_conf >"$BATS_FILE_TMPDIR/slurm.conf"
    other_lab_up --hosts 4 --cpus 16 --mem 8192 --accounting --slurm-conf "$BATS_FILE_TMPDIR/slurm.conf"
    import_busybox alice busybox
    unpack
    background operator operator
    for mode in bare virtual; do
        background "slow.$mode" rows "$mode" slow 6
        background "allocation.$mode" allocate "$mode"
        background "step.$mode" step_rows "$mode"
        background "alone.$mode" rows "$mode" alone 1
    done
    background job.bare rows bare job 6
    background job.virtual rows virtual job 4
}

teardown_file() {
    local pid
    for pid in "$BATS_FILE_TMPDIR"/*.pid; do kill "$(cat "$pid")" 2>/dev/null || true; done
    other_lab_down
}

teardown() { dump_logs; }

ended() { ! kill -0 "$(cat "$BATS_FILE_TMPDIR/$1.pid")"; }

# compare GROUP [inside.]: says which rows are not as the table has them and in what, before all else that a failure shows, and
# how many there are
compare() {
    local i said words='' where=${2:-} bad=() same=0 differ=0 verdicts
    compat_load
    verdicts=("${ROW_VERDICT[@]}")
    [ -z "$where" ] || verdicts=("${INSIDE_VERDICT[@]}")
    for i in "${!ROW_NAME[@]}"; do
        [ "${ROW_GROUP[i]}" = "$1" ] && [ "${verdicts[i]}" != no ] || continue
        if ! said=$(compat_compare "$ROWS_HOME" "$i" "$where"); then
            bad+=("$i")
            said="row ${ROW_NAME[i]}:"$'\n'$said
            words+=$(head -n 12 <<<"$said")$'\n'
            [ "$(wc -l <<<"$said")" -le 12 ] || words+=...$'\n'
        elif [ "${verdicts[i]}" = same ]; then
            same=$((same + 1))
        else
            differ=$((differ + 1))
        fi
    done
    echo "# $where$1: $same rows are the same, $differ differ as the table says, ${#bad[@]} are not as it says" >&3
    [ ${#bad[@]} -eq 0 ] || {
        printf '%s' "$words"
        compat_show "$ROWS_HOME" "$where" "${bad[@]}"
        tail -n 20 "$BATS_FILE_TMPDIR"/*.log
    } >&2
    [ ${#bad[@]} -eq 0 ] && [ "$((same + differ))" -gt 0 ]
}

@test "compat: docs/compatibility.md shows the rows of the table" {
    compat_load
    diff <(compat_doc) <(compat_doc_of "$TOP/docs/compatibility.md")
}

# done_rows GROUP: on bare hosts and in virtual clusters
done_rows() {
    local mode
    for mode in bare virtual; do wait_until 290 "the rows of $1 ($mode)" ended "$1.$mode" || return; done
}

@test "compat: steps, in an allocation of bare hosts and in a virtual cluster (table)" {
    done_rows step
    compare step
}

@test "compat: steps, from inside a batch script on a bare host and on member 0 (table)" {
    done_rows step # and both batch scripts are submitted
    inside_rows
    compare step inside.
}

# a wait of its own: a test has 300 s, and the machine may be busy
@test "compat: bare hosts have run their jobs" { wait_until 290 "the rows on bare hosts" ended job.bare; }

@test "compat: jobs of their own (table)" {
    done_rows job
    compare job
}

@test "compat: a host for one job at a time: preemption, a host that fails (table)" {
    done_rows alone
    compare alone
}

@test "compat: time limits (table)" {
    done_rows slow
    compare slow
}

@test "compat: nothing is left of all that" {
    as alice scancel -u alice
    wait_until 60 "the jobs' ends" sh -c '! "$1" exec ctl squeue -h | grep -q .' squeue "$VCLAB"
    assert_clean
}
