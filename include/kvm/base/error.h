/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One error object on the caller's stack: the exit status it means and a text.
 *
 * Functions that can fail return 0 or -1 and take `struct error *` last. The deepest function says
 * what failed and why (error_set, error_errno); each level above adds only what it alone knows
 * (error_prefix). Every setter returns -1, so failing is one line. The text has no program name, no
 * full stop and no newline at its end; the program prints it through log.h.
 *
 * `struct messages` is a growing list of texts: the problems of a definition (all at once), the
 * warnings of a function in a library that itself never prints.
 */
#ifndef KVM_BASE_ERROR_H
#define KVM_BASE_ERROR_H

#include <stdarg.h>
#include <stddef.h>

/* The exit statuses of every program of the suite; the numbers are documented and never change. */
enum status {
    STATUS_DONE = 0,       /* done, or already so */
    STATUS_FAILED = 1,     /* failed, rolled back */
    STATUS_USAGE = 2,      /* usage or bad input; nothing was changed */
    STATUS_STATE = 3,      /* the instance is not in the state that this needs */
    STATUS_BUSY = 4,       /* somebody holds the instance */
    STATUS_INCOMPLETE = 5, /* something could not be undone; the text names the next command */
    STATUS_TIMEOUT = 6,    /* the time is up and it is still going on */
};

enum { ERROR_TEXT_MAX = 4096 };

struct error {
    enum status status;
    char text[ERROR_TEXT_MAX]; /* cut, never overrun */
};

#define ERROR_FORMAT(text, first) __attribute__((format(printf, text, first)))

/* Set status and text; returns -1. `error` may be NULL (the caller does not want the reason). */
int error_set(struct error *error, enum status status, const char *format, ...) ERROR_FORMAT(3, 4);

/* The same with ": " and strerror(errno) at the end; errno is kept. */
int error_errno(struct error *error, enum status status, const char *format, ...)
    ERROR_FORMAT(3, 4);

/* Put "format: " before the text that is there; returns -1. */
int error_prefix(struct error *error, const char *format, ...) ERROR_FORMAT(2, 3);

/* Add to the end of the text that is there (bring your own "; "); returns -1. */
int error_append(struct error *error, const char *format, ...) ERROR_FORMAT(2, 3);

/* A list of texts; zero-initialised is empty. Owns its items. */
struct messages {
    char **items;
    size_t count;
};

void messages_add(struct messages *messages, const char *format, ...) ERROR_FORMAT(2, 3);

/* Release and empty; NULL and empty lists are fine. */
void messages_release(struct messages *messages);

/* All of them, one on a line, as one error; returns -1. The list must not be empty. */
int messages_error(const struct messages *messages, enum status status, struct error *error);

#define AUTO_MESSAGES __attribute__((cleanup(messages_release)))

#endif
