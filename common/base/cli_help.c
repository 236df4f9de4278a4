/* SPDX-License-Identifier: BSD-2-Clause */
#include "cli_private.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "kvm/base/memory.h"

enum { WIDTH = 80, HELP_COLUMN = 26, KEY_COLUMN = 12 };

/* The words of the manual pages, by number. */
static const char *const exit_words[] = {
    [STATUS_DONE] = "done, or already so",
    [STATUS_FAILED] = "failed, rolled back",
    [STATUS_USAGE] = "usage or bad input",
    [STATUS_STATE] = "the instance is not in the state this needs",
    [STATUS_BUSY] = "busy: somebody holds it",
    [STATUS_INCOMPLETE] = "incomplete: something could not be undone",
    [STATUS_TIMEOUT] = "the time is up and it is still going on",
};

/* Columns of the first `length` bytes: continuation bytes of UTF-8 take none. */
static size_t columns(const char *text, size_t length)
{
    size_t count = 0;
    for (size_t i = 0; i < length; i++)
        count += ((unsigned char)text[i] & 0xC0) != 0x80;
    return count;
}

/* Print `text` from column `at`, further lines from `indent`, broken at blanks before WIDTH. */
static void wrap(const char *text, size_t at, size_t indent)
{
    bool first = true;
    while (*text != '\0') {
        size_t length = strcspn(text, " "), wide = columns(text, length);
        if (!first && at + 1 + wide > WIDTH) {
            printf("\n%*s", (int)indent, "");
            at = indent;
            first = true;
        }
        if (!first) {
            putchar(' ');
            at++;
        }
        fwrite(text, 1, length, stdout);
        at += wide;
        first = false;
        text += length + (text[length] == ' ');
    }
    putchar('\n');
}

/* A whole line, which may bring an indentation of its own. */
static void wrap_line(const char *line)
{
    size_t indent = strspn(line, " ");
    printf("%*s", (int)indent, "");
    wrap(line + indent, indent, indent);
}

static void print_option(const struct cli_option *option)
{
    char left[128], letter[8] = "    ";
    if (option->kind == CLI_HEADING) {
        printf("\n%s:\n", option->help != NULL ? option->help : option->name);
        return;
    }
    if (option->letter != 0)
        snprintf(letter, sizeof letter, "-%c, ", option->letter);
    bool optional = option->kind == CLI_OPTIONAL;
    snprintf(left, sizeof left, "  %s--%s%s%s%s", letter, option->name,
             option->argument == NULL ? ""
             : optional               ? "[="
                                      : " ",
             option->argument != NULL ? option->argument : "", optional ? "]" : "");
    size_t wide = columns(left, strlen(left));
    fputs(left, stdout);
    if (wide + 2 > HELP_COLUMN) {
        putchar('\n');
        wide = 0;
    }
    printf("%*s", (int)(HELP_COLUMN - wide), "");
    wrap(option->help, HELP_COLUMN, HELP_COLUMN);
}

/* NULL: the action has none. */
static const char *const *keys_of(const struct cli_command *command, const char *action)
{
    return command->action_keys != NULL ? command->action_keys(action) : NULL;
}

static void print_usage(const struct cli_command *command)
{
    for (size_t i = 0; command->usage[i] != NULL; i++) {
        size_t indent = strlen("Usage: ") + strlen(command->program) + 1;
        printf("%s%s ", i == 0 ? "Usage: " : "       ", command->program);
        wrap(command->usage[i], indent, indent);
    }
}

static void print_action(const char *action, const char *const *keys)
{
    AUTO_FREE char *text = memory_copy(keys[0]);

    for (size_t i = 1; keys[i] != NULL; i++) {
        AUTO_FREE char *before = text;
        text = memory_format("%s, %s", before, keys[i]);
    }
    printf("  %-*s", KEY_COLUMN - 2, action);
    wrap(text, KEY_COLUMN, KEY_COLUMN);
}

static void print_keys(const struct cli_command *command)
{
    bool any = false;

    for (size_t i = 0; command->actions != NULL && command->actions[i] != NULL; i++) {
        const char *action = command->actions[i];
        const char *const *keys = keys_of(command, action);
        if (keys == NULL || keys[0] == NULL)
            continue;
        if (!any)
            printf("\nKeys:\n");
        any = true;
        print_action(action, keys);
    }
}

void cli_print_help(const struct cli_command *command)
{
    print_usage(command);
    putchar('\n');
    wrap(command->summary, 0, 0);
    print_keys(command);
    if (command->option_count > 0 && command->options[0].kind != CLI_HEADING)
        printf("\nOptions:\n");
    for (size_t i = 0; i < command->option_count; i++)
        print_option(&command->options[i]);
    printf("\nCommon options:\n");
    for (size_t i = 0; i < cli_common_count; i++)
        print_option(&cli_common_options[i]);
    printf("\nExit status:\n");
    for (size_t i = 0; i < sizeof exit_words / sizeof exit_words[0]; i++)
        printf("  %zu  %s\n", i, exit_words[i]);
    if (command->notes != NULL && command->notes[0] != NULL)
        putchar('\n');
    for (size_t i = 0; command->notes != NULL && command->notes[i] != NULL; i++)
        wrap_line(command->notes[i]);
}

static void print_words(const struct cli_option *options, size_t count, bool arguments)
{
    for (size_t i = 0; i < count; i++) {
        if (options[i].kind == CLI_HEADING)
            continue;
        if (!arguments)
            printf("--%s\n", options[i].name);
        else if (options[i].argument != NULL && options[i].kind != CLI_OPTIONAL)
            printf("argument:--%s:%s\n", options[i].name, options[i].argument);
    }
}

static void print_key_words(const struct cli_command *command, const char *action)
{
    const char *const *keys = keys_of(command, action);

    for (; keys != NULL && *keys != NULL; keys++)
        printf("key:%s:%s\n", action, *keys);
}

void cli_print_words(const struct cli_command *command)
{
    for (int arguments = 0; arguments < 2; arguments++) {
        print_words(command->options, command->option_count, arguments != 0);
        print_words(cli_common_options, cli_common_count, arguments != 0);
    }
    if (command->operand != NULL)
        printf("operand:%s\n", command->operand);
    for (size_t i = 0; command->actions != NULL && command->actions[i] != NULL; i++) {
        printf("action:%s\n", command->actions[i]);
        print_key_words(command, command->actions[i]);
    }
}
