#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# What a person sees and hears of an instance, and holds: VNC with TLS, SPICE, graphics, sound, USB; and who watches it.

load helper
load hotplug
load migrate

MODULES=/usr/lib/x86_64-linux-gnu/qemu

start_paused() { # JQ
    suite kvm-start --paused "$(empty_definition web1 ".network_port = 5931 | $1")"
    expect_status 0
}

refuse() { # JQ TEXT…
    suite kvm-start --dry-run "$(empty_definition web1 ".network_port = 5931 | $1")"
    expect_status 2
    local text
    for text in "${@:2}"; do
        expect_error "$text"
    done
}

# Everything that the guest could notice, as QEMU tells it.
hardware() {
    qmp web1 query-pci | jq -c '[.[].devices[] | [.slot, .function, .id.vendor, .id.device, .qdev_id]]'
    qmp web1 qom-list '{"path": "/machine/peripheral"}' | jq -c 'map([.name, .type])'
}

without_disks() {
    jq -c 'map(select(all(.[]; tostring | startswith("disk-") | not)))'
}

ticket() { # PASSWORD
    inside "$TESTS/bats/spice-ticket" 127.0.0.1 5931 "$1"
}

# ---- VNC ----

@test "VNC with TLS: anonymous, with certificates, and a client that must have one" {
    network
    certificates "$TEST_DIR/x509"
    echo 'xYz71q!' >"$TEST_DIR/secret"
    bind=".hvparams.vnc_bind_address = \"lo\" | .hvparams.vnc_tls = true"
    start_paused "$bind | .hvparams.vnc_password_file = \"$TEST_DIR/secret\""
    expect_equal "$(qmp web1 query-vnc | jq -r '.host + " " + .service + " " + .auth')" "127.0.0.1 5931 vencrypt+tls+vnc"
    suite kvm-stop --force web1
    expect_status 0
    start_paused "$bind | .hvparams.vnc_x509_path = \"$TEST_DIR/x509\" | .hvparams.vnc_x509_verify = true"
    expect_equal "$(qmp web1 query-vnc | jq -r .auth)" vencrypt+x509+none
    expect_equal "$(qmp web1 qom-get '{"path": "/objects/vnctls0", "property": "verify-peer"}')" true
}

@test "VNC's certificates must be there, and the user that QEMU becomes must be able to read them" {
    network
    certificates "$TEST_DIR/x509"
    chmod 0711 "$TEST_DIR"
    x509=".hvparams.vnc_bind_address = \"127.0.0.1\" | .hvparams.vnc_tls = true | .hvparams.vnc_x509_path = \"$TEST_DIR/x509\""
    nobody='.hvparams.security_model = "user" | .hvparams.security_domain = "nobody"'
    refuse "$x509 | $nobody" "hvparams.vnc_x509_path: the user of security_model can't read it" "x509/server-key.pem"
    start_paused "$x509 | $nobody | .hvparams.use_chroot = true"
    expect_equal "$(qmp web1 query-vnc | jq -r .auth)" vencrypt+x509+none
    suite kvm-stop --force web1
    chmod 0644 "$TEST_DIR/x509/server-key.pem"
    start_paused "$x509 | $nobody"
    suite kvm-stop --force web1
    chmod 0700 "$TEST_DIR/x509"
    refuse "$x509 | $nobody" "hvparams.vnc_x509_path: the user of security_model can't read it"
    rm "$TEST_DIR/x509/ca-cert.pem"
    refuse "$x509" "hvparams.vnc_x509_path: No such file or directory" "x509/ca-cert.pem"
}

@test "VNC in a directory is a socket there, also for another user, and goes with the instance" {
    mkdir "$TEST_DIR/vnc, here"
    chmod 0711 "$TEST_DIR"
    in=".hvparams.vnc_bind_address = \"$TEST_DIR/vnc, here\" | .network_port = 0"
    nobody='.hvparams.security_model = "user" | .hvparams.security_domain = "nobody"'
    refuse "$in | $nobody" "hvparams.vnc_bind_address: the user of security_model can't make a socket there"
    chown nobody "$TEST_DIR/vnc, here"
    start_paused "$in | $nobody"
    expect_equal "$(qmp web1 query-vnc | jq -r .service)" "$TEST_DIR/vnc, here/web1.vnc"
    [[ -S "$TEST_DIR/vnc, here/web1.vnc" ]]
    suite kvm-stop --force web1
    expect_status 0
    expect_equal "$(ls "$TEST_DIR/vnc, here")" ""
}

@test "keymap: a name that QEMU has, not one that it lacks, and no path" {
    network
    bind='.hvparams.vnc_bind_address = "127.0.0.1"'
    start_paused "$bind | .hvparams.keymap = \"de\""
    tr '\0' ' ' <"/proc/$(qemu_pid web1)/cmdline" | grep -q -e '-k de '
    suite kvm-stop --force web1
    suite kvm-start --paused "$(empty_definition web1 ".network_port = 5931 | $bind | .hvparams.keymap = \"xx\"")"
    expect_status 1
    expect_error "could not read keymap file: 'xx'"
    expect_nothing_left web1
    refuse '.hvparams.keymap = "/etc/passwd"' "hvparams.keymap: must be the name"
}

@test "an address that the node does not have and a port that is taken are told before anything is done" {
    network
    refuse '.hvparams.vnc_bind_address = "192.0.2.1"' "hvparams.vnc_bind_address: 192.0.2.1 is no address of this node"
    refuse '.hvparams.spice_bind = "lo" | .hvparams.spice_ip_version = 6 | .network_port = 0' "network_port: SPICE needs one"
    refuse '.hvparams.spice_bind = "nosuchif0"' "hvparams.spice_bind: neither an address, nor an interface"
    start_paused '.hvparams.spice_bind = "127.0.0.1"'
    suite kvm-start --dry-run "$(empty_definition web2 '.network_port = 5931 | .hvparams.vnc_bind_address = "127.0.0.1"')"
    expect_status 2
    expect_error "network_port: somebody listens on it at 127.0.0.1; 'ss -ltnp sport = :5931' shows who"
}

# ---- SPICE ----

@test "SPICE lets nobody in without the password, and the password is nowhere but in QEMU" {
    network
    echo 'sp1ce, "ticket"' >"$TEST_DIR/secret"
    start_paused ".hvparams.spice_bind = \"lo\" | .hvparams.spice_password_file = \"$TEST_DIR/secret\" | .hvparams.soundhw = \"hda\""
    expect_equal "$(qmp web1 query-spice | jq -r '.host + " " + (.port | tostring) + " " + .auth')" "127.0.0.1 5931 spice"
    expect_equal "$(ticket 'sp1ce, "ticket"')" ok
    expect_equal "$(ticket 'sp1ce')" 7
    suite kvm-info web1
    expect_output "SPICE      lo:5931"
    rm "$TEST_DIR/secret"
    expect_failure grep -r -F 'sp1ce' "$TEST_DIR"
    expect_failure grep -F 'sp1ce' "/proc/$(qemu_pid web1)/cmdline" "/proc/$(qemu_pid web1)/environ"
}

@test "SPICE's password file: an empty one, one too long" {
    spice=".hvparams.spice_bind = \"127.0.0.1\" | .hvparams.spice_password_file = \"$TEST_DIR/secret\""
    refuse "$spice" "hvparams.spice_password_file: "
    echo >"$TEST_DIR/secret"
    refuse "$spice" "the first line is empty"
    printf '%061d\n' 1 >"$TEST_DIR/secret"
    refuse "$spice" "longer than 60 characters"
}

@test "SPICE with TLS takes the certificates of the configuration directory" {
    network
    tls='.hvparams.spice_bind = "lo" | .hvparams.spice_ip_version = 6 | .hvparams.spice_use_tls = true'
    refuse "$tls" "hvparams.spice_use_tls: No such file or directory" "$CONF_DIR/spice-ca.pem" "$CONF_DIR/spice.pem"
    certificates "$TEST_DIR/x509"
    cp "$TEST_DIR/x509/ca-cert.pem" "$CONF_DIR/spice-ca.pem"
    cat "$TEST_DIR/x509/"server-{cert,key}.pem >"$CONF_DIR/spice.pem"
    start_paused "$tls | .hvparams.spice_use_vdagent = false"
    expect_equal "$(qmp web1 query-spice | jq -c '[.host, .port, .["tls-port"], .auth]')" '["::1",null,5931,"none"]'
    inside openssl s_client -connect '[::1]:5931' -CAfile "$TEST_DIR/x509/ca-cert.pem" -verify_return_error </dev/null 2>&1 | grep -q 'Verify return code: 0'
}

@test "what QEMU lacks is told by name, and found when it has been installed" {
    [[ -e $MODULES/hw-display-qxl.so ]] || skip "no SPICE modules in $MODULES"
    network
    file=$(empty_definition web1 '.network_port = 5931 | .hvparams.spice_bind = "127.0.0.1"')
    hidden='mount --bind /dev/null "$1/hw-display-qxl.so" && mount --bind /dev/null "$1/chardev-spice.so" && shift && exec "$@"'
    status=0
    inside unshare -m sh -c "$hidden" sh "$MODULES" "$BUILD/kvm-start" --paused "$file" 2>"$TEST_DIR/stderr" || status=$?
    # shellcheck disable=SC2034 # for expect_error
    errors=$(cat "$TEST_DIR/stderr")
    expect_status 2
    expect_error "hvparams.spice_bind: /usr/bin/qemu-system-x86_64 has no qxl-vga; a package of QEMU modules may bring it"
    expect_error "hvparams.spice_bind: /usr/bin/qemu-system-x86_64 has no chardev-spicevmc"
    suite kvm-start --paused "$file"
    expect_status 0
}

# ---- the same hardware over everything ----

all='.hvparams.spice_bind = "lo" | .hvparams.soundhw = "ac97,sb16" | .hvparams.usb_mouse = "tablet"
    | .hvparams.usb_devices = "keyboard" | .hvparams.use_guest_agent = true'

@test "a reboot keeps graphics, sound, USB and channels where they are, and sets the password again" {
    network
    echo first >"$TEST_DIR/secret"
    start_paused "$all | .hvparams.spice_password_file = \"$TEST_DIR/secret\""
    before=$(hardware)
    suite kvm-info --slots web1
    expect_output "sound card"
    echo second >"$TEST_DIR/secret"
    suite kvm-hotplug web1 add-disk "path=$(disk more 8)"
    expect_status 0
    suite kvm-stop --reboot --force web1
    expect_status 0
    after=$(hardware)
    [[ $after == *disk-* ]]
    expect_equal "$(without_disks <<<"$after")" "$(without_disks <<<"$before")"
    expect_equal "$(ticket second)" ok
    expect_equal "$(ticket first)" 7
}

@test "a migration takes it all along; the target's own password, address and port count" {
    two_nodes
    echo first >"$TEST_DIR/secret"
    suite kvm-start "$(empty_definition web1 ".network_port = 5931 | $all | .hvparams.spice_password_file = \"$TEST_DIR/secret\"
        | .beparams.vcpus = 2 | .hvparams.cpu_mask = \"all:0\"")"
    expect_status 0
    before=$(hardware)
    ip netns exec "$(namespace_of_node b)" python3 -c 'import socket, time
s = socket.socket(); s.bind(("127.0.0.1", 5931)); s.listen(); time.sleep(60)' 3>&- &
    taker=$!
    wait_until 10 on b inside sh -c 'ss -Hltn "sport = :5931" | grep -q .'
    migrate a check
    expect_status 3
    expect_error "network_port: somebody listens on it at 127.0.0.1"
    kill "$taker"
    wait "$taker" || true
    echo second >"$TEST_DIR/secret"
    migrate a to
    expect_status 0
    expect_runs_on b
    node b
    expect_equal "$(hardware)" "$before"
    expect_equal "$(ticket second)" ok
    expect_equal "$(qmp web1 query-spice | jq -r .auth)" spice
    second=$(qmp web1 query-cpus-fast | jq '.[1]["thread-id"]')
    expect_equal "$(sed -n 's/^Cpus_allowed_list:\s*//p' "/proc/$second/status")" 0
}

# bats test_tags=guest
@test "a guest finds card, ports and USB, takes them along, and lets go of what is plugged" {
    two_nodes
    suite kvm-start "$(definition web1 ".network_port = 5931 | $all | .hvparams.vga = \"std\"")"
    expect_status 0
    expect_equal "$(guest_run web1 'cat /sys/bus/pci/devices/0000:00:03.0/vendor /sys/bus/pci/devices/0000:00:03.0/device' | tr '\n' ' ')" "0x8086 0x2415 "
    expect_equal "$(guest_run web1 'cat /sys/class/virtio-ports/*/name' | sort | tr '\n' ' ')" "com.redhat.spice.0 org.qemu.guest_agent.0 "
    mark
    migrate a to
    expect_status 0
    expect_runs_on b
    node b
    expect_mark
    suite kvm-hotplug web1 add-disk "path=$(disk more 8)" name=more
    expect_status 0
    wait_until 20 guest_run web1 'test -b /dev/vda'
    suite kvm-hotplug web1 del-disk more
    expect_status 0
}

@test "a device of the node does not come with a guest, unless that node allows it" {
    two_nodes
    suite kvm-start "$(empty_definition web1 '.hvparams.usb_devices = "host:1d6b:ffff"')"
    expect_status 0
    migrate a check
    expect_status 3
    expect_error 'usb_devices "host:1d6b:ffff", devices of the node that this node'
    echo '{"hvparams": {"usb_devices": "host:1d6b:ffff"}}' >"$TEST_DIR/conf-b/kvm-defaults.json"
    migrate a check
    expect_status 0
}

# ---- user_shutdown ----

@test "user_shutdown: a third monitor, no mark of an earlier run, and the button instead of the agent" {
    make_run_dir
    echo >"$RUN_DIR/ctrl/web1.shutdown"
    suite kvm-start "$(empty_definition web1 '.hvparams.user_shutdown = true | .hvparams.use_guest_agent = true')"
    expect_status 0
    [[ ! -e $RUN_DIR/ctrl/web1.shutdown ]]
    expect_equal "$("$TESTS/bats/qmp" "$RUN_DIR/ctrl/web1.kvmd" query-status | jq -r .status)" running
    suite kvm-stop -v --timeout 1 web1
    expect_status 6
    expect_no_error "agent"
    suite kvm-stop --force web1
    expect_status 0
    expect_nothing_left web1
}
