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
