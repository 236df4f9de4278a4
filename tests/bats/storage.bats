#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# Models of disks and CD-ROMs, what is booted from, storage that QEMU opens itself: looked at in the real QEMU.

load helper
load hotplug
load storage

refuse() { # JQ TEXT…: what is wrong with a definition is told, and nothing is made
    suite kvm-start "$(empty_definition web1 "$1")"
    expect_status 2
    for text in "${@:2}"; do expect_error "$text"; done
    expect_nothing_left web1
}

# A definition with $1 disks of 4 MiB, uuids as uuid_of.
disks() { # COUNT [JQ]
    local i list=()
    for ((i = 1; i <= $1; i++)); do
        list+=("{uuid: \"$(uuid_of "$i")\", path: \"$(disk "d$i" 4)\"}")
    done
    empty_definition web1 ".disks = [$(IFS=,; echo "${list[*]}")] | ${2:-.}"
}

@test "the firmware boots from what boot_order says: disk, floppy, and the CD-ROM on every bus" {
    boot_disk D "$TEST_DIR/disk.img"
    boot_disk E "$TEST_DIR/other.img"
    boot_disk F "$TEST_DIR/floppy.img"
    boot_cdrom C "$TEST_DIR/cd.iso"
    boot_cdrom X "$TEST_DIR/second.iso"
    local media=".hvparams.cdrom_image_path = \"$TEST_DIR/cd.iso\" | .hvparams.cdrom2_image_path = \"$TEST_DIR/second.iso\" |
        .hvparams.floppy_image_path = \"$TEST_DIR/floppy.img\" | .disks = [{path: \"$TEST_DIR/disk.img\"}, {path: \"$TEST_DIR/other.img\"}]"
    local case order
    for case in 'D disk paravirtual pc' 'D disk scsi pc' 'D disk ide q35' 'F floppy paravirtual pc' 'F floppy ide q35' \
        'C cdrom paravirtual pc' 'C cdrom scsi-cd pc' 'C cdrom ide-cd pc' 'C cdrom sata q35'; do
        read -ra order <<<"$case"
        suite kvm-start "$(empty_definition web1 "$media | .hvparams.boot_order = \"${order[1]}\" | .hvparams.machine_version = \"${order[3]}\" |
            .hvparams.cdrom_disk_type = \"${order[2]}\" | .hvparams.disk_type = \"$([[ ${order[1]} == disk ]] && echo "${order[2]}" || echo paravirtual)\"")"
        expect_status 0
        echo "# $case"
        expect_equal "$(letter web1)" "${order[0]}"
        end web1
    done
}

@test "SCSI disks and CD-ROMs sit on each controller where the runtime says, and more disks get more controllers" {
    local type
    for type in lsi megasas dc390 virtio-scsi-pci; do
        start_paused "$(disks 2 ".hvparams += {disk_type: \"scsi\", scsi_controller_type: \"$type\", cdrom_disk_type: \"scsi-cd\", cdrom_image_path: \"$(disk cd 1)\"}")"
        expect_equal "$(peripheral web1 "$(id_of 2)" type)" scsi-hd
        expect_equal "$(peripheral web1 "$(id_of 2)" scsi-id)" 1
        expect_equal "$(peripheral web1 cdrom type)" scsi-cd
        expect_equal "$(peripheral web1 cdrom parent_bus)" "/machine/peripheral/scsi/$([[ $type != virtio* ]] || echo virtio-backend/)scsi.0"
        end web1
    done
    start_paused "$(disks 8 '.hvparams += {disk_type: "scsi-hd", scsi_controller_type: "lsi"}')"
    expect_equal "$(peripheral web1 "$(id_of 8)" parent_bus)" /machine/peripheral/scsi1/scsi1.0
    suite kvm-info --slots web1
    expect_output "SCSI controller (scsi1)"
    before=$(jq -c '.[3], .[4].slots' "$RUN_DIR/conf/web1.runtime")
    suite kvm-stop --reboot web1
    expect_equal "$(jq -c '.[3], .[4].slots' "$RUN_DIR/conf/web1.runtime")" "$before"
    expect_equal "$(peripheral web1 "$(id_of 8)" parent_bus)" /machine/peripheral/scsi1/scsi1.0
}

@test "geometry, serial number, mode, cache, discard and aio of a disk are what QEMU has" {
    start_paused "$(disks 4 '.disks[0] += {cyls: 1023, heads: 16, secs: 63, serial: "A_b.C:+-1234567890xy", cache: "writethrough", discard: "unmap"} |
        .disks[1] += {bus: "ide", cyls: 8, heads: 4, secs: 255, serial: "ide-1"} |
        .disks[2] += {bus: "scsi", mode: "ro", serial: "s"} |
        .disks[3] += {mode: "ro", cache: "none", aio: "native"}')"
    for property in cyls=1023 heads=16 secs=63 serial=A_b.C:+-1234567890xy write-cache=off; do
        expect_equal "$(peripheral web1 "$(id_of 1)" "${property%%=*}")" "${property#*=}"
    done
    for property in cyls=8 heads=4 secs=255 serial=ide-1 write-cache=on; do
        expect_equal "$(peripheral web1 "$(id_of 2)" "${property%%=*}")" "${property#*=}"
    done
    expect_equal "$(peripheral web1 "$(id_of 3)" serial)" s
    expect_equal "$(node_of web1 "$(id_of 1)" | jq -c '[.ro, .cache.direct]')" '[false,false]'
    expect_equal "$(node_of web1 "$(id_of 3)" | jq -c '[.ro, .cache.direct]')" '[true,false]'
    expect_equal "$(node_of web1 "$(id_of 4)" | jq -c '[.ro, .cache.direct]')" '[true,true]'
    local pid
    pid=$(qemu_pid web1)
    # Opened read-only by the node itself: nobody can write it through QEMU.
    for image in d3 d4; do
        number=$(find "/proc/$pid/fd" -lname "$TEST_DIR/$image.img" -printf '%f\n' | head -n 1)
        (($(sed -n 's/^flags:\s*/8#/p' "/proc/$pid/fdinfo/$number" | head -n 1) % 4 == 0)) || fail "$image is open for writing"
    done
}

@test "SD cards have a reader each, and CD-ROMs can be virtio disks" {
    cd=$(disk cd 1)
    start_paused "$(disks 2 ".hvparams += {disk_type: \"sd\", cdrom_disk_type: \"paravirtual\", cdrom_image_path: \"$cd\", cdrom2_image_path: \"$cd\"}")"
    expect_equal "$(peripheral web1 "$(id_of 1)" type)" sd-card
    expect_equal "$(peripheral web1 "$(id_of 2)" drive)" "$(id_of 2)"
    expect_equal "$(peripheral web1 cdrom2 type)" virtio-blk-pci
    expect_equal "$(node_of web1 cdrom2 | jq .ro)" true
    suite kvm-hotplug web1 change-cdrom "$(disk other 1)"
    expect_status 3
    expect_error "the CD-ROM is a virtio-blk-pci, whose medium can't be changed"
    before=$(suite kvm-info --slots web1)
    suite kvm-stop --reboot web1
    expect_equal "$(suite kvm-info --slots web1)" "$before"
}

@test "images that can't be what the disk's model asks for are refused with field and reason" {
    mkfifo "$TEST_DIR/fifo"
    mkdir "$TEST_DIR/directory"
    one=$(disk one 4)
    ln "$one" "$TEST_DIR/hard.img"
    ln -s "$one" "$TEST_DIR/soft.img"
    refuse ".disks = [{path: \"$TEST_DIR/fifo\"}, {path: \"$TEST_DIR/directory\"}, {path: \"$TEST_DIR/missing\", mode: \"ro\"}, {path: \"/dev/null\"}]" \
        "disks[0].path: neither a file nor a block device" "disks[1].path: can't be opened" "disks[2].path: can't be opened" "disks[3].path: neither"
    refuse ".disks = [{path: \"$TEST_DIR/directory\", mode: \"ro\"}]" "disks[0].path: neither a file nor a block device"
    refuse ".disks = [{path: \"$one\"}, {path: \"$TEST_DIR/hard.img\"}]" "disks[1].path: is the image of disks[0].path too, and one of them writes"
    refuse ".disks = [{path: \"$TEST_DIR/soft.img\", mode: \"ro\"}, {path: \"$one\"}]" "disks[1].path: is the image of disks[0].path too"
    refuse ".disks = [{path: \"$one\"}] | .hvparams.cdrom_image_path = \"$one\"" "hvparams.cdrom_image_path: is the image of disks[0].path too"
    refuse ".disks = [{path: \"$one\", bus: \"scsi-block\"}]" "disks[0].path: scsi-block hands the guest's commands to a SCSI device of the node"
    refuse ".disks = [{path: \"$one\", bus: \"scsi-generic\"}]" "disks[0].path: scsi-generic needs a /dev/sg device"
    refuse ".disks = [{path: \"$(disk odd 3)\", bus: \"sd\"}]" "disks[0].path: the size of an SD card must be a power of two, it has 3145728 bytes"
    refuse ".disks = [{path: \"$one\"}] | .hvparams.disk_type = \"mtd\"" "hvparams.disk_type: the machine types pc and q35 have no raw flash"
    refuse ".disks = [{path: \"$one\", bus: \"sata\", mode: \"ro\"}] | .hvparams.machine_version = \"q35\"" "disks[0]: mode: QEMU has no read-only IDE or SATA disk"
    suite kvm-start --paused "$(empty_definition web1 ".disks = [{path: \"$one\", mode: \"ro\"}, {path: \"$TEST_DIR/hard.img\", mode: \"ro\"}]")"
    expect_status 0
    suite kvm-hotplug web1 add-disk path="$TEST_DIR/soft.img"
    expect_status 2
    expect_error "disks[2].path: is the image of disks[0].path too"
    suite kvm-hotplug web1 add-disk path="$(disk more 4)" bus=ide
    expect_status 3
    suite kvm-hotplug web1 add-disk path="$(disk more 4)" bus=pflash
    expect_status 2
    expect_error "bus: the flash of the machine types"
}

# bats test_tags=guest
@test "a block device is opened as one, at start and plugged, and grows" {
    truncate -s 8M "$TEST_DIR/one" "$TEST_DIR/two"
    one=$(losetup --find --show "$TEST_DIR/one")
    two=$(losetup --find --show "$TEST_DIR/two")
    suite kvm-start "$(definition web1 ".disks = [{path: \"$one\", uuid: \"$(uuid_of 1)\"}]")"
    started=$status
    losetup --detach "$one" # goes when QEMU has closed it
    [[ $started -eq 0 ]] || losetup --detach "$two"
    expect_equal "$started" 0
    suite kvm-hotplug web1 add-disk path="$two" name=two cache=none aio=native --json
    added=$status
    truncate -s 12M "$TEST_DIR/two"
    losetup --set-capacity "$two"
    losetup --detach "$two"
    expect_equal "$added" 0
    qmp web1 query-named-block-nodes '{"flat": true}' | jq -e '[.[] | select(.drv == "host_device")] | length == 2'
    expect_equal "$(node_of web1 "$(told device)" | jq -c .cache.direct)" true
    suite kvm-hotplug web1 resize-disk two 12
    expect_status 0
    guest_until web1 '[ "$(cat /sys/block/vdb/size)" = 24576 ]'
    guest_run web1 'echo on-a-device | dd of=/dev/vda bs=4096 conv=sync,fsync 2>/dev/null'
    expect_equal "$(head -n 1 "$TEST_DIR/one")" on-a-device
    hotplug web1 del-disk two
    suite kvm-stop --force web1
    wait_until 20 eval '! losetup --associated "$TEST_DIR/one" | grep -q .'
}

# bats test_tags=guest
@test "an NBD server's export is a disk, from the start and plugged, over a reboot and to the last character of its name" {
    network # taps of others are none of its inventory
    one=$(disk one 8)
    two=$(disk two 8)
    name='a,b"c d%e:f=g\h'
    nbd "$one" "$TEST_DIR/one.sock" --export-name="$name"
    nbd "$two" "$TEST_DIR/two,1.sock"
    suite kvm-start "$(definition web1 ".disks = [{uuid: \"$(uuid_of 1)\", uri: \"nbd+unix:///a,b%22c%20d%25e:f=g%5Ch?socket=$TEST_DIR/one.sock\"}]")"
    expect_status 0
    expect_equal "$(jq -c '.[3][0][1]' "$RUN_DIR/conf/web1.runtime")" null
    expect_equal "$(jq -r '.[3][0][2]' "$RUN_DIR/conf/web1.runtime")" "nbd+unix:///a,b%22c%20d%25e:f=g%5Ch?socket=$TEST_DIR/one.sock"
    use_disk web1 vda "$one"
    before=$(inventory web1)
    hotplug web1 add-disk uri="nbd:unix:$TEST_DIR/two,1.sock" name=two serial=two --json
    guest_until web1 '[ -b /dev/vdb ]'
    use_disk web1 vdb "$two"
    expect_equal "$(fd_sets web1)" ""
    suite kvm-info web1 --json
    expect_json ".[0].disks[1] | .path == null and .uri == \"nbd:unix:$TEST_DIR/two,1.sock\""
    suite kvm-hotplug web1 add-disk uri="nbd:unix:$TEST_DIR/two,1.sock"
    expect_status 2
    expect_error "uri: is that of disks[1] too"
    suite kvm-hotplug web1 add-disk uri="nbd:unix:$TEST_DIR/none.sock"
    expect_status 2
    expect_error "uri: can't be opened (current value: \"nbd:unix:$TEST_DIR/none.sock\")"
    suite kvm-stop --reboot web1
    expect_status 0
    guest_until web1 '[ -b /dev/vdb ]'
    hotplug web1 del-disk "nbd:unix:$TEST_DIR/two,1.sock"
    expect_inventory web1 "$before"
}

# bats test_tags=guest
@test "CD-ROMs come from the web, by exactly their names, and are changed there" {
    mkdir "$TEST_DIR/a b"
    for medium in first second third; do
        printf '%-2048s' "medium-$medium" >"$TEST_DIR/a b/$medium,1.iso"
        truncate -s 1M "$TEST_DIR/a b/$medium,1.iso"
    done
    web
    start web1 ".hvparams += {cdrom_image_path: \"$WEB/a%20b/first,1.iso\", cdrom2_image_path: \"$TEST_DIR/a b/second,1.iso\"}"
    expect_equal "$(node_of web1 cdrom1 | jq -c '[.drv, .ro]')" '["raw",true]'
    guest_until web1 "head -c 20 /dev/sr0 2>/dev/null | grep -q '^medium-first'"
    guest_until web1 "head -c 20 /dev/sr1 2>/dev/null | grep -q '^medium-second'"
    hotplug web1 change-cdrom "$WEB/a%20b/third,1.iso" cdrom2
    guest_until web1 "head -c 20 /dev/sr1 2>/dev/null | grep -q '^medium-third'"
    expect_equal "$(nodes web1 | tr '\n' ' ')" "cdrom1 cdrom2b "
    expect_equal "$(fd_sets web1)" ""
    expect_equal "$(jq -r '.[2].cdrom2_image_path' "$RUN_DIR/conf/web1.runtime")" "$WEB/a%20b/third,1.iso"
    hotplug web1 change-cdrom "$TEST_DIR/a b/second,1.iso"
    guest_until web1 "head -c 20 /dev/sr0 2>/dev/null | grep -q '^medium-second'"
    suite kvm-hotplug web1 change-cdrom "$WEB/missing.iso"
    expect_status 2
    expect_error "PATH: can't be opened"
    guest_until web1 "head -c 20 /dev/sr0 2>/dev/null | grep -q '^medium-second'"
    suite kvm-hotplug web1 change-cdrom http://user:secret@127.0.0.1/x.iso
    expect_status 2
    suite kvm-hotplug web1 change-cdrom eject cdrom3
    expect_status 2
    expect_error "DRIVE: must be cdrom or cdrom2"
}

@test "a URI that can't be opened, or whose driver QEMU lacks, is told before anything is made" {
    refuse '.disks = [{uri: "rbd:pool"}]' 'disks[0].uri: must be like rbd:POOL/IMAGE'
    refuse '.disks = [{uri: "https://example.org/x"}]' 'disks[0].uri: can only be read, it needs mode "ro"'
    refuse '.disks = [{uri: "nbd://u:p@host/x"}]' 'disks[0].uri: a user or password must not stand in it'
    # A QEMU without one of its modules, as when the package of it is not installed.
    modules=$(dirname "$(ls /usr/lib/*/qemu/block-curl.so)")
    cp -r "$modules" "$TEST_DIR/modules"
    rm "$TEST_DIR/modules/block-curl.so"
    printf '#!/bin/sh\nexec unshare --mount sh -c '"'"'mount --bind %s %s && exec /usr/bin/qemu-system-x86_64 "$@"'"'"' qemu "$@"\n' \
        "$TEST_DIR/modules" "$modules" >"$TEST_DIR/qemu"
    chmod 0755 "$TEST_DIR/qemu"
    refuse ".hvparams.kvm_path = \"$TEST_DIR/qemu\" | .hvparams.cdrom_image_path = \"http://127.0.0.1:1/x.iso\"" \
        "hvparams.cdrom_image_path: $TEST_DIR/qemu does not know how" 'block driver http may be in a package of its own'
    suite kvm-start "$(empty_definition web1 ".disks = [{uri: \"nbd:unix:$TEST_DIR/none\"}]")"
    expect_status 1
    expect_error "$TEST_DIR/none"
    expect_nothing_left web1
}
