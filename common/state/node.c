/* SPDX-License-Identifier: BSD-2-Clause */
#include "kvm/state/node.h"

#include <fcntl.h>
#include <string.h>
#include "kvm/base/file.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/text.h"
#include "kvm/state/check.h"
#include "kvm/state/hvparams.h"

enum { NODE_FILE_MAX = 1024 * 1024, POOL_MAX = 65536 };

/* Names that Ganeti has beside the three that matter on a node are accepted and not used. */
static const char *const beparams_known[] = {"maxmem", "minmem", "memory", "vcpus", NULL};
static const char *const beparams_ignored[] = {"auto_balance", "always_failover", "spindle_use",
                                               NULL};
static const char *const nicparams_known[] = {"mode", "link", "vlan", NULL};
static const char *const nic_modes[] = {"bridged", "routed", "openvswitch", NULL};
static const char *const node_known[] = {"hvparams",  "beparams",    "nicparams", "uid_pool",
                                         "state_dir", "disk_places", NULL};

/* "4000" or "4000-4019". Root and 2^32-1, which means "no uid", are never in a pool. */
static bool parse_range(const char *text, int64_t *first, int64_t *last)
{
    const int64_t most = (int64_t)UINT32_MAX - 1;
    AUTO_FREE char *copy = memory_copy(text);
    char *dash = strchr(copy, '-');
    if (dash != NULL)
        *dash = '\0';
    if (!text_number(copy, 1, most, first))
        return false;
    *last = *first;
    return dash == NULL || text_number(dash + 1, *first, most, last);
}

static int compare_uids(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;
    return (left > right) - (left < right);
}

/* Cuts `text` up. */
static int parse_pool(char *text, const char *source, uint32_t **uids, size_t *count,
                      struct error *error)
{
    AUTO_FREE uint32_t *pool = NULL;
    size_t total = 0;
    for (char *next; text != NULL; text = next) {
        int64_t first, last;
        next = strchr(text, ',');
        if (next != NULL)
            *next++ = '\0';
        if (!parse_range(text, &first, &last))
            return error_set(error, STATUS_USAGE,
                             "%s: uid_pool: \"%s\" is neither a uid nor a range like 4000-4019",
                             source, text);
        if (last - first >= POOL_MAX - (int64_t)total)
            return error_set(error, STATUS_USAGE, "%s: uid_pool: more than %d uids", source,
                             POOL_MAX);
        pool = memory_resize(pool, total + (size_t)(last - first + 1), sizeof(pool[0]));
        for (int64_t uid = first; uid <= last; uid++)
            pool[total++] = (uint32_t)uid;
    }
    if (pool != NULL)
        qsort(pool, total, sizeof(pool[0]), compare_uids);
    for (size_t i = 1; pool != NULL && i < total; i++) {
        if (pool[i - 1] == pool[i])
            return error_set(error, STATUS_USAGE, "%s: uid_pool: %u is in it twice", source,
                             (unsigned)pool[i]);
    }
    *uids = pool;
    pool = NULL;
    *count = total;
    return 0;
}

int node_uid_pool(const struct node *node, uint32_t **uids, size_t *count, struct error *error)
{
    const char *given = json_text(node->defaults, "uid_pool");
    *uids = NULL;
    *count = 0;
    if (given == NULL || *given == '\0')
        return 0;
    AUTO_FREE char *text = memory_copy(given);
    return parse_pool(text, node->source, uids, count, error);
}

static void check_beparams(const json_t *given, const struct check *check)
{
    int64_t ignored;
    check_keys(check, given, beparams_known, beparams_ignored);
    check_number(check, given, "maxmem", 1, INT64_MAX, &ignored);
    check_number(check, given, "minmem", 1, INT64_MAX, &ignored);
    check_number(check, given, "memory", 1, INT64_MAX, &ignored);
    check_number(check, given, "vcpus", 1, INT64_MAX, &ignored);
}

static void check_nicparams(const json_t *given, const struct check *check)
{
    check_keys(check, given, nicparams_known, NULL);
    check_choice(check, given, "mode", nic_modes);
    check_text(check, given, "link");
    check_text(check, given, "vlan");
}

static void check_places(const struct check *check, const json_t *defaults)
{
    size_t i;
    json_t *one;

    json_array_foreach (check_array(check, defaults, "disk_places"), i, one) {
        AUTO_FREE char *key = memory_format("disk_places[%zu]", i);
        if (!json_is_string(one))
            check_fail(check, key, one, "must be a string");
        else if (!check_is_path(json_string_value(one)))
            check_fail(check, key, one,
                       "must be an absolute path without \".\", \"..\" or empty "
                       "components");
    }
}

static void check_defaults(const struct node *node, struct messages *problems)
{
    AUTO_FREE char *prefix = memory_format("%s: ", node->source);
    AUTO_FREE char *hvparams = memory_format("%s: hvparams", node->source);
    AUTO_FREE char *beparams = memory_format("%s: beparams.", node->source);
    AUTO_FREE char *nicparams = memory_format("%s: nicparams.", node->source);
    struct check check = {prefix, problems};
    check_keys(&check, node->defaults, node_known, NULL);

    const json_t *part = check_object(&check, node->defaults, "hvparams");
    if (part != NULL)
        hvparams_check(part, hvparams, problems);
    part = check_object(&check, node->defaults, "beparams");
    if (part != NULL)
        check_beparams(part, &(struct check){beparams, problems});
    part = check_object(&check, node->defaults, "nicparams");
    if (part != NULL)
        check_nicparams(part, &(struct check){nicparams, problems});

    check_path(&check, node->defaults, "state_dir");
    check_places(&check, node->defaults);
    AUTO_FREE uint32_t *uids = NULL;
    size_t count;
    struct error fault;
    if (check_text(&check, node->defaults, "uid_pool") != NULL &&
        node_uid_pool(node, &uids, &count, &fault) < 0)
        messages_add(problems, "%s", fault.text);
}

static int load(struct node *node, struct error *error)
{
    AUTO_FREE char *bytes = NULL;
    size_t length;
    if (file_read(AT_FDCWD, node->source, NODE_FILE_MAX, true, &bytes, &length, error) < 0) {
        if (error != NULL && file_is_refused())
            error->status = STATUS_USAGE;
        if (!file_is_missing())
            return -1;
        node->defaults = memory_json(json_object());
        return 0;
    }
    node->defaults = json_parse(bytes, length, node->source, error);
    if (node->defaults == NULL) {
        if (error != NULL)
            error->status = STATUS_USAGE;
        return -1;
    }
    if (!json_is_object(node->defaults))
        return error_set(error, STATUS_USAGE, "%s: must be an object, it is %s", node->source,
                         json_type_name(node->defaults));
    AUTO_MESSAGES struct messages problems = {0};
    check_defaults(node, &problems);
    return problems.count > 0 ? messages_error(&problems, STATUS_USAGE, error) : 0;
}

/* It stands in runtime files, and commands in other directories look there. */
static int settle_state_path(struct node *node, struct error *error)
{
    const char *given = getenv("KVM_STATE_DIR");

    if (given == NULL || given[0] == '\0') {
        given = json_text(node->defaults, "state_dir");
        node->state_path = memory_copy(given != NULL ? given : KVM_SUITE_STATE_DIR);
        return 0;
    }
    node->state_path = file_absolute(given);
    if (node->state_path == NULL)
        return error_errno(error, STATUS_FAILED, "KVM_STATE_DIR: current directory");
    if (text_is_utf8(given) && !text_has_control(given) && check_is_path(node->state_path))
        return 0;
    return error_set(error, STATUS_USAGE,
                     "KVM_STATE_DIR: must be plain text without \".\", \"..\" or empty components "
                     "(current value: \"%s\")",
                     given);
}

int node_open(struct node *node, const char *conf_dir, struct error *error)
{
    *node = (struct node){0};
    if (!text_is_utf8(conf_dir) || text_has_control(conf_dir)) /* it stands in JSON */
        return error_set(error, STATUS_USAGE,
                         "configuration directory %s: its name is not plain text", conf_dir);
    node->path = file_absolute(conf_dir);
    if (node->path == NULL)
        return error_errno(error, STATUS_FAILED, "%s: current directory", conf_dir);
    node->source = memory_format("%s/kvm-defaults.json", node->path);
    if (load(node, error) == 0 && settle_state_path(node, error) == 0)
        return 0;
    node_close(node);
    return -1;
}

void node_close(struct node *node)
{
    if (node == NULL)
        return;
    free(node->path);
    free(node->source);
    free(node->state_path);
    json_release(&node->defaults);
    *node = (struct node){0};
}
