#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# kvm-migrate when something dies, lies or is cut, at every moment of the session.

load helper
load migrate

# The remote command with harm in it: see meddler.
meddle() { # MOMENT COMMAND
    cat >"$TEST_DIR/meddle" <<END
#!/bin/bash
exec env TEST_DIR=$TEST_DIR $TESTS/bats/meddler $1 $TEST_DIR/harm $(remote_to b) "\$@"
END
    printf '#!/bin/bash\n%s\n' "$2" >"$TEST_DIR/harm"
    chmod +x "$TEST_DIR/meddle" "$TEST_DIR/harm"
    REMOTE=$TEST_DIR/meddle
}

kill_file() { # FILE: a command that kills the process whose pid it holds
    echo "kill -KILL \$(cat $1)"
}

recover() { # a|b
    on "$1" suite kvm-migrate web1 recover --remote "$(remote_to "$(other "$1")")" --timeout 10
}

settled() {
    [[ $(phase_of a) == none && $(phase_of b) == none ]]
}

# What a person does after any failure; twice must be enough.
settle() {
    local time
    for time in 1 2; do
        settled || recover a
        settled || recover b
    done
    settled || fail "not settled: a is $(phase_of a), b is $(phase_of b)"
}

# One migration with harm at one moment; afterwards the guest runs on exactly one side. LOST=source tells that QEMU of
# the source was killed: then it runs on the target, or nowhere when the target had not everything.
survive() { # MOMENT COMMAND
    local a b
    rm -f "$TEST_DIR/session"
    echo "## $1: $2"
    suite kvm-start "$(empty_definition web1 "$WITH")"
    expect_status 0
    watch_runs
    meddle "$@"
    migrate a to --port 0 --plain-tcp --timeout 10
    settle
    a=$(run_state a) b=$(run_state b)
    echo "# source $a, target $b"
    case $a-$b in
        running-dead) on b expect_nothing_left web1 ;;
        dead-running) on a expect_nothing_left web1 ;;
        dead-dead) [[ ${LOST:-} == 1 ]] || fail "the guest is lost" ;;
        *) fail "source $a, target $b" ;;
    esac
    expect_equal "$(secrets)" ""
    expect_no_double_run
    for one in a b; do
        on "$one" suite kvm-stop web1 --force
        on "$one" suite kvm-cleanup web1
        on "$one" expect_nothing_left web1
    done
}

each_moment() { # COMMAND MOMENT…
    local moment
    two_nodes br0
    WITH='.nics = [{nicparams: {mode: "bridged", link: "br0"}}]'
    for moment in "${@:2}"; do
        survive "$moment" "$1"
    done
}

EARLY=(before-accept after-accept before-tree after-tree before-receive after-receive)
LATE=(before-vote after-vote before-commit after-commit)

@test "the target's side of the session is killed before the copy" {
    each_moment "$(kill_file "$TEST_DIR/serve-b.pid")" "${EARLY[@]}"
}

@test "the target's side of the session is killed around vote and commit" {
    each_moment "$(kill_file "$TEST_DIR/serve-b.pid")" "${LATE[@]}"
}

@test "the target's QEMU is killed before the copy" {
    each_moment "$(kill_file "$TEST_DIR/b/pid/web1")" after-accept before-tree after-tree before-receive after-receive
}

@test "the target's QEMU is killed around the vote" {
    each_moment "$(kill_file "$TEST_DIR/b/pid/web1")" before-vote after-vote
}

@test "the source's QEMU is killed" {
    LOST=1 each_moment "$(kill_file "$TEST_DIR/a/pid/web1")" "${EARLY[@]}" "${LATE[@]}"
}

@test "the source's tool is killed" {
    each_moment "kill -KILL \$(pgrep -f '^$BUILD/kvm-migrate web1 to .*$TEST_DIR')" "${EARLY[@]}" "${LATE[@]}"
}

@test "the session ends" {
    each_moment 'kill -KILL $PPID' "${EARLY[@]}" "${LATE[@]}"
}

@test "the remote command answers with something else" {
    each_moment 'printf "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"' after-check after-accept after-tree after-receive after-vote after-commit
}
