#include "common/bq/permits.h"

#include <time.h>

#include "common/base/ids.h"

/* --- reading -------------------------------------------------------------------------------------------------------------------------------- */

static const char *cell(const doc *row, size_t column)
{
    return doc_str(doc_at(doc_get(row, "f"), column), "v", "");
}

/* Microseconds, as we ask for them; some servers give seconds with a fraction all the same. */
static int64_t timestamp_us(const char *text)
{
    if (!strpbrk(text, ".eE"))
        return strtoll(text, NULL, 10);
    double us = strtod(text, NULL) * (double)US_PER_S + 0.5;
    return us > -9e18 && us < 9e18 ? (int64_t)us : 0; /* nonsense counts as released: the fence is BigQuery's own clock */
}

static void take_row(const doc *row, struct permit_rows *rows)
{
    int64_t slot = strtoll(cell(row, 0), NULL, 10);
    if (slot < 0 || slot >= PERMIT_SLOTS_MAX || rows->count == PERMIT_SLOTS_MAX)
        return;
    struct permit_row r = {.slot = (int)slot, .expires_us = timestamp_us(cell(row, 3))};
    snprintf(r.holder, sizeof(r.holder), "%s", cell(row, 1));
    snprintf(r.token, sizeof(r.token), "%s", cell(row, 2));
    snprintf(r.job, sizeof(r.job), "%s", cell(row, 4));
    snprintf(r.purpose, sizeof(r.purpose), "%s", cell(row, 5));
    r.closing = r.holder[0] == '\0' && r.job[0] != '\0';
    if (r.holder[0] == '\0' && !r.closing) { /* its lease ended with its release */
        r.released_us = r.expires_us;
        r.expires_us = 0;
    }
    size_t at = rows->count++;
    for (; at > 0 && rows->v[at - 1].slot > r.slot; at--)
        rows->v[at] = rows->v[at - 1];
    rows->v[at] = r;
}

struct bq_call *permits_read(struct bq *bq, const struct bq_ref *table, bq_cb *cb, void *arg)
{
    return bq_table_rows(bq, table, 0, PERMIT_SLOTS_MAX * 2, NULL, cb, arg);
}

int permits_rows(const struct bq_answer *a, struct permit_rows *rows, struct error *err)
{
    *rows = (struct permit_rows){.absent = a->err != NULL && a->err->code == 404};
    if (a->err != NULL && !rows->absent) {
        *err = *a->err;
        return error_prefix(err, "the table of permits");
    }
    const doc *list = doc_get(a->doc, "rows");
    for (size_t i = 0; i < doc_len(list); i++)
        take_row(doc_at(list, i), rows);
    rows->server_ms = a->http ? http_date_ms(a->http) : 0;
    return 0;
}

/* --- making ----------------------------------------------------------------------------------------------------------------------------------- */

/*
 * The table is made by tables.insert, whose 409 says that somebody else did. Each row is made by a load job whose id says of which slot of which
 * table (its time of creation tells it from one that was dropped), so that it is made once, however many processes do it at once.
 */
#define ROW_TRIES 1000 /* without the row nobody ever gets a permit, and its job has no other id: it is tried as long as that may help */
struct permits_make {
    struct bq *bq;
    struct bq_ref table;
    char location[64];
    int slots, slot;        /* to make; the one that is being made */
    int first_try;          /* of that one's job: those before it have failed, whoever began them */
    int64_t created_ms;
    bool created;           /* we tried to */
    struct permit_rows rows;
    struct bq_call *call;
    struct bq_job *job;
    struct timer *end;
    doc *configuration;
    char media[256];
    struct http_slice slice;
    struct error err;
    void (*made)(void *, const struct error *);
    void *arg;
};

static void look(struct permits_make *);

static void on_end(void *arg)
{
    struct permits_make *m = arg;
    void (*made)(void *, const struct error *) = m->made;
    void *whose = m->arg;
    struct error err = m->err;
    permits_make_stop(m);
    made(whose, err.kind == ERR_NONE ? NULL : &err);
}

/* On a turn of its own: callbacks never come from inside a call. */
static void end(struct permits_make *m, const struct error *err)
{
    char name[600];
    if (err != NULL) {
        m->err = *err;
        error_prefix(&m->err, "the table of permits %s cannot be made", bq_ref_text(&m->table, name, sizeof(name)));
    }
    timer_set(m->end, 0);
}

static bool there(const struct permits_make *m, int slot)
{
    for (size_t i = 0; i < m->rows.count; i++)
        if (m->rows.v[i].slot == slot)
            return true;
    return false;
}

static void fill(struct permits_make *);

static void on_filled(void *arg, const struct bq_job_result *r)
{
    struct permits_make *m = arg;
    m->job = NULL;
    doc_free(m->configuration);
    m->configuration = NULL;
    if (r->err != NULL && r->decided && !r->ours && strcmp(r->err->reason, "foreignJob") != 0) { /* it failed for others, when that was not to be mended */
        m->first_try = r->tries;
        fill(m);
        return;
    }
    if (r->err != NULL) {
        end(m, r->err);
        return;
    }
    m->first_try = 0;
    m->slot++;
    fill(m);
}

static void fill(struct permits_make *m)
{
    while (m->slot < m->slots && there(m, m->slot))
        m->slot++;
    if (m->slot == m->slots) {
        end(m, NULL);
        return;
    }
    /* The first token differs from table to table, so that takes of one that was dropped are not taken for takes of this one. */
    snprintf(m->media, sizeof(m->media), "{\"slot\":%d,\"holder\":\"\",\"token\":\"new%" PRId64 "\",\"expires\":\"1970-01-01T00:00:00Z\",\"job\":\"\",\"purpose\":\"\"}\n",
             m->slot, m->created_ms);
    m->slice = (struct http_slice){m->media, strlen(m->media)};
    char base[PERMIT_BASE_SIZE], created[24], digest[65];
    snprintf(created, sizeof(created), "%" PRId64, m->created_ms);
    permits_job_base(base, "row", &m->table, m->slot, created, -1);
    sha256_hex(m->media, strlen(m->media), digest);
    digest[40] = '\0';
    m->configuration = bq_load_config(&m->table);
    struct bq_label label = {"bqfleet_kind", "permit"};
    struct bq_job_spec spec = {.id_base = base, .location = m->location[0] ? m->location : NULL, .configuration = m->configuration, .labels = &label,
                               .label_count = 1, .digest = digest, .media = &m->slice, .media_count = 1, .first_try = m->first_try, .max_tries = m->first_try + ROW_TRIES};
    m->job = bq_job_start(m->bq, &spec, on_filled, m);
}

static void on_table(void *arg, struct bq_table *t, const struct error *err)
{
    struct permits_make *m = arg;
    m->call = NULL;
    if (err != NULL) {
        end(m, err);
        return;
    }
    m->created_ms = t->created_ms;
    fill(m);
}

static void on_created(void *arg, const struct bq_answer *a)
{
    struct permits_make *m = arg;
    m->call = NULL;
    if (a->err != NULL && a->err->code != 409)
        end(m, a->err);
    else
        look(m);
}

static void create(struct permits_make *m)
{
    static const char schema_text[] =
        "{\"fields\":[{\"name\":\"slot\",\"type\":\"INT64\",\"mode\":\"REQUIRED\"},{\"name\":\"holder\",\"type\":\"STRING\"},"
        "{\"name\":\"token\",\"type\":\"STRING\"},{\"name\":\"expires\",\"type\":\"TIMESTAMP\"},{\"name\":\"job\",\"type\":\"STRING\"},"
        "{\"name\":\"purpose\",\"type\":\"STRING\"}]}";
    static const char partitioning_text[] =
        "{\"rangePartitioning\":{\"field\":\"slot\",\"range\":{\"start\":\"0\",\"end\":\"1000\",\"interval\":\"1\"}}}";
    struct error err = ERROR_INIT;
    AUTO(doc_free_auto) doc *schema = doc_parse(schema_text, sizeof(schema_text) - 1, "schema", &err);
    AUTO(doc_free_auto) doc *partitioning = doc_parse(partitioning_text, sizeof(partitioning_text) - 1, "partitioning", &err);
    m->created = true;
    struct bq_table_new n = {.ref = &m->table, .schema = schema, .partitioning = partitioning,
                             .description = "Who may run a mutating statement on a table just now. Its rows are kept by bqfleet; see bqfleet permits."};
    m->call = bq_table_create(m->bq, &n, on_created, m);
}

static void on_rows(void *arg, const struct bq_answer *a)
{
    struct permits_make *m = arg;
    struct error err = ERROR_INIT;
    m->call = NULL;
    if (permits_rows(a, &m->rows, &err) != 0) {
        end(m, &err);
    } else if (!m->rows.absent) {
        m->call = bq_table_get(m->bq, &m->table, on_table, m);
    } else if (m->created) {
        error_set(&err, ERR_RETRY, 404, "it was created and is not found");
        end(m, &err);
    } else {
        create(m);
    }
}

static void look(struct permits_make *m)
{
    m->call = permits_read(m->bq, &m->table, on_rows, m);
}

struct permits_make *permits_make_start(struct bq *bq, const struct bq_ref *table, const char *location, int slots, void (*made)(void *, const struct error *),
                                        void *arg)
{
    struct permits_make *m = xcalloc(1, sizeof(*m));
    *m = (struct permits_make){.bq = bq, .table = *table, .slots = slots, .made = made, .arg = arg};
    snprintf(m->location, sizeof(m->location), "%s", location ? location : "");
    m->end = timer_new(bq_loop(bq), on_end, m);
    look(m);
    return m;
}

void permits_make_stop(struct permits_make *m)
{
    if (m == NULL)
        return;
    bq_call_cancel(m->call);
    bq_job_stop(m->job, false);
    timer_free(m->end);
    doc_free(m->configuration);
    free(m);
}
