/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * gt, the test guest's one helper: what busybox has no applet for. Linked statically; runs only in
 * the guest, so it may be short where a host program may not.
 *
 *     gt powerbtn [DELAY]      power off DELAY seconds after the ACPI power button was pressed
 *     gt agent [deaf|refuse]   a small guest agent on org.qemu.guest_agent.0
 *     gt dirty MB KBPS         write MB of memory over and over, KBPS KiB each second
 *     gt verify MB SECS        fill MB with a pattern, check it for SECS seconds
 *     gt dw DEV BLOCKS US      write numbered 4 KiB blocks in a ring, one every US microseconds
 *     gt dr DEV BLOCKS         read them back: "max=N bad=N torn=N"
 *     gt gap SECS              the longest time in SECS seconds in which this process did not run
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/input.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/reboot.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, WORDS = PAGE / 8, BUTTONS_MAX = 16, LINE_MAX_BYTES = 8192 };

static uint64_t now_us(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000U + (uint64_t)time.tv_nsec / 1000U;
}

static int fail(const char *what)
{
    fprintf(stderr, "gt: %s: %s\n", what, strerror(errno));
    return 1;
}

static int end_guest(int how)
{
    sync();
    return reboot(how) == 0 ? 0 : fail("reboot");
}

/* ---- power button ---- */

static nfds_t open_inputs(struct pollfd *inputs)
{
    nfds_t count = 0;
    for (int i = 0; i < BUTTONS_MAX; i++) {
        char path[64];
        snprintf(path, sizeof(path), "/dev/input/event%d", i);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd >= 0)
            inputs[count++] = (struct pollfd){.fd = fd, .events = POLLIN};
    }
    return count;
}

static bool is_power_press(int fd)
{
    struct input_event event;
    return read(fd, &event, sizeof(event)) == (ssize_t)sizeof(event) && event.type == EV_KEY &&
           event.code == KEY_POWER && event.value == 1;
}

static int power_button(unsigned delay)
{
    struct pollfd inputs[BUTTONS_MAX];
    nfds_t count = open_inputs(inputs);
    if (count == 0)
        return fail("no input device");
    for (;;) {
        if (poll(inputs, count, -1) < 0)
            return fail("poll");
        for (nfds_t i = 0; i < count; i++) {
            if (inputs[i].revents == 0 || !is_power_press(inputs[i].fd))
                continue;
            puts("GUEST BUTTON");
            fflush(stdout);
            sleep(delay);
            return end_guest(RB_POWER_OFF);
        }
    }
}

/* ---- guest agent ---- */

/* There is no udev here to make /dev/virtio-ports, so look the port up by its name in sysfs. */
static int open_port(const char *wanted)
{
    static const char root[] = "/sys/class/virtio-ports";
    DIR *ports = opendir(root);
    int found = -1;
    for (struct dirent *entry; ports && found < 0 && (entry = readdir(ports));) {
        char path[512], name[128] = "";
        snprintf(path, sizeof(path), "%s/%s/name", root, entry->d_name);
        FILE *file = fopen(path, "re");
        if (!file)
            continue;
        if (fgets(name, sizeof(name), file) && strncmp(name, wanted, strlen(wanted)) == 0) {
            snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
            found = open(path, O_RDWR | O_CLOEXEC);
        }
        fclose(file);
    }
    if (ports)
        closedir(ports);
    return found;
}

static void agent_answer(int port, const char *line, bool refuse)
{
    const char *id = strstr(line, "\"id\"");
    unsigned long long number = id ? strtoull(id + 4 + strspn(id + 4, " :"), NULL, 10) : 0;
    if (strstr(line, "\"guest-sync-delimited\""))
        dprintf(port, "\xff{\"return\": %llu}\n", number);
    else if (strstr(line, "\"guest-sync\""))
        dprintf(port, "{\"return\": %llu}\n", number);
    else if (strstr(line, "\"guest-ping\""))
        dprintf(port, "{\"return\": {}}\n");
    else if (strstr(line, "\"guest-info\""))
        dprintf(port,
                "{\"return\": {\"version\": \"7.2.0\", \"supported_commands\": ["
                "{\"enabled\": true, \"name\": \"guest-shutdown\", \"success-response\": false},"
                "{\"enabled\": true, \"name\": \"guest-ping\", \"success-response\": true}]}}\n");
    else if (strstr(line, "\"guest-shutdown\"") && !refuse)
        end_guest(strstr(line, "\"reboot\"") ? RB_AUTOBOOT : RB_POWER_OFF);
    else
        dprintf(port, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"not done here\"}}\n");
}

static int agent(const char *manner)
{
    int port = open_port("org.qemu.guest_agent.0");
    if (port < 0)
        return fail("org.qemu.guest_agent.0");
    char line[LINE_MAX_BYTES];
    size_t length = 0;
    for (;;) {
        char byte;
        ssize_t got = read(port, &byte, 1);
        if (got <= 0) { /* nobody is connected on the host */
            usleep(50000);
            continue;
        }
        if (byte == (char)0xff)
            length = 0;
        else if (byte != '\n' && length < sizeof(line) - 1)
            line[length++] = byte;
        if (byte != '\n')
            continue;
        line[length] = '\0';
        length = 0;
        if (strcmp(manner, "deaf") != 0)
            agent_answer(port, line, strcmp(manner, "refuse") == 0);
    }
}

/* ---- memory ---- */

static uint64_t *allocate(size_t mebibytes)
{
    void *memory = mmap(NULL, mebibytes << 20, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

static int dirty(size_t mebibytes, uint64_t kib_per_second)
{
    uint64_t *memory = allocate(mebibytes);
    if (!memory || kib_per_second == 0)
        return fail("dirty");
    size_t pages = (mebibytes << 20) / PAGE;
    uint64_t begun = now_us();
    for (uint64_t done = 0;; done++) {
        memory[done % pages * WORDS] = done;
        uint64_t due = begun + done * 4 * 1000000U / kib_per_second, now = now_us();
        if (due > now)
            usleep((useconds_t)(due - now));
    }
}

static int verify(size_t mebibytes, uint64_t seconds)
{
    volatile uint64_t *memory = allocate(mebibytes);
    if (!memory)
        return fail("verify");
    size_t words = (mebibytes << 20) / 8, bad = 0;
    unsigned long rounds = 0;
    for (size_t i = 0; i < words; i += 8)
        memory[i] = i * 0x9e3779b97f4a7c15U;
    for (uint64_t end = now_us() + seconds * 1000000U; now_us() < end; rounds++) {
        for (size_t i = 0; i < words; i += 8)
            bad += memory[i] != i * 0x9e3779b97f4a7c15U;
    }
    printf("rounds=%lu bad=%zu\n", rounds, bad);
    return bad == 0 ? 0 : 1;
}

/* ---- disk ---- */

static int disk_write(const char *path, uint64_t blocks, useconds_t pause)
{
    int fd = open(path, O_WRONLY | O_DIRECT | O_SYNC | O_CLOEXEC);
    uint64_t *block = aligned_alloc(PAGE, PAGE);
    if (fd < 0 || !block || blocks == 0)
        return fail(path);
    for (uint64_t number = 1;; number++) {
        for (size_t i = 0; i < WORDS; i++)
            block[i] = number;
        if (pwrite(fd, block, PAGE, (off_t)(number % blocks * PAGE)) != PAGE)
            return fail(path);
        usleep(pause);
    }
}

/* Blocks hold consecutive numbers, so after max = M the ring must hold M-BLOCKS+1 … M, each at its place. */
static int disk_read(const char *path, uint64_t blocks)
{
    int fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
    uint64_t *block = aligned_alloc(PAGE, PAGE), *first = calloc(blocks + 1, sizeof(*first));
    if (fd < 0 || !block || !first)
        return fail(path);
    uint64_t max = 0, bad = 0, torn = 0;
    for (uint64_t b = 0; b < blocks; b++) {
        if (pread(fd, block, PAGE, (off_t)(b * PAGE)) != PAGE)
            return fail(path);
        for (size_t i = 1; i < WORDS; i++) {
            if (block[i] != block[0]) {
                torn++;
                break;
            }
        }
        first[b] = block[0];
        if (block[0] > max)
            max = block[0];
    }
    for (uint64_t number = max > blocks ? max - blocks + 1 : 1; max && number <= max; number++)
        bad += first[number % blocks] != number;
    printf("max=%llu bad=%llu torn=%llu\n", (unsigned long long)max, (unsigned long long)bad,
           (unsigned long long)torn);
    return bad || torn ? 1 : 0;
}

static int gap(uint64_t seconds)
{
    uint64_t last = now_us(), end = last + seconds * 1000000U, longest = 0;
    while (last < end) {
        usleep(1000);
        uint64_t now = now_us();
        if (now - last > longest)
            longest = now - last;
        last = now;
    }
    printf("gap_us=%llu\n", (unsigned long long)longest);
    return 0;
}

static uint64_t number(const char *text)
{
    return strtoull(text, NULL, 10);
}

int main(int argc, char **argv)
{
    const char *command = argc > 1 ? argv[1] : "";
    if (strcmp(command, "powerbtn") == 0)
        return power_button(argc > 2 ? (unsigned)number(argv[2]) : 0);
    if (strcmp(command, "agent") == 0)
        return agent(argc > 2 ? argv[2] : "");
    if (strcmp(command, "dirty") == 0 && argc == 4)
        return dirty(number(argv[2]), number(argv[3]));
    if (strcmp(command, "verify") == 0 && argc == 4)
        return verify(number(argv[2]), number(argv[3]));
    if (strcmp(command, "dw") == 0 && argc == 5)
        return disk_write(argv[2], number(argv[3]), (useconds_t)number(argv[4]));
    if (strcmp(command, "dr") == 0 && argc == 4)
        return disk_read(argv[2], number(argv[3]));
    if (strcmp(command, "gap") == 0 && argc == 3)
        return gap(number(argv[2]));
    fputs("usage: gt powerbtn|agent|dirty|verify|dw|dr|gap …\n", stderr);
    return 2;
}
