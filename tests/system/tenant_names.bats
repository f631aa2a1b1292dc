#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-or-later
# Names, directories, values and arguments of any bytes that Slurm accepts reach the task in the guest as they are.

load helper

IMAGE=tenant-names
USER_ODD='o.neil-x_y'

setup_file() {
    require_vcd
    import_busybox alice "$IMAGE"
}

teardown_file() { as alice vcctl image rm "$IMAGE" || true; }

teardown() {
    [ -z "${JOB:-}" ] || lab_exec ctl scancel "$JOB" || true
    [ -z "${RENAMED:-}" ] || name_back
    dump_logs
}

# ---- a host of another name ----

ODD_NODE='Odd_2.x-07@é'

rename_n2() {
    local host
    RENAMED=yes
    for host in ctl n1 n2; do
        lab_exec "$host" sh -ec 'cd /etc/slurm; cp slurm.conf slurm.conf.kept
            sed -i "s/^NodeName=n\[1-2\]\(.*\)/NodeName=n1\1\nNodeName=$1 NodeHostname=n2 NodeAddr=n2\1/" slurm.conf
            cd /etc/vcluster; cp vcd.conf vcd.conf.kept; echo "hosts = {\"$1=n2\"}" >>vcd.conf' sh "$ODD_NODE"
    done
    lab_exec n2 sh -c 'echo "host-name = \"$1\"" >>/etc/vcluster/vcd.conf' sh "$ODD_NODE"
    restart_daemons
}
name_back() {
    local host
    for host in ctl n1 n2; do
        lab_exec "$host" sh -c 'mv /etc/slurm/slurm.conf.kept /etc/slurm/slurm.conf; mv /etc/vcluster/vcd.conf.kept /etc/vcluster/vcd.conf'
    done
    restart_daemons
    wait_nodes idle 60
}
restart_daemons() {
    local host
    lab restart ctl slurmctld
    for host in n1 n2; do lab restart "$host" slurmd; done
    for host in ctl n1 n2; do lab restart "$host" vcd; done
}
odd_is_idle() { lab_exec ctl sinfo -hN -t idle -o %N | grep -qxF "$ODD_NODE"; }

@test "a host with a NodeName of letters, digits, other bytes: machines run there, and it is shown and checked by it" {
    rename_n2
    wait_until 60 "$ODD_NODE to be idle" odd_is_idle
    submit alice -N2 --mem=400 --vcluster="$IMAGE" --wrap='srun -N2 -n2 sh -c "echo \$SLURMD_NODENAME \$(hostname)" | sort'
    wait_job "$JOB" 180
    assert_job_completed "$JOB"
    assert_equal "$(job_output "$JOB" | awk '{ print $1 }' | sort | xargs)" "$(printf '%s\n' n1 "$ODD_NODE" | sort | xargs)"
    assert_contains "$(job_output "$JOB")" "vc$JOB-1"
    assert_contains "$(as alice vcctl show "$JOB")" "$ODD_NODE"
    run lab_exec ctl vcctl check --json
    assert_equal "$status" 0
    assert_contains "$(python3 -c 'import json,sys; print(*json.load(sys.stdin)["hosts"])' <<<"$output")" "$ODD_NODE"
}

name_no_utf8() {
    RENAMED=yes
    local host
    for host in ctl n1 n2; do
        lab_exec "$host" sh -ec 'cd /etc/slurm; cp slurm.conf slurm.conf.kept; cp /etc/vcluster/vcd.conf /etc/vcluster/vcd.conf.kept
            LC_ALL=C sed -i "s/^NodeName=n\[1-2\]\(.*\)/NodeName=n1\1\nNodeName=$1 NodeHostname=n2 NodeAddr=n2\1/" slurm.conf' sh $'odd\377'
    done
    restart_daemons
}
odd_answers() { lab_exec ctl sinfo -hN -t idle -o %N | LC_ALL=C grep -qaxF $'odd\377'; }

@test "a host whose NodeName is not UTF-8 runs plain jobs; a cluster on it is refused with that reason" {
    [ -n "${VC_FULL:-}" ] || skip "it restarts Slurm twice for one message: tests/run --long"
    name_no_utf8
    wait_until 60 "that host to be idle" odd_answers
    submit alice -N2 --mem=64 -o plain.out --wrap='srun -N2 -n2 hostname'
    wait_job "$JOB" 60
    assert_job_completed "$JOB"
    submit alice -N2 --mem=400 --vcluster="$IMAGE" --wrap=hostname
    wait_job "$JOB" 60
    assert_equal "$(job_state "$JOB")" FAILED
    assert_contains "$(job_output "$JOB")" "its NodeName in slurm.conf is not UTF-8"
}

# Arguments, a directory and a variable with quotes, blanks, newlines, backslashes, dollars, bytes that are not UTF-8, and
# nothing at all. The task prints all of it in hex; bare Slurm and the cluster must print the same.
odd_script() {
    cat <<'SCRIPT'
#!/bin/sh
dir=$(printf 'dir with \047quotes\047 "and" $HOME `id` \\ \303\244 \377 x')
mkdir -p "$HOME/$dir" && cd "$HOME/$dir" || exit 9
ODD=$(printf 'a\nb\t"\047\\ \377\376 ${x} ; rm -rf')
export ODD
for how in "$@"; do
    srun $how -n1 sh -c 'for a in "$@"; do printf %s "$a" | od -An -tx1 | tr -d " \n"; echo; done
        printf %s "$ODD" | od -An -tx1 | tr -d " \n"; echo; pwd | od -An -tx1 | tr -d " \n"; echo' \
        sh '' ' ' "$(printf 'a b\nc')" "'" '"' '\' '$(id)' '`id`' '*' '--' '-n' "$(printf '\303\244')" "$(printf '\377\376\001')" "$(printf '%0600d' 7)"
done
SCRIPT
}

@test "arguments, directories and variables of any bytes are the same in a guest as on a host" {
    local name plain
    name=$(printf 'job "x" $(id) \303\244 ; %%s')
    odd_script | as alice sh -c 'cat >odd.sh; chmod 755 odd.sh'
    submit alice -N1 -w n1 --mem=400 -J "$name" -o plain.out odd.sh ''
    wait_job "$JOB" 60
    assert_job_completed "$JOB"
    plain=$(as alice cat plain.out)
    assert_equal "$(wc -l <<<"$plain")" 16
    submit alice -N1 -w n1 --mem=400 -J "$name" -o guest.out --vcluster="$IMAGE" --vcluster-script=host odd.sh ''
    wait_job "$JOB" 180
    # a directory that the guest lacks is made there, and said so once
    assert_equal "$(as alice cat guest.out | grep -vi 'created empty')" "$plain"
    assert_job_completed "$JOB"
    assert_equal "$(lab_exec ctl squeue -h -t all -j "$JOB" -o %j)" "$name"
    lab_exec n1 vcctl ping
}

@test "an output file and a batch script with odd names are the user's, as without a cluster" {
    as alice sh -c 'd=$(printf "out \047 \303\244 \$x"); mkdir -p "$d"; printf "#!/bin/sh\nprintf %%s \"\$0\" | wc -c; echo \$#\n" >"$d/s \$y.sh"'
    submit alice -N1 -w n1 --mem=400 --vcluster="$IMAGE" -o "/home/alice/out ' ä \$x/%j.out" "/home/alice/out ' ä \$x/s \$y.sh" 'a b' ''
    wait_job "$JOB" 180
    assert_job_completed "$JOB"
    assert_equal "$(as alice cat "/home/alice/out ' ä \$x/$JOB.out" | tail -n1)" 2
}

# odd_user COMMAND...: as that user on the login host
odd_user() {
    lab_exec ctl --dir "/home/$USER_ODD" setpriv --reuid 2077 --regid 2077 --clear-groups \
        env HOME="/home/$USER_ODD" USER="$USER_ODD" LOGNAME="$USER_ODD" "$@"
}

@test "a user with dots, dashes and digits in the name has the same name in the guest" {
    local host
    for host in ctl n1 n2; do
        lab_exec "$host" sh -c 'grep -q "^$1:" /etc/passwd || { echo "$1:x:2077:2077:any, \"one\" $:/home/$1:/bin/sh" >>/etc/passwd; echo "$1:x:2077:" >>/etc/group; }
            mkdir -p "/home/$1"; chown 2077:2077 "/home/$1"' user "$USER_ODD"
    done
    odd_user sh -c 'mkdir -p r/bin r/etc && cp /bin/busybox r/bin/ && ln -sf busybox r/bin/sh && ln -sf busybox r/bin/id && tar -C r -cf r.tar . && vcctl image import odd-user r.tar'
    JOB=$(odd_user sbatch --parsable -N1 -w n1 --mem=400 --vcluster=odd-user --wrap='id -un; id -u; echo "$HOME"')
    wait_job "$JOB" 180
    assert_job_completed "$JOB"
    assert_equal "$(job_output "$JOB" | tr '\n' ' ')" "$USER_ODD 2077 /home/$USER_ODD "
    odd_user vcctl image rm odd-user
}

@test "names that could lead out of their place are refused by name" {
    local name
    for name in ../x a/b '' . .. "$(printf 'a\nb')" "$(printf 'a\377')" '$(id)' 'a b' "$(printf '%065d' 1)" -x; do
        run as alice vcctl image import "$name" /dev/null
        [ "$status" -ne 0 ]
        run as alice sbatch -N1 --vcluster="$name" --wrap=true
        [ "$status" -ne 0 ] || [ -z "$name" ] || {
            JOB=${output##* }
            wait_job "$JOB" 60
            assert_equal "$(job_state "$JOB")" FAILED
        }
    done
    [ "$(lab_exec ctl sh -c 'ls /var/lib/vcluster/images/names/2001')" != "" ]
    ! lab_exec ctl sh -c 'find /var/lib/vcluster -name "x.json" -o -name "b.json"' | grep .
}
