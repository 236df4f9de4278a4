# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# What the files migrate*.bats share:  load helper; load hotplug; load migrate
#
#     two_nodes [BRIDGE…]         nodes a and b: a network namespace, run and configuration directory each, a link
#                                 between them, the same bridges in both; the helpers mean node a from here on
#     node a|b                    …and from here on that one; on a|b COMMAND… for one command
#     migrate a|b ACTION ARG…     kvm-migrate web1 ACTION from there to the other node, driven by its --remote
#     remote_to a|b               the --remote command that runs things there
#     mark / expect_mark          a guest that must stay the same one: its memory, its uptime
#     under_load COMMAND…         a test of what a guest under load keeps: see there
#     slow_wire RATE              from here on what goes from a to b is that slow; the session does not go there
#     meddle MOMENT COMMAND       let migrate's session come to harm at one moment: see meddler
#     watch_runs / expect_no_double_run    both event logs, read while they exist: intervals must not overlap

# QEMU 7.2 under TCG does not see what a guest writes to a page for as long as the guest keeps the translation that it
# had before QEMU looked for dirty pages (other accelerators do). With its own page tables for the kernel a guest drops
# its translations all the time. Measured, with a disk and two memory writers, there and back in plain TCP: without it
# 4 of 12 guests had lost memory, with it none of 12.
export GUEST_WORDS=" pti=on"

two_nodes() { # [BRIDGE…]
    local one bridge
    for one in a b; do
        node "$one"
        mkdir -m 0700 "$CONF_DIR"
        ip netns add "$NETNS"
        ip -n "$NETNS" link set lo up
        for bridge in "$@"; do
            ip -n "$NETNS" link add "$bridge" type bridge
            ip -n "$NETNS" link set "$bridge" up
        done
        write_remote "$one"
    done
    ip link add "$(link_of a)" netns "$(namespace_of_node a)" type veth \
        peer name "$(link_of b)" netns "$(namespace_of_node b)"
    for one in a b; do
        ip -n "$(namespace_of_node "$one")" address add "$(address_of "$one")/24" dev "$(link_of "$one")"
        ip -n "$(namespace_of_node "$one")" link set "$(link_of "$one")" up
    done
    node a
}

namespace_of_node() { # a|b
    echo "$(namespace_of "$TEST_DIR")-$1"
}

link_of() { # a|b
    echo "wire-$1"
}

address_of() { # a|b
    [[ $1 == a ]] && echo 10.9.0.1 || echo 10.9.0.2
}

other() { # a|b
    [[ $1 == a ]] && echo b || echo a
}

node() { # a|b
    NODE=$1
    NETNS=$(namespace_of_node "$1")
    RUN_DIR=$TEST_DIR/$1
    CONF_DIR=$TEST_DIR/conf-$1
    export RUN_DIR CONF_DIR KVM_RUN_DIR=$RUN_DIR KVM_CONF_DIR=$CONF_DIR KVM_STATE_DIR=$TEST_DIR/state-$1
}

on() { # a|b COMMAND…
    local was=$NODE result
    node "$1"
    "${@:2}" # by itself: behind it "||" would switch errexit off in the command, and only its end would count
    result=$?
    node "$was"
    return "$result"
}

slow_wire() { # RATE
    ip netns exec "$(namespace_of_node a)" tc qdisc add dev "$(link_of a)" root tbf rate "$1" burst 64kb latency 100ms
}

# What ssh is elsewhere. It becomes the command by exec, so the pid that it notes is kvm-migrate's own.
write_remote() { # a|b
    cat >"$TEST_DIR/to-$1" <<END
#!/bin/bash
[[ \$3 != serve ]] || echo \$\$ >$TEST_DIR/serve-$1.pid
exec ip netns exec $NETNS env KVM_RUN_DIR=$RUN_DIR KVM_CONF_DIR=$CONF_DIR KVM_STATE_DIR=$KVM_STATE_DIR PATH=$BUILD:\$PATH "\$@"
END
    chmod +x "$TEST_DIR/to-$1"
}

remote_to() { # a|b
    echo "$TEST_DIR/to-$1"
}

# REMOTE in the environment stands for another --remote command.
migrate() { # FROM to|rehearse|check ARG…
    local target
    target=$(other "$1")
    on "$1" suite kvm-migrate web1 "$2" "$(address_of "$target")" --remote "${REMOTE:-$(remote_to "$target")}" "${@:3}"
}

# In the background, as a process group of its own like on a terminal: $tool is its pid.
migrate_behind() { # FROM to|rehearse ARG…
    local target
    target=$(other "$1")
    KVM_RUN_DIR=$TEST_DIR/$1 KVM_CONF_DIR=$TEST_DIR/conf-$1 KVM_STATE_DIR=$TEST_DIR/state-$1 setsid ip netns exec "$(namespace_of_node "$1")" \
        "$BUILD/kvm-migrate" web1 "$2" "$(address_of "$target")" --remote "${REMOTE:-$(remote_to "$target")}" \
        "${@:3}" >"$TEST_DIR/stdout" 2>"$TEST_DIR/stderr" </dev/null 3>&- &
    tool=$!
}

migrate_end() { # wait for it: as with suite
    status=0
    wait "$tool" || status=$?
    output=$(cat "$TEST_DIR/stdout")
    errors=$(cat "$TEST_DIR/stderr")
    printf '%s\n%s\n= %s\n' "$output" "$errors" "$status"
}

# ---- what is where ----

phase_of() { # a|b: the phase that the runtime file tells
    jq -r '.[4].migration.phase // "none"' "$TEST_DIR/$1/conf/web1.runtime" 2>/dev/null || echo none
}

run_state() { # a|b: QEMU's word, or "dead"
    if on "$1" qemu_lives web1; then
        on "$1" qmp web1 query-status 2>/dev/null | jq -r .status || echo dead
    else
        echo dead
    fi
}

copy_state() { # a|b: query-migrate's word
    on "$1" qmp web1 query-migrate 2>/dev/null | jq -r '.status // "none"'
}

is_copying() { # a|b
    [[ $(copy_state "$1") == active ]]
}

copied_once() { # a|b: the first pass over the memory is done
    on "$1" qmp web1 query-migrate 2>/dev/null | jq -e '.ram["dirty-sync-count"] >= 2' >/dev/null
}

expect_runs_on() { # a|b: there and nowhere else, and nothing is left at the other
    expect_equal "$(run_state "$1")" running
    expect_equal "$(phase_of "$1")" none
    on "$(other "$1")" expect_nothing_left web1
}

# Firmware leaves little that is not zero: a copy that harm has to hit must have more to send.
full_memory() { # [MIB], 8 by default: a JQ filter for empty_definition; behind two_nodes, since both of them must allow it
    local conf words="-device loader,file=$TEST_DIR/memory,addr=0x1000000,force-raw=on"
    head -c "${1:-8}M" /dev/urandom >"$TEST_DIR/memory"
    for conf in "$CONF_DIR" "$TEST_DIR"/conf-?; do
        [[ ! -d $conf ]] || jq -n --arg words "$words" '{hvparams: {kvm_extra: $words}}' >"$conf/kvm-defaults.json"
    done
    echo ".hvparams.kvm_extra = \"$words\""
}

# ---- the guest stays the same one ----

mark() { # on the node where it runs
    word=$RANDOM$RANDOM
    guest_run web1 "echo $word >/mark"
    uptime_before=$(guest_uptime)
}

guest_uptime() {
    guest_run web1 'cat /proc/uptime' | sed 's/\..*//'
}

expect_mark() { # on the node where it runs now
    local now
    expect_equal "$(guest_run web1 'cat /mark')" "$word" || return 1
    now=$(guest_uptime)
    [[ $now -ge $uptime_before ]] || fail "the guest's uptime fell from $uptime_before to $now s: it booted again"
}

# A translation lives on for up to a tick of the guest's timer (see GUEST_WORDS), so a page may still be lost. What the
# guest has kept is judged twice at most, all else each time. COMMAND asks by "kept COMMAND… || return 0".
under_load() { # COMMAND…
    local try
    for try in 1 2; do
        lost=
        "$@"
        [[ -n $lost ]] || return 0
        echo "# try $try: the guest has lost something: $lost"
        suite_teardown
        suite_setup
    done
    fail "lost in both tries"
}

kept() { # COMMAND…
    GUEST_TIMEOUT=45 "$@" || { lost="$*"; return 1; }
}

# ---- who ran when ----

watch_runs() { # [RUN_DIR RUN_DIR]: of both nodes
    "$TESTS/bats/runs" "${1:-$TEST_DIR/a}" "${2:-$TEST_DIR/b}" >"$TEST_DIR/runs" 2>&1 3>&- &
    runs_pid=$!
    wait_until 10 grep -q watching "$TEST_DIR/runs"
}

expect_no_double_run() {
    local result=0
    kill -TERM "$runs_pid"
    wait "$runs_pid" || result=$?
    [[ $result -eq 0 ]] || fail "$(cat "$TEST_DIR/runs")"
}

# ---- harm ----

# The remote command with harm in it: see meddler.
meddle() { # MOMENT COMMAND
    cat >"$TEST_DIR/meddle" <<END
#!/bin/bash
exec env TEST_DIR=$TEST_DIR $TESTS/bats/meddler $1 $TEST_DIR/harm $(remote_to b) "\$@"
END
    printf '#!/bin/bash\ntouch %s\n%s\n' "$TEST_DIR/harmed" "$2" >"$TEST_DIR/harm"
    chmod +x "$TEST_DIR/meddle" "$TEST_DIR/harm"
    REMOTE=$TEST_DIR/meddle
}

kill_file() { # FILE: a command that kills the process whose pid it holds
    echo "kill -KILL \$(cat $1)"
}
