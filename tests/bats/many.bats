#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# Many instances in one command: directories of definitions, --all, bounded concurrency, a result each. No guest is
# needed: paused QEMUs do.

load helper

# Definitions n01 … in DIR.
definitions() { # DIR COUNT
    local i name
    mkdir -p "$1"
    for ((i = 1; i <= $2; i++)); do
        name=$(printf 'n%03d' "$i")
        printf '{"name": "%s", "hvparams": {"kvm_flag": "disabled"}, "beparams": {"memory": 16, "vcpus": 1}}\n' \
            "$name" >"$1/$name.json"
    done
}

@test "a hundred instances of a directory are started, listed and stopped, with one result each" {
    definitions "$TEST_DIR/definitions" 100
    SUITE_TIMEOUT=300 suite kvm-start --paused "$TEST_DIR/definitions"
    expect_status 0
    expect_equal "$(grep -c ': started, paused (pid [0-9]*)$' <<<"$output")" 100
    suite kvm-info --json
    expect_status 0
    expect_json 'length == 100 and all(.state == "paused") and ([.[].pid] | unique | length) == 100'
    expect_json '[.[].instance] == [range(1; 101) | "n" + ("00" + tostring)[-3:]]'
    SUITE_TIMEOUT=300 suite kvm-start --json --paused "$TEST_DIR/definitions"
    expect_status 0
    expect_json 'length == 100 and all(.result | startswith("already running"))'
    SUITE_TIMEOUT=300 suite kvm-stop --all --force --json
    expect_status 0
    expect_json 'length == 100 and all(.status == 0 and .ending == "killed")'
    suite kvm-info --json
    expect_equal "$output" "[]"
    expect_equal "$(find "$RUN_DIR" -mindepth 2 ! -path '*/lock/*' ! -path '*/cache/*')" ""
}

@test "--all starts what lies in the configuration directory, and a bad one does not keep the others" {
    definitions "$CONF_DIR/instances" 3
    echo '{"name": "n002", "beparams": {"memory": "much"}}' >"$CONF_DIR/instances/n002.json"
    echo 'no definition' >"$CONF_DIR/instances/notes.txt"
    echo 'no definition' >"$CONF_DIR/instances/.hidden.json"
    suite kvm-start --all --paused
    expect_status 2
    expect_output "n001: started"
    expect_output "n003: started"
    expect_error "n002.json: beparams.memory"
    expect_no_error notes
    suite kvm-stop --all --force
    expect_status 0
}

@test "nothing to start is told: a warning for --all, an error for what was named" {
    suite kvm-start --all
    expect_status 0
    expect_error "warning: $CONF_DIR/instances: there is no definition (*.json) in it"
    mkdir "$TEST_DIR/empty"
    suite kvm-start "$TEST_DIR/empty"
    expect_status 2
    expect_error "$TEST_DIR/empty: there is no definition (*.json) in it"
    suite kvm-start "$TEST_DIR/missing" "$TEST_DIR/missing2"
    expect_status 2
    expect_error "$TEST_DIR/missing: "
    expect_error "$TEST_DIR/missing2: "
    suite kvm-start --all "$TEST_DIR/empty"
    expect_status 2
    expect_error "give files or --all, not both"
    suite kvm-start
    expect_status 2
    expect_error "which definition?"
    suite kvm-start --parallel 0 "$TEST_DIR/empty"
    expect_status 2
    [[ ! -e $RUN_DIR ]] || fail "the run directory was made"
}

# Each start runs a hook that counts those under way.
@test "no more run at a time than asked for" {
    definitions "$TEST_DIR/definitions" 8
    mkdir -p "$CONF_DIR/hooks/kvm-start-pre.d" "$TEST_DIR/now"
    cat >"$CONF_DIR/hooks/kvm-start-pre.d/count" <<END
#!/bin/bash
touch "$TEST_DIR/now/\$GANETI_INSTANCE_NAME"
for try in 1 2 3 4 5 6; do ls "$TEST_DIR/now" | wc -l; sleep 0.05; done >>"$TEST_DIR/seen"
rm "$TEST_DIR/now/\$GANETI_INSTANCE_NAME"
exit 1
END
    chmod 0755 "$CONF_DIR/hooks/kvm-start-pre.d/count"
    suite kvm-start --parallel 3 "$TEST_DIR/definitions"
    expect_status 1
    expect_equal "$(sort -n "$TEST_DIR/seen" | tail -n 1)" 3
}

# script gives a terminal.
@test "how far it has come is shown: redrawn on a terminal, as JSON lines with --json" {
    definitions "$TEST_DIR/definitions" 3
    script -qec "'$BUILD/kvm-start' --paused '$TEST_DIR/definitions'" /dev/null >"$TEST_DIR/typescript" 3>&- </dev/null
    grep -q -F $'0 of 3 done, 0 failed\r\e[K' "$TEST_DIR/typescript"
    grep -q -F '2 of 3 done, 0 failed' "$TEST_DIR/typescript"
    expect_failure grep -q -F '3 of 3' "$TEST_DIR/typescript"
    suite kvm-stop --all --force
    mkdir -p "$CONF_DIR/hooks/kvm-start-pre.d"
    # shellcheck disable=SC2016  # the hook's own
    printf '#!/bin/sh\n[ "$GANETI_INSTANCE_NAME" = n001 ] || sleep 1.2\n' >"$CONF_DIR/hooks/kvm-start-pre.d/slow"
    chmod 0755 "$CONF_DIR/hooks/kvm-start-pre.d/slow"
    suite kvm-start --json --paused --parallel 1 "$TEST_DIR/definitions"
    expect_status 0
    jq -e '.count == 3 and .failed == 0' <<<"$(head -n 1 <<<"$errors")"
    suite kvm-stop --all --force
}
