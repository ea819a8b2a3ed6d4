#!/usr/bin/env bash
# faults_outer.sh ATOLL: what befalls the outer: stopped for a while, killed at every named place, told to stop, its disk lost, put back from
# an old copy, full, in error or damaged, its address changed, a second one started. The run goes on and ends with one state everywhere; where
# nothing was lost, with the very state of a run that was left alone. Supervised restarts: restart.sh. All workers gone: faults_worker.sh.
source "$(dirname "$0")/lib.sh"
test_begin faults_outer "$@"
source "$(dirname "$0")/faults_worker_lib.sh"
at_cleanup() {
    local place
    awk -v work="$WORK/" 'index($2, work) == 1 { print $2 }' /proc/mounts | while read -r place; do umount -l "$place"; done
}

# ---- an outer, started again and again on one directory ----

# outer [VARIABLE=VALUE...] [OPTION...]: of the run of `begin`. $OUTER_ERR is what this process says.
outer() {
    local variables=()
    while [[ ${1:-} == [A-Z]*=* ]]; do
        variables+=("$1")
        shift
    done
    OUTER_LIFE=$((${OUTER_LIFE:-0} + 1))
    OUTER_ERR=$WORK/outer.$OUTER_LIFE.err
    start "outer.$OUTER_LIFE" env "${variables[@]}" "$ATOLL" outer "$CORPUS/run.yaml" --dir "$RUN/outer" \
        --listen "${LISTEN:-127.0.0.1:0}" "${OUTER_SETTINGS[@]}" "$@"
    OUTER_PID=$PID
}
# begin WORKERS [KEY=VALUE...] [-- what `outer` takes]: the first of them.
begin() {
    OUTER_SETTINGS=(--set "workers=$1")
    shift
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        OUTER_SETTINGS+=(--set "$1")
        shift
    done
    RUN=$WORK/run OUTER_LOG=$WORK/run/outer/log.jsonl TOKEN=$WORK/run/outer/join.token OUTER_LIFE=0
    outer "${@:2}"
    wait_for 20 "the join token" test -s "$TOKEN"
}
outer_dies() {
    kill -KILL "$OUTER_PID"
    wait_exit "$OUTER_PID" 5 "the outer"
}
# outer_is_killed POINT: by its failpoint.
outer_is_killed() {
    wait_exit "$OUTER_PID" 30 "the outer"
    equal "$1: killed" 137 "$EXIT_CODE"
    says "$1: it died there" "$OUTER_ERR" "^failpoint $1: kill"
}
outer_says() { # PATTERN
    grep -qEi -- "$1" "$OUTER_ERR"
}
leads_again() { # SECONDS
    wait_for "$1" "the outer to lead" outer_says "this outer leads in epoch"
}
# How many epochs were led, each above the one before; "" when one is not.
epochs_rise() {
    events "$OUTER_LOG" lead .epoch | jq -s 'if . == unique then length else empty end'
}
version_now() { # the lowest
    run_status '[.fragments[].version] | min'
}
goes_on() { # VERSIONS SECONDS: or to the end of the run, when that is nearer
    wait_for "$2" "$1 versions more" is_further $(($(version_now || echo 0) + $1))
}
is_further() { # VERSION
    version_reached "$1" || has_event "$OUTER_LOG" end
}
# Ports of its own choice are in the token that a lost disk held.
some_address() {
    echo "127.0.0.1:$((20000 + RANDOM % 12000))"
}
control_port() {
    sed -n 's/.* ports \([0-9]*\) and [0-9]*$/\1/p' "$WORK/outer.1.err"
}

# A lost disk: all but what PATHS name, and but the log, which the checks below want whole. With a backup: that in its place.
lose_disk() { # BACKUP or -, PATH...
    local path
    mv "$RUN/outer" "$WORK/lost"
    if [ "$1" = - ]; then mkdir "$RUN/outer"; else cp -r "$1" "$RUN/outer"; fi
    for path in "${@:2}" log.jsonl; do
        mkdir -p "$(dirname "$RUN/outer/$path")"
        cp -r "$WORK/lost/$path" "$RUN/outer/$path"
    done
    rm -rf "$WORK/lost"
}
# Versions that nobody but the lost disk held were made again: the log keeps the later one. Sets FORGOTTEN.
forget_lost() {
    local before
    before=$(wc -l <"$OUTER_LOG")
    jq -nR '[inputs | fromjson? | select(. != null)] | (reduce to_entries[] as $e ({}; if $e.value.event == "commit" then .["\($e.value.fragment) \($e.value.version)"] = $e.key else . end)) as $last
        | to_entries[] | select(.value.event != "commit" or $last["\(.value.fragment) \(.value.version)"] == .key) | .value | tojson' -r "$OUTER_LOG" >"$WORK/kept.jsonl"
    mv "$WORK/kept.jsonl" "$OUTER_LOG"
    FORGOTTEN=$((before - $(wc -l <"$OUTER_LOG")))
    say "made again: $FORGOTTEN versions"
}
# is_right: what a run that has ended must have come to.
is_right() {
    local log
    check "ledger adds up" ledger_adds_up "$OUTER_LOG"
    check "versions rise by one; each state that a worker took is the outer's" states_agree "$RUN"
    counters_agree
    for log in "$RUN"/worker-*/log.jsonl; do
        [ -z "$(final_hash "$log")" ] || equal "$(basename "$(dirname "$log")") ends with the run's state" "$(final_hash "$OUTER_LOG")" "$(final_hash "$log")"
    done
    equal "no outer saw another state" "" "$(grep -i 'differs' "$WORK"/outer*.err || true)"
}
ends() {
    end_of_run 60
    is_right
}
ends_calm() {
    ends
    equal "the state is that of the undisturbed run" "$CALM" "$(final_hash "$OUTER_LOG")"
}
# A kill between disk and log takes a commit's line: that of the undisturbed run stands for it.
lines_missing() {
    events "$OUTER_LOG" commit '[.fragment, .version]' | jq -s 'group_by(.[0]) | map((map(.[1]) | max) - length) | add'
}
lines_from() { # CALM_LOG
    jq -cR 'fromjson? | select(.event != "commit")' "$OUTER_LOG" >"$WORK/kept.jsonl"
    jq -cnR --slurpfile calm "$1" '[inputs | fromjson? | select(.event == "commit")] as $mine | ($mine | map({key: "\(.fragment) \(.version)", value: 1}) | from_entries) as $there
        | $mine + [$calm[] | select(.event == "commit" and $there["\(.fragment) \(.version)"] == null)] | sort_by([.fragment, .version])[]' "$OUTER_LOG" >>"$WORK/kept.jsonl"
    mv "$WORK/kept.jsonl" "$OUTER_LOG"
}
no_version_twice() {
    equal "no outer step is applied twice" "" "$(events "$OUTER_LOG" commit '[.fragment, .version]' | sort | uniq -d)"
}
loss_is_close() {
    holds "the loss is that of the undisturbed run, nearly" \
        "$(events "$OUTER_LOG" end .eval_loss) < 1.05 * $(events "$CALM_LOG" end .eval_loss)"
}

# ---- SIGSTOP ----

stopped() {
    begin 3 inner.steps=240
    worker 0
    worker 1
    worker 2
    wait_for_version 2
    kill -STOP "$OUTER_PID"
    sleep 3
    kill -CONT "$OUTER_PID"
    wait_for 10 "the outer to see it" outer_says "this process stood still for [3-9]"
    goes_on 1 20
    equal "3 s: nobody was missed" "0 0 0" "$(times_left 0) $(times_left 1) $(times_left 2)"
    # The second time in a round that waits for worker-2.
    kill -STOP "${WORKER_PIDS[2]}"
    a_round_waits() { run_status 'any(.fragments[]; .open)' && sleep 0.5 && run_status 'any(.fragments[]; .open)'; }
    wait_for 5 "a round to wait" a_round_waits
    kill -STOP "$OUTER_PID"
    kill -CONT "${WORKER_PIDS[2]}"
    sleep 15 # the fault itself
    kill -CONT "$OUTER_PID"
    wait_for 10 "the outer to see it" outer_says "this process stood still for 1[0-9]"
    # Who waited in vain for 10 s has dialled again; no round was closed without it: the state is the undisturbed run's.
    equal "15 s: nobody is declared dead" "" "$(events "$OUTER_LOG" leave .reason | grep -E 'no answer|silent' || true)"
    end_of_run 60
    equal "15 s: every round counts all" 3 "$(events "$OUTER_LOG" commit '.counted | length' | sort -u)"
    is_right
    equal "the state is that of the undisturbed run" "$CALM_OF_THREE" "$(final_hash "$OUTER_LOG")"
    no_version_twice
}

# ---- kill -9 ----

# At every durable step of a commit, on one directory; strict, so that the undisturbed run's state tells whether a step was lost or done twice.
kills() {
    local point
    begin 3 inner.steps=240 -- ATOLL_FAILPOINT=outer.start.said=kill
    worker 0
    worker 1
    worker 2
    outer_is_killed outer.start.said
    for point in outer.commit.write outer.commit.fsync outer.commit.rename outer.commit.sync_names outer.commit.logged outer.commit.publish; do
        outer "ATOLL_FAILPOINT=$point=kill@2"
        outer_is_killed "$point"
    done
    outer
    end_of_run 60
    equal "two were killed between disk and log line" 2 "$(lines_missing)"
    lines_from "$WORK/../calm-3/outer/log.jsonl"
    is_right
    equal "the state is that of the undisturbed run" "$CALM_OF_THREE" "$(final_hash "$OUTER_LOG")"
    no_version_twice
    equal "an epoch each" 8 "$(epochs_rise)"
    equal "nothing was set aside" "" "$(find "$RUN/outer/commits" -name 'bad.*' -o -name '*.tmp')"
}

# Told to stop, as by a reboot of its machine: it leaves its model, the workers stay and dial. Where is not said again.
told() {
    local k
    begin 2 -- --advertise localhost
    worker 0
    worker 1
    wait_for_version 3
    kill -TERM "$OUTER_PID"
    wait_exit "$OUTER_PID" 20 "the outer"
    equal "told to stop: exit code" 0 "$EXIT_CODE"
    equal "told to stop: logged" '"stopped"' "$(events "$OUTER_LOG" end .reason)"
    check "told to stop: it leaves its model" test -s "$RUN/outer/model/model.safetensors"
    for k in 0 1; do
        wait_for 10 "worker-$k to dial" grep -q "the link to the outer is lost; training goes on, reconnecting" "${ERR[$k]}"
        gone "${WORKER_PIDS[$k]}" && fail "worker-$k left as well: $(tail -n 1 "${ERR[$k]}")"
    done
    outer
    end_of_run 60
    lines_from "$CALM_LOG" # this stop may have come between disk and log line
    is_right
    equal "the state is that of the undisturbed run" "$CALM" "$(final_hash "$OUTER_LOG")"
    no_version_twice
    says "it is dialled where it was" "$OUTER_ERR" "workers will dial localhost, as an earlier start was told; --advertise HOST changes that"
}

# Around the epoch and START: each is on the disk before anybody hears of it.
kills_lead() {
    local point first second
    on_disk() { jq -c "$1" "$RUN/outer/outer.json"; }
    begin 2 -- ATOLL_FAILPOINT=outer.epoch.raise=kill
    outer_is_killed outer.epoch.raise
    outer ATOLL_FAILPOINT=outer.start.written=kill
    worker 0
    worker 1
    outer_is_killed outer.start.written
    equal "START is on the disk" true "$(on_disk .started)"
    first=$(on_disk .epoch)
    for point in outer.epoch.raise outer.epoch.raised; do
        outer "ATOLL_FAILPOINT=$point=kill"
        outer_is_killed "$point"
    done
    second=$(on_disk .epoch)
    holds "the epoch is on the disk" "$second > $first"
    outer
    goes_on 2 20
    outer_dies
    outer ATOLL_FAILPOINT=outer.epoch.raised=kill
    outer_is_killed outer.epoch.raised
    holds "the next one, too" "$(on_disk .epoch) > $second + 1"
    outer
    ends_calm
    no_version_twice
    equal "no epoch is led twice" 3 "$(epochs_rise)"
}

# begins POINT: from the first start on, an outer dies at the first hit, the next at the second, and so on: keys, tokens, run file, outer.json
# (epoch, START, members).
begins() {
    local n=0 workers=
    RUN=$WORK/run OUTER_LOG=$WORK/run/outer/log.jsonl TOKEN=$WORK/run/outer/join.token OUTER_LIFE=0 OUTER_SETTINGS=()
    mkdir "$RUN"
    under_way() { gone "$OUTER_PID" || version_reached 1; }
    while true; do
        n=$((n + 1))
        outer "ATOLL_FAILPOINT=$1=kill@$n"
        if [ ! "$workers" ]; then
            token_or_gone() { gone "$OUTER_PID" || [ -s "$TOKEN" ]; }
            wait_for 20 "a token or the end" token_or_gone
            if [ -s "$TOKEN" ]; then
                worker 0
                worker 1
                workers=there
            fi
        fi
        wait_for 40 "a first round or the end" under_way
        gone "$OUTER_PID" || break
        says "$1, life $n: it died there" "$OUTER_ERR" "^failpoint $1: kill"
    done
    holds "it died again and again" "$n > 5"
    outer_dies
    outer
    end_of_run 60
    lines_from "$CALM_LOG" # this kill may have come between disk and log line
    is_right
    equal "the state is that of the undisturbed run" "$CALM" "$(final_hash "$OUTER_LOG")"
    no_version_twice
}
begins_rename() {
    begins files.rename
}
begins_write() {
    begins files.write
}

# ---- the disk is lost, or old ----

all_known_again() {
    [ "$(grep -c "is known again by its certificate" "$OUTER_ERR")" -ge 3 ]
}

# Its key only. It knows its workers by their certificates, and takes the run from them; the newest version, which nobody heard of, is made again.
empty() {
    local LISTEN
    LISTEN=$(some_address)
    begin 3 inner.steps=240 -- ATOLL_FAILPOINT=outer.commit.publish=kill@13
    worker 0
    worker 1
    worker 2
    outer_is_killed outer.commit.publish
    lose_disk - keys/seed
    outer
    goes_on 2 30
    wait_for 20 "each worker by its certificate" all_known_again
    equal "it knows each worker by its certificate" 3 "$(grep -c "is known again by its certificate" "$OUTER_ERR")"
    says "said" "$OUTER_ERR" "fragment [0-9], or|fragment [0-9]: version [0-9]+ taken over from worker"
    equal "logged" '"empty"' "$(events "$OUTER_LOG" recover 'select(.what == "outer start") | .from' | tail -n 1)"
    equal "a new epoch" 2 "$(epochs_rise)"
    end_of_run 60
    equal "nobody was missed" "0 0 0" "$(for k in 0 1 2; do events "$OUTER_LOG" leave 'select(.reason | test("no answer"))' | wc -l; done | xargs)"
    forget_lost
    holds "what nobody held is made again" "$FORGOTTEN >= 1"
    is_right
    loss_is_close
}

# copy_live DIR COPY: of a directory that an outer writes in; a file that it renames meanwhile is not there under its old name.
copy_live() {
    cp -r "$1" "$2" 2>"$WORK/copy.err" || ! grep -v "\.tmp': No such file" "$WORK/copy.err"
}

# A copy from before START: the members bear what it does not know of.
before_start() {
    local LISTEN
    LISTEN=$(some_address)
    begin 2 inner.steps=240
    check "nothing but keys and outer.json" test ! -e "$RUN/outer/commits/f000-v000000001"
    copy_live "$RUN/outer" "$WORK/backup"
    worker 0
    worker 1
    wait_for_version 3
    outer_dies
    lose_disk "$WORK/backup"
    outer
    goes_on 2 40
    says "it takes over what they hold" "$OUTER_ERR" "fragment 0: version [0-9]+ taken over from worker worker-[01]"
    end_of_run 60
    forget_lost
    is_right
    loss_is_close
}

# A model that was trained stays where it is until this outer leads and has something better. On the way: a directory is an outer's or a
# worker's; and each start prints the same token.
untrained() {
    local model=$WORK/run/outer/model/model.safetensors before
    RUN=$WORK/run OUTER_LOG=$WORK/run/outer/log.jsonl TOKEN=$WORK/run/outer/join.token OUTER_LIFE=0 OUTER_SETTINGS=(--set inner.min_step_time=0ms)
    cp -r "$WORK/../calm" "$RUN"
    all_of() { find "$RUN/worker-0" -type f -exec sha256sum {} + | sort; }
    before=$(all_of)
    refused "a worker's directory" 78 "worker-0 is a worker's directory .*, not an outer's: choose another --dir" of_worker \
        "$ATOLL" outer "$CORPUS/run.yaml" --dir "$RUN/worker-0" --listen 127.0.0.1:0
    equal "nothing is touched there" "$before" "$(all_of)"
    refused "an outer's directory" 78 "run/outer is an outer's directory .*, not a worker's: choose another --dir" of_outer \
        "$ATOLL" worker --join "$RUN/outer/join.token" --dir "$RUN/outer"
    rm -r "$RUN/outer/commits" "$RUN/outer/outer.json"
    before=$(sha256sum <"$model")
    for _ in 1 2 3; do
        outer
        wait_for 20 "it to say why it waits" outer_says "not leading yet: this outer has led before, but its state is gone"
        kill -TERM "$OUTER_PID"
        wait_exit "$OUTER_PID" 20 "the outer"
        equal "told to stop: exit code" 0 "$EXIT_CODE"
        says "it says that it wrote nothing" "$OUTER_ERR" "0 commits, .* nothing written to .*run/outer/model"
    done
    rm -r "$RUN"/worker-*/checkpoint # nobody has the state any more
    outer
    worker 0
    worker 1
    wait_exit "$OUTER_PID" 30 "the outer"
    equal "begins nothing new over it: exit code" 78 "$EXIT_CODE"
    says "it says why" "$OUTER_ERR" "run/outer/model holds a trained model of this run, but neither .* has its state any more"
    equal "the trained model is still there" "$before" "$(sha256sum <"$model")"
    equal "one join line" 1 "$(cat "$WORK"/outer.*.out | sort -u | wc -l)"
}

# The records can be read at the start, and not a second time: the run goes on, and who needs a whole fragment gets it.
reread() {
    local reads
    begin 2 inner.steps=240 checkpoint.full_every=1
    worker 0
    worker 1
    wait_for_version 3
    reads=$(run_status '.fragments | length') # the newest of each
    outer_dies
    kill -KILL "${WORKER_PIDS[1]}"
    wait_exit "${WORKER_PIDS[1]}" 5 worker-1
    rm -r "$RUN/worker-1/checkpoint"
    outer "ATOLL_FAILPOINT=outer.commit.read=EIO@$((reads + 1))+"
    says_later() { outer_says "version [0-9]+ of fragment 0 cannot be replayed: cannot open .*: Input/output error"; }
    wait_for 10 "it to say so" says_later
    worker 1
    goes_on 2 40
    check "worker-1 fetched whole fragments" has_event "$(log_of 1)" recover 'select(.what == "snapshot")'
    end_of_run 60
    is_right
}

# The list of its workers is lost with the rest, and one of them is away: a newcomer does not get its slot. One that hangs up before it is let in
# gets none.
newcomer() {
    local LISTEN
    LISTEN=$(some_address)
    begin 2 inner.steps=400 sync.overlap_steps=auto sync.quorum=50% sync.min_workers=1
    worker 0
    wait_for 10 "worker-0 to be ready" outer_says "worker worker-0 .* is ready"
    worker 1
    wait_for_version 3
    die 0
    goes_on 2 20
    outer_dies
    lose_disk - keys/seed
    outer
    wait_for 20 "the token" test -s "$TOKEN"
    worker 3
    wait_for 10 "worker-3 to be heard" outer_says "newcomer worker-3 waits: this outer hears first who comes back to its run"
    kill -KILL "${WORKER_PIDS[3]}"
    unset "WORKER_PIDS[3]"
    worker 2
    wait_for 20 "the member" outer_says "worker worker-1 .* is known again by its certificate"
    wait_for 60 "the newcomer" outer_says "worker worker-2 .slot [0-9]+. is ready"
    says "the slot of who hung up is left to it" "$OUTER_ERR" "worker worker-2 .slot 2. is ready"
    equal "and its use of the token" 1 "$("$ATOLL" token list "$RUN" --json | jq '.tokens[0].used')"
    says "who hung up is not let in" "$OUTER_ERR" "newcomer worker-3 hung up before it was let in"
    leads_again 60
    worker 0 # by its certificate
    counts_again 0 2 40
    equal "its slot is its own" "0" "$(events "$OUTER_LOG" join 'select(.node == "worker-0") | .slot' | sort -u)"
    end_of_run 90
    forget_lost
    is_right
}

# A copy of its directory from an hour ago.
backup() {
    begin 2 inner.steps=240
    worker 0
    worker 1
    wait_for_version 2
    copy_live "$RUN/outer" "$WORK/backup"
    wait_for_version 6
    outer_dies
    lose_disk "$WORK/backup"
    outer
    goes_on 2 30
    says "said" "$OUTER_ERR" "taking over fragment [0-9] from worker worker-[01], which holds a newer version than this outer"
    says "said" "$OUTER_ERR" "fragment [0-9]: version [0-9]+ taken over from worker worker-[01]"
    holds "from where the workers were" "$(events "$OUTER_LOG" recover 'select(.what == "taken over") | .version' | jq -s min) >= 5"
    end_of_run 60
    forget_lost
    is_right
    loss_is_close
}

# fork [PASSED]: the same, while the one who holds what came later is away: the run forks; who comes back with the lost branch takes up the other
# one. PASSED: which by then has other commits of the same numbers.
fork() {
    local lost
    begin 2 inner.steps=480
    worker 0
    worker 1
    wait_for_version 3
    die 0
    copy_live "$RUN/outer" "$WORK/backup"
    sleep 0.2
    cp "$OUTER_LOG" "$WORK/backup" # a line for each record at least
    goes_on 5 20
    lost=$(version_now)
    outer_dies
    kill -KILL "${WORKER_PIDS[1]}"
    wait_exit "${WORKER_PIDS[1]}" 5 worker-1
    rm -rf "$RUN/outer"
    cp -r "$WORK/backup" "$RUN/outer"
    outer
    worker 0
    counts_again 0 2 30
    holds "it goes on from before" "$(jq -nR '[inputs | fromjson?] as $all
        | ([$all | to_entries[] | select(.value.event == "lead")] | last.key) as $led
        | [$all[$led:][] | select(.event == "commit") | .version] | first' "$OUTER_LOG") < $lost"
    [ $# = 0 ] || wait_for 20 "the run to pass what was lost" version_reached $((lost + 2))
    worker 1
    counts_again 1 2 30
    check "worker-1 fetched whole what the run has instead" has_event "$(log_of 1)" recover 'select(.what == "snapshot")'
    says "the outer says that worker-1's branch is lost" "$OUTER_ERR" "worker worker-1 bears version [0-9]+ of fragment 0, which is of a branch that this run lost: it takes up version [0-9]+"
    if [ $# = 0 ]; then
        wait_for 10 "worker-1's checkpoints to be set aside" has_event "$(log_of 1)" recover 'select(.what == "set aside" and .step < .from_step)'
        says "worker-1 keeps what only it had" "${ERR[1]}" "the run went back from step [0-9]+ to step [0-9]+; what this worker had is kept in .*/worker-1/checkpoint-lost-[0-9]+\\. To go on from it instead: stop"
        check "there it is" test -s "$(find "$RUN"/worker-1/checkpoint-lost-*/* -name manifest.json | head -n 1)"
    else
        equal "the run has passed it: nothing is kept" "" "$(find "$RUN/worker-1" -name 'checkpoint-lost-*')"
    fi
    [ $# != 0 ] || says "worker-1 says that its branch is lost" "${ERR[1]}" "fragment 0: version [0-9]+ here is of a branch that the run lost; taking up its version [0-9]+"
    # Of the lost branch only worker-1's own log tells.
    awk '/"event":"header"/ { kept = "" } { kept = kept $0 "\n" } END { printf "%s", kept }' "$(log_of 1)" >"$WORK/kept.jsonl"
    mv "$WORK/kept.jsonl" "$(log_of 1)"
    end_of_run 60
    forget_lost
    is_right
}

fork_passed() {
    fork passed
}

# A flipped byte and a cut record: set aside, the workers bring back what was in them.
damaged() {
    local flipped cut
    begin 2 inner.steps=240
    worker 0
    worker 1
    wait_for_version 4
    newest() { find "$RUN/outer/commits" -name "f00$1-v*" | sort | tail -n 1; }
    # A worker has what the outer will lose: a commit that is on the disk alone would be lost with it, rightly.
    a_worker_has() {
        local version=$((10#$(newest "$1" | sed 's/.*-v//')))
        [ "$(cat "$RUN"/worker-[01]/log.jsonl | jq -nR "[inputs | fromjson? | select(.event == \"commit\" and .fragment == $1 and .version == $version)] | length")" -gt 0 ]
    }
    for _ in $(seq 40); do
        kill -STOP "$OUTER_PID"
        sleep 0.2
        a_worker_has 0 && a_worker_has 1 && break
        kill -CONT "$OUTER_PID"
        sleep 0.1
    done
    check "a worker has the newest of both" eval "a_worker_has 0 && a_worker_has 1"
    outer_dies
    flipped=$(newest 0)
    cut=$(newest 1)
    printf '\377\377\377\377' | dd of="$flipped" bs=1 seek=$(($(stat -c %s "$flipped") / 2)) conv=notrunc status=none
    truncate -s -9 "$cut"
    kill -STOP "${WORKER_PIDS[1]}"
    outer
    wait_for 10 "worker-0" outer_says "worker worker-0 .* is ready"
    sleep 5 # an outer whose disk is whole leads 3 s after the first that comes
    equal "who may bear what is lost is waited for" 1 "$(epochs_rise)"
    kill -CONT "${WORKER_PIDS[1]}"
    goes_on 2 30
    says "flipped: said" "$OUTER_ERR" "fragment 0 is restored to version [0-9]+ of [0-9]+: .*(checksum|damaged).*Set aside as bad.NAME: 1 records. A worker that holds a newer version brings it back"
    says "cut: said" "$OUTER_ERR" "fragment 1 is restored to version [0-9]+ of [0-9]+: .*Set aside as bad.NAME: 1 records"
    check "kept to be looked at" test -s "$(dirname "$cut")/bad.$(basename "$cut")"
    says "taken over" "$OUTER_ERR" "fragment 0: version [0-9]+ taken over from worker"
    says "taken over" "$OUTER_ERR" "fragment 1: version [0-9]+ taken over from worker"
    end_of_run 60
    forget_lost
    is_right
    loss_is_close
}

# ---- --new and --force ----

# One of three is here: without --force that is not enough to go on from, not even when it was asked twice.
force() {
    local LISTEN
    LISTEN=$(some_address)
    begin 3 inner.steps=240
    worker 0
    worker 1
    worker 2
    wait_for_version 2
    outer_dies
    kill -KILL "${WORKER_PIDS[1]}" "${WORKER_PIDS[2]}"
    lose_disk - keys/seed
    outer
    wait_for 20 "worker-0's state" outer_says "version [0-9]+ taken over from worker worker-0"
    outer_dies
    outer # it has what it took over
    wait_for 25 "it to say whom it waits for" outer_says "not leading yet: waiting for the workers that were in the run: that of slot [0-9], that of slot [0-9]; it waits, for as long as it takes, until 1 more of them is here. If they are gone for good, start it again with --force: it leads from what is here; what only they hold is lost\$"
    equal "it does not lead" 1 "$(epochs_rise)"
    outer_dies
    outer --force
    leads_again 50
    wait_exit "${WORKER_PIDS[1]}" 5 worker-1
    wait_exit "${WORKER_PIDS[2]}" 5 worker-2
    worker 1
    worker 2
    goes_on 2 30
    end_of_run 60
    forget_lost
    is_right
}

# --new is for a key without its state; with it, or when workers bring that state, it is refused.
new_run() {
    local LISTEN
    LISTEN=$(some_address)
    begin 2 inner.steps=240
    worker 0
    worker 1
    wait_for_version 2
    outer_dies
    refused "--new with the state" 78 "--new: .*run/outer holds a run with [0-9]+ commits; choose another --dir for a new run, or leave --new out to go on with this one" \
        new "$ATOLL" outer "$CORPUS/run.yaml" --dir "$RUN/outer" --listen "$LISTEN" "${OUTER_SETTINGS[@]}" --new
    cp -r "$RUN/outer" "$WORK/kept"
    lose_disk - keys/seed
    outer --new
    leads_again 20
    wait_exit "${WORKER_PIDS[0]}" 20 worker-0
    equal "a worker that bears the old state does not give it up: exit code" 78 "$EXIT_CODE"
    says "it says so" "${ERR[0]}" "the run stands at its beginning, this worker bears version [0-9]+ of fragment [0-9], which is not given up for it: start the outer with its own state, or this worker with another --dir"
    wait_exit "${WORKER_PIDS[1]}" 20 worker-1
    outer_dies
    rm -rf "$RUN/outer"
    cp -r "$WORK/kept" "$RUN/outer"
    outer
    worker 0
    worker 1
    ends
}

# ---- where it is, and how often ----

# It comes back at the other address of two that the workers know.
address() {
    local port
    port=$((20000 + RANDOM % 12000))
    begin 2 -- --advertise 127.0.0.1 --advertise "127.0.0.2:$port"
    worker 0
    worker 1
    wait_for_version 3
    outer_dies
    cp -r "$RUN/outer" "$WORK/moved"
    rm -rf "$RUN/outer"
    mv "$WORK/moved" "$RUN/outer"
    LISTEN=127.0.0.2:$port outer --advertise 127.0.0.2 --advertise "127.0.0.1:$(control_port)"
    goes_on 2 30
    ends_calm
    no_version_twice
}

# Moved on its own directory, and nobody said what to dial: its token tells where it is now.
moved() {
    begin 1
    kill -TERM "$OUTER_PID"
    wait_exit "$OUTER_PID" 20 "the outer"
    LISTEN=127.0.0.2:$((20000 + RANDOM % 12000)) outer
    wait_for 20 "its token" test -s "$WORK/outer.2.out"
    worker 0
    ends
}

# A second one on the directory is refused. One on a copy of it, at an address that the workers know, does no harm while the first lives: nobody
# comes, so it does not lead; and when the first is gone, it takes over what came later.
two() {
    local port pid copy copy_err
    port=$((20000 + RANDOM % 12000))
    begin 2 inner.steps=320 -- --advertise 127.0.0.1 --advertise "127.0.0.2:$port"
    worker 0
    worker 1
    wait_for_version 2
    pid=$OUTER_PID
    refused "a second outer" 75 "run/outer is in use by process $pid" second \
        "$ATOLL" outer "$CORPUS/run.yaml" --dir "$RUN/outer" --listen 127.0.0.1:0 "${OUTER_SETTINGS[@]}"
    copy_live "$RUN/outer" "$WORK/copy"
    refused "a copy at the same port" 74 "in use" same \
        "$ATOLL" outer "$CORPUS/run.yaml" --dir "$WORK/copy" --listen "127.0.0.1:$(control_port)" "${OUTER_SETTINGS[@]}"
    start beside "$ATOLL" outer "$CORPUS/run.yaml" --dir "$WORK/copy" --listen 127.0.0.1:0 "${OUTER_SETTINGS[@]}"
    wait_for 20 "a copy at any port" grep -q "in use.*; that was the port of the last start .*, this one takes another" "$WORK/beside.err"
    kill -KILL "$PID"
    wait_exit "$PID" 5 "the copy at any port"
    start copy "$ATOLL" outer "$CORPUS/run.yaml" --dir "$WORK/copy" --listen "127.0.0.2:$port" "${OUTER_SETTINGS[@]}"
    copy=$PID copy_err=$WORK/copy.err
    goes_on 4 30
    sleep 1
    goes_on 1 10
    equal "the copy does not lead" "" "$(grep "leads in epoch" "$copy_err" || true)"
    equal "the workers stayed" "0 0" "$(times_left 0) $(times_left 1)"
    outer_dies
    # From here on the copy is the run's outer.
    cp "$OUTER_LOG" "$WORK/first.jsonl"
    wait_for 30 "the copy to lead" grep -q "leads in epoch" "$copy_err"
    says "it takes over what came later" "$copy_err" "version [0-9]+ taken over from worker"
    OUTER_PID=$copy
    end_of_run 60
    awk 'FNR == 1 { file++ } file == 1 || after { print } file == 2 && /"event":"header"/ && ++headers == 2 { after = 1; print }' \
        "$WORK/first.jsonl" "$WORK/copy/log.jsonl" >"$OUTER_LOG"
    forget_lost
    is_right
}

# ---- its disk fails ----

# Each step of a commit fails once: the round waits and is logged later. Nothing is lost, nothing done twice.
errors() {
    local point
    begin 2 -- ATOLL_FAILPOINT=outer.commit.write=EIO@3,outer.commit.fsync=EIO@5,outer.commit.rename=EIO@7,outer.commit.sync_names=EIO@9
    worker 0
    worker 1
    wait_for_version 6
    for point in write fsync rename sync_names; do
        equal "$point failed once" 1 "$(grep -c "^failpoint outer.commit.$point: " "$OUTER_ERR")"
    done
    equal "each is said" 4 "$(grep -c "Input/output error: version [0-9]* of fragment [0-9]* is not logged and was not sent; .*: make room or mend the disk; the round waits, training goes on" "$OUTER_ERR")"
    outer_dies
    outer ATOLL_FAILPOINT=outer.commit.write=short@2,outer.commit.write=kill@5,files.fsync=EIO@99
    outer_is_killed outer.commit.write # two commits after the short one: the next outer reads what that write left
    says "a write was short" "$OUTER_ERR" "^failpoint outer.commit.write: short"
    outer
    ends_calm
    no_version_twice
    equal "nothing half made is left" "" "$(find "$RUN/outer/commits" -name 'bad.*' -o -name '*.tmp')"
}

# Too little memory: for the commits that are kept, it is said at the start; for what a worker sends, that worker's link is closed, it comes back
# and sends anew, and the outer stays.
memory() {
    refused "no memory for commits" 71 "^atoll outer: no memory for the newest [0-9]+ commits of fragment 0, [0-9]+ bytes each \\(.atoll check. says what an outer needs\\)" \
        no_room env ATOLL_FAILPOINT=outer.payload.memory=ENOMEM "$ATOLL" outer "$CORPUS/run.yaml" --dir "$WORK/no_room" --listen 127.0.0.1:0
    begin 2 -- ATOLL_FAILPOINT=outer.upload.memory=ENOMEM@4
    worker 0
    worker 1
    wait_for 30 "a contribution without room" outer_says "left: the outer has no memory for its contribution"
    ends
    equal "one of them was sent away, once" 1 "$(($(times_left 0) + $(times_left 1)))"
}

# A real small disk that fills up, and is freed.
full() {
    local disk=$WORK/disk step version
    mkdir "$disk"
    if ! mount -t tmpfs -o size=8m none "$disk" 2>/dev/null; then
        say "LEFT OUT: no right to mount a tmpfs; run it as root"
        return
    fi
    mkdir "$WORK/run" "$disk/outer"
    ln -s "$disk/outer" "$WORK/run/outer"
    begin 2 inner.steps=320 sync.overlap_steps=auto sync.drift=30
    worker 0
    worker 1
    wait_for_version 3
    dd if=/dev/zero of="$disk/filler" bs=4k status=none 2>/dev/null || true
    wait_for 20 "a commit that finds no room" outer_says "No space left on device: version [0-9]+ of fragment [0-9] is not logged and was not sent; a record takes [0-9]+ bytes there: make room or mend the disk; the round waits, training goes on"
    version=$(run_status '[.fragments[].version]')
    step=$(run_status '[.workers[].step] | min')
    wait_for 10 "training to go on" run_status "[.workers[].step] | min | select(. > $step)"
    wait_for 20 "the workers to wait" run_status '[.workers[] | select(.phase == "waiting")] | length | select(. == 2)'
    equal "no round closed" "$version" "$(run_status '[.fragments[].version]')"
    rm "$disk/filler"
    goes_on 3 20
    equal "nobody was missed" "0 0" "$(times_left 0) $(times_left 1)"
    end_of_run 60
    equal "the state is everywhere" "$(final_hash "$OUTER_LOG")" "$(final_hash "$(log_of 0)")"
    is_right
}

# ---- wrong memory ----

dropped() { # versions
    events "$OUTER_LOG" recover 'select(.what == "outer differs") | .version' | wc -l
}
# A bit of g flips in the outer's memory: all workers come to another state. It drops that version, and makes it again from what its disk holds:
# the state is that of the undisturbed run. OTHERS: a failpoint in two of the workers.
wrong() {
    local slots
    begin 3 inner.steps=240 checkpoint.full_every="${1:-8}" -- "ATOLL_FAILPOINT=outer.commit.flip=EIO@${2:-9}"
    worker 0
    worker 1 ATOLL_FAILPOINT="${OTHERS:-}"
    worker 2 ATOLL_FAILPOINT="${OTHERS:-}"
    wait_for 30 "the outer to see it" has_event "$OUTER_LOG" recover 'select(.what == "outer differs")'
    end_of_run 60
    equal "one version is dropped" 1 "$(dropped)"
    slots=$(events "$OUTER_LOG" recover 'select(.what == "outer differs") | .slots | length')
    holds "most said so" "$slots >= 2"
    says "said" "$OUTER_ERR" "fragment [0-9] version [0-9]+: state hash [0-9a-f]{32} here, [0-9a-f]{32} at [23] workers, which are most: this machine's arithmetic or memory is wrong"
    equal "its record is kept aside" 1 "$(find "$RUN/outer/commits" -name 'bad.*' | wc -l)"
    equal "it led again, from its disk" '2 "fresh" "disk"' "$(epochs_rise) $(events "$OUTER_LOG" recover 'select(.what == "outer start") | .from' | xargs -n 1 printf '"%s" ' | sed 's/ $//')"
    equal "that version was made twice, and no other" 1 "$(events "$OUTER_LOG" commit '[.fragment, .version]' | sort | uniq -d | wc -l)"
    equal "no worker took the wrong one for its own fault" "" "$(grep -l '^atoll worker:' "$WORK"/worker-*.err || true)"
    [ -n "${LATE:-}" ] || is_made_again
}
fetched_whole() { # versions, of all workers
    local k
    for k in 0 1 2; do events "$(log_of "$k")" recover 'select(.what == "snapshot") | .version'; done
}
is_made_again() {
    equal "the state is that of the undisturbed run" "$CALM_OF_THREE" "$(final_hash "$OUTER_LOG")"
    equal "nothing had to be fetched whole" "" "$(fetched_whole)"
    forget_lost
    sed -i '/differs at version/d' "$WORK"/outer*.err
    is_right
}
# The wrong state is in a full record; and the first version of all, where workers hold but the seed.
wrong_full() {
    wrong 1 9
}
wrong_first() {
    wrong 8 1
}
# Two are a while behind: the third is not given the wrong state meanwhile.
wrong_slowly() {
    local OTHERS=worker.apply.flip=sleep:1s@9
    wrong
}
# They are so late that it is: what it holds then is not brought back, nor did the run ever hold it.
wrong_late() {
    local OTHERS=worker.apply.flip=sleep:5s@9 LATE=1 hash
    wrong
    hash=$(events "$OUTER_LOG" recover 'select(.what == "outer differs") | .here' | tr -d '"')
    check "it was given the wrong state" grep -q "\"what\":\"snapshot\".*$hash" "$(log_of 0)"
    says "it left that" "${ERR[0]}" "fragment [0-9]: version [0-9]+ here is of a branch that the run lost"
    equal "nobody brought it back" "" "$(events "$OUTER_LOG" recover 'select(.what == "taken over") | .version')"
    forget_lost
    equal "it is not of the run" "" "$(events "$OUTER_LOG" commit "select(.state_hash == \"$hash\") | .version")"
    jq -cR 'fromjson? | select(.event != "commit" and .what != "snapshot")' "$(log_of 0)" >"$WORK/kept.jsonl" # it went back in one process
    mv "$WORK/kept.jsonl" "$(log_of 0)"
    sed -i '/differs at version/d' "$WORK"/outer*.err
    is_right
    loss_is_close
}
# Killed right behind the drop: as if it had been restarted.
wrong_killed() {
    begin 3 inner.steps=240 -- ATOLL_FAILPOINT=outer.commit.flip=EIO@9,outer.drop.done=kill
    worker 0
    worker 1
    worker 2
    outer_is_killed outer.drop.done
    outer
    end_of_run 60
    is_made_again
}
# The memory of a fragment flips after its commit: what would be given to a worker that comes late is not what was signed.
wrong_later() {
    local token
    begin 2 inner.steps=600 -- ATOLL_FAILPOINT=outer.snapshot.flip=EIO@1
    worker 0
    worker 1
    wait_for_version 10 # more than the 8 commits that the outer keeps to replay
    token=$("$ATOLL" token create "$RUN/outer" --uses 1 | grep -o 'atoll1\.[A-Za-z0-9_-]*' | head -n 1)
    echo "$token" >"$WORK/late.token"
    TOKEN=$WORK/late.token
    worker 2
    wait_for 20 "the outer to see it" outer_says "could not be packed: fragment [0-9] version [0-9]+: g and u are not what its commit signs: this machine's memory is wrong"
    counts_again 2 1 30
    equal "it led again, from its disk" 2 "$(epochs_rise)"
    ends
}
# Every commit is wrong: it does not go on for ever, and what it leaves behind is right.
wrong_always() {
    begin 2 -- ATOLL_FAILPOINT=outer.commit.flip=EIO@5+
    worker 0
    worker 1
    wait_exit "$OUTER_PID" 60 "the outer"
    equal "exit code" 65 "$EXIT_CODE"
    says "said" "$OUTER_ERR" "^atoll outer: dropped 3 versions of fragment [0-9] in a row, to whose state most workers did not come: this machine's arithmetic or memory is wrong, or the workers run another version of atoll"
    equal "the workers wait for another" "" "$(grep -l '^atoll worker:' "$WORK"/worker-*.err || true)"
    outer
    end_of_run 60
    equal "the state is that of the undisturbed run" "$CALM" "$(final_hash "$OUTER_LOG")"
}

# ---- a quorum ----

# Half of the live ones close a round; with fewer than min_workers none closes.
quorum() {
    local version
    begin 4 inner.steps=480 sync.overlap_steps=auto sync.quorum=50% sync.min_workers=2
    for k in 0 1 2 3; do worker "$k"; done
    wait_for_version 2
    kill -STOP "${WORKER_PIDS[2]}" "${WORKER_PIDS[3]}"
    goes_on 3 20
    equal "two of four are enough; the others are not given up yet" "0 0" "$(times_left 2) $(times_left 3)"
    kill -CONT "${WORKER_PIDS[2]}" "${WORKER_PIDS[3]}"
    kill -KILL "${WORKER_PIDS[2]}" "${WORKER_PIDS[3]}"
    is_killed 2 10
    is_killed 3 10
    goes_on 2 20
    die 1
    sleep 0.5 # what was closing is closed
    version=$(run_status '[.fragments[].version]')
    sleep 2
    equal "one is fewer than min_workers: rounds stop" "$version" "$(run_status '[.fragments[].version]')"
    worker 1
    counts_again 1 2 20
    goes_on 2 20
    unset 'WORKER_PIDS[2]' 'WORKER_PIDS[3]'
    ends
}

# The state that three come to.
calm_of_three() {
    run_command 60 calm-3 "$ATOLL" train "$CORPUS/run.yaml" --dir "$WORK/calm-3" --workers 3 --set inner.steps=240 --set inner.min_step_time=0ms
    equal "undisturbed, three: exit code" 0 "$EXIT_CODE"
    CALM_OF_THREE=$(final_hash "$WORK/calm-3/outer/log.jsonl")
}

calm_run
CALM_LOG=$WORK/calm/outer/log.jsonl
calm_of_three
if [ $# -gt 1 ]; then
    side_by_side "${@:2}"
    test_end
    exit
fi
side_by_side force stopped kills told kills_lead begins_rename empty backup fork fork_passed
side_by_side before_start untrained reread newcomer
side_by_side begins_write new_run damaged address moved two errors memory full quorum
side_by_side wrong wrong_full wrong_first wrong_slowly wrong_late wrong_killed wrong_later wrong_always
test_end
