/* SPDX-License-Identifier: BSD-2-Clause */
#include "network_private.h"

#include <stdio.h>
#include <string.h>
#include "kvm/base/text.h"

enum { VLAN_LOW = 1, VLAN_HIGH = 4094 };

static bool take_number(const char **text, int *vlan)
{
    char digits[8];
    int64_t number;
    size_t length = strcspn(*text, ".:");
    if (length >= sizeof digits)
        return false;
    snprintf(digits, sizeof digits, "%.*s", (int)length, *text);
    if (!text_number(digits, VLAN_LOW, VLAN_HIGH, &number))
        return false;
    *vlan = (int)number;
    *text += length;
    return true;
}

int vlans_parse(const char *text, struct vlans *vlans, struct error *error)
{
    const char *rest = text;
    bool good = true;
    *vlans = (struct vlans){0};
    if (*rest != ':' && *rest != '\0') {
        rest += *rest == '.';
        good = take_number(&rest, &vlans->native);
    }
    while (good && *rest == ':' && vlans->count < VLANS_MAX) {
        rest++;
        good = take_number(&rest, &vlans->tagged[vlans->count]);
        vlans->count += good;
    }
    if (good && *rest == '\0')
        return 0;
    return error_set(error, STATUS_USAGE,
                     "VLAN \"%s\" is not of the form \".100\", \":100:200\" or \".100:200\" with "
                     "numbers from %d to %d",
                     text, VLAN_LOW, VLAN_HIGH);
}
