/* SPDX-License-Identifier: BSD-2-Clause */
/* KVM_SUITE_REGENERATE=1 writes the golden files instead of comparing; read the difference before a commit. */
#include "golden.h"

/* One word on a line; a record's words as JSON, since one of them is a number. */
static char *lines(const json_t *words, bool as_json)
{
    char *text = memory_copy("");
    size_t index;
    json_t *word;

    json_array_foreach (words, index, word) {
        AUTO_FREE char *before = text;
        AUTO_FREE char *line = as_json ? json_dumps(word, JSON_ENCODE_ANY | JSON_COMPACT)
                                       : memory_copy(json_string_value(word));
        text = memory_format("%s%s\n", before, line);
    }
    return text;
}

static char *read_file(const char *path)
{
    FILE *file = fopen(path, "r");
    char *text = NULL;
    size_t length = 0, size = 0;

    if (file == NULL)
        return NULL;
    do {
        text = memory_resize(text, size += 4096, 1);
        length += fread(text + length, 1, size - length - 1, file);
    } while (length == size - 1);
    text[length] = '\0';
    fclose(file);
    return text;
}

static bool write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");

    CHECK(file != NULL);
    CHECK(fputs(text, file) >= 0);
    CHECK_NUMBER(fclose(file), 0);
    return true;
}

/* Tells the first line that differs. */
static bool same_lines(const char *path, const char *have, const char *want)
{
    size_t at = 0, start = 0;
    int line = 1;

    if (strcmp(have, want) == 0)
        return true;
    for (; have[at] == want[at]; at++) {
        if (have[at] == '\n') {
            line++;
            start = at + 1;
        }
    }
    printf("# %s:%d:\n#   is:     %.*s\n#   golden: %.*s\n", path, line,
           (int)strcspn(have + start, "\n"), have + start, (int)strcspn(want + start, "\n"),
           want + start);
    return false;
}

static bool compare(const struct golden *golden, const char *ending, const char *text)
{
    AUTO_FREE char *path = memory_format(TESTS_DIR "/golden/%s.%s", golden->name, ending);

    if (getenv("KVM_SUITE_REGENERATE") != NULL)
        return write_file(path, text);
    AUTO_FREE char *want = read_file(path);
    if (want == NULL)
        printf("# %s is missing: KVM_SUITE_REGENERATE=1 writes it\n", path);
    CHECK(want != NULL);
    return same_lines(path, text, want);
}

static const struct rundir run_directory = {.fd = -1, .path = (char[]){"/run/golden"}};

static bool is_golden(struct golden *golden)
{
    struct error error = {0};
    AUTO_JSON json_t *words = cmdline_build(&golden->instance, &golden->plan, &error);
    CHECK_TEXT(error.text, "");
    AUTO_JSON json_t *record = cmdline_record(&golden->instance, &golden->plan, &run_directory);
    AUTO_FREE char *argv = lines(words, false);
    AUTO_FREE char *kept = lines(record, true);
    bool same_argv = compare(golden, "argv", argv);

    return compare(golden, "record", kept) && same_argv;
}

TEST(golden_words, "every golden definition becomes exactly its golden words")
{
    return golden_each(is_golden);
}

static bool is_repeatable(struct golden *golden)
{
    AUTO_JSON json_t *first = cmdline_build(&golden->instance, &golden->plan, NULL);
    AUTO_JSON json_t *second = cmdline_build(&golden->instance, &golden->plan, NULL);

    CHECK(first != NULL && json_equal(first, second));
    return true;
}

TEST(repeatable, "the same input gives the same words")
{
    return golden_each(is_repeatable);
}

/* False when `value` was put into `seen` before. */
static bool is_new(json_t *seen, const char *value)
{
    if (json_object_get(seen, value) != NULL) {
        printf("# twice: %s\n", value);
        return false;
    }
    json_object_set_new(seen, value, json_true());
    return true;
}

static bool sits_alone(const json_t *device, json_t *ids, json_t *places)
{
    const char *id = json_text(device, "id"), *bus = json_text(device, "bus");
    const char *address = json_text(device, "addr");

    CHECK(id == NULL || (strlen(id) <= 31 && is_new(ids, id)));
    if (address == NULL)
        return true;
    CHECK(bus != NULL);
    AUTO_FREE char *place = memory_format("%s %s", bus, address);
    CHECK(is_new(places, place));
    return true;
}

static bool has_unique_devices(struct golden *golden)
{
    AUTO_JSON json_t *words = cmdline_build(&golden->instance, &golden->plan, NULL);
    AUTO_JSON json_t *ids = json_object();
    AUTO_JSON json_t *places = json_object();
    size_t index, devices = 0;
    json_t *word;

    json_array_foreach (words, index, word) {
        const char *text = json_string_value(word);
        if (strcmp(text, "-device") != 0)
            continue;
        const char *value = json_string_value(json_array_get(words, index + 1));
        AUTO_JSON json_t *device = json_loads(value, JSON_REJECT_DUPLICATES, NULL);
        CHECK(device != NULL);
        CHECK(sits_alone(device, ids, places));
        devices++;
    }
    CHECK(devices >= (golden->instance.default_devices ? 1 : 3) + golden->instance.disk_count +
                         golden->instance.nic_count);
    return true;
}

TEST(unique_devices, "device ids are short and unique, and no two devices share a place")
{
    return golden_each(has_unique_devices);
}

/* What Ganeti adds when it executes a stored command, and what makes it misread one. */
static bool is_for_ganeti(struct golden *golden)
{
    static const char *const added[] = {"-S", "-qmp",    "-incoming", "-runas",
                                        "-k", "-netdev", "-blockdev", "-add-fd"};
    AUTO_JSON json_t *words = cmdline_record(&golden->instance, &golden->plan, &run_directory);
    size_t index;
    json_t *word;

    CHECK_TEXT(json_string_value(json_array_get(words, 1)), "-name");
    CHECK_TEXT(json_string_value(json_array_get(words, 2)), golden->instance.name);
    CHECK_TEXT(json_string_value(json_array_get(words, 3)), "-m");
    CHECK_NUMBER(json_integer_value(json_array_get(words, 4)), golden->instance.maxmem_mib);
    json_array_foreach (words, index, word) {
        CHECK(index == 4 ? json_is_integer(word) : json_is_string(word));
        for (size_t i = 0; i < sizeof(added) / sizeof(added[0]); i++)
            CHECK(index == 4 || strcmp(json_string_value(word), added[i]) != 0);
    }
    return true;
}

TEST(for_ganeti, "the recorded command holds nothing that Ganeti adds itself")
{
    return golden_each(is_for_ganeti);
}

TEST(extra_must_split, "kvm_extra with an open quote fails by name")
{
    struct golden golden;
    struct error error = {0};

    CHECK(golden_load(TESTS_DIR "/golden/pc-plain.json", &golden));
    json_object_set_new(golden.instance.hvparams, "kvm_extra", json_string("-cpu 'host"));
    json_t *words = cmdline_build(&golden.instance, &golden.plan, &error);
    golden_release(&golden);
    CHECK(words == NULL);
    CHECK_HAS(error.text, "kvm_extra");
    CHECK_NUMBER(error.status, STATUS_USAGE);
    return true;
}

TEST(extra_refused, "words of kvm_extra that would break the suite are refused by name")
{
    static const char *const bad[] = {"-S",
                                      "-incoming tcp:0:1",
                                      "--incoming defer",
                                      "-pidfile /x",
                                      "-qmp unix:/x",
                                      "-mon chardev=x",
                                      "-daemonize",
                                      "-runas nobody",
                                      "-chroot /",
                                      "-run-with user=1:1",
                                      "-name x",
                                      "-m 4096",
                                      "-smp 4",
                                      "-M pc",
                                      "-machine q35",
                                      "-machine vmport=off,type=q35",
                                      "-machine accel=tcg",
                                      "-machine vmport=off,accel=tcg",
                                      "-machine",
                                      "-accel kvm",
                                      "-enable-kvm",
                                      "-no-shutdown",
                                      "-action panic=none,shutdown=pause",
                                      "-add-fd fd=3,set=1",
                                      "-uuid x",
                                      "-D /x",
                                      "-readconfig /x",
                                      "-snapshot",
                                      "-nographic",
                                      "-device virtio-rng-pci '-S'"};

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct error error = {0};
        AUTO_FREE char *word = memory_format("%.*s", (int)strcspn(bad[i], " "), bad[i]);
        if (cmdline_check_extra(bad[i], &error) == 0)
            printf("# taken: %s\n", bad[i]);
        CHECK_NUMBER(error.status, STATUS_USAGE);
        CHECK_HAS(error.text, strstr(bad[i], "'-S'") != NULL ? "-S" : word);
        CHECK_HAS(error.text, "not allowed");
    }
    struct error error = {0};
    CHECK_NUMBER(cmdline_check_extra("-cpu \"host", &error), -1);
    return true;
}

TEST(extra_taken, "other words of kvm_extra are taken")
{
    static const char *const good[] = {"",
                                       "-cpu host,-vmx",
                                       "-machine vmport=off",
                                       "-machine vmport=off,mem-merge=off",
                                       "-device virtio-rng-pci",
                                       "-action watchdog=poweroff",
                                       "-sandbox off",
                                       "-smbios 'type=1,manufacturer=A B'",
                                       "-global PIIX4_PM.disable_s3=1",
                                       "-serial null"};

    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        struct error error = {0};
        cmdline_check_extra(good[i], &error);
        CHECK_TEXT(error.text, "");
    }
    return true;
}

UNIT_MAIN(UNIT(golden_words), UNIT(repeatable), UNIT(unique_devices), UNIT(for_ganeti),
          UNIT(extra_must_split), UNIT(extra_refused), UNIT(extra_taken))
