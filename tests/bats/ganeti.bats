#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# One run directory for Ganeti's installed KVM backend and for this suite: runtime files both ways, an instance of ours
# in its hands, one of its own in ours.

load helper
load hotplug
load ganeti

setup() {
    ganeti_setup
}

# ---- runtime files ----

# What we upgrade further than Ganeti's loader does, done to what it returns.
further='.kvm_cmd |= map(if . == "-usbdevice" then "-device" elif . == "tablet" then "usb-tablet"
        elif type == "string" then gsub(",server,nowait"; ",server=on,wait=off") else . end)
    | if .hvparams.disk_discard == "default" then .hvparams.disk_discard = "ignore" else . end'

# Both without the uuids that each loader makes anew, theirs with our further upgrades; of the hvparams those that the
# file has, since we fill in all.
expect_same_meaning() { # FILE OURS THEIRS
    local theirs ours
    theirs=$(jq -S --slurpfile file "$1" "$further"' | . as $all | .nics |= [to_entries[]
        | if $file[0][1][.key].uuid then .value else .value | del(.uuid) end]
        | if .hvparams.machine_version == "" then del(.hvparams.machine_version) else . end' "$3")
    ours=$(jq -S --slurpfile file "$1" --argjson theirs "$theirs" '{kvm_cmd: .[0], nics: .[1], hvparams: .[2], disks: .[3]}
        | .nics |= [to_entries[] | if $file[0][1][.key].uuid then .value else .value | del(.uuid) end]
        | .hvparams |= with_entries(select(.key | in($theirs.hvparams)))' "$2")
    [[ $ours == "$theirs" ]] || fail "$1: ours and theirs differ:"$'\n'"$(diff <(echo "$ours") <(echo "$theirs"))"
}


# What Ganeti's loader makes of files: $TEST_DIR/answers, in their order.
ask_ganeti() { # FILE…
    "$TESTS/ganeti/backend" parse "$@" >"$TEST_DIR/answers"
}

answer() { # NUMBER [JQ]
    jq ".[$1]${2:-}" "$TEST_DIR/answers"
}

@test "every historic runtime file means to us what it means to Ganeti's installed loader" {
    make_run_dir
    local file name number=0
    ask_ganeti "$TESTS"/vectors/*.runtime
    for file in "$TESTS"/vectors/*.runtime; do
        name=$(jq -r '.[0] | (index("-name") | if . then . + 1 else null end) as $i | if $i then .[$i] else "test2" end' "$file")
        install -m 0600 "$file" "$RUN_DIR/conf/$name.runtime"
        suite kvm-info "$name" --json >/dev/null
        expect_status 3
        jq '.[0].runtime' <<<"$output" >"$TEST_DIR/ours"
        answer $number .ok >"$TEST_DIR/theirs"
        if [[ $file == */44-* ]]; then # the weakness that one unknown key is for its loader
            expect_equal "$(answer $number .error)" '"TypeError"'
            jq -e '.[1][0].foo == 1' "$TEST_DIR/ours"
        else
            expect_same_meaning "$file" "$TEST_DIR/ours" "$TEST_DIR/theirs"
        fi
        rm "$RUN_DIR/conf/$name.runtime"
        number=$((number + 1))
    done
    [[ $number -ge 15 ]] || fail "only $number files"
}

@test "Ganeti's installed loader reads all that we write, and means the same" {
    local file written=$TEST_DIR/written number=0
    mkdir "$written"
    KVM_SUITE_WRITE=$written "$BUILD/tests/unit-ganeti"
    ask_ganeti "$written"/*.runtime
    jq -r '.[] | .text // empty' "$TEST_DIR/answers"
    jq -e 'length >= 50 and all(.ok)' "$TEST_DIR/answers"
    for file in "$written"/*.runtime; do
        jq '.[:4]' "$file" >"$TEST_DIR/ours"
        answer $number .ok >"$TEST_DIR/theirs"
        expect_same_meaning "$file" "$TEST_DIR/ours" "$TEST_DIR/theirs"
        number=$((number + 1))
    done
    # The historic ones, written again by us, still mean what their originals do.
    ask_ganeti "$TESTS"/vectors/*.runtime
    number=0
    for file in "$TESTS"/vectors/*.runtime; do
        answer $number .ok >"$TEST_DIR/theirs"
        number=$((number + 1))
        [[ $file != */44-* ]] || continue
        jq '.[:4]' "$written/$(basename "$file")" >"$TEST_DIR/ours"
        expect_same_meaning "$file" "$TEST_DIR/ours" "$TEST_DIR/theirs"
    done
}

# ---- an instance of ours in Ganeti's hands ----

slots_of_devices() {
    qmp web1 query-pci | jq -c '[.[0].devices[] | select(.qdev_id != "" and .qdev_id != "vga") | [.slot, .qdev_id]] | sort'
}

# bats test_tags=guest
@test "Ganeti lists, examines and plugs what kvm-start started, and we go on with it" {
    network br0
    suite kvm-start "$(both web1)"
    expect_status 0
    ganeti list
    expect_equal "$output" '["web1"]'
    ganeti info
    expect_equal "$output" "[\"web1\", $(qemu_pid web1), 128, 1, 0, 0]"
    ganeti all-info
    guest_run web1 true
    ganeti add-disk "$(second_disk)" 1
    ganeti add-nic "$(second_nic)" 1
    guest_until web1 '[ -b /dev/vdb ] && [ -e /sys/class/net/eth1 ]'
    use_disk web1 vdb "$TEST_DIR/second.img"
    # Its file has four elements now; all is there for us all the same.
    expect_equal "$(jq length "$RUN_DIR/conf/web1.runtime")" 4
    suite kvm-info web1 --json
    expect_json '.[0] | .state == "running" and .recorded == "foreign" and .vcpus == 1 and .memory_mib == 128
        and (.disks | length == 2) and (.nics | length == 2) and .fault == null'
    expect_json ".[0].nics[0].tap == \"kvm003fc157\" and .[0].nics[1].tap == \"tap0\""
    expect_equal "$(bridge_of tap0)" br0
    suite kvm-hotplug web1 list --json
    expect_json '.[0].disks + .[0].nics | all(.in_qemu)'
    expect_json '.[0].disks | all(.backend)'
    hotplug web1 resize-disk "$DISK2" 16
    expect_equal "$(guest_run web1 'cat /sys/block/vdb/size')" 32768
    hotplug web1 set-link "$NIC2" down
    hotplug web1 mod-nic "$NIC2" link=br0
    # Each takes away what the other has plugged.
    hotplug web1 del-disk "$DISK2"
    hotplug web1 del-nic "$NIC2"
    guest_until web1 '[ ! -e /dev/vdb ] && [ ! -e /sys/class/net/eth1 ]'
    expect_equal "$(taps)" kvm003fc157
    expect_equal "$(nic_files web1)" "$(printf 'nic/web1/0\nnic/web1/%s' "$NIC1")"
    hotplug web1 add-disk path="$TEST_DIR/second.img" uuid="$DISK2"
    hotplug web1 add-nic link=br0 mac=aa:00:00:00:00:02 uuid="$NIC2"
    ganeti del-disk "$DISK2" 1
    ganeti del-nic "$NIC2" 1
    ganeti del-disk "$DISK1" 0
    guest_until web1 '[ ! -e /dev/vda ] && [ ! -e /dev/vdb ] && [ ! -e /sys/class/net/eth1 ]'
    expect_equal "$(jq -c '[.[1][].uuid], .[3]' "$RUN_DIR/conf/web1.runtime" | tr '\n' ' ')" "[\"$NIC1\"] [] "
    # It leaves the nodes of -blockdev and the tap file by uuid; the next command of ours sees to them.
    expect_equal "$(nodes web1)" "$(printf 'disk-%s\n' 51fb601b-bc18-42ef 7c079136-2573-4112)"
    hotplug web1 set-link "$NIC1" up
    expect_error "block node disk-7c079136-2573-4112: left by another tool, removed"
    expect_equal "$(nodes web1)$(fd_sets web1)" ""
    expect_equal "$(nic_files web1)" "$(printf 'nic/web1/0\nnic/web1/%s' "$NIC1")"
}

# bats test_tags=guest
@test "Ganeti reboots, stops and cleans up what kvm-start started" {
    network br0
    suite kvm-start "$(both web1 '.hvparams.use_guest_agent = true')"
    expect_status 0
    local first slots
    first=$(qemu_pid web1)
    slots=$(slots_of_devices)
    ganeti reboot
    [[ $(qemu_pid web1) != "$first" ]]
    guest_run web1 '[ -b /dev/vda ] && [ -e /sys/class/net/eth0 ]'
    # The guest finds its devices where they were.
    expect_equal "$(slots_of_devices)" "$slots"
    suite kvm-info web1 --json
    expect_json '.[0] | .state == "running" and .status == "running" and .fault == null and .nics[0].tap == "tap0"'
    ganeti stop
    wait_until 30 qemu_is_dead web1
    suite kvm-info web1
    expect_status 3
    ganeti cleanup
    expect_equal "$(files_of web1 | grep -v -e '^./events/' -e '^./log/')" ""
    # Event log and messages are no files of Ganeti's.
    suite kvm-cleanup --all
    expect_status 0
    expect_nothing_left web1
}

# ---- an instance of Ganeti's in our hands ----

# bats test_tags=guest
@test "we list, examine and plug what Ganeti started, and Ganeti goes on with it" {
    network br0
    both web1 '.disks[0].size = 8' >/dev/null
    ganeti start
    suite kvm-info --json
    expect_json '.[0] | .instance == "web1" and .state == "running"'
    suite kvm-info web1 --json
    expect_json '.[0] | .fault == null and .status == "running" and .uuid == "6b29fc40-ca47-4067-b31d-00dd010662da"
        and .nics[0].tap == "tap0" and .disks[0].slot == 12 and .memory_actual_mib == 128'
    suite kvm-info web1 --slots --json
    expect_json 'map(select(.use == "foreign")) == []'
    suite kvm-hotplug web1 check
    expect_status 0
    guest_run web1 true
    hotplug web1 add-disk path="$(disk second 8)" uuid="$DISK2"
    hotplug web1 add-nic link=br0 mac=aa:00:00:00:00:02 uuid="$NIC2"
    guest_until web1 '[ -b /dev/vdb ] && [ -e /sys/class/net/eth1 ]'
    # It came with -drive: no node of that name.
    hotplug web1 resize-disk "$DISK1" 16
    expect_equal "$(guest_run web1 'cat /sys/block/vda/size')" 32768
    hotplug web1 mod-nic "$NIC1" link=br0 ip=10.7.0.9
    expect_equal "$(qmp web1 query-pci | jq -r '[.[0].devices[].qdev_id | select(. != "")] | sort | join(" ")')" \
        "disk-51fb601b-bc18-42ef disk-7c079136-2573-4112 nic-003fc157-66a8-4e6d nic-8307d151-2fca-4b2c"
    ganeti info
    ganeti load
    expect_json '(.disks | length == 2) and (.nics | length == 2) and .nics[0].ip == "10.7.0.9" and .disks[0][0].size == 16'
    hotplug web1 del-disk "$DISK1"
    hotplug web1 del-nic "$NIC1"
    guest_until web1 '[ ! -e /dev/vda ] && [ ! -e /sys/class/net/eth0 ]'
    expect_equal "$(taps)" kvm8307d151
    expect_equal "$(nic_files web1)" "$(printf 'nic/web1/1\nnic/web1/%s' "$NIC2")"
    ganeti del-disk "$DISK2" 0
    ganeti del-nic "$NIC2" 0
    ganeti add-disk "$(jq -cn --arg path "$TEST_DIR/first.img" '{uuid: "'"$DISK1"'", $path}')" 0
    guest_until web1 '[ -b /dev/vda ]'
    suite kvm-info web1 --json
    expect_json '.[0] | (.nics == []) and (.disks | length == 1) and .disks[0].uuid == "'"$DISK1"'"'
}

@test "what Ganeti started is adopted with its runtime file, and not without" {
    network br0
    both web1 >/dev/null
    ganeti start
    cp -p "$RUN_DIR/conf/web1.runtime" "$TEST_DIR/ganetis"
    suite kvm-start --adopt web1 --dry-run
    expect_status 0
    expect_output "can be adopted with the runtime file of another tool (pid $(qemu_pid web1), running): 1 disk, 1 NIC"
    cmp "$TEST_DIR/ganetis" "$RUN_DIR/conf/web1.runtime"
    suite kvm-start --adopt web1
    expect_status 0
    suite kvm-info web1 --json
    expect_json '.[0] | .recorded == "running" and .fault == null and .state == "running"'
    ganeti info
    ganeti load
    expect_json '(.disks | length == 1) and (.nics | length == 1)'
    suite kvm-hotplug web1 set-link 0 down
    expect_status 0
    # A file that tells of more than there is is not believed.
    jq -c '.[3][0][0].hvinfo.id = "disk-00000000-0000-0000" | .[:4]' "$TEST_DIR/ganetis" >"$TEST_DIR/edited"
    install -m 0600 "$TEST_DIR/edited" "$RUN_DIR/conf/web1.runtime"
    suite kvm-start --adopt web1
    expect_status 3
    expect_error "the runtime file has it, QEMU has no device disk-00000000-0000-0000"
    rm "$RUN_DIR/conf/web1.runtime"
    suite kvm-start --adopt web1
    expect_status 3
    expect_error "another tool has started this QEMU: it can be adopted only with the runtime file that this tool has written, in $RUN_DIR/conf/web1.runtime"
    install -m 0600 "$TEST_DIR/ganetis" "$RUN_DIR/conf/web1.runtime"
    suite kvm-start --adopt web1
    expect_status 0
    jq -e '.[4].kept.links_down | length == 1' "$RUN_DIR/conf/web1.runtime"
}

# bats test_tags=guest
@test "we reboot, stop and clean up what Ganeti started, ids of 2.10 and all" {
    network br0
    both web1 >/dev/null
    ganeti start
    guest_run web1 true
    # As a guest would be that has run since 2.10: ids of that time, in the file and in QEMU.
    qmp web1 device_del "{\"id\": \"disk-7c079136-2573-4112\"}"
    guest_until web1 '[ ! -e /dev/vda ]'
    qmp web1 human-monitor-command '{"command-line": "drive_add dummy file='"$TEST_DIR/first.img"',if=none,id=hotdisk-7c079136-pci-6,format=raw"}'
    qmp web1 device_add '{"driver": "virtio-blk-pci", "id": "hotdisk-7c079136-pci-6", "drive": "hotdisk-7c079136-pci-6", "bus": "pci.0", "addr": "0x6"}'
    jq -c '.[3][0][0] |= (del(.hvinfo) | .pci = 6)' "$RUN_DIR/conf/web1.runtime" >"$TEST_DIR/file"
    install -m 0600 "$TEST_DIR/file" "$RUN_DIR/conf/web1.runtime"
    suite kvm-hotplug web1 list --json
    expect_json '.[0].disks[0] | .id == "hotdisk-7c079136-pci-6" and .slot == 6 and .in_qemu and .backend'
    guest_until web1 '[ -b /dev/vda ]'
    hotplug web1 del-disk 0
    guest_until web1 '[ ! -e /dev/vda ]'
    hotplug web1 add-disk path="$TEST_DIR/first.img" uuid="$DISK1"
    # Our own reboot makes it one of ours, Ganeti still knows it.
    suite kvm-stop web1 --reboot --timeout 60
    expect_status 0
    guest_run web1 '[ -b /dev/vda ] && [ -e /sys/class/net/eth0 ]'
    suite kvm-info web1 --json
    expect_json '.[0].recorded == "running" and .[0].fault == null'
    ganeti info
    suite kvm-stop web1 --timeout 60
    expect_status 0
    expect_output "powered off on request of kvm-stop"
    expect_nothing_left web1
    ganeti start
    guest_run web1 true
    suite kvm-stop web1 --timeout 60
    expect_status 0
    expect_output "powered off on request of kvm-stop"
    expect_nothing_left web1
    # What Ganeti's own clean-up leaves behind as well.
    ganeti start
    touch "$RUN_DIR/ctrl/web1.shutdown"
    kill -KILL "$(qemu_pid web1)"
    wait_until 10 qemu_is_dead web1
    suite kvm-info web1
    expect_output "the guest powered off by itself"
    expect_equal "$(files_of web1 | grep -c '/web1\.\(kvmd\|shutdown\)$')" 2
    suite kvm-cleanup web1
    expect_status 0
    expect_nothing_left web1
}
