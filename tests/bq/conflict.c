#include "tests/bq/internal.h"

/*
 * Which statements conflict: two that change or delete rows of one partition while both run, as BigQuery's pages say. What is only inserted never
 * conflicts, wherever it goes, and so does a row that moves in from another partition. Without partitions by a column (ingestion time, too, which rows do not keep here) a table is one of them. A table that is
 * emptied by a load conflicts with whatever runs on it.
 */

struct mutated { /* a partition, and when it was: by the table's count of mutations */
    UT_hash_handle hh;
    char *name;
    uint64_t at;
};

void mutated_free(struct mtable *t)
{
    struct mutated *p, *next;
    HASH_ITER(hh, t->mutated, p, next)
    {
        HASH_DEL(t->mutated, p);
        free(p->name);
        free(p);
    }
}

/* So many characters of "2026-01-31T23:59:59" say which one it is. */
static size_t time_prefix(const char *type)
{
    return strcmp(type, "HOUR") == 0 ? 13 : strcmp(type, "MONTH") == 0 ? 7 : strcmp(type, "YEAR") == 0 ? 4 : 10;
}

static void range_name(const doc *range, int64_t v, char *out, size_t size)
{
    int64_t start = doc_int(range, "start", 0), end = doc_int(range, "end", 0), step = i64_max(doc_int(range, "interval", 1), 1);
    if (v < start || v >= end)
        snprintf(out, size, "__UNPARTITIONED__");
    else
        snprintf(out, size, "%" PRId64, v - (v - start) % step);
}

/* The partition that a row lies in, in words of ours; "" for all rows of a table without any. */
static void partition_of(const struct mtable *t, const struct row *row, char out[32])
{
    const char *time = doc_str(t->body, "timePartitioning.field", NULL), *range = doc_str(t->body, "rangePartitioning.field", NULL);
    const struct field *f = time || range ? schema_find(t->schema, time ? time : range) : NULL;
    out[0] = '\0';
    if (f == NULL)
        return;
    const struct cell *c = &row->cells[f - t->schema->fields];
    if (c->text == NULL) {
        snprintf(out, 32, "__NULL__");
    } else if (range) {
        range_name(doc_get(t->body, "rangePartitioning.range"), strtoll(c->text, NULL, 10), out, 32);
    } else {
        AUTO(free_ptr) char *text = f->type == FIELD_TIMESTAMP ? value_timestamp_text(strtoll(c->text, NULL, 10)) : xstrdup(c->text);
        snprintf(out, 32, "%.*s", (int)time_prefix(doc_str(t->body, "timePartitioning.type", "DAY")), text);
    }
}

/* --- what a statement has seen ------------------------------------------------------------------------------------------------------------- */

static void add_partition(const struct mtable *t, const struct row *row, struct names *to)
{
    char name[32];
    partition_of(t, row, name);
    if (to->count == 0 || strcmp(to->at[to->count - 1], name) != 0)
        names_add(to, name, strlen(name));
}

/* The rows themselves: their places move when others are deleted. A row is freed by nothing but a mutation of its partition, which conflicts. */
void effects_remember(const struct mtable *t, struct effects *e)
{
    e->old = xcalloc(e->changed_count + 1, sizeof(*e->old));
    for (size_t i = 0; i < e->changed_count; i++) {
        e->old[i] = t->rows[e->changed[i]];
        add_partition(t, e->old[i], &e->partitions);
    }
}

/* Whether the partitions that it changes are as it saw them. */
bool effects_serialize(const struct mtable *t, const struct effects *e)
{
    if (e->changed_count == 0 || e->mutations == t->mutations)
        return true;
    if (t->emptied_at > e->mutations)
        return false;
    for (size_t i = 0; i < e->partitions.count; i++) {
        const struct mutated *p = NULL;
        HASH_FIND_STR(t->mutated, e->partitions.at[i], p);
        if (p && p->at > e->mutations)
            return false;
    }
    return true;
}

struct place { UT_hash_handle hh; const struct row *row; size_t at; };

static void find_again(const struct mtable *t, struct effects *e)
{
    struct place *index = NULL, *p;
    struct place *places = xcalloc(t->count + 1, sizeof(*places));
    for (size_t i = 0; i < t->count; i++) {
        places[i] = (struct place){.row = t->rows[i], .at = i};
        p = &places[i];
        HASH_ADD_PTR(index, row, p);
    }
    for (size_t i = 0; i < e->changed_count; i++) {
        const struct row *old = e->old[i];
        HASH_FIND_PTR(index, &old, p);
        assert(p != NULL);
        e->changed[i] = p->at;
    }
    HASH_CLEAR(hh, index);
    free(places);
}

void effects_commit(struct mtable *t, struct effects *e)
{
    if (e->changed_count > 0 && e->mutations != t->mutations)
        find_again(t, e);
    effects_apply(t, e);
    for (size_t i = 0; i < e->partitions.count; i++) {
        struct mutated *p = NULL;
        HASH_FIND_STR(t->mutated, e->partitions.at[i], p);
        if (p == NULL) {
            p = xcalloc(1, sizeof(*p));
            p->name = xstrdup(e->partitions.at[i]);
            HASH_ADD_KEYPTR(hh, t->mutated, p->name, strlen(p->name), p);
        }
        p->at = t->mutations;
    }
}
