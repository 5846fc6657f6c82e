#include "common/fleet/cut_internal.h"

/* Which shards go together into a folded table, and the statement that does it. The groups follow the shards' order in the log, so every coordinator makes
 * the same ones; one that would make others (a later version, another limit) means other tables and other jobs, since both are named by their contents. */

struct group { size_t first, shards, first_load, loads; int age; }; /* shards first..first+shards-1; its loads, after sorting */

/* How many loads each shard has; the caller frees. */
static size_t *count_loads(const struct cut_gathered *g)
{
    size_t *count = xcalloc(g->shard_count + 1, sizeof(*count));
    for (size_t i = 0; i < g->load_count; i++)
        count[g->loads[i].shard]++;
    return count;
}

/* A group's loads go as parameters. Shards of several ages do not mix: their loads may have the same ids. of_shard: the group of each. */
static size_t divide(const struct cut_gathered *g, size_t at_once, struct group *groups, size_t *of_shard)
{
    AUTO(free_ptr) size_t *loads = count_loads(g);
    size_t n = 0;
    for (size_t i = 0; i < g->shard_count; i++) {
        struct group *last = n > 0 ? &groups[n - 1] : NULL;
        if (last == NULL || last->shards == at_once || last->age != g->ages[i] || last->loads + loads[i] > LIMIT_PARAM_LOADS)
            groups[n++] = (struct group){.first = i, .age = g->ages[i]};
        groups[n - 1].shards++;
        groups[n - 1].loads += loads[i];
        of_shard[i] = n - 1;
    }
    return n;
}

/* The loads of each group behind one another, in the log's order, by the ids that their rows have. */
static struct sql_load *sort_loads(const struct cut_gathered *g, struct group *groups, size_t count, const size_t *of_shard)
{
    struct sql_load *sorted = xcalloc(g->load_count + 1, sizeof(*sorted));
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        groups[i].first_load = at;
        at += groups[i].loads;
        groups[i].loads = 0;
    }
    for (size_t i = 0; i < g->load_count; i++) {
        struct group *own = &groups[of_shard[g->loads[i].shard]];
        sorted[own->first_load + own->loads++] = (struct sql_load){.id = g->ids[i], .rows = g->loads[i].rows, .shard = g->loads[i].shard - (int)own->first};
    }
    return sorted;
}

static void digest(const struct cut_of *of, const struct sql_cut *c, char out[41])
{
    struct cut_digest d = CUT_DIGEST_INIT;
    char name[1024];
    cut_digest_add(&d, "fold %s %" PRId64 "\n", of->record->run, of->cut->number);
    for (size_t i = 0; i < c->shard_count; i++)
        cut_digest_add(&d, "shard %s\n", bq_ref_text(&c->shards[i], name, sizeof(name)));
    for (size_t i = 0; i < c->load_count; i++)
        cut_digest_add(&d, "load %s %" PRId64 "\n", c->loads[i].id, c->loads[i].rows);
    cut_digest_end(&d, out);
}

static int write_fold(const struct cut_of *of, const struct cut_gathered *g, const struct group *group, const struct sql_load *loads, struct cut_fold *f,
                      struct error *err)
{
    char part[INCARNATION_LEN + 1];
    struct sql_cut c = {.target = &f->into, .schema = of->record->schema, .shards = g->shards + group->first, .shard_count = group->shards,
                        .loads = loads + group->first_load, .load_count = group->loads};
    *f = (struct cut_fold){.sql = BUF_INIT(LIMIT_SQL + 4096), .shards = group->shards};
    digest(of, &c, f->digest);
    staging_part(part, 'f', f->digest);
    record_shard_ref(of->record, part, &f->into);
    job_base_fold(f->base, of->record->run, of->cut->number, part);
    return sql_fold(&c, &f->sql, &f->params, err);
}

int cut_folds_make(const struct cut_of *of, struct cut_gathered *g, size_t shards_at_once, struct cut_text *t, struct error *err)
{
    AUTO(free_ptr) struct group *groups = xcalloc(g->shard_count + 1, sizeof(*groups));
    AUTO(free_ptr) size_t *of_shard = xcalloc(g->shard_count + 1, sizeof(*of_shard));
    size_t count = divide(g, shards_at_once, groups, of_shard);
    AUTO(free_ptr) struct sql_load *loads = sort_loads(g, groups, count, of_shard);
    t->folds = xcalloc(count + 1, sizeof(*t->folds));
    for (size_t i = 0; i < count; i++) {
        t->fold_count++;
        if (write_fold(of, g, &groups[i], loads, &t->folds[i], err) != 0)
            return -1;
    }
    for (size_t i = 0; i < g->load_count; i++)
        g->loads[i].shard = (int)of_shard[g->loads[i].shard];
    for (size_t i = 0; i < count; i++) {
        g->shards[i] = t->folds[i].into;
        g->ages[i] = groups[i].age;
    }
    g->shard_count = count;
    return 0;
}
