#!/usr/bin/env bash
# Checks test/model/protocol.pml with spin: every configuration exhaustively and without an error, every planted bug found. Prints a table
# and exits 1 when anything is otherwise; 77 when spin is not installed.
set -euo pipefail
model=$(cd "$(dirname "$0")" && pwd)/protocol.pml
command -v spin > /dev/null || { echo "spin is not installed: sudo apt-get install spin"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

# The configurations. Links lost, strict (links, flaps, two fragments: ring) and with a quorum (quorum: nothing expires for its age;
# quorum_stale: sync.stale: 1); an outer back on its disk (disk, disk_auto), on an older backup (backup, backup_link; late, slow, fork: not
# all are heard), on an empty disk (empty...); a worker back on its
# checkpoint or from the seed, or gone for good (restart...); a state hash that differs (differs). With 3 workers and 2 fragments: one link lost
# and one deadline that passes early (three_link), one link lost and the outer back on its disk (three_disk), one worker back on its
# checkpoint or from the seed, or gone (three_restart). Who lost its link returns at any time, also when the rounds have gone on.
three="-DWORKERS=3 -DF=2 -DEAGER -DPATIENT -DUP=4 -DDOWN=6"
three_link="$three -DH=2 -DT=3 -DLINK_LOSSES=1 -DEARLY=1"
three_disk="$three -DH=2 -DT=2 -DLINK_LOSSES=1 -DOUTER_CRASHES=1"
three_restart="$three -DH=2 -DT=2 -DWORKER_CRASHES=1 -DCHECKPOINTS=1"
links="-DWORKERS=3 -DT=1 -DLINK_LOSSES=1"
flaps="-DWORKERS=2 -DT=2 -DLINK_LOSSES=2"
ring="-DWORKERS=2 -DF=2 -DH=2 -DT=4 -DLINK_LOSSES=1 -DEAGER"
quorum="-DWORKERS=2 -DT=3 -DSTRICT=0 -DQUORUM=1 -DTAU=1 -DLINK_LOSSES=1 -DLIMIT=9 -DEAGER"
quorum_stale="$quorum -DSTALE=1"
disk_auto="-DWORKERS=2 -DT=2 -DSTRICT=0 -DOUTER_CRASHES=1 -DEAGER"
slow="-DWORKERS=2 -DT=1 -DOUTER_CRASHES=1 -DMODES=2 -DLATE=1"
disk="-DWORKERS=2 -DT=2 -DOUTER_CRASHES=2 -DEAGER"
backup="-DWORKERS=3 -DT=1 -DOUTER_CRASHES=1 -DMODES=2 -DEAGER"
backup_link="-DWORKERS=2 -DT=2 -DOUTER_CRASHES=1 -DMODES=2 -DLINK_LOSSES=1 -DEAGER"
fork="-DWORKERS=2 -DT=1 -DOUTER_CRASHES=1 -DMODES=2 -DLATE=1 -DLINK_LOSSES=1 -DLIMIT=7 -DEAGER"
late="-DWORKERS=2 -DT=3 -DOUTER_CRASHES=1 -DMODES=2 -DLATE=1 -DLIMIT=9 -DEAGER"
empty="-DWORKERS=3 -DT=1 -DOUTER_CRASHES=1 -DMODES=4 -DLATE=1 -DEAGER"
empty_two="-DWORKERS=2 -DF=2 -DH=2 -DT=3 -DOUTER_CRASHES=1 -DMODES=4 -DEAGER"
empty_quorum="-DWORKERS=2 -DT=2 -DSTRICT=0 -DQUORUM=1 -DTAU=1 -DOUTER_CRASHES=1 -DMODES=4 -DLIMIT=9 -DEAGER"
restart="-DWORKERS=2 -DT=3 -DWORKER_CRASHES=1 -DCHECKPOINTS=1 -DLIMIT=9 -DEAGER"
restart_auto="-DWORKERS=2 -DT=2 -DSTRICT=0 -DTAU=1 -DWORKER_CRASHES=1 -DCHECKPOINTS=1 -DLIMIT=9 -DEAGER"
restart_alone="-DWORKERS=1 -DT=4 -DSTRICT=0 -DTAU=2 -DWORKER_CRASHES=1 -DCHECKPOINTS=1 -DLIMIT=9 -DEAGER"
differs="-DWORKERS=2 -DT=2 -DSTRICT=0 -DCORRUPTIONS=1 -DLINK_LOSSES=1 -DEAGER"

# check NAME DEFINES clean|found
check() {
    local name=$1 defines=$2 wanted=$3 verdict state=clean dir=$work/$1
    mkdir -p "$dir"
    cd "$dir"
    # shellcheck disable=SC2086
    spin $defines -a "$model" > spin.log 2>&1 || { cat spin.log; exit 1; }
    local optimize=-O1
    [ "$wanted" = clean ] || optimize=-O0 # found soon: the compiler takes longer than the search
    gcc $optimize -w -DSAFETY -DCOLLAPSE -DVECTORSZ=2048 -DSEPQS -DMEMLIM=4000 -o pan pan.c
    timeout 300 ./pan -m50000 > out 2>&1 || true
    grep -qE 'errors: [1-9]' out && state=found
    grep -qE 'errors: ' out || state=stopped
    grep -qE 'Search not completed|max search depth too small' out && [ "$state" = clean ] && state=incomplete
    # a queue or the table of versions that is too small is an error of the model, never the planted one
    grep -qE 'assertion violated.*(q_full|c_count\[)|assertion violated.*units\[w\]<8' out && state=bounds
    verdict=ok
    [ "$state" = "$wanted" ] || { verdict=FAILED; failed=1; }
    printf '%-26s %10s %7s %8s MB %7s s   %-9s %s\n' "$name" "$(awk '/states, stored/ {print $1; exit}' out)" \
        "$(sed -n 's/.*depth reached \([0-9]*\).*/\1/p' out | head -1)" \
        "$(awk '/total actual memory usage/ {print $1}' out)" "$(sed -n 's/pan: elapsed time \([0-9.e+-]*\).*/\1/p' out)" "$state" "$verdict"
    cd "$work" && rm -rf "$dir"
}

printf '%-26s %10s %7s %11s %9s   %-9s %s\n' configuration states depth memory time found verdict
[ "${1:-}" = bugs ] || for name in ${1:-links flaps ring quorum quorum_stale disk disk_auto slow backup backup_link fork late empty empty_two empty_quorum restart restart_auto restart_alone differs three_link three_disk three_restart}; do
    check "$name" "${!name}" clean
done
[ $# -eq 0 ] || [ "$1" = bugs ] || exit $failed

echo
echo "planted bugs, each to be found:"
while read -r bug config; do
    check "$bug" "${!config} -DBUG_$bug" found
done << 'BUGS'
PUBLISHED_BEFORE_DURABLE disk
MARK_NOT_COMPARED disk_auto
RESOLVED_BY_ANY quorum
MERGED_BEFORE_COMPARED differs
EMPTY_LEADS_ALONE empty
BACKUP_DOES_NOT_LISTEN backup_link
OLD_SESSIONS_HEARD fork
RECORD_FORGOTTEN restart
ORPHANS_FORGOTTEN restart_alone
NEWEST_ONLY empty_quorum
APPLIED_AFTER_HELLO empty_quorum
LOST_QUEUE_KEPT late
LOST_JOINS late
FULL_QUEUE_WAITS quorum
OFFERED_ONCE restart_auto
CONNECTED_GIVEN_UP quorum
OFFER_BEFORE_START empty
LOST_BRANCH_IS_HERE late
LIVE_ONLY backup_link
BUGS
exit $failed
