#!/usr/bin/env bash
# What an outer costs with many workers: 32 islands share two cores with it and train as fast as they can, against the same 32 with sync off, by
# turns (by_turns.sh). by_turns_report.py: a table with the bound beside each number; exit code 0 only when all hold.
#
#   experiments/many_workers.sh              acceptance: 32 workers of the size `tiny`, f32, a round every 30 steps; 8 minutes in all
#   experiments/many_workers.sh --workers 8 --turns 3        a short one
#   experiments/many_workers.sh sync.codec_up=int8           KEY=VALUE changes the run file
#
#   --workers N        (32)
#   --every H          steps from one send of a fragment to its next (30)
#   --turns N          so often each set of processes has its turn (7)
#   --seconds S        of each set in a turn (24); all turns together should hold a whole round, which the table says
#   --cores C,...      of all processes together (the first two that this shell may use)
#   --json FILE        the numbers
#   --dir D            where the runs go (default: a new runs/many-workers-N)
#   --keep             keep the models; else only the logs stay
#
# ATOLL names the program; without it, build/release/atoll is built.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
export LC_ALL=C
source "$HERE/run_processes.sh"
source "$HERE/header_text.sh"
source "$HERE/by_turns.sh"

WORKERS=32 EVERY=30 TURNS=7 SECONDS_EACH=24 CORES= DIRECTORY= KEEP= JSON=
SETTINGS=()
take_options "workers every turns seconds" "cores" "" "" "$@"
need_tools jq python3 taskset
[ "$WORKERS" -ge 1 ] && [ "$WORKERS" -le 64 ] || wrong "--workers $WORKERS: 1 to 64"
[ "$CORES" ] || CORES=$(own_cores | head -n 2 | paste -sd ,)
cores_of() { echo "$CORES"; }

find_atoll
make_header_text runs/cost-text
choose_directory many-workers
RUN_FILE=$HERE/many_workers.yaml
trap end_all EXIT
trap 'exit 130' INT TERM

by_turns "$EVERY"
echo
python3 "$HERE/by_turns_report.py" "$DIRECTORY" --rate 0.95 --outer-cpu 0.25 ${JSON:+--json "$JSON"}
