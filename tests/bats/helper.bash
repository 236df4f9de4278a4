# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# What every bats file needs:  load helper
#
# Each test gets a directory of its own ($TEST_DIR) with a run directory and a configuration directory, both
# exported to the programs, and leaves nothing: teardown ends every QEMU whose command line names that
# directory or holds a file there, and removes the network namespace, also after a failure.
#
#     suite PROGRAM ARG…          run a program: $status, $output (stdout), $errors (stderr), all echoed
#     expect_status N             …and expect_output, expect_error, expect_no_output TEXT;
#                                 expect_failure COMMAND…
#     definition NAME [JQ]        write a definition of an instance that boots the test guest; prints its path
#     network [BRIDGE…]           from here on the programs run in a network namespace with these bridges
#     guest_run NAME COMMAND      a shell command inside the guest; its output and status
#     wait_until SECONDS COMMAND… poll until it succeeds
#
# Tests that boot the guest carry the tag "guest" (# bats file_tags=guest), so that --fast can leave them out.

bats_require_minimum_version 1.5.0

TESTS=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
SOURCE=$(dirname "$TESTS")
BUILD=${KVM_SUITE_BUILD:-$SOURCE/build}
GUEST=${KVM_SUITE_GUEST:-$BUILD/guest}
export TESTS SOURCE BUILD GUEST

# shellcheck source=SCRIPTDIR/sweep.bash
. "$TESTS/bats/sweep.bash"

setup() {
    suite_setup
}

teardown() {
    suite_teardown
}

# ---- each test's own place ----

# Short, because socket paths end at 107 bytes. bats' own directory is not.
suite_setup() {
    TEST_DIR=$(mktemp -d "${KVM_SUITE_TMP:-/tmp}/ks.XXXXXX")
    RUN_DIR=$TEST_DIR/run
    CONF_DIR=$TEST_DIR/conf
    NETNS=
    mkdir -m 0700 "$CONF_DIR"
    export TEST_DIR RUN_DIR CONF_DIR KVM_RUN_DIR=$RUN_DIR KVM_CONF_DIR=$CONF_DIR KVM_STATE_DIR=$TEST_DIR/state LC_ALL=C NO_COLOR=1
}

suite_teardown() {
    [[ -n ${TEST_DIR:-} ]] || return 0
    suite_sweep "$TEST_DIR"
    TEST_DIR=
}

# ---- running programs ----

# Standard input is the caller's, so "suite kvm-start - <<<…" works. Descriptor 3 belongs to bats: who kept it
# would keep bats waiting.
suite() { # PROGRAM ARG…
    local words=()
    [[ -z $NETNS ]] || words=(ip netns exec "$NETNS")
    status=0
    timeout --kill-after=5 "${SUITE_TIMEOUT:-120}" "${words[@]}" "$BUILD/$1" "${@:2}" \
        >"$TEST_DIR/stdout" 2>"$TEST_DIR/stderr" 3>&- || status=$?
    output=$(cat "$TEST_DIR/stdout")
    errors=$(cat "$TEST_DIR/stderr")
    printf '$ %s\n' "$*"
    [[ -z $output ]] || printf '%s\n' "$output"
    [[ -z $errors ]] || printf '%s\n' "$errors" | sed 's/^/! /'
    echo "= $status"
}

# A command in the test's network namespace, as it is.
inside() { # COMMAND…
    if [[ -n $NETNS ]]; then
        ip netns exec "$NETNS" "$@"
    else
        "$@"
    fi
}

fail() { # TEXT
    echo "$*"
    return 1
}

expect_status() { # N
    [[ $status -eq $1 ]] || fail "exit status $status, expected $1"
}

expect_output() { # TEXT
    [[ $output == *"$1"* ]] || fail "stdout lacks: $1"
}

expect_no_output() { # TEXT
    [[ $output != *"$1"* ]] || fail "stdout has: $1"
}

expect_error() { # TEXT
    [[ $errors == *"$1"* ]] || fail "stderr lacks: $1"
}

expect_no_error() { # TEXT
    [[ $errors != *"$1"* ]] || fail "stderr has: $1"
}

# "! command" in the middle of a test fails nothing: bash's errexit passes it by.
expect_failure() { # COMMAND…
    if "$@"; then fail "should have failed: $*"; fi
}

expect_equal() { # VALUE EXPECTED
    [[ $1 == "$2" ]] || fail "is '$1', expected '$2'"
}

# Of the JSON document in $output.
expect_json() { # JQ-FILTER that must be true
    jq -e "$1" <<<"$output" >/dev/null || fail "not true of stdout: $1"
}

# ---- instances ----

# TCG and the test guest; FILTER edits the JSON: definition web1 '.beparams.vcpus = 2'.
definition() { # NAME [JQ-FILTER]
    local file=$TEST_DIR/$1.json
    jq -n --arg name "$1" --arg kernel "$GUEST/vmlinuz" --arg initrd "$GUEST/initrd.gz" --arg words "${GUEST_WORDS:-}" \
        '{$name, hvparams: {kvm_flag: "disabled", kernel_path: $kernel, initrd_path: $initrd,
          kernel_args: ("ro quiet panic=-1 tsc=unstable" + $words)}, beparams: {memory: 128, vcpus: 1}}' |
        jq "${2:-.}" >"$file"
    echo "$file"
}

# A definition with nothing to boot: QEMU runs its firmware. Enough for everything but the guest's part.
empty_definition() { # NAME [JQ-FILTER]
    local file=$TEST_DIR/$1.json
    jq -n --arg name "$1" '{$name, hvparams: {kvm_flag: "disabled", kernel_path: "", initrd_path: ""},
        beparams: {memory: 32, vcpus: 1}}' | jq "${2:-.}" >"$file"
    echo "$file"
}

disk() { # NAME MIB: a sparse raw image; prints its path
    truncate -s "$2M" "$TEST_DIR/$1.img"
    echo "$TEST_DIR/$1.img"
}

qemu_pid() { # NAME: what the pid file says
    local pid
    pid=$(cat "$RUN_DIR/pid/$1" 2>/dev/null) || return 1
    [[ -n $pid ]] && echo "${pid//[^0-9]/}"
}

# Alive, and the one of this test: its messages go to the log there, which is its standard output. A process that is
# ending shows no descriptors any more while its last threads still hold its locks: alive until it is gone.
qemu_lives() { # NAME
    local pid output
    pid=$(qemu_pid "$1") || return 1
    output=$(readlink "/proc/$pid/fd/1") || output=
    ! process_is_gone "$pid" && [[ -z $output || $output == "$RUN_DIR/log/$1.log" ]]
}

qemu_is_dead() { # NAME
    ! qemu_lives "$1"
}

qmp() { # NAME COMMAND [ARGUMENTS]: on the query monitor
    "$TESTS/bats/qmp" "$RUN_DIR/ctrl/$1.query" "${@:2}"
}

guest_run() { # NAME COMMAND
    "$BUILD/tests/serial-talk" "$RUN_DIR/ctrl/$1.serial" "${GUEST_TIMEOUT:-90}" "$2" 3>&-
}

# As the first start would make it, for tests that plant something in it before.
make_run_dir() {
    (umask 077 && mkdir -p "$RUN_DIR"/{pid,uid,ctrl,conf,nic,keymap,chroot,chroot-quarantine,lock,events,log,cache})
}

# Files of the instance in the run directory, lock aside.
files_of() { # NAME
    [[ ! -d $RUN_DIR ]] || (cd "$RUN_DIR" && find . -mindepth 2 \( -name "$1" -o -name "$1.*" \)  ! -path '*/lock/*' | sort)
}

expect_nothing_left() { # NAME
    local left
    left=$(files_of "$1")
    [[ -z $left ]] || fail "files left of $1:"$'\n'"$left" || return 1
    qemu_is_dead "$1" || fail "a QEMU of $1 lives" || return 1
    [[ -n $NETNS ]] || return 0
    left=$(taps)
    [[ -z $left ]] || fail "taps left: $left"
}

# A CA, and a server's certificate of it, as VNC wants them.
certificates() { # DIRECTORY
    local curve=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
    mkdir -p "$1"
    (
        cd "$1" || exit
        openssl req -x509 "${curve[@]}" -keyout ca-key.pem -out ca-cert.pem -days 2 -subj /CN=ca -addext keyUsage=critical,keyCertSign
        openssl req "${curve[@]}" -keyout server-key.pem -out request -subj /CN=localhost
        openssl x509 -req -in request -CA ca-cert.pem -CAkey ca-key.pem -CAcreateserial -days 2 -out server-cert.pem
    ) 2>/dev/null
}

# ---- network ----

network() { # [BRIDGE…]
    local bridge
    NETNS=$(namespace_of "$TEST_DIR")
    ip netns add "$NETNS"
    ip -n "$NETNS" link set lo up
    for bridge in "$@"; do
        ip -n "$NETNS" link add "$bridge" type bridge
        ip -n "$NETNS" link set "$bridge" up
    done
}

# Without a network namespace of the test's own, those of other runs are there as well.
taps() { # names of the test's taps
    inside ip -o link show type tun 2>/dev/null | sed 's/^[0-9]*: \([^:@]*\).*/\1/' |
        if [[ -n $NETNS ]]; then
            cat
        else
            grep -xFf <(cat "$RUN_DIR"/nic/*/* 2>/dev/null) || true
        fi
}

bridge_of() { # TAP
    inside ip -o link show "$1" | sed -n 's/.* master \([^ ]*\) .*/\1/p'
}
