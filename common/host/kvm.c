/* SPDX-License-Identifier: BSD-2-Clause */
#include "kvm/host/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/kvm.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "kvm/base/clock.h"
#include "kvm/base/memory.h"

/*
 * The VM lives in a child: whatever its ioctls do, SIGKILL ends them. The watchdog counts the
 * child's CPU time from the moment it enters the guest, so that a busy node is not taken for a slow
 * KVM; LIMIT_MS is for one that sleeps for ever.
 */
enum { WATCHDOG_MS = 20, SETUP_MS = 1000, LIMIT_MS = 1000, KILL_WAIT_MS = 5, LOOKS_MS = 2 };
enum { MAX_CPUID = 256, MEMORY_SIZE = 0x8000, PML4 = 0x1000, PDPT = 0x2000, PD = 0x3000 };
enum { CODE = 0x4000, PORT = 0x10, PRESENT_WRITABLE = 0x3, HUGE_PAGE = 0x80 };
enum { CR0_PE = 1 << 0, CR0_ET = 1 << 4, CR0_NE = 1 << 5, CR4_PAE = 1 << 5 };
enum { EFER_LME = 1 << 8, EFER_LMA = 1 << 10 };
#define TSS_ADDRESS 0xfffbd000UL

/* mov ecx, 100000; again: dec ecx; jnz again; out PORT, al */
static const uint8_t program[] = {0xb9, 0xa0, 0x86, 0x01, 0x00, 0xff, 0xc9, 0x75, 0xfc, 0xe6, PORT};

/* What the child says: first {READY}, then one of the others. `step` is a constant of this program. */
enum verdict { READY, GOOD, BAD };
struct word {
    enum verdict verdict;
    const char *step;
    int number; /* errno; 0: none */
};

static int bad(struct word *word, const char *step, int number)
{
    *word = (struct word){BAD, step, number};
    return -1;
}

static void write_page_tables(uint8_t *memory)
{
    const uint64_t entries[][2] = {{PML4, PDPT | PRESENT_WRITABLE},
                                   {PDPT, PD | PRESENT_WRITABLE},
                                   {PD, 0 | PRESENT_WRITABLE | HUGE_PAGE}};
    for (size_t i = 0; i < sizeof entries / sizeof entries[0]; i++)
        memcpy(memory + entries[i][0], &entries[i][1], sizeof entries[i][1]);
    memcpy(memory + CODE, program, sizeof program);
}

static int set_cpuid(int kvm, int vcpu, struct word *word)
{
    AUTO_FREE struct kvm_cpuid2 *cpuid =
        memory_zeroed(1, sizeof *cpuid + MAX_CPUID * sizeof cpuid->entries[0]);
    cpuid->nent = MAX_CPUID;
    if (ioctl(kvm, KVM_GET_SUPPORTED_CPUID, cpuid) != 0)
        return bad(word, "ask for the CPU features", errno);
    if (ioctl(vcpu, KVM_SET_CPUID2, cpuid) != 0)
        return bad(word, "set the CPU features", errno);
    return 0;
}

static int set_long_mode(int vcpu, struct word *word)
{
    struct kvm_sregs special;
    if (ioctl(vcpu, KVM_GET_SREGS, &special) != 0)
        return bad(word, "read the registers", errno);
    struct kvm_segment segment = {.limit = UINT32_MAX,
                                  .selector = 0x10,
                                  .type = 3, /* data, writable, accessed */
                                  .present = 1,
                                  .db = 1,
                                  .s = 1,
                                  .g = 1};
    special.ds = special.es = special.fs = special.gs = special.ss = segment;
    segment.selector = 0x8;
    segment.type = 11; /* code, readable, accessed */
    segment.db = 0;
    segment.l = 1;
    special.cs = segment;
    special.cr0 = CR0_PE | CR0_ET | CR0_NE | UINT64_C(1) << 31;
    special.cr3 = PML4;
    special.cr4 = CR4_PAE;
    special.efer = EFER_LME | EFER_LMA;
    if (ioctl(vcpu, KVM_SET_SREGS, &special) != 0)
        return bad(word, "enter long mode", errno);
    const struct kvm_regs general = {.rip = CODE, .rflags = 2, .rsp = CODE};
    if (ioctl(vcpu, KVM_SET_REGS, &general) != 0)
        return bad(word, "set the registers", errno);
    return 0;
}

/* Everything up to the first instruction. The descriptors go with the process. */
static int set_up(int *vcpu, struct kvm_run **run, struct word *word)
{
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (kvm < 0)
        return bad(word, "open /dev/kvm", errno);
    if (ioctl(kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
        return bad(word, "not the KVM interface of version 12", 0);
    int machine = ioctl(kvm, KVM_CREATE_VM, 0UL);
    if (machine < 0)
        return bad(word, "create a VM", errno);
    void *memory =
        mmap(NULL, MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return bad(word, "map memory", errno);
    write_page_tables(memory);
    const struct kvm_userspace_memory_region region = {
        .memory_size = MEMORY_SIZE, .userspace_addr = (uint64_t)(uintptr_t)memory};
    /* Old Intel CPUs need three pages below 4 GiB; elsewhere the call does nothing. */
    ioctl(machine, KVM_SET_TSS_ADDR, TSS_ADDRESS);
    if (ioctl(machine, KVM_SET_USER_MEMORY_REGION, &region) != 0)
        return bad(word, "give memory to a VM", errno);
    *vcpu = ioctl(machine, KVM_CREATE_VCPU, 0UL);
    if (*vcpu < 0)
        return bad(word, "create a virtual CPU", errno);
    int size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    void *mapped = size > 0 ? mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, *vcpu, 0)
                            : MAP_FAILED;
    if (mapped == MAP_FAILED)
        return bad(word, "map a virtual CPU", errno);
    *run = mapped;
    return set_cpuid(kvm, *vcpu, word) != 0 ? -1 : set_long_mode(*vcpu, word);
}

static int run_guest(int vcpu, const struct kvm_run *run, struct word *word)
{
    int result;
    do
        result = ioctl(vcpu, KVM_RUN, 0);
    while (result != 0 && (errno == EINTR || errno == EAGAIN));
    if (result != 0)
        return bad(word, "run a virtual CPU", errno);
    if (run->exit_reason != KVM_EXIT_IO || run->io.port != PORT)
        return bad(word, "the test program did not run through", 0);
    return 0;
}

static bool say(int pipe_end, const struct word *word)
{
    return write(pipe_end, word, sizeof *word) == (ssize_t)sizeof *word;
}

__attribute__((noreturn)) static void run_child(int pipe_end)
{
    /* Without what it inherited: a child that is slow to die must not hold the instance's lock. */
    if (dup2(pipe_end, STDERR_FILENO + 1) < 0 || close_range(STDERR_FILENO + 2, UINT_MAX, 0) != 0)
        _exit(1);
    pipe_end = STDERR_FILENO + 1;
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    int vcpu = -1;
    struct kvm_run *run = NULL;
    struct word word = {READY, NULL, 0};
    bool good =
        set_up(&vcpu, &run, &word) == 0 && say(pipe_end, &word) && run_guest(vcpu, run, &word) == 0;
    if (good)
        word.verdict = GOOD;
    say(pipe_end, &word);
    _exit(0);
}

/* False: nothing was said in time, or the child is gone. */
static bool hear(int pipe_end, int64_t wait_ms, struct word *word)
{
    struct pollfd entry = {.fd = pipe_end, .events = POLLIN};
    deadline_t deadline = clock_deadline(wait_ms);
    while (poll(&entry, 1, clock_poll_ms(deadline)) <= 0)
        if (clock_passed(deadline))
            return false;
    return read(pipe_end, word, sizeof *word) == (ssize_t)sizeof *word;
}

static int64_t cpu_ms(clockid_t id)
{
    struct timespec used = {0};
    clock_gettime(id, &used);
    return (int64_t)used.tv_sec * 1000 + used.tv_nsec / 1000000;
}

/* Wait for the verdict of a child that is in the guest; false when the watchdog bites. */
static bool await_verdict(pid_t child, int pipe_end, struct word *word)
{
    clockid_t id;
    if (clock_getcpuclockid(child, &id) != 0)
        return false;
    int64_t before = cpu_ms(id);
    deadline_t limit = clock_deadline(LIMIT_MS);
    while (!clock_passed(limit) && cpu_ms(id) - before < WATCHDOG_MS) {
        struct pollfd entry = {.fd = pipe_end, .events = POLLIN};
        if (poll(&entry, 1, LOOKS_MS) > 0)
            return hear(pipe_end, 0, word);
    }
    return false;
}

static void end_child(pid_t child)
{
    kill(child, SIGKILL);
    deadline_t deadline = clock_deadline(KILL_WAIT_MS);
    while (waitpid(child, NULL, WNOHANG) == 0 && !clock_passed(deadline))
        clock_sleep_ms(1);
}

static bool judge(pid_t child, int pipe_end, char *why, int size)
{
    struct word word = {BAD, "nothing was heard of the test VM", 0};
    if (!hear(pipe_end, SETUP_MS, &word))
        snprintf(why, (size_t)size, "KVM: a test VM could not be set up within %d ms", SETUP_MS);
    else if (word.verdict == READY && !await_verdict(child, pipe_end, &word))
        snprintf(why, (size_t)size, "KVM crawls: 100000 turns of a loop took over %d ms",
                 WATCHDOG_MS);
    else if (word.verdict == BAD)
        snprintf(why, (size_t)size, "KVM: %s%s%s", word.step, word.number != 0 ? ": " : "",
                 word.number != 0 ? strerror(word.number) : "");
    else
        return true;
    return false;
}

bool kvm_is_usable(char *why, int size)
{
    int ends[2];
    if (access("/dev/kvm", R_OK | W_OK) != 0) {
        snprintf(why, (size_t)size, "/dev/kvm: %s", strerror(errno));
        return false;
    }
    if (pipe2(ends, O_CLOEXEC) != 0) {
        snprintf(why, (size_t)size, "KVM: pipe: %s", strerror(errno));
        return false;
    }
    AUTO_CLOSE int reading = ends[0];
    pid_t child = fork();
    if (child == 0)
        run_child(ends[1]);
    close(ends[1]);
    if (child < 0) {
        snprintf(why, (size_t)size, "KVM: fork: %s", strerror(errno));
        return false;
    }
    bool usable = judge(child, reading, why, size);
    end_child(child);
    return usable;
}
