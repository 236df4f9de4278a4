/* SPDX-License-Identifier: BSD-2-Clause */
#include "kvm/state/instance.h"

#include <stdlib.h>
#include <string.h>
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/text.h"
#include "kvm/state/check.h"

/* A node-name of QEMU has at most 31 bytes, and id, node-name and netdev id are one and the same. */
enum { ID_MAX = 31, UNIT_MAX = 16383 };

static void check_word(const struct check *check, const json_t *hvinfo, const char *key,
                       size_t most)
{
    const char *text = check_text(check, hvinfo, key);

    if (text != NULL && !check_is_word(text, "_.-", most))
        check_fail(check, key, json_member(hvinfo, key),
                   "must be letters, digits and _ . -, at most %zu", most);
}

static void check_address(const struct check *check, const json_t *hvinfo)
{
    const char *text = check_text(check, hvinfo, "addr");

    if (text == NULL)
        return;
    size_t digits = strncmp(text, "0x", 2) == 0 ? strspn(text + 2, "0123456789abcdefABCDEF") : 0;

    if (digits == 0 || digits > 2 || text[2 + digits] != '\0' || strtol(text, NULL, 16) > 31)
        check_fail(check, "addr", json_member(hvinfo, "addr"), "must be from \"0x0\" to \"0x1f\"");
}

/* Another tool's key: it ends in a -device string there, so only plain words and numbers. */
static void check_other(const struct check *check, const char *key, const json_t *value)
{
    AUTO_FREE char *shown = text_escape(key, strlen(key));
    bool plain = json_is_integer(value) || json_is_boolean(value) ||
                 (json_is_string(value) && check_is_word(json_string_value(value), "_.-", 64));

    if (!check_is_word(key, "_-", 64) || !plain)
        check_fail(check, shown, value, "must be a plain word or number");
}

void hvinfo_check(const json_t *hvinfo, const char *where, const char *const *drivers, bool loaded,
                  struct messages *problems)
{
    static const char *const known[] = {"driver",  "id",  "bus",  "addr", "channel",
                                        "scsi-id", "lun", "unit", NULL};
    AUTO_FREE char *prefix = memory_format("%s.", where);
    struct check check = {prefix, problems};
    const char *key;
    json_t *value;
    int64_t number;

    if (json_object_size(hvinfo) == 0)
        return;
    if (!loaded)
        check_keys(&check, hvinfo, known, NULL);
    check_choice(&check, hvinfo, "driver", drivers);
    if (json_member(hvinfo, "driver") == NULL)
        check_fail(&check, "driver", NULL, "is missing");
    check_word(&check, hvinfo, "id", ID_MAX);
    if (json_member(hvinfo, "id") == NULL)
        check_fail(&check, "id", NULL, "is missing");
    check_word(&check, hvinfo, "bus", ID_MAX);
    check_address(&check, hvinfo);
    check_number(&check, hvinfo, "channel", 0, UNIT_MAX, &number);
    check_number(&check, hvinfo, "scsi-id", 0, UNIT_MAX, &number);
    check_number(&check, hvinfo, "lun", 0, UNIT_MAX, &number);
    check_number(&check, hvinfo, "unit", 0, UNIT_MAX, &number);
    json_object_foreach ((json_t *)(uintptr_t)hvinfo, key, value) {
        if (!check_is_one_of(key, known))
            check_other(&check, key, value);
    }
}
