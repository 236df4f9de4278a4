/* SPDX-License-Identifier: BSD-2-Clause */
#include "kvm/base/process.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "kvm/base/memory.h"

enum { STAT_START_TIME = 22, END_WAIT_MS = 5000, COMMAND_LINE_MAX = 64 * 1024 };

/* A small file of /proc; false when it can't be read. */
static bool read_small(const char *path, char *buffer, size_t size)
{
    AUTO_CLOSE int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return false;
    ssize_t length = read(file, buffer, size - 1);
    if (length < 0)
        return false;
    buffer[length] = '\0';
    return true;
}

const char *process_boot_id(void)
{
    static char id[BOOT_ID_SIZE];
    if (id[0] == '\0' && !read_small("/proc/sys/kernel/random/boot_id", id, sizeof id))
        id[0] = '\0';
    return id;
}

/* The fields of /proc/PID/stat from the third on (the state). */
static const char *stat_fields(pid_t pid, char *buffer, size_t size)
{
    char path[64];
    if (pid <= 0)
        return NULL;
    snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
    if (!read_small(path, buffer, size))
        return NULL;
    const char *end_of_name = strrchr(buffer, ')');
    return end_of_name != NULL && end_of_name[1] == ' ' ? end_of_name + 2 : NULL;
}

bool process_start_time(pid_t pid, uint64_t *ticks)
{
    char buffer[1024];
    const char *field = stat_fields(pid, buffer, sizeof buffer);
    for (int number = 3; field != NULL && number < STAT_START_TIME; number++) {
        field = strchr(field, ' ');
        field = field != NULL ? field + 1 : NULL;
    }
    if (field == NULL || !isdigit((unsigned char)*field))
        return false;
    *ticks = strtoull(field, NULL, 10);
    return true;
}

bool process_is_zombie(pid_t pid)
{
    char buffer[1024];
    const char *state = stat_fields(pid, buffer, sizeof buffer);
    return state != NULL && (*state == 'Z' || *state == 'X');
}

bool process_is_ending(pid_t pid)
{
    char path[64], some[16];
    snprintf(path, sizeof path, "/proc/%ld/cmdline", (long)pid);
    return !read_small(path, some, sizeof some) || some[0] == '\0';
}

char *process_command_line(pid_t pid, size_t *length)
{
    AUTO_FREE char *path = memory_format("/proc/%ld/cmdline", (long)pid);
    char *words = memory_zeroed(COMMAND_LINE_MAX, 1);
    AUTO_CLOSE int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t count = file < 0 ? -1 : 1;

    *length = 0;
    while (count > 0 && *length < COMMAND_LINE_MAX) {
        count = read(file, words + *length, COMMAND_LINE_MAX - *length);
        *length += count > 0 ? (size_t)count : 0;
    }
    while (*length > 0 && words[*length - 1] != '\0')
        (*length)--;
    if (count >= 0)
        return words;
    free(words);
    return NULL;
}

static double seconds_of(clockid_t id)
{
    struct timespec now = {0};
    clock_gettime(id, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

double process_started_at(uint64_t ticks)
{
    double booted_at = seconds_of(CLOCK_REALTIME) - seconds_of(CLOCK_BOOTTIME);
    return booted_at + (double)ticks / (double)sysconf(_SC_CLK_TCK);
}

/* A process names itself as it likes: nothing of it may steer a terminal. */
static void make_printable(char *text)
{
    text[strcspn(text, "\n")] = '\0';
    for (; *text != '\0'; text++)
        if (!isprint((unsigned char)*text))
            *text = '?';
}

void process_describe(pid_t pid, char *name, int name_size, char *user, int user_size)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%ld/comm", (long)pid);
    if (!read_small(path, name, (size_t)name_size))
        snprintf(name, (size_t)name_size, "?");
    make_printable(name);

    struct stat status;
    snprintf(path, sizeof path, "/proc/%ld", (long)pid);
    if (stat(path, &status) != 0) {
        snprintf(user, (size_t)user_size, "?");
        return;
    }
    const struct passwd *entry = getpwuid(status.st_uid);
    if (entry != NULL)
        snprintf(user, (size_t)user_size, "%s", entry->pw_name);
    else
        snprintf(user, (size_t)user_size, "%lu", (unsigned long)status.st_uid);
    make_printable(user);
}

int process_pidfd(pid_t pid)
{
    return (int)syscall(SYS_pidfd_open, pid, 0);
}

int process_signal(int pidfd, int signal)
{
    return (int)syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0);
}

bool process_wait_gone(int pidfd, deadline_t deadline)
{
    struct pollfd entry = {.fd = pidfd, .events = POLLIN};
    for (;;) {
        int ready = poll(&entry, 1, clock_poll_ms(deadline));
        if (ready > 0)
            return (entry.revents & POLLIN) != 0;
        if (ready < 0 && errno != EINTR)
            return false;
        if (clock_passed(deadline))
            return false;
    }
}

void process_end_child(pid_t pid, int pidfd)
{
    AUTO_CLOSE int own = pidfd < 0 ? process_pidfd(pid) : -1;
    int handle = pidfd < 0 ? own : pidfd;
    if (handle < 0)
        return;
    process_signal(handle, SIGKILL);
    /* Bounded: a child in an uninterruptible sleep dies later, and then init reaps it. */
    if (process_wait_gone(handle, clock_deadline(END_WAIT_MS)))
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            continue;
}

pid_t process_lock_holder(int pid_file)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(pid_file, F_GETLK, &lock) != 0)
        return -1;
    if (lock.l_type == F_UNLCK)
        return 0;
    if (lock.l_pid > 0)
        return lock.l_pid;
    /* Held, but by an open file description or from another pid namespace: nobody we can name. */
    errno = EBUSY;
    return -1;
}
