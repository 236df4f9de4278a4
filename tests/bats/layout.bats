#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# The house as a whole: layers, what lies at the top, and what every program has in common.

load helper

programs() {
    local file
    for file in "$SOURCE"/cmd/*.c; do
        basename "$file" .c
    done
}

# Lines "FILE includes LAYER/x.h" that run upward or sideways in the tree DIR.
wrong_includes() { # DIR
    (cd "$1" && grep -r -o -H -E '^#include "[^"]+"' cmd common include --include='*.[ch]') | awk -F: '
        BEGIN {
            below["base"] = "base"
            below["state"] = "base state"
            below["qemu"] = "base state qemu"
            below["host"] = "base state host"
            below["operations"] = "base state qemu host operations"
            below["cmd"] = below["operations"]
        }
        {
            split($1, path, "/")
            from = path[1] == "cmd" ? "cmd" : path[1] == "common" ? path[2] : path[3]
            split($2, quoted, "\"")
            to = quoted[2]
            if (to !~ /^kvm\//) {
                if (to ~ /\//) print $1 " includes " to
                next
            }
            split(to, parts, "/")
            if (!(from in below) || index(" " below[from] " ", " " parts[2] " ") == 0)
                print $1 " includes " to
        }'
}

# The long options that --help lists.
help_options() { # PROGRAM
    "$BUILD/$1" --help | sed -n 's/^ \{2,6\}\(-[a-z], \)\?--\([a-z0-9-]*\).*/--\2/p' | sort
}

@test "the top level holds what the design names and nothing else" {
    local allowed="CMakeLists.txt LICENSE README.md cmd common completions include man tests"
    local left
    left=$(cd "$SOURCE" && find . -mindepth 1 -maxdepth 1 ! -name '.*' ! -name 'build*' -printf '%f\n' | sort | tr '\n' ' ')
    expect_equal "$left" "$allowed "
}

@test "includes run downward only" {
    [[ -d $SOURCE/common/base && -d $SOURCE/include/kvm/base ]]
    local wrong
    wrong=$(wrong_includes "$SOURCE")
    [[ -z $wrong ]] || fail "$wrong"
}

@test "an include that runs upward, sideways or past the layers is found" {
    local tree=$TEST_DIR/tree
    mkdir -p "$tree"/cmd "$tree"/common/{base,host} "$tree"/include/kvm/{state,qemu}
    echo '#include "kvm/state/rundir.h"' >"$tree/common/base/error.c"
    echo '#include "kvm/qemu/qmp.h"' >"$tree/common/host/tap.c"
    echo '#include "kvm/operations/launch.h"' >"$tree/include/kvm/qemu/qmp.h"
    echo '#include "../base/error.h"' >"$tree/include/kvm/state/slots.h"
    echo '#include "kvm/operations/launch.h"' >"$tree/cmd/kvm-start.c"
    expect_equal "$(wrong_includes "$tree" | sort)" "common/base/error.c includes kvm/state/rundir.h
common/host/tap.c includes kvm/qemu/qmp.h
include/kvm/qemu/qmp.h includes kvm/operations/launch.h
include/kvm/state/slots.h includes ../base/error.h"
}

@test "every source file names its licence in the first lines" {
    local bare
    bare=$(cd "$SOURCE" && find cmd common include man completions tests .ci CMakeLists.txt -type f \
        ! -name '*.json' ! -name '*.runtime' ! -path '*/golden/*' ! -path '*/vectors/*' ! -path '*/corpus/*' -print0 |
        while IFS= read -r -d '' file; do
            head -n 3 "$file" | grep -q 'SPDX-License-Identifier: BSD-2-Clause' || echo "$file"
        done)
    [[ -z $bare ]] || fail "without it: $bare"
}

@test "every program has a manual page, and every page of section 8 a program" {
    local pages
    pages=$(cd "$SOURCE/man" && for page in kvm-*.8; do basename "$page" .8; done | sort)
    expect_equal "$pages" "$(programs | sort)"
}

@test "every program answers --help and --version on stdout with exit status 0" {
    local program
    for program in $(programs); do
        suite "$program" --help
        expect_status 0
        expect_output "Usage: $program "
        expect_equal "$errors" ""
        suite "$program" --version
        expect_status 0
        expect_output "$program (kvm-suite) "
        expect_equal "$errors" ""
    done
}

@test "every program refuses an unknown option by name with exit status 2" {
    local program
    for program in $(programs); do
        suite "$program" --no-such-option
        expect_status 2
        expect_error "$program: unknown option --no-such-option"
        expect_equal "$output" ""
    done
}

@test "every program fails when its output can't be written" {
    local program
    for program in $(programs); do
        run -1 bash -c '"$1" --help >/dev/full' - "$BUILD/$program"
    done
}

@test "the options in --help are the options in the manual page" {
    local program described
    for program in $(programs); do
        described=$(sed -n 's/^\.It .*Fl -\([a-z][a-z0-9-]*\).*/--\1/p' "$SOURCE/man/$program.8" | sort -u)
        [[ -n $described ]]
        expect_equal "$program $described" "$program $(help_options "$program")"
    done
}

@test "the completion knows every option in --help" {
    local program words
    for program in $(programs); do
        words=$("$BUILD/$program" --complete-words | grep -e '^--' | sort)
        expect_equal "$program $words" "$program $(help_options "$program")"
    done
}

@test "a program without arguments says how it is used, but for the one that lists" {
    local program
    for program in $(programs); do
        [[ $program != kvm-info ]] || continue
        suite "$program"
        expect_status 2
        expect_error "$program: "
    done
}

@test "what a test leaves in /dev/shm is swept with it, and nothing of others" {
    local mine others=/dev/shm/kvm-suite.${TEST_DIR##*.}.0.server
    mkdir "$TEST_DIR/b"
    mine=/dev/shm/kvm-suite.web1.$(printf %x "$(stat -c %i "$TEST_DIR/b")").server
    mkdir "$mine" "$others"
    touch "$mine/keys.psk"
    remove_keys "$TEST_DIR"
    rmdir "$others"
    [[ ! -e $mine ]]
}
