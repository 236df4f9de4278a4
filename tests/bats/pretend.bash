# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# A server in the place of an instance's QEMU, for what a real one does on a bad day:  load helper; load pretend
#
#     pretend RULE…           an instance web1 with the disks $ONE and $TWO, and tests/fake/fake-qmp that follows the rules
#     $TEST_DIR/commands      what it was told; /state what it has, /state.before and /runtime as they were at first
#     hotplug STATUS ACTION…  kvm-hotplug, which must end with this
#     sent, expect_unchanged  what it was told to change; runtime file and server are as they were

ONE=11111111-2573-4112-8b0a-000000000000
TWO=22222222-2573-4112-8b0a-000000000000
# shellcheck disable=SC2034
NEW=44444444-2573-4112-8b0a-000000000000

# What the server has from the start: what the runtime file says.
plugged() {
    jq -r '"has device_add {\"driver\":\"virtio-balloon-pci\",\"id\":\"balloon\",\"bus\":\"pci.0\",\"addr\":\"0x3\"}",
        (.[3][][0].hvinfo | "has add-fd \({opaque: .id})", "has blockdev-add \({"node-name": .id, driver: "raw"})",
         "has device_add \(. + {drive: .id})")' "$RUN_DIR/conf/web1.runtime"
}

# An instance with two disks as a start has left it, but for its QEMU, in the place of which is one that follows RULES.
pretend() { # RULE…
    local pid
    suite kvm-start "$(empty_definition web1 \
        ".disks = [{path: \"$(disk one 1)\", uuid: \"$ONE\"}, {path: \"$(disk two 1)\", uuid: \"$TWO\"}]")"
    expect_status 0
    pid=$(qemu_pid web1)
    kill -KILL "$pid"
    wait_until 10 process_is_gone "$pid"
    { plugged; printf '%s\n' "$@"; } >"$TEST_DIR/script"
    rm -f "$TEST_DIR/commands"
    "$BUILD/tests/fake-qmp" "$RUN_DIR/ctrl/web1.qmp" "$TEST_DIR/script" --query "$RUN_DIR/ctrl/web1.query" \
        --pid-file "$RUN_DIR/pid/web1" --log "$TEST_DIR/commands" --state "$TEST_DIR/state" \
        >"$TEST_DIR/ready" 2>"$TEST_DIR/fault" 3>&- &
    pid=$!
    wait_until 10 grep -q ready "$TEST_DIR/ready" || fail "$(cat "$TEST_DIR/fault")"
    jq --argjson pid "$pid" --argjson start "$(sed 's/.*) //' "/proc/$pid/stat" | cut -d ' ' -f 20)" \
        '.[4].pid = $pid | .[4].start_time = $start' "$RUN_DIR/conf/web1.runtime" >"$TEST_DIR/runtime"
    cat "$TEST_DIR/runtime" >"$RUN_DIR/conf/web1.runtime"
    cp "$TEST_DIR/state" "$TEST_DIR/state.before"
}

hotplug() { # STATUS ACTION…
    local wanted=$1
    shift
    suite kvm-hotplug web1 "$@"
    expect_status "$wanted"
}

sent() { # the commands that change something, in their order; "-" is what ends one that was only prepared
    jq -r .execute "$TEST_DIR/commands" | grep -v -E '^(query-|qom-list|-$)' || true
}

expect_unchanged() {
    cmp "$TEST_DIR/runtime" "$RUN_DIR/conf/web1.runtime" || fail "the runtime file has changed"
    expect_equal "$(jq -S . "$TEST_DIR/state")" "$(jq -S . "$TEST_DIR/state.before")"
}
