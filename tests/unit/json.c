/* SPDX-License-Identifier: BSD-2-Clause */
#include "unit.h"
#include "scratch.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "kvm/base/json.h"
#include "kvm/base/memory.h"

static bool is_refused(const char *text, size_t length, const char *why)
{
    struct error error = {0};
    AUTO_JSON json_t *value = json_parse(text, length, "web1.json", &error);
    if (value == NULL && strstr(error.text, why) != NULL &&
        strstr(error.text, "web1.json: ") != NULL)
        return true;
    printf("# %s: \"%s\"\n", value == NULL ? "refused" : "accepted", error.text);
    return false;
}

TEST(places, "a fault is told with its line and column")
{
    static const char text[] = "{\"a\": 1,\n  \"b\": oops}";
    CHECK(is_refused(text, strlen(text), "line 2 column"));
    return true;
}

TEST(secrets, "the text itself is never in the message")
{
    static const char *const texts[] = {"{\"a\": hunter2}", "\"hunter2",
                                        "{\"hunter2\": 1, \"hunter2\": 2}", "[1] hunter2",
                                        "{hunter2}"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct error error = {0};
        AUTO_JSON json_t *value = json_parse(texts[i], strlen(texts[i]), "x", &error);
        CHECK(value == NULL);
        CHECK(strstr(error.text, "hunter2") == NULL);
    }
    return true;
}

TEST(strictness, "duplicate keys, trailing values, NUL, bad UTF-8 and huge numbers are refused")
{
#define REFUSED(text, why) CHECK(is_refused(text, sizeof(text) - 1, why))
    REFUSED("", "web1.json");
    REFUSED("{\"a\": 1, \"a\": 2}", "twice");
    REFUSED("{} {}", "more than one value");
    REFUSED("{}\0", "line 1");
    REFUSED("\"\\u0000\"", "NUL");
    REFUSED("{\"\\u0000\": 1}", "NUL");
    REFUSED("\"\xff\"", "UTF-8");
    REFUSED("[9223372036854775808]", "too large");
    REFUSED("[1,]", "line 1");
    REFUSED("// c\n1", "line 1");
    return true;
}

TEST(levels, "64 levels are read, 65 are not")
{
    enum { MOST = 3000 };
    char text[2 * MOST];
    for (size_t levels = 64; levels <= 65; levels++) {
        memset(text, '[', levels);
        memset(text + levels, ']', levels);
        AUTO_JSON json_t *value = json_parse(text, 2 * levels, "x", NULL);
        CHECK((value != NULL) == (levels == 64));
    }
    memset(text, '[', MOST);
    memset(text + MOST, ']', MOST);
    CHECK(is_refused(text, sizeof(text), "nested too deeply"));
    return true;
}

TEST(getters, "a getter gives the value, or the default when absent, null or of another type")
{
    static const char text[] =
        "{\"t\": \"x\", \"n\": 4294967301, \"b\": true, \"z\": null, \"r\": 3.5}";
    AUTO_JSON json_t *object = json_parse(text, strlen(text), "x", NULL);
    CHECK_TEXT(json_text(object, "t"), "x");
    CHECK(json_text(object, "n") == NULL && json_text(object, "z") == NULL);
    CHECK(json_text(object, "nope") == NULL && json_text(NULL, "t") == NULL);
    CHECK(json_number(object, "n", -1) == 4294967301);
    CHECK_NUMBER(json_number(object, "r", -1), -1);
    CHECK_NUMBER(json_number(object, "t", -1), -1);
    CHECK_NUMBER(json_number(NULL, "t", -1), -1);
    CHECK(json_truth(object, "b", false));
    CHECK(json_truth(object, "n", true));
    CHECK(!json_truth(object, "nope", false));
    CHECK(json_member(object, "z") == NULL && json_member(object, "nope") == NULL);
    CHECK(json_member(object, "b") != NULL);
    CHECK_TEXT(json_type_name(json_member(object, "t")), "string");
    CHECK_TEXT(json_type_name(object), "object");
    return true;
}

TEST(finding, "an object of a list is found by a text in it, the first of several")
{
    static const char text[] = "[7, {\"name\": 1}, {\"name\": \"a\", \"n\": 1}, {\"name\": \"a\", "
                               "\"n\": 2}, {\"name\": \"ab\"}]";
    AUTO_JSON json_t *list = json_parse(text, strlen(text), "list", NULL);
    CHECK_NUMBER(json_number(json_find(list, "name", "a"), "n", 0), 1);
    CHECK(json_find(list, "name", "ab") == json_array_get(list, 4));
    CHECK(json_find(list, "name", "b") == NULL && json_find(list, "other", "a") == NULL);
    CHECK(json_find(NULL, "name", "a") == NULL &&
          json_find(json_array_get(list, 2), "name", "a") == NULL);
    return true;
}

TEST(compact, "compact text keeps the order of the keys")
{
    static const char text[] = "{\"z\": [1, \"ü\"],  \"a\": null, \"m\": {}}";
    AUTO_JSON json_t *object = json_parse(text, strlen(text), "x", NULL);
    AUTO_FREE char *written = json_compact(object);
    CHECK_TEXT(written, "{\"z\":[1,\"ü\"],\"a\":null,\"m\":{}}");
    AUTO_JSON json_t *scalar = json_integer(7);
    AUTO_FREE char *seven = json_compact(scalar);
    CHECK_TEXT(seven, "7");
    return true;
}

TEST(files, "a definition is read from a file or a pipe, nothing else")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    AUTO_FREE char *path = memory_format("%s/web1.json", scratch.path);
    struct error error = {0};
    CHECK(json_read(path, DEADLINE_NEVER, &error) == NULL);
    CHECK_NUMBER(error.status, STATUS_USAGE);
    CHECK_HAS(error.text, "No such file");
    CHECK(scratch_write(&scratch, "web1.json", "{\"name\": \"web1\"}\n"));
    AUTO_JSON json_t *value = json_read(path, DEADLINE_NEVER, &error);
    CHECK_TEXT(json_text(value, "name"), "web1");
    CHECK(scratch_write(&scratch, "web1.json", "{\"name\": \n"));
    CHECK(json_read(path, DEADLINE_NEVER, &error) == NULL);
    CHECK_NUMBER(error.status, STATUS_USAGE);
    CHECK(json_read(scratch.path, DEADLINE_NEVER, &error) == NULL);
    CHECK_HAS(error.text, "neither a regular file nor a pipe");

    int ends[2];
    CHECK(pipe(ends) == 0);
    CHECK(write(ends[1], "[1,2]", 5) == 5 && close(ends[1]) == 0);
    AUTO_FREE char *pipe_path = memory_format("/proc/self/fd/%d", ends[0]);
    AUTO_JSON json_t *piped = json_read(pipe_path, DEADLINE_NEVER, &error);
    close(ends[0]);
    CHECK_NUMBER(json_array_size(piped), 2);
    return true;
}

TEST(slow_pipes, "a pipe without an end, or without a writer, is given up at the deadline")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    AUTO_FREE char *path = memory_format("%s/fifo", scratch.path);
    struct error error = {0};
    CHECK(mkfifo(path, 0600) == 0);
    CHECK(json_read(path, clock_deadline(50), &error) == NULL);
    CHECK_NUMBER(error.status, STATUS_TIMEOUT);
    CHECK_HAS(error.text, "who writes to that pipe?");
    int writer = open(path, O_RDWR | O_CLOEXEC); /* and nothing comes */
    CHECK(writer >= 0 && json_read(path, clock_deadline(50), &error) == NULL);
    CHECK_NUMBER(error.status, STATUS_TIMEOUT);
    CHECK(write(writer, "[1]", 3) == 3 && json_read(path, clock_deadline(50), &error) == NULL);
    CHECK_NUMBER(error.status, STATUS_TIMEOUT);
    close(writer);
    return true;
}

TEST(terminals,
     "at a terminal there is all the time, and waiting costs nothing, also when it does not block")
{
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), keep = dup(STDIN_FILENO);
    CHECK(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
    int terminal = open(ptsname(master), O_RDWR | O_NOCTTY | O_NONBLOCK);
    CHECK(terminal >= 0 && dup2(terminal, STDIN_FILENO) == STDIN_FILENO);
    pid_t typist = fork();
    if (typist == 0) {
        clock_sleep_ms(300);
        _exit(write(master, "[1]\n\004", 5) == 5 ? 0 : 1);
    }
    clock_t before = clock();
    struct error error = {0};
    AUTO_JSON json_t *typed = json_read("-", clock_deadline(20), &error);
    double spent = (double)(clock() - before) / CLOCKS_PER_SEC;
    dup2(keep, STDIN_FILENO);
    close(keep);
    close(terminal);
    waitpid(typist, NULL, 0);
    close(master);
    CHECK_NUMBER(json_array_size(typed), 1);
    CHECK(spent < 0.1);
    return true;
}

TEST(large_files, "a file of more than 1 MiB is refused")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    AUTO_FREE char *path = memory_format("%s/big", scratch.path);
    CHECK(scratch_write(&scratch, "big", "1"));
    CHECK(truncate(path, 1024 * 1024 + 1) == 0);
    struct error error = {0};
    CHECK(json_read(path, DEADLINE_NEVER, &error) == NULL);
    CHECK_HAS(error.text, "larger than 1 MiB");
    return true;
}

UNIT_MAIN(UNIT(places), UNIT(secrets), UNIT(strictness), UNIT(levels), UNIT(getters), UNIT(finding),
          UNIT(compact), UNIT(files), UNIT(slow_pipes), UNIT(terminals), UNIT(large_files))
