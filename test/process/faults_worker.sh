#!/usr/bin/env bash
# faults_worker.sh ATOLL PROXY: what befalls one worker, or all of them: killed at every named place, stopped for a while, copied, moved,
# come late, sent away, with a damaged checkpoint, a jumping clock, missing text, wrong arithmetic, too little memory. The run goes on and ends
# with one state everywhere and a ledger without a hole. Disks: faults_worker_disk.sh. Stopped for two minutes: faults_worker_stop.sh.
source "$(dirname "$0")/lib.sh"
test_begin faults_worker "$@"
PROXY=$(realpath "$2")
source "$(dirname "$0")/faults_worker_lib.sh"

# ---- kill -9 ----

# In the middle of an upload: of three chunks, one is out. That half is worth nothing; what was trained is sent again.
upload() {
    local slot base
    begin 2 inner.steps=400 sync.every_steps=16 sync.fragment_layers=all sync.codec_up=int8
    worker 0 ATOLL_FAILPOINT=worker.upload.chunk=kill@8 --set link.up=1Mbit/s
    worker 1
    is_killed 0 20
    says "it died there" "${ERR[0]}" "^failpoint worker.upload.chunk: kill"
    slot=$(slot_of 0)
    base=$(events "$(log_of 0)" sync_send .base_version | tail -n 1)
    wait_for 20 "the round without it" version_is_above 0 "$base"
    equal "half a contribution does not count" "[$((1 - slot))]" \
        "$(events "$OUTER_LOG" commit "select(.version == $base + 1) | [.counted[].slot]")"
    worker 0
    counts_again 0 2 20
    check "it went on from its checkpoint" has_event "$(log_of 0)" recover 'select(.what == "restart" and .generation > 0 and .step > 0)'
    ends_right
}

# held [VARIABLE=VALUE...]: of worker-0. Its contribution is with the outer, the round waits for another worker. It counts, and that one time
# only: by its intervals, and by what was trained, which a worker that sends the same work under other numbers would exceed. Sets SENT.
held() {
    local slot
    begin 2 inner.steps=400
    worker 0 "$@"
    worker 1
    wait_for_version 2
    slot=$(slot_of 0)
    kill -STOP "${WORKER_PIDS[1]}"
    sent_and_open() { # the newest send of worker-0 is of the open round of its fragment
        SENT=$(events "$(log_of 0)" sync_send '{fragment, base_version, tokens_from, tokens_to}' | tail -n 1)
        run_status "[.fragments[] | select(.open) | [.index, .version]] | index([$(jq -c '[.fragment, .base_version]' <<<"$SENT")]) != null" >/dev/null
    }
    held_for_long() {
        sent_and_open && sleep 0.7 && sent_and_open
    }
    wait_for 6 "a round that has worker-0's contribution" held_for_long
    die 0
    kill -CONT "${WORKER_PIDS[1]}"
    counted_after_death() {
        has_event "$OUTER_LOG" commit "select(.fragment == $(jq .fragment <<<"$SENT") and .version == $(jq .base_version <<<"$SENT") + 1)"
    }
    wait_for 15 "that round" counted_after_death
    equal "the round counts the dead worker's contribution" "$(jq -c '[.tokens_from, .tokens_to]' <<<"$SENT")" \
        "$(events "$OUTER_LOG" commit "select(.fragment == $(jq .fragment <<<"$SENT") and .version == $(jq .base_version <<<"$SENT") + 1)
            | .counted[] | select(.slot == $slot) | [.tokens_from, .tokens_to]")"
    equal "worker-1 was not missed" 0 "$(times_left 1)"
    worker 0
    counts_again 0 2 20
    equal "no interval counts twice" "" "$(events "$OUTER_LOG" commit '.fragment as $f | .counted[] | [$f, .slot, .tokens_from, .tokens_to]' | sort | uniq -d)"
    ends_right
    equal "what it counted it has trained, 64 tokens a step" "$(events "$(log_of 0)" end .tokens | tail -n 1)" \
        "$((64 * $(events "$(log_of 0)" step .step | wc -l)))"
}
# Its checkpoint is older than that contribution, and than others that count.
held_old() {
    held ATOLL_FAILPOINT=checkpoint.write=EIO@3+
    # What that checkpoint held unsent is in what was counted meanwhile: it is not sent again.
    equal "the first send after it bears what was trained since, no more" "0" "$(jq -cnR --argjson fragment "$(jq .fragment <<<"$SENT")" '
        [inputs | fromjson?] as $all | ([$all | to_entries[] | select(.value.event == "header")] | last.key) as $last
        | $all[$last:] as $mine | first($mine[] | select(.event == "sync_send" and .fragment == $fragment)) as $send
        | $send.tokens - 64 * ([$mine[] | select(.event == "step" and .step <= $send.step)] | length)' "$(log_of 0)")"
    check "it went back behind that" has_event "$(log_of 0)" recover "select(.what == \"restart\" and .generation == 2 and 64 * .step < $(jq .tokens_to <<<"$SENT"))"
}

# At every durable step of its checkpoint, again and again on one directory: it comes back from the newest whole one.
lives() {
    local life=0 point newest=0
    begin 2 inner.steps=960
    worker 1
    last_restored() {
        events "$(log_of 0)" recover 'select(.what == "restart") | .generation' | tail -n 1
    }
    for point in worker.checkpoint.image checkpoint.write checkpoint.written checkpoint.renamed worker.checkpoint.written checkpoint.prune; do
        worker 0 "ATOLL_FAILPOINT=$point=kill@2"
        is_killed 0 20 "$life"
        says "$point: it died there" "${ERR[0]}" "^failpoint $point: kill"
        life=$((life + 1))
        [ "$life" = 1 ] || equal "it had come back from the newest checkpoint" "$newest" "$(last_restored)"
        newest=$(generations | tail -n 1 | sed 's|.*/0*||')
    done
    worker 0
    counts_again 0 $((life + 1)) 20
    equal "the last life came back from the newest checkpoint" "$newest" "$(last_restored)"
    equal "no checkpoint was damaged" "" "$(grep -il 'damaged\|starts from the seed' "$WORK"/worker-0.*.err || true)"
    ends_right
    equal "nothing half made is left" "" "$(find "$RUN/worker-0/checkpoint" -name 'tmp.*')"
}

# ---- while it catches up ----

# A worker that comes late takes the run's state. Killed in the middle of that it asks again; when only its line breaks, the bytes that
# are here stay. One fragment of 180 kB, at 100 kB/s.
snapshot() {
    local token whole carried commits
    begin 2 inner.steps=600 sync.every_steps=24 sync.fragment_layers=all
    worker 0
    worker 1
    wait_for_version 9 # more than the 8 commits that the outer keeps to replay
    "$ATOLL" token create "$RUN/outer" --uses 1 | grep -o 'atoll1\.[A-Za-z0-9_-]*' | head -n 1 >"$WORK/late.token"
    TOKEN=$WORK/late.token
    worker 2 ATOLL_FAILPOINT=worker.download.chunk=kill@5 --set link.down=0.8Mbit/s
    wait_exit "${WORKER_PIDS[2]}" 20 worker-2
    says "it died there" "${ERR[2]}" "^failpoint worker.download.chunk: kill"
    proxy_start late "$RUN/outer/join.token"
    TOKEN=$WORK/late/join.token
    worker 2 ATOLL_FAILPOINT=worker.download.chunk=stop@14 --set link.down=0.8Mbit/s
    wait_for 20 "13 chunks" grep -q "^failpoint worker.download.chunk: stop" "${ERR[2]}"
    proxy late reset
    kill -CONT "${WORKER_PIDS[2]}"
    counts_again 2 1 30
    says "it heard of the broken line" "${ERR[2]}" "the link to the outer is lost|asking for a new session"
    holds "who had died was given it again" "$(events "$OUTER_LOG" recover 'select(.what == "snapshot") | .slot' | wc -l) >= 2"
    equal "one was taken" 1 "$(events "$(log_of 2)" recover 'select(.what == "snapshot") | .version' | wc -l)"
    ends_right
    whole=$(events "$(log_of 2)" recover 'select(.what == "snapshot") | .bytes')
    commits=$(events "$(log_of 2)" end .payload_down | tail -n 1)
    carried=$(proxy_stat late .bulk.down.forwarded)
    holds "what was here before the break was not fetched again" "$carried < 1.05 * ($commits + $whole) + 70000"
}

# ---- stopped ----

# For 3 s: shorter than the outer's patience. The others wait, and nothing else comes of it.
stop_short() {
    begin 2
    worker 0
    worker 1
    wait_for_version 3
    kill -STOP "${WORKER_PIDS[0]}"
    sleep 3 # the fault itself
    kill -CONT "${WORKER_PIDS[0]}"
    ends_right calm
    equal "nobody was missed" "0 0" "$(times_left 0) $(times_left 1)"
}

# ---- one key, two places ----

# A copy of the directory of a worker that lives is sent away; the run does not notice.
copied() {
    begin 2 inner.min_step_time=50ms
    worker 0
    worker 1
    wait_for_version 1
    cp -r "$RUN/worker-0" "$WORK/copy"
    refused "a copy of a live worker's directory" 77 "another process is live with this worker's key \(worker-0\): a copied directory needs keys of its own" \
        copy "$ATOLL" worker --join "$TOKEN" --dir "$WORK/copy"
    gone "${WORKER_PIDS[0]}" && fail "the run was over before the copy came: make it longer"
    ends_right calm
}

# The directory moved to another machine, with another address, after the first process died: admitted at once when the outer heard the link
# break; when the machine went dark, after one ping without an answer.
moved() {
    local began
    begin 2 inner.steps=480
    worker 0
    worker 1
    wait_for_version 2
    die 0
    mv "$RUN/worker-0" "$RUN/elsewhere"
    proxy_start other-way "$TOKEN" --listen 127.0.0.2
    began=$(date +%s.%N)
    start elsewhere "$ATOLL" worker --join "$WORK/other-way/join.token" --dir "$RUN/elsewhere"
    WORKER_PIDS[0]=$PID
    wait_for 10 "the moved worker" test_joined 0 2
    holds "admitted at once" "$(elapsed "$began") < 4"
    equal "at another address" 127.0.0.2 "$(command cut -d' ' -f1 "$WORK/other-way/address")"
    wait_for 10 "the moved worker to count" counted_more 0 3
    proxy other-way blackhole
    kill -KILL "${WORKER_PIDS[0]}"
    wait_exit "${WORKER_PIDS[0]}" 5 elsewhere
    equal "the outer has not heard that it died" 1 "$(times_left 0)"
    mv "$RUN/elsewhere" "$RUN/worker-0"
    began=$(date +%s.%N)
    worker 0
    wait_for 10 "the worker at its old place" test_joined 0 3
    holds "admitted after a ping without an answer" "$(elapsed "$began") < 7"
    ends_right
}

# ---- come and go ----

# A worker that was never in the run joins at its half; one is told to stop, one is drained; the last one ends the run.
come_and_go() {
    local k slot tokens_to
    begin 2 inner.steps=480
    worker 0
    worker 1 --set link.up=0.5Mbit/s # an upload takes 75 ms of the 83 to the next: one is under way whenever it is told to go
    wait_for_version 9 # more than the 8 commits that the outer keeps to replay
    "$ATOLL" token create "$RUN/outer" --uses 1 | grep -o 'atoll1\.[A-Za-z0-9_-]*' | head -n 1 >"$WORK/late.token"
    TOKEN=$WORK/late.token worker 2
    counts_again 2 1 15
    equal "it took each fragment whole" 3 "$(events "$(log_of 2)" recover 'select(.what == "snapshot") | .fragment' | sort -u | wc -l)"
    check "it took up the others' step" has_event "$(log_of 2)" recover 'select(.what == "run clock" and .from_step == 0 and .step >= 60)'
    kill -TERM "${WORKER_PIDS[1]}"
    wait_exit "${WORKER_PIDS[1]}" 15 worker-1
    equal "SIGTERM: exit code" 0 "$EXIT_CODE"
    says "SIGTERM: said" "${ERR[1]}" "leaving after step [0-9]+: told to stop"
    run_command 10 drain "$ATOLL" drain worker-2 "$RUN/outer"
    equal "drain: exit code" 0 "$EXIT_CODE"
    wait_exit "${WORKER_PIDS[2]}" 15 worker-2
    equal "drained: exit code" 0 "$EXIT_CODE"
    says "drained: said" "${ERR[2]}" "leaving after step [0-9]+: drained"
    equal "the outer logged why" '"told to stop" "drained"' "$(events "$OUTER_LOG" leave .reason | head -n 2 | xargs -d '\n')"
    for k in 1 2; do
        unset "WORKER_PIDS[$k]"
        slot=$(slot_of "$k")
        equal "worker-$k: what was in flight was finished: each last send counts" \
            "$(events "$(log_of "$k")" sync_send '[.fragment, .tokens_to]' | jq -cs 'group_by(.[0]) | map(last)')" \
            "$(events "$OUTER_LOG" commit ".fragment as \$f | .counted[] | select(.slot == $slot) | [\$f, .tokens_to]" | jq -cs 'group_by(.[0]) | map(last)')"
    done
    wait_exit "${WORKER_PIDS[0]}" 30 worker-0
    ends_right
    for k in 1 2; do
        slot=$(slot_of "$k")
        tokens_to=$(events "$(log_of "$k")" sync_send '[.fragment, .tokens_to]' | jq -cs 'group_by(.[0]) | map(last[1])')
        equal "worker-$k: dropped is what was trained after its last sends, no more; nothing hangs" "[0]" \
            "$(events "$OUTER_LOG" ledger "select(.slot == $slot)" | jq -cs --argjson to "$tokens_to" \
                '[group_by(.fragment)[] | last | (.dropped + .unsent - (.processed - $to[.fragment])) + .in_flight] | unique')"
    done
}

# Nobody is left; the outer waits, and all go on from their checkpoints.
all_gone() {
    begin 2 inner.steps=240
    worker 0
    worker 1
    wait_for_version 5
    kill -KILL "${WORKER_PIDS[0]}" "${WORKER_PIDS[1]}"
    is_killed 0 10
    is_killed 1 10
    equal "the outer waits" "false lost lost" "$(run_status '"\(.finished) \(.workers[0].state) \(.workers[1].state)"')"
    sleep 2 # the fault itself
    gone "$OUTER_PID" && fail "the outer left"
    worker 0
    worker 1
    counts_again 0 2 20
    counts_again 1 2 20
    check "from checkpoints" has_event "$(log_of 1)" recover 'select(.what == "restart" and .generation > 0 and .step > 0)'
    ends_right
    equal "all steps" 240 "$(events "$OUTER_LOG" commit .run_step | sort -n | tail -n 1)"
}

# Told to leave while no outer can be reached, one that stands still or one that is gone: with what is in flight, and without the 10 s that its
# fate may take. It is in the checkpoint: nothing is lost, nothing twice.
unreached() {
    begin 2
    worker 0
    worker 1
    wait_for_version 3
    leaves() { # K
        local step
        step=$(step_of "$1")
        kill -TERM "${WORKER_PIDS[$1]}"
        wait_exit "${WORKER_PIDS[$1]}" 5 "worker-$1"
        equal "worker-$1 leaves: exit code" 0 "$EXIT_CODE"
        equal "worker-$1 leaves: its checkpoint is of its last step" "$step" "$(events "$(log_of "$1")" checkpoint .step | tail -n 1)"
    }
    kill -STOP "$OUTER_PID"
    sleep 1.5 # the fault itself
    leaves 0
    outer_dies
    sleep 1.5
    leaves 1
    outer_again
    # Their commits are here before training goes on: the merge that was due is done before the next step all the same.
    worker 0 ATOLL_FAILPOINT=worker.train.begin=sleep:1s
    worker 1 ATOLL_FAILPOINT=worker.train.begin=sleep:1s
    counts_again 0 2 20
    ends_right calm
}

# ---- a damaged checkpoint ----

flip_byte() { # FILE OFFSET
    local old
    old=$(od -An -tu1 -j"$2" -N1 "$1" | tr -d ' ')
    # shellcheck disable=SC2059 # the format is the byte
    printf "\\x$(printf %02x $((old ^ 16)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}
generations() {
    find "$RUN/worker-0/checkpoint" -maxdepth 1 -name '0*' | sort
}
restored() { # FILTER
    events "$(log_of 0)" recover 'select(.what == "restart")' | tail -n 1 | jq -r "$1"
}

two_generations() {
    [ "$(generations | wc -l)" -ge 2 ]
}

# The newest one: the older one is taken, and it is said.
torn() {
    local newest older
    begin 2 inner.steps=640
    worker 0
    worker 1
    wait_for 10 "two checkpoints" two_generations
    wait_for_version 3
    die 0
    newest=$(generations | tail -n 1) older=$(generations | tail -n 2 | head -n 1)
    flip_byte "$newest/state.safetensors" 100000
    worker 0
    counts_again 0 2 20
    says "flipped: said" "${ERR[0]}" "going back to checkpoint $(basename "$older"); .*$(basename "$newest").* is damaged"
    equal "flipped: the older one" "$(basename "$older" | sed 's/^0*//')" "$(restored .generation)"
    check "flipped: kept to be looked at" test -d "$RUN/worker-0/checkpoint/bad.$(basename "$newest")"
    wait_for 10 "two checkpoints" two_generations
    die 0
    newest=$(generations | tail -n 1) older=$(generations | tail -n 2 | head -n 1)
    truncate -s 200 "$newest/manifest.json"
    worker 0
    counts_again 0 3 20
    says "cut off: said" "${ERR[0]}" "going back to checkpoint $(basename "$older"); .*$(basename "$newest").* is damaged or cut off"
    equal "cut off: the older one" "$(basename "$older" | sed 's/^0*//')" "$(restored .generation)"
    ends_right
}

# All of them: from the seed, and everything is fetched.
torn_all() {
    local each tokens
    begin 2 inner.steps=480
    worker 0
    worker 1
    wait_for 10 "two checkpoints" two_generations
    wait_for_version 9 # more than the 8 commits that the outer keeps to replay
    die 0
    for each in $(generations); do flip_byte "$each/state.safetensors" 100000; done
    tokens=$(events "$(log_of 0)" step .tokens | tail -n 1)
    worker 0
    counts_again 0 2 20
    says "said" "${ERR[0]}" "no checkpoint in .* is good; .*; this worker starts from the seed and fetches everything"
    equal "no generation, step 0" "0 0" "$(restored '"\(.generation) \(.step)"')"
    holds "tokens are not counted again" "$(restored .tokens) >= $tokens"
    equal "each fragment was fetched whole" 3 "$(events "$(log_of 0)" recover 'select(.what == "snapshot") | .fragment' | sort -u | wc -l)"
    ends_right
}

# ---- the clock on the wall ----

# Every other second it is an hour fast, and else an hour slow, for outer and workers: nobody asks it but the texts of the logs.
clock() {
    cat >"$WORK/jump.c" <<'C'
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *now) {
    struct timespec running;
    int failed = (int)syscall(SYS_clock_gettime, clock, now);
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &running);
    if (failed == 0 && clock == CLOCK_REALTIME)
        now->tv_sec += running.tv_sec % 2 ? 3600 : -3600;
    return failed;
}
time_t time(time_t *to) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (to)
        *to = now.tv_sec;
    return now.tv_sec;
}
int gettimeofday(struct timeval *to, void *zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    *to = (struct timeval){now.tv_sec, now.tv_nsec / 1000};
    return 0;
}
C
    check "the jumping clock is built" "${CC:-cc}" -shared -fPIC -O1 -o "$WORK/jump.so" "$WORK/jump.c"
    OUTER_ENVIRONMENT="env LD_PRELOAD=$WORK/jump.so" begin 2
    worker 0 "LD_PRELOAD=$WORK/jump.so"
    worker 1 "LD_PRELOAD=$WORK/jump.so"
    ends_right calm
    holds "the clock did jump" "$(events "$OUTER_LOG" commit "$WALL wall" | jq -s 'max - min | floor') >= 7000"
    equal "nobody was missed" "0 0" "$(times_left 0) $(times_left 1)"
    rounds=$(events "$OUTER_LOG" round_trip .max_us | sort -n | tail -n 1)
    holds "round trips are what they are" "${rounds:-9e9} < 10000000"
}

# ---- text ----

# Without its text, or with too little of it, a worker does not begin; a file that goes away later does no harm to who has it open.
text() {
    mkdir "$WORK/text"
    cp "$CORPUS/corpus.txt" "$WORK/text/part-0.txt"
    begin 2 inner.steps=480 "data.train=[$WORK/text/part-*.txt]"
    refused "no such text" 78 "data.train: no file matches '$WORK/none-\*.txt' in /; put the text there, or name another in the run file or with --data or --val" \
        none "$ATOLL" worker --join "$TOKEN" --dir "$RUN/worker-0" --data "$WORK/none-*.txt"
    head -c 20 "$CORPUS/corpus.txt" >"$WORK/short.txt"
    refused "too little text" 65 "data.train: 20 tokens make 0 windows of context 32 \+ 1, but 1 are needed; give more text" \
        short "$ATOLL" worker --join "$TOKEN" --dir "$RUN/worker-0" --data "$WORK/short.txt"
    worker 0
    worker 1
    wait_for_version 3
    rm "$WORK/text/part-0.txt"
    wait_for_version 6
    die 0
    refused "its text is gone" 78 "no training text on this machine; give this worker its own with --data GLOB: data.train: no file matches '$WORK/text/part-\*.txt'" \
        again "$ATOLL" worker --join "$TOKEN" --dir "$RUN/worker-0"
    equal "worker-1 has its text still" 0 "$(times_left 1)"
    cp "$CORPUS/corpus.txt" "$WORK/text/part-0.txt"
    worker 0
    counts_again 0 2 15
    ends_right
}

# Its text is cut while it trains: one clear error, no signal; with the text whole again it goes on from its last checkpoint.
cut() {
    mkdir "$WORK/text"
    cp "$CORPUS/corpus.txt" "$WORK/text/mine.txt"
    begin 2 inner.steps=320
    worker 0 --data "$WORK/text/mine.txt"
    worker 1
    wait_for_version 4
    truncate -s 40 "$WORK/text/mine.txt"
    wait_exit "${WORKER_PIDS[0]}" 20 "worker-0"
    equal "a worker whose text is cut ends as with bad data" 65 "$EXIT_CODE"
    says "it says what and where" "${ERR[0]}" "^atoll worker: data.train: $WORK/text/mine.txt was cut while it was in use: it had 6[0-9]{4} bytes and ends at [0-9]+ or before; put the whole file back and start again$"
    wait_for 10 "the outer to hear of it" left_more_than 0 0
    cp "$CORPUS/corpus.txt" "$WORK/text/mine.txt"
    worker 0 --data "$WORK/text/mine.txt"
    counts_again 0 2 20
    holds "it went on from its checkpoint" "$(events "$OUTER_LOG" join 'select(.node == "worker-0") | .step' | tail -n 1) > 0"
    ends_right
}

# What its command line said is kept in its directory: started without it, a worker trains on its own text still, under its own cap.
own() {
    local again name
    mkdir "$WORK/text"
    cp "$CORPUS/corpus.txt" "$WORK/text/mine.txt"
    begin 2 inner.steps=480
    cd "$WORK/text"
    worker 0 --data 'm*.txt' --set link.up=20Mbit/s
    cd /
    worker 1
    wait_for_version 3
    for again in 2 3; do
        die 0
        ERR[0]=$WORK/own-$again.err
        name=()
        [ "$again" = 2 ] || name=(--name other)
        start "own-$again" "$ATOLL" worker --dir "$RUN/worker-0" "${name[@]}"
        WORKER_PIDS[0]=$PID
        counts_again 0 "$again" 20
        says "it tells what it goes on with" "${ERR[0]}" "as an earlier start was told \($RUN/worker-0/own.json\): --data $WORK/text/m\*.txt --set link.up=20Mbit/s$"
        says "its own text" "$RUN/worker-0/run.yaml" "^  train: \[.*$WORK/text/m\*.txt.*\]"
        says "its own cap" "$RUN/worker-0/run.yaml" "^  up: 20Mbit/s"
    done
    says "a name is given once" "${ERR[0]}" "--name other: the run knows this worker as worker-0 since it was admitted"
    equal "and that one is kept" '"worker-0"' "$(jq -c .name "$RUN/worker-0/own.json")"
    check "what is the run's is kept by nobody" test ! -e "$RUN/worker-1/own.json"
    ends_right
}

# The outer is there, but does not answer: who is told to go then goes, and that is no failure.
enrolling() {
    begin 1
    kill -STOP "$OUTER_PID"
    worker 0 --set inner.threads=1
    wait_for 10 "its key" test -s "$RUN/worker-0/keys/seed"
    wait_for 10 "what it was told, before it has a place" test -s "$RUN/worker-0/own.json"
    kill -TERM "${WORKER_PIDS[0]}"
    wait_exit "${WORKER_PIDS[0]}" 10 worker-0
    equal "SIGTERM while it enrols: exit code" 0 "$EXIT_CODE"
    says "SIGTERM while it enrols: said" "${ERR[0]}" "^atoll worker: interrupted before the outer answered$"
    kill -CONT "$OUTER_PID"
    worker 0
    ends_right
    says "and goes on so" "${ERR[0]}" "as an earlier start was told .*: --set inner.threads=1$"
}

# A file of tokens that was cut off on its way here.
shard() {
    mkdir "$WORK/shards"
    {
        printf '\x88\xd8\x34\x01\x01\0\0\0\x88\x13\0\0' # magic 20240520, version 1, 5000 tokens
        head -c 1012 /dev/zero
        head -c 8000 /dev/zero
    } >"$WORK/shards/part.bin"
    begin 1 data.tokenizer=shards model.vocab=300 "data.train=[$WORK/shards/part.bin]" "data.val=[]"
    refused "a shard that was cut off" 65 "$WORK/shards/part.bin is 9024 bytes, but its header's 5000 tokens make 11024; the file is cut or damaged" \
        cut "$ATOLL" worker --join "$TOKEN" --dir "$RUN/worker-0" --set inner.threads=1
    check "what came to nothing is not kept" test ! -e "$RUN/worker-0/own.json"
    head -c 2000 /dev/zero >>"$WORK/shards/part.bin"
    worker 0
    ends_right
}

# ---- wrong arithmetic ----

# The self-test finds it: that worker stops and says so, the other goes on.
selftest() {
    begin 2 inner.steps=480
    worker 0 ATOLL_FAILPOINT=worker.selftest.flip=EIO@4 --set worker.selftest=20
    worker 1
    wait_exit "${WORKER_PIDS[0]}" 20 worker-0
    equal "a wrong step: exit code" 65 "$EXIT_CODE"
    says "a wrong step: said" "${ERR[0]}" "this machine's arithmetic gave two different results for the same step: .*; memory or CPU is not sound \(or overclocked\): this worker stops"
    says "a wrong step: the outer logged it" "$OUTER_LOG" "\"event\":\"leave\".*two different results for the same step"
    refused "wrong from the start" 65 "arithmetic gave another result than every machine's for fixed values" fixed \
        env ATOLL_FAILPOINT=worker.selftest.flip_fixed=EIO@1 "$ATOLL" worker --join "$TOKEN" --dir "$RUN/worker-0"
    worker 0
    counts_again 0 2 15
    ends_right
}

# A bit of a worker's outer copy flips in memory: the next commit of that fragment does not lead to its state hash here; it is fetched whole.
flipped() {
    local log DIFFERS=worker-0
    begin 2
    worker 0 ATOLL_FAILPOINT=worker.apply.flip=EIO@14
    worker 1
    log=$(log_of 0)
    wait_for 20 "the flip" has_event "$log" recover 'select(.what == "state hash")'
    wait_for 20 "the fragment" has_event "$log" recover 'select(.what == "snapshot")'
    ends_right calm
    equal "noticed once, at a commit" "false 1" "$(events "$log" recover 'select(.what == "state hash") | "\(.snapshot) \(.count)"' | xargs)"
    equal "fetched whole: that fragment" "$(events "$log" recover 'select(.what == "state hash") | .fragment')" \
        "$(events "$log" recover 'select(.what == "snapshot") | .fragment')"
    says "said" "${ERR[0]}" "fragment [0-9] version [0-9]+: state hash [0-9a-f]{32} here, [0-9a-f]{32} at the outer; this machine's arithmetic or memory is wrong"
    says "the outer heard of it" "$WORK/outer.err" "worker worker-0: state hash of fragment [0-9] differs at version [0-9]+"
    equal "and went on" "" "$(events "$OUTER_LOG" recover 'select(.what == "outer differs") | .version')"
    equal "it stayed in the run" 0 "$(times_left 0)"
    equal "every round counts both" 2 "$(events "$OUTER_LOG" commit '.counted | length' | sort -u)"
}

# Again and again: it is of no use.
flipping() {
    local DIFFERS=worker-0
    begin 2 inner.steps=480
    worker 0 ATOLL_FAILPOINT=worker.apply.flip=EIO@6+
    worker 1
    wait_exit "${WORKER_PIDS[0]}" 20 worker-0
    equal "exit code" 65 "$EXIT_CODE"
    equal "three times" 3 "$(events "$(log_of 0)" recover 'select(.what == "state hash") | .count' | tail -n 1)"
    says "said" "${ERR[0]}" "^atoll worker: fragment .* this machine's arithmetic or memory is wrong"
    worker 0
    counts_again 0 2 15
    ends_right
}

# A core that computes every commit wrongly, and copies whole fragments rightly: it leaves too, and the others go on.
wrong_steps() {
    local DIFFERS=worker-0
    begin 3 inner.steps=240
    worker 0 ATOLL_FAILPOINT=worker.step.flip=EIO@6+
    worker 1
    worker 2
    wait_exit "${WORKER_PIDS[0]}" 30 worker-0
    equal "exit code" 65 "$EXIT_CODE"
    says "said" "${ERR[0]}" "^atoll worker: fragment .* this machine's arithmetic or memory is wrong"
    equal "it was a commit each time" "false" "$(events "$(log_of 0)" recover 'select(.what == "state hash") | .snapshot' | sort -u)"
    holds "what it fetched in between was right" "$(events "$(log_of 0)" recover 'select(.what == "snapshot")' | wc -l) >= 2"
    equal "the outer is believed" "" "$(events "$OUTER_LOG" recover 'select(.what == "outer differs") | .version')"
    equal "the others are not missed" "0 0" "$(times_left 1) $(times_left 2)"
    unset 'WORKER_PIDS[0]'
    ends_right
}

# ---- an outer that comes back as another ----

# outer_again [OPTION...]: on the same directory, at the same ports.
outer_again() {
    OUTER_LIFE=$((${OUTER_LIFE:-1} + 1))
    start "outer.$OUTER_LIFE" "$ATOLL" outer "$RUN/outer/run.yaml" --dir "$RUN/outer" --listen 127.0.0.1:0 "$@"
    OUTER_PID=$PID
}
outer_dies() {
    kill -KILL "$OUTER_PID"
    wait_exit "$OUTER_PID" 5 "the outer"
}
step_of() { # K
    events "$(log_of "$1")" step .step | tail -n 1
}
step_is_above() { # K STEP
    [ "$(step_of "$1")" -gt "$2" ]
}

# It has lost its list, and is away again before it hears a certificate: nobody waits for it, not even a checkpoint.
unlisted() {
    local before k
    begin 2 inner.steps=960 sync.overlap_steps=auto sync.drift=100000
    worker 0
    worker 1
    wait_for_version 2
    outer_dies
    rm "$RUN/outer/keys/workers.json"
    outer_again
    refused_two() { run_status '.dropped.rejected_handshakes >= 2'; }
    wait_for 20 "both to be refused" refused_two
    outer_dies
    for k in 0 1; do
        before=$(step_of "$k")
        wait_for 20 "worker-$k to train on" step_is_above "$k" $((before + 240))
        holds "worker-$k: no checkpoint holds training up" "$(events "$(log_of "$k")" checkpoint .stall_us | sort -n | tail -n 1) < 2000000"
    done
    outer_again
    counts_again 0 2 30
    counts_again 1 2 30
    for k in 0 1; do check "worker-$k showed its certificate" has_event "$(log_of "$k")" recover 'select(.what == "listed again")'; done
    ends_right
}

# has_continued STEPS: all workers, each in the one process that it was, have trained so far.
has_continued() {
    local k
    ends_right
    for k in 0 1; do
        equal "worker-$k: one process" 1 "$(events "$(log_of "$k")" header | wc -l)"
        equal "worker-$k: the last step" "$1" "$(step_of "$k")"
        says "worker-$k: its run file has them" "$RUN/worker-$k/run.yaml" "^  steps: $1$"
    done
    equal "the run's last step" "$1" "$(events "$OUTER_LOG" commit .run_step | sort -n | tail -n 1)"
    run_command 20 report "$ATOLL" report "$RUN" -o "$WORK/report" --json
    equal "the report: steps, a final loss" "$1 $1 true" "$(jq -r '.runs[0] | .steps, .planned_steps, .loss_final' "$WORK/report.out" | xargs)"
}

# With more steps, and other evaluations, while the workers are in the middle of theirs.
more_steps() {
    begin 2 inner.steps=120
    worker 0
    worker 1
    wait_for_version 3
    outer_dies
    outer_again --set inner.steps=200 --set eval.every_steps=60 --set eval.windows=7
    has_continued 200
    equal "evaluated as the outer wants it now" "180 7" \
        "$(events "$(log_of 0)" eval 'select(.final | not) | "\(.step) \(.windows)"' | tail -n 1 | tr -d '"')$(events "$(log_of 1)" eval 'select(.final | not) | "\(.step) \(.windows)"' | tail -n 1 | tr -d '"')"
}

# When they are at the end already, with their last sends in flight.
more_steps_at_the_end() {
    local k
    begin 2 inner.steps=120 sync.overlap_steps=auto sync.drift=100000
    worker 0
    worker 1
    wait_for_version 3
    outer_dies
    for k in 0 1; do wait_for 20 "worker-$k to be at its last step" step_is_above "$k" 119; done
    sleep 1 # longer than a step: the last sends are out
    outer_again --set inner.steps=200
    has_continued 200
}

# ---- what people see ----

# It has lost all but its keys, and the run tells it what it had counted: that is no work of now.
rate() {
    local before
    rate_now() { run_status '.workers[] | select(.node == "worker-0") | .tokens_per_s'; }
    begin 2 inner.steps=400
    worker 0
    worker 1
    wait_for_version 20
    die 0
    before=$(rate_now)
    rm -r "$RUN/worker-0/checkpoint" "$RUN/worker-0/log.jsonl"
    worker 0
    reports_again() { [ "$(rate_now)" != "$before" ]; }
    wait_for 20 "worker-0 to report" reports_again
    holds "tokens/s: 64 in 25 ms at most" "$(rate_now) < 2 * 64 / 0.025"
    ends_right
}

# ---- memory ----

memory() {
    begin 2 inner.steps=640
    worker 1
    refused "no room at all" 71 "^atoll worker: a limit of this shell allows 204 MB of address space \(ulimit -v\), OpenBLAS needs .* for [0-9]+ threads" tight \
        bash -c "ulimit -v 200000; exec \"\$@\"" tight "$ATOLL" worker --join "$TOKEN" --dir "$RUN/worker-0"
    worker 0
    wait_for_version 3
    die 0
    wait_for_version 13
    worker 0 ATOLL_FAILPOINT=worker.download.memory=ENOMEM@2
    wait_exit "${WORKER_PIDS[0]}" 20 worker-0
    equal "no room for a snapshot: exit code" 71 "$EXIT_CODE"
    says "no room for a snapshot: said" "${ERR[0]}" "^atoll worker: no memory for the [0-9]+ bytes of a (commit|snapshot) of fragment [0-9], version [0-9]+"
    worker 0
    counts_again 0 2 15
    ends_right
}

if [ $# -gt 2 ]; then
    calm_run
    side_by_side "${@:3}"
    test_end
    exit
fi
calm_run
side_by_side unlisted more_steps more_steps_at_the_end rate unreached
side_by_side snapshot torn torn_all lives stop_short upload held held_old copied
side_by_side moved come_and_go all_gone enrolling clock text own cut shard selftest flipped flipping wrong_steps memory
test_end
