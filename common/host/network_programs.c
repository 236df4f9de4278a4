/* SPDX-License-Identifier: BSD-2-Clause */
#include "network_private.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "kvm/base/memory.h"
#include "kvm/base/process.h"
#include "kvm/base/text.h"

enum { OUTPUT_SHOWN = 300 };

bool program_find(const char *name, char *path)
{
    static const char *const places[] = {"/usr/local/sbin", "/usr/local/bin", "/usr/sbin",
                                         "/usr/bin",        "/sbin",          "/bin"};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        snprintf(path, PROGRAM_PATH_SIZE, "%s/%s", places[i], name);
        if (access(path, X_OK) == 0)
            return true;
    }
    return false;
}

int program_run(const char **words, deadline_t deadline, char **output, struct error *error)
{
    static const char *const environment[] = {
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", NULL};
    char path[PROGRAM_PATH_SIZE];
    if (!program_find(words[0], path))
        return error_set(error, STATUS_FAILED, "%s is not installed", words[0]);
    words[0] = path;
    const struct process_spec spec = {.argv = words,
                                      .environment = environment,
                                      .input = -1,
                                      .output = -1,
                                      .errors = -1,
                                      .pid_lock = -1,
                                      .die_with_parent = true};
    int status = process_run(&spec, deadline, output, error);
    if (status < 0)
        return -1;
    if (!WIFEXITED(status))
        return error_set(error, STATUS_FAILED, "%s was ended by signal %d", path, WTERMSIG(status));
    return WEXITSTATUS(status);
}

int program_must(const char **words, deadline_t deadline, struct error *error)
{
    const char *name = words[0];
    AUTO_FREE char *output = NULL;
    int status = program_run(words, deadline, &output, error);
    if (status <= 0)
        return status;
    if (output == NULL)
        return error_set(error, STATUS_FAILED, "%s ended with exit status %d", name, status);
    size_t length = strcspn(output, "\n");
    AUTO_FREE char *said = text_escape(output, length < OUTPUT_SHOWN ? length : OUTPUT_SHOWN);
    return error_set(error, STATUS_FAILED, "%s ended with exit status %d: %s", name, status, said);
}
