# lib.sh: what the process tests share; to be sourced. A test starts real atoll processes, waits for conditions (never for a fixed
# time), and leaves nothing behind: at exit every process that it started is ended, by id.
#
#     source "$(dirname "$0")/lib.sh"
#     test_begin admission "$@"        # $1 = atoll, $2 = peer (where the test needs one); makes $WORK
#     start outer "$ATOLL" outer ...   # background; $PID; output in $WORK/outer.out and $WORK/outer.err
#     wait_for 10 "the join line" test -s "$WORK/outer/join.token"
#     test_end
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

# The state hash of the outer's `end` event.
final_hash() {
    events "$1" end .state_hash | tail -n 1 | tr -d '"'
}

# ledger_adds_up OUTER_LOG: in every ledger record processed = applied + in_flight + unsent + dropped, none negative; `applied` is what
# the commits of the same log counted; and no two counted intervals of one worker and fragment overlap. Prints what is wrong.
ledger_adds_up() {
    local wrong
    has_event "$1" ledger || { say "no ledger event in $1"; return 1; }
    wrong=$(jq -cnR '
        [inputs | fromjson? | select(.event == "ledger" or .event == "commit")] as $all
        | [$all[] | select(.event == "commit") | .fragment as $f | .counted[] | {slot, fragment: $f, from: .tokens_from, to: .tokens_to}] as $counted
        | [ ($all[] | select(.event == "ledger")
             | . as $l | [$counted[] | select(.slot == $l.slot and .fragment == $l.fragment)] as $mine
             | select((.processed != .applied + .in_flight + .unsent + .dropped)
                      or ([.processed, .applied, .in_flight, .unsent, .dropped] | min) < 0
                      or .applied != ($mine | map(.to - .from) | add // 0))
             | {slot, fragment, processed, applied, in_flight, unsent, dropped, counted: ($mine | map(.to - .from) | add // 0)}),
            ($counted | group_by([.slot, .fragment])[] | sort_by(.from) | . as $line
             | range(1; length) | select($line[.].from < $line[. - 1].to) | {overlap: [$line[. - 1], $line[.]]}) ]
        | .[0] // empty' "$1")
    [ -z "$wrong" ] || { say "ledger: $wrong"; return 1; }
}
