#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# kvm-cleanup on real QEMU: what is dead goes completely, what lives is left alone, nothing planted is followed.

load helper

# ---- small words of this file ----

start_paused() { # FILE…
    suite kvm-start --paused "$@"
    expect_status 0
}

kill_qemu() { # NAME…
    local name pid
    for name in "$@"; do
        pid=$(qemu_pid "$name")
        kill -KILL "$pid"
        wait_until 10 process_is_gone "$pid"
    done
}

dead() { # NAME [JQ-FILTER]: was started and killed
    start_paused "$(empty_definition "$1" "${2:-.}")"
    kill_qemu "$1"
}

tree() {
    find "$RUN_DIR" -ls | sort -k 11
}

# All that is left of any instance: names below the directories, the lock files and the cache aside.
everything_left() {
    (cd "$RUN_DIR" && find . -mindepth 2 ! -path './lock/*' ! -path './cache/*' | sort)
}

count_calls() {
    local which
    for which in ifup ifdown; do
        printf '#!/bin/sh\necho "$1 $2 $MAC" >>"%s/%s"\n' "$TEST_DIR" "$which" >"$CONF_DIR/kvm-$which-custom"
        chmod 0755 "$CONF_DIR/kvm-$which-custom"
        : >"$TEST_DIR/$which"
    done
}

# Something of ours that must stay as it is, whatever leads to it.
make_victim() {
    mkdir "$TEST_DIR/victim"
    echo precious >"$TEST_DIR/victim/file"
    victim_before=$(find "$TEST_DIR/victim" -ls; cat "$TEST_DIR/victim/file")
}

expect_victim() {
    expect_equal "$(find "$TEST_DIR/victim" -ls; cat "$TEST_DIR/victim/file")" "$victim_before"
}

# ---- live and dead ----

@test "a live instance is refused, running or paused, and nothing of it changes" {
    start_paused "$(empty_definition a)"
    suite kvm-start "$(empty_definition b)"
    files=$(everything_left)
    for name in a b; do
        suite kvm-cleanup $name
        expect_status 3
        expect_error "it runs (pid $(qemu_pid $name)); 'kvm-stop $name' stops it"
        suite kvm-cleanup --explain $name
        expect_status 3
        qemu_lives $name
    done
    expect_equal "$(everything_left)" "$files"
}

@test "a dead instance goes completely: only its lock stays, and ifdown ran once" {
    network br0
    count_calls
    image=$(disk one 4)
    dead web1 ".disks = [{path: \"$image\"}] | .nics = [{mac: \"aa:00:00:01:02:03\", nicparams: {link: \"br0\"}}, {mac: \"aa:00:00:01:02:04\", nicparams: {link: \"br0\"}}] | .hvparams.use_guest_agent = true"
    suite kvm-cleanup web1
    expect_status 0
    expect_output "web1: cleaned up: QEMU ended without a word"
    expect_equal "$(everything_left)" ""
    expect_equal "$(ls "$RUN_DIR/lock")" web1
    expect_equal "$(cut -d ' ' -f 2- "$TEST_DIR/ifdown" | sort)" $'false aa:00:00:01:02:03\nfalse aa:00:00:01:02:04'
    expect_equal "$(cut -d ' ' -f 1 "$TEST_DIR/ifdown" | sort)" "$(cut -d ' ' -f 1 "$TEST_DIR/ifup" | sort)"
    suite kvm-cleanup web1
    expect_status 0
    expect_output "nothing is left of it"
    expect_equal "$(wc -l <"$TEST_DIR/ifdown")" 2
    [[ -s $image ]]
}

@test "-v tells each step of a clean-up, and without it there is nothing" {
    count_calls
    network br0
    dead a '.nics = [{nicparams: {mode: "bridged", link: "br0"}, uuid: "11111111-2573-4112-8b0a-000000000000"}]'
    dead b
    suite kvm-cleanup -v a
    expect_status 0
    expect_error "run ifdown for NIC 11111111-2573-4112-8b0a-000000000000 (tap "
    expect_error "remove the pid file (pid/a)"
    expect_error "remove the runtime file (conf/a.runtime)"
    suite kvm-cleanup b
    expect_status 0
    expect_equal "$stderr" ""
}

@test "--all removes the dead and leaves the living alone" {
    start_paused "$(empty_definition live)"
    dead one
    dead two
    pid=$(qemu_pid live)
    suite kvm-cleanup --all
    expect_status 0
    expect_output "live: runs (pid $pid): left alone"
    for name in one two; do
        expect_output "$name: cleaned up"
        expect_nothing_left $name
    done
    qemu_lives live
    suite kvm-info live
    expect_status 0
}

@test "--explain lists everything and changes nothing; then just that is removed" {
    network br0
    dead web1 '.nics = [{nicparams: {link: "br0"}}]'
    touch "$RUN_DIR/ctrl/web1.shutdown"
    before=$(tree)
    suite kvm-cleanup --explain web1
    expect_status 0
    expect_output "web1: does not run: QEMU ended without a word"
    expect_output "run ifdown"
    for file in pid/web1 ctrl/web1.qmp ctrl/web1.query ctrl/web1.monitor ctrl/web1.serial ctrl/web1.shutdown conf/web1.runtime events/web1.jsonl log/web1.log; do
        expect_output "  $file: "
    done
    suite kvm-cleanup --explain --json --all
    expect_status 0
    expect_json '.[0].findings | length >= 10'
    expect_equal "$(tree)" "$before"
    suite kvm-cleanup web1
    expect_status 0
    suite kvm-cleanup --explain web1
    expect_status 0
    expect_output "nothing is left of it"
}

@test "an ifdown that fails is told, and the next clean-up runs it again with what it needs" {
    network br0
    count_calls
    dead web1 '.nics = [{mac: "aa:00:00:01:02:03", nicparams: {link: "br0"}}]'
    echo 'exit 7' >>"$CONF_DIR/kvm-ifdown-custom"
    suite kvm-cleanup web1
    expect_status 5
    expect_error "exit status 7"
    expect_error "'kvm-cleanup web1'"
    [[ -e $RUN_DIR/conf/web1.runtime && -d $RUN_DIR/nic/web1 ]]
    sed -i '/exit 7/d' "$CONF_DIR/kvm-ifdown-custom"
    suite kvm-cleanup web1
    expect_status 0
    expect_equal "$(tail -n 1 "$TEST_DIR/ifdown" | cut -d ' ' -f 2-)" "false aa:00:00:01:02:03"
    expect_equal "$(everything_left)" ""
}

# ---- what else may lie there ----

@test "what lies in the chroot goes to quarantine with a warning, and is not looked into" {
    dead web1 '.hvparams.use_chroot = true'
    mkdir -p "$RUN_DIR/chroot/web1/dir"
    echo content >"$RUN_DIR/chroot/web1/dir/file"
    ln -s /etc/passwd "$RUN_DIR/chroot/web1/link"
    suite kvm-cleanup --explain web1
    expect_output "chroot-quarantine"
    suite kvm-cleanup web1
    expect_status 0
    expect_error "moved to $RUN_DIR/chroot-quarantine/web1-"
    [[ ! -e $RUN_DIR/chroot/web1 ]]
    expect_equal "$(cat "$RUN_DIR"/chroot-quarantine/web1-*/dir/file)" content
    expect_equal "$(readlink "$RUN_DIR"/chroot-quarantine/web1-*/link)" /etc/passwd
    expect_equal "$(everything_left | grep -v '^./chroot-quarantine/')" ""
}

@test "the uid of the pool is free again" {
    echo '{"uid_pool": "64100"}' >"$CONF_DIR/kvm-defaults.json"
    dead web1 '.hvparams.security_model = "pool"'
    expect_equal "$(cat "$RUN_DIR/uid/web1")" 64100
    suite kvm-cleanup web1
    expect_status 0
    [[ ! -e $RUN_DIR/uid/web1 ]]
    start_paused "$(empty_definition web2 '.hvparams.security_model = "pool"')"
}

@test "Ganeti's leftovers go too, also where nothing else is left" {
    dead web1
    python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])' "$RUN_DIR/ctrl/web1.kvmd"
    touch "$RUN_DIR/ctrl/web1.shutdown" "$RUN_DIR/keymap/web1" "$RUN_DIR/conf/.web1.runtime.tmp"
    touch "$RUN_DIR/ctrl/old.shutdown"
    mkdir "$RUN_DIR/nic/older"
    echo tap7 >"$RUN_DIR/nic/older/0"
    suite kvm-cleanup --all
    expect_status 0
    expect_equal "$(everything_left)" ""
}

@test "an interrupted start that executed nothing is ended and removed" {
    start_paused "$(empty_definition web1)"
    pid=$(qemu_pid web1)
    # As a start leaves it that was killed before its last steps.
    jq -c '.[4].state = "starting" | .[4].pid = 0 | .[4].start_time = 0' "$RUN_DIR/conf/web1.runtime" >"$TEST_DIR/edited"
    cat "$TEST_DIR/edited" >"$RUN_DIR/conf/web1.runtime"
    suite kvm-cleanup --explain web1
    expect_status 0
    expect_output "QEMU (pid $pid) of an interrupted start, which has executed nothing: would end it"
    kill -0 "$pid"
    suite kvm-cleanup web1
    expect_status 0
    process_is_gone "$pid"
    expect_equal "$(everything_left)" ""
}

@test "a run directory that is not there is told, and not made" {
    local command
    for command in "kvm-stop web1" "kvm-cleanup web1" "kvm-hotplug web1 list"; do
        # shellcheck disable=SC2086
        suite $command --run-dir "$TEST_DIR/typo"
        expect_status 3
        expect_error "run directory $TEST_DIR/typo: not there"
    done
    for command in "kvm-stop --all" "kvm-cleanup --all" "kvm-info"; do
        # shellcheck disable=SC2086
        suite $command --run-dir "$TEST_DIR/typo"
        expect_status 0
        expect_error "run directory $TEST_DIR/typo: not there"
    done
    [[ ! -e $TEST_DIR/typo ]]
}

@test "while somebody holds the instance, a clean-up says who" {
    suite kvm-start "$(empty_definition web1)"
    "$BUILD/kvm-stop" --timeout 30 --kill-after 3 web1 >"$TEST_DIR/first" 2>&1 3>&- &
    first=$!
    wait_until 10 grep -q '"powerdown"' "$RUN_DIR/events/web1.jsonl"
    suite kvm-cleanup web1
    expect_status 4
    expect_error "busy: kvm-stop pid $first by root since"
    wait "$first"
}

# ---- planted ----

@test "planted links are removed themselves; what they lead to stays" {
    make_victim
    dead web1
    rm -f "$RUN_DIR/ctrl/web1.qmp" "$RUN_DIR/events/web1.jsonl" "$RUN_DIR/log/web1.log"
    ln -s "$TEST_DIR/victim/file" "$RUN_DIR/ctrl/web1.qmp"
    ln -s "$TEST_DIR/victim/file" "$RUN_DIR/ctrl/web1.kvmd"
    ln -s "$TEST_DIR/victim/file" "$RUN_DIR/events/web1.jsonl"
    ln -s "$TEST_DIR/victim/file" "$RUN_DIR/log/web1.log"
    ln -s "$TEST_DIR/victim/file" "$RUN_DIR/conf/.web1.runtime.tmp"
    ln -s "$TEST_DIR/victim" "$RUN_DIR/nic/web1"
    ln -s "$TEST_DIR/victim" "$RUN_DIR/chroot/web1"
    suite kvm-cleanup --explain web1
    expect_victim
    suite kvm-cleanup web1
    expect_status 0
    expect_victim
    expect_equal "$(everything_left)" ""
}

@test "planted links in a start's way are not written through" {
    make_victim
    suite kvm-start --paused "$(empty_definition other)" # makes the run directory
    for place in log/web1.log events/web1.jsonl pid/web1 lock/web1 conf/web1.runtime conf/.web1.runtime.tmp ctrl/web1.qmp; do
        ln -sf "$TEST_DIR/victim/file" "$RUN_DIR/$place"
        suite kvm-start --paused "$(empty_definition web1)"
        [[ $status -ne 0 ]] || qemu_lives web1
        expect_victim
        suite kvm-stop --force web1
        rm -f "$RUN_DIR/$place"
        suite kvm-cleanup web1
        expect_victim
        expect_nothing_left web1
    done
}

@test "a run directory that others may write, or a part of it that is a link, is refused" {
    make_victim
    dead web1
    chmod o+w "$RUN_DIR/ctrl"
    suite kvm-cleanup web1
    expect_status 1
    expect_error "$RUN_DIR/ctrl: refused, everybody may write it"
    chmod o-w "$RUN_DIR/ctrl"
    mv "$RUN_DIR/nic" "$RUN_DIR/nic.away"
    ln -s "$TEST_DIR/victim" "$RUN_DIR/nic"
    for words in "kvm-cleanup web1" "kvm-stop web1" "kvm-info web1" "kvm-start $TEST_DIR/web1.json"; do
        # shellcheck disable=SC2086
        suite $words
        expect_status 1
        expect_error "$RUN_DIR/nic: refused, it is not a directory; look at it with 'ls -l $RUN_DIR/nic', then: mv $RUN_DIR/nic $RUN_DIR/nic.away"
    done
    expect_victim
}

# ---- runtime files of others ----

# Each is put in the place of a dead instance's; none may be believed, and nothing named in it may run.
bad_runtimes() { # DIRECTORY GOOD: makes one file for each kind
    local good=$2
    cp "$good" "$1/good"
    : >"$1/empty"
    head -c 200 "$good" >"$1/truncated"
    echo 'not json at all' >"$1/text"
    printf '\0\0\0\0' >"$1/zeros"
    echo '{}' >"$1/object"
    echo '[]' >"$1/none"
    jq -c '.[0:2]' "$good" >"$1/two-elements"
    jq -c '.[4].version = 999' "$good" >"$1/future-version"
    jq -c '.[4].instance.name = "other"' "$good" >"$1/other-name"
    jq -c '.[0] = "sh -c evil"' "$good" >"$1/command-text"
    jq -c '.[1] = [{"uuid": "../../etc", "mac": "x"}]' "$good" >"$1/bad-nic"
    jq -c '.[3] = [[{"uuid": "7c079136-2573-4112-9a0d-1f2e3d4c5b6a"}, "../relative", null]]' "$good" >"$1/relative-disk"
    sed 's/"kvm_path"/"kvm_path":"a","kvm_path"/' "$good" >"$1/duplicate-key"
    { printf '[['; printf '"\xff\xfe",'; tail -c +3 "$good"; } >"$1/not-utf8"
    { head -c 100000 /dev/zero | tr '\0' '['; } >"$1/deep"
    { cat "$good"; head -c 2000000 /dev/zero | tr '\0' ' '; } >"$1/large"
}

@test "a truncated, foreign or hostile runtime file is refused by name and never believed" {
    dead web1
    mkdir "$TEST_DIR/bad"
    bad_runtimes "$TEST_DIR/bad" "$RUN_DIR/conf/web1.runtime"
    rm "$TEST_DIR/bad/good"
    for file in "$TEST_DIR"/bad/*; do
        echo "--- ${file##*/}"
        cat "$file" >"$RUN_DIR/conf/web1.runtime"
        suite kvm-info --json web1
        expect_status 3
        expect_json '.[0].fault | contains("web1.runtime")'
        suite kvm-stop --reboot web1
        expect_status 3
        suite kvm-cleanup --explain web1
        expect_status 0
        expect_output "the runtime file can't be read"
        expect_output "conf/web1.runtime: runtime file: would move it to chroot-quarantine"
        cmp -s "$file" "$RUN_DIR/conf/web1.runtime"
    done
    suite kvm-cleanup web1
    expect_status 0
    expect_error "the runtime file can't be read"
    expect_error "; moved to $RUN_DIR/chroot-quarantine/web1-runtime-"
    cmp "$file" "$RUN_DIR"/chroot-quarantine/web1-runtime-*
    expect_equal "$(everything_left | grep -v '^./chroot-quarantine/')" ""
}

@test "directories in the place of files go to quarantine, and the next commands work" {
    dead web1
    for place in conf/web1.runtime ctrl/web1.qmp ctrl/web1.kvmd keymap/web1 uid/web1 log/web1.log conf/.web1.runtime.tmp; do
        rm -f "$RUN_DIR/$place"
        mkdir "$RUN_DIR/$place"
        touch "$RUN_DIR/$place/precious"
    done
    mkdir -p "$RUN_DIR/nic/web1/sub"
    suite kvm-cleanup --explain web1
    expect_status 0
    expect_output "keymap/web1: a directory in the place of a file: would move it to chroot-quarantine"
    suite kvm-cleanup web1
    expect_status 0
    expect_error "$RUN_DIR/ctrl/web1.qmp was a directory: moved to $RUN_DIR/chroot-quarantine/web1-odd-"
    expect_equal "$(everything_left | grep -v '^./chroot-quarantine/')" ""
    expect_equal "$(find "$RUN_DIR/chroot-quarantine" -name precious | wc -l)" 7
    start_paused "$TEST_DIR/web1.json"
}

@test "a directory in the place of the pid file or the lock: what to type is told, and works" {
    local place
    start_paused "$(empty_definition web1)"
    kill_qemu web1
    for place in pid/web1 lock/web1; do
        rm -f "$RUN_DIR/$place"
        mkdir "$RUN_DIR/$place"
        suite kvm-cleanup web1
        expect_status 1
        expect_error ": mv $RUN_DIR/$place $RUN_DIR/chroot-quarantine/web1."
        eval "${errors##*: }"
        suite kvm-cleanup web1
        expect_status 0
        start_paused "$TEST_DIR/web1.json"
        kill_qemu web1
    done
}

@test "a runtime file is refused for what it is: a link, two links, another's, writable, a pipe" {
    dead web1
    cp "$RUN_DIR/conf/web1.runtime" "$TEST_DIR/good"
    place=$RUN_DIR/conf/web1.runtime
    ways=('ln -sf "$TEST_DIR/good" "$place"' 'ln "$place" "$TEST_DIR/second"' 'chown nobody "$place"' 'chmod 0666 "$place"' 'rm "$place"; mkfifo "$place"')
    for way in "${ways[@]}"; do
        rm -f "$place"
        install -m 0600 "$TEST_DIR/good" "$place"
        eval "$way"
        suite kvm-info --json web1
        expect_status 3
        expect_json '.[0].fault | contains("refused")'
        suite kvm-stop --reboot web1
        expect_status 3
    done
}

@test "nothing that a runtime file names is run: commands, scripts, hooks" {
    printf '#!/bin/sh\ntouch "%s/ran"\n' "$TEST_DIR" >"$TEST_DIR/evil"
    chmod 0755 "$TEST_DIR/evil"
    dead web1
    jq -c --arg evil "$TEST_DIR/evil" '.[0] = [$evil, "-name", "web1", "-netdev", "tap,id=x,script=" + $evil, "-incoming", "exec:" + $evil]
        | .[2].kvm_path = $evil | .[4].instance.hvparams.kvm_path = $evil | .[4].qemu.binary = $evil' "$RUN_DIR/conf/web1.runtime" >"$TEST_DIR/edited"
    cat "$TEST_DIR/edited" >"$RUN_DIR/conf/web1.runtime"
    for words in "kvm-info web1" "kvm-info web1 --slots" "kvm-stop --dry-run web1" "kvm-cleanup --explain web1" "kvm-stop --reboot web1" "kvm-cleanup web1"; do
        # shellcheck disable=SC2086
        suite $words
        [[ ! -e $TEST_DIR/ran ]]
    done
    expect_equal "$(everything_left)" ""
}

@test "a live instance whose runtime file is bad is neither restarted nor cleaned, but can be ended" {
    start_paused "$(empty_definition web1)"
    pid=$(qemu_pid web1)
    echo broken >"$RUN_DIR/conf/web1.runtime"
    suite kvm-info web1
    expect_status 0
    expect_output "fault"
    suite kvm-start "$TEST_DIR/web1.json"
    expect_status 3
    expect_error "can't be read"
    suite kvm-cleanup web1
    expect_status 3
    suite kvm-stop --reboot --force web1
    expect_status 3
    expect_equal "$(qemu_pid web1)" "$pid"
    qemu_lives web1
    suite kvm-stop --force web1
    expect_status 0
    expect_error "; moved to $RUN_DIR/chroot-quarantine/web1-runtime-"
    expect_equal "$(everything_left | grep -v '^./chroot-quarantine/')" ""
}

@test "a tap file that names something else is not acted on" {
    network br0
    dead web1 '.nics = [{nicparams: {link: "br0"}}]'
    for text in 'eth0; touch x' '../../x' '-x' '%d' "$(printf 'a%.0s' {1..40})" ''; do
        for file in "$RUN_DIR"/nic/web1/*; do printf '%s' "$text" >"$file"; done
        suite kvm-info web1
        expect_status 3
        suite kvm-cleanup --explain web1
        expect_status 0
    done
    suite kvm-cleanup web1
    expect_status 0
    expect_equal "$(everything_left)" ""
    inside ip link show br0 | grep -q 'UP'
}

@test "a QEMU whose pid file was removed or replaced is not taken for dead" {
    local file pid words harm
    file=$(empty_definition web1)
    for harm in rm replace; do
        suite kvm-start --paused "$file"
        expect_status 0
        pid=$(qemu_pid web1)
        if [[ $harm == rm ]]; then
            rm "$RUN_DIR/pid/web1"
        else # a copy in its place: QEMU's lock is on the old one
            cp "$RUN_DIR/pid/web1" "$RUN_DIR/pid/.copy"
            mv "$RUN_DIR/pid/.copy" "$RUN_DIR/pid/web1"
        fi
        suite kvm-info web1
        expect_status 3
        expect_output "web1: unknown"
        suite kvm-info
        expect_output "its QEMU (pid $pid) runs, but its pid file $RUN_DIR/pid/web1 was removed or replaced"
        for words in "kvm-start $file" "kvm-stop --force web1" "kvm-cleanup web1" "kvm-cleanup --all" \
            "kvm-hotplug web1 check" "kvm-migrate web1 status" "kvm-start --adopt web1"; do
            # shellcheck disable=SC2086
            suite $words
            expect_status 1
            expect_error "its QEMU (pid $pid) runs, but its pid file"
            expect_error "or 'kill $pid'"
        done
        kill "$pid"
        wait_until 10 process_is_gone "$pid"
        suite kvm-cleanup web1
        expect_status 0
        expect_nothing_left web1
    done
}

@test "a runtime file copied to another name does not make that one run, nor harm the one that does" {
    local words pid
    network br0
    suite kvm-start --paused "$(empty_definition web1 '.nics = [{nicparams: {link: "br0"}}]')"
    expect_status 0
    pid=$(qemu_pid web1)
    sed 's/"web1"/"web2"/g' "$RUN_DIR/conf/web1.runtime" >"$RUN_DIR/conf/web2.runtime"
    chmod 0600 "$RUN_DIR/conf/web2.runtime"
    suite kvm-info
    expect_status 0
    expect_output "web2  stopped"
    suite kvm-info web2
    expect_status 3
    expect_output "web2: stopped"
    for words in "kvm-hotplug web2 list" "kvm-start --adopt web2"; do
        # shellcheck disable=SC2086
        suite $words
        expect_status 3
    done
    suite kvm-cleanup web2
    expect_status 0
    expect_equal "$(files_of web2)" ""
    qemu_lives web1
    expect_equal "$(qemu_pid web1)" "$pid"
    expect_equal "$(bridge_of "$(taps)")" br0
    suite kvm-info web1
    expect_status 0
}
