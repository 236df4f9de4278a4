#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# kvm-hotplug on a real guest, machine q35: every device behind its own root port.
# bats file_tags=guest

load helper
load hotplug

@test "q35: a virtio disk comes, is written and read back by the guest, and goes without a trace" {
    start web1 '.hvparams.machine_version = "q35"'
    DEVICE=vda disk_lives serial=SER-17
}

@test "q35: a SCSI disk comes, is written and read back by the guest, and goes without a trace" {
    start web1 '.hvparams.machine_version = "q35" | .hvparams.disk_type = "scsi-hd"'
    DEVICE=sda disk_lives
}

@test "q35: a NIC comes, has its link and reaches the bridge, and goes without a trace" {
    network br0
    address_bridge br0
    start web1 '.hvparams.machine_version = "q35"'
    nic_lives
}

@test "q35: one port holds one device; when all are taken nothing is created" {
    network br0
    start web1 '.hvparams.machine_version = "q35" | .hvparams.hotplug_ports = 4'
    before=$(inventory web1)
    hotplug web1 add-disk path="$(disk one 4)" --json
    first=$(told hvinfo | jq -r .bus)
    hotplug web1 add-nic link=br0 --json
    hotplug web1 add-disk path="$(disk two 4)"
    guest_until web1 '[ -b /dev/vda -a -b /dev/vdb -a -e /sys/class/net/eth0 ]'
    full=$(inventory web1)
    suite kvm-hotplug web1 add-disk path="$(disk three 4)"
    expect_status 3
    expect_error "all PCI slots"
    expect_inventory web1 "$full"
    hotplug web1 del-disk 0
    hotplug web1 add-disk path="$(disk three 4)" --json
    expect_equal "$(told hvinfo | jq -r .bus)" "$first"
    hotplug web1 del-disk 1
    hotplug web1 del-disk 0
    hotplug web1 del-nic 0
    expect_inventory web1 "$before"
}
