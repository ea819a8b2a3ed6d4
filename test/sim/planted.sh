#!/usr/bin/env bash
# planted.sh SOURCE-DIR [CC]: each of these bugs, planted one at a time into a copy of the real machines or of the glue, is found by the
# simulator within 10,000 seeds. A change that no longer applies fails, too: then the line that it changed has moved.
set -euo pipefail
source_dir=$1 cc=${2:-cc}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
flags=(-std=gnu11 -O2 -D_GNU_SOURCE -I"$work" -I"$work/test")
sources=(outer/round outer/recovery outer/ledger outer/members outer/schedule worker/sync_machine worker/follow)
for file in "$source_dir"/test/sim/sim_*.c; do sources+=("test/sim/$(basename "$file" .c)"); done
mkdir -p "$work"/{outer,worker,comms,base,test/sim,objects}
for folder in outer worker comms base test/sim; do cp "$source_dir/$folder"/*.h "$work/$folder/"; done
for stem in "${sources[@]}"; do
    cp "$source_dir/$stem.c" "$work/$stem.c"
    "$cc" "${flags[@]}" -c "$work/$stem.c" -o "$work/objects/$(basename "$stem").o"
done

failures=0
plant() { # NAME FILE SED-EXPRESSION [sim options]
    local name=$1 file=$2 change=$3 object
    shift 3
    object=$work/objects/$(basename "$file" .c).o
    sed -E "$change" "$work/$file" > "$work/planted.c"
    if cmp -s "$work/planted.c" "$work/$file"; then
        echo "planted: $name: the change applies nowhere" >&2
        failures=$((failures + 1))
        return
    fi
    cp "$work/$file" "$work/kept.c"
    cp "$object" "$work/kept.o"
    cp "$work/planted.c" "$work/$file"
    "$cc" "${flags[@]}" -w -c "$work/$file" -o "$object"
    "$cc" -o "$work/sim" "$work"/objects/*.o
    if ! "$work/sim" --seeds 1..10000 --expect-failure "$@" > "$work/found"; then
        echo "planted: $name: NOT FOUND in 10000 seeds" >&2
        failures=$((failures + 1))
    else
        printf '%-34s %s\n' "$name" "$(cat "$work/found")"
    fi
    cp "$work/kept.c" "$work/$file"
    cp "$work/kept.o" "$object"
}

plant "published before durable" test/sim/sim_outer.c 's/^    sim_disk_append\(&outer->disk.logs\[job->fragment\], job->commit, true\);$/    if (sim_chance(2)) &/'
plant "state hash not compared" test/sim/sim_sync.c 's/if \(state != commit->state\)/if (false)/'
plant "counted though not whole" test/sim/sim_outer.c 's/CHECK\(upload->open \&\& upload->checking\);/& upload->complete = false;/'
plant "record resolved by another's commit" worker/sync_machine.c 's/fragment->ready_mark == fragment->record.tokens_to \&\&/true \&\&/'
plant "tokens_from not held against the mark" outer/ledger.c 's/contribution->tokens_from != entry->mark \|\| //; s/counted->tokens_from == entry->mark \&\& //'
plant "work not reduced when covered" worker/sync_machine.c 's/^        fragment->work -= covered;$//'
plant "leads without hearing" outer/recovery.c 's/if \(recovery->options.mode == RECOVERY_FRESH\)/if (true)/'
plant "leads before all is taken over" outer/recovery.c 's/if \(fetching \|\| !has_heard_enough/if (!has_heard_enough/'
plant "a wrong parent accepted" worker/follow.c 's/memcmp\(event->parent, tail->hash, sizeof tail->hash\) != 0/false/'
plant "stale accepted" outer/round.c 's/> machine->options.stale;/> machine->options.stale + 1;/'
plant "versions not fenced by epoch" outer/recovery.c 's/return a.epoch != b.epoch \? a.epoch > b.epoch : a.version > b.version;/return a.version > b.version;/'
plant "sessions not fenced" test/sim/sim_outer.c 's/session->connected \&\& session->number == message->session/session->connected/'
plant "joined with a fetch on its way" worker/follow.c 's/follow->list\[index\].fetching \|\| !follow->list\[index\].here/false/'
plant "the counter goes back" worker/sync_machine.c 's/^    if \(event->tokens > machine->tokens\)$/    if (false)/'
plant "a lost member is still waited for" outer/members.c 's/return member->state == MEMBER_LIVE;/return member->state == MEMBER_LIVE || member->state == MEMBER_LOST;/'
plant "trains on while a merge is due" worker/sync_machine.c 's/machine->step >= merge_step\(machine, \&fragment->record\)/machine->step > merge_step(machine, \&fragment->record)/'
plant "the residual is lost at a restart" test/sim/sim_recover.c 's/outer->kept\[f\] = \*log;/& outer->kept[f].residual = 1;/'
plant "an abandoned record blocks the next" outer/round.c 's/place->state == ROUND_PLACE_RECEIVING \&\& !same_contribution\(\&place->contribution, c\) \&\&/false \&\&/'

[ "$failures" -eq 0 ] || exit 1
echo "planted: all found"
