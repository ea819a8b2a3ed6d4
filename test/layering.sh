#!/usr/bin/env bash
# layering.sh SOURCE-DIR BUILD-DIR
# 1. A lower folder never includes a higher one: base <- model, quant, comms (blind to each other) <- outer <- worker <- experiments.
# 2. The protocol is pure: its files include each other, comms/message.h, four headers of base and freestanding ones only, and their
#    objects reference no symbol outside an allow list: no socket, clock, file, thread, allocation.
# 3. The check itself can fail: a planted include and a planted symbol are found.
set -euo pipefail
source_dir=$1 build_dir=$2
failures=0
fail() { echo "layering: $1" >&2; failures=$((failures + 1)); }

declare -A allowed=(
    [base]="base" [model]="base model" [quant]="base quant" [comms]="base comms"
    [outer]="base model quant comms outer" [worker]="base model quant comms outer worker"
    [experiments]="base model quant comms outer worker experiments"
)
pure_files=(outer/schedule outer/ledger outer/members outer/round outer/recovery outer/staging outer/agreement worker/sync_machine worker/follow)
pure_headers="comms/message.h base/status.h base/check.h base/bytes.h base/units.h stdbool.h stddef.h stdint.h string.h"
pure_symbols="memcpy memset memcmp memmove check_failed __stack_chk_fail _GLOBAL_OFFSET_TABLE_"

includes() { sed -nE 's/^[[:space:]]*#[[:space:]]*include[[:space:]]*["<]([^">]+)[">].*/\1/p' "$1"; }

check_folders() { # DIR
    local folder file header top
    for folder in "${!allowed[@]}"; do
        for file in "$1/$folder"/*.[ch]; do
            for header in $(includes "$file"); do
                top=${header%%/*}
                [ "$top" = "$header" ] && continue # <stdio.h>, <zmq.h>
                [ -n "${allowed[$top]+x}" ] || continue # <sys/stat.h>
                [[ " ${allowed[$folder]} " == *" $top "* ]] || echo "$folder/$(basename "$file") includes $header"
            done
        done
    done
}

check_pure_includes() { # DIR
    local stem file header
    for stem in "${pure_files[@]}"; do
        for file in "$1/$stem.h" "$1/$stem.c"; do
            for header in $(includes "$file"); do
                [[ " $pure_headers " == *" $header "* ]] && continue
                [[ " ${pure_files[*]} " == *" ${header%.h} "* ]] && continue
                echo "${file#"$1"/} includes $header: the protocol is pure"
            done
        done
    done
}

# Symbols that the pure objects need and none of them defines.
check_pure_symbols() { # OBJECT...
    local symbol defined
    defined=$(nm --defined-only "$@" | awk 'NF >= 3 {print $3}' | sort -u)
    for symbol in $(nm -u "$@" | awk '$1 == "U" {print $2}' | sort -u); do
        [[ " $pure_symbols " == *" $symbol "* ]] && continue
        grep -qx "$symbol" <<< "$defined" && continue
        [[ $symbol == bytes_* || $symbol == units_* || $symbol == status_* || $symbol == error_* ]] && continue
        echo "a pure object references $symbol"
    done
}

objects=()
for stem in "${pure_files[@]}"; do
    object=$build_dir/CMakeFiles/atoll_${stem%%/*}.dir/$stem.c.o
    [ -f "$object" ] || { fail "$object is missing: build first"; continue; }
    objects+=("$object")
done
while read -r line; do fail "$line"; done < <(check_folders "$source_dir"; check_pure_includes "$source_dir"; check_pure_symbols "${objects[@]}")

# Planted faults, in a copy.
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
for folder in "${!allowed[@]}"; do cp -r "$source_dir/$folder" "$copy/"; done
echo '#include "worker/sync_thread.h"' >> "$copy/model/norm.c"
echo '#include "quant/codec.h"' >> "$copy/comms/pace.c"
echo '#include <time.h>' >> "$copy/outer/round.c"
printf '#include <stdlib.h>\nvoid *planted(void);\nvoid *planted(void) { return malloc(1); }\n' > "$copy/planted.c"
cc -c "$copy/planted.c" -o "$copy/planted.o"
[ "$(check_folders "$copy" | wc -l)" -eq 2 ] || fail "planted includes of higher folders were not found"
[ "$(check_pure_includes "$copy" | wc -l)" -eq 1 ] || fail "a planted clock in the round machine was not found"
check_pure_symbols "${objects[@]}" "$copy/planted.o" | grep -q malloc || fail "a planted allocation was not found"

[ "$failures" -eq 0 ] || exit 1
echo "layering: fine"
