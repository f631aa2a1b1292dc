#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# Membership between real hosts: a vcd that dies and returns, a host that loses its power under a --no-kill job, a vcd that is
# stopped past every limit, a cluster of two that is cut in half. The survivors' guests must read the next view.
#
# A lab of three hosts of its own, up only while this file runs. The image is busybox alone.

load helper

IMAGE=member-tiny

setup_file() {
    require_vcd
    echo 'view-hook = "/run/site-hook"' >"$BATS_FILE_TMPDIR/vcd.conf"
    other_lab_up --hosts 3 --vcd-conf "$BATS_FILE_TMPDIR/vcd.conf"
    import_busybox alice "$IMAGE"
}

teardown_file() { other_lab_down; }

setup() { [ ! -e "$BATS_FILE_TMPDIR/job" ] || JOB=$(cat "$BATS_FILE_TMPDIR/job"); }

teardown() { dump_logs; }

# each member's script says what it sees of the view whenever that changes: "view EPOCH: USABLE usable, LOST lost"
WATCH='#!/bin/sh
say() {
    epoch=$(sed "s/.*\"epoch\": *\([0-9]*\).*/\1/" /run/vcluster/view.json)
    [ "$epoch" != "$last" ] || return
    last=$epoch
    echo "view $epoch: $(wc -l </run/vcluster/hostfile.plain) usable, $(grep -o agent_lost /run/vcluster/view.json | wc -l) lost"
}
printf "#!/bin/sh\\necho view \$VCLUSTER_EPOCH for \$(id -un) >>/tmp/hooked\\n" >/run/vcluster/hooks.d/note
chmod +x /run/vcluster/hooks.d/note
while :; do say; sleep 0.1; done'

# start_watchers N OPTIONS...: one member on each of N hosts
start_watchers() {
    submit alice "-N$1" -c1 --mem=400 --no-kill --no-requeue --vcluster="$IMAGE" "${@:2}" <<<"$WATCH"
    wait_until 120 "the first view in job $JOB" says "view 1: $1 usable, 0 lost"
    echo "$JOB" >"$BATS_FILE_TMPDIR/job"
}

says() { job_output "$JOB" | grep -qx -- "$1"; }
said() { job_output "$JOB" | grep -q -- "$1"; }
member_says() { as alice vcctl exec "$JOB" "$1" -- cat "/run/vcluster/$2"; }
member_has_epoch() { member_says "$1" view.json | grep -qE "\"epoch\": ?$2\b"; }
shown() { as alice vcctl view "$JOB" | grep -cw -- "$1"; }
shows() { [ "$(shown "$1")" = "$2" ]; }
hooked() { as alice vcctl exec "$JOB" 0 -- cat /tmp/hooked | grep -qx "$1"; }
vcd_signal() { lab_exec "$1" sh -c 'kill -s "$1" "$(cat /run/vclab/vcd.pid)"' signal "$2"; }

# 1: the guest's own clock is past what its host has confirmed (libvcluster/layout.h: valid_until is at byte 56)
is_stale() {
    as alice vcctl exec "$JOB" "$1" -- sh -c '
        set -- $(hexdump -s 56 -n 8 -e "2/4 \"%u \"" /run/vcluster/view)
        [ $((($1 + ($2 << 32)) / 1000000000)) -le "$(sed "s/\..*//" /proc/uptime)" ]'
}
is_valid() { ! is_stale "$1"; }

@test "a killed vcd: its members are agent-lost at once, nothing is lost when it returns" {
    start_watchers 3
    lab stop n3 vcd KILL
    wait_until 20 "the view in which n3 has lost its vcd" said ": 3 usable, 1 lost"
    wait_until 10 "vcctl to show it" shows agent-lost 1
    lab start n3 vcd
    wait_until 20 "the view after it" said "view 3: 3 usable, 0 lost"
    for rank in 0 1 2; do
        wait_until 10 "view 3 in member $rank" member_has_epoch "$rank" 3
    done
    is_valid 2
}

@test "a host loses its power under a --no-kill job: the survivors go on with the next view" {
    lab_exec n1 sh -c 'cat >/run/site-hook; chmod +x /run/site-hook' <<'HOOK'
#!/bin/sh
grep -o '"epoch": *[0-9]*' "$VCLUSTER_OLD_VIEW" "$VCLUSTER_NEW_VIEW" | tr -d ' "' | cut -d: -f3 |
    xargs echo "job $VCLUSTER_JOB first=$VCLUSTER_FIRST" >>/run/site-hook.log
HOOK
    lab cut n3 # a machine without power says nothing; the lab's kernel would still close its connections
    lab kill n3
    wait_until 30 "the view without n3" says "view 4: 2 usable, 0 lost"
    wait_until 10 "vcctl to show it" shows gone 1
    wait_until 10 "view 4 in member 1" member_has_epoch 1 4
    assert_equal "$(member_says 1 hostfile.plain | tr '\n' ' ')" "vc$JOB-0 vc$JOB-1 "
    assert_equal "$(job_state "$JOB")" RUNNING
    wait_until 10 "the site's hook" lab_exec n1 grep -qx "job $JOB first=1 3 4" /run/site-hook.log
    wait_until 10 "the job's hook" hooked "view 4 for alice"
    is_valid 0
}

@test "a vcd that is stopped past every limit is left behind, learns it, and comes back with its member" {
    vcd_signal n2 STOP
    wait_until 30 "the view without n2" says "view 5: 1 usable, 0 lost" # two hosts: the controller is the witness
    assert_contains "$(lab log ctl vcd)" "the witness grants the epoch after 4 to the side of host n1"
    vcd_signal n2 CONT
    wait_until 20 "n2 to learn it" n2_is_out
    wait_until 20 "n2, then its member as joining, then as active" shows active 2
    wait_until 20 "the view in its member to be valid" is_valid 1
    is_valid 0
    lab_exec ctl scancel "$JOB"
}
n2_is_out() { lab log n2 vcd | grep -q "the other hosts go on without this one"; }

@test "a cluster of two is cut in half: the witness lets one side go on, the other stays where it is" {
    lab boot n3 >&2
    lab heal n3
    wait_until 60 "job $JOB to leave its hosts" node_is n1 idle
    wait_until 60 "job $JOB to leave its hosts" node_is n2 idle
    start_watchers 2 -w n1,n2
    lab cut n2
    wait_until 30 "the view without n2" says "view 2: 1 usable, 0 lost"
    [ "$(lab log n2 vcd | grep -c "of job $JOB: view 2")" = 0 ]
    lab heal n2
    wait_until 30 "n2 to learn it" left_behind_again
    wait_until 20 "n2 and its member to be back" shows active 2
    wait_until 20 "the view in its member to be valid" is_valid 1
    is_valid 0
    lab_exec ctl scancel "$JOB"
    wait_until 60 "the end of job $JOB" job_has_ended "$JOB"
}
left_behind_again() { [ "$(lab log n2 vcd | grep -c "the other hosts go on without this one")" = 2 ]; }
