# What the scripts that run many processes share: chaos.sh and saturated.sh, which hurt them, and sync_cost.sh, slow_links.sh and many_workers.sh,
# which time them. They set HERE (this directory), ATOLL (or nothing), DIRECTORY (or nothing), and for each run RUN and FAULTS, the file that says
# what was done to it and when.

complain() { echo "${0##*/}: $*" >&2; }
wrong() { complain "$*"; exit 64; }
# The comment at the script's head, after its first line.
usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0"; }

# take_options NUMBERS LISTS TEXTS FLAGS ARGUMENT...: the command line of such a script, its options named without the dashes: those that take one
# number, several, any text, nothing. --outer-kills 2 becomes OUTER_KILLS=2, a flag becomes 1. All have --dir (DIRECTORY), --json, --keep and
# KEY=VALUE for the run file, which goes into SETTINGS.
take_options() {
    local numbers=" $1 " lists=" $2 " texts=" $3 dir json " flags=" $4 keep " name variable pattern
    shift 4
    while [ $# -gt 0 ]; do
        name=${1#--} variable=${1#--} variable=${variable//-/_} variable=${variable^^}
        case $name in
        dir) variable=DIRECTORY ;;
        seconds) variable=SECONDS_EACH ;; # bash has SECONDS
        esac
        case $1 in
        -h | --help) usage; exit 0 ;;
        --*)
            if [[ $flags == *" $name "* ]]; then
                printf -v "$variable" 1
            else
                pattern=
                [[ $numbers != *" $name "* ]] || pattern='^[0-9]+(\.[0-9]+)?$'
                [[ $lists != *" $name "* ]] || pattern='^[0-9]+([., ][0-9]+)*$'
                [[ $texts != *" $name "* ]] || pattern='^'
                [ "$pattern" ] || wrong "$1: unknown (--help)"
                [ $# -gt 1 ] || wrong "$1 needs a value"
                [[ $2 =~ $pattern ]] || wrong "$1 $2: not a number"
                printf -v "$variable" %s "$2"
                shift
            fi
            ;;
        *=*) SETTINGS+=(--set "$1") ;;
        *) wrong "$1: unknown (--help)" ;;
        esac
        shift
    done
}

need_tools() {
    local tool
    for tool; do
        command -v "$tool" > /dev/null || { complain "$tool is missing (apt-get install it)"; exit 1; }
    done
}

# ATOLL becomes an absolute path; without it, build/release/atoll is built. The working directory becomes the tree's root.
find_atoll() {
    if [ -z "${ATOLL:-}" ]; then
        echo "== building"
        cd "$HERE/.."
        [ -f build/release/build.ninja ] || cmake --preset release -DBUILD_TESTING=OFF > /dev/null
        cmake --build --preset release --target atoll > /dev/null
        ATOLL=build/release/atoll
    fi
    ATOLL=$(realpath "$ATOLL")
    cd "$HERE/.."
    unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE
}

# choose_directory NAME: DIRECTORY, a new runs/NAME-N unless it was given.
choose_directory() {
    local n
    if [ -z "$DIRECTORY" ]; then
        for ((n = 1; ; n++)); do
            DIRECTORY=runs/$1-$n
            [ -e "$DIRECTORY" ] || break
        done
    fi
    mkdir -p "$DIRECTORY"
    DIRECTORY=$(realpath "$DIRECTORY")
}

# The cores that this shell may use, one per line.
own_cores() { taskset -cp $$ | sed 's/.*: //;s/,/\n/g' | awk -F- '{ for (core = $1; core <= $NF; core++) print core }'; }

declare -A PIDS=() # node -> pid of what runs now
end_processes() {
    local pid
    for pid in ${PIDS[@]+"${PIDS[@]}"}; do kill -KILL "$pid" 2> /dev/null || true; done
    wait 2> /dev/null || true
}

now() { date -u +%Y-%m-%dT%H:%M:%S.%3NZ; }
note() { # WHAT NODE [FIELDS]
    echo "{\"event\":\"$1\",\"node\":\"$2\",\"t_wall\":\"$(now)\"${3:+,$3}}" >> "$FAULTS"
}

has_event() { grep -qs "\"event\":\"$2\"" "$1"; }

wait_until() { # SECONDS TEXT COMMAND...
    local until=$((SECONDS + $1)) text=$2
    shift 2
    until "$@"; do
        [ "$SECONDS" -lt "$until" ] || { complain "waited in vain for $text; see $RUN"; exit 1; }
        sleep 0.1
    done
}

all_ended() { # [PATTERN]
    local node
    for node in "${!PIDS[@]}"; do
        # shellcheck disable=SC2053 # a pattern
        [[ $node == ${1:-*} ]] && kill -0 "${PIDS[$node]}" 2> /dev/null && return 1
    done
    return 0
}

# wait_for_end SECONDS [PATTERN]: of all processes, or of the nodes so called; notes how each ended. Those that do not are killed, which the
# report sees.
wait_for_end() {
    local until=$((SECONDS + $1)) node code
    until all_ended "${2:-*}" || [ "$SECONDS" -ge "$until" ]; do sleep 0.1; done
    for node in "${!PIDS[@]}"; do
        # shellcheck disable=SC2053 # a pattern
        [[ $node == ${2:-*} ]] || continue
        if kill -0 "${PIDS[$node]}" 2> /dev/null; then
            complain "$node did not end within $1 s; see $RUN"
            kill -KILL "${PIDS[$node]}"
        fi
        code=0
        wait "${PIDS[$node]}" 2> /dev/null || code=$?
        note ended "${node##*/}" "\"exit_code\":$code"
        unset "PIDS[$node]"
    done
}
