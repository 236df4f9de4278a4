/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>
#include "kvm/base/clock.h"
#include "kvm/base/process.h"
#include "kvm/qemu/monitor.h"
#include "fake.h"
#include "qemu.h"
#include "unit.h"

TEST(alive, "the holder of the pid file's lock is found, and no longer when it has ended")
{
    AUTO_FAKE struct fake fake = fake_begin("status paused\n");
    struct rundir rundir = scratch_rundir(&fake.scratch);
    struct error error;
    AUTO_PROCESS struct qemu_process process;
    CHECK_NUMBER(monitor_find(&rundir, "x", &process, &error), 0);
    CHECK_NUMBER(process.pid, fake.pid);
    uint64_t start_time = 0;
    CHECK(process_start_time(fake.pid, &start_time));
    CHECK(process.start_time == start_time);

    char status[32];
    AUTO_QMP struct qmp *qmp = monitor_open(&rundir, "x", RUNDIR_QMP, &process, generous(), &error);
    CHECK(qmp != NULL);
    CHECK_NUMBER(monitor_status(qmp, generous(), status, &error), 0);
    CHECK_TEXT(status, "paused");
    AUTO_QMP struct qmp *query =
        monitor_open(&rundir, "x", RUNDIR_QUERY, &process, generous(), &error);
    CHECK(query != NULL);

    CHECK(process_signal(process.pidfd, SIGKILL) == 0);
    CHECK(process_wait_gone(process.pidfd, generous()));
    monitor_forget(&process);
    CHECK_NUMBER(process.pidfd, -1);
    CHECK_NUMBER(monitor_find(&rundir, "x", &process, &error), 0); /* it is a zombie now */
    CHECK_NUMBER(process.pid, 0);
    return true;
}

TEST(dead, "no pid file, and one that nobody locks, mean that no QEMU lives")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    struct rundir rundir = scratch_rundir(&scratch);
    struct error error;
    AUTO_PROCESS struct qemu_process process;
    CHECK_NUMBER(monitor_find(&rundir, "x", &process, &error), 0);
    CHECK_NUMBER(process.pid, 0);
    CHECK(mkdirat(scratch.fd, "pid", 0700) == 0);
    CHECK(scratch_write(&scratch, "pid/x", "1\n")); /* a pid in a file proves nothing */
    CHECK_NUMBER(monitor_find(&rundir, "x", &process, &error), 0);
    CHECK_NUMBER(process.pid, 0);
    CHECK_NUMBER(process.pidfd, -1);
    return true;
}

TEST(odd, "a pid file that is none is not taken for a dead QEMU")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    struct rundir rundir = scratch_rundir(&scratch);
    struct error error;
    AUTO_PROCESS struct qemu_process process;
    CHECK(mkdirat(scratch.fd, "pid", 0700) == 0);
    CHECK(scratch_write(&scratch, "elsewhere", ""));
    CHECK(symlinkat("../elsewhere", scratch.fd, "pid/link") == 0);
    CHECK(mkdirat(scratch.fd, "pid/directory", 0700) == 0);
    CHECK(mkfifoat(scratch.fd, "pid/fifo", 0600) == 0);
    static const char *const names[] = {"link", "directory", "fifo"};
    for (size_t i = 0; i < 3; i++) {
        CHECK_NUMBER(monitor_find(&rundir, names[i], &process, &error), -1);
        CHECK_NUMBER(error.status, STATUS_FAILED);
        CHECK_HAS(error.text, names[i]);
    }
    return true;
}

TEST(unnamed_lock, "a lock without a holder that can be named is not taken for a dead QEMU")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    struct rundir rundir = scratch_rundir(&scratch);
    struct error error;
    AUTO_PROCESS struct qemu_process process;
    CHECK(mkdirat(scratch.fd, "pid", 0700) == 0);
    CHECK(scratch_write(&scratch, "pid/x", ""));
    AUTO_CLOSE int file = openat(scratch.fd, "pid/x", O_RDWR | O_CLOEXEC);
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    CHECK(fcntl(file, F_OFD_SETLK, &whole) == 0);
    CHECK_NUMBER(monitor_find(&rundir, "x", &process, &error), -1);
    CHECK_NUMBER(process.pid, 0);
    return true;
}

TEST(impostor, "a monitor of another process is refused before a byte is sent")
{
    AUTO_FAKE struct fake fake = fake_begin(""), other = fake_begin("");
    struct rundir rundir = scratch_rundir(&fake.scratch);
    struct error error;
    AUTO_PROCESS struct qemu_process process;
    CHECK_NUMBER(monitor_find(&rundir, "x", &process, &error), 0);
    CHECK(rename(other.socket, fake.socket) == 0);
    CHECK(monitor_open(&rundir, "x", RUNDIR_QMP, &process, generous(), &error) == NULL);
    CHECK_HAS(error.text, "not the instance's QEMU");
    return true;
}

TEST(recorded, "a process is the recorded one by pid and start time, of this boot")
{
    const struct qemu_process process = {100, 5000, -1};
    struct runtime runtime = {.state = RUNTIME_RUNNING, .pid = 100, .start_time = 5000};
    strcpy(runtime.boot_id, process_boot_id());
    CHECK(monitor_is_recorded(&process, NULL));
    CHECK(monitor_is_recorded(&process, &runtime));
    runtime.start_time = 5001;
    CHECK(!monitor_is_recorded(&process, &runtime));
    runtime.pid = 101;
    runtime.start_time = 5000;
    CHECK(!monitor_is_recorded(&process, &runtime));
    runtime.state = RUNTIME_FOREIGN;
    CHECK(monitor_is_recorded(&process, &runtime));
    runtime.state = RUNTIME_RUNNING;
    strcpy(runtime.boot_id, "another boot");
    CHECK(monitor_is_recorded(&process, &runtime));
    runtime.pid = 0;
    CHECK(monitor_is_recorded(&process, &runtime));
    return true;
}

/* A process that stands still, with these two words in its command line. */
static pid_t begin_named(const char *option, const char *value)
{
    int started[2];
    char nothing;
    if (pipe2(started, O_CLOEXEC) != 0)
        return -1;
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execl("/bin/sh", "/bin/sh", "-c", "kill -STOP $$; :", option, value, (char *)NULL);
        _exit(99);
    }
    close(started[1]);
    ssize_t got = read(started[0], &nothing, 1); /* ends when the exec has happened */
    close(started[0]);
    return got == 0 ? pid : -1;
}

TEST(named, "a QEMU that names another instance is told from one that may be this one")
{
    static const struct {
        const char *option, *value;
        bool another;
    } cases[] = {
        {"-name", "web1", false},
        {"--name", "web1", false},
        {"-name", "web1,debug-threads=on", false},
        {"-name", "debug-threads=on,guest=web1", false},
        {"-name", "guest=web2,process=web1", true},
        {"-name", "web2", true},
        {"--name", "web2,debug-threads=on", true},
        {"-name", "web11", true},
        {"-name", "process=web2", false}, /* the guest's name is not known */
        {"-uuid", "web2", false},
        {"-x", "-name", false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        pid_t pid = begin_named(cases[i].option, cases[i].value);
        CHECK(pid > 0);
        bool another = monitor_is_of_another(pid, "web1");
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        printf("# %s %s\n", cases[i].option, cases[i].value);
        CHECK(another == cases[i].another);
        CHECK(!monitor_is_of_another(pid, "web1")); /* it is gone: nothing is known */
    }
    return true;
}

TEST(no_status, "an answer without a status, or with one that does not fit, is an error")
{
    static const char *const scripts[] = {
        "return query-status {}\n", "return query-status {\"status\":1}\n",
        "return query-status {\"status\":\"a-status-that-is-longer-than-any-of-them\"}\n"};
    for (size_t i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++) {
        AUTO_FAKE struct fake fake = fake_begin(scripts[i]);
        struct error error;
        char status[32];
        AUTO_QMP struct qmp *qmp = fake_connect(&fake, &error);
        CHECK(qmp != NULL);
        CHECK_NUMBER(monitor_status(qmp, generous(), status, &error), -1);
        CHECK_HAS(error.text, "no status");
    }
    return true;
}

TEST(odd_status, "a status that could steer a terminal is an error")
{
    AUTO_FAKE struct fake fake = fake_begin("return query-status {\"status\":\"run\\u001b\"}\n");
    struct error error;
    char status[32];
    AUTO_QMP struct qmp *qmp = fake_connect(&fake, &error);
    CHECK(qmp != NULL);
    CHECK_NUMBER(monitor_status(qmp, generous(), status, &error), -1);
    CHECK_HAS(error.text, "no status");
    return true;
}

/* QEMU as the suite starts it: pid file locked and monitor listening in the child, before exec. */
static pid_t start_qemu(const struct scratch *scratch, int *pidfd, struct error *error)
{
    static const char *const argv[] = {qemu,
                                       "-machine",
                                       "none",
                                       "-nodefaults",
                                       "-no-user-config",
                                       "-display",
                                       "none",
                                       "-S",
                                       "-chardev",
                                       "socket,id=qmp,fd=4,server=on,wait=off",
                                       "-mon",
                                       "chardev=qmp,mode=control",
                                       NULL};
    AUTO_CLOSE int pid_file = openat(scratch->fd, "pid/x", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    AUTO_CLOSE int monitor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/ctrl/x.qmp", scratch->path);
    if (bind(monitor, (const struct sockaddr *)&address, sizeof(address)) != 0)
        return -1;
    const int descriptors[] = {pid_file, monitor}, listening[] = {1};
    const struct process_spec spec = {.argv = argv,
                                      .descriptors = descriptors,
                                      .descriptor_count = 2,
                                      .input = -1,
                                      .output = -1,
                                      .errors = 2,
                                      .die_with_parent = true,
                                      .pid_lock = 0,
                                      .listen = listening,
                                      .listen_count = 1};
    return process_spawn(&spec, pidfd, error);
}

TEST(real, "a real QEMU is found and answers in a few milliseconds")
{
    NEED_QEMU;
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    struct rundir rundir = scratch_rundir(&scratch);
    struct error error;
    CHECK(mkdirat(scratch.fd, "pid", 0700) == 0 && mkdirat(scratch.fd, "ctrl", 0700) == 0);
    AUTO_CLOSE int pidfd = -1;
    pid_t pid = start_qemu(&scratch, &pidfd, &error);
    CHECK(pid > 0);
    AUTO_PROCESS struct qemu_process process;
    CHECK_NUMBER(monitor_find(&rundir, "x", &process, &error), 0);
    CHECK_NUMBER(process.pid, pid);
    double best = 1e9;
    char status[32] = "";
    for (int i = 0; i < 10; i++) {
        double before = clock_wall();
        AUTO_QMP struct qmp *qmp =
            monitor_open(&rundir, "x", RUNDIR_QMP, &process, generous(), &error);
        CHECK_TEXT(qmp == NULL ? error.text : "", "");
        CHECK_NUMBER(monitor_status(qmp, generous(), status, &error), 0);
        double took = clock_wall() - before;
        best = took < best ? took : best;
    }
    process_end_child(pid, pidfd);
    CHECK_TEXT(status, "prelaunch");
    printf("# connected and answered in %.2f ms\n", best * 1e3);
    CHECK(best < 0.003);
    return true;
}

UNIT_MAIN(UNIT(alive), UNIT(dead), UNIT(odd), UNIT(unnamed_lock), UNIT(impostor), UNIT(recorded),
          UNIT(named), UNIT(no_status), UNIT(odd_status), UNIT(real))
