#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# vcctl against real vcds: answers, columns, JSON, exit codes, images; commands, files and consoles of members.

load helper

setup() { require_vcd; }

teardown() {
    [ -z "${JOB:-}" ] || lab_exec ctl scancel "$JOB" || true
    dump_logs
}

json() { python3 -c 'import json,sys; d=json.load(sys.stdin); print(eval(sys.argv[1]))' "$1"; }

@test "vcctl ping names the host, and the controller" {
    run lab_exec ctl vcctl ping
    assert_equal "$status" 0
    assert_contains "$output" "ctl: vcd "
    assert_contains "$output" ", controller"
    assert_equal "$(lab_exec n1 vcctl ping --json | json 'd["host"], d["controller"]')" "('n1', False)"
}

@test "vcctl asks the controller through any host's vcd" {
    assert_equal "$(as alice vcctl --json list | json 'd["clusters"]')" "[]"
    assert_equal "$(lab_exec n1 --user alice vcctl list --json --all | json 'type(d["clusters"]).__name__')" "list"
    run lab_exec n1 --user alice vcctl list
    assert_equal "$status" 0
    assert_contains "${lines[0]}" "JOBID USER"
}

@test "vcctl exit codes tell what was wrong" {
    run as alice vcctl
    assert_equal "$status" 2
    run as alice vcctl lsit
    assert_equal "$status" 2
    assert_contains "$output" "no verb 'lsit'"
    run as alice vcctl show
    assert_equal "$status" 2
    run as alice vcctl list --watch
    assert_equal "$status" 2
    run as alice vcctl list --nonsense
    assert_equal "$status" 2
    run as alice vcctl show 4000000000
    assert_equal "$status" 3
    assert_contains "$output" "vcctl: job 4000000000 has no virtual cluster"
    run as alice vcctl exec 4000000000 0 -- true
    assert_equal "$status" 3
    run as alice vcctl --socket /nonexistent/vcd.sock list
    assert_equal "$status" 5
    assert_equal "${#lines[@]}" 1
}

@test "every verb has a help that begins with an example" {
    for verb in list show watch view console exec cp check ping "image build" "image import" "image list" "image show" \
        "image rm" "image log" resize leases elastic events plot migrate evacuate rebalance; do
        # shellcheck disable=SC2086
        run as alice vcctl $verb --help
        assert_equal "$status" 0
        assert_equal "${lines[0]}" "Example:"
        assert_contains "${lines[1]}" "vcctl $verb"
    done
    run as alice vcctl --help
    assert_equal "$status" 0
    assert_equal "$(awk 'length > 80' <<<"$output")" ""
}

@test "vcctl check reports problems with what to do, and by its status" {
    run lab_exec ctl vcctl check --json
    if [ "$status" -eq 0 ]; then
        assert_equal "$(json '[f for f in d["findings"] if f["level"] != "info"]' <<<"$output")" "[]"
    else
        assert_equal "$status" 1
        assert_equal "$(json 'all(f["what"] and f["where"] and f["do"] for f in d["findings"])' <<<"$output")" True
    fi
    run lab_exec ctl vcctl --socket /nonexistent/vcd.sock check
    assert_equal "$status" 1
    assert_contains "$output" "do: start vcd"
}

@test "an image is imported, listed within 80 columns, shown, and removed by its owner alone" {
    as alice sh -c 'mkdir -p t/bin t/etc && echo hello >t/etc/motd && cp /bin/true t/bin/true && tar -C t -cf t.tar .'
    run as alice vcctl image import tiny-import t.tar
    assert_equal "$status" 0
    assert_contains "$output" "tiny-import "
    run as alice env COLUMNS=80 vcctl image list
    assert_contains "$output" "tiny-import"
    assert_equal "$(awk 'length > 80' <<<"$output")" ""
    assert_equal "$(as alice vcctl image show tiny-import --json | json 'd["name"], d["visibility"]')" \
        "('tiny-import', 'private')"
    run as bob vcctl image show tiny-import
    assert_equal "$status" 3
    run as bob vcctl image rm tiny-import
    assert_equal "$status" 3
    run as alice vcctl image log tiny-import
    assert_equal "$status" 0
    run as alice vcctl image rm tiny-import
    assert_equal "$status" 0
    run as alice vcctl image show tiny-import
    assert_equal "$status" 3
}

@test "a wrong recipe is refused with its line" {
    as alice sh -c 'printf "name = \"x\"\nbase = \"debian:bookworm\"\ncolour = \"blue\"\n" >bad.recipe'
    run as alice vcctl image build bad.recipe
    assert_equal "$status" 1
    assert_contains "$output" "bad.recipe:3"
    run as alice vcctl image build missing.recipe
    assert_equal "$status" 1
    assert_contains "$output" "missing.recipe"
}

start_cluster() {
    import_busybox alice busybox
    submit alice -N2 --vcluster=busybox --vcluster-mem=160M --wrap='sleep 600'
    wait_until 200 "the cluster of job $JOB" cluster_is_ready alice "$JOB"
}

console_shows_line() {
    lab_exec ctl vcctl exec --root "$JOB" 1 -- sh -c 'echo "<3>from-the-kernel" >/dev/kmsg' && grep -q from-the-kernel "$1"
}

@test "commands, streams, files and consoles reach members on other hosts" {
    local sum
    start_cluster
    run as alice vcctl exec "$JOB" 0 -- sh -c 'hostname; id -un; exit 7'
    assert_equal "$status" 7
    assert_equal "${lines[*]}" "vc$JOB-0 alice"
    run as alice vcctl exec "$JOB" 1 -- sh -c 'kill -TERM $$'
    assert_equal "$status" 143
    run as alice sh -c "vcctl exec --json $JOB 1 -- sh -c 'echo out; exit 7' 2>&1 >/dev/null"
    assert_equal "$output" "{\"job\":$JOB,\"member\":\"vc$JOB-1\",\"rank\":1,\"host\":\"n2\",\"exit\":7}"
    run lab_exec n2 --user alice vcctl exec "$JOB" "vc$JOB-0" -- hostname
    assert_equal "$output" "vc$JOB-0"

    as alice sh -c 'head -c 3000000 /dev/urandom >data'
    sum=$(as alice sha256sum data | cut -d' ' -f1)
    assert_contains "$(as alice sh -c "vcctl exec $JOB 1 -- sha256sum <data")" "$sum"
    assert_contains "$(as alice sh -c "vcctl exec $JOB 1 -- cat <data | sha256sum")" "$sum"
    run as alice vcctl cp --json data "$JOB:all:/tmp/"
    assert_equal "$(json '[(m["member"], m["host"]) for m in d["copied"]], d["from"]' <<<"$output")" \
        "([('vc$JOB-0', 'n1'), ('vc$JOB-1', 'n2')], ['data'])"
    for rank in 0 1; do
        as alice vcctl cp "$JOB:$rank:/tmp/data" "data.$rank"
        assert_contains "$(as alice sha256sum "data.$rank")" "$sum"
    done

    as alice timeout 60 vcctl console "$JOB" 1 </dev/null >"$BATS_TEST_TMPDIR/console" &
    wait_until 40 "a line on the console of member 1" console_shows_line "$BATS_TEST_TMPDIR/console"
    kill "$!" || true

    run as bob vcctl exec "$JOB" 1 -- true
    assert_equal "$status" 4
    run as bob vcctl console "$JOB" 0
    assert_equal "$status" 4
}

@test "a command goes on while the vcd of its member's host is killed and started again" {
    local pid status=0
    start_cluster
    as alice vcctl exec "$JOB" 1 -- sh -c 'for i in $(seq 40); do echo $i; sleep 0.1; done; exit 3' \
        >"$BATS_TEST_TMPDIR/out" 2>/dev/null &
    pid=$!
    wait_until 20 "the first lines" grep -q '^5$' "$BATS_TEST_TMPDIR/out"
    lab stop n2 vcd KILL
    lab start n2 vcd
    wait "$pid" || status=$?
    assert_equal "$status" 3
    assert_equal "$(cat "$BATS_TEST_TMPDIR/out")" "$(seq 40)"
}

@test "a job that has ended is still shown to its owner, with what its machines have used" {
    start_cluster
    run as alice env COLUMNS=80 vcctl show "$JOB"
    assert_equal "$status" 0
    assert_equal "$(awk 'length > 80' <<<"$output")" ""
    as alice scancel "$JOB"
    wait_job "$JOB"
    wait_until 30 "the end of the cluster" cluster_has_phase alice "$JOB" released
    assert_equal "$(as alice vcctl show "$JOB" --json | json \
        'sorted((u["rank"], u["cpu_ms"] > 100, u["peak_kib"] > 1000) for u in d["usage"])')" "[(0, True, True), (1, True, True)]"
    assert_equal "$(as alice vcctl show "$JOB" --json | json '"secret" in d["plan"]')" False
    run as alice env COLUMNS=80 vcctl show "$JOB"
    assert_contains "$output" "Phase released since"
    assert_contains "$output" "Usage: "
    assert_equal "$(awk 'length > 80' <<<"$output")" ""
    run as bob vcctl show "$JOB"
    assert_equal "$status" 4
    assert_contains "$(as alice vcctl list --all)" "$JOB"
}

@test "an image is imported through the vcd of any host" {
    as alice sh -c 'mkdir -p e/bin && cp /bin/true e/bin/true && tar -C e -cf e.tar .'
    run lab_exec n1 --user alice vcctl image import from-n1 e.tar
    assert_equal "$status" 0
    as alice vcctl image rm from-n1
}
