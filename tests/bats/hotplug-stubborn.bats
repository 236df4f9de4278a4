#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# kvm-hotplug and a guest that can't let go: not yet, not now, or never. What is pending is told and finished.
# bats file_tags=guest

load helper
load hotplug

expect_removing() { # NAME KIND (disks or nics)
    suite kvm-hotplug "$1" list --json
    expect_status 0
    expect_json ".[0].$2[0] | .state == \"removing\" and .in_qemu"
    suite kvm-info "$1"
    expect_output ", removing"
}

# The guest never answers: a pending removal is told, kept, and completed by a reset.
never_lets_go() { # NAME
    local before after
    network br0
    before=$(inventory "$1")
    hotplug "$1" add-disk path="$(disk extra 4)" --json
    id=$(told device)
    hotplug "$1" add-nic link=br0
    after=$(inventory "$1")
    SECONDS=0
    suite kvm-hotplug "$1" del-disk 0 --timeout 2
    expect_status 6
    expect_error "kvm-stop --reset $1"
    [[ $SECONDS -le 15 ]] || fail "took $SECONDS s"
    expect_removing "$1" disks
    expect_equal "$(nodes "$1")" "$id"
    suite kvm-hotplug "$1" check
    expect_status 3
    expect_error "is being removed"
    suite kvm-hotplug "$1" del-nic 0 --timeout 1
    expect_status 6
    expect_removing "$1" nics
    expect_equal "$(taps | wc -l)" 1
    expect_equal "$(inventory "$1" | grep -v ^runtime)" "$(grep -v ^runtime <<<"$after")"
    suite kvm-stop --reset "$1"
    expect_status 0
    wait_until 20 is_not_in_qemu "$1" "$id"
    wait_until 20 is_not_in_qemu "$1" nic-
    suite kvm-hotplug "$1" set-memory 128 --timeout 10 --force
    expect_equal "$(grep -c "an interrupted removal was finished" <<<"$errors")" 2
    expect_inventory "$1" "$before"
}

is_not_in_qemu() { # NAME ID
    ! devices "$1" | grep -q "^$2"
}

@test "what is asked of a guest that is still booting is done when it is up (pc)" {
    network br0
    suite kvm-start "$(definition web1)"
    expect_status 0
    before=$(inventory web1)
    hotplug web1 add-disk path="$(disk one 4)" name=one
    hotplug web1 add-nic link=br0 name=front
    hotplug web1 del-disk one --timeout 90
    hotplug web1 del-nic front --timeout 90
    expect_inventory web1 "$before"
    guest_run web1 'ls /sys/block /sys/class/net' >"$TEST_DIR/seen"
    run -1 grep -E 'vda|eth0' "$TEST_DIR/seen"
}

@test "what is asked of a guest that is still booting is done when it is up (q35)" {
    suite kvm-start "$(definition web1 '.hvparams.machine_version = "q35"')"
    expect_status 0
    before=$(inventory web1)
    hotplug web1 add-disk path="$(disk one 4)" name=one
    hotplug web1 del-disk one --timeout 90
    expect_inventory web1 "$before"
}

@test "a paused guest: adding works, removing is refused with the reason before anything is touched" {
    start web1 ".disks = [{path: \"$(disk one 4)\"}]"
    qmp web1 stop
    hotplug web1 add-disk path="$(disk two 4)"
    before=$(inventory web1)
    suite kvm-hotplug web1 del-disk 0
    expect_status 3
    expect_error 'the guest is "paused" and can'"'"'t let a device go'
    suite kvm-hotplug web1 check
    expect_status 3
    expect_inventory web1 "$before"
    qmp web1 cont
    guest_until web1 '[ -b /dev/vdb ]'
    hotplug web1 del-disk 0
    guest_until web1 '[ ! -e /dev/vda ]'
}

@test "a guest that has never run: removing is refused, QEMU would lose it" {
    suite kvm-start --paused "$(definition web1 ".disks = [{path: \"$(disk one 4)\"}]")"
    expect_status 0
    before=$(inventory web1)
    suite kvm-hotplug web1 del-disk 0
    expect_status 3
    expect_error "has not run yet"
    expect_inventory web1 "$before"
}

@test "firmware alone never lets go: exit 6, told as removing, completed by a reset" {
    suite kvm-start "$(empty_definition web1 '.beparams.memory = 128')"
    expect_status 0
    never_lets_go web1
}

@test "a guest without a hotplug driver never lets go: exit 6, told as removing, completed by a reset" {
    start web1 '.hvparams.kernel_args += " acpi=off"'
    never_lets_go web1
}

@test "repeating the command waits on, and finishes when the guest lets go meanwhile" {
    suite kvm-start "$(empty_definition web1)"
    expect_status 0
    before=$(inventory web1)
    hotplug web1 add-disk path="$(disk extra 4)" name=extra
    suite kvm-hotplug web1 del-disk extra --timeout 1
    expect_status 6
    ("$BUILD/kvm-hotplug" web1 del-disk extra -v --timeout 60 >"$TEST_DIR/again" 2>&1 3>&-; echo "= $?" >>"$TEST_DIR/again") &
    again=$!
    wait_until 20 grep -q "asking the guest again" "$TEST_DIR/again"
    qmp web1 system_reset
    wait "$again"
    expect_equal "$(tail -n 1 "$TEST_DIR/again")" "= 0"
    expect_inventory web1 "$before"
}

@test "a reboot drops what was being removed" {
    start web1 ".hvparams.kernel_args += \" acpi=off\" | .disks = [{path: \"$(disk one 4)\"}, {path: \"$(disk two 4)\"}]"
    suite kvm-hotplug web1 del-disk 0 --timeout 1
    expect_status 6
    suite kvm-stop web1 --reboot --force
    expect_status 0
    suite kvm-hotplug web1 list --json
    expect_json '.[0].disks | length == 1 and .[0].state == "present" and (.[0].path | endswith("/two.img"))'
    expect_equal "$(nodes web1 | wc -l)" 1
}
