/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * measure COMMAND…: run it with its output thrown away, then print one line of JSON: when it began and ended
 * (seconds since the epoch, as in QEMU's events), its peak memory and its exit status. A small parent, because
 * the kernel counts the memory of the process that forked into the child's peak.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void run(char **argv)
{
    int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; fd < 3; fd++)
        dup2(nowhere, fd);
    execv(argv[0], argv);
    _exit(127);
}

int main(int argc, char **argv)
{
    struct rusage usage;
    int status;

    if (argc < 2)
        return 2;
    double began = now();
    pid_t pid = fork();
    if (pid == 0)
        run(argv + 1);
    if (pid < 0 || wait4(pid, &status, 0, &usage) != pid)
        return 1;
    double ended = now();
    printf("{\"began\": %.6f, \"ended\": %.6f, \"peak_kib\": %ld, \"status\": %d}\n", began, ended,
           usage.ru_maxrss, WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    return 0;
}
