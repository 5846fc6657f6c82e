#include "tests/unit/support_auth.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <sys/stat.h>

/* Which credentials are chosen, and how one token serves everybody. */

#define LOGIN \
    "{\"type\":\"authorized_user\",\"client_id\":\"id\",\"client_secret\":\"s3cretOfClient\",\"refresh_token\":\"1//r-efreshing\",\"quota_project_id\":\"qp\"}"
#define TOKEN(t) "{\"access_token\":\"" t "\",\"expires_in\":3600,\"token_type\":\"Bearer\"}"
#define ENDPOINT "https://oauth2.googleapis.com/token"

static int set_up(void **state)
{
    (void)state;
    place_begin();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    place_end();
    return 0;
}

static void advance(struct script *s, int64_t seconds)
{
    int64_t until = loop_now_us(s->loop) + seconds * US_PER_S;
    while (loop_now_us(s->loop) < until)
        loop_step(s->loop, until - loop_now_us(s->loop));
}

/* --- the choice ------------------------------------------------------------------------------------------------------------------------- */

static void assert_chosen(const char *how, const char *token, const char *url, bool emulator, const char *description)
{
    SCRIPT(s, {NULL, NULL, NULL, 0, NULL, NULL});
    s.at = s.count;
    struct error err = ERROR_INIT;
    struct auth *a = auth_choose(&(struct auth_choice){.how = how, .token = token, .url = url, .emulator = emulator, .env = place_env, .loop = s.loop,
                                                       .http = &s.http, .rnd = &s.rnd}, &err);
    if (description == NULL) {
        assert_null(a);
        assert_int_equal(err.kind, ERR_USAGE);
    } else {
        assert_non_null(a);
        assert_string_equal(auth_describe(a), description);
    }
    auth_free(a);
    script_end(&s);
}

static void the_choice_follows_emulator_then_token_then_default(void **state)
{
    (void)state;
    static const char cloud[] = "https://bigquery.googleapis.com", metadata[] = "metadata server metadata.google.internal";
    assert_chosen("auto", NULL, "localhost:9050", true, "anonymous");
    assert_chosen("auto", "t", "localhost:9050", true, "anonymous");
    assert_chosen(NULL, NULL, "http://localhost:9050", false, "anonymous");
    assert_chosen("auto", "t", "http://localhost:9050", false, "bearer token");
    assert_chosen("auto", "t", cloud, false, "bearer token");
    assert_chosen("auto", "", cloud, false, metadata);
    assert_chosen("auto", NULL, cloud, false, metadata);
    assert_chosen("adc", "t", cloud, false, metadata);
    assert_chosen("adc", NULL, "localhost:9050", true, metadata);
    assert_chosen("anonymous", "t", cloud, false, "anonymous");
    assert_chosen("bearer", "t", "localhost:9050", true, "bearer token");
    assert_chosen("bearer", NULL, cloud, false, NULL);
}

static void files_are_looked_for_in_the_documented_order(void **state)
{
    (void)state;
    SCRIPT(s, {NULL, NULL, NULL, 0, NULL, NULL});
    s.at = s.count;
    struct error err = ERROR_INIT;
    place_file("application_default_credentials.json", LOGIN);
    struct auth *a = open_adc(&s, &err);
    assert_has(auth_describe(a), "application_default_credentials.json");
    assert_string_equal(auth_project(a), "qp");
    auth_free(a);
    a = open_doc(&s, "{\"project_id\":\"pp\"," "\"type\":\"authorized_user\",\"client_id\":\"i\",\"client_secret\":\"s\",\"refresh_token\":\"r\"}");
    assert_has(auth_describe(a), "/credentials.json");
    assert_string_equal(auth_project(a), "pp");
    auth_free(a);
    place_set("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json");
    assert_null(open_adc(&s, &err)); /* what was named and is absent is not passed over */
    assert_int_equal(err.kind, ERR_FATAL);
    assert_has(err.text, "GOOGLE_APPLICATION_CREDENTIALS");
    assert_has(err.text, "/nowhere/key.json");
    script_end(&s);
}

static void a_key_that_others_can_read_is_warned_about(void **state)
{
    (void)state;
    SCRIPT(s, {NULL, NULL, NULL, 0, NULL, NULL});
    s.at = s.count;
    auth_free(open_doc(&s, LOGIN));
    assert_lacks(place_log(), "chmod");
    assert_int_equal(chmod(place_env("GOOGLE_APPLICATION_CREDENTIALS"), 0640), 0);
    auth_free(open_adc(&s, NULL));
    assert_has(place_log(), "mode 0640");
    script_end(&s);
}

/* --- one token for everybody --------------------------------------------------------------------------------------------------------------- */

static void all_callers_wait_for_one_fetch(void **state)
{
    (void)state;
    SCRIPT(s, {"POST", ENDPOINT, "refresh_token=1%2F%2Fr-efreshing", 200, TOKEN("T1"), NULL});
    struct auth *a = open_doc(&s, LOGIN);
    struct told told[10] = {0};
    for (size_t i = 0; i < ARRAY_LEN(told); i++)
        auth_header(a, told_cb, &told[i]);
    assert_int_equal(told[0].calls, 0);
    assert_true(loop_until(s.loop, told_came, &told[9], US_PER_S));
    for (size_t i = 0; i < ARRAY_LEN(told); i++) {
        assert_int_equal(told[i].calls, 1);
        assert_string_equal(told[i].header, "Authorization: Bearer T1");
    }
    struct told later = {0};
    auth_header(a, told_cb, &later);
    assert_string_equal(later.header, "Authorization: Bearer T1"); /* at once */
    auth_free(a);
    script_end(&s);
}

static void a_token_in_use_is_replaced_early_and_serves_meanwhile(void **state)
{
    (void)state;
    SCRIPT(s, {"POST", ENDPOINT, NULL, 200, TOKEN("T1"), NULL}, {"POST", ENDPOINT, NULL, 503, NULL, NULL}, {"POST", ENDPOINT, NULL, 200, TOKEN("T2"), NULL});
    struct auth *a = open_doc(&s, LOGIN);
    ask_header(&s, a);
    advance(&s, 3374);
    assert_int_equal(s.at, 1);
    loop_step(s.loop, 2 * US_PER_S); /* three minutes and 45 seconds before its end */
    assert_int_equal(s.at, 2);
    struct told meanwhile = {0};
    auth_header(a, told_cb, &meanwhile);
    assert_string_equal(meanwhile.header, "Authorization: Bearer T1");
    advance(&s, 30);
    assert_int_equal(s.at, 3);
    assert_string_equal(ask_header(&s, a).header, "Authorization: Bearer T2");
    auth_free(a);
    script_end(&s);
}

static void a_token_that_nobody_uses_is_not_replaced(void **state)
{
    (void)state;
    SCRIPT(s, {"POST", ENDPOINT, NULL, 200, TOKEN("T1"), NULL}, {"POST", ENDPOINT, NULL, 200, TOKEN("T2"), NULL},
           {"POST", ENDPOINT, NULL, 200, TOKEN("T3"), NULL});
    struct auth *a = open_doc(&s, LOGIN);
    ask_header(&s, a);
    advance(&s, 86400);
    assert_int_equal(s.at, 2); /* the second was not asked for any more */
    assert_string_equal(ask_header(&s, a).header, "Authorization: Bearer T3");
    auth_free(a);
    script_end(&s);
}

static void an_outage_hurts_nobody_while_the_old_token_lives(void **state)
{
    (void)state;
    static struct line lines[60] = {{"POST", ENDPOINT, NULL, 200, TOKEN("T1"), NULL}};
    for (size_t i = 1; i < ARRAY_LEN(lines); i++)
        lines[i] = (struct line){"POST", ENDPOINT, NULL, 503, NULL, NULL};
    struct script s;
    script_begin(&s, lines, ARRAY_LEN(lines));
    struct auth *a = open_doc(&s, LOGIN);
    ask_header(&s, a);
    advance(&s, 3376);
    for (int i = 0; i < 19; i++, advance(&s, 10)) {
        struct told t = {0};
        auth_header(a, told_cb, &t);
        assert_string_equal(t.header, "Authorization: Bearer T1");
    }
    assert_in_range(s.at, 4, 40); /* fetches with rests between them */
    assert_has(place_log(), "the old one lasts");
    advance(&s, 50);
    struct told t = ask_header(&s, a);
    assert_string_equal(t.header, "");
    assert_int_equal(t.err.kind, ERR_RETRY);
    assert_int_equal(t.err.code, 503);
    auth_free(a);
    s.at = s.count;
    script_end(&s);
}

static void a_failing_endpoint_is_asked_four_times_then_told(void **state)
{
    (void)state;
    SCRIPT(s, {"POST", ENDPOINT, NULL, 500, NULL, NULL}, {"POST", ENDPOINT, NULL, 0, NULL, NULL},
           {"POST", ENDPOINT, NULL, 400, "{\"error\":\"temporarily_unavailable\"}", NULL}, {"POST", ENDPOINT, NULL, 200, "<html>sign in</html>", NULL});
    struct auth *a = open_doc(&s, LOGIN);
    struct told t = ask_header(&s, a);
    assert_int_equal(t.err.kind, ERR_RETRY);
    assert_string_equal(t.err.reason, "credentials");
    assert_has(t.err.text, "no access token");
    assert_true(loop_now_ms(s.loop) < 20000);
    auth_free(a);
    script_end(&s);
}

static void a_short_lived_token_still_serves_who_waited(void **state)
{
    (void)state;
    SCRIPT(s, {"POST", ENDPOINT, NULL, 200, "{\"access_token\":\"T1\",\"expires_in\":0}", NULL}, {"POST", ENDPOINT, NULL, 200, TOKEN("T2"), NULL});
    struct auth *a = open_doc(&s, LOGIN);
    assert_string_equal(ask_header(&s, a).header, "Authorization: Bearer T1");
    assert_string_equal(ask_header(&s, a).header, "Authorization: Bearer T2");
    auth_free(a);
    script_end(&s);
}

static void a_refused_token_goes_and_its_successor_stays(void **state)
{
    (void)state;
    SCRIPT(s, {"POST", ENDPOINT, NULL, 200, TOKEN("T1"), NULL}, {"POST", ENDPOINT, NULL, 200, TOKEN("T2"), NULL});
    struct auth *a = open_doc(&s, LOGIN);
    uint64_t old = auth_stamp(ask_header(&s, a).header);
    auth_refused(a, old);
    assert_string_equal(ask_header(&s, a).header, "Authorization: Bearer T2");
    auth_refused(a, old); /* another request that went out with the old one */
    assert_string_equal(ask_header(&s, a).header, "Authorization: Bearer T2");
    auth_free(a);
    script_end(&s);
}

static void on_answer(void *arg, const struct bq_answer *a)
{
    *(int *)arg = a->err ? -1 : a->status;
}

static bool is_known(void *arg)
{
    return *(int *)arg != 0;
}

static void a_401_is_repeated_with_a_new_token(void **state)
{
    (void)state;
    SCRIPT(s, {"POST", ENDPOINT, NULL, 200, TOKEN("T1"), NULL}, {"GET", "/x", "Bearer T1", 401, "{}", NULL}, {"POST", ENDPOINT, NULL, 200, TOKEN("T2"), NULL},
           {"GET", "/x", "Bearer T2", 200, "{}", NULL});
    auth_free(s.auth);
    s.auth = open_doc(&s, LOGIN);
    bq_free(s.bq);
    s.bq = bq_new(&(struct bq_options){.loop = s.loop, .http = &s.http, .auth = s.auth, .rnd = &s.rnd, .base_url = "http://bq", .project = "p"});
    int status = 0;
    bq_send(s.bq, &(struct bq_request){.method = "GET", .path = "/x"}, on_answer, &status);
    assert_true(loop_until(s.loop, is_known, &status, 60 * US_PER_S));
    assert_int_equal(status, 200);
    script_end(&s);
}

static void closing_tells_whoever_still_waits(void **state)
{
    (void)state;
    SCRIPT(s, {"POST", ENDPOINT, NULL, 200, TOKEN("T1"), NULL});
    struct auth *a = open_doc(&s, LOGIN);
    struct told t[2] = {0};
    auth_header(a, told_cb, &t[0]);
    auth_header(a, told_cb, &t[1]);
    auth_free(a);
    assert_int_equal(t[0].calls + t[1].calls, 2);
    assert_int_equal(t[1].err.kind, ERR_FATAL);
    script_end(&s);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(the_choice_follows_emulator_then_token_then_default),
        TEST(files_are_looked_for_in_the_documented_order),
        TEST(a_key_that_others_can_read_is_warned_about),
        TEST(all_callers_wait_for_one_fetch),
        TEST(a_token_in_use_is_replaced_early_and_serves_meanwhile),
        TEST(a_token_that_nobody_uses_is_not_replaced),
        TEST(an_outage_hurts_nobody_while_the_old_token_lives),
        TEST(a_failing_endpoint_is_asked_four_times_then_told),
        TEST(a_short_lived_token_still_serves_who_waited),
        TEST(a_refused_token_goes_and_its_successor_stays),
        TEST(a_401_is_repeated_with_a_new_token),
        TEST(closing_tells_whoever_still_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
