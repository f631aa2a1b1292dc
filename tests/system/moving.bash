# SPDX-License-Identifier: GPL-2.0-or-later
# What migrate.bats and migrate_faults.bats share: where the members of cluster $JOB are, and whether they live.

# member_host RANK: as the members' own view has it
member_host() { as alice vcctl view "$JOB" --json | python3 -c "import json,sys; print(json.load(sys.stdin)['members'][$1]['host'])"; }
member_is_on() { [ "$(member_host "$1")" = "$2" ]; }
# domains HOST: the cluster's machines there, by rank and state
domains() { lab_exec "$1" virsh -q -c qemu:///system list --all | awk '{ sub(/.*-/, "", $2); print $2 ":" $3 }' | sort | tr '\n' ' '; }
answers() { [ "$(as alice timeout 10 vcctl exec "$JOB" "$1" -- hostname)" = "vc$JOB-$1" ]; }
no_problems() { lab_exec ctl vcctl check | grep -qx 'no problems'; }
