#include "common/bq/sql_internal.h"

#include "common/base/limits.h"

/*
 * Shards into one: the rows of the accepted loads as they are, bookkeeping included, so that whatever reads the folded table can exclude, rank and count
 * as it does over the shards themselves. Shards are read by SELECT *: they are made from one schema, and naming a thousand columns nine hundred times is
 * more than a statement may have. What comes out is taken by name again.
 */

static const char own[] = "bqfleet_item, bqfleet_row, bqfleet_load";

static void put_shards(struct sql_text *t)
{
    const struct sql_cut *cut = t->cut;
    sql_put_text(t, "    bqfleet_staged AS (\n");
    for (size_t i = 0; i < cut->shard_count; i++) {
        sql_put_text(t, i ? "      UNION ALL SELECT * FROM " : "      SELECT * FROM ");
        sql_put_ref(t, &cut->shards[i]);
        sql_put_text(t, "\n");
    }
    sql_put_text(t, "    ),\n");
}

static void put_bookkeeping(struct sql_text *t, const char *prefix)
{
    sql_put(t, ", %sbqfleet_item, %sbqfleet_row, %sbqfleet_load", prefix, prefix, prefix);
}

int sql_fold(const struct sql_cut *cut, struct buf *sql, doc **params, struct error *err)
{
    struct sql_text t = {.sql = sql, .cut = cut};
    *params = NULL;
    assert(cut->load_count > 0 && cut->shard_count > 0 && cut->side == NULL && cut->ages == NULL && cut->exclusion_count == 0);
    sql_put_text(&t, "INSERT INTO ");
    sql_put_ref(&t, cut->target);
    sql_put_text(&t, " (");
    sql_put_columns(&t, "");
    sql_put(&t, ", %s)\nSELECT ", own);
    sql_put_columns(&t, "bqfleet_s.");
    put_bookkeeping(&t, "bqfleet_s.");
    sql_put_text(&t, "\nFROM (\n  WITH\n");
    sql_put_loads(&t);
    put_shards(&t);
    sql_put_found(&t);
    sql_put_text(&t, "\n  SELECT ");
    sql_put_columns(&t, "bqfleet_r.");
    put_bookkeeping(&t, "bqfleet_r.");
    sql_put_text(&t, "\n  FROM bqfleet_staged AS bqfleet_r WHERE bqfleet_r.bqfleet_load IN (SELECT L.load FROM bqfleet_loads AS L)\n"
                     "  UNION ALL\n  SELECT ");
    sql_put_nulls(&t);
    sql_put_text(&t, ", CAST(NULL AS INT64), CAST(NULL AS INT64), CAST(NULL AS STRING)");
    sql_put_load_check(&t);
    sql_put_text(&t, ") AS bqfleet_s");
    if (t.full || sql->len > LIMIT_SQL) {
        error_set(err, ERR_USAGE, 0, "the statement that folds %zu shards of %zu columns is longer than BigQuery's %d bytes", cut->shard_count,
                  cut->schema->count, LIMIT_SQL);
        error_reason(err, "sqlTooLong");
        return -1;
    }
    *params = sql_cut_params(cut);
    return 0;
}
