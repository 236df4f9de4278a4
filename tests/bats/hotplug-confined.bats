#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# kvm-hotplug with a QEMU that may open nothing itself: another user, an empty root directory, or both.
# bats file_tags=guest

load helper
load hotplug

uid_of() { # NAME
    sed -n 's/^Uid:[[:space:]]*\([0-9]*\).*/\1/p' "/proc/$(qemu_pid "$1")/status"
}

# Images that only root can open, in a directory that only root can enter.
both_live() { # JQ
    network br0
    address_bridge br0
    chmod 0700 "$TEST_DIR"
    start web1 "$1"
    DEVICE=vda disk_lives
    nic_lives
    hotplug web1 add-disk path="$(disk direct 8)" cache=none
    hotplug web1 add-nic link=br0 queues=2
    guest_until web1 '[ -b /dev/vda -a -e /sys/class/net/eth0 ]'
    use_disk web1 vda "$TEST_DIR/direct.img"
    use_nic web1 eth0
    suite kvm-stop web1 --timeout 60
    expect_status 0
    expect_nothing_left web1
}

@test "security_model user: disks and NICs come, are used and go" {
    both_live '.hvparams.security_model = "user" | .hvparams.security_domain = "nobody"'
}

@test "security_model pool: disks and NICs come, are used and go" {
    echo '{"uid_pool": "64100-64101"}' >"$CONF_DIR/kvm-defaults.json"
    both_live '.hvparams.security_model = "pool"'
}

@test "use_chroot: disks and NICs come, are used and go" {
    both_live '.hvparams.use_chroot = true'
}

@test "use_chroot as another user on q35: disks and NICs come, are used and go" {
    both_live '.hvparams.use_chroot = true | .hvparams.security_model = "user" | .hvparams.security_domain = "nobody" |
        .hvparams.machine_version = "q35"'
}

@test "a confined QEMU is what these tests say it is" {
    echo '{"uid_pool": "64100-64101"}' >"$CONF_DIR/kvm-defaults.json"
    start web1 '.hvparams.use_chroot = true | .hvparams.security_model = "pool"'
    expect_equal "$(uid_of web1)" 64100
    expect_equal "$(readlink "/proc/$(qemu_pid web1)/root")" "$RUN_DIR/chroot/web1"
    expect_equal "$(sed -n 's/^CapEff:[[:space:]]*//p' "/proc/$(qemu_pid web1)/status")" 0000000000000000
}
