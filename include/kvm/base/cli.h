/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The command line of every program of the suite, from one table per program: parser, --help and
 * completion words all come from it.
 *
 *     int main(int argc, char **argv) {
 *         cli_begin(&argc, &argv, &command);      // descriptors, signals, umask, program name
 *         int status = cli_parse(&command, argc, argv, &options, &arguments);
 *         if (status >= 0) return status;         // --help, --version: 0; bad usage: 2
 *         …
 *         return cli_finish(status);              // flushes stdout: a write error is a failure
 *     }
 *
 * Long options take `--name value` and `--name=value`; `--` ends options; options and operands mix.
 */
#ifndef KVM_BASE_CLI_H
#define KVM_BASE_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "kvm/base/error.h"

enum cli_kind {
    CLI_FLAG, /* bool */
    CLI_TEXT, /* const char *, borrowed from argv */
    CLI_OPTIONAL, /* the same, with a value only where "=" brings one: --name is "", --name=value is value */
    CLI_LIST, /* const char **, each time it is given one more, NULL-terminated; NULL: never given; cli_release */
    CLI_NUMBER, /* int64_t in [low, high] */
    CLI_SECONDS, /* int64_t, milliseconds; the user writes seconds, "2.5" is fine; [low, high] in ms */
    CLI_HEADING, /* no option: a heading in --help */
};

struct cli_option {
    const char *name; /* without "--" */
    char letter;      /* 0: none */
    enum cli_kind kind;
    size_t offset;        /* of the value in the program's struct options */
    const char *argument; /* "SECONDS"; NULL for a flag. "FILE" and "DIR" complete to paths */
    const char *help;     /* one line, without the default */
    int64_t low, high;
};

struct cli_command {
    const char *program;
    const char *const *usage; /* lines after the program's name; NULL-terminated */
    const char *summary;      /* one sentence */
    const struct cli_option *options;
    size_t option_count;
    size_t common_offset;       /* of struct cli_common in struct options */
    const char *operand;        /* completion of operands: "instance", "file", NULL */
    const char *const *actions; /* completion of the word after the first operand; NULL: none */
    /* KEY=VALUE words of an action, for completion; the function NULL: no action has any. */
    const char *const *(*action_keys)(const char *action);
    const char *const *notes; /* lines at the end of --help (exit statuses are added); NULL */
};

/* Options that every program has. Times in ms; -1 where not given. */
struct cli_common {
    const char *run_dir; /* --run-dir, KVM_RUN_DIR, or the built-in one: never NULL after parsing */
    const char *conf_dir; /* --conf-dir, KVM_CONF_DIR, or the built-in one */
    int64_t timeout_ms;   /* --timeout; -1: the program's own default */
    int64_t wait_lock_ms; /* --wait-lock; default 0: busy is told at once */
    bool json;
    bool dry_run;
    bool verbose;
};

struct cli_arguments {
    char **items; /* in argv, of which the order changes; NULL-terminated */
    size_t count;
};

/* Opens 0 to 2 where closed, ignores SIGPIPE and SIGXFSZ, SIGCHLD default, empty mask, umask 077,
 * argc checked, log_begin. */
void cli_begin(int argc, char **argv, const struct cli_command *command);

/* `options` is the program's struct, zeroed or with its defaults. Returns -1 to go on, else the exit
 * status. Prints --help and --version on stdout, faults on stderr with the nearest option named.
 * The hidden --complete-words prints one word a line for completions/. */
int cli_parse(const struct cli_command *command, int argc, char **argv, void *options,
              struct cli_arguments *arguments);

/* Lets the lists in `options` go; a parse that returned a status has left none. */
void cli_release(const struct cli_command *command, void *options);

int cli_finish(enum status status);

#endif
