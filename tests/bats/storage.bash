# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
# What storage*.bats share:  load helper; load hotplug; load storage
#
#     boot_disk LETTER FILE, boot_cdrom LETTER FILE   images whose only program writes LETTER to the serial port, again and again
#     letter NAME                                     what the instance writes there
#     web                                             a web server for $TEST_DIR; its URL is $WEB
#     nbd IMAGE SOCKET [OPTION…]                      an NBD server
#     id_of NUMBER, peripheral NAME ID PROPERTY, node_of NAME ID

put() { # FILE OFFSET BYTES-FOR-PRINTF
    printf '%b' "$3" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

# sti; l: mov dx,0x3f8; mov al,LETTER; out dx,al; hlt; jmp l
boot_sector() { # FILE OFFSET LETTER
    put "$1" "$2" "\\0373\\0272\\0370\\0003\\0260$3\\0356\\0364\\0353\\0367"
    put "$1" $(($2 + 510)) '\0125\0252'
}

boot_disk() { # LETTER FILE
    truncate -s 1440K "$2"
    boot_sector "$2" 0 "$1"
}

# The least that El Torito asks for: boot record, terminator, catalogue, one image of one sector without emulation.
boot_cdrom() { # LETTER FILE
    truncate -s 64K "$2"
    put "$2" 32768 '\0001CD001\0001'
    put "$2" 34816 '\0000CD001\0001EL TORITO SPECIFICATION'
    put "$2" 34887 '\0023'
    put "$2" 36864 '\0377CD001\0001'
    put "$2" 38912 '\0001'
    put "$2" 38940 '\0252\0125\0125\0252\0210'
    put "$2" 38950 '\0001\0000\0024'
    boot_sector "$2" 40960 "$1"
}

letter() { # NAME
    timeout 60 socat -u "UNIX-CONNECT:$RUN_DIR/ctrl/$1.serial" - 2>/dev/null 3>&- | head -c 1
}

web() {
    "$TESTS/bats/web" "$TEST_DIR" "$TEST_DIR/port" 3>&- &
    wait_until 20 test -s "$TEST_DIR/port"
    # shellcheck disable=SC2034
    WEB=http://127.0.0.1:$(cat "$TEST_DIR/port")
}

nbd() { # IMAGE SOCKET [OPTION…]
    qemu-nbd --fork --persistent --shared=8 --format=raw --socket="$2" "${@:3}" "$1" 3>&-
}

id_of() { # NUMBER
    printf 'disk-%08d-2573-4112' "$1"
}

uuid_of() { # NUMBER
    printf '%08d-2573-4112-9a0d-1f2e3d4c5b6a' "$1"
}

peripheral() { # NAME ID PROPERTY
    qmp "$1" qom-get "$(jq -nc --arg id "$2" --arg key "$3" '{path: ("/machine/peripheral/" + $id), property: $key}')" | jq -r .
}

node_of() { # NAME ID: of query-named-block-nodes
    qmp "$1" query-named-block-nodes '{"flat": true}' | jq -c --arg id "$2" '.[] | select(."node-name" == $id)'
}

start_paused() { # DEFINITION
    suite kvm-start --paused "$1"
    expect_status 0
}

end() { # NAME
    suite kvm-stop --force "$1"
    expect_status 0
}
