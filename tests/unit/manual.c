/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * kvm-instance(5) and the table of hypervisor parameters agree. In the manual an entry is
 *
 *     .It Cm disk_cache Pq string , Li \(dqdefault\(dq
 *     text, which names every value of a closed set
 *     .Ql \(dqdisk_cache\(dq: \(dqnone\(dq
 */
#include <ctype.h>
#include <inttypes.h>
#include <string.h>
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/state/hvparams.h"
#include "unit.h"

static const char opening[] = "\n.It Cm ";

/* The manual's part about hvparams; the caller frees. */
static char *read_section(void)
{
    FILE *file = fopen(TESTS_DIR "/../man/kvm-instance.5", "re");
    char *line = NULL, *text = NULL;
    size_t size = 0, length = 0;
    FILE *section = open_memstream(&text, &length);
    bool inside = false;

    while (file != NULL && getline(&line, &size, file) > 0) {
        if (strncmp(line, ".Ss ", 4) == 0 || strncmp(line, ".Sh ", 4) == 0)
            inside = strcmp(line, ".Ss hvparams\n") == 0;
        if (inside)
            fputs(line, section);
    }
    if (file != NULL)
        fclose(file);
    fclose(section);
    free(line);
    return text;
}

/* What follows ".It Cm NAME " up to the next entry; the caller frees. NULL: no such entry. */
static char *entry_of(const char *section, const char *name)
{
    AUTO_FREE char *start = memory_format("%s%s ", opening, name);
    const char *found = strstr(section, start);

    if (found == NULL)
        return NULL;
    found += strlen(start);
    const char *end = strstr(found, opening);
    if (end == NULL)
        end = strstr(found, "\n.El");
    return end == NULL ? NULL : memory_format("%.*s", (int)(end - found), found);
}

/* mdoc's words for a quote and a minus become characters; the caller frees. */
static char *unescape(const char *text, size_t length)
{
    static const char quote[] = "\\(dq";
    char *plain = memory_zeroed(length + 1, 1), *at = plain;
    const char *end = text + length;

    while (text < end) {
        if (strncmp(text, quote, strlen(quote)) == 0) {
            *at++ = '"';
            text += strlen(quote);
        } else {
            text += *text == '\\';
            *at++ = *text++;
        }
    }
    return plain;
}

static char *default_of(const struct hvparam *param)
{
    if (param->type == HVPARAM_TEXT)
        return memory_format("\"%s\"", param->text);
    if (param->type == HVPARAM_TRUTH)
        return memory_copy(param->number != 0 ? "true" : "false");
    return memory_format("%" PRId64, param->number);
}

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '-';
}

static bool has_word(const char *text, const char *word)
{
    for (const char *at = text; (at = strstr(at, word)) != NULL; at++)
        if ((at == text || !is_word(at[-1])) && !is_word(at[strlen(word)]))
            return true;
    return false;
}

/* One complaint for a parameter; false, so that a check can return it. */
static bool complain(const struct hvparam *param, const char *what)
{
    printf("# kvm-instance(5): %s: %s\n", param->name, what);
    return false;
}

/* The type and the default stand in the entry's first line. */
static bool first_line_is_right(const struct hvparam *param, const char *entry)
{
    static const char *const types[] = {"string", "bool", "number"};
    AUTO_FREE char *value = default_of(param);
    AUTO_FREE char *expected = memory_format("Pq %s , Li %s", types[param->type], value);
    AUTO_FREE char *first = unescape(entry, strcspn(entry, "\n"));

    CHECK_TEXT(first, expected);
    return true;
}

static bool example_is_right(const struct hvparam *param, const char *entry)
{
    AUTO_FREE char *start = memory_format("\n.Ql \\(dq%s\\(dq: ", param->name);
    const char *found = strstr(entry, start);
    AUTO_MESSAGES struct messages problems = {0};

    if (found == NULL)
        return complain(param, "has no example");
    found += strlen("\n.Ql ");
    AUTO_FREE char *pair = unescape(found, strcspn(found, "\n"));
    AUTO_FREE char *text = memory_format("{%s}", pair);
    AUTO_JSON json_t *example = json_parse(text, strlen(text), param->name, NULL);

    if (example == NULL)
        return complain(param, "the example is not JSON");
    hvparams_check(example, "example", &problems);
    return problems.count == 0 || complain(param, problems.items[0]);
}

static bool values_are_named(const struct hvparam *param, const char *entry)
{
    bool good = true;

    for (size_t i = 0; param->choices != NULL && param->choices[i] != NULL; i++)
        if (!has_word(entry, param->choices[i]))
            good = complain(param, param->choices[i]);
    return good;
}

/* All parameters, so that one run tells every difference. */
static bool each_entry(bool (*is_right)(const struct hvparam *param, const char *entry))
{
    AUTO_FREE char *section = read_section();
    bool good = true;

    for (size_t i = 0; i < hvparams_count; i++) {
        AUTO_FREE char *entry = entry_of(section, hvparams_table[i].name);
        if (entry == NULL)
            good = complain(&hvparams_table[i], "is not there");
        else if (!is_right(&hvparams_table[i], entry))
            good = false;
    }
    return good;
}

TEST(types, "each hvparam is in kvm-instance(5) with the table's type and default")
{
    return each_entry(first_line_is_right);
}

TEST(values, "kvm-instance(5) names each value of an hvparam's closed set")
{
    return each_entry(values_are_named);
}

TEST(examples, "each hvparam has an example that the check accepts")
{
    return each_entry(example_is_right);
}

TEST(no_more, "kvm-instance(5) has no hvparam that the table lacks")
{
    AUTO_FREE char *section = read_section();
    size_t seen = 0;

    for (const char *at = section; (at = strstr(at, opening)) != NULL; seen++) {
        at += strlen(opening);
        AUTO_FREE char *name = memory_format("%.*s", (int)strcspn(at, " \n"), at);
        CHECK(hvparams_find(name) != NULL);
    }
    CHECK_NUMBER(seen, hvparams_count);
    return true;
}

UNIT_MAIN(UNIT(types), UNIT(values), UNIT(examples), UNIT(no_more))
