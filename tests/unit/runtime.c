/* SPDX-License-Identifier: BSD-2-Clause */
/* Our own element of a runtime file, and the file on disk. */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "kvm/base/file.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/state/runtime.h"
#include "scratch.h"
#include "unit.h"

static int fresh(struct runtime *runtime)
{
    AUTO_JSON json_t *definition = json_loads(
        "{\"name\": \"web1\", \"beparams\": {\"maxmem\": 512, \"minmem\": 256, \"vcpus\": 2},"
        " \"tags\": [\"a\"], \"network_port\": 11000, \"disk_template\": \"file\","
        " \"disks\": [{\"path\": \"/srv/d\\u00e9\"}], \"nics\": [{\"nicparams\": {\"link\": "
        "\"br0\"}}]}",
        0, NULL);
    AUTO_MESSAGES struct messages problems = {0};
    AUTO_INSTANCE struct instance instance;

    if (instance_parse(definition, "w.json", NULL, NULL, &instance, &problems) != 0)
        return -1;
    runtime_begin(runtime, &instance);
    return 0;
}

TEST(fifth_element, "our own element keeps state, process, intents and unknown keys")
{
    AUTO_RUNTIME struct runtime runtime = {0}, again = {0};
    struct error error = {0};

    CHECK_NUMBER(fresh(&runtime), 0);
    const char *uuid = runtime.instance.disks[0].uuid;

    CHECK_NUMBER(runtime.state, RUNTIME_STARTING);
    CHECK_NUMBER(runtime_device_state(&runtime, uuid), DEVICE_PRESENT);
    runtime_set_device_state(&runtime, uuid, DEVICE_ADDING);
    runtime.state = RUNTIME_PAUSED;
    runtime.pid = 4711;
    runtime.start_time = 123456789;
    strcpy(runtime.boot_id, "6b29fc40-ca47-4067-b31d-00dd010662da");
    json_object_set_new(runtime.ours, "later", json_string("kept"));
    json_object_set_new(runtime.ours, "migration", json_pack("{s:s}", "phase", "sending"));
    runtime.instance.memory_mib = 300;
    runtime.instance.ejected[0] = true;
    runtime.instance.nics[0].link_down = true;
    AUTO_FREE char *text = runtime_text(&runtime);

    CHECK(text[strlen(text) - 1] == '\n');
    CHECK_HAS(text, "[[\"/usr/bin/qemu-system-x86_64\", \"-name\", \"web1\", \"-m\", 512, ");
    CHECK_HAS(text, "/srv/d\\u00E9");
    CHECK_NUMBER(runtime_parse(text, strlen(text), "w.runtime", "web1", &again, &error), 0);
    CHECK_NUMBER(again.state, RUNTIME_PAUSED);
    CHECK_NUMBER(again.pid, 4711);
    CHECK_NUMBER(again.start_time, 123456789);
    CHECK_TEXT(again.boot_id, "6b29fc40-ca47-4067-b31d-00dd010662da");
    CHECK_NUMBER(runtime_device_state(&again, uuid), DEVICE_ADDING);
    CHECK_TEXT(json_text(again.ours, "later"), "kept");
    CHECK_TEXT(json_text(json_member(again.ours, "migration"), "phase"), "sending");
    CHECK_NUMBER(again.instance.memory_mib, 300);
    CHECK(again.instance.ejected[0] && again.instance.nics[0].link_down);
    again.instance.ejected[0] = again.instance.nics[0].link_down = false;
    AUTO_FREE char *less = runtime_text(&again);
    CHECK_HAS(less, "\"kept\": {\"memory\": 300}");
    CHECK_NUMBER(again.instance.minmem_mib, 256);
    CHECK_NUMBER(again.instance.network_port, 11000);
    CHECK_TEXT(again.instance.disk_template, "file");
    CHECK_TEXT(again.instance.uuid, runtime.instance.uuid);
    CHECK_NUMBER(json_array_size(again.instance.tags), 1);
    runtime_set_device_state(&again, uuid, DEVICE_PRESENT);
    CHECK_NUMBER(json_object_size(json_member(again.ours, "devices")), 0);
    return true;
}

/* A run directory with nothing in it but conf/. */
static struct rundir run_directory(struct scratch *scratch)
{
    mkdirat(scratch->fd, "conf", 0700);
    return scratch_rundir(scratch);
}

TEST(on_disk, "commit counts generations, load reads back, remove removes")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    struct rundir rundir = run_directory(&scratch);
    char file[RUNDIR_PATH_MAX];
    struct error error = {0};
    struct stat status;
    AUTO_RUNTIME struct runtime runtime = {0}, missing = {0}, loaded = {0};

    CHECK_NUMBER(runtime_load(&rundir, "web1", &missing, &error), -1);
    CHECK_NUMBER(error.status, STATUS_STATE);
    CHECK(file_is_missing());
    CHECK_NUMBER(fresh(&runtime), 0);
    CHECK_NUMBER(runtime_commit(&rundir, &runtime, &error), 0);
    CHECK_NUMBER(runtime_commit(&rundir, &runtime, &error), 0);
    CHECK_NUMBER(runtime_load(&rundir, "web1", &loaded, &error), 0);
    CHECK_NUMBER(loaded.generation, 2);
    CHECK_NUMBER(runtime_prepare(&rundir, &runtime, &error), 0);
    CHECK_NUMBER(runtime.generation, 2);
    runtime_release(&loaded);
    CHECK_NUMBER(runtime_load(&rundir, "web1", &loaded, &error), 0);
    CHECK_NUMBER(loaded.generation, 2);
    CHECK_NUMBER(runtime_publish(&rundir, &runtime, &error), 0);
    CHECK_NUMBER(runtime.generation, 3);
    CHECK_NUMBER(runtime_publish(&rundir, &runtime, &error), -1); /* nothing is prepared any more */
    CHECK_NUMBER(runtime.generation, 3);
    runtime_release(&loaded);
    CHECK_NUMBER(runtime_load(&rundir, "web1", &loaded, &error), 0);
    CHECK_NUMBER(loaded.generation, 3);
    CHECK_TEXT(loaded.instance.disks[0].path, "/srv/d\xc3\xa9");
    rundir_name(RUNDIR_RUNTIME, "web1", file);
    CHECK_NUMBER(fstatat(rundir.fd, file, &status, 0), 0);
    CHECK_NUMBER(status.st_mode & 07777, 0600);
    CHECK_NUMBER(runtime_remove(&rundir, "web1", &error), 0);
    CHECK(!file_exists(rundir.fd, file));
    CHECK_NUMBER(runtime_remove(&rundir, "web1", &error), 0);
    return true;
}

TEST(peeked, "a peek tells what our own element does, and reads the rest as carefully as a load")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    struct rundir rundir = run_directory(&scratch);
    struct error error = {0};
    AUTO_RUNTIME struct runtime runtime = {0}, peeked = {0}, whole = {0};

    CHECK_NUMBER(fresh(&runtime), 0);
    runtime.state = RUNTIME_PAUSED;
    runtime.pid = 4711;
    CHECK_NUMBER(runtime_commit(&rundir, &runtime, &error), 0);
    CHECK_NUMBER(runtime_peek(&rundir, "web1", &peeked, &error), 0);
    CHECK_TEXT(peeked.instance.uuid, runtime.instance.uuid);
    CHECK_NUMBER(peeked.instance.maxmem_mib, 512);
    CHECK_NUMBER(peeked.instance.vcpus, 2);
    CHECK_NUMBER(peeked.state, RUNTIME_PAUSED);
    CHECK_NUMBER(peeked.pid, 4711);
    CHECK_NUMBER(peeked.instance.disk_count, 0);
    AUTO_FREE char *text = runtime_text(&runtime);
    AUTO_FREE char *three =
        memory_format("%.*s]\n", (int)(strstr(text, ", {\"version\"") - text), text);
    CHECK_NUMBER(file_replace(rundir.fd, "conf/web1.runtime", three, strlen(three), &error), 0);
    CHECK_NUMBER(runtime_peek(&rundir, "web1", &whole, &error), 0);
    CHECK_NUMBER(whole.state, RUNTIME_FOREIGN);
    CHECK(whole.instance.disk_count > 0);
    runtime_release(&whole);
    for (size_t less = 2; less < strlen(text); less += 1 + less % 37) {
        CHECK_NUMBER(
            file_replace(rundir.fd, "conf/web1.runtime", text, strlen(text) - less, &error), 0);
        CHECK_NUMBER(runtime_peek(&rundir, "web1", &whole, &error), -1);
        CHECK_HAS(error.text, "web1.runtime");
    }
    return true;
}

UNIT_MAIN(UNIT(fifth_element), UNIT(on_disk), UNIT(peeked))
