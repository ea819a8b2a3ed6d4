# Machines that are namespaces. Sourced by saturated.sh and slow_links.sh, which set NS (what the names of the namespaces begin with), WORKERS and
# RATE. Outer and workers have one each, and in one more is a switch (a bridge):
#
#     worker-K eth0 10.78.0.2+K  --tbf-->  p-K \
#                                <--tbf--       bridge -- p-outer  --  eth0 10.78.0.1 outer (not shaped)

not_here() { complain "$*: this needs root, and a kernel with network namespaces, bridge, veth and tbf"; exit 77; }

workers() { seq -f 'worker-%.0f' 0 $((WORKERS - 1)); }
nodes() { echo outer; workers; }
port() { echo "p-${1#worker-}"; } # of the switch
address() { if [ "$1" = outer ]; then echo 10.78.0.1; else echo "10.78.0.$((2 + ${1#worker-}))"; fi; }
mac() { printf '02:00:0a:4e:00:%02x' "${1##*.}"; } # of an address

plug_in() { # NODE
    local at
    at=$(address "$1")
    ip netns add "$NS$1" &&
        ip -n "${NS}lan" link add "$(port "$1")" type veth peer name eth0 address "$(mac "$at")" netns "$NS$1" &&
        ip -n "${NS}lan" link set "$(port "$1")" master lan up &&
        ip -n "$NS$1" address add "$at/24" dev eth0 && ip -n "$NS$1" link set lo up && ip -n "$NS$1" link set eth0 up
}

# Known for good: a machine behind a cut line hears nothing, not even that nobody answers for an address.
introduce() { # NODE NODE
    ip -n "$NS$1" neighbour replace "$(address "$2")" lladdr "$(mac "$(address "$2")")" nud permanent dev eth0
}

# build_network: NS-outer, NS-worker-0 ...; RATE as tc says it, of each worker, each way. False, with the reason on stderr: not here.
build_network() {
    local node
    ip netns add "${NS}lan" && ip -n "${NS}lan" link add lan type bridge && ip -n "${NS}lan" link set lan up || return
    for node in $(nodes); do plug_in "$node" || return; done
    for node in $(workers); do
        introduce "$node" outer && introduce outer "$node" &&
            tc -n "${NS}lan" qdisc add dev "$(port "$node")" root tbf rate "$RATE" burst 4kb latency 400ms &&
            tc -n "$NS$node" qdisc add dev eth0 root tbf rate "$RATE" burst 4kb latency 400ms || return
    done
}

remove_network() {
    local node
    for node in $(nodes) lan; do ip netns del "$NS$node" 2> /dev/null; done
}

# in_node NODE COMMAND...: in its namespace; becomes the command.
in_node() { exec ip netns exec "$NS$1" "${@:2}"; }
