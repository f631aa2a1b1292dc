# SPDX-License-Identifier: GPL-2.0-or-later
# About: the start of one cluster on 190 or 1000 hosts of one machine (--hosts), emulated hypervisor
#
# N vcd processes and the controller's on loopback, in a network namespace of their own, each with its store, its connections and its
# handshakes; an image of noise (16 MiB up to 190 hosts, 2 MiB beyond) goes through the chain of all. Not real, and labelled so in
# their files: the hypervisor (libvirt's test driver), the guests (gueststub.c, outside vcd, through vcd's real parser of guest links;
# they answer at once, no machine boots), slurmctld's one job (fakeslurm.c). Stores are on tmpfs: the machine has one disk for all.
# Seconds are those from job.ensure to its answer: view 1 is in all members then.
#
# BENCH_HOSTS or --hosts: 190 or 1000 (190). BENCH_MIB: of the image.

BENCH_PAIRS=3

bench_main() {
    local hosts=${BENCH_HOSTS:-190} pair
    local mib=${BENCH_MIB:-16} limit=20 stage
    [ "$hosts" -le 190 ] || { mib=${BENCH_MIB:-2}; limit=40; }
    for ((pair = 1; pair <= PAIRS; pair++)); do scale "$hosts" "$mib" "$pair"; done
    bar "scale_${hosts}_s" value scale_s - s lower "$limit" "$limit" 3 "$PAIRS starts; no machine runs"
    bar scale_rss_mib value rss_mib - MiB lower 16 16 3 "the median vcd of $hosts"
    for stage in resolve build transfer publish define boot form; do bar "scale_${stage}_s" value "stage_${stage}_s" - s lower -; done
    bar scale_rss_max_mib value rss_max_mib - MiB lower -
    bar scale_rss_controller_mib value rss_controller_mib - MiB lower -
    bar scale_pss_mib value pss_mib - MiB lower -
}

# scale HOSTS MIB PAIR
scale() {
    local name value
    say "start $3 on $1 hosts"
    unshare -nm sh -c 'ip link set lo up && mount -t tmpfs tmpfs /tmp && exec "$@"' sh "$BUILD/normal/tests/bench/scalebench" "$1" "$2" \
        >"$WORK/out" 2>"$WORK/err" || die "scalebench $1 $2 failed: $(tail -n 3 "$WORK/err" | xargs -0)"
    while read -r name value; do row "$name" "$3" "$value" "$(unit_of "$name")"; done <"$WORK/out"
}

unit_of() { case $1 in *_mib) echo MiB ;; *) echo s ;; esac; }
