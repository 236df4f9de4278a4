#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# Migration of one guest by Ganeti's installed KVM backend and by this suite in turn. kvm_cmd holds paths, so both nodes
# have their run directory in the same place: each in a mount namespace of its own.
# bats file_tags=guest

load helper
load hotplug
load migrate
load ganeti

setup() {
    ganeti_setup
    two_nodes br0
    mkdir "$TEST_DIR/kvm-hypervisor"
    for one in a b; do
        mkdir -p "$TEST_DIR/$one/kvm-hypervisor"
        write_remote_of "$one"
    done
    see a
}

# shellcheck disable=SC2034  # NETNS is the helpers'
see() { # a|b: the helpers look there from here on
    NETNS=$(namespace_of_node "$1")
    RUN_DIR=$TEST_DIR/$1/kvm-hypervisor
    export RUN_DIR
}

write_remote_of() { # a|b: a command that runs things on that node
    cat >"$TEST_DIR/to-$1" <<END
#!/bin/bash
exec ip netns exec $(namespace_of_node "$1") bash -c 'mount --bind $TEST_DIR/$1/kvm-hypervisor $TEST_DIR/kvm-hypervisor &&
    exec env KVM_RUN_DIR=$TEST_DIR/kvm-hypervisor KVM_CONF_DIR=$TEST_DIR/conf-$1 GANETI_IFUP=$TESTS/ganeti/ifup \\
    PATH=$BUILD:$TESTS/ganeti:\$PATH "\$@"' - "\$@"
END
    chmod +x "$TEST_DIR/to-$1"
}

at() { # a|b COMMAND…: it must succeed there
    status=0
    timeout --kill-after=5 90 "$TEST_DIR/to-$1" "${@:2}" >"$TEST_DIR/stdout" 2>"$TEST_DIR/stderr" 3>&- || status=$?
    output=$(cat "$TEST_DIR/stdout")
    errors=$(cat "$TEST_DIR/stderr")
    printf '%s: %s\n%s\n%s\n= %s\n' "$1" "${*:2}" "$output" "$errors" "$status"
    expect_status 0
}

backend() { # a|b COMMAND…
    at "$1" backend --definition "$TEST_DIR/web1.json" "${@:2}"
}

ganeti_is_done() { # a|b
    backend "$1" status >/dev/null
    [[ $output != *active* && $output != *setup* ]]
}

# What Ganeti's node daemons do in this order. The file goes as it is, and on a real node comes from another boot.
ganeti_migrates() { # FROM TO
    backend "$1" migration-info
    if [[ $(jq length <<<"$output") == 5 ]]; then
        output=$(jq -c '.[4].boot_id = "dbbe5252-7846-4228-a279-4b9381640f30"' <<<"$output")
    fi
    printf '%s\n' "$output" >"$TEST_DIR/info"
    backend "$2" accept "$(address_of "$2")" <"$TEST_DIR/info"
    backend "$1" migrate "$(address_of "$2")"
    wait_until 60 ganeti_is_done "$1"
    expect_json '.status == "completed"'
    backend "$2" finalize-target true <"$TEST_DIR/info"
    backend "$1" finalize-source true
}

we_migrate() { # FROM TO
    at "$1" kvm-migrate web1 to "$(address_of "$2")" --remote "$TEST_DIR/to-$2"
}

@test "a guest that kvm-start started goes to the other node by Ganeti, and back by us" {
    at a kvm-start "$(both web1 '.hvparams.use_guest_agent = true | .hvparams.migration_bandwidth = 200')"
    mark
    ganeti_migrates a b
    see b
    expect_mark
    at b kvm-info web1 --json
    expect_json '.[0] | .state == "running" and .fault == null and .nics[0].tap == "tap0"'
    at b kvm-hotplug web1 add-disk path="$(disk second 8)" uuid="$DISK2"
    guest_until web1 '[ -b /dev/vdb ]'
    we_migrate b a
    see a
    expect_mark
    at a kvm-hotplug web1 del-disk "$DISK2"
    at a kvm-hotplug web1 del-disk "$DISK1"
    at a kvm-stop web1 --timeout 60
    expect_output "powered off on request of kvm-stop"
    at b kvm-cleanup --all
    for one in a b; do
        see $one
        expect_nothing_left web1
    done
}

@test "a guest that Ganeti started goes to the other node by us, and back by Ganeti" {
    both web1 '.hvparams.use_guest_agent = true | .hvparams.migration_bandwidth = 200' >/dev/null
    backend a start
    mark
    we_migrate a b
    see b
    expect_mark
    backend b info
    expect_equal "$(jq -r .[0] <<<"$output")" web1
    backend b add-disk "$(second_disk)" 1
    guest_until web1 '[ -b /dev/vdb ]'
    ganeti_migrates b a
    see a
    expect_mark
    backend a del-disk "$DISK2" 1
    guest_until web1 '[ ! -e /dev/vdb ]'
    at a kvm-stop web1 --timeout 60
    expect_output "powered off on request of kvm-stop"
    at b kvm-cleanup --all
    for one in a b; do
        see $one
        expect_nothing_left web1
    done
}
