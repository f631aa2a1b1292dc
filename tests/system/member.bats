#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# Membership between real hosts: a vcd that dies and returns, a host that loses its power under a --no-kill job, a vcd that is
# stopped past every limit, a cluster of two that is cut in half; a member whose link is closed; what the site's fencing does to machines;
# what Slurm is told of dead hosts, and what it says of others. The survivors' guests must read the next view.
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
member_epoch() { member_says "$1" view.json | sed 's/.*"epoch": *\([0-9]*\).*/\1/;q'; }
member_has_epoch() { member_says "$1" view.json | grep -qE "\"epoch\": ?$2\b"; }
shown() { as alice vcctl view "$JOB" | grep -cw -- "$1"; }
shows() { [ "$(shown "$1")" = "$2" ]; }
hooked() { as alice vcctl exec "$JOB" 0 -- cat /tmp/hooked | grep -qx "$1"; }

resume() { lab_exec ctl scontrol update NodeName="$1" State=RESUME || true; } # a slurmd that registers may have been first

machines() { lab_exec "$1" virsh -q -c qemu:///system list --all | awk '{print $3}' | xargs; }
machines_are() { [ "$(machines "$1")" = "$2" ]; }
logged() { lab log "$1" vcd | grep -q -- "$2"; }

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
    vcd_conf ctl "report-dead-hosts = yes"
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
    wait_until 20 "Slurm to have n3 down for that" node_is_down_by_vcd n3
    assert_equal "$(job_state "$JOB")" RUNNING
    vcd_conf_back ctl
}
node_is_down_by_vcd() {
    local node
    node=$(lab_exec ctl scontrol -o show node "$1")
    [[ $node == *State=DOWN* && $node == *"Reason=vcd: silent to the other hosts of job $JOB's virtual cluster"* ]]
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
}
n2_is_out() { logged n2 "the other hosts go on without this one"; }

# As if its agent had closed the port: QEMU cannot be asked to, but its socket can be out of reach of a vcd that starts.
@test "a member whose link is closed is agent-lost by itself, and comes back with its link" {
    [ -n "${VC_FULL:-}" ] || skip "20 s until a link that is down counts: tests/run --long"
    lab_exec n2 sh -c 'link=$(find /run/vcd -name "1.link"); mv "$link" "$link.away"'
    lab restart n2 vcd
    wait_until 60 "the agent of member 1 to be lost, host n2 not" only_agent_lost
    wait_until 10 "member 0 to read it" said ": 2 usable, 1 lost"
    lab_exec n2 sh -c 'link=$(find /run/vcd -name "1.link.away"); mv "$link" "${link%.away}"'
    wait_until 20 "its agent to be back" logged n1 "the agent of member 1 answers again"
    wait_until 10 "vcctl to show it" shows agent-lost 0
    wait_until 10 "the view in it to be valid" is_valid 1
}
only_agent_lost() { logged n1 "the agent of member 1 does not answer its host" && logged n1 "host n2 is there"; }

@test "a host that Slurm calls down leaves the view" {
    lab_exec ctl scontrol update NodeName=n2 State=DOWN Reason=test
    wait_until 60 "the view without n2" shows gone 2
    wait_until 10 "member 0 to read it" one_is_usable
    wait_until 20 "n2, which lives, to keep nothing of it" machines_are n2 ""
    assert_contains "$(lab log ctl vcd)" 'Slurm has taken from the job: ["n2"]'
    assert_equal "$(job_state "$JOB")" RUNNING
    one_is_usable # it has not come back
    is_valid 0
    lab_exec ctl scancel "$JOB"
    resume n2
}
one_is_usable() { [ "$(member_says 0 hostfile.plain)" = "vc$JOB-0" ]; }

@test "a cluster of two is cut in half: the witness lets one side go on, the other stays where it is" {
    lab boot n3 >&2
    lab heal n3
    resume n3
    wait_until 60 "job $JOB to leave its hosts" node_is n1 idle
    wait_until 60 "job $JOB to leave its hosts" node_is n2 idle
    start_watchers 2 -w n1,n2
    local before
    before=$(times_left_behind)
    vcd_conf n2 "fencing = suspend"
    lab cut n2
    wait_until 30 "the view without n2" says "view 2: 1 usable, 0 lost"
    [ "$(lab log n2 vcd | grep -c "of job $JOB: view 2")" = 0 ]
    lab heal n2
    wait_until 30 "n2 to learn it" left_behind_again "$before"
    wait_until 10 "n2 to suspend its machine" logged n2 "its view is no longer valid here: machines are suspended"
    wait_until 20 "n2 and its member to be back" shows active 2
    wait_until 20 "its machine to go on" machines_are n2 running
    wait_until 20 "the view in its member to be valid" is_valid 1
    is_valid 0
    vcd_conf_back n2
}
times_left_behind() { lab log n2 vcd | grep -c "the other hosts go on without this one" || true; }
left_behind_again() { [ "$(times_left_behind)" -gt "$1" ]; }

@test "fencing = destroy: a host that was left behind has no machine when it learns of it" {
    local epoch
    vcd_conf n2 "fencing = destroy"
    epoch=$(member_epoch 0)
    lab cut n2
    wait_until 30 "the view without n2" member_has_epoch 0 $((epoch + 1))
    lab heal n2
    wait_until 30 "n2 to destroy its machine" logged n2 "its view is no longer valid here: machines are destroyed"
    wait_until 20 "nothing to be left there" machines_are n2 ""
    wait_until 10 "vcctl to show its member as gone" shows gone 1
    is_valid 0
    vcd_conf_back n2
    lab_exec ctl scancel "$JOB"
    wait_until 60 "the end of job $JOB" job_has_ended "$JOB"
}

@test "vc-fence: a stopped vcd does not keep its machines running past their view's validity" {
    [ -n "${VC_FULL:-}" ] || skip "half a minute until a view is stale: tests/run --long"
    wait_nodes idle 60
    vcd_conf n2 "fencing = suspend"
    lab_exec n2 sh -c '/usr/libexec/vcluster/vc-fence </dev/null >/run/vc-fence.log 2>&1 3>&- & echo $! >/run/vc-fence.pid'
    start_watchers 2 -w n1,n2
    wait_until 60 "the view in member 1 to be valid" is_valid 1
    vcd_signal n2 STOP
    wait_until 60 "the view without n2" says "view 2: 1 usable, 0 lost"
    wait_until 90 "vc-fence to suspend its machine" machines_are n2 paused
    is_valid 0
    vcd_signal n2 CONT
    wait_until 60 "n2 and its member to be back" shows active 2
    wait_until 60 "its machine to go on" machines_are n2 running
    wait_until 60 "the view in its member to be valid" is_valid 1
    lab_exec n2 sh -c 'kill "$(cat /run/vc-fence.pid)"'
    vcd_conf_back n2
    lab_exec ctl scancel "$JOB"
    wait_until 60 "the end of job $JOB" job_has_ended "$JOB"
}

@test "a stale host comes back after its cluster is gone: it keeps no machine, and nothing is left" {
    [ -n "${VC_FULL:-}" ] || skip "up to a minute until a host that was cut off asks: tests/run --long"
    wait_until 60 "the end of job $JOB" job_has_ended "$JOB"
    wait_nodes idle 60
    start_watchers 2 -w n1,n2
    lab cut n2
    wait_until 30 "the view without n2" says "view 2: 1 usable, 0 lost"
    lab_exec ctl scancel "$JOB"
    wait_until 60 "n1 to be clean" machines_are n1 ""
    assert_equal "$(machines n2)" running # it cannot know
    lab heal n2
    wait_until 90 "n2 to be clean" machines_are n2 ""
    resume n2
    wait_until 60 "vcctl check to find nothing" lab_exec ctl vcctl check
}
