#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# kvm-migrate: what check tells, and the ways on which the memory can go.

load helper
load hotplug
load migrate

empty() { # [JQ]: an instance that runs its firmware only
    suite kvm-start "$(empty_definition web1 "$@")"
    expect_status 0
}

everything() { # of both nodes, but what looking at them may change: events, and who held the lock last
    (cd "$TEST_DIR" && find a b -type f ! -path '*/events/*' ! -path '*/log/*' ! -path '*/lock/*' -exec md5sum {} + 2>/dev/null | sort)
    taps
    on b taps
}

slow_link() { # RATE: what goes from a to b
    ip netns exec "$(namespace_of_node a)" tc qdisc add dev "$(link_of a)" root tbf rate "$1" burst 64kb latency 100ms
}

listens() { # PORT on b
    ip netns exec "$(namespace_of_node b)" ss -Hltn "sport = :$1" | grep -q .
}

# ---- check ----

@test "check measures link and guest, says how long it would take, and changes nothing" {
    local before
    two_nodes br0
    empty '.nics = [{nicparams: {mode: "bridged", link: "br0"}}]'
    before=$(everything)
    migrate a check --bandwidth 16
    expect_status 0
    expect_output "can be migrated to 10.9.0.2: link "
    expect_output "32 MiB of memory, QEMU "
    expect_output "will converge in about 2.0 s, downtime about 30 ms"
    migrate a check --json
    expect_json '.[0].link_bytes_per_second > 1000000 and .[0].dirty_bytes_per_second == 0 and .[0].converges'
    expect_json '.[0].memory_bytes == 33554432 and .[0].target_available_mib > 0'
    expect_equal "$(everything)" "$before"
    expect_equal "$(run_state a)" running
    on b expect_nothing_left web1
}

@test "check measures the link that there is" {
    two_nodes
    slow_link 40mbit
    empty
    migrate a check --bandwidth 0 --json
    expect_status 0
    expect_json '.[0].link_bytes_per_second > 3000000 and .[0].link_bytes_per_second < 6000000'
    expect_json '.[0].expected_seconds > 5 and .[0].expected_seconds < 12'
}

@test "check through the tunnel measures the tunnel, where there is a place for one" {
    two_nodes
    mkdir -m 0700 "$TEST_DIR/b"
    empty
    on b suite kvm-start "$(empty_definition other)"
    expect_status 0
    migrate a check --tunnel --json
    expect_status 0
    expect_json '.[0].link_bytes_per_second > 1000000'
    on b expect_nothing_left web1
}

@test "check tells the problems of both sides in one list" {
    local image listener
    two_nodes br0
    image=$(disk web1 8)
    empty ".disks = [{path: \"$image\"}] | .nics = [{nicparams: {mode: \"bridged\", link: \"br0\"}}]
        | .beparams.memory = $(awk '/^MemTotal/ { print int($2 / 1024) - 64 }' /proc/meminfo)"
    qmp web1 stop
    mv "$image" "$image.away"
    ip -n "$(namespace_of_node b)" link delete br0
    ip netns exec "$(namespace_of_node b)" socat TCP-LISTEN:8199,bind=10.9.0.2 "OPEN:$TEST_DIR/unread,create" 3>&- &
    listener=$!
    wait_until 10 listens 8199
    migrate a check --port 8199
    kill "$listener"
    expect_status 3
    expect_error "on the target: memory: the guest needs "
    expect_error "on the target: listening on 10.9.0.2 port 8199 (migration address and port): Address already in use"
    expect_error "$image"
    expect_error 'there is no bridge br0'
    expect_equal "$(run_state a)" paused
    on b expect_nothing_left web1
}

@test "check names an address that the target does not have" {
    two_nodes
    empty
    migrate a check --address 10.9.0.77
    expect_status 3
    expect_error "on the target: listening on 10.9.0.77 port 8102 (migration address and port): Cannot assign requested address"
    on b expect_nothing_left web1
}

@test "check notices that the source has no way to the address" {
    two_nodes
    empty
    ip -n "$(namespace_of_node b)" address add 10.77.0.1/32 dev lo
    migrate a check --address 10.77.0.1
    expect_status 3
    expect_error "the way of the memory: 10.77.0.1 port 8102: Network is unreachable"
    expect_equal "$(run_state a)" running
    on b expect_nothing_left web1
}

# bats test_tags=guest
@test "check says in words that a guest is too fast for the link, and what helps" {
    two_nodes
    slow_link 40mbit
    start web1
    guest_run web1 'gt dirty 32 60000 >/dev/null 2>&1 &'
    migrate a check --bandwidth 0
    expect_status 3
    expect_error "would never arrive on 10.9.0.2"
    [[ $errors =~ dirty\ [0-9]+\ MiB/s\ \>\ link\ [0-9.]+\ MiB/s:\ use\ --auto-converge ]]
    migrate a check --non-live
    expect_status 0
    expect_output "will be copied in about"
    migrate a check --auto-converge
    expect_status 0
    expect_output "will converge"
}
