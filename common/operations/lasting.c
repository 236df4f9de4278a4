/* SPDX-License-Identifier: BSD-2-Clause */
#include "kvm/operations/lasting.h"

#include <fcntl.h>
#include <unistd.h>

#include "kvm/base/file.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/transaction.h"
#include "kvm/host/swtpm.h"
#include "kvm/operations/migration.h"
#include "kvm/operations/nvram.h"

static const json_t *record_of(const struct runtime *runtime, const char *key)
{
    return runtime != NULL ? json_member(runtime->ours, key) : NULL;
}

static bool goes(const json_t *record, bool all)
{
    return all || json_truth(record, "made", false);
}

bool lasting_never_ran(const struct runtime *runtime)
{
    enum migration_phase phase = migration_phase_of(runtime);

    if (phase == PHASE_NONE)
        return runtime->state == RUNTIME_STARTING;
    return migration_side_of(runtime) == MIGRATION_TARGET && phase == PHASE_ACCEPTED;
}

int lasting_remove(const struct node *node, const char *name, const struct runtime *runtime,
                   struct lasting *lasting, struct error *error)
{
    const json_t *firmware = record_of(runtime, "firmware");

    if (goes(firmware, lasting->all) &&
        nvram_remove(node, name, firmware, &lasting->nvram, error) < 0)
        return -1;
    if (goes(record_of(runtime, "tpm"), lasting->all) &&
        swtpm_state_remove(node, name, &lasting->tpm, error) < 0)
        return -1;
    return 0;
}

static void found(json_t *findings, const char *path, const char *what)
{
    AUTO_FREE char *finding = memory_format("%s: %s", path, what);

    json_array_append_new(
        findings, memory_json(json_pack("{s:s, s:s}", "finding", finding, "action", "remove")));
}

void lasting_explain(const struct node *node, const char *name, const struct runtime *runtime,
                     bool all, json_t *findings)
{
    const json_t *firmware = record_of(runtime, "firmware");
    AUTO_FREE char *nvram = nvram_recorded(node, name, firmware);
    AUTO_FREE char *tpm = swtpm_state(node, name);

    if (goes(firmware, all) && file_exists(AT_FDCWD, nvram))
        found(findings, nvram, "its NVRAM, the variables of its UEFI firmware");
    if (goes(record_of(runtime, "tpm"), all) && file_exists(AT_FDCWD, tpm))
        found(findings, tpm, "the state of its TPM");
}

void lasting_warn(const struct runtime *runtime, struct messages *warnings)
{
    static const char *const parts[][3] = {{"firmware", "nvram", "NVRAM"},
                                           {"tpm", "state", "state of the TPM"}};

    for (size_t i = 0; i < COUNT(parts); i++) {
        const json_t *record = record_of(runtime, parts[i][0]);
        const char *path = json_text(record, parts[i][1]);
        if (path != NULL && json_truth(record, "made", false))
            messages_add(warnings, "%s: %s was made here for it and stays", parts[i][2], path);
    }
}

void lasting_remove_temporary(const struct node *node, const char *name,
                              const struct runtime *runtime)
{
    AUTO_FREE char *nvram = nvram_recorded(node, name, record_of(runtime, "firmware"));

    file_forget(AT_FDCWD, nvram);
}
