#!/usr/bin/env bash
# A full link is no death: four workers behind 10 Mbit/s, all of it taken by bulk for minutes, then one of them cut off for a minute and healed.
# What came of it: saturated_report.py, a table with the bound beside each number; exit code 0 only when all hold.
#
#   experiments/saturated.sh                 acceptance: 5 minutes full, 60 s of partition; 7 minutes in all
#   experiments/saturated.sh --minutes 0.5 --partition 15        a short one
#   experiments/saturated.sh sync.quorum=all                     KEY=VALUE changes the run file
#
#   --minutes M        how long the links are full before the partition
#   --partition S      seconds; worker-1's frames vanish both ways: no reset, no ICMP, and its own link stays up
#   --tail S           how long the run goes on after the heal (30)
#   --rate R           of each worker, each way, as tc says it (10mbit)
#   --workers N  --json FILE (the numbers)
#   --dir D            where the run goes (default: a new runs/saturated-N)
#   --keep             keep the checkpoints; else only the logs stay
#
# Root only: outer and workers live in network namespaces of their own (namespaces.sh); all are removed at the end.
#
# Cut and heal are written to D/faults.jsonl, and what went through each worker's interface. ATOLL names the program; without it,
# build/release/atoll is built. Exit code 77: this machine allows no namespaces, veth or tbf.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
export LC_ALL=C
source "$HERE/run_processes.sh"
source "$HERE/header_text.sh"
source "$HERE/namespaces.sh"

MINUTES=5 PARTITION=60 TAIL=30 RATE=10mbit WORKERS=4 DIRECTORY= KEEP= JSON=
VICTIM=worker-1
WARM_UP=5 # seconds until the links are full
SETTINGS=()
take_options "minutes partition tail workers" "" "rate" "" "$@"
SETTINGS=(--set "workers=$WORKERS" ${SETTINGS[@]+"${SETTINGS[@]}"})
[ "$WORKERS" -ge 2 ] && [ "$WORKERS" -le 64 ] || wrong "--workers $WORKERS: 2 to 64"

need_tools ip tc bridge python3
find_atoll
make_header_text runs/saturated-text
choose_directory saturated
RUN=$DIRECTORY FAULTS=$DIRECTORY/faults.jsonl
[ ! -e "$FAULTS" ] || { complain "$RUN holds a run already: choose another --dir"; exit 1; }

# ---- the network ----

NS=atoll-$$-
cleanup() {
    trap - EXIT
    set +e
    end_processes
    remove_network
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# The port's state, as of the spanning tree: disabled, or forwarding.
cut() { bridge -n "${NS}lan" link set dev "$(port "$1")" state 0 && note cut "$1"; }
heal() { bridge -n "${NS}lan" link set dev "$(port "$1")" state 3 && note heal "$1"; }

# The switch's side of each cable: what it receives is what the worker sends.
note_bytes() {
    local node up down
    while read -r node up down; do
        note bytes "worker-$node" "\"up\":$up,\"down\":$down"
    done < <(ip netns exec "${NS}lan" bash -c 'for port in /sys/class/net/p-[0-9]*; do
        echo "${port##*-} $(<"$port/statistics/rx_bytes") $(<"$port/statistics/tx_bytes")"
    done')
}

# ---- the run ----

launch() { # NODE
    local command=("$ATOLL" worker --join "$RUN/outer/join.token" --dir "$RUN/$1")
    [ "$1" != outer ] ||
        command=("$ATOLL" outer "$HERE/saturated.yaml" --dir "$RUN/outer" --stop-workers --listen "$(address outer):0" ${SETTINGS[@]+"${SETTINGS[@]}"})
    in_node "$1" "${command[@]}" >> "$RUN/$1.out" 2>> "$RUN/$1.err" < /dev/null & # becomes the command: its pid
    PIDS[$1]=$!
}

# keep_noting SECONDS: what went through the links until now, every 5 s, at the begin and at the end.
keep_noting() {
    local began left
    began=$(date +%s.%N)
    note_bytes
    for (( ; ; )); do
        left=$(awk "BEGIN { s = $1 - ($(date +%s.%N) - $began); printf \"%.3f\", (s < 0 ? 0 : s > 5 ? 5 : s) }")
        [ "$left" != 0.000 ] || return 0
        sleep "$left"
        note_bytes
    done
}

build_network 2> "$RUN/network.err" || not_here "$(tail -n 1 "$RUN/network.err")"
launch outer
wait_until 30 "the join token" test -s "$RUN/outer/join.token"
for node in $(workers); do launch "$node"; done
wait_until 120 "the start of the training" has_event "$RUN/outer/log.jsonl" start
sleep "$WARM_UP"
seconds=$(awk "BEGIN { print $MINUTES * 60 }")
echo "== $WORKERS workers, links of $RATE full for $seconds s"
note full outer "\"rate\":\"$RATE\""
keep_noting "$seconds"
echo "== $VICTIM is cut off for $PARTITION s"
cut "$VICTIM"
sleep "$PARTITION"
heal "$VICTIM"
echo "== healed; $TAIL s more"
keep_noting "$TAIL"
note stop outer
kill -TERM "${PIDS[outer]}"
wait_for_end 20
[ "$KEEP" ] || rm -rf "$RUN"/*/checkpoint "$RUN"/outer/commits "$RUN"/*/model
echo
python3 "$HERE/saturated_report.py" "$RUN" ${JSON:+--json "$JSON"}
