/* SPDX-License-Identifier: BSD-2-Clause */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kvm/operations/operation_hooks.h"
#include "kvm/base/memory.h"

static const char *const programs[] = {
    [OPERATION_START] = "kvm-start",     [OPERATION_STOP] = "kvm-stop",
    [OPERATION_REBOOT] = "kvm-stop",     [OPERATION_HOTPLUG] = "kvm-hotplug",
    [OPERATION_MIGRATE] = "kvm-migrate", [OPERATION_CLEANUP] = "kvm-cleanup",
};

static char *directory_of(const struct node *node, enum operation_kind kind, const char *phase)
{
    return memory_format("%s/hooks/%s-%s.d", node->path, programs[kind], phase);
}

static int is_hook(const struct dirent *entry)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    return entry->d_name[strspn(entry->d_name, plain)] == '\0';
}

static int by_bytes(const struct dirent **one, const struct dirent **other)
{
    return strcmp((*one)->d_name, (*other)->d_name);
}

/* The paths of what is to be run, in order; NULL-terminated, release_paths frees. No directory: none. */
static int list_hooks(const char *directory, char ***paths, struct error *error)
{
    struct dirent **entries = NULL;
    size_t count = 0;

    *paths = NULL;
    int found = scandir(directory, &entries, is_hook, by_bytes);
    if (found < 0)
        return errno == ENOENT ? 0 : error_errno(error, STATUS_FAILED, "%s", directory);
    *paths = memory_zeroed((size_t)found + 1, sizeof(**paths));
    for (int i = 0; i < found; i++) {
        char *path = memory_format("%s/%s", directory, entries[i]->d_name);
        struct stat status;
        bool nested = stat(path, &status) == 0 && S_ISDIR(status.st_mode);
        if (!nested && access(path, X_OK) == 0)
            (*paths)[count++] = path;
        else
            free(path);
        free(entries[i]);
    }
    free(entries);
    return 0;
}

static void release_paths(char ***paths)
{
    for (size_t i = 0; *paths != NULL && (*paths)[i] != NULL; i++)
        free((*paths)[i]);
    free(*paths);
    *paths = NULL;
}
#define AUTO_PATHS __attribute__((cleanup(release_paths)))

/* Returns how many ran. The first failure ends it, or, with `warnings`, is one of them and the others go on. */
static int run_all(const struct operation *operation, const char *phase, struct messages *warnings,
                   struct error *error)
{
    AUTO_FREE char *directory = directory_of(operation->node, operation->kind, phase);
    AUTO_PATHS char **paths = NULL;
    AUTO_HOOK_ENVIRONMENT struct hook_environment environment = {0};

    if (list_hooks(directory, &paths, error) < 0)
        return -1;
    if (paths == NULL || paths[0] == NULL)
        return 0;
    operation_environment(operation, phase, &environment);
    int count = 0;
    for (; paths[count] != NULL; count++) {
        if (hook_run(paths[count], NULL, &environment, operation->deadline, error) == 0)
            continue;
        if (warnings == NULL)
            return -1;
        messages_add(warnings, "%s", error->text);
    }
    return count;
}

int operation_hooks_pre(const struct operation *operation, struct error *error)
{
    int count = run_all(operation, "pre", NULL, error);
    if (count >= 0)
        return count;
    error->status = STATUS_FAILED; /* nothing goes on because a hook's time was up */
    return error_append(error, "; nothing was changed");
}

bool operation_hooks_exist(const struct node *node, enum operation_kind kind)
{
    AUTO_FREE char *directory = directory_of(node, kind, "pre");
    AUTO_PATHS char **paths = NULL;

    return list_hooks(directory, &paths, NULL) < 0 || (paths != NULL && paths[0] != NULL);
}

void operation_hooks_post(const struct operation *operation, struct messages *warnings)
{
    struct error error = {0};

    if (run_all(operation, "post", warnings, &error) < 0)
        messages_add(warnings, "%s", error.text);
}

void operation_hooks_describe(const struct node *node, enum operation_kind kind, json_t *list)
{
    static const char *const phases[] = {"pre", "post"};

    for (size_t phase = 0; phase < 2; phase++) {
        AUTO_FREE char *directory = directory_of(node, kind, phases[phase]);
        AUTO_PATHS char **paths = NULL;
        list_hooks(directory, &paths, NULL);
        for (size_t i = 0; paths != NULL && paths[i] != NULL; i++) {
            AUTO_FREE char *words = memory_format("run %s", paths[i]);
            json_array_append_new(list, memory_json(json_string(words)));
        }
    }
}
