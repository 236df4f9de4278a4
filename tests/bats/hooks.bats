#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# The operator's executables around an operation: hooks/PROGRAM-pre.d and -post.d, kvm-hooks(7). No guest is needed:
# a QEMU that runs its firmware is enough.

load helper

# A hook from standard input; what it prints goes to $TEST_DIR/said as well.
hook() { # DIRECTORY NAME <<BODY
    mkdir -p "$CONF_DIR/hooks/$1"
    printf '#!/bin/bash\nexec 5>>%q\n%s\n' "$TEST_DIR/said" "$(cat)" >"$CONF_DIR/hooks/$1/$2"
    chmod 0755 "$CONF_DIR/hooks/$1/$2"
}

said() {
    cat "$TEST_DIR/said" 2>/dev/null || true
}

@test "they run in the order of their names; what is no hook by its name or mode does not" {
    hook kvm-start-pre.d 20-second <<<'echo second >&5'
    hook kvm-start-pre.d 10-first <<<'echo first >&5'
    hook kvm-start-pre.d 30-copy.bak <<<'echo copy >&5'
    hook kvm-start-pre.d 40-off <<<'echo off >&5'
    chmod 0644 "$CONF_DIR/hooks/kvm-start-pre.d/40-off"
    mkdir "$CONF_DIR/hooks/kvm-start-pre.d/old"
    hook kvm-start-post.d note <<<'echo post >&5'
    suite kvm-start --dry-run "$(empty_definition web1)"
    expect_output "run $CONF_DIR/hooks/kvm-start-pre.d/10-first"
    expect_output "run $CONF_DIR/hooks/kvm-start-post.d/note"
    expect_no_output 40-off
    expect_equal "$(said)" ""
    suite kvm-start "$(empty_definition web1)"
    expect_status 0
    expect_equal "$(said)" "first"$'\n'"second"$'\n'"post"
    suite kvm-start "$(empty_definition web1)"
    expect_output "already running"
    expect_equal "$(said | wc -l)" 3
}

@test "the variables tell the operation and the instance, and nothing else is there" {
    network br0
    hook kvm-start-pre.d env <<<'env -0 | sort -z | tr "\0" "\n" >&5'
    HOME=/nowhere SECRET=1 suite kvm-start "$(empty_definition web1 '.tags = ["a", "b"] | .beparams.vcpus = 2
        | .disks = [{path: "'"$(disk one 8)"'", name: "root", uuid: "7c079136-2573-4112-82d0-0d3d2aa90d8f"}]
        | .nics = [{mac: "aa:00:00:11:22:33", ip: "192.0.2.7", nicparams: {mode: "bridged", link: "br0"}}]')"
    expect_status 0
    for word in GANETI_HOOKS_VERSION=2 GANETI_HOOKS_PHASE=pre GANETI_HOOKS_PATH=instance-start \
        GANETI_OP_CODE=OP_INSTANCE_STARTUP GANETI_OBJECT_TYPE=INSTANCE GANETI_INSTANCE_NAME=web1 \
        GANETI_INSTANCE_VCPUS=2 GANETI_INSTANCE_MAXMEM=32 GANETI_INSTANCE_DISK_COUNT=1 \
        GANETI_INSTANCE_DISK0_NAME=root GANETI_INSTANCE_DISK0_MODE=rw \
        GANETI_INSTANCE_DISK0_UUID=7c079136-2573-4112-82d0-0d3d2aa90d8f "KVM_SUITE_DISK0_PATH=$TEST_DIR/one.img" \
        GANETI_INSTANCE_NIC_COUNT=1 GANETI_INSTANCE_NIC0_MAC=aa:00:00:11:22:33 GANETI_INSTANCE_NIC0_IP=192.0.2.7 \
        GANETI_INSTANCE_NIC0_MODE=bridged GANETI_INSTANCE_NIC0_LINK=br0 GANETI_INSTANCE_NIC0_BRIDGE=br0 \
        GANETI_INSTANCE_HV_kvm_flag=disabled GANETI_INSTANCE_HV_acpi=True "GANETI_INSTANCE_TAGS=a b" \
        GANETI_INSTANCE_HYPERVISOR=kvm KVM_SUITE_PROGRAM=kvm-start "KVM_RUN_DIR=$RUN_DIR" \
        "KVM_CONF_DIR=$CONF_DIR" LC_ALL=C; do
        grep -q -x -F -- "$word" <(said) || fail "lacks $word"
    done
    expect_failure grep -q -E '^(HOME|SECRET|TEST_DIR)=' <(said)
    # The manual names each: NIC0_IP stands there as _IP, behind the first of them.
    for word in $(said | sed 's/=.*//'); do
        case $word in
            PWD | SHLVL | _ | GANETI_INSTANCE_HV_*) continue ;;
            GANETI_INSTANCE_DISK0_* | GANETI_INSTANCE_NIC0_*) word=_${word#GANETI_INSTANCE_*0_} ;;
        esac
        grep -q -E "^\.(It )?Ev .*$word( |\$)" "$SOURCE/man/kvm-hooks.7" || fail "the manual lacks $word"
    done
}

@test "every operation has its name, and hot-plug tells what it was asked for" {
    for program in kvm-start kvm-hotplug kvm-stop kvm-cleanup; do
        for phase in pre post; do
            # shellcheck disable=SC2016  # the hook's own variables
            hook "$program-$phase.d" tell <<<'echo "$GANETI_HOOKS_PHASE $GANETI_OP_CODE ${KVM_SUITE_ACTION-} ${KVM_SUITE_ARGUMENT0-} $GANETI_INSTANCE_DISK_COUNT" >&5'
        done
    done
    suite kvm-start "$(empty_definition web1)"
    suite kvm-hotplug web1 add-disk "path=$(disk one 8)"
    expect_status 0
    suite kvm-hotplug web1 list
    suite kvm-hotplug web1 --dry-run add-disk "path=$(disk two 8)"
    suite kvm-stop --reboot --force web1
    suite kvm-stop --dry-run web1
    expect_output "  hook: run $CONF_DIR/hooks/kvm-stop-pre.d/tell"
    expect_output "  hook: run $CONF_DIR/hooks/kvm-stop-post.d/tell"
    suite kvm-stop --force web1
    expect_status 0
    suite kvm-start "$(empty_definition web1)"
    kill -KILL "$(qemu_pid web1)"
    wait_until 10 qemu_is_dead web1
    suite kvm-cleanup --explain web1
    expect_output "  hook: run $CONF_DIR/hooks/kvm-cleanup-pre.d/tell"
    suite kvm-cleanup web1
    expect_status 0
    expect_equal "$(said)" "pre OP_INSTANCE_STARTUP   0
post OP_INSTANCE_STARTUP   0
pre OP_INSTANCE_SET_PARAMS add-disk path=$TEST_DIR/one.img 0
post OP_INSTANCE_SET_PARAMS add-disk path=$TEST_DIR/one.img 1
pre OP_INSTANCE_REBOOT   1
post OP_INSTANCE_REBOOT   1
pre OP_INSTANCE_SHUTDOWN   1
post OP_INSTANCE_SHUTDOWN   1
pre OP_INSTANCE_STARTUP   0
post OP_INSTANCE_STARTUP   0
pre OP_INSTANCE_SHUTDOWN   0
post OP_INSTANCE_SHUTDOWN   0"
}

@test "one that fails before it ends the operation, with its words, and nothing was changed" {
    hook kvm-start-pre.d 10-quota <<<'echo "no quota left for web1"; exit 3'
    hook kvm-start-pre.d 20-later <<<'echo later >&5'
    suite kvm-start "$(empty_definition web1)"
    expect_status 1
    expect_error "kvm-start-pre.d/10-quota ended with exit status 3: no quota left for web1; nothing was changed"
    expect_equal "$(said)" ""
    expect_nothing_left web1
    rm "$CONF_DIR/hooks/kvm-start-pre.d/10-quota"
    suite kvm-start "$(empty_definition web1)"
    expect_status 0
    hook kvm-hotplug-pre.d no <<<'exit 1'
    hook kvm-stop-pre.d no <<<'kill -TERM $$'
    cp "$RUN_DIR/conf/web1.runtime" "$TEST_DIR/before"
    suite kvm-hotplug web1 add-disk "path=$(disk one 8)"
    expect_status 1
    suite kvm-stop --force web1
    expect_status 1
    expect_error "was ended by signal 15"
    cmp "$RUN_DIR/conf/web1.runtime" "$TEST_DIR/before"
    qemu_lives web1
}

@test "one that fails after it is a warning, and the others run all the same" {
    hook kvm-start-post.d 10-bad <<<'echo "no route to the monitor" >&2; exit 1'
    hook kvm-start-post.d 20-good <<<'echo good >&5'
    suite kvm-start "$(empty_definition web1)"
    expect_status 0
    expect_error "warning: web1: $CONF_DIR/hooks/kvm-start-post.d/10-bad ended with exit status 1: no route to the monitor"
    expect_equal "$(said)" good
    qemu_lives web1
}

@test "one that hangs is ended with the time of the command" {
    hook kvm-start-pre.d hang <<<'sleep 60 & wait'
    before=$SECONDS
    suite kvm-start --timeout 1 "$(empty_definition web1)"
    expect_status 1
    expect_error "hooks/kvm-start-pre.d/hang"
    expect_error "nothing was changed"
    [[ $((SECONDS - before)) -lt 20 ]] || fail "took too long"
    expect_nothing_left web1
}

@test "one that somebody else may write is not run" {
    hook kvm-start-pre.d open <<<'echo run >&5'
    chmod 0775 "$CONF_DIR/hooks/kvm-start-pre.d/open"
    suite kvm-start "$(empty_definition web1)"
    expect_status 1
    expect_error "may be written by others"
    chmod 0755 "$CONF_DIR/hooks/kvm-start-pre.d/open"
    chown nobody "$CONF_DIR/hooks/kvm-start-pre.d/open"
    suite kvm-start "$(empty_definition web1)"
    expect_status 1
    expect_error "not run; look at it, then: chown root $CONF_DIR/hooks/kvm-start-pre.d/open; nothing was changed"
    expect_equal "$(said)" ""
    expect_nothing_left web1
}

@test "they may call the suite: before it look at it and change another, after it change it" {
    hook kvm-start-pre.d ask <<END
[[ \$GANETI_INSTANCE_NAME == web1 ]] || exit 0
"$BUILD/kvm-info" web1 >/dev/null; echo "info \$?" >&5
"$BUILD/kvm-start" "$(empty_definition other)" >&5
"$BUILD/kvm-stop" --force web1 >&5 2>&5; echo "stop \$?" >&5
END
    hook kvm-start-post.d plug <<END
[[ \$GANETI_INSTANCE_NAME == web1 ]] || exit 0
"$BUILD/kvm-hotplug" web1 add-disk "path=$(disk one 8)" name=data >&5
END
    suite kvm-start "$(empty_definition web1)"
    expect_status 0
    said
    grep -q '^info 3$' <(said)
    grep -q '^other: started' <(said)
    grep -q 'busy: kvm-start' <(said)
    grep -q '^stop 4$' <(said)
    grep -q '^web1: disk .* added' <(said)
    suite kvm-info --json web1
    expect_json '.[0].disks | length == 1'
}

@test "what a hook has seen begin is asked for again before a device is touched" {
    local before
    suite kvm-start "$(empty_definition web1)"
    expect_status 0
    socat -u "UNIX-LISTEN:$TEST_DIR/sink" OPEN:/dev/null 3>&- &
    wait_until 10 test -S "$TEST_DIR/sink"
    hook kvm-hotplug-pre.d migrate <<<"printf '%s\\n' 'migrate_set_parameter max-bandwidth 4k' 'migrate -d unix:$TEST_DIR/sink' |
        socat -t 2 - UNIX-CONNECT:$RUN_DIR/ctrl/web1.monitor >/dev/null"
    before=$(cat "$RUN_DIR/conf/web1.runtime")
    suite kvm-hotplug web1 add-disk "path=$(disk one 8)"
    expect_status 3
    expect_error "a migration is in progress ("
    expect_equal "$(cat "$RUN_DIR/conf/web1.runtime")" "$before"
}
