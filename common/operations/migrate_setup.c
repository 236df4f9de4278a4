/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>
#include <string.h>

#include "migrate_private.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/text.h"
#include "kvm/base/transaction.h"
#include "kvm/state/hvparams.h"

/* QEMU's own defaults, 6.2 to 10. */
enum { USUAL_BANDWIDTH = 128 * 1048576, USUAL_DOWNTIME_MS = 300, USUAL_CHANNELS = 2 };

/* Always: the source believes nothing that the target has not confirmed; both pause before the switch, so that the last
 * word is ours; a waiting target holds no image lock; MIGRATION events are logged. */
static const char *const both_sides[] = {"return-path", "events", "pause-before-switchover"};

static void add_capability(json_t *list, const char *name, bool on)
{
    json_array_append_new(
        list, memory_json(json_pack("{s:s, s:b}", "capability", name, "state", (int)on)));
}

bool migrate_is_non_live(const struct instance *instance, const struct migrate_options *options)
{
    return !options->rehearse && /* which promises that the guest does not stand */
           (options->non_live ||
            strcmp(hvparams_text(instance->hvparams, "migration_mode"), "non-live") == 0);
}

bool migrate_has_capability(const struct instance *instance, const char *name)
{
    return text_list_has(hvparams_text(instance->hvparams, "migration_caps"), ":", name);
}

bool migrate_is_postcopy(const struct instance *instance, const struct migrate_options *options)
{
    return !options->in_place &&
           (options->postcopy || migrate_has_capability(instance, "postcopy-ram"));
}

bool migrate_may_postcopy(const struct instance *instance, const struct migrate_options *options)
{
    return migrate_is_postcopy(instance, options) || options->on_deadline == ON_DEADLINE_POSTCOPY;
}

static void add_tls(json_t *parameters, const struct migrate_options *options)
{
    const char *host = options->tls_x509 != NULL ? options->target : "kvm-suite";
    bool on = !options->plain_tcp;

    json_object_update_new(parameters,
                           json_pack("{s:s, s:s}", "tls-creds", on ? "kvm-suite-tls" : "",
                                     "tls-hostname", on ? host : ""));
}

/* A side that has other channels, or another compression, hangs without a word: both get them from here. */
static void add_multifd(json_t *capabilities, json_t *parameters,
                        const struct migrate_options *options)
{
    if (options->multifd <= 0)
        return;
    add_capability(capabilities, "multifd", true);
    json_object_update_new(parameters,
                           json_pack("{s:I, s:s}", "multifd-channels", (json_int_t)options->multifd,
                                     "multifd-compression", options->multifd_compression));
}

json_t *migrate_plan(const struct instance *instance, const struct migrate_options *options)
{
    const json_t *hvparams = instance->hvparams;
    json_t *capabilities = memory_json(json_array());
    int64_t bandwidth = options->bandwidth_mib >= 0
                            ? options->bandwidth_mib
                            : hvparams_number(hvparams, "migration_bandwidth");
    int64_t downtime = options->downtime_ms >= 0 ? options->downtime_ms
                                                 : hvparams_number(hvparams, "migration_downtime");
    AUTO_FREE char *extra = memory_copy(hvparams_text(hvparams, "migration_caps"));
    char *rest = NULL;

    for (size_t i = 0; i < COUNT(both_sides); i++)
        add_capability(capabilities, both_sides[i], true);
    if (options->auto_converge)
        add_capability(capabilities, "auto-converge", true);
    for (char *name = strtok_r(extra, ":", &rest); name != NULL; name = strtok_r(NULL, ":", &rest))
        if (strcmp(name, "postcopy-ram") != 0)
            add_capability(capabilities, name, true);
    if (migrate_may_postcopy(instance, options))
        add_capability(capabilities, "postcopy-ram", true);
    json_t *parameters = memory_json(
        json_pack("{s:I, s:I}", "max-bandwidth", bandwidth * 1048576, "downtime-limit", downtime));
    if (migrate_may_postcopy(instance, options))
        json_object_set_new(parameters, "max-postcopy-bandwidth",
                            memory_json(json_integer(bandwidth * 1048576)));
    add_tls(parameters, options);
    add_multifd(capabilities, parameters, options);
    return memory_json(
        json_pack("{s:o, s:o}", "capabilities", capabilities, "parameters", parameters));
}

/* What an earlier migration has left switched on is switched off, unless it is wanted again. */
static int switch_off_others(struct qmp *qmp, json_t *capabilities, deadline_t deadline,
                             struct error *error)
{
    AUTO_JSON json_t *all = NULL;
    size_t i, k;
    json_t *one, *wanted;

    if (qmp_call(qmp, "query-migrate-capabilities", NULL, deadline, &all, error) != QMP_DONE)
        return -1;
    json_array_foreach (all, i, one) {
        const char *name = json_text(one, "capability");
        bool ours = name == NULL || !json_truth(one, "state", false);
        json_array_foreach (capabilities, k, wanted) {
            const char *other = json_text(wanted, "capability");
            ours = ours || (other != NULL && strcmp(other, name) == 0);
        }
        if (!ours)
            add_capability(capabilities, name, false);
    }
    return 0;
}

bool migrate_is_plan(const json_t *plan)
{
    return json_is_array(json_member(plan, "capabilities")) &&
           json_is_object(json_member(plan, "parameters"));
}

int migrate_apply(struct qmp *qmp, const json_t *plan, bool target, deadline_t deadline,
                  struct error *error)
{
    json_t *capabilities = memory_json(json_deep_copy(json_member(plan, "capabilities")));
    json_t *parameters = memory_json(json_deep_copy(json_member(plan, "parameters")));

    if (target) {
        add_capability(capabilities, "late-block-activate", true);
        json_object_del(parameters, "tls-hostname");
    }
    if (switch_off_others(qmp, capabilities, deadline, error) < 0)
        return -1;
    json_t *arguments = memory_json(json_pack("{s:o}", "capabilities", capabilities));
    if (qmp_call(qmp, "migrate-set-capabilities", arguments, deadline, NULL, error) == QMP_DONE &&
        qmp_call(qmp, "migrate-set-parameters", parameters, deadline, NULL, error) == QMP_DONE)
        return 0;
    return -1;
}

void migrate_reset(struct qmp *qmp, deadline_t deadline)
{
    AUTO_JSON json_t *capabilities = memory_json(json_array());

    if (switch_off_others(qmp, capabilities, deadline, NULL) < 0)
        return;
    json_t *arguments = memory_json(json_pack("{s:O}", "capabilities", capabilities));
    qmp_call(qmp, "migrate-set-capabilities", arguments, deadline, NULL, NULL);
    qmp_call(qmp, "migrate-set-parameters",
             memory_json(json_pack("{s:s, s:s}", "tls-creds", "", "tls-hostname", "")), deadline,
             NULL, NULL);
    qmp_call(qmp, "migrate-set-parameters",
             memory_json(json_pack("{s:I, s:i, s:i, s:i, s:s}", "max-bandwidth",
                                   (json_int_t)USUAL_BANDWIDTH, "downtime-limit", USUAL_DOWNTIME_MS,
                                   "max-postcopy-bandwidth", 0, "multifd-channels", USUAL_CHANNELS,
                                   "multifd-compression", "none")),
             deadline, NULL, NULL);
}

json_t *migrate_query(struct qmp *qmp, deadline_t deadline, struct error *error)
{
    json_t *reply = NULL;
    return qmp_call(qmp, "query-migrate", NULL, deadline, &reply, error) == QMP_DONE ? reply : NULL;
}

/* ---- the device trees ---- */

/* One property of a device as text (a PCI address is a number: slot and function); "" when it has none. The caller frees. */
static char *property(struct qmp *qmp, const char *path, const char *name, deadline_t deadline)
{
    AUTO_JSON json_t *value = NULL;
    json_t *arguments = memory_json(json_pack("{s:s, s:s}", "path", path, "property", name));

    if (qmp_call(qmp, "qom-get", arguments, deadline, &value, NULL) != QMP_DONE)
        return memory_copy("");
    if (json_is_integer(value))
        return memory_format("slot %lld.%lld", (long long)json_integer_value(value) / 8,
                             (long long)json_integer_value(value) % 8);
    return memory_copy(json_is_string(value) ? json_string_value(value) : "");
}

/* By QOM and not by query-pci: what sits behind a bridge is not shown before a guest has set the bridge up. */
static int add_devices(struct qmp *qmp, json_t *tree, deadline_t deadline, struct error *error)
{
    AUTO_JSON json_t *list = NULL;
    json_t *arguments = memory_json(json_pack("{s:s}", "path", "/machine/peripheral"));
    size_t i;
    json_t *one;

    if (qmp_call(qmp, "qom-list", arguments, deadline, &list, error) != QMP_DONE)
        return -1;
    json_array_foreach (list, i, one) {
        const char *name = json_text(one, "name"), *type = json_text(one, "type");
        if (name == NULL || type == NULL || strncmp(type, "child<", 6) != 0)
            continue;
        AUTO_FREE char *path = memory_format("/machine/peripheral/%s", name);
        AUTO_FREE char *bus = property(qmp, path, "parent_bus", deadline);
        AUTO_FREE char *address = property(qmp, path, "addr", deadline);
        const char *last = strrchr(bus, '/');
        AUTO_FREE char *place = memory_format("device %s", name);
        AUTO_FREE char *what =
            memory_format("%s at %s %s", type, last != NULL ? last + 1 : bus, address);
        json_object_set_new(tree, place, memory_json(json_string(what)));
    }
    return 0;
}

static int add_blocks(struct qmp *qmp, json_t *tree, deadline_t deadline, struct error *error)
{
    AUTO_JSON json_t *blocks = NULL;
    int count = 0;
    size_t i;
    json_t *block;

    if (qmp_call(qmp, "query-block", NULL, deadline, &blocks, error) != QMP_DONE)
        return -1;
    json_array_foreach (blocks, i, block) {
        const json_t *inserted = json_member(block, "inserted");
        const char *device = json_text(block, "qdev");
        /* Those that QEMU made by itself are numbered among all that it made, of which Ganeti's start makes more. */
        bool unnamed = device != NULL && strncmp(device, "/machine/unattached/", 20) == 0;
        AUTO_FREE char *place = unnamed ? memory_format("disk without a name, number %d", ++count)
                                        : memory_format("disk %s", device != NULL ? device : "?");
        AUTO_FREE char *what =
            memory_format("%lld bytes%s",
                          (long long)json_number(json_member(inserted, "image"), "virtual-size", 0),
                          json_truth(inserted, "ro", false) ? ", read-only" : "");
        json_object_set_new(tree, place, memory_json(json_string(what)));
    }
    return 0;
}

json_t *migrate_tree(struct qmp *qmp, deadline_t deadline, struct error *error)
{
    AUTO_JSON json_t *tree = memory_json(json_object());

    if (add_devices(qmp, tree, deadline, error) < 0 || add_blocks(qmp, tree, deadline, error) < 0)
        return NULL;
    return json_incref(tree);
}

void migrate_compare(const json_t *here, const json_t *there, struct messages *problems)
{
    const char *place;
    json_t *value;

    json_object_foreach ((json_t *)(uintptr_t)here, place, value) {
        const char *mine = json_string_value(value), *theirs = json_text(there, place);
        if (theirs == NULL)
            messages_add(problems, "%s: %s here, nothing on the target", place, mine);
        else if (strcmp(mine, theirs) != 0)
            messages_add(problems, "%s: %s here, %s on the target", place, mine, theirs);
    }
    json_object_foreach ((json_t *)(uintptr_t)there, place, value) {
        AUTO_FREE char *shown = text_escape(place, strlen(place));
        if (json_object_get(here, place) == NULL)
            messages_add(problems, "%s: nothing here, a device on the target", shown);
    }
}
