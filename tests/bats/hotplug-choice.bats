#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# kvm-hotplug on a real guest, what is asked for: JSON, names, dry runs, slots.
# bats file_tags=guest

load helper
load hotplug

@test "whole disks and NICs come as JSON on standard input, and adding them again changes nothing" {
    network br0
    start web1
    image=$(disk extra 8)
    disk=$(jq -n --arg path "$image" '{uuid: "7c079136-2573-4112-9a0d-1f2e3d4c5b6a", name: "data", $path, dev_type: "file", mode: "rw", params: {iops: 300}}')
    nic='{"uuid": "d0a35a4b-79a6-4f80-a0e7-0b1a2c3d4e5f", "name": "front", "mac": "aa:00:00:9d:2d:61", "ip": null,
          "nicparams": {"mode": "bridged", "link": "br0", "vlan": ""}}'
    hotplug web1 add-disk - <<<"$disk"
    expect_output disk-7c079136-2573-4112
    hotplug web1 add-nic - <<<"$nic"
    expect_output nic-d0a35a4b-79a6-4f80
    guest_until web1 '[ -b /dev/vda -a -e /sys/class/net/eth0 ]'
    before=$(inventory web1)
    hotplug web1 add-disk - <<<"$disk"
    expect_output "is there already"
    hotplug web1 add-nic - <<<"$nic"
    expect_output "is there already"
    expect_inventory web1 "$before"
}

@test "a device is found by each of its names; ambiguous and unknown ones are refused" {
    network br0
    start web1 ".disks = [{path: \"$(disk one 4)\", name: \"twin\"}, {path: \"$(disk two 4)\", name: \"twin\"}] |
        .nics = [{name: \"1\", nicparams: {link: \"br0\"}}, {name: \"back\", nicparams: {link: \"br0\"}}]"
    before=$(inventory web1)
    suite kvm-hotplug web1 del-disk twin
    expect_status 2
    expect_error "twin: names more than one disk"
    suite kvm-hotplug web1 del-nic 1
    expect_status 2
    expect_error "1: names more than one NIC"
    suite kvm-hotplug web1 del-disk two
    expect_status 2
    expect_error "two: no such disk (it has 2)"
    suite kvm-hotplug web1 del-nic 2
    expect_status 2
    suite kvm-hotplug web1 add-disk path="$(disk three 4)" sierial=x
    expect_status 2
    expect_error 'sierial: unknown key, did you mean "serial"?'
    expect_inventory web1 "$before"
    suite kvm-info --json web1
    uuid=$(jq -r '.[0].disks[0].uuid' <<<"$output") id=$(jq -r '.[0].disks[0].id' <<<"$output")
    tap=$(jq -r '.[0].nics[1].tap' <<<"$output") mac=$(jq -r '.[0].nics[1].mac' <<<"$output")
    for name in "$uuid" "$id" "$TEST_DIR/one.img" 0; do
        hotplug web1 del-disk "$name" --dry-run
        expect_output "would remove disk $uuid"
    done
    for name in "$tap" "$mac" back; do
        hotplug web1 del-nic "$name" --dry-run --json
        expect_json '.[0].commands[0] == {"execute": "device_del", "arguments": {"id": .[0].commands[0].arguments.id}}'
    done
    expect_inventory web1 "$before"
    hotplug web1 del-disk "$TEST_DIR/two.img"
    hotplug web1 del-nic "$tap"
}

would() { # "ACTION…" COMMAND…: a dry run of it tells these commands in this order
    local action=$1
    shift
    # shellcheck disable=SC2086
    hotplug web1 $action --dry-run --json
    expect_json '.[0].result | startswith("would ")'
    expect_equal "$(jq -r '.[0].commands // [] | map(.execute) | join(" ")' <<<"$output")" "$*"
}

@test "a dry run tells slot, commands and hooks, and touches nothing" {
    network br0
    start web1 ".disks = [{path: \"$(disk one 4)\"}] | .nics = [{nicparams: {link: \"br0\"}}]"
    image=$(disk extra 4)
    before=$(inventory web1)
    generation=$(stat -c %Y.%i "$RUN_DIR/conf/web1.runtime")
    hotplug web1 add-disk path="$image" iops=100 --dry-run --json
    expect_json '.[0] | .slot == 6 and [.commands[].execute] == ["add-fd", "blockdev-add", "device_add", "block_set_io_throttle"]'
    hotplug web1 add-nic link=br0 --dry-run --json
    expect_json '.[0] | .slot == 6 and [.commands[].execute] == ["getfd", "netdev_add", "device_add"] and (.hooks | length == 1)'
    hotplug web1 add-nic link=br0 --dry-run
    expect_output "hook: add the tap to bridge br0"
    expect_output "file: $RUN_DIR/conf/web1.runtime"
    hotplug web1 add-disk path="$image" --dry-run
    expect_output "file: $image"
    would "del-disk 0" device_del blockdev-del remove-fd
    would "del-nic 0" device_del netdev_del
    expect_json '.[0].hooks == ["set the tap down"] and (.[0].files | map(endswith("/nic/web1/0")) | any)'
    would "mod-nic 0 mac=aa:00:00:00:00:07" device_del netdev_del getfd netdev_add device_add
    expect_json '.[0] | .slot == 5 and (.hooks | length == 2) and (.commands[-1].arguments | .mac == "aa:00:00:00:00:07" and .addr == "0x5")'
    would "mod-nic 0 link=br0"
    expect_json '.[0].hooks | length == 2'
    suite kvm-hotplug web1 add-nic --dry-run
    expect_status 2
    expect_error link
    jq -n '{nicparams: {mode: "bridged", link: "br0"}}' >"$CONF_DIR/kvm-defaults.json"
    would add-nic getfd netdev_add device_add
    rm "$CONF_DIR/kvm-defaults.json"
    would "resize-disk 0 +8M" block_resize
    expect_json '.[0].commands[0].arguments.size == 12582912'
    would "set-memory 128" balloon
    would "set-link 0 down" set_link
    would "set-io 0 iops=5" block_set_io_throttle
    expect_json '.[0].uuid | length == 36'
    expect_inventory web1 "$before"
    expect_equal "$(stat -c %Y.%i "$RUN_DIR/conf/web1.runtime")" "$generation"
}

@test "a slot that something else took is passed over, and the one asked for is refused by name" {
    start web1
    image=$(disk extra 4)
    qmp web1 device_add '{"driver": "virtio-rng-pci", "id": "foreign", "bus": "pci.0", "addr": "0x4"}'
    suite kvm-hotplug web1 add-disk path="$image" slot=4
    expect_status 3
    expect_error "slot 4 is taken"
    for slot in 2 32 77; do
        suite kvm-hotplug web1 add-disk path="$image" slot=$slot
        expect_status 2
        expect_error "slot: $slot is not a number from 3 to 31"
        suite kvm-hotplug web1 add-nic link=br0 slot=$slot
        expect_status 2
        expect_error "slot: $slot is not a number from 3 to 31"
    done
    hotplug web1 add-disk path="$image" --json
    expect_json '.[0].slot == 5'
    guest_until web1 '[ -b /dev/vda ]'
}

@test "when all slots are taken nothing is created" {
    network br0
    suite kvm-start "$(empty_definition web1)"
    expect_status 0
    for slot in $(seq 4 31); do
        qmp web1 device_add "{\"driver\": \"virtio-rng-pci\", \"id\": \"rng$slot\", \"bus\": \"pci.0\", \"addr\": \"$(printf 0x%x "$slot")\"}"
    done
    before=$(inventory web1)
    suite kvm-hotplug web1 add-disk path="$(disk extra 4)"
    expect_status 3
    expect_error "all PCI slots from 4 to 31 are taken"
    suite kvm-hotplug web1 add-nic link=br0
    expect_status 3
    suite kvm-hotplug web1 check
    expect_status 3
    expect_error "slots"
    expect_inventory web1 "$before"
}
