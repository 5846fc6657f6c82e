#include "coordinator/plan_sql.h"

#include "common/fleet/worker_tables.h"

enum { SHARDS = 2 };
static const char *const incarnations[SHARDS] = {"worker0001", "worker0002"};

/* `(SELECT * FROM UNNEST(ARRAY<STRUCT<a INT64, ...>>[]))`: a table of the shard's columns without rows. */
static void stand_in(const struct schema *schema, struct buf *out)
{
    buf_xputs(out, "(SELECT * FROM UNNEST(ARRAY<STRUCT<");
    for (size_t i = 0; i < schema->count; i++) {
        AUTO(free_ptr) char *type = field_sql_type(&schema->fields[i]);
        sql_quote(out, schema->fields[i].name);
        buf_xprintf(out, " %s, ", type);
    }
    buf_xputs(out, "`bqfleet_item` INT64, `bqfleet_row` INT64, `bqfleet_load` STRING>>[]))");
}

static int replace_all(const char *text, const char *what, const char *with, struct buf *out, struct error *err)
{
    size_t len = strlen(what);
    int rc = 0;
    for (const char *found; rc == 0 && (found = strstr(text, what)) != NULL; text = found + len)
        rc = buf_add(out, text, (size_t)(found - text)) | buf_puts(out, with);
    if (rc == 0 && buf_puts(out, text) == 0)
        return 0;
    return error_set(err, ERR_FATAL, 0, "the statement is too long for a dry run");
}

static int make_dry(const struct record *r, const struct bq_ref *shards, struct plan_sql *p, struct error *err)
{
    AUTO(buf_free) struct buf empty = BUF_INIT(LIMIT_SQL);
    AUTO(buf_free) struct buf once = BUF_INIT(4 * LIMIT_SQL);
    AUTO(buf_free) struct buf first = BUF_INIT(4096);
    AUTO(buf_free) struct buf second = BUF_INIT(4096);
    stand_in(r->schema, &empty);
    sql_quote_ref(&first, &shards[0]);
    sql_quote_ref(&second, &shards[1]);
    int rc = replace_all(p->sql.data, first.data, empty.data, &once, err);
    if (rc == 0)
        rc = replace_all(once.data, second.data, empty.data, &p->dry_sql, err);
    return rc;
}

int plan_sql_make(const struct record *r, struct plan_sql *p, struct error *err)
{
    struct bq_ref shards[SHARDS];
    char ids[SHARDS][LOAD_ID_LEN + 1];
    struct sql_load loads[SHARDS];
    for (int i = 0; i < SHARDS; i++) {
        record_shard_ref(r, incarnations[i], &shards[i]);
        load_id(ids[i], incarnations[i], 1);
        /* One row each, which the stand-ins do not have: a service that runs what it should only look at meets an error and writes nothing. */
        loads[i] = (struct sql_load){.id = ids[i], .rows = 1, .shard = i};
    }
    struct sql_cut cut = {
        .target = &r->target,
        .schema = r->schema,
        .mode = r->mode,
        .keys = (const char *const *)r->keys,
        .key_count = r->key_count,
        .null_keys = r->null_keys,
        .order_by = (const char *const *)r->order_by,
        .order_count = r->order_count,
        .insert_only = (const char *const *)r->insert_only,
        .insert_only_count = r->insert_only_count,
        .shards = shards,
        .shard_count = SHARDS,
        .loads = loads,
        .load_count = SHARDS,
        .partition_column = r->partition_column[0] != '\0' ? r->partition_column : NULL,
        .partition = r->partition.unit != PARTITION_NONE ? &r->partition : NULL,
    };
    struct bq_ref base;
    if (r->via == VIA_WORKER_TABLES) { /* into another base; this one has its columns */
        char first[BASE_SUFFIX_SIZE];
        tables_base_first(first, r);
        tables_base_ref(r, r->base[0] ? r->base : first, &base);
        cut.mode = WRITE_APPEND;
        cut.target = cut.base = &base;
    }
    if (sql_consolidate(&cut, &p->sql, &p->params, err) != 0)
        return -1;
    return make_dry(r, shards, p, err);
}

void plan_sql_free(struct plan_sql *p)
{
    buf_free(&p->sql);
    buf_free(&p->dry_sql);
    doc_free(p->params);
}
