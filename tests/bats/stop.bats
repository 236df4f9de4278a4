#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# kvm-stop on real QEMU: the ladder from a polite request to a kill, what it leaves, and who ended the guest.

load helper

# ---- small words of this file ----

# One step of the custom scripts each: a line per call.
count_calls() {
    local which
    for which in ifup ifdown; do
        printf '#!/bin/sh\necho "$1 $2" >>"%s/%s"\n' "$TEST_DIR" "$which" >"$CONF_DIR/kvm-$which-custom"
        chmod 0755 "$CONF_DIR/kvm-$which-custom"
        : >"$TEST_DIR/$which"
    done
}

calls() { # ifup|ifdown
    wc -l <"$TEST_DIR/$1"
}

start() { # FILE…
    suite kvm-start "$@"
    expect_status 0
}

booted() { # NAME
    guest_run "$1" true
}

# The guest does it by itself; the serial line may go before the answer comes.
let_guest() { # NAME COMMAND
    booted "$1"
    # It may be gone before it has answered; what it did is looked for by the caller.
    GUEST_TIMEOUT=10 guest_run "$1" "($2) >/dev/null 2>&1 &" || true
}

has_panicked() { # NAME
    grep -q GUEST_PANICKED "$RUN_DIR/events/$1.jsonl"
}

stop_and_tell() { # NAME OPTION…: $ending and $reason of its one result
    suite kvm-stop --json "$@"
    expect_status 0
    ending=$(jq -r '.[0].ending' <<<"$output")
    reason=$(jq -r '.[0].reason' <<<"$output")
}

# ---- asking ----

# bats test_tags=guest
@test "the guest powers off on the button; ifdown once, nothing left, and it says who asked" {
    network br0
    count_calls
    start "$(definition web1 '.nics = [{nicparams: {link: "br0"}}]')"
    booted web1
    suite kvm-stop --timeout 60 web1
    expect_status 0
    expect_output "web1: stopped: the guest powered off on request of kvm-stop by root at"
    expect_equal "$(calls ifup) $(calls ifdown)" "1 1"
    expect_nothing_left web1
    suite kvm-info web1
    expect_status 3
}

# bats test_tags=guest
@test "a guest that is still booting gets the button again until it hears it" {
    start "$(definition web1)"
    suite kvm-stop -v --timeout 60 web1
    expect_status 0
    expect_error "pressing the power button again"
    expect_output "on request"
    expect_nothing_left web1
}

# bats test_tags=guest
@test "the guest agent is asked first, and its answer is enough" {
    start "$(definition web1 '.hvparams.use_guest_agent = true | .hvparams.kernel_args += " gt.agent gt.nobutton"')"
    booted web1
    suite kvm-stop -v --timeout 60 web1
    expect_status 0
    expect_error "asking the guest agent"
    expect_no_error "power button"
    expect_output "on request of kvm-stop"
    expect_nothing_left web1
}

# bats test_tags=guest
@test "an agent that never answers does not keep the button from being pressed" {
    start "$(definition web1 '.hvparams.use_guest_agent = true | .hvparams.kernel_args += " gt.agent=deaf"')"
    booted web1
    suite kvm-stop -v --timeout 60 web1
    expect_status 0
    expect_error "the guest agent does not answer"
    expect_error "pressing the power button"
    expect_nothing_left web1
}

# bats test_tags=guest
@test "an agent that refuses does not keep the button from being pressed" {
    start "$(definition web1 '.hvparams.use_guest_agent = true | .hvparams.kernel_args += " gt.agent=refuse"')"
    booted web1
    suite kvm-stop -v --timeout 9 web1 # within the grace of an agent that had agreed
    expect_status 0
    expect_error "the guest agent refuses: not done here"
    expect_error "pressing the power button"
    expect_nothing_left web1
}

@test "a guest that ignores the button runs on: exit 6, then --force ends it" {
    start "$(empty_definition web1)" # firmware alone never powers off
    pid=$(qemu_pid web1)
    suite kvm-stop --timeout 1 web1
    expect_status 6
    expect_error "still runs (pid $pid)"
    expect_error "'kvm-stop --force web1'"
    expect_equal "$(qmp web1 query-status | jq -r .status)" running
    suite kvm-info web1
    expect_status 0
    stop_and_tell web1 --force
    expect_equal "$ending" killed
    [[ $reason == "QEMU was killed by kvm-stop (pid "*", root) at "* ]]
    expect_nothing_left web1
}

@test "--kill-after asks, waits and kills" {
    start "$(empty_definition web1)"
    suite kvm-stop -v --kill-after 3 web1
    expect_status 0
    expect_error "pressing the power button again"
    expect_output "killed by kvm-stop"
    expect_nothing_left web1
}

@test "a guest that can't hear is told apart: paused, or without ACPI" {
    suite kvm-start --paused "$(empty_definition a)"
    start "$(empty_definition b '.hvparams.acpi = false')" "$(empty_definition c)"
    qmp c stop
    suite kvm-stop a
    expect_status 3
    expect_error "paused start"
    expect_error "'kvm-start FILE' lets it run"
    suite kvm-stop b
    expect_status 3
    expect_error "neither ACPI"
    suite kvm-stop c
    expect_status 3
    expect_error "the guest is paused"
    expect_error "'kvm-info --events c'"
    for name in a b c; do qemu_lives $name; done
    suite kvm-stop --force a b c
    expect_status 0
    for name in a b c; do expect_nothing_left $name; done
}

@test "a QEMU that hangs: the request ends in time and kills nothing, --force kills" {
    start "$(empty_definition web1)"
    pid=$(qemu_pid web1)
    kill -STOP "$pid"
    began=${EPOCHREALTIME/./}
    suite kvm-stop --timeout 1 web1
    [[ $status -ne 0 ]]
    [[ $((${EPOCHREALTIME/./} - began)) -lt 4500000 ]]
    expect_error "'kvm-stop --force web1'"
    qemu_lives web1
    suite kvm-stop --force web1
    expect_status 0
    process_is_gone "$pid"
    expect_nothing_left web1
}

# ---- again ----

@test "stopping what does not run is success, every time" {
    start "$(empty_definition web1)"
    suite kvm-stop --force web1
    expect_status 0
    for _ in 1 2; do
        suite kvm-stop web1
        expect_status 0
        expect_output "already stopped"
    done
    suite kvm-stop never-there
    expect_status 0
    suite kvm-stop --reboot web1
    expect_status 3
    suite kvm-stop --reset web1
    expect_status 3
}

# bats test_tags=guest
@test "--reboot: a new QEMU with the same uuid, slots, devices, hvparams and disk" {
    network br0
    count_calls
    image=$(disk one 4)
    start "$(definition web1 ".disks = [{path: \"$image\"}] | .nics = [{nicparams: {link: \"br0\"}}]")"
    guest_run web1 'echo before >/dev/vda; sync'
    suite kvm-info --json web1
    jq 'def bare: walk(if type == "object" then del(.pid, .since, .tap) else . end); .[0] | {uuid, machine, memory_mib, disks, nics, runtime} | bare' <<<"$output" >"$TEST_DIR/before"
    pid=$(qemu_pid web1)
    # What the node configures now is not what the guest runs with.
    echo '{"hvparams": {"machine_version": "q35", "disk_type": "ide", "nic_type": "e1000"}, "beparams": {"memory": 96}}' >"$CONF_DIR/kvm-defaults.json"
    suite kvm-stop --reboot --timeout 60 web1
    expect_status 0
    expect_output "web1: rebooted"
    [[ $(qemu_pid web1) != "$pid" ]]
    suite kvm-info --json web1
    jq 'def bare: walk(if type == "object" then del(.pid, .since, .tap) else . end); .[0] | {uuid, machine, memory_mib, disks, nics, runtime} | bare' <<<"$output" >"$TEST_DIR/after"
    diff "$TEST_DIR/before" "$TEST_DIR/after"
    expect_equal "$(guest_run web1 'head -n 1 /dev/vda; cat /proc/uptime | cut -d . -f 1 | grep -c "^[0-9][0-9]\?$"')" $'before\n1'
    expect_equal "$(calls ifup) $(calls ifdown)" "2 1"
    expect_equal "$(taps | wc -l)" 1
}

@test "a reboot whose ifdown fails names the command that finishes it, and that one does" {
    network br0
    count_calls
    printf '#!/bin/sh\nexit 3\n' >"$CONF_DIR/kvm-ifdown-custom"
    start "$(empty_definition web1 '.nics = [{nicparams: {link: "br0"}}]')"
    suite kvm-stop --reboot --force web1
    expect_status 5
    expect_error "'kvm-cleanup web1' tries again, 'kvm-stop --reboot web1' does so and starts it"
    qemu_is_dead web1
    rm "$CONF_DIR/kvm-ifdown-custom"
    suite kvm-stop --reboot web1
    expect_status 0
    qemu_lives web1
}

@test "a reboot whose start fails says so, and repeating it after the cause is mended starts it" {
    image=$(disk one 4)
    start "$(empty_definition web1 ".disks = [{path: \"$image\"}]")"
    mv "$image" "$image.away"
    suite kvm-stop --reboot --force web1
    expect_status 5
    expect_error "$image"
    expect_error "'kvm-stop --reboot web1'"
    qemu_is_dead web1
    mv "$image.away" "$image"
    suite kvm-stop --reboot web1
    expect_status 0
    qemu_lives web1
}

# bats test_tags=guest
@test "--reset starts the guest anew in the same QEMU" {
    start "$(definition web1)"
    guest_run web1 'echo here >/tmp/mark'
    pid=$(qemu_pid web1)
    suite kvm-stop --reset web1
    expect_status 0
    expect_equal "$(qemu_pid web1)" "$pid"
    expect_no_error "not told yet"
    wait_until 10 grep -q '"RESET"' "$RUN_DIR/events/web1.jsonl"
    run -1 guest_run web1 'test -e /tmp/mark'
}

@test "several names and --all, side by side, each with its line" {
    start "$(empty_definition a)" "$(empty_definition b)" "$(empty_definition c)" "$(empty_definition d)"
    suite kvm-stop --force a b
    expect_status 0
    expect_equal "$(grep -c -E '^(a|b): stopped: QEMU was killed' <<<"$output")" 2
    qemu_lives c
    began=${EPOCHREALTIME/./}
    suite kvm-stop --all --timeout 3 # all of them in the time of one
    expect_status 6
    [[ $((${EPOCHREALTIME/./} - began)) -lt 5500000 ]]
    expect_equal "$(grep -c -E ': (c|d): .*still runs' <<<"$errors")" 2
    suite kvm-stop --all --force
    expect_status 0
    for name in a b c d; do expect_nothing_left $name; done
    suite kvm-stop --all
    expect_status 0
}

@test "--dry-run tells and does nothing" {
    start "$(empty_definition web1)"
    before=$(find "$RUN_DIR" -ls | sort -k 11)
    suite kvm-stop --dry-run web1
    expect_status 0
    expect_output "would be asked to power off"
    suite kvm-stop --dry-run --force web1
    expect_output "would be killed"
    expect_equal "$(find "$RUN_DIR" -ls | sort -k 11)" "$before"
    expect_equal "$(qmp web1 query-status | jq -r .status)" running
    mv "$RUN_DIR/conf/web1.runtime" "$TEST_DIR/away"
    suite kvm-stop --dry-run --reboot web1
    expect_status 3
    expect_error "a reboot starts from the runtime file, which is missing"
}

@test "while one stop waits, another is told who holds the instance" {
    start "$(empty_definition web1)"
    "$BUILD/kvm-stop" --timeout 30 --kill-after 4 web1 >"$TEST_DIR/first" 2>&1 3>&- &
    first=$!
    wait_until 10 grep -q '"powerdown"' "$RUN_DIR/events/web1.jsonl"
    suite kvm-stop --force web1
    expect_status 4
    expect_error "busy: kvm-stop pid $first by root since"
    suite kvm-stop --force --wait-lock 20 web1
    expect_status 0
    wait "$first"
    expect_nothing_left web1
}

# ---- identity ----

@test "another process that holds the pid file is never signalled" {
    start "$(empty_definition web1)"
    kill -KILL "$(qemu_pid web1)"
    wait_until 10 qemu_is_dead web1
    python3 -c '
import fcntl, sys, time
f = open(sys.argv[1], "r+")
fcntl.lockf(f, fcntl.LOCK_EX)
open(sys.argv[2], "w").close()
time.sleep(60)' "$RUN_DIR/pid/web1" "$TEST_DIR/locked" 3>&- &
    other=$!
    wait_until 10 test -e "$TEST_DIR/locked"
    for words in "kvm-stop web1" "kvm-stop --force web1" "kvm-stop --kill-after 0 web1" "kvm-stop --reboot web1" "kvm-cleanup web1"; do
        # shellcheck disable=SC2086
        suite $words
        [[ $status -eq 1 || $status -eq 3 ]]
        expect_failure process_is_gone "$other"
    done
    expect_error "pid $other"
    [[ -e $RUN_DIR/conf/web1.runtime ]]
    kill "$other"
}

# ---- who ended it ----

# bats test_tags=guest
@test "who ended it: the guest by itself" {
    start "$(definition web1)"
    let_guest web1 'poweroff -f'
    wait_until 30 qemu_is_dead web1
    suite kvm-info --json web1
    expect_status 3
    expect_json '.[0] | .state == "stopped" and .ending == "guest-poweroff"'
    stop_and_tell web1
    expect_equal "$ending" guest-poweroff
    [[ $reason == "the guest powered off by itself at "* ]]
    expect_nothing_left web1
}

# bats test_tags=guest
@test "who ended it: a guest's reboot, where that ends the instance" {
    start "$(definition web1 '.hvparams.reboot_behavior = "exit"')"
    let_guest web1 'reboot -f'
    wait_until 30 qemu_is_dead web1
    stop_and_tell web1
    expect_equal "$ending" guest-reset
}

# bats test_tags=guest
@test "who ended it: a panic, told also when it was killed afterwards" {
    start "$(definition web1 '.hvparams.kernel_args = "ro quiet tsc=unstable"')"
    let_guest web1 panic
    wait_until 30 has_panicked web1
    stop_and_tell web1 --force
    expect_equal "$ending" guest-panic
    [[ $reason == "the guest panicked at "*", then QEMU was killed by kvm-stop"* ]]
}

# bats test_tags=guest
@test "who ended it: a guest that panicked, rebooted and was then asked to power off" {
    start "$(definition web1)"
    let_guest web1 panic
    wait_until 30 has_panicked web1
    booted web1
    stop_and_tell web1 --timeout 60
    expect_equal "$ending" requested-poweroff
    [[ $reason == *"; it had panicked at "*" and rebooted" ]]
}

@test "who ended it: somebody's TERM, with the name of who sent it" {
    start "$(empty_definition web1)"
    bash -c 'kill -TERM "$1"; sleep 0.2' sender "$(qemu_pid web1)" 3>&- &
    sender=$!
    wait "$sender"
    wait_until 10 qemu_is_dead web1
    stop_and_tell web1
    expect_equal "$ending" signal
    [[ $reason == "QEMU was terminated by signal 15 from pid $sender"* ]]
}

@test "who ended it: a KILL, which leaves no word" {
    start "$(empty_definition web1)"
    kill -KILL "$(qemu_pid web1)"
    wait_until 10 qemu_is_dead web1
    stop_and_tell web1
    expect_equal "$ending" killed
    [[ $reason == "QEMU ended without a word"* ]]
}

@test "who ended it: its monitor, or the node" {
    start "$(empty_definition a)" "$(empty_definition b)"
    "$TESTS/bats/qmp" "$RUN_DIR/ctrl/a.query" quit
    wait_until 10 qemu_is_dead a
    stop_and_tell a
    expect_equal "$ending" quit
    kill -KILL "$(qemu_pid b)"
    wait_until 10 qemu_is_dead b
    jq -c '.[4].boot_id = "00000000-1111-4222-8333-444444444444"' "$RUN_DIR/conf/b.runtime" >"$TEST_DIR/edited"
    cat "$TEST_DIR/edited" >"$RUN_DIR/conf/b.runtime"
    stop_and_tell b
    expect_equal "$ending" node-reboot
}

# ---- what a stop may not do ----

@test "--kill-after kills a QEMU that greets and answers nothing more" {
    local pid
    make_run_dir
    printf 'silent query-status\nsilent system_powerdown\n' >"$TEST_DIR/script"
    "$BUILD/tests/fake-qmp" "$RUN_DIR/ctrl/web1.qmp" "$TEST_DIR/script" --pid-file "$RUN_DIR/pid/web1" \
        >"$TEST_DIR/ready" 3>&- &
    pid=$!
    wait_until 10 grep -q ready "$TEST_DIR/ready"
    began=$SECONDS
    suite kvm-stop --kill-after 1.5 --timeout 60 web1
    expect_status 0
    [[ $((SECONDS - began)) -le 20 ]]
    process_is_gone "$pid"
}

@test "a reboot that could not stop the guest leaves the record of a paused start as it was" {
    suite kvm-start --paused "$(empty_definition web1)"
    suite kvm-stop --reboot web1
    expect_status 3
    expect_error "paused start"
    expect_equal "$(jq -r '.[4].state' "$RUN_DIR/conf/web1.runtime")" paused
    suite kvm-stop --force web1
}

# The record of a source in PHASE, its QEMU dead.
source_in() { # PHASE
    start "$(empty_definition web1)"
    kill -KILL "$(qemu_pid web1)"
    wait_until 10 qemu_is_dead web1
    jq -c --arg phase "$1" '.[4].migration = {side: "source", phase: $phase, id: "1", peer: "node2",
        commit_token: "c", abort_token: "a"}' "$RUN_DIR/conf/web1.runtime" >"$TEST_DIR/edited"
    cat "$TEST_DIR/edited" >"$RUN_DIR/conf/web1.runtime"
}

@test "a guest that was given to another node is not started here again, nor is the record of it removed" {
    source_in committed
    for words in "kvm-start $TEST_DIR/web1.json" "kvm-stop web1" "kvm-stop --force web1" "kvm-cleanup web1" \
        "kvm-cleanup --explain web1" "kvm-cleanup --all" "kvm-start --dry-run $TEST_DIR/web1.json" "kvm-stop --dry-run web1"; do
        # shellcheck disable=SC2086
        suite $words
        expect_status 3
        expect_error "kvm-migrate web1"
        cmp "$TEST_DIR/edited" "$RUN_DIR/conf/web1.runtime"
        qemu_is_dead web1
    done
}

@test "a guest lost on its way to another node is started here again only after a clean-up" {
    source_in sending
    suite kvm-start "$TEST_DIR/web1.json"
    expect_status 3
    expect_error "kvm-cleanup web1"
    qemu_is_dead web1
    suite kvm-start --dry-run "$TEST_DIR/web1.json"
    expect_status 3
    expect_error "kvm-cleanup web1"
    for words in --reboot --reset; do
        suite kvm-stop --dry-run $words web1
        expect_status 3
        expect_error "does not run"
    done
    suite kvm-cleanup web1
    expect_status 0
    expect_nothing_left web1
}

@test "a name that was never used here leaves no lock, whatever is asked of it" {
    local words
    make_run_dir
    for words in "0 kvm-stop web7" "0 kvm-stop --force web7" "3 kvm-stop --reboot web7" "0 kvm-cleanup web7" \
        "3 kvm-hotplug web7 set-memory 32" "3 kvm-start --adopt web7" "3 kvm-migrate web7 to 127.0.0.1" \
        "3 kvm-migrate web7 check 127.0.0.1" "3 kvm-migrate web7 offer 127.0.0.1" "0 kvm-migrate web7 recover" \
        "0 kvm-migrate web7 status" "3 kvm-migrate web7 commit"; do
        # shellcheck disable=SC2086
        suite ${words#* }
        expect_status "${words%% *}"
        expect_equal "$(ls "$RUN_DIR/lock")" ""
    done
    suite kvm-stop web7
    expect_output "web7: already stopped: nothing of it is here"
}
