/* SPDX-License-Identifier: BSD-2-Clause */
/* The files that tell which tap a NIC has: ours, and those of Ganeti. */
#include <sys/stat.h>
#include <unistd.h>
#include "kvm/base/file.h"
#include "kvm/base/memory.h"
#include "kvm/host/network.h"
#include "kvm/host/tap.h"
#include "scratch.h"
#include "unit.h"

static const char uuid[] = "7c079136-2573-4112-82d0-0d3d2aa90d8f";

TEST(files, "tap files are there under index and uuid, and the directory goes with the last")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    AUTO_FREE char *path = memory_format("%s/run", scratch.path);
    AUTO_RUNDIR struct rundir rundir = {.fd = -1};
    struct error error = {0};
    char tap[TAP_NAME_SIZE];
    CHECK_NUMBER(rundir_open(&rundir, path, true, &error), 0);
    CHECK(!network_read_tap(&rundir, "web1", "0", tap));
    CHECK_NUMBER(network_write_tap(&rundir, "web1", 0, uuid, "tap0", &error), 0);
    CHECK_NUMBER(network_write_tap(&rundir, "web1", 1, "other", "tap1", &error), 0);
    CHECK(network_read_tap(&rundir, "web1", uuid, tap));
    CHECK_TEXT(tap, "tap0");
    CHECK(network_read_tap(&rundir, "web1", "1", tap));
    CHECK_TEXT(tap, "tap1");
    CHECK_NUMBER(network_remove_tap(&rundir, "web1", 0, uuid, &error), 0);
    CHECK_NUMBER(network_remove_tap(&rundir, "web1", 0, uuid, &error), 0);
    CHECK(!network_read_tap(&rundir, "web1", "0", tap));
    CHECK_NUMBER(faccessat(rundir.fd, "nic/web1", F_OK, 0), 0);
    CHECK_NUMBER(network_remove_tap(&rundir, "web1", 1, "other", &error), 0);
    CHECK_NUMBER(faccessat(rundir.fd, "nic/web1", F_OK, 0), -1);
    static const char *const bad[] = {"tap%d", "../x", "a name", "", "sixteen-letters-", "-x"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK_NUMBER(network_write_tap(&rundir, "web1", 0, uuid, bad[i], &error), 0);
        CHECK(!network_read_tap(&rundir, "web1", uuid, tap));
    }
    return true;
}

static void put(const struct rundir *rundir, const char *ident, const char *tap, time_t written)
{
    AUTO_FREE char *name = memory_format("nic/web1/%s", ident);
    struct timespec times[2] = {{.tv_sec = written}, {.tv_sec = written}};

    file_make_directory(rundir->fd, "nic/web1", 0700, NULL);
    file_replace(rundir->fd, name, tap, strlen(tap), NULL);
    utimensat(rundir->fd, name, times, 0);
}

/* "TAP TAP …" of the three NICs, "-" for one that is not known. */
static const char *found(const struct rundir *rundir, pid_t pid)
{
    static char uuids[3][40] = {"c0000001-2573-4112-8a00-000000000001",
                                "c0000002-2573-4112-8a00-000000000002",
                                "c0000003-2573-4112-8a00-000000000003"};
    static char text[80];
    struct nic nics[3] = {{.uuid = uuids[0]}, {.uuid = uuids[1]}, {.uuid = uuids[2]}};
    struct instance instance = {.name = (char[]){"web1"}, .nics = nics, .nic_count = 3};

    text[0] = '\0';
    for (size_t i = 0; i < 3; i++) {
        char tap[TAP_NAME_SIZE];
        bool known = network_find_tap(rundir, &instance, i, pid, tap);
        snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s", i > 0 ? " " : "",
                 known ? tap : "-");
    }
    return text;
}

TEST(taps_of_ganeti,
     "the taps of NICs that Ganeti has set up are told by its files when these can be right")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    AUTO_FREE char *path = memory_format("%s/ganeti", scratch.path);
    AUTO_RUNDIR struct rundir rundir = {.fd = -1};
    CHECK_NUMBER(rundir_open(&rundir, path, true, NULL), 0);
    CHECK_TEXT(found(&rundir, 0), "- - -");
    put(&rundir, "0", "tap0", 100);
    put(&rundir, "1", "tap1", 100);
    CHECK_TEXT(found(&rundir, 0), "- - -"); /* of three NICs two: which? */
    put(&rundir, "2", "tap2", 100);
    CHECK_TEXT(found(&rundir, 0), "tap0 tap1 tap2");
    /* The first was removed and one plugged into its place: the new NIC is the last of the runtime file. */
    put(&rundir, "0", "tap9", 200);
    CHECK_TEXT(found(&rundir, 0), "tap1 tap2 tap9");
    /* A name that was given a second time. */
    put(&rundir, "5", "tap1", 300);
    CHECK_TEXT(found(&rundir, 0), "tap2 tap9 tap1");
    put(&rundir, "6", "tap3", 50);
    CHECK_TEXT(found(&rundir, 0), "- - -");
    /* Ours tells its NIC whatever else is there. */
    put(&rundir, "c0000002-2573-4112-8a00-000000000002", "tap2", 400);
    CHECK(strstr(found(&rundir, 0), " tap2 ") != NULL);
    /* A process that holds none of them proves them all wrong but ours, for which there is no better. */
    CHECK_TEXT(found(&rundir, getpid()), "- tap2 -");
    return true;
}

UNIT_MAIN(UNIT(files), UNIT(taps_of_ganeti))
