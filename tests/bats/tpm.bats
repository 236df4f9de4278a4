#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# A TPM and its emulator: there with the instance, gone with it, its state kept, moved, removed when that is asked for.

load helper
load migrate

setup() {
    suite_setup
    if [[ ! -x /usr/bin/swtpm ]]; then
        [[ -z ${KVM_SUITE_NO_SKIP:-} ]] || fail "the package swtpm is missing"
        skip "no swtpm here"
    fi
}

TPM='.hvparams += {machine_version: "q35", tpm: "crb"}'

swtpm_pid() { # NAME: what its pid file says
    tr -dc 0-9 <"$RUN_DIR/tpm/$1"
}

@test "the emulator runs as the instance's user, its state is that user's, and it ends after QEMU" {
    chmod 0711 "$TEST_DIR"
    suite kvm-start "$(empty_definition web1 "$TPM | .hvparams += {security_model: \"user\", security_domain: \"nobody\", use_chroot: true}")"
    expect_status 0
    expect_equal "$(qmp web1 query-tpm | jq -r '.[0].model')" tpm-crb
    pid=$(swtpm_pid web1)
    expect_equal "$(stat -c %U "/proc/$pid")" nobody
    expect_equal "$(stat -c '%U %a' "$TEST_DIR/state/tpm/web1")" "nobody 700"
    suite kvm-info web1
    expect_output "crb, swtpm pid $pid"
    # By itself, as a rule: one that is in the middle of an answer when QEMU is killed may stay, until the clean-up.
    kill -KILL "$(qemu_pid web1)"
    wait_until 10 qemu_is_dead web1
    suite kvm-cleanup web1
    expect_status 0
    process_is_gone "$pid"
    expect_nothing_left web1
    [[ -e $TEST_DIR/state/tpm/web1/tpm2-00.permall ]]
}

@test "its state is kept over stop, start as another user, and reboot, until --remove-state" {
    chmod 0711 "$TEST_DIR"
    suite kvm-start "$(empty_definition web1 "$TPM")"
    expect_status 0
    suite kvm-stop --force web1
    expect_status 0
    expect_nothing_left web1
    before=$(stat -c %i "$TEST_DIR/state/tpm/web1")
    suite kvm-start "$(empty_definition web1 "$TPM | .hvparams += {tpm: \"tis\", security_model: \"user\", security_domain: \"nobody\"}")"
    expect_status 0
    expect_equal "$(stat -c %U "$TEST_DIR/state/tpm/web1/tpm2-00.permall")" nobody
    pid=$(swtpm_pid web1)
    suite kvm-stop --reboot --force web1
    expect_status 0
    process_is_gone "$pid"
    qmp web1 query-tpm | jq -e '.[0].model == "tpm-tis"'
    suite kvm-stop --force web1
    expect_equal "$(stat -c %i "$TEST_DIR/state/tpm/web1")" "$before"
    suite kvm-cleanup --remove-state web1
    expect_output "the state of its TPM was removed"
    [[ ! -e $TEST_DIR/state/tpm/web1 ]]
}

@test "a start that fails leaves neither emulator nor state; a missing emulator is told before" {
    suite kvm-start "$(empty_definition web1 "$TPM | .hvparams.kvm_extra = \"-device no-such-device\"")"
    expect_status 1
    expect_nothing_left web1
    [[ ! -e $TEST_DIR/state/tpm/web1 ]]
    suite kvm-start "$(empty_definition web1 "$TPM | .hvparams.swtpm_path = \"/nowhere/swtpm\"")"
    expect_status 2
    expect_error "hvparams.swtpm_path: No such file"
}

@test "an emulator that has died is told by kvm-info, and keeps the instance from migrating" {
    two_nodes
    suite kvm-start "$(empty_definition web1 "$TPM")"
    expect_status 0
    pid=$(swtpm_pid web1)
    kill -KILL "$pid"
    wait_until 10 process_is_gone "$pid"
    suite kvm-info web1
    expect_output "its swtpm has died"
    migrate a check
    expect_status 3
    expect_error "tpm: its swtpm has died"
    suite kvm-stop --reboot --force web1
    expect_status 0
    suite kvm-info web1
    expect_no_output "has died"
}

@test "an emulator that hangs after QEMU's end is ended by kvm-cleanup" {
    suite kvm-start "$(empty_definition web1 "$TPM")"
    expect_status 0
    pid=$(swtpm_pid web1)
    kill -STOP "$pid"
    kill -KILL "$(qemu_pid web1)"
    wait_until 10 qemu_is_dead web1
    suite kvm-cleanup web1
    expect_status 0
    process_is_gone "$pid"
    expect_nothing_left web1
}

@test "an emulator that hangs is ended within the time that the clean-up has" {
    suite kvm-start --paused "$(empty_definition web1 "$TPM")"
    expect_status 0
    pid=$(swtpm_pid web1)
    kill -STOP "$pid"
    kill -KILL "$(qemu_pid web1)"
    wait_until 10 qemu_is_dead web1
    local began=${EPOCHREALTIME/./}
    suite kvm-cleanup --timeout 0.4 web1
    [[ $((${EPOCHREALTIME/./} - began)) -lt 2500000 ]] || fail "took longer than its time and two seconds"
    if [[ $status -eq 5 ]]; then # what was killed goes when the kernel finds the time
        wait_until 5 process_is_gone "$pid"
        suite kvm-cleanup web1
    fi
    expect_status 0
    process_is_gone "$pid"
    expect_nothing_left web1
}

@test "a state that can't be removed is told, and the clean-up repeated finishes it" {
    suite kvm-start --paused "$(empty_definition web1 "$TPM")"
    expect_status 0
    kill -KILL "$(qemu_pid web1)"
    wait_until 10 qemu_is_dead web1
    mkdir "$TEST_DIR/state/tpm/web1/odd"
    suite kvm-cleanup --remove-state web1
    expect_status 5
    expect_error "the state of its TPM: $TEST_DIR/state/tpm/web1/odd: "
    expect_error "'kvm-cleanup --remove-state web1' tries again"
    suite kvm-cleanup --remove-state web1 --json
    expect_status 5
    rmdir "$TEST_DIR/state/tpm/web1/odd"
    suite kvm-cleanup --remove-state web1
    expect_status 0
    expect_output "the state of its TPM was removed"
    expect_nothing_left web1
}

@test "migration takes the TPM along, and an aborted one leaves nothing on the target" {
    two_nodes
    suite kvm-start "$(empty_definition web1 "$TPM")"
    expect_status 0
    migrate a rehearse
    expect_status 0
    expect_runs_on a
    [[ ! -e $TEST_DIR/state-b/tpm/web1 ]]
    pid=$(swtpm_pid web1)
    migrate a to
    expect_status 0
    expect_runs_on b
    process_is_gone "$pid"
    cmp "$TEST_DIR/state-a/tpm/web1/tpm2-00.permall" "$TEST_DIR/state-b/tpm/web1/tpm2-00.permall"
    on b suite kvm-info web1
    expect_output "crb, swtpm pid"
}

@test "a state directory that both nodes share is refused by name" {
    two_nodes
    ln -s "$TEST_DIR/state-a" "$TEST_DIR/state-b"
    suite kvm-start "$(empty_definition web1 "$TPM")"
    expect_status 0
    wait_until 10 test -e "$TEST_DIR/state-a/tpm/web1/.lock"
    migrate a check
    expect_status 3
    expect_error "is in use by another swtpm: a state directory that two nodes share"
    expect_runs_on a
}
