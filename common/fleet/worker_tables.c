#include "common/fleet/worker_tables.h"

/* So many shards that the text surely is short enough: by the record alone, for all coordinators alike. */
static size_t shards_that_fit(const struct record *r)
{
    size_t columns = 0;
    for (size_t i = 0; i < r->schema->count; i++)
        columns += strlen(r->schema->fields[i].name) + 8;
    size_t each = columns + strlen(r->staging_project) + strlen(r->staging_dataset) + 256, rest = 16 * columns + 8192;
    return rest < LIMIT_VIEW_SQL ? size_min((LIMIT_VIEW_SQL - rest) / each, LIMIT_SHARDS_PER_VIEW) : 0;
}

/* Whether its loads are shown, or will be by this cut. */
static bool counts(const struct fold *f, const struct fold_load *l, int64_t cut)
{
    return l->cut >= 0 && l->cut <= cut && (l->cut == cut || f->cuts[l->cut].state == CUT_DONE);
}

struct scan { const struct fold *f; struct tables_plan *p; int64_t *seen, generation, at; size_t shards, limit; };

/* The cut that was gone through is one of those before. */
static void pass(struct scan *s)
{
    const struct fold_cut *c = &s->f->cuts[s->at];
    s->p->takes = false;
    s->p->widens = false;
    if (!c->last && s->shards <= s->limit)
        return;
    s->p->from = s->at + 1;
    s->p->compacted = c->number;
    s->p->loads = 0;
    s->shards = 0;
    s->generation++;
}

void tables_plan(const struct record *r, const struct fold *f, int64_t cut, size_t limit, struct tables_plan *p)
{
    AUTO(free_ptr) int64_t *seen = xcalloc(f->shard_count + 1, sizeof(*seen));
    struct scan s = {.f = f, .p = p, .seen = seen, .generation = 1, .at = -1, .limit = limit > 0 ? limit : shards_that_fit(r)};
    bool end = cut == (int64_t)f->cut_count;
    *p = (struct tables_plan){.number = end ? f->run_cuts : f->cuts[cut].number, .takes = true, .compacted = -1};
    for (size_t i = 0; i < f->load_count; i++) { /* in the order of their cuts: each takes all that are there */
        const struct fold_load *l = &f->loads[i];
        if (!counts(f, l, cut))
            continue;
        if (s.at >= 0 && l->cut != s.at)
            pass(&s);
        assert(l->cut >= s.at);
        s.at = l->cut;
        p->loads++;
        if (seen[l->shard] == s.generation)
            continue;
        seen[l->shard] = s.generation;
        p->widens = true;
        s.shards++;
    }
    if (s.at >= 0 && s.at != cut)
        pass(&s);
    for (int64_t i = s.at + 1; end && i < cut; i++) /* a last cut compacts also when it has no loads of its own */
        if (f->cuts[i].last && f->cuts[i].state == CUT_DONE) {
            s.at = i;
            pass(&s);
        }
    p->compacts = end || f->cuts[cut].last || s.shards > s.limit;
}

/* --- names -------------------------------------------------------------------------------------------------------------------------------- */

enum { ID_LENGTH = 12 };

static void id_of(const struct record *r, const char *what, char out[65])
{
    struct buf b = BUF_INIT(4096);
    buf_xprintf(&b, "%s %s %s", what, r->run, r->nonce);
    sha256_hex(b.data, b.len, out);
    buf_free(&b);
}

static void base_name(char out[BASE_SUFFIX_SIZE], const struct record *r, char kind)
{
    char hex[65];
    id_of(r, "base", hex);
    snprintf(out, BASE_SUFFIX_SIZE, "%c%.*s", kind, ID_LENGTH, hex);
}

void tables_base_first(char out[BASE_SUFFIX_SIZE], const struct record *r)
{
    base_name(out, r, 'f');
}

void tables_base_end(char out[BASE_SUFFIX_SIZE], const struct record *r)
{
    base_name(out, r, 'e');
}

void tables_base_cut(char out[BASE_SUFFIX_SIZE], const struct record *r, int64_t number)
{
    base_name(out, r, 'c');
    size_t len = strlen(out);
    snprintf(out + len, BASE_SUFFIX_SIZE - len, "_%" PRId64, number);
}

void tables_base_ref(const struct record *r, const char *suffix, struct bq_ref *out)
{
    *out = r->target;
    snprintf(out->table, sizeof(out->table), "%.180s_bqfleet_%.*s", r->target.table, BASE_SUFFIX_SIZE, suffix);
}

void tables_list_ref(const struct record *r, int64_t compacted, struct bq_ref *out)
{
    char what[48], hex[65], part[INCARNATION_LEN + 1];
    snprintf(what, sizeof(what), "list %" PRId64, compacted);
    id_of(r, what, hex);
    staging_part(part, 'l', hex);
    record_shard_ref(r, part, out);
}

/* --- the view's text ------------------------------------------------------------------------------------------------------------------------ */

int tables_view_text(const struct record *r, const struct fold *f, const struct bq_ref *base, const struct bq_ref *list, int64_t from, int64_t upto, struct buf *sql,
                     struct error *err)
{
    AUTO(free_ptr) bool *seen = xcalloc(f->shard_count + 1, sizeof(*seen));
    AUTO(free_ptr) struct bq_ref *shards = xcalloc(f->shard_count + 1, sizeof(*shards));
    size_t count = 0;
    for (size_t i = 0; i < f->load_count; i++) {
        const struct fold_load *l = &f->loads[i];
        if (l->cut < from || !counts(f, l, upto) || seen[l->shard])
            continue;
        seen[l->shard] = true;
        record_shard_ref(r, f->shards[l->shard].incarnation, &shards[count++]);
    }
    struct sql_cut cut = {.schema = r->schema, .keys = (const char *const *)r->keys, .key_count = r->key_count, .null_keys = r->null_keys,
                          .order_by = (const char *const *)r->order_by, .order_count = r->order_count, .shards = shards, .shard_count = count, .side = list, .base = base};
    return sql_view(&cut, sql, err);
}
