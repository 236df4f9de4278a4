# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# What the files ganeti*.bats share:  load helper; load hotplug; load ganeti
#
#     ganeti COMMAND ARG…         Ganeti's installed KVM backend on this test's run directory: see tests/ganeti/backend;
#                                 it must succeed, and what it returns is in $output
#     ganeti_fails COMMAND ARG…   …must fail: $errors
#     both NAME [JQ]              a definition for kvm-start and Ganeti alike: one disk, one bridged NIC

# Ganeti gives the directory its name.
ganeti_setup() {
    suite_setup
    RUN_DIR=$TEST_DIR/kvm-hypervisor
    export RUN_DIR KVM_RUN_DIR=$RUN_DIR
}

DISK1=7c079136-2573-4112-82d0-0d3d2aa90d8f
DISK2=51fb601b-bc18-42ef-b884-713bf7e8a924
NIC1=003fc157-66a8-4e6d-8b7e-ec4f69751396
NIC2=8307d151-2fca-4b2c-a8ae-9c17f8a23e74
export DISK1 DISK2 NIC1 NIC2

# shellcheck disable=SC2034  # status is read by expect_status
ganeti_runs() { # COMMAND ARG…
    status=0
    inside env GANETI_IFUP="$TESTS/ganeti/ifup" timeout --kill-after=5 90 "$TESTS/ganeti/backend" \
        --definition "${DEFINITION:-$TEST_DIR/web1.json}" "$@" >"$TEST_DIR/stdout" 2>"$TEST_DIR/stderr" 3>&- || status=$?
    output=$(cat "$TEST_DIR/stdout")
    errors=$(cat "$TEST_DIR/stderr")
    printf '$ ganeti %s\n%s\n' "$*" "$output"
    [[ -z $errors ]] || printf '%s\n' "$errors" | sed 's/^/! /'
}

ganeti() { # COMMAND ARG…
    ganeti_runs "$@"
    expect_status 0
}

ganeti_fails() { # COMMAND ARG…
    ganeti_runs "$@"
    expect_status 1
}

both() { # NAME [JQ]
    local image
    image=$(disk first 8)
    definition "$1" '.disks = [{uuid: "'"$DISK1"'", path: "'"$image"'"}]
        | .nics = [{uuid: "'"$NIC1"'", mac: "aa:00:00:00:00:01", nicparams: {mode: "bridged", link: "br0"}}] | '"${2:-.}"
}

second_disk() { # as Ganeti's add-disk takes it
    jq -cn --arg path "$(disk second 8)" '{uuid: "'"$DISK2"'", $path}'
}

second_nic() {
    jq -cn '{uuid: "'"$NIC2"'", mac: "aa:00:00:00:00:02", nicparams: {mode: "bridged", link: "br0"}}'
}

# The monitor that both kinds of QEMU have.
qmp() { # NAME COMMAND [ARGUMENTS]
    "$TESTS/bats/qmp" "$RUN_DIR/ctrl/$1.qmp" "${@:2}"
}

# Alive by the pid file alone: a QEMU of Ganeti's has no log of ours open.
qemu_lives() { # NAME
    local pid
    pid=$(qemu_pid "$1") || return 1
    ! process_is_gone "$pid" && grep -qz "^$1$" "/proc/$pid/cmdline"
}
