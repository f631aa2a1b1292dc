#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# Images on their way through a chain of real vcds: each link carries what its receiver lacks, and the chain survives a vcd
# that is killed, a host that is cut off, a damaged disk, a full one, and the loss of the controller. A lab of its own, since
# the shared one has two hosts; rates are shaped so that something is still on its way when it is disturbed.

load helper

HOSTS=4
MIB=16
WIRE=40mbit # 3.4 s for the image

# Bats waits for whoever holds its descriptor 3: no daemon of this lab may. A step that hangs is a failed test, with its words.
STEP_SECONDS=120
chain() {
    local status=0
    VCLAB_ID=$VCLAB_OTHER_ID timeout -k 10 "$STEP_SECONDS" "$VCLAB" "$@" 3>&- || status=$?
    [ "$status" -ne 124 ] || echo "vclab $* took longer than $STEP_SECONDS s" >&2
    return "$status"
}
on() { chain exec "$@"; }

setup_file() {
    require_vcd
    other_lab_up --hosts "$HOSTS" --slurm-plugins no
    local host
    for host in ctl n1 n2 n3 n4; do
        on "$host" tc qdisc add dev eth0 root tbf rate "$WIRE" burst 32kb latency 50ms
    done
    new_image base
}

teardown_file() { other_lab_down; }

teardown() {
    local host
    dump_logs
    [ -n "${BATS_TEST_COMPLETED:-}" ] || for host in ctl n1 n2 n3 n4; do echo "--- $host"; chain log "$host" vcd | tail -n 20; done
    [ -z "${ANSWER:-}" ] || staged >/dev/null || true
}

# new_image NAME: MIB of noise that looks like a file system, as an image of everybody's
new_image() {
    on ctl bash -s "$1" "$MIB" <<'SH'
set -e
head -c "$2M" /dev/urandom >/root/noise.raw
printf '\123\357' | dd of=/root/noise.raw bs=1 seek=1080 conv=notrunc status=none
vcctl image import "$1" /root/noise.raw --public
SH
}

# small_disk HOST KIB, usual_disk HOST: another file system at its image-dir
small_disk() {
    chain stop "$1" vcd
    on "$1" mount -t tmpfs -o "size=${2}k" tmpfs "$(dir)"
    chain start "$1" vcd
}
usual_disk() {
    chain stop "$1" vcd
    on "$1" umount "$(dir)"
    chain start "$1" vcd
}

stage() { on ctl vcctl image stage "$1" "$2" --json || true; } # what failed is in the answer
digest() { on ctl vcctl image show "$1" --json | python3 -c 'import json,sys; print(json.load(sys.stdin)["digest"])'; }
# field JSON HOST KEY
field() { python3 -c 'import json,sys; print(json.loads(sys.argv[1])["hosts"][sys.argv[2]].get(sys.argv[3], ""))' "$@"; }
dir() { echo "/var/lib/vcluster/images"; }
is_here() { on "$1" test -e "$(dir)/$2/image.json"; }
# some of an image has arrived at HOST, and not all of it
is_arriving() { on "$1" sh -c 'test "$(du -ck '"$(dir)"'/incoming/*/root.raw 2>/dev/null | tail -n1 | cut -f1)" -gt 2048'; }
nothing_incoming() { on "$1" sh -c 'test -z "$(ls '"$(dir)"'/incoming)"'; }

# stage_in_background NAME HOSTS: the answer goes to $ANSWER
stage_in_background() {
    ANSWER=$BATS_TEST_TMPDIR/answer
    (stage "$1" "$2" >"$ANSWER.new" 2>"$ANSWER.errors" || true; mv "$ANSWER.new" "$ANSWER") 3>&- &
}

staged() { wait_until 60 "the answer of vcctl image stage" test -e "$ANSWER" && cat "$ANSWER"; }

@test "pipeline: each host gets the image once, and a second time nothing" {
    local answer host bytes
    answer=$(stage base 'n[1-4]')
    for host in n1 n2 n3 n4; do
        bytes=$(field "$answer" "$host" bytes)
        [ "$bytes" -ge $((MIB << 20)) ] && [ "$bytes" -le $(((MIB << 20) * 11 / 10)) ]
        assert_equal "$(field "$answer" "$host" error)" ""
        is_here "$host" "$(digest base)"
    done
    answer=$(stage base 'n[1-4]')
    for host in n1 n2 n3 n4; do assert_equal "$(field "$answer" "$host" bytes)" 0; done
}

@test "pipeline: a vcd killed in the middle is bypassed" {
    local answer id host
    new_image killed
    id=$(digest killed)
    stage_in_background killed 'n[1-4]'
    wait_until 30 "the image to be on its way to n3" is_arriving n3
    chain stop n2 vcd KILL
    answer=$(staged)
    for host in n1 n3 n4; do is_here "$host" "$id"; done
    assert_contains "$(field "$answer" n2 error)" "n2"
    [ "$(field "$answer" n3 bypassed)" -ge 1 ]
    chain start n2 vcd
    nothing_incoming n2
    ! is_here n2 "$id"
    answer=$(stage killed n2)
    assert_equal "$(field "$answer" n2 error)" ""
    is_here n2 "$id"
}

@test "pipeline: a host cut off in the middle is bypassed" {
    local id host
    new_image cut
    id=$(digest cut)
    stage_in_background cut 'n[1-4]'
    wait_until 30 "the image to be on its way to n3" is_arriving n3
    chain cut n2
    for host in n1 n3 n4; do wait_until 30 "the image on $host" is_here "$host" "$id"; done
    assert_contains "$(chain log n3 vcd)" "silent, and its vcd does not answer"
    chain heal n2
    wait_until 60 "the image on n2" is_here n2 "$id"
    staged >/dev/null
}

@test "pipeline: what is damaged on a host's disk is found, and taken from another one" {
    local answer id
    id=$(digest killed)
    on n3 sh -c "rm -rf $(dir)/$id" # behind vcd's back: it is asked anew after a restart
    chain restart n3 vcd
    on n2 sh -c "chmod u+w $(dir)/$id/root.raw; printf x | dd of=$(dir)/$id/root.raw bs=1 seek=$((5 << 20)) conv=notrunc status=none"
    answer=$(stage killed 'n[2-3]')
    assert_equal "$(field "$answer" n3 error)" ""
    assert_contains "$(chain log n2 vcd)" "is damaged on this host"
    wait_until 30 "n2 to repair its copy" is_sound n2 killed
    assert_contains "$(chain log n2 vcd)" "image ${id:0:12} is repaired"
    assert_equal "$(on n3 sha256sum <<<'' "$(dir)/$id/root.raw" | cut -d' ' -f1)" "$(on n1 sha256sum "$(dir)/$id/root.raw" | cut -d' ' -f1)"
}

@test "pipeline: what is damaged on the controller's disk is repaired from a host that has it" {
    local answer id
    id=$(digest killed)
    on n1 sh -c "rm -rf $(dir)/$id"
    chain restart n1 vcd
    on ctl sh -c "chmod u+w $(dir)/$id/root.raw; printf x | dd of=$(dir)/$id/root.raw bs=1 seek=$((9 << 20)) conv=notrunc status=none"
    answer=$(stage killed 'n[1-2]')
    assert_equal "$(field "$answer" n1 error)" ""
    wait_until 30 "the controller to repair its copy" is_sound ctl killed
    assert_contains "$(chain log ctl vcd)" "image ${id:0:12} is repaired"
}

is_sound() { on ctl vcctl image fsck "$1" "$2"; }

@test "pipeline: vcctl image fsck finds what is damaged, on the controller too, and has it fetched again" {
    local id found
    id=$(digest killed)
    on ctl sh -c "printf x | dd of=$(dir)/$id/root.raw bs=1 seek=$((5 << 20)) conv=notrunc status=none"
    on n1 sh -c "printf xyz | dd of=$(dir)/$id/root.raw bs=64K seek=7 conv=notrunc status=none"
    run on ctl vcctl image fsck ctl,n1,n2 killed
    assert_equal "$status" 1
    [[ $output =~ ctl.*" 1  damaged" ]] && [[ $output =~ n1.*" 1  damaged" ]] && [[ $output =~ n2.*" 0  ok" ]]
    found=$(on ctl vcctl image fsck ctl,n1 killed --json || true)
    assert_equal "$(python3 -c 'import json,sys; hosts = json.loads(sys.argv[1])["hosts"]; print([i["first_byte"] for h in ("ctl", "n1") for i in hosts[h]["images"]])' "$found")" \
        "[$((5 << 20)), $((7 << 16))]"
    run on ctl vcctl image fsck --repair ctl,n1,n2 killed
    assert_equal "$status" 0
    [[ $output =~ ctl.*repaired ]] && [[ $output =~ n1.*repaired ]]
    is_sound ctl,n1,n2 killed
}

@test "pipeline: a full disk is said so, the hosts behind go on" {
    local answer id
    new_image full
    id=$(digest full)
    small_disk n1 8192
    small_disk n2 $((MIB * 1024 + 4)) # room for all chunks, and not for their list: it fails at publication
    answer=$(stage full 'n[1-3]')
    assert_contains "$(field "$answer" n1 error)" "No space left on device"
    assert_contains "$(field "$answer" n2 error)" "No space left on device"
    is_here n3 "$id"
    nothing_incoming n1
    nothing_incoming n2
    usual_disk n1
    usual_disk n2
}

@test "pipeline: the controller's disk is full while an image comes in: it is said so, nothing is left, the next one works" {
    small_disk ctl $((MIB * 1024 + 1024)) # the import, and not its image
    run new_image too-much
    [ "$status" -ne 0 ]
    assert_contains "$output" "No space left on device"
    wait_until 20 "the build's directory to go" on ctl sh -c "test -z \"\$(ls $(dir)/builds $(dir)/incoming | grep -v :)\""
    usual_disk ctl
    new_image enough
}

@test "pipeline: a host that loses its power in the middle, and comes back, has nothing half done" {
    local id host
    new_image power
    id=$(digest power)
    stage_in_background power 'n[1-4]'
    wait_until 30 "the image to be on its way to n3" is_arriving n3
    chain kill n2
    for host in n1 n3 n4; do wait_until 60 "the image on $host" is_here "$host" "$id"; done
    chain boot n2
    wait_until 60 "n2's vcd" on n2 vcctl ping
    wait_until 60 "an end of it on n2" nothing_incoming n2
    staged >/dev/null
    stage power n2 >/dev/null
    assert_equal "$(field "$(stage power n2)" n2 bytes)" 0 # at once: whoever still serves it answers, too
    is_sound n2 power
}

@test "pipeline: two requests with chains of their own, and two images, feed the same hosts" {
    local host one two
    new_image one
    new_image two
    one=$(digest one) two=$(digest two)
    local staging=()
    stage one 'n[1-3]' >"$BATS_TEST_TMPDIR/first" 3>&- & staging+=($!)
    stage one 'n[2-4]' >"$BATS_TEST_TMPDIR/second" 3>&- & staging+=($!)
    stage two 'n[1-4]' >"$BATS_TEST_TMPDIR/third" 3>&- & staging+=($!)
    wait "${staging[@]}"
    for host in n1 n2 n3 n4; do
        is_here "$host" "$one"
        is_here "$host" "$two"
    done
    for host in n2 n3; do # of both requests: the image came once
        assert_equal "$(field "$(cat "$BATS_TEST_TMPDIR/first")" "$host" error)$(field "$(cat "$BATS_TEST_TMPDIR/second")" "$host" error)" ""
        [ "$(field "$(cat "$BATS_TEST_TMPDIR/second")" "$host" bytes)" -le $(((MIB << 20) * 11 / 10)) ]
    done
    is_sound 'n[1-4]' one
    is_sound 'n[1-4]' two
}

@test "pipeline: the controller's death stops nothing when another host has the image" {
    local id host
    new_image orphan
    id=$(digest orphan)
    stage orphan n4
    stage_in_background orphan 'n[1-4]'
    wait_until 30 "the image to be on its way to n2" is_arriving n2
    chain stop ctl vcd KILL
    for host in n1 n2 n3; do wait_until 60 "the image on $host" is_here "$host" "$id"; done
    chain start ctl vcd
    staged >/dev/null
    for host in n1 n2 n3 n4; do nothing_incoming "$host"; done
}
