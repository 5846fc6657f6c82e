#include "coordinator/items_internal.h"

#include "common/bq/row_doc.h"

/*
 * Items that are the rows of a query: each row a JSON object by column. Rows come in pages; what is not asked for yet waits in a queue of
 * bounded size, and the query pauses while it is full.
 */
#define QUEUE_BYTES ((size_t)1024 * 1024) /* beyond it the query pauses; one row more may be in it */
#define NONCE_LEN 8

struct entry { struct entry *next; bool over; char *key, *payload; size_t payload_len; struct error err; };

struct query_items {
    struct items *it;
    struct bq_query *query;
    struct schema *schema;
    const struct field *key;
    int64_t rows;
    struct entry *first, **last;
    size_t bytes;
    bool paused, wanted, ended;
    struct timer *wake; /* the reader is told from the loop, never from inside the query's callbacks: it may close us */
    struct error failed;
};

/* --- the queue ------------------------------------------------------------------------------------------------------------------------------------- */

static void tell_reader(void *arg)
{
    struct query_items *q = arg;
    q->it->ready(q->it->arg);
}

static void wake(struct query_items *q)
{
    if (q->wanted)
        timer_set(q->wake, 0);
    q->wanted = false;
}

static void on_schema(void *arg, const doc *fields)
{
    struct query_items *q = arg;
    AUTO(doc_free_auto) doc *whole = doc_set(doc_object(), "fields", doc_copy(fields));
    schema_free(q->schema);
    q->schema = schema_parse(whole, &q->failed);
    q->key = q->schema != NULL ? schema_find(q->schema, q->it->spec->items.key) : NULL;
    const struct spec *s = q->it->spec;
    char place[LIMIT_PLACE];
    if (q->schema != NULL && q->key == NULL)
        error_set(&q->failed, ERR_USAGE, 0, "%s: items.query: its result has no column \"%s\" (items.key)", items_place(s, place, sizeof(place)),
                  s->items.key);
    if (q->failed.kind != ERR_NONE)
        wake(q);
}

static bool on_row(void *arg, const doc *row)
{
    struct query_items *q = arg;
    if (q->failed.kind != ERR_NONE)
        return false;
    AUTO(doc_free_auto) doc *d = bq_row_doc(q->schema, row);
    const doc *key = doc_field(d, q->key->name);
    struct entry *e = xcalloc(1, sizeof(*e));
    q->it->place = ++q->rows;
    /* The key as text: an integer's own digits, whatever its size. */
    if (doc_type(key) == DOC_STRING && doc_str(key, NULL, "")[0] != '\0')
        e->key = xstrdup(doc_str(key, NULL, ""));
    else if (doc_type(key) == DOC_INT)
        e->key = xasprintf("%" PRId64, doc_int(key, NULL, 0));
    else
        items_error(q->it, &e->err, "the column \"%s\" (items.key) is %s", q->key->name,
                    doc_type(key) == DOC_NULL ? "NULL" : doc_type(key) == DOC_STRING ? "empty" : "neither a STRING nor an INT64");
    e->payload = doc_text(d);
    e->payload_len = strlen(e->payload);
    if (e->payload_len > LIMIT_PAYLOAD) {
        free(e->payload);
        e->payload = NULL;
        e->payload_len = 0;
        e->over = true;
    }
    *q->last = e;
    q->last = &e->next;
    q->bytes += sizeof(*e) + e->payload_len;
    q->paused = q->bytes >= QUEUE_BYTES;
    wake(q);
    return !q->paused;
}

static void on_end(void *arg, const struct error *err, int64_t total)
{
    struct query_items *q = arg;
    (void)total;
    q->query = NULL;
    q->ended = true;
    if (err != NULL && q->failed.kind == ERR_NONE) {
        const struct spec *s = q->it->spec;
        char place[LIMIT_PLACE];
        q->failed = *err;
        error_prefix(&q->failed, "%s: items.query", items_place(s, place, sizeof(place)));
    }
    wake(q);
}

struct query_items *query_items_start(struct items *it, const char *run, struct error *err)
{
    static const struct bq_query_events events = {.schema = on_schema, .row = on_row, .end = on_end};
    const struct spec *s = it->spec;
    if (it->world->bq == NULL) {
        error_set(err, ERR_FATAL, 0, "items.query needs BigQuery");
        return NULL;
    }
    struct query_items *q = xcalloc(1, sizeof(*q));
    char nonce[NONCE_LEN + 1], base[JOB_BASE_SIZE], digest[65];
    q->it = it;
    q->last = &q->first;
    q->wake = timer_new(it->world->loop, tell_reader, q);
    rnd_text(it->world->rnd, nonce, NONCE_LEN);
    job_base_items(base, run != NULL ? run : "plan", nonce);
    sha256_hex(s->items.source, strlen(s->items.source), digest);
    digest[63] = '\0'; /* labels are that short */
    AUTO(doc_free_auto) doc *config = bq_query_config(s->items.source, NULL, s->write.max_bytes_billed);
    struct bq_job_spec job = {
        .id_base = base,
        .location = s->write.location,
        .configuration = config,
        .digest = digest,
        .not_before_ms = loop_wall_ms(it->world->loop),
    };
    q->query = bq_query_start(it->world->bq, &job, 0, &events, q);
    return q;
}

static void entry_free(struct entry *e)
{
    free(e->key);
    free(e->payload);
    free(e);
}

void query_items_free(struct query_items *q)
{
    if (q == NULL)
        return;
    bq_query_stop(q->query);
    timer_free(q->wake);
    while (q->first != NULL) {
        struct entry *e = q->first;
        q->first = e->next;
        entry_free(e);
    }
    schema_free(q->schema);
    free(q);
}

static struct entry *pop(struct query_items *q)
{
    struct entry *e = q->first;
    q->first = e->next;
    if (q->first == NULL)
        q->last = &q->first;
    q->bytes -= sizeof(*e) + e->payload_len;
    return e;
}

int items_query_next(struct items *it, struct error *err)
{
    struct query_items *q = it->query;
    if (q->first == NULL && (q->failed.kind != ERR_NONE || q->ended)) {
        *err = q->failed;
        return q->failed.kind != ERR_NONE ? -1 : 0;
    }
    if (q->first == NULL) {
        q->wanted = true;
        return 2;
    }
    struct entry *e = pop(q);
    it->place = it->index + 1;
    int rc = e->err.kind != ERR_NONE ? -1 : 1;
    *err = e->err;
    if (rc == 1)
        items_key_add(it, e->key, strlen(e->key));
    if (rc == 1 && !e->over)
        buf_xadd(&it->payload, e->payload, e->payload_len);
    it->over = e->over;
    entry_free(e);
    if (q->paused && q->bytes < QUEUE_BYTES / 2) {
        q->paused = false;
        bq_query_resume(q->query);
    }
    return rc;
}
