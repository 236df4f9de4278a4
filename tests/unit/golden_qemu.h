/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the tests share that give golden words to the real QEMU: a scratch directory that takes the place of /srv/golden,
 * with the certificates that the definitions name.
 */
#ifndef KVM_TESTS_GOLDEN_QEMU_H
#define KVM_TESTS_GOLDEN_QEMU_H

#include <sched.h>
#include <unistd.h>
#include "golden.h"
#include "kvm/base/file.h"
#include "kvm/base/process.h"
#include "qemu.h"

enum { LIMIT_MS = 30000 };

static char scratch[] = "/tmp/kvm-suite-golden-XXXXXX";
static const char placeholder[] = "/srv/golden";

/* All occurrences of `from` replaced. */
static char *replaced(const char *text, const char *from, const char *to)
{
    const char *found = strstr(text, from);

    if (found == NULL)
        return memory_copy(text);
    AUTO_FREE char *rest = replaced(found + strlen(from), from, to);
    return memory_format("%.*s%s%s", (int)(found - text), text, to, rest);
}

/* A shell's status; "$1" is the scratch directory. */
static int in_shell(const char *script)
{
    const char *const argv[] = {"/bin/sh", "-c", script, "sh", scratch, NULL};
    const char *const environment[] = {"PATH=/usr/bin:/bin", NULL};
    struct process_spec spec = {.argv = argv,
                                .environment = environment,
                                .input = -1,
                                .output = -1,
                                .errors = -1,
                                .pid_lock = -1};

    return process_run(&spec, clock_deadline(LIMIT_MS), NULL, NULL);
}

/*
 * The golden definitions have fixed ports: in a network of its own no other test and no program of this node has one of
 * them. The bridge has an address, since SPICE listens only where there is one besides that of lo.
 */
static bool own_network(void)
{
    if (geteuid() != 0)
        return true;
    CHECK(unshare(CLONE_NEWNET) == 0);
    CHECK_NUMBER(
        in_shell("PATH=$PATH:/usr/sbin:/sbin; ip link set lo up && ip link add own type bridge && "
                 "ip addr add 10.7.0.1/24 dev own && ip link set own up"),
        0);
    return true;
}

/* What VNC and SPICE want for TLS; "spice.pem" holds both certificate and key. */
static bool make_certificates(void)
{
    CHECK_NUMBER(
        in_shell(
            "mkdir \"$1/x509,1\" && cd \"$1/x509,1\" && exec 2>/dev/null && "
            "curve='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes' && "
            "openssl req -x509 $curve -keyout ca-key.pem -out ca-cert.pem -days 2 -subj /CN=ca "
            "-addext keyUsage=critical,keyCertSign && "
            "openssl req $curve -keyout server-key.pem -out request -subj /CN=localhost && "
            "openssl x509 -req -in request -CA ca-cert.pem -CAkey ca-key.pem -CAcreateserial "
            "-days 2 -out server-cert.pem && cp ca-cert.pem ../spice-ca.pem && "
            "cat server-cert.pem server-key.pem >../spice.pem"),
        0);
    return true;
}

static void remove_scratch(void)
{
    in_shell("rm -rf -- \"$1\"");
}

#endif
