#!/usr/bin/env bash
# durable.sh ATOLL RECORDER: what a message claims would outlive a power cut at that moment: a commit, a head, an epoch, a start, an admission, a
# worker's keys; and a checkpoint or a commit goes only when newer ones would. A kill -9 can't show that, since the kernel's cache stays:
# recorder.c writes down the order of writes, fsyncs, names and messages; durable.py judges. Over one run of two workers: each process is killed
# between a new name and the fsync of its directory, and started again on what it finds; then the outer and a worker lose their disk.
source "$(dirname "$0")/lib.sh"
test_begin durable "$@"
WORK=$(realpath "$WORK")
RECORDER=$(realpath "$2")
source "$(dirname "$0")/faults_worker_lib.sh"
mkdir "$WORK/records"

lose() { # PATH...: the fault itself; recorded, for the judge to know
    env "ATOLL_RECORD=$WORK/records/fault" "LD_PRELOAD=$RECORDER" rm -r "$@"
}
begin_again() { # [VARIABLE=VALUE]: the outer, on the same directory
    OUTER_ENVIRONMENT="env ATOLL_RECORD=$WORK/records/outer LD_PRELOAD=$RECORDER ${1:-}" begin 2 inner.steps=360 checkpoint.full_every=2
}
worker_again() { # K [VARIABLE=VALUE]
    worker "$1" "ATOLL_RECORD=$WORK/records/worker-$1" "LD_PRELOAD=$RECORDER" "${@:2}"
}

dies_at() { # K FILE FAILPOINT: worker-K, killed when it made FILE
    worker_again "$1" "ATOLL_FAILPOINT=$3"
    wait_exit "${WORKER_PIDS[$1]}" 20 "worker-$1"
    equal "worker-$1 was killed" 137 "$EXIT_CODE"
    check "after it made $2" test -e "$RUN/worker-$1/$2"
}

begin_again ATOLL_FAILPOINT=outer.commit.sync_names=kill@16 # the first one is at the start
dies_at 1 keys files.fsync_directory=kill@2 # behind that of its own directory
dies_at 1 keys/certificate.json files.fsync_directory=kill
start worker-1.3 env "ATOLL_RECORD=$WORK/records/worker-1" "LD_PRELOAD=$RECORDER" "$ATOLL" worker --dir "$RUN/worker-1" # without --join: by it
WORKER_PIDS[1]=$PID
dies_at 0 checkpoint/00000002 checkpoint.renamed=kill@2
worker_again 0
wait_exit "$OUTER_PID" 20 "the outer"
equal "the outer was killed" 137 "$EXIT_CODE"
begin_again
wait_for_version 11 30 # beyond the commits that are kept to be replayed
kill -KILL "$OUTER_PID" "${WORKER_PIDS[0]}"
wait_exit "$OUTER_PID" 5 "the outer"
wait_exit "${WORKER_PIDS[0]}" 5 worker-0
lose "$RUN/outer/commits" "$RUN/outer/outer.json" "$RUN/worker-0/checkpoint"
begin_again
worker_again 0
end_of_run 60

found=0
"$(dirname "$0")/durable.py" "$WORK/records" "$RUN" >"$WORK/verdict" || found=$?
seen() {
    awk -v what="$1" '$1 == what { print $2 }' "$WORK/verdict"
}
sed 's/^/    /' "$WORK/verdict"
equal "nothing was said that was not there for good" 0 "$found"
for claim in admissions outer_seeds seeds certificates starts finishes epochs heads commits chunks snapshots generations generations_removed records_removed; do
    holds "judged: $claim" "0$(seen "$claim") > 0"
done
test_end
