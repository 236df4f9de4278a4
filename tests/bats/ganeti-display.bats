#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# Displays, sound and USB between Ganeti's installed KVM backend and this suite: who starts the instance again makes the
# same machine of it, with the same display.

load helper
load hotplug
load ganeti

setup() {
    ganeti_setup
    network
    echo 'tick3t' >"$TEST_DIR/secret"
    certificates "$TEST_DIR/x509"
}

# A display each: SPICE with a password, VNC with certificates.
SPICE='.network_port = 5951 | .hvparams += {spice_bind: "127.0.0.1", spice_password_file: $secret, spice_image_compression: "glz",
    spice_streaming_video: "filter", spice_playback_compression: false, usb_mouse: "tablet", usb_devices: "keyboard"}'
VNC='.network_port = 5951 | .hvparams += {vnc_bind_address: "127.0.0.1", vnc_password_file: $short, vnc_tls: true,
    vnc_x509_path: $x509, vnc_x509_verify: true, vga: "cirrus", keymap: "de"}'

shown() { # NAME JQ: a definition
    empty_definition "$1" >/dev/null
    jq --arg secret "$TEST_DIR/secret" --arg short "$TEST_DIR/secret" --arg x509 "$TEST_DIR/x509" "$2" "$TEST_DIR/$1.json" >"$TEST_DIR/new"
    mv "$TEST_DIR/new" "$TEST_DIR/$1.json"
    echo "$TEST_DIR/$1.json"
}

# Where what sits, of which class and maker; pvpanic is ISA and no part of this.
hardware() {
    qmp web1 query-pci | jq -c '[.[0].devices[] | [.slot, .function, .id.vendor, .id.device]] | sort'
    qmp web1 query-mice | jq -c 'map(.name) | sort'
}

display() {
    qmp web1 query-spice | jq -c 'if .enabled then [.host, .port, .auth] else "no SPICE" end'
    qmp web1 query-vnc | jq -c 'if .enabled then [.host, .service, .auth] else "no VNC" end'
}

again() { # COMMAND…: it runs in a new QEMU afterwards, and is the same
    local pid machine screen
    pid=$(qemu_pid web1)
    machine=$(hardware)
    screen=$(display)
    "$@"
    [[ $(qemu_pid web1) != "$pid" ]]
    expect_equal "$(hardware)" "$machine"
    expect_equal "$(display)" "$screen"
}

ours_again() {
    suite kvm-stop --reboot --force web1
    expect_status 0
}

@test "Ganeti starts what we started again: SPICE with sound, VNC with certificates" {
    suite kvm-start "$(shown web1 "$SPICE | .hvparams.soundhw = \"ac97,pcspk\"")"
    expect_status 0
    expect_equal "$(display | head -n 1)" '["127.0.0.1",5951,"spice"]'
    again ganeti reboot
    again ours_again
    suite kvm-stop --force web1
    suite kvm-start "$(shown web1 "$VNC")"
    expect_status 0
    expect_equal "$(display | tail -n 1)" '["127.0.0.1","5951","vencrypt+x509+vnc"]'
    again ganeti reboot
    again ours_again
}

@test "we start what Ganeti started again: SPICE, VNC with certificates" {
    shown web1 "$SPICE" >/dev/null
    ganeti start
    expect_equal "$(display | head -n 1)" '["127.0.0.1",5951,"spice"]'
    suite kvm-info web1
    expect_output "127.0.0.1:5951"
    again ours_again
    again ganeti reboot
    suite kvm-stop --force web1
    shown web1 "$VNC" >/dev/null
    ganeti start
    expect_equal "$(display | tail -n 1)" '["127.0.0.1","5951","vencrypt+x509+vnc"]'
    again ours_again
    again ganeti reboot
}
