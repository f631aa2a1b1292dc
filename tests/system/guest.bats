#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
#
# vcguestd in QEMU without Slurm, libvirt or vcd: tests/guest/harness plays the host. Two guests of busybox on a
# network of their own boot once for the file. Owns $WORK and the QEMU processes that it started.

bats_require_minimum_version 1.5.0

setup_file() {
    export BUILD=${BUILD:-$BATS_TEST_DIRNAME/../../_build/stage}
    local dir
    for dir in "$BUILD" "$BUILD/normal" "$BUILD/trap" "$BATS_TEST_DIRNAME/../../_build"; do
        if [ -x "$dir/tests/guest/harness" ]; then BUILD=$dir; fi
    done
    WORK=$(mktemp -d /tmp/vc-guest.XXXXXX)
    export WORK
    source "$BATS_TEST_DIRNAME/../guest/vm.bash"
    MISSING=$(vm_missing)
    export MISSING
    [ -z "$MISSING" ] || return 0
    vm_prepare >"$WORK/prepare.log" 2>&1
    vm_start 0 $(vm_net 0)
    VM_APPEND=vcluster.link=vsock:6828 vm_start 1 $(vm_net 1) # which has no vsock: it takes the virtio-serial port
    printf '%s\n' "${vm_pids[@]}" >"$WORK/pids"
    export KERNEL
    vm_host 1 2 true >"$WORK/first.log" 2>&1 || { cat "$WORK"/first.log "$WORK"/console.*; return 1; }
}

teardown_file() {
    source "$BATS_TEST_DIRNAME/../guest/vm.bash"
    if [ -f "$WORK/pids" ]; then mapfile -t vm_pids <"$WORK/pids"; fi
    vm_stop_all
    rm -rf "$WORK"
}

setup() {
    source "$BATS_TEST_DIRNAME/../guest/vm.bash"
    [ -z "$MISSING" ] || skip "$MISSING"
}

@test "a task runs as the job's user, in its home, with the cluster's environment" {
    run --separate-stderr vm_host 0 2 'id -un; id -G; pwd; hostname; echo $VCLUSTER_RANK/$VCLUSTER_SIZE $SITE_VAR; umask; exit 7'
    [ "$status" -eq 7 ]
    [ "$output" = $'alice\n2001 3000\n/home/alice\nvc123-0\n0/2 from the site\n0022' ]
}

@test "the view, host files, names and the secret are in place" {
    run --separate-stderr vm_host --root 0 2 'cd /run/vcluster; cat hostfile hostfile.hydra hostfile.plain; stat -c %a secret view;
        grep -c vc123 /etc/hosts; cat /etc/vcluster/test; grep alice /etc/passwd /etc/group'
    [ "$status" -eq 0 ]
    [ "${lines[0]}" = "vc123-0 slots=1" ]
    [ "${lines[2]}" = "vc123-0:1" ]
    [ "${lines[4]}" = "vc123-0" ]
    [[ $output == *$'\n600\n644\n2\nhello\n'* ]]
    [[ $output == *"/etc/passwd:alice:x:2001:2001::/home/alice:/bin/sh"* ]]
    [[ $output == *"/etc/group:proj:x:3000:alice"* ]]
}

@test "the user reads neither the secret nor another user's files of the host" {
    run vm_host 0 2 'cat /run/vcluster/secret || cat /etc/vcluster/test'
    [ "$status" -ne 0 ]
}

@test "vcrsh runs a command on another member: streams, status, signal, environment" {
    run --separate-stderr vm_host 0 2 'export OWN="a b"; vcrsh -x vc123-1 -l alice hostname \; id -un \; echo \$VCLUSTER_RANK \$OWN \; exit 5; echo $?
        echo data | vcrsh vc123-1 cat; vcrsh -n vc123-1 "kill -9 \$\$"; echo $?; vcrsh 10.42.0.2 "echo e >&2" 2>&1; vcrsh localhost hostname'
    [ "$status" -eq 0 ]
    [ "$output" = $'vc123-1\nalice\n1 a b\n5\ndata\n137\ne\nvc123-0' ]
}

@test "vcrsh carries megabytes both ways unchanged" {
    run --separate-stderr vm_host 0 2 'head -c 3000000 /dev/urandom >f; md5sum <f; vcrsh vc123-1 md5sum <f; vcrsh vc123-1 cat <f | md5sum; rm f'
    [ "$status" -eq 0 ]
    [ "${lines[0]}" = "${lines[1]}" ]
    [ "${lines[0]}" = "${lines[2]}" ]
}

@test "vcrsh says why it cannot: not a member, and not for other users" {
    run vm_host 0 2 'vcrsh vc123-9 true'
    [ "$status" -eq 255 ]
    [[ $output == *"vc123-9 is not a member of this cluster"* ]]
    run vm_host --root 0 2 'echo "mallory:x:4000:4000::/tmp:/bin/sh" >>/etc/passwd; su mallory -c "/run/vcluster/bin/vcrsh vc123-1 id"'
    [ "$status" -eq 255 ]
    [[ $output == *"only root and the job's owner"* ]]
}

@test "a connection without the secret gets nothing from the vcrsh port" {
    run --separate-stderr vm_host 0 2 'head -c 40 /dev/zero | nc -w 5 vc123-1 6827 | wc -c; printf "VCRSH\0\0\1%032d%032d" 0 0 | nc -w 5 vc123-1 6827 | wc -c'
    [ "${lines[0]}" = 0 ]
    [ "${lines[1]}" = 72 ] # the server's key and proof, which anybody may see
}

@test "sbcast copies to all members and asks before it replaces" {
    run vm_host 0 2 'echo one >f; sbcast f /tmp/sb; vcrsh vc123-1 cat /tmp/sb; cat /tmp/sb; echo two >f; sbcast f /tmp/sb && exit 9
        sbcast -f f /tmp/sb; vcrsh vc123-1 cat /tmp/sb; rm f; vcrsh vc123-1 rm /tmp/sb; rm /tmp/sb'
    [ "$status" -eq 0 ]
    [[ $output == *"/tmp/sb exists"* ]]
    [[ $output == *$'one\none\n'* ]]
    [[ $output == *two* ]]
}

# Commands in place of Slurm's, which say how the host's vcd called them.
fake_slurm() {
    local name
    mkdir -p "$WORK/slurm"
    chmod 755 "$WORK"
    for name in srun squeue scancel scontrol; do
        printf '%s\n' '#!/bin/sh' 'echo "${0##*/} $*"; /usr/bin/id -u; /usr/bin/env | /usr/bin/sort' \
            'case $* in *cat*) /bin/cat;; *fail*) exit 42;; esac' >"$WORK/slurm/$name"
        chmod 755 "$WORK/slurm/$name"
    done
}

@test "srun becomes the real one: this job, its owner, none of the guest's environment" {
    fake_slurm
    run --separate-stderr vm_host --slurm-bin "$WORK/slurm" 0 2 'LD_PRELOAD= EVIL=1 srun -n2 hostname; echo $?'
    [ "$status" -eq 0 ]
    [ "${lines[0]}" = "srun --ntasks=2 --jobid=123 --chdir=/ --export=ALL -- hostname" ]
    [ "${lines[1]}" = 2001 ]
    [[ $output == *$'\nVCLUSTER_PASS_EVIL=1\n'* ]]
    [[ $output == *$'\nVCLUSTER_CWD=/home/alice\n'* ]]
    [[ $output != *$'\nEVIL=1\n'* ]]
    [[ $output == *$'\nSLURM_JOB_ID=123\n'* ]]
}

@test "srun carries standard input, files and status" {
    fake_slurm
    run --separate-stderr vm_host --slurm-bin "$WORK/slurm" 0 2 'echo through | srun cat | tail -n1; srun -o out.%j fail; echo $?; head -n1 out.123; rm out.123'
    [ "$output" = $'through\n42\nsrun --jobid=123 --chdir=/ --export=ALL -- fail' ]
}

@test "srun: what tasks open and run is told to the tasks, and the real srun gets none of it" {
    fake_slurm
    run --separate-stderr vm_host --slurm-bin "$WORK/slurm" 0 2 'printf "0 true\n* /bin/sh -c x\n" >m; srun -o o.%t -e 1 -i i.%n --multi-prog m a; rm m'
    [ "${lines[0]}" = "srun --ntasks=1 --jobid=123 --chdir=/ --export=ALL -- m a" ]
    [[ $output == *$'\nVCLUSTER_PROGRAMS=0 true\n'* && $output == *$'* /bin/sh -c x\n'* ]]
    output+=$'\n'
    [[ $output == *$'\nVCLUSTER_STDOUT=>o.%t\n'* && $output == *$'\nVCLUSTER_STDERR=>1\n'* && $output == *$'\nVCLUSTER_STDIN=<i.%n\n'* ]]
}

@test "Slurm's commands act on this job only and refuse the rest with a reason" {
    fake_slurm
    run vm_host --slurm-bin "$WORK/slurm" 0 2 'squeue | head -n1; scontrol show job | head -n1; scancel 123.0 | head -n1
        scancel 124; srun --jobid=5 a; srun --prolog=/x a; scontrol shutdown; scontrol show hostnames n[1-2],x; true'
    [ "$status" -eq 0 ]
    [[ $output == *"squeue --jobs=123"* ]]
    [[ $output == *"scontrol show job 123"* ]]
    [[ $output == *"scancel 123.0"* ]]
    [[ $output == *"scancel: '124' is not possible here"* ]]
    [[ $output == *"srun: '5' is not possible here: this virtual cluster may only act on its own job 123"* ]]
    [[ $output == *"srun: --prolog is not possible in a virtual cluster: it would run a program on the host"* ]]
    [[ $output == *"scontrol: only 'show job' and 'show hostnames'"* ]]
    [[ $output == *$'n1\nn2\nx'* ]]
}

@test "shutdown powers the guest off, and a root disk that is missing is said on the console" {
    vm_start 7 $(vm_net 7)
    run vm_host --shutdown 7 8 true
    [ "$status" -eq 0 ]
    timeout 60 tail --pid="${vm_pids[-1]}" -f /dev/null
    timeout 120 qemu-system-x86_64 -M q35 -accel tcg -cpu max -m 192 -display none -no-reboot -nodefaults \
        -serial "file:$WORK/console.none" -kernel "$KERNEL" -initrd "$WORK/initrd.img" \
        -append "console=ttyS0 quiet panic=-1 vcluster.rootfstype=nonsense vcluster.root=/dev/vda" \
        -drive "file=$WORK/root.img,if=virtio,format=raw,readonly=on" </dev/null 3>&-
    grep -q "this guest cannot run: cannot mount the root disk: mount of /dev/vda as nonsense" "$WORK/console.none"
}
