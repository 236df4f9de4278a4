/* SPDX-License-Identifier: BSD-2-Clause */
#include "kvm/host/hook.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "kvm/base/memory.h"
#include "kvm/base/process.h"
#include "kvm/base/text.h"

#define HOOK_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

enum { LAST_LINES = 3, LAST_BYTES = 400 };

void hook_set(struct hook_environment *environment, const char *name, const char *value)
{
    if (value == NULL)
        return;
    environment->items = memory_resize(environment->items, environment->count + 2, sizeof(char *));
    environment->items[environment->count++] = memory_format("%s=%s", name, value);
    environment->items[environment->count] = NULL;
}

void hook_environment_release(struct hook_environment *environment)
{
    if (environment == NULL)
        return;
    for (size_t i = 0; i < environment->count; i++)
        free(environment->items[i]);
    free(environment->items);
    *environment = (struct hook_environment){0};
}

bool hook_exists(const char *path)
{
    /* Also a link that leads nowhere: it was meant to be run, so hook_check is to complain. */
    struct stat status;
    return lstat(path, &status) == 0 || (errno != ENOENT && errno != ENOTDIR);
}

int hook_check(const char *path, struct error *error)
{
    struct stat status;
    if (stat(path, &status) != 0)
        return error_errno(error, STATUS_FAILED, "%s", path);
    if (!S_ISREG(status.st_mode))
        return error_set(error, STATUS_FAILED, "%s is not a regular file", path);
    if (status.st_uid != 0 && status.st_uid != geteuid())
        return error_set(
            error, STATUS_FAILED,
            "%s belongs to user %lu, not to root: not run; look at it, then: chown root %s", path,
            (unsigned long)status.st_uid, path);
    if ((status.st_mode & (S_IWGRP | S_IWOTH)) != 0)
        return error_set(error, STATUS_FAILED,
                         "%s may be written by others (mode %04o): not run; chmod go-w %s", path,
                         (unsigned)(status.st_mode & 07777), path);
    if ((status.st_mode & (S_IXUSR | S_IXGRP | S_IXOTH)) == 0)
        return error_set(error, STATUS_FAILED, "%s is not executable; chmod +x %s", path, path);
    return 0;
}

/* The last lines on one, for an error; NULL when there are none. The caller frees. */
static char *last_words(const char *output)
{
    size_t end = strlen(output);
    while (end > 0 && strchr(" \n\r\t", output[end - 1]) != NULL)
        end--;
    size_t begin = end;
    for (int lines = 0; begin > 0 && end - begin < LAST_BYTES; begin--) {
        lines += output[begin - 1] == '\n';
        if (lines == LAST_LINES)
            break;
    }
    if (begin == end)
        return NULL;
    AUTO_FREE char *words = memory_format("%.*s", (int)(end - begin), output + begin);
    for (char *newline = words; (newline = strchr(newline, '\n')) != NULL;)
        *newline = '/';
    return text_escape(words, strlen(words));
}

static int judge(const char *path, int status, const char *output, struct error *error)
{
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    if (WIFSIGNALED(status))
        error_set(error, STATUS_FAILED, "%s was ended by signal %d (%s)", path, WTERMSIG(status),
                  strsignal(WTERMSIG(status)));
    else
        error_set(error, STATUS_FAILED, "%s ended with exit status %d", path, WEXITSTATUS(status));
    AUTO_FREE char *words = output != NULL ? last_words(output) : NULL;
    return words != NULL ? error_append(error, ": %s", words) : -1;
}

int hook_run(const char *path, const char *const *arguments,
             const struct hook_environment *environment, deadline_t deadline, struct error *error)
{
    if (hook_check(path, error) != 0)
        return -1;
    /* The child works in "/": a name relative to our directory would be another one there. */
    AUTO_FREE char *absolute = path[0] == '/' ? memory_copy(path) : realpath(path, NULL);
    if (absolute == NULL)
        return error_errno(error, STATUS_FAILED, "%s", path);
    size_t count = 0, variables = environment != NULL ? environment->count : 0;
    while (arguments != NULL && arguments[count] != NULL)
        count++;
    AUTO_FREE const char **argv = memory_zeroed(count + 2, sizeof *argv);
    AUTO_FREE const char **words = memory_zeroed(variables + 3, sizeof *words);
    argv[0] = absolute;
    for (size_t i = 0; i < count; i++)
        argv[i + 1] = arguments[i];
    words[0] = HOOK_PATH;
    words[1] = "LC_ALL=C";
    for (size_t i = 0; i < variables; i++)
        words[i + 2] = environment->items[i];
    const struct process_spec spec = {.argv = argv,
                                      .environment = words,
                                      .input = -1,
                                      .output = -1,
                                      .errors = -1,
                                      .pid_lock = -1,
                                      .die_with_parent = true,
                                      .new_session = true};
    AUTO_FREE char *output = NULL;
    int status = process_run(&spec, deadline, &output, error);
    if (status >= 0)
        return judge(path, status, output, error);
    AUTO_FREE char *said = output != NULL ? last_words(output) : NULL;
    return said != NULL ? error_append(error, ": %s", said) : -1;
}
