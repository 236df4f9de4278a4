/* SPDX-License-Identifier: BSD-2-Clause */
#include "kvm/base/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cli_private.h"
#include "kvm/base/log.h"
#include "kvm/base/memory.h"
#include "kvm/base/text.h"

/* A month: nothing that this suite waits for takes longer. */
#define LONGEST_MS (INT64_C(31) * 24 * 3600 * 1000)

const struct cli_option cli_common_options[] = {
    {"run-dir", 0, CLI_TEXT, offsetof(struct cli_common, run_dir), "DIR",
     "where the state of the instances lies (KVM_RUN_DIR; " KVM_SUITE_RUN_DIR ")", 0, 0},
    {"conf-dir", 0, CLI_TEXT, offsetof(struct cli_common, conf_dir), "DIR",
     "where the configuration of the node lies (KVM_CONF_DIR; " KVM_SUITE_CONF_DIR ")", 0, 0},
    {"timeout", 0, CLI_SECONDS, offsetof(struct cli_common, timeout_ms), "SECONDS",
     "how long the operation may take", 1, LONGEST_MS},
    {"wait-lock", 0, CLI_SECONDS, offsetof(struct cli_common, wait_lock_ms), "SECONDS",
     "how long to wait while another command holds the instance (0)", 0, LONGEST_MS},
    {"json", 0, CLI_FLAG, offsetof(struct cli_common, json), NULL,
     "print one JSON document on standard output", 0, 0},
    {"dry-run", 0, CLI_FLAG, offsetof(struct cli_common, dry_run), NULL,
     "check everything, tell what would be done, change nothing", 0, 0},
    {"verbose", 'v', CLI_FLAG, offsetof(struct cli_common, verbose), NULL,
     "tell each step on standard error", 0, 0},
    {"help", 'h', CLI_FLAG, SIZE_MAX, NULL, "print this help", 0, 0},
    {"version", 0, CLI_FLAG, SIZE_MAX, NULL, "print the version", 0, 0},
};
const size_t cli_common_count = sizeof cli_common_options / sizeof cli_common_options[0];

/* The state of one parse. */
struct parse {
    const struct cli_command *command;
    char *options; /* the program's struct, as bytes */
    char **argv;
    int argc, next;
    struct cli_arguments *arguments;
};

enum { GO_ON = -1 };

static void open_standard_descriptors(void)
{
    /* The wrong way round for input and output, so that using them fails as if they were closed. */
    const int modes[] = {O_WRONLY, O_RDONLY, O_WRONLY};
    for (int i = 0; i < 3; i++)
        if (fcntl(i, F_GETFD) < 0 && open("/dev/null", modes[i]) != i)
            _exit(STATUS_FAILED);
}

void cli_begin(int argc, char **argv, const struct cli_command *command)
{
    open_standard_descriptors();
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    signal(SIGCHLD, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    umask(077);
    log_begin(command->program);
    if (argc < 1 || argv[0] == NULL) {
        log_error("started without its own name in argv[0]");
        exit(STATUS_USAGE);
    }
}

int cli_finish(enum status status)
{
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout))
        return (int)status;
    if (errno != 0)
        log_error("write to standard output: %s", strerror(errno));
    else
        log_error("write to standard output: some of it could not be written");
    return status == STATUS_DONE ? STATUS_FAILED : (int)status;
}

static int usage(const struct parse *parse)
{
    log_error("see %s --help", parse->command->program);
    return STATUS_USAGE;
}

/* Found by name, or by letter when `name` is NULL. *base is where its offset counts from. */
static const struct cli_option *find(const struct parse *parse, const char *name, size_t length,
                                     char letter, char **base)
{
    const struct cli_option *tables[] = {parse->command->options, cli_common_options};
    const size_t counts[] = {parse->command->option_count, cli_common_count};
    for (size_t i = 0; i < 2; i++) {
        *base = parse->options + (i == 0 ? 0 : parse->command->common_offset);
        for (size_t j = 0; j < counts[i]; j++) {
            const struct cli_option *option = &tables[i][j];
            if (option->kind == CLI_HEADING)
                continue;
            if (name == NULL
                    ? option->letter == letter
                    : strlen(option->name) == length && memcmp(option->name, name, length) == 0)
                return option;
        }
    }
    return NULL;
}

static int unknown_option(const struct parse *parse, const char *name, size_t length)
{
    const struct cli_command *command = parse->command;
    size_t count = 0;
    AUTO_FREE const char **names =
        memory_zeroed(command->option_count + cli_common_count + 1, sizeof *names);
    for (size_t i = 0; i < command->option_count; i++)
        if (command->options[i].kind != CLI_HEADING)
            names[count++] = command->options[i].name;
    for (size_t i = 0; i < cli_common_count; i++)
        names[count++] = cli_common_options[i].name;
    AUTO_FREE char *word = memory_format("%.*s", (int)length, name);
    const char *nearest = text_nearest(word, names);
    if (nearest != NULL)
        log_error("unknown option --%s, did you mean --%s?", word, nearest);
    else
        log_error("unknown option --%s", word);
    return usage(parse);
}

/* "2", "2.5", "0.125": at most milliseconds, no sign, no exponent. */
static bool parse_seconds(const char *text, int64_t low, int64_t high, int64_t *milliseconds)
{
    size_t whole = strspn(text, "0123456789"), places = 0;
    if (whole == 0 || whole > 12)
        return false;
    int64_t value = strtoll(text, NULL, 10) * 1000;
    if (text[whole] == '.') {
        int64_t weight = 100;
        for (const char *digit = text + whole + 1; *digit >= '0' && *digit <= '9'; digit++) {
            value += (*digit - '0') * weight;
            weight /= 10;
            places++;
        }
        if (places == 0 || places > 3)
            return false;
        places++;
    }
    if (text[whole + places] != '\0' || value < low || value > high)
        return false;
    *milliseconds = value;
    return true;
}

static int bad_value(const struct parse *parse, const struct cli_option *option, const char *value)
{
    if (option->kind == CLI_NUMBER)
        log_error("--%s: \"%s\" is not a number from %lld to %lld", option->name, value,
                  (long long)option->low, (long long)option->high);
    else
        log_error("--%s: \"%s\" is not a number of seconds from %.10g to %.10g", option->name,
                  value, (double)option->low / 1000, (double)option->high / 1000);
    return usage(parse);
}

static bool parse_number(const struct cli_option *option, const char *value, int64_t *number)
{
    if (option->kind == CLI_SECONDS)
        return parse_seconds(value, option->low, option->high, number);
    return text_number(value, option->low, option->high, number);
}

static void append(void *target, const char *value)
{
    const char **list;
    size_t count = 0;

    memcpy(&list, target, sizeof list);
    while (list != NULL && list[count] != NULL)
        count++;
    list = memory_resize(list, count + 2, sizeof *list);
    list[count] = value;
    list[count + 1] = NULL;
    memcpy(target, &list, sizeof list);
}

/* `target` points into the program's struct; copied, for nothing is known of its alignment. */
static int store(const struct parse *parse, const struct cli_option *option, void *target,
                 const char *value)
{
    const bool on = true;
    int64_t number = 0;
    if (option->kind == CLI_FLAG) {
        memcpy(target, &on, sizeof on);
    } else if (option->kind == CLI_TEXT || option->kind == CLI_OPTIONAL) {
        if (value == NULL)
            value = "";
        memcpy(target, &value, sizeof value);
    } else if (option->kind == CLI_LIST) {
        append(target, value);
    } else {
        if (!parse_number(option, value, &number))
            return bad_value(parse, option, value);
        memcpy(target, &number, sizeof number);
    }
    return GO_ON;
}

/* One option that was found; `value` is what is attached to it, or NULL. */
static int take_option(struct parse *parse, const struct cli_option *option, char *base,
                       const char *value)
{
    if (option->offset == SIZE_MAX) {
        if (strcmp(option->name, "help") == 0)
            cli_print_help(parse->command);
        else
            printf("%s (kvm-suite) %s\n", parse->command->program, KVM_SUITE_VERSION);
        return cli_finish(STATUS_DONE);
    }
    if (option->kind == CLI_FLAG && value != NULL) {
        log_error("--%s takes no value", option->name);
        return usage(parse);
    }
    if (option->kind != CLI_FLAG && option->kind != CLI_OPTIONAL && value == NULL) {
        if (parse->next >= parse->argc) {
            log_error("--%s needs a value: --%s %s", option->name, option->name, option->argument);
            return usage(parse);
        }
        value = parse->argv[parse->next++];
    }
    return store(parse, option, base + option->offset, value);
}

static int take_long(struct parse *parse, const char *word)
{
    size_t length = strcspn(word, "=");
    char *base;
    if (strcmp(word, "complete-words") == 0) {
        cli_print_words(parse->command);
        return cli_finish(STATUS_DONE);
    }
    const struct cli_option *option = find(parse, word, length, 0, &base);
    if (option == NULL)
        return unknown_option(parse, word, length);
    return take_option(parse, option, base, word[length] == '=' ? word + length + 1 : NULL);
}

/* "-v", "-vn", "-n5": letters up to the first that takes a value, which is the rest or the next. */
static int take_letters(struct parse *parse, const char *letters)
{
    for (; *letters != '\0'; letters++) {
        char *base;
        const struct cli_option *option = find(parse, NULL, 0, *letters, &base);
        if (option == NULL) {
            log_error("unknown option -%.1s", letters);
            return usage(parse);
        }
        bool rest = option->kind != CLI_FLAG && option->kind != CLI_OPTIONAL && letters[1] != '\0';
        int status = take_option(parse, option, base, rest ? letters + 1 : NULL);
        if (status != GO_ON || rest)
            return status;
    }
    return GO_ON;
}

static struct cli_common *common_of(const struct cli_command *command, void *options)
{
    return (void *)((char *)options + command->common_offset);
}

static void set_defaults(struct cli_common *common)
{
    const char *run_dir = getenv("KVM_RUN_DIR"), *conf_dir = getenv("KVM_CONF_DIR");
    common->run_dir = run_dir != NULL && *run_dir != '\0' ? run_dir : KVM_SUITE_RUN_DIR;
    common->conf_dir = conf_dir != NULL && *conf_dir != '\0' ? conf_dir : KVM_SUITE_CONF_DIR;
    common->timeout_ms = -1;
    common->wait_lock_ms = 0;
}

static int take_words(struct parse *parse)
{
    bool options_over = false;
    while (parse->next < parse->argc) {
        char *word = parse->argv[parse->next++];
        int status = GO_ON;
        if (options_over || word[0] != '-' || word[1] == '\0')
            parse->arguments->items[parse->arguments->count++] = word;
        else if (strcmp(word, "--") == 0)
            options_over = true;
        else if (word[1] == '-')
            status = take_long(parse, word + 2);
        else
            status = take_letters(parse, word + 1);
        if (status != GO_ON)
            return status;
    }
    return GO_ON;
}

void cli_release(const struct cli_command *command, void *options)
{
    const char **none = NULL, **list;

    for (size_t i = 0; i < command->option_count; i++) {
        char *target = (char *)options + command->options[i].offset;
        if (command->options[i].kind != CLI_LIST)
            continue;
        memcpy(&list, target, sizeof list);
        free(list);
        memcpy(target, &none, sizeof none);
    }
}

int cli_parse(const struct cli_command *command, int argc, char **argv, void *options,
              struct cli_arguments *arguments)
{
    struct cli_common *common = common_of(command, options);
    set_defaults(common);
    /* Operands move to the front of argv, never past the word that is read. */
    *arguments = (struct cli_arguments){.items = argv + 1};
    struct parse parse = {command, options, argv, argc, 1, arguments};
    int status = take_words(&parse);
    if (status != GO_ON) {
        *arguments = (struct cli_arguments){0};
        cli_release(command, options);
        return status;
    }
    arguments->items[arguments->count] = NULL;
    if (*common->run_dir == '\0' || *common->conf_dir == '\0') {
        log_error("--%s: the name is empty", *common->run_dir == '\0' ? "run-dir" : "conf-dir");
        return usage(&parse);
    }
    log_verbose(common->verbose);
    return GO_ON;
}
