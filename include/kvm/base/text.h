/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Strings from outside: strict numbers, allow-listed names, escaping for people, words of a command
 * line. Pure.
 */
#ifndef KVM_BASE_TEXT_H
#define KVM_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "kvm/base/error.h"

/* A decimal number and nothing else: "0", "17", "-3"; not "", "01", "+1", " 1", "1x", "-0", nor
 * what is outside [low, high]. False leaves *value alone. */
bool text_number(const char *text, int64_t low, int64_t high, int64_t *value);

/* Bytes of the UTF-8 character that `bytes` begins with; 0 when it is none or a control character
 * (also U+0080 to U+009F, which terminals obey). */
size_t text_printable_length(const char *bytes, size_t length);

bool text_is_utf8(const char *text);
bool text_is_uuid(const char *text);     /* canonical lower case, 36 characters */
bool text_is_mac(const char *text);      /* aa:bb:cc:dd:ee:ff, lower case, not multicast */
bool text_has_control(const char *text); /* a byte below 0x20, or 0x7f */

/* Up to 512 bytes of what somebody else sent, control characters and bytes that are no UTF-8
 * escaped as \xNN, cut with "…". The caller frees. */
char *text_escape(const char *bytes, size_t length);

/* Split like a shell without expansion: blanks, 'single', "double" with \" and \\, backslash.
 * *words is a NULL-terminated array, one allocation per word; text_words_release frees it. */
int text_words(const char *text, char ***words, size_t *count, struct error *error);
void text_words_release(char **words);

/* Is `word`, whole, one of the items of `list`? Any of `separators` stands between them. */
bool text_list_has(const char *list, const char *separators, const char *word);

/* The nearest of `candidates` (NULL-terminated) by edit distance, NULL when nothing is near. */
const char *text_nearest(const char *word, const char *const *candidates);

/* "," doubled, as QEMU's -chardev, -name and -vnc take it. The caller frees. */
char *text_double_commas(const char *text);

#endif
