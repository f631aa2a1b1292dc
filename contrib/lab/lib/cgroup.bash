# SPDX-License-Identifier: GPL-2.0-or-later
# Every process of a lab lives in a cgroup of the lab, in every hierarchy: that
# is how `down` finds all of them, whatever happened to the script that began.

# mount point and options of each cgroup hierarchy of this machine
cgroup_mounts() {
    awk '{ for (i = 7; i <= NF; i++) if ($i == "-") break
           if ($(i+1) == "cgroup" || $(i+1) == "cgroup2") print $5, $(i+1), $(i+3) }' \
        /proc/self/mountinfo
}

# one that every process can be listed in
cgroup_census() {
    cgroup_mounts | awk '$3 ~ /pids/ || $3 ~ /freezer/ || $2 == "cgroup2" { print $1; exit }'
}

cgroup_make() {
    local mount type options dir
    while read -r mount type options; do
        for dir in "$mount/$LAB" "$mount/$LAB/$1"; do
            [ -d "$dir" ] || mkdir "$dir"
            cgroup_inherit_cpuset "$dir"
        done
    done < <(cgroup_mounts)
}

# a new cpuset (v1) is empty and lets no task in
cgroup_inherit_cpuset() {
    local file
    for file in cpuset.mems cpuset.cpus; do
        [ -f "$1/$file" ] && [ -f "$1/cgroup.clone_children" ] || continue
        [ -n "$(cat "$1/$file")" ] || cat "$1/../$file" >"$1/$file"
    done
}

# move process PID into the host's cgroups
cgroup_enter() {
    local mount type options
    while read -r mount type options; do
        echo "$2" >"$mount/$LAB/$1/cgroup.procs"
    done < <(cgroup_mounts)
}

cgroup_pids() {
    local mount type options
    while read -r mount type options; do
        [ -d "$mount/$LAB" ] || continue
        find "$mount/$LAB" -name cgroup.procs -exec cat {} + 2>/dev/null || true
    done < <(cgroup_mounts) | sort -un
}

cgroup_kill_all() {
    local pids end=$((SECONDS + 15))
    while pids=$(cgroup_pids) && [ -n "$pids" ]; do
        [ "$SECONDS" -lt "$end" ] || die "processes of lab $LAB_ID do not die:" $pids
        # shellcheck disable=SC2086
        kill -KILL $pids 2>/dev/null || true
        sleep 0.05
    done
}

cgroup_remove() {
    local mount type options
    while read -r mount type options; do
        [ -d "$mount/$LAB" ] || continue
        wait_for 5 cgroup_rmdir "$mount/$LAB" || die "cannot remove $mount/$LAB"
    done < <(cgroup_mounts)
}

cgroup_rmdir() {
    find "$1" -depth -type d -exec rmdir {} \; 2>/dev/null || true
    [ ! -d "$1" ]
}

# inside a host: its own cgroup is the root of each hierarchy, as on a machine
cgroup_remount() {
    local list mount type options
    list=$(cgroup_mounts)
    mount -t sysfs sysfs /sys
    mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
    while read -r mount type options; do
        mkdir -p "$mount"
        mount -t "$type" -o "$(cgroup_options "$type" "$options")" "$type" "$mount"
    done <<<"$list"
}

cgroup_options() {
    [ "$1" = cgroup ] || { echo rw; return; }
    tr , '\n' <<<"$2" | grep -vxE 'rw|ro|xattr|release_agent=.*|clone_children' | paste -sd,
}
