#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# What kvm-migrate does not do, and how it says so; what travels besides the memory. No guest is booted.

load helper
load migrate

BRIDGED='.nics = [{nicparams: {mode: "bridged", link: "br0"}}]'

begin() { # [JQ]: web1 runs on a
    two_nodes br0
    suite kvm-start "$(empty_definition web1 "${1:-$BRIDGED}")"
    expect_status 0
}

# Refused, and nothing has changed: the guest runs here, nothing of it is there.
expect_refused() { # STATUS TEXT…
    local text
    expect_status "$1"
    for text in "${@:2}"; do
        expect_error "$text"
    done
    expect_runs_on a
}

@test "check tells everything that is wrong on the target at once" {
    local image
    image=$TEST_DIR/web1.img
    truncate -s 8M "$image"
    begin "$BRIDGED | .disks = [{path: \"$image\"}]"
    migrate a check
    expect_status 0
    expect_runs_on a
    ip -n "$(namespace_of_node b)" link delete br0
    mv "$image" "$image.away"
    migrate a check
    expect_refused 3 br0 "$image"
    migrate a to
    expect_refused 3 br0 "$image"
}

@test "check tells that an instance of this name runs there" {
    begin
    on b suite kvm-start "$(empty_definition web1)"
    migrate a check
    expect_status 3
    expect_error "runs here already"
    migrate a to
    expect_status 3
    expect_equal "$(run_state a)-$(run_state b)" running-running
}

@test "check tells that the port is in use" {
    begin
    ip netns exec "$(namespace_of_node b)" python3 -c 'import socket, signal
s = socket.socket()
s.bind(("10.9.0.2", 8102))
s.listen()
print("ready", flush=True)
signal.pause()' "$TEST_DIR/listener" >"$TEST_DIR/listening" 3>&- &
    wait_until 10 grep -q ready "$TEST_DIR/listening"
    migrate a check --port 8102
    expect_refused 3 8102
    migrate a to --port 8102
    [[ $status -eq 1 || $status -eq 3 ]] || fail "exit status $status"
    expect_error 8102
    expect_runs_on a
}

# What the target is asked for is not what runs here: told in words before anything is copied.
edited() { # STATUS JQ TEXT…
    meddle edit-accept "exec jq -c '$2'"
    migrate a to --port 0
    expect_refused "$1" "${@:3}"
}

@test "a device too many, too few or another on the target is told before anything is copied" {
    begin
    edited 3 '.runtime[1] = [] | .runtime[4].instance.nics = []' "the two sides differ, nothing was copied" "nothing on the target"
    edited 3 '(.. | objects | select(.addr? == "0x4")).addr = "0xb"' "the two sides differ, nothing was copied" "slot 4.0 here" "slot 11.0 on the target"
}

@test "a hostile request is refused" {
    begin
    edited 2 '.runtime = {}' runtime
    edited 2 '.runtime[4].instance.name = "../../etc/passwd" | .runtime[2].name = "x"' ""
    edited 3 '(.. | objects | select(has("kvm_flag"))).kvm_extra = "-chardev file,id=x,path=/etc/x"' kvm_extra
    meddle edit-accept "cat >/dev/null; head -c 6000000 /dev/zero | tr '\\0' x; echo"
    migrate a to --port 0
    expect_refused 5 "the session with the target has ended"
    meddle edit-accept "cat >/dev/null; printf '\\001\\002\\003\\n'"
    migrate a to --port 0
    expect_refused 1 "request"
}

@test "what the request names as program or log is not used" {
    begin
    meddle edit-accept "exec jq -c '(.. | objects | select(has(\"kvm_path\"))).kvm_path = \"$TEST_DIR/evil\" | .runtime[0] = [\"$TEST_DIR/evil\"]'"
    printf '#!/bin/sh\ntouch %s/ran\n' "$TEST_DIR" >"$TEST_DIR/evil"
    chmod +x "$TEST_DIR/evil"
    migrate a to --port 0
    [[ ! -e $TEST_DIR/ran ]] || fail "the received program was run"
}

# What a migration sets in QEMU, in one line.
settings() { # a|b
    on "$1" qmp web1 query-migrate-capabilities | jq -c '[.[] | select(.state) | .capability]'
    on "$1" qmp web1 query-migrate-parameters | jq -c '[."tls-creds", ."tls-hostname", ."max-bandwidth", ."downtime-limit", ."multifd-channels"]'
    on "$1" qmp web1 qom-list '{"path": "/objects"}' | jq -c '[.[].name | select(startswith("kvm-suite"))]'
}

@test "what was set in QEMU for a migration that does not begin is taken back" {
    local before
    begin
    before=$(settings a)
    # Somebody else's migration is in the way just then.
    python3 -c 'import signal, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen(1)
print("ready", flush=True)
there = listener.accept()
signal.pause()' "$TEST_DIR/other" >"$TEST_DIR/listening" 3>&- &
    local listener=$!
    wait_until 10 grep -q ready "$TEST_DIR/listening"
    meddle after-receive "$TESTS/bats/qmp $TEST_DIR/a/ctrl/web1.query migrate '{\"uri\": \"unix:$TEST_DIR/other\"}' >/dev/null"
    migrate a to --port 0 --bandwidth 7 --downtime 123
    kill "$listener"
    [[ -e $TEST_DIR/harmed ]] || fail "the harm was not done"
    expect_refused 1 "the guest runs here as before"
    expect_equal "$(settings a)" "$before"
}

@test "the remote command fails" {
    begin
    REMOTE=/nonexistent migrate a to
    expect_refused 1 /nonexistent
    REMOTE=false migrate a to
    expect_refused 1 "the session with the target has ended: the remote command's exit status is 1; nothing was changed; try the way there: false kvm-migrate --version"
    expect_no_error "nothing was changed; the guest"
    printf '#!/bin/sh\nread line\nkill -KILL $$\n' >"$TEST_DIR/dies"
    chmod +x "$TEST_DIR/dies"
    REMOTE=$TEST_DIR/dies migrate a to
    expect_refused 1 "the remote command was killed by signal 9"
    # What is no kvm-migrate is called so, with what it has said.
    REMOTE="echo Welcome to" migrate a to
    expect_refused 1 '--remote: this is not the answer of a kvm-migrate: "Welcome to kvm-migrate web1 serve"'
    printf '#!/bin/sh\necho Hello; cat >/dev/null\n' >"$TEST_DIR/greets"
    printf '#!/bin/sh\ncat\n' >"$TEST_DIR/echoes"
    chmod +x "$TEST_DIR/greets" "$TEST_DIR/echoes"
    REMOTE=$TEST_DIR/greets migrate a to
    expect_refused 1 '--remote: this is not the answer of a kvm-migrate: "Hello"'
    REMOTE=$TEST_DIR/echoes migrate a to
    expect_refused 1 '--remote: this is not the answer of a kvm-migrate: "{'
}

typed() { # TEXT WORD…: is refused as a mistake of who typed it
    suite kvm-migrate web1 "${@:2}"
    expect_status 2
    expect_error "$1"
}

@test "what is typed wrong, and a stage without a migration, is told in words that fit" {
    begin
    typed "TARGET: is empty" to ""
    typed 'TARGET: must be a host name or an address (current value: "-x y")' to -- "-x y"
    typed "to: to which TARGET?" to
    typed 'only one TARGET (one word too many: "extra")' to b extra
    typed 'takes no further word (one too many: "extra")' status extra
    typed '--timeout: "0" is not a number of seconds from 0.001' to b --timeout 0
    typed "--deadline:" to b --deadline 0
    typed "--address: is empty" to b --address ""
    local stage
    for stage in cancel commit vote abort finish; do
        suite kvm-migrate web1 "$stage"
        expect_status 3
        expect_error "$stage: no migration of it is under way here"
    done
}

@test "where nobody drives it any more, every command names recover, and recover ends it" {
    begin
    migrate_behind a to --bandwidth 1 --plain-tcp
    wait_until 30 is_copying a
    kill -KILL "$tool"
    migrate_end
    local words
    for words in "kvm-cleanup web1" "kvm-stop --force web1" "kvm-start $TEST_DIR/web1.json"; do
        # shellcheck disable=SC2086
        suite $words
        expect_status 3
        expect_error "'kvm-migrate web1 status' shows it, 'recover' finishes or undoes it"
        expect_no_error "'kvm-stop web1'"
    done
    suite kvm-migrate web1 cancel
    expect_status 0
    expect_output "cancelled, but nobody drives it: 'kvm-migrate web1 recover' here undoes the rest"
    suite kvm-migrate web1 recover --remote false
    expect_status 5
    expect_error "undone: the guest runs here, but the target does not know"
    expect_error "; 'kvm-migrate web1 recover --remote ...' again, or on 10.9.0.2: kvm-migrate web1 abort --token "
    suite kvm-migrate web1 recover --remote "$(remote_to b)"
    expect_status 0
    expect_runs_on a
}

@test "a capability that QEMU does not have is told by check, and before anything is done" {
    begin "$BRIDGED | .hvparams.migration_caps = \"xbzrle:xbzrel\""
    local action
    for action in check to; do
        migrate a "$action"
        expect_refused 3 'hvparams.migration_caps: QEMU here has no capability "xbzrel"'
        expect_no_error '"xbzrle"'
    done
}

@test "what is not known of a migration is not said: a damaged runtime file, a name that is not here" {
    begin
    suite kvm-migrate web1 status
    expect_equal "$output" "web1: no migration is under way"
    cp "$RUN_DIR/conf/web1.runtime" "$TEST_DIR/kept"
    local action damage
    for damage in damaged missing; do
        echo '{' >"$RUN_DIR/conf/web1.runtime"
        [[ $damage == damaged ]] || rm "$RUN_DIR/conf/web1.runtime"
        for action in status recover cancel; do
            suite kvm-migrate web1 "$action"
            expect_status 3
            expect_error "web1: its runtime file "
            expect_error "whether a migration of it is under way is not known; 'kvm-start --adopt web1' makes a new one"
        done
        migrate a to
        expect_status 3
        expect_error "; 'kvm-start --adopt web1' makes a new one"
    done
    cp "$TEST_DIR/kept" "$RUN_DIR/conf/web1.runtime"
    suite kvm-migrate wbe1 status
    expect_status 0
    expect_equal "$output" "wbe1: nothing of it is here; 'kvm-info' lists what is"
    suite kvm-migrate wbe1 to 10.9.0.2
    expect_status 3
    expect_error "it does not run here; 'kvm-info' lists what does"
}

@test "a paused instance stays paused" {
    two_nodes br0
    suite kvm-start --paused "$(empty_definition web1)"
    expect_status 0
    migrate a to --port 0
    expect_status 0
    expect_equal "$(on b jq -r '.[4].state' "$TEST_DIR/b/conf/web1.runtime")" paused
    expect_failure test "$(run_state b)" = running
    on a expect_nothing_left web1
    migrate b to --port 0
    expect_status 0
    expect_failure test "$(run_state a)" = running
    on b expect_nothing_left web1
}

@test "a guest that somebody has paused in QEMU stays paused, also when the migration fails" {
    begin
    qmp web1 stop
    meddle before-receive "$(kill_file "$TEST_DIR/serve-b.pid")"
    migrate a to --port 0
    expect_status 5
    on b suite kvm-migrate web1 recover
    expect_status 0
    expect_equal "$(run_state a)" paused
    REMOTE='' migrate a to --port 0
    expect_status 0
    expect_equal "$(run_state b)" paused
}

@test "a routed NIC gets its route when the guest has come, not before" {
    two_nodes
    suite kvm-start "$(empty_definition web1 '.nics = [{ip: "10.8.0.5", nicparams: {mode: "routed", link: "100"}}]')"
    expect_status 0
    meddle before-vote "ip -n $(namespace_of_node b) route show table 100 >$TEST_DIR/early"
    migrate a to --port 0
    expect_status 0
    expect_equal "$(cat "$TEST_DIR/early")" ""
    on b inside ip route show table 100 | grep -q 10.8.0.5
    expect_equal "$(on a inside ip route show table 100 2>/dev/null)" ""
}

@test "the new place of the guest is announced on the bridge" {
    begin
    ip netns exec "$(namespace_of_node b)" python3 -c 'import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x8035))
s.bind(("br0", 0))
print("ready", flush=True)
print(s.recv(64)[6:12].hex(":"), flush=True)' "$TEST_DIR/" >"$TEST_DIR/rarp" 3>&- &
    wait_until 10 grep -q ready "$TEST_DIR/rarp"
    migrate a to --port 0
    expect_status 0
    wait_until 10 grep -q "$(on b jq -r '.[1][0].mac' "$TEST_DIR/b/conf/web1.runtime")" "$TEST_DIR/rarp"
}

@test "the link is cut while copying: both ends notice, the guest stays" {
    begin
    meddle after-receive "(until '$TESTS/bats/qmp' '$TEST_DIR/a/ctrl/web1.query' query-migrate | grep -q active; do :; done
        ip -n $(namespace_of_node b) link set wire-b down) >/dev/null 2>&1 &"
    migrate a to --port 0 --bandwidth 1
    expect_refused 1 "the guest runs here as before"
}
