# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# A place for tests/demo and tests/bench: programs built, guest made, a directory and a network namespace with bridge
# br0 that are gone at the end. Sets $build, $dir and $namespace; $root is the caller's.

# shellcheck source=SCRIPTDIR/sweep.bash
. "$root/tests/bats/sweep.bash"
build=${KVM_SUITE_BUILD:-$root/build}

prepare() {
    "$root/tests/install"
    mkdir -p "$build"
    if ! { cmake -S "$root" -B "$build" -DCMAKE_BUILD_TYPE=Release &&
        cmake --build "$build" --parallel "$(nproc)"; } >"$build/build.log" 2>&1; then
        cat "$build/build.log" >&2
        exit 1
    fi
    "$root/tests/guest/build" "$build/guest"
}

make_place() {
    dir=$(mktemp -d /tmp/ks.XXXXXX)
    trap 'cd / && suite_sweep "$dir"' EXIT
    trap 'exit 1' INT TERM HUP
    namespace=$(namespace_of "$dir")
    ip netns add "$namespace"
    ip -n "$namespace" link set lo up
    ip -n "$namespace" link add br0 type bridge
    ip -n "$namespace" address add 192.0.2.1/24 dev br0
    ip -n "$namespace" link set br0 up
    mkdir -m 0700 "$dir/conf"
    export BUILD=$build KVM_RUN_DIR=$dir/run KVM_CONF_DIR=$dir/conf KVM_STATE_DIR=$dir/state PATH=$build:$PATH NO_COLOR=1
    cd "$dir" || exit 1
}
