#include "tests/unit/support_auth.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "common/net/http_server.h"

/* A service account's key over real sockets: a token endpoint that checks the signature with the public key, and an API that takes only the
 * token that was given out last. */

#define CALLERS 20
#define WAIT (20 * US_PER_S)

struct service {
    struct loop *loop;
    struct http *http;
    struct http_server *server;
    struct rnd rnd;
    jwt_key *key;
    char url[64];
    int tokens, served, turned_away; /* tokens given, requests with the right one, with another */
    struct error wrong;              /* what the endpoint found in an assertion */
};

static int check_assertion(struct service *s, const char *body)
{
    static const char begin[] = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=";
    if (strncmp(body, begin, strlen(begin)) != 0)
        return error_set(&s->wrong, ERR_FATAL, 0, "form: %s", body);
    doc *head = NULL, *claims = NULL;
    if (jwt_verify(s->key, body + strlen(begin), &head, &claims) != 0)
        return error_set(&s->wrong, ERR_FATAL, 0, "signature");
    AUTO(free_ptr) char *h = doc_text(head);
    AUTO(free_ptr) char *c = doc_text(claims);
    int64_t now_s = loop_wall_us(s->loop) / US_PER_S, from_s = doc_int(claims, "iat", 0);
    AUTO(free_ptr) char *want = xasprintf("{\"iss\":\"sa@p.iam\",\"scope\":\"https://www.googleapis.com/auth/bigquery\",\"aud\":\"%s/token\",\"iat\":%" PRId64
                                          ",\"exp\":%" PRId64 "}", s->url, from_s, from_s + 3600);
    bool good = strcmp(h, "{\"alg\":\"RS256\",\"typ\":\"JWT\",\"kid\":\"k1\"}") == 0 && strcmp(c, want) == 0 && from_s <= now_s && from_s > now_s - 60;
    doc_free(head);
    doc_free(claims);
    return good ? 0 : error_set(&s->wrong, ERR_FATAL, 0, "%s %s", h, c);
}

static void serve(void *arg, struct http_exchange *x, const struct http_server_request *r)
{
    struct service *s = arg;
    char text[200];
    int status = 200;
    if (strcmp(r->path, "/token") == 0) {
        AUTO(free_ptr) char *body = xstrndup(r->body, r->body_len);
        if (check_assertion(s, body) == 0) {
            snprintf(text, sizeof(text), "{\"access_token\":\"T%d\",\"expires_in\":3599}", ++s->tokens);
        } else {
            status = 400;
            snprintf(text, sizeof(text), "{\"error\":\"invalid_grant\",\"error_description\":\"Invalid JWT Signature.\"}");
        }
    } else {
        const char *header = http_exchange_header(x, "Authorization");
        char want[64];
        snprintf(want, sizeof(want), "Bearer T%d", s->tokens);
        bool good = header && strcmp(header, want) == 0;
        *(good ? &s->served : &s->turned_away) += 1;
        status = good ? 200 : 401;
        snprintf(text, sizeof(text), "{}");
    }
    http_exchange_answer(x, status, NULL, text, strlen(text));
}

static void service_begin(struct service *s, struct auth **auth, const char *other_pem)
{
    place_begin();
    *s = (struct service){.loop = loop_new()};
    rnd_seeded(&s->rnd, 1);
    s->http = http_curl(s->loop, &(struct http_options){0});
    struct error err = ERROR_INIT;
    s->server = http_server_new(s->loop, "127.0.0.1", 0, 1 << 20, serve, s, &err);
    assert_non_null(s->server);
    snprintf(s->url, sizeof(s->url), "http://127.0.0.1:%d", http_server_port(s->server));
    AUTO(free_ptr) char *pem = NULL;
    s->key = make_key(&pem);
    AUTO(free_ptr) char *uri = xasprintf("%s/token", s->url);
    AUTO(doc_free_auto) doc *file = doc_set_str(doc_set_str(doc_object(), "type", "service_account"), "client_email", "sa@p.iam");
    doc_set_str(doc_set_str(doc_set_str(file, "private_key", other_pem ? other_pem : pem), "private_key_id", "k1"), "token_uri", uri);
    doc_set_str(file, "project_id", "p");
    AUTO(free_ptr) char *json = doc_text(file);
    place_set("GOOGLE_APPLICATION_CREDENTIALS", place_file("key.json", json));
    *auth = auth_choose(&(struct auth_choice){.how = "adc", .url = s->url, .env = place_env, .loop = s->loop, .http = s->http, .rnd = &s->rnd}, &err);
    if (*auth == NULL)
        fail_msg("%s", err.text);
}

static void service_end(struct service *s, struct auth *auth)
{
    auth_free(auth);
    http_free(s->http);
    http_server_free(s->server);
    jwt_key_free(s->key);
    loop_free(s->loop);
    assert_lacks(place_log(), "PRIVATE");
    assert_lacks(place_log(), "eyJ");      /* the beginning of every JWT */
    assert_lacks(place_log(), "Bearer");
    place_end();
}

struct batch { int answers, good; };

static void on_answer(void *arg, const struct bq_answer *a)
{
    struct batch *b = arg;
    b->answers++;
    b->good += a->err == NULL && a->status == 200;
}

static bool all_answered(void *arg)
{
    return ((struct batch *)arg)->answers == CALLERS;
}

static struct batch ask_all(struct service *s, struct bq *bq)
{
    struct batch b = {0};
    for (int i = 0; i < CALLERS; i++)
        bq_send(bq, &(struct bq_request){.method = "GET", .path = "/projects/p/jobs"}, on_answer, &b);
    assert_true(loop_until(s->loop, all_answered, &b, WAIT));
    return b;
}

static void requests_share_signed_tokens_and_survive_their_loss(void **state)
{
    (void)state;
    struct service s;
    struct auth *auth = NULL;
    service_begin(&s, &auth, NULL);
    assert_has(auth_describe(auth), "service account sa@p.iam (");
    assert_string_equal(auth_project(auth), "p");
    struct bq *bq = bq_new(&(struct bq_options){.loop = s.loop, .http = s.http, .auth = auth, .rnd = &s.rnd, .base_url = s.url, .project = "p"});
    struct batch b = ask_all(&s, bq);
    assert_int_equal(b.good, CALLERS);
    assert_string_equal(s.wrong.text, "");
    assert_int_equal(s.tokens, 1);
    assert_int_equal(s.turned_away, 0);
    /* The service stops taking the token in the middle of a batch: every request is refused once and repeated with the one new token. */
    s.tokens = 7;
    b = ask_all(&s, bq);
    assert_int_equal(b.good, CALLERS);
    assert_int_equal(s.turned_away, CALLERS);
    assert_int_equal(s.tokens, 8);
    assert_int_equal(s.served, 2 * CALLERS);
    bq_free(bq);
    service_end(&s, auth);
}

static void another_accounts_key_is_refused_with_advice(void **state)
{
    (void)state;
    struct service s;
    struct auth *auth = NULL;
    AUTO(free_ptr) char *pem = NULL;
    jwt_key *other = make_key(&pem);
    service_begin(&s, &auth, pem);
    struct told t = {0};
    auth_header(auth, told_cb, &t);
    assert_true(loop_until(s.loop, told_came, &t, WAIT));
    assert_string_equal(s.wrong.text, "signature");
    assert_int_equal(t.err.kind, ERR_FATAL);
    assert_has(t.err.text, "key.json");
    assert_has(t.err.text, "invalid_grant: Invalid JWT Signature.; the account or this key may be deleted");
    jwt_key_free(other);
    service_end(&s, auth);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_share_signed_tokens_and_survive_their_loss),
        cmocka_unit_test(another_accounts_key_is_refused_with_advice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
