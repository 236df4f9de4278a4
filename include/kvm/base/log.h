/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Messages for people on stderr: `PROGRAM: text`. Only programs (cmd/) print; libraries return an
 * error or add to `struct messages`. Results go to stdout and are not this module's business.
 */
#ifndef KVM_BASE_LOG_H
#define KVM_BASE_LOG_H

#include <stdbool.h>
#include "kvm/base/error.h"

/* Called once at the start of main(). `program` is borrowed for ever. */
void log_begin(const char *program);
void log_verbose(bool on);
const char *log_program(void);

/* Control characters and bytes that are not UTF-8 are printed escaped (\xNN); newlines are kept
 * and each further line is indented, so that a list of problems stays readable. */
void log_error(const char *format, ...) ERROR_FORMAT(1, 2);
void log_warning(const char *format, ...) ERROR_FORMAT(1, 2); /* `PROGRAM: warning: …` */
void log_detail(const char *format, ...) ERROR_FORMAT(1, 2);  /* only with -v */
void log_step(const char *what); /* the same, of a text: what operations call to tell a step */
void log_warnings(const char *subject, const struct messages *warnings);

#endif
