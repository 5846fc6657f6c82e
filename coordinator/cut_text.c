#include "coordinator/consolidate.h"

#include "common/base/log.h"

struct cut_part cut_part(const struct cut_of *of, size_t i)
{
    int age = (int)(of->adopted_count - i);
    if (i == 0)
        return (struct cut_part){.record = of->record, .fold = of->fold, .cut = of->cut - of->fold->cuts, .age = age};
    return (struct cut_part){.record = of->adopted[i - 1].record, .fold = of->adopted[i - 1].fold, .cut = LOAD_UNCUT, .age = age};
}

void cut_load_name(char out[CUT_LOAD_SIZE], const struct cut_of *of, const struct cut_part *part, const struct fold_load *l)
{
    if (of->adopted_count == 0)
        snprintf(out, CUT_LOAD_SIZE, "%s", l->id);
    else
        snprintf(out, CUT_LOAD_SIZE, "%d/%s", part->age, l->id);
}

/* What sql_consolidate wants, gathered from the folds. */
struct gathered {
    struct sql_load *loads; size_t load_count;
    struct sql_exclusion *exclusions; size_t exclusion_count;
    struct bq_ref *shards; size_t shard_count;
    int *ages;                        /* of the shards */
    char (*names)[CUT_LOAD_SIZE];     /* of the loads */
    bool placed;                      /* where all rows lie is known: */
    bool has_range, range_null; int64_t lo, hi;
};

static void gathered_free(struct gathered *g)
{
    free(g->loads);
    free(g->exclusions);
    free(g->shards);
    free(g->ages);
    free(g->names);
}

static void widen(struct gathered *g, const struct fold_load *l)
{
    g->placed = g->placed && (l->has_range || l->range_null);
    g->range_null = g->range_null || l->range_null;
    if (!l->has_range)
        return;
    g->has_range = true;
    g->lo = i64_min(g->lo, l->range_lo);
    g->hi = i64_max(g->hi, l->range_hi);
}

static void gather_load(struct gathered *g, const struct cut_of *of, const struct cut_part *part, const struct fold_load *l, int shard)
{
    const struct fold *f = part->fold;
    char *name = g->names[g->load_count];
    cut_load_name(name, of, part, l);
    g->loads[g->load_count++] = (struct sql_load){.id = name, .rows = l->rows, .shard = shard};
    for (size_t x = 0; x < l->exclusion_count; x++)
        g->exclusions[g->exclusion_count++] = (struct sql_exclusion){.load = name, .item = f->exclusions[l->first_exclusion + x].item};
    widen(g, l);
}

static void gather_part(struct gathered *g, const struct cut_of *of, const struct cut_part *part)
{
    const struct fold *f = part->fold;
    AUTO(free_ptr) int *place = xcalloc(f->shard_count + 1, sizeof(*place)); /* of a shard among those used, plus one */
    for (size_t i = 0; i < f->load_count; i++) {
        const struct fold_load *l = &f->loads[i];
        if (l->cut != part->cut)
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
static void gather(struct gathered *g, const struct cut_of *of)
{
    *g = (struct gathered){.placed = of->record->partition_column[0] != '\0', .lo = INT64_MAX, .hi = INT64_MIN};
    size_t loads = 0, exclusions = 0, shards = 0;
    for (size_t k = 0; k <= of->adopted_count; k++) {
        struct cut_part part = cut_part(of, k);
        loads += part.fold->load_count;
        exclusions += part.fold->exclusion_count;
        shards += part.fold->shard_count;
    }
    g->loads = xcalloc(loads + 1, sizeof(*g->loads));
    g->names = xcalloc(loads + 1, sizeof(*g->names));
    g->exclusions = xcalloc(exclusions + 1, sizeof(*g->exclusions));
    g->shards = xcalloc(shards + 1, sizeof(*g->shards));
    g->ages = xcalloc(shards + 1, sizeof(*g->ages));
    for (size_t k = 0; k <= of->adopted_count; k++) {
        struct cut_part part = cut_part(of, k);
        gather_part(g, of, &part);
    }
}

enum { DIGEST_PIECE = 64 * 1024 };

/* What is gathered so far becomes its own digest, so that a million exclusions need no copy of them all. */
static void condense(struct buf *b)
{
    char hex[65];
    sha256_hex(b->data, b->len, hex);
    buf_clear(b);
    buf_xputs(b, hex);
}

static void add_names(struct buf *b, const char *what, char *const *names, size_t count)
{
    buf_xputs(b, what);
    for (size_t i = 0; i < count; i++)
        buf_xprintf(b, " %s", names[i]);
    buf_xputs(b, "\n");
}

/* Of what the statement does, not of how it says it: a coordinator of a later version, which may write it otherwise, finds the job of an earlier one and
 * knows it for the same. Taken for somebody else's it would be reported as failed, while its rows arrive. */
static void digest(const struct gathered *g, const struct record *r, const struct fold_cut *cut, struct cut_text *t)
{
    struct buf b = BUF_INIT(SIZE_MAX / 2);
    char target[1024];
    AUTO(free_ptr) char *schema = r->schema_doc ? doc_text(r->schema_doc) : xstrdup("");
    buf_xprintf(&b, "%s %" PRId64 " %s %s\n", r->run, cut->number, write_mode_name(r->mode), bq_ref_text(&r->target, target, sizeof(target)));
    buf_xputs(&b, schema);
    add_names(&b, "\nkeys", r->keys, r->key_count);
    if (r->null_keys != NULL_KEYS_REFUSE)
        buf_xprintf(&b, "null keys %s\n", null_keys_names[r->null_keys]);
    add_names(&b, "order_by", r->order_by, r->order_count);
    add_names(&b, "insert_only", r->insert_only, r->insert_only_count);
    for (size_t i = 0; i < g->load_count; i++) {
        buf_xprintf(&b, "load %s %" PRId64 "\n", g->loads[i].id, g->loads[i].rows);
        if (b.len > DIGEST_PIECE)
            condense(&b);
    }
    for (size_t i = 0; i < g->exclusion_count; i++) {
        buf_xprintf(&b, "exclusion %s %" PRId64 "\n", g->exclusions[i].load, g->exclusions[i].item);
        if (b.len > DIGEST_PIECE)
            condense(&b);
    }
    condense(&b);
    memcpy(t->digest, b.data, 40);
    t->digest[40] = '\0';
    buf_free(&b);
}

static int write_text(struct gathered *g, const struct cut_of *of, const struct bq_ref *side, struct cut_text *t, struct error *err)
{
    const struct record *r = of->record;
    for (size_t i = 0; i < g->load_count; i++)
        t->rows += g->loads[i].rows;
    if (r->mode == WRITE_NONE || (g->load_count == 0 && r->mode != WRITE_REPLACE))
        return 1;
    if (g->shard_count > LIMIT_SHARDS_PER_QUERY) {
        error_set(err, ERR_FATAL, 0, "the run's rows lie in %zu staging tables; this version consolidates at most %d: use fewer workers, or ones that "
                  "restart less often", g->shard_count, LIMIT_SHARDS_PER_QUERY);
        error_reason(err, "shards");
        return -1;
    }
    struct sql_cut c = {.target = &r->target, .schema = r->schema, .mode = r->mode,
                        .keys = (const char *const *)r->keys, .key_count = r->key_count, .null_keys = r->null_keys,
                        .order_by = (const char *const *)r->order_by, .order_count = r->order_count,
                        .insert_only = (const char *const *)r->insert_only, .insert_only_count = r->insert_only_count,
                        .shards = g->shards, .shard_count = g->shard_count, .ages = of->adopted_count > 0 ? g->ages : NULL, .loads = g->loads, .load_count = g->load_count,
                        .exclusions = g->exclusions, .exclusion_count = g->exclusion_count, .side = side,
                        .partition_column = r->partition_column[0] ? r->partition_column : NULL,
                        .has_range = g->placed && g->has_range, .range_null = g->placed && g->range_null, .range_lo = g->lo, .range_hi = g->hi};
    int rc = sql_consolidate(&c, &t->sql, &t->params, err);
    if (rc == 0)
        digest(g, r, of->cut, t);
    return rc;
}

int cut_text_make(const struct cut_of *of, const struct bq_ref *side, struct cut_text *t, struct error *err)
{
    *t = (struct cut_text){.sql = BUF_INIT(LIMIT_SQL + 4096)};
    struct gathered g;
    gather(&g, of);
    int rc = write_text(&g, of, side, t, err);
    gathered_free(&g);
    return rc;
}

void cut_text_free(struct cut_text *t)
{
    buf_free(&t->sql);
    doc_free(t->params);
    t->params = NULL;
}
