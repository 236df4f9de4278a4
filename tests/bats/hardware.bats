#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# I/O threads, queues, random numbers, watchdogs: what the guest and QEMU see of them, and that all stays in its place.

load helper
load hotplug

peripheral() { # NAME ID PROPERTY
    qmp "$1" qom-get "$(jq -nc --arg id "$2" --arg key "$3" '{path: ("/machine/peripheral/" + $id), property: $key}')" | jq -r .
}

slots_of() { # NAME: what sits where
    suite kvm-info --slots "$1" --json >/dev/null
    jq -c '[.. | objects | select(.use? == "ours") | {slot, what}]' <<<"$output"
}

# A boot sector that lets the watchdog of q35 reset (flat segment, GCS register), sets it to two ticks of 0.6 s, starts
# it, and hangs.
watchdog_boot_sector() { # FILE
    printf '%b' '\0372\0061\0300\0216\0330\0146\0017\0001\0026\0120\0174\0017\0040\0300\0014\0001\0017\0042\0300\0273\0010\0000\0216\0343\0044\0376' \
        '\0017\0042\0300\0146\0276\0020\0364\0321\0376\0144\0147\0146\0307\0006\0000\0000\0000\0000\0272\0162\0006\0270\0002\0000\0357' \
        '\0262\0150\0061\0300\0357\0262\0140\0356\0364\0353\0375\0146\0220\0000\0000\0000\0000\0000\0000\0000\0000' \
        '\0377\0377\0000\0000\0000\0222\0317\0000\0017\0000\0100\0174\0000\0000' >"$1"
    truncate -s 1M "$1"
    printf '\125\252' | dd of="$1" bs=1 seek=510 conv=notrunc status=none
}

# bats test_tags=guest
@test "the guest reads random numbers, its disks have their queues and threads, and a reboot keeps all places" {
    start web1 ".hvparams += {virtio_rng: true, virtio_rng_rate: 65536, watchdog: \"i6300esb\", iothreads: 2,
        disk_discard: \"unmap\"} | .beparams.vcpus = 2 |
        .disks = [{path: \"$(disk one 4)\", queues: 2, iothread: 1, name: \"one\"}]"
    guest_run web1 '[ "$(cat /sys/class/misc/hw_random/rng_current)" = virtio_rng.0 ]'
    guest_run web1 '[ "$(head -c 64 /dev/hwrng | od -An -tx1 | tr -d " \n" | wc -c)" -eq 128 ]'
    guest_run web1 '[ "$(ls /sys/block/vda/mq | wc -l)" -eq 2 ]'
    hotplug web1 add-disk path="$(disk two 4)" name=two queues=1 detect_zeroes=unmap --json
    two=$(told device)
    expect_equal "$(peripheral web1 "$two/virtio-backend" iothread)" /objects/io1
    expect_equal "$(qmp web1 query-named-block-nodes '{"flat": true}' | jq -r --arg id "$two" '.[] | select(."node-name" == $id).detect_zeroes')" unmap
    guest_until web1 '[ -b /dev/vdb ]'
    guest_run web1 'echo written >/dev/vdb; sync; [ "$(head -c 7 /dev/vdb)" = written ]'
    before=$(slots_of web1)
    suite kvm-stop --reboot web1
    expect_status 0
    guest_run web1 '[ -b /dev/vda -a -b /dev/vdb -a -c /dev/hwrng ]'
    expect_equal "$(slots_of web1)" "$before"
    hotplug web1 del-disk two
}

@test "a disk that names a thread which is not there, or queues on SCSI, is refused before anything is touched" {
    suite kvm-start "$(empty_definition web1 '.hvparams.disk_type = "scsi"')"
    expect_status 0
    suite kvm-hotplug web1 add-disk path="$(disk one 4)" bus=virtio iothread=0
    expect_status 2
    expect_error "add-disk: iothread: hvparams.iothreads makes 0 of them"
    suite kvm-hotplug web1 add-disk path="$(disk one 4)" queues=2
    expect_status 2
    expect_error "add-disk: queues: is only for virtio disks"
    suite kvm-hotplug web1 list --json
    expect_json '[.. | objects | select(has("hvinfo"))] == []'
}

@test "the watchdog of q35 powers a hung guest off, and kvm-info and kvm-cleanup tell it" {
    watchdog_boot_sector "$TEST_DIR/boot.img"
    suite kvm-start "$(empty_definition web1 '.hvparams += {machine_version: "q35", watchdog: "itco", watchdog_action: "poweroff"} |
        .disks = [{path: "'"$TEST_DIR/boot.img"'"}]')"
    expect_status 0
    wait_until 60 qemu_is_dead web1
    suite kvm-info web1
    expect_output "the watchdog powered the guest off at"
    suite kvm-cleanup web1
    expect_status 0
    expect_output "the watchdog powered the guest off at"
    expect_nothing_left web1
}

@test "with watchdog_action none the guest goes on, and the event log has the WATCHDOG" {
    watchdog_boot_sector "$TEST_DIR/boot.img"
    suite kvm-start "$(empty_definition web1 '.hvparams += {machine_version: "q35", watchdog: "itco", watchdog_action: "none"} |
        .disks = [{path: "'"$TEST_DIR/boot.img"'"}]')"
    expect_status 0
    wait_until 60 grep -q '"WATCHDOG"' "$RUN_DIR/events/web1.jsonl"
    qemu_lives web1
}

@test "q35: random numbers and the PCI watchdog sit on root ports of their own, also in a chroot" {
    suite kvm-start "$(empty_definition web1 '.hvparams += {machine_version: "q35", virtio_rng: true, watchdog: "i6300esb",
        use_chroot: true, use_guest_agent: true}')"
    expect_status 0
    expect_equal "$(slots_of web1)" '[{"slot":3,"what":"balloon (balloon)"},{"slot":4,"what":"serial controller (spice)"},{"slot":5,"what":"random number generator (rng)"},{"slot":6,"what":"watchdog (watchdog)"}]'
    expect_equal "$(peripheral web1 rng rng)" /objects/rng0
}
