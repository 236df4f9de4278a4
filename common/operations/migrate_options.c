/* SPDX-License-Identifier: BSD-2-Clause */
/* Which options of kvm-migrate go together, and with which action. */
#include <string.h>

#include "kvm/base/error.h"
#include "kvm/base/text.h"
#include "kvm/base/transaction.h"
#include "kvm/operations/migrate.h"

static bool is(const char *action, const char *word)
{
    return strcmp(action, word) == 0;
}

bool migrate_takes_target(const char *action)
{
    return is(action, "to") || is(action, "check") || is(action, "rehearse") || is(action, "offer");
}

static int check_target(const char *target, struct error *error)
{
    if (target[0] == '\0')
        return error_set(error, STATUS_USAGE, "TARGET: is empty; name the node to migrate to");
    if (target[0] == '-' || text_has_control(target) || strpbrk(target, " \t") != NULL)
        return error_set(error, STATUS_USAGE,
                         "TARGET: must be a host name or an address (current value: \"%s\")",
                         target);
    return 0;
}

/* An option that an action would ignore is refused: whoever has typed it means something by it. */
struct given {
    const char *option;
    bool is_given;
    const char *actions; /* that it means something to */
};

static int check_given(const struct given *given, size_t count, const char *action,
                       struct error *error)
{
    for (size_t i = 0; i < count; i++)
        if (given[i].is_given && !text_list_has(given[i].actions, ", ", action))
            return error_set(error, STATUS_USAGE, "%s: takes no %s; that goes with: %s", action,
                             given[i].option, given[i].actions);
    return 0;
}

static int check_action(const struct migrate_options *options, const char *action,
                        struct error *error)
{
    static const char here[] = "to, check, rehearse", offered[] = "to, check, rehearse, offer",
                      again[] = "to, check, rehearse, offer, recover",
                      copying[] = "to, check, rehearse, send";
    const struct given given[] = {
        {"--remote", options->remote != NULL, "to, check, rehearse, recover, finish"},
        {"--address", options->address != NULL, again},
        {"--port", options->port >= 0, again},
        {"--bandwidth", options->bandwidth_mib >= 0, again},
        {"--downtime", options->downtime_ms >= 0, offered},
        {"--deadline", options->deadline_ms >= 0, copying},
        {"--on-deadline", options->on_deadline != ON_DEADLINE_NONE, copying},
        {"--auto-converge", options->auto_converge, offered},
        {"--postcopy", options->postcopy, here},
        {"--multifd", options->multifd > 0, here},
        {"--multifd-compression", options->multifd_compression != NULL, here},
        {"--tls-x509", options->tls_x509 != NULL, offered},
        {"--tunnel", options->tunnel, here},
        {"--plain-tcp", options->plain_tcp, offered},
        {"--non-live", options->non_live, "to, check, offer"},
        {"--copy-disks", options->copy_disks != NULL, here},
        {"--disk-path", options->disk_paths != NULL, here},
        {"--disk-port", options->disk_port >= 0, here},
        {"--overwrite-disks", options->overwrite_disks, here},
        {"--in-place", options->in_place, "to, check, rehearse, serve"},
        {"--token", options->token != NULL, "commit, abort, finish"},
    };

    return check_given(given, COUNT(given), action, error);
}

static int check_deadline(const struct migrate_options *options, const char *action,
                          struct error *error)
{
    if (options->on_deadline != ON_DEADLINE_NONE && options->deadline_ms < 0)
        return error_set(error, STATUS_USAGE, "--on-deadline goes with --deadline only");
    if (is(action, "send") && options->on_deadline == ON_DEADLINE_POSTCOPY)
        return error_set(error, STATUS_USAGE,
                         "send: --on-deadline postcopy: post-copy needs the session of 'to'");
    if (is(action, "rehearse") && options->on_deadline == ON_DEADLINE_PAUSE)
        return error_set(error, STATUS_USAGE,
                         "rehearse: --on-deadline pause: a rehearsal does not pause the guest");
    return 0;
}

static int check_multifd(const struct migrate_options *options, struct error *error)
{
    const char *method = options->multifd_compression;

    if (method != NULL && !is(method, "none") && !is(method, "zlib") && !is(method, "zstd"))
        return error_set(
            error, STATUS_USAGE,
            "--multifd-compression: must be none, zlib or zstd (current value: \"%s\")", method);
    if (method != NULL && options->multifd == 0)
        return error_set(error, STATUS_USAGE, "--multifd-compression goes with --multifd only");
    if (options->multifd > 0 && options->tunnel)
        return error_set(error, STATUS_USAGE,
                         "--multifd and --tunnel exclude each other: a tunnel is one stream");
    return 0;
}

static int check_postcopy(const struct migrate_options *options, struct error *error)
{
    const char *odd = options->multifd > 0          ? "multifd"
                      : options->tunnel             ? "tunnel"
                      : options->non_live           ? "non-live"
                      : options->in_place           ? "in-place"
                      : options->copy_disks != NULL ? "copy-disks"
                                                    : NULL;

    if ((!options->postcopy && options->on_deadline != ON_DEADLINE_POSTCOPY) || odd == NULL)
        return 0;
    return error_set(error, STATUS_USAGE, "post-copy and --%s exclude each other", odd);
}

static int check_connection(const struct migrate_options *options, struct error *error)
{
    if (options->address != NULL && options->address[0] == '\0')
        return error_set(error, STATUS_USAGE, "--address: is empty");
    if (options->tls_x509 != NULL && options->plain_tcp)
        return error_set(error, STATUS_USAGE, "--tls-x509 and --plain-tcp exclude each other");
    if (options->tls_x509 != NULL && options->tls_x509[0] != '/')
        return error_set(error, STATUS_USAGE,
                         "--tls-x509: must be an absolute path, it is the same on both nodes "
                         "(current value: \"%s\")",
                         options->tls_x509);
    return 0;
}

static int check_disks(const struct migrate_options *options, struct error *error)
{
    bool others =
        options->disk_paths != NULL || options->overwrite_disks || options->disk_port >= 0;

    if (options->copy_disks == NULL && others)
        return error_set(
            error, STATUS_USAGE,
            "--disk-path, --disk-port and --overwrite-disks go with --copy-disks only");
    if (options->overwrite_disks && options->rehearse)
        return error_set(error, STATUS_USAGE,
                         "--overwrite-disks: a rehearsal overwrites nothing; it can't be put back");
    if (options->copy_disks != NULL && options->tunnel)
        return error_set(error, STATUS_USAGE,
                         "--copy-disks and --tunnel exclude each other: a tunnel is one stream, "
                         "and each disk needs one of its own");
    if (options->disk_port > 0 && options->disk_port == options->port)
        return error_set(error, STATUS_USAGE,
                         "--disk-port: must not be that of --port (current value: %lld)",
                         (long long)options->disk_port);
    return 0;
}

/* What has to do with another node has no meaning in place. */
static int check_in_place(const struct migrate_options *options, const char *action,
                          struct error *error)
{
    const char *odd = options->remote != NULL       ? "--remote"
                      : options->address != NULL    ? "--address"
                      : options->port >= 0          ? "--port"
                      : options->multifd > 0        ? "--multifd"
                      : options->tls_x509 != NULL   ? "--tls-x509"
                      : options->tunnel             ? "--tunnel"
                      : options->plain_tcp          ? "--plain-tcp"
                      : options->copy_disks != NULL ? "--copy-disks"
                                                    : NULL;

    if (!options->in_place || is(action, "serve"))
        return 0;
    if (!is(options->target, "localhost"))
        return error_set(error, STATUS_USAGE,
                         "--in-place: the guest stays on this node, so the target is localhost "
                         "(current value: \"%s\")",
                         options->target);
    if (odd != NULL)
        return error_set(error, STATUS_USAGE, "--in-place and %s exclude each other", odd);
    return 0;
}

int migrate_check_options(const struct migrate_options *options, const char *action,
                          struct error *error)
{
    if ((migrate_takes_target(action) && check_target(options->target, error) < 0) ||
        check_action(options, action, error) < 0 || check_deadline(options, action, error) < 0 ||
        check_multifd(options, error) < 0 || check_postcopy(options, error) < 0 ||
        check_connection(options, error) < 0 || check_disks(options, error) < 0 ||
        check_in_place(options, action, error) < 0)
        return -1;
    return 0;
}
