#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# What a task is in its machine, beside what it is on a bare host: who, where, with which limits, streams and ends; one
# batch script in both places; terminals, arrays, staged files, mounts, unequal hosts, memory that Slurm does not count.
#
# One cluster of alice's (job $BASE: n1 with twice the CPUs of n2) serves all tests that need no other.

bats_require_minimum_version 1.5.0

load helper

IMAGE=tasks-tiny

setup_file() {
    require_vcd
    "$TOP/contrib/recipes/make-tiny-root" "$BATS_FILE_TMPDIR/tiny.tar"
    as alice sh -c 'cat >tasks-tiny.tar' <"$BATS_FILE_TMPDIR/tiny.tar"
    as alice vcctl image import "$IMAGE" tasks-tiny.tar
    as alice sh -c 'printf "#!/bin/sh\necho export FROM_PROLOG=yes\n" >prolog.sh && chmod 755 prolog.sh
        printf "0 hostname\n1 echo rank %%t of this line %%o\n" >multi.conf
        mkdir -p work && touch work/of-the-host'
    submit alice -N2 -n3 -c2 --mem=400 -m block --vcluster="$IMAGE" < <(printf '#!/bin/sh\nsleep 3600\n')
    export BASE=$JOB
    wait_until 200 "the cluster of job $BASE" cluster_is_ready alice "$BASE"
}

teardown_file() {
    [ -z "${BASE:-}" ] || lab_exec ctl scancel "$BASE" || true
    wait_nodes idle 60 || true
    as alice vcctl image rm "$IMAGE" || true
    as alice rm -rf tasks-tiny.tar prolog.sh multi.conf work
}

teardown() {
    if [ -n "${JOB:-}" ] && [ "$JOB" != "$BASE" ]; then lab_exec ctl scancel "$JOB" || true; fi
    dump_logs
}

# in_base [COMMAND before srun;] an srun in job $BASE, by a shell of alice's on the login host
in_base() { as alice timeout 60 sh -c "${1//srun/srun --jobid=$BASE --overlap}" 2>&1 </dev/null; }

json() { python3 -c 'import json,sys; d=json.load(sys.stdin); print(eval(sys.argv[1]))' "$1"; }

# ---- one task ----

@test "what Slurm gives a task arrives in the machine (table)" {
    local what command expected
    while IFS='|' read -ru3 what command expected; do
        run in_base "${command//!/|}"
        assert_contains "$(xargs -0 <<<"$output")" "${expected//BASE/$BASE}" || { echo "in row: $what" >&2; return 1; }
    done 3<<'TABLE'
the member|srun -n1 -N1 -w n1 hostname|vcBASE-0
the other host's member|srun -n1 -N1 -w n2 hostname|vcBASE-1
user and group|srun -n1 -N1 sh -c 'id -u; id -g; id -un; id -gn' ! xargs|2001 2001 alice alice
home, made and owned|srun -n1 -N1 sh -c 'stat -c "%U %F" $HOME'|alice directory
umask|umask 027; srun -n1 -N1 sh -c 'umask; touch f; stat -c %a f; rm f' ! xargs|0027 640
open files|ulimit -Sn 321; srun -n1 -N1 sh -c 'ulimit -Sn'|321
stack|ulimit -Ss 4000; srun -n1 -N1 sh -c 'ulimit -Ss'|4000
TMPDIR|srun -n1 -N1 sh -c 'echo dir=$TMPDIR; test -w $TMPDIR && echo writable' ! xargs|dir=/tmp writable
--task-prolog|srun --task-prolog=/home/alice/prolog.sh -n1 -N1 sh -c 'echo prolog=$FROM_PROLOG'|prolog=yes
directory, created empty|cd work; srun -n1 -N1 sh -c 'pwd; ls; stat -c %U .'|the directory /home/alice/work did not exist in the virtual machine and was created empty
directory, there already|cd work; srun -n1 -N1 sh -c 'pwd; ls; stat -c %U .' ! xargs|/home/alice/work alice
environment|OWN='a b' srun -n1 -N1 sh -c 'echo own=$OWN'|own=a b
filtered environment|SSH_CLIENT=x srun -n1 -N1 sh -c 'echo client=${SSH_CLIENT-none} vcexec=${VCEXEC_TASK-none}'|client=none vcexec=none
program in the guest's PATH|srun -n1 -N1 vcrsh localhost hostname|vcBASE-0
arguments, verbatim|srun -n1 -N1 printf '%s,' 'a  b' '' '*' '$X'|a  b,,*,$X,
exit status|srun -Q -n1 -N1 sh -c 'exit 7'; echo status $?|status 7
not found|srun -Q -n1 -N1 no-such-program; echo status $?|status 127
not executable|srun -Q -n1 -N1 /etc/passwd; echo status $?|status 126
death by signal|srun -n1 -N1 sh -c 'kill -USR1 $$'|User defined signal 1
--multi-prog|srun -n2 -N1 -w n1 -l --multi-prog multi.conf ! sort ! xargs|0: vcBASE-0 1: rank 1 of this line 0
--bcast by an srun without --vcluster|srun -Q -n1 -N1 -w n1 --bcast=/tmp/copy /bin/true|vcluster: /tmp/copy is on the host, which the machines do not see
--bcast, where Slurm chooses the place|srun -Q -n1 -N1 -w n1 --bcast /bin/true|vcluster: --bcast copies to the hosts, which the machines do not see
closed standard output|srun -n1 -N1 sh -c 'yes; echo ended $? >&2' ! head -n1|y
TABLE
}

@test "standard input goes to every task, binary and whole" {
    as alice sh -c 'head -c 2000000 /dev/urandom >data'
    local sum
    sum=$(as alice sh -c 'md5sum <data' | cut -d' ' -f1)
    run as alice sh -c "srun --jobid=$BASE --overlap -N2 -n3 md5sum <data"
    assert_equal "$(grep -c "^$sum" <<<"$output")" 3
    run as alice sh -c "srun --jobid=$BASE --overlap -n1 -N1 cat <data | md5sum; rm data"
    assert_contains "$output" "$sum"
}

@test "signals of scancel and of srun reach the task" {
    local out=$BATS_TEST_TMPDIR/out pid step status=0
    as alice srun --jobid="$BASE" --overlap -n1 -N1 -J trapper sh -c 'trap "echo got-usr1; exit 9" USR1; echo ready; while :; do sleep 0.1; done' \
        >"$out" 2>/dev/null 3>&- &
    pid=$!
    wait_until 30 "the task to be ready" grep -q ready "$out"
    step=$(as alice squeue -hs -j "$BASE" -o '%i %j' | awk '$2 == "trapper" {print $1}')
    as alice scancel -s USR1 "$step" || true # Slurm complains of the job's hosts without that step; bare jobs' too
    wait "$pid" || status=$?
    assert_equal "$status" 9
    grep -q got-usr1 "$out"
}

# on_terminal COMMAND...: as alice on a terminal of 33 x 77, which becomes one of 44 x 88 when it has said its size
on_terminal() {
    as alice timeout 60 python3 -c 'import fcntl, os, pty, struct, sys, termios
def resize(rows, cols): fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))
pid, master = pty.fork()
if pid == 0:
    sys.stdin.readline()
    os.execvp(sys.argv[1], sys.argv[1:])
resize(33, 77)
os.write(master, b"\n")
said, resized = b"", False
while True:
    try: part = os.read(master, 4096)
    except OSError: break
    said += part
    if b"33 77" in said and not resized:
        resized = True
        resize(44, 88)
sys.stdout.write(said.decode().replace("\r", ""))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))' "$@" </dev/null
}

@test "srun --pty has a terminal of the right size, which follows" {
    run -6 on_terminal srun -Q --jobid="$BASE" --overlap -n1 -N1 --pty sh -c \
        'trap "echo resized; stty size; exit 6" WINCH; tty; stty size; while :; do sleep 0.1; done'
    assert_contains "$output" $'/dev/pts/0\n33 77\nresized\n44 88'
}

# ---- srun in a member ----

@test "srun in a member: files of tasks are where these run, programs of --multi-prog, streams of one task" {
    run as alice timeout 100 vcctl exec "$BASE" 0 -- sh -c 'mkdir -p files && cd files || exit
        srun -n3 -o "o.%2t.%N" -e e.%n sh -c "echo out of \$SLURM_PROCID; echo err >&2"
        ls; cat e.0; vcrsh vc'"$BASE"'-1 "cd files; ls; cat o.*"
        printf "0 echo first\n* echo task %%t, the %%o of its line:\n" >m.conf
        srun -n3 -l --multi-prog m.conf more | sort; srun -n3 --multi-prog nothing; echo $?
        srun -n3 -o 2 hostname; echo in | srun -n3 -i 1 -l cat
        mkfifo fifo.0; srun -Q -n1 -o fifo.%t true; echo $?
        printf "#!/bin/sh\necho \"\$*\"\n" >mine; chmod 755 mine; srun -N1 -n1 ./mine "0 apples"
        srun --version | grep -c slurm; srun --usage; srun --gres=none -n1 echo gres
        srun --mpi=list | grep -c pmi2; srun --test-only hostname 2>&1 | grep -c "to start at"' 2>&1
    assert_equal "$(sed "s/vc$BASE/vc/g; /^srun: error/d; /^vcluster: the directory/d" <<<"$output")" "e.0
o.00.vc-0
o.01.vc-0
err
err
e.1
o.02.vc-1
out of 2
0: first more
1: task 1, the 1 of its line: more
2: task 2, the 2 of its line: more
vcluster: srun: --multi-prog: nothing: No such file or directory
1
vc-1
1: in
vcluster: --output: cannot open fifo.0: No such device or address
1
0 apples
1
Usage: srun [OPTION...] PROGRAM [ARGUMENT...]
gres
1
1"
}

# ---- the cluster ----

@test "unequal hosts give unequal members, visible as slots" {
    assert_equal "$(in_base 'srun -n1 -N1 -w n1 cat /run/vcluster/hostfile' | xargs)" "vc$BASE-0 slots=4 vc$BASE-1 slots=2"
    assert_equal "$(in_base 'srun -N2 -n2 nproc' | sort | xargs)" "2 4"
    assert_equal "$(as alice vcctl show "$BASE" --json | json '[m["slots"] for m in d["plan"]["members"]]')" "[4, 2]"
}

@test "one trace id follows the start through all hosts" {
    local trace host
    trace=$(lab log ctl vcd | sed -nE "s/.*\\b$BASE\\b.* \\[([0-9a-f]{16})\\]\$/\\1/p" | tail -n1)
    [ -n "$trace" ]
    for host in $(lab_hosts); do assert_contains "$(lab log "$host" vcd)" "[$trace]"; done
}

@test "salloc: its srun runs in the machine; vcctl watch tells each phase until the end" {
    local salloc
    as alice timeout 200 salloc -Q -J watched -N1 -c1 --mem=300 --vcluster="$IMAGE" srun hostname >"$BATS_TEST_TMPDIR/said" 3>&- &
    salloc=$!
    wait_until 30 "the allocation to be known" sh -c '"$0" exec ctl squeue -h -n watched -o %i | grep -q .' "$VCLAB"
    JOB=$(lab_exec ctl squeue -h -n watched -o %i)
    wait_until 30 "the cluster to be known" as alice vcctl show "$JOB"
    run as alice timeout 120 vcctl watch --json "$JOB"
    assert_equal "$status" 0
    wait "$salloc"
    assert_equal "$(cat "$BATS_TEST_TMPDIR/said")" "vc$JOB-0"
    assert_equal "$(python3 -c 'import json,sys
seen = [json.loads(line)["phase"] for line in sys.stdin]
print(seen.index("ready") < seen.index("releasing"))' <<<"$output")" True
    wait_job "$JOB"
}

# ---- the same script on bare hosts and in a cluster ----

write_script() {
    as alice sh -c 'cat >same.sh' <<'SCRIPT'
#!/bin/sh
echo "args: $# $1, in $(pwd), umask $(umask), files $(ulimit -Sn)"
export OWN="a b"
echo "-- each task"; srun -l sh -c 'echo "$SLURM_PROCID $SLURM_LOCALID $SLURM_NODEID $SLURM_NTASKS $OWN $0"' "x  y" | sort
echo "-- one per host"; srun -n2 -N2 -l sh -c 'echo $SLURM_NODEID $SLURM_NNODES' | sort
echo "-- status"; srun -Q -n1 -N1 sh -c 'exit 3'; echo $?
echo "-- signal"; srun -Q -n1 -N1 sh -c 'kill -TERM $$'; echo $?
echo "-- standard input"; printf 'one\ntwo\n' | srun -n1 -N1 cat
printf 'all\n' | srun -l cat | sort
head -c 3000000 /dev/zero | srun -n1 -N1 cat | wc -c
echo "-- standard error"; srun sh -c 'echo oops >&2' 2>&1 >/dev/null | sort
echo "-- output file"; srun -n1 -N1 -o same.%j.out echo into a file; cat same.*.out; rm same.*.out
echo "-- at once"; srun -n1 -N1 --exact --mem=10 echo a >a & srun -n1 -N1 --exact --mem=10 echo b >b & wait; cat a b; rm a b
echo "-- export"; srun -n1 -N1 --export=ALL,MORE=1 sh -c 'echo "$OWN $MORE"'
echo "-- the job"; squeue -h -j "$SLURM_JOB_ID" -o '%u %T %D'; scontrol show hostnames "$SLURM_JOB_NODELIST" | wc -l
scontrol show job "$SLURM_JOB_ID" | grep -c "JobId=$SLURM_JOB_ID "
echo "-- a step that is canceled"; srun -Q -n1 -N1 --exact --mem=10 sleep 60 2>/dev/null & sleep 2; scancel "$SLURM_JOB_ID.$(squeue -hs -j "$SLURM_JOB_ID" -o %i | sed -n 's/.*\.\([0-9][0-9]*\)$/\1/p' | tail -n1)"; wait $!; echo $?
exit 5
SCRIPT
}

# same_output NAME SBATCH-ARGUMENTS...: what the script wrote, and how the job ended
same_output() {
    submit alice -N2 -n3 -m block --mem=400 -o "same.$1" -e "same.$1.err" "${@:2}" same.sh 'an argument'
    wait_job "$JOB" 200 || { job_output "$JOB" >&2; return 1; }
    printf '%s\nended %s\n' "$(job_output "$JOB")" "$(job_field "$JOB" ExitCode)"
    echo "-- what it said on standard error"
    as alice sort "same.$1.err"
}

@test "a batch script with srun does the same on bare hosts and in a cluster" {
    write_script
    same_output bare >"$BATS_TEST_TMPDIR/bare"
    same_output cluster --vcluster="$IMAGE" >"$BATS_TEST_TMPDIR/cluster"
    as alice rm -f same.sh same.bare same.cluster same.bare.err same.cluster.err
    diff -u "$BATS_TEST_TMPDIR/bare" "$BATS_TEST_TMPDIR/cluster"
    grep -q '^ended 5:0$' "$BATS_TEST_TMPDIR/bare"
    [ "$(wc -l <"$BATS_TEST_TMPDIR/bare")" -ge 30 ]
}

# ---- other jobs ----

@test "each task of an array is a cluster of its own; a batch script on the host starts steps in it" {
    submit alice --array=3,5 -N1 -c1 --mem=300 --vcluster="$IMAGE" --vcluster-script=host -o array.%a \
        --wrap 'echo "$SLURM_ARRAY_TASK_ID on ${SLURMD_NODENAME%[12]}: $(srun sh -c "echo \$VCLUSTER_SIZE \$(hostname)")"'
    wait_until 200 "the end of both" sh -c '[ -z "$("$0" exec ctl squeue -h -j "$1")" ]' "$VCLAB" "$JOB"
    run as alice sh -c 'cat array.3 array.5; rm array.3 array.5'
    assert_equal "$(sed -E 's/vc[0-9]+/vc/' <<<"$output")" $'3 on n: 1 vc-0\n5 on n: 1 vc-0'
    [ "$(awk '{print $5}' <<<"$output" | sort -u | wc -l)" -eq 2 ]
}

@test "files are staged into every member and back from the first" {
    as alice sh -c 'mkdir -p in/sub && echo one >in/one && echo two >in/sub/two && chmod 750 in/one'
    submit alice -N1 -c2 --mem=500 --vcluster="$IMAGE" --vcluster-vms=2 --vcluster-stage-in=in/one,in/sub --vcluster-stage-out=out/result \
        --wrap 'srun -n2 sh -c "cat in/one in/sub/two; stat -c %a in/one"; mkdir -p out; hostname >out/result'
    wait_job "$JOB" 200
    assert_job_completed "$JOB"
    assert_equal "$(job_output "$JOB" | sort | uniq -c | xargs)" "2 750 2 one 2 two"
    assert_equal "$(as alice cat out/result)" "vc$JOB-0"
    run as alice sbatch -N1 -w n1 -c1 --mem=300 --vcluster="$IMAGE" --vcluster-stage-in=in/one,in/missing -o missing.out --wrap 'echo ran'
    assert_contains "$output" "--vcluster-stage-in: /home/alice/in/missing: No such file or directory here"
    JOB=${output##* }
    wait_job "$JOB" 200
    assert_equal "$(job_state "$JOB")" FAILED
    run as alice cat missing.out
    assert_equal "$(grep -c 'in/missing: No such file or directory' <<<"$output")" 1
    [[ $output != *ran* ]] && [[ $output != *tar* ]]
    run lab log ctl vcd
    output=$(grep "/$JOB\.[0-9]*: " <<<"$output")
    assert_contains "$output" "looking"
    [[ $output != *preparing* ]]
    as alice rm -rf in out
}

# what a tree is: names and modes, contents, its link; the same words on the host and in a busybox
TREE='cd "$1" && find . | sort | xargs stat -c "%n %a" | sha256sum && find . -type f | sort | xargs cat | sha256sum && readlink last'

@test "trees of many files and of a large one are staged into each member of two hosts, back from the first, and copied to all" {
    local tree
    as alice sh -c 'mkdir -p in/tree && cd in/tree && for d in $(seq 10); do mkdir -p $d/sub && for f in $(seq 50); do
        echo $d.$f >$d/sub/$f; echo $f >$d/$f; done; done; chmod 640 7/7; ln -s 10/sub/50 last; head -c 20000000 /dev/urandom >large'
    tree=$(as alice sh -c "$TREE" tree in/tree)
    submit alice -N2 -n2 -c2 --mem=500 --vcluster="$IMAGE" --vcluster-vms=2 --vcluster-stage-in=in/tree --vcluster-stage-out=out/tree <<SCRIPT
#!/bin/sh
srun -n4 -c1 sh -c '$TREE' tree in/tree
srun -n4 -c1 mkdir copied
mkdir out && mv in/tree out/tree && echo moved && until [ -e copied/done ]; do sleep 0.2; done
srun -n4 -c1 sh -c '$TREE' tree copied/tree
SCRIPT
    wait_until 200 "the staged trees to be looked at" job_says moved
    as alice vcctl cp in/tree "$JOB:all:copied/"
    as alice sh -c 'echo >done' && as alice vcctl cp done "$JOB:0:copied/"
    wait_job "$JOB" 200
    assert_job_completed "$JOB"
    assert_equal "$(job_output "$JOB" | grep -v moved | sort | uniq -c)" "$(for i in $(seq 8); do echo "$tree"; done | sort | uniq -c)"
    assert_equal "$(as alice sh -c "$TREE" tree out/tree)" "$tree"
    as alice rm -rf in out done
}
job_says() { job_output "$JOB" | grep -qx "$1"; }

times_loaded() { lab log "$1" vcd | grep -c 'vcd.conf is loaded' || true; }
loaded_more_often() { [ "$(times_loaded "$1")" -gt "$2" ]; }

# set_conf LINE...: added to every host's vcd.conf, which vcd reads again
set_conf() {
    local host before
    for host in ctl $(lab_hosts); do
        lab_exec "$host" cp -n /etc/vcluster/vcd.conf /etc/vcluster/vcd.conf.before
        before=$(times_loaded "$host")
        lab_exec "$host" sh -c 'printf "%s\n" "$@" >>/etc/vcluster/vcd.conf; vcd -t && kill -HUP "$(cat /run/vclab/vcd.pid)"' conf "$@"
        wait_until 10 "vcd on $host to read its configuration" loaded_more_often "$host" "$before"
    done
}

restore_conf() {
    local host
    for host in ctl $(lab_hosts); do
        lab_exec "$host" sh -c 'mv /etc/vcluster/vcd.conf.before /etc/vcluster/vcd.conf && kill -HUP "$(cat /run/vclab/vcd.pid)"'
    done
}

refused_mount() { # MESSAGE MOUNT
    submit alice -N1 -c1 --mem=300 --vcluster="$IMAGE" --vcluster-mount="$2" --wrap 'echo ran'
    wait_job "$JOB" 120
    assert_equal "$(job_state "$JOB")" FAILED
    assert_contains "$(job_output "$JOB")" "$1"
}

@test "vcd.conf, read again: mounts for trusted images of allowed directories alone, variables that stay behind" {
    as alice sh -c 'mkdir -p shared && echo from-the-host >shared/file'
    refused_mount "image '$IMAGE' is not one that the site trusts" /home/alice/shared:/mnt
    set_conf "trusted-images = {\"alice/$IMAGE\"}" 'mount-allow = {"/home/alice"}' 'env-filter = {"SITE_*"}'
    refused_mount "/etc" /etc:/mnt
    run -0 as alice timeout 200 env SITE_KEY=x srun -Q -N1 -c1 --mem=300 --vcluster="$IMAGE" \
        --vcluster-mount=/home/alice/shared:/mnt,/home/alice/shared:/media/ro:ro sh -c \
        'cat /mnt/file; echo from-the-guest >/mnt/back; touch /media/ro/file 2>/dev/null || echo read-only; echo "key ${SITE_KEY-stays behind}"'
    restore_conf
    assert_contains "$output" $'from-the-host\nread-only\nkey stays behind'
    assert_equal "$(as alice cat shared/back)" from-the-guest
    as alice rm -rf shared
}

@test "nothing is left" {
    lab_exec ctl scancel "$BASE"
    wait_job "$BASE"
    assert_clean
}

# ---- where Slurm does not count memory ----

restart_slurm() {
    local host
    lab restart ctl slurmctld
    for host in $(lab_hosts); do lab restart "$host" slurmd; done
    wait_nodes idle
}

edit_slurm_conf() {
    local host
    for host in ctl $(lab_hosts); do lab_exec "$host" sed -i -E "$1" /etc/slurm/slurm.conf; done
    restart_slurm
}

@test "vcd refuses to overcommit a host's memory where Slurm does not count it" {
    local real
    real=$(lab_exec ctl sed -nE 's/^NodeName.* RealMemory=([0-9]+).*/\1/p' /etc/slurm/slurm.conf)
    edit_slurm_conf 's/^SelectTypeParameters=.*/SelectTypeParameters=CR_Core/; s/RealMemory=[0-9]+/RealMemory=9000000/'
    submit alice -N1 -c8 --exclusive --vcluster="$IMAGE" --vcluster-mem=1000G --wrap 'echo ran'
    wait_job "$JOB" 120
    edit_slurm_conf "s/^SelectTypeParameters=.*/SelectTypeParameters=CR_Core_Memory/; s/RealMemory=[0-9]+/RealMemory=$real/"
    assert_equal "$(job_state "$JOB")" FAILED
    assert_contains "$(job_output "$JOB")" "MiB of memory, clusters on it use 0, this one needs "
    [[ $(job_output "$JOB") != *ran* ]]
}
