#!/usr/bin/env bash
# faults_worker_disk.sh ATOLL: a worker's disk is full, or gives errors, in any step of a checkpoint or in its log: training goes on with a
# warning, and the next checkpoint is whole when there is room again. With failpoints, and with a real small disk (a tmpfs; needs the right to
# mount, else that one case is left out).
source "$(dirname "$0")/lib.sh"
test_begin faults_worker_disk "$@"
source "$(dirname "$0")/faults_worker_lib.sh"
at_cleanup() {
    local place
    awk -v work="$WORK/" 'index($2, work) == 1 { print $2 }' /proc/mounts | while read -r place; do umount -l "$place"; done
}

failed_checkpoints() { # K
    events "$(log_of "$1")" recover 'select(.what == "checkpoint failed") | .reason' | wc -l
}
checkpoint_after() { # K STEP
    has_event "$(log_of "$1")" checkpoint "select(.step > $2)"
}

# Each step of a checkpoint fails once: a checkpoint each, from the second to the ninth.
steps() {
    local point log
    begin 2 checkpoint.every=200ms
    worker 0 ATOLL_FAILPOINT=checkpoint.write=ENOSPC@2,checkpoint.written=EIO@2,checkpoint.renamed=EIO@2,files.create=EMFILE@9,files.fsync=EIO@9,files.write=ENOSPC@50,files.rename=EIO@5,files.fsync_directory=EIO@21
    worker 1
    ends_right calm
    log=$(log_of 0)
    for point in checkpoint.write checkpoint.written checkpoint.renamed files.fsync files.write files.rename files.create files.fsync_directory; do
        equal "$point failed once" 1 "$(grep -c "^failpoint $point: " "${ERR[0]}")"
    done
    equal "each is one checkpoint less" 8 "$(failed_checkpoints 0)"
    equal "each is said" 8 "$(grep -c 'warning: no checkpoint of step [0-9]* (.*); training goes on, the next time tries again' "${ERR[0]}")"
    says "a full disk is said" "${ERR[0]}" "no checkpoint of step .*No space left on device.*"
    holds "the others are whole" "$(events "$log" checkpoint .generation | wc -l) >= 6"
    equal "the last thing is a checkpoint of the end" 160 "$(events "$log" checkpoint .step | tail -n 1)"
    equal "nothing half made is left" "" "$(find "$RUN/worker-0/checkpoint" -name 'tmp.*')"
}

# From the second one on none can be written, then it is killed, and the first one cannot be read at first.
never() {
    begin 2 inner.steps=560
    worker 0 ATOLL_FAILPOINT=checkpoint.write=EIO@2+
    worker 1
    three_failed() { [ "$(failed_checkpoints 0)" -ge 3 ]; }
    wait_for 10 "three checkpoints that fail" three_failed
    die 0
    worker 0 ATOLL_FAILPOINT=checkpoint.read=EIO@1+,checkpoint.write=EIO@1+
    counts_again 0 2 15
    says "one that cannot be read: said" "${ERR[0]}" "cannot read .*Input/output error.*; this worker starts from the seed and fetches everything"
    die 0
    worker 0
    counts_again 0 3 15
    equal "one that can be read again: back from it" 1 "$(events "$(log_of 0)" recover 'select(.what == "restart") | .generation' | tail -n 1)"
    ends_right
}

# Not even the last one, when it leaves: nothing is lost to the run.
never_again() {
    begin 2
    worker 0 ATOLL_FAILPOINT=checkpoint.write=ENOSPC@3+
    worker 1
    ends_right calm
    says "said at the end" "${ERR[0]}" "no checkpoint of step 160 "
}

# The log: records are lost, that is said once, and later ones are whole lines.
log() {
    begin 2
    worker 0 ATOLL_FAILPOINT=log.write=ENOSPC@60,log.write=ENOSPC@61
    worker 1
    ends_right calm
    equal "said once" 1 "$(grep -c 'cannot write to the log .*: No space left on device (records are being lost; said once)' "${ERR[0]}")"
    equal "every line is whole" 0 "$(jq -R 'fromjson? // "torn"' "$(log_of 0)" | grep -c '^"torn"' || true)"
}

# A disk of 6 MB that somebody else fills, and later clears.
full() {
    local disk=$WORK/disk step failed
    mkdir "$disk"
    if ! mount -t tmpfs -o size=6m none "$disk" 2>/dev/null; then
        say "LEFT OUT: no right to mount a tmpfs; run it as root"
        return
    fi
    begin 2 inner.steps=640
    mkdir "$disk/worker-0"
    ln -s "$disk/worker-0" "$RUN/worker-0"
    worker 0
    worker 1
    wait_for 10 "a checkpoint" checkpoint_after 0 0
    dd if=/dev/zero of="$disk/filler" bs=4k status=none 2>/dev/null || true
    wait_for 10 "a checkpoint that finds no room" grep -q "no checkpoint of step .*No space left on device" "${ERR[0]}"
    wait_for 10 "a log record that finds no room" grep -q "cannot write to the log .*No space left on device" "${ERR[0]}"
    wait_for_version 14
    rm "$disk/filler"
    step=$(run_status '.workers[] | select(.node == "worker-0") | .step')
    wait_for 10 "a checkpoint when there is room" checkpoint_after 0 "$step"
    equal "worker-0 was never missed" 0 "$(times_left 0)"
    die 0
    worker 0
    counts_again 0 2 15
    holds "back from a checkpoint behind the full disk" "$(events "$(log_of 0)" recover 'select(.what == "restart") | .step' | tail -n 1) > $step"
    ends_right
    failed=$(grep -c 'no checkpoint of step' "$WORK/worker-0.1.err")
    holds "it tried and tried" "$failed >= 2"
}

calm_run
if [ $# -gt 1 ]; then
    side_by_side "${@:2}"
else
    side_by_side steps never never_again log full
fi
test_end
