/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What parser and help of a command line share: the options that every program has, and what is
 * printed from the tables.
 */
#ifndef KVM_BASE_CLI_PRIVATE_H
#define KVM_BASE_CLI_PRIVATE_H

#include "kvm/base/cli.h"

/* Offsets count from struct cli_common; SIZE_MAX: help and version, which have no value. */
extern const struct cli_option cli_common_options[];
extern const size_t cli_common_count;

void cli_print_help(const struct cli_command *command);

/* For completions: "--NAME" for each option, then "argument:--NAME:ARGUMENT" for those that take one,
 * "operand:KIND" and "action:WORD". */
void cli_print_words(const struct cli_command *command);

#endif
