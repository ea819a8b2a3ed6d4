#!/usr/bin/env bash
# What syncing costs where links are no limit: two workers with one core each and the outer on the same cores, against the same two workers with
# sync off, by turns (by_turns.sh). by_turns_report.py: a table with the bound beside each number; exit code 0 only when all hold.
#
#   experiments/sync_cost.sh                 acceptance: the size `small`, f32, a round every 30 and every 100 steps; 13 minutes in all
#   experiments/sync_cost.sh --every 30 --turns 3        a short one
#   experiments/sync_cost.sh sync.codec_up=int8          KEY=VALUE changes the run file
#
#   --every "H ..."    steps from one send of a fragment to its next (30 100)
#   --turns N          so often each set of processes has its turn (7)
#   --seconds S        of each set in a turn (24); all turns together should hold a whole round, which the table says
#   --cores "C ..."    of worker 0, 1, ... (the first two that this shell may use)
#   --json FILE        the numbers
#   --dir D            where the runs go (default: a new runs/sync-cost-N)
#   --keep             keep the models; else only the logs stay
#
# ATOLL names the program; without it, build/release/atoll is built.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
export LC_ALL=C
source "$HERE/run_processes.sh"
source "$HERE/header_text.sh"
source "$HERE/by_turns.sh"

EVERY="30 100" TURNS=7 SECONDS_EACH=24 CORES= DIRECTORY= KEEP= JSON=
WORKERS=2
SETTINGS=()
take_options "turns seconds" "every cores" "" "" "$@"
need_tools jq python3 taskset
[ "$CORES" ] || CORES=$(own_cores | head -n "$WORKERS" | paste -sd ' ')
read -ra CORE <<< "$CORES"
[ "${#CORE[@]}" = "$WORKERS" ] || { complain "$WORKERS cores are needed, one per worker; here: $CORES"; exit 1; }
cores_of() { echo "${CORE[$1]}"; }

find_atoll
make_header_text runs/cost-text
choose_directory sync-cost
RUN_FILE=$HERE/cost.yaml
trap end_all EXIT
trap 'exit 130' INT TERM

# shellcheck disable=SC2086 # a list
by_turns $EVERY
echo
python3 "$HERE/by_turns_report.py" "$DIRECTORY" --rate 0.98 --wait 0.005 ${JSON:+--json "$JSON"}
