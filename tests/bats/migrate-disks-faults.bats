#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# kvm-migrate --copy-disks when it is refused, killed or cut at every moment: the guest keeps a whole disk, no mirror, node
# or half-copied file is left, and no file that was there before is touched.

load helper
load hotplug
load migrate

prepare() {
    two_nodes
    mkdir "$TEST_DIR/there"
    image=$(disk first 8)
    dd if=/dev/urandom of="$image" bs=1M count=6 conv=notrunc status=none
    there=$TEST_DIR/there/first.img
    suite kvm-start "$(empty_definition web1 ".disks = [{path: \"$image\", name: \"first\"}]")"
    expect_status 0
}

copies_of() { # a|b: what QEMU has of copies
    on "$1" qmp web1 query-named-block-nodes '{"flat": true}' | jq -r '.[]."node-name" | select(startswith("kvm-copy"))'
    on "$1" qmp web1 query-block-jobs | jq -r '.[].device'
    on "$1" qmp web1 query-block-exports | jq -r '.[].id'
}

expect_stayed() { # the guest runs on its old disk, and nothing else is left
    expect_runs_on a
    expect_equal "$(copies_of a)" ""
    expect_equal "$(find "$TEST_DIR/there" -type f)" ""
}

recover() { # a|b
    on "$1" suite kvm-migrate web1 recover --remote "$(remote_to "$(other "$1")")" --timeout 10
}

settle() {
    local _
    for _ in 1 2; do
        [[ $(phase_of a)$(phase_of b) == nonenone ]] || recover a
        [[ $(phase_of a)$(phase_of b) == nonenone ]] || recover b
    done
    expect_equal "$(phase_of a) $(phase_of b)" "none none"
}

copy() { # ARG…
    migrate a to --plain-tcp --timeout 10 --copy-disks --disk-path "first=$there" "$@"
}

# Harm at a moment of the session, or, with "mirroring", while the disk is being copied.
harmed_copy() { # MOMENT COMMAND [ARG…]
    local moment=$1 command=$2
    echo "## $moment: $command"
    rm -f "$TEST_DIR/session" "$TEST_DIR/harmed"
    if [[ $moment == mirroring ]]; then
        moment=after-receive
        command="(until '$TESTS/bats/qmp' '$TEST_DIR/a/ctrl/web1.query' query-block-jobs | grep -q running; do :; done; $command) >/dev/null 2>&1 &"
        set -- "$@" --bandwidth 1
    fi
    meddle "$moment" "$command"
    copy "${@:3}"
    unset REMOTE
    [[ -e $TEST_DIR/harmed ]] || fail "the harm was not done"
}

driver() {
    echo "kill -KILL \$(pgrep -f '^$BUILD/kvm-migrate web1 to .*$TEST_DIR')"
}

@test "check and to refuse what could be overwritten or does not fit, all at once, and change nothing" {
    prepare
    migrate a check --copy-disks --disk-path "first=$there"
    expect_status 0
    expect_output "before that 1 disk of 8 MiB (6 MiB used) is copied, in at most about"
    expect_equal "$(find "$TEST_DIR/there" -type f)" ""
    local words
    echo precious >"$there"
    for words in check to rehearse; do
        migrate a "$words" --copy-disks --disk-path "first=$there"
        expect_status 3
        expect_error "is there already and is not overwritten unasked"
    done
    expect_equal "$(cat "$there")" precious
    migrate a check --copy-disks --disk-path "first=$TEST_DIR/nowhere/first.img"
    expect_status 3
    expect_error "there is no directory $TEST_DIR/nowhere, make it first"
    migrate a to --copy-disks --disk-path first=/etc/cron.d/first
    expect_status 3
    expect_error "not made in directories of the system"
    migrate a to --copy-disks --disk-path first=/dev/nogroup/first
    expect_status 3
    expect_error "there is no such device; make it with 8388608 bytes"
    migrate a to --copy-disks=first
    expect_status 3
    expect_error "is the very storage that the guest uses here"
    migrate a to --copy-disks --disk-path "first=$image" --overwrite-disks
    expect_status 3
    expect_error "is the very storage that the guest uses here"
    migrate a to --copy-disks=second
    expect_status 2
    expect_error 'no disk is called "second"'
    migrate a to --copy-disks --disk-path first=relative
    expect_status 2
    expect_error 'must be DISK=PATH with an absolute path (current value: "first=relative")'
    migrate a to --copy-disks --tunnel
    expect_status 2
    migrate a rehearse --copy-disks --overwrite-disks
    expect_status 2
    expect_error "a rehearsal overwrites nothing"
    migrate a to --overwrite-disks
    expect_status 2
    mkdir "$TEST_DIR/small"
    mount -t tmpfs -o size=2m small "$TEST_DIR/small"
    migrate a check --copy-disks --disk-path "first=$TEST_DIR/small/first.img"
    umount "$TEST_DIR/small"
    expect_status 3
    expect_error "MiB are free there, the disks take 6 MiB"
    expect_runs_on a
}

@test "what is at the place is taken when asked for: a file, a block device of the same size, none that is in use" {
    local loop
    prepare
    rm -rf "$TEST_DIR/there"
    mkdir "$TEST_DIR/there"
    truncate -s 8M "$TEST_DIR/volume"
    truncate -s 9M "$TEST_DIR/larger"
    loop=$(losetup --show -f "$TEST_DIR/larger")
    migrate a check --copy-disks --disk-path "first=$loop" --overwrite-disks
    expect_status 3
    expect_error "conf-b/kvm-defaults.json: disk_places: must name \"/dev\""
    expect_error "(current value: not set, which allows logical volumes only)"
    jq -n '{disk_places: ["/dev", $ARGS.positional[0]]}' --args "$TEST_DIR" >"$TEST_DIR/conf-b/kvm-defaults.json"
    migrate a check --copy-disks --disk-path "first=$loop" --overwrite-disks
    losetup -d "$loop"
    expect_status 3
    expect_error "has 9437184 bytes, the disk 8388608"
    echo precious >"$there"
    # Who holds QEMU's lock on it is an instance of this or another suite.
    flock_like_qemu "$there"
    copy --overwrite-disks
    expect_status 3
    expect_error "in use by another instance"
    expect_equal "$(cat "$there")" precious
    kill "$locker"
    wait "$locker" || true
    # Of a failure a file that was there stays; it is not the one that was made.
    harmed_copy before-tree "$(kill_file "$TEST_DIR/b/pid/web1")" --overwrite-disks
    expect_status 1
    settle
    expect_runs_on a
    [[ -e $there ]] || fail "a file that was there before is gone"
    loop=$(losetup --show -f "$TEST_DIR/volume")
    there=$loop
    copy --overwrite-disks
    losetup -d "$loop"
    expect_status 0
    expect_runs_on b
    cmp "$image" "$TEST_DIR/volume"
}

flock_like_qemu() { # FILE: $locker holds the byte of QEMU's permission "write"
    python3 -c '
import fcntl, sys, time
file = open(sys.argv[1], "r+b")
fcntl.lockf(file, fcntl.LOCK_SH, 1, 101)
print("locked", flush=True)
time.sleep(600)' "$1" >"$TEST_DIR/locker" 3>&- &
    locker=$!
    wait_until 10 grep -q locked "$TEST_DIR/locker"
}

@test "a disk that both nodes see is left alone" {
    prepare
    migrate a to --plain-tcp --copy-disks
    expect_status 0
    expect_error "the target sees the same storage, so it is not copied"
    expect_runs_on b
}

@test "a rehearsal copies the disk and removes its copy" {
    prepare
    migrate a rehearse --copy-disks --disk-path "first=$there"
    expect_status 0
    expect_stayed
}

@test "the target's QEMU or the target's side of the session is killed: the guest stays, nothing is left" {
    local moment
    prepare
    for moment in after-accept mirroring before-vote; do
        harmed_copy "$moment" "$(kill_file "$TEST_DIR/b/pid/web1")"
        [[ $status -ne 0 ]] || fail "it went on without a target"
        settle
        expect_stayed
        harmed_copy "$moment" "$(kill_file "$TEST_DIR/serve-b.pid")"
        expect_status 5
        expect_error "half-copied disks there: $there"
        settle
        expect_stayed
    done
}

@test "the target's QEMU hangs while the disk is copied: the guest's writes don't wait for it for long" {
    local since=$SECONDS
    prepare
    harmed_copy mirroring "kill -STOP \$(cat '$TEST_DIR/b/pid/web1')"
    expect_status 1
    expect_error "no answer from QEMU in time; the guest runs here as before"
    [[ $((SECONDS - since)) -lt 40 ]] || fail "it took $((SECONDS - since)) s"
    expect_stayed
}

@test "the source's tool is killed: recover undoes it before the commit and finishes it after" {
    local moment
    prepare
    for moment in before-accept after-accept mirroring before-vote after-vote; do
        harmed_copy "$moment" "$(driver)"
        settle
        expect_stayed
    done
    harmed_copy before-commit "$(driver)"
    settle
    expect_runs_on b
    cmp "$image" "$there"
}

@test "the target's storage gets full while the disk is copied: the guest stays, nothing is left" {
    prepare
    mount -t tmpfs -o size=7m small "$TEST_DIR/there"
    harmed_copy after-accept "dd if=/dev/zero of=$TEST_DIR/there/other bs=1M count=4 2>/dev/null"
    rm -f "$TEST_DIR/there/other"
    find "$TEST_DIR/there" -type f >"$TEST_DIR/found"
    umount "$TEST_DIR/there"
    expect_status 1
    expect_error "copying disk first to $there failed: No space left on device; the guest runs here as before"
    expect_equal "$(cat "$TEST_DIR/found")" ""
    expect_stayed
}

@test "kvm-cleanup tells and removes the half-copied files of a target that nobody drives any more" {
    prepare
    harmed_copy mirroring "kill -KILL \$(cat '$TEST_DIR/serve-b.pid' '$TEST_DIR/b/pid/web1')"
    [[ -e $there ]] || fail "there is no half-copied file"
    on b suite kvm-cleanup web1 --explain
    expect_output "$there"
    on b suite kvm-cleanup web1
    expect_status 0
    settle
    expect_stayed
}

# What the target answers to the recorded request, edited.
expect_refusal() { # JQ TEXT
    grep -h '"stage": *"accept"' "$TEST_DIR/session" | head -n 1 | jq -c "$1" |
        "$(remote_to b)" kvm-migrate web1 serve >"$TEST_DIR/answer"
    jq -e --arg text "$2" '.ok == false and (.error | contains($text))' "$TEST_DIR/answer" ||
        fail "$1: $(cat "$TEST_DIR/answer")"
    on b expect_nothing_left web1
    expect_equal "$(find "$TEST_DIR/there" -type f)" ""
}

@test "a request that wants a disk elsewhere than disks may be is refused" {
    prepare
    harmed_copy before-tree "$(kill_file "$TEST_DIR/b/pid/web1")"
    settle
    expect_refusal '.disks[0].path = "there/first.img"' "tells no path"
    expect_refusal '.disks[0].path = "/etc/cron.d/first"' "directories of the system"
    expect_refusal ".disks[0].path = \"$TEST_DIR/there/../../../etc/first\"" "tells no path"
    ln -s /etc "$TEST_DIR/link"
    expect_refusal ".disks[0].path = \"$TEST_DIR/link/first\"" "directories of the system"
    expect_refusal ".disks[0].path = \"$TEST_DIR/there/.first\"" "hidden"
    expect_refusal '.disks[0].size = -512' "tells no size"
    expect_refusal '.disks[0].size = 9007199254740992 | .disks[0].used = 0' "first.img: File too large"
    expect_refusal '.disks[0].uuid = "00000000-0000-4000-8000-000000000000"' "no writable one of the instance"
    expect_refusal '.disks += .disks' "no writable one of the instance"
    expect_refusal '.disks[0] = "first"' "no writable one of the instance"
}

elsewhere_is_untouched() { # TEXT…: what copy says
    local text
    expect_status 3
    for text in "$@"; do
        expect_error "$text"
    done
    expect_equal "$(cat "$elsewhere/data")" precious
    expect_equal "$(ls "$elsewhere")" data
    expect_runs_on a
}

@test "what is no disk is not overwritten, also not through a link; the node file says where disks may be" {
    prepare
    elsewhere=$(mktemp -d /var/cache/ks.XXXXXX)
    echo precious >"$elsewhere/data"
    there=$elsewhere/data
    copy --overwrite-disks
    elsewhere_is_untouched "$there: refused: $TEST_DIR/conf-b/kvm-defaults.json: disk_places: must name \"$elsewhere\" or a directory above it" \
        "(current value: not set, which allows to overwrite files below /srv, /mnt and the like only); put it there"
    ln -s "$elsewhere" "$TEST_DIR/there/link"
    ln -s "$elsewhere/data" "$TEST_DIR/there/file"
    for there in "$TEST_DIR/there/link/data" "$TEST_DIR/there/file"; do
        copy --overwrite-disks
        elsewhere_is_untouched "must name \"$elsewhere\""
    done
    jq -n '{disk_places: [$ARGS.positional[0]]}' --args "$TEST_DIR/there" >"$TEST_DIR/conf-b/kvm-defaults.json"
    for there in "$TEST_DIR/there/link/data" "$TEST_DIR/there/file" "$TEST_DIR/there/link/new" "$elsewhere/new" "$TEST_DIR/first.new"; do
        copy --overwrite-disks
        elsewhere_is_untouched "(current value: [\"$TEST_DIR/there\"])"
    done
    echo precious >"$TEST_DIR/there/one"
    ln "$TEST_DIR/there/one" "$TEST_DIR/other"
    there=$TEST_DIR/there/one
    copy --overwrite-disks
    elsewhere_is_untouched "is there under 2 names and is not overwritten"
    there=$TEST_DIR/there/first.img
    copy
    expect_status 0
    expect_runs_on b
    rm -rf "$elsewhere"
}

@test "who puts a link in the place of a disk between its check and QEMU's start gets nothing written elsewhere" {
    prepare
    truncate -s 8M "$TEST_DIR/victim"
    cp "$TEST_DIR/victim" "$TEST_DIR/victim.before"
    # The first time that QEMU is asked what it can is between the two.
    cat >"$TEST_DIR/qemu" <<END
#!/bin/bash
if [[ -e $there && ! -e $TEST_DIR/swapped ]]; then
    touch "$TEST_DIR/swapped"
    mv "$there" "$there.away"
    ln -s "$TEST_DIR/victim" "$there"
fi
exec qemu-system-x86_64 "\$@"
END
    chmod 0755 "$TEST_DIR/qemu"
    jq -n '{hvparams: {kvm_path: $ARGS.positional[0]}}' --args "$TEST_DIR/qemu" >"$TEST_DIR/conf-b/kvm-defaults.json"
    copy
    [[ -e $TEST_DIR/swapped ]] || fail "nothing was swapped"
    cmp "$TEST_DIR/victim" "$TEST_DIR/victim.before"
    expect_status 3
    expect_error "on the target: open the images: disks[0]: $there: is not any more what was checked"
    expect_runs_on a
    [[ -L $there ]] || fail "what is somebody else's was removed"
}

@test "a stranger who connects to the port of the disks and says nothing keeps the source away neither" {
    prepare
    cat >"$TEST_DIR/stranger" <<'END'
import json, signal, socket, sys
answers = [json.loads(line) for line in open(sys.argv[1] + "/session")]
port = [one["disk_port"] for one in answers if one.get("disk_port") and "ok" in one][-1]
silent = [socket.create_connection(("10.9.0.2", port)) for _ in range(8)]
open(sys.argv[1] + "/connected", "w").close()
signal.pause()
END
    meddle after-accept "ip netns exec $(namespace_of_node a) python3 $TEST_DIR/stranger $TEST_DIR >/dev/null 2>&1 & echo \$! >$TEST_DIR/stranger.pid; until [ -e $TEST_DIR/connected ]; do :; done"
    copy
    kill "$(cat "$TEST_DIR/stranger.pid")"
    expect_status 0
    expect_runs_on b
    cmp "$image" "$there"
}

@test "status tells how far the disks are; cancel, the deadline and Ctrl-C end it" {
    prepare
    migrate_behind a to --plain-tcp --bandwidth 1 --copy-disks --disk-path "first=$there"
    wait_until 30 bash -c "'$TESTS/bats/qmp' '$TEST_DIR/a/ctrl/web1.query' query-block-jobs | grep -q running"
    suite kvm-migrate web1 status
    expect_output "source, sending"
    expect_output "disks "
    suite kvm-hotplug web1 list --wait-lock 0
    suite kvm-hotplug web1 add-disk path="$image" --wait-lock 0
    expect_status 4
    suite kvm-migrate web1 cancel
    expect_status 0
    migrate_end
    expect_status 1
    expect_error "copying disk first to $there: cancelled by root (kvm-migrate pid "
    expect_no_error "QEMU on the target said"
    settle
    expect_stayed
    copy --bandwidth 1 --deadline 1
    expect_status 1
    expect_error "the disks were not copied by the deadline"
    expect_stayed
    migrate_behind a to --plain-tcp --bandwidth 1 --copy-disks --disk-path "first=$there"
    wait_until 30 bash -c "'$TESTS/bats/qmp' '$TEST_DIR/a/ctrl/web1.query' query-block-jobs | grep -q running"
    kill -INT -- "-$tool"
    migrate_end
    expect_status 1
    expect_error "interrupted; the guest runs here as before"
    expect_stayed
}
