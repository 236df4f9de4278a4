/* SPDX-License-Identifier: BSD-2-Clause */
#include "kvm/base/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "kvm/base/memory.h"

enum { OUTPUT_MAX = 64 * 1024, DRAIN_MAX = 1024 * 1024, GRACE_MS = 1000 };

struct output {
    char *text; /* OUTPUT_MAX + 1 bytes */
    size_t length;
};

/* Reads what is there. False: end of file or a fault, nothing more will come. */
static bool take(int pipe_end, struct output *output)
{
    char dropped[4096];
    size_t room = OUTPUT_MAX - output->length;
    char *place = room > 0 ? output->text + output->length : dropped;
    ssize_t length = read(pipe_end, place, room > 0 ? room : sizeof dropped);
    if (length < 0)
        return errno == EINTR || errno == EAGAIN;
    if (room > 0)
        output->length += (size_t)length;
    return length > 0;
}

/* True: the child has ended. Output is read meanwhile, so that it never blocks on a full pipe. */
static bool watch(int pipe_end, int pidfd, deadline_t deadline, struct output *output)
{
    struct pollfd entries[] = {{.fd = pidfd, .events = POLLIN}, {.fd = pipe_end, .events = POLLIN}};
    while (!clock_passed(deadline)) {
        int ready = poll(entries, 2, clock_poll_ms(deadline));
        if (ready < 0 && errno != EINTR)
            return false;
        if (ready <= 0)
            continue;
        if (entries[0].revents != 0)
            return true;
        if (!take(pipe_end, output))
            entries[1].fd = -1;
    }
    return false;
}

/* What the child wrote last. Bounded, for a grandchild may hold the pipe and write on. */
static void drain(int pipe_end, struct output *output)
{
    struct pollfd entry = {.fd = pipe_end, .events = POLLIN};
    for (size_t rounds = 0; rounds < DRAIN_MAX / 4096; rounds++)
        if (poll(&entry, 1, 0) <= 0 || !take(pipe_end, output))
            return;
}

/* The group's number can't be taken by others: its leader is not reaped yet. */
static void end_group(pid_t pid, int pidfd)
{
    kill(-pid, SIGTERM);
    process_wait_gone(pidfd, clock_deadline(GRACE_MS));
    kill(-pid, SIGKILL);
    process_end_child(pid, pidfd);
}

static int reap(pid_t pid, const char *path, struct error *error)
{
    int status;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return error_errno(error, STATUS_FAILED, "%s: wait for it", path);
    return status;
}

int process_run(const struct process_spec *spec, deadline_t deadline, char **output,
                struct error *error)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return error_errno(error, STATUS_FAILED, "start %s: pipe", spec->argv[0]);
    AUTO_CLOSE int reading = ends[0];
    int64_t began = clock_now_ms();
    struct process_spec run = *spec;
    run.output = run.errors = ends[1];
    run.new_session = true;
    int pidfd = -1;
    pid_t pid = process_spawn(&run, &pidfd, error);
    close(ends[1]);
    if (pid < 0)
        return -1;
    AUTO_CLOSE int handle = pidfd;

    AUTO_FREE char *text = memory_zeroed(OUTPUT_MAX + 1, 1);
    struct output taken = {.text = text};
    bool ended = watch(reading, handle, deadline, &taken);
    if (!ended)
        end_group(pid, handle);
    drain(reading, &taken);
    if (output != NULL) {
        *output = memory_resize(text, taken.length + 1, 1);
        (*output)[taken.length] = '\0';
        text = NULL;
    }
    if (!ended)
        return error_set(error, STATUS_FAILED, "%s: did not end within %.1f s and was killed",
                         spec->argv[0], (double)(clock_now_ms() - began) / 1000);
    return reap(pid, spec->argv[0], error);
}
