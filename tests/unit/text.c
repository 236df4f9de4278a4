/* SPDX-License-Identifier: BSD-2-Clause */
#include "unit.h"

#include <stdint.h>
#include "kvm/base/clock.h"
#include "kvm/base/error.h"
#include "kvm/base/memory.h"
#include "kvm/base/text.h"

static bool number_is(const char *text, int64_t expected)
{
    int64_t value = -77;
    return text_number(text, INT64_MIN, INT64_MAX, &value) && value == expected;
}

TEST(numbers_that_are, "a number is decimal digits, with a minus before them or not")
{
    CHECK(number_is("0", 0));
    CHECK(number_is("17", 17));
    CHECK(number_is("-3", -3));
    CHECK(number_is("4294967296", 4294967296));
    CHECK(number_is("9223372036854775807", INT64_MAX));
    CHECK(number_is("-9223372036854775808", INT64_MIN));
    return true;
}

TEST(numbers_that_are_none, "what is no number is refused and leaves the value alone")
{
    static const char *const wrong[] = {
        "",
        "-",
        "01",
        "-01",
        "+1",
        " 1",
        "1 ",
        "1x",
        "0x1",
        "-0",
        "1.0",
        "1e3",
        "--1",
        "\n1",
        "1\n",
        "9223372036854775808",
        "1,000",
        "00",
        "١",
        "-9223372036854775809",
        "99999999999999999999999",
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        int64_t value = 42;
        if (text_number(wrong[i], INT64_MIN, INT64_MAX, &value) || value != 42) {
            printf("# accepted: \"%s\"\n", wrong[i]);
            return false;
        }
    }
    return true;
}

TEST(numbers_in_range, "a number outside its range is refused")
{
    int64_t value = 42;
    CHECK(!text_number("4294967296", 0, UINT32_MAX, &value));
    CHECK(!text_number("-1", 0, UINT32_MAX, &value));
    CHECK_NUMBER(value, 42);
    CHECK(text_number("4294967295", 0, UINT32_MAX, &value));
    CHECK_NUMBER(value, UINT32_MAX);
    CHECK(!text_number(NULL, 0, 1, &value));
    return true;
}

TEST(uuids, "a uuid is canonical and lower case")
{
    CHECK(text_is_uuid("7c079136-2573-4112-82d0-0d3d2aa90d8f"));
    CHECK(!text_is_uuid("7C079136-2573-4112-82d0-0d3d2aa90d8f"));
    CHECK(!text_is_uuid("7c079136-2573-4112-82d0-0d3d2aa90d8"));
    CHECK(!text_is_uuid("7c079136-2573-4112-82d0-0d3d2aa90d8f0"));
    CHECK(!text_is_uuid("7c079136+2573-4112-82d0-0d3d2aa90d8f"));
    CHECK(!text_is_uuid("hhhhhhhh-hhhh-hhhh-hhhh-hhhhhhhhhhhh"));
    CHECK(!text_is_uuid(""));
    CHECK(!text_is_uuid(NULL));
    return true;
}

TEST(macs, "a MAC is lower case and not multicast")
{
    CHECK(text_is_mac("aa:00:00:12:34:56"));
    CHECK(!text_is_mac("AA:00:00:12:34:56"));
    CHECK(!text_is_mac("01:00:5e:00:00:01"));
    CHECK(!text_is_mac("ab:00:00:12:34:56"));
    CHECK(!text_is_mac("aa-00-00-12-34-56"));
    CHECK(!text_is_mac("aa:00:00:12:34:5"));
    CHECK(!text_is_mac("aa:00:00:12:34:56:"));
    return true;
}

TEST(utf8, "overlong forms, surrogates and cut sequences are no UTF-8")
{
    CHECK(text_is_utf8("plain, Grüße, 水, 🐧"));
    CHECK(text_is_utf8("\xf4\x8f\xbf\xbf"));
    CHECK(!text_is_utf8("\xf4\x90\x80\x80"));
    CHECK(!text_is_utf8("\xc0\xaf"));
    CHECK(!text_is_utf8("\xe0\x80\xaf"));
    CHECK(!text_is_utf8("\xf0\x80\x80\xaf"));
    CHECK(!text_is_utf8("\xed\xa0\x80"));
    CHECK(!text_is_utf8("\xe6\xb0"));
    CHECK(!text_is_utf8("\x80"));
    CHECK(!text_is_utf8("\xff"));
    return true;
}

TEST(controls, "control characters are seen")
{
    CHECK(text_has_control("a\nb"));
    CHECK(text_has_control("\x1b[31m"));
    CHECK(text_has_control("\x7f"));
    CHECK(!text_has_control("Grüße"));
    return true;
}

TEST(escaping, "what others sent cannot steer the terminal")
{
    AUTO_FREE char *steering = text_escape("a\x1b[2Jb\r\n\x7f", 8);
    CHECK_TEXT(steering, "a\\x1b[2Jb\\x0d\\x0a");
    AUTO_FREE char *c1 = text_escape("\xc2\x9b"
                                     "31m",
                                     5);
    CHECK_TEXT(c1, "\\xc2\\x9b31m");
    AUTO_FREE char *broken = text_escape("\xe6\xb0|\xff", 4);
    CHECK_TEXT(broken, "\\xe6\\xb0|\\xff");
    AUTO_FREE char *fine = text_escape("水", 3);
    CHECK_TEXT(fine, "水");
    AUTO_FREE char *zero = text_escape("a\0b", 3);
    CHECK_TEXT(zero, "a\\x00b");
    return true;
}

TEST(escaping_cuts, "a long text is cut after 512 bytes, not inside a character")
{
    char bytes[600];
    memset(bytes, 'x', sizeof(bytes));
    AUTO_FREE char *exact = text_escape(bytes, 512);
    CHECK_NUMBER(strlen(exact), 512);
    AUTO_FREE char *cut = text_escape(bytes, 513);
    CHECK_NUMBER(strlen(cut), 512 + strlen("…"));
    memcpy(bytes + 511, "水", 3);
    AUTO_FREE char *across = text_escape(bytes, sizeof(bytes));
    CHECK_NUMBER(strlen(across), 511 + strlen("…"));
    CHECK(text_is_utf8(across));
    return true;
}

static bool words_are(const char *text, size_t expected_count, const char *joined)
{
    char **words = NULL;
    size_t count = 0;
    char result[256] = "";
    if (text_words(text, &words, &count, NULL) < 0)
        return false;
    for (size_t i = 0; i < count; i++) {
        strcat(result, words[i]);
        strcat(result, "|");
    }
    bool good = count == expected_count && words[count] == NULL && strcmp(result, joined) == 0;
    text_words_release(words);
    return good;
}

TEST(words, "words split as in a shell, without expansion")
{
    CHECK(words_are("", 0, ""));
    CHECK(words_are(" \t\n", 0, ""));
    CHECK(words_are(" -device  foo,bar=1 ", 2, "-device|foo,bar=1|"));
    CHECK(words_are("'a b' \"c d\"e f\\ g", 3, "a b|c de|f g|"));
    CHECK(words_are("'' \"\"", 2, "||"));
    CHECK(words_are("\"a\\\"b\\\\c\\d\"", 1, "a\"b\\c\\d|"));
    CHECK(words_are("'a\\'", 1, "a\\|"));
    CHECK(words_are("$HOME *;`id`", 2, "$HOME|*;`id`|"));
    return true;
}

TEST(words_unclosed, "an open quote or a last backslash is refused")
{
    static const char *const wrong[] = {"'a", "a \"b", "a\\", "\"a\\", "\"a\\\""};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        char **words = NULL;
        struct error error = {0};
        CHECK(text_words(wrong[i], &words, NULL, &error) == -1);
        CHECK(words == NULL);
        CHECK_NUMBER(error.status, STATUS_USAGE);
    }
    return true;
}

TEST(nearest, "the nearest word is named, and none when nothing is near")
{
    static const char *const known[] = {"memory", "disk_type", "vcpus", "nics", NULL};
    CHECK_TEXT(text_nearest("memmory", known), "memory");
    CHECK_TEXT(text_nearest("disk_tpye", known), "disk_type");
    CHECK_TEXT(text_nearest("nic", known), "nics");
    CHECK(text_nearest("x", known) == NULL);
    CHECK(text_nearest("", known) == NULL);
    CHECK(text_nearest("colour", known) == NULL);
    return true;
}

TEST(commas, "commas are doubled")
{
    AUTO_FREE char *doubled = text_double_commas(",a,,b");
    CHECK_TEXT(doubled, ",,a,,,,b");
    return true;
}

TEST(errors, "an error grows at both ends and is cut, not overrun")
{
    struct error error = {0};
    CHECK_NUMBER(error_set(&error, STATUS_STATE, "it %s", "failed"), -1);
    error_prefix(&error, "web1: %s", "add disk");
    error_append(&error, "; run %s", "kvm-cleanup web1");
    CHECK_TEXT(error.text, "web1: add disk: it failed; run kvm-cleanup web1");
    CHECK_NUMBER(error.status, STATUS_STATE);
    error_set(&error, STATUS_FAILED, "again: %s", error.text);
    CHECK_TEXT(error.text, "again: web1: add disk: it failed; run kvm-cleanup web1");
    for (int i = 0; i < 500; i++)
        error_append(&error, "%s", "0123456789");
    CHECK_NUMBER(strlen(error.text), ERROR_TEXT_MAX - 1);
    error_prefix(&error, "cut");
    CHECK_NUMBER(strlen(error.text), ERROR_TEXT_MAX - 1);
    CHECK_NUMBER(error_set(NULL, STATUS_FAILED, "nobody listens"), -1);
    return true;
}

TEST(errors_cut, "an error is never cut within a character")
{
    struct error error = {0};
    for (int shift = 0; shift < 4; shift++) {
        error_set(&error, STATUS_FAILED, "%.*s", shift, "abc");
        for (int i = 0; i < 1500; i++)
            error_append(&error, "%s", "\xe2\x82\xac");
        CHECK(text_is_utf8(error.text));
        CHECK(strlen(error.text) > ERROR_TEXT_MAX - 4);
    }
    return true;
}

TEST(listed, "an item of a list is found whole, wherever it stands")
{
    CHECK(text_list_has("rdma-pin-all:auto-converge", ":", "auto-converge"));
    CHECK(text_list_has("to, check, rehearse", ", ", "to"));
    CHECK(text_list_has("to, check, rehearse", ", ", "rehearse"));
    CHECK(text_list_has("sse sse2", " ", "sse2"));
    CHECK(text_list_has("::x:", ":", "x"));
    CHECK(!text_list_has("sse2 ssse3", " ", "sse"));
    CHECK(!text_list_has("sse2 ssse3", " ", "sse3"));
    CHECK(!text_list_has("a b", ":", "a"));
    CHECK(!text_list_has("a::b", ":", ""));
    CHECK(!text_list_has("", ":", "a"));
    return true;
}

TEST(problems, "problems that do not fit are counted")
{
    AUTO_MESSAGES struct messages problems = {0};
    messages_add(&problems, "first %d", 1);
    messages_add(&problems, "second");
    struct error error;
    messages_error(&problems, STATUS_USAGE, &error);
    CHECK_TEXT(error.text, "first 1\nsecond");
    CHECK_NUMBER(error.status, STATUS_USAGE);
    for (int i = 0; i < 998; i++)
        messages_add(&problems, "problem %d is a text of some length", i);
    messages_error(&problems, STATUS_USAGE, &error);
    CHECK_HAS(error.text, "\nand 8");
    CHECK_TEXT(error.text + strlen(error.text) - 5, " more");
    return true;
}

TEST(spans, "a span is told in the units people use")
{
    static const struct {
        double seconds;
        const char *text;
    } spans[] = {
        {0, "0 ms"},         {-5, "0 ms"},
        {0.034, "34 ms"},    {0.9996, "1.0 s"},
        {1.23, "1.2 s"},     {59.97, "1 min 0 s"},
        {61, "1 min 1 s"},   {3599.9, "1 h 0 min"},
        {3660, "1 h 1 min"}, {3.2 * 86400, "3 d 4 h"},
    };
    for (size_t i = 0; i < sizeof(spans) / sizeof(spans[0]); i++) {
        char text[32];
        clock_format_span(spans[i].seconds, text, sizeof(text));
        CHECK_TEXT(text, spans[i].text);
    }
    return true;
}

TEST(deadlines, "deadlines saturate and never comes never")
{
    CHECK(clock_deadline(INT64_MAX) == DEADLINE_NEVER);
    CHECK_NUMBER(clock_poll_ms(DEADLINE_NEVER), -1);
    CHECK(!clock_passed(DEADLINE_NEVER));
    CHECK(clock_passed(clock_deadline(-1)));
    CHECK_NUMBER(clock_poll_ms(clock_deadline(0)), 0);
    CHECK(clock_poll_ms(clock_deadline(60000)) > 50000);
    return true;
}

UNIT_MAIN(UNIT(numbers_that_are), UNIT(numbers_that_are_none), UNIT(numbers_in_range), UNIT(uuids),
          UNIT(macs), UNIT(utf8), UNIT(controls), UNIT(escaping), UNIT(escaping_cuts), UNIT(words),
          UNIT(words_unclosed), UNIT(nearest), UNIT(listed), UNIT(commas), UNIT(errors),
          UNIT(errors_cut), UNIT(problems), UNIT(spans), UNIT(deadlines))
