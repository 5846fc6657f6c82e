#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/support_net.h"

/* The client over TLS, against a server with a certificate of its own for 127.0.0.1, on the same loop. */

enum { CONNS = 16 };

struct tls_conn {
    struct tls *server;
    int fd;
    SSL *ssl;
    struct watch *watch;
    char in[4096];
    size_t len;
};

struct tls {
    struct loop *loop;
    struct http *http;
    SSL_CTX *ctx;
    int fd;
    struct watch *watch;
    char url[64], where[64], ca_file[64];
    struct tls_conn conns[CONNS];
    size_t accepted;
    bool hold; /* requests are not answered yet */
    int requests;
};

static X509 *certificate(EVP_PKEY *key)
{
    X509 *x = X509_new();
    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    X509_gmtime_adj(X509_getm_notBefore(x), -3600);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    X509_set_pubkey(x, key);
    X509_NAME *name = X509_get_subject_name(x);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"test", -1, -1, 0);
    X509_set_issuer_name(x, name);
    X509_EXTENSION *alt = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "IP:127.0.0.1");
    assert_non_null(alt);
    X509_add_ext(x, alt, -1);
    X509_EXTENSION_free(alt);
    assert_true(X509_sign(x, key, EVP_sha256()) > 0);
    return x;
}

static int choose_http_1(SSL *ssl, const unsigned char **out, unsigned char *outlen, const unsigned char *in, unsigned inlen, void *arg)
{
    (void)ssl;
    (void)arg;
    static const unsigned char ours[] = "\x08http/1.1";
    unsigned char *chosen = NULL;
    if (SSL_select_next_proto(&chosen, outlen, ours, sizeof(ours) - 1, in, inlen) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static void conn_answer(struct tls_conn *c)
{
    if (c->ssl == NULL || c->server->hold || c->len == 0 || strstr(c->in, "\r\n\r\n") == NULL)
        return;
    c->len = 0;
    assert_int_equal(SSL_write(c->ssl, WORLD_OK, (int)strlen(WORLD_OK)), strlen(WORLD_OK));
}

static void conn_close(struct tls_conn *c)
{
    if (c->ssl == NULL)
        return;
    watch_free(c->watch);
    SSL_free(c->ssl);
    close(c->fd);
    c->ssl = NULL;
}

static void on_conn(void *arg, int events)
{
    (void)events;
    struct tls_conn *c = arg;
    int n = SSL_read(c->ssl, c->in + c->len, (int)(sizeof(c->in) - 1 - c->len)); /* makes the handshake, too */
    if (n > 0) {
        c->len += (size_t)n;
        c->in[c->len] = '\0';
        c->server->requests += strstr(c->in, "\r\n\r\n") != NULL;
        conn_answer(c);
    } else if (SSL_get_error(c->ssl, n) != SSL_ERROR_WANT_READ) {
        conn_close(c);
    }
}

static void on_accept(void *arg, int events)
{
    (void)events;
    struct tls *s = arg;
    assert_true(s->accepted < CONNS);
    struct tls_conn *c = &s->conns[s->accepted++];
    c->server = s;
    c->fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    c->ssl = SSL_new(s->ctx);
    SSL_set_fd(c->ssl, c->fd);
    SSL_set_accept_state(c->ssl);
    c->watch = watch_new(s->loop, c->fd, on_conn, c);
    watch_set(c->watch, WATCH_READ);
}

static void listen_on_any_port(struct tls *s)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(s->fd, (struct sockaddr *)&at, len), 0);
    assert_int_equal(listen(s->fd, CONNS), 0);
    assert_int_equal(getsockname(s->fd, (struct sockaddr *)&at, &len), 0);
    s->watch = watch_new(s->loop, s->fd, on_accept, s);
    watch_set(s->watch, WATCH_READ);
    snprintf(s->where, sizeof(s->where), "127.0.0.1:%d", ntohs(at.sin_port));
    snprintf(s->url, sizeof(s->url), "https://127.0.0.1:%d/", ntohs(at.sin_port));
}

static int set_up(void **state)
{
    struct tls *s = xcalloc(1, sizeof(*s));
    s->loop = loop_new();
    s->ctx = SSL_CTX_new(TLS_server_method());
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = certificate(key);
    assert_int_equal(SSL_CTX_use_certificate(s->ctx, x), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(s->ctx, key), 1);
    SSL_CTX_set_alpn_select_cb(s->ctx, choose_http_1, NULL);
    snprintf(s->ca_file, sizeof(s->ca_file), "/tmp/bqfleet-test-ca-XXXXXX");
    FILE *f = fdopen(mkstemp(s->ca_file), "w");
    assert_non_null(f);
    assert_int_equal(PEM_write_X509(f, x), 1);
    fclose(f);
    X509_free(x);
    EVP_PKEY_free(key);
    listen_on_any_port(s);
    s->http = http_curl(s->loop, &(struct http_options){.ca_file = s->ca_file});
    *state = s;
    return 0;
}

static int tear_down(void **state)
{
    struct tls *s = *state;
    http_free(s->http);
    for (size_t i = 0; i < s->accepted; i++)
        conn_close(&s->conns[i]);
    watch_free(s->watch);
    close(s->fd);
    SSL_CTX_free(s->ctx);
    loop_free(s->loop);
    unlink(s->ca_file);
    free(s);
    return 0;
}

static struct reply ask(struct tls *s)
{
    struct reply r = {0};
    http_send(s->http, &(struct http_request){.method = "GET", .url = s->url}, reply_cb, &r);
    assert_true(loop_until(s->loop, reply_came, &r, WORLD_WAIT));
    return r;
}

static void a_trusted_server_answers_over_tls(void **state)
{
    struct tls *s = *state;
    for (int i = 0; i < 3; i++) {
        struct reply r = ask(s);
        assert_string_equal(r.err.text, "");
        assert_int_equal(r.status, 200);
        assert_string_equal(r.body, "ok");
        reply_free(&r);
    }
    assert_int_equal(s->accepted, 1); /* kept alive */
}

static void a_certificate_nobody_vouches_for_is_fatal_and_nothing_was_sent(void **state)
{
    struct tls *s = *state;
    http_free(s->http);
    s->http = http_curl(s->loop, NULL);
    struct reply r = ask(s);
    assert_int_equal(r.status, 0);
    assert_int_equal(r.err.kind, ERR_FATAL);
    assert_non_null(strstr(r.err.text, s->where));
    assert_non_null(strstr(r.err.text, "certificate is not accepted"));
    assert_false(r.maybe_executed);
    assert_int_equal(s->requests, 0);
    reply_free(&r);
}

static bool eight_requests(void *arg)
{
    return ((struct tls *)arg)->requests == 8;
}

static void without_http_2_requests_run_side_by_side_on_connections_of_their_own(void **state)
{
    struct tls *s = *state;
    struct reply r[8] = {0};
    s->hold = true;
    for (int i = 0; i < 8; i++)
        http_send(s->http, &(struct http_request){.method = "GET", .url = s->url}, reply_cb, &r[i]);
    assert_true(loop_until(s->loop, eight_requests, s, WORLD_WAIT));
    s->hold = false;
    for (size_t i = 0; i < s->accepted; i++)
        conn_answer(&s->conns[i]);
    for (int i = 0; i < 8; i++) {
        assert_true(loop_until(s->loop, reply_came, &r[i], WORLD_WAIT));
        assert_int_equal(r[i].status, 200);
        reply_free(&r[i]);
    }
}

static void plain_http_to_a_tls_port_is_an_error_and_not_a_hang(void **state)
{
    struct tls *s = *state;
    memmove(s->url + 4, s->url + 5, strlen(s->url + 5) + 1); /* https -> http */
    struct reply r = ask(s);
    assert_int_equal(r.status, 0);
    assert_int_equal(r.err.kind, ERR_RETRY);
    assert_non_null(strstr(r.err.text, s->where));
    reply_free(&r);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(a_trusted_server_answers_over_tls),
        CASE(a_certificate_nobody_vouches_for_is_fatal_and_nothing_was_sent),
        CASE(without_http_2_requests_run_side_by_side_on_connections_of_their_own),
        CASE(plain_http_to_a_tls_port_is_an_error_and_not_a_hang),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
