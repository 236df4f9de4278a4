/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The frame of a unit test program: one TEST per sentence, run in the order given to UNIT_MAIN, TAP on
 * stdout ("ok 1 - a sentence", with "# skip why" behind it when it can't be run here), exit status 1 when
 * any failed. A failed CHECK tells file, line and values and ends only its test.
 *
 *     TEST(numbers_are_strict, "a number is digits and nothing else") { CHECK(!text_number(…)); }
 *     UNIT_MAIN(UNIT(numbers_are_strict), …)
 */
#ifndef KVM_TESTS_UNIT_H
#define KVM_TESTS_UNIT_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <stdbool.h>

struct unit_test {
    const char *sentence;
    bool (*run)(void);
};

#define TEST(name, words)                                                                          \
    static bool name(void);                                                                        \
    static const struct unit_test name##_test = {words, name};                                     \
    static bool name(void)

#define UNIT(name) &name##_test

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            printf("# %s:%d: not true: %s\n", __FILE__, __LINE__, #condition);                     \
            return false;                                                                          \
        }                                                                                          \
    } while (0)

#define CHECK_NUMBER(value, expected)                                                              \
    do {                                                                                           \
        long long unit_value = (long long)(value), unit_expected = (long long)(expected);          \
        if (unit_value != unit_expected) {                                                         \
            printf("# %s:%d: %s is %lld, not %lld\n", __FILE__, __LINE__, #value, unit_value,      \
                   unit_expected);                                                                 \
            return false;                                                                          \
        }                                                                                          \
    } while (0)

#define CHECK_TEXT(value, expected)                                                                \
    do {                                                                                           \
        const char *unit_value = (value), *unit_expected = (expected);                             \
        if (unit_value == NULL || strcmp(unit_value, unit_expected) != 0) {                        \
            printf("# %s:%d: %s is \"%s\", not \"%s\"\n", __FILE__, __LINE__, #value,              \
                   unit_value ? unit_value : "(null)", unit_expected);                             \
            return false;                                                                          \
        }                                                                                          \
    } while (0)

#define CHECK_HAS(value, part)                                                                     \
    do {                                                                                           \
        const char *unit_value = (value), *unit_part = (part);                                     \
        if (unit_value == NULL || strstr(unit_value, unit_part) == NULL) {                         \
            printf("# %s:%d: %s is \"%s\", without \"%s\"\n", __FILE__, __LINE__, #value,          \
                   unit_value ? unit_value : "(null)", unit_part);                                 \
            return false;                                                                          \
        }                                                                                          \
    } while (0)

static const char *unit_skip; /* why the test that has just ended was left out */

/* What this test needs is not here: tests/run counts that as a failure. */
static inline bool unit_not_run(const char *why)
{
    unit_skip = why;
    return true;
}

#define UNIT_MAIN(...)                                                                             \
    int main(void)                                                                                 \
    {                                                                                              \
        static const struct unit_test *const tests[] = {__VA_ARGS__};                              \
        size_t count = sizeof(tests) / sizeof(tests[0]), failed = 0;                               \
        setvbuf(stdout, NULL, _IOLBF, 0);                                                          \
        printf("1..%zu\n", count);                                                                 \
        for (size_t i = 0; i < count; i++) {                                                       \
            unit_skip = NULL;                                                                      \
            bool good = tests[i]->run();                                                           \
            failed += !good;                                                                       \
            printf("%sok %zu - %s%s%s\n", good ? "" : "not ", i + 1, tests[i]->sentence,           \
                   unit_skip != NULL ? " # skip " : "", unit_skip != NULL ? unit_skip : "");       \
        }                                                                                          \
        return failed == 0 ? 0 : 1;                                                                \
    }

#endif
