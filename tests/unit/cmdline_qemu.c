/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Every golden command line, as it is in its file, is given to the real QEMU with real sockets, images, taps
 * and event log on the descriptors that it names. QEMU must greet on its monitor, be in prelaunch, have every
 * device, say nothing on stderr, log its own end and leave with status 0.
 *
 * Only paths below /srv/golden are moved to a scratch directory, and KVM becomes TCG. Needs root and
 * qemu-system-x86_64.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "golden_descriptors.h"
#include "golden_qemu.h"

enum { WORDS = 512 };

/* The words of NAME.argv. */
static bool read_words(const struct golden *golden, const char *words[WORDS])
{
    AUTO_FREE char *path = memory_format(TESTS_DIR "/golden/%s.argv", golden->name);
    FILE *file = fopen(path, "r");
    char line[4096];
    size_t count = 0;

    CHECK(file != NULL);
    while (fgets(line, sizeof(line), file) != NULL && count < WORDS - 1) {
        line[strcspn(line, "\n")] = '\0';
        AUTO_FREE char *moved = replaced(line, placeholder, scratch);
        bool is_cpu = count > 0 && strcmp(words[count - 1], "-cpu") == 0;
        words[count++] = is_cpu && strcmp(moved, "host") == 0
                             ? memory_copy("max")
                             : replaced(moved, ",accel=kvm", ",accel=tcg");
    }
    words[count] = NULL;
    fclose(file);
    CHECK(count > 0);
    return true;
}

static FILE *connect_monitor(pid_t pid)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval limit = {.tv_sec = LIMIT_MS / 1000};
    deadline_t deadline = clock_deadline(LIMIT_MS);

    snprintf(address.sun_path, sizeof(address.sun_path), "%s/qmp", scratch);
    while (!clock_passed(deadline) && !process_is_zombie(pid)) {
        int made = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        setsockopt(made, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
        if (connect(made, (struct sockaddr *)&address, sizeof(address)) == 0)
            return fdopen(made, "r");
        close(made);
        clock_sleep_ms(2);
    }
    return NULL;
}

/* New reference: the reply's "return", or NULL. Events are passed over. */
static json_t *ask(FILE *monitor, const char *command)
{
    if (dprintf(fileno(monitor), "%s\n", command) < 0)
        return NULL;
    for (;;) {
        AUTO_JSON json_t *message = json_loadf(monitor, JSON_DISABLE_EOF_CHECK, NULL);
        if (message == NULL || json_object_get(message, "error") != NULL)
            return NULL;
        if (json_object_get(message, "return") != NULL)
            return json_incref(json_object_get(message, "return"));
    }
}

/* Every -device with an id is there. */
static bool has_devices(FILE *monitor, const char *const *words)
{
    AUTO_JSON json_t *list = ask(
        monitor, "{\"execute\": \"qom-list\", \"arguments\": {\"path\": \"/machine/peripheral\"}}");
    AUTO_FREE char *text = json_compact(list);

    CHECK(list != NULL);
    for (; *words != NULL; words++) {
        if (strcmp(*words, "-device") != 0)
            continue;
        AUTO_JSON json_t *device = json_loads(words[1], 0, NULL);
        if (json_text(device, "id") == NULL)
            continue;
        AUTO_FREE char *named = memory_format("\"name\":\"%s\"", json_text(device, "id"));
        CHECK_HAS(text, named);
    }
    return true;
}

/* All that `part` says is so in `whole`; of a list, item by item. */
static bool is_part(const json_t *part, const json_t *whole)
{
    const char *key;
    json_t *value;
    size_t index;

    if (json_is_object(part)) {
        json_object_foreach ((json_t *)(uintptr_t)part, key, value) {
            if (!is_part(value, json_object_get(whole, key)))
                return false;
        }
        return json_is_object(whole);
    }
    if (!json_is_array(part))
        return json_equal(part, whole);
    json_array_foreach (part, index, value) {
        if (!is_part(value, json_array_get(whole, index)))
            return false;
    }
    return json_is_array(whole);
}

static bool answers(FILE *monitor, const struct golden *golden)
{
    size_t index;
    json_t *question;

    json_array_foreach (json_object_get(golden->file, "ask"), index, question) {
        AUTO_JSON json_t *call =
            json_pack("{s:O, s:O*}", "execute", json_object_get(question, "execute"), "arguments",
                      json_object_get(question, "arguments"));
        AUTO_FREE char *text = json_compact(call);
        AUTO_FREE char *command = replaced(text, placeholder, scratch);
        AUTO_JSON json_t *answer = ask(monitor, command);
        AUTO_FREE char *plain = json_dumps(answer, JSON_ENCODE_ANY | JSON_COMPACT);
        AUTO_FREE char *moved = replaced(plain == NULL ? "null" : plain, scratch, placeholder);
        AUTO_JSON json_t *told = json_loads(moved, JSON_DECODE_ANY, NULL);

        if (!is_part(json_object_get(question, "return"), told))
            printf("# %s\n# says %s\n", command, moved);
        CHECK(is_part(json_object_get(question, "return"), told));
    }
    return true;
}

static bool talk(const struct golden *golden, pid_t pid, const char *const *words)
{
    FILE *monitor = connect_monitor(pid);
    bool good;

    CHECK(monitor != NULL);
    AUTO_JSON json_t *greeting = json_loadf(monitor, JSON_DISABLE_EOF_CHECK, NULL);
    AUTO_JSON json_t *ready = ask(monitor, "{\"execute\": \"qmp_capabilities\"}");
    AUTO_JSON json_t *status = ask(monitor, "{\"execute\": \"query-status\"}");
    good = json_object_get(greeting, "QMP") != NULL && ready != NULL &&
           has_devices(monitor, words) && answers(monitor, golden);
    AUTO_JSON json_t *ended = ask(monitor, "{\"execute\": \"quit\"}");
    fclose(monitor);
    CHECK(good);
    CHECK_TEXT(json_text(status, "status"), "prelaunch");
    CHECK(ended != NULL);
    return true;
}

static char *content(const char *name)
{
    AUTO_FREE char *path = in_scratch(name);
    char *bytes = NULL;

    return file_read(AT_FDCWD, path, IMAGE, false, &bytes, NULL, NULL) < 0 ? NULL : bytes;
}

static bool run_words(const struct golden *golden, const char *const *words, const int *descriptors)
{
    int log = make_file("stderr", 0, O_WRONLY | O_APPEND), pidfd = -1, status = -1;
    struct process_spec spec = {.argv = words,
                                .descriptors = descriptors,
                                .descriptor_count = golden->count,
                                .input = -1,
                                .output = -1,
                                .errors = log,
                                .die_with_parent = true,
                                .pid_lock = -1};
    struct error error = {0};
    pid_t pid = process_spawn(&spec, &pidfd, &error);

    close(log);
    CHECK_TEXT(error.text, "");
    bool good = talk(golden, pid, words);
    bool gone = process_wait_gone(pidfd, clock_deadline(LIMIT_MS));
    if (!gone)
        process_signal(pidfd, SIGKILL);
    waitpid(pid, &status, 0);
    close(pidfd);
    AUTO_FREE char *said = content("stderr");
    CHECK_TEXT(said, "");
    CHECK(good && gone);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    AUTO_FREE char *events = content("events");
    CHECK_HAS(events, "\"SHUTDOWN\"");
    CHECK_HAS(events, "\"host-qmp-quit\"");
    return true;
}

/* Each run begins with empty files. */
static void empty_files(void)
{
    static const char *const names[] = {"events", "stderr"};

    for (size_t i = 0; i < 2; i++) {
        AUTO_FREE char *path = in_scratch(names[i]);
        unlink(path);
    }
}

static bool knows_run_with(void)
{
    const char *const argv[] = {qemu, "--help", NULL};
    struct process_spec spec = {
        .argv = argv, .input = -1, .output = -1, .errors = -1, .pid_lock = -1};
    AUTO_FREE char *help = NULL;

    return process_run(&spec, clock_deadline(LIMIT_MS), &help, NULL) == 0 &&
           strstr(help, "\n-run-with") != NULL;
}

/* What this node or its QEMU lacks; NULL: nothing. */
static const char *what_lacks(const struct golden *golden)
{
    if (golden->vhost[0] && access("/dev/vhost-net", R_OK | W_OK) < 0)
        return "/dev/vhost-net";
    for (size_t i = 0; i < golden->instance.disk_count; i++)
        if (disk_is_userspace(&golden->instance.disks[i]))
            return "server of the disks";
    for (size_t i = 0; i < MEDIA; i++)
        if (media_is_web(&golden->instance, (enum medium)i))
            return "server of the CD-ROM";
    if (golden->probe.run_with_chroot && !knows_run_with())
        return "-run-with";
    if (golden->plan.tpm_fd >= 0) /* tests/bats/tpm.bats has one */
        return "emulator of a TPM";
    return NULL;
}

static bool is_accepted(struct golden *golden)
{
    const char *words[WORDS] = {NULL};
    int descriptors[GOLDEN_DESCRIPTORS];
    const char *lack = what_lacks(golden);

    if (lack != NULL) {
        printf("# not run: %s: no %s here\n", golden->name, lack);
        return true;
    }
    empty_files();
    for (size_t i = 0; i < golden->count; i++) {
        descriptors[i] = open_descriptor(golden, i);
        if (descriptors[i] < 0)
            printf("# descriptor %zu of kind %d: %s\n", GOLDEN_FIRST + i, (int)golden->kinds[i],
                   strerror(errno));
        CHECK(descriptors[i] >= 0);
    }
    bool good = read_words(golden, words) && run_words(golden, words, descriptors);
    for (size_t i = 0; i < golden->count; i++)
        close(descriptors[i]);
    if (loop_fd >= 0)
        close(loop_fd);
    loop_fd = -1;
    for (size_t i = 0; words[i] != NULL; i++)
        free((void *)(uintptr_t)words[i]);
    return good;
}

/* A kernel that QEMU loads, of boot protocol 2.12, with room for an initrd and without code: it never runs. */
static bool make_kernel(void)
{
    unsigned char image[64 * 1024] = {
        [0x1fe] = 0x55, [0x1ff] = 0xaa, [0x202] = 'H',  [0x203] = 'd',
        [0x204] = 'r',  [0x205] = 'S',  [0x206] = 0x0c, [0x207] = 0x02,
        [0x22c] = 0xff, [0x22d] = 0xff, [0x22e] = 0xff, [0x22f] = 0x37};
    int kernel = make_file("vmlinuz", 0, O_RDWR), initrd = make_file("initrd", 4096, O_RDWR);
    bool good = kernel >= 0 && initrd >= 0 && file_write_all(kernel, image, sizeof(image)) == 0;

    close(kernel);
    close(initrd);
    return good;
}

static bool make_scratch(void)
{
    CHECK(own_network() && mkdtemp(scratch) != NULL);
    CHECK_NUMBER(in_shell("mkdir -m 0700 \"$1/chroot\" && "
                          "qemu-img create -q -f qcow2 \"$1/disk3.qcow2\" 1M"),
                 0);
    return make_kernel() && make_certificates();
}

TEST(accepted, "the real QEMU takes every golden command line without a word")
{
    NEED_QEMU;
    if (geteuid() != 0 || access("/dev/net/tun", R_OK | W_OK) != 0)
        return unit_not_run("needs root and /dev/net/tun");
    signal(SIGPIPE, SIG_IGN); /* a QEMU that ends early is told by its stderr */
    bool good = make_scratch() && golden_each(is_accepted);
    remove_scratch();
    return good;
}

UNIT_MAIN(UNIT(accepted))
