#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# kvm-migrate --copy-disks with a real guest that writes its disk all the time, between two network namespaces. Both nodes
# see one file system here, so the copies get another place: there/.
# bats file_tags=guest

load helper
load hotplug
load migrate

MILD=(--bandwidth 48)

# The first part is the guest's to write, the rest is random and must arrive as it is.
filled_disk() { # NAME MIB
    local image
    image=$(disk "$1" "$2")
    dd if=/dev/urandom of="$image" bs=1M seek=5 count=3 conv=notrunc status=none
    echo "$image"
}

copy_nodes() { # a|b: block nodes, jobs and exports of copies that QEMU has
    on "$1" qmp web1 query-named-block-nodes '{"flat": true}' | jq -r '.[]."node-name" | select(startswith("kvm-copy"))'
    on "$1" qmp web1 query-block-jobs | jq -r '.[].device'
    on "$1" qmp web1 query-block-exports | jq -r '.[].id'
}

writes_on() { # DEVICE: what the guest's endless writer wrote is there, whole
    guest_run web1 "killall gt; sync; gt dr $1 1024" >"$TEST_DIR/read"
    cat "$TEST_DIR/read"
    grep -q 'max=[1-9][0-9]* bad=0 torn=0' "$TEST_DIR/read"
}

# A second writer counts from 1 again: nothing of the first may be left.
writes_anew() { # DEVICE
    guest_run web1 "dd if=/dev/zero of=$1 bs=4096 count=1024 2>/dev/null; sync; gt dw $1 1024 2000 >/dw.out 2>&1 &"
}

disks_travel() {
    local first second left
    two_nodes
    mkdir "$TEST_DIR/there" "$TEST_DIR/back"
    first=$(filled_disk first 64)
    qemu-img create -q -f qcow2 "$TEST_DIR/second.qcow2" 16M
    second=$TEST_DIR/second.qcow2
    watch_runs
    start web1 ".disks = [{path: \"$first\", name: \"first\"}, {path: \"$second\", name: \"second\", format: \"qcow2\"}]"
    mark
    guest_run web1 'yes sequence | dd of=/dev/vdb bs=4096 count=512 2>/dev/null; sync'
    guest_run web1 'gt dw /dev/vda 1024 2000 >/dw.out 2>&1 &'
    migrate a to "${MILD[@]}" --copy-disks --disk-path "first=$TEST_DIR/there/first.img" \
        --disk-path "second=$TEST_DIR/there/second.qcow2" --json
    expect_status 0
    expect_json ".[0].left == [\"$first\", \"$second\"] and (.[0].disks | length) == 2"
    left=$(sha256sum "$first" "$second")
    expect_runs_on b
    expect_equal "$(copy_nodes b)" ""
    expect_equal "$(jq -c '.[3][0][0] | [.dev_type, .logical_id]' "$TEST_DIR/b/conf/web1.runtime")" "[\"file\",[\"loop\",\"$TEST_DIR/there/first.img\"]]"
    expect_equal "$(jq -r '.[3][0][1], .[4].instance.disks[0].path' "$TEST_DIR/b/conf/web1.runtime" | sort -u)" "$TEST_DIR/there/first.img"
    cmp <(tail -c +5242881 "$first") <(tail -c +5242881 "$TEST_DIR/there/first.img")
    [[ $(stat -c %b "$TEST_DIR/there/first.img") -lt 65536 ]] || fail "the holes of the disk were filled"
    expect_equal "$(stat -c %a "$TEST_DIR/there/first.img")" 600
    kept on b expect_mark || return 0
    kept on b writes_on /dev/vda || return 0
    expect_equal "$(on b guest_run web1 'dd if=/dev/vdb bs=4096 count=512 2>/dev/null | sort -u | head -n 1')" sequence
    on b writes_anew /dev/vda
    migrate b to "${MILD[@]}" --copy-disks --plain-tcp --disk-path "first=$TEST_DIR/back/first.img" \
        --disk-path "second=$TEST_DIR/back/second.qcow2"
    expect_status 0
    expect_output "left on "
    expect_runs_on a
    expect_no_double_run
    expect_equal "$(sha256sum "$first" "$second")" "$left"
    qemu-img check -q -U "$TEST_DIR/back/second.qcow2"
    qemu-img compare -q "$second" "$TEST_DIR/there/second.qcow2"
    kept expect_mark || return 0
    kept writes_on /dev/vda || return 0
}

@test "disks travel with a guest that writes them, and back: raw and qcow2, holes stay holes" {
    under_load disks_travel
}

link_is_cut() {
    local image
    two_nodes
    mkdir "$TEST_DIR/there"
    image=$(filled_disk first 8)
    start web1 ".disks = [{path: \"$image\", cache: \"none\"}]"
    mark
    guest_run web1 'gt dw /dev/vda 1024 2000 >/dw.out 2>&1 &'
    migrate_behind a to --bandwidth 1 --copy-disks --disk-path "0=$TEST_DIR/there/first.img"
    wait_until 30 bash -c "'$TESTS/bats/qmp' '$TEST_DIR/a/ctrl/web1.query' query-block-jobs | grep -q running"
    ip -n "$(namespace_of_node b)" link set "$(link_of b)" down
    migrate_end
    expect_status 1
    expect_error "the guest runs here as before"
    expect_runs_on a
    expect_mark
    expect_equal "$(copy_nodes a)" ""
    expect_equal "$(find "$TEST_DIR/there" -type f)" ""
    writes_on /dev/vda
    ip -n "$(namespace_of_node b)" link set "$(link_of b)" up
    writes_anew /dev/vda
    migrate a to "${MILD[@]}" --copy-disks --disk-path "0=$TEST_DIR/there/first.img"
    expect_status 0
    expect_runs_on b
    kept on b writes_on /dev/vda || return 0
}

@test "the link is cut while the guest writes a disk that is copied: it stays, and its disk is whole" {
    under_load link_is_cut
}

# ---- confined, and with certificates ----

copies_confined() { # JQ
    local image there
    image=$(filled_disk confined 8)
    there=$TEST_DIR/there/confined.img
    rm -f "$there"
    chmod 0600 "$image"
    suite kvm-start "$(empty_definition web1 ".disks = [{path: \"$image\"}] | $1")"
    expect_status 0
    migrate a to --copy-disks --disk-path "0=$there"
    expect_status 0
    expect_runs_on b
    cmp "$image" "$there"
    expect_equal "$(copy_nodes b)" ""
    on b suite kvm-stop web1 --force
    expect_status 0
}

@test "a disk travels to and from a QEMU that is another user, of the pool, or in a chroot" {
    two_nodes
    mkdir -m 0700 "$TEST_DIR/there"
    echo '{"uid_pool": "64100-64101"}' | tee "$TEST_DIR/conf-a/kvm-defaults.json" >"$TEST_DIR/conf-b/kvm-defaults.json"
    copies_confined '.hvparams.security_model = "user" | .hvparams.security_domain = "nobody"'
    copies_confined '.hvparams.security_model = "pool"'
    copies_confined '.hvparams.use_chroot = true | .hvparams.security_model = "user" | .hvparams.security_domain = "nobody"'
}
