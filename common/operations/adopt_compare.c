/* SPDX-License-Identifier: BSD-2-Clause */
/* Two command lines against each other: what runs, and what the suite would start. */
#include <ctype.h>
#include <stdint.h>
#include <string.h>

#include "adopt_private.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/transaction.h"

static bool is_device_word(const char *option, const char *value)
{
    AUTO_JSON json_t *device =
        strcmp(option, "-device") == 0 ? json_parse(value, strlen(value), option, NULL) : NULL;
    return adopt_is_device(json_text(device, "id"));
}

/* "fd=17," becomes "fd=,". The caller frees. */
static char *without_numbers(const char *word)
{
    char *text = memory_copy(word), *to = text;

    for (const char *from = word; *from != '\0';) {
        bool descriptor =
            (from == word || !isalnum((unsigned char)from[-1])) && strncmp(from, "fd=", 3) == 0;
        *to++ = *from++;
        if (!descriptor)
            continue;
        *to++ = *from++;
        *to++ = *from++;
        while (isdigit((unsigned char)*from))
            from++;
    }
    *to = '\0';
    return text;
}

static json_t *comparable(const json_t *words)
{
    static const char *const passed_over[] = {"-add-fd", "-blockdev", "-netdev", "-incoming",
                                              "-runas"};
    json_t *list = memory_json(json_array());

    for (size_t i = 0; i < json_array_size(words); i++) {
        const char *word = adopt_word_at(words, i);
        bool pass_over = is_device_word(word, adopt_word_at(words, i + 1));
        for (size_t k = 0; k < COUNT(passed_over); k++)
            pass_over = pass_over || strcmp(word, passed_over[k]) == 0;
        if (pass_over) {
            i++;
            continue;
        }
        AUTO_FREE char *plain = without_numbers(word);
        json_array_append_new(list, memory_json(json_string(plain)));
    }
    return list;
}

/* How often a word stands in the list before `end`. */
static size_t count_word(const json_t *list, const char *word, size_t end)
{
    size_t count = 0;

    for (size_t i = 0; i < end && i < json_array_size(list); i++)
        count += strcmp(adopt_word_at(list, i), word) == 0;
    return count;
}

static void report_surplus(const json_t *one, const json_t *other, const char *what,
                           struct messages *problems)
{
    for (size_t i = 0; i < json_array_size(one); i++) {
        const char *word = adopt_word_at(one, i);
        if (count_word(one, word, i + 1) <= count_word(other, word, SIZE_MAX))
            continue;
        messages_add(problems, "command line: %s%s%s: %s", i > 0 ? adopt_word_at(one, i - 1) : "",
                     i > 0 ? " " : "", word, what);
    }
}

void adopt_compare_words(const json_t *running, const json_t *expected, struct messages *problems)
{
    AUTO_JSON json_t *is = comparable(running);
    AUTO_JSON json_t *would_be = comparable(expected);

    report_surplus(is, would_be, "it runs with this, but would not be started with it again",
                   problems);
    report_surplus(would_be, is, "it would be started with this, but does not run with it",
                   problems);
}
