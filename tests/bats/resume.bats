#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# kvm-start --resume: a guest whose CPUs are stopped goes on, where that is right.

load helper
load pretend

resume() { # STATUS WORD…
    local wanted=$1
    shift
    suite kvm-start --resume "$@"
    expect_status "$wanted"
}

state_is() { # NAME STATE
    [[ $("$BUILD/kvm-info" --json "$1" | jq -r '.[0].state') == "$2" ]]
}

# bats test_tags=guest
@test "full storage pauses a guest: it goes on when there is room, and loses nothing" {
    mkdir "$TEST_DIR/small"
    mount -t tmpfs -o size=2m small "$TEST_DIR/small"
    truncate -s 8M "$TEST_DIR/small/disk"
    definition web1 ".disks = [{path: \"$TEST_DIR/small/disk\"}]" >/dev/null
    suite kvm-start "$TEST_DIR/web1.json"
    expect_status 0
    guest_run web1 true
    # It is paused before it can answer, maybe.
    GUEST_TIMEOUT=3 guest_run web1 '(dd if=/dev/urandom of=/tmp/sent bs=64k count=64; dd if=/tmp/sent of=/dev/vda bs=64k; sync; touch /tmp/done) >/dev/null 2>&1 &' || true
    wait_until 60 state_is web1 paused
    suite kvm-info web1
    expect_output "status     io-error; 'kvm-start --resume web1' lets it go on"
    suite kvm-start "$TEST_DIR/web1.json"
    expect_status 0
    expect_output "already running (pid $(qemu_pid web1), io-error); 'kvm-start --resume web1' lets it go on"
    suite kvm-migrate web1 check localhost --in-place
    expect_status 3
    expect_error "the guest is \"io-error\", which can't be migrated; 'kvm-start --resume web1' lets it go on"
    resume 1 web1
    expect_error "an I/O error has paused it again ("
    expect_error "write: No space left on device); mend that, then repeat the command"
    state_is web1 paused
    mount -o remount,size=16m "$TEST_DIR/small"
    resume 0 web1
    expect_output "web1: resumed (pid $(qemu_pid web1)): an I/O error had paused it"
    guest_run web1 'until [ -e /tmp/done ]; do sleep 0.1; done; echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/vda bs=64k count=64 2>/dev/null | cmp - /tmp/sent'
    state_is web1 running
    suite kvm-info --events web1
    expect_output '"action":"resume"'
    suite kvm-stop --force web1
    umount "$TEST_DIR/small"
}

@test "what was started with --paused, and what another program has paused" {
    local file
    file=$(empty_definition web1)
    suite kvm-start --paused "$file"
    expect_status 0
    resume 0 --dry-run web1
    expect_output "web1: would be resumed (pid $(qemu_pid web1)): it stood before its first instruction"
    state_is web1 paused
    resume 0 web1
    expect_output "resumed (pid $(qemu_pid web1)): it stood before its first instruction"
    expect_equal "$(jq -r '.[4].state' "$RUN_DIR/conf/web1.runtime")" running
    resume 0 web1
    expect_output "web1: it runs already (pid $(qemu_pid web1))"
    echo stop | socat - "UNIX-CONNECT:$RUN_DIR/ctrl/web1.monitor" >/dev/null
    wait_until 10 state_is web1 paused
    resume 0 --json web1
    expect_json '.[0] | .status == 0 and (.result | endswith("it was paused"))'
    state_is web1 running
}

@test "several at once; what does not run is 3, and a slip leaves no trace" {
    suite kvm-start --paused "$(empty_definition a)" "$(empty_definition b)"
    expect_status 0
    resume 3 a b nobody
    expect_output "a: resumed"
    expect_output "b: resumed"
    expect_error "nobody: it does not run; 'kvm-start FILE' starts it"
    [[ ! -e $RUN_DIR/lock/nobody ]]
    resume 2
    expect_error "--resume takes the names of instances"
    resume 2 --all
    resume 2 --paused a
    suite kvm-start --adopt a --resume
    expect_status 2
}

@test "busy: 4, and who it is" {
    local holder
    pretend "deleted never"
    "$BUILD/kvm-hotplug" web1 del-disk "$ONE" 2>/dev/null 3>&- &
    holder=$!
    wait_until 10 grep -q device_del "$TEST_DIR/commands"
    resume 4 web1
    expect_error "busy: kvm-hotplug pid $holder by root since"
    kill "$holder"
    wait "$holder" || true
}

@test "a guest that must not go on, or can't, is left as it is" {
    local word
    for word in postmigrate inmigrate finish-migrate suspended; do
        pretend "status $word"
        resume 3 web1
        expect_error "the guest is \"$word\", it "
        expect_no_error "kvm-stop"
        expect_equal "$(jq -r .execute "$TEST_DIR/commands" | grep -c '^cont$' || true)" 0
    done
    for word in guest-panicked internal-error; do
        pretend "status $word"
        resume 3 web1
        expect_error "the guest is \"$word\" and can't go on; 'kvm-info --events web1' shows"
        expect_equal "$(jq -r .execute "$TEST_DIR/commands" | grep -c '^cont$' || true)" 0
    done
    pretend 'return query-migrate {"status": "active"}' "status paused"
    resume 3 web1
    expect_error "a migration is in progress (active)"
    jq '.[4].migration = {side: "source", phase: "sending"}' "$TEST_DIR/runtime" >"$RUN_DIR/conf/web1.runtime"
    resume 3 web1
    expect_error "a migration of it is under way"
    rm "$RUN_DIR/conf/web1.runtime"
    resume 3 web1
    expect_error "its runtime file is missing, so whether another node has its guest is not known"
    expect_equal "$(jq -r .execute "$TEST_DIR/commands" | grep -c '^cont$' || true)" 0
}

@test "what became of it is asked, also when QEMU sends no event, or its answer is lost" {
    pretend "status io-error" 'return cont {}'
    resume 1 web1
    expect_error "an I/O error has paused it again; mend that"
    pretend "status io-error" "close cont"
    resume 1 web1
    expect_error "whether it took effect is not known; 'kvm-info web1' shows it, or repeat the command"
    pretend "status io-error" "close 4"
    resume 1 web1
    expect_error "it was let go on, and whether it still runs is not known: 'kvm-info web1' shows it"
}

@test "what another program has let go on is recorded, and stays so when it is moved" {
    suite kvm-start --paused "$(empty_definition web1)"
    expect_status 0
    echo cont | socat - "UNIX-CONNECT:$RUN_DIR/ctrl/web1.monitor" >/dev/null
    wait_until 10 state_is web1 running
    suite kvm-migrate web1 to localhost --in-place
    expect_status 0
    state_is web1 running
    jq '.[4].state = "paused"' "$RUN_DIR/conf/web1.runtime" >"$TEST_DIR/runtime"
    cat "$TEST_DIR/runtime" >"$RUN_DIR/conf/web1.runtime"
    resume 0 web1
    expect_output "web1: it runs already"
    expect_equal "$(jq -r '.[4].state' "$RUN_DIR/conf/web1.runtime")" running
}
