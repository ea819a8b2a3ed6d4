# What atoll needs from Debian 12, and how it gets there. Sourced by experiments/quickstart.sh and test/run.sh.
build_packages=(gcc libc6-dev cmake ninja-build pkg-config libzmq3-dev libsodium-dev libprotobuf-c-dev protobuf-c-compiler libopenblas-dev
    libyaml-dev libjansson-dev libxxhash-dev libzstd-dev)
test_packages=(libcmocka-dev libdnnl-dev gnuplot-nox iproute2 jq procps python3 spin)

# require_packages NAME...: installs what is missing with apt-get as root; otherwise says what to install, and exits 1.
require_packages() {
    local name missing=()
    for name in "$@"; do
        [ "$(dpkg-query -W -f '${Status}' "$name" 2> /dev/null)" = "install ok installed" ] || missing+=("$name")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ "$(id -u)" -ne 0 ]; then
        echo "missing packages: ${missing[*]}" >&2
        echo "install them with: sudo apt-get install ${missing[*]}" >&2
        exit 1
    fi
    echo "== installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null
}
