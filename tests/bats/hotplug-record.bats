#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# kvm-hotplug and what it keeps: records that can't be written, a change that was killed, numbers of taps, a lock that is
# waited for.

load helper
load pretend

# ifup and ifdown that keep the books: a file for each tap that is set up, with the link it was set up for.
keep_books() { # [COMMAND in ifup]
    mkdir "$TEST_DIR/books"
    printf '#!/bin/sh\necho "up $1 $INTERFACE_INDEX $LINK" >>"%s/calls"\n%s\necho "$LINK" >"%s/books/$1"\n' \
        "$TEST_DIR" "${1:-}" "$TEST_DIR" >"$CONF_DIR/kvm-ifup-custom"
    printf '#!/bin/sh\necho "down $1 $INTERFACE_INDEX $LINK" >>"%s/calls"\nrm -f "%s/books/$1"\n' \
        "$TEST_DIR" "$TEST_DIR" >"$CONF_DIR/kvm-ifdown-custom"
    chmod 0755 "$CONF_DIR"/kvm-if*-custom
}

books() {
    (cd "$TEST_DIR/books" && grep -r . | sort | xargs)
}

calls() { # since the last time
    cat "$TEST_DIR/calls"
    rm "$TEST_DIR/calls"
}

readonly_conf() {
    mount --bind "$RUN_DIR/conf" "$RUN_DIR/conf"
    mount -o remount,bind,ro "$RUN_DIR/conf"
}

@test "the wait for the lock takes nothing of the time" {
    local waiting
    pretend "deleted never"
    "$BUILD/kvm-hotplug" web1 del-disk "$ONE" --timeout 2 2>"$TEST_DIR/said" 3>&- &
    waiting=$!
    wait_until 10 grep -q device_del "$TEST_DIR/commands"
    hotplug 0 set-io "$TWO" iops=5 --timeout 1 --wait-lock 30
    wait "$waiting" || true
}

@test "a record that can't be written: nothing was changed in QEMU, whatever the action" {
    network br0
    pretend
    hotplug 0 add-nic mode=routed ip=10.7.0.2 uuid="$NEW"
    cp "$TEST_DIR/state" "$TEST_DIR/state.before"
    cp "$RUN_DIR/conf/web1.runtime" "$TEST_DIR/runtime"
    readonly_conf
    hotplug 1 set-io "$ONE" iops=5
    expect_unchanged
    hotplug 1 resize-disk "$ONE" +1
    expect_unchanged
    hotplug 1 set-memory 32
    hotplug 1 set-link "$NEW" down
    hotplug 1 del-disk "$ONE"
    hotplug 1 add-disk path="$(disk new 1)"
    hotplug 1 mod-nic "$NEW" ip=10.7.0.3
    hotplug 1 mod-nic "$NEW" mac=aa:00:00:00:00:09
    expect_unchanged
}

@test "ifup, ifdown and the tap file have one number of a NIC, also after others were removed" {
    local first=a1111111-2573-4112-8b0a-000000000001 second=b1111111-2573-4112-8b0a-000000000002
    network
    keep_books
    pretend
    hotplug 0 add-nic uuid="$first" link=x
    hotplug 0 add-nic uuid="$second" link=x
    hotplug 0 del-nic "$first"
    hotplug 0 add-nic uuid="$NEW" link=x
    expect_equal "$(calls)" $'up kvma1111111 0 x\nup kvmb1111111 1 x\ndown kvma1111111 0 x\nup kvm44444444 0 x'
    expect_equal "$(cat "$RUN_DIR/nic/web1/0")" kvm44444444
    hotplug 0 mod-nic "$NEW" link=y
    hotplug 0 mod-nic "$second" link=y
    hotplug 0 del-nic "$NEW"
    expect_equal "$(calls)" $'down kvm44444444 0 x\nup kvm44444444 0 y\ndown kvmb1111111 1 x\nup kvmb1111111 1 y\ndown kvm44444444 0 y'
}

@test "mod-nic with another MAC keeps the NIC's place among the others" {
    local first=a1111111-2573-4112-8b0a-000000000001 nics
    network
    keep_books
    pretend
    hotplug 0 add-nic uuid="$first" link=x
    hotplug 0 add-nic uuid="$NEW" link=x
    hotplug 0 mod-nic 0 mac=aa:00:00:00:00:09 --json
    expect_json '.[0].index == 0'
    nics=$(jq -c '[.[1][] | .uuid, .mac]' "$RUN_DIR/conf/web1.runtime")
    [[ $nics == "[\"$first\",\"aa:00:00:00:00:09\",\"$NEW\","* ]] || fail "NICs: $nics"
}

# Kills the command when it has come to its N-th script.
kill_at() { # N, then the action
    local number=$1
    shift
    : >"$TEST_DIR/calls"
    sed -i "2a [ \$(wc -l <$TEST_DIR/calls) != $number ] || { kill -KILL \$PPID; exit 1; }" "$CONF_DIR"/kvm-if*-custom
    hotplug 137 "$@"
    sed -i 3d "$CONF_DIR"/kvm-if*-custom
}

@test "mod-nic killed between the old set-up and the new one: the next command sets the NIC up" {
    network
    keep_books
    pretend
    hotplug 0 add-nic uuid="$NEW" link=x
    kill_at 1 mod-nic "$NEW" link=y
    hotplug 0 list --json
    expect_json '.[0].nics[0].state == "changing"'
    hotplug 0 set-io "$ONE" iops=5
    expect_error "NIC $NEW: an interrupted change was finished or undone"
    expect_equal "$(books)" kvm44444444:x
    hotplug 0 list --json
    expect_json '.[0].nics[0] | .state == "present" and .link == "x"'
    kill_at 2 mod-nic "$NEW" link=y
    expect_equal "$(books)" ""
    hotplug 0 mod-nic "$NEW" link=z
    expect_equal "$(books)" kvm44444444:z
    kill_at 2 mod-nic "$NEW" link=y
    hotplug 0 set-io "$ONE" iops=6
    expect_equal "$(books)" kvm44444444:y
    expect_equal "$(jq -c '.[4].devices' "$RUN_DIR/conf/web1.runtime")" "{}"
}

@test "an interrupted change of a NIC that can't be finished: a warning, and another set-up mends it" {
    network
    keep_books '[ "$LINK" != bad ] || exit 7'
    pretend
    hotplug 0 add-nic uuid="$NEW" link=x
    kill_at 2 mod-nic "$NEW" link=bad
    hotplug 0 set-io "$ONE" iops=5
    expect_error "ended with exit status 7; the next command tries again, or 'kvm-hotplug web1 mod-nic $NEW' gives it another set-up"
    hotplug 0 mod-nic "$NEW" link=y
    expect_equal "$(books)" kvm44444444:y
    hotplug 0 set-io "$ONE" iops=6
    expect_no_error "interrupted"
}

@test "an interrupted change whose set-up hangs takes a part of the time of the next command only" {
    network
    keep_books 'case $LINK in hangs) sleep 20;; esac'
    pretend
    hotplug 0 add-nic uuid="$NEW" link=x
    kill_at 2 mod-nic "$NEW" link=hangs
    hotplug 0 set-io "$ONE" iops=5 --timeout 4
    expect_error "an interrupted change could not be finished: "
    hotplug 0 mod-nic "$NEW" link=y --timeout 4
    expect_equal "$(books)" kvm44444444:y
}

@test "mod-nic whose new set-up hangs or fails: the old one is up again, in the time that was kept" {
    local words
    network
    keep_books 'case $LINK in hangs) sleep 20;; fails) exit 7;; esac'
    pretend
    hotplug 0 add-nic uuid="$NEW" link=x
    cp "$RUN_DIR/conf/web1.runtime" "$TEST_DIR/runtime"
    for words in fails hangs; do
        hotplug 1 mod-nic "$NEW" link="$words" --timeout 2
        expect_equal "$(books)" kvm44444444:x
        cmp "$TEST_DIR/runtime" "$RUN_DIR/conf/web1.runtime"
    done
}

expect_plugged() { # UUID MAC SLOT: as the first of two NICs
    expect_equal "$(jq -c '.[1] | length, (.[0] | .uuid, .mac, .hvinfo.addr)' "$RUN_DIR/conf/web1.runtime" | xargs)" "2 $1 $2 $3"
    expect_equal "$(jq -c '.[4].devices' "$RUN_DIR/conf/web1.runtime")" "{}"
    expect_equal "$(books | wc -w)" 2
}

@test "mod-nic with another MAC killed while the NIC is away: the same command plugs it, any other one tells how" {
    local first=a1111111-2573-4112-8b0a-000000000001
    network
    keep_books
    pretend
    hotplug 0 add-nic uuid="$first" link=x slot=9
    hotplug 0 add-nic uuid="$NEW" link=x
    kill_at 1 mod-nic "$first" mac=aa:00:00:00:00:09
    hotplug 5 mod-nic "$first" mode=nonsense
    expect_error "must be one of bridged"
    jq -e '.nicparams.mode == "bridged"' <<<"${errors##*this object: }"
    hotplug 0 mod-nic "$first" mac=aa:00:00:00:00:09
    expect_plugged "$first" aa:00:00:00:00:09 0x9
    kill_at 2 mod-nic 0 mac=aa:00:00:00:00:0a
    hotplug 0 mod-nic 0 mac=aa:00:00:00:00:0a
    expect_plugged "$first" aa:00:00:00:00:0a 0x9
    kill_at 1 mod-nic 0 mac=aa:00:00:00:00:0b
    hotplug 0 del-nic "$first"
    hotplug 2 mod-nic "$first" mac=aa:00:00:00:00:0b
    hotplug 0 add-nic uuid="$first" link=x slot=9
    kill_at 2 mod-nic 1 mac=aa:00:00:00:00:0b
    hotplug 0 set-io "$ONE" iops=5
    expect_error "it was to be plugged again"
    sed -n 's/.*with this object: //p' <<<"$errors" >"$TEST_DIR/object"
    # shellcheck disable=SC2119
    suite kvm-hotplug web1 add-nic - <"$TEST_DIR/object"
    expect_status 0
    expect_equal "$(jq -c '.[1][1] | .mac, .hvinfo.addr' "$RUN_DIR/conf/web1.runtime" | xargs)" "aa:00:00:00:00:0b 0x9"
}

@test "mod-nic with another MAC that fails before it plugs: the record of what is to be plugged stays" {
    local place
    network
    keep_books
    pretend
    hotplug 0 add-nic uuid="$NEW" link=x slot=9
    hotplug 0 mod-nic "$NEW" mac=aa:00:00:00:00:09
    place=$(jq -s '(map(select(.execute == "netdev_del"))[0].n) as $gone | map(select(.execute == "query-pci" and .n > $gone))[0].n' \
        "$TEST_DIR/commands")
    hotplug 0 del-nic "$NEW"
    pretend "close $place"
    hotplug 0 add-nic uuid="$NEW" link=x slot=9
    hotplug 5 mod-nic "$NEW" mac=aa:00:00:00:00:09
    expect_error "plug it with 'kvm-hotplug web1 add-nic -' and this object: "
    expect_equal "$(jq -r '.[4].devices[] | .state, .again.mac' "$RUN_DIR/conf/web1.runtime" | xargs)" "removing aa:00:00:00:00:09"
    hotplug 0 mod-nic "$NEW" mac=aa:00:00:00:00:09
    expect_equal "$(jq -c '.[1][0] | .mac, .hvinfo.addr' "$RUN_DIR/conf/web1.runtime" | xargs)" "aa:00:00:00:00:09 0x9"
    expect_equal "$(jq -c '.[4].devices' "$RUN_DIR/conf/web1.runtime")" "{}"
}

@test "a NIC that was to be plugged again with another MAC is there after a reboot" {
    local place=".[1][0].hvinfo | .id, .addr" before
    network
    keep_books
    suite kvm-start "$(empty_definition web1 ".nics = [{uuid: \"$NEW\", mac: \"aa:00:00:00:00:01\", nicparams: {link: \"x\"}}]")"
    expect_status 0
    before=$(jq -c "$place" "$RUN_DIR/conf/web1.runtime")
    jq --arg uuid "$NEW" '.[4].devices[$uuid] = {state: "removing", again: (.[1][0] | del(.hvinfo) | .mac = "aa:00:00:00:00:09" | .slot = 9)}' \
        "$RUN_DIR/conf/web1.runtime" >"$TEST_DIR/runtime"
    cat "$TEST_DIR/runtime" >"$RUN_DIR/conf/web1.runtime"
    suite kvm-stop --reboot --force web1
    expect_status 0
    expect_equal "$(jq -r '.[1][].mac' "$RUN_DIR/conf/web1.runtime")" aa:00:00:00:00:09
    expect_equal "$(jq -c "$place" "$RUN_DIR/conf/web1.runtime")" "$before"
    expect_equal "$(jq -c '.[4].devices' "$RUN_DIR/conf/web1.runtime")" "{}"
}

# One that never ends is given up: hotplug-faults.bats.
@test "an object that is long in coming is waited for" {
    pretend
    (sleep 0.3; echo "{\"path\": \"$(disk new 1)\"}") | "$BUILD/kvm-hotplug" web1 add-disk - >"$TEST_DIR/said" 2>&1 ||
        fail "$(cat "$TEST_DIR/said")"
}

@test "limits that QEMU would refuse, and words that have no place, are told before anything is done" {
    local words path
    network
    keep_books
    pretend
    path=$(disk new 1)
    hotplug 0 add-nic uuid="$NEW" link=x
    cp "$TEST_DIR/state" "$TEST_DIR/state.before"
    cp "$RUN_DIR/conf/web1.runtime" "$TEST_DIR/runtime"
    for words in "iops=5 iops_rd=3" "bps_wr=1 bps=1" iops=9223372036854775807; do
        # shellcheck disable=SC2086
        hotplug 2 add-disk path="$path" $words
    done
    for words in '{"path": "PATH", "iops": "5"}' '{"path": "PATH", "hvinfo": {"driver": "virtio-blk-pci", "id": "balloon"}}'; do
        hotplug 2 add-disk - <<<"${words/PATH/$path}"
    done
    hotplug 2 mod-nic 0 - <<<'{"nicparams": 5}'
    hotplug 2 mod-nic 0 - <<<'{"hvinfo": {"id": "other"}}'
    expect_unchanged
}

@test "a migration in a state that only a newer QEMU has is one that is in progress" {
    pretend 'return query-migrate {"status": "postcopy-device"}'
    hotplug 3 add-disk path="$(disk new 1)"
    expect_error "a migration is in progress (in a way that is not known here)"
    expect_unchanged
}
