#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# vcctl against real vcds, without a running cluster: answers, columns, JSON, exit codes, images.

load helper

setup() { require_vcd; }

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
        "image rm" "image log"; do
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
        assert_equal "$(json '[f for f in d["findings"] if f["level"] != "note"]' <<<"$output")" "[]"
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
