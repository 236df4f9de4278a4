#!/usr/bin/env bats
# SPDX-License-Identifier: BSD-2-Clause
# Manual pages, --help and the completion say the same, and the manual's examples are real.

load helper

programs() {
    local file
    # shellcheck disable=SC2153  # set by helper.bash
    for file in "$SOURCE"/cmd/*.c; do
        basename "$file" .c
    done
}

help_options() { # PROGRAM: "--timeout SECONDS", "-v --verbose", one a line
    "$BUILD/$1" --help | grep -oE '^  (-[a-z], |    )--[a-z0-9-]+( [A-Z=]+)?' | tr -d ',' | sed 's/^ *//' | sort
}

manual_options() { # PROGRAM: the same out of its manual's list items
    sed -n -E 's/^\.It Fl (.*)$/-\1/p' "$SOURCE/man/$1.8" |
        sed -E 's/^-(-[a-z0-9-]+) Ns Op .*$/-\1/; s/^-(-[a-z0-9-]+) Ar ([A-Z=]+)$/-\1 \2/; s/^-([a-z]) , Fl (-[a-z0-9-]+)$/-\1 -\2/' | sort
}

# One synopsis a line; how blanks stand around "|" and "..." is each format's own.
one_synopsis_a_line() { # PROGRAM
    tr -s ' \n' ' ' | sed -E 's/ *\| */|/g; s/ +\.\.\./.../g; s/ \[common options\]//g; s/ ('"$1"' )/\n\1/g; s/ *$//' | sed 's/ *$//' | grep .
}

help_synopses() { # PROGRAM
    "$BUILD/$1" --help | sed -n 's/^Usage: / /; /^$/q; p' | one_synopsis_a_line "$1"
}

manual_synopses() { # PROGRAM
    mandoc -T ascii -O width=1000 "$SOURCE/man/$1.8" | sed 's/.\x08//g' | sed -n '/^SYNOPSIS/,/^DESCRIPTION/{/^[A-Z]/!p}' |
        one_synopsis_a_line "$1"
}

# One completion as bash would ask for it: the last word is the one at the cursor.
complete_words() { # WORD…
    # shellcheck disable=SC2016  # expanded by the bash that is started
    bash -c '
        . "$1/completions/kvm-suite.bash"
        shift
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _kvm_suite "$1"
        printf "%s\n" "${COMPREPLY[@]}"' - "$SOURCE" "$@"
}

expect_completion() { # EXPECTED WORD…
    local got
    got=$(complete_words "${@:2}" | sort | paste -sd ' ')
    [[ $got == "$1" ]] || fail "${*:2}: completed to '$got', expected '$1'"
}

some_instances() { # DIRECTORY NAME…
    local name
    mkdir -p "$1/conf" "$1/pid"
    for name in "${@:2}"; do
        touch "$1/conf/$name.runtime" "$1/pid/$name"
    done
}

@test "options in --help and manual have the same letters and arguments" {
    local program
    for program in $(programs); do
        [[ -n $(help_options "$program") ]] || fail "$program --help has no options"
        diff <(help_options "$program") <(manual_options "$program") || fail "$program: '<' --help, '>' manual"
        diff <(help_options "$program" | grep -o -e '--[a-z0-9-]*' | sort) \
            <("$BUILD/$program" --complete-words | grep '^--' | sort) || fail "$program: '<' --help, '>' completion"
    done
}

@test "an action with too few words says its line of --help" {
    local action
    mkdir -m 0700 "$RUN_DIR"
    for action in $("$BUILD/kvm-hotplug" --complete-words | sed -n 's/^action://p'); do
        if [[ $action == check || $action == list ]]; then
            suite kvm-hotplug web1 "$action" more
            expect_error "web1: $action: takes no further word"
        elif [[ $action != add-nic ]]; then # all its words may be left out
            suite kvm-hotplug web1 "$action"
            help_synopses kvm-hotplug | grep -qxF "${errors#*usage: }" || fail "$action: not in --help"
        fi
        expect_status 2
    done
    suite kvm-hotplug web1 frobnicate
    expect_error "frobnicate: no such action; 'kvm-hotplug --help' lists them"
}

@test "--force is refused where it would do nothing" {
    mkdir -m 0700 "$RUN_DIR"
    for words in "del-disk 0" "del-nic 0" "add-disk path=/x" list; do
        # shellcheck disable=SC2086
        suite kvm-hotplug web1 $words --force
        expect_status 2
        expect_error "--force is for resize-disk and set-memory"
    done
    suite kvm-hotplug web1 set-memory 128 --force
    expect_status 3
}

@test "--help has the keys of each action" {
    local words
    words=$("$BUILD/kvm-hotplug" --complete-words | sed -n 's/^key://p' | sort)
    [[ -n $words ]]
    diff <("$BUILD/kvm-hotplug" --help | sed -n '/^Keys:/,/^$/p' | sed 1d | awk '
        /^  [a-z]/ { action = $1; $1 = "" }
        { gsub(/,/, ""); for (i = 1; i <= NF; i++) if ($i != "") print action ":" $i }' | sort) <(echo "$words")
}

@test "the synopses of --help and manual are the same, and have every option and action" {
    local program option action
    for program in $(programs); do
        diff <(help_synopses "$program") <(manual_synopses "$program") || fail "$program: '<' --help, '>' manual"
        for option in $("$BUILD/$program" --help | sed '/^Common options/,$d' | grep -oE '^ +(-[a-z], )?--[a-z0-9-]+' | grep -oE -e '--.*'); do
            help_synopses "$program" | grep -qE -e "$option( |=|\[|\]|\||\$)|\[OPTION\.\.\.\]" || fail "$program $option"
        done
        for action in $("$BUILD/$program" --complete-words | sed -n '/^action:serve$\|^action:pipe$/d; s/^action://p'); do # these nobody types
            help_synopses "$program" | grep -qE -e "[ |]$action( |\||$)" || fail "$program $action"
        done
    done
}

@test "mandoc has nothing to say about the manuals" {
    local manual
    for manual in "$SOURCE"/man/*; do
        mandoc -Tlint -W warning "$manual" || fail "$manual"
    done
}

# Of a pager's 80 columns; and groff does not wrap what stands in a table's row, as mandoc does.
@test "no manual is wider than a terminal" {
    local manual
    for manual in "$SOURCE"/man/*; do
        ! mandoc -T utf8 -O width=78 "$manual" | sed 's/.\x08//g' | LC_ALL=C.UTF-8 grep -E '^.{81,}' || fail "$manual"
        ! awk '
            /^\.Bl -column/ { inside = 1; columns = 0; split("", width) }
            inside && /^\.It/ {
                gsub(/^\.It |(Sy|Ql|Ev|Cm|Ic|Pa) |\\/, "")
                gsub(/ , /, ", ")
                columns = split($0, cell, / Ta /)
                for (i = 1; i <= columns; i++)
                    if (length(cell[i]) > width[i])
                        width[i] = length(cell[i])
            }
            inside && /^\.El/ { # up to four columns have four blanks between them, many have one
                total = 5 + (columns - 1) * (columns <= 4 ? 4 : columns == 5 ? 3 : 1)
                for (i = 1; i <= columns; i++)
                    total += width[i]
                inside = 0
            }
            total > 78 { print "line " FNR ": the table before it needs " total " columns" }
            { total = 0 }' "$manual" | grep . || fail "$manual"
    done
}

@test "no word of a manual is taken for markup, or swallowed by it" {
    local manual
    for manual in "$SOURCE"/man/*; do
        ! grep -nE '^\.It (.* )?(An|At|In|Me|To|Do) |^\.It ".*", |^\.It [^"]* "' "$manual" || fail "$manual"
        # shellcheck disable=SC1112 # mandoc's own quotes are looked for
        ! mandoc -T utf8 -O width=1000 "$manual" | sed 's/.\x08//g' | LC_ALL=C.UTF-8 grep -nE '‘[^’]*‘|‘ | ’|[^.] [,;:)]( |$)' || fail "$manual"
    done
}

@test "manuals refer only to manuals of ours that are there" {
    local name section
    while read -r name section; do
        [[ -f $SOURCE/man/$name.$section ]] || fail "there is no $name($section)"
    done < <(sed -n -E 's/^.*\bXr (kvm-[a-z]+) ([0-9]).*$/\1 \2/p' "$SOURCE"/man/* | sort -u)
}

@test "each manual has the sections that a reader looks for" {
    local program section
    for program in $(programs); do
        for section in NAME SYNOPSIS DESCRIPTION OPTIONS ENVIRONMENT FILES 'EXIT STATUS' EXAMPLES DIAGNOSTICS 'SEE ALSO'; do
            grep -qx ".Sh $section" "$SOURCE/man/$program.8" || fail "$program(8) has no $section"
        done
    done
}

@test "the steps that examples with -v show are told by the programs" {
    local step count=0
    while IFS= read -r step; do
        grep -rqF "\"$step" "$SOURCE/common" "$SOURCE/cmd" || fail "nothing says: $step"
        ((++count))
    done < <(sed -n -E 's/^kvm-(start|stop|hotplug|migrate): ([a-z][^:;%]*)$/\2/p' "$SOURCE"/man/*.8 |
        sed -E 's/^(run ifdown for NIC|remove the) .*/\1/') # what follows is that instance's
    ((count > 20)) || fail "only $count steps found"
}

# Paths and bridges of the examples are not on this node, and nothing else may be wrong.
@test "the definitions in kvm-instance(5) are accepted" {
    local definition count=0
    awk '/^\.Bd -literal/ { inside = 1; text = ""; next }
        /^\.Ed/ { if (text ~ /^[{]/) print text; inside = 0 }
        inside { text = text $0 "\n" }' "$SOURCE/man/kvm-instance.5" | jq -c . >"$TEST_DIR/examples"
    jq -c 'select(has("name") | not)' "$TEST_DIR/examples" >"$CONF_DIR/kvm-defaults.json"
    [[ $(wc -l <"$CONF_DIR/kvm-defaults.json") -eq 1 ]] || fail "kvm-instance(5) has not one example of a node file"
    network br0
    while IFS= read -r definition; do
        suite kvm-start --dry-run - <<<"$definition"
        ! grep -vE "can't be opened \(current value|warning: .*KVM can't be used here|hvparams.security_model: /dev/kvm can't" \
            <<<"$errors" | grep . || fail "an example is wrong"
        ((++count))
    done < <(jq -c 'select(has("name"))' "$TEST_DIR/examples")
    ((count >= 3)) || fail "only $count definitions found"
}

@test "the completion script is clean" {
    shellcheck "$SOURCE/completions/kvm-suite.bash"
}

@test "options are completed" {
    expect_completion "--reboot --reset" "$BUILD/kvm-stop" --re
    expect_completion "--paused" "$BUILD/kvm-start" web1.json --pau
    expect_completion "" "$BUILD/kvm-stop" -- --re
    expect_completion "" "$BUILD/kvm-stop" --timeout ""
}

@test "an action is completed behind the instance, where a program has actions" {
    local program actions
    for program in $(programs); do
        actions=$("$BUILD/$program" --complete-words | sed -n 's/^action://p' | sort | paste -sd ' ')
        [[ -z $actions ]] || expect_completion "$actions" "$BUILD/$program" web1 ""
    done
}

@test "words that are few are completed: values of options, what an action takes" {
    local migrate=$BUILD/kvm-migrate hotplug=$BUILD/kvm-hotplug
    expect_completion "cancel pause postcopy" "$migrate" web1 to node2 --on-deadline ""
    expect_completion "zlib zstd" "$migrate" web1 to node2 --multifd-compression = z
    expect_completion "" "$migrate" web1 status ""
    expect_completion "down up" "$hotplug" web1 set-link 0 ""
    expect_completion "cdrom cdrom2" "$hotplug" web1 change-cdrom eject cd
    expect_completion "" "$hotplug" web1 del-disk ""
    expect_completion "none" "$hotplug" web1 add-disk cache = n
}

@test "behind an action its keys are completed, and the values of some" {
    local hotplug=$BUILD/kvm-hotplug
    expect_completion "bps= bps_rd= bps_wr= bus=" "$hotplug" web1 add-disk b
    expect_completion "mac= mode=" "$hotplug" web1 mod-nic lan m
    expect_completion "" "$hotplug" web1 mod-nic m
    expect_completion "iops= iops_rd= iops_wr=" "$hotplug" web1 set-io data bps = 5 i # "=" is a word break
    expect_completion "bridged" "$hotplug" web1 add-nic mode = b
    expect_completion "mode=bridged" "$hotplug" web1 add-nic mode=b
    expect_completion "--timeout" "$hotplug" web1 add-nic link = br0 --ti
    touch "$TEST_DIR/data.raw"
    expect_completion "$TEST_DIR/data.raw" "$hotplug" web1 add-disk name = data path = "$TEST_DIR/da"
    expect_completion "path=$TEST_DIR/data.raw" "$hotplug" web1 add-disk "path=$TEST_DIR/da"
}

@test "kvm-hotplug(8) has every action and every key of it, and no others" {
    local words manual=$SOURCE/man/kvm-hotplug.8
    words=$("$BUILD/kvm-hotplug" --complete-words)
    diff <(sed -n 's/^action://p' <<<"$words" | sort) \
        <(sed -n '/^\.Ss Actions/,/^\.Ss Keys/s/^\.It Cm //p' "$manual" | sort) || fail "actions: '<' program, '>' manual"
    diff <(sed -n 's/^key://p' <<<"$words" | sort) \
        <(awk '/^\.Ss Keys/, /^\.El/' "$manual" | sed -n 's/^\.It \(.*\) Ta .*/\1/p' | awk '{
            if (sub(/^Sy Keys of /, "")) {
                count = split($0, actions, ", ")
                next
            }
            for (k = split($0, keys, " , "); k > 0; k--)
                for (a = count; a > 0; a--)
                    print actions[a] ":" keys[k]
        }' | sort) || fail "keys: '<' program, '>' manual"
}

@test "kvm-migrate(8) has every action, every rule of votes and tokens, and no others" {
    local manual=$SOURCE/man/kvm-migrate.8
    diff <("$BUILD/kvm-migrate" --complete-words | sed -n 's/^action://p' | sort) \
        <(sed -n '/^\.Ss Actions/,/^\.Ss Steps/s/^\.It Cm //p' "$manual" | sort) || fail "actions: '<' program, '>' manual"
    diff <(tr -s '\n ' ' ' <"$SOURCE/common/operations/migration.c" | grep -o '{MIGRATION_[^}]*}' |
        sed -n 's/^{MIGRATION_\([A-Z]*\), PHASE_\([A-Z]*\), STAGE_\([A-Z]*\)[A-Z_]*, [A-Z_]*, PHASE_\([A-Z]*\), .*/\L\1 \2 \3 \4/p' | sort) \
        <(sed -n '/^\.Ss Votes and tokens/,/^\.El/s/^\.It \([a-z]*\) Ta \([a-z]*\) Ta \([a-z]*\) Ta .* Ta \([a-z]*\) Ta .*/\1 \2 \3 \4/p' \
            "$manual" | sort) || fail "rules: '<' program, '>' manual"
}

@test "instances are completed from KVM_RUN_DIR, and from --run-dir before it" {
    some_instances "$RUN_DIR" web1 web2 db.example
    some_instances "$TEST_DIR/other" mail
    expect_completion "db.example web1 web2" "$BUILD/kvm-info" ""
    expect_completion "web1 web2" "$BUILD/kvm-stop" --force w
    expect_completion "web1 web2" "$BUILD/kvm-stop" --timeout 5 w
    expect_completion "mail" "$BUILD/kvm-stop" --run-dir "$TEST_DIR/other" ""
    expect_completion "mail" "$BUILD/kvm-stop" --run-dir = "$TEST_DIR/other" "" # "=" is a word break
    expect_completion "mail" "$BUILD/kvm-stop" "--run-dir=$TEST_DIR/other" ""
    expect_completion "web1 web2" "$BUILD/kvm-start" --resume w
}

@test "an empty run directory completes to nothing" {
    mkdir -p "$RUN_DIR/conf"
    expect_completion "" "$BUILD/kvm-cleanup" ""
}

@test "files are completed for kvm-start, directories for --run-dir" {
    mkdir "$TEST_DIR/place"
    touch "$TEST_DIR/place/web1.json" "$TEST_DIR/place/web2.json"
    mkdir "$TEST_DIR/place/sub"
    expect_completion "$TEST_DIR/place/web1.json $TEST_DIR/place/web2.json" "$BUILD/kvm-start" "$TEST_DIR/place/web"
    expect_completion "$TEST_DIR/place/sub" "$BUILD/kvm-info" --run-dir "$TEST_DIR/place/"
}

@test "an installation has a manual and a completion for each program, and the sample scripts" {
    local program root=$TEST_DIR/root
    cmake --install "$BUILD" --prefix "$root" >/dev/null
    for program in $(programs); do
        [[ -x $root/sbin/$program ]] || fail "no $program"
        [[ -f $root/share/man/man8/$program.8 ]] || fail "no manual of $program"
        cmp "$SOURCE/completions/kvm-suite.bash" "$root/share/bash-completion/completions/$program"
    done
    [[ -f $root/share/man/man5/kvm-instance.5 && -f $root/share/man/man5/kvm-runtime.5 ]] || fail "no manuals of files"
    [[ -f $root/share/man/man7/kvm-suite.7 ]] || fail "no manual of the suite"
    [[ -x $root/share/kvm-suite/hooks/kvm-ifup-custom.sample ]] || fail "no sample of kvm-ifup-custom"
    [[ -x $root/share/kvm-suite/hooks/kvm-ifdown-custom.sample ]] || fail "no sample of kvm-ifdown-custom"
}
