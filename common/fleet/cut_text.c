#include "common/fleet/cut_internal.h"

struct cut_part cut_part(const struct cut_of *of, size_t i)
{
    int age = (int)(of->adopted_count - i);
    int64_t cut = of->cut - of->fold->cuts;
    if (i == 0)
        return (struct cut_part){.record = of->record, .fold = of->fold, .from = of->shown && of->shown->compacts ? of->shown->from : cut, .cut = cut, .age = age};
    return (struct cut_part){.record = of->adopted[i - 1].record, .fold = of->adopted[i - 1].fold, .from = LOAD_UNCUT, .cut = LOAD_UNCUT, .age = age};
}

bool cut_part_has(const struct cut_part *p, const struct fold_load *l)
{
    return l->cut == p->cut || (l->cut >= p->from && l->cut < p->cut && p->fold->cuts[l->cut].state == CUT_DONE);
}

static const char *shard_of(const struct cut_of *of)
{
    return of->cut->shard < 0 ? "" : of->fold->shards[of->cut->shard].incarnation;
}

void cut_job_base(char out[JOB_BASE_SIZE], const struct cut_of *of)
{
    if (of->shown && of->shown->ends)
        job_base_end(out, of->record->run);
    else if (of->cut->shard < 0)
        job_base_cut(out, of->record->run, of->cut->number);
    else
        job_base_shard_cut(out, of->record->run, shard_of(of), of->cut->number);
}

void cut_purpose(char out[CUT_PURPOSE_SIZE], const struct record *r, const char *shard, int64_t cut)
{
    snprintf(out, CUT_PURPOSE_SIZE, "cut %" PRId64 "%s%s of run %s", cut, shard[0] ? " of shard " : "", shard, r->run);
}

void cut_load_name(char out[CUT_LOAD_SIZE], const struct cut_of *of, const struct cut_part *part, const struct fold_load *l)
{
    if (of->adopted_count == 0)
        snprintf(out, CUT_LOAD_SIZE, "%s", l->id);
    else
        snprintf(out, CUT_LOAD_SIZE, "%d/%s", part->age, l->id);
}

static void gathered_free(struct cut_gathered *g)
{
    free(g->loads);
    free(g->ids);
    free(g->exclusions);
    free(g->shards);
    free(g->ages);
    free(g->names);
}

static void widen(struct cut_gathered *g, const struct fold_load *l)
{
    g->placed = g->placed && (l->has_range || l->range_null);
    g->range_null = g->range_null || l->range_null;
    if (!l->has_range)
        return;
    g->has_range = true;
    g->lo = i64_min(g->lo, l->range_lo);
    g->hi = i64_max(g->hi, l->range_hi);
}

static void gather_load(struct cut_gathered *g, const struct cut_of *of, const struct cut_part *part, const struct fold_load *l, int shard)
{
    const struct fold *f = part->fold;
    char *name = g->names[g->load_count];
    cut_load_name(name, of, part, l);
    g->ids[g->load_count] = l->id;
    g->rows += l->cut == part->cut ? l->rows : 0;
    g->loads[g->load_count++] = (struct sql_load){.id = name, .rows = l->rows, .shard = shard};
    for (size_t x = 0; x < l->exclusion_count; x++)
        g->exclusions[g->exclusion_count++] = (struct sql_exclusion){.load = name, .item = f->exclusions[l->first_exclusion + x].item};
    widen(g, l);
}

static void gather_part(struct cut_gathered *g, const struct cut_of *of, const struct cut_part *part)
{
    const struct fold *f = part->fold;
    AUTO(free_ptr) int *place = xcalloc(f->shard_count + 1, sizeof(*place)); /* of a shard among those used, plus one */
    for (size_t i = 0; i < f->load_count; i++) {
        const struct fold_load *l = &f->loads[i];
        if (!cut_part_has(part, l))
            continue;
        if (place[l->shard] == 0) {
            record_shard_ref(part->record, f->shards[l->shard].incarnation, &g->shards[g->shard_count]);
            g->ages[g->shard_count] = part->age;
            place[l->shard] = (int)++g->shard_count;
        }
        gather_load(g, of, part, l, place[l->shard] - 1);
    }
}

/* In the logs' order, so that every coordinator makes the same text. */
static void gather(struct cut_gathered *g, const struct cut_of *of)
{
    *g = (struct cut_gathered){.placed = of->record->partition_column[0] != '\0', .lo = INT64_MAX, .hi = INT64_MIN};
    size_t loads = 0, exclusions = 0, shards = 0;
    for (size_t k = 0; k <= of->adopted_count; k++) {
        struct cut_part part = cut_part(of, k);
        loads += part.fold->load_count;
        exclusions += part.fold->exclusion_count;
        shards += part.fold->shard_count;
    }
    g->loads = xcalloc(loads + 1, sizeof(*g->loads));
    g->ids = xcalloc(loads + 1, sizeof(*g->ids));
    g->names = xcalloc(loads + 1, sizeof(*g->names));
    g->exclusions = xcalloc(exclusions + 1, sizeof(*g->exclusions));
    g->shards = xcalloc(shards + 1, sizeof(*g->shards));
    g->ages = xcalloc(shards + 1, sizeof(*g->ages));
    for (size_t k = 0; k <= of->adopted_count; k++) {
        struct cut_part part = cut_part(of, k);
        gather_part(g, of, &part);
    }
}

/* --- digests ------------------------------------------------------------------------------------------------------------------------------ */

enum { DIGEST_PIECE = 64 * 1024 };

/* What is gathered so far becomes its own digest, so that a million exclusions need no copy of them all. */
static void condense(struct buf *b)
{
    char hex[65];
    sha256_hex(b->data, b->len, hex);
    buf_clear(b);
    buf_xputs(b, hex);
}

void cut_digest_add(struct cut_digest *d, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *text = NULL;
    if (vasprintf(&text, fmt, ap) < 0)
        abort();
    va_end(ap);
    buf_xputs(&d->b, text);
    free(text);
    if (d->b.len > DIGEST_PIECE)
        condense(&d->b);
}

void cut_digest_end(struct cut_digest *d, char out[41])
{
    condense(&d->b);
    memcpy(out, d->b.data, 40);
    out[40] = '\0';
    buf_free(&d->b);
}

static void add_names(struct cut_digest *d, const char *what, char *const *names, size_t count)
{
    cut_digest_add(d, "%s", what);
    for (size_t i = 0; i < count; i++)
        cut_digest_add(d, " %s", names[i]);
    cut_digest_add(d, "\n");
}

/* Of what the statement does, not of how it says it: a coordinator of a later version, which may write it otherwise, finds the job of an earlier one and
 * knows it for the same. Taken for somebody else's it would be reported as failed, while its rows arrive. */
static void digest(const struct cut_gathered *g, const struct cut_of *of, struct cut_text *t)
{
    const struct record *r = of->record;
    struct cut_digest d = CUT_DIGEST_INIT;
    char target[1024];
    AUTO(free_ptr) char *schema = r->schema_doc ? doc_text(r->schema_doc) : xstrdup("");
    cut_digest_add(&d, "%s %" PRId64 " %s %s\n", r->run, of->cut->number, write_mode_name(r->mode), bq_ref_text(&r->target, target, sizeof(target)));
    if (of->cut->shard >= 0)
        cut_digest_add(&d, "shard %s\n", shard_of(of));
    if (of->shown) /* the base is not in it: who finds the job may no longer be able to tell which one it was */
        cut_digest_add(&d, "%s\n", !of->shown->compacts ? "listed" : of->shown->ends ? "compacted at the end" : "compacted");
    cut_digest_add(&d, "%s", schema);
    add_names(&d, "\nkeys", r->keys, r->key_count);
    if (r->null_keys != NULL_KEYS_REFUSE)
        cut_digest_add(&d, "null keys %s\n", null_keys_names[r->null_keys]);
    add_names(&d, "order_by", r->order_by, r->order_count);
    add_names(&d, "insert_only", r->insert_only, r->insert_only_count);
    for (size_t i = 0; i < g->load_count; i++)
        cut_digest_add(&d, "load %s %" PRId64 "\n", g->loads[i].id, g->loads[i].rows);
    for (size_t i = 0; i < g->exclusion_count; i++)
        cut_digest_add(&d, "exclusion %s %" PRId64 "\n", g->exclusions[i].load, g->exclusions[i].item);
    cut_digest_end(&d, t->digest);
}

/* --- the statement ---------------------------------------------------------------------------------------------------------------------------- */

static int write_text(const struct cut_gathered *g, const struct cut_of *of, struct cut_text *t, struct error *err)
{
    const struct record *r = of->record;
    struct sql_cut c = {.target = &r->target, .schema = r->schema, .mode = r->mode,
                        .keys = (const char *const *)r->keys, .key_count = r->key_count, .null_keys = r->null_keys,
                        .order_by = (const char *const *)r->order_by, .order_count = r->order_count,
                        .insert_only = (const char *const *)r->insert_only, .insert_only_count = r->insert_only_count,
                        .shards = g->shards, .shard_count = g->shard_count, .ages = of->adopted_count > 0 ? g->ages : NULL,
                        .loads = g->loads, .load_count = g->load_count, .exclusions = g->exclusions, .exclusion_count = g->exclusion_count,
                        .side = t->beside ? &t->side : NULL, .partition_column = r->partition_column[0] ? r->partition_column : NULL,
                        .partition = r->partition.unit != PARTITION_NONE ? &r->partition : NULL,
                        .has_range = g->placed && g->has_range, .range_null = g->placed && g->range_null, .range_lo = g->lo, .range_hi = g->hi};
    struct bq_ref permits;
    record_permits_ref(r, &permits);
    struct sql_fence fence = {.permits = &permits};
    if (of->shown) {
        c.target = &of->shown->into;
        c.base = &of->shown->base;
        c.mode = WRITE_APPEND;
    }
    c.fence = r->permits > 0 ? &fence : NULL;
    t->fenced = c.fence != NULL;
    buf_clear(&t->sql);
    return sql_consolidate(&c, &t->sql, &t->params, err);
}

/* In a shard's place among the run's tables, so that cleaning up finds it. */
static void choose_side(const struct cut_gathered *g, const struct cut_of *of, struct cut_text *t)
{
    char part[INCARNATION_LEN + 1];
    size_t most = of->params_at_once ? of->params_at_once : LIMIT_PARAM_LOADS;
    t->beside = g->load_count > most || g->exclusion_count > most;
    staging_part(part, 's', t->digest);
    record_shard_ref(of->record, part, &t->side);
    job_base_side(t->side_base, of->record->run, of->cut->number, part);
}

static int make(struct cut_gathered *g, const struct cut_of *of, size_t shards_at_once, struct cut_text *t, struct error *err)
{
    const struct record *r = of->record;
    t->rows = g->rows;
    bool empty = g->load_count == 0 && r->mode != WRITE_REPLACE;
    /* Whether a run of increments is whole is told by its last cut's job, to those who have nothing but BigQuery to ask. */
    bool marks = empty && of->cut->last && of->cut->number > 0 && of->shown == NULL;
    if (r->mode == WRITE_NONE || (empty && !marks))
        return 1;
    digest(g, of, t);
    if (marks) {
        sql_nothing(&t->sql);
        return 0;
    }
    if (of->shown && (!of->shown->compacts || of->shown->base.table[0] == '\0'))
        return 0;
    choose_side(g, of, t);
    int rc = -1;
    bool many = g->shard_count > shards_at_once;
    if (!many)
        rc = write_text(g, of, t, err);
    if (!many && (rc == 0 || g->shard_count < 2 || strcmp(err->reason, "sqlTooLong") != 0))
        return rc;
    *err = ERROR_INIT;
    if (cut_folds_make(of, g, shards_at_once, t, err) != 0)
        return -1;
    if (g->shard_count > shards_at_once)
        return error_set(err, ERR_FATAL, 0, "the run's rows lie in more staging tables than can be folded into %zu", shards_at_once);
    return write_text(g, of, t, err);
}

int cut_text_make(const struct cut_of *of, size_t shards_at_once, struct cut_text *t, struct error *err)
{
    *t = (struct cut_text){.sql = BUF_INIT(LIMIT_SQL + 4096)};
    struct cut_gathered g;
    gather(&g, of);
    int rc = make(&g, of, shards_at_once, t, err);
    gathered_free(&g);
    return rc;
}

void cut_text_free(struct cut_text *t)
{
    for (size_t i = 0; i < t->fold_count; i++) {
        buf_free(&t->folds[i].sql);
        doc_free(t->folds[i].params);
    }
    free(t->folds);
    buf_free(&t->sql);
    doc_free(t->params);
    t->params = NULL;
    t->folds = NULL;
    t->fold_count = 0;
}
