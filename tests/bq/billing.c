#include "tests/bq/internal.h"

/*
 * What a statement is billed for on demand: the bytes of every table that it reads or changes rows of, each at least 10 MiB, each rounded up to a MiB. An INSERT
 * does not read its target. (That a table's size is the length of its cells' texts is ours.)
 */

#define LEAST (INT64_C(10) << 20)
#define MIB (INT64_C(1) << 20)

static int64_t size_of(struct bqmodel *m, const struct bq_ref *ref)
{
    const struct mtable *t = model_table(m, ref);
    int64_t bytes = 0;
    for (size_t i = 0; t != NULL && i < t->count; i++)
        for (size_t k = 0; k < t->rows[i]->count; k++)
            bytes += (int64_t)t->rows[i]->cells[k].len;
    return i64_max((bytes + MIB - 1) / MIB * MIB, LEAST);
}

int64_t stmt_bytes_billed(struct bqmodel *m, const struct stmt *s)
{
    if (s->kind == STMT_NOTHING || s->kind == STMT_ERROR)
        return 0;
    int64_t bytes = stmt_mutates(s) ? size_of(m, &s->target) : s->shard_count == 0 ? LEAST : 0;
    for (size_t i = 0; i < s->shard_count; i++)
        bytes += size_of(m, &s->shards[i]);
    if (s->by_side)
        bytes += size_of(m, &s->side);
    if (s->fence.present)
        bytes += size_of(m, &s->fence.table);
    return bytes;
}
