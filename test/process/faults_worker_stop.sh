#!/usr/bin/env bash
# faults_worker_stop.sh ATOLL: a worker is stopped for two minutes (SIGSTOP; a laptop that sleeps). It is missed after 10 s, the other goes on;
# when it wakes it comes back, takes whole what it slept through, and counts again. A test of its own: it waits, and so long that it begins
# first.
source "$(dirname "$0")/lib.sh"
test_begin faults_worker_stop "$@"
source "$(dirname "$0")/faults_worker_lib.sh"
STOP_SECONDS=120

begin 2 "inner.steps=$((40 * (STOP_SECONDS + 15)))" # 40 a second, so that the other is not at the end when it wakes
worker 0
worker 1
wait_for_version 2
stopped=$(date +%s.%N)
kill -STOP "${WORKER_PIDS[0]}"
wait_for 20 "the outer to miss it" left_more_than 0 0
missed=$(elapsed "$stopped")
holds "missed after the outer's patience of 10 s" "9 < $missed && $missed < 13"
equal "why" '"no answer"' "$(events "$OUTER_LOG" leave .reason)"
before=$(version 0)
wait_for 10 "the other to go on" version_is_above 0 "$before"
equal "status tells" lost "$(worker_state worker-0)"
sleep "$(awk "BEGIN { print $STOP_SECONDS - $(elapsed "$stopped") }")" # the fault itself
gone "${WORKER_PIDS[1]}" && fail "the run was over before it woke: make it longer"
kill -CONT "${WORKER_PIDS[0]}"
counts_again 0 2 15
says "it noticed" "${ERR[0]}" "asking for a new session|the link to the outer is lost"
equal "it is the same process" 1 "$(events "$(log_of 0)" header .node | wc -l)"
equal "it took each fragment whole" 3 "$(events "$(log_of 0)" recover 'select(.what == "snapshot") | .fragment' | sort -u | wc -l)"
equal "it left once" 1 "$(times_left 0)"
equal "the other was never missed" 0 "$(times_left 1)"
ends_right
test_end
