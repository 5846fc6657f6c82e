#include "common/fleet/foldshards.h"

/*
 * For each folded table: make it, then run its job. What can go wrong between coordinators A and B:
 *   1. Both make the table: one gets 409. Both insert the job: one gets 409 and reads the other's. Its rows are in it once.
 *   2. A dies at any point: B does the same steps and finds them done.
 *   3. B was away until A wrote the outcome and dropped the tables, and makes one anew: it stays empty, its job being done, and fails B's statement, whose
 *      id is A's anyhow. B's own clean-up drops it, or its expiry.
 *   4. A statement fails for good: its giving up is a job, so nobody will fill that table, and the cut can be given up.
 */
enum { AT_ONCE = 4 };

struct one { struct foldshards *all; const struct cut_fold *fold; struct bq_call *call; struct bq_job *job; };

struct foldshards {
    struct world world;
    const struct record *record;
    struct one *ones; size_t count;
    size_t next, running, done;
    size_t shards;
    doc *schema;
    foldshards_cb *cb;
    void *arg;
};

static void more(struct foldshards *f);

static void on_job(void *arg, const struct bq_job_result *r)
{
    struct one *o = arg;
    struct foldshards *f = o->all;
    o->job = NULL;
    f->running--;
    if (r->err != NULL) {
        f->cb(f->arg, r->err, r->decided);
        return;
    }
    f->done++;
    more(f);
}

static void run(struct one *o)
{
    const struct record *r = o->all->record;
    struct bq_label labels[] = {{"bqfleet_run", r->run}, {"bqfleet_kind", "fold"}};
    AUTO(free_ptr) char *sql = xstrndup(o->fold->sql.data, o->fold->sql.len);
    AUTO(doc_free_auto) doc *configuration = bq_query_config(sql, doc_ref(o->fold->params), r->max_bytes_billed);
    struct bq_job_spec spec = {.id_base = o->fold->base, .location = r->location[0] ? r->location : NULL, .configuration = configuration,
                               .labels = labels, .label_count = ARRAY_LEN(labels), .digest = o->fold->digest, .not_before_ms = r->created_ms,
                               .give_up_by_job = true};
    o->job = bq_job_start(o->all->world.bq, &spec, on_job, o);
}

static void on_table(void *arg, const struct bq_answer *a)
{
    struct one *o = arg;
    struct foldshards *f = o->all;
    o->call = NULL;
    if (a->err != NULL && a->err->code != 409) {
        f->cb(f->arg, a->err, false);
        return;
    }
    run(o);
}

static void create(struct one *o)
{
    struct foldshards *f = o->all;
    struct bq_label labels[STAGING_LABELS];
    record_staging_labels(f->record, labels);
    struct bq_table_new t = {.ref = &o->fold->into, .schema = f->schema, .expires_ms = loop_wall_ms(f->world.loop) + EXPIRY_STAGING,
                             .labels = labels, .label_count = STAGING_LABELS, .description = "Folded staging tables of a bqfleet run; goes away by itself."};
    o->call = bq_table_create(f->world.bq, &t, on_table, o);
}

static void more(struct foldshards *f)
{
    while (f->next < f->count && f->running < AT_ONCE) {
        f->running++;
        create(&f->ones[f->next++]);
    }
    if (f->done == f->count)
        f->cb(f->arg, NULL, false);
}

struct foldshards *foldshards_start(const struct world *world, const struct record *r, const struct cut_text *t, foldshards_cb *cb, void *arg)
{
    struct foldshards *f = xcalloc(1, sizeof(*f));
    *f = (struct foldshards){.world = *world, .record = r, .count = t->fold_count, .schema = record_shard_schema(r), .cb = cb, .arg = arg};
    assert(f->count > 0);
    f->ones = xcalloc(f->count, sizeof(*f->ones));
    for (size_t i = 0; i < f->count; i++) {
        f->ones[i] = (struct one){.all = f, .fold = &t->folds[i]};
        f->shards += t->folds[i].shards;
    }
    more(f);
    return f;
}

void foldshards_stop(struct foldshards *f)
{
    if (f == NULL)
        return;
    for (size_t i = 0; i < f->count; i++) {
        bq_call_cancel(f->ones[i].call);
        bq_job_stop(f->ones[i].job, false);
    }
    free(f->ones);
    doc_free(f->schema);
    free(f);
}

const char *foldshards_state(const struct foldshards *f, char *out, size_t size)
{
    snprintf(out, size, "consolidation: folding %zu staging tables into %zu, of which %zu are done", f->shards, f->count, f->done);
    return out;
}
