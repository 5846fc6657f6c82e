#include "tests/unit/support_auth.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <sys/stat.h>

#include "tests/bq/bqmodel.h"

/* Credentials against the model's token service, which checks what it is shown, in virtual time: whole days of tokens. */

#define TOKEN_URI "https://oauth2.googleapis.com/token"
#define CALLERS 100

struct service {
    struct loop *loop;
    struct bqmodel *m;
    struct rnd rnd;
    jwt_key *key;
    char *pem;
    struct auth *auth;
    struct bq *bq;
};

static void service_begin(struct service *s, const char *project)
{
    place_begin();
    *s = (struct service){.loop = loop_new_virtual(INT64_C(1767225600) * US_PER_S)};
    rnd_seeded(&s->rnd, 1);
    s->m = bqmodel_new(s->loop, NULL);
    bqmodel_add_dataset(s->m, "ds");
    s->key = make_key(&s->pem);
    AUTO(free_ptr) char *public = public_pem(s->key);
    bqmodel_demand_tokens(s->m, &(struct bqmodel_credentials){.email = "sa@p.iam", .public_key = public, .client_secret = "the-client-secret",
                                                              .refresh_token = "the-refresh-token", .project = project});
}

static char *key_json(const char *pem)
{
    AUTO(doc_free_auto) doc *file = doc_set_str(doc_set_str(doc_object(), "type", "service_account"), "client_email", "sa@p.iam");
    doc_set_str(doc_set_str(doc_set_str(file, "private_key", pem), "private_key_id", "k1"), "token_uri", TOKEN_URI);
    return doc_text(file);
}

static void open_auth(struct service *s)
{
    struct error err = ERROR_INIT;
    s->auth = auth_choose(&(struct auth_choice){.how = "adc", .url = "https://bq", .env = place_env, .loop = s->loop, .http = bqmodel_http(s->m), .rnd = &s->rnd},
                          &err);
    if (s->auth == NULL)
        fail_msg("%s", err.text);
    s->bq = bq_new(&(struct bq_options){.loop = s->loop, .http = bqmodel_http(s->m), .auth = s->auth, .rnd = &s->rnd, .base_url = "https://bq", .project = "local"});
}

static void open_key(struct service *s)
{
    AUTO(free_ptr) char *json = key_json(s->pem);
    place_set("GOOGLE_APPLICATION_CREDENTIALS", place_file("key.json", json));
    open_auth(s);
}

static void service_end(struct service *s)
{
    bq_free(s->bq);
    auth_free(s->auth);
    bqmodel_free(s->m);
    jwt_key_free(s->key);
    free(s->pem);
    loop_free(s->loop);
    assert_lacks(place_log(), "PRIVATE");
    assert_lacks(place_log(), "ya29.");
    assert_lacks(place_log(), "eyJ");
    place_end();
}

struct batch { int wanted, answers, good; struct error err; };

static void on_answer(void *arg, const struct bq_answer *a)
{
    struct batch *b = arg;
    b->answers++;
    b->good += a->err == NULL;
    if (a->err)
        b->err = *a->err;
}

static bool all_answered(void *arg)
{
    return ((struct batch *)arg)->answers == ((struct batch *)arg)->wanted;
}

static struct batch ask(struct service *s, int wanted)
{
    struct batch b = {.wanted = wanted};
    for (int i = 0; i < wanted; i++)
        bq_send(s->bq, &(struct bq_request){.method = "GET", .path = "/projects/local/datasets/ds"}, on_answer, &b);
    assert_true(loop_until(s->loop, all_answered, &b, 3600 * US_PER_S));
    return b;
}

static void wait_s(struct service *s, int64_t seconds)
{
    int64_t until = loop_now_us(s->loop) + seconds * US_PER_S;
    while (loop_now_us(s->loop) < until)
        loop_step(s->loop, until - loop_now_us(s->loop));
}

/* --- tokens over time ---------------------------------------------------------------------------------------------------------------------- */

static void a_batch_longer_than_a_tokens_life_never_sees_a_401(void **state)
{
    (void)state;
    for (int metadata = 0; metadata < 2; metadata++) {
        struct service s;
        service_begin(&s, "p");
        (metadata ? open_auth : open_key)(&s);
        for (int i = 0; i < 6 * 3600 / 40; i++) {
            assert_int_equal(ask(&s, 3).good, 3);
            wait_s(&s, 40);
        }
        assert_int_equal(bqmodel_counters(s.m)->turned_away, 0);
        assert_int_equal(bqmodel_counters(s.m)->tokens, 7); /* each for 3,375 of its 3,600 seconds */
        service_end(&s);
    }
}

static void a_hundred_requests_wait_for_one_token_and_for_one_more_when_it_is_revoked(void **state)
{
    (void)state;
    struct service s;
    service_begin(&s, "p");
    open_key(&s);
    assert_int_equal(ask(&s, CALLERS).good, CALLERS);
    assert_int_equal(bqmodel_counters(s.m)->tokens, 1);
    bqmodel_revoke_tokens(s.m);
    assert_int_equal(ask(&s, CALLERS).good, CALLERS);
    assert_int_equal(bqmodel_counters(s.m)->tokens, 2);
    assert_in_range(bqmodel_counters(s.m)->turned_away, 1, CALLERS);
    service_end(&s);
}

static void a_token_that_was_never_given_is_turned_away_in_googles_words(void **state)
{
    (void)state;
    struct service s;
    service_begin(&s, "p");
    s.auth = auth_bearer("made-up");
    s.bq = bq_new(&(struct bq_options){.loop = s.loop, .http = bqmodel_http(s.m), .auth = s.auth, .rnd = &s.rnd, .base_url = "https://bq", .project = "local"});
    struct batch b = ask(&s, 1);
    assert_int_equal(b.err.kind, ERR_FATAL);
    assert_has(b.err.text, "Request had invalid authentication credentials.");
    assert_int_equal(bqmodel_counters(s.m)->turned_away, 2); /* it was repeated once */
    service_end(&s);
}

/* --- keys ---------------------------------------------------------------------------------------------------------------------------------- */

static void rewrite(const char *json)
{
    const char *path = place_env("GOOGLE_APPLICATION_CREDENTIALS");
    AUTO(free_ptr) char *next = xasprintf("%s.next", path);
    FILE *f = fopen(next, "we");
    assert_non_null(f);
    fputs(json, f);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(rename(next, path), 0);
}

static void a_rotated_key_is_read_anew(void **state)
{
    (void)state;
    struct service s;
    service_begin(&s, "p");
    open_key(&s);
    assert_int_equal(ask(&s, 1).good, 1);
    /* The account gets another key, and the old one is deleted; the file is not replaced at once. */
    AUTO(free_ptr) char *pem = NULL;
    jwt_key *other = make_key(&pem);
    AUTO(free_ptr) char *public = public_pem(other);
    bqmodel_demand_tokens(s.m, &(struct bqmodel_credentials){.email = "sa@p.iam", .public_key = public});
    struct batch b = ask(&s, 1);
    assert_int_equal(b.err.kind, ERR_FATAL);
    assert_has(b.err.text, "invalid_grant: Invalid JWT Signature.; the account or this key may be deleted");
    rewrite("{\"type\":\"service_acc"); /* half of it */
    assert_int_equal(ask(&s, 1).good, 0);
    assert_has(place_log(), "those that were read before stay in use");
    AUTO(free_ptr) char *json = key_json(pem);
    rewrite(json);
    assert_int_equal(ask(&s, 1).good, 1);
    assert_has(place_log(), "has changed and was read anew: service account sa@p.iam");
    assert_has(auth_describe(s.auth), "service account sa@p.iam (");
    jwt_key_free(other);
    service_end(&s);
}

static void a_file_that_others_can_read_is_complained_about(void **state)
{
    (void)state;
    struct service s;
    service_begin(&s, "p");
    open_key(&s);
    assert_null(auth_complaint(s.auth));
    bq_free(s.bq);
    auth_free(s.auth);
    assert_int_equal(chmod(place_env("GOOGLE_APPLICATION_CREDENTIALS"), 0644), 0);
    open_auth(&s);
    assert_has(auth_complaint(s.auth), "can be read by others than its owner (mode 0644); chmod 600 it");
    service_end(&s);
}

/* --- what the service refuses ------------------------------------------------------------------------------------------------------------- */

static void form_cb(void *arg, struct http_response *r)
{
    struct buf *b = arg;
    buf_xprintf(b, "%d %.*s", r->status, r->body ? (int)r->body->len : 0, r->body && r->body->len ? r->body->data : "");
}

static bool has_text(void *arg)
{
    return ((struct buf *)arg)->len > 0;
}

static char *post_form(struct service *s, const char *form)
{
    struct buf out = BUF_INIT(1 << 16);
    struct http_slice slice = {form, strlen(form)};
    http_send(bqmodel_http(s->m), &(struct http_request){.method = "POST", .url = TOKEN_URI, .body = &slice, .body_count = 1}, form_cb, &out);
    assert_true(loop_until(s->loop, has_text, &out, 60 * US_PER_S));
    return buf_steal(&out);
}

static void assertions_are_refused_for_each_wrong_claim(void **state)
{
    (void)state;
    struct service s;
    service_begin(&s, "p");
    int64_t now_s = loop_wall_us(s.loop) / US_PER_S;
    AUTO(free_ptr) char *pem = NULL;
    jwt_key *other = make_key(&pem);
    const struct { jwt_key *key; const char *issuer, *scope, *audience; int64_t from_s; const char *says; } tries[] = {
        {s.key, "sa@p.iam", SCOPE_BIGQUERY, TOKEN_URI, now_s, "200 {\"access_token\":\"ya29."},
        {s.key, "sa@p.iam", SCOPE_CLOUD, TOKEN_URI, now_s - 60, "200 {\"access_token\":\"ya29."},
        {other, "sa@p.iam", SCOPE_BIGQUERY, TOKEN_URI, now_s, "400 {\"error\":\"invalid_grant\",\"error_description\":\"Invalid JWT Signature.\"}"},
        {s.key, "sb@p.iam", SCOPE_BIGQUERY, TOKEN_URI, now_s, "400 {\"error\":\"invalid_grant\",\"error_description\":\"Invalid grant: account not found\"}"},
        {s.key, "sa@p.iam", SCOPE_BIGQUERY, "https://elsewhere/token", now_s, "Invalid JWT: Failed audience check. The right audience is " TOKEN_URI},
        {s.key, "sa@p.iam", SCOPE_BIGQUERY, TOKEN_URI, now_s + 3600, "Check your iat and exp values in the JWT claim."},
        {s.key, "sa@p.iam", SCOPE_BIGQUERY, TOKEN_URI, now_s - 7200, "Check your iat and exp values in the JWT claim."},
        {s.key, "sa@p.iam", "everything", TOKEN_URI, now_s, "400 {\"error\":\"invalid_scope\""},
    };
    for (size_t i = 0; i < ARRAY_LEN(tries); i++) {
        AUTO(free_ptr) char *jwt = jwt_sign(tries[i].key, "k1", tries[i].issuer, tries[i].scope, tries[i].audience, tries[i].from_s);
        AUTO(free_ptr) char *form = xasprintf("grant_type=urn%%3Aietf%%3Aparams%%3Aoauth%%3Agrant-type%%3Ajwt-bearer&assertion=%s", jwt);
        AUTO(free_ptr) char *answer = post_form(&s, form);
        assert_has(answer, tries[i].says);
    }
    static const struct { const char *form, *says; } forms[] = {
        {"grant_type=refresh_token&refresh_token=the-refresh-token&client_id=i&client_secret=the-client-secret", "200 {\"access_token\""},
        {"grant_type=refresh_token&refresh_token=another&client_id=i&client_secret=the-client-secret", "400 {\"error\":\"invalid_grant\",\"error_description\":\"Token has been expired or revoked.\"}"},
        {"grant_type=refresh_token&refresh_token=the-refresh-token&client_id=i&client_secret=wrong", "401 {\"error\":\"invalid_client\""},
        {"grant_type=password", "400 {\"error\":\"unsupported_grant_type\""},
    };
    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        AUTO(free_ptr) char *answer = post_form(&s, forms[i].form);
        assert_has(answer, forms[i].says);
    }
    assert_int_equal(bqmodel_counters(s.m)->tokens, 3);
    assert_int_equal(bqmodel_counters(s.m)->grants_refused, 9);
    jwt_key_free(other);
    s.auth = auth_anonymous();
    s.bq = bq_new(&(struct bq_options){.loop = s.loop, .http = bqmodel_http(s.m), .auth = s.auth, .rnd = &s.rnd, .base_url = "https://bq", .project = "local"});
    service_end(&s);
}

static void the_metadata_server_says_the_project(void **state)
{
    (void)state;
    struct service s;
    service_begin(&s, "found-by-metadata");
    open_auth(&s);
    assert_string_equal(auth_find_project(s.auth, s.loop, 10000), "found-by-metadata");
    assert_int_equal(ask(&s, 1).good, 1);
    assert_int_equal(bqmodel_counters(s.m)->tokens, 1);
    service_end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_batch_longer_than_a_tokens_life_never_sees_a_401),
        cmocka_unit_test(a_hundred_requests_wait_for_one_token_and_for_one_more_when_it_is_revoked),
        cmocka_unit_test(a_token_that_was_never_given_is_turned_away_in_googles_words),
        cmocka_unit_test(a_rotated_key_is_read_anew),
        cmocka_unit_test(a_file_that_others_can_read_is_complained_about),
        cmocka_unit_test(assertions_are_refused_for_each_wrong_claim),
        cmocka_unit_test(the_metadata_server_says_the_project),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
