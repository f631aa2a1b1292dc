#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# Processors: each virtual processor of a member is pinned to one of the CPUs that Slurm gave the job on the host, and a
# task that Slurm bound to some of these is bound in the member to the processors that run there: -c, --cpu-bind and
# OMP_NUM_THREADS mean the same in the member.
#
# In a lab of its own, whose one host claims the two CPUs that every machine has, and so can be pinned. The lab of the
# other tests claims more than there are.

load helper

setup_file() {
    require_vcd
    [ "$(nproc --all)" -ge 2 ] || skip "this machine has one processor"
    other_lab_up --hosts 1 --cpus 2
    import_busybox alice cpus
    as alice sh -c 'cat >cpus.sh' <<'SCRIPT'
allowed='$(sed -n "s/^Cpus_allowed_list:[[:space:]]*//p" /proc/self/status)'
echo ready
for _ in $(seq 300); do [ ! -e cpus.go ] || break; sleep 0.1; done
srun -n2 -c1 --cpu-bind=verbose,map_cpu:1,0 sh -c "echo map \$SLURM_PROCID $allowed"
srun -n2 -c1 --cpu-bind=cores sh -c "echo cores \$SLURM_PROCID $allowed"
srun -n1 -c2 sh -c "echo two \$SLURM_CPUS_PER_TASK $allowed \$(nproc)"
srun -n1 -c1 --cpu-bind=cores sh -c 'echo one $(nproc)'
srun -n1 -c2 --cpu-bind=none sh -c "echo none $allowed"
OMP_NUM_THREADS=2 srun -n1 -c2 sh -c 'echo omp $OMP_NUM_THREADS'
SCRIPT
    as alice salloc -Q -N1 -n2 -c1 --vcluster=cpus bash cpus.sh >"$BATS_FILE_TMPDIR/out" 2>&1 &
    wait_until 60 "the cluster" grep -q '^ready' "$BATS_FILE_TMPDIR/out"
    lab_exec n1 sh -c 'virsh -q -c qemu:///system vcpupin "$(virsh -q -c qemu:///system list --name)"' >"$BATS_FILE_TMPDIR/pins"
    as alice touch cpus.go
    wait_until 60 "the last line" grep -q '^omp' "$BATS_FILE_TMPDIR/out"
    wait
}

teardown_file() { other_lab_down; }

setup() { cat "$BATS_FILE_TMPDIR/out" "$BATS_FILE_TMPDIR/pins"; }

teardown() { dump_logs; }

out() { sed -n "s/^$1 //p" "$BATS_FILE_TMPDIR/out" | sort | xargs; }

# the CPU of the host that runs this processor of the member
pin_of() { awk -v n="$1" '$1 == n { print $2 }' "$BATS_FILE_TMPDIR/pins"; }

# the mask that Slurm says it has set for a rank on the host
mask_of() { sed -nE "s/^cpu-bind=.* task +$1 +$1 .*mask (0x[0-9a-fA-F]+) set.*/\\1/p" "$BATS_FILE_TMPDIR/out"; }

@test "each processor of a member is pinned to one CPU of the job" {
    assert_equal "$(awk 'NF == 2 { print $2 }' "$BATS_FILE_TMPDIR/pins" | sort | xargs)" "0 1"
}

@test "a task runs in the member on the processors that are pinned to what Slurm bound it to" {
    local rank processor count=0
    while read -r rank processor; do
        assert_equal "rank $rank: $((1 << $(pin_of "$processor")))" "rank $rank: $(($(mask_of "$rank")))"
        count=$((count + 1))
    done < <(sed -n 's/^map //p' "$BATS_FILE_TMPDIR/out")
    assert_equal "$count" 2
    assert_equal "$(sed -n 's/^cores [01] //p' "$BATS_FILE_TMPDIR/out" | sort | xargs)" "0 1"
}

@test "-c, --cpu-bind=none and OMP_NUM_THREADS mean what they mean on a host" {
    assert_equal "$(out two)" "2 0-1 2"
    assert_equal "$(out one)" "1"
    assert_equal "$(out none)" "0-1"
    assert_equal "$(out omp)" "2"
}
