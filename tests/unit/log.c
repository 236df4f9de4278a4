/* SPDX-License-Identifier: BSD-2-Clause */
#include "unit.h"
#include "scratch.h"

#include "kvm/base/log.h"

/* Sends stderr into a file of the scratch directory until it is given back. */
static int divert(const struct scratch *scratch)
{
    int kept = dup(STDERR_FILENO);
    int file = openat(scratch->fd, "log", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    dup2(file, STDERR_FILENO);
    close(file);
    return kept;
}

static void give_back(int kept)
{
    dup2(kept, STDERR_FILENO);
    close(kept);
}

TEST(messages, "messages name the program, and hostile bytes reach no terminal")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    int kept = divert(&scratch);
    log_begin("kvm-info");
    log_error("web1: %s", "a\x1b[2J\xff");
    log_warning("Grüße\r");
    give_back(kept);
    CHECK(scratch_holds(&scratch, "log",
                        "kvm-info: web1: a\\x1b[2J\\xff\nkvm-info: warning: Grüße\\x0d\n"));
    return true;
}

TEST(lists, "the further lines of a message are indented")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    AUTO_MESSAGES struct messages warnings = {0};
    messages_add(&warnings, "one\ntwo\n");
    messages_add(&warnings, "three");
    int kept = divert(&scratch);
    log_begin("kvm-start");
    log_warnings("web1", &warnings);
    log_warnings(NULL, &warnings);
    give_back(kept);
    CHECK(scratch_holds(&scratch, "log",
                        "kvm-start: warning: web1: one\n  two\nkvm-start: warning: web1: three\n"
                        "kvm-start: warning: one\n  two\nkvm-start: warning: three\n"));
    return true;
}

TEST(details, "details are told with -v only")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    int kept = divert(&scratch);
    log_begin("kvm-start");
    log_detail("unheard");
    log_verbose(true);
    log_detail("heard");
    log_verbose(false);
    give_back(kept);
    CHECK(scratch_holds(&scratch, "log", "kvm-start: heard\n"));
    return true;
}

UNIT_MAIN(UNIT(messages), UNIT(lists), UNIT(details))
