#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# UEFI firmware and the variables of an instance: found, made, kept, moved to another node, removed when that is asked for.

load helper
load migrate

setup() {
    suite_setup
    if [[ ! -e /usr/share/qemu/firmware ]]; then
        [[ -z ${KVM_SUITE_NO_SKIP:-} ]] || fail "the package ovmf is missing"
        skip "no firmware here"
    fi
}

UEFI='.hvparams.firmware = "uefi"'

nvram() { # NAME
    echo "$TEST_DIR/state/nvram/$1.fd"
}

template() { # of the first firmware without Secure Boot
    grep -L secure-boot /usr/share/qemu/firmware/*.json | head -n 1 | xargs jq -r '.mapping."nvram-template".filename'
}

image_of() { # NAME NODE: size, and whether it is read-only, of a block node
    qmp "$1" query-named-block-nodes '{"flat": true}' | jq -r --arg node "$2" '.[] | select(."node-name" == $node) | "\(.image."virtual-size") \(.ro)"'
}

has_written() { # NAME: the firmware, to its variables
    ! cmp -s "$(nvram "$1")" "$(template)"
}

stamp() { # FILE TEXT: at the end, where nothing is stored
    printf '%s' "$2" | dd of="$1" bs=1 seek=$(($(stat -c %s "$1") - 64)) conv=notrunc status=none
}

stamped() { # FILE TEXT
    [[ $(tail -c 64 "$1" | head -c ${#2}) == "$2" ]]
}

@test "the firmware runs from flash, and writes to variables of the instance's own that stop and clean-up keep" {
    suite kvm-start "$(empty_definition web1 "$UEFI | .beparams.memory = 128")" # less is too little for this firmware
    expect_status 0
    expect_equal "$(image_of web1 pflash1)" "$(stat -c %s "$(template)") false"
    expect_equal "$(image_of web1 pflash0 | cut -d ' ' -f 2)" true
    expect_equal "$(stat -c '%a %u' "$(nvram web1)")" "600 0"
    wait_until 180 has_written web1
    suite kvm-info web1
    expect_output "firmware   /"
    expect_output "NVRAM $(nvram web1)"
    suite kvm-stop --force web1
    expect_status 0
    expect_nothing_left web1
    stamp "$(nvram web1)" kept
    suite kvm-start "$TEST_DIR/web1.json"
    expect_status 0
    stamped "$(nvram web1)" kept
    suite kvm-stop --reboot --force web1
    expect_status 0
    stamped "$(nvram web1)" kept
    suite kvm-stop --force web1
    suite kvm-cleanup --remove-state --all
    expect_status 2
    suite kvm-cleanup --remove-state web1
    expect_status 0
    expect_output "its NVRAM was removed"
    [[ ! -e $(nvram web1) ]]
    suite kvm-cleanup --remove-state web1
    expect_status 0
    expect_output "nothing is left of it; no NVRAM and no state of a TPM of it is in $TEST_DIR/state"
}

@test "--remove-state is listed before, finds a path of the instance's own, and leaves what only pretends to be NVRAM" {
    suite kvm-start --paused "$(empty_definition web1 "$UEFI | .hvparams += {nvram_path: \"$TEST_DIR/my.fd\", tpm: \"crb\", machine_version: \"q35\"}")"
    expect_status 0
    kill -KILL "$(qemu_pid web1)"
    wait_until 10 qemu_is_dead web1
    suite kvm-cleanup --explain web1
    expect_no_output my.fd
    suite kvm-cleanup --explain --remove-state web1
    expect_output "  $TEST_DIR/my.fd: its NVRAM, the variables of its UEFI firmware: would remove"
    expect_output "  $TEST_DIR/state/tpm/web1: the state of its TPM: would remove"
    echo "something else" >"$TEST_DIR/my.fd"
    suite kvm-cleanup --remove-state web1
    expect_status 5
    expect_error "$TEST_DIR/my.fd: is recorded as its NVRAM but does not look like one"
    expect_error "'kvm-cleanup --remove-state web1' tries again"
    [[ -e $RUN_DIR/conf/web1.runtime && -e $TEST_DIR/my.fd ]]
    cp "$(template)" "$TEST_DIR/my.fd"
    suite kvm-cleanup --remove-state web1
    expect_status 0
    expect_output "its NVRAM and the state of its TPM were removed"
    [[ ! -e $TEST_DIR/my.fd && ! -e $TEST_DIR/state/tpm/web1 ]]
    expect_nothing_left web1
}

@test "Secure Boot: q35 with SMM, keys enrolled, variables protected; also unprivileged in a chroot" {
    suite kvm-start "$(empty_definition web1 '.hvparams += {firmware: "uefi-secure", machine_version: "q35",
        use_chroot: true, security_model: "user", security_domain: "nobody"}')"
    expect_status 0
    expect_equal "$(qmp web1 qom-get '{"path": "/machine", "property": "smm"}')" '"on"'
    expect_equal "$(qmp web1 qom-get '{"path": "/machine/system.flash0", "property": "secure"}')" true
    expect_equal "$(stat -c '%a %u' "$(nvram web1)")" "600 0"
    cmp "$(nvram web1)" "$(jq -r 'select(.features | index("enrolled-keys")).mapping."nvram-template".filename' /usr/share/qemu/firmware/*.json | head -n 1)"
}

@test "a start that fails leaves no variables behind, a dry run makes none, and what is there is not followed" {
    suite kvm-start --dry-run "$(empty_definition web1 "$UEFI")"
    expect_status 0
    [[ ! -e $TEST_DIR/state ]]
    suite kvm-start "$(empty_definition web1 "$UEFI | .hvparams.kvm_extra = \"-device no-such-device\"")"
    expect_status 1
    [[ ! -e $(nvram web1) ]]
    ln -s /etc/passwd "$(nvram web1)"
    suite kvm-start "$(empty_definition web1 "$UEFI")"
    expect_status 2
    expect_error "is not a regular file of its own"
    rm "$(nvram web1)"
    truncate -s 100 "$(nvram web1)"
    suite kvm-start "$TEST_DIR/web1.json"
    expect_status 2
    expect_error "is no flash image"
    truncate -s 8192 "$(nvram web1)"
    suite kvm-start "$TEST_DIR/web1.json"
    expect_status 2
    expect_error "no firmware of this node fits the NVRAM of 8192 bytes"
}

@test "paths of one's own: a code without a descriptor needs a template, and the variables lie where nvram_path says" {
    local code
    code=$(grep -L secure-boot /usr/share/qemu/firmware/*.json | head -n 1 | xargs jq -r .mapping.executable.filename)
    cp "$code" "$TEST_DIR/code,1.fd"
    suite kvm-start "$(empty_definition web1 ".hvparams += {firmware: \"$TEST_DIR/code,1.fd\", nvram_path: \"$TEST_DIR/my.fd\"}")"
    expect_status 2
    expect_error "nvram_template: is needed"
    suite kvm-start "$(empty_definition web1 ".hvparams += {firmware: \"$TEST_DIR/code,1.fd\", nvram_path: \"$TEST_DIR/my.fd\",
        nvram_template: \"$(template)\"}")"
    expect_status 0
    cmp "$TEST_DIR/my.fd" "$(template)"
    [[ ! -e $(nvram web1) ]]
}

@test "migration takes the variables along: the target has the file before the switch and the guest's contents after it" {
    two_nodes
    suite kvm-start "$(empty_definition web1 "$UEFI")"
    expect_status 0
    suite kvm-stop --force web1
    stamp "$TEST_DIR/state-a/nvram/web1.fd" travels
    suite kvm-start "$TEST_DIR/web1.json"
    expect_status 0
    migrate a to
    expect_status 0
    expect_runs_on b
    stamped "$TEST_DIR/state-b/nvram/web1.fd" travels
    expect_equal "$(stat -c '%a %s' "$TEST_DIR/state-b/nvram/web1.fd")" "600 $(stat -c %s "$(template)")"
    stamp "$TEST_DIR/state-a/nvram/web1.fd" stale..
    migrate b to
    expect_status 0
    expect_runs_on a
    stamped "$TEST_DIR/state-a/nvram/web1.fd" travels
}

@test "a migration that is refused or aborted leaves no variables on the target" {
    two_nodes
    suite kvm-start "$(empty_definition web1 "$UEFI")"
    expect_status 0
    migrate a rehearse
    expect_status 0
    expect_runs_on a
    [[ ! -e $TEST_DIR/state-b/nvram/web1.fd ]]
    mkdir -p "$TEST_DIR/state-b/nvram"
    truncate -s 131072 "$TEST_DIR/state-b/nvram/web1.fd"
    migrate a check
    expect_status 3
    expect_error "no firmware of this node fits the NVRAM of 131072 bytes"
    expect_runs_on a
}

# It waits for the source to connect.
accept_on_b() {
    KVM_RUN_DIR=$TEST_DIR/b KVM_CONF_DIR=$TEST_DIR/conf-b KVM_STATE_DIR=$TEST_DIR/state-b ip netns exec "$(namespace_of_node b)" \
        "$BUILD/kvm-migrate" web1 accept <"$TEST_DIR/offer" >"$TEST_DIR/accepted" 2>"$TEST_DIR/accept.err" 3>&- &
    accept=$!
}

@test "what was made on the target for a guest that did not come goes with kvm-cleanup as well" {
    two_nodes
    suite kvm-start "$(empty_definition web1 "$UEFI | .hvparams += {machine_version: \"q35\", tpm: \"crb\"}")"
    expect_status 0
    suite kvm-migrate web1 offer 10.9.0.2 --port 0
    expect_status 0
    printf '%s\n' "$output" >"$TEST_DIR/offer"
    KVM_SUITE_FAIL_STEP=8 accept_on_b
    ! wait "$accept" || fail "it was to fail"
    [[ ! -e $TEST_DIR/state-b/nvram/web1.fd && ! -e $TEST_DIR/state-b/tpm/web1 ]]
    on b expect_nothing_left web1
    accept_on_b
    wait_until 30 grep -q document "$TEST_DIR/accepted"
    kill -KILL "$accept"
    kill -KILL "$(on b qemu_pid web1)"
    wait_until 10 on b qemu_is_dead web1
    [[ -e $TEST_DIR/state-b/nvram/web1.fd && -e $TEST_DIR/state-b/tpm/web1 ]]
    on b suite kvm-cleanup --explain web1
    expect_output "$TEST_DIR/state-b/nvram/web1.fd: its NVRAM"
    on b suite kvm-cleanup web1
    expect_status 0
    [[ ! -e $TEST_DIR/state-b/nvram/web1.fd && ! -e $TEST_DIR/state-b/tpm/web1 ]]
    expect_runs_on a
}

@test "another node can't name any file as firmware or as NVRAM" {
    two_nodes
    cp "$(template)" "$TEST_DIR/secret"
    suite kvm-start "$(empty_definition web1 ".hvparams += {firmware: \"$TEST_DIR/secret\", nvram_template: \"$(template)\"}")"
    expect_status 0
    migrate a check
    expect_status 3
    expect_error "the instance has firmware \"$TEST_DIR/secret\", which neither"
    suite kvm-stop --force web1
    suite kvm-start "$(empty_definition web1 "$UEFI | .hvparams.nvram_path = \"$TEST_DIR/other.fd\"")"
    expect_status 0
    migrate a check
    expect_status 3
    expect_error "must be a file named after the instance"
}

@test "a UEFI guest is adopted with its definition, and not without" {
    suite kvm-start "$(empty_definition web1 "$UEFI | .hvparams += {machine_version: \"q35\", tpm: \"crb\"}")"
    expect_status 0
    rm "$RUN_DIR/conf/web1.runtime"
    suite kvm-start --adopt web1
    expect_status 3
    expect_error "it runs with this, but would not be started with it again"
    suite kvm-start --adopt web1 "$TEST_DIR/web1.json"
    expect_status 0
    suite kvm-info web1
    expect_output "NVRAM $(nvram web1)"
    jq -e --arg state "$TEST_DIR/state/tpm/web1" '.[4].tpm == {state: $state, made: false} and (.[4].firmware.made | not)' \
        "$RUN_DIR/conf/web1.runtime"
}

@test "a change of QEMU in place keeps the variables" {
    suite kvm-start "$(empty_definition web1 "$UEFI")"
    expect_status 0
    old=$(qemu_pid web1)
    suite kvm-migrate web1 to localhost --in-place
    expect_status 0
    [[ $(qemu_pid web1) != "$old" ]]
    expect_equal "$(image_of web1 pflash1)" "$(stat -c %s "$(template)") false"
    suite kvm-stop --force web1
    suite kvm-start "$(empty_definition web1 '.hvparams.tpm = "crb"')"
    expect_status 0
    suite kvm-migrate web1 to localhost --in-place
    expect_status 3
    expect_error "tpm: two emulators can't have one state directory"
}
