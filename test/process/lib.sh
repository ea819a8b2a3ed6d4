# lib.sh: what the process tests share; to be sourced. A test starts real atoll processes, waits for conditions (never for a fixed
# time), and leaves nothing behind: at exit every process that it started is ended, by id.
#
#     source "$(dirname "$0")/lib.sh"
#     test_begin admission "$@"        # $1 = atoll, $2 = peer (where the test needs one); makes $WORK
#     start outer "$ATOLL" outer ...   # background; $PID; output in $WORK/outer.out and $WORK/outer.err
#     wait_for 10 "the join line" test -s "$WORK/outer/join.token"
#     test_end
#
# Behind bad lines ($PROXY = process_proxy; see the section `proxy` below and the head of proxy.c):
#
#     PROXY=$(realpath "$2")
#     start_run_through_proxy cut "$WORK/run.yaml" 2     # $RUN, $OUTER_PID, ${WORKER_PIDS[@]}, ${PROXY_PIDS[@]}
#     wait_for_version 3                                 # of every fragment
#     proxy cut-proxy-1 blackhole up                     # worker-1 alone; `proxy cut-proxy-1 heal` mends it
#     wait_for 20 "worker-1 to be missed" worker_state_is worker-1 lost
#     kill -KILL "${PROXY_PIDS[1]}"                      # the plug: both sides are reset; kill -STOP: silence
#     proxy_start cut-proxy-1 "$RUN/outer/join.token"    # and in again, at the same ports
#     "$PROXY" follow "$WORK/cut-proxy-1" "$RUN/outer/join.token" # the outer started again, at other ports
#     end_of_run 60
#
# KEEP=1 in the environment keeps $WORK.
set -euo pipefail
export LC_ALL=C

EXIT_SKIPPED=77 # what ctest knows as skipped (SKIP_RETURN_CODE); only the whole test may end so

test_begin() {
    TEST_NAME=$1
    ATOLL=$(realpath "$2")
    PEER=${3:+$(realpath "$3")}
    for tool in jq ss awk; do
        command -v "$tool" >/dev/null || { echo "$TEST_NAME: $tool is missing (apt-get install jq iproute2)"; exit 1; }
    done
    [ -x "$ATOLL" ] || { echo "$TEST_NAME: $ATOLL is not there: build it first"; exit 1; }
    WORK=$(mktemp -d "${TMPDIR:-/tmp}/atoll-$TEST_NAME.XXXXXX")
    export ATOLL_TEST_MARK=$WORK # in the environment of everything that we start: how cleanup knows its own
    CHECKS=0
    CASE_PIDS=()
    STARTED=$(date +%s.%N)
    trap cleanup EXIT
    trap 'exit 130' INT TERM
}

test_end() {
    printf '%s: %d checks passed in %.1f s\n' "$TEST_NAME" "$CHECKS" "$(elapsed "$STARTED")"
}

# Pids of the processes that bear our mark; this shell (its environment is from before the mark) and the search itself left out.
own_processes() {
    local entry pid
    for entry in $(env -u ATOLL_TEST_MARK grep -lsz "^ATOLL_TEST_MARK=$WORK\$" /proc/[0-9]*/environ 2>/dev/null || true); do
        pid=${entry#/proc/}
        echo "${pid%/environ}"
    done
}

cleanup() {
    local code=$? pids
    trap - EXIT
    set +e
    declare -F at_cleanup >/dev/null && at_cleanup
    [ "${#CASE_PIDS[@]}" -gt 0 ] && kill "${CASE_PIDS[@]}" 2>/dev/null
    pids=$(own_processes)
    [ -n "$pids" ] && kill -KILL $pids 2>/dev/null
    wait 2>/dev/null
    if [ "${KEEP:-}" ] || { [ "$code" -ne 0 ] && [ "$code" -ne "$EXIT_SKIPPED" ] && [ "${KEEP_FAILED:-}" ]; }; then
        echo "$TEST_NAME: kept $WORK"
    else
        rm -rf "$WORK"
    fi
    exit "$code"
}

say() {
    echo "$TEST_NAME: $*"
}

# fail TEXT: report, with the ends of what the processes said, and stop.
fail() {
    local file
    echo "$TEST_NAME: FAILED: $*"
    for file in "$WORK"/*.err; do
        [ -s "$file" ] || continue
        echo "--- the end of $(basename "$file")"
        tail -n 12 "$file"
    done
    exit 1
}

pass() {
    CHECKS=$((CHECKS + 1))
    [ "${QUIET:-}" ] || say "ok: $*"
}

# check TEXT COMMAND...: the command must succeed.
check() {
    local text=$1
    shift
    if "$@"; then pass "$text"; else fail "$text"; fi
}

# equal TEXT WANTED FOUND
equal() {
    if [ "$2" = "$3" ]; then pass "$1"; else fail "$1: wanted '$2', found '$3'"; fi
}

# holds TEXT EXPRESSION: arithmetic on decimals, such as "1.5 < 3".
holds() {
    if awk "BEGIN { exit !($2) }"; then pass "$1 ($2)"; else fail "$1: not $2"; fi
}

# says TEXT FILE PATTERN: the file holds a line that matches the extended regular expression.
says() {
    if grep -qEi -- "$3" "$2"; then pass "$1"; else fail "$1: no line like /$3/ in $(basename "$2"): $(tail -n 3 "$2")"; fi
}

elapsed() {
    awk "BEGIN { print $(date +%s.%N) - $1 }"
}

# start NAME COMMAND...: in the background, its own process group. Sets PID.
start() {
    local name=$1
    shift
    setsid "$@" >"$WORK/$name.out" 2>"$WORK/$name.err" </dev/null &
    PID=$!
}

# wait_for SECONDS TEXT COMMAND...: poll until the command succeeds.
wait_for() {
    local until text=$2
    until=$(($(date +%s%N) + $1 * 1000000000))
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ "$(date +%s%N)" -lt "$until" ] || fail "waited in vain for $text"
        sleep 0.05
    done
}

gone() {
    ! kill -0 "$1" 2>/dev/null || [ "$(awk '{print $3}' "/proc/$1/stat" 2>/dev/null)" = Z ]
}

# wait_exit PID SECONDS NAME: sets EXIT_CODE.
wait_exit() {
    wait_for "$2" "the end of $3" gone "$1"
    EXIT_CODE=0
    wait "$1" 2>/dev/null || EXIT_CODE=$?
}

# run_command SECONDS NAME COMMAND...: in the foreground, bounded; sets EXIT_CODE.
run_command() {
    local seconds=$1 name=$2
    shift 2
    start "$name" "$@"
    wait_exit "$PID" "$seconds" "$name"
}

# refused TEXT CODE PATTERN NAME COMMAND...: the command must end within 20 s with CODE and say PATTERN on stderr.
refused() {
    local text=$1 code=$2 pattern=$3 name=$4
    shift 4
    run_command 20 "$name" "$@"
    equal "$text: exit code" "$code" "$EXIT_CODE"
    says "$text: message" "$WORK/$name.err" "$pattern"
    say "    it said: $(grep -Ei -- "$pattern" "$WORK/$name.err" | head -n 1)"
}

# events FILE NAME [FILTER]: the records of one event, one JSON object per line; a torn last line does not matter.
events() {
    jq -cR --arg event "$2" "fromjson? | select(.event == \$event) | ${3:-.}" "$1"
}

has_event() {
    [ -s "$1" ] && [ -n "$(events "$@" | head -n 1)" ]
}

# t_wall (RFC 3339, milliseconds) as seconds since 1970: a jq function.
WALL='def wall: (.t_wall | sub("\\.[0-9]+Z$"; "Z") | fromdateiso8601) + (.t_wall | capture("\\.(?<f>[0-9]+)Z$").f | ("0." + .) | tonumber);'

# make_corpus FILE BYTES SEED: words that repeat by rule, so that a tiny model finds something to learn.
make_corpus() {
    awk -v bytes="$2" -v seed="$3" 'BEGIN {
        n = split("the sea holds an atoll of small islands and each island trains its own model while slow links carry what it learned", word, " ")
        state = seed * 7919 + 1
        while (total < bytes) {
            state = (state * 69069 + 12345) % 4294967296
            w = word[int(state / 65536) % n + 1]
            printf "%s%s", w, (int(state / 16777216) % 9 == 0) ? ".\n" : " "
            total += length(w) + 1
        }
    }' >"$1"
}

# ---- a local run of four workers, of which some are killed at random times ----

# $RANDOM follows from ATOLL_SEED, where that is given.
random_times() {
    SEED=${ATOLL_SEED:-$((RANDOM * 32768 + RANDOM))}
    RANDOM=$((SEED % 32768))
    say "ATOLL_SEED=$SEED repeats these times"
}

# run_of_four NAME STEPS BATCH [LINE...]: $WORK/run.yaml, with LINEs of its own, and its text.
run_of_four() {
    make_corpus "$WORK/corpus.txt" 200000 1
    make_corpus "$WORK/held_out.txt" 4000 2
    cat >"$WORK/run.yaml" <<YAML
name: $1
model: {layers: 4, width: 64, heads: 4, kv_heads: 4, ffn: 128, context: 64}
data: {train: [corpus.txt], val: [held_out.txt], tokenizer: bytes}
inner: {lr: 2e-3, warmup_steps: 10, steps: $2, batch_per_worker: $3, threads: 1}
sync: {every_steps: 10, fragment_layers: 2, overlap_steps: 2, keep_local: 0.5}
eval: {every_steps: 0, windows: 4}
workers: 4
$(printf '%s\n' "${@:4}")
YAML
}

worker_pid() { # DIRECTORY: the pid in its lock file
    tr -dc 0-9 <"$1/lock"
}

all_train() { # RUN_DIR COUNT: that many workers have logged a step
    local log count=0
    for log in "$1"/worker-*/log.jsonl; do has_event "$log" step && count=$((count + 1)); done
    [ "$count" -ge "$2" ]
}

# The state hash of the outer's `end` event.
final_hash() {
    events "$1" end .state_hash | tail -n 1 | tr -d '"'
}

# ledger_adds_up OUTER_LOG: in every ledger record processed = applied + in_flight + unsent + dropped, none negative; `applied` of the newest
# one is what the commits of the same log counted, by weight, and what else their intervals held is dropped; and no two counted intervals
# of one worker and fragment overlap. A commit whose line was lost by a kill between disk and log may be missing. Prints what is wrong.
ledger_adds_up() {
    local wrong
    has_event "$1" ledger || { say "no ledger event in $1"; return 1; }
    wrong=$(jq -cnR '
        [inputs | fromjson? | select(.event == "ledger" or .event == "commit" or .event == "header")] as $all
        | ([$all[] | select(.event == "header")] | length) as $starts
        | [$all[] | select(.event == "commit") | .fragment as $f
           | .counted[] | {slot, fragment: $f, from: .tokens_from, to: .tokens_to, tokens: (.tokens // .tokens_to - .tokens_from)}] as $counted
        | ([$all[] | select(.event == "commit") | {fragment, version}] | unique
           | length == (group_by(.fragment) | map(map(.version) | max) | add)) as $whole
        | [ ($all[] | select(.event == "ledger")
             | select((.processed != .applied + .in_flight + .unsent + .dropped)
                      or ([.processed, .applied, .in_flight, .unsent, .dropped] | min) < 0)),
            ([$all[] | select(.event == "ledger")] | group_by([.slot, .fragment])[] | last
             | . as $l | [$counted[] | select(.slot == $l.slot and .fragment == $l.fragment)] as $mine
             | ($mine | map(.tokens) | add // 0) as $applied | ($mine | map(.to - .from - .tokens) | add // 0) as $left
             | select(if $whole or $starts == 1 then .applied != $applied or .dropped < $left else .applied < $applied end)
             | {slot, fragment, processed, applied, in_flight, unsent, dropped, counted: $applied, left: $left}),
            ($counted | group_by([.slot, .fragment])[] | sort_by(.from) | . as $line
             | range(1; length) | select($line[.].from < $line[. - 1].to) | {overlap: [$line[. - 1], $line[.]]}) ]
        | .[0] // empty' "$1")
    [ -z "$wrong" ] || { say "ledger: $wrong"; return 1; }
}

# states_agree RUN_DIR: each fragment's versions grow one by one in the outer's log, and grow in each worker process's; wherever a worker took
# a version (commit or snapshot), its state hash is the outer's. An outer that is killed between a record and its log line leaves one version to
# the workers' logs, which then agree among themselves. Prints what is wrong.
states_agree() {
    local wrong
    wrong=$(jq -cnR '
        [foreach (inputs | fromjson? | select(.event == "header" or .event == "commit" or (.event == "recover" and .what == "snapshot" and .state_hash != null))
                  | {node: (input_filename | split("/")[-2]), event, fragment, version, state_hash}) as $record
             (0; if $record.event == "header" then . + 1 else . end; $record + {process: .})
         | select(.event != "header")] as $all
        | ($all | map(select(.node == "outer"))) as $outer
        | ($all + $outer | map({key: "\(.fragment) \(.version)", value: .state_hash}) | from_entries) as $at
        | [ ($outer | group_by(.fragment)[] | [{version: 0, process: 0}] + . | . as $line
             | range(1; length) | [$line[. - 1], $line[.]] | . as [$before, $next]
             | select($next.version != $before.version + 1 and ($next.version != $before.version + 2 or $next.process == $before.process))
             | {not_one_by_one: .}),
            ($all | map(select(.node != "outer")) | group_by([.process, .fragment])[] | . as $line
             | range(1; length) | select($line[.].version <= $line[. - 1].version) | {not_growing: [$line[. - 1], $line[.]]}),
            ($all[] | select(.state_hash != $at["\(.fragment) \(.version)"]) | {differs: ., outer: $at["\(.fragment) \(.version)"]}) ]
        | .[0] // empty' "$1"/*/log.jsonl)
    [ -z "$wrong" ] || { say "states: $wrong"; return 1; }
}

# ---- cases side by side: where a test mostly waits ----

# side_by_side CASE...: each is a function, run in a shell of its own with a WORK of its own; what it said comes out when it ended. The first
# that fails ends the test.
side_by_side() {
    local case failed=
    CASE_PIDS=()
    for case; do
        mkdir "$WORK/$case"
        (
            WORK=$WORK/$case
            TEST_NAME="$TEST_NAME $case"
            CHECKS=0
            "$case"
            echo "$CHECKS" >"$WORK.checks"
        ) >"$WORK/$case.said" 2>&1 &
        CASE_PIDS+=($!)
    done
    for case; do
        wait "${CASE_PIDS[0]}" || failed="$failed $case"
        CASE_PIDS=("${CASE_PIDS[@]:1}")
        cat "$WORK/$case.said"
        CHECKS=$((CHECKS + $(cat "$WORK/$case.checks" 2>/dev/null || echo 0)))
        [ -z "$failed" ] || break
    done
    if [ -n "$failed" ]; then
        echo "$TEST_NAME: FAILED:$failed"
        exit 1
    fi
}

# ---- proxy: a bad line between workers and outer (proxy.c; its head says what the commands do) ----

# proxy_start NAME TOKENFILE, or NAME HOST CONTROL_PORT BULK_PORT: the token for the workers is $WORK/NAME/join.token. A name that was
# used before gets the same ports again. Sets PROXY_PID.
proxy_start() {
    start "$1" "$PROXY" run "$WORK/$1" "${@:2}"
    PROXY_PID=$PID
    wait_for 10 "the proxy $1" "$PROXY" ask "$WORK/$1" stats
}

# proxy NAME COMMAND...: must be understood.
proxy() {
    local answer
    answer=$("$PROXY" ask "$WORK/$1" "${@:2}" 2>&1) || fail "proxy $*: $answer"
}

# proxy_stat NAME FILTER: a number of `stats`.
proxy_stat() {
    "$PROXY" ask "$WORK/$1" stats | jq -r "$2"
}

# start_run_through_proxy NAME RUN_FILE WORKERS [OUTER_OPTION...]: an outer, and each worker behind a proxy of its own, so that a fault is
# one worker's: proxies NAME-proxy-K, nodes worker-K, directories $RUN/outer and $RUN/worker-K. Sets RUN, OUTER_PID, WORKER_PIDS,
# PROXY_PIDS. PROXY_FAULTS, if set, is said to each proxy before its worker starts.
start_run_through_proxy() {
    local name=$1 run_file=$2 workers=$3 k
    RUN=$WORK/$name WORKER_PIDS=() PROXY_PIDS=()
    start "$name-outer" "$ATOLL" outer "$run_file" --dir "$RUN/outer" --listen 127.0.0.1:0 "${@:4}"
    OUTER_PID=$PID
    wait_for 10 "the join token of $name" test -s "$RUN/outer/join.token"
    for ((k = 0; k < workers; k++)); do
        proxy_start "$name-proxy-$k" "$RUN/outer/join.token"
        PROXY_PIDS+=("$PROXY_PID")
        # shellcheck disable=SC2086 # words of a command
        [ -z "${PROXY_FAULTS:-}" ] || proxy "$name-proxy-$k" $PROXY_FAULTS
        start "$name-worker-$k" "$ATOLL" worker --join "$WORK/$name-proxy-$k/join.token" --dir "$RUN/worker-$k"
        WORKER_PIDS+=("$PID")
    done
}

# end_of_run SECONDS: the workers and the outer of start_run_through_proxy end with 0.
end_of_run() {
    local k
    for k in "${!WORKER_PIDS[@]}"; do
        wait_exit "${WORKER_PIDS[$k]}" "$1" "worker-$k"
        equal "worker-$k ends normally" 0 "$EXIT_CODE"
    done
    wait_exit "$OUTER_PID" "$1" "the outer"
    equal "the outer ends normally" 0 "$EXIT_CODE"
}

# run_status FILTER: of `atoll status --json` of $RUN; it asks the outer itself, past the proxies. Fails while the outer does not answer.
run_status() {
    "$ATOLL" status "$RUN" --json 2>/dev/null | jq -er "$1"
}

# worker_state NAME: absent, live, ..., as the outer sees it; "unknown" for a name that it does not know, or when it does not answer.
worker_state() {
    run_status "[.workers[] | select(.node == \"$1\") | .state][0] // \"unknown\"" || echo unknown
}

worker_state_is() {
    [ "$(worker_state "$1")" = "$2" ]
}

version_reached() {
    run_status "[.fragments[].version] | min >= $1"
}

# wait_for_version N [SECONDS]: until each fragment of $RUN is at version N or above.
wait_for_version() {
    wait_for "${2:-60}" "version $1 of each fragment" version_reached "$1"
}
