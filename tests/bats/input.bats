#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# Bad input: refused before anything is made, in words that name the file, the field and the value.

load helper

# ---- small words of this file ----

expect_untouched() {
    [[ ! -e $RUN_DIR ]] || fail "a run directory was made"
    [[ -z $NETNS ]] || expect_equal "$(taps)" ""
}

# The definition with this change is refused; the message has "FILE: FIELD" and, where there is one, the value.
refuse() { # JQ-FILTER FIELD [VALUE]
    local file
    file=$(empty_definition web1 "$1")
    suite kvm-start "$file"
    [[ $status -eq 2 || $status -eq 3 ]] || fail "exit status $status for: $1"
    expect_error "$file: $2"
    [[ -z ${3:-} ]] || expect_error "$3"
    expect_untouched
}

# The same for a whole file.
refuse_bytes() { # TEXT that printf understands, WHAT-THE-MESSAGE-HAS
    # shellcheck disable=SC2059
    printf "$1" >"$TEST_DIR/raw.json"
    suite kvm-start "$TEST_DIR/raw.json"
    expect_status 2
    expect_error "$TEST_DIR/raw.json: "
    expect_error "${2:-}"
    expect_untouched
}

# ---- the file ----

@test "what is no JSON document of one object is refused with line and column" {
    refuse_bytes '' 'line 1'
    refuse_bytes '{' 'line 1 column 1'
    refuse_bytes '{"name": "web1"\n "uuid": 1}' 'line 2'
    refuse_bytes '{"name": "web1"} trailing' 'line 1'
    refuse_bytes '{"name": "web1", "name": "web2"}' 'line 1'
    refuse_bytes '{"name": "a\\u0000b"}' 'line 1'
    refuse_bytes '{"name": "\xff\xfe"}' 'not valid UTF-8'
    refuse_bytes '\xef\xbb\xbf{}' 'line 1'
    refuse_bytes '[]' 'must be an object'
    refuse_bytes '"web1"' 'must be an object'
    refuse_bytes 'null' 'must be an object'
    refuse_bytes '{}' 'name'
    refuse_bytes "$(printf '[%.0s' {1..3000})" 'raw.json'
    refuse_bytes '{"beparams": {"memory": 99999999999999999999999}}' 'raw.json'
}

@test "two definitions of one instance in one call are refused, both are named, nothing is started" {
    local one two
    one=$(empty_definition web1)
    two=$TEST_DIR/other.json
    jq '.beparams.memory = 200' "$one" >"$two"
    for words in "$one $one" "$one $two" "$(empty_definition web2) $one - $two"; do
        # shellcheck disable=SC2086 # a list
        suite kvm-start $words <<<'{"name": "web3"}'
        expect_status 2
        expect_error "$one and ${words##* }: both define the instance \"web1\""
        expect_untouched
    done
    suite kvm-start "$one" - <<<"$(cat "$one")"
    expect_status 2
    expect_error "$one and stdin: both define the instance \"web1\""
    suite kvm-start --dry-run - - <"$one"
    expect_status 2
    expect_error "standard input can be read once only"
    expect_untouched
}

@test "a name that is given twice counts once" {
    local program
    for program in kvm-stop kvm-cleanup; do
        [[ -d $RUN_DIR ]] || mkdir -m 0700 "$RUN_DIR"
        suite $program --json web1 web2 web1
        expect_status 0
        expect_json '[.[].instance] == ["web1", "web2"]'
    done
}

@test "CPUs that QEMU does not have are refused before anything is made" {
    refuse '.beparams.vcpus = 300' 'beparams.vcpus: pc-i440fx-' 'takes 255 at the most (current value: 300)'
    refuse '.beparams.vcpus = 300 | .hvparams.machine_version = "q35"' 'beparams.vcpus: pc-q35-' '(current value: 300)'
    refuse '.hvparams.cpu_type = "nope"' 'hvparams.cpu_type' "(current value: \"nope\"); '/usr/bin/qemu-system-x86_64 -cpu help'"
    refuse '.hvparams.cpu_type = "Haswel,+vmx"' 'hvparams.cpu_type' 'did you mean "Haswell"? (current value: "Haswel,+vmx")'
    refuse '.hvparams.cpu_type = "Haswell,+avx22"' 'hvparams.cpu_type: /usr/bin/qemu-system-x86_64 has no CPU feature "avx22", did you mean "avx2"? (current value: "Haswell,+avx22")'
    refuse '.hvparams += {kvm_flag: "disabled", cpu_type: "host"}' 'hvparams.cpu_type: needs KVM' '(current value: "host")'
    suite kvm-start --dry-run "$(empty_definition web1 '.beparams.vcpus = 255 | .hvparams.cpu_type = "Haswell-v1,-vmx"')"
    expect_status 0
    suite kvm-start --dry-run "$(empty_definition web1 '.beparams.vcpus = 256')"
    expect_status 2
}

@test "what is no file to read is refused" {
    suite kvm-start "$TEST_DIR/missing.json"
    expect_status 2
    expect_error "$TEST_DIR/missing.json: open: No such file or directory"
    suite kvm-start "$TEST_DIR"
    expect_status 2
    expect_error "$TEST_DIR: there is no definition (*.json) in it"
    suite kvm-start /dev/zero
    expect_status 2
    head -c 1100000 /dev/zero | tr '\0' ' ' >"$TEST_DIR/large.json"
    suite kvm-start "$TEST_DIR/large.json"
    expect_status 2
    expect_error "larger than 1 MiB"
    suite kvm-start - </dev/null
    expect_status 2
    suite kvm-start
    expect_status 2
    expect_untouched
}

# ---- names ----

@test "names that could be paths, options or several words are refused everywhere" {
    long=$(printf 'x%.0s' {1..300})
    for name in a/b .. . ../x .hidden a,b 'a b' $'a\nb' 'a;b' 'a$b' "a'b" 'a%b' 'ä' "$long"; do
        refuse ".name = $(jq -n --arg n "$name" '$n')" 'name'
        for program in kvm-stop kvm-cleanup kvm-info; do
            suite $program -- "$name"
            [[ $status -eq 2 || $status -eq 3 ]] || fail "$program took: $name"
            expect_error "name"
        done
        [[ ! -e $TEST_DIR/x && -z $(find "$RUN_DIR" -mindepth 2 2>/dev/null) ]]
        rm -rf "$RUN_DIR"
    done
    refuse '.name = "-x"' 'name' '-x'
    refuse '.name = ""' 'name'
    refuse '.name = 7' 'name' 7
    refuse '.name = null' 'name'
    refuse 'del(.name)' 'name'
    suite kvm-stop -- -x
    expect_status 2
    suite kvm-stop $'\xff\xfe'
    expect_status 2
    suite kvm-info ''
    expect_status 2
}

@test "a name too long for its socket's path is refused before anything is made" {
    deep=$TEST_DIR/$(printf 'd%.0s' {1..60})
    file=$(empty_definition web1 '.name = ("n" * 40)')
    suite kvm-start --run-dir "$deep" "$file"
    expect_status 2
    expect_error "name"
    [[ ! -e $deep ]]
}

# ---- every field ----

@test "fields of the instance itself" {
    refuse '.colour = "red"' 'colour: unknown'
    refuse '.bepparams = {}' 'bepparams' 'beparams'
    refuse '.uuid = "not-a-uuid"' 'uuid' 'not-a-uuid'
    refuse '.uuid = 5' 'uuid'
    refuse '.network_port = "5900"' 'network_port' '5900'
    refuse '.network_port = 70000' 'network_port' 70000
    refuse '.network_port = -1' 'network_port' -1
    refuse '.disk_template = 3' 'disk_template' 3
    refuse '.tags = "one"' 'tags'
    refuse '.tags = ["two words"]' 'tags[0]' 'two words'
    refuse '.tags = [7]' 'tags[0]' 7
    refuse '.tags = ["a\nb"]' 'tags[0]'
    refuse '.disks = {}' 'disks'
    refuse '.disks = ["x"]' 'disks[0]'
    refuse '.nics = "x"' 'nics'
    refuse '.nics = [5]' 'nics[0]'
    refuse '.hvparams = []' 'hvparams'
    refuse '.beparams = 5' 'beparams'
}

@test "beparams" {
    for key in memory maxmem minmem vcpus; do
        for value in '"64"' 1.5 0 -1 true '[]' 9007199254740992 4294967301; do
            refuse "del(.beparams.memory) | .beparams.$key = $value" "beparams.$key"
        done
    done
    refuse_bytes '{"name": "web1", "beparams": {"memory": 64.0}}' 'beparams.memory: must be a whole number'
    refuse '.beparams = {maxmem: 64, minmem: 65}' 'beparams.minmem' 65
    refuse '.beparams.vcpu = 2' 'beparams.vcpu' 'vcpus'
}

# All of them by the types that they have in a complete definition, so that a new one is tested without a new line.
@test "each hvparam refuses the types that it has not, a value out of range, and control characters" {
    suite kvm-start --dry-run --json "$(empty_definition web1)"
    expect_status 0
    jq -r '.[0].definition.hvparams | to_entries[] | "\(.key) \(.value | type)"' <<<"$output" >"$TEST_DIR/all"
    [[ $(wc -l <"$TEST_DIR/all") -ge 60 ]]
    while read -r key type; do
        case $type in
            boolean) values=('"true"' 1 '"yes"' '[]') ;;
            number) values=('"5"' 1.5 -1 9007199254740992 true '{}') ;;
            string) values=(5 true '[]' '"a\nb"' '"\u001b[2J"') ;;
        esac
        files=()
        for value in "${values[@]}"; do
            files+=("$TEST_DIR/$key.${#files[@]}.json")
            printf '{"name": "web%s", "hvparams": {"%s": %s}}\n' "${#files[@]}" "$key" "$value" >"${files[-1]}"
        done
        suite kvm-start "${files[@]}"
        expect_status 2
        for file in "${files[@]}"; do
            expect_error "$file: hvparams.$key"
        done
        expect_untouched
    done <"$TEST_DIR/all"
}

@test "hvparams: choices, forms, and what does not go together" {
    refuse '.hvparams.disc_type = "ide"' 'hvparams.disc_type: unknown parameter, did you mean "disk_type"?'
    for key in boot_order nic_type disk_type disk_cache disk_aio disk_discard kvm_flag security_model reboot_behavior scsi_controller_type; do
        refuse ".hvparams.$key = \"nonsense\"" "hvparams.$key" nonsense
    done
    refuse '.hvparams.kernel_path = "relative/path"' 'hvparams.kernel_path' 'relative/path'
    refuse '.hvparams.kernel_path = "/etc/../etc/passwd"' 'hvparams.kernel_path' '/etc/../etc/passwd'
    refuse '.hvparams.kernel_path = "/no/such/kernel"' 'hvparams.kernel_path' '/no/such/kernel'
    refuse '.hvparams.initrd_path = "/etc/passwd"' 'hvparams.initrd_path' 'needs kernel_path'
    refuse '.hvparams.kvm_path = "/no/such/qemu"' 'hvparams.kvm_path' '/no/such/qemu'
    refuse '.hvparams.kvm_path = "/etc/passwd"' 'hvparams.kvm_path'
    refuse '.hvparams.kvm_path = ""' 'hvparams.kvm_path'
    refuse '.hvparams.machine_version = "pc-i440fx-99.9"' 'hvparams.machine_version' 'pc-i440fx-99.9'
    refuse '.hvparams.machine_version = "none"' 'hvparams.machine_version' none
    refuse '.hvparams.machine_version = "pc,accel=kvm"' 'hvparams.machine_version' 'pc,accel=kvm'
    refuse '.hvparams.cpu_mask = "0-"' 'hvparams.cpu_mask' '0-'
    refuse '.hvparams.cpu_mask = "4000"' 'hvparams.cpu_mask' 4000
    refuse '.hvparams.cpu_mask = "0:0:0"' 'hvparams.cpu_mask'
    refuse '.hvparams.cpu_cores = 3' 'hvparams.cpu_cores'
    refuse '.hvparams.cpu_type = "host\" -x"' 'hvparams.cpu_type'
    refuse '.hvparams.root_path = "/dev/vda1 init=/bin/sh"' 'hvparams.root_path' 'init=/bin/sh'
    refuse '.hvparams.kvm_extra = "-device \"open"' 'hvparams.kvm_extra'
    refuse '.hvparams.serial_speed = 12345' 'hvparams.serial_speed' 12345
    refuse '.hvparams.virtio_net_queues = 33' 'hvparams.virtio_net_queues' 33
    refuse '.hvparams.kvm_pci_reservations = 32' 'hvparams.kvm_pci_reservations' 32
    refuse '.hvparams.machine_version = "q35" | .hvparams.hotplug_ports = 30' 'hvparams.hotplug_ports' 30
    refuse '.hvparams.disk_aio = "native" | .hvparams.disk_cache = "writeback"' 'hvparams.disk_aio' native
    refuse '.hvparams.boot_order = "cdrom"' 'hvparams.boot_order' 'cdrom_image_path'
    refuse '.hvparams.cdrom_image_path = "/no/such.iso"' 'hvparams.cdrom_image_path' '/no/such.iso'
    refuse '.hvparams.mem_path = "/etc/passwd"' 'hvparams.mem_path' '/etc/passwd'
    refuse '.hvparams.vnc_bind_address = "nosuchif0"' 'hvparams.vnc_bind_address' nosuchif0
    refuse '.hvparams.vnc_bind_address = "127.0.0.1,password=off"' 'hvparams.vnc_bind_address' password=off
    refuse '.hvparams.vnc_bind_address = "127.0.0.1"' 'network_port'
    refuse '.hvparams.vnc_password_file = "/etc/passwd"' 'hvparams.vnc_password_file'
    refuse '.hvparams.security_model = "user"' 'hvparams.security_model'
    refuse '.hvparams.security_model = "user" | .hvparams.security_domain = "no-such-user"' 'hvparams.security_domain' no-such-user
    refuse '.hvparams.security_model = "user" | .hvparams.security_domain = "root"' 'hvparams.security_domain' root
    refuse '.hvparams.security_domain = "nobody"' 'hvparams.security_domain' nobody
    refuse '.hvparams.security_model = "pool"' 'hvparams.security_model' uid_pool
}

@test "hvparams that ask for nothing are taken, as an instance of Ganeti's configuration has them" {
    suite kvm-start --dry-run "$(empty_definition web1 '.hvparams.vnc_tls = false | .hvparams.spice_bind = "" | .hvparams.usb_mouse = ""
        | .hvparams.spice_tls_ciphers = "HIGH:-DES:-3DES:-EXPORT:-DH" | .hvparams.vnc_x509_path = "/var/lib/ganeti"')"
    expect_status 0
}

@test "passwords of VNC: no file, an empty one, one too long, a link" {
    vnc=".network_port = 5917 | .hvparams.vnc_bind_address = \"127.0.0.1\" | .hvparams.vnc_password_file = \"$TEST_DIR/secret\""
    refuse "$vnc" 'hvparams.vnc_password_file' "$TEST_DIR/secret"
    printf '\nsecond' >"$TEST_DIR/secret"
    refuse "$vnc" 'hvparams.vnc_password_file' 'empty'
    echo 'TooLong99' >"$TEST_DIR/secret"
    refuse "$vnc" 'hvparams.vnc_password_file' '8 characters'
    expect_no_error 'TooLong99'
    echo 'short' >"$TEST_DIR/real"
    ln -sf "$TEST_DIR/real" "$TEST_DIR/secret"
    refuse "$vnc" 'hvparams.vnc_password_file' 'symbolic link'
}

@test "disks" {
    one=$(disk one 4)
    good="path: \"$one\""
    for key in name mode dev_type iv_name uuid cache aio discard format bus; do
        refuse ".disks = [{$good, $key: 7}]" "disks[0]."
    done
    for key in mode dev_type cache aio discard format bus uuid; do
        refuse ".disks = [{$good, $key: \"nonsense\"}]" "disks[0]." nonsense
    done
    refuse ".disks = [{$good, colour: 1}]" 'disks[0].colour: unknown'
    refuse ".disks = [{$good, size: -1}]" 'disks[0].size' -1
    refuse ".disks = [{$good, size: \"4\"}]" 'disks[0].size' 4
    refuse ".disks = [{$good, params: []}]" 'disks[0].params'
    refuse ".disks = [{$good, serial: \"a b\"}]" 'disks[0].serial' 'a b'
    refuse ".disks = [{$good, aio: \"native\", cache: \"writeback\"}]" 'disks[0].aio' native
    refuse ".disks = [{$good, params: {aio: \"native\", cache: \"writeback\"}}]" 'disks[0].params.aio' native
    refuse ".disks = [{$good, uri: \"rbd:x\"}]" 'disks[0].uri' 'rbd:x'
    refuse ".disks = [{$good, name: \"a\nb\"}]" 'disks[0].name'
    refuse '.disks = [{}]' 'disks[0].path'
    refuse '.disks = [{path: 5}]' 'disks[0].path' 5
    refuse '.disks = [{path: ""}]' 'disks[0].path'
    refuse '.disks = [{path: "relative.img"}]' 'disks[0].path' relative.img
    refuse ".disks = [{path: \"$TEST_DIR/../x.img\"}]" 'disks[0].path' ..
    refuse '.disks = [{path: "/no/such/disk"}]' 'disks[0].path' /no/such/disk
    refuse ".disks = [{path: \"$TEST_DIR\"}]" 'disks[0].path' "$TEST_DIR"
    refuse '.disks = [{path: "/dev/null"}]' 'disks[0].path' /dev/null
    refuse '.disks = [{path: "/x\ny"}]' 'disks[0].path'
    : >"$TEST_DIR/empty.img"
    refuse ".disks = [{path: \"$TEST_DIR/empty.img\"}]" 'disks[0].path' 'empty'
    refuse ".disks = [{$good}, {$good}]" 'disks[1].path' "$one"
    two=$(disk two 4)
    refuse ".disks = [{$good, uuid: \"7c079136-2573-4112-9a0d-1f2e3d4c5b6a\"}, {path: \"$two\", uuid: \"7c079136-2573-4112-9a0d-1f2e3d4c5b6a\"}]" 'disks[1].uuid'
    refuse ".disks = [{$good, uuid: \"7c079136-2573-4112-9a0d-1f2e3d4c5b6a\"}, {path: \"$two\", uuid: \"7c079136-2573-4112-8888-888888888888\"}]" 'disks[1].uuid' 'disk-7c079136-2573-4112'
    refuse ".disks = [range(40) | {path: \"$TEST_DIR/one.img\", mode: \"ro\"}]" 'disks[' slot
}

@test "NICs" {
    network br0
    good='nicparams: {link: "br0"}'
    refuse ".nics = [{$good, colour: 1}]" 'nics[0].colour: unknown'
    for key in name mac ip network uuid; do
        refuse ".nics = [{$good, $key: 7}]" "nics[0].$key" 7
    done
    for value in 01:00:5e:00:00:01 aa:bb aa-00-00-00-00-01 aa:00:00:00:00:0g 00:00:00:00:00:00,x 00:00:00:00:00:00; do
        refuse ".nics = [{$good, mac: \"$value\"}]" 'nics[0].mac' "$value"
    done
    refuse ".nics = [{$good, ip: \"300.1.1.1\"}]" 'nics[0].ip' 300.1.1.1
    refuse ".nics = [{$good, name: \"a\nb\"}]" 'nics[0].name'
    refuse ".nics = [{$good, netinfo: []}]" 'nics[0].netinfo'
    refuse '.nics = [{}]' 'nics[0].nicparams.link'
    refuse '.nics = [{nicparams: []}]' 'nics[0].nicparams'
    refuse '.nics = [{nicparams: {mode: "magic"}}]' 'nics[0].nicparams.mode' magic
    refuse '.nics = [{nicparams: {link: "br0", colour: 1}}]' 'nics[0].nicparams.colour'
    refuse '.nics = [{nicparams: {link: "nosuchbr"}}]' 'nics[0]' nosuchbr
    refuse '.nics = [{nicparams: {link: "lo"}}]' 'nics[0]' 'not a bridge'
    refuse '.nics = [{nicparams: {link: "br0;reboot"}}]' 'nics[0].nicparams.link' 'br0;reboot'
    refuse '.nics = [{nicparams: {link: "a-name-of-16-byte"}}]' 'nics[0].nicparams.link'
    for value in 0 4095 .0 abc 1.2 100:200; do
        refuse ".nics = [{nicparams: {link: \"br0\", vlan: \"$value\"}}]" 'nics[0]' "$value"
    done
    refuse '.nics = [{nicparams: {link: "br0", vlan: ".100"}}]' 'nics[0]' vlan_filtering
    refuse '.nics = [{nicparams: {mode: "routed"}}]' 'nics[0].ip'
    refuse '.nics = [{ip: "192.0.2.1", nicparams: {mode: "routed", vlan: ".1"}}]' 'nics[0].nicparams.vlan'
    refuse ".nics = [{$good, mac: \"aa:00:00:00:00:01\"}, {$good, mac: \"AA:00:00:00:00:01\"}]" 'nics[1].mac' aa:00:00:00:00:01
    refuse ".nics = [range(40) | {$good}]" 'nics[' slot
}

@test "all problems are told at once, not one each time" {
    file=$(empty_definition web1 '.uuid = "x" | .beparams.vcpus = 0 | .hvparams.acpi = 1 | .disks = [{path: "relative"}, {}] | .nics = [{mac: "y"}] | .colour = 1')
    suite kvm-start "$file"
    expect_status 2
    for field in uuid beparams.vcpus hvparams.acpi 'disks[0].path' 'disks[1].path' 'nics[0].mac' colour; do
        expect_error "$file: $field"
    done
    expect_untouched
}

# ---- the node's files ----

@test "bad defaults of the node stop a start with their own file's name" {
    for text in '{' '[]' '{"hvparams": {"acpi": 1}}' '{"beparams": {"memory": "x"}}' '{"nicparams": {"mode": "magic"}}' '{"uid_pool": "5-"}' '{"uid_pool": "0"}' '{"colour": 1}'; do
        echo "$text" >"$CONF_DIR/kvm-defaults.json"
        for words in "kvm-start $(empty_definition web1)" "kvm-stop web1" "kvm-cleanup web1" "kvm-hotplug web1 list" \
            "kvm-migrate web1 status"; do
            # shellcheck disable=SC2086
            suite $words
            expect_status 2
            expect_error "$CONF_DIR/kvm-defaults.json"
            expect_failure test -e "$RUN_DIR"
        done
    done
    echo '{"hvparams": {"acpi": false}}' >"$CONF_DIR/kvm-defaults.json"
    chmod 0666 "$CONF_DIR/kvm-defaults.json"
    suite kvm-start "$(empty_definition web1)"
    expect_status 2
    expect_error "kvm-defaults.json: refused, its group or others may write it; look at what is in it, then: chmod go-w $CONF_DIR/kvm-defaults.json"
    chown nobody "$CONF_DIR/kvm-defaults.json"
    suite kvm-start "$(empty_definition web1)"
    expect_status 2
    expect_error "look at what is in it, then: chown root $CONF_DIR/kvm-defaults.json"
    expect_untouched
}

@test "what is no file in the place of the node's defaults is a bad input" {
    local what words place=$CONF_DIR/kvm-defaults.json
    echo '{}' >"$TEST_DIR/elsewhere"
    for what in "mkfifo $place" "mkdir $place" "ln -s $TEST_DIR/elsewhere $place" "ln $TEST_DIR/elsewhere $place" \
        "truncate -s 2M $place"; do
        $what
        for words in "kvm-start $(empty_definition web1)" "kvm-stop web1" "kvm-cleanup web1"; do
            # shellcheck disable=SC2086
            suite $words
            expect_status 2
            expect_error "$place: "
            expect_error "refused"
        done
        rm -r "$place"
    done
    expect_untouched
}

# ---- options ----

@test "options: unknown, nearly known, without value, with a bad one" {
    for program in kvm-start kvm-stop kvm-cleanup kvm-info; do
        for words in --nonsense --jsn --timeout "--timeout 0" "--timeout 0.000" "--timeout abc" "--timeout -1" "--timeout 1e99" "--timeout 1x" "--timeout +1" "--timeout=" "--timeout nan" "--wait-lock x" "--json=1" -x "--run-dir=" "--conf-dir="; do
            # shellcheck disable=SC2086
            suite $program $words x
            expect_status 2
            expect_error "$program: "
            expect_untouched
        done
        suite $program --jsn x
        expect_error "did you mean --json?"
        suite $program --timeout abc x
        expect_error '--timeout: "abc"'
    done
}

@test "operands: none, too many, contradictory" {
    for words in "kvm-start" "kvm-stop" "kvm-cleanup" "kvm-stop --all web1" "kvm-cleanup --all web1" "kvm-stop --reset --force web1" "kvm-stop --reset --reboot web1" "kvm-stop --force --kill-after 3 web1" "kvm-stop --timeout 3 --kill-after 3.5 web1" "kvm-info --slots" "kvm-info --slots --events web1"; do
        # shellcheck disable=SC2086
        suite $words
        [[ $status -eq 2 || $status -eq 3 ]] || fail "taken: $words"
        expect_error "${words%% *}: "
        expect_equal "$output" ""
    done
    suite kvm-start --adopt ""
    expect_status 2
    expect_error "kvm-start: the instance name is empty"
    suite kvm-start --adopt $'a\nb'
    expect_status 2
    expect_error 'kvm-start: instance name "a\x0ab"'
    expect_untouched
}

@test "a full disk behind standard output is a failure, not silence" {
    for words in "kvm-info --help" "kvm-info --json" "kvm-start --dry-run $(empty_definition web1)" "kvm-stop --help"; do
        # shellcheck disable=SC2086
        set -- $words
        program=$1
        shift
        status=0
        "$BUILD/$program" "$@" >/dev/full 2>"$TEST_DIR/stderr" || status=$?
        expect_equal "$status" 1
        grep -q 'standard output' "$TEST_DIR/stderr"
    done
}

# ---- what is odd but good ----

# bats test_tags=guest
@test "odd strings that are accepted arrive as they are" {
    odd=$TEST_DIR/k,e=r\"n\ e\\l%s
    ln "$GUEST/vmlinuz" "$odd" 2>/dev/null || cp "$GUEST/vmlinuz" "$odd"
    file=$(definition web1 '.hvparams.kernel_args += " odd=a,b=c;$(x)`y`%s"')
    jq --arg path "$odd" '.hvparams.kernel_path = $path' "$file" >"$TEST_DIR/odd.json"
    suite kvm-start "$TEST_DIR/odd.json"
    expect_status 0
    guest_run web1 'cat /proc/cmdline' | grep -q -F ' odd=a,b=c;$(x)`y`%s'
    suite kvm-stop --reboot --force web1 # and through the runtime file
    expect_status 0
    guest_run web1 'cat /proc/cmdline' | grep -q -F ' odd=a,b=c;$(x)`y`%s'
}
