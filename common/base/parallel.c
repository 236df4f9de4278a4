/* SPDX-License-Identifier: BSD-2-Clause */
#include "kvm/base/parallel.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>
#include "kvm/base/file.h"
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/base/text.h"

/* One item in a process of its own. */
struct worker {
    pid_t pid;
    int pipe_end;
    size_t index;
    char *bytes;
    size_t length, room;
};

void result_release(struct result *result)
{
    if (result == NULL)
        return;
    free(result->subject);
    free(result->text);
    json_decref(result->detail);
    messages_release(&result->warnings);
    *result = (struct result){0};
}

/* JSON holds UTF-8 only; a text that is none is escaped. NULL gives null. */
static json_t *text_json(const char *text)
{
    if (text == NULL)
        return json_null();
    if (text_is_utf8(text))
        return memory_json(json_string(text));
    AUTO_FREE char *escaped = text_escape(text, strlen(text));
    return memory_json(json_string(escaped));
}

static json_t *warnings_json(const struct messages *warnings)
{
    json_t *list = memory_json(json_array());
    for (size_t i = 0; i < warnings->count; i++)
        json_array_append_new(list, text_json(warnings->items[i]));
    return list;
}

json_t *result_json(const struct result *result)
{
    json_t *object = memory_json(json_object());
    const char *key = result->status == STATUS_DONE ? "result" : "error";
    json_object_set_new(object, "instance", text_json(result->subject));
    json_object_set_new(object, "status", memory_json(json_integer(result->status)));
    if (result->text != NULL)
        json_object_set_new(object, key, text_json(result->text));
    json_object_set_new(object, "warnings", warnings_json(&result->warnings));
    if (result->detail != NULL)
        json_object_update_missing(object, result->detail);
    return object;
}

/* ---- in the worker's process ---- */

static void send_result(int pipe_end, const struct result *result)
{
    AUTO_JSON json_t *object = memory_json(
        json_pack("{s:i, s:o, s:o, s:o, s:O*}", "status", (int)result->status, "subject",
                  text_json(result->subject), "text", text_json(result->text), "warnings",
                  warnings_json(&result->warnings), "detail", result->detail));
    AUTO_FREE char *text = json_compact(object);
    file_write_all(pipe_end, text, strlen(text)); /* the reader sees it when it is cut */
}

__attribute__((noreturn)) static void run_worker(int pipe_end, size_t index, parallel_work work,
                                                 void *context)
{
    struct result result = {0};
    work(context, index, &result);
    fflush(stdout);
    send_result(pipe_end, &result);
    _exit(0);
}

/* ---- in ours ---- */

static void start_worker(struct worker *worker, size_t index, parallel_work work, void *context)
{
    int ends[2];
    *worker = (struct worker){.pid = -1, .pipe_end = -1, .index = index};
    if (pipe2(ends, O_CLOEXEC) != 0)
        return;
    fflush(stdout);
    fflush(stderr);
    worker->pid = fork();
    if (worker->pid == 0) {
        close(ends[0]);
        run_worker(ends[1], index, work, context);
    }
    close(ends[1]);
    if (worker->pid > 0)
        worker->pipe_end = ends[0];
    else
        close(ends[0]);
}

/* False: the worker has ended. */
static bool read_worker(struct worker *worker)
{
    if (worker->room - worker->length < 4096) {
        worker->room = worker->room * 2 + 16384;
        worker->bytes = memory_resize(worker->bytes, worker->room, 1);
    }
    ssize_t length =
        read(worker->pipe_end, worker->bytes + worker->length, worker->room - worker->length);
    if (length < 0)
        return errno == EINTR;
    worker->length += (size_t)length;
    return length > 0;
}

static bool parse_result(const struct worker *worker, struct result *result)
{
    if (worker->length == 0)
        return false;
    AUTO_JSON json_t *object = json_parse(worker->bytes, worker->length, "result", NULL);
    if (object == NULL)
        return false;
    result->status = (enum status)json_number(object, "status", STATUS_FAILED);
    result->subject = memory_copy(json_text(object, "subject"));
    result->text = memory_copy(json_text(object, "text"));
    result->detail = json_incref(json_member(object, "detail"));
    const json_t *warnings = json_member(object, "warnings");
    for (size_t i = 0; i < json_array_size(warnings); i++)
        messages_add(&result->warnings, "%s", json_string_value(json_array_get(warnings, i)));
    return true;
}

static void finish_worker(struct worker *worker, struct result *result)
{
    int status = 0;
    if (worker->pid > 0)
        while (waitpid(worker->pid, &status, 0) < 0 && errno == EINTR)
            continue;
    if (worker->pid <= 0 || !parse_result(worker, result)) {
        result_release(result);
        result->status = worker->pid <= 0 ? STATUS_FAILED : STATUS_INCOMPLETE;
        result->subject = memory_format("item %zu", worker->index + 1);
        result->text =
            worker->pid <= 0
                ? memory_copy("no process could be started for it")
                : memory_format("its process ended without a result (%s %d); repeat "
                                "the command to complete or undo it",
                                WIFSIGNALED(status) ? "signal" : "exit status",
                                WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    }
    if (worker->pipe_end >= 0)
        close(worker->pipe_end);
    free(worker->bytes);
    *worker = (struct worker){.pid = 0, .pipe_end = -1};
}

struct run {
    size_t count;
    parallel_work work;
    parallel_done done;
    void *context;
    struct result *results;
    enum status highest;
};

static void account(struct run *run, size_t index, struct result *result)
{
    if (result->status > run->highest)
        run->highest = result->status;
    if (run->done != NULL)
        run->done(run->context, index, result);
    if (run->results != NULL)
        run->results[index] = *result;
    else
        result_release(result);
}

/* One round: wait until a worker says something, take it, and give ended ones back. */
static size_t serve(struct run *run, struct worker *workers, struct pollfd *entries, size_t active)
{
    for (size_t i = 0; i < active; i++)
        entries[i] = (struct pollfd){.fd = workers[i].pipe_end, .events = POLLIN};
    bool stuck = false;
    for (size_t i = 0; i < active; i++)
        stuck = stuck || workers[i].pipe_end < 0; /* never started: nothing to wait for */
    if (poll(entries, active, stuck ? 0 : -1) < 0)
        return active;
    for (size_t i = active; i-- > 0;) {
        bool said = entries[i].revents != 0;
        if (workers[i].pipe_end >= 0 && (!said || read_worker(&workers[i])))
            continue;
        struct result result = {0};
        size_t index = workers[i].index;
        finish_worker(&workers[i], &result);
        account(run, index, &result);
        workers[i] = workers[--active];
    }
    return active;
}

enum status parallel_run(size_t count, size_t limit, parallel_work work, parallel_done done,
                         void *context, struct result *results)
{
    struct run run = {count, work, done, context, results, STATUS_DONE};
    if (results != NULL && count > 0)
        memset(results, 0, count * sizeof *results);
    if (count == 1) {
        struct result result = {0};
        work(context, 0, &result);
        account(&run, 0, &result);
        return run.highest;
    }
    limit = limit == 0 ? 1 : limit < count ? limit : count;
    AUTO_FREE struct worker *workers = memory_zeroed(limit + 1, sizeof *workers);
    AUTO_FREE struct pollfd *entries = memory_zeroed(limit + 1, sizeof *entries);
    size_t started = 0, active = 0;
    while (started < count || active > 0) {
        while (started < count && active < limit)
            start_worker(&workers[active++], started++, work, context);
        active = serve(&run, workers, entries, active);
    }
    return run.highest;
}
