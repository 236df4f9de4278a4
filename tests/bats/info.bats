#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# kvm-info on real QEMU: right answers, at once, whoever holds the instance, and not a byte written.

load helper

# ---- small words of this file ----

start_paused() { # FILE…
    suite kvm-start --paused "$@"
    expect_status 0
}

start() { # FILE…
    suite kvm-start "$@"
    expect_status 0
}

tree() {
    find "$RUN_DIR" -printf '%p %i %m %s %T@ %C@\n' | sort
}

valid_json() {
    python3 -c 'import json, sys; json.load(sys.stdin)' <<<"$output"
}

row() { # NAME: its line of the list, blanks squeezed
    grep "^$1 " <<<"$output" | tr -s ' '
}

# ---- list ----

@test "the list: running, paused, dead, and what is not there at all" {
    suite kvm-info
    expect_status 0
    expect_output ""
    suite kvm-info --json
    expect_status 0
    expect_json '. == []'
    start "$(empty_definition run '.beparams = {memory: 40, vcpus: 2}')"
    start_paused "$(empty_definition wait)" "$(empty_definition dead)"
    pid=$(qemu_pid dead)
    kill -KILL "$pid"
    wait_until 10 process_is_gone "$pid"
    suite kvm-info
    expect_status 0
    expect_equal "$(head -n 1 <<<"$output" | tr -s ' ')" "NAME STATE PID MEMORY VCPUS SINCE"
    [[ $(row run) == "run running $(qemu_pid run) 40 MiB 2 20"* ]]
    [[ $(row wait) == "wait paused $(qemu_pid wait) 32 MiB 1 20"* ]]
    [[ $(row dead) == "dead stopped (killed) - 32 MiB 1 -"* ]]
    suite kvm-info --json
    valid_json
    expect_json 'map(.instance) == ["dead", "run", "wait"] and map(.state) == ["stopped", "running", "paused"]'
    expect_json "(now - .[1].since) >= -2 and (now - .[1].since) < 120"
    suite kvm-info run wait
    expect_status 0
    suite kvm-info run dead
    expect_status 3
    suite kvm-info absent
    expect_status 3
    expect_output "absent: nothing of it is here"
}

@test "the state follows what happens to the guest" {
    start "$(empty_definition web1)"
    qmp web1 stop
    suite kvm-info --json web1
    expect_json '.[0] | .state == "paused" and .status == "paused"'
    qmp web1 cont
    suite kvm-info --json web1
    expect_json '.[0] | .state == "running" and .status == "running"'
    suite kvm-stop --force web1
    suite kvm-info web1
    expect_status 3
}

# ---- one instance ----

@test "in detail: devices where QEMU has them, for people and as JSON" {
    network br0
    one=$(disk one 4)
    start_paused "$(empty_definition web1 ".disks = [{name: \"root\", path: \"$one\", mode: \"ro\"}] | .nics = [{mac: \"aa:00:00:01:02:03\", nicparams: {link: \"br0\"}}]
        | .network_port = 5999 | .hvparams.vnc_bind_address = \"127.0.0.1\"")"
    suite kvm-info web1
    expect_status 0
    expect_output "web1: paused (pid $(qemu_pid web1))"
    expect_output "$one"
    expect_output "read-only"
    expect_output "aa:00:00:01:02:03, bridged br0, tap $(taps)"
    expect_output "127.0.0.1:5999"
    suite kvm-info --json web1
    valid_json
    expect_json '.[0].qemu.major >= 4 and .[0].memory_actual_mib == 32'
    expect_json '.[0].runtime | length == 4 and .[0][1] == "-name" and (.[3][0][0].hvinfo.addr | startswith("0x"))'
    # A slot told is the slot QEMU has.
    for id in $(jq -r '.[0] | (.disks + .nics)[].id' <<<"$output"); do
        slot=$(jq --arg id "$id" '.[0] | (.disks + .nics)[] | select(.id == $id).slot' <<<"$output")
        expect_equal "$(qmp web1 query-pci | jq --arg id "$id" '.[0].devices[] | select(.qdev_id == $id).slot')" "$slot"
    done
}

@test "--slots is what QEMU has: reserved, ours, foreign, free" {
    network br0
    one=$(disk one 4)
    start_paused "$(empty_definition web1 ".disks = [{path: \"$one\"}] | .nics = [{nicparams: {link: \"br0\"}}]")"
    qmp web1 device_add '{"driver": "virtio-rng-pci", "id": "stranger", "bus": "pci.0", "addr": "0x1d"}'
    suite kvm-info --slots web1
    expect_status 0
    expect_equal "$(wc -l <<<"$output")" 33
    suite kvm-info --slots --json web1
    expect_status 0
    valid_json
    expect_json 'map(.slot) == [range(32)]'
    expect_json '.[29].use == "foreign" and .[30].use == "free" and .[0].use == "reserved"'
    expect_equal "$(jq -c '[.[] | select(.use != "free").slot]' <<<"$output")" "$(qmp web1 query-pci | jq -c '[.[0].devices[].slot] | unique')"
    expect_equal "$(jq '[.[] | select(.use == "ours")] | length >= 2' <<<"$output")" true
}

@test "--events shows what QEMU and the suite logged, in order, and stands damage" {
    start "$(empty_definition web1)"
    suite kvm-stop --reset web1
    wait_until 10 grep -q '"RESET"' "$RUN_DIR/events/web1.jsonl"
    suite kvm-info --events web1
    expect_status 0
    for event in KVM_SUITE_START RESUME KVM_SUITE_ACTION RESET; do expect_output "$event"; done
    suite kvm-info --events --json web1
    expect_json 'map(.event) | index("KVM_SUITE_START") < index("RESUME") and index("RESUME") < index("RESET")'
    printf '{"event": "TORN\n\001\002garbage\n' >>"$RUN_DIR/events/web1.jsonl"
    suite kvm-info --events --json web1
    expect_status 0
    valid_json
    expect_error "lines of the event log can't be read"
}

# bats test_tags=guest
@test "--console prints a command that opens the serial console" {
    start "$(definition web1)"
    guest_run web1 true
    suite kvm-info --console web1
    expect_status 0
    # Typed on a terminal, as an operator would; Ctrl-] leaves.
    python3 - "$output" <<'EOF' 3>&-
import os, pty, select, sys, time
pid, terminal = pty.fork()
if pid == 0:
    os.execvp("sh", ["sh", "-c", "exec " + sys.argv[1]])
seen, end, asked = b"", time.time() + 30, 0
while b"42" not in seen:
    assert time.time() < end, seen
    if time.time() - asked > 2:
        asked = time.time()
        os.write(terminal, b"echo $((6 * 7))\n")
    if select.select([terminal], [], [], 0.2)[0]:
        seen += os.read(terminal, 1000)
os.write(terminal, b"\x1d")
assert os.waitpid(pid, 0)[1] == 0
EOF
    start "$(empty_definition quiet '.hvparams.serial_console = false')"
    suite kvm-info --console quiet
    expect_status 3
    expect_error "no serial console"
}

@test "views of what does not run: slots and console say so, events still tell" {
    start "$(empty_definition web1)"
    pid=$(qemu_pid web1)
    kill -TERM "$pid"
    wait_until 10 process_is_gone "$pid"
    suite kvm-info --slots web1
    [[ $status -eq 0 || $status -eq 3 ]]
    suite kvm-info --console web1
    expect_status 3
    suite kvm-info --events web1
    expect_status 0
    expect_output "SHUTDOWN"
    suite kvm-info --json web1
    expect_status 3
    expect_json '.[0] | .ending == "signal" and (.runtime | length) == 4'
    for view in slots events console; do
        suite kvm-info --$view absent
        expect_status 3
    done
}

# ---- at once, whoever holds it ----

@test "while kvm-stop waits and holds the lock, everything is answered, and who is busy" {
    start "$(empty_definition web1)"
    "$BUILD/kvm-stop" --timeout 60 --kill-after 8 web1 >"$TEST_DIR/first" 2>&1 3>&- &
    first=$!
    wait_until 10 grep -q '"powerdown"' "$RUN_DIR/events/web1.jsonl"
    began=$(date +%s%N)
    suite kvm-info web1
    expect_status 0
    expect_output "busy       kvm-stop pid $first by root since"
    suite kvm-info
    expect_output "busy: kvm-stop pid $first by root since"
    suite kvm-info --json web1
    expect_json '.[0].status == "running"'
    suite kvm-info --slots web1
    expect_status 0
    [[ $((($(date +%s%N) - began) / 1000000)) -lt 3000 ]]
    expect_failure process_is_gone "$first"
    kill "$first"
    wait "$first" || true
    suite kvm-info web1
    expect_no_output "busy"
}

@test "a QEMU that hangs is told within the time, and the list does not wait for it" {
    start "$(empty_definition web1)"
    start "$(empty_definition well)"
    pid=$(qemu_pid web1)
    kill -STOP "$pid"
    began=${EPOCHREALTIME/./}
    suite kvm-info --timeout 0.2 web1 # without it two seconds
    expect_status 0
    expect_output "web1: running (pid $pid)"
    expect_output "fault"
    [[ $((${EPOCHREALTIME/./} - began)) -lt 1900000 ]]
    began=$(date +%s%N)
    suite kvm-info
    expect_status 0
    [[ $((($(date +%s%N) - began) / 1000000)) -lt 1900 ]]
    suite kvm-info --timeout 1 --slots web1
    [[ $status -ne 0 ]]
    suite kvm-info --timeout 1 --json web1 well
    valid_json
    expect_json '.[1].status == "running"'
    kill -CONT "$pid"
    suite kvm-info --json web1
    expect_json '.[0].status == "running"'
}

@test "a query monitor taken by another client costs its time only" {
    start "$(empty_definition web1)"
    python3 -c '
import socket, sys, time
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.recv(100); open(sys.argv[2], "w").close(); time.sleep(60)' \
        "$RUN_DIR/ctrl/web1.query" "$TEST_DIR/taken" 3>&- &
    other=$!
    wait_until 10 test -e "$TEST_DIR/taken"
    suite kvm-info --timeout 1 web1
    expect_status 0
    expect_output "fault"
    suite kvm-stop --force web1
    expect_status 0
    kill "$other" || true
}

@test "no look writes anything, nor makes a run directory" {
    suite kvm-info
    suite kvm-info web1
    [[ ! -e $RUN_DIR ]]
    network br0
    start "$(empty_definition web1 '.nics = [{nicparams: {link: "br0"}}]')"
    start_paused "$(empty_definition dead)"
    pid=$(qemu_pid dead)
    kill -KILL "$pid"
    wait_until 10 process_is_gone "$pid"
    before=$(tree)
    for words in "" "--json" "web1" "dead" "web1 --json" "dead --json" "absent" "web1 --slots" "dead --slots" "web1 --events" "dead --events" "web1 --console" "absent --slots"; do
        # shellcheck disable=SC2086
        suite kvm-info $words
        expect_equal "$(tree)" "$before"
    done
}

@test "names with nothing strange reach the terminal: control characters of a log are escaped" {
    start "$(empty_definition web1)"
    printf '{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "EVIL\\u001b[2J\\u0007"}\n' >>"$RUN_DIR/events/web1.jsonl"
    suite kvm-info --events web1
    expect_output "EVIL"
    expect_failure grep -q $'\033' <<<"$output"
}

@test "what goes together and what does not" {
    start_paused "$(empty_definition a)" "$(empty_definition b)"
    suite kvm-info --slots --events a
    expect_status 2
    suite kvm-info --slots a b
    expect_status 2
    suite kvm-info --console
    expect_status 2
    suite kvm-info ../etc
    expect_status 2
    expect_error "instance name"
}

@test "without /proc it is told that nothing can be known, and nothing is done" {
    local words said
    suite kvm-start --paused "$(empty_definition web1)"
    expect_status 0
    for words in "kvm-stop --force web1" "kvm-cleanup web1" "kvm-start $TEST_DIR/web1.json"; do
        status=0
        said=$(unshare -m sh -c "mount -t tmpfs none /proc && exec $BUILD/$words" 2>&1 3>&-) || status=$?
        expect_status 1
        [[ $said == *"$RUN_DIR/pid/web1 is locked, but /proc can't be read"* ]] || fail "$said"
    done
    qemu_lives web1
}

@test "the medium of each drive and the backend of each disk are shown" {
    printf 'x%.0s' {1..4096} >"$TEST_DIR/a.iso"
    start_paused "$(empty_definition web1 ".disks = [{path: \"$(disk root 1)\"}] |
        .hvparams.cdrom_image_path = \"$TEST_DIR/a.iso\" | .hvparams.cdrom2_image_path = \"$TEST_DIR/a.iso\"")"
    suite kvm-info web1
    expect_output "  cdrom      $TEST_DIR/a.iso"
    expect_output "  cdrom2     $TEST_DIR/a.iso"
    suite kvm-hotplug web1 change-cdrom eject
    expect_status 0
    suite kvm-info web1
    expect_output "  cdrom      empty (ejected)"
    suite kvm-info --json web1
    expect_json '.[0].media == [{drive: "cdrom", what: "CD-ROM", medium: null},
        {drive: "cdrom2", what: "second CD-ROM", medium: ($ENV.TEST_DIR + "/a.iso")}]'
    suite kvm-hotplug web1 list
    expect_output "  cdrom      empty (ejected)"
    expect_output "  cdrom2     $TEST_DIR/a.iso"
    expect_output ", present, backend disk-"
    suite kvm-hotplug web1 list --json
    expect_json '.[0].disks[0] | .backend and .node == .id'
}
