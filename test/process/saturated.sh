#!/usr/bin/env bash
# saturated.sh ATOLL: experiments/saturated.sh in short, in a copy of the tree: links full of bulk for 20 s with nobody declared dead, then one
# worker cut off for longer than the death limit, back within 10 s of the heal, nothing counted twice. The bounds are its own.
#
# Needs root, or the right to make namespaces; where that is not allowed the test says so and is reported as skipped.
source "$(dirname "$0")/lib.sh"
test_begin saturated "$@"
cp -r "$(dirname "$0")/../../experiments" "$WORK"

run_command 240 saturated env ATOLL="$ATOLL" "$WORK/experiments/saturated.sh" --minutes 0.33 --partition 16 --tail 12
cat "$WORK/saturated.out"
if [ "$EXIT_CODE" = "$EXIT_SKIPPED" ]; then
    say "SKIPPED: $(tail -n 1 "$WORK/saturated.err")"
    exit $EXIT_SKIPPED
fi
equal "all bounds hold" 0 "$EXIT_CODE"
says "the links were full" "$WORK/saturated.out" "the fuller direction.* ok$"
says "the partition was one" "$WORK/saturated.out" "worker-1 cut off: missed after.* ok$"
equal "no namespace is left" "" "$(ip netns list | grep "^atoll-$PID-" || true)"
test_end
