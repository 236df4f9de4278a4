#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# kvm-migrate INSTANCE to localhost --in-place: a new QEMU under a running guest.

load helper
load hotplug
load migrate

in_place() { # ACTION ARG…
    suite kvm-migrate web1 "$1" localhost --in-place "${@:2}"
}

# What the new QEMU is: the same program under another name, as an upgrade would put it there.
new_program() {
    cat >"$CONF_DIR/kvm-defaults.json" <<END
{"hvparams": {"kvm_path": "$TEST_DIR/qemu-new"}}
END
    ln -s "$(command -v qemu-system-x86_64)" "$TEST_DIR/qemu-new"
}

expect_nothing_next() {
    local left
    left=$(find "$RUN_DIR/next" ! -type d ! -path '*/lock/*' ! -path '*/cache/*' 2>/dev/null)
    [[ -z $left ]] || fail "left in next: $left"
}

# Its own pid, monitors and record: everything works on it as before.
expect_whole() {
    expect_nothing_next
    expect_equal "$(qmp web1 query-status | jq -r .status)" running
    suite kvm-info web1
    expect_status 0
    suite kvm-hotplug web1 check
    expect_status 0
    expect_equal "$(jq -r '.[4].migration.phase // "none"' "$RUN_DIR/conf/web1.runtime")" none
}

empty() { # [JQ]
    network br0
    suite kvm-start "$(empty_definition web1 "${1:-.}")"
    expect_status 0
}

# A migration that goes on until it is ended: of full memory at one MiB a second.
copying() {
    [[ $(qmp web1 query-migrate | jq -r .status) == active ]]
}

behind() { # the command in the background, copying; $tool is its pid
    setsid ip netns exec "$NETNS" "$BUILD/kvm-migrate" web1 to localhost --in-place --bandwidth 1 \
        >"$TEST_DIR/stdout" 2>"$TEST_DIR/stderr" </dev/null 3>&- &
    tool=$!
    wait_until 30 copying
}

next_qemu() {
    cat "$RUN_DIR/next/pid/web1"
}

lives_on() { # MACHINE
    local image pid tap
    network br0
    address_bridge br0
    image=$(disk web1 8)
    start web1 ".hvparams.machine_version = \"$1\" | .disks = [{path: \"$image\"}] | .nics = [{nicparams: {link: \"br0\"}}]"
    use_nic web1 eth0
    use_disk web1 vda "$image"
    mark
    new_program
    watch_runs "$RUN_DIR" "$RUN_DIR/next"
    pid=$(qemu_pid web1)
    tap=$(taps)
    in_place check
    expect_status 0
    in_place to -v
    expect_status 0
    expect_output "runs in QEMU 7."
    expect_output "$TEST_DIR/qemu-new"
    [[ $(qemu_pid web1) != "$pid" ]] || fail "it is the same process"
    process_is_gone "$pid" || fail "the old QEMU lives"
    expect_equal "$(taps)" "$tap"
    expect_equal "$(bridge_of "$tap")" br0
    expect_mark
    guest_run web1 "ping -c 1 -W 5 10.7.0.1 >/dev/null"

    use_disk web1 vda "$image"
    expect_whole
    expect_no_double_run
}

# bats test_tags=guest
@test "in place on pc: memory, NIC and disk go on in a new QEMU, twice, and it is hot-plugged and stopped as before" {
    lives_on pc
    in_place to
    expect_status 0
    expect_mark
    guest_run web1 "ping -c 1 -W 5 10.7.0.1 >/dev/null"
    expect_whole
    hotplug web1 add-nic link=br0
    hotplug web1 del-nic 1
    suite kvm-stop web1
    expect_status 0
    expect_nothing_left web1
    expect_nothing_next
}

# bats test_tags=guest
@test "in place on q35, after a rehearsal that leaves the guest's network as it was" {
    network br0
    address_bridge br0
    start web1 '.hvparams.machine_version = "q35" | .nics = [{nicparams: {link: "br0"}}]'
    use_nic web1 eth0
    mark
    watch_runs "$RUN_DIR" "$RUN_DIR/next"
    in_place rehearse
    expect_status 0
    expect_nothing_next
    guest_run web1 "ping -c 1 -W 5 10.7.0.1 >/dev/null"
    in_place to
    expect_status 0
    expect_mark
    guest_run web1 "ping -c 1 -W 5 10.7.0.1 >/dev/null"
    expect_whole
    expect_no_double_run
}

@test "in place with VNC: the new QEMU has the port and the password, the old one until then" {
    local port=$((21000 + RANDOM % 9000))
    echo secret >"$TEST_DIR/password"
    empty ".network_port = $port | .hvparams.vnc_bind_address = \"127.0.0.1\" | .hvparams.vnc_password_file = \"$TEST_DIR/password\""
    in_place rehearse
    expect_status 0
    expect_equal "$(qmp web1 query-vnc | jq -r '.enabled, .service, .auth' | xargs)" "true $port vnc"
    in_place to
    expect_status 0
    expect_equal "$(qmp web1 query-vnc | jq -r '.enabled, .service, .auth' | xargs)" "true $port vnc"
    jq -e --arg word "127.0.0.1:$((port - 5900)),password=on" '.[0] | index($word)' "$RUN_DIR/conf/web1.runtime"
    expect_equal "$(inside ss -Hltnp "sport = :$port" | grep -o 'pid=[0-9]*')" "pid=$(qemu_pid web1)"
    expect_whole
}

@test "in place as another user, from the pool, in a chroot, with a disk that only root can open" {
    local image
    image=$(disk web1 1)
    chmod 0600 "$image"
    echo '{"uid_pool": "61240-61249"}' >"$CONF_DIR/kvm-defaults.json"
    empty ".hvparams.security_model = \"pool\" | .hvparams.use_chroot = true | .disks = [{path: \"$image\"}] | .nics = [{nicparams: {link: \"br0\"}}]"
    in_place to
    expect_status 0
    expect_equal "$(stat -c %u "/proc/$(qemu_pid web1)")" 61240
    expect_equal "$(cat "$RUN_DIR/uid/web1")" 61240
    expect_equal "$(readlink "/proc/$(qemu_pid web1)/root")" "$RUN_DIR/chroot/web1"
    expect_whole
    suite kvm-stop --force web1
    expect_status 0
    expect_nothing_left web1
}

@test "what can't be done in place is refused by name, and the guest is not touched" {
    empty '.hvparams.virtio_net_queues = 2 | .beparams.vcpus = 2 | .nics = [{nicparams: {link: "br0"}}]'
    local before
    before=$(jq -c . "$RUN_DIR/conf/web1.runtime")
    in_place to
    expect_status 3
    expect_error "virtio_net_queues"
    expect_equal "$(jq -c . "$RUN_DIR/conf/web1.runtime")" "$before"
    suite kvm-migrate web1 to node2 --in-place
    expect_status 2
    suite kvm-migrate web1 to localhost --in-place --tunnel
    expect_status 2
    suite kvm-migrate web1 recover --in-place
    expect_status 2
    echo '{"hvparams": {"kvm_path": "/nonexistent"}}' >"$CONF_DIR/kvm-defaults.json"
    in_place to
    expect_status 3
    expect_error "/nonexistent"
    expect_equal "$(run_state_here)" running
}

run_state_here() {
    qmp web1 query-status | jq -r .status
}

# The new QEMU runs the guest, the old one has ended, and some files have been moved.
@test "in place, killed while the files are moved: kvm-info tells it, others refuse, recover finishes it" {
    empty '.nics = [{nicparams: {link: "br0"}}]'
    inside strace -o /dev/null -e trace=renameat -e inject=renameat:signal=KILL:when=6 \
        "$BUILD/kvm-migrate" web1 to localhost --in-place || true
    suite kvm-info
    expect_output "(migration: committed)"
    suite kvm-info web1 --json
    expect_json '.[0].migration == {side: "source", phase: "committed", in_place: true}'
    local words
    for words in "kvm-stop --force web1" "kvm-cleanup web1"; do
        # shellcheck disable=SC2086
        suite $words
        expect_status 3
        expect_error "recover"
    done
    suite kvm-migrate web1 recover
    expect_status 0
    expect_output "the guest runs in the new QEMU"
    expect_whole
}

@test "with SPICE it is refused in place, since its port can't be given to the new QEMU later" {
    network br0
    address_bridge br0 # SPICE listens only where there is an address at all
    suite kvm-start "$(empty_definition web1 ".network_port = $((21000 + RANDOM % 9000)) | .hvparams.spice_bind = \"127.0.0.1\"")"
    expect_status 0
    in_place check
    expect_status 3
    expect_error "spice_bind"
}

@test "in place, the new QEMU, its side or the command dies: the guest goes on in the old one" {
    empty '.nics = [{nicparams: {link: "br0"}}] | '"$(full_memory)"
    local pid serve
    pid=$(qemu_pid web1)
    watch_runs "$RUN_DIR" "$RUN_DIR/next"
    behind
    suite kvm-stop --force web1
    expect_status 4
    kill -KILL "$(next_qemu)"
    migrate_end
    expect_status 1
    expect_error "the guest runs here as before"
    expect_nothing_next
    behind
    serve=$(pgrep -P "$tool" -f serve)
    kill -KILL "$serve"
    migrate_end
    expect_status 5
    expect_error "'kvm-migrate web1 recover' finishes or undoes it"
    suite kvm-migrate web1 recover
    expect_status 0
    expect_nothing_next
    behind
    kill -KILL "$tool"
    wait "$tool" || true
    for words in "kvm-stop --force web1" "kvm-hotplug web1 add-nic link=br0"; do
        # shellcheck disable=SC2086
        suite $words --wait-lock 5
        expect_status 3
        expect_error "recover"
    done
    suite kvm-migrate web1 recover
    expect_status 0
    expect_nothing_next
    expect_equal "$(qemu_pid web1)" "$pid"
    expect_equal "$(run_state_here)" running
    expect_no_double_run
}

@test "in place, the old QEMU dies while copying: cleaned up only by recover, then it can be started again" {
    empty "$(full_memory)"
    behind
    kill -KILL "$(qemu_pid web1)"
    migrate_end
    [[ $status -eq 1 || $status -eq 5 ]] || fail "exit status $status"
    suite kvm-migrate web1 recover
    expect_status 0
    suite kvm-cleanup web1
    expect_status 0
    expect_nothing_left web1
    expect_nothing_next
    suite kvm-start "$TEST_DIR/web1.json"
    expect_status 0
    behind
    kill -KILL "$tool" "$(qemu_pid web1)"
    wait "$tool" || true
    wait_until 10 qemu_is_dead web1
    suite kvm-cleanup web1 --wait-lock 5
    expect_status 3
    expect_error "recover"
    suite kvm-migrate web1 recover
    expect_status 0
    suite kvm-cleanup web1
    expect_status 0
    expect_nothing_left web1
    expect_nothing_next
}

@test "in place: a directory where one of its files is to be goes to quarantine" {
    empty
    rm "$RUN_DIR/ctrl/web1.serial"
    mkdir "$RUN_DIR/ctrl/web1.serial"
    echo somebody >"$RUN_DIR/ctrl/web1.serial/kept"
    in_place to
    expect_status 0
    expect_error "$RUN_DIR/ctrl/web1.serial was a directory: moved to"
    [[ -S $RUN_DIR/ctrl/web1.serial ]]
    expect_equal "$(cat "$RUN_DIR"/chroot-quarantine/web1-odd-*/kept)" somebody
    expect_whole
}
