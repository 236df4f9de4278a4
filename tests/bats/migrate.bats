#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# kvm-migrate with a real guest, between two network namespaces.
# bats file_tags=guest

load helper
load hotplug
load migrate

# Far below what would lose memory under TCG (QEMU 7.2 drops dirty pages of a hard-writing guest there).
MILD=(--bandwidth 48)

there_and_back() { # OPTION…
    local image
    two_nodes br0
    image=$(disk web1 8)
    watch_runs
    start web1 ".disks = [{path: \"$image\"}] | .nics = [{nicparams: {mode: \"bridged\", link: \"br0\"}}]"
    mark
    guest_run web1 'gt dw /dev/vda 1024 2000 >/dw.out 2>&1 & gt dirty 16 8000 >/dev/null 2>&1 & gt verify 16 4 >/verify.out 2>&1 &'
    migrate a to "${MILD[@]}" "$@"
    expect_status 0
    expect_output "runs on 10.9.0.2 now"
    expect_runs_on b
    on b expect_mark
    expect_equal "$(on b bridge_of "$(on b taps)")" br0
    migrate b to "${MILD[@]}" "$@"
    expect_status 0
    expect_runs_on a
    expect_mark
    guest_until web1 '[ -s /verify.out ]'
    expect_equal "$(guest_run web1 'sed "s/.* //" /verify.out')" bad=0
    guest_run web1 'killall gt; gt dr /dev/vda 1024' >"$TEST_DIR/read"
    cat "$TEST_DIR/read"
    grep -q 'max=[1-9][0-9]* bad=0 torn=0' "$TEST_DIR/read"
    expect_equal "$(secrets)" ""
    expect_no_double_run
}

@test "to the other node and back, encrypted: memory, disk and uptime are kept under load" {
    there_and_back
}

@test "to the other node and back in plain TCP: memory, disk and uptime are kept under load" {
    there_and_back --plain-tcp
}

@test "to the other node and back through the remote command: memory, disk and uptime are kept under load" {
    there_and_back --tunnel
}

@test "on q35, there and back" {
    two_nodes br0
    start web1 '.hvparams.machine_version = "q35" | .nics = [{nicparams: {mode: "bridged", link: "br0"}}]'
    mark
    migrate a to "${MILD[@]}"
    expect_status 0
    expect_runs_on b
    on b expect_mark
    migrate b to "${MILD[@]}"
    expect_status 0
    expect_runs_on a
    expect_mark
}
