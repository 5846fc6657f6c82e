#include "tests/unit/support_auth.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* Each kind of credentials: what it sends, what it makes of the answers, what it says of files that are wrong. */

#define TOKEN(t) "{\"access_token\":\"" t "\",\"expires_in\":3600,\"token_type\":\"Bearer\"}"
#define IAM "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/sa@p.iam.gserviceaccount.com:generateAccessToken"
#define STS "https://sts.googleapis.com/v1/token"
#define SHORT_LIFE "\"service_account_impersonation\":{\"token_lifetime_seconds\":600},"
#define EXTERNAL(more) \
    "{\"type\":\"external_account\",\"audience\":\"//iam.googleapis.com/projects/1/x\",\"subject_token_type\":\"urn:ietf:params:oauth:token-type:jwt\",\"token_url\":\"" STS "\"," more "}"
#define LOGIN(more) "{\"type\":\"authorized_user\",\"client_id\":\"id\",\"client_secret\":\"s3cretOfClient\",\"refresh_token\":\"1//r-efreshing\"" more "}"

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

static void expect_token(struct script *s, const char *json, const char *description, const char *token)
{
    struct auth *a = open_doc(s, json);
    assert_has(auth_describe(a), description);
    struct told t = ask_header(s, a);
    if (t.err.kind != ERR_NONE)
        fail_msg("%s", t.err.text);
    assert_has(t.header, token);
    auth_free(a);
    script_end(s);
}

static struct error expect_error(struct script *s, const char *json)
{
    struct auth *a = open_doc(s, json);
    struct told t = ask_header(s, a);
    assert_string_equal(t.header, "");
    assert_string_equal(t.err.reason, "credentials");
    auth_free(a);
    script_end(s);
    return t.err;
}

/* --- logins ------------------------------------------------------------------------------------------------------------------------------ */

static void a_login_sends_its_refresh_token_and_client(void **state)
{
    (void)state;
    SCRIPT(s, {"POST", "https://oauth2.googleapis.com/token",
               "Content-Type: application/x-www-form-urlencoded\n"
               "grant_type=refresh_token&refresh_token=1%2F%2Fr-efreshing&client_id=id&client_secret=s3cretOfClient", 200, TOKEN("T1"), NULL});
    expect_token(&s, LOGIN(), "user credentials (", "Bearer T1");
}

static void a_workforce_login_shows_its_client_in_a_header(void **state)
{
    (void)state;
    SCRIPT(s, {"POST", "https://sts.googleapis.com/v1/oauthtoken", "Authorization: Basic aWQ6c2VjcmV0\ngrant_type=refresh_token&refresh_token=r", 200,
               TOKEN("T1"), NULL});
    expect_token(&s, "{\"type\":\"external_account_authorized_user\",\"client_id\":\"id\",\"client_secret\":\"secret\",\"refresh_token\":\"r\"}",
                 "user credentials (", "Bearer T1");
}

static void a_refusal_says_what_to_do_and_shows_no_secret(void **state)
{
    (void)state;
    SCRIPT(s, {"POST", "/token", NULL, 400,
               "{\"error\":\"invalid_grant\",\"error_description\":\"Token 1//r-efreshing of s3cretOf\\u0007Client or 'r-efresh' was revoked\"}", NULL});
    struct error err = expect_error(&s, LOGIN());
    assert_int_equal(err.kind, ERR_FATAL);
    assert_int_equal(err.code, 400);
    assert_has(err.text, "invalid_grant");
    assert_has(err.text, "was revoked");
    assert_has(err.text, "gcloud auth application-default login");
    assert_has(err.text, "credentials.json");
    assert_lacks(err.text, "efresh");
    assert_lacks(err.text, "s3cret");
    assert_lacks(place_log(), "efreshing");
}

static void words_that_give_a_secret_away_are_hidden(void **state)
{
    (void)state;
    const char *const secrets[] = {"abcdefgh.ijklmnop", "", NULL};
    char text[] = "seen abcdefgh.ijklmnop, token=xabcdefgh.ijklmnopx and \"defgh.ijk\" but cde and Invalid stay";
    hide_secrets(text, secrets);
    assert_string_equal(text, "seen *****************, token=******************* and \"*********\" but cde and Invalid stay");
}

/* --- the metadata server ------------------------------------------------------------------------------------------------------------------ */

#define FROM_METADATA "/computeMetadata/v1/instance/service-accounts/default/token"

static void the_metadata_server_is_asked_with_its_header(void **state)
{
    (void)state;
    SCRIPT(s, {"GET", "http://metadata.google.internal" FROM_METADATA, "Metadata-Flavor: Google\n", 200, TOKEN("T1"), "Metadata-Flavor: Google"});
    struct auth *a = open_adc(&s, NULL);
    assert_has(ask_header(&s, a).header, "Bearer T1");
    auth_free(a);
    script_end(&s);
}

static void where_it_is_can_be_said(void **state)
{
    (void)state;
    SCRIPT(s, {"GET", "http://127.0.0.1:81" FROM_METADATA, NULL, 0, NULL, NULL}, {"GET", "http://127.0.0.1:81" FROM_METADATA, NULL, 0, NULL, NULL},
           {"GET", "/token", NULL, 0, NULL, NULL}, {"GET", "/token", NULL, 0, NULL, NULL});
    place_set("GCE_METADATA_HOST", "127.0.0.1:81");
    struct auth *a = open_adc(&s, NULL);
    assert_int_equal(ask_header(&s, a).err.kind, ERR_RETRY); /* it was named: so it is there, if not yet */
    auth_free(a);
    script_end(&s);
}

static void without_any_credentials_it_lists_where_it_looked(void **state)
{
    (void)state;
    /* Nobody is there; and something that answers every name is no metadata server. Each is told at once. */
    SCRIPT(s, {"GET", "/token", NULL, 0, NULL, NULL}, {"GET", "/token", NULL, 200, TOKEN("T1"), "Metadata-Flavor: Other"});
    struct auth *a = open_adc(&s, NULL);
    int64_t began_us = loop_now_us(s.loop);
    assert_int_equal(ask_header(&s, a).err.kind, ERR_FATAL);
    struct told t = ask_header(&s, a);
    assert_int_equal(t.err.kind, ERR_FATAL);
    assert_true(loop_now_us(s.loop) - began_us < US_PER_S);
    static const char *const said[] = {"no credentials for BigQuery", "BQFLEET_TOKEN", "GOOGLE_APPLICATION_CREDENTIALS (not set)",
                                       "application_default_credentials.json (absent)", "metadata.google.internal", "BIGQUERY_EMULATOR_HOST"};
    for (size_t i = 0; i < ARRAY_LEN(said); i++)
        assert_has(t.err.text, said[i]);
    auth_free(a);
    script_end(&s);
}

static void in_a_pod_it_may_be_late(void **state)
{
    (void)state;
    SCRIPT(s, {"GET", "/token", NULL, 0, NULL, NULL}, {"GET", "/token", NULL, 503, "", NULL}, {"GET", "/token", NULL, 200, TOKEN("T1"), "Metadata-Flavor: Google"});
    place_set("KUBERNETES_SERVICE_HOST", "10.0.0.1");
    struct auth *a = open_adc(&s, NULL);
    assert_has(ask_header(&s, a).header, "Bearer T1");
    auth_free(a);
    script_end(&s);
}

static void it_says_the_project_when_nobody_else_does(void **state)
{
    (void)state;
    SCRIPT(s, {"GET", "/computeMetadata/v1/project/project-id", "Metadata-Flavor: Google\n", 200, "my-project", "Metadata-Flavor: Google"},
           {"GET", FROM_METADATA, NULL, 200, TOKEN("T1"), "Metadata-Flavor: Google"});
    struct auth *a = open_adc(&s, NULL);
    assert_null(auth_project(a));
    assert_string_equal(auth_find_project(a, s.loop, 10000), "my-project");
    assert_has(ask_header(&s, a).header, "Bearer T1");
    assert_string_equal(auth_project(a), "my-project");
    auth_free(a);
    script_end(&s);
}

static void nobody_there_says_no_project_either(void **state)
{
    (void)state;
    SCRIPT(s, {"GET", "/project-id", NULL, 0, NULL, NULL}, {"GET", "/project-id", NULL, 0, NULL, NULL});
    struct auth *a = open_adc(&s, NULL);
    assert_null(auth_find_project(a, s.loop, 10000));
    assert_has(ask_header(&s, a).err.text, "no credentials for BigQuery; looked for: BQFLEET_TOKEN");
    auth_free(a);
    script_end(&s);
}

static void a_machine_without_an_account_is_told_so(void **state)
{
    (void)state;
    SCRIPT(s, {"GET", "/token", NULL, 404, "<html>", "Metadata-Flavor: Google"});
    struct auth *a = open_adc(&s, NULL);
    struct told t = ask_header(&s, a);
    assert_int_equal(t.err.kind, ERR_FATAL);
    assert_has(t.err.text, "without a service account");
    auth_free(a);
    script_end(&s);
}

/* --- federation ------------------------------------------------------------------------------------------------------------------------------ */

static const char *external(const char *source, const char *more)
{
    static char json[2000];
    snprintf(json, sizeof(json), EXTERNAL("%s\"credential_source\":{%s}"), more, source);
    return json;
}

static void a_subject_token_in_a_file_is_exchanged_and_read_anew(void **state)
{
    (void)state;
    SCRIPT(s, {"POST", STS,
               "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&requested_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token"
               "&audience=%2F%2Fiam.googleapis.com%2Fprojects%2F1%2Fx&scope=https%3A%2F%2Fwww.googleapis.com%2Fauth%2Fbigquery"
               "&subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Ajwt&subject_token=first.one", 200, TOKEN("T1"), NULL},
           {"POST", STS, "&subject_token=second", 200, TOKEN("T2"), NULL});
    AUTO(free_ptr) char *source = xasprintf("\"file\":\"%s\"", place_file("subject", "first.one\n"));
    struct auth *a = open_doc(&s, external(source, ""));
    struct told t = ask_header(&s, a);
    assert_has(t.header, "T1");
    place_file("subject", "second");
    auth_refused(a, auth_stamp(t.header));
    assert_has(ask_header(&s, a).header, "T2");
    auth_free(a);
    script_end(&s);
}

static void a_subject_token_may_be_a_field_of_json(void **state)
{
    (void)state;
    SCRIPT(s, {"POST", STS, "&subject_token=sub.ject&options=%7B%22userProject%22%3A%22up%22%7D", 200, TOKEN("T1"), NULL});
    AUTO(free_ptr) char *source = xasprintf("\"file\":\"%s\",\"format\":{\"type\":\"json\",\"subject_token_field_name\":\"a.b\"}",
                                            place_file("subject", "{\"a.b\":\"sub.ject\"}"));
    expect_token(&s, external(source, "\"workforce_pool_user_project\":\"up\","), "external account (", "T1");
}

static void a_subject_token_may_come_from_a_url(void **state)
{
    (void)state;
    SCRIPT(s, {"GET", "http://169.254.169.254/identity?x=1", "Metadata: True\n", 200, "{\"token\":\"azure\"}", NULL},
           {"POST", STS, "Authorization: Basic Y2w6c2U=\ngrant_type=", 200, TOKEN("T1"), NULL});
    expect_token(&s, external("\"url\":\"http://169.254.169.254/identity?x=1\",\"headers\":{\"Metadata\":\"True\"},"
                              "\"format\":{\"type\":\"json\",\"subject_token_field_name\":\"token\"}", "\"client_id\":\"cl\",\"client_secret\":\"se\","),
                 "external account (", "T1");
}

static void federation_may_go_on_to_an_account(void **state)
{
    (void)state;
    SCRIPT(s, {"POST", STS, "scope=https%3A%2F%2Fwww.googleapis.com%2Fauth%2Fcloud-platform&", 200, TOKEN("INNER"), NULL},
           {"POST", IAM, "Authorization: Bearer INNER\n{\"scope\":[\"https://www.googleapis.com/auth/bigquery\"],\"lifetime\":\"600s\"}", 200,
            "{\"accessToken\":\"T1\",\"expireTime\":\"2023-11-14T22:23:20Z\"}", NULL});
    AUTO(free_ptr) char *source = xasprintf("\"file\":\"%s\"", place_file("subject", "sub"));
    expect_token(&s, external(source, "\"service_account_impersonation_url\":\"" IAM "\"," SHORT_LIFE),
                 "service account sa@p.iam.gserviceaccount.com, impersonated by external account (", "T1");
}

static void a_subject_token_that_is_not_there_is_named_with_its_field(void **state)
{
    (void)state;
    SCRIPT(s, {NULL, NULL, NULL, 0, NULL, NULL});
    s.at = s.count;
    struct error err = expect_error(&s, external("\"file\":\"/nowhere/subject\"", ""));
    assert_int_equal(err.kind, ERR_FATAL);
    assert_has(err.text, "credential_source.file: /nowhere/subject");
}

static void a_refused_subject_token_is_not_shown(void **state)
{
    (void)state;
    SCRIPT(s, {"POST", STS, NULL, 400, "{\"error\":\"invalid_grant\",\"error_description\":\"bad sub.ject.token\"}", NULL});
    AUTO(free_ptr) char *source = xasprintf("\"file\":\"%s\"", place_file("subject", "sub.ject.token"));
    struct error err = expect_error(&s, external(source, ""));
    assert_has(err.text, "bad *");
    assert_lacks(err.text, "sub.ject");
}

/* --- impersonation ------------------------------------------------------------------------------------------------------------------------- */

#define IMPERSONATED "{\"type\":\"impersonated_service_account\",\"service_account_impersonation_url\":\"" IAM "\",\"delegates\":[\"d1\"],\"source_credentials\":" LOGIN() "}"

static void a_login_may_impersonate_an_account(void **state)
{
    (void)state;
    SCRIPT(s, {"POST", "https://oauth2.googleapis.com/token", NULL, 200, TOKEN("INNER"), NULL},
           {"POST", IAM, "Authorization: Bearer INNER\n{\"delegates\":[\"d1\"],\"scope\":[\"https://www.googleapis.com/auth/bigquery\"],\"lifetime\":\"3600s\"}", 200,
            "{\"accessToken\":\"T1\",\"expireTime\":\"2023-11-14T23:13:20.123Z\"}", NULL});
    expect_token(&s, IMPERSONATED, "service account sa@p.iam.gserviceaccount.com, impersonated by user credentials (", "T1");
}

static void an_impersonation_that_is_denied_names_the_role(void **state)
{
    (void)state;
    SCRIPT(s, {"POST", "/token", NULL, 200, TOKEN("INNERTOKEN"), NULL},
           {"POST", IAM, NULL, 403, "{\"error\":{\"code\":403,\"status\":\"PERMISSION_DENIED\",\"message\":\"Permission denied for INNERTOKEN\"}}", NULL});
    struct error err = expect_error(&s, IMPERSONATED);
    assert_int_equal(err.kind, ERR_FATAL);
    assert_has(err.text, "PERMISSION_DENIED: Permission denied for **********; ");
    assert_has(err.text, "roles/iam.serviceAccountTokenCreator");
}

static void the_end_of_a_token_is_read_from_its_date(void **state)
{
    (void)state;
    static const struct { const char *body; int64_t lives_ms; } cases[] = {
        {"{\"access_token\":\"t\",\"expires_in\":1800}", 1800000},
        {"{\"access_token\":\"t\",\"expires_in\":\"1800\"}", 1800000},
        {"{\"access_token\":\"t\"}", 3600000},
        {"{\"access_token\":\"t\",\"expires_in\":-5}", 0},
        {"{\"accessToken\":\"t\",\"expireTime\":\"1970-01-01T00:10:00Z\"}", 600000},
        {"{\"accessToken\":\"t\",\"expireTime\":\"1970-01-01T00:10:00.5Z\"}", 600000},
        {"{\"accessToken\":\"t\",\"expireTime\":\"2070-01-01T00:10:00Z\"}", 3600000},
        {"{\"accessToken\":\"t\",\"expireTime\":\"soon\"}", 3600000},
        {"{\"accessToken\":\"t\",\"expireTime\":\"\"}", 3600000},
        {"{\"access_token\":\"a b\"}", -1}, {"{\"access_token\":\"\"}", -1}, {"{\"access_token\":5}", -1}, {"{\"access_token\":\"a\\nb\"}", -1}, {"[", -1}, {"", -1},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf body = BUF_INIT(1000);
        buf_xputs(&body, cases[i].body);
        int64_t lives_ms = -1;
        struct error err = ERROR_INIT;
        char *token = exchange_token(&(struct http_response){.status = 200, .body = &body}, "x", 0, &lives_ms, &err);
        if ((token == NULL) != (cases[i].lives_ms < 0) || lives_ms != cases[i].lives_ms)
            fail_msg("%s: %s, %" PRId64, cases[i].body, token ? token : "no token", lives_ms);
        secret_free(token);
        buf_free(&body);
    }
}

/* --- wrong files ------------------------------------------------------------------------------------------------------------------------------- */

static void a_wrong_file_is_told_by_its_field(void **state)
{
    (void)state;
    static const struct { const char *json, *says; } cases[] = {
        {"", "no JSON object"},
        {"{\"private_key\": \"hush", "no JSON object"},
        {"[]", "no JSON object"},
        {"{}", "the field type"},
        {"{\"type\":\"gdch_service_account\"}", "gdch_service_account are not supported"},
        {"{\"type\":\"service_account\",\"private_key\":\"hush\"}", "the field client_email"},
        {"{\"type\":\"service_account\",\"client_email\":\"e\"}", "the field private_key"},
        {"{\"type\":\"service_account\",\"client_email\":\"e\",\"private_key\":\"hush\"}", "the field private_key holds no RSA key"},
        {"{\"type\":\"service_account\",\"client_email\":\"e\",\"private_key\":\"hush\",\"token_uri\":\"http://example.com/token\"}", "the field token_uri must be an https"},
        {"{\"type\":\"authorized_user\",\"client_id\":\"i\",\"client_secret\":\"hush\"}", "the field refresh_token"},
        {"{\"type\":\"impersonated_service_account\",\"service_account_impersonation_url\":\"" IAM "\"}", "the field source_credentials"},
        {"{\"type\":\"impersonated_service_account\",\"service_account_impersonation_url\":\"http://iam/\",\"source_credentials\":" LOGIN() "}",
         "the field service_account_impersonation_url must be an https"},
        {EXTERNAL("\"credential_source\":{}"), "the field credential_source must"},
        {EXTERNAL("\"credential_source\":{\"environment_id\":\"aws1\",\"url\":\"http://x\"}"), "AWS"},
        {EXTERNAL("\"credential_source\":{\"url\":\"file:///etc/passwd\"}"), "credential_source.url is no http"},
        {EXTERNAL("\"credential_source\":{\"file\":\"x\",\"format\":{\"type\":\"json\"}}"), "subject_token_field_name"},
        {EXTERNAL("\"credential_source\":{\"url\":\"http://x\",\"headers\":{\"A\":\"hush\\r\\nB: c\"}}"), "credential_source.headers"},
        {EXTERNAL("\"service_account_impersonation_url\":\"http://iam/\",\"credential_source\":{\"file\":\"x\"}"), "the field service_account_impersonation_url"},
    };
    SCRIPT(s, {NULL, NULL, NULL, 0, NULL, NULL});
    s.at = s.count;
    const char *path = place_file("credentials.json", "");
    place_set("GOOGLE_APPLICATION_CREDENTIALS", path);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        FILE *f = fopen(path, "we");
        fputs(cases[i].json, f);
        fclose(f);
        struct error err = ERROR_INIT;
        assert_null(open_adc(&s, &err));
        assert_int_equal(err.kind, ERR_FATAL);
        assert_has(err.text, cases[i].says);
        assert_has(err.text, path);
        assert_lacks(err.text, "hush");
    }
    script_end(&s);
}

static void secrets_go_only_to_https_or_to_this_machine(void **state)
{
    (void)state;
    static const char *const good[] = {"https://sts.googleapis.com/v1/token", "https://h:8443", "http://localhost:80/t", "http://127.0.0.1/t", "http://[::1]:9/t"};
    static const char *const bad[] = {"http://sts.googleapis.com/", "http://localhost.evil.com/", "http://localhost@evil.com/", "http://127.0.0.1:80@evil.com",
                                      "https://u:p@h/", "ftp://localhost/", "", "localhost", "https://", "https:///x", "http://[::1].evil.com/", "https://h/ x", "http://localhost\\@evil.com"};
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        assert_int_equal(url_check(good[i], "f", "file", NULL), 0);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (url_check(bad[i], "f", "file", NULL) == 0)
            fail_msg("%s is taken", bad[i]);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_login_sends_its_refresh_token_and_client),
        TEST(a_workforce_login_shows_its_client_in_a_header),
        TEST(a_refusal_says_what_to_do_and_shows_no_secret),
        TEST(words_that_give_a_secret_away_are_hidden),
        TEST(the_metadata_server_is_asked_with_its_header),
        TEST(where_it_is_can_be_said),
        TEST(without_any_credentials_it_lists_where_it_looked),
        TEST(in_a_pod_it_may_be_late),
        TEST(it_says_the_project_when_nobody_else_does),
        TEST(nobody_there_says_no_project_either),
        TEST(a_machine_without_an_account_is_told_so),
        TEST(a_subject_token_in_a_file_is_exchanged_and_read_anew),
        TEST(a_subject_token_may_be_a_field_of_json),
        TEST(a_subject_token_may_come_from_a_url),
        TEST(federation_may_go_on_to_an_account),
        TEST(a_subject_token_that_is_not_there_is_named_with_its_field),
        TEST(a_refused_subject_token_is_not_shown),
        TEST(a_login_may_impersonate_an_account),
        TEST(an_impersonation_that_is_denied_names_the_role),
        TEST(the_end_of_a_token_is_read_from_its_date),
        TEST(a_wrong_file_is_told_by_its_field),
        TEST(secrets_go_only_to_https_or_to_this_machine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
