#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# Slurm's plugins in a real Slurm: jobs that are not ours stay untouched, mistakes are refused with a message and cost
# no host, and a task of a vcluster job never runs on the host.
#
# vcexec is a FAKE here, which says how it was called: these tests are about what Slurm and the plugin hand over. No
# virtual machine starts: the site's own PrologSlurmctld of these tests asks nobody.

load helper

FAKE=/etc/vcluster/fake

install_file() { lab_exec "$1" sh -c 'mkdir -p "${1%/*}" && cat >"$1" && chmod 755 "$1"' install "$2"; }

fake_vcexec() {
    cat <<'FAKE'
#!/bin/bash
# FAKE vcexec: says how it was called
printf 'arg=%s\n' "$@"
echo "task=$VCEXEC_TASK" "program=${VCEXEC_PROGRAM-none}"
echo "nofile=$(ulimit -Sn)" "tmpdir=${TMPDIR-unset}" "taskprolog=${FROM_TASKPROLOG-no}" "userprolog=${FROM_USER_PROLOG-no}"
echo "uid=$(id -u)" "cwd=$PWD" "umask=$(umask)" "procid=$SLURM_PROCID" "stdin=$([ -t 0 ] && echo tty || echo none)"
exit "${FAKE_STATUS:-0}"
FAKE
}

# the site's set-up of these tests, on every host
site() {
    local host
    for host in ctl $(lab_hosts); do
        lab_exec "$host" cp -n /etc/slurm/slurm.conf /etc/slurm/slurm.conf.before
        lab_exec "$host" cp -n /etc/slurm/plugstack.conf.d/vcluster.conf /etc/slurm/vcluster.conf.before
        fake_vcexec | install_file "$host" "$FAKE/vcexec"
        printf '#!/bin/sh\necho export FROM_TASKPROLOG=yes\n' | install_file "$host" "$FAKE/taskprolog"
        printf '#!/bin/sh\nexit 0\n' | install_file "$host" "$FAKE/prolog"
        lab_exec "$host" sed -i -E "/^(Prolog|Epilog)Slurmctld=/d; /^TaskProlog=/d; \$a PrologSlurmctld=$FAKE/prolog\nTaskProlog=$FAKE/taskprolog" \
            /etc/slurm/slurm.conf
        plugstack "$host" "vcexec=$FAKE/vcexec" "socket=/run/nobody.sock" "marks=/run/fake/jobs"
    done
    restart_slurm
}

plugstack() { echo "required spank_vcluster.so ${*:2}" | lab_exec "$1" sh -c 'cat >/etc/slurm/plugstack.conf.d/vcluster.conf'; }

restart_slurm() {
    local host
    lab restart ctl slurmctld
    for host in $(lab_hosts); do lab restart "$host" slurmd; done
    wait_nodes idle
}

has_plugin() { lab_exec ctl srun --help | grep -q -- --vcluster=IMAGE; }

setup_file() {
    has_plugin || skip "the stage has no plugin"
    site
}

teardown_file() {
    local host
    for host in ctl $(lab_hosts); do
        lab_exec "$host" sh -c '[ ! -e /etc/slurm/slurm.conf.before ] || {
            cat /etc/slurm/slurm.conf.before >/etc/slurm/slurm.conf
            cat /etc/slurm/vcluster.conf.before >/etc/slurm/plugstack.conf.d/vcluster.conf
            rm -rf /etc/slurm/*.before /run/fake "$1"; }' restore "$FAKE"
    done
    restart_slurm
}

setup() { lab_exec ctl scontrol ping >/dev/null; }

teardown() {
    dump_logs
    as alice scancel -u alice
    wait_nodes idle
}

# refused MESSAGE COMMAND...: it fails, says so, and no host changes its state
refused() {
    local message=$1
    shift
    run as alice timeout 60 "$@"
    [ "$status" -ne 0 ] || { echo "it succeeded: $*" >&2; return 1; }
    assert_contains "$output" "vcluster: $message"
    wait_nodes idle
}

# ---- plain jobs ----

@test "plugins: loaded by slurmctld, slurmd, srun, sbatch and salloc" {
    assert_contains "$(lab_exec ctl scontrol show config)" "JobSubmitPlugins        = vcluster"
    local command
    for command in srun sbatch salloc; do
        run lab_exec ctl "$command" --help
        assert_contains "$output" "--vcluster=IMAGE"
        assert_contains "$output" "--vcluster-stage-out=FILE,..."
    done
    run lab log n1 slurmd
    [[ $output != *"undefined symbol"* ]]
}

@test "plugins: a job without --vcluster is untouched, also with a default for another option" {
    run as alice srun -N2 --label sh -c 'hostname; env | grep -ciE "vcexec|vcluster"; echo $TMPDIR'
    assert_equal "$(sort <<<"$output")" $'0: /tmp\n0: 0\n0: n1\n1: /tmp\n1: 0\n1: n2'
    run as alice env VCLUSTER_OPT_VMS=rubbish srun -N1 -w n1 hostname
    assert_equal "$status $output" "0 n1"
    submit alice -w n1 -o plain.out --wrap 'srun hostname; exit 3'
    wait_job "$JOB"
    assert_equal "$(job_field "$JOB" ExitCode)" 3:0
    assert_equal "$(job_output "$JOB")" n1
}

# ---- refused at submission ----

@test "plugins: wrong options are refused before anything is queued" {
    local before
    before=$(lab_exec ctl squeue -h -t all -o %i | wc -l)
    refused "--vcluster: '../x' is not an image's name" sbatch --vcluster=../x --wrap true
    refused "--vcluster-vms: '0' is outside 1 to 64" srun --vcluster=x --vcluster-vms=0 true
    refused "--vcluster-mem: 'big' is not a size" salloc --vcluster=x --vcluster-mem=big true
    refused "--vcluster-script: 'moon' is neither" sbatch --vcluster=x --vcluster-script=moon --wrap true
    refused "--vcluster-mount: '/data' is not SRC:DST" sbatch --vcluster=x --vcluster-mount=/data --wrap true
    refused "--vcluster-stage-out copies when" sbatch --vcluster=x --vcluster-script=host --vcluster-stage-out=f --wrap true
    refused "--vcluster-cpus needs --vcluster=IMAGE" sbatch --vcluster-cpus=2 --wrap true
    refused "environment variable VCLUSTER_OPT_VMS: --vcluster-vms: 'x'" env VCLUSTER_OPT_VMS=x sbatch --vcluster=x --wrap true
    assert_equal "$(lab_exec ctl squeue -h -t all -o %i | wc -l)" "$before"
}

@test "plugins: job_submit refuses what the request cannot hold, and sbatch prints why" {
    refused "2 machines per host x 600 MiB are 1200 MiB, but the job asks for 1000 MiB" \
        sbatch --mem=1000 --vcluster=x --vcluster-vms=2 --vcluster-mem=600 --wrap true
    refused "1 machine per host x 5 CPUs are 5, but this job gets at most 4 CPUs" \
        sbatch -n1 -c2 --vcluster=x --vcluster-cpus=5 --wrap true
    refused "1 machine per host x 5 CPUs" salloc -n1 -c2 --vcluster=x --vcluster-cpus=5 true
    refused "a heterogeneous job" sbatch --vcluster=x -n1 --wrap true : --vcluster=x -n1
    refused "--container" sbatch --vcluster=x --container=/tmp --wrap true
}

@test "plugins: an option's default comes from the environment, the command line wins" {
    refused "64 machines per host" env VCLUSTER_OPT_IMAGE=x VCLUSTER_OPT_VMS=64 sbatch --mem=100 --wrap true
    refused "3 machines per host" env VCLUSTER_OPT_IMAGE=x VCLUSTER_OPT_VMS=64 sbatch --mem=100 --vcluster-vms=3 --wrap true
}

# ---- tasks ----

# what the fake vcexec says of a step: its lines as one
step() { as alice timeout 60 "$@" 2>&1 | xargs; }

@test "plugins: each task becomes vcexec, with what Slurm gives a task (table)" {
    as alice sh -c 'printf "0 /bin/echo zero-host\n1 /bin/echo one %%t %%o\n" >m.conf; printf "#!/bin/sh\necho export FROM_USER_PROLOG=yes\n" >p.sh; chmod 755 p.sh'
    local what arguments expected
    while IFS='|' read -ru3 what arguments expected; do
        run step sh -c "${arguments//!/|}" </dev/null
        assert_contains "$output" "$expected" || { echo "in row: $what" >&2; return 1; }
    done 3<<'TABLE'
arguments|srun --vcluster=x -n1 -w n1 a.out 'b  c' -d|arg=b c arg=-d
the program's name|srun --vcluster=x -n1 -w n1 a.out|program=a.out
a program of the host|srun --vcluster=x -n1 -w n1 /bin/hostname -s|program=/bin/hostname
task reference|srun --vcluster=x -n3 -N1 -w n1 --label a.out ! grep ^2:|kind=task local=2 tasks=3
rlimits|ulimit -Sn 321; srun --vcluster=x -n1 -w n1 a.out|nofile=321
TMPDIR|srun --vcluster=x -n1 -w n1 a.out|tmpdir=/tmp
site TaskProlog|srun --vcluster=x -n1 -w n1 a.out|taskprolog=yes
--task-prolog|srun --vcluster=x --task-prolog=/home/alice/p.sh -n1 -w n1 a.out|userprolog=yes
directory|srun --vcluster=x -D /tmp -n1 -w n1 a.out|cwd=/tmp
umask|umask 027; srun --vcluster=x -n1 -w n1 a.out|umask=0027
user|srun --vcluster=x -n1 -w n1 a.out|uid=2001
--multi-prog|srun --vcluster=x -n2 -N1 -w n1 --label --multi-prog m.conf ! grep ^1:|arg=-- 1: arg=/bin/echo 1: arg=one 1: arg=1 1: arg=0
--multi-prog, TaskProlog|srun --vcluster=x -n2 -N1 -w n1 --multi-prog m.conf|taskprolog=yes
--multi-prog, rlimits|ulimit -Sn 321; srun --vcluster=x -n2 -N1 -w n1 --multi-prog m.conf|nofile=321
--pty|script -qec 'srun --vcluster=x -n1 -w n1 --pty a.out' /dev/null|stdin=tty
the image by default|VCLUSTER_OPT_IMAGE=x srun -n1 -w n1 a.out|program=a.out
salloc|salloc -Q --vcluster=x -w n1 srun a.out|program=a.out
--bcast|srun --vcluster=x -n1 -w n1 --bcast=/tmp/copy /bin/hostname|vcluster: --bcast copies to the hosts
--bcast to a directory|srun --vcluster=x -n1 -w n1 --bcast=/tmp/ /bin/hostname|vcluster: --bcast copies to the hosts
--container|srun --vcluster=x -n1 -w n1 --container=/tmp /bin/hostname|vcluster: --container cannot be used
TABLE
    wait_nodes idle
}

@test "plugins: exit status of vcexec is the task's" {
    run as alice env FAKE_STATUS=7 srun --vcluster=x -n1 -w n1 a.out
    assert_equal "$status" 7
}

@test "plugins: a batch script becomes vcexec, or stays on the host when asked; its sruns go to guests" {
    submit alice -w n1 -o b.out --vcluster=x --wrap 'echo on-$(hostname)'
    wait_job "$JOB"
    run job_output "$JOB"
    assert_contains "$output" "kind=script local=0 tasks=1"
    assert_contains "$output" "/slurm_script"
    [[ $output != *on-n1* ]]
    submit alice -w n1 -o b.out --vcluster=x --vcluster-script=host --wrap 'echo on-$(hostname); srun a.out'
    wait_job "$JOB"
    run job_output "$JOB"
    assert_contains "$output" on-n1
    assert_contains "$output" "kind=task"
    wait_nodes idle
}

@test "plugins: a host's mark alone keeps a step from running on the host" {
    submit alice -w n1 -o m.out --vcluster=x --vcluster-script=host --wrap 'sleep 60'
    wait_until 20 "job $JOB to run" job_is_in_state "$JOB" RUNNING
    wait_until 10 "the mark" lab_exec n1 test -f "/run/fake/jobs/$JOB"
    run as alice srun --jobid="$JOB" --overlap a.out       # no --vcluster here
    assert_contains "$output" "program=a.out"
    # --multi-prog files: Slurm takes the program from the text, whatever argv[0] has become
    local make
    for make in 'echo "0 /bin/echo zero-host"' 'echo "* /bin/echo zero-host"; chmod 755 one.conf' \
        'seq -s" " 1 2000 | sed "s|^|0 /bin/echo zero-host |"' 'printf "0 /bin/echo %5000s zero-host" x' 'printf "0 \\\\\n /bin/echo zero-host\n"'; do
        as alice sh -c "{ $make; } >one.conf"
        run as alice srun --jobid="$JOB" --overlap -n1 --multi-prog one.conf
        assert_contains "$output" "arg=zero-host"
        run as alice srun --jobid="$JOB" --overlap -n1 --vcluster=x --multi-prog one.conf extra
        assert_contains "$output" "arg=zero-host"
        [[ $make == seq* ]] || assert_contains "$output" "arg=extra" # of a line that long Slurm takes 127 words
    done
    as alice rm one.conf
    as alice scancel "$JOB"
    wait_job "$JOB"
    wait_nodes idle
}

# ---- when something is missing ----

@test "plugins: without vcexec a task fails closed and says so, the host stays" {
    lab_exec n1 mv "$FAKE/vcexec" "$FAKE/away"
    run as alice srun --vcluster=x -n1 -w n1 hostname
    lab_exec n1 mv "$FAKE/away" "$FAKE/vcexec"
    [ "$status" -ne 0 ]
    assert_contains "$output" "vcluster: this host lacks vcexec"
    [[ $output != *$'\n'n1* && $output != n1* ]]
    wait_nodes idle
}

@test "plugins: a vcd that is away drains no host, in prolog and epilog" {
    run as alice srun --vcluster=x -n1 -w n1 a.out
    assert_equal "$status" 0
    wait_nodes idle
    run lab log n1 slurmd
    assert_contains "$output" "vcluster"
}

@test "plugins: an unknown argument in plugstack.conf is an error" {
    plugstack ctl "sokcet=/x"
    run as alice srun hostname
    plugstack ctl "vcexec=$FAKE/vcexec"
    [ "$status" -ne 0 ]
    assert_contains "$output" "vcluster: plugstack.conf: unknown argument 'sokcet=/x'"
}

# ---- vc-prolog ----

vc_prolog() { lab_exec ctl env SLURM_CLUSTER_NAME=c SLURM_JOB_ID=5 "$@"; }

@test "vc-prolog: nothing to do for plain jobs, waits for a vcd within its limit, says what went wrong" {
    local program=/usr/libexec/vcluster/vc-prolog
    run vc_prolog SLURM_SCRIPT_CONTEXT=prolog_slurmctld "$program"
    assert_equal "$status $output" "0 "
    run vc_prolog SPANK_VCLUSTER_SPEC='{}' SLURM_SCRIPT_CONTEXT=prolog_slurmctld "$program" --socket /run/nobody.sock --away 1
    assert_equal "$status" 1
    assert_contains "$output" "vcluster: job 5: job.ensure: gave up after 1 s: "
    run vc_prolog SPANK_VCLUSTER_SPEC='{}' "$program" --epilog --socket /run/nobody.sock --away 1
    assert_contains "$output" "job.release: gave up"
    run vc_prolog SPANK_VCLUSTER_SPEC='{}' "$program"
    assert_equal "$status" 2
    run lab_exec ctl env SPANK_VCLUSTER_SPEC='{}' "$program" --prolog
    assert_contains "$output" "SLURM_JOB_ID is not set"
}
