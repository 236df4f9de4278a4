/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bare-plug SOCKET add IMAGE SLOT | bare-plug SOCKET del: the QMP sequence of a virtio disk and nothing else, with the
 * names and arguments of a real one (QEMU 7.2 takes 4 to 5 microseconds for each byte of a command). No lock, no state on
 * disk, no question whether it may or whether it worked: what kvm-hotplug is measured against.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/qemu/qmp.h"

enum { PATIENCE_MS = 60000, SET = 1000 };

static const char id[] = "disk-00000000-0000-4000";

static bool run(struct qmp *qmp, const char *command, json_t *arguments, const int *descriptor)
{
    struct error error = {0};

    if (qmp_call_fds(qmp, command, arguments, descriptor, descriptor != NULL ? 1 : 0,
                     clock_deadline(PATIENCE_MS), NULL, &error) == QMP_DONE)
        return true;
    fprintf(stderr, "bare-plug: %s\n", error.text);
    return false;
}

static bool add(struct qmp *qmp, const char *image, const char *slot)
{
    AUTO_CLOSE int descriptor = open(image, O_RDWR | O_CLOEXEC);
    AUTO_FREE char *file = memory_format("/dev/fdset/%d", SET);
    json_t *node = json_pack("{s:s, s:s, s:{s:s, s:s}}", "driver", "raw", "node-name", id, "file",
                             "driver", "file", "filename", file);
    json_t *device = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "driver", "virtio-blk-pci", "id",
                               id, "drive", id, "bus", "pci.0", "addr", slot, "write-cache", "on");

    return run(qmp, "add-fd", json_pack("{s:i}", "fdset-id", SET), &descriptor) &&
           run(qmp, "blockdev-add", node, NULL) && run(qmp, "device_add", device, NULL);
}

static bool is_ours(const json_t *event, const void *context)
{
    const char *device = json_text(json_member(event, "data"), "device");
    return device != NULL && strcmp(device, context) == 0;
}

static bool del(struct qmp *qmp)
{
    if (!run(qmp, "device_del", json_pack("{s:s}", "id", id), NULL))
        return false;
    AUTO_JSON json_t *event =
        qmp_wait_event(qmp, "DEVICE_DELETED", is_ours, id, clock_deadline(PATIENCE_MS), NULL);
    return event != NULL && run(qmp, "blockdev-del", json_pack("{s:s}", "node-name", id), NULL) &&
           run(qmp, "remove-fd", json_pack("{s:i}", "fdset-id", SET), NULL);
}

int main(int argc, char **argv)
{
    struct error error = {0};

    if (argc != 3 && argc != 5)
        return 2;
    AUTO_QMP struct qmp *qmp = qmp_connect(argv[1], false, clock_deadline(PATIENCE_MS), &error);
    return qmp != NULL && (argc == 5 ? add(qmp, argv[3], argv[4]) : del(qmp)) ? 0 : 1;
}
