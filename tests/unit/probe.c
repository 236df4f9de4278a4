/* SPDX-License-Identifier: BSD-2-Clause */
#include <dirent.h>
#include <sys/wait.h>
#include "kvm/base/clock.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/transaction.h"
#include "kvm/qemu/probe.h"
#include "qemu.h"
#include "scratch.h"
#include "unit.h"

/* An executable script in the place of QEMU; its path, which the caller frees. */
static char *script(const struct scratch *scratch, const char *text)
{
    if (!scratch_write(scratch, "qemu", text) || fchmodat(scratch->fd, "qemu", 0700, 0) != 0)
        exit(99);
    return memory_format("%s/qemu", scratch->path);
}

/* The name of the one cache file; false when there is not exactly one. */
static bool cache_file(const struct scratch *scratch, char *name, size_t size)
{
    AUTO_FREE char *path = memory_format("%s/cache", scratch->path);
    DIR *cache = opendir(path);
    int found = 0;
    for (const struct dirent *entry; cache != NULL && (entry = readdir(cache)) != NULL;)
        if (strncmp(entry->d_name, "qemu-", 5) == 0 && ++found == 1)
            snprintf(name, size, "cache/%s", entry->d_name);
    if (cache != NULL)
        closedir(cache);
    return found == 1;
}

/* No child of ours is left, running or dead. */
static bool is_alone(void)
{
    return waitpid(-1, NULL, WNOHANG) == -1;
}

TEST(machines, "the binary tells version, machines and options")
{
    NEED_QEMU;
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    struct rundir rundir = scratch_rundir(&scratch);
    struct probe probe;
    struct error error;
    CHECK_NUMBER(probe_binary(&rundir, qemu, false, &probe, &error), 0);
    CHECK(is_alone());
    CHECK(probe.major >= 5);
    CHECK(probe.null_event_log);
    const char *pc = probe_machine(&probe, "pc"), *usual = probe_machine(&probe, "");
    CHECK_HAS(pc, "pc-i440fx-");
    CHECK_TEXT(usual, pc);
    CHECK_TEXT(probe_machine(&probe, pc), pc);
    CHECK_HAS(probe_machine(&probe, "q35"), "pc-q35-");
    CHECK(probe_machine(&probe, "no-such-machine") == NULL);
    const char *nearest;
    CHECK(json_number(probe.vcpus, pc, 0) >= 255);
    CHECK(probe_has_cpu(&probe, "Haswell", &nearest) &&
          probe_has_cpu(&probe, "max,-vmx", &nearest));
    CHECK(!probe_has_cpu(&probe, "Haswel,+vmx", &nearest));
    CHECK_TEXT(nearest, "Haswell");
    CHECK(!probe_has_cpu(&probe, "no-such-model", &nearest) && nearest == NULL);
    CHECK(probe_has_cpu(&(struct probe){0}, "no-such-model", &nearest));
    static const char *const fine[] = {"Haswell", "Haswell,", "max,+sse4_1,-sse4.2,+avx2",
                                       "max,hv_time,tsc-freq=2G,phys-bits=40,enforce,l3_cache=off"};
    static const char *const wrong[][2] = {{"max,+avx2,+avx22", "avx22"},
                                           {"max,-no.such", "no.such"},
                                           {"max,+hv_time", "hv_time"},
                                           {"max,+avx2=on", "avx2=on"},
                                           {"max,no_such=1,+avx2", "no-such"}};
    char *near;
    for (size_t i = 0; i < COUNT(fine); i++)
        CHECK(probe_lacks_feature(&probe, fine[i], &near) == NULL && near == NULL);
    for (size_t i = 0; i < COUNT(wrong); i++) {
        AUTO_FREE char *lacks = probe_lacks_feature(&probe, wrong[i][0], &near);
        CHECK_TEXT(lacks, wrong[i][1]);
        CHECK(i != 0 || (near != NULL && strcmp(near, "avx2") == 0));
        free(near);
    }
    CHECK(probe_lacks_feature(&(struct probe){0}, "max,+no-such", &near) == NULL);
    char name[512];
    CHECK(!cache_file(&scratch, name, sizeof(name)));
    probe_release(&probe);
    return true;
}

TEST(cached, "the answer is kept, with what a start noted; a damaged one is asked for anew")
{
    NEED_QEMU;
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    struct rundir rundir = scratch_rundir(&scratch);
    struct probe probe, again;
    struct error error;
    char name[512];
    CHECK_NUMBER(probe_binary(&rundir, qemu, true, &probe, &error), 0);
    CHECK(cache_file(&scratch, name, sizeof(name)));
    probe_note_event_log(&rundir, qemu, false);
    CHECK_NUMBER(probe_binary(&rundir, qemu, true, &again, &error), 0);
    CHECK(!again.null_event_log);
    CHECK(json_equal(again.machines, probe.machines));
    CHECK(json_equal(again.types, probe.types));
    CHECK(json_equal(again.cpus, probe.cpus) && json_equal(again.vcpus, probe.vcpus));
    CHECK_NUMBER(again.minor, probe.minor);
    CHECK_NUMBER(again.has_sandbox, probe.has_sandbox);
    probe_release(&again);

    static const char *const damages[] = {"", "{\"version\":1}", "[1", "{\"machines\":{\"pc\":7}}"};
    for (size_t i = 0; i < 4; i++) {
        CHECK(scratch_write(&scratch, name, damages[i]));
        CHECK_NUMBER(probe_binary(&rundir, qemu, true, &again, &error), 0);
        CHECK(again.null_event_log);
        CHECK(json_equal(again.machines, probe.machines));
        CHECK(!scratch_holds(&scratch, name, damages[i]));
        probe_release(&again);
    }
    probe_release(&probe);
    return true;
}

TEST(types,
     "a type that was missing is asked for again, and remembered; what no QEMU has stays missing")
{
    NEED_QEMU;
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    struct rundir rundir = scratch_rundir(&scratch);
    struct probe probe, again;
    struct error error;
    CHECK_NUMBER(probe_binary(&rundir, qemu, true, &probe, &error), 0);
    CHECK(probe_has_type(&rundir, qemu, true, &probe, "usb-tablet"));
    CHECK(!probe_has_type(&rundir, qemu, true, &probe, "no-such-type"));
    json_array_clear(probe.types);
    CHECK(probe_has_type(&rundir, qemu, true, &probe, "usb-tablet"));
    CHECK(is_alone());
    CHECK_NUMBER(probe_binary(&rundir, qemu, true, &again, &error), 0);
    CHECK(json_equal(again.types, probe.types));
    probe_release(&again);
    probe_release(&probe);
    return true;
}

TEST(no_qemu, "what is no QEMU is named, with what it said")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    struct rundir rundir = scratch_rundir(&scratch);
    struct probe probe;
    struct error error;
    CHECK_NUMBER(probe_binary(&rundir, "/no/such/qemu", true, &probe, &error), -1);
    CHECK_TEXT(error.text, "/no/such/qemu: No such file or directory");
    CHECK_NUMBER(probe_binary(&rundir, "/etc", true, &probe, &error), -1);
    CHECK_TEXT(error.text, "/etc: not a regular file");
    CHECK(scratch_write(&scratch, "plain", ""));
    AUTO_FREE char *plain = memory_format("%s/plain", scratch.path);
    CHECK_NUMBER(probe_binary(&rundir, plain, true, &probe, &error), -1);
    CHECK_HAS(error.text, "plain: can't be executed");
    AUTO_FREE char *path =
        script(&scratch, "#!/bin/sh\necho 'no such \007option' >&2\necho more >&2\nexit 1\n");
    CHECK_NUMBER(probe_binary(&rundir, path, true, &probe, &error), -1);
    CHECK_HAS(error.text, path);
    CHECK_HAS(error.text, "does not work as QEMU");
    CHECK_HAS(error.text, "; it said: no such \\x07option");
    CHECK(strstr(error.text, "more") == NULL);
    CHECK(probe.machines == NULL);
    CHECK(is_alone());
    char name[512];
    CHECK(!cache_file(&scratch, name, sizeof(name)));
    return true;
}

TEST(odd_qemu, "a binary that answers nonsense is refused, and ended")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    struct rundir rundir = scratch_rundir(&scratch);
    struct probe probe;
    struct error error;
    AUTO_FREE char *path = script(&scratch, "#!/bin/sh\necho hello >&3\nexec sleep 1000\n");
    int64_t before = clock_now_ms();
    CHECK_NUMBER(probe_binary(&rundir, path, true, &probe, &error), -1);
    CHECK_HAS(error.text, "does not speak QMP: it sent \"hello\"");
    CHECK(clock_now_ms() - before < 5000);
    CHECK(is_alone());
    return true;
}

UNIT_MAIN(UNIT(machines), UNIT(cached), UNIT(types), UNIT(no_qemu), UNIT(odd_qemu))
