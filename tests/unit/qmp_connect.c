/* SPDX-License-Identifier: BSD-2-Clause */
/* Who may be at the other end of a monitor's socket, or nobody. */
#include <sys/socket.h>
#include <sys/un.h>
#include "kvm/qemu/qmp.h"
#include "fake.h"
#include "unit.h"

TEST(banners, "another kind of server is named by what it says")
{
    static const char *const scripts[][2] = {
        {"greeting HTTP/1.1 400 Bad Request\\r\\n\n", "sent \"HTTP/1.1 400 Bad Request\\x0d\""},
        {"greeting SSH-2.0-x\\r\\n\n", "sent \"SSH-2.0-x"},
        {"greeting QEMU 7.2.0 monitor - type 'help'\\r\\n(qemu)\n", "sent \"QEMU 7.2.0 monitor"},
    };
    for (size_t i = 0; i < 3; i++) {
        struct error error;
        AUTO_FAKE struct fake fake = fake_begin(scripts[i][0]);
        CHECK(fake_connect(&fake, &error) == NULL);
        CHECK_NUMBER(error.status, STATUS_FAILED);
        CHECK_HAS(error.text, scripts[i][1]);
        CHECK_HAS(error.text, fake.socket);
    }
    return true;
}

TEST(silence, "silence, another client and a full backlog are a time-out, in time")
{
    struct error error;
    AUTO_FAKE struct fake silent = fake_begin("greeting\n");
    CHECK(qmp_connect(silent.socket, false, soon(), &error) == NULL);
    CHECK_NUMBER(error.status, STATUS_TIMEOUT);
    CHECK_HAS(error.text, "another client holds the monitor");

    AUTO_FAKE struct fake fake = fake_begin("");
    AUTO_QMP struct qmp *first = fake_connect(&fake, &error);
    CHECK(first != NULL);
    int64_t before = clock_now_ms();
    CHECK(qmp_connect(fake.socket, false, soon(), &error) == NULL);
    CHECK_HAS(error.text, "another client holds the monitor");
    CHECK(clock_now_ms() - before < 5000);
    qmp_release(&first);
    first = fake_connect(&fake, &error);
    CHECK(first != NULL);

    AUTO_FAKE struct fake slow = fake_begin("greeting {\"QMP\":\n");
    CHECK(qmp_connect(slow.socket, false, clock_deadline(1000), &error) == NULL);
    CHECK_NUMBER(error.status, STATUS_TIMEOUT);
    CHECK(strstr(error.text, "another client") == NULL);
    return true;
}

TEST(backlog, "a socket whose backlog is full does not hang a connect")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/s", scratch.path);
    AUTO_CLOSE int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    AUTO_CLOSE int waiting = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(bind(listener, (const struct sockaddr *)&address, sizeof(address)) == 0);
    CHECK(listen(listener, 0) == 0);
    CHECK(connect(waiting, (const struct sockaddr *)&address, sizeof(address)) == 0);
    struct error error;
    CHECK(qmp_connect(address.sun_path, false, soon(), &error) == NULL);
    CHECK_NUMBER(error.status, STATUS_TIMEOUT);
    CHECK_HAS(error.text, "other clients wait");
    return true;
}

TEST(nobody, "a socket that nobody listens on, or that is not there, is told at once")
{
    struct error error;
    AUTO_FAKE struct fake fake = fake_begin("");
    kill(fake.pid, SIGKILL);
    waitpid(fake.pid, NULL, 0);
    CHECK(fake_connect(&fake, &error) == NULL);
    CHECK_HAS(error.text, "QEMU is not listening");
    CHECK_NUMBER(error.status, STATUS_FAILED);
    unlink(fake.socket);
    CHECK(fake_connect(&fake, &error) == NULL);
    CHECK_HAS(error.text, "QEMU is not listening");
    return true;
}

TEST(wrong_peer, "nothing is sent to a server that is another process")
{
    struct error error;
    AUTO_FAKE struct fake fake = fake_begin("");
    CHECK(qmp_connect_peer(fake.socket, getpid(), false, generous(), &error) == NULL);
    CHECK_HAS(error.text, "its server is pid");
    AUTO_QMP struct qmp *qmp = qmp_connect_peer(fake.socket, fake.pid, false, generous(), &error);
    CHECK(qmp != NULL);
    return true;
}

UNIT_MAIN(UNIT(banners), UNIT(silence), UNIT(backlog), UNIT(nobody), UNIT(wrong_peer))
