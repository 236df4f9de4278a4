/* SPDX-License-Identifier: BSD-2-Clause */
/* The rules that fake-qmp.c follows, one a line: VERB [SUBJECT [REST]]. What they mean stands there. */
#ifndef KVM_TESTS_FAKE_SCRIPT_H
#define KVM_TESTS_FAKE_SCRIPT_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kvm/base/memory.h"

enum { SCRIPT_RULES_MAX = 256 };

struct rule {
    char verb[16], subject[64];
    char *rest; /* "" when there is none */
};

struct script {
    struct rule rules[SCRIPT_RULES_MAX];
    size_t count;
};

/* In place; returns the length, since \0 is one of the bytes. */
static inline size_t script_unescape(char *text)
{
    char *to = text;
    for (const char *from = text; *from != '\0'; from++) {
        if (*from != '\\' || from[1] == '\0') {
            *to++ = *from;
            continue;
        }
        from++;
        char hex[3] = {from[0] == 'x' ? from[1] : 0, 0, 0};
        if (hex[0] != 0)
            hex[1] = from[2];
        switch (*from) {
        case 'n':
            *to++ = '\n';
            break;
        case 'r':
            *to++ = '\r';
            break;
        case '0':
            *to++ = '\0';
            break;
        case 'x':
            *to++ = (char)strtol(hex, NULL, 16);
            from += strlen(hex);
            break;
        default: /* an escape of JSON's own: \" \u… */
            if (*from != '\\')
                *to++ = '\\';
            *to++ = *from;
        }
    }
    *to = '\0';
    return (size_t)(to - text);
}

static inline bool script_read_rule(struct script *script, char *line)
{
    line[strcspn(line, "\r\n")] = '\0';
    if (line[0] == '#' || line[0] == '\0')
        return true;
    struct rule *rule = &script->rules[script->count];
    static const char *const whole[] = {"before", "greeting"};
    int used = 0;
    if (sscanf(line, "%15s %n", rule->verb, &used) < 1 || ++script->count == SCRIPT_RULES_MAX)
        return false;
    bool has_subject = strcmp(rule->verb, whole[0]) != 0 && strcmp(rule->verb, whole[1]) != 0;
    line += used;
    if (has_subject && sscanf(line, "%63s %n", rule->subject, &used) == 1)
        line += used;
    rule->rest = memory_copy(line);
    return true;
}

/* False with errno, or for a line that is no rule. */
static inline bool script_read(struct script *script, const char *path)
{
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    AUTO_FREE char *line = NULL;
    size_t size = 0;
    bool good = true;
    while (good && getline(&line, &size, file) >= 0)
        good = script_read_rule(script, line);
    fclose(file);
    return good;
}

/* The rule with that verb; of several, the last. NULL: none. */
static inline const struct rule *script_verb(const struct script *script, const char *verb)
{
    for (size_t i = script->count; i-- > 0;)
        if (strcmp(script->rules[i].verb, verb) == 0)
            return &script->rules[i];
    return NULL;
}

/* What stands behind verb and subject; NULL: there is no such rule. */
static inline const char *script_rest(const struct script *script, const char *verb,
                                      const char *subject)
{
    for (size_t i = 0; i < script->count; i++)
        if (strcmp(script->rules[i].verb, verb) == 0 &&
            strcmp(script->rules[i].subject, subject) == 0)
            return script->rules[i].rest;
    return NULL;
}

static inline void script_release(struct script *script)
{
    for (size_t i = 0; i < script->count; i++)
        free(script->rules[i].rest);
    script->count = 0;
}

#endif
