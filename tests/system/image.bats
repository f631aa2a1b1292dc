#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# Images: recipes from other images, the cache, builds that are shared, that fail, that are killed.

load helper

setup() { require_vcd; }

teardown() {
    [ -z "${JOB:-}" ] || lab_exec ctl scancel "$JOB" || true
    dump_logs
}

json() { python3 -c 'import json,sys; d=json.load(sys.stdin); print(eval(sys.argv[1]))' "$1"; }

# recipe USER FILE TEXT
recipe() { as "$1" sh -c 'printf "%s\n" "$2" >"$1"' sh "$2" "$3"; }

digest_of() { as "$1" vcctl image show "$2" --json | json 'd["digest"]'; }

builds_anywhere() { local h; for h in ctl $(lab_hosts); do lab_exec "$h" ls /var/lib/vcluster/images/builds || return; done; }
no_build_is_left() { local left; left=$(builds_anywhere) && [ -z "$left" ] && ! grep -qs "vclab-$VCLAB_ID/.*root.raw" /sys/block/loop*/loop/backing_file; }

# begin_build NAME: by alice, in the background, until its first command runs; what it says goes to $BATS_TEST_TMPDIR/NAME
begin_build() {
    as alice vcctl image build "$1.recipe" >"$BATS_TEST_TMPDIR/$1" 2>&1 &
    wait_until 20 "the command" grep -q 'command 1' "$BATS_TEST_TMPDIR/$1"
}

public_busybox() {
    import_busybox alice busybox
    as alice vcctl image show public-box >/dev/null 2>&1 || as alice vcctl image import --public public-box busybox.tar
}

@test "a recipe grows from another image; the same recipe again is cached, for anybody who may see it" {
    public_busybox
    recipe alice child.recipe 'name = child
from = public-box
file "/etc/child" { content = "of alice" }
commands = { "sleep 1.2; date +%s > /etc/once" }'
    run as alice vcctl image build child.recipe
    assert_equal "$status" 0
    assert_contains "$output" "grown from a cached image"
    recipe bob again.recipe 'name = again
from = "alice/public-box"
file "/etc/child" { content = "of alice" }
commands = { "sleep 1.2; date +%s > /etc/once" }'
    run as bob vcctl image build again.recipe
    assert_equal "$status" 0
    assert_contains "$output" "(cached)"
    assert_equal "$(digest_of bob again)" "$(digest_of alice child)"
    assert_equal "$(digest_of bob alice/public-box)" "$(digest_of alice public-box)"
    run as carol vcctl image fsck ctl alice/public-box
    assert_equal "$status" 0
    run as alice vcctl image build --refresh child.recipe
    assert_equal "$status" 0
    assert_contains "$output" "commands"
    [ "$(digest_of alice child)" != "$(digest_of bob again)" ]

    as alice vcctl image rm child
    as bob vcctl image rm again
}

@test "what a user may not see is no base for a recipe" {
    import_busybox alice busybox
    recipe bob stolen.recipe 'name = stolen
from = busybox'
    run as bob vcctl image build stolen.recipe
    assert_equal "$status" 1
    assert_contains "$output" "there is no image 'busybox'"
}

@test "who needs the same image waits for the same build" {
    public_busybox
    for user in alice bob; do
        recipe $user shared.recipe 'name = shared
from = public-box
commands = { "sleep 4; head -c 8 /dev/urandom > /etc/random" }'
    done
    as alice vcctl image build shared.recipe >"$BATS_TEST_TMPDIR/alice" 2>&1 &
    wait_until 20 "the first build" sh -c "grep -q commands '$BATS_TEST_TMPDIR/alice'"
    run as bob vcctl image build shared.recipe
    assert_equal "$status" 0
    wait $!
    assert_equal "$(digest_of alice shared)" "$(digest_of bob shared)" # random bytes: one build made both
    as alice vcctl image rm shared
    as bob vcctl image rm shared
}

@test "a build that fails names its command, and its log is kept" {
    public_busybox
    recipe alice broken.recipe 'name = broken
from = public-box
commands = { "true", "echo this is why; exit 3" }'
    run as alice vcctl image build broken.recipe
    assert_equal "$status" 1
    assert_contains "$output" "command 2 (echo this is why; exit 3): this is why"
    assert_contains "$(as alice vcctl image log broken)" "this is why"
    run as bob vcctl image log broken
    assert_equal "$status" 3
    wait_until 20 "the build's directory to go" no_build_is_left
}

@test "a recipe is built on another host than the controller; when that is lost, on the next one" {
    public_busybox
    recipe alice away.recipe 'name = away
from = public-box
commands = { "echo this is said; sleep 3; head -c 8 /dev/urandom >/etc/random" }'
    begin_build away
    local builder other
    for builder in n1 n2; do ! lab_exec "$builder" pgrep -x vc-build >/dev/null || break; done
    other=n1; [ "$builder" != n1 ] || other=n2
    lab_exec "$builder" pgrep -x vc-build
    run lab_exec ctl pgrep -x vc-build
    assert_equal "$status" 1
    assert_contains "$(as alice vcctl image log away)" "this is said" # while it is built there
    lab stop "$builder" vcd KILL
    wait $!
    lab start "$builder" vcd
    assert_contains "$(lab log ctl vcd)" "image away: built on $other, published"
    assert_contains "$(as alice vcctl image log away)" "this is said" # kept here
    run as alice vcctl image build away.recipe
    assert_contains "$output" "(cached)"
    as alice vcctl image rm away
    wait_until 20 "the killed build's directory to go" no_build_is_left
}

@test "the controller's vcd is killed during a build: nothing is left, the next build works" {
    public_busybox
    recipe alice slow.recipe 'name = slow
from = public-box
commands = { "test -e /etc/quick || sleep 60" }'
    begin_build slow
    lab stop ctl vcd KILL
    wait $! && false
    lab start ctl vcd
    wait_until 20 "the killed build's directory to go" no_build_is_left
    run as alice vcctl image show slow
    assert_equal "$status" 3
    recipe alice slow.recipe 'name = slow
from = public-box
commands = { "true" }'
    run as alice vcctl image build slow.recipe
    assert_equal "$status" 0
    as alice vcctl image rm slow
}

# a directory, a tar of it, its file system bare, on a disk with partitions, in a qcow2 of that, as an OCI layout and archive
make_sources() {
    as alice sh -s <<'SH'
set -e
rm -rf src && mkdir src && cd src
mkdir -p root/bin && cp /bin/busybox root/bin && echo of alice >root/mark
tar -C root -cf root.tar .
/sbin/mke2fs -q -F -t ext4 -d root fs.raw 8M
truncate -s 12M disk.raw && printf 'label: gpt\nstart=2048, size=2048\nstart=4096, size=16384\n' | /sbin/sfdisk -q disk.raw
dd if=fs.raw of=disk.raw bs=512 seek=4096 conv=notrunc status=none
qemu-img convert -O qcow2 disk.raw disk.qcow2
umoci init --layout oci && umoci new --image oci:one && umoci unpack --rootless --image oci:one bundle
cp -r root/. bundle/rootfs/ && umoci repack --image oci:one bundle
tar -C oci -cf oci.tar oci-layout index.json blobs
SH
}

@test "imports: directory, tar, OCI layout and archive, file system, disk and qcow2 of one content" {
    make_sources
    local kind
    for kind in root root.tar oci oci.tar fs.raw disk.raw disk.qcow2; do
        as alice vcctl image import "kind-$kind" "src/$kind"
    done
    assert_equal "$(digest_of alice kind-fs.raw)" "$(digest_of alice kind-disk.raw)"
    assert_equal "$(digest_of alice kind-fs.raw)" "$(digest_of alice kind-disk.qcow2)"
    for kind in root root.tar oci oci.tar fs.raw; do
        assert_equal "$kind $(lab_exec ctl debugfs -R 'cat /mark' "/var/lib/vcluster/images/$(digest_of alice "kind-$kind")/root.raw" 2>/dev/null)" \
            "$kind of alice"
    done
    recipe alice upon.recipe 'name = upon
from = kind-fs.raw
file "/x" { content = "x" }'
    run as alice vcctl image build upon.recipe
    assert_equal "$status" 1
    assert_contains "$output" "nothing can be built upon it"
    run as alice vcctl image import nothing src/disk.qcow2.not
    assert_equal "$status" 1
    run as alice sh -c 'truncate -s 2M src/empty.raw; printf "label: dos\nstart=2048\n" | /sbin/sfdisk -q src/empty.raw; vcctl image import empty src/empty.raw'
    assert_equal "$status" 1
    assert_contains "$output" "no partition of the disk holds an ext4 file system"
    assert_equal "$(as alice sh -c 'ls -d /var/tmp/vcctl-import-* 2>/dev/null')" ""
    for kind in root root.tar oci oci.tar fs.raw disk.raw disk.qcow2; do as alice vcctl image rm "kind-$kind"; done
    as alice rm -rf src
}

@test "a build whose caller goes away is ended" {
    public_busybox
    recipe alice gone.recipe 'name = gone
from = public-box
commands = { "sleep 61" }'
    as alice timeout 5 vcctl image build gone.recipe >"$BATS_TEST_TMPDIR/gone" 2>&1 || true
    assert_contains "$(cat "$BATS_TEST_TMPDIR/gone")" "command 1"
    wait_until 20 "the build's directory to go" no_build_is_left
}

@test "an image that a cluster uses cannot be removed; built anew, its members keep the former one" {
    import_busybox alice busybox
    local former
    as alice sh -c 'rm -rf used.root && cp -r busybox.root used.root && echo once >used.root/etc/once && vcctl image import used used.root'
    former=$(digest_of alice used)
    submit alice -N1 --vcluster=used --vcluster-mem=256M --wrap='sleep 300'
    wait_until 120 "the cluster of job $JOB" cluster_is_ready alice "$JOB"
    run as alice vcctl image rm used
    assert_equal "$status" 1
    assert_contains "$output" "is in use by 1 running cluster"
    as alice sh -c 'echo again >used.root/etc/again && vcctl image import used used.root && rm -rf used.root'
    [ "$(digest_of alice used)" != "$former" ]
    lab_exec ctl test -e "/var/lib/vcluster/images/$former/root.raw"
    assert_equal "$(as alice vcctl exec "$JOB" 0 -- cat /etc/again 2>/dev/null)" "" # the members' own is the former one
    as alice vcctl exec "$JOB" 0 -- true
    lab_exec ctl scancel "$JOB"
    wait_job "$JOB"
    as alice vcctl image rm used
}

published() { lab log ctl vcd | grep -c "image deb.with-.*published" || true; }
one_is_published() { [ "$(published)" = 1 ]; }

# The stages of a start, which has ended, are its time; and so they are for each host with what it waited for others.
assert_stages_sum() {
    local shown
    shown=$(as alice vcctl show "$1" --json)
    assert_equal "$(json '[s["stage"] for s in d["stages"]]' <<<"$shown")" \
        "['resolve', 'build', 'transfer', 'publish', 'define', 'boot', 'form']"
    assert_equal "$(json 'abs(sum(s["ms"] for s in d["stages"]) - d["start_ms"]) < 500 and d["start_ms"] > 1000' <<<"$shown")" True
    assert_equal "$(json 'set(sum(s["ms"] for s in h["stages"]) - sum(s["ms"] for s in d["stages"]) for h in d["hosts"])' <<<"$shown")" "{0}"
    assert_equal "$(json 'max(s["ms"] for s in d["stages"] if s["stage"] == "boot") > 500' <<<"$shown")" True
}

host_has() { lab_exec "$1" test -e "/var/lib/vcluster/images/$2/image.json"; }

@test "the image of a queued job is brought to the hosts that Slurm plans for it" {
    import_busybox alice busybox
    local blocker host digest
    as alice sh -c 'rm -rf queued.root && cp -r busybox.root queued.root && date +%N >queued.root/etc/queued && vcctl image import queued queued.root &&
        rm -rf queued.root'
    digest=$(digest_of alice queued)
    submit alice -N2 --exclusive --time=5 --wrap='sleep 300'
    blocker=$JOB
    wait_until 60 "the job before it" job_is_in_state "$blocker" RUNNING
    submit alice -N2 --exclusive --time=5 --vcluster=queued --vcluster-mem=256M --wrap=true
    for host in $(lab_hosts); do wait_until 90 "the image on $host" host_has "$host" "$digest"; done
    assert_equal "$(job_state "$JOB")" PENDING
    lab_exec ctl scancel "$JOB" "$blocker"
    wait_nodes idle
    as alice vcctl image rm queued
}

@test "--vcluster-packages: the image is built while its job is queued, once, and the job has the package" {
    recipe alice deb.recipe 'name = deb'
    as alice vcctl image build deb.recipe
    submit alice --hold -N1 --vcluster=deb --vcluster-packages=hello --vcluster-mem=300M --wrap='hello -g "from the package"'
    wait_until 120 "the image of the held job" one_is_published
    assert_equal "$(job_state "$JOB")" PENDING
    lab_exec ctl scontrol release "$JOB"
    wait_job "$JOB" 240
    assert_job_completed "$JOB"
    assert_contains "$(job_output "$JOB")" "from the package"
    submit alice -N1 --vcluster=deb --vcluster-packages=hello --vcluster-mem=300M --wrap='hello -g again'
    wait_job "$JOB" 240
    assert_job_completed "$JOB"
    assert_equal "$(published)" 1
    assert_stages_sum "$JOB"

    submit alice -N1 --vcluster=deb --vcluster-packages=no-such-package --vcluster-mem=300M --wrap='hostname'
    wait_job "$JOB" 120
    assert_contains "$(job_output "$JOB")" "Unable to locate package no-such-package"
}

@test "scancel while the image of a job is built: its hosts are free within seconds" {
    submit alice -N2 --vcluster=deb --vcluster-packages=bc --vcluster-mem=300M --wrap=true
    wait_until 60 "the build of job $JOB" cluster_has_phase alice "$JOB" building
    lab_exec ctl scancel "$JOB"
    wait_nodes idle 15 # 5 s, and what a busy machine adds
    assert_equal "$(job_state "$JOB")" CANCELLED
    wait_until 120 "the build to be over" no_build_is_left
    assert_clean
}

array_is_over() { [ -z "$(lab_exec ctl squeue -hr -j "$JOB")" ]; }

@test "the tasks of a job array share one build of their image: each runs, nothing is left" {
    local n=6 before
    [ -z "${VC_FULL:-}" ] || n=100
    recipe alice deb.recipe 'name = deb'
    as alice vcctl image build deb.recipe
    before=$(published)
    as alice sh -c 'rm -rf array && mkdir array'
    submit alice --array="1-$n" -N1 -c1 --mem=450 --vcluster=deb --vcluster-packages=figlet --vcluster-mem=300M -o array/%a \
        --wrap='figlet -v >/dev/null && echo "task $SLURM_ARRAY_TASK_ID in vc$SLURM_JOB_ID: $(hostname)"'
    wait_until $((120 + 10 * n)) "the $n tasks of array $JOB" array_is_over
    as alice sh -c 'cat array/*' >"$BATS_TEST_TMPDIR/said"
    assert_equal "$(grep -cE '^task ([0-9]+) in (vc[0-9]+): \2-0$' "$BATS_TEST_TMPDIR/said")" "$n"
    assert_equal "$(sort -u "$BATS_TEST_TMPDIR/said" | wc -l)" "$n"
    assert_equal "$(published)" $((before + 1))
    assert_clean
    as alice rm -r array
}
