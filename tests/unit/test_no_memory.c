#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/base/doc.h"
#include "common/base/gzip.h"
#include "common/base/ids.h"
#include "common/base/limits.h"
#include "common/base/yaml.h"
#include "common/fleet/envelope.h"
#include "common/net/http_server.h"
#include "tests/unit/support_alloc.h"
#include "tests/unit/support_auth.h"
#include "tests/unit/support_net.h"
#include "worker/ackmap.h"

/*
 * Libraries that find no memory, one call after the other: the result is right, an error, or the end of the process with a line that says so. Never a crash, and
 * above all never a message, a commit or a document that is taken for damaged, or for another one.
 */

#define PAYLOAD 6000

static int verdict(bool right)
{
    return right ? 0 : 2;
}

static int parse_document(void *arg)
{
    (void)arg;
    static const char text[] = "{\"status\": {\"state\": \"DONE\", \"errors\": [{\"reason\": \"x\"}, 1.5, true, null, -7]}, \"id\": \"\\u00e9t\\u00e9\", \"n\": \"12\"}";
    static const char plain[] = "{\"status\":{\"state\":\"DONE\",\"errors\":[{\"reason\":\"x\"},1.5,true,null,-7]},\"id\":\"\xc3\xa9t\xc3\xa9\",\"n\":\"12\",\"more\":[1]}";
    struct error err = ERROR_INIT;
    AUTO(doc_free_auto) doc *d = doc_parse(text, strlen(text), "a test", &err);
    if (d == NULL)
        return 3; /* the text is good, and what is not is given up for good */
    doc_set(d, "more", doc_add(doc_array(), doc_integer(1)));
    AUTO(doc_free_auto) doc *copy = doc_copy(d);
    AUTO(free_ptr) char *again = doc_text(copy);
    return verdict(strcmp(again, plain) == 0 && doc_equal(d, copy));
}

static void a_document_that_finds_no_memory_is_not_a_bad_one(void **state)
{
    (void)state;
    alloc_fail_each(ALLOC_OURS, parse_document, NULL);
}

static int read_spec(void *arg)
{
    (void)arg;
    static const char text[] = "# a spec\nbatch: b\nitems: {range: {from: 1, to: 3}, list: [a, 'b', \"c\\u00e9\"]}\nsql: |\n  SELECT 1\n  FROM t\nparams:\n  - x: 1\n    y: >-\n      folded\n      text\n";
    struct error err = ERROR_INIT;
    AUTO(yaml_free_auto) struct yaml *root = yaml_parse(text, strlen(text), "a.yaml", NULL, &err);
    if (root == NULL)
        return 3;
    AUTO(doc_free_auto) doc *d = yaml_to_doc(root);
    AUTO(free_ptr) char *again = doc_text(d);
    return verdict(strcmp(again, "{\"batch\":\"b\",\"items\":{\"range\":{\"from\":1,\"to\":3},\"list\":[\"a\",\"b\",\"c\xc3\xa9\"]},"
                                 "\"sql\":\"SELECT 1\\nFROM t\\n\",\"params\":[{\"x\":1,\"y\":\"folded text\"}]}") == 0);
}

static void a_spec_that_finds_no_memory_is_not_a_wrong_one(void **state)
{
    (void)state;
    alloc_fail_each("libyaml", read_spec, NULL);
}

struct message { struct buf bytes; char payload[PAYLOAD]; };

static int decode_message(void *arg)
{
    const struct message *m = arg;
    AUTO(buf_free) struct buf scratch = BUF_INIT(LIMIT_PAYLOAD + 1);
    struct envelope e;
    struct error err = ERROR_INIT;
    if (envelope_decode(m->bytes.data, m->bytes.len, &scratch, &e, &err) != 0)
        return 3; /* its item would be lost */
    return verdict(e.item == 7 && e.payload_len == PAYLOAD && memcmp(e.payload, m->payload, PAYLOAD) == 0);
}

static int encode_message(void *arg)
{
    const struct message *m = arg;
    struct message made = {.bytes = BUF_INIT(1 << 20)};
    memcpy(made.payload, m->payload, PAYLOAD);
    struct error err = ERROR_INIT;
    const struct envelope e = {.run = "r", .run_len = 1, .item = 7, .key = "k", .key_len = 1, .payload = m->payload, .payload_len = PAYLOAD};
    if (envelope_encode(&e, &made.bytes, &err) != 0)
        return 1;
    alloc_refuse_no_more();
    int rc = decode_message(&made);
    buf_free(&made.bytes);
    return rc;
}

static void a_work_message_that_finds_no_memory_is_not_a_damaged_one(void **state)
{
    (void)state;
    struct message m = {.bytes = BUF_INIT(1 << 20)};
    for (size_t i = 0; i < PAYLOAD; i++)
        m.payload[i] = (char)('a' + i / 50 % 20);
    struct error err = ERROR_INIT;
    const struct envelope e = {.run = "r", .run_len = 1, .item = 7, .key = "k", .key_len = 1, .payload = m.payload, .payload_len = PAYLOAD};
    assert_int_equal(envelope_encode(&e, &m.bytes, &err), 0);
    assert_true(m.bytes.len < PAYLOAD);
    alloc_fail_each("libzstd.so", decode_message, &m);
    buf_free(&m.bytes);
}

static int carry_acks(void *arg)
{
    (void)arg;
    struct marks none;
    marks_init(&none);
    AUTO(buf_free) struct buf text = BUF_INIT(1 << 16);
    struct error err = ERROR_INIT;
    struct ackmap *m = ackmap_new(100);
    for (int64_t at = 100; at < 400; at++)
        ackmap_deliver(m, at);
    for (int64_t at = 101; at < 400; at += 3)
        ackmap_done(m, at);
    ackmap_metadata(m, &none, &text);
    struct ackmap *next = ackmap_new(100);
    if (ackmap_load(next, text.data, &none, &err) != 0)
        return 3;
    bool same = true;
    for (int64_t at = 100; at < 400; at++)
        same = same && ackmap_deliver(next, at) == (at % 3 != 101 % 3);
    ackmap_free(m);
    ackmap_free(next);
    return verdict(same);
}

static void a_commit_that_finds_no_memory_forgets_nothing(void **state)
{
    (void)state;
    alloc_fail_each("libzstd.so", carry_acks, NULL);
}

static void a_payload_that_cannot_be_compressed_goes_as_it_is(void **state)
{
    (void)state;
    struct message m = {.bytes = BUF_INIT(1 << 20)};
    for (size_t i = 0; i < PAYLOAD; i++)
        m.payload[i] = (char)('a' + i / 50 % 20);
    alloc_fail_each("libzstd.so", encode_message, &m);
}

static int there_and_back(void *arg)
{
    (void)arg;
    char text[PAYLOAD];
    for (size_t i = 0; i < PAYLOAD; i++)
        text[i] = (char)('a' + i * i % 23);
    AUTO(buf_free) struct buf packed = BUF_INIT(1 << 20);
    AUTO(buf_free) struct buf plain = BUF_INIT(1 << 20);
    struct gzip *g = gzip_new();
    gzip_add(g, text, PAYLOAD, &packed);
    gzip_end(g, &packed);
    gzip_free(g);
    struct error err = ERROR_INIT;
    if (gunzip(packed.data, packed.len, &plain, &err) != 0)
        return 3;
    return verdict(plain.len == PAYLOAD && memcmp(plain.data, text, PAYLOAD) == 0);
}

static void gzip_that_finds_no_memory_is_not_damaged(void **state)
{
    (void)state;
    alloc_fail_each("libz.so", there_and_back, NULL);
}

struct signing { jwt_key *key; char *pem, *right; };

static int sign(void *arg)
{
    const struct signing *s = arg;
    jwt_key *key = jwt_key_read(s->pem);
    if (key == NULL)
        return 3; /* the key is good, and another one would be asked for */
    AUTO(free_ptr) char *token = jwt_sign(key, "id", "me", "scope", "you", 1000);
    if (token == NULL)
        return 4;
    jwt_key_free(key);
    return verdict(strcmp(token, s->right) == 0);
}

static void a_token_is_right_or_none(void **state)
{
    (void)state;
    struct signing s = {0};
    s.key = make_key(&s.pem);
    s.right = jwt_sign(s.key, "id", "me", "scope", "you", 1000);
    assert_non_null(s.right);
    alloc_fail_each("libcrypto.so", sign, &s);
    jwt_key_free(s.key);
    free(s.pem);
    free(s.right);
}

static int digest(void *arg)
{
    (void)arg;
    char hex[2 * SHA256_BYTES + 1];
    sha256_hex("abc", 3, hex);
    return verdict(strcmp(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad") == 0);
}

static void a_digest_is_right_or_none(void **state)
{
    (void)state;
    alloc_fail_each("libcrypto.so", digest, NULL);
}

/* A request of each kind that can go wrong silently: its method, its header and its body are looked at where they arrive. */
static void on_request(void *arg, struct http_exchange *x, const struct http_server_request *r)
{
    (void)arg;
    const char *kind = http_exchange_header(x, "X-Kind");
    bool whole = strcmp(r->method, "PATCH") == 0 && strcmp(r->path, "/a b") == 0 && kind != NULL && strcmp(kind, "k") == 0 && r->body_len == PAYLOAD;
    for (size_t i = 0; whole && i < PAYLOAD; i++)
        whole = r->body[i] == (char)('a' + i / 50 % 20);
    const char *const headers[] = {"ETag: v1", NULL};
    http_exchange_answer(x, whole ? 200 : 499, headers, r->body, r->body_len);
}

static int ask(void *arg)
{
    (void)arg;
    char payload[PAYLOAD], url[64];
    for (size_t i = 0; i < PAYLOAD; i++)
        payload[i] = (char)('a' + i / 50 % 20);
    struct error err = ERROR_INIT;
    struct loop *loop = loop_new();
    struct http_server *server = http_server_new(loop, "127.0.0.1", 0, 1 << 20, on_request, NULL, &err);
    if (server == NULL)
        return 1;
    struct http *http = http_curl(loop, &(struct http_options){.max_requests = 4});
    snprintf(url, sizeof(url), "http://127.0.0.1:%d/a%%20b", http_server_port(server));
    const char *const headers[] = {"X-Kind: k", NULL};
    const struct http_slice body[] = {{payload, 1000}, {payload + 1000, PAYLOAD - 1000}};
    struct reply r = {0};
    http_send(http, &(struct http_request){.method = "PATCH", .url = url, .headers = headers, .body = body, .body_count = 2, .direct = true,
                                           .whole_ms = 3000, .first_byte_ms = 2000}, reply_cb, &r);
    if (!loop_until(loop, reply_came, &r, WORLD_WAIT))
        return 5; /* nothing ever came */
    int rc = r.status == 0 || (r.status >= 400 && r.status != 499) ? 1 : verdict(r.status == 200 && r.len == PAYLOAD && memcmp(r.body, payload, PAYLOAD) == 0 && strcmp(r.etag, "v1") == 0);
    reply_free(&r);
    http_free(http);
    http_server_free(server);
    loop_free(loop);
    return rc;
}

static void a_request_for_which_curl_finds_no_memory_is_an_error_or_right(void **state)
{
    (void)state;
    alloc_fail_each("libcurl.so", ask, NULL);
}

static void an_answer_for_which_we_and_libevent_find_no_memory_is_none_or_right(void **state)
{
    (void)state;
    alloc_fail_each(ALLOC_OURS, ask, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_document_that_finds_no_memory_is_not_a_bad_one),
        cmocka_unit_test(a_spec_that_finds_no_memory_is_not_a_wrong_one),
        cmocka_unit_test(a_work_message_that_finds_no_memory_is_not_a_damaged_one),
        cmocka_unit_test(a_payload_that_cannot_be_compressed_goes_as_it_is),
        cmocka_unit_test(a_commit_that_finds_no_memory_forgets_nothing),
        cmocka_unit_test(gzip_that_finds_no_memory_is_not_damaged),
        cmocka_unit_test(a_token_is_right_or_none),
        cmocka_unit_test(a_digest_is_right_or_none),
        cmocka_unit_test(a_request_for_which_curl_finds_no_memory_is_an_error_or_right),
        cmocka_unit_test(an_answer_for_which_we_and_libevent_find_no_memory_is_none_or_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
