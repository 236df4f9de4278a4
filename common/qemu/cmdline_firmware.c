/* SPDX-License-Identifier: BSD-2-Clause */
/* Two flash chips: the firmware's code, which nobody writes, and the variables of this instance. And the TPM. */
#include "cmdline_private.h"

#include "kvm/base/memory.h"
#include "kvm/base/text.h"
#include "kvm/qemu/device.h"
#include "kvm/state/hvparams.h"

/* Secure Boot holds only when the system can't write the variables but through the firmware, in SMM; that wakes up
 * wrongly from S3. */
static void add_secure(json_t *words, const struct cmdline_plan *plan)
{
    if (plan->firmware_smm)
        cmdline_pair(words, "-global", "ICH9-LPC.disable_s3=1");
    if (plan->firmware_secure)
        cmdline_pair(words, "-global", "driver=cfi.pflash01,property=secure,value=on");
}

void cmdline_firmware(json_t *words, const struct cmdline_plan *plan)
{
    if (plan->firmware_path == NULL)
        return;
    cmdline_format(words, "-add-fd", "fd=%d,set=%d,opaque=pflash0", plan->firmware_fd,
                   CMDLINE_FIRMWARE_SET);
    cmdline_format(words, "-add-fd", "fd=%d,set=%d,opaque=pflash1", plan->nvram_fd,
                   CMDLINE_NVRAM_SET);
    cmdline_json(words, "-blockdev", device_flash("pflash0", CMDLINE_FIRMWARE_SET, true));
    cmdline_json(words, "-blockdev", device_flash("pflash1", CMDLINE_NVRAM_SET, false));
    cmdline_format(words, "-machine", "pflash0=pflash0,pflash1=pflash1%s",
                   plan->firmware_smm ? ",smm=on" : "");
    add_secure(words, plan);
}

void cmdline_firmware_record(json_t *words, const struct cmdline_plan *plan)
{
    if (plan->firmware_path == NULL)
        return;
    AUTO_FREE char *code = text_double_commas(plan->firmware_path);
    AUTO_FREE char *nvram = text_double_commas(plan->nvram_path);
    cmdline_format(words, "-drive", "if=pflash,unit=0,format=raw,readonly=on,file=%s", code);
    cmdline_format(words, "-drive", "if=pflash,unit=1,format=raw,file=%s", nvram);
    if (plan->firmware_smm)
        cmdline_pair(words, "-machine", "smm=on");
    add_secure(words, plan);
}

void cmdline_tpm(json_t *words, const struct instance *instance, const struct cmdline_plan *plan)
{
    const char *model = hvparams_text(instance->hvparams, "tpm");

    if (model[0] == '\0')
        return;
    AUTO_FREE char *driver = memory_format("tpm-%s", model);
    cmdline_format(words, "-chardev", "socket,id=tpm0,fd=%d", plan->tpm_fd);
    cmdline_pair(words, "-tpmdev", "emulator,id=tpm0,chardev=tpm0");
    cmdline_json(
        words, "-device",
        memory_json(json_pack("{s:s, s:s, s:s}", "driver", driver, "id", "tpm", "tpmdev", "tpm0")));
}
