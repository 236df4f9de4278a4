#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# kvm-start on real QEMU: what is asked for is what QEMU and the guest have, and a start that fails leaves nothing.

load helper

# ---- small words of this file ----

# Paused: QEMU is there with all its devices, and nothing has to boot.
start_paused() { # FILE…
    suite kvm-start --paused "$@"
    expect_status 0
}

device_type() { # NAME ID
    qmp "$1" qom-list '{"path": "/machine/peripheral"}' | jq -r --arg id "$2" '.[] | select(.name == $id).type'
}

expect_device() { # NAME ID TYPE
    expect_equal "$(device_type "$1" "$2")" "child<$3>"
}

property() { # NAME ID PROPERTY
    qmp "$1" qom-get "$(jq -n --arg id "$2" --arg key "$3" '{path: "/machine/peripheral/\($id)", property: $key}')" | jq -r .
}

image_of() { # NAME ID: QEMU's record of the block device
    qmp "$1" query-block | jq --arg id "$2" '.[] | select(.qdev | test("/" + $id + "(/|$)"))'
}

open_files() { # NAME: what QEMU has open
    local file
    for file in "/proc/$(qemu_pid "$1")/fd/"*; do
        readlink "$file"
    done
}

status_line() { # NAME KEY
    sed -n "s/^$2:[[:space:]]*//p" "/proc/$(qemu_pid "$1")/status"
}

tree() {
    find "$TEST_DIR" ! -name stdout ! -name stderr -ls | sort -k 11
}

# Both record their environment and arguments beside each other, one file per call.
custom_scripts() { # [IFUP-COMMAND]
    local which
    for which in ifup ifdown; do
        printf '#!/bin/sh\nn=$(ls "%s" | grep -c "^%s")\ntr "\\0" "\\n" </proc/$$/environ | sort >"%s/%s.$n"\necho "$#:$*" >"%s/args-%s.$n"\n' \
            "$TEST_DIR/calls" "$which" "$TEST_DIR/calls" "$which" "$TEST_DIR/calls" "$which" >"$CONF_DIR/kvm-$which-custom"
        chmod 0755 "$CONF_DIR/kvm-$which-custom"
    done
    mkdir -p "$TEST_DIR/calls"
    [[ -z ${1:-} ]] || echo "$1" >>"$CONF_DIR/kvm-ifup-custom"
}

calls() { # ifup|ifdown: how often
    find "$TEST_DIR/calls" -name "$1.*" | wc -l
}

# ---- definitions ----

# bats test_tags=guest
@test "a short definition gives the guest its disk and its NIC" {
    network br0
    image=$(disk one 4)
    echo hello-from-the-disk | dd of="$image" conv=notrunc status=none
    suite kvm-start "$(definition web1 ".disks = [{path: \"$image\"}] | .nics = [{mac: \"aa:00:00:01:02:03\", nicparams: {link: \"br0\"}}]")"
    expect_status 0
    expect_output "web1: started (pid $(qemu_pid web1))"
    expect_equal "$(guest_run web1 'head -n 1 /dev/vda; cat /sys/class/net/eth0/address')" $'hello-from-the-disk\naa:00:00:01:02:03'
}

@test "a definition in Ganeti's full form is taken as it stands" {
    network br0
    image=$(disk one 4)
    jq -n --arg image "$image" '{name: "web1.example.com", uuid: "6e1f0b3c-58a6-4d0c-8d0b-6a0f2f3f1b6d",
        primary_node: "node1", secondary_nodes: [], os: "debian", hypervisor: "kvm", admin_state: "up", admin_state_source: "admin",
        disks_active: true, serial_no: 7, ctime: 1400000000.25, mtime: 1400000001.5, osparams: {}, tags: ["owner:me"],
        network_port: 11007, disk_template: "file",
        hvparams: {kvm_flag: "disabled", kernel_path: "", initrd_path: "", boot_order: "disk", disk_cache: "default", acpi: true},
        beparams: {maxmem: 48, minmem: 32, vcpus: 2, auto_balance: true, always_failover: false, spindle_use: 1},
        nics: [{uuid: "d0a35a4b-79a6-4f80-a0e7-0b1a2c3d4e5f", name: "front", mac: "aa:00:00:9d:2d:61", ip: null, network: null,
                netinfo: null, nicparams: {mode: "bridged", link: "br0", vlan: ""}, serial_no: 1, ctime: 1400000000.25, mtime: 1400000000.25}],
        disks: [{uuid: "7c079136-2573-4112-9a0d-1f2e3d4c5b6a", name: "root", dev_type: "file", logical_id: ["loop", $image],
                 size: 4, mode: "rw", iv_name: "disk/0", params: {}, children: [], nodes: ["node1"], spindles: null,
                 serial_no: 1, ctime: 1400000000.25, mtime: 1400000000.25}]}' >"$TEST_DIR/full.json"
    start_paused "$TEST_DIR/full.json"
    suite kvm-info --json web1.example.com
    expect_json '.[0] | .uuid == "6e1f0b3c-58a6-4d0c-8d0b-6a0f2f3f1b6d" and .memory_mib == 48 and .vcpus == 2 and .state == "paused"'
    expect_json '.[0].disks[0] | .id == "disk-7c079136-2573-4112" and .name == "root"'
    expect_json '.[0].nics[0] | .id == "nic-d0a35a4b-79a6-4f80" and .mac == "aa:00:00:9d:2d:61" and .name == "front"'
    expect_device web1.example.com disk-7c079136-2573-4112 virtio-blk-pci
    expect_device web1.example.com nic-d0a35a4b-79a6-4f80 virtio-net-pci
    expect_equal "$(qmp web1.example.com query-uuid | jq -r .UUID)" 6e1f0b3c-58a6-4d0c-8d0b-6a0f2f3f1b6d
}

@test "a definition comes from standard input" {
    suite kvm-start --paused - <"$(empty_definition web1)"
    expect_status 0
    qemu_lives web1
}

@test "the node's defaults lie under the definition" {
    echo '{"hvparams": {"machine_version": "q35", "acpi": false}, "beparams": {"memory": 40, "vcpus": 2}}' >"$CONF_DIR/kvm-defaults.json"
    start_paused "$(empty_definition web1 'del(.beparams.memory) | .beparams.vcpus = 1')"
    suite kvm-info --json web1
    expect_json '.[0] | .memory_mib == 40 and .vcpus == 1 and (.machine | startswith("pc-q35-"))'
}

@test "several files start side by side and each has its line; one that fails harms no other" {
    empty_definition bad '.beparams.vcpus = "two"' >/dev/null
    for name in a b c; do empty_definition $name >/dev/null; done
    suite kvm-start --paused "$TEST_DIR"/{a,bad,b,c}.json
    expect_status 2
    for name in a b c; do
        expect_equal "$(grep -c "^$name: started, paused (pid $(qemu_pid $name))$" <<<"$output")" 1
        qemu_lives $name
    done
    expect_error "bad.json: beparams.vcpus"
    expect_nothing_left bad
}

@test "what is wrong in a definition and what the node lacks for it are told together" {
    network br0
    jq -n --arg raw "$(disk there 4)" '{name: "web1", nmae: 1, beparams: {vcpus: 0},
        hvparams: {kvm_extra: "-S", kernel_path: "/no/kernel", initrd_path: "initrd", acpi: "yes"},
        disks: [{path: "rel"}, {path: "/no/image"}, {path: $raw}],
        nics: [{nicparams: {link: "br0"}}, {nicparams: {link: "br9"}}, {nicparams: {mode: "x"}}]}' >"$TEST_DIR/web1.json"
    suite kvm-start "$TEST_DIR/web1.json"
    expect_status 2
    expect_error "nmae: unknown key"
    expect_error "hvparams.initrd_path: must be absolute"
    expect_error "hvparams.kvm_extra: -S is not allowed"
    expect_error "hvparams.kernel_path: can't be opened (current value: \"/no/kernel\")"
    expect_error "disks[0].path: must be absolute"
    expect_error "disks[1].path: can't be opened (current value: \"/no/image\")"
    expect_error "nics[1]: there is no bridge br9 on this node"
    expect_error "nics[2].nicparams.mode: must be one of"
    expect_equal "$(wc -l <<<"$errors")" 10
    expect_nothing_left web1
}

@test "two calls at the same time start an instance once" {
    local file both
    file=$(empty_definition web1)
    inside "$BUILD/kvm-start" --paused --wait-lock 20 "$file" >"$TEST_DIR/other" 3>&- &
    suite kvm-start --paused --wait-lock 20 "$file"
    expect_status 0
    wait $!
    both=$(cat "$TEST_DIR/other" - <<<"$output")
    expect_equal "$(grep -c "already running" <<<"$both")" 1
    expect_equal "$(grep -c "pid $(qemu_pid web1)" <<<"$both")" 2
}

@test "the wait for the lock takes nothing of the time" {
    local file
    file=$(empty_definition web1)
    mkdir -p "$CONF_DIR/hooks/kvm-start-pre.d"
    printf '#!/bin/sh\n[ ! -e %s/held ] || exit 0\n: >%s/held\nsleep 3\nexit 1\n' "$TEST_DIR" "$TEST_DIR" \
        >"$CONF_DIR/hooks/kvm-start-pre.d/slow"
    chmod 0755 "$CONF_DIR/hooks/kvm-start-pre.d/slow"
    "$BUILD/kvm-start" "$file" 2>"$TEST_DIR/said" 3>&- &
    wait_until 10 test -e "$TEST_DIR/held"
    suite kvm-start --timeout 3 --wait-lock 30 "$file"
    expect_status 0
}

# ---- dry run, json, paused ----

@test "--dry-run touches nothing and prints the very command that then runs" {
    network br0
    image=$(disk one 4)
    file=$(empty_definition web1 ".disks = [{path: \"$image\"}] | .nics = [{nicparams: {link: \"br0\"}}]")
    suite kvm-start --paused "$file" # now there is a run directory, and QEMU is known
    suite kvm-stop --force web1
    expect_status 0
    before=$(tree)
    suite kvm-start --dry-run --json "$file"
    expect_status 0
    expect_equal "$(tree)" "$before"
    expect_equal "$(taps)" ""
    expect_nothing_left web1
    expect_json '.[0].slots["0"] != null and (.[0].hooks | length) > 0 and (.[0].files | length) > 0'
    jq -r '.[0].command[]' <<<"$output" >"$TEST_DIR/said"
    suite kvm-start --dry-run "$file"
    expect_output "command: /usr/bin/qemu-system-x86_64"
    start_paused "$file"
    tr '\0' '\n' <"/proc/$(qemu_pid web1)/cmdline" >"$TEST_DIR/done"
    diff "$TEST_DIR/said" "$TEST_DIR/done"
}

@test "--dry-run on an empty node makes not even the run directory" {
    suite kvm-start --dry-run "$(empty_definition web1)"
    expect_status 0
    expect_output "web1: would be started"
    [[ ! -e $RUN_DIR ]]
}

@test "--json gives one document with a result for each file" {
    suite kvm-start --paused --json "$(empty_definition a)" "$(empty_definition b)"
    expect_status 0
    expect_json 'length == 2 and all(.[]; .status == 0 and .uuid != null)'
    expect_equal "$(jq -r '.[] | "\(.subject // .instance) \(.pid)"' <<<"$output" | sort)" "a $(qemu_pid a)"$'\n'"b $(qemu_pid b)"
}

# bats test_tags=guest
@test "--paused waits before the first instruction, and the same command without it continues" {
    file=$(definition web1)
    start_paused "$file"
    pid=$(qemu_pid web1)
    expect_equal "$(qmp web1 query-status | jq -r .status)" prelaunch
    suite kvm-start --paused "$file"
    expect_status 0
    expect_output "already running"
    expect_equal "$(qmp web1 query-status | jq -r .status)" prelaunch
    suite kvm-start "$file"
    expect_status 0
    expect_equal "$(qemu_pid web1)" "$pid"
    expect_equal "$(guest_run web1 'echo $((6 * 7))')" 42
    suite kvm-info --json web1
    expect_json '.[0] | .state == "running" and .recorded == "running"'
}

@test "what runs already is success; another uuid under its name is refused and changes nothing" {
    file=$(empty_definition web1 '.uuid = "6e1f0b3c-58a6-4d0c-8d0b-6a0f2f3f1b6d"')
    suite kvm-start "$file"
    expect_status 0
    pid=$(qemu_pid web1)
    suite kvm-start "$file"
    expect_status 0
    expect_output "already running (pid $pid, running)"
    suite kvm-start "$(empty_definition web1)"
    expect_status 0
    before=$(cksum <"$RUN_DIR/conf/web1.runtime")
    suite kvm-start "$(empty_definition web1 '.uuid = "11111111-2222-4333-8444-555555555555"')"
    expect_status 3
    expect_error "6e1f0b3c-58a6-4d0c-8d0b-6a0f2f3f1b6d"
    expect_equal "$(qemu_pid web1)" "$pid"
    expect_equal "$(cksum <"$RUN_DIR/conf/web1.runtime")" "$before"
}

@test "a start after a crash cleans up first: ifdown once, then a new QEMU" {
    network br0
    custom_scripts 'ip link set "$1" up'
    file=$(empty_definition web1 '.nics = [{nicparams: {link: "br0"}}]')
    start_paused "$file"
    pid=$(qemu_pid web1)
    kill -KILL "$pid"
    wait_until 10 process_is_gone "$pid"
    suite kvm-start --dry-run "$file"
    expect_output "web1: would be started; what an earlier run left would be cleaned up before"
    start_paused "$file"
    expect_output "cleaned up before"
    [[ $(qemu_pid web1) != "$pid" ]]
    expect_equal "$(calls ifup) $(calls ifdown)" "2 1"
    expect_equal "$(taps | wc -l)" 1
}

# ---- machines and disks ----

@test "machine types are resolved and pinned" {
    start_paused "$(empty_definition a '.hvparams.machine_version = "pc"')" "$(empty_definition b '.hvparams.machine_version = "q35"')"
    expect_equal "$(qmp a qom-get '{"path": "/machine", "property": "type"}' | jq -r 'startswith("pc-i440fx-")')" true
    expect_equal "$(qmp b qom-get '{"path": "/machine", "property": "type"}' | jq -r 'startswith("pc-q35-")')" true
    for name in a b; do
        suite kvm-info --json $name
        expect_json ".[0].machine == $(qmp $name qom-get '{"path": "/machine", "property": "type"}' | jq 'rtrimstr("-machine")')"
    done
}

@test "a paravirtual disk is virtio-blk in the slot that was recorded" {
    image=$(disk one 4)
    start_paused "$(empty_definition web1 ".disks = [{uuid: \"7c079136-2573-4112-9a0d-1f2e3d4c5b6a\", path: \"$image\"}]")"
    expect_device web1 disk-7c079136-2573-4112 virtio-blk-pci
    suite kvm-info --json web1
    expect_equal "$(property web1 disk-7c079136-2573-4112 addr)" "$(jq '.[0].disks[0].slot * 8' <<<"$output")" # slot and function
    expect_equal "$(image_of web1 disk-7c079136-2573-4112 | jq -r .inserted.drv)" raw
}

@test "SCSI disks hang on one virtio-scsi controller, IDE disks on the board's" {
    one=$(disk one 4) two=$(disk two 4)
    start_paused "$(empty_definition s ".hvparams.disk_type = \"scsi\" | .disks = [{uuid: \"7c079136-2573-4112-9a0d-1f2e3d4c5b6a\", path: \"$one\"}, {uuid: \"8c079136-2573-4112-9a0d-1f2e3d4c5b6a\", path: \"$two\"}]")"
    expect_device s disk-7c079136-2573-4112 scsi-hd
    expect_device s disk-8c079136-2573-4112 scsi-hd
    # 1af4:1004, the legacy id of virtio-scsi.
    expect_equal "$(qmp s query-pci | jq '[.. | .id? | objects | select(.vendor == 6900 and .device == 4100)] | length')" 1
    three=$(disk three 4)
    start_paused "$(empty_definition i ".hvparams.disk_type = \"ide\" | .disks = [{uuid: \"7c079136-2573-4112-9a0d-1f2e3d4c5b6a\", path: \"$three\"}]")"
    expect_device i disk-7c079136-2573-4112 ide-hd
}

@test "SATA disks are there on q35 and refused by name on pc" {
    one=$(disk one 4)
    filter=".hvparams.disk_type = \"sata\" | .disks = [{uuid: \"7c079136-2573-4112-9a0d-1f2e3d4c5b6a\", path: \"$one\"}]"
    suite kvm-start --paused "$(empty_definition pc "$filter | .hvparams.machine_version = \"pc\"")"
    expect_status 2
    expect_error "machine type pc has no SATA"
    expect_nothing_left pc
    start_paused "$(empty_definition q "$filter | .hvparams.machine_version = \"q35\"")"
    expect_device q disk-7c079136-2573-4112 ide-hd
}

# bats test_tags=guest
@test "the guest reads a raw disk with an odd path, a qcow2 disk, a read-only disk and a CD-ROM" {
    raw="$TEST_DIR/a,b\"c\\d'e f=g%s.img"
    truncate -s 4M "$raw"
    echo raw | dd of="$raw" conv=notrunc status=none
    cow=$TEST_DIR/cow.qcow2
    echo cow >"$TEST_DIR/plain"
    truncate -s 4M "$TEST_DIR/plain"
    qemu-img convert -q -f raw -O qcow2 "$TEST_DIR/plain" "$cow"
    fixed=$(disk fixed 4)
    echo fixed | dd of="$fixed" conv=notrunc status=none
    cd=$(disk cd 4)
    echo cd | dd of="$cd" conv=notrunc status=none
    file=$(definition web1 ".hvparams.cdrom_image_path = \"$cd\"")
    jq --arg raw "$raw" --arg cow "$cow" --arg fixed "$fixed" \
        '.disks = [{path: $raw}, {path: $cow, format: "qcow2"}, {path: $fixed, mode: "ro"}]' "$file" >"$TEST_DIR/x.json"
    suite kvm-start "$TEST_DIR/x.json"
    expect_status 0
    expect_equal "$(guest_run web1 'for d in vda vdb vdc sr0; do head -n 1 /dev/$d; done; blockdev --getro /dev/vdc; echo new >/dev/vdb; sync')" $'raw\ncow\nfixed\ncd\n1'
    suite kvm-info --json web1
    expect_equal "$(jq -r '.[0].disks[0].path' <<<"$output")" "$raw"
    open_files web1 | grep -qxF -e "$raw"
    suite kvm-stop --timeout 60 web1
    expect_status 0
    qemu-img convert -q -f qcow2 -O raw "$cow" "$TEST_DIR/plain"
    expect_equal "$(head -n 1 "$TEST_DIR/plain")" new
}

@test "disk_aio native opens the image without the node's cache" {
    one=$(disk one 4)
    start_paused "$(empty_definition web1 ".hvparams.disk_aio = \"native\" | .hvparams.disk_cache = \"none\" | .disks = [{uuid: \"7c079136-2573-4112-9a0d-1f2e3d4c5b6a\", path: \"$one\"}]")"
    expect_equal "$(image_of web1 disk-7c079136-2573-4112 | jq .inserted.cache.direct)" true
    tr '\0' '\n' <"/proc/$(qemu_pid web1)/cmdline" | grep -q '"aio":"native"'
}

@test "two instances never write one image" {
    one=$(disk one 4)
    start_paused "$(empty_definition a ".disks = [{path: \"$one\"}]")"
    suite kvm-start "$(empty_definition b ".disks = [{path: \"$one\"}]")"
    expect_status 1
    expect_error "QEMU has ended: "
    expect_error 'Failed to get "write" lock'
    expect_nothing_left b
    qemu_lives a
}

@test "a QEMU that ends at once is told with its own words, and nothing is left" {
    network br0
    suite kvm-start "$(empty_definition web1 '.hvparams.kvm_extra = "-device no-such-device" | .nics = [{nicparams: {link: "br0"}}]')"
    expect_status 1
    expect_error "no-such-device"
    expect_nothing_left web1
}

# ---- NICs ----

@test "a QEMU that ends before it takes up its sockets is noticed at once, not when the time is up" {
    local file began=$SECONDS
    for file in "$(empty_definition web1 '.hvparams.kvm_extra = "-no-such-option"')" \
        "$(empty_definition web2 '.beparams.memory = 100000000')"; do
        suite kvm-start --timeout 300 "$file"
        expect_status 1
        expect_error "QEMU has ended"
    done
    [[ $((SECONDS - began)) -lt 100 ]] || fail "took $((SECONDS - began)) s"
    expect_nothing_left web1
    expect_nothing_left web2
}

@test "NIC models e1000 and rtl8139 are what QEMU has" {
    network br0
    for model in e1000 rtl8139; do
        start_paused "$(empty_definition $model ".hvparams.nic_type = \"$model\" | .nics = [{uuid: \"d0a35a4b-79a6-4f80-a0e7-0b1a2c3d4e5f\", mac: \"aa:00:00:01:02:03\", nicparams: {link: \"br0\"}}]")"
        expect_device $model nic-d0a35a4b-79a6-4f80 $model
        expect_equal "$(property $model nic-d0a35a4b-79a6-4f80 mac)" aa:00:00:01:02:03
    done
}

@test "a bridged NIC: tap in the bridge, up, with carrier and vnet_hdr, of the bridge's MTU" {
    network br0
    inside ip link set br0 mtu 1400
    start_paused "$(empty_definition web1 '.nics = [{nicparams: {mode: "bridged", link: "br0"}}]')"
    tap=$(taps)
    expect_equal "$(bridge_of "$tap")" br0
    inside ip -d link show "$tap" | grep -q 'vnet_hdr on'
    inside ip link show "$tap" | grep -q 'LOWER_UP.* mtu 1400'
    expect_equal "$(cat "$RUN_DIR/nic/web1/0")" "$tap"
    expect_equal "$(find "$RUN_DIR/nic/web1" -type f | wc -l)" 2
    suite kvm-info --json web1
    expect_json ".[0].nics[0].tap == \"$tap\""
    suite kvm-stop --force web1
    expect_status 0
    expect_nothing_left web1
}

@test "without vnet_hdr the tap has none" {
    network br0
    start_paused "$(empty_definition web1 '.hvparams.vnet_hdr = false | .nics = [{nicparams: {link: "br0"}}]')"
    expect_failure grep -q 'vnet_hdr on' <(inside ip -d link show "$(taps)")
}

# bats test_tags=guest
@test "four queues of a NIC reach from the tap into the guest" {
    network br0
    suite kvm-start "$(definition web1 '.beparams.vcpus = 4 | .hvparams.virtio_net_queues = 4 | .nics = [{nicparams: {link: "br0"}}]')"
    expect_status 0
    expect_equal "$(open_files web1 | grep -c '^/dev/net/tun$')" 4
    expect_equal "$(guest_run web1 'ls /sys/class/net/eth0/queues | grep -c rx')" 4
}

# bats test_tags=guest
@test "a bridged and a routed NIC carry packets" {
    network br0
    inside ip addr add 192.0.2.1/24 dev br0
    inside ip addr add 198.51.100.1/32 dev lo
    suite kvm-start "$(definition web1 '.nics = [{nicparams: {link: "br0"}}, {ip: "203.0.113.7", nicparams: {mode: "routed", link: ""}}]')"
    expect_status 0
    inside ip route show | grep -q '^203.0.113.7 dev kvm'
    guest_run web1 'ip link set eth0 up; ip addr add 192.0.2.2/24 dev eth0; ip link set eth1 up; ip addr add 203.0.113.7/32 dev eth1; ip route add 198.51.100.1 dev eth1'
    guest_run web1 'ping -c 1 -w 10 192.0.2.1'
    guest_run web1 'ping -c 1 -w 10 -I 203.0.113.7 198.51.100.1'
    inside busybox ping -c 1 -w 10 203.0.113.7
    suite kvm-stop --timeout 60 web1
    expect_status 0
    expect_nothing_left web1
    expect_failure grep -q 203.0.113.7 <(inside ip route show)
}

@test "an own ifup script gets its tap and exactly the documented environment; ifdown too" {
    network br0
    custom_scripts
    start_paused "$(empty_definition web1 '.tags = ["owner:me", "prod"] | .nics = [{uuid: "d0a35a4b-79a6-4f80-a0e7-0b1a2c3d4e5f", name: "front",
        mac: "aa:00:00:01:02:03", ip: "192.0.2.7", network: "9f5e5a86-5a3f-4e1a-9d60-3c5f6a7b8c9d",
        netinfo: {uuid: "9f5e5a86-5a3f-4e1a-9d60-3c5f6a7b8c9d", name: "lab", network: "192.0.2.0/24", gateway: "192.0.2.1",
                  network6: "2001:db8::/64", gateway6: "2001:db8::1", mac_prefix: "aa:00:01", tags: ["t1", "t2"]},
        nicparams: {mode: "bridged", link: "br0", vlan: ".100"}}]')"
    tap=$(taps)
    expect_equal "$(cat "$TEST_DIR/calls/args-ifup.0")" "1:$tap"
    cat >"$TEST_DIR/expected" <<EOF
BRIDGE=br0
INSTANCE=web1
INTERFACE=$tap
INTERFACE_INDEX=0
INTERFACE_NAME=front
INTERFACE_UUID=d0a35a4b-79a6-4f80-a0e7-0b1a2c3d4e5f
IP=192.0.2.7
LC_ALL=C
LINK=br0
MAC=aa:00:00:01:02:03
MODE=bridged
NETWORK_GATEWAY6=2001:db8::1
NETWORK_GATEWAY=192.0.2.1
NETWORK_MAC_PREFIX=aa:00:01
NETWORK_NAME=lab
NETWORK_SUBNET6=2001:db8::/64
NETWORK_SUBNET=192.0.2.0/24
NETWORK_TAGS=t1 t2
NETWORK_UUID=9f5e5a86-5a3f-4e1a-9d60-3c5f6a7b8c9d
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
TAGS=owner:me prod
VLAN=.100
EOF
    diff "$TEST_DIR/expected" "$TEST_DIR/calls/ifup.0"
    suite kvm-stop --force web1
    expect_status 0
    expect_equal "$(calls ifup) $(calls ifdown)" "1 1"
    expect_equal "$(cat "$TEST_DIR/calls/args-ifdown.0")" "2:$tap false"
    diff "$TEST_DIR/expected" "$TEST_DIR/calls/ifdown.0"
}

@test "a failing ifup undoes the start: its words, ifdown for what it began, nothing left" {
    network br0
    custom_scripts 'if [ "$INTERFACE_INDEX" = 1 ]; then echo "no cable in port 7" >&2; exit 9; fi'
    suite kvm-start "$(empty_definition web1 '.nics = [{nicparams: {link: "br0"}}, {nicparams: {link: "br0"}}]')"
    expect_status 1
    expect_error "nics[1]"
    expect_error "exit status 9: no cable in port 7"
    expect_nothing_left web1
    expect_equal "$(calls ifup) $(calls ifdown)" "2 2"
}

@test "an ifup that hangs is ended with the time of the start, and ifdown still gets its turn" {
    network br0
    mkfifo "$TEST_DIR/never"
    custom_scripts "read -r word <'$TEST_DIR/never'"
    began=$SECONDS
    suite kvm-start --timeout 1 "$(empty_definition web1 '.nics = [{nicparams: {link: "br0"}}]')"
    expect_status 1
    [[ $((SECONDS - began)) -le 10 ]]
    expect_error "kvm-ifup-custom: did not end within"
    expect_equal "$(calls ifdown)" 1
    expect_nothing_left web1
}

@test "an ifdown that fails in the undo leaves what the clean-up needs to run it again" {
    network br0
    custom_scripts 'exit 9'
    cp "$CONF_DIR/kvm-ifdown-custom" "$TEST_DIR/good"
    echo 'exit 8' >>"$CONF_DIR/kvm-ifdown-custom"
    suite kvm-start "$(empty_definition web1 '.nics = [{nicparams: {link: "br0"}}]')"
    expect_status 5
    expect_error "exit status 9"
    expect_error "exit status 8"
    expect_error "'kvm-cleanup web1'"
    suite kvm-cleanup web1
    expect_status 5
    cat "$TEST_DIR/good" >"$CONF_DIR/kvm-ifdown-custom"
    suite kvm-cleanup web1
    expect_status 0
    expect_equal "$(calls ifdown)" 3
    diff "$TEST_DIR/calls/ifup.0" "$TEST_DIR/calls/ifdown.2"
    expect_nothing_left web1
}

@test "a script that others may write is not run" {
    network br0
    custom_scripts
    chmod 0777 "$CONF_DIR/kvm-ifup-custom"
    suite kvm-start "$(empty_definition web1 '.nics = [{nicparams: {link: "br0"}}]')"
    [[ $status -eq 1 || $status -eq 2 ]]
    expect_error "kvm-ifup-custom may be written by others"
    expect_equal "$(calls ifup)" 0
    expect_nothing_left web1
}

# ---- lock ----

@test "while a start holds the instance, others are told who does" {
    network br0
    mkfifo "$TEST_DIR/gate"
    custom_scripts "read -r word <'$TEST_DIR/gate'"
    file=$(empty_definition web1 '.nics = [{nicparams: {link: "br0"}}]')
    ip netns exec "$NETNS" "$BUILD/kvm-start" --paused "$file" >"$TEST_DIR/first" 2>&1 3>&- &
    first=$!
    wait_until 20 test -e "$TEST_DIR/calls/ifup.0"
    suite kvm-start "$file"
    expect_status 4
    expect_error "busy: kvm-start pid"
    expect_error "by root since"
    suite kvm-start --dry-run "$(empty_definition web2)"
    expect_status 0
    echo go >"$TEST_DIR/gate"
    wait "$first"
    qemu_lives web1
}

# ---- display, CPUs ----

@test "VNC asks for the password, and the password is nowhere but in QEMU" {
    network
    echo 'xYz71q!' >"$TEST_DIR/secret"
    start_paused -v "$(empty_definition web1 ".network_port = 5917 | .hvparams.vnc_bind_address = \"127.0.0.1\" | .hvparams.vnc_password_file = \"$TEST_DIR/secret\"")"
    expect_no_output 'xYz71q!'
    expect_no_error 'xYz71q!'
    # RFB 3.8: our version, then the list of ways to log in: one, and it is number 2, by password.
    expect_equal "$(inside python3 -c '
import socket
s = socket.create_connection(("127.0.0.1", 5917), 10)
s.sendall(s.recv(12)); print(*s.recv(8))')" "1 2"
    rm "$TEST_DIR/secret"
    expect_failure grep -r -F 'xYz71q!' "$TEST_DIR"
    expect_failure grep -F 'xYz71q!' "/proc/$(qemu_pid web1)/cmdline" "/proc/$(qemu_pid web1)/environ"
}

@test "cpu_mask for all pins every thread, cpu_mask by vCPU the vCPUs" {
    start_paused "$(empty_definition a '.hvparams.cpu_mask = "0"')" "$(empty_definition b '.beparams.vcpus = 2 | .hvparams.cpu_mask = "0:0"')"
    for task in "/proc/$(qemu_pid a)/task/"*; do
        expect_equal "$(sed -n 's/^Cpus_allowed_list:\s*//p' "$task/status")" 0
    done
    for thread in $(qmp b query-cpus-fast | jq '.[]["thread-id"]'); do
        expect_equal "$(sed -n 's/^Cpus_allowed_list:\s*//p' "/proc/$thread/status")" 0
    done
    expect_equal "$(status_line b Cpus_allowed_list)" "$(sed -n 's/^Cpus_allowed_list:\s*//p' /proc/self/status)"
}

@test "mem_path: huge pages that are not there, and a directory that the user can't write" {
    mkdir "$TEST_DIR/huge"
    mount -t hugetlbfs -o size=2M none "$TEST_DIR/huge"
    suite kvm-start --paused "$(empty_definition web1 ".hvparams.mem_path = \"$TEST_DIR/huge\" | .hvparams.security_model = \"user\" | .hvparams.security_domain = \"nobody\"")"
    umount "$TEST_DIR/huge"
    expect_status 2
    expect_error "hvparams.mem_path: the user of security_model can't write there"
    expect_error " MiB of huge pages are free, the guest takes 32; /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
    chmod 0711 "$TEST_DIR"
    chown nobody "$TEST_DIR/huge"
    start_paused "$(empty_definition web1 ".hvparams.mem_path = \"$TEST_DIR/huge\" | .hvparams.security_model = \"user\" | .hvparams.security_domain = \"nobody\"")"
    grep -q -F "$TEST_DIR/huge/" "/proc/$(qemu_pid web1)/maps"
}

@test "kvm_flag auto tells what it took, and QEMU agrees" {
    start_paused "$(empty_definition web1 'del(.hvparams.kvm_flag)')"
    enabled=$(qmp web1 query-kvm | jq .enabled)
    if [[ $enabled == true ]]; then expect_no_error "TCG"; else expect_error "TCG"; fi
    suite kvm-info --json web1
    expect_json "(.[0].accelerator == \"kvm\") == $enabled"
}

# ---- privilege ----

# Beside its own (event descriptors, the standard ones) QEMU has what the instance needs and nothing else.
expect_only_listed_files() { # NAME IMAGE
    local left
    left=$(open_files "$1" | grep -v -x -F -e /dev/null -e "$RUN_DIR/log/$1.log" -e "$RUN_DIR/pid/$1" \
        -e "$RUN_DIR/events/$1.jsonl" -e "$2" -e /dev/net/tun | grep -v -E '^anon_inode:\[(eventfd|eventpoll|signalfd|io_uring)\]$|^socket:' || true)
    expect_equal "$left" ""
    # Four listening monitors and console: no socket of ours or of the caller's besides, once QEMU has closed that of
    # kvm-start's end.
    wait_until 5 has_sockets "$1" 4
}

has_sockets() { # NAME COUNT
    [[ $(open_files "$1" | grep -c '^socket:') -eq $2 ]]
}

expect_powerless() { # NAME UID
    expect_equal "$(status_line "$1" Uid | tr -s '\t ' ' ')" "$2 $2 $2 $2"
    expect_equal "$(status_line "$1" Groups | tr -d ' ')" "${3:-}"
    for set in CapInh CapPrm CapEff CapAmb; do
        expect_equal "$(status_line "$1" $set)" 0000000000000000
    done
    expect_equal "$(status_line "$1" Seccomp) $(status_line "$1" NoNewPrivs)" "2 1"
}

@test "every QEMU has the listed descriptors, its own environment, seccomp, and no core dump" {
    network br0
    one=$(disk one 4)
    exec 9<"$BATS_TEST_FILENAME"
    SECRET_OF_CALLER=1 start_paused "$(empty_definition web1 ".disks = [{path: \"$one\"}] | .nics = [{nicparams: {link: \"br0\"}}]")"
    exec 9<&-
    expect_only_listed_files web1 "$one"
    expect_equal "$(tr '\0' '\n' <"/proc/$(qemu_pid web1)/environ")" $'PATH=/usr/sbin:/usr/bin:/sbin:/bin\nLC_ALL=C'
    expect_equal "$(status_line web1 Seccomp) $(status_line web1 NoNewPrivs)" "2 1"
    grep -q '^Max core file size *0 *0' "/proc/$(qemu_pid web1)/limits"
    expect_equal "$(cut -d ' ' -f 6 "/proc/$(qemu_pid web1)/stat")" "$(qemu_pid web1)" # a session of its own
}

@test "security_model user runs QEMU as that user, with nothing else" {
    network br0
    one=$(disk one 4)
    suite kvm-start "$(empty_definition web1 ".hvparams.security_model = \"user\" | .hvparams.security_domain = \"nobody\" | .disks = [{path: \"$one\"}] | .nics = [{nicparams: {link: \"br0\"}}]")"
    expect_status 0
    expect_powerless web1 "$(id -u nobody)"
    expect_only_listed_files web1 "$one"
    expect_equal "$(qmp web1 query-status | jq -r .status)" running
    suite kvm-stop --force web1
    expect_status 0
    expect_nothing_left web1
}

@test "security_model pool gives each instance a uid of its own, and takes it back" {
    echo '{"uid_pool": "64100-64101"}' >"$CONF_DIR/kvm-defaults.json"
    filter='.hvparams.security_model = "pool"'
    start_paused "$(empty_definition a "$filter")" "$(empty_definition b "$filter")"
    expect_failure test "$(status_line a Uid)" = "$(status_line b Uid)"
    for name in a b; do expect_powerless $name "$(cat "$RUN_DIR/uid/$name")"; done
    expect_equal "$(awk 1 "$RUN_DIR"/uid/* | sort | tr '\n' ' ')" "64100 64101 "
    suite kvm-start --paused "$(empty_definition c "$filter")"
    expect_status 3
    expect_error "uid_pool"
    expect_nothing_left c
    suite kvm-stop --force b
    expect_status 0
    start_paused "$(empty_definition c "$filter")"
    [[ $(cat "$RUN_DIR/uid/c") != "$(cat "$RUN_DIR/uid/a")" ]]
}

@test "use_chroot locks QEMU into an empty directory that goes with it, also as another user" {
    one=$(disk one 4)
    start_paused "$(empty_definition web1 ".hvparams.use_chroot = true | .hvparams.security_model = \"user\" | .hvparams.security_domain = \"nobody\" | .disks = [{path: \"$one\"}]")"
    expect_equal "$(readlink "/proc/$(qemu_pid web1)/root")" "$RUN_DIR/chroot/web1"
    expect_equal "$(find "$RUN_DIR/chroot/web1" -mindepth 1)" ""
    # Here QEMU itself changes the user, which leaves that user's own group as a supplementary one.
    expect_powerless web1 "$(id -u nobody)" "$(id -g nobody)"
    suite kvm-stop --force web1
    expect_status 0
    [[ ! -e $RUN_DIR/chroot/web1 ]]
    expect_nothing_left web1
}

@test "what was planted in the place of QEMU's pid file or messages is not written to" {
    make_run_dir
    echo precious >"$TEST_DIR/precious"
    for file in log/web1.log pid/web1; do
        ln "$TEST_DIR/precious" "$RUN_DIR/$file"
        start_paused "$(empty_definition web1)"
        expect_equal "$(cat "$TEST_DIR/precious")" precious
        suite kvm-stop --force web1
        expect_status 0
    done
}

@test "with too few descriptors a start undoes what it did, or says what does" {
    local file limit undone=0
    file=$(empty_definition web1)
    for limit in {6..24..2}; do
        status=0
        (ulimit -n "$limit" && exec "$BUILD/kvm-start" "$file") >"$TEST_DIR/stdout" 2>"$TEST_DIR/stderr" 3>&- || status=$?
        errors=$(cat "$TEST_DIR/stderr")
        echo "$limit: $status: $errors"
        case $status in
        0) break ;;
        1 | 2) expect_nothing_left web1 ;; # 2: its binary could not be asked
        5) grep -q -F -e "'kvm-cleanup web1' removes what is left" -e "'kvm-info web1' shows whether" <<<"$errors" || fail "names no next command" ;;
        *) fail "exit status $status" ;;
        esac
        undone=$((undone + 1))
        [[ ! -d $RUN_DIR ]] || suite kvm-cleanup web1
        expect_nothing_left web1
    done
    [[ $undone -gt 2 ]] || fail "no limit was too low"
}

@test "a QEMU that does not answer: start and hotplug say what to look at, and what ends it" {
    local file
    file=$(empty_definition web1)
    start_paused "$file"
    kill -STOP "$(qemu_pid web1)"
    suite kvm-start --timeout 1 "$file"
    expect_status 6
    expect_error "'kvm-info web1' shows more, 'kvm-stop --force web1' ends it"
    suite kvm-hotplug --timeout 1 web1 set-link 0 up
    expect_status 6 # nothing was begun
    expect_error "nothing was changed: repeat the command, or 'kvm-stop --force web1' ends it"
    suite kvm-stop --force web1
    expect_status 0
    expect_nothing_left web1
}
