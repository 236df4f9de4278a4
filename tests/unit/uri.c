/* SPDX-License-Identifier: BSD-2-Clause */
#include "kvm/state/uri.h"

#include "kvm/base/json.h"
#include "kvm/base/memory.h"
#include "kvm/qemu/probe.h"
#include "kvm/state/check.h"
#include "qemu.h"
#include "unit.h"

static const struct {
    const char *uri, *node;
} known[] = {
    {"rbd:pool/image", "{\"driver\":\"rbd\",\"pool\":\"pool\",\"image\":\"image\"}"},
    {"rbd:pool/space/image:id=ad min:conf=/etc/ceph/a b.conf",
     "{\"driver\":\"rbd\",\"pool\":\"pool\",\"namespace\":\"space\",\"image\":\"image\","
     "\"user\":\"ad min\",\"conf\":\"/etc/ceph/a b.conf\"}"},
    {"rbd:po\\:ol/im\\@a\\\\ge,\"x@sn,ap", "{\"driver\":\"rbd\",\"pool\":\"po:ol\",\"image\":\"im@"
                                           "a\\\\ge,\\\"x\",\"snapshot\":\"sn,ap\"}"},
    {"rbd:p/i:mon_host=10.0.0.1\\:6790;[2001\\:db8\\:\\:1];mon",
     "{\"driver\":\"rbd\",\"pool\":\"p\",\"image\":\"i\",\"server\":[{\"host\":\"10.0.0.1\","
     "\"port\":"
     "\"6790\"},{\"host\":\"2001:db8::1\",\"port\":\"6789\"},{\"host\":\"mon\",\"port\":\"6789\"}]"
     "}"},
    {"gluster://10.0.0.1/vol/dir/a%2Cb%20c.img",
     "{\"driver\":\"gluster\",\"volume\":\"vol\",\"path\":\"dir/a,b c.img\",\"server\":[{\"type\":"
     "\"inet\",\"host\":\"10.0.0.1\",\"port\":\"24007\"}]}"},
    {"gluster+tcp://[2001:db8::1]:24008/vol/image",
     "{\"driver\":\"gluster\",\"volume\":\"vol\",\"path\":\"image\",\"server\":[{\"type\":\"inet\","
     "\"host\":\"2001:db8::1\",\"port\":\"24008\"}]}"},
    {"gluster:///vol/image",
     "{\"driver\":\"gluster\",\"volume\":\"vol\",\"path\":\"image\",\"server\":[{\"type\":\"inet\","
     "\"host\":\"localhost\",\"port\":\"24007\"}]}"},
    {"gluster+unix:///vol/image?socket=/run/g%20d",
     "{\"driver\":\"gluster\",\"volume\":\"vol\",\"path\":\"image\",\"server\":[{\"type\":\"unix\","
     "\"path\":\"/run/g d\"}]}"},
    {"iscsi://san.example.org/iqn.2001-04.com.example%3Astorage/7",
     "{\"driver\":\"iscsi\",\"transport\":\"tcp\",\"portal\":\"san.example.org:3260\",\"target\":"
     "\"iqn.2001-04.com.example:storage\",\"lun\":7}"},
    {"iser://[2001:db8::1]:3261/iqn.a:b/c/0",
     "{\"driver\":\"iscsi\",\"transport\":\"iser\",\"portal\":\"[2001:db8::1]:3261\",\"target\":"
     "\"iqn.a:b/c\",\"lun\":0}"},
    {"nbd://localhost", "{\"driver\":\"nbd\",\"server\":{\"type\":\"inet\",\"host\":\"localhost\","
                        "\"port\":\"10809\"}}"},
    {"nbd+tcp://localhost:10810/a%2fb,c%25",
     "{\"driver\":\"nbd\",\"server\":{\"type\":\"inet\",\"host\":\"localhost\",\"port\":\"10810\"},"
     "\"export\":\"a/b,c%\"}"},
    {"nbd+unix:///export?socket=/run/nbd,1", "{\"driver\":\"nbd\",\"server\":{\"type\":\"unix\","
                                             "\"path\":\"/run/nbd,1\"},\"export\":\"export\"}"},
    {"nbd:[::1]:10810:exportname=a:exportname=b",
     "{\"driver\":\"nbd\",\"server\":{\"type\":\"inet\",\"host\":\"::1\",\"port\":\"10810\"},"
     "\"export\":\"a:exportname=b\"}"},
    {"nbd:unix:/run/nbd 1",
     "{\"driver\":\"nbd\",\"server\":{\"type\":\"unix\",\"path\":\"/run/nbd 1\"}}"},
    {"https://example.org:8443/a%20b.iso?x=1,2",
     "{\"driver\":\"https\",\"url\":\"https://example.org:8443/a%20b.iso?x=1,2\"}"},
};

TEST(taken_apart, "each form becomes exactly the members of its driver")
{
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        struct error error = {0};
        AUTO_JSON json_t *node = uri_node(known[i].uri, &error);
        AUTO_FREE char *text = json_compact(node);
        if (node == NULL)
            printf("# %s: %s\n", known[i].uri, error.text);
        CHECK(node != NULL);
        CHECK_TEXT(text, known[i].node);
    }
    return true;
}

TEST(refused, "what is incomplete, ambiguous, unknown or secret is refused with the reason")
{
    static const struct {
        const char *uri, *reason;
    } bad[] = {
        {"", "must begin with rbd:"},
        {"file:/x", "must begin with rbd:"},
        {"json:{}", "must begin with rbd:"},
        {"gluster+rdma://a/v/p", "must begin with"},
        {"rbd:pool", "must be like rbd:POOL/IMAGE"},
        {"rbd:/image", "must be like"},
        {"rbd:pool/", "must be like"},
        {"rbd:pool/a/b/c", "must be like"},
        {"rbd:pool/a@", "must be like"},
        {"rbd:pool/a@b@c", "must be like"},
        {"rbd:pool/a:id", "options must be like"},
        {"rbd:pool/a:id=", "id: must be a user name"},
        {"rbd:pool/a:id=b:id=c", "id: given twice"},
        {"rbd:pool/a:key=c2VjcmV0", "key: keys do not stand in a URI"},
        {"rbd:pool/a:conf=ceph.conf", "conf: must be an absolute path"},
        {"rbd:pool/a:rbd_cache=true", "rbd_cache: unknown option"},
        {"rbd:pool/a:mon_host=a;;b", "mon_host: must be HOST"},
        {"rbd:pool/a\nb", "control character"},
        {"gluster://a/v", "must be like gluster://HOST/VOLUME/PATH"},
        {"gluster://a//p", "must be like"},
        {"gluster://a/v/p?debug=9", "nothing is known after a question mark"},
        {"gluster+unix:///v/p", "needs ?socket=FILE"},
        {"gluster+unix://a/v/p?socket=/x", "a socket has no host"},
        {"gluster+unix:///v/p?socket=x", "socket: must be an absolute path"},
        {"gluster://a:0/v/p", "port 0: must be from 1 to 65535"},
        {"gluster://a:/v/p", "port : must be from 1 to 65535"},
        {"gluster://a b/v/p", "host a b: must be a name"},
        {"gluster://[::g]/v/p", "host [::g]: must be a name"},
        {"gluster://a/v/p%0ax", "hides a control character"},
        {"gluster://a/v/p%0", "a % must begin two hexadecimal digits"},
        {"gluster://a/v/p%00x", "hides a control character"},
        {"gluster://a/v/p%ff", "no UTF-8"},
        {"gluster://a/v/p#x", "must be written as %23"},
        {"iscsi://a/iqn", "must be like iscsi://HOST/TARGET/LUN"},
        {"iscsi:///iqn/1", "must be like"},
        {"iscsi://a/iqn/x", "must be like"},
        {"iscsi://a/iqn/01", "must be like"},
        {"iscsi://user%secret@a/iqn/1", "a user or password must not stand in it"},
        {"nbd:///x", "must be like nbd://HOST/EXPORT"},
        {"nbd:a", "must be like nbd:HOST:PORT"},
        {"nbd:a:b", "must be like"},
        {"nbd:unix:a", "unix: must be followed by an absolute path"},
        {"nbd://a,b/x", "host a,b: must be a name"},
        {"http:///x", "must be like http://HOST/PATH"},
        {"http://a", "must be like"},
        {"http://u:p@a/x", "a user or password must not stand in it"},
        {"https://a/x y", "must be written as %XX"},
        {"https://a/x\xc3\xa4", "must be written as %XX"},
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct error error = {0};
        AUTO_JSON json_t *node = uri_node(bad[i].uri, &error);
        if (node != NULL)
            printf("# taken: %s\n", bad[i].uri);
        CHECK(node == NULL);
        CHECK_HAS(error.text, bad[i].reason);
        CHECK_NUMBER(error.status, STATUS_USAGE);
    }
    return true;
}

/* A name of up to 24 characters, odd ones among them; NULL-terminated. */
static void make_name(char name[80], unsigned *state)
{
    static const char *const pieces[] = {"a",  "Z",  "0", ",", "=",        ":", "@", "/",
                                         "\\", "\"", "'", " ", "%",        "&", "?", "#",
                                         ";",  "{",  "}", "[", "\xc3\xa4", "-", "."};
    size_t count = 1 + (*state = *state * 1103515245 + 12345) / 65536 % 24;

    strcpy(name, "x"); /* a name that begins with a slash would end what is before it */
    for (size_t i = 1; i < count; i++) {
        *state = *state * 1103515245 + 12345;
        strcat(name, pieces[*state / 65536 % (sizeof(pieces) / sizeof(pieces[0]))]);
    }
}

static char *percent(const char *name)
{
    char *text = memory_copy("");

    for (; *name != '\0'; name++) {
        AUTO_FREE char *before = text;
        bool plain = check_is_word((char[]){*name, '\0'}, ".", 1);
        text = plain ? memory_format("%s%c", before, *name)
                     : memory_format("%s%%%02x", before, (unsigned)(unsigned char)*name);
    }
    return text;
}

static char *backslashes(const char *name)
{
    char *text = memory_copy("");

    for (; *name != '\0'; name++) {
        AUTO_FREE char *before = text;
        text = memory_format(strchr("/@:=\\", *name) != NULL ? "%s\\%c" : "%s%c", before, *name);
    }
    return text;
}

static bool member_is(const char *uri, const char *key, const char *expected)
{
    struct error error = {0};
    AUTO_JSON json_t *node = uri_node(uri, &error);

    if (node == NULL)
        printf("# %s: %s\n", uri, error.text);
    CHECK(node != NULL);
    CHECK_TEXT(json_text(node, key), expected);
    return true;
}

TEST(exactly, "whatever a name holds, written as the scheme wants it, arrives as exactly that name")
{
    unsigned state = 20140611;

    for (int i = 0; i < 2000; i++) {
        char name[80];
        make_name(name, &state);
        AUTO_FREE char *encoded = percent(name);
        AUTO_FREE char *escaped = backslashes(name);
        AUTO_FREE char *nbd = memory_format("nbd://host/%s", encoded);
        AUTO_FREE char *gluster = memory_format("gluster://host/volume/%s", encoded);
        AUTO_FREE char *iscsi = memory_format("iscsi://host/%s/3", encoded);
        AUTO_FREE char *rbd =
            memory_format("rbd:%s/%s@%s:id=%s", escaped, escaped, escaped, escaped);
        AUTO_FREE char *plain = memory_format("nbd:host:1:exportname=%s", name);
        CHECK(member_is(nbd, "export", name) && member_is(gluster, "path", name));
        CHECK(member_is(iscsi, "target", name) && member_is(plain, "export", name));
        CHECK(member_is(rbd, "pool", name) && member_is(rbd, "image", name));
        CHECK(member_is(rbd, "snapshot", name) && member_is(rbd, "user", name));
    }
    return true;
}

/* Needs the drivers: a package of their own on Debian. */
TEST(understood, "the real QEMU knows each node, every member and type of it")
{
    NEED_QEMU;
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        struct error error = {0};
        AUTO_JSON json_t *node = uri_node(known[i].uri, NULL);
        probe_node(qemu, node, &error);
        if (error.text[0] != '\0')
            printf("# %s\n", known[i].uri);
        CHECK_TEXT(error.text, "");
    }
    struct error error = {0};
    AUTO_JSON json_t *wrong = json_pack("{s:s, s:s}", "driver", "rbd", "poool", "x");
    CHECK_NUMBER(probe_node(qemu, wrong, &error), -1);
    return true;
}

TEST(opened, "opening what is not there fails with QEMU's reason, soon")
{
    NEED_QEMU;
    struct error error = {0};
    AUTO_JSON json_t *node = uri_node("nbd:unix:/nonexistent/socket", NULL);
    deadline_t soon = clock_deadline(10000);
    CHECK_NUMBER(probe_open(qemu, node, clock_deadline(60000), &error), -1);
    CHECK(!clock_passed(soon));
    CHECK_HAS(error.text, "/nonexistent/socket");
    return true;
}

TEST(judged, "which storage it is and whether it can be written is told")
{
    static const struct {
        const char *uri, *storage;
        bool read_only;
    } cases[] = {{"rbd:a/b", "rbd", false},
                 {"rbd:a/b@c", "rbd", true},
                 {"gluster://a/b/c", "gluster", false},
                 {"iscsi://a/b/1", "ext", false},
                 {"nbd://a/b", "ext", false},
                 {"http://a/b", "ext", true}};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        AUTO_JSON json_t *node = uri_node(cases[i].uri, NULL);
        CHECK_TEXT(uri_storage(node), cases[i].storage);
        CHECK(uri_is_read_only(node) == cases[i].read_only);
    }
    CHECK(uri_is_web("https://a") && !uri_is_web("httpsx://a") && !uri_is_web("nbd://a"));
    return true;
}

UNIT_MAIN(UNIT(taken_apart), UNIT(exactly), UNIT(refused), UNIT(understood), UNIT(opened),
          UNIT(judged))
