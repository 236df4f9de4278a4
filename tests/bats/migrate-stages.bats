#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# The stages of a migration as commands of their own, on two nodes, without a session. No guest is booted.

load helper
load migrate

BRIDGED='.nics = [{nicparams: {mode: "bridged", link: "br0"}}]'

begin() { # web1 runs on a
    two_nodes br0
    suite kvm-start "$(empty_definition web1 "$BRIDGED | .disks = [{path: \"$(disk web1 8)\"}]")"
    expect_status 0
}

# kvm-migrate web1 ACTION on a node, with a document of $TEST_DIR on its standard input.
stage() { # a|b ACTION INPUT ARG…
    on "$1" suite kvm-migrate web1 "$2" "${@:4}" <"${3:-/dev/null}"
}

keep() { # NAME: what the last stage has printed
    printf '%s\n' "$output" >"$TEST_DIR/$1"
}

offer() {
    stage a offer "" 10.9.0.2 --port 0
    expect_status 0
    keep offer
}

# It waits for the source to connect: $accept is its pid, and `accepted` what it has told.
accept() {
    rm -f "$TEST_DIR/accepted"
    KVM_RUN_DIR=$TEST_DIR/b KVM_CONF_DIR=$TEST_DIR/conf-b ip netns exec "$(namespace_of_node b)" "$BUILD/kvm-migrate" web1 accept \
        <"$TEST_DIR/offer" >"$TEST_DIR/accepted" 2>"$TEST_DIR/accept.err" 3>&- &
    accept=$!
    wait_until 30 grep -q document "$TEST_DIR/accepted" || fail "$(cat "$TEST_DIR/accept.err")"
}

has_connected() { # the accept has ended well
    wait "$accept" || fail "$(cat "$TEST_DIR/accept.err")"
}

out_of_order() { # a|b ACTION INPUT ARG…
    stage "$@"
    expect_status 3
}

@test "a script drives a migration by its stages; each may be repeated, none comes before its turn" {
    begin
    watch_runs
    out_of_order b vote ""
    out_of_order a commit "" --token 0123
    out_of_order a finish "" --token 0123
    offer
    accept
    kill -KILL "$accept"
    accept # once more, with another port and key
    out_of_order a vote ""
    on b suite kvm-migrate web1 commit --token 0123
    expect_status 4 # busy
    stage a send "$TEST_DIR/accepted"
    expect_status 0
    has_connected
    expect_output "kvm-migrate web1 vote"
    stage a send "$TEST_DIR/accepted"
    expect_status 0
    out_of_order a commit "" --token 0123
    stage b vote "" --json
    expect_status 0
    keep vote
    stage b vote "" --json
    expect_status 0
    out_of_order b accept "$TEST_DIR/offer"
    out_of_order b commit "$TEST_DIR/vote" --token -
    stage a commit "$TEST_DIR/vote" --token - --json
    expect_status 0
    keep commit
    out_of_order a abort ""
    out_of_order a send "$TEST_DIR/accepted"
    out_of_order b abort "" --token 0123
    stage a commit "" --json
    expect_status 0
    out_of_order a finish "$TEST_DIR/vote" --token -
    stage b commit "$TEST_DIR/commit" --token - --json
    expect_status 0
    keep arrived
    stage b commit "$TEST_DIR/commit" --token -
    expect_status 0
    stage a finish "$TEST_DIR/arrived" --token -
    expect_status 0
    stage a finish "$TEST_DIR/arrived" --token -
    expect_status 0
    expect_runs_on b
    expect_no_double_run
    [[ ! -e $(secrets_of b) ]]
}

# The target's side of a session by hand: it has accepted, its answers are in $TEST_DIR/answers, `say` asks more of it.
serve() { # SECONDS that it will bear silence
    mkfifo "$TEST_DIR/requests"
    KVM_RUN_DIR=$TEST_DIR/b KVM_CONF_DIR=$TEST_DIR/conf-b ip netns exec "$(namespace_of_node b)" "$BUILD/kvm-migrate" web1 serve \
        <"$TEST_DIR/requests" >"$TEST_DIR/answers" 2>"$TEST_DIR/serve.err" 3>&- &
    serve=$!
    exec {requests}>"$TEST_DIR/requests"
    jq -c ".stage = \"accept\" | .silence = $1" "$TEST_DIR/offer" >&"$requests"
    wait_until 30 answered 1
    jq -e .ok "$TEST_DIR/answers" || fail "$(cat "$TEST_DIR/answers")"
}

say() { # STAGE
    echo "{\"stage\": \"$1\"}" >&"$requests"
}

answered() { # COUNT
    [[ $(wc -l <"$TEST_DIR/answers") -ge $1 ]]
}

say_signs() { # for SECONDS
    local end=$((SECONDS + $1))
    until [[ $SECONDS -ge $end ]]; do
        say here
        sleep 0.2
    done
}

expect_silence_told() { # STATUS of the target's side, which ends by itself
    local result=0
    wait_until 20 has_ended "$serve"
    wait "$serve" || result=$?
    exec {requests}>&-
    expect_equal "$result" "$1"
    grep -q "nothing was heard of the source" "$TEST_DIR/serve.err" || fail "$(cat "$TEST_DIR/serve.err")"
}

has_ended() { # PID
    ! kill -0 "$1" 2>/dev/null
}

@test "a source that falls silent before the vote: the target's side undoes what it has made, and lets go" {
    begin
    offer
    serve 3
    say_signs 5 # longer than that
    expect_equal "$(phase_of b)" accepted
    expect_silence_told 1
    on b expect_nothing_left web1
    expect_equal "$(run_state a)" running
}

@test "a source that does not read what it is answered: the target's side undoes what it has made, and lets go" {
    local deaf status=0
    begin
    offer
    mkfifo "$TEST_DIR/unread"
    exec {deaf}<>"$TEST_DIR/unread"
    {
        jq -c '.stage = "accept" | .silence = 1' "$TEST_DIR/offer"
        yes '{"stage": "tree"}' | head -n 1000
    } >"$TEST_DIR/asked"
    KVM_RUN_DIR=$TEST_DIR/b KVM_CONF_DIR=$TEST_DIR/conf-b timeout 30 ip netns exec "$(namespace_of_node b)" "$BUILD/kvm-migrate" web1 serve \
        <"$TEST_DIR/asked" >&"$deaf" 2>"$TEST_DIR/serve.err" 3>&- || status=$?
    exec {deaf}>&-
    expect_equal "$status" 1
    grep -q "the source does not read what it is answered" "$TEST_DIR/serve.err" || fail "$(cat "$TEST_DIR/serve.err")"
    on b expect_nothing_left web1
}

@test "a source that falls silent after the vote: the target keeps what has arrived, and lets go of the lock" {
    begin
    offer
    serve 4
    say tree
    wait_until 20 answered 2
    jq -c -s '.[0] + {document: "accepted", port: .[1].port, token: .[1].token, key: .[1].key, tree: .[2].tree}' \
        "$TEST_DIR/offer" "$TEST_DIR/answers" >"$TEST_DIR/accepted"
    say receive
    stage a send "$TEST_DIR/accepted" &
    local send=$!
    wait_until 20 answered 3
    say_signs 600 &
    local signs=$!
    wait "$send"
    kill "$signs"
    wait "$signs" || true
    say vote
    wait_until 20 grep -q half "$TEST_DIR/answers"
    expect_silence_told 5
    expect_equal "$(phase_of b)" ready
    stage b vote "" --json
    expect_status 0
    keep vote
    stage a commit "$TEST_DIR/vote" --token - --json
    keep commit
    stage b commit "$TEST_DIR/commit" --token - --json
    keep arrived
    stage a finish "$TEST_DIR/arrived" --token -
    expect_status 0
    expect_runs_on b
}

ended_with() { # STATUS PID
    local result=0
    wait_until 20 has_ended "$2"
    wait "$2" || result=$?
    expect_equal "$result" "$1"
}

@test "Ctrl-C and SIGTERM on the target: what was begun there is undone, and said" {
    local first
    begin
    offer
    accept
    kill -INT "$accept"
    ended_with 1 "$accept"
    grep -q "interrupted; undone, nothing of it is left here" "$TEST_DIR/accept.err" || fail "$(cat "$TEST_DIR/accept.err")"
    on b expect_nothing_left web1
    [[ ! -e $(secrets_of b) ]]
    accept
    first=$accept
    on b suite kvm-migrate web1 vote
    expect_status 4
    KVM_RUN_DIR=$TEST_DIR/b "$BUILD/kvm-migrate" web1 accept --wait-lock 60 <"$TEST_DIR/offer" >"$TEST_DIR/waiting" 2>"$TEST_DIR/accept.err" 3>&- &
    wait_until 10 hears_signals $!
    kill -TERM $!
    ended_with 1 $!
    kill -KILL "$first"
    accept # taken up: what an earlier one has begun is not this one's to end
    kill -TERM "$accept"
    ended_with 1 "$accept"
    grep -q "QEMU of an earlier accept still waits here" "$TEST_DIR/accept.err" || fail "$(cat "$TEST_DIR/accept.err")"
    KVM_RUN_DIR=$TEST_DIR/b "$BUILD/kvm-migrate" web1 vote >"$TEST_DIR/vote" 2>&1 3>&- & # nothing will come
    wait_until 10 drives_on_b $!
    kill -TERM $!
    ended_with 143 $!
    expect_equal "$(phase_of b)" accepted
    stage b abort ""
    expect_status 0
    serve 60
    kill -TERM "$serve"
    ended_with 1 "$serve"
    exec {requests}>&-
    on b expect_nothing_left web1
    expect_equal "$(run_state a)" running
}

@test "the target's end of a tunnel without a tunnel, and a resume of what is not in post-copy, are refused in words" {
    begin
    stage a pipe ""
    expect_status 3
    expect_error "web1: no migration waits for a tunnel here"
    expect_error "kvm-migrate web1 to TARGET --tunnel"
    printf '{"stage": "attach"}\n{"stage": "resume"}\n' >"$TEST_DIR/asked"
    stage a serve "$TEST_DIR/asked"
    jq -e -s '.[1].ok == false and .[1].status == 3 and (.[1].error | startswith("resume: no migration to this node"))' <<<"$output"
    offer
    serve 60
    say resume
    say tree # which still answers
    wait_until 20 answered 3
    jq -e -s '.[1].status == 3 and .[2].ok' "$TEST_DIR/answers"
    kill -KILL "$serve"
    exec {requests}>&-
    stage b serve "$TEST_DIR/asked"
    jq -e -s '.[1].status == 3 and (.[1].error | contains("not in post-copy"))' <<<"$output"
    stage b abort ""
    expect_status 0
}

drives_on_b() { # PID
    on b "$BUILD/kvm-migrate" web1 status 2>&1 | grep -q "driven by kvm-migrate pid $1 "
}

# It catches SIGTERM.
hears_signals() { # PID
    local caught
    caught=$(awk '/^SigCgt/ { print $2 }' "/proc/$1/status")
    [[ $((16#$caught & 1 << 14)) -ne 0 ]]
}

secrets_of() { # a|b: where the target's key lies
    printf '/dev/shm/kvm-suite.web1.%x.server\n' "$(stat -c %i "$TEST_DIR/$1")"
}

@test "a stranger on the port gets nowhere, and does not keep the source away" {
    begin
    offer
    accept
    ip netns exec "$(namespace_of_node a)" python3 -c 'import signal, socket, sys
stranger = socket.create_connection(("10.9.0.2", int(sys.argv[1])))
stranger.sendall(b"QEVM" + bytes(4096))
stranger.close()
silent = [socket.create_connection(("10.9.0.2", int(sys.argv[1]))) for _ in range(20)]
print("ready", flush=True)
signal.pause()' "$(jq .port "$TEST_DIR/accepted")" "$TEST_DIR/" >"$TEST_DIR/stranger" 2>&1 3>&- &
    local stranger=$!
    wait_until 10 grep -q ready "$TEST_DIR/stranger"
    stage a send "$TEST_DIR/accepted"
    kill "$stranger"
    expect_status 0
    has_connected
}

refused_document() { # accept|send JQ TEXT: exit status 2, with the field and its value, and nothing was changed
    local side=b from=offer
    [[ $1 == accept ]] || side=a from=accepted
    jq -c "$2" "$TEST_DIR/$from" >"$TEST_DIR/edited"
    stage "$side" "$1" "$TEST_DIR/edited"
    expect_status 2
    expect_error "standard input: $3"
}

@test "a document that is not in its form is refused by field and value" {
    local text
    begin
    offer
    for text in "" "{" "[]" '"x"' "null" '{"document": "other"}'; do
        printf '%s\n' "$text" >"$TEST_DIR/odd"
        stage b accept "$TEST_DIR/odd"
        expect_status 2
        expect_error "standard input: "
        stage a send "$TEST_DIR/odd"
        expect_status 2
        expect_error "standard input: "
    done
    stage a commit "$TEST_DIR/odd" --token -
    expect_status 3
    refused_document accept '.port = 99999' "port: must be from 0 to 65535 (current value: 99999)"
    refused_document accept '.port = "x"' 'port: must be a whole number (current value: "x")'
    refused_document accept '.address = ""' 'address: must not be empty (current value: "")'
    refused_document accept '.x509 = "pki"' 'x509: must be absolute (current value: "pki")'
    refused_document accept '.tls = "no"' 'tls: must be true or false (current value: "no")'
    refused_document accept '.id = "zz"' "id: must be 32 hex digits"
    refused_document accept '.plan.capabilities = [1]' "plan.capabilities[0]: must tell a capability"
    refused_document accept '.options.bandwidth = null' "options.bandwidth: is missing"
    refused_document accept 'del(.address, .options)' "address: is missing"
    jq -c '.runtime[4] = 1' "$TEST_DIR/offer" >"$TEST_DIR/edited"
    stage b accept "$TEST_DIR/edited"
    expect_status 2
    on b expect_nothing_left web1
    accept
    refused_document send '.port = 0' "port: must be from 1 to 65535 (current value: 0)"
    refused_document send '.key = "short"' "key: must be 64 hex digits"
    refused_document send '.tree = 1' "tree: must be an object (current value: 1)"
    refused_document send 'del(.token)' "token: must be 32 hex digits"
    expect_equal "$(phase_of a) $(run_state a)" "none running"
    stage a send "$TEST_DIR/accepted"
    expect_status 0
    has_connected
}

hook() { # a|b pre|post: writes into $TEST_DIR/hooks that it ran, and of which side
    local directory=$TEST_DIR/conf-$1/hooks/kvm-migrate-$2.d
    mkdir -p "$directory"
    printf '#!/bin/sh\necho "%s $KVM_SUITE_ACTION" >>%s/hooks\n' "$2" "$TEST_DIR" >"$directory/note"
    chmod 0755 "$directory/note"
}

hooks_ran() { # so far
    paste -sd, "$TEST_DIR/hooks"
}

@test "hooks run once on each side when the stages are driven singly, and not for a rehearsal" {
    local one
    begin
    for one in a b; do
        hook "$one" pre
        hook "$one" post
    done
    touch "$TEST_DIR/hooks"
    migrate a rehearse --port 0
    expect_status 0
    expect_equal "$(hooks_ran)" ""
    offer
    accept
    expect_equal "$(hooks_ran)" "pre target"
    stage a send "$TEST_DIR/accepted"
    expect_status 0
    has_connected
    stage a send "$TEST_DIR/accepted" # taken up: it has begun already
    expect_equal "$(hooks_ran)" "pre target,pre source"
    stage b vote "" --json
    keep vote
    stage a commit "$TEST_DIR/vote" --token - --json
    keep commit
    stage b commit "$TEST_DIR/commit" --token - --json
    keep arrived
    stage b commit "$TEST_DIR/commit" --token -
    expect_equal "$(hooks_ran)" "pre target,pre source,post target"
    stage a finish "$TEST_DIR/arrived" --token -
    expect_status 0
    expect_equal "$(hooks_ran)" "pre target,pre source,post target,post source"
    # A command that was killed behind the commit has run none; recover does.
    rm "$TEST_DIR/hooks"
    on a meddle_to_b_killed
    expect_equal "$(hooks_ran)" "pre source,pre target,post target,post source"
}

meddle_to_b_killed() { # web1 goes back to a; the driver dies when the guest runs there
    cat >"$TEST_DIR/meddle" <<END
#!/bin/bash
exec env TEST_DIR=$TEST_DIR $TESTS/bats/meddler after-commit $TEST_DIR/harm $(remote_to a) "\$@"
END
    printf '#!/bin/bash\n%s\n' "kill -KILL \$(pgrep -f '^$BUILD/kvm-migrate web1 to .*$TEST_DIR')" >"$TEST_DIR/harm"
    chmod +x "$TEST_DIR/meddle" "$TEST_DIR/harm"
    REMOTE=$TEST_DIR/meddle migrate b to --port 0
    expect_status 137
    on b suite kvm-migrate web1 recover --remote "$(remote_to a)"
    expect_status 0
    expect_runs_on a
}

@test "what fails is undone on the source, and the target is told by its own abort" {
    begin
    offer
    accept
    kill -KILL "$accept"
    stage b abort ""
    expect_status 0
    on b expect_nothing_left web1
    stage a send "$TEST_DIR/accepted"
    expect_status 1
    expect_equal "$(run_state a)" running
    offer
    accept
    stage a send "$TEST_DIR/accepted"
    expect_status 0
    has_connected
    stage a abort "" --json
    keep abort
    stage a abort "" --json # said again
    expect_status 0
    expect_equal "$(jq -c '.[0].token' <<<"$output")" "$(jq -c '.[0].token' "$TEST_DIR/abort")"
    stage b abort "$TEST_DIR/abort" --token -
    expect_status 0
    stage b abort "$TEST_DIR/abort" --token -
    expect_status 0
    expect_output "nothing of it is here"
    on a suite kvm-migrate web1 recover --remote "$(remote_to b)"
    expect_status 0
    expect_runs_on a
    stage b accept "$TEST_DIR/accepted"
    expect_status 2
    expect_error "is not what"
    stage a offer "" 10.9.0.2 --postcopy
    expect_status 2
    stage a send "$TEST_DIR/accepted" --multifd 2
    expect_status 2
    offer
    jq -c 'del(.plan)' "$TEST_DIR/offer" >"$TEST_DIR/planless"
    stage b accept "$TEST_DIR/planless"
    expect_status 2
    expect_error "no plan"
    jq -c '.disks = [{}]' "$TEST_DIR/offer" >"$TEST_DIR/disks"
    stage b accept "$TEST_DIR/disks"
    expect_status 2
    expect_error "disks"
    on b expect_nothing_left web1
}

@test "a target that has died after its vote does not vote again, and the source goes back" {
    begin
    offer
    accept
    stage a send "$TEST_DIR/accepted"
    expect_status 0
    has_connected
    stage b vote ""
    expect_status 0
    kill -KILL "$(on b qemu_pid web1)"
    wait_until 10 on_b_is_dead
    stage b vote ""
    expect_status 1
    expect_error "the QEMU that was to take the guest has ended"
    on a suite kvm-migrate web1 recover --remote "$(remote_to b)"
    expect_status 0
    expect_runs_on a
}

on_b_is_dead() {
    [[ $(run_state b) == dead ]]
}

@test "a routed NIC is set up once, also when the commit is repeated" {
    two_nodes
    suite kvm-start "$(empty_definition web1 '.nics = [{ip: "10.8.0.5", nicparams: {mode: "routed", link: "100"}}]')"
    expect_status 0
    printf '#!/bin/sh\necho up >>%s\n' "$TEST_DIR/ups" >"$TEST_DIR/conf-b/kvm-ifup-custom"
    chmod 0755 "$TEST_DIR/conf-b/kvm-ifup-custom"
    offer
    accept
    stage a send "$TEST_DIR/accepted"
    has_connected
    stage b vote "" --json
    keep vote
    stage a commit "$TEST_DIR/vote" --token - --json
    keep commit
    for _ in 1 2; do
        stage b commit "$TEST_DIR/commit" --token -
        expect_status 0
    done
    expect_equal "$(cat "$TEST_DIR/ups")" up
    stage a finish "$TEST_DIR/commit" --token -
    expect_status 0
    expect_runs_on b
}

@test "a send that is taken up while its guest is paused for the copy lets it run on when it goes back" {
    local status=0
    begin
    stage a offer "" 10.9.0.2 --port 0 --non-live
    expect_status 0
    keep offer
    accept
    slow_wire 800kbit
    migrate_stage_behind
    wait_until 30 is_copying a
    kill -KILL "$tool"
    has_connected
    migrate_stage_behind
    wait_until 30 drives "$tool"
    kill -INT "$tool"
    wait "$tool" || status=$?
    expect_equal "$status" 1
    expect_equal "$(run_state a)" running
    expect_equal "$(jq -r '.[4].state' "$TEST_DIR/a/conf/web1.runtime")" running
}

migrate_stage_behind() { # send on a
    KVM_RUN_DIR=$TEST_DIR/a KVM_CONF_DIR=$TEST_DIR/conf-a ip netns exec "$(namespace_of_node a)" "$BUILD/kvm-migrate" web1 send \
        <"$TEST_DIR/accepted" 2>"$TEST_DIR/send.err" 3>&- &
    tool=$!
}

drives() { # PID
    "$BUILD/kvm-migrate" web1 status 2>&1 | grep -q "driven by kvm-migrate pid $1 "
}
