#include "tests/unit/support_items.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include "common/base/buf.h"

/* Items that are the rows of a query, against a script of replies. */

#define JOB "POST", "/bigquery/v2/projects/p/jobs", "\"query\":\"SELECT 1\""
#define DONE                                                                                                                            \
    "{\"jobReference\":{\"projectId\":\"p\",\"jobId\":\"j\",\"location\":\"EU\"},"                                                      \
    "\"configuration\":{\"labels\":{\"bqfleet_digest\":\"e004ebd5b5532a4b85984a62f8ad48a81aa3460c1ca07701f386135d72cdecf\"}},"  \
    "\"statistics\":{\"creationTime\":\"1700000001000\"},"   \
    "\"status\":{\"state\":\"DONE\"}}"
#define READ "GET", "/bigquery/v2/projects/p/jobs/bqfleet_items_plan_", NULL
#define PAGE "GET", "/bigquery/v2/projects/p/queries/", NULL
#define FIELDS                                                                                                                          \
    "\"schema\":{\"fields\":[{\"name\":\"Id\",\"type\":\"INTEGER\"},{\"name\":\"f\",\"type\":\"FLOAT\"},{\"name\":\"b\",\"type\":\"BOOLEAN\"},"     \
    "{\"name\":\"at\",\"type\":\"TIMESTAMP\"},{\"name\":\"tags\",\"type\":\"STRING\",\"mode\":\"REPEATED\"},{\"name\":\"r\",\"type\":\"RECORD\","        \
    "\"fields\":[{\"name\":\"n\",\"type\":\"INTEGER\"}]},{\"name\":\"j\",\"type\":\"JSON\"},{\"name\":\"big\",\"type\":\"NUMERIC\"}]}"
#define ROW(id, f, b, at, tags, r, j, big)                                                                                              \
    "{\"f\":[{\"v\":" id "},{\"v\":" f "},{\"v\":" b "},{\"v\":" at "},{\"v\":" tags "},{\"v\":" r "},{\"v\":" j "},{\"v\":" big "}]}"

static void begin_query(struct reading *r, struct script *s, const char *key)
{
    reading_begin(r, ITEMS_QUERY, "SELECT 1", key, s);
    reading_open(r);
}

static void rows_of_a_query_become_objects_by_column(void **state)
{
    (void)state;
    SCRIPT(s, {JOB, 200, DONE, NULL}, {READ, 200, DONE, NULL},
           {PAGE, 200, "{" FIELDS ",\"totalRows\":\"2\",\"pageToken\":\"next\",\"rows\":["
                       ROW("\"7\"", "\"1.5\"", "\"true\"", "\"1700000000123456\"", "[{\"v\":\"x\"}]", "{\"f\":[{\"v\":\"9007199254740993\"}]}",
                           "\"{\\\"k\\\":1}\"", "\"1.10\"") "]}", NULL},
           {PAGE, 200, "{\"totalRows\":\"2\",\"rows\":[" ROW("\"8\"", "\"NaN\"", "null", "\"-1\"", "[]", "null", "null", "null") "]}", NULL});
    struct reading r;
    begin_query(&r, &s, "id");
    gives(&r, 0, "7", "{\"Id\":7,\"f\":1.5,\"b\":true,\"at\":\"2023-11-14T22:13:20.123456Z\",\"tags\":[\"x\"],\"r\":{\"n\":\"9007199254740993\"},"
                      "\"j\":{\"k\":1},\"big\":\"1.10\"}");
    gives(&r, 1, "8", "{\"Id\":8,\"f\":\"NaN\",\"b\":null,\"at\":\"1969-12-31T23:59:59.999999Z\",\"tags\":[],\"r\":null,\"j\":null,\"big\":null}");
    ends(&r);
    reading_end(&r);
    script_end(&s);
}

#define ONE_COLUMN(rows) "{\"schema\":{\"fields\":[{\"name\":\"id\",\"type\":\"STRING\"}]},\"totalRows\":\"2\",\"rows\":[" rows "]}"

static void a_query_without_its_key_is_refused(void **state)
{
    (void)state;
    SCRIPT(s, {JOB, 200, DONE, NULL}, {READ, 200, DONE, NULL}, {PAGE, 200, ONE_COLUMN("{\"f\":[{\"v\":\"a\"}]}"), NULL}, {JOB, 200, DONE, NULL}, {READ, 200, DONE, NULL},
           {PAGE, 200, ONE_COLUMN("{\"f\":[{\"v\":\"a\"}]},{\"f\":[{\"v\":null}]}"), NULL}, {JOB, 200, DONE, NULL}, {READ, 200, DONE, NULL},
           {PAGE, 200, ONE_COLUMN("{\"f\":[{\"v\":\"a\"}]},{\"f\":[{\"v\":\"a\"}]}"), NULL});
    struct reading r;
    begin_query(&r, &s, "key");
    ends_in_error(&r, "spec.yaml:3:5: items.query: its result has no column \"key\" (items.key)");
    reading_end(&r);
    begin_query(&r, &s, "id");
    ends_in_error(&r, "spec.yaml:3:5: items.query, row 2: the column \"id\" (items.key) is NULL");
    reading_end(&r);
    begin_query(&r, &s, "id");
    ends_in_error(&r, "spec.yaml:3:5: items.query, row 2: the key \"a\" is used twice, first in row 1");
    reading_end(&r);
    script_end(&s);
}

static void a_query_that_fails_ends_the_items_with_its_reason(void **state)
{
    (void)state;
    SCRIPT(s, {JOB, 400, "{\"error\":{\"message\":\"Syntax error\",\"errors\":[{\"reason\":\"invalidQuery\",\"message\":\"Syntax error\"}]}}", NULL});
    struct reading r;
    struct item item;
    begin_query(&r, &s, "id");
    assert_int_equal(reading_next(&r, &item), -1);
    assert_int_equal(r.err.kind, ERR_FATAL);
    assert_non_null(strstr(r.err.text, "spec.yaml:3:5: items.query: "));
    assert_non_null(strstr(r.err.text, "Syntax error"));
    reading_end(&r);
    script_end(&s);
}

static void a_long_result_is_read_as_it_is_asked_for(void **state)
{
    (void)state;
    /* Rows of 600 kB: two fill the queue, so the second page is not even asked for before the reader has made room. */
    struct buf pages[2] = {BUF_INIT(8 << 20), BUF_INIT(8 << 20)};
    AUTO(free_ptr) char *large = xcalloc(1, 600001);
    memset(large, 'x', 600000);
    for (int i = 0; i < 2; i++) {
        buf_xputs(&pages[i], "{\"schema\":{\"fields\":[{\"name\":\"id\",\"type\":\"STRING\"},{\"name\":\"x\",\"type\":\"STRING\"}]},\"totalRows\":\"4\",\"rows\":[");
        buf_xprintf(&pages[i], "{\"f\":[{\"v\":\"k%d\"},{\"v\":\"%s%s\"}]},", 2 * i, large, i == 1 ? large : "");
        buf_xprintf(&pages[i], "{\"f\":[{\"v\":\"k%d\"},{\"v\":\"%s\"}]}]%s}", 2 * i + 1, large, i == 0 ? ",\"pageToken\":\"next\"" : "");
    }
    struct line lines[] = {{JOB, 200, DONE, NULL}, {READ, 200, DONE, NULL}, {PAGE, 200, pages[0].data, NULL}, {PAGE, 200, pages[1].data, NULL}};
    struct script s;
    struct reading r;
    script_begin(&s, lines, ARRAY_LEN(lines));
    begin_query(&r, &s, "id");
    gives(&r, 0, "k0", NULL);
    while (loop_step(s.loop, US_PER_S)) /* all that comes by itself */
        ;
    assert_int_equal(s.at, 3);
    gives(&r, 1, "k1", NULL);
    fails_alone(&r, 2, "k2", "items.query, row 3: the item has more than");
    gives(&r, 3, "k3", NULL);
    ends(&r);
    reading_end(&r);
    script_end(&s);
    buf_free(&pages[0]);
    buf_free(&pages[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_of_a_query_become_objects_by_column),
        cmocka_unit_test(a_query_without_its_key_is_refused),
        cmocka_unit_test(a_query_that_fails_ends_the_items_with_its_reason),
        cmocka_unit_test(a_long_result_is_read_as_it_is_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
