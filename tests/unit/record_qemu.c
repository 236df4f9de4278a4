/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Every golden record is a command that another tool can execute: the real QEMU takes its words, with what such a tool
 * adds (here: no NICs, stopped), and has nothing to say of them. Left out are those that need KVM, a kernel, a
 * directory of this node or a server.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "golden_qemu.h"

enum { WORDS = 256 };

/* The words of NAME.record, in the scratch directory and in the foreground. */
static size_t read_words(const struct golden *golden, char *words[WORDS])
{
    AUTO_FREE char *path = memory_format(TESTS_DIR "/golden/%s.record", golden->name);
    FILE *file = fopen(path, "re");
    char line[4096];
    size_t count = 0;

    while (file != NULL && fgets(line, sizeof(line), file) != NULL && count < WORDS - 8) {
        AUTO_JSON json_t *word = json_loads(line, JSON_DECODE_ANY, NULL);
        AUTO_FREE char *number = json_is_string(word) ? NULL : json_dumps(word, JSON_ENCODE_ANY);
        AUTO_FREE char *first =
            replaced(number != NULL ? number : json_string_value(word), placeholder, scratch);
        if (strcmp(first, "-daemonize") != 0)
            words[count++] = replaced(first, "/run/golden", scratch);
    }
    if (file != NULL)
        fclose(file);
    return count;
}

/* QEMU leaves by its monitor's "quit"; what it said is in *said. */
static int run(const char *const *words, char **said)
{
    static const char commands[] = "{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"quit\"}\n";
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0 || file_write_all(ends[1], commands, strlen(commands)) < 0)
        return -1;
    struct process_spec spec = {
        .argv = words, .input = ends[0], .output = -1, .errors = -1, .pid_lock = -1};
    int status = process_run(&spec, clock_deadline(LIMIT_MS), said, NULL);
    close(ends[0]);
    close(ends[1]);
    return status;
}

static bool needs_more(const struct golden *golden)
{
    return golden->plan.kvm || media_is_web(&golden->instance, MEDIUM_CDROM) ||
           golden->plan.chroot != NULL ||
           hvparams_text(golden->instance.hvparams, "kernel_path")[0] != '\0';
}

static bool is_taken(struct golden *golden)
{
    static const char *const added[] = {"-net", "none", "-S", "-qmp", "stdio"};
    char *words[WORDS] = {NULL};
    AUTO_FREE char *said = NULL;

    if (needs_more(golden))
        return true;
    size_t count = read_words(golden, words);
    for (size_t i = 0; i < sizeof(added) / sizeof(added[0]); i++)
        words[count + i] = memory_copy(added[i]);
    int status = run((const char *const *)words, &said);
    for (size_t i = 0; words[i] != NULL; i++)
        free(words[i]);
    if (status != 0 || strstr(said, "qemu-system") != NULL)
        printf("# status %d: %s\n", status, said != NULL ? said : "");
    CHECK_NUMBER(status, 0);
    CHECK(strstr(said, "qemu-system") == NULL);
    return count > 10;
}

/* The images, directories and certificates that the golden definitions name. */
static bool make_scratch(void)
{
    CHECK(own_network() && mkdtemp(scratch) != NULL);
    CHECK_NUMBER(in_shell("cd \"$1\" && mkdir pid ctrl log && truncate -s 1440K code.fd nvram.fd "
                          "cd,1.iso cd2.iso cdrom.iso floppy.img"),
                 0);
    return make_certificates();
}

TEST(taken, "the real QEMU takes every golden record, with what another tool adds")
{
    NEED_QEMU;
    bool good = make_scratch() && golden_each(is_taken);
    remove_scratch();
    return good;
}

UNIT_MAIN(UNIT(taken))
