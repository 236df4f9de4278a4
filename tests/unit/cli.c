/* SPDX-License-Identifier: BSD-2-Clause */
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>
#include "kvm/base/cli.h"
#include "kvm/base/log.h"
#include "kvm/base/memory.h"
#include "kvm/base/transaction.h"
#include "unit.h"

struct options {
    struct cli_common common;
    bool force;
    int64_t slot, pause_ms;
    const char *file, *which;
    const char **places;
};

static const struct cli_option table[] = {
    {"force", 'f', CLI_FLAG, offsetof(struct options, force), NULL, "do it all the same", 0, 0},
    {"what comes next", 0, CLI_HEADING, 0, NULL, NULL, 0, 0},
    {"slot", 's', CLI_NUMBER, offsetof(struct options, slot), "NUMBER", "where it goes", 0, 31},
    {"pause", 0, CLI_SECONDS, offsetof(struct options, pause_ms), "SECONDS",
     "a help text that is so long that it does not fit into one line of eighty columns at all", 0,
     10000},
    {"which", 0, CLI_OPTIONAL, offsetof(struct options, which), "WHICH", "all or some", 0, 0},
    {"place", 0, CLI_LIST, offsetof(struct options, places), "PLACE", "one more", 0, 0},
    {"file", 0, CLI_TEXT, offsetof(struct options, file), "FILE", "what to read", 0, 0}};
static const char *const usage_lines[] = {"INSTANCE… [--force]", "--all", NULL};
static const char *const actions[] = {"add", "del", NULL};
static const char *const add_keys[] = {"path", "size", NULL};

static const char *const *action_keys(const char *action)
{
    return strcmp(action, "add") == 0 ? add_keys : NULL;
}

static const char *const notes[] = {"  A note that is indented and goes on well beyond the "
                                    "eightieth column of the terminal, so that it is wrapped.",
                                    NULL};
static const struct cli_command command = {.program = "kvm-unit",
                                           .usage = usage_lines,
                                           .summary = "Try the command line.",
                                           .options = table,
                                           .option_count = COUNT(table),
                                           .common_offset = offsetof(struct options, common),
                                           .operand = "instance",
                                           .actions = actions,
                                           .action_keys = action_keys,
                                           .notes = notes};

enum { WORDS_MAX = 16 };

/* The words are parted by blanks. */
struct attempt {
    char text[256];
    char *argv[WORDS_MAX];
    int argc;
    struct options options;
    struct cli_arguments arguments;
};

static int parse(struct attempt *attempt, const char *line)
{
    *attempt = (struct attempt){.argv = {"kvm-unit"}, .argc = 1};
    snprintf(attempt->text, sizeof attempt->text, "%s", line);
    for (char *rest = attempt->text, *word; (word = strsep(&rest, " ")) != NULL;)
        attempt->argv[attempt->argc++] = word;
    return cli_parse(&command, attempt->argc, attempt->argv, &attempt->options,
                     &attempt->arguments);
}

/* Status, and what a parse in a child printed on the descriptor. The caller frees *printed. */
static int parse_apart(const char *line, int descriptor, const char *onto, char **printed)
{
    int ends[2], status;
    *printed = memory_zeroed(8192, 1);
    if (pipe(ends) != 0)
        return -1;
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        struct attempt attempt;
        int null = open(onto != NULL ? onto : "/dev/null", O_WRONLY);
        dup2(null, descriptor == 1 ? 2 : 1);
        dup2(ends[1], descriptor);
        log_begin("kvm-unit");
        status = parse(&attempt, line);
        fflush(stdout);
        _exit(status < 0 ? 100 : status);
    }
    close(ends[1]);
    size_t length = 0;
    for (ssize_t more; (more = read(ends[0], *printed + length, 8191 - length)) > 0;)
        length += (size_t)more;
    close(ends[0]);
    return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* A bad line: status 2 and this on stderr. */
static bool refuses(const char *line, const char *text)
{
    AUTO_FREE char *printed = NULL;
    int status = parse_apart(line, 2, NULL, &printed);
    bool good = status == STATUS_USAGE && strstr(printed, text) != NULL;
    if (!good)
        printf("# %s: %d, %s\n", line, status, printed);
    return good;
}

TEST(mixed, "options and operands mix, values come attached or apart")
{
    struct attempt attempt;
    CHECK_NUMBER(parse(&attempt, "web1 --slot 5 - -f --file=a=b web2 --pause=2.5 -- --json"), -1);
    CHECK_NUMBER(attempt.arguments.count, 4);
    CHECK(attempt.arguments.items == attempt.argv + 1); /* nothing to free */
    CHECK_TEXT(attempt.arguments.items[0], "web1");
    CHECK_TEXT(attempt.arguments.items[1], "-");
    CHECK_TEXT(attempt.arguments.items[3], "--json");
    CHECK(attempt.arguments.items[4] == NULL);
    CHECK_NUMBER(attempt.options.slot, 5);
    CHECK_NUMBER(attempt.options.pause_ms, 2500);
    CHECK_TEXT(attempt.options.file, "a=b");
    CHECK(attempt.options.force && !attempt.options.common.json);
    return true;
}

TEST(optional, "a value may be left out where it is optional, and a list grows with each")
{
    struct attempt attempt;
    CHECK_NUMBER(parse(&attempt, "web1"), -1);
    CHECK(attempt.options.which == NULL && attempt.options.places == NULL);
    CHECK_NUMBER(parse(&attempt, "--which web1 --place a --place=b=c"), -1);
    CHECK_TEXT(attempt.options.which, "");
    CHECK_TEXT(attempt.arguments.items[0], "web1");
    CHECK_TEXT(attempt.options.places[0], "a");
    CHECK_TEXT(attempt.options.places[1], "b=c");
    CHECK(attempt.options.places[2] == NULL);
    cli_release(&command, &attempt.options);
    CHECK(attempt.options.places == NULL);
    CHECK_NUMBER(parse(&attempt, "--which=a,b"), -1);
    CHECK_TEXT(attempt.options.which, "a,b");
    CHECK(refuses("--place", "--place needs a value"));
    CHECK_NUMBER(parse(&attempt, "--place a --place"), STATUS_USAGE);
    CHECK(attempt.options.places == NULL);
    return true;
}

TEST(letters, "letters may be put together, the last one with its value")
{
    struct attempt attempt;
    CHECK_NUMBER(parse(&attempt, "-vfs7 -s 8"), -1);
    CHECK(attempt.options.common.verbose && attempt.options.force);
    CHECK_NUMBER(attempt.options.slot, 8);
    log_verbose(false);
    return true;
}

TEST(common, "common options have defaults, the environment, then the command line")
{
    struct attempt attempt;
    setenv("KVM_RUN_DIR", "/tmp/env", 1);
    setenv("KVM_CONF_DIR", "", 1);
    CHECK_NUMBER(parse(&attempt, "web1"), -1);
    CHECK_TEXT(attempt.options.common.run_dir, "/tmp/env");
    CHECK_TEXT(attempt.options.common.conf_dir, KVM_SUITE_CONF_DIR);
    CHECK_NUMBER(attempt.options.common.timeout_ms, -1);
    CHECK_NUMBER(attempt.options.common.wait_lock_ms, 0);
    CHECK_NUMBER(parse(&attempt, "--run-dir /x --timeout 0.125 --wait-lock=3 --dry-run"), -1);
    unsetenv("KVM_RUN_DIR");
    unsetenv("KVM_CONF_DIR");
    CHECK_TEXT(attempt.options.common.run_dir, "/x");
    CHECK_NUMBER(attempt.options.common.timeout_ms, 125);
    CHECK_NUMBER(attempt.options.common.wait_lock_ms, 3000);
    CHECK(attempt.options.common.dry_run);
    return true;
}

TEST(refused, "what is not understood is refused by name")
{
    CHECK(refuses("--forse", "unknown option --forse, did you mean --force?"));
    CHECK(refuses("--for", "unknown option --for"));
    CHECK(refuses("--zzzzzzzzzz", "unknown option --zzzzzzzzzz\n"));
    CHECK(refuses("-x", "unknown option -x"));
    CHECK(refuses("--force=yes", "--force takes no value"));
    CHECK(refuses("--slot", "--slot needs a value: --slot NUMBER"));
    CHECK(refuses("--run-dir=", "--run-dir: the name is empty"));
    CHECK(refuses("--forse", "see kvm-unit --help"));
    static const char *const numbers[] = {"", "32", "-1", "01", "+1", "1x", "4294967297"};
    static const char *const seconds[] = {"",       "10.001", "1.",  ".5",
                                          "1.2345", "-1",     "1e1", "inf",
                                          "1s",     "1.5.5",  "0x1", "99999999999999999999"};
    char line[64];
    for (size_t i = 0; i < COUNT(numbers); i++) {
        snprintf(line, sizeof line, "--slot=%s", numbers[i]);
        CHECK(refuses(line, "is not a number from 0 to 31"));
    }
    for (size_t i = 0; i < COUNT(seconds); i++) {
        snprintf(line, sizeof line, "--pause=%s", seconds[i]);
        CHECK(refuses(line, "is not a number of seconds from 0 to 10"));
    }
    return true;
}

/* Columns of the longest line: continuation bytes of UTF-8 take none. */
static size_t widest(const char *text)
{
    size_t widest = 0, width = 0;
    for (; *text != '\0'; text++) {
        width = *text == '\n' ? 0 : width + (((unsigned char)*text & 0xC0) != 0x80);
        widest = width > widest ? width : widest;
    }
    return widest;
}

TEST(helps, "help fits into eighty columns and tells all options and exit statuses")
{
    AUTO_FREE char *printed = NULL;
    CHECK_NUMBER(parse_apart("--help", 1, NULL, &printed), 0);
    CHECK(widest(printed) <= 80);
    CHECK_HAS(printed, "Usage: kvm-unit INSTANCE… [--force]\n       kvm-unit --all\n");
    CHECK_HAS(printed, "  -f, --force             do it all the same\n");
    CHECK_HAS(printed, "\nwhat comes next:\n");
    CHECK_HAS(printed, "      --pause SECONDS     a help text that is so long that it does not "
                       "fit into\n                          one line");
    CHECK_HAS(printed, "      --wait-lock SECONDS");
    CHECK_HAS(printed, "  6  the time is up and it is still going on\n");
    CHECK_HAS(printed, "\n  A note that is");
    return true;
}

TEST(version, "the version is told")
{
    AUTO_FREE char *printed = NULL;
    CHECK_NUMBER(parse_apart("--version --nonsense", 1, NULL, &printed), 0);
    CHECK_TEXT(printed, "kvm-unit (kvm-suite) " KVM_SUITE_VERSION "\n");
    return true;
}

TEST(full_disk, "a result that can't be written is a failure")
{
    AUTO_FREE char *printed = NULL;
    CHECK_NUMBER(parse_apart("--help", 2, "/dev/full", &printed), STATUS_FAILED);
    CHECK_HAS(printed, "kvm-unit: write to standard output: ");
    return true;
}

TEST(words, "completions get options, what they take, operands and actions")
{
    AUTO_FREE char *printed = NULL;
    CHECK_NUMBER(parse_apart("--complete-words", 1, NULL, &printed), 0);
    CHECK_HAS(printed, "--force\n--slot\n");
    CHECK_HAS(printed, "argument:--file:FILE\nargument:--run-dir:DIR\n");
    CHECK_HAS(printed, "operand:instance\naction:add\nkey:add:path\nkey:add:size\naction:del\n");
    CHECK(strstr(printed, "what comes next") == NULL);
    return true;
}

/* Runs cli_begin with the descriptor closed; what the descriptor is afterwards. */
static int begin_without(int descriptor)
{
    int status;
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        char *argv[] = {"kvm-unit", NULL};
        close(descriptor);
        cli_begin(1, argv, &command);
        int other = open("/dev/null", O_RDONLY);
        bool fails = descriptor == 0   ? read(0, &other, 1) < 0
                     : descriptor == 1 ? write(1, "x", 1) < 0
                                       : true;
        _exit(other > 2 && fails ? 0 : 1);
    }
    return waitpid(pid, &status, 0) == pid ? status : -1;
}

TEST(begins, "a program that is started with closed descriptors never opens a file as one of them")
{
    for (int descriptor = 0; descriptor < 3; descriptor++)
        CHECK_NUMBER(begin_without(descriptor), 0);
    return true;
}

UNIT_MAIN(UNIT(mixed), UNIT(optional), UNIT(letters), UNIT(common), UNIT(refused), UNIT(helps),
          UNIT(version), UNIT(full_disk), UNIT(words), UNIT(begins))
