#include <jansson.h>
#include <math.h>

#include "common/bq/dry_run.h"
#include "common/bq/permits.h"
#include "common/bq/row_doc.h"
#include "common/bq/sql_group.h"
#include "coordinator/items.h"
#include "tests/fuzz/answers.h"

/* What BigQuery answers about jobs, queries, tables and rows; the first byte says what was asked. Each callback comes once, with a result or an error. */

struct asked { struct answers a; bool over; const struct schema *schema; int64_t rows; };

static const struct bq_ref table = {"p", "d", "t"};

static void over(struct asked *q, const struct error *err)
{
    CHECK(!q->over);
    CHECK(err == NULL || (err->kind != ERR_NONE && memchr(err->text, '\0', sizeof(err->text)) && memchr(err->reason, '\0', sizeof(err->reason))));
    q->over = true;
}

/* --- jobs ------------------------------------------------------------------------------------------------------------------------------------ */

static void job_over(void *arg, const struct bq_job_result *r)
{
    over(arg, r->err);
    CHECK(r->job_id && r->tries > 0 && r->tries <= 9);
}

static void a_job(struct asked *q, bool load, bool give_up)
{
    static const struct http_slice media = {"{}\n", 3};
    AUTO(doc_free_auto) doc *config = load ? bq_load_config(&table) : bq_query_config("MERGE", NULL, 0);
    struct bq_job_spec spec = {.id_base = "b", .location = "EU", .configuration = config, .digest = "d1", .not_before_ms = 1700000000000,
                               .media = load ? &media : NULL, .media_count = load ? 1 : 0, .give_up_by_job = give_up};
    struct bq_job *job = bq_job_start(q->a.bq, &spec, job_over, q);
    answers_run(&q->a, &q->over);
    if (!q->over)
        bq_job_stop(job, true);
}

/* --- rows ------------------------------------------------------------------------------------------------------------------------------------ */

static void schema_came(void *arg, const doc *fields)
{
    struct asked *q = arg;
    struct error err = ERROR_INIT;
    CHECK(!q->over && q->schema == NULL);
    q->schema = schema_parse(fields, &err);
}

static bool row_came(void *arg, const doc *row)
{
    struct asked *q = arg;
    CHECK(!q->over);
    q->rows++;
    if (q->schema == NULL)
        return true;
    AUTO(doc_free_auto) doc *d = bq_row_doc(q->schema, row);
    AUTO(free_ptr) char *text = doc_text(d);
    json_t *j = json_loads(text, JSON_ALLOW_NUL, NULL);
    CHECK(json_is_object(j));
    json_decref(j);
    return true;
}

static void rows_ended(void *arg, const struct error *err, int64_t total)
{
    (void)total;
    over(arg, err);
}

static void a_query(struct asked *q)
{
    static const struct bq_query_events events = {.schema = schema_came, .row = row_came, .end = rows_ended};
    AUTO(doc_free_auto) doc *config = bq_query_config("SELECT", NULL, 0);
    struct bq_job_spec spec = {.id_base = "b", .location = "EU", .configuration = config, .digest = "d1", .not_before_ms = 1700000000000};
    struct bq_query *query = bq_query_start(q->a.bq, &spec, 0, &events, q);
    answers_run(&q->a, &q->over);
    if (!q->over)
        bq_query_stop(query);
    schema_free((struct schema *)(uintptr_t)q->schema);
}

static void nothing(void *arg) { (void)arg; }

static void some_items(struct asked *q)
{
    struct world world = {.loop = q->a.loop, .bq = q->a.bq, .rnd = &q->a.rnd};
    struct spec spec = {.path = (char *)"spec.yaml", .items = {.kind = ITEMS_QUERY, .source = (char *)"SELECT", .key = (char *)"id"}};
    struct error err = ERROR_INIT;
    struct item item;
    struct items *items = items_open(&spec, &world, "run", nothing, q, &err);
    CHECK(items != NULL);
    int rc = 2;
    for (int turn = 0; turn < 2000 && (rc == 1 || rc == 2); turn++) {
        rc = items_next(items, &item, &err);
        if (rc == 1 && item.payload != NULL) {
            AUTO(doc_free_auto) doc *d = doc_parse(item.payload, item.payload_len, "payload", &err);
            CHECK(doc_type(d) == DOC_OBJECT && item.key_len > 0);
        }
        if (rc == 2)
            loop_step(q->a.loop, 60 * US_PER_S);
    }
    CHECK(rc != -1 || err.kind != ERR_NONE);
    items_close(items);
}

/* --- tables ---------------------------------------------------------------------------------------------------------------------------------- */

static void table_came(void *arg, struct bq_table *t, const struct error *err)
{
    over(arg, err);
    CHECK(err != NULL || (t != NULL && (t->partitioning != PART_RANGE || t->part_interval != INT64_MIN)));
}

static void answer_came(void *arg, const struct bq_answer *a)
{
    over(arg, a->err);
}

static void permits_came(void *arg, const struct bq_answer *a)
{
    struct permit_rows rows;
    struct error err = ERROR_INIT;
    over(arg, a->err);
    if (permits_rows(a, &rows, &err) != 0)
        return;
    for (size_t i = 0; i < rows.count; i++) {
        CHECK(rows.v[i].slot >= 0 && rows.v[i].slot < PERMIT_SLOTS_MAX && (i == 0 || rows.v[i].slot >= rows.v[i - 1].slot));
        CHECK(memchr(rows.v[i].job, '\0', sizeof(rows.v[i].job)) != NULL);
    }
}

static void dry_run_came(void *arg, const struct bq_dry_result *r)
{
    struct error err = ERROR_INIT;
    over(arg, r->err);
    schema_free(sql_select_result(r, &err));
}

static void a_call(struct asked *q, unsigned which)
{
    AUTO(doc_free_auto) doc *config = bq_query_config("SELECT", NULL, 0);
    struct bq_call *call;
    switch (which) {
    case 0: call = bq_table_get(q->a.bq, &table, table_came, q); break;
    case 1: call = permits_read(q->a.bq, &table, permits_came, q); break;
    case 2: call = bq_table_list(q->a.bq, "p", "d", "bqf_", answer_came, q); break;
    case 3: call = bq_dry_run(q->a.bq, config, "EU", dry_run_came, q); break;
    case 4: call = bq_dataset_get(q->a.bq, "p", "d", answer_came, q); break;
    default: call = bq_table_delete(q->a.bq, &table, answer_came, q); break;
    }
    answers_run(&q->a, &q->over);
    if (!q->over)
        bq_call_cancel(call);
}

/* --- permits ---------------------------------------------------------------------------------------------------------------------------------- */

static void granted(void *arg, const struct permit_grant *grant, const struct error *err)
{
    CHECK((grant == NULL) == (err != NULL));
    over(arg, err);
    CHECK(grant == NULL || (grant->slot >= 0 && grant->slot < 2 && grant->token[0] != '\0'));
}

static void a_permit(struct asked *q)
{
    struct permits *p = permits_new(&(struct permits_options){.bq = q->a.bq, .rnd = &q->a.rnd, .table = table, .holder = "fuzz", .slots = 2});
    struct permit_use *use = permits_want(p, "job", "fuzzing", granted, q);
    answers_run(&q->a, &q->over);
    CHECK(permits_waits_for(p) != NULL);
    (void)use;
    permits_free(p);
}

FUZZ(bq_answers)
{
    struct input in = input_of(data, size);
    struct asked q = {.over = false};
    unsigned choice = input_byte(&in) % 12;
    answers_begin(&q.a, in);
    switch (choice) {
    case 0: a_job(&q, true, false); break;
    case 1: a_job(&q, false, true); break;
    case 2: a_query(&q); break;
    case 3: some_items(&q); break;
    case 4: a_permit(&q); break;
    default: a_call(&q, choice - 5); break;
    }
    answers_end(&q.a);
}
