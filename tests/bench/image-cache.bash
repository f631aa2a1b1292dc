# SPDX-License-Identifier: GPL-2.0-or-later
# About: what builds cost with the image cache: the same recipe again, one package more; and what the policy saves
#
# A user builds a recipe with a package in a lab whose cache is empty, then the same recipe under another name, then one
# with one package more; then the cache is emptied again. So both sides of a pair are measured by the same user with the
# same command, from its start to its end. New bytes of the third image are counted in its file: chunks of 64 KiB, and
# blocks of 4 KiB, that the first one has not; holes are none. The policy is vcd's own code (cachereplay), against LRU
# with the same capacity on made traces, one per pair.

BENCH_PAIRS=5
BENCH_PACKAGES=${BENCH_PACKAGES:-mpich}      # of the first image
BENCH_MORE=${BENCH_MORE:-gdb}                # of the third one beside them
CACHE_NOTE="a pair takes half a minute to a minute"

bench_main() {
    local pair
    echo 'image-build-hosts = {"ctl"}' >"$WORK/vcd.conf" # one store for all
    lab_up 0 --hosts 1 --vcd-conf "$WORK/vcd.conf"
    agent_start user 0 ctl --user alice
    # shellcheck disable=SC2016
    agent_ask user 'cd; for name in first again; do printf "name = %s\npackages = { \"'"$BENCH_PACKAGES"'\" }\n" $name >$name.recipe; done
        printf "name = more\npackages = { \"'"$BENCH_PACKAGES"'\", \"'"$BENCH_MORE"'\" }\n" >more.recipe'
    for ((pair = 1; pair <= PAIRS; pair++)); do
        empty_cache
        build nothing "$pair" first
        build same "$pair" again
        build one_more "$pair" more
        new_bytes "$pair"
        replay "$pair"
    done
    bar cache_same_ratio ratio same nothing 1 lower 0.02 - 5 "$CACHE_NOTE"
    bar cache_one_more_ratio ratio one_more nothing 1 lower 0.4 - 5 "$CACHE_NOTE"
    bar one_more_new_bytes ratio chunk_bytes block_bytes 1 lower 2.0 - 5 "$CACHE_NOTE"
    bar cache_saved_vs_lru ratio gdsf_saved lru_saved 1 higher 1.1 - 5 "one trace of 20000 requests per pair"
}

build() { # SERIES PAIR RECIPE
    agent_ask user "cd; vcctl image build $3.recipe"
    row "$1" "$2" "$(seconds "$MICROSECONDS")" s
}

empty_cache() {
    lab 0 stop ctl vcd >/dev/null
    lab 0 exec ctl sh -c 'cd /var/lib/vcluster/images && rm -rf -- stages names [0-9a-f]*'
    lab 0 start ctl vcd >/dev/null
    wait_until 30 "vcd after its restart" lab 0 exec ctl vcctl ping
}

raw_of() { lab 0 exec ctl sh -c "echo /var/lib/vcluster/images/\$(vcctl image show $1 --json | sed -n 's/.*\"digest\": *\"\([0-9a-f]*\)\".*/\1/p' | head -n1)/root.raw"; }

new_bytes() {
    local first more counted
    first=$(raw_of "$(alice_uid)/first") more=$(raw_of "$(alice_uid)/more")
    counted=$(lab 0 exec ctl python3 - "$first" "$more" <<'PYTHON'
import hashlib, sys

def pieces(path, size):
    found = set()
    with open(path, "rb") as f:
        while piece := f.read(size):
            if piece.strip(b"\0"):
                found.add(hashlib.sha1(piece).digest())
    return found

print(*(len(pieces(sys.argv[2], n) - pieces(sys.argv[1], n)) * n for n in (65536, 4096)))
PYTHON
    ) || die "the images of alice cannot be compared"
    row chunk_bytes "$1" "${counted% *}" B
    row block_bytes "$1" "${counted#* }" B
}

alice_uid() { lab 0 exec ctl id -u alice; }

replay() {
    local said
    said=$("$BUILD/normal/tests/bench/cachereplay" --seed "$1") || die "cachereplay failed"
    row gdsf_saved "$1" "$(sed -n 's/.*"saved_s": \([0-9.]*\),.*/\1/p' <<<"$said")" s
    row lru_saved "$1" "$(sed -n 's/.*"lru_saved_s": \([0-9.]*\),.*/\1/p' <<<"$said")" s
}
