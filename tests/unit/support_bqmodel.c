#include "tests/unit/support_bqmodel.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include "common/base/limits.h"

void world_begin(struct world *w, const struct bqmodel_options *o)
{
    *w = (struct world){.loop = loop_new_virtual(START_US)};
    w->m = bqmodel_new(w->loop, o);
    w->http = bqmodel_http(w->m);
}

int world_setup(void **state)
{
    struct world *w = xcalloc(1, sizeof(*w));
    world_begin(w, NULL);
    bqmodel_add_table(w->m, "ds.t", TARGET);
    bqmodel_add_table(w->m, "ds.s", SHARD);
    *state = w;
    return 0;
}

void world_end(struct world *w)
{
    bqmodel_free(w->m);
    loop_free(w->loop);
    reply_free(&w->last);
    doc_free(w->doc);
}

int world_teardown(void **state)
{
    world_end(*state);
    free(*state);
    return 0;
}

static void answered(void *arg, struct http_response *r)
{
    struct world *w = arg;
    const char *location = http_header(r, "location"), *range = http_header(r, "range");
    snprintf(w->location, sizeof(w->location), "%s", location ? location : "");
    snprintf(w->range, sizeof(w->range), "%s", range ? range : "");
    reply_cb(&w->last, r);
}

int ask_with(struct world *w, const char *method, const char *url, const char *const *headers, const char *body, size_t len)
{
    struct http_slice slice = {body, len};
    reply_free(&w->last);
    doc_free(w->doc);
    w->doc = NULL;
    struct http_request r = {.method = method, .url = url, .headers = headers, .body = body ? &slice : NULL, .body_count = body != NULL};
    http_send(w->http, &r, answered, w);
    assert_int_equal(w->last.calls, 0);
    assert_true(loop_until(w->loop, reply_came, &w->last, 400 * US_PER_S));
    if (w->last.len > 0)
        w->doc = doc_parse(w->last.body, w->last.len, "answer", NULL);
    return w->last.status;
}

int ask(struct world *w, const char *method, const char *path, const char *body)
{
    static const char *const json[] = {"Content-Type: application/json; charset=UTF-8", NULL};
    AUTO(free_ptr) char *url = xasprintf(URL "%s", path);
    return ask_with(w, method, url, body ? json : NULL, body, body ? strlen(body) : 0);
}

void assert_answer(const struct world *w, const char *path, const char *text)
{
    const char *found = doc_str(w->doc, path, NULL);
    if (found == NULL || strstr(found, text) == NULL)
        fail_msg("%s is \"%s\", without \"%s\"; %s", path, found ? found : "(none)", text, w->last.body ? w->last.body : "(no body)");
}

void assert_rows(struct world *w, const char *table, const char *json)
{
    AUTO(doc_free_auto) doc *want = doc_parse(json, strlen(json), "rows", NULL), *got = bqmodel_rows(w->m, table);
    AUTO(free_ptr) char *text = doc_text(got);
    assert_non_null(want);
    if (!doc_equal(want, got))
        fail_msg("%s holds %s", table, text);
}

void world_sleep(struct world *w, int64_t ms)
{
    int64_t until = loop_now_us(w->loop) + ms * US_PER_MS;
    while (loop_now_us(w->loop) < until)
        loop_step(w->loop, until - loop_now_us(w->loop));
}

/* --- jobs of both kinds -------------------------------------------------------------------------------------------------------------------- */

char *load_job(const char *id, const char *table)
{
    return xasprintf("{\"jobReference\":{\"projectId\":\"local\",\"jobId\":\"%s\"},\"configuration\":{\"labels\":{\"a\":\"b\"},\"load\":{\"destinationTable\":{\"projectId\":\"local\","
                     "\"datasetId\":\"ds\",\"tableId\":\"%s\"},\"sourceFormat\":\"NEWLINE_DELIMITED_JSON\",\"createDisposition\":\"CREATE_NEVER\"}}}",
                     id, table);
}

int insert_load(struct world *w, const char *id, const char *table, const char *lines)
{
    static const char *const headers[] = {"Content-Type: multipart/related; boundary=xyz", NULL};
    AUTO(free_ptr) char *job = load_job(id, table);
    AUTO(free_ptr) char *body = xasprintf("--xyz\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n%s\r\n--xyz\r\nContent-Type: */*\r\n\r\n"
                                          "%s\r\n--xyz--\r\n", job, lines);
    return ask_with(w, "POST", UPLOAD "?uploadType=multipart", headers, body, strlen(body));
}

void get_job(struct world *w, const char *id)
{
    AUTO(free_ptr) char *path = xasprintf("/jobs/%s", id);
    assert_int_equal(ask(w, "GET", path, NULL), 200);
}

void wait_job(struct world *w, const char *id)
{
    do
        get_job(w, id);
    while (strcmp(doc_str(w->doc, "status.state", ""), "DONE") != 0);
}

void load(struct world *w, const char *id, const char *table, const char *lines)
{
    assert_int_equal(insert_load(w, id, table, lines), 200);
    wait_job(w, id);
}

int insert_query(struct world *w, const char *id, const char *sql, doc *params)
{
    doc *configuration = bq_query_config(sql, params ? params : bq_params(), 0);
    doc *reference = doc_set_str(doc_set_str(doc_object(), "projectId", "local"), "jobId", id);
    AUTO(doc_free_auto) doc *job = doc_set(doc_object(), "jobReference", reference);
    doc_set(job, "configuration", configuration);
    AUTO(free_ptr) char *text = doc_text(job);
    return ask(w, "POST", "/jobs", text);
}

static size_t filled(const char *a, const char *b, const char *c)
{
    return a == NULL ? 0 : b == NULL ? 1 : c == NULL ? 2 : 3;
}

int insert_cut(struct world *w, const char *id, const struct cut *c)
{
    static const char fields[] = "{\"fields\":\"" TARGET "\"}";
    static const struct bq_ref target = {"local", "ds", "t"}, shard = {"local", "ds", "s"}, side = {"local", "ds", "side"};
    AUTO(doc_free_auto) doc *d = doc_parse(fields, strlen(fields), "fields", NULL);
    AUTO(schema_free_auto) struct schema *schema = schema_parse(d, NULL);
    const char *key = c->key ? c->key : "k";
    struct sql_load one = {"l1", 1, 0};
    size_t loads = filled(c->loads[0].id, c->loads[1].id, c->loads[2].id);
    struct sql_cut cut = {
        .target = &target, .schema = schema, .mode = c->mode, .keys = &key, .key_count = !c->unkeyed, .order_by = &c->order,
        .order_count = c->order != NULL, .insert_only = &c->keep, .insert_only_count = c->keep != NULL, .shards = &shard, .shard_count = 1,
        .loads = loads ? c->loads : &one, .load_count = loads ? loads : 1, .exclusions = c->exclusions,
        .exclusion_count = filled(c->exclusions[0].load, c->exclusions[1].load, NULL), .side = c->side ? &side : NULL, .fence = c->fence,
        .partition = c->partition, .partition_column = c->part, .has_range = c->part != NULL && !c->no_range, .range_null = c->part_null, .null_keys = c->nulls, .range_lo = c->lo, .range_hi = c->hi,
    };
    if (c->nothing)
        cut.load_count = 0;
    struct buf sql = BUF_INIT(LIMIT_SQL);
    doc *params = NULL;
    struct error err = ERROR_INIT;
    if (sql_consolidate(&cut, &sql, &params, &err))
        fail_msg("%s", err.text);
    int status = insert_query(w, id, sql.data, params);
    buf_free(&sql);
    return status;
}

void run_cut(struct world *w, const struct cut *c)
{
    static int number;
    char id[32];
    snprintf(id, sizeof(id), "cut_%d", ++number);
    assert_int_equal(insert_cut(w, id, c), 200);
    wait_job(w, id);
    assert_null(bqmodel_unknown_statement(w->m));
}

void assert_good(const struct world *w)
{
    if (doc_get(w->doc, "status.errorResult"))
        fail_msg("%s", w->last.body);
}

void assert_counts(const struct world *w, int inserted, int updated, int deleted)
{
    assert_good(w);
    assert_int_equal(doc_int(w->doc, "statistics.query.dmlStats.insertedRowCount", -1), inserted);
    assert_int_equal(doc_int(w->doc, "statistics.query.dmlStats.updatedRowCount", -1), updated);
    assert_int_equal(doc_int(w->doc, "statistics.query.dmlStats.deletedRowCount", -1), deleted);
    assert_int_equal(doc_int(w->doc, "statistics.query.numDmlAffectedRows", -1), inserted + updated + deleted);
}
