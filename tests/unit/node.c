/* SPDX-License-Identifier: BSD-2-Clause */
#include "unit.h"
#include "scratch.h"

#include <stdint.h>
#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/state/node.h"

static int open_with(const struct scratch *scratch, const char *text, struct node *node,
                     struct error *error)
{
    if (!scratch_write(scratch, "kvm-defaults.json", text))
        return -2;
    return node_open(node, scratch->path, error);
}

TEST(nothing, "no directory and no file mean no defaults")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    AUTO_NODE struct node node = {0};
    CHECK(node_open(&node, scratch.path, NULL) == 0);
    CHECK(json_is_object(node.defaults) && json_object_size(node.defaults) == 0);
    AUTO_FREE char *none = memory_format("%s/none/", scratch.path);
    AUTO_FREE char *source = memory_format("%s/none/kvm-defaults.json", scratch.path);
    AUTO_NODE struct node absent = {0};
    CHECK(node_open(&absent, none, NULL) == 0);
    CHECK_TEXT(absent.source, source);
    CHECK_TEXT(absent.state_path, KVM_SUITE_STATE_DIR);
    setenv("KVM_STATE_DIR", "/tmp/state", 1);
    AUTO_NODE struct node moved = {0};
    CHECK(node_open(&moved, none, NULL) == 0);
    unsetenv("KVM_STATE_DIR");
    CHECK_TEXT(moved.state_path, "/tmp/state");
    uint32_t *uids = NULL;
    size_t count = 9;
    CHECK(node_uid_pool(&absent, &uids, &count, NULL) == 0);
    CHECK(uids == NULL && count == 0);
    return true;
}

TEST(places_of_its_own,
     "the two directories mean the same wherever a child works, and what is no path is refused")
{
    static const char *const bad[] = {"/tmp/s\xff", "/tmp/a\nb", "/tmp/../s", "./s", "/tmp//s"};
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    AUTO_NODE struct node node = {0};
    AUTO_FREE char *conf = memory_format("%s/conf", scratch.path);
    AUTO_FREE char *state = memory_format("%s/state", scratch.path);
    CHECK(chdir(scratch.path) == 0);
    setenv("KVM_STATE_DIR", "state/", 1);
    CHECK_NUMBER(node_open(&node, "conf/", NULL), 0);
    CHECK_TEXT(node.path, conf);
    CHECK_TEXT(node.state_path, state);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        AUTO_NODE struct node refused = {0};
        struct error error = {0};
        setenv("KVM_STATE_DIR", bad[i], 1);
        CHECK_NUMBER(node_open(&refused, "/none", &error), -1);
        CHECK_NUMBER(error.status, STATUS_USAGE);
        CHECK_HAS(error.text, "KVM_STATE_DIR: must be plain text");
    }
    unsetenv("KVM_STATE_DIR");
    CHECK(chdir("/") == 0);
    return true;
}

TEST(good, "good defaults are kept as they are")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    AUTO_NODE struct node node = {0};
    struct error error = {0};
    int result = open_with(&scratch,
                           "{\"hvparams\": {\"acpi\": true, \"disk_type\": \"paravirtual\"},"
                           " \"beparams\": {\"maxmem\": 512, \"vcpus\": 2, \"auto_balance\": true},"
                           " \"nicparams\": {\"mode\": \"bridged\", \"link\": \"br0\"},"
                           " \"uid_pool\": \"4000-4002,5000\"}",
                           &node, &error);
    CHECK_TEXT(error.text, "");
    CHECK_NUMBER(result, 0);
    CHECK_TEXT(json_text(json_member(node.defaults, "nicparams"), "link"), "br0");
    return true;
}

TEST(all_problems, "all problems are told at once, each with its place")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    AUTO_NODE struct node node = {0};
    struct error error = {0};
    int result = open_with(&scratch,
                           "{\"hvparam\": {}, \"hvparams\": {\"disk_typo\": 1},"
                           " \"beparams\": {\"vcpus\": 0, \"maxmem\": \"512\"},"
                           " \"nicparams\": {\"mode\": \"bridge\"}, \"uid_pool\": \"0-3\"}",
                           &node, &error);
    CHECK_NUMBER(result, -1);
    CHECK_NUMBER(error.status, STATUS_USAGE);
    CHECK(node.defaults == NULL && node.path == NULL);
    CHECK_HAS(error.text, "kvm-defaults.json: hvparam:");
    CHECK_HAS(error.text, "hvparams");
    CHECK_HAS(error.text, "disk_typo");
    CHECK_HAS(error.text, "kvm-defaults.json: beparams.vcpus: ");
    CHECK_HAS(error.text, "kvm-defaults.json: beparams.maxmem: ");
    CHECK_HAS(error.text, "kvm-defaults.json: nicparams.mode: ");
    CHECK_HAS(error.text, "kvm-defaults.json: uid_pool: ");
    return true;
}

TEST(bad_files, "what is no object, no JSON or writable by others is refused")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    AUTO_NODE struct node node = {0};
    struct error error = {0};
    CHECK_NUMBER(open_with(&scratch, "[]", &node, &error), -1);
    CHECK_NUMBER(error.status, STATUS_USAGE);
    CHECK_HAS(error.text, "must be an object, it is array");
    CHECK_NUMBER(open_with(&scratch, "{\"hvparams\": []}", &node, &error), -1);
    CHECK_HAS(error.text, "hvparams: ");
    CHECK_NUMBER(open_with(&scratch, "{", &node, &error), -1);
    CHECK_NUMBER(error.status, STATUS_USAGE);
    CHECK_HAS(error.text, "kvm-defaults.json: line 1");
    CHECK_NUMBER(open_with(&scratch, "", &node, &error), -1);
    CHECK(fchmodat(scratch.fd, "kvm-defaults.json", 0666, 0) == 0);
    CHECK_NUMBER(open_with(&scratch, "{}", &node, &error), -1);
    CHECK_HAS(error.text, "may write it");
    return true;
}

TEST(places, "disk_places is a list of normalised absolute paths")
{
    static const char *const wrong[] = {"\"/srv\"",          "[1]",        "[\"srv\"]", "[\"\"]",
                                        "[\"/srv/../etc\"]", "[\"/srv/\"]"};
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    AUTO_NODE struct node good = {0};
    CHECK_NUMBER(open_with(&scratch, "{\"disk_places\": [\"/srv\", \"/dev/vg0\"]}", &good, NULL),
                 0);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        AUTO_SCRATCH struct scratch other = scratch_begin();
        AUTO_FREE char *text = memory_format("{\"disk_places\": %s}", wrong[i]);
        AUTO_NODE struct node node = {0};
        struct error error = {0};
        CHECK_NUMBER(open_with(&other, text, &node, &error), -1);
        CHECK_NUMBER(error.status, STATUS_USAGE);
        CHECK_HAS(error.text, "kvm-defaults.json: disk_places");
    }
    return true;
}

TEST(pools, "a pool is its uids in order")
{
    AUTO_SCRATCH struct scratch scratch = scratch_begin();
    AUTO_NODE struct node node = {0};
    CHECK_NUMBER(open_with(&scratch, "{\"uid_pool\": \"5000,4000-4002,4294967294\"}", &node, NULL),
                 0);
    AUTO_FREE uint32_t *uids = NULL;
    size_t count = 0;
    CHECK(node_uid_pool(&node, &uids, &count, NULL) == 0);
    CHECK_NUMBER(count, 5);
    CHECK(uids[0] == 4000 && uids[1] == 4001 && uids[2] == 4002);
    CHECK(uids[3] == 5000 && uids[4] == 4294967294);
    return true;
}

TEST(bad_pools, "root, reversed, repeated, huge and garbled pools are refused")
{
    static const char *const wrong[] = {
        "0",     "0-5",   "5-4",     "4294967295", "1-4294967294", "4000,4000", "4000-4010,4005",
        "4000-", "-4000", "4000,",   ",4000",      "4000 - 4002",  "4000;4001", "root",
        "04000", "1-2-3", "1-65537",
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        AUTO_SCRATCH struct scratch scratch = scratch_begin();
        AUTO_FREE char *text = memory_format("{\"uid_pool\": \"%s\"}", wrong[i]);
        AUTO_NODE struct node node = {0};
        struct error error = {0};
        if (open_with(&scratch, text, &node, &error) != -1 || error.status != STATUS_USAGE) {
            printf("# accepted: %s\n", wrong[i]);
            return false;
        }
        CHECK_HAS(error.text, "kvm-defaults.json: uid_pool: ");
    }
    return true;
}

UNIT_MAIN(UNIT(nothing), UNIT(places_of_its_own), UNIT(good), UNIT(all_problems), UNIT(bad_files),
          UNIT(places), UNIT(pools), UNIT(bad_pools))
