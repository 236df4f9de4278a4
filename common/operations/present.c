/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "kvm/operations/present.h"
#include "kvm/operations/resume.h"
#include "kvm/base/clock.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/text.h"
#include "kvm/base/transaction.h"

enum { CELL = 256 };

void present_json(const json_t *value)
{
    json_dumpf(value, stdout, JSON_INDENT(2));
    putchar('\n');
}

/* "running", "paused, busy", "stopped (guest-poweroff)": one word and what an operator must know with it. */
static void state_cell(const json_t *brief, char *cell)
{
    const char *ending = json_text(brief, "ending");
    const char *phase = json_text(json_member(brief, "migration"), "phase");

    if (phase != NULL) {
        snprintf(cell, CELL, "%s (migration: %s)", json_text(brief, "state"), phase);
        return;
    }
    if (ending != NULL && strcmp(ending, "none") == 0)
        ending = NULL;
    snprintf(cell, CELL, "%s%s%s%s", json_text(brief, "state"), ending != NULL ? " (" : "",
             ending != NULL ? ending : "", ending != NULL ? ")" : "");
}

static void number_cell(const json_t *object, const char *key, const char *unit, char *cell)
{
    if (json_member(object, key) == NULL)
        snprintf(cell, CELL, "-");
    else
        snprintf(cell, CELL, "%lld%s", (long long)json_number(object, key, 0), unit);
}

static void time_cell(const json_t *object, const char *key, char *cell)
{
    const json_t *value = json_member(object, key);

    if (!json_is_number(value))
        snprintf(cell, CELL, "-");
    else
        clock_format_wall(json_number_value(value), cell, CELL);
}

enum { COLUMNS = 6 };

static void fill_row(const json_t *brief, char cells[COLUMNS][CELL])
{
    snprintf(cells[0], CELL, "%s", json_text(brief, "instance"));
    state_cell(brief, cells[1]);
    number_cell(brief, "pid", "", cells[2]);
    number_cell(brief, "memory_mib", " MiB", cells[3]);
    number_cell(brief, "vcpus", "", cells[4]);
    time_cell(brief, "since", cells[5]);
}

static void print_row(char cells[COLUMNS][CELL], const int *widths)
{
    for (int column = 0; column < COLUMNS - 1; column++)
        printf("%-*s  ", widths[column], cells[column]);
    printf("%s", cells[COLUMNS - 1]);
}

void present_list(const json_t *briefs)
{
    static const char *const titles[COLUMNS] = {"NAME", "STATE", "PID", "MEMORY", "VCPUS", "SINCE"};
    char cells[COLUMNS][CELL];
    int widths[COLUMNS];
    size_t i;
    json_t *brief;

    for (int column = 0; column < COLUMNS; column++)
        widths[column] = (int)strlen(titles[column]);
    json_array_foreach (briefs, i, brief) {
        fill_row(brief, cells);
        for (int column = 0; column < COLUMNS; column++)
            if ((int)strlen(cells[column]) > widths[column])
                widths[column] = (int)strlen(cells[column]);
    }
    for (int column = 0; column < COLUMNS; column++)
        snprintf(cells[column], CELL, "%s", titles[column]);
    print_row(cells, widths);
    putchar('\n');
    json_array_foreach (briefs, i, brief) {
        fill_row(brief, cells);
        print_row(cells, widths);
        if (json_text(brief, "busy") != NULL)
            printf("  busy: %s", json_text(brief, "busy"));
        if (json_text(brief, "fault") != NULL)
            printf("  %s", json_text(brief, "fault"));
        putchar('\n');
    }
}

static void line(const char *key, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void line(const char *key, const char *format, ...)
{
    va_list arguments;

    printf("  %-10s ", key);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
}

static void text_line(const json_t *detail, const char *key, const char *title)
{
    const char *text = json_text(detail, key);

    if (text != NULL && text[0] != '\0')
        line(title, "%s", text);
}

static const char *or_else(const char *text, const char *otherwise)
{
    return text != NULL && text[0] != '\0' ? text : otherwise;
}

static void slot_cell(const json_t *device, char *cell)
{
    if (json_member(device, "scsi_id") != NULL)
        snprintf(cell, CELL, "SCSI id %lld", (long long)json_number(device, "scsi_id", -1));
    else if (json_member(device, "slot") == NULL)
        snprintf(cell, CELL, "no slot");
    else
        snprintf(cell, CELL, "slot %lld", (long long)json_number(device, "slot", -1));
}

/* When QEMU was asked as well: what is in the file and what is there need not be the same after a crash or a reset. */
static const char *state_word(const json_t *device)
{
    const json_t *there = json_member(device, "in_qemu");
    const char *state = json_text(device, "state");

    if (!json_is_boolean(there) || json_is_true(there))
        return state;
    if (strcmp(state, "adding") == 0)
        return "adding (not in QEMU: the next command undoes it)";
    return strcmp(state, "removing") == 0
               ? "removing (QEMU has let it go: the next command finishes it)"
               : "missing in QEMU";
}

/* Of a disk, where QEMU was asked; "" where it was not. */
static void backend_cell(const json_t *disk, char *cell)
{
    const char *node = json_text(disk, "node");

    if (json_member(disk, "backend") == NULL)
        cell[0] = '\0';
    else if (node == NULL)
        snprintf(cell, CELL, ", no backend");
    else
        snprintf(cell, CELL, ", backend %s", node);
}

static void print_disks(const json_t *disks)
{
    char slot[CELL], backend[CELL];
    size_t i;
    json_t *disk;

    json_array_foreach (disks, i, disk) {
        AUTO_FREE char *title = memory_format("disk %zu", i);
        slot_cell(disk, slot);
        backend_cell(disk, backend);
        line(title, "%s, %s, %s, %s%s%s%s%s",
             or_else(json_text(disk, "path"), or_else(json_text(disk, "uri"), "-")),
             or_else(json_text(disk, "id"), "no id"), slot,
             json_truth(disk, "read_only", false) ? "read-only, " : "", state_word(disk), backend,
             json_text(disk, "name") != NULL ? ", name " : "",
             or_else(json_text(disk, "name"), ""));
        line("", "uuid %s", json_text(disk, "uuid"));
    }
}

static void print_nics(const json_t *nics)
{
    char slot[CELL];
    size_t i;
    json_t *nic;

    json_array_foreach (nics, i, nic) {
        AUTO_FREE char *title = memory_format("NIC %zu", i);
        slot_cell(nic, slot);
        line(title, "%s, %s %s, tap %s, %s, %s, %s%s%s%s", or_else(json_text(nic, "mac"), "-"),
             or_else(json_text(nic, "mode"), "-"), or_else(json_text(nic, "link"), "-"),
             or_else(json_text(nic, "tap"), "none"), or_else(json_text(nic, "id"), "no id"), slot,
             state_word(nic), json_truth(nic, "link_down", false) ? ", link down" : "",
             json_text(nic, "name") != NULL ? ", name " : "", or_else(json_text(nic, "name"), ""));
        line("", "uuid %s", json_text(nic, "uuid"));
    }
}

static void print_media(const json_t *media)
{
    size_t i;
    json_t *one;

    json_array_foreach (media, i, one)
        line(json_text(one, "drive"), "%s", or_else(json_text(one, "medium"), "empty (ejected)"));
}

void present_devices(const json_t *detail)
{
    print_disks(json_member(detail, "disks"));
    print_nics(json_member(detail, "nics"));
    print_media(json_member(detail, "media"));
}

void present_hooks(const json_t *detail)
{
    size_t i;
    json_t *hook;

    json_array_foreach (json_member(detail, "hooks"), i, hook)
        printf("  hook: %s\n", json_string_value(hook));
}

static void print_machine(const json_t *detail)
{
    const json_t *version = json_member(detail, "qemu");
    const json_t *firmware = json_member(detail, "firmware");
    char since[CELL];

    if (json_member(detail, "memory_mib") != NULL) {
        AUTO_FREE char *actual =
            json_member(detail, "memory_actual_mib") == NULL
                ? memory_copy("")
                : memory_format(" (guest has %lld)",
                                (long long)json_number(detail, "memory_actual_mib", 0));
        line("memory", "%lld MiB%s", (long long)json_number(detail, "memory_mib", 0), actual);
        line("vcpus", "%lld", (long long)json_number(detail, "vcpus", 0));
    }
    if (json_text(detail, "machine") != NULL)
        line("machine", "%s, %s", or_else(json_text(detail, "machine"), "default"),
             json_text(detail, "accelerator"));
    if (firmware != NULL)
        line("firmware", "%s, NVRAM %s", or_else(json_text(firmware, "code"), "?"),
             or_else(json_text(firmware, "nvram"), "?"));
    if (version != NULL)
        line("QEMU", "%lld.%lld.%lld", (long long)json_number(version, "major", 0),
             (long long)json_number(version, "minor", 0),
             (long long)json_number(version, "micro", 0));
    time_cell(detail, "since", since);
    if (json_member(detail, "since") != NULL)
        line("since", "%s", since);
}

static void print_migration(const json_t *detail)
{
    const json_t *migration = json_member(detail, "migration");

    if (migration == NULL)
        return;
    line("migration", "%s%s, %s%s%s%s",
         json_truth(migration, "in_place", false) ? "in place, " : "", json_text(migration, "side"),
         json_text(migration, "phase"), json_text(detail, "busy") != NULL ? "" : "; 'kvm-migrate ",
         json_text(detail, "busy") != NULL ? "" : json_text(detail, "instance"),
         json_text(detail, "busy") != NULL ? "" : " recover' finishes or undoes it");
}

/* With the command that ends it, where that is one. */
static void print_status(const json_t *detail)
{
    const char *status = json_text(detail, "status");
    bool waits = status != NULL && resume_reason(status) != NULL &&
                 json_member(detail, "migration") == NULL && json_text(detail, "busy") == NULL;

    if (waits)
        line("status", "%s; 'kvm-start --resume %s' lets it go on", status,
             json_text(detail, "instance"));
    else
        text_line(detail, "status", "status");
}

void present_detail(const json_t *detail)
{
    size_t i;
    json_t *note;

    if (strcmp(json_text(detail, "state"), "absent") == 0) {
        printf("%s: nothing of it is here; 'kvm-info' lists what is\n",
               json_text(detail, "instance"));
        return;
    }
    printf("%s: %s", json_text(detail, "instance"), json_text(detail, "state"));
    if (json_member(detail, "pid") != NULL)
        printf(" (pid %lld)", (long long)json_number(detail, "pid", 0));
    putchar('\n');
    text_line(detail, "reason", "ended");
    text_line(detail, "busy", "busy");
    print_migration(detail);
    text_line(detail, "fault", "fault");
    print_status(detail);
    text_line(detail, "uuid", "uuid");
    print_machine(detail);
    present_devices(detail);
    text_line(detail, "tpm", "TPM");
    text_line(detail, "vnc", "VNC");
    text_line(detail, "spice", "SPICE");
    text_line(detail, "console", "console");
    json_array_foreach (json_member(detail, "notes"), i, note)
        line("note", "%s", json_string_value(note));
}

void present_slots(const json_t *map)
{
    size_t i;
    json_t *slot;

    puts("SLOT  USE       WHAT");
    json_array_foreach (map, i, slot)
        printf("%4lld  %-8s  %s\n", (long long)json_number(slot, "slot", 0), json_text(slot, "use"),
               json_text(slot, "what"));
}

void present_events(const json_t *events)
{
    char when[64];
    size_t i;
    json_t *event;

    json_array_foreach (events, i, event) {
        const json_t *stamp = json_member(event, "timestamp");
        const json_t *data = json_member(event, "data");
        AUTO_FREE char *words = data == NULL ? memory_copy("") : json_compact(data);
        const char *name = or_else(json_text(event, "event"), "?");
        AUTO_FREE char *shown = text_escape(name, strlen(name));
        clock_format_wall((double)json_number(stamp, "seconds", 0), when, sizeof(when));
        printf("%s.%03lld  %-*s%s%s\n", when,
               (long long)json_number(stamp, "microseconds", 0) / 1000, words[0] != '\0' ? 20 : 0,
               shown, words[0] != '\0' ? " " : "", words);
    }
}
