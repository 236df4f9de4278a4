/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "launch_private.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/host/swtpm.h"
#include "kvm/state/hvparams.h"

static bool has_tpm(const struct launch *launch)
{
    return hvparams_text(launch->instance->hvparams, "tpm")[0] != '\0';
}

void launch_check_tpm(struct launch *launch, const char *source, struct messages *problems)
{
    const char *binary = hvparams_text(launch->instance->hvparams, "swtpm_path");
    AUTO_FREE char *state = swtpm_state(launch->node, launch->instance->name);

    launch->tpm = has_tpm(launch);
    if (!launch->tpm)
        return;
    if (access(binary, X_OK) < 0)
        messages_add(
            problems,
            "%s: hvparams.swtpm_path: %s (current value: \"%s\"); the package swtpm brings it",
            source, strerror(errno), binary);
    /* Of this instance's own that runs (a look at a running one) nothing is wrong. */
    if (swtpm_state_is_used(state) && !launch_is_running(launch))
        messages_add(problems,
                     "%s: hvparams.tpm: %s is in use by another swtpm: a state directory that two "
                     "nodes share can't be handed over",
                     source, state);
}

int launch_start_tpm(void *plan, struct error *error)
{
    struct launch *launch = plan;
    AUTO_FREE char *state = swtpm_state(launch->node, launch->instance->name);
    bool drop = launch->user != LAUNCH_ROOT;

    if (!launch->tpm)
        return 0;
    if (swtpm_state_prepare(launch->node, launch->instance->name, drop ? launch->uid : geteuid(),
                            drop ? launch->gid : getegid(), &launch->tpm_made, error) < 0)
        return -1;
    AUTO_CLOSE int log = launch_open_log(launch, error);
    const struct swtpm_spec spec = {hvparams_text(launch->instance->hvparams, "swtpm_path"),
                                    state,
                                    drop,
                                    launch->uid,
                                    launch->gid,
                                    log};
    if (log >= 0 &&
        swtpm_start(launch->rundir, launch->instance->name, &spec, &launch->tpm_socket, error) == 0)
        return 0;
    launch_end_tpm(launch, NULL);
    return -1;
}

/* Nothing has run with it: a state that was not there before goes as well. */
int launch_end_tpm(void *plan, struct error *error)
{
    struct launch *launch = plan;
    bool was_there;

    if (!launch->tpm || launch->unknown)
        return 0;
    launch_close_tpm(launch);
    if (swtpm_end(launch->rundir, launch->instance->name, launch->options->deadline, error) < 0)
        return -1;
    if (!launch->tpm_made)
        return 0;
    launch->tpm_made = false;
    return swtpm_state_remove(launch->node, launch->instance->name, &was_there, error);
}

void launch_close_tpm(struct launch *launch)
{
    memory_close(&launch->tpm_socket);
    launch->tpm_socket = -1;
}

json_t *launch_tpm_record(const struct launch *launch)
{
    AUTO_FREE char *state = swtpm_state(launch->node, launch->instance->name);

    if (!launch->tpm)
        return json_null();
    return memory_json(
        json_pack("{s:s, s:b}", "state", state, "made", (int)(access(state, F_OK) < 0)));
}
