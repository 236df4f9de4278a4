/* SPDX-License-Identifier: BSD-2-Clause */
/* QEMU's TLS credentials for one migration: a one-time key, or certificates. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "migrate_private.h"
#include "kvm/base/file.h"
#include "kvm/base/memory.h"
#include "kvm/state/hvparams.h"

enum { CREDENTIALS_MS = 10000, PEM_MAX = 1024 * 1024 };

static const char credentials_id[] = "kvm-suite-tls";

/* By QEMU's names, the client's and the server's. The first three must be there, the rest is used where it is. */
enum { FILES_NEEDED = 3, FILES = 5 };
static const char *const files_of[2][FILES] = {
    {"ca-cert.pem", "client-cert.pem", "client-key.pem", "ca-crl.pem", "dh-params.pem"},
    {"ca-cert.pem", "server-cert.pem", "server-key.pem", "ca-crl.pem", "dh-params.pem"}};

static bool is_chrooted(const struct session *session)
{
    return session->has_runtime && hvparams_truth(session->runtime.instance.hvparams, "use_chroot");
}

/* /dev/shm since QEMU may run as a user that can't enter the run directory; where it is in a chroot, there, since it sees
 * nothing else. Our own directory, QEMU's own files. By the run directory's inode, since another run directory may have
 * an instance of the same name. */
static char *secret_directory(const struct session *session, bool server)
{
    struct stat status = {0};
    AUTO_FREE char *chroot = rundir_path(session->rundir, RUNDIR_CHROOT, session->name);

    if (is_chrooted(session))
        return memory_format("%s/tls.%s", chroot, server ? "server" : "client");
    fstat(session->rundir->fd, &status);
    return memory_format("/dev/shm/kvm-suite.%s.%llx.%s", session->name,
                         (unsigned long long)status.st_ino, server ? "server" : "client");
}

static void remove_below(const char *directory, const char *file)
{
    AUTO_FREE char *path = memory_format("%s/%s", directory, file);
    unlink(path);
}

void channel_forget_secret(const struct session *session, bool server)
{
    AUTO_FREE char *directory = secret_directory(session, server);
    struct stat status;

    if (lstat(directory, &status) < 0 || !S_ISDIR(status.st_mode) || status.st_uid != geteuid())
        return;
    remove_below(directory, "keys.psk");
    for (size_t i = 0; i < FILES; i++)
        remove_below(directory, files_of[server][i]);
    rmdir(directory);
}

/* The same as QEMU sees it. */
static char *seen_directory(const struct session *session, bool server, const char *directory)
{
    return is_chrooted(session) ? memory_format("/tls.%s", server ? "server" : "client")
                                : memory_copy(directory);
}

/* Its root is its own, below a directory that nobody else can enter: it may be passed through by the user it runs as. */
static int open_chroot(const struct session *session, struct error *error)
{
    AUTO_FREE char *chroot = rundir_path(session->rundir, RUNDIR_CHROOT, session->name);
    AUTO_CLOSE int root = open(chroot, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    return root < 0 || fchmod(root, 0711) < 0 ? error_errno(error, STATUS_FAILED, "%s", chroot) : 0;
}

static int make_directory(const struct session *session, bool server, char **directory,
                          struct error *error)
{
    if (is_chrooted(session) && open_chroot(session, error) < 0)
        return -1;
    channel_forget_secret(session, server);
    *directory = secret_directory(session, server);
    if (mkdir(*directory, 0711) < 0 || chmod(*directory, 0711) < 0)
        return error_errno(error, STATUS_FAILED, "%s", *directory);
    return 0;
}

static int write_for(pid_t qemu, const char *directory, const char *name, const char *bytes,
                     size_t length, struct error *error)
{
    AUTO_FREE char *path = memory_format("%s/%s", directory, name);
    AUTO_FREE char *process = memory_format("/proc/%d", (int)qemu);
    struct stat status;

    if (stat(process, &status) < 0)
        return error_errno(error, STATUS_FAILED, "QEMU (pid %d)", (int)qemu);
    AUTO_CLOSE int file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0400);
    return file < 0 || fchown(file, status.st_uid, status.st_gid) < 0 ||
                   file_write_all(file, bytes, length) < 0
               ? error_errno(error, STATUS_FAILED, "%s", path)
               : 0;
}

static int add_object(struct qmp *qmp, json_t *arguments, deadline_t deadline, struct error *error)
{
    /* Of a command that was killed before it had recorded anything. */
    channel_drop_credentials(qmp, clock_earlier(deadline, clock_deadline(CREDENTIALS_MS)));
    json_object_set_new(arguments, "id", memory_json(json_string(credentials_id)));
    return qmp_call(qmp, "object-add", arguments,
                    clock_earlier(deadline, clock_deadline(CREDENTIALS_MS)), NULL,
                    error) == QMP_DONE
               ? 0
               : -1;
}

/* The client reads the file now; the server reads it when the client comes, so there it stays until then. */
int channel_credentials(const struct session *session, struct qmp *qmp, const char *key,
                        bool server, deadline_t deadline, struct error *error)
{
    AUTO_FREE char *directory = NULL;
    AUTO_FREE char *line = memory_format("qemu:%s\n", key);
    int result = make_directory(session, server, &directory, error);

    if (result == 0)
        result = write_for(session->process.pid, directory, "keys.psk", line, strlen(line), error);
    explicit_bzero(line, strlen(line));
    AUTO_FREE char *seen = seen_directory(session, server, directory);
    if (result == 0)
        result =
            add_object(qmp,
                       memory_json(json_pack("{s:s, s:s, s:s, s:s*}", "qom-type", "tls-creds-psk",
                                             "dir", seen, "endpoint", server ? "server" : "client",
                                             "username", server ? NULL : "qemu")),
                       deadline, error);
    if (!server || result < 0)
        channel_forget_secret(session, server);
    return result;
}

int channel_renew_secret(const struct session *session, const char *key, struct error *error)
{
    AUTO_FREE char *directory = NULL;
    AUTO_FREE char *line = memory_format("qemu:%s\n", key);
    int result = make_directory(session, true, &directory, error);

    if (result == 0)
        result = write_for(session->process.pid, directory, "keys.psk", line, strlen(line), error);
    explicit_bzero(line, strlen(line));
    if (result < 0)
        channel_forget_secret(session, true);
    return result;
}

static int copy_for(pid_t qemu, const char *from, const char *name, const char *directory,
                    struct error *error)
{
    AUTO_FREE char *path = memory_format("%s/%s", from, name);
    char *bytes = NULL;
    size_t length = 0;
    int result = file_read(AT_FDCWD, path, PEM_MAX, false, &bytes, &length, error);

    if (result == 0)
        result = write_for(qemu, directory, name, bytes, length, error);
    if (bytes != NULL)
        explicit_bzero(bytes, length);
    free(bytes);
    return result;
}

/* QEMU may be a user that can't read a node's keys, so it gets copies of its own, and reads them at once. */
int channel_certificates(const struct session *session, struct qmp *qmp, const char *from,
                         bool server, deadline_t deadline, struct error *error)
{
    AUTO_FREE char *directory = NULL;
    int result = make_directory(session, server, &directory, error);

    for (size_t i = 0; i < FILES && result == 0; i++) {
        AUTO_FREE char *path = memory_format("%s/%s", from, files_of[server][i]);
        if (i < FILES_NEEDED || file_exists(AT_FDCWD, path))
            result = copy_for(session->process.pid, from, files_of[server][i], directory, error);
    }
    AUTO_FREE char *seen = seen_directory(session, server, directory);
    if (result == 0)
        result = add_object(
            qmp,
            memory_json(json_pack("{s:s, s:s, s:s, s:b}", "qom-type", "tls-creds-x509", "dir", seen,
                                  "endpoint", server ? "server" : "client", "verify-peer", 1)),
            deadline, error);
    channel_forget_secret(session, server);
    return result;
}

void channel_check_certificates(const char *from, bool server, struct messages *problems)
{
    for (size_t i = 0; i < FILES_NEEDED; i++) {
        AUTO_FREE char *path = memory_format("%s/%s", from, files_of[server][i]);
        char *bytes = NULL;
        size_t length = 0;
        struct error error = {0};
        if (file_read(AT_FDCWD, path, PEM_MAX, false, &bytes, &length, &error) < 0)
            messages_add(problems, "--tls-x509: %s", error.text);
        else
            explicit_bzero(bytes, length);
        free(bytes);
    }
}

void channel_drop_credentials(struct qmp *qmp, deadline_t deadline)
{
    qmp_call(qmp, "object-del", memory_json(json_pack("{s:s}", "id", credentials_id)), deadline,
             NULL, NULL);
}
