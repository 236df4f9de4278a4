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
    expect_json '.[0].link_bytes_per_second > 1000000 and .[0].dirty_bytes_per_second <= 8388608 and .[0].converges'
    expect_json '.[0].memory_bytes == 33554432 and .[0].target_available_mib > 0'
    expect_equal "$(everything)" "$before"
    expect_equal "$(run_state a)" running
    on b expect_nothing_left web1
}

@test "check measures the link that there is" {
    two_nodes
    slow_wire 40mbit
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
    expect_error "on the target: listening on 10.9.0.2 port 8199 (migration address and port): Address already in use; 'ss -ltnp' on that node shows by whom, --port takes another"
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
    expect_error "on the target: listening on 10.9.0.77 port 8102 (migration address and port): Cannot assign requested address; --address gives one that the node has"
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
    slow_wire 40mbit
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

# ---- several connections ----

# bats test_tags=guest
@test "--multifd: to and fro with each compression, encrypted and plain" {
    two_nodes br0
    watch_runs
    start web1 '.nics = [{nicparams: {mode: "bridged", link: "br0"}}]'
    mark
    migrate a to --multifd 2 --bandwidth 48
    expect_status 0
    expect_runs_on b
    on b expect_mark
    migrate b to --multifd 4 --multifd-compression zlib --bandwidth 48
    expect_status 0
    expect_runs_on a
    migrate a to --multifd 3 --multifd-compression zstd --plain-tcp --port 0 --bandwidth 48
    expect_status 0
    expect_runs_on b
    on b expect_mark
    # What one migration has switched on is not left on for the next.
    migrate b to --bandwidth 48
    expect_status 0
    expect_runs_on a
    expect_mark
    expect_no_secrets
    expect_no_double_run
}

# bats test_tags=guest
@test "--multifd: several connections are really used, and a cut link is noticed in seconds" {
    local began
    two_nodes
    start web1
    guest_run web1 'gt dirty 32 20000 >/dev/null 2>&1 &'
    migrate_behind a to --multifd 3 --bandwidth 4
    wait_until 60 connections 4
    wait_until 60 watched 4
    began=$SECONDS
    ip -n "$(namespace_of_node a)" link set "$(link_of a)" down
    migrate_end
    expect_status 1
    expect_error "copying failed"
    expect_error "the guest runs here as before"
    [[ $((SECONDS - began)) -le 25 ]]
    expect_runs_on a
    expect_no_secrets
}

connections() { # COUNT: from the source to the migration port
    [[ $(ip netns exec "$(namespace_of_node a)" ss -Htn state established 'dport = :8102' | wc -l) -eq $1 ]]
}

# QEMU sets no time-out on its own connections; an idle one shows its keepalive timer.
watched() { # COUNT
    [[ $(ip netns exec "$(namespace_of_node a)" ss -Htno state established 'dport = :8102' | grep -c 'timer:') -eq $1 ]]
}

@test "--multifd: what does not fit together is refused before anything is touched" {
    two_nodes
    empty
    migrate a to --multifd 2 --tunnel
    expect_status 2
    expect_error "--multifd and --tunnel exclude each other"
    migrate a to --multifd-compression zlib
    expect_status 2
    expect_error "goes with --multifd only"
    migrate a to --multifd 2 --multifd-compression lzma
    expect_status 2
    expect_error 'must be none, zlib or zstd (current value: "lzma")'
    expect_equal "$(run_state a)" running
    on b expect_nothing_left web1
}

@test "over IPv6, with one connection and with several" {
    local one
    two_nodes
    for one in a b; do
        ip -n "$(namespace_of_node "$one")" address add "fd00:9::$one/64" dev "$(link_of "$one")" nodad
    done
    empty
    migrate a to --address fd00:9::b
    expect_status 0
    expect_runs_on b
    migrate b to --address fd00:9::a --multifd 2
    expect_status 0
    expect_runs_on a
}

# ---- certificates ----

certificate() { # DIR NAME CA SAN: NAME-cert.pem and NAME-key.pem, signed by the CA in that directory
    openssl req -newkey rsa:2048 -nodes -keyout "$1/$2-key.pem" -subj "/CN=$2" -out "$TEST_DIR/request" 2>/dev/null
    openssl x509 -req -in "$TEST_DIR/request" -CA "$3/ca-cert.pem" -CAkey "$3/ca-key.pem" -CAcreateserial -days 2 \
        -extfile <(printf 'subjectAltName=%s\nkeyUsage=digitalSignature,keyEncipherment\n' "$4") \
        -out "$1/$2-cert.pem" 2>/dev/null
}

authority() { # DIR
    mkdir -m 0700 "$1"
    openssl req -x509 -newkey rsa:2048 -nodes -keyout "$1/ca-key.pem" -subj "/CN=authority" -days 2 \
        -addext basicConstraints=critical,CA:TRUE -addext keyUsage=keyCertSign -out "$1/ca-cert.pem" 2>/dev/null
}

certificates() { # SAN of the target
    authority "$TEST_DIR/pki"
    certificate "$TEST_DIR/pki" server "$TEST_DIR/pki" "$1"
    certificate "$TEST_DIR/pki" client "$TEST_DIR/pki" DNS:client
}

# By this test's run directories, since others may run at the same time.
expect_no_secrets() {
    local one
    for one in a b; do
        [[ ! -d $TEST_DIR/$one ]] || expect_equal \
            "$(find /dev/shm -maxdepth 1 -name "kvm-suite.web1.$(printf %x "$(stat -c %i "$TEST_DIR/$one")").*")" ""
    done
}

@test "--tls-x509: both sides prove who they are, also for a QEMU that can't read the keys" {
    two_nodes
    certificates IP:10.9.0.1,IP:10.9.0.2
    empty ".hvparams.security_model = \"user\" | .hvparams.security_domain = \"nobody\" | .disks = [{path: \"$(disk web1 8)\"}]"
    migrate a to --tls-x509 "$TEST_DIR/pki" --copy-disks --disk-path "0=$TEST_DIR/copied.img"
    expect_status 0
    expect_output "1 disk copied"
    expect_runs_on b
    migrate b to --tls-x509 "$TEST_DIR/pki" --multifd 2
    expect_status 0
    expect_runs_on a
    expect_no_secrets
}

@test "--tls-x509: a target with another name is refused, the guest runs on" {
    two_nodes
    certificates IP:10.9.0.3
    empty
    migrate a to --tls-x509 "$TEST_DIR/pki"
    expect_status 1
    expect_error "Certificate does not match the hostname 10.9.0.2"
    expect_error "the guest runs here as before"
    expect_runs_on a
    expect_no_secrets
    migrate a to
    expect_status 0
    expect_runs_on b
}

@test "--tls-x509: a source whose certificate is another authority's is refused by the target" {
    two_nodes
    certificates IP:10.9.0.2
    authority "$TEST_DIR/other"
    certificate "$TEST_DIR/pki" client "$TEST_DIR/other" DNS:client
    empty
    migrate a to --tls-x509 "$TEST_DIR/pki"
    expect_status 1
    expect_error "the guest runs here as before"
    expect_runs_on a
    expect_no_secrets
}

@test "--tls-x509: missing certificates are told by check, of both sides" {
    two_nodes
    certificates IP:10.9.0.2
    rm "$TEST_DIR/pki/server-key.pem" "$TEST_DIR/pki/client-cert.pem"
    empty
    migrate a check --tls-x509 "$TEST_DIR/pki"
    expect_status 3
    expect_error "--tls-x509: $TEST_DIR/pki/client-cert.pem: open: No such file or directory"
    expect_error "on the target: --tls-x509: $TEST_DIR/pki/server-key.pem: open: No such file or directory"
    migrate a to --tls-x509 pki
    expect_status 2
    expect_error "must be an absolute path"
}

# ---- hooks ----

hook_on() { # a|b PHASE BODY
    mkdir -p "$TEST_DIR/conf-$1/hooks/kvm-migrate-$2.d"
    printf '#!/bin/bash\nexec 5>>%q\n%s\n' "$TEST_DIR/said" "$3" >"$TEST_DIR/conf-$1/hooks/kvm-migrate-$2.d/tell"
    chmod 0755 "$TEST_DIR/conf-$1/hooks/kvm-migrate-$2.d/tell"
}

@test "hooks of both nodes may refuse it, and are told when the guest runs there" {
    # shellcheck disable=SC2016  # the hook's own variables
    local tell='echo "$GANETI_HOOKS_PHASE $KVM_SUITE_ACTION $GANETI_OP_CODE $GANETI_INSTANCE_NAME" >&5'
    two_nodes
    suite kvm-start "$(empty_definition web1)"
    expect_status 0
    for one in a b; do
        for phase in pre post; do hook_on "$one" "$phase" "$tell"; done
    done
    hook_on b pre "$tell; echo 'no room here'; exit 1"
    migrate a to
    expect_status 1
    expect_error "on the target: $TEST_DIR/conf-b/hooks/kvm-migrate-pre.d/tell ended with exit status 1: no room here"
    expect_equal "$(on a qmp web1 query-status | jq -r .status)" running
    on b expect_nothing_left web1
    hook_on b pre "$tell"
    migrate a rehearse
    expect_status 0
    hook_on a post "$tell; echo 'not told'; exit 1"
    rm "$TEST_DIR/said"
    migrate a to
    expect_status 0
    expect_error "warning: web1: $TEST_DIR/conf-a/hooks/kvm-migrate-post.d/tell ended with exit status 1: not told"
    expect_equal "$(cat "$TEST_DIR/said")" "pre source OP_INSTANCE_MIGRATE web1
pre target OP_INSTANCE_MIGRATE web1
post target OP_INSTANCE_MIGRATE web1
post source OP_INSTANCE_MIGRATE web1"
    expect_equal "$(on b qmp web1 query-status | jq -r .status)" running
}

@test "an option that an action would ignore is refused" {
    local words
    while read -r words; do
        # shellcheck disable=SC2086
        suite kvm-migrate web1 $words </dev/null
        expect_status 2
        expect_error "takes no --"
        expect_error "that goes with: "
    done <<'END'
status --copy-disks
status --remote true
cancel --bandwidth 5
recover --tunnel
recover --deadline 5
vote --token x
commit --bandwidth 5
abort --remote true
finish --address node2
accept --port 0
send --bandwidth 5
send --token x
offer node2 --deadline 5
offer node2 --multifd 2
to node2 --token x
rehearse node2 --non-live
serve --tunnel
pipe --port 0
END
    suite kvm-migrate web1 to node2 --on-deadline pause
    expect_status 2
    expect_error "--on-deadline goes with --deadline only"
    suite kvm-migrate web1 rehearse node2 --deadline 5 --on-deadline pause
    expect_status 2
    suite kvm-migrate web1 send --deadline 5 --on-deadline postcopy </dev/null
    expect_status 2
    suite kvm-migrate web1 offer node2 --dry-run
    expect_status 2
}

@test "a rehearsal copies while the guest runs, also of an instance that is else migrated paused" {
    two_nodes
    empty '.hvparams.migration_mode = "non-live"'
    migrate a rehearse
    expect_status 0
    expect_equal "$(run_state a)" running
    expect_equal "$(grep -oE '"(STOP|active)"' "$TEST_DIR/a/events/web1.jsonl" | head -n 1)" '"active"'
}

@test "a target that stops reading in the middle of a long question does not hold the source: Ctrl-C is heard" {
    two_nodes
    empty '.tags = [range(4000) | "tag-\(.)-" + ("x" * 100)]'
    cat >"$TEST_DIR/deaf" <<END
#!/usr/bin/env python3
import os, subprocess, sys, time
serve = subprocess.Popen(["$(remote_to b)", *sys.argv[1:]], stdin=subprocess.PIPE)
line = b""
while not line.endswith(b"\\n"):
    line += os.read(0, 1)
serve.stdin.write(line)
serve.stdin.flush()
open("$TEST_DIR/is_deaf", "w").close()
time.sleep(60)
END
    chmod +x "$TEST_DIR/deaf"
    REMOTE=$TEST_DIR/deaf migrate_behind a to
    wait_until 30 test -e "$TEST_DIR/is_deaf"
    wait_until 30 waits_to_send
    kill -INT "$tool"
    wait_until 15 has_ended "$tool"
    migrate_end
    expect_status 5
    expect_error "interrupted"
    expect_error "the guest runs here"
    expect_equal "$(run_state a)" running
}

# The unix socket's buffer is full.
waits_to_send() {
    [[ $(ip netns exec "$(namespace_of_node a)" ss -Hxp | grep "pid=$tool," | awk '{ if ($4 > most) most = $4 } END { print most + 0 }') -gt 100000 ]]
}

has_ended() { # PID
    ! kill -0 "$1" 2>/dev/null
}
