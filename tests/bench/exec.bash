# SPDX-License-Identifier: GPL-2.0-or-later
# About: srun into a ready cluster against a bare host, and its streams against the bare port
#
# latency   `srun true` in an allocation with a ready cluster of one member, and in one of a bare host of the same lab.
#           Stated beside: what starting true(1) costs in the plain guest of `streams` without us (vfork, exec, wait), which
#           in emulated machines is most of what srun takes longer, and on the bare host.
# streams   BYTES out of and into a task, against the same bytes through the bare virtio-serial port: a plain guest with
#           the same XML, kernel, initramfs (PID 1 replaced by portinit) and image, whose port portpeer reads and writes.
#           Output goes to a file of the host (srun --output=FILE.%t, as a batch script's does), input comes from one
#           (vcctl exec: slurmstepd 22.05 crashes with srun --input=FILE.%t, in bare jobs too). The time is that of the
#           whole command. What srun itself carries is a seventh of the port, in bare jobs too: that is stated beside, as
#           a share of the same on a bare host.
# relays    the same plain guest with a second process behind a pipe, as a task is: the least that carrying a task's stream
#           costs its guest, whoever does it. Stated: where memory is copied slowly (emulated machines) it bounds the bars.
# tasks     32 tasks at once, stated.

BENCH_PAIRS=41
STREAM_PAIRS=15                       # of the seconds-long measurements, unless --pairs asks for fewer
BYTES=$((1 << 30))                    # the launch of a step, which is in the time too, weighs little beside it
SRUN_BYTES=$((32 << 20))
SPAWNS=10                            # of one measurement
LAB_N=0

bench_main() {
    local part
    STREAM_PAIRS=$((PAIRS < STREAM_PAIRS ? PAIRS : STREAM_PAIRS))
    plain_stage
    plain_lab 0 2
    agent_start bare 0 ctl --user alice -- salloc -Q -w n1 -N1 -n2
    [[ " ${BENCH_PARTS:-streams} " == " tasks " ]] || port_guest
    agent_start ready 0 ctl --user alice -- salloc -Q -w n2 -N1 -n2 --vcluster="$IMAGE" --vcluster-mem=512M
    for part in ${BENCH_PARTS:-latency streams tasks}; do "part_$part"; done
}

# ---- latency ----

part_latency() {
    latency ready 0; latency bare 0        # pair 0 has no bar: see the bar's series
    interleave latency_ready latency_bare spawn_guest spawn_host
    bar exec_added_ms difference srun_ready srun_bare ms lower 30
    bar spawn_added_ms difference spawn_guest spawn_host ms lower -
}

latency() {
    agent_ask "$1" 'srun -n1 true'
    [ "$2" -eq 0 ] || row "srun_$1" "$2" "$(ms "$MICROSECONDS")" ms
}

spawn_row() { row "$1" "$2" "$(ms $(($3 / SPAWNS)))" ms; }

spawn_guest() {
    agent_ask host_n2 "$STAGE_BENCH/portpeer /run/vcbench/0.link spawn $SPAWNS"
    spawn_row spawn_guest "$1" "$OUTPUT"
}

spawn_host() {
    agent_ask host_n2 "for ((i = 0; i < $SPAWNS; i++)); do /bin/true; done"
    spawn_row spawn_host "$1" "$MICROSECONDS"
}

latency_ready() { latency ready "$1"; }
latency_bare() { latency bare "$1"; }

# ---- streams ----

# a plain guest on n2 from the XML of the product's member, with portinit as its PID 1
port_guest() {
    plain_learn 1 1 -w n2 -n2 --vcluster-mem=512M
    agent_ask host_n2 "cd /run/vcbench && rm -rf init.d && mkdir init.d && cp $STAGE_BENCH/portinit init.d/init &&
        initrd=\$(sed -n 's/.*<initrd>\\(.*\\)<.initrd>.*/\\1/p' 0.xml) && cp \"\$initrd\" initrd && truncate -s %512 initrd &&
        (cd init.d && echo init | cpio -o -H newc --quiet) >>initrd && chmod 644 initrd &&
        sed -i \"s#<initrd>.*</initrd>#<initrd>/run/vcbench/initrd</initrd>#; s#</cmdline># ${BENCH_CMDLINE:-}</cmdline>#\" 0.xml"
    plain_disks n2
    agent_ask host_n2 "virsh -q create /run/vcbench/0.xml && $STAGE_BENCH/portpeer /run/vcbench/0.link out 1"
    agent_ask host_n2 "head -c $BYTES /dev/zero >/dev/shm/bench.in && install -o alice -m 600 /dev/null /dev/shm/bench.out.0 &&
        chmod 644 /dev/shm/bench.in"
}

part_streams() {
    local pairs=$PAIRS
    PAIRS=$STREAM_PAIRS
    agent_start user_n2 0 n2 --user alice
    agent_ask ready 'echo "$SLURM_JOB_ID"'
    JOB=$OUTPUT
    interleave stdout_task stdout_link stdout_relay
    interleave stdin_task stdin_link stdin_relay
    bar stdout_vs_link ratio stdout_task stdout_link MiB/s higher 0.6
    bar stdin_vs_link ratio stdin_task stdin_link MiB/s higher 0.5
    bar stdout_vs_relay ratio stdout_task stdout_relay 1 higher -
    bar stdin_vs_relay ratio stdin_task stdin_relay 1 higher -
    bar stdout_relay_vs_link ratio stdout_relay stdout_link 1 higher -
    bar stdin_relay_vs_link ratio stdin_relay stdin_link 1 higher -
    PAIRS=$((PAIRS < 5 ? PAIRS : 5))
    interleave srun_stdout_ready srun_stdout_bare
    interleave srun_stdin_ready srun_stdin_bare
    bar srun_stdout_vs_bare ratio srun_stdout_ready srun_stdout_bare 1 higher -
    bar srun_stdin_vs_bare ratio srun_stdin_ready srun_stdin_bare 1 higher -
    PAIRS=$pairs
}

rate_row() { row "$1" "$2" "$(mib_per_s "$3" "$4")" MiB/s; }

stdout_task() {
    agent_ask ready "srun -n1 --output=/dev/shm/bench.out.%t dd if=/dev/zero bs=64k count=$((BYTES >> 16))"
    rate_row stdout_task "$1" "$BYTES" "$MICROSECONDS"
    agent_ask host_n2 "[ \$(stat -c %s /dev/shm/bench.out.0) -ge $BYTES ]"
}

stdin_task() {
    agent_ask user_n2 "vcctl exec $JOB 0 -- dd of=/dev/null bs=64k </dev/shm/bench.in"
    rate_row stdin_task "$1" "$BYTES" "$MICROSECONDS"
}

port() {
    agent_ask host_n2 "$STAGE_BENCH/portpeer /run/vcbench/0.link $1 $BYTES"
    rate_row "$2" "$3" "$BYTES" "$OUTPUT"
}

stdout_link() { port out stdout_link "$1"; }
stdin_link() { port in stdin_link "$1"; }
stdout_relay() { port relay-out stdout_relay "$1"; }
stdin_relay() { port relay-in stdin_relay "$1"; }

srun_stdout() {
    agent_ask "$1" "srun -n1 dd if=/dev/zero bs=64k count=$((SRUN_BYTES >> 16)) | wc -c"
    rate_row "srun_stdout_$1" "$2" "$SRUN_BYTES" "$MICROSECONDS"
    [ "$OUTPUT" = "$SRUN_BYTES" ] || die "srun carried '$OUTPUT' instead of $SRUN_BYTES bytes"
}

srun_stdin() {
    agent_ask "$1" "head -c $SRUN_BYTES /dev/zero | srun -n1 dd of=/dev/null bs=64k"
    rate_row "srun_stdin_$1" "$2" "$SRUN_BYTES" "$MICROSECONDS"
}

srun_stdout_ready() { srun_stdout ready "$1"; }
srun_stdout_bare() { srun_stdout bare "$1"; }
srun_stdin_ready() { srun_stdin ready "$1"; }
srun_stdin_bare() { srun_stdin bare "$1"; }

# ---- tasks ----

part_tasks() {
    local pairs=$PAIRS
    PAIRS=$STREAM_PAIRS
    interleave tasks_ready tasks_bare
    bar tasks32_added_ms difference tasks32_ready tasks32_bare ms lower -
    PAIRS=$pairs
}

tasks() {
    agent_ask "$1" 'srun -n32 --overcommit true'
    row "tasks32_$1" "$2" "$(ms "$MICROSECONDS")" ms
}

tasks_ready() { tasks ready "$1"; }
tasks_bare() { tasks bare "$1"; }
