#include "common/fleet/side.h"

#include "common/base/log.h"

struct side {
    struct world world;
    const struct record *record;
    const struct cut_text *text;
    bool full;               /* they did not fit: told on the next turn */
    struct buf rows;
    char digest[65];
    struct http_slice slice;
    struct bq_call *call;
    struct bq_job *job;
    struct timer *timer;
    side_cb *cb;
    void *arg;
};

static int add_row(struct buf *rows, const char *kind, const char *load, int64_t number)
{
    return buf_printf(rows, "{\"kind\":\"%s\",\"load\":\"%s\",\"number\":\"%" PRId64 "\"}\n", kind, load, number);
}

static int add_rows_of(struct buf *rows, const struct cut_of *of, const struct cut_part *part)
{
    const struct fold *f = part->fold;
    for (size_t i = 0; i < f->load_count; i++) {
        const struct fold_load *l = &f->loads[i];
        char name[CUT_LOAD_SIZE];
        if (!cut_part_has(part, l))
            continue;
        cut_load_name(name, of, part, l);
        if (add_row(rows, "load", name, l->rows) != 0)
            return -1;
        for (size_t x = 0; x < l->exclusion_count; x++)
            if (add_row(rows, "exclusion", name, f->exclusions[l->first_exclusion + x].item) != 0)
                return -1;
    }
    return 0;
}

int side_rows(const struct cut_of *of, struct buf *rows)
{
    for (size_t k = 0; k <= of->adopted_count; k++) {
        struct cut_part part = cut_part(of, k);
        if (add_rows_of(rows, of, &part) != 0)
            return -1;
    }
    return 0;
}

static void on_job(void *arg, const struct bq_job_result *r)
{
    struct side *s = arg;
    s->job = NULL;
    s->cb(s->arg, r->err, r->decided);
}

static void load(struct side *s)
{
    struct bq_label labels[] = {{"bqfleet_run", s->record->run}, {"bqfleet_kind", "side"}};
    AUTO(doc_free_auto) doc *configuration = bq_load_config(&s->text->side);
    s->slice = (struct http_slice){.data = s->rows.data, .len = s->rows.len};
    struct bq_job_spec spec = {.id_base = s->text->side_base, .location = s->record->location[0] ? s->record->location : NULL, .configuration = configuration,
                               .labels = labels, .label_count = ARRAY_LEN(labels), .digest = s->digest,
                               .not_before_ms = s->record->created_ms, .media = &s->slice, .media_count = 1};
    s->job = bq_job_start(s->world.bq, &spec, on_job, s);
}

static void on_table(void *arg, const struct bq_answer *a)
{
    struct side *s = arg;
    s->call = NULL;
    if (a->err != NULL && a->err->code != 409) {
        s->cb(s->arg, a->err, false);
        return;
    }
    load(s);
}

struct bq_call *side_table(const struct world *w, const struct record *r, const struct bq_ref *ref, int64_t expires_ms, bq_cb *cb, void *arg)
{
    static const char *const columns[][2] = {{"kind", "STRING"}, {"load", "STRING"}, {"number", "INT64"}};
    doc *fields = doc_array();
    for (size_t i = 0; i < ARRAY_LEN(columns); i++)
        doc_add(fields, doc_set_str(doc_set_str(doc_object(), "name", columns[i][0]), "type", columns[i][1]));
    AUTO(doc_free_auto) doc *schema = doc_set(doc_object(), "fields", fields);
    struct bq_label labels[STAGING_LABELS];
    record_staging_labels(r, labels);
    struct bq_table_new t = {.ref = ref, .schema = schema, .expires_ms = expires_ms, .labels = labels, .label_count = STAGING_LABELS,
                             .description = "Loads and exclusions of a bqfleet run"};
    return bq_table_create(w->bq, &t, cb, arg);
}

static void create(struct side *s)
{
    s->call = side_table(&s->world, s->record, &s->text->side, loop_wall_ms(s->world.loop) + EXPIRY_STAGING, on_table, s);
}

static void too_many(void *arg)
{
    struct side *s = arg;
    struct error err;
    error_set(&err, ERR_FATAL, 0, "the cut's loads and exclusions need more than %d bytes", LIMIT_SIDE_BYTES);
    s->cb(s->arg, &err, true);
}

struct side *side_new(const struct world *world, const struct cut_of *of, const struct cut_text *text, side_cb *cb, void *arg)
{
    struct side *s = xcalloc(1, sizeof(*s));
    *s = (struct side){.world = *world, .record = of->record, .text = text, .rows = BUF_INIT(LIMIT_SIDE_BYTES), .cb = cb, .arg = arg};
    s->timer = timer_new(world->loop, too_many, s);
    s->full = side_rows(of, &s->rows) != 0;
    sha256_hex(s->rows.data, s->rows.len, s->digest);
    s->digest[40] = '\0';
    return s;
}

void side_write(struct side *s)
{
    if (s->full)
        timer_set(s->timer, 0);
    else
        create(s);
}

void side_stop(struct side *s)
{
    if (s == NULL)
        return;
    bq_call_cancel(s->call);
    bq_job_stop(s->job, false);
    timer_free(s->timer);
    buf_free(&s->rows);
    free(s);
}
