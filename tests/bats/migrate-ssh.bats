#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# kvm-migrate over a real sshd: one in each node's network namespace, with keys and configuration of the test's own.

load helper
load migrate

setup() {
    suite_setup
    sshd_pids=()
}

teardown() {
    local pid
    for pid in "${sshd_pids[@]}"; do
        kill "$pid" 2>/dev/null || true
    done
    suite_teardown
}

# What root of the other node may do there. The session gets its environment from the server, as on a node whose run
# directory is the usual one.
sshd_on() { # a|b
    local config=$TEST_DIR/sshd-$1.config
    mkdir -p /run/sshd
    ssh-keygen -q -t ed25519 -N '' -f "$TEST_DIR/host-$1" </dev/null
    cat >"$config" <<END
ListenAddress $(address_of "$1"):2022
HostKey $TEST_DIR/host-$1
AuthorizedKeysFile $TEST_DIR/key.pub
PidFile $TEST_DIR/sshd-$1.pid
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
StrictModes no
UsePAM no
PrintMotd no
ClientAliveInterval 1
ClientAliveCountMax $PATIENCE
SetEnv KVM_RUN_DIR=$TEST_DIR/$1 KVM_CONF_DIR=$TEST_DIR/conf-$1 PATH=$BUILD:/usr/sbin:/usr/bin:/sbin:/bin
END
    ip netns exec "$(namespace_of_node "$1")" /usr/sbin/sshd -D -e -f "$config" >"$TEST_DIR/sshd-$1.log" 2>&1 </dev/null 3>&- &
    sshd_pids+=($!)
    cat >>"$TEST_DIR/ssh_config" <<END
Host node-$1
    HostName $(address_of "$1")
    Port 2022
    User root
    IdentityFile $TEST_DIR/key
    UserKnownHostsFile $TEST_DIR/known-$1
    StrictHostKeyChecking yes
    BatchMode yes
    ServerAliveInterval 1
    ServerAliveCountMax $PATIENCE
END
    echo "[$(address_of "$1")]:2022 $(cut -d ' ' -f 1,2 "$TEST_DIR/host-$1.pub")" >"$TEST_DIR/known-$1"
    wait_until 20 test -s "$TEST_DIR/sshd-$1.pid"
}

# How many seconds each end of ssh bears silence: a loaded node is silent, too.
PATIENCE=10

two_ssh_nodes() {
    two_nodes br0
    ssh-keygen -q -t ed25519 -N '' -f "$TEST_DIR/key" </dev/null
    sshd_on a
    sshd_on b
    suite kvm-start "$(empty_definition web1 '.nics = [{nicparams: {link: "br0"}}]')"
    expect_status 0
}

by_ssh() { # a|b: the --remote command
    echo "ssh -F $TEST_DIR/ssh_config node-$1"
}

# The target's side, and what carries it there.
nobody_serves() { # a|b
    ! ip netns pids "$(namespace_of_node "$1")" | xargs -r ps -o args= -p | grep -q 'kvm-migrate web1'
}

@test "over ssh to the other node and back, the second time with the memory through ssh as well" {
    two_ssh_nodes
    watch_runs
    REMOTE=$(by_ssh b) migrate a check
    expect_status 0
    REMOTE=$(by_ssh b) migrate a to
    expect_status 0
    expect_runs_on b
    REMOTE=$(by_ssh a) migrate b to --tunnel
    expect_status 0
    expect_runs_on a
    wait_until 10 nobody_serves a
    wait_until 10 nobody_serves b
    expect_no_double_run
}

@test "over ssh, Ctrl-C while copying: the guest stays, nothing is left there, no session goes on" {
    two_ssh_nodes
    suite kvm-stop --force web1
    suite kvm-start "$(empty_definition web1 "$(full_memory)")"
    expect_status 0
    watch_runs
    local how
    for how in --plain-tcp --tunnel; do
        REMOTE=$(by_ssh b) migrate_behind a to --bandwidth 1 $how
        wait_until 30 is_copying a
        kill -INT -- "-$tool"
        migrate_end
        expect_status 1
        expect_error "interrupted"
        expect_error "the guest runs here as before"
        expect_runs_on a
        wait_until 10 nobody_serves b
    done
    expect_no_double_run
}

@test "over ssh, what ssh says stands before its exit status, and nothing has begun" {
    two_ssh_nodes
    cp "$TEST_DIR/known-a" "$TEST_DIR/known-b"
    REMOTE=$(by_ssh b) migrate a to
    expect_status 1
    expect_error "Host key verification failed"
    expect_error "the remote command's exit status is 255"
    expect_runs_on a
    REMOTE="$(by_ssh a) no-such-command" migrate a to
    expect_status 1
    expect_error "the remote command's exit status is 127"
    expect_runs_on a
}

wire() { # up|down
    ip -n "$(namespace_of_node a)" link set "$(link_of a)" "$1"
}

recovered() {
    suite kvm-migrate web1 recover --remote "$(by_ssh b)" --timeout 10
    [[ $status -eq 0 ]]
}

# The link goes at one moment of the session, for both the session and the memory; then it is back, and recover is typed.
cut_at() { # MOMENT WHERE
    echo "## the link is cut $1"
    rm -f "$TEST_DIR/harmed"
    suite kvm-start "$(empty_definition web1)"
    expect_status 0
    watch_runs
    meddle "$1" "ip -n $(namespace_of_node a) link set $(link_of a) down"
    sed -i "s|$(remote_to b)|$(by_ssh b)|" "$TEST_DIR/meddle"
    migrate a to --port 0 --timeout 10
    [[ -e $TEST_DIR/harmed ]] || fail "the link was not cut"
    [[ $status =~ ^[015]$ ]] || fail "exit status $status"
    wire up
    wait_until 30 recovered
    # The other end of the session learns of the cut by its own patience.
    wait_until 30 on "$(other "$2")" expect_nothing_left web1
    expect_runs_on "$2"
    expect_no_double_run
    on "$2" suite kvm-stop --force web1 --wait-lock 20
    expect_status 0
}

@test "over ssh, the link is cut: the guest stays before the commit, and is the target's after it" {
    PATIENCE=3
    two_ssh_nodes
    suite kvm-stop --force web1
    cut_at after-accept a
    cut_at before-vote a
    cut_at after-vote b
    cut_at after-commit b
}
