#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# kvm-migrate when something dies, lies or is cut, at every moment of the session.

load helper
load migrate

recover() { # a|b
    on "$1" suite kvm-migrate web1 recover --remote "$(remote_to "$(other "$1")")" --timeout 10
}

settled() {
    [[ $(phase_of a) == none && $(phase_of b) == none ]]
}

# What a person does after any failure; twice must be enough.
settle() {
    local _
    for _ in 1 2; do
        settled || recover a
        settled || recover b
    done
    settled || fail "not settled: a is $(phase_of a), b is $(phase_of b)"
}

# One migration with harm at one moment. Afterwards the guest runs on exactly one side: WHERE ("source", "target", or
# "nowhere" when QEMU itself was killed), or wherever the commands left it.
survive() { # WHERE|somewhere MOMENT COMMAND
    local a b one where
    rm -f "$TEST_DIR/session" "$TEST_DIR/harmed"
    echo "## $2: $3"
    suite kvm-start "$(empty_definition web1 "$WITH")"
    expect_status 0
    watch_runs
    meddle "${@:2}"
    migrate a to --port 0 --plain-tcp --timeout 10 "${SLOWLY[@]}"
    told=$errors
    [[ -e $TEST_DIR/harmed ]] || fail "the harm was not done"
    settle
    a=$(run_state a) b=$(run_state b)
    echo "# source $a, target $b"
    case $a-$b in
        running-dead) where=source ;;
        dead-running) where=target ;;
        dead-dead) where=nowhere ;;
        *) fail "source $a, target $b" ;;
    esac
    [[ $where != nowhere || $1 == nowhere ]] || fail "the guest is lost"
    [[ $1 == somewhere ]] || expect_equal "$where" "$1"
    [[ $where != source ]] || on b expect_nothing_left web1
    [[ $where != target ]] || on a expect_nothing_left web1
    expect_no_double_run
    for one in a b; do
        on "$one" suite kvm-stop web1 --force
        on "$one" suite kvm-cleanup web1
        on "$one" expect_nothing_left web1
    done
}

each_moment() { # WHERE COMMAND MOMENT…
    local moment
    two_nodes br0
    SLOWLY=()
    WITH='.nics = [{nicparams: {mode: "bridged", link: "br0"}}]'
    for moment in "${@:3}"; do
        survive "$1" "$moment" "$2"
    done
}

# While the memory is being copied, at one MiB a second.
while_copying() { # WHERE COMMAND
    two_nodes br0
    WITH='.nics = [{nicparams: {mode: "bridged", link: "br0"}}] | '$(full_memory)
    SLOWLY=(--bandwidth 1)
    survive "$1" after-receive "(until '$TESTS/bats/qmp' '$TEST_DIR/a/ctrl/web1.query' query-migrate | grep -q active; do :; done; $2) >/dev/null 2>&1 &"
}

fresh() {
    suite_teardown
    suite_setup
}

EARLY=(before-accept after-accept before-tree after-tree before-receive after-receive)

serve() {
    kill_file "$TEST_DIR/serve-b.pid"
}

session() {
    kill_file "$TEST_DIR/meddler.pid"
}

qemu() { # a|b
    kill_file "$TEST_DIR/$1/pid/web1"
}

# The vote is asked for when the guest is paused, not when all is copied.
copied_qemu() { # a
    echo "until '$TESTS/bats/qmp' '$TEST_DIR/$1/ctrl/web1.query' query-migrate | grep -q completed; do :; done >/dev/null 2>&1; $(qemu "$1")"
}

driver() {
    echo "kill -KILL \$(pgrep -f '^$BUILD/kvm-migrate web1 to .*$TEST_DIR')"
}

@test "the target's side of the session is killed: the guest stays before the vote, goes on after it" {
    each_moment source "$(serve)" "${EARLY[@]}" before-vote
    fresh
    each_moment target "$(serve)" after-vote before-commit after-commit
}

@test "the target's side of the session is killed during the copy: the guest stays" {
    while_copying source "$(serve)"
    [[ $told == *"the session with the target has ended"* ]] || fail "it was not noticed at once: $told"
}

@test "the target's QEMU is killed: the guest stays" {
    each_moment source "$(qemu b)" after-accept before-tree after-tree before-receive after-receive
    fresh
    while_copying source "$(qemu b)"
}

@test "the source's QEMU is killed: before everything is copied the guest is lost, afterwards it runs on the target" {
    each_moment nowhere "$(qemu a)" "${EARLY[@]}"
    fresh
    while_copying nowhere "$(qemu a)"
    fresh
    each_moment target "$(copied_qemu a)" before-vote
    fresh
    each_moment target "$(qemu a)" after-vote before-commit after-commit
}

@test "the source's tool is killed: the guest stays before the commit, goes on after it" {
    each_moment source "$(driver)" "${EARLY[@]}" before-vote after-vote
    fresh
    each_moment target "$(driver)" before-commit after-commit
    fresh
    while_copying source "$(driver)"
}

@test "the session ends: the guest stays before the commit, goes on after it" {
    each_moment source "$(session)" "${EARLY[@]}" before-vote after-vote
    fresh
    each_moment target "$(session)" before-commit after-commit
    fresh
    while_copying source "$(session)"
}

@test "the remote command answers with something else" {
    each_moment source 'printf "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"' after-check after-accept after-tree after-receive after-vote
    fresh
    each_moment target 'printf "\0\1\2{\n"' after-commit
}

@test "an answer that comes twice is not that to the vote: the guest stays" {
    each_moment source "until '$TESTS/bats/qmp' '$TEST_DIR/a/ctrl/web1.query' query-migrate | grep -q completed; do :; done
        $(kill_file "$TEST_DIR/b/pid/web1")" repeat-vote
    [[ $told != *"no kvm-migrate"* ]] || fail "the answer that came twice was told as nobody's"
}

@test "the target's QEMU hangs before it shakes hands: the guest runs on meanwhile" {
    local _
    two_nodes
    suite kvm-start "$(empty_definition web1)"
    expect_status 0
    meddle after-receive "kill -STOP \$(cat $TEST_DIR/b/pid/web1)"
    migrate_behind a to
    wait_until 20 test -e "$TEST_DIR/harmed"
    wait_until 10 eval '[[ $(timeout 3 "$TESTS/bats/qmp" "$RUN_DIR/ctrl/web1.query" query-migrate | jq -r .status) == setup ]]'
    for _ in 1 2 3; do
        expect_equal "$(timeout 3 "$TESTS/bats/qmp" "$RUN_DIR/ctrl/web1.query" query-status | jq -r .status)" running
    done
    kill -CONT "$(cat "$TEST_DIR/b/pid/web1")"
    migrate_end
    expect_status 0
    expect_runs_on b
}

@test "the source's QEMU and the session die after the vote: recover lets the guest run on the target" {
    each_moment target "$(qemu a); $(session)" after-vote
}
