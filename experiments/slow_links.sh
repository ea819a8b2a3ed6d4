#!/usr/bin/env bash
# How much of the machines slow links leave: two workers of the size `small` with one core each, behind links of 0.25 to 50 Mbit/s, and the
# outer behind none. Utilization = tokens/s, as a share of those with sync off; steady state, over one whole round of all fragments.
# slow_links_report.py prints the table; exit code 0 only when the bound holds: >= 0.98 at 1 Mbit/s with e3m0, overlap, fragments.
#
#   experiments/slow_links.sh                all cells; what D/cells.jsonl holds already is not measured again, so that it may be stopped at any time
#   experiments/slow_links.sh --only real    the bound and the other cells with real training: 18 minutes
#   experiments/slow_links.sh --only none    the table of what is there
#   experiments/slow_links.sh inner.lr=1e-4  KEY=VALUE changes the run file
#
# A cell of the table is a run of real processes that speak the real protocol over real sockets, with fragments of full size, behind a link of
# the rate that it says. Only the step is paced: it trains 8 tokens and then sleeps until a real step's measured length has passed
# (inner.min_step_time), so that many cells fit on two cores at a time. A few cells are measured with real training too, one core per worker,
# alone on the machine, with sync off before and after; the table shows both.
#
#   --rates "R ..."    Mbit/s, up and down, of each worker (0.25 0.5 1 2 10 50)
#   --codecs "C ..."   both ways (e3m0 int8 bf16)
#   --ways "W ..."     overlap/fragments overlap/whole wait/fragments wait/whole (all four): sync.overlap_steps auto or 0, sync.fragment_layers 1
#                      or all
#   --real "CELL ..."  CODEC/WAY/RATE with real training (e3m0/overlap/fragments/1 e3m0/wait/whole/1 int8/overlap/fragments/0.5)
#   --only WHAT        paced, real or none
#   --every H          steps from one send of a fragment to its next (100)
#   --step S           seconds of a paced step (default: as measured in D, with real training and sync off)
#   --late S           a cell is not kept when paced steps that took longer than they should have cost it more than this much utilization (0.005)
#   --at-once N        paced cells at a time (as many as there is memory for, at most 8 per core)
#   --json FILE        the numbers
#   --dir D            where cells.jsonl is and the runs go (runs/slow-links)
#   --keep             keep the runs; else only what was measured stays
#
# Root only: each worker and each outer lives in a network namespace of its own (namespaces.sh); all are removed at the end. ATOLL names the
# program; without it, build/release/atoll is built. Exit code 77: this machine allows no namespaces, veth or tbf.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
export LC_ALL=C
source "$HERE/run_processes.sh"
source "$HERE/header_text.sh"
source "$HERE/namespaces.sh"

RATES="0.25 0.5 1 2 10 50" CODECS="e3m0 int8 bf16" WAYS="overlap/fragments overlap/whole wait/fragments wait/whole"
REAL="e3m0/overlap/fragments/1 e3m0/wait/whole/1 int8/overlap/fragments/0.5"
ONLY= EVERY=100 STEP= LATE=0.005 AT_ONCE= DIRECTORY=runs/slow-links KEEP= JSON=
WORKERS=2
OFF_STEPS=20
SETTINGS=()
take_options "every step late at-once" "rates" "codecs ways real only" "" "$@"
[[ -z $ONLY || $ONLY =~ ^(paced|real|none)$ ]] || wrong "--only $ONLY: paced, real or none"

need_tools ip tc jq python3 taskset
find_atoll
make_header_text runs/cost-text
mkdir -p "$DIRECTORY"
DIRECTORY=$(realpath "$DIRECTORY")
CELLS=$DIRECTORY/cells.jsonl
touch "$CELLS"
mapfile -t CORE < <(own_cores | head -n "$WORKERS")

NS=
cleanup() {
    trap - EXIT
    set +e
    exec 2> /dev/null # bash says what it kills
    local pids
    pids=$(jobs -p)
    [ "$NS" ] || [ -z "$pids" ] || kill -TERM $pids # the cells, which clean up behind themselves
    end_processes
    [ -z "$NS" ] || remove_network
    [ "$KEEP" ] || [ -z "${RUN:-}" ] || rm -rf "$RUN"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# The step of a paced cell: as long as this many seconds, and as little as can be trained.
paced() { echo "--set model.context=8 --set inner.batch_per_worker=1"; }
pace() { echo "--set inner.min_step_time=$(awk "BEGIN { printf \"%.0f\", $STEP * 1e6 }")us"; }

steps_of() { { cat "$1" 2> /dev/null || true; } | grep -c '"event":"step"' || true; }
all_have_steps() { # COUNT LOG...
    local log
    for log in "${@:2}"; do [ "$(steps_of "$log")" -ge "$1" ] || return 1; done
}

# off_step: prints the seconds of a real step with sync off, both workers at work, one core each. A paced step takes as long as it is told.
off_step() {
    local k logs=()
    RUN=$DIRECTORY/off PIDS=()
    rm -rf "$RUN"
    mkdir -p "$RUN"
    for ((k = 0; k < WORKERS; k++)); do
        taskset -c "${CORE[k % ${#CORE[@]}]}" "$ATOLL" train "$HERE/cost.yaml" --dir "$RUN/worker-$k" --quiet --restarts 0 \
            ${SETTINGS[@]+"${SETTINGS[@]}"} --set sync=off --set workers=1 > "$RUN/$k.out" 2> "$RUN/$k.err" < /dev/null &
        PIDS[$k]=$!
        logs+=("$RUN/worker-$k/worker-0/log.jsonl")
    done
    wait_until 600 "steps with sync off" all_have_steps $((OFF_STEPS + 3)) "${logs[@]}"
    kill -TERM "${PIDS[@]}"
    wait "${PIDS[@]}" 2> /dev/null || true
    PIDS=()
    python3 "$HERE/slow_links_report.py" off "$OFF_STEPS" "${logs[@]}"
    rm -rf "$RUN"
    RUN=
}

launch() { # NODE CORES OPTION...
    local command=("$ATOLL" worker --join "$RUN/outer/join.token" --dir "$RUN/$1")
    [ "$1" != outer ] || command=("$ATOLL" outer "$HERE/cost.yaml" --dir "$RUN/outer" --listen "$(address outer):0")
    in_node "$1" taskset -c "$2" "${command[@]}" "${@:3}" > "$RUN/$1.out" 2> "$RUN/$1.err" < /dev/null & # becomes the command: its pid
    PIDS[$1]=$!
}

none_ended() {
    local node
    for node in "${!PIDS[@]}"; do
        kill -0 "${PIDS[$node]}" 2> /dev/null || { complain "$CELL: $node ended: $(tail -n 1 "$RUN/$node.err")"; return 1; }
    done
}

# stood_still LOG...: somebody has waited for the network, 10 ms or more in all.
stood_still() { grep -qsE '"event":"link".*"wait_us":[0-9]{5,}' "$@"; }

# The cell in its namespaces, until its window is whole; into cells.jsonl.
run_cell() { # CODEC/OVERLAP/LAYOUT/RATE real|paced NUMBER
    local codec overlap layout rate own=() node=() k logs=() offset last
    CELL="$1 $2"
    IFS=/ read -r codec overlap layout rate <<< "$1"
    RUN=$DIRECTORY/run-$3 PIDS=()
    rm -rf "$RUN"
    mkdir -p "$RUN"
    NS=atoll-$$-$3-
    RATE=${rate}mbit
    build_network 2> "$RUN/network.err" || not_here "$(tail -n 1 "$RUN/network.err")"
    # shellcheck disable=SC2207
    [ "$2" = real ] || own=($(paced)) node=($(pace))
    own+=(--set "sync.every_steps=$EVERY" --set "sync.codec_up=$codec" --set "sync.codec_down=$codec"
        --set "sync.overlap_steps=$([ "$overlap" = overlap ] && echo auto || echo 0)"
        --set "sync.fragment_layers=$([ "$layout" = fragments ] && echo 1 || echo all)")
    launch outer "$(IFS=,; echo "${CORE[*]}")" ${SETTINGS[@]+"${SETTINGS[@]}"} "${own[@]}"
    wait_until 60 "the join token" test -s "$RUN/outer/join.token"
    for ((k = 0; k < WORKERS; k++)); do
        launch "worker-$k" "${CORE[k % ${#CORE[@]}]}" ${node[@]+"${node[@]}"}
        logs+=("$RUN/worker-$k/log.jsonl")
    done
    wait_until 600 "the first step" all_have_steps 1 "${logs[@]}"
    # Without overlap each round begins with idle links, and with one fragment too: the first is like all others. Several fragments in flight queue up
    # round after round when the links are too slow for them: until one round takes as long as the one before.
    offset=$(jq -s '.[0].fragments | length' "$RUN/outer/log.jsonl")
    offset=$(((offset - 1) * EVERY / offset))
    last=$((EVERY + offset + 2))
    [ "$overlap" = wait ] || last=$((last + EVERY))
    for (( ; ; )); do
        until all_have_steps "$last" "${logs[@]}"; do
            none_ended || exit 1
            sleep 1
        done
        [ "$overlap/$layout" = overlap/fragments ] && [ "$last" -lt $((8 * EVERY)) ] && stood_still "${logs[@]}" || break
        ! python3 "$HERE/slow_links_report.py" steady "$last" "$EVERY" "${logs[@]}" || break
        last=$((last + EVERY))
    done
    python3 "$HERE/slow_links_report.py" cell "$RUN" "$1" "$2" "$last" "$EVERY" "$4" "$LATE" >> "$CELLS" || complain "$CELL: not kept"
}

measured() { [ "$(jq --arg cell "$1" --arg step "$2" 'select(.cell == $cell and .step == $step) | 1' "$CELLS")" ]; } # CELL real|paced

# The step that paced ones imitate is measured once per directory: all cells of a table have the same.
known_step() { jq -r 'select(.off_step_s) | .off_step_s' "$CELLS" | tail -n 1; }
note_step() { echo "{\"off_step_s\":$1}" >> "$CELLS"; }

run_paced() {
    local rate codec way cell n=0 todo=()
    local known
    known=$(known_step)
    : "${STEP:=$known}"
    if [ -z "$STEP" ]; then
        echo "== a real step with sync off"
        STEP=$(off_step)
    fi
    [ -n "$known" ] || note_step "$STEP"
    awk "BEGIN { exit !(${known:-$STEP} == $STEP) }" || { complain "$CELLS is of steps of $known s: choose another --dir"; exit 1; }
    # The longest ones first: bits of a round over the rate.
    while read -r _ cell; do
        measured "$cell" paced || todo+=("$cell")
    done < <(for rate in $RATES; do for codec in $CODECS; do for way in $WAYS; do
        awk -v rate="$rate" -v codec="$codec" -v cell="$codec/$way/$rate" 'BEGIN {
            bits["e3m0"] = bits["int4"] = 4; bits["int8"] = 8; bits["bf16"] = 16; bits["f32"] = 32
            print bits[codec] / rate, cell
        }'
    done; done; done | sort -rn -s -k1,1)
    echo "== ${#todo[@]} paced cells, $AT_ONCE at a time"
    for cell in ${todo[@]+"${todo[@]}"}; do
        while [ "$(jobs -rp | wc -l)" -ge "$AT_ONCE" ]; do wait -n || true; done
        n=$((n + 1))
        (
            trap cleanup EXIT
            trap 'exit 130' INT TERM
            run_cell "$cell" paced "$n" "$STEP"
        ) &
        sleep 1 # not all at the same instant
    done
    wait
}

run_real() {
    local cell before after
    for cell in $REAL; do
        ! measured "$cell" real || continue
        echo "== with real training: $cell"
        before=$(off_step)
        [ "$(known_step)" ] || [ "$STEP" ] || note_step "$before"
        ( trap cleanup EXIT; trap 'exit 130' INT TERM; run_cell "$cell" real real "$before" ) &
        wait $! || continue
        after=$(off_step)
        measured "$cell" real || continue
        # Sync off before and after; the utilization is against the mean of both.
        jq -c --arg cell "$cell" --argjson before "$before" --argjson after "$after" 'if .cell == $cell and .step == "real"
            then .off_before_s = $before | .off_after_s = $after | .off_s = ($before + $after) / 2 | .utilization = .off_s / .step_s else . end' \
            "$CELLS" > "$CELLS.new"
        mv "$CELLS.new" "$CELLS"
    done
}

if [ -z "$AT_ONCE" ]; then
    # A worker holds some 12 blocks of parameters, the outer 6.
    AT_ONCE=$("$ATOLL" check "$HERE/cost.yaml" ${SETTINGS[@]+"${SETTINGS[@]}"} --json | jq -r .parameters)
    AT_ONCE=$(awk -v parameters="$AT_ONCE" -v cores="${#CORE[@]}" '/^MemAvailable/ { n = int($2 * 1024 * 0.8 / (4 * parameters * 30 + 100e6))
        print (n < 1 ? 1 : n > 8 * cores ? 8 * cores : n) }' /proc/meminfo)
fi
case $ONLY in
paced) run_paced ;;
real) run_real ;;
none) ;;
*) run_real; run_paced ;;
esac
echo
python3 "$HERE/slow_links_report.py" table "$CELLS" --every "$EVERY" ${JSON:+--json "$JSON"}
