#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# A hundred times in and out: nothing grows.
# bats file_tags=guest

load helper
load hotplug

@test "100 cycles of a disk and a NIC leave no descriptor, node, netdev, fd set, tap or file" {
    network br0
    start web1 '.hvparams.machine_version = "q35" | .hvparams.disk_type = "scsi-hd"'
    image=$(disk extra 4)
    one_cycle virtio >/dev/null
    one_cycle scsi >/dev/null
    before=$(inventory web1) open=$(settled_descriptors web1)
    for number in $(seq 100); do
        bus=scsi
        [[ $((number % 10)) -ne 0 ]] || bus=virtio
        one_cycle $bus >"$TEST_DIR/cycle" || { cat "$TEST_DIR/cycle"; fail "in cycle $number"; }
    done
    expect_inventory web1 "$before"
    wait_until 10 has_descriptors web1 "$open"
    expect_equal "$(guest_run web1 'ls /sys/class/net; ls /dev | grep -E "^(sd|vd)"')" lo
    hotplug web1 add-disk path="$image" bus=scsi
    guest_until web1 '[ -b /dev/sda ]'
    use_disk web1 sda "$image"
}

# A client's connection is QEMU's until its main loop has seen the end of it.
settled_descriptors() { # NAME: the least of a second
    for _ in {1..10}; do
        descriptors "$1"
        sleep 0.1
    done | sort -n | head -n 1
}

has_descriptors() { # NAME COUNT
    [[ $(descriptors "$1") -eq $2 ]]
}

one_cycle() { # BUS
    hotplug web1 add-disk path="$image" bus="$1" name=extra
    hotplug web1 add-nic link=br0 name=front
    hotplug web1 del-disk extra
    hotplug web1 del-nic front
}
