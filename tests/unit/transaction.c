/* SPDX-License-Identifier: BSD-2-Clause */
#include "kvm/base/transaction.h"
#include "unit.h"

/* What was done, in order: "a" is applied, "A" is undone. */
struct plan {
    char story[64];
    const char *refuse; /* letters whose call fails */
};

static int act(struct plan *plan, char letter, struct error *error)
{
    size_t length = strlen(plan->story);
    plan->story[length] = letter;
    plan->story[length + 1] = '\0';
    if (strchr(plan->refuse, letter) == NULL)
        return 0;
    return error_set(error, STATUS_STATE, "%c refused", letter);
}

#define CALL(name, letter)                                                                         \
    static int name(void *plan, struct error *error)                                               \
    {                                                                                              \
        return act(plan, letter, error);                                                           \
    }
CALL(apply_a, 'a')
CALL(undo_a, 'A')
CALL(apply_b, 'b')
CALL(undo_b, 'B')
CALL(apply_c, 'c')
CALL(apply_d, 'd')
CALL(undo_d, 'D')

static const struct step steps[] = {{"do a", apply_a, undo_a, false},
                                    {"do b", apply_b, undo_b, false},
                                    {"do c", apply_c, NULL, false},
                                    {"do d", apply_d, undo_d, false}};
static const struct step with_pivot[] = {{"do a", apply_a, undo_a, false},
                                         {"do b", apply_b, undo_b, true},
                                         {"do c", apply_c, NULL, false}};

static char seen[256];

static void observe(const char *what)
{
    strncat(seen, what, sizeof seen - strlen(seen) - 1);
    strncat(seen, ";", sizeof seen - strlen(seen) - 1);
}

TEST(in_order, "steps are applied in order and observed")
{
    struct plan plan = {"", ""};
    struct error error = {0};
    seen[0] = '\0';
    CHECK_NUMBER(transaction_run(steps, COUNT(steps), &plan, observe, &error), 0);
    CHECK_TEXT(plan.story, "abcd");
    CHECK_TEXT(seen, "do a;do b;do c;do d;");
    return true;
}

TEST(undone, "a failure undoes what was applied before it, in reverse, and keeps its status")
{
    struct plan plan = {"", "d"};
    struct error error = {0};
    seen[0] = '\0';
    CHECK_NUMBER(transaction_run(steps, COUNT(steps), &plan, observe, &error), -1);
    CHECK_TEXT(plan.story, "abcdBA");
    CHECK_TEXT(seen, "do a;do b;do c;do d;undo: do b;undo: do a;");
    CHECK_NUMBER(error.status, STATUS_STATE);
    CHECK_TEXT(error.text, "do d: d refused");
    return true;
}

TEST(undo_fails, "an undo that fails makes it incomplete and does not stop the others")
{
    struct plan plan = {"", "dB"};
    struct error error = {0};
    CHECK_NUMBER(transaction_run(steps, COUNT(steps), &plan, NULL, &error), -1);
    CHECK_TEXT(plan.story, "abcdBA");
    CHECK_NUMBER(error.status, STATUS_INCOMPLETE);
    CHECK_TEXT(error.text, "do d: d refused; could not undo \"do b\": B refused");
    return true;
}

TEST(pivot, "after the pivot nothing is undone and a failure is incomplete")
{
    struct plan after = {"", "c"}, at = {"", "b"};
    struct error error = {0};
    CHECK_NUMBER(transaction_run(with_pivot, COUNT(with_pivot), &after, NULL, &error), -1);
    CHECK_TEXT(after.story, "abc");
    CHECK_NUMBER(error.status, STATUS_INCOMPLETE);
    CHECK_NUMBER(transaction_run(with_pivot, COUNT(with_pivot), &at, NULL, &error), -1);
    CHECK_TEXT(at.story, "abA");
    CHECK_NUMBER(error.status, STATUS_STATE);
    return true;
}

TEST(each_can_fail, "every step can be made to fail after it was applied")
{
    static const char *const stories[] = {"aA", "abBA", "abcBA", "abcdDBA", "abcd"};
    for (int number = 1; number <= 5; number++) {
        struct plan plan = {"", ""};
        char text[8];
        snprintf(text, sizeof text, "%d", number);
        setenv("KVM_SUITE_FAIL_STEP", text, 1);
        int result = transaction_run(steps, COUNT(steps), &plan, NULL, NULL);
        unsetenv("KVM_SUITE_FAIL_STEP");
        CHECK_NUMBER(result, number <= 4 ? -1 : 0);
        CHECK_TEXT(plan.story, stories[number - 1]);
    }
    return true;
}

UNIT_MAIN(UNIT(in_order), UNIT(undone), UNIT(undo_fails), UNIT(pivot), UNIT(each_can_fail))
