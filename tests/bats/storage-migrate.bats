#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# Storage that both nodes reach, and every kind of drive, on the way to another node.
# bats file_tags=guest

load helper
load hotplug
load migrate
load storage

@test "a guest with NBD disks, a CD-ROM of the web, SCSI controllers and a plugged disk goes there with all of them" {
    two_nodes
    one=$(disk one 8)
    extra=$(disk extra 8)
    printf '%-2048s' medium >"$TEST_DIR/cd.iso"
    truncate -s 1M "$TEST_DIR/cd.iso"
    nbd "$one" "$TEST_DIR/one.sock"
    nbd "$extra" "$TEST_DIR/extra.sock"
    # On each node a server of its own: the same content under the same URL.
    for one_node in a b; do
        ip netns exec "$(namespace_of_node "$one_node")" "$TESTS/bats/web" "$TEST_DIR" "$TEST_DIR/port-$one_node" 8088 3>&- &
        wait_until 20 test -s "$TEST_DIR/port-$one_node"
    done
    start web1 ".hvparams += {scsi_controller_type: \"virtio-scsi-pci\", cdrom_image_path: \"http://127.0.0.1:8088/cd.iso\",
        cdrom2_image_path: \"$TEST_DIR/cd.iso\", cdrom_disk_type: \"scsi-cd\"} |
        .disks = [{uri: \"nbd:unix:$TEST_DIR/one.sock\"}, {path: \"$(disk ro 4)\", bus: \"scsi\", mode: \"ro\", cyls: 8, heads: 4, secs: 63}]"
    hotplug web1 add-disk uri="nbd:unix:$TEST_DIR/extra.sock" name=extra
    guest_until web1 '[ -b /dev/vdb ]'
    guest_run web1 'echo before | dd of=/dev/vdb bs=4096 conv=sync,fsync 2>/dev/null'
    mv "$TEST_DIR/extra.sock" "$TEST_DIR/away.sock"
    migrate a check
    expect_status 3
    expect_error "disks[2].uri: can't be opened (current value: \"nbd:unix:$TEST_DIR/extra.sock\")"
    mv "$TEST_DIR/away.sock" "$TEST_DIR/extra.sock"
    migrate a check
    expect_status 0
    mark
    migrate a to
    expect_status 0
    on b expect_mark
    expect_equal "$(on b guest_run web1 'head -n 1 /dev/vdb; head -c 6 /dev/sr0; blockdev --getro /dev/sda')" $'before\nmedium1'
    on b guest_run web1 'echo after | dd of=/dev/vdb bs=4096 conv=sync,fsync 2>/dev/null'
    expect_equal "$(head -n 1 "$extra")" after
    on b hotplug web1 del-disk extra
}
