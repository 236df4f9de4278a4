/* SPDX-License-Identifier: BSD-2-Clause */
/* In a network namespace of its own: the node's interfaces are not touched. */
#include <fcntl.h>
#include <net/if.h>
#include <linux/if_tun.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>
#include "kvm/host/tap.h"
#include "unit.h"

static const char uuid[] = "7c079136-2573-4112-82d0-0d3d2aa90d8f";

TEST(own_namespace, "a network namespace for the tests can be made")
{
    CHECK(unshare(CLONE_NEWNET) == 0);
    return true;
}

TEST(named, "a tap is named after the uuid and goes with its descriptor")
{
    struct tap tap, second, third;
    struct error error = {0};
    CHECK_NUMBER(tap_make(uuid, true, 1, &tap, &error), 0);
    CHECK_TEXT(tap.name, "kvm7c079136");
    CHECK_NUMBER(tap_make(uuid, true, 1, &second, &error), 0);
    CHECK_TEXT(second.name, "kvm7c079136-1");
    CHECK_NUMBER(tap_make(uuid, true, 1, &third, &error), 0);
    CHECK_TEXT(third.name, "kvm7c079136-2");
    CHECK(tap_exists("kvm7c079136") && tap_exists("kvm7c079136-1"));
    CHECK((fcntl(tap.fds[0], F_GETFD) & FD_CLOEXEC) != 0);
    tap_close(&tap);
    tap_close(&tap);
    CHECK(!tap_exists("kvm7c079136"));
    tap_close(&second);
    tap_close(&third);
    CHECK(!tap_exists("kvm7c079136-1"));
    return true;
}

TEST(flags, "a tap has no packet information, and the virtio header only when asked")
{
    for (int header = 0; header < 2; header++) {
        struct tap tap;
        struct ifreq request = {0};
        CHECK_NUMBER(tap_make(uuid, header == 1, 1, &tap, NULL), 0);
        int result = ioctl(tap.fds[0], TUNGETIFF, &request);
        tap_close(&tap);
        CHECK_NUMBER(result, 0);
        CHECK((request.ifr_flags & IFF_NO_PI) != 0 && (request.ifr_flags & IFF_TAP) != 0);
        CHECK_NUMBER((request.ifr_flags & IFF_VNET_HDR) != 0, header);
        CHECK((request.ifr_flags & IFF_MULTI_QUEUE) == 0);
    }
    return true;
}

TEST(queues, "several queues are descriptors of one interface")
{
    struct tap tap;
    struct error error = {0};
    CHECK_NUMBER(tap_make(uuid, true, 4, &tap, &error), 0);
    bool good = tap.queues == 4;
    for (size_t i = 0; i < 4; i++) {
        struct ifreq request = {0};
        good = good && ioctl(tap.fds[i], TUNGETIFF, &request) == 0 &&
               strcmp(request.ifr_name, "kvm7c079136") == 0 &&
               (request.ifr_flags & IFF_MULTI_QUEUE) != 0;
    }
    tap_close(&tap);
    CHECK(good);
    CHECK(!tap_exists("kvm7c079136"));
    CHECK_NUMBER(tap_make(uuid, true, TAP_QUEUES_MAX + 1, &tap, &error), -1);
    CHECK_NUMBER(error.status, STATUS_USAGE);
    CHECK_NUMBER(tap_make(uuid, true, 0, &tap, &error), -1);
    return true;
}

TEST(nothing_left, "a tap that can't be made in full leaves nothing")
{
    struct tap tap;
    struct error error = {0};
    struct rlimit before, tight;
    int next = dup(0);
    CHECK(next >= 0 && close(next) == 0 && getrlimit(RLIMIT_NOFILE, &before) == 0);
    tight = before;
    tight.rlim_cur = (rlim_t)next + 3; /* three of four queues */
    CHECK(setrlimit(RLIMIT_NOFILE, &tight) == 0);
    int result = tap_make(uuid, false, 4, &tap, &error);
    int after = dup(0);
    close(after);
    setrlimit(RLIMIT_NOFILE, &before);
    CHECK_NUMBER(result, -1);
    CHECK_TEXT(error.text, "tap kvm7c079136: open queue 4 of 4: Too many open files");
    CHECK_NUMBER(after, next);
    CHECK(!tap_exists("kvm7c079136"));
    return true;
}

UNIT_MAIN(UNIT(own_namespace), UNIT(named), UNIT(flags), UNIT(queues), UNIT(nothing_left))
