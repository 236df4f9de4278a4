#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# kvm-hotplug on devices that stay: NIC, size, memory, link, medium, limits; and what a reboot keeps.
# bats file_tags=guest

load helper
load hotplug

nic_plugged_since() { # NAME: the guest's number of the interface changes when it is plugged again
    guest_run "$1" 'cat /sys/class/net/eth0/ifindex'
}

limits() { # NAME ID
    qmp "$1" query-block | jq -c --arg id "$2" '.[] | select(.qdev | test($id)) | .inserted | [.iops, .iops_rd, .bps]'
}

@test "mod-nic moves the tap to another bridge and the guest keeps its device" {
    network br0 br1
    address_bridge br1
    start web1 '.nics = [{name: "front", nicparams: {link: "br0"}}]'
    tap=$(taps)
    number=$(nic_plugged_since web1)
    hotplug web1 mod-nic front link=br1
    expect_output "the guest kept its device"
    expect_equal "$(taps)" "$tap"
    expect_equal "$(bridge_of "$tap")" br1
    use_nic web1 eth0
    expect_equal "$(nic_plugged_since web1)" "$number"
    suite kvm-hotplug web1 list --json
    expect_json '.[0].nics[0] | .link == "br1" and .state == "present"'
    before=$(inventory web1)
    suite kvm-hotplug web1 mod-nic front link=nowhere
    expect_status 2
    suite kvm-hotplug web1 mod-nic front uuid=d0a35a4b-79a6-4f80-a0e7-0b1a2c3d4e5f
    expect_status 2
    expect_inventory web1 "$before"
    expect_equal "$(bridge_of "$tap")" br1
}

@test "mod-nic with another MAC plugs the NIC again in its slot, with its uuid" {
    network br0
    address_bridge br0
    start web1 '.nics = [{name: "front", nicparams: {link: "br0"}}, {name: "back", nicparams: {link: "br0"}}]'
    suite kvm-hotplug web1 list --json
    old=$(jq -c '.[0].nics[0] | [.uuid, .slot, .id]' <<<"$output")
    number=$(nic_plugged_since web1)
    hotplug web1 mod-nic front mac=aa:00:00:00:0f:0f --json
    expect_json '.[0].index == 0'
    guest_until web1 "grep -q aa:00:00:00:0f:0f /sys/class/net/*/address"
    guest_run web1 "[ \$(cat /sys/class/net/eth0/ifindex) -gt $number ]"
    use_nic web1 eth0
    suite kvm-hotplug web1 list --json
    expect_equal "$(jq -c '.[0].nics[] | select(.name == "front") | [.uuid, .slot, .id]' <<<"$output")" "$old"
    expect_equal "$(taps | wc -l)" 2
    expect_equal "$(netdevs web1 | wc -l)" 2
    suite kvm-hotplug web1 mod-nic back mac=aa:00:00:00:0f:0f
    expect_status 2
    expect_equal "$(devices web1 | grep -c ^nic-)" 2
}

@test "resize-disk grows what the guest sees; shrinking is refused unless forced" {
    start web1 ".hvparams.disk_type = \"scsi-hd\" | .disks = [{path: \"$(disk one 8)\"}]"
    hotplug web1 add-disk path="$(disk two 8)" bus=virtio
    guest_until web1 '[ -b /dev/vda -a -b /dev/sda ]'
    hotplug web1 resize-disk 1 16
    expect_output "has 16 MiB (before: 8)"
    guest_until web1 '[ "$(cat /sys/block/vda/size)" = 32768 ]'
    hotplug web1 resize-disk 1 +8M --json
    expect_json '.[0] | .size == 25165824 and .size_before == 16777216'
    guest_until web1 '[ "$(cat /sys/block/vda/size)" = 49152 ]'
    expect_equal "$(stat -c %s "$TEST_DIR/two.img")" 25165824
    suite kvm-hotplug web1 resize-disk 1 8
    expect_status 2
    expect_error "--force"
    expect_equal "$(stat -c %s "$TEST_DIR/two.img")" 25165824
    hotplug web1 resize-disk 1 8 --force
    guest_until web1 '[ "$(cat /sys/block/vda/size)" = 16384 ]'
    hotplug web1 resize-disk 0 12M
    guest_run web1 'echo 1 >/sys/block/sda/device/rescan'
    guest_until web1 '[ "$(cat /sys/block/sda/size)" = 24576 ]'
    suite kvm-hotplug web1 resize-disk 1 big
    expect_status 2
    suite kvm-hotplug web1 list --json
    expect_equal "$(jq -c '.[3] | map(.[0].size)' "$RUN_DIR/conf/web1.runtime")" '[12,8]'
}

@test "set-memory waits until the guest has given the memory back, and takes it again" {
    start web1 '.beparams = {maxmem: 160, minmem: 120, vcpus: 1}'
    hotplug web1 set-memory 128
    expect_output "the guest has 128 MiB"
    expect_equal "$(qmp web1 query-balloon | jq .actual)" $((128 * 1048576))
    low=$(guest_run web1 "sed -n 's/^MemTotal: *\([0-9]*\).*/\1/p' /proc/meminfo")
    hotplug web1 set-memory 160
    high=$(guest_run web1 "sed -n 's/^MemTotal: *\([0-9]*\).*/\1/p' /proc/meminfo")
    [[ $((high - low)) -eq $((32 * 1024)) ]] || fail "the guest has $low and then $high KiB"
    suite kvm-hotplug web1 set-memory 64
    expect_status 2
    expect_error "below minmem"
    suite kvm-hotplug web1 set-memory 161
    expect_status 2
    expect_error "maxmem"
    suite kvm-hotplug web1 set-memory 0
    expect_status 2
    expect_error "must be a whole number from 120 (minmem; --force goes below it, to 1) to 160 (maxmem) (current value: \"0\")"
}

@test "set-link takes the guest's carrier and gives it back" {
    network br0
    address_bridge br0
    start web1 '.nics = [{nicparams: {link: "br0"}}]'
    use_nic web1 eth0
    hotplug web1 set-link 0 down --json
    expect_json '.[0].uuid | length == 36'
    guest_until web1 '[ "$(cat /sys/class/net/eth0/carrier)" = 0 ]'
    hotplug web1 set-link 0 up
    guest_until web1 '[ "$(cat /sys/class/net/eth0/carrier)" = 1 ]'
    guest_until web1 'ping -c 1 -W 1 10.7.0.1 >/dev/null'
    suite kvm-hotplug web1 set-link 0 sideways
    expect_status 2
}

@test "change-cdrom and eject are what the guest reads" {
    for medium in first second third; do
        printf '%-2048s' "medium-$medium" >"$TEST_DIR/$medium.iso"
        truncate -s 1M "$TEST_DIR/$medium.iso"
    done
    start web1 ".hvparams.cdrom_image_path = \"$TEST_DIR/first.iso\""
    guest_until web1 '[ -b /dev/sr0 ]'
    guest_until web1 'grep -q "^medium-first" /dev/sr0'
    for medium in second third second; do
        hotplug web1 change-cdrom "$TEST_DIR/$medium.iso"
        guest_until web1 "head -c 20 /dev/sr0 2>/dev/null | grep -q '^medium-$medium'"
        expect_equal "$(nodes web1 | grep -c ^cdrom1)" 1
        expect_equal "$(fd_sets web1)" "$(nodes web1 | grep ^cdrom1)"
    done
    hotplug web1 change-cdrom "$TEST_DIR/first.iso" --dry-run --json
    expect_json '[.[0].commands[].execute] == ["add-fd", "blockdev-add", "blockdev-open-tray", "blockdev-remove-medium",
        "blockdev-insert-medium", "blockdev-close-tray", "blockdev-del", "remove-fd"]'
    hotplug web1 change-cdrom eject --dry-run
    expect_output 'QMP:  {"execute":"blockdev-remove-medium","arguments":{"id":"cdrom"}}'
    guest_until web1 "head -c 20 /dev/sr0 2>/dev/null | grep -q '^medium-second'"
    hotplug web1 change-cdrom eject
    guest_until web1 '! head -c 20 /dev/sr0 >/dev/null 2>&1'
    expect_equal "$(nodes web1)" ""
    expect_equal "$(fd_sets web1)" ""
    hotplug web1 change-cdrom eject
    suite kvm-hotplug web1 change-cdrom "$TEST_DIR/missing.iso"
    expect_status 2
    hotplug web1 change-cdrom "$TEST_DIR/first.iso"
    guest_until web1 "head -c 20 /dev/sr0 2>/dev/null | grep -q '^medium-first'"
}

@test "memory, link and an ejected CD stay over a reboot, the link over mod-nic; a fresh start has the definition's" {
    network br0
    truncate -s 1M "$TEST_DIR/first.iso"
    start web1 ".beparams = {maxmem: 160, minmem: 120, vcpus: 1} | .nics = [{nicparams: {link: \"br0\"}}] |
        .hvparams.cdrom_image_path = \"$TEST_DIR/first.iso\""
    guest_until web1 '[ -b /dev/sr0 -a -e /sys/class/net/eth0 ]'
    hotplug web1 set-memory 144
    hotplug web1 set-link 0 down
    hotplug web1 change-cdrom eject
    hotplug web1 mod-nic 0 mac=aa:00:00:00:00:09
    guest_until web1 'grep -q aa:00:00:00:00:09 /sys/class/net/eth0/address'
    expect_kept
    rm "$TEST_DIR/first.iso" # an ejected medium is not missed
    suite kvm-stop --reboot web1
    expect_status 0
    guest_run web1 true
    wait_until 30 balloon_is web1 144
    expect_kept
    truncate -s 1M "$TEST_DIR/first.iso"
    hotplug web1 change-cdrom "$TEST_DIR/first.iso"
    guest_until web1 'head -c 20 /dev/sr0 >/dev/null 2>&1'
    hotplug web1 change-cdrom eject
    suite kvm-stop --force web1
    expect_status 0
    start web1 ".beparams = {maxmem: 160, minmem: 120, vcpus: 1} | .nics = [{nicparams: {link: \"br0\"}}] |
        .hvparams.cdrom_image_path = \"$TEST_DIR/first.iso\""
    guest_until web1 'head -c 20 /dev/sr0 >/dev/null 2>&1'
    guest_until web1 'ip link set eth0 up && [ "$(cat /sys/class/net/eth0/carrier)" = 1 ]'
    expect_equal "$(qmp web1 query-balloon | jq .actual)" $((160 * 1048576))
}

@test "limits are set live, stay over a reboot, and hot-plugged devices come back in their slots" {
    network br0
    address_bridge br0
    start web1 ".disks = [{path: \"$(disk one 4)\"}]"
    hotplug web1 add-disk path="$(disk two 4)" name=two slot=12 iops=400 --json
    id=$(told device)
    hotplug web1 add-nic link=br0 name=front slot=17
    expect_equal "$(limits web1 "$id")" '[400,0,0]'
    suite kvm-hotplug web1 set-io two iops=100 iops_rd=250
    expect_status 2
    expect_error "iops and iops_rd exclude each other: give 0 for the one to be dropped, such as iops=0"
    hotplug web1 set-io two iops=0 iops_rd=250 bps=4194304
    expect_equal "$(limits web1 "$id")" '[0,250,4194304]'
    suite kvm-hotplug web1 list --json
    places=$(jq -c '.[0] | [.disks, .nics | .[] | [.uuid, .slot, .id, .name]]' <<<"$output")
    suite kvm-stop web1 --reboot --timeout 60
    expect_status 0
    guest_run web1 true
    suite kvm-hotplug web1 list --json
    expect_equal "$(jq -c '.[0] | [.disks, .nics | .[] | [.uuid, .slot, .id, .name]]' <<<"$output")" "$places"
    expect_json '[.[0].disks[], .[0].nics[] | .in_qemu and .state == "present"] | all'
    expect_equal "$(limits web1 "$id")" '[0,250,4194304]'
    expect_equal "$(guest_run web1 'readlink /sys/block/vdb | grep -o "0000:00:0c.0"; readlink /sys/class/net/eth0 | grep -o "0000:00:11.0"')" $'0000:00:0c.0\n0000:00:11.0'
    use_nic web1 eth0
    hotplug web1 del-disk two
    hotplug web1 del-nic front
}
