#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# What happens when a command is killed, fails half-way, meets another one, or the disk does.
# shellcheck disable=SC2030,SC2031  # "status" is set and read within one test

load helper

# Scripts that keep the books: a directory for each configured tap, made by ifup and removed by ifdown.
setup() {
    suite_setup
    mkdir "$TEST_DIR/books"
    printf '#!/bin/sh\nmkdir "%s/books/$1" || echo "$1" >>"%s/twice"\n' "$TEST_DIR" "$TEST_DIR" \
        >"$CONF_DIR/kvm-ifup-custom"
    printf '#!/bin/sh\nrmdir "%s/books/$1" 2>/dev/null || true\n' "$TEST_DIR" >"$CONF_DIR/kvm-ifdown-custom"
    chmod 0755 "$CONF_DIR"/kvm-if*-custom
}

# Two NICs and a disk, nothing to boot.
instance() { # [JQ-FILTER]
    [[ -e $TEST_DIR/d.img ]] || disk d 1 >/dev/null
    empty_definition web1 '.uuid = "7c079136-2573-4112-8b0a-111111111111" | .hvparams.acpi = false
        | .beparams.memory = 16 | .disks = [{path: "'"$TEST_DIR/d.img"'"}]
        | .nics = [{uuid: "0a0b0c0d-2573-4112-8b0a-222222222222", nicparams: {mode: "bridged", link: "none"}},
                   {uuid: "1a1b1c1d-2573-4112-8b0a-333333333333", nicparams: {mode: "bridged", link: "none"}}] | '"${1:-.}"
}

expect_books() { # TAPS-CONFIGURED
    expect_equal "$(find "$TEST_DIR/books" -mindepth 1 | wc -l)" "$1"
    [[ ! -e $TEST_DIR/twice ]] || fail "ifup ran twice without an ifdown between for $(cat "$TEST_DIR/twice")"
}

expect_clean() {
    expect_nothing_left web1
    expect_books 0
    expect_equal "$(qemus)" 0
}

# How many QEMUs of web1 there are, also those that no pid file tells of.
qemus() {
    find /proc/[0-9]*/fd/1 -lname "$RUN_DIR/log/web1.log*" 2>/dev/null | wc -l
}

# Every file with its kind, mode, owner and content; lock/ and cache/ belong to no instance.
snapshot() {
    (cd "$RUN_DIR" && find . \( -path ./lock -o -path ./cache \) -prune -o -printf '%p %y %m %u\n' | sort &&
        find . \( -path ./lock -o -path ./cache \) -prune -o -type f -exec sha256sum {} + | sort)
}

# ---- kills ----

killed() { # EVERY SCENARIO
    mkdir "$TEST_DIR/c"
    run timeout 280 "$TESTS/crash" --dir "$TEST_DIR/c" --every "$1" "$2"
    echo "$output"
    expect_equal "$status" 0
    expect_output " 0 failed"
}

@test "killed at its system calls, a change of QEMU in place leaves one guest that runs, whatever is typed" {
    killed 29 in-place
}

@test "killed at its system calls, kvm-start leaves what kvm-start, kvm-stop and kvm-cleanup finish" {
    killed 23 start
}

@test "killed at its system calls, the very first kvm-start leaves what later commands finish" {
    killed 37 start-first
}

@test "killed at its system calls, kvm-start with pool, chroot and disk leaves what later commands finish" {
    killed 37 start-full
}

@test "killed at its system calls, kvm-start over a dead instance leaves what later commands finish" {
    killed 40 start-over-dead
}

@test "killed at its system calls, kvm-start of two instances leaves what later commands finish" {
    killed 4 start-several
}

@test "killed at its system calls, kvm-stop leaves what later commands finish" {
    killed 23 stop
}

@test "killed at its system calls, kvm-stop of a dead instance leaves what later commands finish" {
    killed 29 stop-dead
}

@test "killed at its system calls, a reboot is finished by repeating it, or given up by other commands" {
    killed 41 reboot
}

@test "killed at its system calls, kvm-cleanup leaves what later commands finish" {
    killed 23 cleanup
}

@test "killed at its system calls, kvm-cleanup --remove-state repeated finds what it had to remove" {
    killed 29 cleanup-state
}

@test "killed at its system calls, kvm-start leaves no NVRAM and no TPM of a guest that never ran" {
    killed 29 start-lasting
}

@test "killed at its system calls, kvm-start --adopt repeated makes the runtime file, and a damaged one is kept aside" {
    killed 31 adopt
    rm -r "$TEST_DIR/c"
    killed 31 adopt-damaged
}

# bats test_tags=guest
@test "killed at its system calls, a graceful kvm-stop of a real guest is finished by repeating it" {
    killed 97 graceful
}

# ---- failing steps ----

@test "whichever step of a start fails, everything is undone" {
    network
    suite kvm-start "$(instance)"
    suite kvm-stop --force web1
    expect_status 0
    local before step
    before=$(snapshot)
    for ((step = 1; step <= 30; step++)); do
        KVM_SUITE_FAIL_STEP=$step suite kvm-start "$(instance)"
        [[ $status -ne 0 ]] || break
        expect_status 1
        expect_error KVM_SUITE_FAIL_STEP
        expect_equal "$(snapshot)" "$before"
        expect_clean
    done
    [[ $step -gt 9 ]] || fail "only $step steps"
    expect_status 0
    expect_books 2
    suite kvm-stop --force web1
    expect_status 0
    expect_equal "$(snapshot)" "$before"
    expect_clean
}

@test "whichever step of a reboot's start fails, repeating it brings the same devices back" {
    network
    suite kvm-start "$(instance)"
    expect_status 0
    suite kvm-info web1 --json
    local step slots
    slots=$("$BUILD/kvm-info" web1 --slots)
    for ((step = 1; step <= 30; step++)); do
        KVM_SUITE_FAIL_STEP=$step suite kvm-stop --reboot --force web1
        [[ $status -ne 0 ]] || break
        expect_status 5
        expect_error "kvm-stop --reboot web1"
        expect_equal "$(qemus)" 0
        expect_books 0
        expect_equal "$(taps)" ""
        suite kvm-info web1
        expect_status 3
        suite kvm-stop --reboot --force web1
        expect_status 0
        expect_equal "$(qemus)" 1
        expect_books 2
        expect_equal "$("$BUILD/kvm-info" web1 --slots)" "$slots"
    done
    [[ $step -gt 9 ]] || fail "only $step steps"
    suite kvm-stop --force web1
    expect_status 0
    expect_clean
}

@test "an ifup that fails for the second NIC leaves nothing, and ifdown ran for the first" {
    network
    printf '#!/bin/sh\n[ "$INTERFACE_INDEX" = 0 ] || { echo "no bridge today" >&2; exit 7; }\nmkdir "%s/books/$1"\n' \
        "$TEST_DIR" >"$CONF_DIR/kvm-ifup-custom"
    suite kvm-start "$(instance)"
    expect_status 1
    expect_error "no bridge today"
    expect_clean
}

@test "an ifdown that fails is told, and the next clean-up runs it again" {
    network
    suite kvm-start "$(instance)"
    expect_status 0
    cp "$CONF_DIR/kvm-ifdown-custom" "$TEST_DIR/good"
    printf '#!/bin/sh\nexit 7\n' >"$CONF_DIR/kvm-ifdown-custom"
    suite kvm-stop --force web1
    expect_status 5
    expect_error "kvm-cleanup web1"
    expect_equal "$(qemus)" 0
    expect_books 2
    cp "$TEST_DIR/good" "$CONF_DIR/kvm-ifdown-custom"
    suite kvm-cleanup web1
    expect_status 0
    expect_clean
}

# ---- two at once ----

# In the background; its exit status becomes the last line of FILE.
begin() { # FILE PROGRAM ARG…
    { inside timeout 60 "$BUILD/$2" "${@:3}" >"$1" 2>&1 3>&- </dev/null || echo $? >>"$1"; } 3>&- &
    begun+=($!)
}

# For these alone: a bare wait would wait for the watch of bats itself as well.
finish() {
    wait "${begun[@]}"
    begun=()
}

# Nothing but these exit statuses; 0 writes no line of its own.
expect_statuses() { # WORDS FILE…
    local file code
    for file in "${@:2}"; do
        code=$(sed -n '$s/^\([0-9]*\)$/\1/p' "$file")
        [[ " $1 " == *" ${code:-0} "* ]] || { cat "$file"; fail "exit status ${code:-0}, expected one of $1"; }
    done
}

@test "two starts of one instance give one QEMU" {
    network
    local round file
    file=$(instance)
    for round in {1..8}; do
        begin "$TEST_DIR/out1" kvm-start "$file"
        begin "$TEST_DIR/out2" kvm-start "$file"
        finish
        expect_statuses "0 4" "$TEST_DIR/out1" "$TEST_DIR/out2"
        expect_equal "$(qemus)" 1
        expect_books 2
        suite kvm-stop --force web1
        expect_status 0
        expect_clean
    done
}

@test "a start that waits for the lock finds the other's instance running" {
    network
    local file
    file=$(instance)
    begin "$TEST_DIR/out1" kvm-start --wait-lock 30 "$file"
    begin "$TEST_DIR/out2" kvm-start --wait-lock 30 "$file"
    begin "$TEST_DIR/out3" kvm-start --wait-lock 30 "$file"
    finish
    expect_statuses 0 "$TEST_DIR"/out[123]
    expect_equal "$(cat "$TEST_DIR"/out[123] | grep -c 'already running')" 2
    expect_equal "$(qemus)" 1
    suite kvm-stop --force web1
    expect_clean
}

@test "starts, stops and clean-ups at once never give two QEMUs nor a half state" {
    network
    local round file
    file=$(instance)
    for round in {1..12}; do
        begin "$TEST_DIR/out.start.$round" kvm-start "$file"
        begin "$TEST_DIR/out.clean.$round" kvm-cleanup --all
        begin "$TEST_DIR/out.stop.$round" kvm-stop --force web1
        begin "$TEST_DIR/out.again.$round" kvm-start "$file"
        [[ $(qemus) -le 1 ]] || fail "$(qemus) QEMUs"
        finish
        [[ $(qemus) -le 1 ]] || fail "$(qemus) QEMUs"
        suite kvm-info web1
        [[ $status -eq 0 && $(qemus) -eq 1 || $status -eq 3 && $(qemus) -eq 0 ]] || fail "kvm-info is wrong"
    done
    expect_statuses "0 3 4" "$TEST_DIR"/out.*
    suite kvm-stop --force web1
    expect_status 0
    suite kvm-cleanup --all
    expect_status 0
    expect_clean
}

# ---- the disk ----

# The run directory becomes a small file system of its own.
small_run_dir() { # OPTIONS
    mkdir -p "$RUN_DIR"
    mount -t tmpfs -o "mode=0700,$1" ks "$RUN_DIR"
}

# Start with ever more room until it works; a start that fails tells why and leaves nothing.
start_with() { # MOUNT-OPTION FIRST STEP
    local amount
    for ((amount = $2; amount < 60 * $3; amount += $3)); do
        small_run_dir "$1=$amount"
        suite kvm-start "$(instance)"
        [[ $status -ne 0 ]] || break
        expect_status 1
        expect_error "No space left on device"
        expect_clean
        expect_equal "$(find "$RUN_DIR" -name '*.tmp')" ""
        umount "$RUN_DIR"
    done
    expect_status 0
    [[ $amount -gt $2 ]] || fail "it started with $1=$2"
    suite kvm-stop --force web1
    expect_status 0
    expect_clean
    umount "$RUN_DIR"
}

@test "a start on a full disk fails with the reason and leaves nothing" {
    network
    start_with size 4096 4096
}

@test "a start on a disk without inodes fails with the reason and leaves nothing" {
    network
    start_with nr_inodes 2 1
}

@test "on a disk that fills up a reboot is refused, the guest runs on, and a stop works" {
    network
    small_run_dir size=256k
    suite kvm-start "$(instance)"
    expect_status 0
    cat /dev/zero >"$RUN_DIR/fill" 2>/dev/null || true
    suite kvm-stop --reboot --force web1
    expect_status 1
    expect_error "No space left on device"
    expect_equal "$(qemus)" 1
    suite kvm-info web1
    expect_status 0
    suite kvm-stop --force web1
    expect_status 0
    expect_clean
}

@test "in a read-only run directory nothing is begun, and looking works" {
    network
    suite kvm-start "$(instance)"
    expect_status 0
    mount --bind "$RUN_DIR" "$RUN_DIR"
    mount -o remount,bind,ro "$RUN_DIR"
    local command
    suite kvm-info web1
    expect_status 0
    for command in "kvm-stop --force web1" "kvm-stop --reboot --force web1" "kvm-cleanup web1"; do
        # shellcheck disable=SC2086  # words
        suite $command
        expect_status 1
        expect_error "Read-only file system"
        expect_equal "$(qemus)" 1
    done
    suite kvm-start "$(instance '.name = "web2" | .uuid = "8c079136-2573-4112-8b0a-111111111111"')"
    expect_status 1
    expect_error "Read-only file system"
    expect_books 2
    umount "$RUN_DIR"
    suite kvm-stop --force web1
    expect_status 0
    expect_clean
}

@test "a run directory that is removed under a running instance gives clear errors and no second QEMU on its disk" {
    network
    suite kvm-start "$(instance)"
    expect_status 0
    local pid
    pid=$(qemu_pid web1)
    rm -rf "$RUN_DIR"
    suite kvm-info web1
    expect_status 3
    expect_error "no instance was ever started here"
    suite kvm-stop --force web1
    expect_status 3
    expect_error "no instance was ever started here"
    suite kvm-start "$(instance)"
    expect_status 1
    expect_error "lock"
    expect_equal "$(files_of web1)" ""
    ! process_is_gone "$pid" || fail "the first QEMU has ended"
    expect_books 2
}
