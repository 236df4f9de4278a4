/* SPDX-License-Identifier: BSD-2-Clause */
#include "kvm/operations/definitions.h"

#include <stdlib.h>
#include <string.h>

#include "kvm/base/json.h"
#include "kvm/base/memory.h"

static void read_one(const char *file, deadline_t deadline, struct definition *definition)
{
    struct error error = {0};

    definition->source = strcmp(file, "-") == 0 ? "stdin" : file;
    definition->document = json_read(file, deadline, &error);
    if (definition->document == NULL) {
        definition->fault = memory_zeroed(1, sizeof(*definition->fault));
        *definition->fault = error;
    }
}

static int check_input(const char *const *files, size_t count, struct error *error)
{
    size_t inputs = 0;

    for (size_t i = 0; i < count; i++)
        inputs += strcmp(files[i], "-") == 0;
    return inputs < 2
               ? 0
               : error_set(error, STATUS_USAGE,
                           "'-' is given %zu times: standard input can be read once only", inputs);
}

/* `seen`: name of an instance to the place of its definition. */
static int check_once(const struct definitions *definitions, size_t place, json_t *seen,
                      struct error *error)
{
    const struct definition *definition = &definitions->items[place];
    const char *name = json_text(definition->document, "name");
    const json_t *before = name != NULL ? json_object_get(seen, name) : NULL;

    if (before != NULL)
        return error_set(error, STATUS_USAGE,
                         "%s and %s: both define the instance \"%s\", give one of them; nothing "
                         "was started",
                         definitions->items[json_integer_value(before)].source, definition->source,
                         name);
    if (name != NULL)
        json_object_set_new(seen, name, memory_json(json_integer((json_int_t)place)));
    return 0;
}

int definitions_read(const char *const *files, size_t count, deadline_t deadline,
                     struct definitions *definitions, struct error *error)
{
    AUTO_JSON json_t *seen = memory_json(json_object());

    *definitions = (struct definitions){
        .items = memory_zeroed(count + 1, sizeof(*definitions->items)), .count = count};
    if (check_input(files, count, error) < 0)
        return -1;
    for (size_t i = 0; i < count; i++)
        read_one(files[i], deadline, &definitions->items[i]);
    for (size_t i = 0; i < count; i++)
        if (check_once(definitions, i, seen, error) < 0)
            return -1;
    return 0;
}

void definitions_release(struct definitions *definitions)
{
    for (size_t i = 0; i < definitions->count; i++) {
        json_decref(definitions->items[i].document);
        free(definitions->items[i].fault);
    }
    free(definitions->items);
    *definitions = (struct definitions){0};
}
