/* SPDX-License-Identifier: BSD-2-Clause */
#include "kvm/base/transaction.h"

#include <stdio.h>
#include <stdlib.h>
#include "kvm/base/text.h"

static void tell_undo(void (*observe)(const char *what), const char *what)
{
    if (observe == NULL)
        return;
    char text[256];
    snprintf(text, sizeof text, "undo: %s", what);
    observe(text);
}

static void undo_one(const struct step *step, void *plan, void (*observe)(const char *what),
                     struct error *error)
{
    if (step->undo == NULL)
        return;
    tell_undo(observe, step->what);
    struct error own = {0};
    if (step->undo(plan, &own) == 0)
        return;
    error->status = STATUS_INCOMPLETE;
    error_append(error, "; could not undo \"%s\": %s", step->what, own.text);
}

/* 0: none. */
static int64_t step_to_fail(void)
{
    int64_t number = 0;
    const char *text = getenv("KVM_SUITE_FAIL_STEP");
    return text != NULL && text_number(text, 1, INT32_MAX, &number) ? number : 0;
}

int transaction_run(const struct step *steps, size_t count, void *plan,
                    void (*observe)(const char *what), struct error *error)
{
    struct error unwanted = {0};
    if (error == NULL)
        error = &unwanted;
    int64_t to_fail = step_to_fail();
    bool no_way_back = false;
    for (size_t i = 0; i < count; i++) {
        if (observe != NULL)
            observe(steps[i].what);
        int result = steps[i].apply(plan, error);
        size_t applied = result == 0 ? i + 1 : i;
        no_way_back = no_way_back || (result == 0 && steps[i].pivot);
        if (result == 0 && (int64_t)i + 1 == to_fail)
            result = error_set(error, STATUS_FAILED, "made to fail by KVM_SUITE_FAIL_STEP");
        if (result == 0)
            continue;
        error_prefix(error, "%s", steps[i].what);
        if (no_way_back)
            error->status = STATUS_INCOMPLETE;
        while (!no_way_back && applied > 0)
            undo_one(&steps[--applied], plan, observe, error);
        return -1;
    }
    return 0;
}
