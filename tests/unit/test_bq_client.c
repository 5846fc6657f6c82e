#include "common/bq/bq.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include "common/bq/table.h"
#include "tests/unit/support_bqscript.h"

/* Single requests, names, parameters, tables, pages. */

/* --- requests ---------------------------------------------------------------------------------------------------------------------------- */

struct got {
    bool over;
    int status;
    bool failed, maybe_executed;
    struct error err;
    doc *doc;
};

static void on_answer(void *arg, const struct bq_answer *a)
{
    struct got *g = arg;
    g->over = true;
    g->status = a->status;
    g->failed = a->err != NULL;
    g->maybe_executed = a->maybe_executed;
    if (a->err)
        g->err = *a->err;
    g->doc = a->doc ? doc_copy(a->doc) : NULL;
}

static struct got ask(struct script *s, const struct bq_request *r)
{
    struct got g = {0};
    bq_send(s->bq, r, on_answer, &g);
    assert_false(g.over);
    script_run(s, &g.over);
    return g;
}

static void a_request_is_repeated_while_that_may_help(void **state)
{
    (void)state;
    SCRIPT(s, {"GET", "http://bq/bigquery/v2/x?prettyPrint=false", NULL, 503, NULL, NULL}, {"GET", "/x", NULL, 0, NULL, NULL},
           {"GET", "/x", NULL, 200, "cut sho", NULL}, {"GET", "/x", NULL, 200, "{\"a\":1}", NULL});
    struct got g = ask(&s, &(struct bq_request){.method = "GET", .path = "/x"});
    assert_false(g.failed);
    assert_true(g.maybe_executed);
    assert_int_equal(doc_int(g.doc, "a", 0), 1);
    doc_free(g.doc);
    script_end(&s);
}

static void what_asks_for_no_repeat_gets_none(void **state)
{
    (void)state;
    SCRIPT(s, {"PUT", "/x", NULL, 503, NULL, NULL});
    struct got g = ask(&s, &(struct bq_request){.method = "PUT", .path = "/x", .once = true});
    assert_int_equal(g.err.kind, ERR_RETRY);
    assert_true(g.maybe_executed);
    script_end(&s);
}

static void the_service_says_when_to_come_back(void **state)
{
    (void)state;
    SCRIPT(s, {"GET", "/x", NULL, 503, NULL, "Retry-After: 120"}, {"GET", "/x", NULL, 204, NULL, NULL});
    struct got g = ask(&s, &(struct bq_request){.method = "GET", .path = "/x"});
    assert_int_equal(g.status, 204);
    assert_true(loop_now_ms(s.loop) >= 120000);
    script_end(&s);
}

static void a_service_that_stays_away_is_given_ten_minutes(void **state)
{
    (void)state;
    static struct line lines[300];
    for (size_t i = 0; i < ARRAY_LEN(lines); i++)
        lines[i] = (struct line){"GET", "/x", NULL, 503, NULL, NULL};
    struct script s;
    script_begin(&s, lines, ARRAY_LEN(lines));
    struct got g = ask(&s, &(struct bq_request){.method = "GET", .path = "/x"});
    assert_int_equal(g.err.kind, ERR_RETRY);
    assert_in_range(loop_now_ms(s.loop), 540000, 660000);
    s.at = s.count;
    script_end(&s);
}

static void refused_credentials_are_refreshed_once(void **state)
{
    (void)state;
    SCRIPT(s, {"GET", "/x", NULL, 401, "{}", NULL}, {"GET", "/x", NULL, 401, "{}", NULL});
    struct got g = ask(&s, &(struct bq_request){.method = "GET", .path = "/x"});
    assert_int_equal(g.err.kind, ERR_FATAL);
    assert_string_equal(g.err.reason, "unauthorized");
    doc_free(g.doc);
    script_end(&s);
}

static void a_401_after_another_answer_refreshes_again(void **state)
{
    (void)state;
    SCRIPT(s, {"GET", "/x", NULL, 401, "{}", NULL}, {"GET", "/x", NULL, 503, NULL, NULL}, {"GET", "/x", NULL, 401, "{}", NULL}, {"GET", "/x", NULL, 0, NULL, NULL},
           {"GET", "/x", NULL, 401, "{}", NULL}, {"GET", "/x", NULL, 200, "{}", NULL});
    struct got g = ask(&s, &(struct bq_request){.method = "GET", .path = "/x"});
    assert_false(g.failed);
    doc_free(g.doc);
    script_end(&s);
}

static void a_cancelled_request_says_nothing(void **state)
{
    (void)state;
    SCRIPT(s, {"GET", "/x", NULL, 200, "{}", NULL});
    struct got g = {0};
    struct bq_call *call = bq_send(s.bq, &(struct bq_request){.method = "GET", .path = "/x"}, on_answer, &g);
    bq_call_cancel(call);
    loop_step(s.loop, US_PER_S);
    assert_false(g.over);
    script_end(&s);
}

static void the_token_goes_with_every_request_and_is_not_described(void **state)
{
    (void)state;
    struct auth *auth = auth_bearer("secret\n");
    SCRIPT(s, {"GET", "/x", "Authorization: Bearer secret\n", 200, "{}", NULL});
    auth_free(s.auth);
    s.auth = auth;
    bq_free(s.bq);
    s.bq = bq_new(&(struct bq_options){.loop = s.loop, .http = &s.http, .auth = auth, .rnd = &s.rnd, .base_url = "localhost:9050/bigquery/v2/", .project = "p"});
    assert_string_equal(bq_base_url(s.bq), "http://localhost:9050");
    struct got g = ask(&s, &(struct bq_request){.method = "GET", .path = "/x"});
    assert_false(g.failed);
    assert_null(strstr(auth_describe(auth), "secret"));
    doc_free(g.doc);
    script_end(&s);
}

/* --- names and parameters ---------------------------------------------------------------------------------------------------------------- */

static void names_of_tables_are_understood_in_all_their_forms(void **state)
{
    (void)state;
    static const char *const same[] = {"d.t", "p.d.t", "p:d.t", "`p.d.t`", "`p`.`d`.`t`"};
    struct bq_ref want = {"p", "d", "t"}, ref;
    char text[600];
    for (size_t i = 0; i < ARRAY_LEN(same); i++) {
        assert_int_equal(bq_ref_parse(same[i], "p", &ref, NULL), 0);
        assert_true(bq_ref_equal(&ref, &want));
    }
    assert_int_equal(bq_ref_parse("example.com:my-proj.d_1.t 2-x", NULL, &ref, NULL), 0);
    assert_string_equal(bq_ref_text(&ref, text, sizeof(text)), "example.com:my-proj.d_1.t 2-x");
    static const char *const wrong[] = {"", "t", ".t", "d.", "a-b.t", "p.d.t`", "p.d.t;DROP", "..", "p..t",
                                        "d.t$20240101", "pr\xc3\xb8ject.d.t", "d\xc3\xa9.t"}; /* none that a statement could not be made of */
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct error err = ERROR_INIT;
        assert_int_equal(bq_ref_parse(wrong[i], "p", &ref, &err), -1);
        assert_int_equal(err.kind, ERR_USAGE);
    }
    assert_int_equal(bq_ref_parse("d.t", NULL, &ref, NULL), -1);
}

static void parameters_are_text_with_types_apart(void **state)
{
    (void)state;
    static const char *const words[] = {"a", NULL}, *const fields[] = {"load", "rows"}, *const types[] = {"STRING", "INT64"}, *const values[] = {"x", "5"};
    AUTO(doc_free_auto) doc *params = bq_params();
    bq_param(params, "day", "DATE", "2024-01-02");
    bq_param(params, "none", "STRING", NULL);
    bq_param_int(params, "n", -9223372036854775807 - 1);
    bq_param_array(params, "words", "STRING", words, 2);
    bq_param_structs(params, "loads", fields, types, 2, values, 1);
    AUTO(free_ptr) char *text = doc_text(params);
    assert_string_equal(text,
        "[{\"name\":\"day\",\"parameterType\":{\"type\":\"DATE\"},\"parameterValue\":{\"value\":\"2024-01-02\"}},"
        "{\"name\":\"none\",\"parameterType\":{\"type\":\"STRING\"},\"parameterValue\":{\"value\":null}},"
        "{\"name\":\"n\",\"parameterType\":{\"type\":\"INT64\"},\"parameterValue\":{\"value\":\"-9223372036854775808\"}},"
        "{\"name\":\"words\",\"parameterType\":{\"type\":\"ARRAY\",\"arrayType\":{\"type\":\"STRING\"}},"
        "\"parameterValue\":{\"arrayValues\":[{\"value\":\"a\"},{\"value\":null}]}},"
        "{\"name\":\"loads\",\"parameterType\":{\"type\":\"ARRAY\",\"arrayType\":{\"type\":\"STRUCT\",\"structTypes\":"
        "[{\"name\":\"load\",\"type\":{\"type\":\"STRING\"}},{\"name\":\"rows\",\"type\":{\"type\":\"INT64\"}}]}},"
        "\"parameterValue\":{\"arrayValues\":[{\"structValues\":{\"load\":{\"value\":\"x\"},\"rows\":{\"value\":\"5\"}}}]}}]");
}

/* --- tables ------------------------------------------------------------------------------------------------------------------------------ */

static void on_table(void *arg, struct bq_table *t, const struct error *err)
{
    struct got *g = arg;
    g->over = true;
    g->failed = err != NULL;
    if (err) {
        g->err = *err;
        return;
    }
    assert_int_equal(t->schema->count, 2);
    assert_int_equal(t->partitioning, PART_TIME);
    assert_string_equal(t->part_field, "day");
    assert_string_equal(t->part_type, "MONTH");
    assert_true(t->require_filter);
    assert_int_equal(t->rows, 9007199254740993);
    assert_string_equal(t->location, "EU");
}

static void a_table_is_read_with_its_partitions(void **state)
{
    (void)state;
    SCRIPT(s, {"GET", "/projects/p/datasets/d/tables/t%20x?", NULL, 200,
               "{\"schema\":{\"fields\":[{\"name\":\"k\",\"type\":\"INTEGER\"},{\"name\":\"day\",\"type\":\"DATE\"}]},\"location\":\"EU\","
               "\"timePartitioning\":{\"type\":\"MONTH\",\"field\":\"day\"},\"requirePartitionFilter\":true,\"numRows\":\"9007199254740993\"}", NULL},
           {"GET", "/tables/gone?", NULL, 404, "{\"error\":{\"message\":\"Not found: Table p:d.gone\",\"errors\":[{\"reason\":\"notFound\"}]}}", NULL});
    struct got g = {0}, missing = {0};
    bq_table_get(s.bq, &(struct bq_ref){"p", "d", "t x"}, on_table, &g);
    script_run(&s, &g.over);
    assert_false(g.failed);
    bq_table_get(s.bq, &(struct bq_ref){"p", "d", "gone"}, on_table, &missing);
    script_run(&s, &missing.over);
    assert_int_equal(missing.err.code, 404);
    assert_int_equal(missing.err.kind, ERR_FATAL);
    assert_string_equal(missing.err.reason, "notFound");
    script_end(&s);
}

static void on_plain_table(void *arg, struct bq_table *t, const struct error *err)
{
    struct got *g = arg;
    g->over = true;
    g->failed = err != NULL;
    g->status = t ? (int)t->partitioning : -1;
}

static void a_null_is_as_good_as_nothing(void **state)
{
    (void)state;
    SCRIPT(s, {"GET", "/tables/t?", NULL, 200, "{\"schema\":{\"fields\":[{\"name\":\"k\",\"type\":\"INT64\",\"mode\":null}]},\"timePartitioning\":null,\"rangePartitioning\":null,\"expirationTime\":null}", NULL});
    struct got g = {0};
    bq_table_get(s.bq, &(struct bq_ref){"p", "d", "t"}, on_plain_table, &g);
    script_run(&s, &g.over);
    assert_false(g.failed);
    assert_int_equal(g.status, PART_NONE);
    script_end(&s);
}

static void a_table_that_is_gone_is_as_good_as_deleted(void **state)
{
    (void)state;
    SCRIPT(s, {"DELETE", "/projects/p/datasets/d/tables/t", NULL, 404, "{\"error\":{\"code\":404,\"message\":\"Not found: Table p:d.t\"}}", NULL});
    struct got g = {0};
    bq_table_delete(s.bq, &(struct bq_ref){"p", "d", "t"}, on_answer, &g);
    script_run(&s, &g.over);
    assert_false(g.failed);
    script_end(&s);
}

static void all_pages_of_a_list_come_as_one(void **state)
{
    (void)state;
#define ENTRY(id) "{\"tableReference\":{\"tableId\":\"" id "\"}}"
#define LABELLED(id) "{\"tableReference\":{\"tableId\":\"" id "\"},\"labels\":{\"a\":\"b\"}}"
    SCRIPT(s, {"GET", "/datasets/d/tables?maxResults=1000&", NULL, 200, "{\"tables\":[" ENTRY("s_1") "," ENTRY("other") "],\"nextPageToken\":\"a b\"}", NULL},
           {"GET", "pageToken=a%20b", NULL, 503, NULL, NULL}, {"GET", "pageToken=a%20b", NULL, 200, "{\"tables\":[" LABELLED("s_2") "]}", NULL});
    struct got g = {0};
    bq_table_list(s.bq, "p", "d", "s_", on_answer, &g);
    script_run(&s, &g.over);
    AUTO(free_ptr) char *text = doc_text(g.doc);
    assert_string_equal(text, "[{\"id\":\"s_1\",\"labels\":{}},{\"id\":\"s_2\",\"labels\":{\"a\":\"b\"}}]");
    doc_free(g.doc);
    script_end(&s);
}

static void a_list_that_is_cancelled_leaves_nothing_behind(void **state)
{
    (void)state;
    SCRIPT(s, {"GET", "/tables", NULL, 200, "{}", NULL});
    struct got g = {0};
    bq_call_cancel(bq_table_list(s.bq, "p", "d", "s_", on_answer, &g));
    script_end(&s);
}

/* --- rows of a query --------------------------------------------------------------------------------------------------------------------- */

struct reader {
    struct bq_query *query;
    bool over, pause, stop;
    int64_t rows, total, sum;
    size_t columns;
    struct error err;
};

static void on_schema(void *arg, const doc *fields)
{
    ((struct reader *)arg)->columns = doc_len(fields);
}

static bool on_row(void *arg, const doc *row)
{
    struct reader *r = arg;
    r->rows++;
    r->sum += doc_int(doc_at(doc_get(row, "f"), 0), "v", 0);
    if (r->stop)
        bq_query_stop(r->query);
    return !r->pause;
}

static void on_rows_end(void *arg, const struct error *err, int64_t total)
{
    struct reader *r = arg;
    r->over = true;
    r->total = total;
    if (err)
        r->err = *err;
}

#define QUERY_DONE "{\"jobReference\":{\"location\":\"EU\"},\"statistics\":{\"endTime\":\"1\",\"query\":{}},\"status\":{\"state\":\"DONE\"}}"
#define ROW(v) "{\"f\":[{\"v\":\"" v "\"}]}"
#define FIRST "{\"schema\":{\"fields\":[{\"name\":\"n\",\"type\":\"INTEGER\"}]},\"totalRows\":\"3\",\"rows\":[" ROW("1") "," ROW("2") "],\"pageToken\":\"x\"}"

static void read_rows(struct script *s, struct reader *r)
{
    static const struct bq_query_events events = {on_schema, on_row, on_rows_end};
    AUTO(doc_free_auto) doc *config = bq_query_config("SELECT", NULL, 0);
    struct bq_job_spec spec = {.id_base = "q", .configuration = config};
    r->query = bq_query_start(s->bq, &spec, 2, &events, r);
}

static void rows_come_page_by_page_at_the_reader_s_pace(void **state)
{
    (void)state;
    SCRIPT(s, {"POST", "/jobs?", "\"useLegacySql\":false", 200, QUERY_DONE, NULL},
           {"GET", "/queries/q_t0?location=EU&maxResults=2&formatOptions.useInt64Timestamp=true&", NULL, 200, FIRST, NULL},
           {"GET", "pageToken=x", NULL, 200, "{\"totalRows\":\"3\",\"rows\":[" ROW("4") "]}", NULL});
    struct reader r = {.pause = true};
    read_rows(&s, &r);
    for (int64_t want = 1; want <= 3; want++) {
        for (int i = 0; i < 20; i++)
            loop_step(s.loop, US_PER_S);
        assert_int_equal(r.rows, want);
        assert_false(r.over);
        bq_query_resume(r.query);
    }
    script_run(&s, &r.over);
    assert_int_equal(r.sum, 7);
    assert_int_equal(r.total, 3);
    assert_int_equal(r.columns, 1);
    assert_int_equal(r.err.kind, ERR_NONE);
    script_end(&s);
}

static void a_reader_may_stop_in_the_middle_of_a_page(void **state)
{
    (void)state;
    SCRIPT(s, {"POST", "/jobs?", NULL, 200, QUERY_DONE, NULL}, {"GET", "/queries/q_t0", NULL, 200, FIRST, NULL});
    struct reader r = {.stop = true};
    read_rows(&s, &r);
    for (int i = 0; i < 20; i++)
        loop_step(s.loop, US_PER_S);
    assert_int_equal(r.rows, 1);
    assert_false(r.over);
    script_end(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_is_repeated_while_that_may_help),
        cmocka_unit_test(what_asks_for_no_repeat_gets_none),
        cmocka_unit_test(the_service_says_when_to_come_back),
        cmocka_unit_test(a_service_that_stays_away_is_given_ten_minutes),
        cmocka_unit_test(refused_credentials_are_refreshed_once), cmocka_unit_test(a_401_after_another_answer_refreshes_again),
        cmocka_unit_test(a_cancelled_request_says_nothing),
        cmocka_unit_test(the_token_goes_with_every_request_and_is_not_described),
        cmocka_unit_test(names_of_tables_are_understood_in_all_their_forms),
        cmocka_unit_test(parameters_are_text_with_types_apart),
        cmocka_unit_test(a_table_is_read_with_its_partitions),
        cmocka_unit_test(a_null_is_as_good_as_nothing),
        cmocka_unit_test(a_table_that_is_gone_is_as_good_as_deleted),
        cmocka_unit_test(all_pages_of_a_list_come_as_one),
        cmocka_unit_test(a_list_that_is_cancelled_leaves_nothing_behind),
        cmocka_unit_test(rows_come_page_by_page_at_the_reader_s_pace),
        cmocka_unit_test(a_reader_may_stop_in_the_middle_of_a_page),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
