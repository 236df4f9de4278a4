/* SPDX-License-Identifier: BSD-2-Clause */
#include "kvm/operations/select.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "kvm/base/memory.h"
#include "kvm/state/instance.h"

static int check(const struct cli_arguments *arguments, bool all, struct error *error)
{
    if (all && arguments->count > 0)
        return error_set(error, STATUS_USAGE, "--all and '%s': give names or --all, not both",
                         arguments->items[0]);
    if (!all && arguments->count == 0)
        return error_set(error, STATUS_USAGE, "which instance? Give names, or --all");
    for (size_t i = 0; i < arguments->count; i++)
        if (instance_check_name(arguments->items[i], error) < 0)
            return -1;
    return 0;
}

/* The same name twice is one instance. Their number. */
static size_t drop_repeated(char **names, size_t count)
{
    size_t kept = 0;

    for (size_t i = 0; i < count; i++) {
        size_t before = 0;
        while (before < kept && strcmp(names[before], names[i]) != 0)
            before++;
        if (before == kept)
            names[kept++] = names[i];
    }
    return kept;
}

int select_open(const struct cli_arguments *arguments, bool all, const struct cli_common *common,
                struct selection *selection, struct error *error)
{
    if (check(arguments, all, error) < 0 ||
        node_open(&selection->node, common->conf_dir, error) < 0)
        return -1;
    if (rundir_open(&selection->rundir, common->run_dir, false, error) < 0) {
        if (error->status != STATUS_STATE || !all)
            return -1;
        selection->notice = *error; /* nothing there is nothing to do, but it may be a slip */
        return 0;
    }
    if (all)
        selection->all = rundir_names(&selection->rundir, &selection->count, error);
    else
        selection->count = drop_repeated(arguments->items, arguments->count);
    selection->names = (const char *const *)(all ? selection->all : arguments->items);
    return selection->names == NULL ? -1 : 0;
}

void select_release(struct selection *selection)
{
    if (selection->all != NULL)
        rundir_names_release(selection->all);
    node_close(&selection->node);
    rundir_close(&selection->rundir);
    *selection = SELECTION_NONE;
}

/* ---- definitions ---- */

static int is_definition(const struct dirent *entry)
{
    size_t length = strlen(entry->d_name);
    return entry->d_name[0] != '.' && length > 5 &&
           strcmp(entry->d_name + length - 5, ".json") == 0;
}

static int by_bytes(const struct dirent **one, const struct dirent **other)
{
    return strcmp((*one)->d_name, (*other)->d_name);
}

static void add(struct selection *selection, char *path)
{
    selection->all = memory_resize(selection->all, selection->count + 2, sizeof(*selection->all));
    selection->all[selection->count++] = path;
    selection->all[selection->count] = NULL;
}

/* How many there are, or -1. */
static int add_directory(struct selection *selection, const char *directory, struct error *error)
{
    struct dirent **entries = NULL;
    size_t length = strlen(directory);
    const char *slash = length > 0 && directory[length - 1] == '/' ? "" : "/";
    int found = scandir(directory, &entries, is_definition, by_bytes);

    if (found < 0)
        return error_errno(error, STATUS_USAGE, "%s", directory);
    for (int i = 0; i < found; i++) {
        add(selection, memory_format("%s%s%s", directory, slash, entries[i]->d_name));
        free(entries[i]);
    }
    free(entries);
    return found;
}

static int add_named(struct selection *selection, const char *word, struct error *error)
{
    struct stat status;

    if (strcmp(word, "-") == 0 || stat(word, &status) < 0 || !S_ISDIR(status.st_mode)) {
        add(selection, memory_copy(word)); /* what can't be read is told with its own result */
        return 0;
    }
    int found = add_directory(selection, word, error);
    if (found == 0)
        return error_set(error, STATUS_USAGE, "%s: there is no definition (*.json) in it", word);
    return found < 0 ? -1 : 0;
}

int select_definitions(const struct cli_arguments *arguments, const char *all,
                       struct selection *selection, struct error *error)
{
    *selection = (struct selection){0};
    if (all != NULL && arguments->count > 0)
        return error_set(error, STATUS_USAGE, "--all and '%s': give files or --all, not both",
                         arguments->items[0]);
    if (all == NULL && arguments->count == 0)
        return error_set(error, STATUS_USAGE,
                         "which definition? Give a FILE, a directory, '-' for standard input, or "
                         "--all");
    int result = 0;
    if (all != NULL)
        result = add_directory(selection, all, error) < 0 && errno != ENOENT ? -1 : 0;
    for (size_t i = 0; i < arguments->count && result == 0; i++)
        result = add_named(selection, arguments->items[i], error);
    selection->names = (const char *const *)selection->all;
    if (result < 0)
        select_release(selection);
    return result;
}
