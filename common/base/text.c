/* SPDX-License-Identifier: BSD-2-Clause */
#include "kvm/base/text.h"

#include <stdio.h>
#include <string.h>
#include "kvm/base/memory.h"

bool text_number(const char *text, int64_t low, int64_t high, int64_t *value)
{
    if (text == NULL)
        return false;
    bool negative = *text == '-';
    const char *digit = text + negative;
    if (*digit == '\0' || (*digit == '0' && (digit[1] != '\0' || negative)))
        return false;
    int64_t sum = 0;
    for (; *digit != '\0'; digit++) {
        if (*digit < '0' || *digit > '9')
            return false;
        int64_t unit = negative ? '0' - *digit : *digit - '0';
        if (__builtin_mul_overflow(sum, 10, &sum) || __builtin_add_overflow(sum, unit, &sum))
            return false;
    }
    if (sum < low || sum > high)
        return false;
    *value = sum;
    return true;
}

/* Length of a well-formed UTF-8 sequence (no overlong form, no surrogate, at most U+10FFFF), else 0. */
static size_t utf8_length(const char *text, size_t length)
{
    const unsigned char *bytes = (const unsigned char *)text;
    if (length == 0)
        return 0;
    if (bytes[0] < 0x80)
        return 1;
    if (bytes[0] < 0xc2 || bytes[0] > 0xf4)
        return 0;
    size_t need = bytes[0] < 0xe0 ? 2 : bytes[0] < 0xf0 ? 3 : 4;
    if (length < need)
        return 0;
    unsigned low = 0x80, high = 0xbf; /* of the second byte */
    if (bytes[0] == 0xe0)
        low = 0xa0;
    else if (bytes[0] == 0xed)
        high = 0x9f;
    else if (bytes[0] == 0xf0)
        low = 0x90;
    else if (bytes[0] == 0xf4)
        high = 0x8f;
    if (bytes[1] < low || bytes[1] > high)
        return 0;
    for (size_t i = 2; i < need; i++) {
        if ((bytes[i] & 0xc0) != 0x80)
            return 0;
    }
    return need;
}

static bool is_control(unsigned char byte)
{
    return byte < 0x20 || byte == 0x7f;
}

size_t text_printable_length(const char *bytes, size_t length)
{
    size_t taken = utf8_length(bytes, length);
    if (taken == 1 && is_control((unsigned char)*bytes))
        return 0;
    if (taken == 2 && (unsigned char)bytes[0] == 0xc2 && (unsigned char)bytes[1] < 0xa0)
        return 0;
    return taken;
}

bool text_is_utf8(const char *text)
{
    size_t left = strlen(text);
    while (left > 0) {
        size_t taken = utf8_length(text, left);
        if (taken == 0)
            return false;
        text += taken;
        left -= taken;
    }
    return true;
}

static bool is_hex(char letter)
{
    return (letter >= '0' && letter <= '9') || (letter >= 'a' && letter <= 'f');
}

/* True when `text` is `pattern` with each 'h' standing for a lower-case hexadecimal digit. */
static bool has_form(const char *text, const char *pattern)
{
    if (text == NULL || strlen(text) != strlen(pattern))
        return false;
    for (; *pattern != '\0'; pattern++, text++) {
        if (*pattern == 'h' ? !is_hex(*text) : *text != *pattern)
            return false;
    }
    return true;
}

bool text_is_uuid(const char *text)
{
    return has_form(text, "hhhhhhhh-hhhh-hhhh-hhhh-hhhhhhhhhhhh");
}

bool text_is_mac(const char *text)
{
    return has_form(text, "hh:hh:hh:hh:hh:hh") && strchr("02468ace", text[1]) != NULL;
}

bool text_has_control(const char *text)
{
    for (; *text != '\0'; text++) {
        if (is_control((unsigned char)*text))
            return true;
    }
    return false;
}

char *text_escape(const char *bytes, size_t length)
{
    enum { INPUT_MAX = 512, LONGEST = 4 };
    static const char more[] = "…";
    size_t room = length < INPUT_MAX ? length : INPUT_MAX;
    char *result = memory_zeroed(room * LONGEST + sizeof(more), 1), *end = result;
    size_t at = 0;
    while (at < room) {
        size_t taken = text_printable_length(bytes + at, length - at);
        if (at + taken > room) /* the character lies across the cut */
            break;
        if (taken > 0)
            end = (char *)memcpy(end, bytes + at, taken) + taken;
        else
            end += sprintf(end, "\\x%02x", (unsigned)(unsigned char)bytes[at]);
        at += taken > 0 ? taken : 1;
    }
    if (at < length)
        memcpy(end, more, sizeof(more));
    return result;
}

char *text_double_commas(const char *text)
{
    char *result = memory_zeroed(strlen(text) * 2 + 1, 1), *end = result;
    for (; *text != '\0'; text++) {
        *end++ = *text;
        if (*text == ',')
            *end++ = ',';
    }
    return result;
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

bool text_list_has(const char *list, const char *separators, const char *word)
{
    size_t length = strlen(word);
    for (const char *item = list; *item != '\0'; item += strspn(item, separators)) {
        size_t span = strcspn(item, separators);
        if (span > 0 && span == length && memcmp(item, word, length) == 0)
            return true;
        item += span;
    }
    return false;
}

enum { NEAREST_WORD_MAX = 64 };

/* Edits (insert, delete, replace, swap neighbours) from a to b; both at most NEAREST_WORD_MAX. */
static size_t distance(const char *a, const char *b)
{
    size_t rows[3][NEAREST_WORD_MAX + 1];
    size_t a_length = strlen(a), b_length = strlen(b);
    for (size_t j = 0; j <= b_length; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= a_length; i++) {
        size_t *row = rows[i % 3], *above = rows[(i + 2) % 3], *two_above = rows[(i + 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= b_length; j++) {
            row[j] = least(least(above[j], row[j - 1]) + 1, above[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = least(row[j], two_above[j - 2] + 1);
        }
    }
    return rows[a_length % 3][b_length];
}

const char *text_nearest(const char *word, const char *const *candidates)
{
    size_t length = strlen(word);
    if (length == 0 || length > NEAREST_WORD_MAX)
        return NULL;
    size_t best = 1 + (length < 4 ? 1 : least(length / 3, 4)); /* first distance that is too far */
    const char *nearest = NULL;
    for (; *candidates != NULL; candidates++) {
        if (strlen(*candidates) > NEAREST_WORD_MAX)
            continue;
        size_t edits = distance(word, *candidates);
        if (edits < best && edits < strlen(*candidates)) {
            best = edits;
            nearest = *candidates;
        }
    }
    return nearest;
}
