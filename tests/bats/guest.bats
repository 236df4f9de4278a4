#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# The test guest itself, through the suite: what other tests build on.
# bats file_tags=guest

load helper

@test "the test guest boots on pc with 128 MiB and answers on its serial line" {
    suite kvm-start "$(definition web1)"
    expect_status 0
    run -7 guest_run web1 'uname -s; exit 7'
    expect_equal "$output" Linux
}

@test "the test guest boots on q35 and powers off on the button" {
    suite kvm-start "$(definition web1 '.hvparams.machine_version = "q35"')"
    expect_status 0
    guest_run web1 true
    suite kvm-stop web1 --timeout 60
    expect_status 0
    expect_nothing_left web1
}
