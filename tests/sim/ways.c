#include "tests/sim/ways.h"

#include "common/fleet/worker_tables.h"
#include "coordinator/plan_view.h"
#include "tests/bq/internal.h"
#include "tests/sim/check.h"

/* --- drawing ------------------------------------------------------------------------------------------------------------------------------------------- */

static double real(struct rnd *r)
{
    return rnd_real(r);
}

static bool chance(struct rnd *r, double p)
{
    return real(r) < p;
}

static enum parts_kind any_parts(struct rnd *r)
{
    return (enum parts_kind)(PARTS_DAY + (int)rnd_below(r, PARTS_RANGE));
}

static void draw_tables(struct rnd *r, struct batch_plan *b)
{
    static const int64_t everies_ms[] = {1000, 2000, 5000, 10000, 60000};
    b->via = VIA_WORKER_TABLES;
    b->mode = chance(r, .6) ? WRITE_MERGE : WRITE_APPEND;
    b->keys = b->mode == WRITE_MERGE && chance(r, .5) ? KEYS_SHARED : KEYS_OWN;
    b->order = b->mode == WRITE_MERGE && chance(r, .4);
    b->second_key = b->mode == WRITE_MERGE && chance(r, .25);
    b->null_keys = b->second_key ? NULL_KEYS_EQUAL : NULL_KEYS_REFUSE;
    b->insert_only = false;
    b->permits = 0;
    b->every_ms = b->items > 2000 ? 60000 : everies_ms[rnd_below(r, ARRAY_LEN(everies_ms))];
    b->parts = chance(r, .25) ? any_parts(r) : PARTS_NONE;
}

static void draw_replaced(struct rnd *r, struct batch_plan *b)
{
    b->via = VIA_STAGING;
    b->mode = WRITE_REPLACE_PARTITIONS;
    b->keyed = chance(r, .4);
    b->keys = b->keyed && chance(r, .6) ? KEYS_SHARED : KEYS_OWN;
    b->order = b->keyed && chance(r, .4);
    b->second_key = b->insert_only = false;
    b->null_keys = NULL_KEYS_REFUSE;
    b->permits = 1;
    b->every_ms = 0;
    b->parts = any_parts(r);
}

static void draw_nothing(struct batch_plan *b)
{
    b->via = VIA_STAGING;
    b->mode = WRITE_NONE;
    b->keys = KEYS_OWN;
    b->order = b->second_key = b->insert_only = false;
    b->null_keys = NULL_KEYS_REFUSE;
    b->permits = 0;
}

/* As the one before writes, and into the same target. */
static void share(struct batch_plan *b, struct batch_plan *with)
{
    if (with->mode != WRITE_APPEND && !way_shows(with)) /* two merges that only insert never conflict, and would insert one key twice */
        with->permits = 1;
    memcpy(b->target, with->target, sizeof(b->target));
    b->via = with->via;
    b->mode = with->mode;
    b->keyed = with->keyed;
    b->keys = with->keys;
    b->order = with->order;
    b->second_key = with->second_key;
    b->insert_only = with->insert_only;
    b->null_keys = with->null_keys;
    b->permits = with->permits;
    b->every_ms = with->every_ms;
    b->parts = with->parts;
}

void ways_draw(struct plan *p)
{
    struct rnd r;
    if (p->seed % 4 != 1)
        return;
    rnd_seeded(&r, p->seed ^ UINT64_C(0x94d049bb133111eb));
    for (int i = 0; i < p->batch_count; i++) {
        struct batch_plan *b = &p->batches[i], *before = i > 0 ? b - 1 : NULL;
        double way = real(&r);
        if (before != NULL && (before->parts != PARTS_NONE || way_shows(before)) && chance(&r, .5))
            share(b, before);
        else if (way < .5)
            draw_tables(&r, b);
        else if (way < .75)
            draw_replaced(&r, b);
        else if (way < .83)
            draw_nothing(b);
        else
            b->parts = any_parts(&r);
    }
    if (p->quiet || !way_shows(&p->batches[0]) || p->batches[0].items > 100 || !chance(&r, .12))
        return;
    p->calm_ms = WAYS_LONG_MS + 300000;
    double *const rates[] = {&p->kills, &p->pauses, &p->cuts, &p->expels, &p->skews, &p->service, &p->steers, &p->drops, &p->replaces};
    for (size_t i = 0; i < ARRAY_LEN(rates); i++) /* else nothing is left to be refused by then */
        *rates[i] *= .1;
}

static const char *const parts_names[] = {"", "day", "month", "hour", "year", "range"};

void ways_text(const struct plan *p, struct buf *out)
{
    for (int i = 0; i < p->batch_count; i++) {
        const struct batch_plan *b = &p->batches[i];
        if (way_shows(b) || b->parts != PARTS_NONE || b->mode == WRITE_NONE)
            buf_xprintf(out, "\n  %s writes into %s: %s%s%s, partitions: %s", b->name, b->target, write_mode_name(b->mode), way_shows(b) ? " in worker tables" : "",
                        b->keyed ? ", keyed" : "", parts_names[b->parts]);
    }
}

/* --- partitions -------------------------------------------------------------------------------------------------------------------------------------------- */

/* Two values in each of four partitions, mostly, and some rows without any. */
void ways_place(const struct batch_plan *b, uint64_t lot, struct row_fact *f)
{
    uint64_t key = UINT64_C(14695981039346656037); /* of its key, so that in replaced partitions rows of one key lie in one */
    for (const char *c = f->key; *c; c++)
        key = (key ^ (unsigned char)*c) * UINT64_C(1099511628211);
    int j = (int)((key >> 20) % 8);
    bool may_be_null = b->mode != WRITE_MERGE || way_shows(b) || b->null_keys != NULL_KEYS_REFUSE;
    f->part[0] = '\0';
    f->place = -1;
    if (b->parts == PARTS_NONE || (may_be_null && (key >> 40) % 8 == 0))
        return;
    if (b->mode == WRITE_MERGE && (lot >> 50) % 4 == 0) /* a row of the same key, but for this column */
        j ^= 1;
    f->place = j / 2;
    switch (b->parts) {
    case PARTS_NONE: break;
    case PARTS_DAY: snprintf(f->part, sizeof(f->part), "2026-02-%02d", 1 + j / 2); break;
    case PARTS_MONTH: snprintf(f->part, sizeof(f->part), "2026-%02d-%02d", 1 + j / 2, 5 + 10 * (j % 2)); break;
    case PARTS_HOUR: snprintf(f->part, sizeof(f->part), "2026-02-03T%02d:%02d:00Z", j / 2, 30 * (j % 2)); break;
    case PARTS_YEAR: snprintf(f->part, sizeof(f->part), "%d-03-04T05:00:0%d", 2020 + j / 2, j % 2); break;
    case PARTS_RANGE: snprintf(f->part, sizeof(f->part), "%d", j == 7 ? 1000 : j == 6 ? -7 : j / 2 * 10 + j % 2 * 5); break; /* the last two in no range */
    }
}

static const enum field_type part_types[] = {FIELD_STRING, FIELD_DATE, FIELD_DATE, FIELD_TIMESTAMP, FIELD_DATETIME, FIELD_INT64};
static const char *const part_units[] = {"", "DAY", "MONTH", "HOUR", "YEAR", ""};
enum { RANGE_END = 30, RANGE_STEP = 10 };

/* As tables.insert takes it; NULL: there are no partitions. */
static doc *layout_of(const struct batch_plan *b)
{
    doc *out = doc_object();
    if (b->parts == PARTS_NONE)
        return out;
    if (b->parts != PARTS_RANGE)
        return doc_set(out, "timePartitioning", doc_set_str(doc_set_str(doc_object(), "type", part_units[b->parts]), "field", "d"));
    doc *range = doc_set_str(doc_set_str(doc_set_str(doc_object(), "start", "0"), "end", "30"), "interval", "10");
    return doc_set(out, "rangePartitioning", doc_set(doc_set_str(doc_object(), "field", "d"), "range", range));
}

/* --- records ------------------------------------------------------------------------------------------------------------------------------------------------- */

static char **list(const char *a, const char *b, const char *c)
{
    const char *const all[] = {a, b, c};
    char **v = xcalloc(4, sizeof(*v));
    size_t n = 0;
    for (size_t i = 0; i < 3; i++)
        if (all[i] != NULL)
            v[n++] = xstrdup(all[i]);
    return v;
}

static size_t count_of(char *const *v)
{
    size_t n = 0;
    while (v && v[n])
        n++;
    return n;
}

static void set_schema(struct record *r, const struct batch_plan *b)
{
    static const char columns[] = "k:STRING REQUIRED, q:STRING, r:INT64, i:INT64, n:INT64, v:INT64, o:INT64, c:INT64, s:STRING";
    struct error err = ERROR_INIT;
    char text[256];
    snprintf(text, sizeof(text), "%s%s%s", columns, b->parts ? ", d:" : "", b->parts ? field_type_name(part_types[b->parts]) : "");
    r->schema_doc = doc_set(doc_object(), "fields", doc_string(text));
    r->schema = schema_parse(r->schema_doc, &err);
    doc_free(r->schema_doc);
    r->schema_doc = schema_to_doc(r->schema);
}

static void set_parts(struct record *r, const struct batch_plan *b)
{
    if (way_shows(b)) {
        r->layout = layout_of(b);
    } else if (b->parts != PARTS_NONE && (b->mode == WRITE_MERGE || b->mode == WRITE_REPLACE_PARTITIONS)) {
        struct error err = ERROR_INIT;
        snprintf(r->partition_column, sizeof(r->partition_column), "d");
        if (b->mode == WRITE_REPLACE_PARTITIONS)
            partition_make(r->schema, b->parts == PARTS_RANGE ? PART_RANGE : PART_TIME, "d", part_units[b->parts], 0, RANGE_END, RANGE_STEP, &r->partition, &err);
    }
}

struct record *ways_record(const struct batch_plan *b, const char *run)
{
    struct error err = ERROR_INIT;
    struct record *r = xcalloc(1, sizeof(*r));
    snprintf(r->run, sizeof(r->run), "%s", run);
    snprintf(r->batch, sizeof(r->batch), "%s", b->name);
    snprintf(r->queue, sizeof(r->queue), SIM_QUEUE);
    snprintf(r->handler, sizeof(r->handler), "h");
    snprintf(r->project, sizeof(r->project), "local");
    r->timeout_ms = b->timeout_ms;
    r->attempts = b->attempts;
    r->mode = b->mode;
    r->via = b->via;
    r->every_ms = b->every_ms;
    r->parallel = b->parallel;
    r->finish = (struct fold_config){.tolerate_count = b->tolerate_count, .tolerate_percent = b->tolerate_percent, .stop_after = b->stop_after};
    if (b->mode == WRITE_NONE)
        return r;
    snprintf(r->staging_project, sizeof(r->staging_project), "local");
    snprintf(r->staging_dataset, sizeof(r->staging_dataset), "ds");
    r->has_target = true;
    bq_ref_parse(b->target, "local", &r->target, &err);
    set_schema(r, b);
    r->keys = way_keyed(b) ? list("k", b->second_key ? "q" : NULL, b->mode == WRITE_MERGE && !way_shows(b) && b->parts ? "d" : NULL) : NULL;
    r->key_count = count_of(r->keys);
    r->null_keys = b->null_keys;
    r->order_by = b->order ? list("o", NULL, NULL) : NULL;
    r->order_count = b->order ? 1 : 0;
    r->insert_only = b->insert_only ? list("c", NULL, NULL) : NULL;
    r->insert_only_count = b->insert_only ? 1 : 0;
    r->permits = b->permits;
    set_parts(r, b);
    return r;
}

/* --- targets ------------------------------------------------------------------------------------------------------------------------------------------------- */

bool ways_is_first(const struct sim *s, const struct batch_plan *b)
{
    for (const struct batch_plan *x = s->plan.batches; x < b; x++)
        if (strcmp(x->target, b->target) == 0)
            return false;
    return true;
}

static bool same_key(const struct batch_plan *b, const struct row_fact *x, const struct row_fact *y)
{
    bool by_part = b->parts != PARTS_NONE && !way_shows(b);
    return strcmp(x->key, y->key) == 0 && strcmp(x->second, y->second) == 0 && (!by_part || strcmp(x->part, y->part) == 0);
}

static void old_facts(const struct sim *s, const struct batch_plan *b, int64_t at, struct row_fact *f)
{
    row_facts(s, b, at / 2, at % 2, f); /* a run's rows meet these, where they merge */
    if (b->mode == WRITE_MERGE && at < WAYS_OLD_ROWS / 2) {
        f->order = at % 3 == 0 ? 3 : INT64_MIN;
        return;
    }
    snprintf(f->key, sizeof(f->key), "old.%" PRId64, at);
    ways_place(b, 0, f);
}

bool ways_old_row(const struct sim *s, const struct batch_plan *b, int64_t at, struct row_fact *f)
{
    struct row_fact before;
    if (!way_shows(b) && (b->parts == PARTS_NONE || b->mode == WRITE_REPLACE || b->mode == WRITE_NONE))
        return false;
    old_facts(s, b, at, f);
    for (int64_t i = 0; i < at && b->mode == WRITE_MERGE; i++) {
        old_facts(s, b, i, &before);
        if (same_key(b, &before, f))
            return false;
    }
    return true;
}

static void insert_old(struct sim *s, const struct batch_plan *b, const char *table)
{
    struct buf rows = BUF_INIT(1 << 16);
    struct row_fact f;
    for (int64_t at = 0; at < WAYS_OLD_ROWS; at++) {
        if (!ways_old_row(s, b, at, &f))
            continue;
        buf_xprintf(&rows, "%s{\"k\":\"%s\",\"r\":-1,\"i\":%" PRId64 ",\"n\":0,\"v\":-1,\"c\":-1", rows.len > 0 ? "," : "[", f.key, at);
        if (f.second[0])
            buf_xprintf(&rows, ",\"q\":\"%s\"", f.second);
        if (f.order != INT64_MIN)
            buf_xprintf(&rows, ",\"o\":%" PRId64, f.order);
        if (f.part[0])
            buf_xprintf(&rows, b->parts == PARTS_RANGE ? ",\"d\":%s" : ",\"d\":\"%s\"", f.part);
        buf_xputs(&rows, "}");
    }
    if (rows.len > 0) {
        buf_xputs(&rows, "]");
        bqmodel_insert(s->model, table, rows.data);
    }
    buf_free(&rows);
}

struct made { bool done; struct error err; };

static void on_made(void *arg, struct bq_table *table, const struct error *err)
{
    struct made *m = arg;
    (void)table;
    *m = (struct made){true, err ? *err : ERROR_INIT};
}

static bool is_made(void *arg)
{
    return ((struct made *)arg)->done;
}

/* As the plan of the first run makes them, while nothing goes wrong. */
static void make_view(struct sim *s, const struct batch_plan *b)
{
    struct rnd rnd, *chaos = bqmodel_options(s->model)->chaos.rnd;
    struct made made = {.done = false};
    struct bq_ref base;
    struct record *r = ways_record(b, "first");
    char name[640], suffix[BASE_SUFFIX_SIZE];
    rnd_seeded(&rnd, s->plan.seed);
    bqmodel_options(s->model)->chaos.rnd = NULL;
    bqmodel_add_dataset(s->model, "ds");
    struct world w = {.loop = s->loop, .rnd = &rnd, .prefix = SIM_PREFIX};
    w.bq = bq_new(&(struct bq_options){.loop = s->loop, .http = bqmodel_http(s->model), .auth = s->auth, .rnd = &rnd, .base_url = "http://model", .project = "local"});
    struct plan_view *v = plan_view_make(&w, r, on_made, &made);
    loop_until(s->loop, is_made, &made, 600 * US_PER_S);
    if (!made.done || made.err.kind != ERR_NONE)
        sim_violated(s, INV_CRASH, "the view %s cannot be made: %s", b->target, made.err.text);
    plan_view_stop(v);
    bq_free(w.bq);
    bqmodel_options(s->model)->chaos.rnd = chaos;
    tables_base_first(suffix, r);
    tables_base_ref(r, suffix, &base);
    insert_old(s, b, bq_ref_text(&base, name, sizeof(name)));
    record_free(r);
}

static void make_table(struct sim *s, const struct batch_plan *b)
{
    struct error err = ERROR_INIT;
    struct record *r = ways_record(b, "first");
    AUTO(doc_free_auto) doc *body = layout_of(b);
    doc_set(body, "schema", doc_copy(r->schema_doc));
    bqmodel_add_dataset(s->model, "ds");
    struct mtable *t = model_table_add(s->model, &r->target, body, &err);
    assert(t != NULL);
    (void)t;
    insert_old(s, b, b->target);
    record_free(r);
}

void ways_make_targets(struct sim *s)
{
    for (int i = 0; i < s->plan.batch_count; i++) {
        const struct batch_plan *b = &s->plan.batches[i];
        if (b->mode == WRITE_NONE || !ways_is_first(s, b))
            continue;
        if (way_shows(b))
            make_view(s, b);
        else
            make_table(s, b);
    }
}
