/* SPDX-License-Identifier: BSD-2-Clause */
/* A fake-qmp of a test's own (tests/fake/fake-qmp.c, built beside the test), in a scratch directory. */
#ifndef KVM_TESTS_FAKE_H
#define KVM_TESTS_FAKE_H

#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include "kvm/base/clock.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/qemu/qmp.h"
#include "scratch.h"

struct fake {
    struct scratch scratch;
    char socket[PATH_MAX]; /* SCRATCH/ctrl/x.qmp; the pid file is SCRATCH/pid/x */
    pid_t pid;
};

/* A program that is built beside this one. */
static inline char *fake_beside(const char *name)
{
    char own[PATH_MAX] = "";
    if (readlink("/proc/self/exe", own, sizeof(own) - 1) < 0)
        return NULL;
    return memory_format("%s/%s", dirname(own), name);
}

static inline void fake_exec(const struct fake *fake, int output)
{
    AUTO_FREE char *program = fake_beside("fake-qmp");
    AUTO_FREE char *script = memory_format("%s/script", fake->scratch.path);
    AUTO_FREE char *query = memory_format("%s/ctrl/x.query", fake->scratch.path);
    AUTO_FREE char *lock = memory_format("%s/pid/x", fake->scratch.path);
    AUTO_FREE char *log = memory_format("%s/commands", fake->scratch.path);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(output, STDOUT_FILENO);
    execl(program, program, fake->socket, script, "--query", query, "--pid-file", lock, "--log",
          log, (char *)NULL);
    perror(program);
    _exit(99);
}

/* Started and listening; a fake that does not start ends the test program. */
static inline struct fake fake_begin(const char *script)
{
    struct fake fake = {.scratch = scratch_begin()};
    int ready[2];
    char word[8];
    snprintf(fake.socket, sizeof(fake.socket), "%s/ctrl/x.qmp", fake.scratch.path);
    mkdirat(fake.scratch.fd, "ctrl", 0700);
    mkdirat(fake.scratch.fd, "pid", 0700);
    if (!scratch_write(&fake.scratch, "script", script) || pipe2(ready, O_CLOEXEC) != 0)
        exit(99);
    fake.pid = fork();
    if (fake.pid == 0)
        fake_exec(&fake, ready[1]);
    close(ready[1]);
    ssize_t got = read(ready[0], word, sizeof(word));
    close(ready[0]);
    if (fake.pid < 0 || got <= 0)
        exit(99);
    return fake;
}

static inline void fake_end(struct fake *fake)
{
    kill(fake->pid, SIGKILL);
    waitpid(fake->pid, NULL, 0);
    scratch_end(&fake->scratch);
}
#define AUTO_FAKE __attribute__((cleanup(fake_end)))

/* For what will come, however busy the machine is. */
static inline deadline_t generous(void)
{
    return clock_deadline(20 * 1000);
}

/* For what will never come. */
static inline deadline_t soon(void)
{
    return clock_deadline(100);
}

static inline struct qmp *fake_connect(const struct fake *fake, struct error *error)
{
    return qmp_connect(fake->socket, false, generous(), error);
}

/* One call of query-status to a server with that script. */
static inline enum qmp_outcome fake_ask(const char *script, json_t **result, struct error *error)
{
    AUTO_FAKE struct fake fake = fake_begin(script);
    AUTO_QMP struct qmp *qmp = fake_connect(&fake, error);
    if (qmp == NULL)
        return (enum qmp_outcome) - 100;
    return qmp_call(qmp, "query-status", NULL, generous(), result, error);
}

/* A connection to a server that has greeted, taken the first command, and reads nothing more; *server is its end. */
static inline struct qmp *greeted_by_nobody(bool oob, int *server)
{
    int pair[2];
    char line[512];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return NULL;
    *server = pair[1];
    pid_t greeter = fork();
    if (greeter == 0) {
        dprintf(pair[1], "{\"QMP\":{\"capabilities\":[\"oob\"]}}");
        ssize_t got = read(pair[1], line, sizeof(line));
        AUTO_JSON json_t *command = json_loadb(line, got > 0 ? (size_t)got : 0, 0, NULL);
        dprintf(pair[1], "{\"return\":{},\"id\":%lld}", (long long)json_number(command, "id", 0));
        _exit(0);
    }
    struct qmp *qmp = qmp_adopt(pair[0], "pair", oob, generous(), NULL);
    waitpid(greeter, NULL, 0);
    return qmp;
}

#endif
