#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# kvm-hotplug on a real guest, machine pc: what it reports is what the guest, QEMU and the node have.
# bats file_tags=guest

load helper
load hotplug

@test "a virtio disk comes, is written and read back by the guest, and goes without a trace" {
    start web1
    DEVICE=vda disk_lives serial=SER-17 discard=ignore
    hotplug web1 add-disk path="$TEST_DIR/extra.img" serial=SER-18 slot=9 --json
    expect_json '.[0].slot == 9'
    guest_until web1 '[ -b /dev/vda ]'
    expect_equal "$(guest_run web1 'cat /sys/block/vda/serial; echo; readlink /sys/block/vda | grep -o "0000:00:09.0"')" $'SER-18\n0000:00:09.0'
}

@test "a SCSI disk comes, is written and read back by the guest, and goes without a trace" {
    start web1 '.hvparams.disk_type = "scsi-hd"'
    DEVICE=sda disk_lives
    hotplug web1 add-disk path="$TEST_DIR/extra.img" bus=virtio
    guest_until web1 '[ -b /dev/vda ]'
}

@test "a NIC comes, has its link and reaches the bridge, and goes without a trace" {
    network br0
    address_bridge br0
    start web1
    nic_lives
    nic_lives slot=20
}

@test "a NIC with several queues has them in the guest" {
    network br0
    address_bridge br0
    start web1 '.beparams.vcpus = 2'
    before=$(inventory web1)
    hotplug web1 add-nic link=br0 queues=2
    guest_until web1 '[ -e /sys/class/net/eth0 ]'
    expect_equal "$(guest_run web1 'ls -1 /sys/class/net/eth0/queues')" $'rx-0\nrx-1\ntx-0\ntx-1'
    use_nic web1 eth0
    hotplug web1 del-nic 0
    expect_inventory web1 "$before"
}

@test "a qcow2 image, O_DIRECT and limits are what QEMU has" {
    start web1
    qemu-img create -q -f qcow2 "$TEST_DIR/sparse.qcow2" 32M
    direct=$(disk direct 8)
    hotplug web1 add-disk path="$TEST_DIR/sparse.qcow2" format=qcow2 name=sparse
    guest_until web1 '[ -b /dev/vda ]'
    expect_equal "$(guest_run web1 'cat /sys/block/vda/size')" 65536
    guest_run web1 'echo into-the-qcow2 | dd of=/dev/vda bs=4096 conv=sync,fsync 2>/dev/null'
    hotplug web1 add-disk path="$direct" cache=none name=direct --json iops=500 bps=1048576
    id=$(told device)
    guest_until web1 '[ -b /dev/vdb ]'
    use_disk web1 vdb "$direct"
    for number in "/proc/$(qemu_pid web1)/fd/"*; do
        [[ $(readlink "$number") != "$direct" ]] || flags=$(sed -n 's/^flags:[[:space:]]*//p' "${number/\/fd\//\/fdinfo\/}")
    done
    (( 0$flags & 040000 )) || fail "the image is open with flags $flags, not O_DIRECT"
    expect_equal "$(qmp web1 query-block | jq -c --arg id "$id" '.[] | select(.qdev | test($id)) | .inserted | [.iops, .bps, .cache.direct]')" '[500,1048576,true]'
    hotplug web1 del-disk sparse
    qemu-img convert -f qcow2 -O raw "$TEST_DIR/sparse.qcow2" "$TEST_DIR/sparse.raw"
    expect_equal "$(head -c 14 "$TEST_DIR/sparse.raw")" into-the-qcow2
}

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
    expect_output "hook: "
    for change in "mod-nic 0 mac=aa:00:00:00:00:07" "mod-nic 0 link=br0" "resize-disk 0 +8M" "set-memory 128" "set-link 0 down" "set-io 0 iops=5"; do
        # shellcheck disable=SC2086
        hotplug web1 $change --dry-run
        expect_output "would "
    done
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
    expect_error "all PCI slots from 3 to 31 are taken"
    suite kvm-hotplug web1 add-nic link=br0
    expect_status 3
    suite kvm-hotplug web1 check
    expect_status 3
    expect_error "slots"
    expect_inventory web1 "$before"
}
