/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A QEMU with a runtime file that another tool wrote: started by Ganeti, or by this suite and saved by Ganeti since. The
 * file tells all that is needed but the process, which the lock on the pid file tells.
 */
#include <fcntl.h>

#include "adopt_private.h"
#include "kvm/base/file.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/host/swtpm.h"
#include "kvm/operations/nvram.h"
#include "kvm/qemu/peripheral.h"
#include "kvm/state/hvparams.h"

/* A device without a place in the file is one that can't be plugged: it is there from the start on. */
static int check_device(struct adopt *adopt, const char *kind, const char *uuid,
                        const json_t *hvinfo, struct error *error)
{
    const char *id = json_text(hvinfo, "id");
    bool exists = true;

    if (id != NULL && peripheral_exists(adopt->qmp, id, adopt->deadline, &exists, error) < 0)
        return -1;
    if (!exists)
        messages_add(&adopt->problems, "%s %s: the runtime file has it, QEMU has no device %s",
                     kind, uuid, id);
    return 0;
}

/* What the other tool does not record, so that it is found again when it is to be removed. */
static void record_lasting(struct adopt *adopt)
{
    struct runtime *runtime = &adopt->session.runtime;
    const json_t *hvparams = runtime->instance.hvparams;
    AUTO_FREE char *nvram = nvram_path(adopt->node, &runtime->instance);
    AUTO_FREE char *tpm = swtpm_state(adopt->node, adopt->name);

    if (adopt_word(adopt->words, "-tpmdev") != NULL)
        json_object_set_new(runtime->ours, "tpm",
                            memory_json(json_pack("{s:s, s:b}", "state", tpm, "made", 0)));
    if (hvparams_text(hvparams, "firmware")[0] != '\0' && file_exists(AT_FDCWD, nvram))
        json_object_set_new(
            runtime->ours, "firmware",
            memory_json(json_pack("{s:s, s:s, s:b}", "code", hvparams_text(hvparams, "firmware"),
                                  "nvram", nvram, "made", 0)));
}

int adopt_foreign(struct adopt *adopt, struct error *error)
{
    struct instance *instance = &adopt->session.runtime.instance;

    for (size_t i = 0; i < instance->disk_count; i++)
        if (check_device(adopt, "disk", instance->disks[i].uuid, instance->disks[i].hvinfo, error) <
            0)
            return -1;
    for (size_t i = 0; i < instance->nic_count; i++)
        if (check_device(adopt, "NIC", instance->nics[i].uuid, instance->nics[i].hvinfo, error) < 0)
            return -1;
    adopt_look_at_settings(&adopt->look);
    adopt_keep_settings(&adopt->look, instance);
    record_lasting(adopt);
    return 0;
}
