#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# kvm-start --adopt: a QEMU that runs without a good runtime file gets a new one, and nothing is guessed.

load helper

lose_runtime() { # NAME: keeps a copy
    cp "$RUN_DIR/conf/$1.runtime" "$TEST_DIR/$1.lost"
    rm "$RUN_DIR/conf/$1.runtime"
}

# The same, but for what a start notes only in the fifth element, and the last groups of uuids that only it knew.
expect_same_runtime() { # NAME
    diff <(ganeti_part "$TEST_DIR/$1.lost") <(ganeti_part "$RUN_DIR/conf/$1.runtime")
}

ganeti_part() { # FILE
    jq -S '[.[0], (.[1] | map([.mac, .uuid, .nicparams, .hvinfo])), (.[3] | map([.[0].hvinfo, .[0].mode, .[1]])),
        (.[2] | {machine_version, kvm_flag, kernel_path, initrd_path, root_path, kernel_args, cpu_type, use_chroot,
            security_model, use_guest_agent, serial_console, boot_order, reboot_behavior, cdrom_image_path})]' "$1"
}

everything() { # NAME [JQ-FILTER]: a definition that uses much
    definition "$1" '.hvparams += {use_guest_agent: true, reboot_behavior: "exit", cpu_type: "qemu64,+ssse3"}
        | .beparams.vcpus = 2
        | .disks = [{path: "'"$(disk one 8)"'", cache: "none", aio: "native", discard: "unmap", serial: "a1"},
                    {path: "'"$(disk two 8)"'", mode: "ro", bus: "scsi", name: "second"}]
        | .nics = [{name: "lan", nicparams: {mode: "bridged", link: "br0"}},
                   {nicparams: {mode: "bridged", link: "br1"}}]
        | '"${2:-.}"
}

# bats test_tags=guest
@test "a lost runtime file is made again from QEMU alone, with what was plugged in; all goes on with it" {
    network br0 br1
    suite kvm-start "$(everything web1)"
    expect_status 0
    suite kvm-hotplug web1 add-disk "path=$(disk hot,plugged 8)" name=hot iops=500
    expect_status 0
    guest_run web1 true
    suite kvm-hotplug web1 set-memory 112 --force --timeout 60
    expect_status 0
    suite kvm-hotplug web1 set-link 1 down
    expect_status 0
    pid=$(qemu_pid web1)
    lose_runtime web1
    suite kvm-hotplug web1 list
    expect_status 3
    suite kvm-start --adopt web1 --dry-run
    expect_status 0
    expect_output "can be adopted (pid $pid, running): 3 disks, 2 NICs"
    [[ ! -e $RUN_DIR/conf/web1.runtime ]] || fail "--dry-run wrote"
    suite kvm-start --adopt "$pid"
    expect_status 0
    expect_output "web1: adopted (pid $pid, running): 3 disks, 2 NICs"
    expect_same_runtime web1
    diff <(jq -S '.[4].kept' "$TEST_DIR/web1.lost") <(jq -S '.[4].kept' "$RUN_DIR/conf/web1.runtime")
    jq -e '.[4].kept | .memory == 112 and (.links_down | length == 1)' "$RUN_DIR/conf/web1.runtime"
    suite kvm-info --json web1
    expect_json '.[0].state == "running" and ([.[0].disks[], .[0].nics[] | .state] | all(. == "present"))'
    expect_equal "$(jq '.[3][2][0].params.iops' "$RUN_DIR/conf/web1.runtime")" 500
    guest_run web1 true
    suite kvm-hotplug web1 del-disk "$TEST_DIR/hot,plugged.img"
    expect_status 0
    suite kvm-stop web1 --reboot
    expect_status 0
    diff <(jq -S '[.[1][].hvinfo, .[3][][0].hvinfo]' "$RUN_DIR/conf/web1.runtime") \
        <(jq -S '[.[1][].hvinfo, .[3][:2][][0].hvinfo]' "$TEST_DIR/web1.lost")
    suite kvm-stop web1 --force
    expect_status 0
    expect_nothing_left web1
}

@test "with its definition the names, tags and limits come back as well" {
    network br0 br1
    suite kvm-start --paused "$(everything web1 '.hvparams.kernel_path = "" | .hvparams.initrd_path = ""
        | .tags = ["prod"] | .beparams = {maxmem: 64, minmem: 32, vcpus: 2}')"
    expect_status 0
    lose_runtime web1
    echo 'no runtime' >"$RUN_DIR/conf/web1.runtime"
    suite kvm-start --adopt web1 "$TEST_DIR/web1.json"
    expect_status 0
    expect_same_runtime web1
    diff <(jq -S '.[4].instance | del(.disks, .nics, .hvparams)' "$TEST_DIR/web1.lost") \
        <(jq -S '.[4].instance | del(.disks, .nics, .hvparams)' "$RUN_DIR/conf/web1.runtime")
    expect_equal "$(jq -r '.[1][0].name, .[3][1][0].name' "$RUN_DIR/conf/web1.runtime" | paste -sd' ')" "lan second"
    suite kvm-start --adopt web1
    expect_status 0
    expect_output "its runtime file is in order"
    # The start is finished as if nothing had been.
    suite kvm-start "$TEST_DIR/web1.json"
    expect_status 0
    expect_equal "$(qmp web1 query-status | jq -r .status)" running
}

@test "on q35, in a chroot, as a user of the pool" {
    echo '{"uid_pool": "4000-4009"}' >"$CONF_DIR/kvm-defaults.json"
    network br0 br1
    suite kvm-start "$(everything web1 '.hvparams |= del(.kernel_args) | .hvparams += {machine_version: "q35", kernel_path: "", initrd_path: "",
        use_chroot: true, security_model: "pool"} | .disks[0] |= del(.aio) | .beparams.memory = 32')"
    expect_status 0
    lose_runtime web1
    suite kvm-start --adopt web1
    expect_status 0
    expect_same_runtime web1
    suite kvm-stop --force web1
    expect_status 0
    expect_nothing_left web1
}

@test "a definition that names another image for a disk is refused, another name of the same one is not" {
    ln -s "$(disk one 8)" "$TEST_DIR/link.img"
    uuid=7c079136-2573-4112-82d0-0d3d2aa90d8f
    suite kvm-start "$(empty_definition web1 '.disks = [{uuid: "'$uuid'", path: "'"$TEST_DIR/one.img"'"}]')"
    expect_status 0
    lose_runtime web1
    suite kvm-start --adopt web1 "$(empty_definition web1 '.disks = [{uuid: "'$uuid'", path: "'"$(disk other 8)"'"}]')"
    expect_status 3
    expect_error "disk $uuid: "
    expect_error "QEMU has $TEST_DIR/one.img open"
    [[ ! -e $RUN_DIR/conf/web1.runtime ]] || fail "it was written"
    suite kvm-start --adopt web1 "$(empty_definition web1 '.disks = [{uuid: "'$uuid'", path: "'"$TEST_DIR/link.img"'"}]')"
    expect_status 0
}

@test "random numbers and a watchdog need the definition" {
    suite kvm-start "$(empty_definition web1 '.hvparams += {virtio_rng: true, watchdog: "i6300esb"}')"
    expect_status 0
    lose_runtime web1
    suite kvm-start --adopt web1
    expect_status 3
    expect_error "give the definition"
    suite kvm-start --adopt web1 "$TEST_DIR/web1.json"
    expect_status 0
}

@test "what a definition says otherwise than QEMU is told, all at once, and nothing is written" {
    suite kvm-start "$(empty_definition web1 '.disks = [{path: "'"$(disk one 8)"'"}]')"
    lose_runtime web1
    suite kvm-start --adopt web1 "$(empty_definition web1 '.beparams.vcpus = 3 | .hvparams.acpi = false
        | .disks = [{path: "'"$(disk one 8)"'"}, {path: "'"$(disk other 8)"'"}]')"
    expect_status 3
    expect_error "beparams.vcpus: it runs with 1 (current value: 3)"
    expect_error "disks[1]: QEMU does not have it (path $TEST_DIR/other.img)"
    expect_error "acpi=off: it would be started with this, but does not run with it"
    [[ ! -e $RUN_DIR/conf/web1.runtime ]] || fail "it was written"
    qemu_lives web1
}

@test "a damaged runtime file goes to quarantine when a new one is made" {
    suite kvm-start --paused "$(empty_definition web1)"
    expect_status 0
    echo damaged >"$RUN_DIR/conf/web1.runtime"
    suite kvm-start --adopt web1 --dry-run
    expect_status 0
    expect_equal "$(cat "$RUN_DIR/conf/web1.runtime")" damaged
    suite kvm-start --adopt web1
    expect_status 0
    expect_error "; moved to $RUN_DIR/chroot-quarantine/web1-runtime-"
    expect_equal "$(cat "$RUN_DIR"/chroot-quarantine/web1-runtime-*)" damaged
    jq -e '.[4].state == "paused"' "$RUN_DIR/conf/web1.runtime"
    rm "$RUN_DIR/conf/web1.runtime"
    mkdir "$RUN_DIR/conf/web1.runtime"
    suite kvm-start --adopt web1
    expect_status 0
    suite kvm-hotplug web1 list
    expect_status 0
}

@test "kvm-info tells of a lost or damaged runtime file and what makes a new one; the first start has asked the binary once" {
    suite kvm-start --paused "$(empty_definition web1)"
    expect_status 0
    expect_equal "$(find "$RUN_DIR/cache" -name 'qemu-*.json' | wc -l)" 1
    lose_runtime web1
    suite kvm-info
    expect_output "its runtime file is missing; 'kvm-start --adopt web1' makes a new one"
    suite kvm-info web1 --json
    expect_json '.[0] | .state != "absent" and (.fault | startswith("its runtime file is missing"))'
    echo damaged >"$RUN_DIR/conf/web1.runtime"
    suite kvm-info web1
    expect_output "'kvm-start --adopt web1' makes a new one"
    suite kvm-start --adopt web1
    suite kvm-info web1 --json
    expect_json '.[0].fault == null'
}

@test "NICs keep their order, and links what was set last, whatever was plugged in between" {
    network br0
    suite kvm-start --paused "$(empty_definition web1 '.nics = [{nicparams: {link: "br0"}}, {nicparams: {link: "br0"}}, {nicparams: {link: "br0"}}]')"
    expect_status 0
    suite kvm-hotplug web1 set-link 0 down
    suite kvm-hotplug web1 set-link 1 down
    suite kvm-hotplug web1 set-link 2 down
    suite kvm-hotplug web1 set-link 2 up
    expect_status 0
    # Into a slot before all others, and so behind them in the list only.
    suite kvm-hotplug web1 add-nic link=br0 slot=11
    expect_status 0
    suite kvm-hotplug web1 add-nic link=br0 slot=9
    expect_status 0
    lose_runtime web1
    suite kvm-start --adopt web1
    expect_status 0
    expect_equal "$(jq -c '[.[1][].hvinfo.addr]' "$RUN_DIR/conf/web1.runtime")" "$(jq -c '[.[1][].hvinfo.addr]' "$TEST_DIR/web1.lost")"
    expect_equal "$(jq '.[4].kept.links_down | length' "$RUN_DIR/conf/web1.runtime")" 2
}

@test "a block device is recorded by a name that outlives the boot of the node" {
    local loop name
    loop=$(losetup --find --show "$(disk one 8)")
    name=/dev/disk/by-id/test-${TEST_DIR##*/}
    mkdir -p /dev/disk/by-id
    ln -s "$loop" "$name"
    ln -s "$loop" "$name-z"
    suite kvm-start --paused "$(empty_definition web1 ".disks = [{path: \"$name\"}]")"
    expect_status 0
    lose_runtime web1
    suite kvm-start --adopt web1
    recorded=$(jq -r '.[3][0][1]' "$RUN_DIR/conf/web1.runtime")
    suite kvm-stop --force web1
    rm -f "$name" "$name-z"
    rmdir /dev/disk/by-id /dev/disk 2>/dev/null || true
    losetup --detach "$loop"
    expect_equal "$recorded" "$name"
}

@test "what QEMU alone can't tell is refused with the reason" {
    echo secret >"$TEST_DIR/password"
    chmod 0600 "$TEST_DIR/password"
    suite kvm-start "$(empty_definition web1 '.network_port = 11971 | .disks = [{path: "'"$(disk one 8)"'"}]
        | .hvparams += {vnc_bind_address: "127.0.0.1", vnc_password_file: "'"$TEST_DIR/password"'"}')"
    expect_status 0
    lose_runtime web1
    rm "$TEST_DIR/one.img"
    suite kvm-start --adopt web1
    expect_status 3
    expect_error "-vnc: the file of its password is not known: give the definition"
    expect_error "its image has been deleted"
    expect_error "'kvm-start --adopt web1 FILE'"
    [[ ! -e $RUN_DIR/conf/web1.runtime ]] || fail "it was written"
    disk one 8
    suite kvm-start --adopt web1 "$TEST_DIR/web1.json"
    expect_status 3
    expect_error "its image has been deleted"
}

@test "somebody else's device, process or name is refused" {
    suite kvm-start "$(empty_definition web1)"
    expect_status 0
    lose_runtime web1
    qmp web1 blockdev-add '{"driver": "null-co", "node-name": "mine"}'
    qmp web1 device_add '{"driver": "virtio-blk-pci", "id": "mine", "drive": "mine", "bus": "pci.0", "addr": "0x9"}'
    suite kvm-start --adopt web1
    expect_status 3
    expect_error "disk mine"
    suite kvm-start --adopt $$
    expect_status 3
    expect_error "is no QEMU with a -name"
    suite kvm-start --adopt nobody
    expect_status 3
    expect_error "no QEMU holds the lock on $RUN_DIR/pid/nobody"
    suite kvm-start --adopt ../web1
    expect_status 2
    suite kvm-start --adopt web1 one.json two.json
    expect_status 2
    suite kvm-start --adopt web1 "$TEST_DIR/missing.json"
    [[ $status -ne 0 ]] || fail "a missing definition was taken"
    expect_error missing.json
    kill -STOP "$(qemu_pid web1)"
    suite kvm-start --adopt web1 --timeout 1
    kill -CONT "$(qemu_pid web1)"
    [[ $status -ne 0 ]] || fail "a silent QEMU was adopted"
    [[ ! -e $RUN_DIR/conf/web1.runtime ]] || fail "it was written"
}

@test "SPICE, VNC with TLS, sound, USB and graphics are read back too, but for passwords" {
    local one
    network
    certificates "$TEST_DIR/x509, here"
    cp "$TEST_DIR/x509, here/ca-cert.pem" "$CONF_DIR/spice-ca.pem"
    cat "$TEST_DIR/x509, here/"server-{cert,key}.pem >"$CONF_DIR/spice.pem"
    for one in \
        '.hvparams += {spice_bind: "127.0.0.1", spice_ip_version: 4, spice_image_compression: "off", spice_jpeg_wan_compression: "never",
            spice_zlib_glz_wan_compression: "auto", spice_streaming_video: "all", spice_playback_compression: false, vga: "std",
            soundhw: "sb16,hda", usb_mouse: "mouse", usb_devices: "tablet,host:1d6b:ffff", use_guest_agent: true}' \
        '.hvparams += {spice_bind: "::1", spice_use_tls: true, spice_tls_ciphers: "HIGH", spice_use_vdagent: false, soundhw: "pcspk"}' \
        '.hvparams += {vnc_bind_address: "::1", vnc_tls: true, vnc_x509_path: "'"$TEST_DIR/x509, here"'", vnc_x509_verify: true,
            vga: "none", soundhw: "ac97", keymap: "de", user_shutdown: true}'; do
        suite kvm-start --paused "$(empty_definition web1 ".network_port = 5941 | $one")"
        expect_status 0
        lose_runtime web1
        suite kvm-start --adopt web1
        expect_status 0
        expect_equal "$(jq -S '.[0]' "$RUN_DIR/conf/web1.runtime")" "$(jq -S '.[0]' "$TEST_DIR/web1.lost")"
        expect_equal "$(jq '.[4].slots' "$RUN_DIR/conf/web1.runtime")" "$(jq '.[4].slots' "$TEST_DIR/web1.lost")"
        suite kvm-stop --force web1
        expect_status 0
    done
    echo secret >"$TEST_DIR/secret"
    suite kvm-start --paused "$(empty_definition web1 ".network_port = 5941 | .hvparams += {spice_bind: \"::1\", spice_password_file: \"$TEST_DIR/secret\"}")"
    lose_runtime web1
    suite kvm-start --adopt web1
    expect_status 3
    expect_error "-spice: the file of its password is not known: give the definition"
    suite kvm-start --adopt web1 "$TEST_DIR/web1.json"
    expect_status 0
}
