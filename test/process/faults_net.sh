#!/usr/bin/env bash
# faults_net.sh ATOLL PROXY: bad lines. One of two workers loses its line in every way that TCP does not tell of: it is missed within the
# outer's patience (10 s), the other goes on, and within 10 s of the heal it counts again, nothing twice. A thin line with jitter and flipped
# bytes change nothing in the result; who reads slowly holds up nobody else; who sends slowly counts all the same.
source "$(dirname "$0")/lib.sh"
test_begin faults_net "$@"
PROXY=$(realpath "$2")
CORPUS=$WORK
make_corpus "$CORPUS/corpus.txt" 60000 1
make_corpus "$CORPUS/held_out.txt" 4000 2

# begin STEPS MIN_STEP_TIME WORKERS SYNC [MODEL]: a run behind proxies that is under way.
begin() {
    cat >"$WORK/run.yaml" <<YAML
name: net
model: ${5:-{layers: 2, width: 32, heads: 4, kv_heads: 2, ffn: 64, context: 32\}}
data: {train: [$CORPUS/corpus.txt], val: [$CORPUS/held_out.txt], tokenizer: bytes}
inner: {lr: 3e-3, warmup_steps: 4, steps: $1, batch_per_worker: 2, threads: 1, min_step_time: $2}
sync: {every_steps: 12, fragment_layers: 1, keep_local: 0.5, $4}
eval: {every_steps: 0, windows: 4}
workers: $3
YAML
    start_run_through_proxy run "$WORK/run.yaml" "$3"
    OUTER_LOG=$RUN/outer/log.jsonl
}
STRICT="overlap_steps: 2"

now() {
    date +%s.%N
}
# The slot of a node: workers register in any order.
slot_of() {
    events "$OUTER_LOG" join "select(.node == \"$1\") | .slot" | head -n 1
}
commits_reach() {
    [ "$(grep -c '"event":"commit"' "$OUTER_LOG")" -ge "$1" ]
}
left() { # NODE
    grep -q "\"event\":\"leave\".*\"node\":\"$1\"" "$OUTER_LOG"
}
# commit_since SECONDS FILTER: FILTER is about the list of slots that a commit counts.
commit_since() {
    has_event "$OUTER_LOG" commit "$WALL select(wall > $1 and ([.counted[].slot] | $2))"
}
when_left() {
    events "$OUTER_LOG" leave "$WALL select(.node == \"$1\") | wall" | head -n 1
}
ends_right() {
    end_of_run 60
    check "the ledger adds up" ledger_adds_up "$OUTER_LOG"
    check "versions grow one by one, and all hold the same states" states_agree "$RUN"
}

# ---- a line that is gone without a word, and comes back ----

# partition REASON FAULT...: worker-1's line; REASON: what the outer's log says of it. Missed within LONGEST seconds, back BACK after the heal.
LONGEST=13
BACK=10
partition() {
    local reason=$1 cut missed healed victim other
    shift
    begin 420 40ms 2 "$STRICT"
    wait_for 30 "the first commits" commits_reach 6
    cut=$(now)
    proxy run-proxy-1 "$@"
    victim=$(slot_of worker-1) other=$(slot_of worker-0)
    wait_for 30 "worker-1 to be missed" left worker-1
    missed=$(when_left worker-1)
    holds "it is missed when the patience of 10 s is over" "$missed - $cut > 8 && $missed - $cut < $LONGEST"
    says "the reason is logged" "$OUTER_LOG" "\"event\":\"leave\".*\"node\":\"worker-1\".*$reason"
    wait_for 10 "a commit without it" commit_since "$missed" ". == [$other]"
    pass "the other goes on alone"
    equal "status: worker-1 is lost, worker-0 lives" "lost live" "$(worker_state worker-1) $(worker_state worker-0)"
    healed=$(now)
    proxy run-proxy-1 heal
    wait_for "$BACK" "worker-1 to count again" commit_since "$healed" "any(. == $victim)"
    pass "it counts again within $BACK s of the heal"
    ends_right
    equal "worker-0 never left before the end" "trained to the end" "$(events "$OUTER_LOG" leave 'select(.node == "worker-0") | .reason' | head -n 1 | tr -d '"')"
}
both_links() { partition "no answer" blackhole; }
control_link() { partition "no answer" blackhole control; }
# Who misses bytes first gives the session up. When it is the worker, it gets no further than the control link, where it does not answer: that
# is another 10 s for the outer.
bulk_link() { LONGEST=23 partition "its bulk link is silent|no answer|link lost" blackhole bulk; }
bulk_down() { LONGEST=23 partition "no answer|link lost" blackhole bulk down; }
# The worker hears the outer to the end: it would miss it 10 s later only, were it not told that its session was given up.
bulk_up() { BACK=6 partition "its bulk link is silent" blackhole bulk up; }
way_up() { partition "no answer" blackhole up; }
# The worker hears nothing: it gives the line up itself, and closes it, which the outer hears.
way_down() { partition "link lost" blackhole down; }
# The cable is pulled: the process between stands still, its kernel takes what comes for a while.
frozen() {
    local cut healed
    begin 420 40ms 2 "$STRICT"
    wait_for 30 "the first commits" commits_reach 6
    cut=$(now)
    kill -STOP "${PROXY_PIDS[1]}"
    wait_for 25 "worker-1 to be missed" left worker-1
    holds "it is missed when the patience of 10 s is over" "$(when_left worker-1) - $cut > 8 && $(when_left worker-1) - $cut < 13"
    healed=$(now)
    kill -CONT "${PROXY_PIDS[1]}"
    wait_for 10 "worker-1 to count again" commit_since "$healed" "any(. == $(slot_of worker-1))"
    ends_right
}

# ---- lines that are bad and stand ----

# The same run without proxies and pauses: what a strict schedule must come to.
undisturbed() {
    run_command 60 direct "$ATOLL" train "$WORK/run.yaml" --dir "$WORK/direct" --set inner.min_step_time=0ms
    equal "the undisturbed run ends normally" 0 "$EXIT_CODE"
    final_hash "$WORK/direct/outer/log.jsonl" >"$WORK/wanted"
}
nobody_left() {
    equal "nobody was declared dead" "" "$(events "$OUTER_LOG" leave 'select(.reason != "trained to the end")')"
}
# 1 Mbit/s, 40 ms and as much again of jitter each way; a fragment is 10 KB.
thin() {
    PROXY_FAULTS="latency 40 jitter 40"
    begin 120 10ms 2 "$STRICT" "{layers: 2, width: 64, heads: 4, kv_heads: 4, ffn: 128, context: 32}"
    for k in 0 1; do proxy "run-proxy-$k" rate 125000; done
    undisturbed
    ends_right
    nobody_left
    equal "the state is the undisturbed run's" "$(cat "$WORK/wanted")" "$(final_hash "$OUTER_LOG")"
}

# Bits flip on worker-1's line, in bytes of sessions and of handshakes: CURVE drops each such connection, nothing of it is heard. A flip in the
# length of a frame shows by silence only.
flipped() {
    begin 700 50ms 2 "$STRICT"
    wait_for 30 "the first commits" commits_reach 6
    proxy run-proxy-1 flip 2000
    redialled() { [ "$(proxy_stat run-proxy-1 .connections)" -ge 8 ]; }
    wait_for 30 "connections that broke" redialled
    proxy run-proxy-1 flip 60 # no handshake comes through: it looks like another key, which is no reason to leave for good
    sleep 18                  # the fault itself
    holds "bits flipped" "$(proxy_stat run-proxy-1 '[.control, .bulk | .up, .down | .flipped] | add') >= 5"
    proxy run-proxy-1 heal
    local healed
    healed=$(now)
    # A flipped length makes its lane wait for bytes that nobody sent, which is noticed when the patience of 10 s is over.
    wait_for 25 "worker-1 to count again" commit_since "$healed" "any(. == $(slot_of worker-1))"
    pass "it counts again within 10 s of the heal, or of the end of the patience"
    ends_right
    says "the worker says that its link was lost" "$WORK/run-worker-1.err" "link to the outer is lost"
    equal "nothing malformed passed CURVE" "" "$(grep -Ei '[1-9][0-9]* malformed|state hash|do not match' "$WORK"/run-*.err || true)"
}

# worker-2 gets 1.5 KB/s: less than its commits need. The quorum of two goes on at its own pace.
slow_reader() {
    local began steps
    begin 400 40ms 3 "overlap_steps: auto, quorum: 2, grace: 0ms"
    wait_for 30 "the first commits" commits_reach 6
    proxy run-proxy-2 rate 1500 down
    began=$(now)
    step_of() { events "$RUN/$1/log.jsonl" step .step | tail -n 1; }
    steps=$(step_of worker-0)
    sleep 8 # the time that is measured
    steps=$(($(step_of worker-0) - steps))
    holds "worker-0 trains on at its pace of 25 steps/s" "$steps > 0.6 * 25 * ($(now) - $began)"
    wait_for 30 "the others to have trained to the end" grep -q "a quorum has trained to the last step" "$WORK/run-outer.err"
    holds "worker-2 is far behind" "$(step_of worker-2) < 300"
    proxy run-proxy-2 heal
    ends_right
    nobody_left
}

# counted_from_far SLOT N: N commits count it that were made four versions after the base of what it sent, or later: it was on its way that long.
counted_from_far() {
    [ "$(events "$OUTER_LOG" commit ".version as \$v | select(any(.counted[]; .slot == $1 and \$v - 1 - .base_version > 3))" | wc -l)" -ge "$2" ]
}

# worker-2's line carries 3 KB/s up: what it sends is on its way while the other two close ten rounds. It counts when it is here.
slow_sender() {
    begin 400 40ms 3 "overlap_steps: auto, quorum: 2, grace: 0ms"
    wait_for 30 "the first commits" commits_reach 6
    proxy run-proxy-2 rate 3000 up
    wait_for 30 "worker-2 to count with an old base" counted_from_far "$(slot_of worker-2)" 1
    pass "it counts, though the others were more than three versions further"
    proxy run-proxy-2 heal
    ends_right
    nobody_left
}

# The same with a number for sync.stale: it does not count any more, and everybody is told why.
expiring_sender() {
    local told="uploads take longer than sync.stale rounds .2.: raise sync.every_steps or sync.stale, or use a smaller codec"
    begin 400 40ms 3 "overlap_steps: auto, quorum: 2, grace: 0ms, stale: 2"
    wait_for 30 "the first commits" commits_reach 6
    proxy run-proxy-2 rate 3000 up
    wait_for 30 "status to tell" run_status "[.workers[] | select(.node == \"worker-2\") | .last_error][0] | test(\"$told\")"
    proxy run-proxy-2 heal
    ends_right
    nobody_left
    says "the worker tells as well" "$WORK/run-worker-2.err" "warning: contributions of fragment [0-2] expired 2 times in a row: $told"
    equal "once a minute" 1 "$(grep -c "$told" "$WORK/run-worker-2.err")"
}

# worker-2 has a cap of 60 kbit/s, of which pongs, offers and grants need a part: the rest is for what it trained.
capped_sender() {
    local began sent
    begin 400 40ms 2 "overlap_steps: auto, quorum: 2, grace: 0ms"
    "$ATOLL" token create "$RUN/outer" --uses 1 | grep -o 'atoll1\.[A-Za-z0-9_-]*' | head -n 1 >"$WORK/late.token"
    start run-worker-2 "$ATOLL" worker --join "$WORK/late.token" --dir "$RUN/worker-2" --set link.up=60kbit/s
    WORKER_PIDS+=("$PID")
    wait_for 20 "worker-2 to send" has_event "$RUN/worker-2/log.jsonl" sync_send
    began=$(now)
    wait_for 30 "worker-2 to count with old bases" counted_from_far "$(slot_of worker-2)" 6
    sent=$(events "$RUN/worker-2/log.jsonl" link .payload_up | tail -n 1) # a second old at most
    holds "a quarter of the cap and more was for contributions" "$sent > 7500 / 4 * ($(now) - $began - 1.5)"
    ends_right
    nobody_left
}

# shellcheck disable=SC2086 # words
side_by_side ${ATOLL_CASES:-both_links control_link bulk_link bulk_up bulk_down way_up way_down frozen thin flipped slow_reader slow_sender expiring_sender capped_sender}
test_end
