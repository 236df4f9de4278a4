/* SPDX-License-Identifier: BSD-2-Clause */
#include "kvm/operations/select.h"
#include "kvm/state/instance.h"

int select_check(const struct cli_arguments *arguments, bool all, struct error *error)
{
    if (all && arguments->count > 0)
        return error_set(error, STATUS_USAGE, "--all and '%s': give names or --all, not both",
                         arguments->items[0]);
    if (!all && arguments->count == 0)
        return error_set(error, STATUS_USAGE, "which instance? Give names, or --all");
    for (size_t i = 0; i < arguments->count; i++)
        if (instance_check_name(arguments->items[i], error) < 0)
            return -1;
    return 0;
}

void select_instances(const struct rundir *rundir, const struct cli_arguments *arguments, bool all,
                      struct selection *selection)
{
    *selection = (struct selection){0};
    if (all)
        selection->all = rundir_names(rundir, &selection->count);
    else
        selection->count = arguments->count;
    selection->names = (const char *const *)(all ? selection->all : arguments->items);
}

void select_release(struct selection *selection)
{
    if (selection->all != NULL)
        rundir_names_release(selection->all);
    *selection = (struct selection){0};
}
