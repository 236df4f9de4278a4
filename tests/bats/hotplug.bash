# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# What the files hotplug*.bats share:  load helper; load hotplug
#
#     start NAME [JQ]                     boot the test guest and wait for it
#     hotplug NAME ACTION…                kvm-hotplug, which must succeed
#     device NAME                         device id of what the last command told (--json)
#     guest_until NAME CONDITION          wait inside the guest
#     inventory NAME                      all that QEMU, the node and the run directory hold of the instance's devices
#     MACHINE's life of a disk or a NIC:  disk_lives, nic_lives

start() { # NAME [JQ]
    suite kvm-start "$(definition "$@")"
    expect_status 0
    guest_run "$1" true
}

hotplug() { # NAME ACTION…
    suite kvm-hotplug "$@"
    expect_status 0
}

told() { # KEY: what the last command told of it with --json
    jq -r --arg key "$1" '.[0][$key]' <<<"$output"
}

guest_until() { # NAME CONDITION: true within the guest's time
    guest_run "$1" "until $2; do sleep 0.1; done"
}

balloon_is() { # NAME MIB
    [[ $(qmp "$1" query-balloon | jq .actual) == $(($2 * 1048576)) ]]
}

expect_kept() { # of an instance web1 with 144 MiB, its first NIC down, and an ejected CD
    expect_equal "$(qmp web1 query-balloon | jq .actual)" $((144 * 1048576))
    # shellcheck disable=SC2016
    guest_until web1 'ip link set eth0 up && [ "$(cat /sys/class/net/eth0/carrier)" = 0 ]'
    expect_equal "$(qmp web1 query-block | jq -c 'map(select(.qdev == "cdrom") | has("inserted"))')" "[false]"
    hotplug web1 list
    expect_output "present, link down"
}

devices() { # NAME: ids of QEMU's devices, sorted
    qmp "$1" qom-list '{"path": "/machine/peripheral"}' | jq -r '.[].name' | sort
}

nodes() { # NAME: block nodes that have a name of ours
    qmp "$1" query-named-block-nodes '{"flat": true}' | jq -r '.[]."node-name"' | grep -v '^#' | sort || true
}

# A netdev has no query: a name that netdev_del does not find isn't there. HMP lists them.
netdevs() { # NAME
    qmp "$1" human-monitor-command '{"command-line": "info network"}' | jq -r . | sed -n 's/^ *\\* *\([^: ]*\):.*type=tap.*/\1/p' | sort
}

fd_sets() { # NAME: those of images
    qmp "$1" query-fdsets | jq -r '.[].fds[].opaque | select(test("^(disk-|cdrom)"))' | sort
}

descriptors() { # NAME: how many QEMU has open
    find "/proc/$(qemu_pid "$1")/fd" -mindepth 1 -maxdepth 1 | wc -l
}

nic_files() { # NAME
    (cd "$RUN_DIR" && find nic -mindepth 1 -path "*/$1/*" | sort)
}

inventory() { # NAME
    echo "devices: $(devices "$1" | tr '\n' ' ')"
    echo "nodes: $(nodes "$1" | tr '\n' ' ')"
    echo "netdevs: $(netdevs "$1" | tr '\n' ' ')"
    echo "fd sets: $(fd_sets "$1" | tr '\n' ' ')"
    echo "taps: $(taps | tr '\n' ' ')"
    echo "files: $(nic_files "$1" | tr '\n' ' ') $(files_of "$1" | tr '\n' ' ')"
    echo "runtime: $(jq -c '[.[1], .[3], .[4].devices]' "$RUN_DIR/conf/$1.runtime")"
}

expect_inventory() { # NAME BEFORE
    local now
    now=$(inventory "$1")
    [[ $now == "$2" ]] || fail "the instance's devices differ:"$'\n'"$(diff <(echo "$2") <(echo "$now"))"
}

# Data goes through the guest to the image on the host, and back from there.
use_disk() { # NAME DEVICE IMAGE
    guest_run "$1" "echo written-by-the-guest | dd of=/dev/$2 bs=4096 conv=sync,fsync 2>/dev/null"
    expect_equal "$(head -c 20 "$3")" written-by-the-guest
    expect_equal "$(guest_run "$1" "echo 3 >/proc/sys/vm/drop_caches; head -n 1 /dev/$2")" written-by-the-guest
}

# The bridge has 10.7.0.1; what is plugged there pings it.
address_bridge() { # BRIDGE
    ip -n "$NETNS" addr add 10.7.0.1/24 dev "$1"
}

use_nic() { # NAME INTERFACE
    guest_run "$1" "ip link set $2 up; ip addr add 10.7.0.2/24 dev $2"
    guest_until "$1" "[ \"\$(cat /sys/class/net/$2/carrier)\" = 1 ]"
    guest_until "$1" "ping -c 1 -W 1 10.7.0.1 >/dev/null"
}

# ---- whole lives, the same on pc and q35 ----

disk_lives() { # KEY=VALUE… of add-disk; DEVICE in the guest: a disk comes, is used, goes; twice in the same place
    local image before id time
    image=$(disk extra 8)
    before=$(inventory web1)
    for time in first second; do
        hotplug web1 add-disk path="$image" name=extra --json "$@"
        id=$(told device)
        expect_json '.[0].status == 0 and (.[0].uuid | length == 36) and .[0].index == 0'
        guest_until web1 "[ -b /dev/$DEVICE ]"
        use_disk web1 "$DEVICE" "$image"
        expect_equal "$(devices web1 | grep -c "^$id$")" 1
        expect_equal "$(nodes web1)" "$id"
        expect_equal "$(fd_sets web1)" "$id"
        suite kvm-hotplug web1 list --json
        expect_json '.[0].disks | length == 1 and (.[0] | .state == "present" and .name == "extra" and .in_qemu and .backend)'
        hotplug web1 del-disk extra
        expect_output "removed"
        guest_until web1 "[ ! -e /dev/$DEVICE ]"
        expect_inventory web1 "$before"
        echo "# $time time done"
    done
}

nic_lives() { # KEY=VALUE… of add-nic
    local before id
    before=$(inventory web1)
    hotplug web1 add-nic link=br0 mac=aa:00:00:00:0a:0b name=extra --json "$@"
    id=$(told device)
    expect_equal "$(told tap)" "$(taps)"
    expect_equal "$(bridge_of "$(taps)")" br0
    expect_equal "$(netdevs web1)" "$id"
    expect_equal "$(nic_files web1)" $'nic/web1/0\nnic/web1/'"$(told uuid)"
    guest_until web1 "[ -e /sys/class/net/eth0 ]"
    expect_equal "$(guest_run web1 'cat /sys/class/net/eth0/address')" aa:00:00:00:0a:0b
    use_nic web1 eth0
    hotplug web1 del-nic extra
    guest_until web1 "[ ! -e /sys/class/net/eth0 ]"
    expect_inventory web1 "$before"
}
