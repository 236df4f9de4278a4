#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# kvm-hotplug against a server that does what a QEMU may do on a bad day. tests/faults does it for every command of
# every action; here are the cases that have a name.

load helper
load pretend

# The first disk is nowhere any more, the other one and all that belongs to it is.
expect_gone() {
    expect_equal "$(jq -r '.[3][][0].uuid' "$RUN_DIR/conf/web1.runtime")" "$TWO"
    expect_equal "$(jq -c '.[4].devices' "$RUN_DIR/conf/web1.runtime")" '{}'
    expect_equal "$(jq -c '[(.devices, .nodes | keys[] | select(. != "balloon")), .fdsets[]]' "$TEST_DIR/state")" \
        '["disk-22222222-2573-4112","disk-22222222-2573-4112","disk-22222222-2573-4112"]'
}

expect_removing() {
    hotplug 0 list --json
    expect_json '.[0].disks[0] | .state == "removing" and .in_qemu and .backend'
}

# ---- every command of every action ----

every() { # FAULT [OPTION…]
    run -0 "$TESTS/faults" --fault "$@" 3>&-
    expect_equal "${lines[-1]}" "0 failed"
}

@test "each command of each action is refused: what was done is undone in reverse, and all is as it was" {
    every refused
}

@test "each command of each action ends the connection, undone: file and QEMU agree" {
    every closed
}

@test "each command of each action ends the connection, done: file and QEMU agree" {
    every dropped
}

@test "QEMU dies at each command of each action: the next command says so and kvm-cleanup leaves nothing" {
    every died
}

@test "a command stays unanswered, undone: the time is kept, and file and QEMU agree" {
    every silent --every 4
}

@test "a command stays unanswered, done: the time is kept, and file and QEMU agree" {
    every mute --every 4
}

@test "whichever step of an addition fails, everything is undone" {
    local action step
    network br0
    pretend
    for action in "add-disk path=$(disk new 1) iops=3" "add-nic link=br0"; do
        for ((step = 1; step <= 20; step++)); do
            # shellcheck disable=SC2086
            KVM_SUITE_FAIL_STEP=$step suite kvm-hotplug web1 $action
            [[ $status -ne 0 ]] || break
            expect_status 1
            expect_error KVM_SUITE_FAIL_STEP
            expect_unchanged
        done
        [[ $step -eq 9 ]] || fail "$((step - 1)) steps"
        cp "$TEST_DIR/state" "$TEST_DIR/state.before"
        cp "$RUN_DIR/conf/web1.runtime" "$TEST_DIR/runtime"
    done
}

# ---- removal ----

@test "DEVICE_DELETED ahead of the reply to device_del counts" {
    pretend "deleted ahead"
    hotplug 0 del-disk "$ONE"
    expect_gone
}

@test "DEVICE_DELETED of another device, or with a path only: QEMU is asked" {
    local how
    for how in other path; do
        pretend "deleted $how"
        hotplug 0 del-disk "$ONE"
        expect_gone
        suite kvm-cleanup web1
        kill "$(qemu_pid web1)"
        wait_until 10 qemu_file_is_free
        suite kvm-cleanup web1
        expect_status 0
    done
}

qemu_file_is_free() {
    [[ ! -e $RUN_DIR/pid/web1 ]]
}

@test "DEVICE_DELETED of another device while ours stays is no removal" {
    pretend "deleted never" 'behind device_del {"event": "DEVICE_DELETED", "data": {"device": "disk-22222222-2573-4112", "path": "/machine/peripheral/disk-22222222-2573-4112"}, "timestamp": {"seconds": 1, "microseconds": 2}}\n'
    hotplug 6 del-disk "$ONE" --timeout 1
    expect_removing
}

@test "a guest that does not answer: exit 6, removing; a reset and the next command complete it" {
    pretend "deleted reset"
    hotplug 6 del-disk "$ONE" --timeout 1
    expect_error "kvm-stop --reset web1"
    expect_removing
    hotplug 6 del-disk "$ONE" --timeout 1
    expect_removing
    hotplug 0 set-io "$TWO" iops=5
    expect_no_error finished
    expect_removing
    qmp web1 system_reset
    hotplug 0 set-io "$TWO" iops=6
    expect_error "disk $ONE: an interrupted removal was finished"
    expect_gone
    hotplug 0 del-disk "$ONE"
}

@test "a guest that says no: exit 1, nothing is changed" {
    pretend "deleted refused"
    hotplug 1 del-disk "$ONE"
    expect_error "the guest refused to let it go"
    expect_unchanged
}

@test "a guest that says no to what an earlier command asked: it is present again" {
    pretend "deleted refused"
    jq --arg uuid "$ONE" '.[4].devices[$uuid] = {state: "removing"}' "$TEST_DIR/runtime" >"$RUN_DIR/conf/web1.runtime"
    hotplug 1 del-disk "$ONE"
    expect_equal "$(jq -c '.[4].devices' "$RUN_DIR/conf/web1.runtime")" '{}'
}

@test "already in the process of unplug is waited for" {
    pretend "deleted late"
    hotplug 0 del-disk "$ONE"
    expect_gone
    expect_equal "$(sent | grep -c device_del)" 2
}

@test "a QEMU that refuses to unplug is believed after a few seconds: exit 1 with its words, nothing is changed" {
    pretend "fail device_del GenericError Bus 'pci.0' does not support hotplugging"
    SECONDS=0
    hotplug 1 del-disk "$ONE"
    expect_error "Bus 'pci.0' does not support hotplugging"
    [[ $SECONDS -le 15 ]] || fail "took $SECONDS s"
    expect_unchanged
}

@test "refused since it is going on since an earlier command: waited for, then exit 6" {
    pretend "fail device_del GenericError Device disk-11111111-2573-4112 is already in the process of unplug"
    jq --arg uuid "$ONE" '.[4].devices[$uuid] = {state: "removing"}' "$TEST_DIR/runtime" >"$RUN_DIR/conf/web1.runtime"
    hotplug 6 del-disk "$ONE" --timeout 2
    expect_removing
}

@test "a block node that is in use for a while is removed in the end" {
    local first
    pretend
    hotplug 0 del-disk "$ONE"
    first=$(jq 'select(.execute == "blockdev-del").n' "$TEST_DIR/commands")
    kill "$(qemu_pid web1)"
    wait_until 10 qemu_file_is_free
    suite kvm-cleanup web1
    # Between two attempts QEMU is asked whether the node is there at all.
    pretend "fail $first GenericError Node disk-11111111-2573-4112 is in use" \
        "fail $((first + 2)) GenericError Node disk-11111111-2573-4112 is in use" \
        "fail $((first + 4)) GenericError Node disk-11111111-2573-4112 is in use"
    hotplug 0 del-disk "$ONE"
    expect_equal "$(sent | grep -c blockdev-del)" 4
    expect_gone
}

# ---- addition ----

@test "a slot that somebody took meanwhile leads to the next one, in file and QEMU" {
    pretend 'meanwhile blockdev-add device_add {"driver": "e1000", "id": "other", "bus": "pci.0", "addr": "0x6"}'
    hotplug 0 add-disk path="$(disk new 1)" uuid="$NEW" --json
    expect_json '.[0].slot == 7'
    expect_equal "$(jq -r '.[3][2][0].hvinfo.addr' "$RUN_DIR/conf/web1.runtime")" 0x7
    expect_equal "$(jq -r '.devices["disk-44444444-2573-4112"].addr' "$TEST_DIR/state")" 0x7
    expect_equal "$(sent | grep -c device_add)" 2
}

@test "what was recorded before a slot was found taken is not what is recorded then" {
    local other='device_add {"driver": "e1000", "id": "other", "bus": "pci.0", "addr": "0x6"}'
    # shellcheck disable=SC2016
    local new='(.[3][] | select(.[0].uuid == $uuid) | .[0].hvinfo.addr), .[4].devices[$uuid].state'
    pretend "has $other" "die add-fd"
    hotplug 5 add-disk path="$(disk new 1)" uuid="$NEW"
    expect_equal "$(jq -r --arg uuid "$NEW" "$new" "$RUN_DIR/conf/web1.runtime" | xargs)" "0x7 adding"
    suite kvm-cleanup web1
    pretend "meanwhile blockdev-add $other" "die 8" # the second device_add
    hotplug 5 add-disk path="$(disk new 1)" uuid="$NEW"
    expect_equal "$(jq -r --arg uuid "$NEW" "$new" "$RUN_DIR/conf/web1.runtime" | xargs)" "0x7 adding"
    expect_equal "$(ls -A "$RUN_DIR/conf")" web1.runtime
}

@test "a slot that was asked for and taken meanwhile is a failure" {
    pretend 'meanwhile blockdev-add device_add {"driver": "e1000", "id": "other", "bus": "pci.0", "addr": "0x6"}'
    hotplug 1 add-disk path="$(disk new 1)" uuid="$NEW" slot=6
    expect_error "in use by other"
    cmp "$TEST_DIR/runtime" "$RUN_DIR/conf/web1.runtime"
    expect_equal "$(sent | xargs)" "add-fd blockdev-add device_add blockdev-del remove-fd"
}

@test "a device_add that is refused for good is tried once" {
    pretend "fail device_add GenericError no"
    hotplug 1 add-disk path="$(disk new 1)" uuid="$NEW"
    expect_unchanged
    expect_equal "$(sent | grep -c device_add)" 1
}

@test "a server that reads no command ahead is asked and told one after the other" {
    pretend 'greeting {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": ""}, "capabilities": []}}'
    hotplug 0 add-disk path="$(disk new 1)" uuid="$NEW"
    expect_equal "$(jq -r .execute "$TEST_DIR/commands" | xargs)" \
        "query-migrate query-pci add-fd blockdev-add device_add qom-list"
}

@test "accepted by QEMU but not there is a failure" {
    pretend "return device_add {}"
    hotplug 1 add-disk path="$(disk new 1)" uuid="$NEW"
    expect_error "does not show it"
    expect_unchanged
}

@test "all 32 slots taken: told before anything is made" {
    local slot rules=()
    for slot in $(seq 6 31); do
        rules+=("$(printf 'has device_add {"driver": "e1000", "id": "n%d", "bus": "pci.0", "addr": "0x%x"}' "$slot" "$slot")")
    done
    pretend "${rules[@]}"
    hotplug 3 add-disk path="$(disk new 1)"
    expect_error "all PCI slots from 4 to 31 are taken"
    expect_unchanged
    expect_equal "$(sent)" ""
    network br0
    hotplug 3 add-nic link=br0
    expect_equal "$(sent)" ""
    hotplug 3 check
}

@test "on a full disk nothing is begun, and nothing is left" {
    mkdir -p "$RUN_DIR"
    mount -t tmpfs -o mode=0700,size=256k ks "$RUN_DIR"
    pretend
    cat /dev/zero >"$RUN_DIR/fill" 2>/dev/null || true
    hotplug 1 add-disk path="$(disk new 1)" uuid="$NEW"
    expect_error "No space left on device"
    expect_unchanged
    expect_equal "$(sent)" ""
    rm "$RUN_DIR/fill"
    hotplug 0 add-disk path="$(disk new 1)" uuid="$NEW"
}

@test "two devices of which the first three groups of the uuid agree are refused" {
    pretend
    hotplug 2 add-disk path="$(disk new 1)" uuid="${ONE%-*-*}-aaaa-bbbbbbbbbbbb"
    expect_unchanged
    expect_equal "$(sent)" ""
}

# ---- not now ----

@test "not running: 3, for each action" {
    pretend
    kill "$(qemu_pid web1)"
    wait_until 10 qemu_file_is_free
    hotplug 3 add-disk path="$(disk new 1)"
    expect_error "does not run"
    hotplug 3 del-disk "$ONE"
    hotplug 3 list
}

@test "migrating: 3 before anything is touched, for each action that changes something" {
    pretend 'return query-migrate {"status": "active"}'
    hotplug 3 add-disk path="$(disk new 1)"
    expect_error "migration is in progress (active)"
    # What is wrong with it, or done already, is told when it is the time for it, whatever else the instance has.
    hotplug 3 add-disk path="$TEST_DIR/missing"
    hotplug 3 add-disk path="$TEST_DIR/one.img" uuid="$ONE"
    hotplug 3 add-disk path="$(disk new 1)" bus=scsi
    expect_error "migration is in progress (active)"
    hotplug 3 del-disk "$ONE"
    hotplug 3 set-io "$ONE" iops=3
    hotplug 0 list
    hotplug 3 check
    expect_unchanged
    expect_equal "$(sent)" ""
}

@test "a guest that was given away, or is expected here by another tool: 3 before anything is touched" {
    pretend 'return query-migrate {"status": "completed"}' "status postmigrate"
    hotplug 3 add-disk path="$(disk new 1)"
    expect_error "migration is in progress (postmigrate)"
    expect_unchanged
    expect_equal "$(sent)" ""
    pretend 'return query-migrate {"socket-address": []}' "status inmigrate"
    hotplug 3 add-disk path="$(disk new 1)"
    expect_error "migration is in progress (inmigrate)"
    expect_unchanged
    # Copied from another node by another tool, which has not told QEMU yet where to listen.
    pretend "status inmigrate"
    jq '.[4].boot_id = "00000000-0000-4000-8000-000000000000"' "$TEST_DIR/runtime" >"$RUN_DIR/conf/web1.runtime"
    cp "$RUN_DIR/conf/web1.runtime" "$TEST_DIR/runtime"
    hotplug 3 add-nic mode=routed
    expect_error "migration is in progress (inmigrate)"
    expect_unchanged
    expect_equal "$(sent)" ""
}

@test "whether it migrates is not known: nothing is touched" {
    pretend "fail query-migrate"
    hotplug 1 add-disk path="$(disk new 1)"
    expect_error "whether a migration is in progress"
    expect_unchanged
}

@test "a QEMU that hangs: the time is up (6), nothing was changed, and the next command is named" {
    local words server
    pretend
    server=$(qemu_pid web1)
    kill -STOP "$server"
    for words in check list "set-io $ONE iops=3" "del-disk $ONE" "add-disk path=$(disk new 1)"; do
        # shellcheck disable=SC2086
        hotplug 6 --timeout 1 $words
        expect_error "nothing was changed: repeat the command, or 'kvm-stop --force web1' ends it"
    done
    kill -CONT "$server"
    expect_unchanged
    expect_equal "$(sent)" ""
}

@test "a question stays unanswered before anything is done: 6 as well" {
    pretend "silent query-migrate"
    hotplug 6 --timeout 1 del-disk "$ONE"
    expect_error "nothing was changed"
    expect_unchanged
    expect_equal "$(sent)" ""
}

@test "what was left is only looked for when the time is up: 6 as well; when it was being removed: 1" {
    pretend "silent qom-list"
    jq --arg uuid "$ONE" '.[4].devices[$uuid] = {state: "removing"}' "$TEST_DIR/runtime" >"$RUN_DIR/conf/web1.runtime"
    cp "$RUN_DIR/conf/web1.runtime" "$TEST_DIR/runtime"
    hotplug 6 --timeout 0.5 set-io "$TWO" iops=3
    expect_error "looking for what an earlier command left"
    expect_error "nothing was changed"
    expect_unchanged
    pretend "silent blockdev-del"
    jq --arg one "$ONE" '.[4].devices[$one] = {state: "removing"}' "$TEST_DIR/runtime" >"$RUN_DIR/conf/web1.runtime"
    qmp web1 device_del '{"id": "disk-11111111-2573-4112"}'
    hotplug 1 --timeout 0.5 set-io "$TWO" iops=3
    expect_error "finishing what an earlier command left"
    expect_no_error "nothing was changed"
}

# With a CD-ROM drive, in which is "cdrom1".
pretend_drive() { # RULE…
    pretend 'has device_add {"driver": "ide-cd", "id": "cdrom"}' 'has add-fd {"fdset-id": 3, "opaque": "cdrom1"}' \
        'has blockdev-add {"driver": "raw", "node-name": "cdrom1"}' 'has blockdev-open-tray {"id": "cdrom"}' \
        'has blockdev-insert-medium {"id": "cdrom", "node-name": "cdrom1"}' 'has blockdev-close-tray {"id": "cdrom"}' "$@"
    jq --arg path "$(disk first 1)" '.[2].cdrom_image_path = $path' "$TEST_DIR/runtime" >"$RUN_DIR/conf/web1.runtime"
    cp "$RUN_DIR/conf/web1.runtime" "$TEST_DIR/runtime"
}

@test "a guest that closes the tray between two commands: it is opened again, and not without end" {
    local command number
    pretend_drive
    hotplug 0 change-cdrom "$(disk other 1)"
    cp "$TEST_DIR/commands" "$TEST_DIR/commands.first"
    for command in blockdev-remove-medium blockdev-insert-medium; do
        number=$(jq --arg command "$command" 'select(.execute == $command).n' "$TEST_DIR/commands.first")
        pretend_drive "meanwhile $number blockdev-close-tray {\"id\": \"cdrom\"}"
        hotplug 0 change-cdrom "$TEST_DIR/other.img"
        expect_equal "$(sent | grep -c blockdev-open-tray)" 2
        expect_equal "$(jq -c '[.medium, .tray_open]' "$TEST_DIR/state")" '["cdrom1b",false]'
    done
    pretend_drive "meanwhile blockdev-remove-medium blockdev-close-tray {\"id\": \"cdrom\"}"
    hotplug 1 change-cdrom "$TEST_DIR/other.img"
    expect_error "take the old medium out"
    expect_equal "$(sent | grep -c blockdev-open-tray)" 3
    expect_unchanged
}

is_stopped() { # PID
    grep -q '^State:[[:space:]]*[Tt]' "/proc/$1/status"
}

@test "an image that becomes something else behind its check is not passed to QEMU" {
    local image words tracer command
    pretend
    for words in "mkfifo" "mkdir"; do
        image=$(disk new 1)
        strace -o /dev/null -P "$image" -e trace=openat -e inject=openat:signal=STOP:when=1 \
            "$BUILD/kvm-hotplug" web1 add-disk path="$image" mode=ro >"$TEST_DIR/said" 2>&1 3>&- &
        tracer=$!
        wait_until 10 pgrep -P "$tracer"
        command=$(pgrep -P "$tracer")
        wait_until 10 is_stopped "$command"
        rm "$image"
        $words "$image"
        kill -CONT "$command"
        status=0
        wait "$tracer" || status=$?
        cat "$TEST_DIR/said"
        expect_status 1
        grep -q "new.img: refused, it was replaced since it was looked at" "$TEST_DIR/said"
        expect_unchanged
        expect_equal "$(sent)" ""
        rm -r "$image"
    done
}

@test "check: the monitor for actions was removed, and the one for looking still answers" {
    pretend
    rm "$RUN_DIR/ctrl/web1.qmp"
    hotplug 0 list
    hotplug 3 check
    expect_error "its monitor $RUN_DIR/ctrl/web1.qmp was removed"
    hotplug 1 set-io "$ONE" iops=3
}

@test "paused: a removal is refused with the reason, an addition is not" {
    pretend "status paused"
    hotplug 3 del-disk "$ONE"
    expect_error "can't let a device go before it runs again"
    expect_unchanged
    hotplug 0 add-disk path="$(disk new 1)" uuid="$NEW"
}

@test "busy: 4, and who it is" {
    local waiting
    pretend "deleted never"
    "$BUILD/kvm-hotplug" web1 del-disk "$ONE" 2>"$TEST_DIR/said" 3>&- &
    waiting=$!
    wait_until 10 grep -q device_del "$TEST_DIR/commands"
    hotplug 4 del-disk "$TWO"
    expect_error "busy: kvm-hotplug pid $waiting by root since"
    expect_removing
    kill "$waiting"
    wait "$waiting" || true
    hotplug 6 del-disk "$TWO" --timeout 1
}

@test "an object that never ends is given up when the time is up" {
    pretend
    mkfifo "$TEST_DIR/never"
    exec 9<>"$TEST_DIR/never"
    hotplug 6 add-disk - --timeout 0.5 <"$TEST_DIR/never" 9>&-
    expect_error "web1: stdin: its end has not come in time, so nothing was done: who writes to that pipe?"
    expect_no_error "kvm-stop"
    exec 9>&-
    expect_unchanged
}

@test "an object that is still being typed holds neither the lock nor the monitor, and what is asked is asked after it" {
    local typing
    pretend
    { until [[ -s $TEST_DIR/typed || ! -e $TEST_DIR ]]; do sleep 0.05; done; cat "$TEST_DIR/typed"; } 3>&- |
        "$BUILD/kvm-hotplug" web1 add-disk - --timeout 5 >"$TEST_DIR/said" 2>&1 3>&- &
    typing=$!
    wait_until 10 grep -q '^7 ' "/proc/$typing/syscall" # poll: for its input, there is nothing else yet
    hotplug 0 set-io "$ONE" iops=3
    expect_equal "$(jq -r 'select(.execute == "query-pci").n' "$TEST_DIR/commands")" ""
    jq -n --arg path "$(disk new 1)" --arg uuid "$NEW" '{$path, $uuid}' >"$TEST_DIR/typed"
    wait "$typing" || fail "$(cat "$TEST_DIR/said")"
    expect_equal "$(jq -r '.devices["disk-44444444-2573-4112"].addr' "$TEST_DIR/state")" 0x6
}

@test "another process behind the monitor's socket is not spoken to" {
    pretend
    rm "$RUN_DIR/ctrl/web1.qmp"
    "$BUILD/tests/fake-qmp" "$RUN_DIR/ctrl/web1.qmp" "$TEST_DIR/script" --log "$TEST_DIR/stranger" \
        >"$TEST_DIR/stranger-ready" 3>&- &
    wait_until 10 grep -q ready "$TEST_DIR/stranger-ready"
    hotplug 1 del-disk "$ONE"
    [[ ! -e $TEST_DIR/stranger ]] || fail "a stranger got: $(cat "$TEST_DIR/stranger")"
    expect_unchanged
}
