/* SPDX-License-Identifier: BSD-2-Clause */
/* The remote command of a session: started and ended. What is said in it is migrate_talk.c's. */
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "migrate_private.h"
#include "kvm/base/memory.h"
#include "kvm/base/process.h"
#include "kvm/base/text.h"

enum { CLOSE_WAIT_MS = 3000 };

static const char *const search_path[] = {"/usr/local/sbin", "/usr/local/bin", "/usr/sbin",
                                          "/usr/bin",        "/sbin",          "/bin"};

/* Where a bare word lies; the caller frees. */
static char *find_program(const char *word)
{
    if (strchr(word, '/') != NULL)
        return memory_copy(word);
    for (size_t i = 0; i < sizeof(search_path) / sizeof(search_path[0]); i++) {
        char *path = memory_format("%s/%s", search_path[i], word);
        if (access(path, X_OK) == 0)
            return path;
        free(path);
    }
    return memory_copy(word);
}

/* The remote command is the user's own program (ssh): it gets the user's environment, for its agent and its keys. */
static int spawn(struct remote *remote, const char **argv, int input, int output,
                 struct error *error)
{
    struct process_spec spec = {.argv = argv,
                                .environment = (const char *const *)environ,
                                .input = input,
                                .output = output,
                                .errors = STDERR_FILENO,
                                .die_with_parent = true,
                                .ignore_interrupt = true,
                                .pid_lock = -1};

    remote->pid = process_spawn(&spec, &remote->pidfd, error);
    if (remote->pid > 0)
        return 0;
    remote->pid = 0;
    return -1;
}

/* COMMAND's words and ours, [0] found; `parts` and `program` hold what *argv borrows. */
struct words {
    char **parts;
    char *program;
    const char **argv;
};

static void words_release(struct words *words)
{
    text_words_release(words->parts);
    free(words->program);
    free(words->argv);
}

static int words_join(const char *command, const char *const *more, struct words *words,
                      struct error *error)
{
    size_t count = 0, extra = 0;

    *words = (struct words){0};
    if (text_words(command, &words->parts, &count, error) < 0)
        return error_prefix(error, "--remote");
    if (count == 0)
        return error_set(error, STATUS_USAGE, "--remote: is empty");
    while (more[extra] != NULL)
        extra++;
    words->program = find_program(words->parts[0]);
    words->argv = memory_zeroed(count + extra + 1, sizeof(*words->argv));
    words->argv[0] = words->program;
    for (size_t i = 1; i < count; i++)
        words->argv[i] = words->parts[i];
    for (size_t i = 0; i < extra; i++)
        words->argv[count + i] = more[i];
    return 0;
}

static int open_with(struct remote *remote, const char *command, const char *const *more, int input,
                     int output, struct error *error)
{
    __attribute__((cleanup(words_release))) struct words words;

    if (words_join(command, more, &words, error) < 0)
        return -1;
    return spawn(remote, words.argv, input, output, error) < 0 ? error_prefix(error, "--remote")
                                                               : 0;
}

int remote_open(struct remote *remote, const char *command, const char *const *more,
                struct error *error)
{
    int input[2] = {-1, -1}, output[2] = {-1, -1};

    *remote = (struct remote){.pidfd = -1, .to = -1, .from = -1};
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, input) < 0 ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, output) < 0) {
        error_errno(error, STATUS_FAILED, "socketpair");
        memory_close(&input[0]);
        memory_close(&input[1]);
        return -1;
    }
    remote->to = input[0];
    remote->from = output[0];
    int result = open_with(remote, command, more, input[1], output[1], error);
    close(input[1]);
    close(output[1]);
    if (result < 0)
        remote_close(remote);
    return result;
}

int remote_open_stream(struct remote *remote, const char *command, const char *const *more,
                       struct error *error)
{
    int pair[2];

    *remote = (struct remote){.pidfd = -1, .to = -1, .from = -1};
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return error_errno(error, STATUS_FAILED, "socketpair");
    int result = open_with(remote, command, more, pair[1], pair[1], error);
    close(pair[1]);
    if (result == 0)
        return pair[0];
    close(pair[0]);
    return -1;
}

void remote_close(struct remote *remote)
{
    memory_close(&remote->to);
    memory_close(&remote->from);
    remote->to = remote->from = -1;
    if (remote->pid > 0 && !process_wait_gone(remote->pidfd, clock_deadline(CLOSE_WAIT_MS)))
        process_signal(remote->pidfd, SIGTERM);
    if (remote->pid > 0)
        process_end_child(remote->pid, remote->pidfd);
    memory_close(&remote->pidfd);
    remote->pidfd = -1;
    remote->pid = 0;
    free(remote->bytes);
    remote->bytes = NULL;
    remote->length = 0;
}
