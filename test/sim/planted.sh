#!/usr/bin/env bash
# planted.sh SOURCE-DIR [CC] [search]: each of these bugs, planted one at a time into a copy of the real machines or of the glue, is found by
# the simulator. The number is the seed that found it first: that one and a few more are run, or with `search` all up to 20,000. A change
# that applies nowhere fails, too: then the line that it changed has moved.
set -euo pipefail
source_dir=$1 cc=${2:-cc} mode=${3:-}
more=200
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
flags=(-std=gnu11 -O1 -D_GNU_SOURCE -I"$work" -I"$work/test")
sources=(outer/round outer/recovery outer/ledger outer/members outer/schedule worker/sync_machine worker/follow)
for file in "$source_dir"/test/sim/sim_*.c; do sources+=("test/sim/$(basename "$file" .c)"); done
mkdir -p "$work"/{outer,worker,comms,base,test/sim,objects}
for folder in outer worker comms base test/sim; do cp "$source_dir/$folder"/*.h "$work/$folder/"; done
for stem in "${sources[@]}"; do
    cp "$source_dir/$stem.c" "$work/$stem.c"
    "$cc" "${flags[@]}" -c "$work/$stem.c" -o "$work/objects/$(basename "$stem").o"
done

failures=0 count=0
plant() { # NAME SEED FILE SED-EXPRESSION
    local name=$1 seeds=$2..$(($2 + more)) file=$3 change=$4 object
    [ "$mode" != search ] || seeds=1..20000
    object=$work/objects/$(basename "$file" .c).o
    count=$((count + 1))
    cp "$work/$file" "$work/kept.c"
    cp "$object" "$work/kept.o"
    sed -E "$change" "$work/kept.c" > "$work/$file"
    if cmp -s "$work/kept.c" "$work/$file"; then
        echo "planted: $name: the change applies nowhere" >&2
        failures=$((failures + 1))
        return
    fi
    "$cc" "${flags[@]}" -w -c "$work/$file" -o "$object"
    "$cc" -o "$work/sim" "$work"/objects/*.o
    if ! "$work/sim" --seeds "$seeds" --expect-failure > "$work/found"; then
        echo "planted: $name: NOT FOUND in seeds $seeds" >&2
        failures=$((failures + 1))
    else
        printf '%-40s %s\n' "$name" "$(cat "$work/found")"
    fi
    cp "$work/kept.c" "$work/$file"
    cp "$work/kept.o" "$object"
}

plant "published before durable" 1 test/sim/sim_outer.c 's/^    sim_disk_append\(&outer->disk.logs\[job->fragment\], job->commit, true\);$/    if (sim_chance(2)) &/'
plant "state hash not compared" 19 test/sim/sim_sync.c 's/if \(state != commit->state\)/if (false)/'
plant "counted though not whole" 1 test/sim/sim_outer.c 's/CHECK\(upload->open \&\& upload->checking\);/& upload->complete = false;/'
plant "record resolved by another's commit" 6 worker/sync_machine.c 's/fragment->ready_mark == fragment->record.tokens_to \&\&$/true \&\&/'
plant "work not reduced when covered" 4 worker/sync_machine.c 's/^        fragment->work -= covered;$//'
plant "leads without hearing" 18 outer/recovery.c 's/if \(recovery->options.mode == RECOVERY_FRESH\)/if (true)/'
plant "leads before all is taken over" 969 outer/recovery.c 's/if \(fetching \|\| !has_heard_enough/if (!has_heard_enough/'
plant "stale accepted" 3 outer/round.c 's/> machine->options.stale;/> machine->options.stale + 1;/'
plant "whose way is long never counts" 27 outer/round.c 's/> machine->options.stale;/> (machine->options.stale > 2 ? 2 : machine->options.stale);/'
plant "the counter goes back" 6 worker/sync_machine.c 's/^    if \(event->tokens > machine->tokens\)$/    if (false)/'
plant "trains on while a merge is due" 1 worker/sync_machine.c 's/machine->step >= merge_step\(machine, \&fragment->record\)/machine->step > merge_step(machine, \&fragment->record)/'
plant "the residual is lost at a restart" 1 test/sim/sim_recover.c 's/outer->kept\[f\] = \*log;/& outer->kept[f].residual = 1;/'
plant "totals are not restored" 3 outer/round.c 's/^    ledger_restore\(.*$//'
plant "a blocked member is waited for" 14597 outer/round.c 's/\(passed_by \|\| member->blocked\)/passed_by/'
plant "blocked while its send is not offered" 806 test/sim/sim_sync.c 's/message.waiting \&\& !worker->pieces\[f\].encoding/message.waiting/'
plant "blocked though a commit is on its way" 837 test/sim/sim_outer.c 's/telemetry->heads\[f\].version != world.commits\[world.outer.heads\[f\]\].head.version/false/'
plant "a dead process's sending is waited for" 826 outer/round.c 's/^    empty_places_of_dead\(machine, event->slot, actions\);$//'
plant "finished with a round open" 922 outer/round.c 's/if \(!machine->finished \&\& rounds_are_closed\(machine\)\)/if (!machine->finished)/'
plant "the end is not said again" 19 test/sim/sim_recover.c 's/^    if \(outer->machine.finished\)$/    if (false)/'

[ "$failures" -eq 0 ] || exit 1
echo "planted: all $count found"
