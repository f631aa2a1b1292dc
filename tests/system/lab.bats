#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# The lab itself: hosts that are really apart, Slurm and libvirt on each, cut,
# power loss, and an end that leaves nothing.

load helper

teardown() { dump_logs; }

# the second lab of this file, apart from the shared one
other() { VCLAB_ID=$VCLAB_OTHER_ID "$VCLAB" "$@"; }
other_state() { echo "/var/tmp/vclab-$VCLAB_OTHER_ID"; }
other_cgroups() { find /sys/fs/cgroup -maxdepth 2 -name "vclab-$VCLAB_OTHER_ID"; }

assert_other_is_gone() {
    assert_equal "$(other_cgroups)" ""
    [ ! -e "$(other_state)" ]
    assert_equal "$(grep -lE "$(other_state)/" /proc/[0-9]*/mountinfo 2>/dev/null)" ""
    assert_equal "$(ip -br link)" "$links"
}

@test "lab: srun runs on every host, as the user" {
    wait_nodes idle
    run as alice srun -N2 sh -c 'echo $(hostname) $(id -un) $(pwd)'
    assert_equal "$status" 0
    assert_equal "$(sort <<<"$output")" $'n1 alice /home/alice\nn2 alice /home/alice'
}

@test "lab: a batch job's output is on the shared file system" {
    submit bob -N2 --output=out.%j --wrap 'srun hostname | sort | xargs'
    wait_job "$JOB"
    assert_job_completed "$JOB"
    assert_equal "$(lab_exec n2 --user bob cat "out.$JOB")" "n1 n2"
}

@test "lab: exec passes stdin, status, user, directory and variables on" {
    run lab_exec n1 --user alice --dir /tmp --env COLOUR=blue sh -c 'read x; echo $x $(id -un) $PWD $COLOUR; exit 7' <<<hello
    assert_equal "$status $output" "7 hello alice /tmp blue"
}

@test "lab: exec that is ended takes its command along" {
    timeout 1 "$VCLAB" exec n1 sleep 4711 || true
    wait_until 5 "sleep 4711 to end" sh -c "! '$VCLAB' exec n1 pgrep -f '[s]leep 4711'"
}

@test "lab: hosts have their own name, processes, /run, munge and libvirt" {
    lab_exec n1 touch /run/mark /tmp/mark /var/lib/mark /etc/mark
    run lab_exec n2 ls /run/mark /tmp/mark /var/lib/mark /etc/mark
    assert_equal "${#lines[@]}" 4
    [ "$status" -ne 0 ]
    [ ! -e /etc/mark ]
    lab_exec n1 rm /run/mark /tmp/mark /var/lib/mark /etc/mark
    assert_equal "$(lab_exec n1 hostname) $(lab_exec n2 hostname)" "n1 n2"
    assert_equal "$(lab_exec n1 cat /proc/1/comm)" bash
    lab_exec n1 munge -n | lab_exec n2 unmunge >/dev/null
    [ "$(lab_exec n1 virsh -q capabilities | grep -m1 '<uuid>')" != "$(lab_exec n2 virsh -q capabilities | grep -m1 '<uuid>')" ]
}

domain_xml() {
    cat <<'XML'
<domain type='qemu'><name>lab-test</name><memory unit='MiB'>16</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type></os>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator></devices></domain>
XML
}

@test "lab: a machine runs unprivileged on its own host only" {
    domain_xml | lab_exec n1 virsh -q create /dev/stdin
    assert_contains "$(lab_exec n1 virsh -q list)" running
    assert_equal "$(lab_exec n2 virsh -q list --all)" ""
    assert_equal "$(lab_exec n1 sh -c 'ps -o user:20= -p $(pgrep -x qemu-system-x86)')" libvirt-qemu
    lab_exec n1 virsh -q destroy lab-test
}

@test "lab: cut drops a host's traffic without a word, heal brings it back" {
    lab cut n2
    assert_contains "$(lab status)" cut
    run lab_exec ctl timeout 5 ping -qc2 -i0.2 -W1 n2
    assert_contains "$output" "100% packet loss"
    assert_equal "$(lab_exec n2 cat /sys/class/net/eth0/carrier)" 1
    lab heal n2
    lab_exec ctl timeout 10 ping -qc1 -W5 n2
}

@test "lab: a daemon can be stopped, killed and started" {
    lab stop n1 slurmd KILL
    assert_contains "$(lab status | grep ^n1)" slurmd=down
    lab start n1 slurmd
    lab restart n1 libvirtd
    assert_equal "$(lab_exec n1 virsh -q list --all)" ""
    wait_nodes idle
}

@test "lab: hosts have no way out but to the mirror" {
    run lab_exec ctl ip route get 192.0.2.1
    [ "$status" -ne 0 ]
    run lab_exec n1 ip route get 192.0.2.1
    [ "$status" -ne 0 ]
    timeout 10 apt-get -qq --print-uris download bash >/dev/null 2>&1 || skip "this machine has no package lists"
    lab_exec n1 timeout 20 curl -fsx http://mirror:3142 -o /dev/null http://deb.debian.org/debian/dists/bookworm/Release
}

no_process_of() { ! find /sys/fs/cgroup/*/vclab-"$VCLAB_ID"/"$1" -name cgroup.procs -exec cat {} + | grep -q .; }

@test "lab: power loss ends every process of a host at once; it boots again with its disks" {
    domain_xml | lab_exec n2 virsh -q create /dev/stdin
    lab_exec n2 touch /var/lib/survives /run/does-not
    lab kill n2
    run lab_exec n2 true
    assert_contains "$output" "host n2 is down"
    wait_until 10 "the kernel to have ended all processes of n2" no_process_of n2 # killed at once; a big one takes its time to go
    lab boot n2
    lab_exec n2 test -e /var/lib/survives
    lab_exec n2 test ! -e /run/does-not
    assert_equal "$(lab_exec n2 virsh -q list --all)" ""
    wait_nodes idle
    as alice srun -N2 true
}

@test "lab: two labs side by side, one of two sites, and down leaves nothing" {
    links=$(ip -br link)
    other up --hosts 2 --sites 2 --no-vcd
    assert_equal "$(other status | awk '/^n[12]/ {print $1, $3}' | xargs)" "n1 s1 n2 s2"
    assert_equal "$(other exec ctl --user alice srun -N2 hostname | sort | xargs)" "n1 n2"
    as alice srun -N2 true
    assert_equal "$(ip -br link)" "$links"
    other down
    assert_other_is_gone
}

@test "lab: down removes what a killed up has left" {
    local pid
    links=$(ip -br link)
    VCLAB_ID=$VCLAB_OTHER_ID "$VCLAB" up --hosts 1 --no-vcd >/dev/null 2>&1 3>&- &
    pid=$!
    wait_until 10 "the first host of the second lab" test -s "$(other_state)/hosts/ctl/pid"
    kill -KILL "$pid"
    run other up --hosts 1 --no-vcd
    assert_contains "$output" "remove it with"
    other down
    assert_other_is_gone
}

@test "lab: vcd is up on every host" {
    require_vcd
    assert_equal "$(lab status | grep -c vcd=up)" 3
}
