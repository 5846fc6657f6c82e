#include "tests/bq/sql_dedupe.h"

void names_add(struct names *n, const char *name, size_t len)
{
    n->at = xreallocarray(n->at, n->count + 1, sizeof(*n->at));
    n->at[n->count++] = xstrndup(name, len);
}

void names_free(struct names *n)
{
    for (size_t i = 0; i < n->count; i++)
        free(n->at[i]);
    free(n->at);
    *n = (struct names){0};
}

bool names_equal(const struct names *a, const struct names *b)
{
    bool same = a->count == b->count;
    for (size_t i = 0; i < a->count && same; i++)
        same = strcmp(a->at[i], b->at[i]) == 0;
    return same;
}

void stmt_free(struct stmt *s)
{
    if (s == NULL)
        return;
    names_free(&s->columns);
    names_free(&s->types);
    names_free(&s->keys);
    names_free(&s->on);
    names_free(&s->safe);
    names_free(&s->apart);
    names_free(&s->set);
    for (size_t i = 0; i < s->order_count; i++)
        free(s->order[i].column);
    free(s->order);
    free(s->shards);
    free(s->ages);
    free(s->part_column);
    free(s->parts);
    free(s->error);
    stmt_group_free(s->group);
    range_free(s->range);
    dedupe_stmt_free(s->dedupe);
    free(s);
}

const char *stmt_type(const struct stmt *s)
{
    switch (s->kind) {
    case STMT_MERGE: case STMT_REPLACE: return "MERGE";
    case STMT_INSERT: case STMT_GROUP: return "INSERT";
    case STMT_EMPTY: return "DELETE";
    case STMT_UPDATE: return "UPDATE";
    case STMT_NOTHING: case STMT_ERROR: case STMT_SELECT: case STMT_VIEW: break;
    }
    return "SELECT";
}
