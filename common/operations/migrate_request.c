/* SPDX-License-Identifier: BSD-2-Clause */
/* What comes from the other side, as a request of a session or as a document: its form, before anything is done by it. */
#include <string.h>

#include "migrate_serving.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/state/check.h"

enum { TOKEN_LENGTH = 32, KEY_LENGTH = 64, PORT_MOST = 65535, BANDWIDTH_MOST = 1000000 };
enum { DOWNTIME_MOST = 2000000 };

static void check_hex(const struct check *check, const json_t *object, const char *key,
                      size_t length, bool needed)
{
    const json_t *value = json_object_get(object, key);
    const char *text = json_string_value(value);

    if (value == NULL && !needed)
        return;
    if (text == NULL || strlen(text) != length || strspn(text, "0123456789abcdef") != length)
        messages_add(check->problems, "%s%s: must be %zu hex digits", check->prefix, key, length);
}

static void check_flags(const struct check *check, const json_t *object, const char *const *keys)
{
    for (size_t i = 0; keys[i] != NULL; i++) {
        const json_t *value = json_object_get(object, keys[i]);
        if (value != NULL && !json_is_boolean(value))
            check_fail(check, keys[i], value, "must be true or false");
    }
}

static void need(const struct check *check, const json_t *object, const char *key)
{
    if (json_member(object, key) == NULL)
        check_fail(check, key, NULL, "is missing");
}

/* A host may be named by a word; an empty one would mean all addresses. */
static void check_host(const struct check *check, const json_t *object, const char *key)
{
    const char *text = check_text(check, object, key);

    if (text != NULL && text[0] == '\0')
        check_fail(check, key, json_object_get(object, key), "must not be empty");
}

static void check_capabilities(const struct check *check, const json_t *plan)
{
    size_t i;
    json_t *one;

    json_array_foreach (json_member(plan, "capabilities"), i, one) {
        AUTO_FREE char *key = memory_format("plan.capabilities[%zu]", i);
        if (json_text(one, "capability") == NULL || !json_is_boolean(json_object_get(one, "state")))
            check_fail(check, key, one, "must tell a capability and its state");
    }
}

int migrate_check_request(const json_t *request, const char *source, struct error *error)
{
    static const char *const flags[] = {"tls", "tunnel", "multifd", "overwrite", "rehearse", NULL};
    AUTO_MESSAGES struct messages problems = {0};
    AUTO_FREE char *prefix = memory_format("%s: ", source);
    const struct check check = {prefix, &problems};
    int64_t ignored;

    check_hex(&check, request, "id", TOKEN_LENGTH, false);
    check_hex(&check, request, "commit_token", TOKEN_LENGTH, true);
    check_hex(&check, request, "abort_token", TOKEN_LENGTH, true);
    check_hex(&check, request, "vote_token", TOKEN_LENGTH, false);
    check_host(&check, request, "address");
    check_number(&check, request, "port", 0, PORT_MOST, &ignored);
    check_number(&check, request, "disk_port", 0, PORT_MOST, &ignored);
    check_number(&check, request, "silence", 1, MIGRATE_SILENCE_MOST_S, &ignored);
    check_path(&check, request, "x509");
    check_text(&check, request, "peer");
    check_text(&check, request, "paused");
    check_text(&check, request, "postcopy");
    check_flags(&check, request, flags);
    if (!migrate_is_plan(json_member(request, "plan")))
        messages_add(&problems, "%splan: the request has no plan of the migration", prefix);
    check_capabilities(&check, json_member(request, "plan"));
    return problems.count == 0 ? 0 : messages_error(&problems, STATUS_USAGE, error);
}

/* The offer's options, which the source gets back: read with the same care as a command line. */
static void check_options(const char *source, const json_t *options, struct messages *problems)
{
    static const char *const flags[] = {"auto_converge", "non_live", "plain_tcp", NULL};
    AUTO_FREE char *prefix = memory_format("%s: options.", source);
    const struct check check = {prefix, problems};
    int64_t ignored;

    need(&check, options, "target");
    need(&check, options, "bandwidth");
    need(&check, options, "downtime");
    check_host(&check, options, "target");
    check_number(&check, options, "bandwidth", -1, BANDWIDTH_MOST, &ignored);
    check_number(&check, options, "downtime", -1, DOWNTIME_MOST, &ignored);
    check_flags(&check, options, flags);
}

static bool is_document(const json_t *document, const char *word)
{
    const char *kind = json_text(document, "document");
    return kind != NULL && strcmp(kind, word) == 0;
}

int migrate_check_offer(const json_t *offer, const char *source, struct error *error)
{
    AUTO_MESSAGES struct messages problems = {0};
    AUTO_FREE char *prefix = memory_format("%s: ", source);
    const struct check check = {prefix, &problems};
    const json_t *disks = json_member(offer, "disks");

    if (!is_document(offer, "offer"))
        return error_set(error, STATUS_USAGE,
                         "%s: is not what 'kvm-migrate INSTANCE offer' has written", source);
    if (json_truth(offer, "multifd", false) || json_truth(offer, "tunnel", false))
        return error_set(error, STATUS_USAGE, "%s: multifd and tunnel need the session of 'to'",
                         source);
    /* Nobody would fill their disks before the vote. */
    if (disks != NULL && (!json_is_array(disks) || json_array_size(disks) > 0))
        return error_set(error, STATUS_USAGE, "%s: disks: copies need the session of 'to'", source);
    check_hex(&check, offer, "id", TOKEN_LENGTH, true);
    check_hex(&check, offer, "vote_token", TOKEN_LENGTH, true);
    need(&check, offer, "address");
    need(&check, offer, "options");
    const json_t *options = check_object(&check, offer, "options");
    if (options != NULL)
        check_options(source, options, &problems);
    if (problems.count > 0)
        return messages_error(&problems, STATUS_USAGE, error);
    return migrate_check_request(offer, source, error);
}

int migrate_check_accepted(const json_t *accepted, const char *source, struct error *error)
{
    AUTO_MESSAGES struct messages problems = {0};
    AUTO_FREE char *prefix = memory_format("%s: ", source);
    const struct check check = {prefix, &problems};
    const char *key = json_text(accepted, "key");
    int64_t ignored;

    if (!is_document(accepted, "accepted"))
        return error_set(error, STATUS_USAGE,
                         "%s: is not what 'kvm-migrate INSTANCE accept' has written", source);
    check_hex(&check, accepted, "commit_token", TOKEN_LENGTH, true);
    check_hex(&check, accepted, "abort_token", TOKEN_LENGTH, true);
    check_hex(&check, accepted, "vote_token", TOKEN_LENGTH, true);
    check_hex(&check, accepted, "token", TOKEN_LENGTH, true);
    if (key == NULL || key[0] != '\0') /* none with certificates or without encryption */
        check_hex(&check, accepted, "key", KEY_LENGTH, true);
    need(&check, accepted, "address");
    need(&check, accepted, "port");
    need(&check, accepted, "options");
    need(&check, accepted, "tree");
    check_host(&check, accepted, "address");
    check_number(&check, accepted, "port", 1, PORT_MOST, &ignored);
    check_path(&check, accepted, "x509");
    check_object(&check, accepted, "tree");
    const json_t *options = check_object(&check, accepted, "options");
    if (options != NULL)
        check_options(source, options, &problems);
    return problems.count == 0 ? 0 : messages_error(&problems, STATUS_USAGE, error);
}
