#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# kvm-migrate --postcopy with a real guest: it runs on the target before its memory is there, and what then may happen.
# bats file_tags=guest

load helper
load hotplug
load migrate

# A guest that changes 24 MiB as fast as it can, over 8 MiB a second: it never converges.
begin() { # web1 runs on a and changes its memory
    local image
    two_nodes br0
    image=$(disk web1 8)
    start web1 ".disks = [{path: \"$image\"}] | .nics = [{nicparams: {mode: \"bridged\", link: \"br0\"}}]"
    mark
    guest_run web1 'gt dw /dev/vda 1024 20000 >/dw.out 2>&1 & gt dirty 24 32000 >/dev/null 2>&1 &'
}

copy_is() { # a|b WORD
    [[ $(copy_state "$1") == "$2" ]]
}

is_filling() {
    [[ $(phase_of b) == filling && $(phase_of a) == split ]]
}

disk_is_whole() { # on the node where it runs now
    guest_run web1 'killall gt; gt dr /dev/vda 1024' >"$TEST_DIR/read"
    cat "$TEST_DIR/read"
    grep -q 'max=[1-9][0-9]* bad=0 torn=0' "$TEST_DIR/read"
}

SLOWLY=(--bandwidth 8 --downtime 20)

does_not_converge() {
    begin
    watch_runs
    migrate a to "${SLOWLY[@]}" --postcopy -v
    expect_status 0
    expect_error "switch to post-copy"
    expect_error "its memory follows"
    expect_runs_on b
    expect_no_double_run
    [[ ! -e /dev/shm/kvm-suite.web1.$(stat -c %i "$TEST_DIR/b" | xargs printf %x).server ]]
    kept on b expect_mark || return 0
    migrate b to "${SLOWLY[@]}" --deadline 1 --on-deadline postcopy -v
    expect_status 0
    expect_error "the time is up: switch to post-copy"
    expect_runs_on a
    kept expect_mark || return 0
    kept disk_is_whole || return 0
}

@test "a guest that does not converge runs on the target at once, its memory follows; and back" {
    under_load does_not_converge
}

cut_link() {
    ip -n "$(namespace_of_node a)" link set "$(link_of a)" down
}

mend_link() {
    ip -n "$(namespace_of_node a)" link set "$(link_of a)" up
}

recover() { # a|b
    on "$1" suite kvm-migrate web1 recover --remote "$(remote_to "$(other "$1")")" "${@:2}"
}

link_is_cut() {
    begin
    watch_runs
    migrate_behind a to --bandwidth 4 --downtime 20 --postcopy
    wait_until 60 is_filling
    suite kvm-migrate web1 status
    expect_output "source, split"
    expect_output "end neither"
    on b suite kvm-migrate web1 status
    expect_output "target, filling"
    wait_until 20 grep -q "postcopy-active: .* left, .* MiB/s, dirty " "$TEST_DIR/stderr"
    cut_link
    migrate_end
    expect_status 5
    expect_failure grep "postcopy-.*expected downtime" <<<"$errors" # QEMU tells the last one of the copy before for ever
    expect_error "the link was cut in post-copy"
    expect_error "kvm-migrate web1 recover"
    wait_until 20 copy_is b postcopy-paused
    expect_equal "$(copy_state a)" postcopy-paused
    local one words
    for one in a b; do
        for words in "kvm-stop web1" "kvm-cleanup web1" "kvm-hotplug web1 add-nic link=br0" "kvm-migrate web1 abort"; do
            # shellcheck disable=SC2086
            on "$one" suite $words
            expect_status 3
        done
        on "$one" suite kvm-stop web1
        expect_error "the end of either QEMU loses the guest"
    done
    recover b
    expect_status 5
    mend_link
    recover a --bandwidth 0
    expect_status 0
    expect_output "with all its memory"
    expect_runs_on b
    expect_no_double_run
    node b
    kept expect_mark || return 0
    kept disk_is_whole || return 0
}

@test "the link is cut in post-copy: nobody may end half a guest, and recover goes on with it" {
    under_load link_is_cut
}

# An instance without a guest: at one MiB a second less than half is copied when the time is up and the harm is done.
QUICKLY=(--port 0 --bandwidth 1 --deadline 0.5 --on-deadline postcopy)

begin_empty() {
    two_nodes br0
    empty_definition web1 ".disks = [{path: \"$(disk web1 8)\"}] | .nics = [{nicparams: {link: \"br0\"}}] | $(full_memory 4)"
}

harm() { # MOMENT COMMAND: one post-copy with it
    rm -f "$TEST_DIR/session" "$TEST_DIR/harmed"
    echo "## $1: $2"
    suite kvm-start "$TEST_DIR/web1.json"
    expect_status 0
    meddle "$@"
    migrate a to "${QUICKLY[@]}"
    [[ -e $TEST_DIR/harmed ]] || fail "the harm was not done"
    unset REMOTE
}

survive() { # WHERE MOMENT COMMAND: then what a person does; it runs there
    watch_runs
    harm "${@:2}"
    recover a --bandwidth 0
    expect_status 0
    expect_runs_on "$1"
    expect_no_double_run
    on "$1" suite kvm-stop web1 --force
    on "$1" expect_nothing_left web1
}

@test "the session or a tool dies in post-copy: before the commit the guest stays, after it it goes on" {
    begin_empty
    local driver="kill -KILL \$(pgrep -f '^$BUILD/kvm-migrate web1 to .*$TEST_DIR')"
    survive a after-vote "kill -KILL \$(cat $TEST_DIR/meddler.pid)"
    survive b after-vote "kill -KILL \$(cat $TEST_DIR/serve-b.pid)"
    survive b after-vote "$driver"
    survive b before-commit "kill -KILL \$(cat $TEST_DIR/meddler.pid)"
    survive b after-commit "$driver"
}

@test "a QEMU dies in post-copy: what is lost is said, and both sides can be cleaned up" {
    begin_empty
    harm after-commit "kill -KILL \$(cat $TEST_DIR/b/pid/web1)"
    expect_status 5
    recover a
    expect_status 5
    expect_error "it is lost"
    suite kvm-stop web1 --force
    expect_status 0
    expect_nothing_left web1
    on b suite kvm-cleanup web1
    expect_status 0
    on b expect_nothing_left web1

    harm after-commit "kill -KILL \$(cat $TEST_DIR/a/pid/web1)"
    expect_status 5
    expect_error "has lost memory"
    suite kvm-cleanup web1
    expect_status 3
    expect_error "kvm-cleanup web1 --force"
    on b suite kvm-stop web1
    expect_status 3
    on b suite kvm-stop web1 --force
    expect_status 0
    on b expect_nothing_left web1
    suite kvm-cleanup web1 --force
    expect_status 0
    expect_nothing_left web1
}

@test "a QEMU that may not use userfaultfd, and what does not go with post-copy, is refused before" {
    two_nodes
    suite kvm-start "$(empty_definition web1 '.hvparams.security_model = "user" | .hvparams.security_domain = "nobody"')"
    migrate a to --postcopy
    expect_status 3
    expect_error 'hvparams.security_model is "user", and QEMU may use userfaultfd as root only'
    expect_runs_on a
    for words in --tunnel "--multifd 2" --non-live --copy-disks; do
        # shellcheck disable=SC2086
        migrate a to --postcopy $words
        expect_status 2
        expect_error "exclude each other"
    done
    suite kvm-stop web1 --force
    suite kvm-start "$(empty_definition web1 '.hvparams.migration_caps = "release-ram"')"
    migrate a to
    expect_status 3
    expect_error "release-ram"
    suite kvm-stop web1 --force
    suite kvm-start "$(empty_definition web1 '.hvparams.migration_caps = "postcopy-ram"')"
    migrate a rehearse -v
    expect_status 0
    expect_runs_on a
    migrate a to --tunnel
    expect_status 3
    expect_error "post-copy and --tunnel exclude each other"
    migrate a to --bandwidth 4
    expect_status 0
    expect_runs_on b
}
