# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# Completion for the programs of kvm-suite. Options, their arguments and actions come from the program itself
# (--complete-words); instance names from the files of the run directory, since looking there starts no
# program for each of a thousand instances.

# Removes a leading "~" as the shell would.
_kvm_suite_expand() { # PATH
    printf '%s' "${1/#\~\//"$HOME/"}"
}

# The run directory that the line names, else the environment's, else the one built in, which --help tells.
_kvm_suite_run_dir() { # PROGRAM
    local i help
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
            --) break ;;
            --run-dir=?*) _kvm_suite_expand "${COMP_WORDS[i]#*=}" && return ;;
            --run-dir)
                [[ ${COMP_WORDS[i + 1]} != "=" ]] || ((i++))
                ((i + 1 >= COMP_CWORD)) || { _kvm_suite_expand "${COMP_WORDS[i + 1]}" && return; }
                ;;
        esac
    done
    if [[ -n ${KVM_RUN_DIR:-} ]]; then
        printf '%s' "$KVM_RUN_DIR"
        return
    fi
    help=$("$1" --help 2>/dev/null | tr -s ' \n' ' ')
    [[ $help =~ KVM_RUN_DIR\;\ ([^\)]*)\) ]] && printf '%s' "${BASH_REMATCH[1]}"
}

_kvm_suite_instances() { # PROGRAM
    local directory file name
    directory=$(_kvm_suite_run_dir "$1")
    [[ -n $directory ]] || return
    for file in "$directory"/conf/*.runtime "$directory"/pid/* "$directory"/nic/*; do
        [[ -e $file ]] || continue
        name=${file##*/}
        printf '%s\n' "${name%.runtime}"
    done | sort -u
}

# Operands before the word at the cursor; whether one of the words was "--" (1), and the second operand.
_kvm_suite_count_operands() { # NAMES-OF-OPTIONS-WITH-ARGUMENTS
    local i word count=0 over=0 second=""
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if ((over)) || [[ $word != -?* ]]; then
            ((++count))
            ((count != 2)) || second=$word
        elif [[ $word == -- ]]; then
            over=1
        elif [[ $word == --* && ${COMP_WORDS[i + 1]} == "=" ]]; then
            ((i += 2))
        elif [[ $word == --* && " $1 " == *" $word "* ]]; then
            ((i++))
        fi
    done
    printf '%s %s %s\n' "$count" "$over" "$second"
}

# COMPREPLY from what `kind` of word it is; `prefix` is put before each.
_kvm_suite_reply() { # PROGRAM KIND CURRENT PREFIX [WORD...]
    local program=$1 kind=$2 current=$3 prefix=$4
    shift 4
    case $kind in
        file | FILE)
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -P "$prefix" -f -- "$current")
            ;;
        DIR)
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -P "$prefix" -d -- "$current")
            ;;
        instance | INSTANCE)
            mapfile -t COMPREPLY < <(compgen -P "$prefix" -W "$(_kvm_suite_instances "$program")" -- "$current")
            ;;
        words)
            mapfile -t COMPREPLY < <(compgen -P "$prefix" -W "$*" -- "$current")
            ;;
    esac
}

# COMPREPLY of the values of an option, and of the words behind an action that takes no keys.
_kvm_suite_option() { # PROGRAM OPTION KIND CURRENT PREFIX
    case $2 in
        --on-deadline) _kvm_suite_reply "$1" words "$4" "$5" cancel pause postcopy ;;
        --multifd-compression) _kvm_suite_reply "$1" words "$4" "$5" none zlib zstd ;;
        *) _kvm_suite_reply "$1" "$3" "$4" "$5" ;;
    esac
}

_kvm_suite_operand() { # PROGRAM ACTION CURRENT OPERANDS-BEFORE
    case $2:$4 in
        to:2 | check:2 | rehearse:2 | offer:2) mapfile -t COMPREPLY < <(compgen -A hostname -- "$3") ;;
        set-link:3) _kvm_suite_reply "$1" words "$3" "" up down ;;
        change-cdrom:2) _kvm_suite_reply "$1" file "$3" "" ;;
        change-cdrom:3) _kvm_suite_reply "$1" words "$3" "" cdrom cdrom2 ;;
    esac
}

# COMPREPLY behind an action: its KEY= words, and their values where these are known.
_kvm_suite_key() { # PROGRAM ACTION CURRENT KEY...
    local program=$1 action=$2 current=$3 previous=${COMP_WORDS[COMP_CWORD - 1]} key="" prefix=""
    shift 3
    if [[ $current == "=" ]]; then # "=" is a word break
        key=$previous current=""
    elif [[ $previous == "=" ]]; then
        key=${COMP_WORDS[COMP_CWORD - 2]}
    elif [[ $current == *=* ]]; then
        key=${current%%=*} prefix=$key= current=${current#*=}
    fi
    case $action:$key in
        *:)
            compopt -o nospace 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -S = -W "$*" -- "$current")
            ;;
        *:path) _kvm_suite_reply "$program" file "$current" "$prefix" ;;
        *-nic:mode) _kvm_suite_reply "$program" words "$current" "$prefix" bridged routed openvswitch ;;
        *-disk:mode) _kvm_suite_reply "$program" words "$current" "$prefix" rw ro ;;
        *-disk:format) _kvm_suite_reply "$program" words "$current" "$prefix" raw qcow2 ;;
        *-disk:bus) _kvm_suite_reply "$program" words "$current" "$prefix" virtio scsi ;;
        *-disk:cache) _kvm_suite_reply "$program" words "$current" "$prefix" default none writeback writethrough ;;
        *-disk:aio) _kvm_suite_reply "$program" words "$current" "$prefix" threads native io_uring ;;
        *-disk:discard) _kvm_suite_reply "$program" words "$current" "$prefix" ignore unmap ;;
        *-disk:detect_zeroes) _kvm_suite_reply "$program" words "$current" "$prefix" off on unmap ;;
    esac
}

_kvm_suite() {
    local program current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    local word option="" prefix="" operand="" before over options=() actions=() with_argument=() action
    local -A arguments=() keys=()
    program=$(_kvm_suite_expand "$1")
    COMPREPLY=()

    while IFS= read -r word; do
        case $word in
            --*) options+=("$word") ;;
            action:*) actions+=("${word#action:}") ;;
            key:*)
                word=${word#key:}
                keys[${word%%:*}]+=" ${word#*:}"
                ;;
            operand:*) operand=${word#operand:} ;;
            argument:*)
                word=${word#argument:}
                arguments[${word%%:*}]=${word#*:}
                with_argument+=("${word%%:*}")
                ;;
        esac
    done < <("$program" --complete-words 2>/dev/null)
    [[ " ${COMP_WORDS[*]} " != *" --resume "* ]] || operand=instance

    read -r before over action <<<"$(_kvm_suite_count_operands "${with_argument[*]}")"
    if ((!over)); then
        if [[ $current == "=" && $previous == --* ]]; then # --name=| with "=" among the word breaks
            option=$previous current=""
        elif [[ $previous == "=" && ${COMP_WORDS[COMP_CWORD - 2]} == --* ]]; then
            option=${COMP_WORDS[COMP_CWORD - 2]}
        elif [[ $current == --*=* ]]; then
            option=${current%%=*} prefix=$option= current=${current#*=}
        elif [[ -n ${arguments[$previous]:-} ]]; then
            option=$previous
        fi
    fi
    if [[ -n $option ]]; then
        _kvm_suite_option "$program" "$option" "${arguments[$option]:-}" "$current" "$prefix"
    elif ((!over)) && [[ $current == -* ]]; then
        _kvm_suite_reply "$program" words "$current" "" "${options[@]}"
    elif ((${#actions[@]} > 0 && before == 1)); then
        _kvm_suite_reply "$program" words "$current" "" "${actions[@]}"
    elif ((${#actions[@]} == 0 || before == 0)); then
        _kvm_suite_reply "$program" "$operand" "$current" ""
    elif [[ -n ${keys[$action]:-} ]]; then
        # What changes a device has it before the keys.
        if [[ $action == add-* || $before -gt 2 ]]; then
            # shellcheck disable=SC2086  # a list of words
            _kvm_suite_key "$program" "$action" "$current" ${keys[$action]}
        fi
    else
        _kvm_suite_operand "$program" "$action" "$current" "$before"
    fi
}

complete -F _kvm_suite kvm-start kvm-stop kvm-hotplug kvm-migrate kvm-cleanup kvm-info
