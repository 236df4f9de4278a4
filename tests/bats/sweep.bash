# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# Ending what a test began, known by the test's own directory; and waiting. Used by helper.bash, tests/sweep,
# tests/demo and tests/bench.

wait_until() { # SECONDS COMMAND…
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [[ $SECONDS -le $end ]] || { echo "not within the time: $*"; return 1; }
        sleep 0.05
    done
}

# Processes that hold a file below DIR open or name one in their command line: what a test began, whatever became
# of its pid file. QEMU gets its files as descriptors, so its command line alone would not tell.
processes_below() { # DIR
    local pid
    {
        find /proc/[0-9]*/fd /proc/[0-9]*/cwd -maxdepth 1 -lname "$1/*" 2>/dev/null || true
        grep -l -s -F -e "$1/" /proc/[0-9]*/cmdline || true
    } | sed 's|^/proc/\([0-9]*\)/.*|\1|' | sort -un | while read -r pid; do
        [[ $pid != "$$" && $pid != "${BASHPID:-}" ]] || continue
        [[ ! $(process_state "$pid") =~ ^Z?$ ]] || continue
        ! grep -q -s -E '^(grep|find)$' "/proc/$pid/comm" || continue
        echo "$pid"
    done
}

process_state() { # PID: one letter; nothing when there is no such process
    sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$1/status" 2>/dev/null || true
}

# End and remove everything that belongs to DIR. tests/run calls it for directories that a killed test left.
suite_sweep() { # DIR
    local pid namespace
    namespace=$(namespace_of "$1")
    # From the youngest to the oldest, again until none is left: a command may just be starting its QEMU.
    while pid=$(processes_below "$1" | tail -n 1) && [[ -n $pid ]]; do
        kill -KILL "$pid" 2>/dev/null || true
        wait_until 10 process_is_gone "$pid" || break
    done
    for namespace in "/run/netns/$namespace"*; do
        [[ ! -e $namespace ]] || ip netns delete "${namespace##*/}" || true
    done
    findmnt -rno TARGET 2>/dev/null | grep -F -e "$1/" | sort -r | xargs -r umount -l || true
    remove_keys "$1"
    rm -rf -- "$1"
}

# A target that is still waiting has the key of its migration in /dev/shm, by the inode of its run directory.
remove_keys() { # DIR
    local key inode
    for key in /dev/shm/kvm-suite.*; do
        inode=${key%.*}
        inode=${inode##*.}
        [[ $inode =~ ^[0-9a-f]+$ && -n $(find "$1" -maxdepth 2 -type d -inum "$((16#$inode))" 2>/dev/null) ]] || continue
        rm -rf -- "$key"
    done
}

namespace_of() { # DIR
    echo "ks-${1##*.}"
}

# A first thread that has ended is a zombie while the others still hold memory, files and locks.
process_is_gone() { # PID
    local state tasks
    state=$(process_state "$1")
    [[ -n $state ]] || return 0
    tasks=("/proc/$1/task/"*)
    [[ $state == Z && ${#tasks[@]} -le 1 ]]
}
