#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# kvm-hotplug killed at its system calls, a sample of them: tests/crash-hotplug --all is the whole.

load helper

killed() { # EVERY SCENARIO
    run timeout 280 "$TESTS/crash-hotplug" --every "$1" "$2" 3>&-
    echo "$output"
    expect_equal "$status" 0
    expect_output " 0 failed"
}

@test "killed at its system calls, add-disk is finished or undone by the same command, others, kvm-stop, kvm-cleanup" {
    killed 9 add-disk
}

@test "killed at its system calls, add-disk on SCSI is finished or undone by the same command and by others" {
    killed 13 add-disk-scsi
}

@test "killed at its system calls, add-nic is finished or undone, with its taps, names and books" {
    killed 11 add-nic
}

@test "killed at its system calls, del-disk on SCSI is finished by the same command and by others" {
    killed 13 del-disk-scsi
}

@test "killed at its system calls, mod-nic is finished or undone, and the NIC is set up" {
    killed 13 mod-nic
}

@test "killed at its system calls, change-cdrom leaves one medium and nothing beside it" {
    killed 13 change-cdrom
}

# bats test_tags=guest
@test "killed at its system calls, del-disk of a guest is finished by repeating it" {
    killed 13 del-disk
}

# bats test_tags=guest
@test "killed at its system calls, del-nic of a guest is finished by repeating it" {
    killed 17 del-nic
}
