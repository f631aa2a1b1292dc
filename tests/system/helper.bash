# SPDX-License-Identifier: GPL-2.0-or-later
# What the system tests share: the lab that tests/run started, waiting, jobs.
# Every wait has a limit and says what it waited for.

TOP=${TOP:-$(readlink -f "${BASH_SOURCE[0]%/*}/../..")}
VCLAB=${VCLAB:-$TOP/contrib/lab/vclab}
export VCLAB_ID=${VCLAB_ID:-0}

# The second lab's number, for files that need other hosts than the run's lab has; exported before VCLAB_ID changes.
export VCLAB_OTHER_ID=${VCLAB_OTHER_ID:-$(((VCLAB_ID + 50) % 100))}

lab() { "$VCLAB" "$@"; }

# lab_exec HOST [OPTIONS] COMMAND...
lab_exec() { "$VCLAB" exec "$@"; }

# as USER COMMAND... on the login host
as() { "$VCLAB" exec ctl --user "$1" "${@:2}"; }

lab_hosts() { (eval "$(lab env)"; echo "$VCLAB_HOSTS"); }

# other_lab_up OPTIONS: the second lab, with what is tested; from setup_file on it is this file's lab
other_lab_up() {
    export VCLAB_ID=$VCLAB_OTHER_ID
    [ ! -e "/var/tmp/vclab-$VCLAB_ID" ] || lab down
    lab up --stage "${BUILD:-$TOP/_build}/stage.tested" "$@" >&2 3>&-
}

# other_lab_down: what a sanitizer reported there fails the file
other_lab_down() {
    local hosts=/var/tmp/vclab-$VCLAB_OTHER_ID/hosts reports
    reports=$(grep -lE 'ERROR: (Address|Leak)Sanitizer|runtime error:' "$hosts"/*/var/log/vclab/{*.log,sanitizers/*} 2>/dev/null || true)
    [ -z "$reports" ] || cat $reports >&2
    VCLAB_ID=$VCLAB_OTHER_ID lab down >&2
    [ -z "$reports" ]
}

require_vcd() {
    (eval "$(lab env)"; [ "$VCLAB_VCD" = yes ]) || skip "the stage has no vcd"
}

# wait_until SECONDS REASON COMMAND...
wait_until() {
    local limit=$1 reason=$2 end=$((SECONDS + $1))
    shift 2
    until "$@" >/dev/null 2>&1; do
        if [ "$SECONDS" -ge "$end" ]; then
            echo "waited $limit s for: $reason" >&2
            return 1
        fi
        sleep 0.1
    done
}

assert_equal() {
    [ "$1" = "$2" ] && return
    printf 'got:      %s\nexpected: %s\n' "$1" "$2" >&2
    return 1
}

assert_contains() {
    [[ $1 == *"$2"* ]] && return
    printf 'no "%s" in:\n%s\n' "$2" "$1" >&2
    return 1
}

# ---- jobs ----

# submit USER SBATCH-ARGUMENTS...: sets JOB; a script can be given on stdin
submit() {
    JOB=$(as "$1" sbatch --parsable "${@:2}") || return
    JOB=${JOB%%;*}
    [[ $JOB =~ ^[0-9]+$ ]] || { echo "sbatch said: $JOB" >&2; return 1; }
}

job_field() { lab_exec ctl scontrol show job "$1" | grep -oE "\\b$2=[^ ]*" | head -n1 | cut -d= -f2-; }
job_state() { job_field "$1" JobState; }

job_has_ended() {
    case $(job_state "$1") in
        COMPLETED|FAILED|CANCELLED|TIMEOUT|NODE_FAIL|OUT_OF_MEMORY|BOOT_FAIL) ;;
        *) return 1 ;;
    esac
}

job_is_in_state() { [ "$(job_state "$1")" = "$2" ]; }

# wait_job JOB [SECONDS]: until it has ended and its hosts are free
wait_job() {
    wait_until "${2:-60}" "the end of job $1" job_has_ended "$1" && return
    lab_exec ctl scontrol show job "$1" >&2
    return 1
}

assert_job_completed() {
    assert_equal "$(job_state "$1")" COMPLETED && return
    lab_exec ctl scontrol show job "$1" >&2
    return 1
}

job_output() { lab_exec ctl cat "$(job_field "$1" StdOut)"; }

# import_busybox USER NAME: an image of busybox alone, once per lab
import_busybox() {
    as "$1" vcctl image show "$2" >/dev/null 2>&1 && return
    as "$1" sh -s "$2" <<'SH'
set -e
rm -rf "$1.root" && mkdir -p "$1.root" && cd "$1.root"
mkdir -p bin sbin etc root tmp proc sys dev run var home usr/bin
chmod 1777 tmp
cp /bin/busybox bin/busybox
for applet in $(busybox --list); do [ -e "bin/$applet" ] || ln -s busybox "bin/$applet"; done
tar -cf "../$1.tar" . && cd .. && vcctl image import "$1" "$1.tar"
SH
}

cluster_phase() { as "$1" vcctl show "$2" --json | python3 -c 'import json,sys; print(json.load(sys.stdin)["phase"])'; }
cluster_has_phase() { [ "$(cluster_phase "$1" "$2")" = "$3" ]; }
cluster_is_ready() { cluster_has_phase "$1" "$2" ready; }

# ---- hosts ----

# not sinfo: asked twice in the second in which a job ends, it keeps saying "mixed" or "completing" until a node changes
node_state() {
    local state
    state=$(lab_exec ctl scontrol -o show node "$1" | grep -oE 'State=[^ ]*' | head -n1)
    state=${state#State=}
    case $state in
        *COMPLETING*) echo completing ;;
        *) echo "${state,,}" ;;
    esac
}
node_is() { [ "$(node_state "$1")" = "$2" ]; }

# wait_nodes STATE [SECONDS]: all compute hosts
wait_nodes() {
    local node
    for node in $(lab_hosts); do
        wait_until "${2:-30}" "host $node to be $1 (it is $(node_state "$node"))" node_is "$node" "$1" || return
    done
}

# nothing of any virtual cluster is left, says the product, and so says libvirt
assert_clean() {
    local host
    wait_nodes idle || return
    lab_exec ctl vcctl check || { echo "vcctl check found something" >&2; return 1; }
    for host in $(lab_hosts); do
        assert_equal "$host: $(lab_exec "$host" virsh -q -c qemu:///system list --all)" "$host: " || return
    done
}

vcd_signal() { lab_exec "$1" sh -c 'kill -s "$1" "$(cat /run/vclab/vcd.pid)"' signal "$2"; }
vcd_answers() { wait_until 30 "vcd on $1 to answer" lab_exec "$1" vcctl ping; }

# vcd_conf HOST LINE...: adds to its vcd.conf, and makes vcd read it; vcd_conf_back HOST: the file as it was
vcd_conf() {
    lab_exec "$1" sh -c 'cd /etc/vcluster && { [ -e vcd.conf.kept ] || cp vcd.conf vcd.conf.kept; } && shift && printf "%s\n" "$@" >>vcd.conf' \
        vcd_conf "$@"
    vcd_reads_conf "$1"
}
vcd_conf_back() { lab_exec "$1" mv /etc/vcluster/vcd.conf.kept /etc/vcluster/vcd.conf; vcd_reads_conf "$1"; }
vcd_reads_conf() {
    local before
    before=$(times_conf_loaded "$1")
    vcd_signal "$1" HUP
    wait_until 10 "vcd on $1 to read its file" conf_is_loaded_again "$1" "$before" || return
    vcd_answers "$1"
}
times_conf_loaded() { lab log "$1" vcd | grep -c 'vcd.conf is loaded' || true; }
conf_is_loaded_again() { [ "$(times_conf_loaded "$1")" -gt "$2" ]; }

# what the daemons said last, for the log of a test that failed
dump_logs() {
    local host
    [ -z "${BATS_TEST_COMPLETED:-}" ] && [ -z "${BATS_TEST_SKIPPED:-}" ] || return 0
    lab status || return 0
    lab_exec ctl sinfo -Nl || true
    for host in ctl $(lab_hosts); do
        echo "--- $host: vcd"
        lab log "$host" vcd 2>/dev/null | tail -n 30
    done
}
