#include "common/bq/sql_internal.h"

#include "common/base/limits.h"
#include "common/bq/permits.h"

/*
 * The statement of a cut. Its source has branches joined by UNION ALL:
 *   1. the accepted rows, the first of each key;
 *   2. one row for each load whose number of rows is not its manifest's. That branch's WHERE never lets a row through: it is FALSE or it
 *      fails. Being a branch of its own, driven by the list of loads and not by what is staged, it is evaluated even when the shards
 *      are empty or gone stale, which a join against a check would not be;
 *   3. the same for the side table, and for the fence.
 * Columns of the target never begin with bqfleet_, so the names here cannot meet theirs. (An alias T and a column t would: `SET t = ...`
 * then means the whole row.)
 */

/* --- order_by ---------------------------------------------------------------------------------------------------------------------------- */

/* Where NULL keys are distinct, a row that has one is the only one of its key: it stands in its place in its load. Ranking such rows among each other,
 * all of them in one place, could also be more than a machine holds. */
static void put_apart(struct sql_text *t)
{
    static const char *const own[] = {"bqfleet_load", "bqfleet_item", "bqfleet_row"};
    const struct sql_cut *cut = t->cut;
    bool any = false;
    for (size_t i = 0; i < cut->key_count; i++)
        any = any || sql_null_key(cut, cut->keys[i]);
    for (size_t k = 0; any && k < ARRAY_LEN(own); k++) {
        bool first = true;
        for (size_t i = 0; i < cut->key_count; i++) {
            if (!sql_null_key(cut, cut->keys[i]))
                continue;
            sql_put(t, "%sbqfleet_r.`%s` IS NULL", first ? ", IF(" : " OR ", sql_column(cut, cut->keys[i])->name);
            first = false;
        }
        sql_put(t, ", bqfleet_r.%s, NULL)", own[k]);
    }
}

static void put_rank(struct sql_text *t)
{
    const struct sql_cut *cut = t->cut;
    sql_put_text(t, "ROW_NUMBER() OVER (PARTITION BY ");
    for (size_t i = 0; i < cut->key_count; i++)
        sql_put(t, "%sbqfleet_r.`%s`", i ? ", " : "", sql_column(cut, cut->keys[i])->name);
    if (cut->null_keys == NULL_KEYS_DISTINCT)
        put_apart(t);
    sql_put_text(t, " ORDER BY ");
    for (size_t i = 0; i < cut->order_count; i++) {
        char term[SQL_TERMS_MAX][1024];
        size_t n = sql_order_terms(sql_column(cut, cut->order_by[i]), "bqfleet_r", term);
        for (size_t k = 0; k < n; k++) {
            sql_put_text(t, term[k]);
            sql_put_text(t, " DESC NULLS LAST, ");
        }
    }
    sql_put_text(t, cut->ages ? "bqfleet_r.bqfleet_age DESC, " : "");
    sql_put_text(t, "bqfleet_r.bqfleet_item DESC, bqfleet_r.bqfleet_row DESC) AS bqfleet_rank");
}

/* S ranks at least as high as T: S1 > T1 OR (S1 = T1 AND (S2 > T2 OR (S2 = T2 AND ... Sn >= Tn))), where a NULL is lowest. */
static void put_not_lower(struct sql_text *t)
{
    const struct sql_cut *cut = t->cut;
    size_t depth = 0;
    for (size_t i = 0; i < cut->order_count; i++) {
        char ours[SQL_TERMS_MAX][1024], theirs[SQL_TERMS_MAX][1024];
        const struct field *f = sql_column(cut, cut->order_by[i]);
        size_t n = sql_order_terms(f, "bqfleet_s", ours);
        sql_order_terms(f, "bqfleet_t", theirs);
        for (size_t k = 0; k < n; k++) {
            const char *s = ours[k], *o = theirs[k];
            char piece[8192];
            if (i + 1 == cut->order_count && k + 1 == n) {
                snprintf(piece, sizeof(piece), "COALESCE(%s >= %s, %s IS NULL)", s, o, o);
            } else {
                snprintf(piece, sizeof(piece), "(COALESCE(%s > %s, %s IS NOT NULL AND %s IS NULL) OR (%s IS NOT DISTINCT FROM %s AND ",
                         s, o, s, o, s, o);
                depth++;
            }
            sql_put_text(t, piece);
        }
    }
    for (; depth > 0; depth--)
        sql_put_text(t, "))");
}

/* --- the source -------------------------------------------------------------------------------------------------------------------------- */

static void put_staged(struct sql_text *t)
{
    const struct sql_cut *cut = t->cut;
    sql_put_text(t, "    bqfleet_staged AS (\n");
    for (size_t i = 0; i < cut->shard_count; i++) {
        sql_put_text(t, i ? "      UNION ALL SELECT " : "      SELECT ");
        sql_put_columns(t, "");
        sql_put_text(t, ", bqfleet_item, bqfleet_row, ");
        if (cut->ages)
            sql_put(t, "CONCAT('%d/', bqfleet_load) AS bqfleet_load, %d AS bqfleet_age FROM ", cut->ages[i], cut->ages[i]);
        else
            sql_put_text(t, "bqfleet_load FROM ");
        sql_put_ref(t, &cut->shards[i]);
        sql_put_text(t, "\n");
    }
    if (cut->base) {
        sql_put_text(t, "      UNION ALL SELECT ");
        sql_put_columns(t, "");
        sql_put(t, ", -1 AS bqfleet_item, -1 AS bqfleet_row, '' AS bqfleet_load%s FROM ", cut->ages ? ", -1 AS bqfleet_age" : "");
        sql_put_ref(t, cut->base);
        sql_put_text(t, "\n");
    }
    sql_put_text(t, "    ),\n");
    sql_put_found(t);
    sql_put_text(t, ",\n");
}

static void put_accepted(struct sql_text *t)
{
    const struct sql_cut *cut = t->cut;
    sql_put_text(t, "    bqfleet_rows AS (\n      SELECT bqfleet_r.*");
    if (cut->key_count > 0) {
        sql_put_text(t, ", ");
        put_rank(t);
    }
    sql_put_text(t, "\n      FROM bqfleet_staged AS bqfleet_r\n");
    if (cut->exclusion_count > 0) {
        sql_put_text(t, "      LEFT JOIN ");
        if (cut->side) {
            sql_put_text(t, "(SELECT D.load, D.number AS item FROM ");
            sql_put_ref(t, cut->side);
            sql_put_text(t, " AS D WHERE D.kind = 'exclusion') AS bqfleet_x");
        } else {
            sql_put_text(t, "UNNEST(@exclusions) AS bqfleet_x");
        }
        sql_put_text(t, " ON bqfleet_x.load = bqfleet_r.bqfleet_load AND bqfleet_x.item = bqfleet_r.bqfleet_item\n");
    }
    sql_put_text(t, cut->base ? "      WHERE (bqfleet_r.bqfleet_item < 0 OR " : "      WHERE ");
    sql_put_text(t, "bqfleet_r.bqfleet_load IN (SELECT L.load FROM bqfleet_loads AS L)");
    sql_put_text(t, cut->base ? ")" : "");
    sql_put_text(t, cut->exclusion_count > 0 ? " AND bqfleet_x.load IS NULL\n    )" : "\n    )");
    sql_put_text(t, cut->mode == WRITE_REPLACE_PARTITIONS ? ",\n" : "\n");
}

static void put_fence(struct sql_text *t)
{
    struct buf condition = BUF_INIT(LIMIT_PERMIT_SQL);
    permits_fence(t->cut->fence->permits, &condition);
    sql_put_text(t, condition.data);
    buf_free(&condition);
}

static void put_checks(struct sql_text *t)
{
    const struct sql_cut *cut = t->cut;
    sql_put_text(t, "  UNION ALL\n  SELECT ");
    sql_put_nulls(t);
    sql_put_load_check(t);
    if (cut->side) {
        sql_put_text(t, "  UNION ALL\n  SELECT ");
        sql_put_nulls(t);
        sql_put_text(t, "\n  FROM (SELECT COUNTIF(D.kind = 'load') AS loads, COUNTIF(D.kind = 'exclusion') AS exclusions, "
                    "IFNULL(SUM(D.number), 0) AS total FROM ");
        sql_put_ref(t, cut->side);
        sql_put_text(t, " AS D) AS C\n"
                    "  WHERE IF(C.loads = @side_loads AND C.exclusions = @side_exclusions AND C.total = @side_total, FALSE, "
                    "ERROR(CONCAT('bqfleet: the side table lists ', CAST(C.loads AS STRING), ' loads and ', "
                    "CAST(C.exclusions AS STRING), ' exclusions, not what was written')))\n");
    }
    if (cut->fence) {
        sql_put_text(t, "  UNION ALL\n  SELECT ");
        sql_put_nulls(t);
        sql_put_text(t, "\n  FROM UNNEST([1]) AS bqfleet_one\n  WHERE IF(");
        put_fence(t);
        sql_put_text(t, ", FALSE, ERROR(CONCAT('bqfleet: the permit is lost', CAST(bqfleet_one AS STRING))))\n");
    }
}

/* Which partitions are to be emptied is said by rows of the source that carry their id where the others have NULL. They are what the target's rows are
 * joined with, so the list needs no statement of its own before this one, and is of just the rows that this one writes. */
static void put_parts(struct sql_text *t)
{
    const struct sql_cut *cut = t->cut;
    sql_put_text(t, "    bqfleet_parts AS (\n      SELECT DISTINCT ");
    sql_put_partition(t, "bqfleet_r");
    sql_put(t, " AS part\n      FROM bqfleet_rows AS bqfleet_r%s\n    )\n", cut->key_count > 0 ? " WHERE bqfleet_r.bqfleet_rank = 1" : "");
}

static void put_parts_branches(struct sql_text *t)
{
    sql_put_text(t, "  UNION ALL\n  SELECT bqfleet_p.part, ");
    sql_put_column_nulls(t);
    sql_put_text(t, "\n  FROM bqfleet_parts AS bqfleet_p\n  UNION ALL\n  SELECT ");
    sql_put_nulls(t);
    sql_put(t, "\n  FROM (SELECT COUNT(*) AS parts FROM bqfleet_parts) AS C\n  WHERE IF(C.parts <= %d, FALSE, "
            "ERROR(CONCAT('bqfleet: the rows lie in ', CAST(C.parts AS STRING), ' partitions; one job may change %d')))\n", PARTITIONS_PER_JOB, PARTITIONS_PER_JOB);
}

static void put_source(struct sql_text *t)
{
    sql_put_text(t, "  WITH\n");
    sql_put_loads(t);
    put_staged(t);
    put_accepted(t);
    bool parts = t->cut->mode == WRITE_REPLACE_PARTITIONS;
    if (parts)
        put_parts(t);
    sql_put_text(t, parts ? "  SELECT CAST(NULL AS STRING) AS bqfleet_part, " : "  SELECT ");
    sql_put_columns(t, "bqfleet_r.");
    sql_put_text(t, t->cut->key_count > 0 ? "\n  FROM bqfleet_rows AS bqfleet_r WHERE bqfleet_r.bqfleet_rank = 1\n" : "\n  FROM bqfleet_rows AS bqfleet_r\n");
    if (parts)
        put_parts_branches(t);
}

/* --- the statements ---------------------------------------------------------------------------------------------------------------------- */

static void put_update(struct sql_text *t)
{
    const struct sql_cut *cut = t->cut;
    size_t set = 0;
    for (size_t i = 0; i < cut->schema->count; i++) {
        const char *name = cut->schema->fields[i].name;
        if (sql_listed(cut->keys, cut->key_count, name) || sql_listed(cut->insert_only, cut->insert_only_count, name))
            continue;
        if (set++ == 0) {
            sql_put_text(t, "WHEN MATCHED");
            if (cut->order_count > 0) {
                sql_put_text(t, " AND ");
                put_not_lower(t);
            }
            sql_put_text(t, " THEN\n  UPDATE SET ");
        } else {
            sql_put_text(t, ", ");
        }
        sql_put(t, "`%s` = ", name);
        sql_put(t, "bqfleet_s.`%s`", name);
    }
    if (set > 0)
        sql_put_text(t, "\n");
}

/* BigQuery joins by hash on a key's equality. It knows `a = b OR (a IS NULL AND b IS NULL)` of plain columns for one; IS NOT DISTINCT FROM, which says the same,
 * it has refused in outer joins, and a MERGE is one. */
static void put_match(struct sql_text *t)
{
    const struct sql_cut *cut = t->cut;
    for (size_t i = 0; i < cut->key_count; i++) {
        const char *name = sql_column(cut, cut->keys[i])->name;
        bool nulls = cut->null_keys == NULL_KEYS_EQUAL && sql_null_key(cut, cut->keys[i]);
        sql_put(t, "%s%sbqfleet_t.`%s`", i ? " AND " : "", nulls ? "(" : "", name);
        sql_put(t, " = bqfleet_s.`%s`", name);
        if (nulls) {
            sql_put(t, " OR (bqfleet_t.`%s` IS NULL", name);
            sql_put(t, " AND bqfleet_s.`%s` IS NULL))", name);
        }
    }
}

/* The partitions that the rows lie in, as constants: only those prune. */
static void put_partitions(struct sql_text *t)
{
    const struct sql_cut *cut = t->cut;
    const char *name = sql_column(cut, cut->partition_column)->name;
    bool nulls = cut->range_null && (cut->mode == WRITE_REPLACE_PARTITIONS || cut->null_keys == NULL_KEYS_EQUAL || !cut->has_range);
    sql_put_text(t, cut->has_range && nulls ? " AND (" : " AND ");
    if (cut->has_range)
        sql_put(t, "bqfleet_t.`%s` BETWEEN @part_lo AND @part_hi", name);
    if (nulls)
        sql_put(t, "%sbqfleet_t.`%s` IS NULL", cut->has_range ? " OR " : "", name);
    sql_put_text(t, cut->has_range && nulls ? ")" : "");
}

static void put_merge(struct sql_text *t)
{
    const struct sql_cut *cut = t->cut;
    sql_put_text(t, "MERGE INTO ");
    sql_put_ref(t, cut->target);
    sql_put_text(t, " AS bqfleet_t\nUSING (\n");
    put_source(t);
    put_checks(t);
    sql_put_text(t, ") AS bqfleet_s\nON ");
    if (cut->mode == WRITE_REPLACE) {
        sql_put_text(t, "FALSE\nWHEN NOT MATCHED BY SOURCE THEN\n  DELETE\n");
    } else if (cut->mode == WRITE_REPLACE_PARTITIONS) {
        sql_put_text(t, "bqfleet_s.bqfleet_part = ");
        sql_put_partition(t, "bqfleet_t");
        if (sql_pruned(cut))
            put_partitions(t);
        sql_put_text(t, "\nWHEN MATCHED THEN\n  DELETE\n");
    } else {
        put_match(t);
        if (sql_pruned(cut))
            put_partitions(t);
        sql_put_text(t, "\n");
        put_update(t);
    }
    sql_put(t, "WHEN NOT MATCHED%s THEN\n  INSERT (", cut->mode == WRITE_REPLACE_PARTITIONS ? " AND bqfleet_s.bqfleet_part IS NULL" : "");
    sql_put_columns(t, "");
    sql_put_text(t, ")\n  VALUES (");
    sql_put_columns(t, "bqfleet_s.");
    sql_put_text(t, ")");
}

static void put_insert(struct sql_text *t)
{
    sql_put_text(t, "INSERT INTO ");
    sql_put_ref(t, t->cut->target);
    sql_put_text(t, " (");
    sql_put_columns(t, "");
    sql_put_text(t, ")\nSELECT ");
    sql_put_columns(t, "bqfleet_s.");
    sql_put_text(t, "\nFROM (\n");
    put_source(t);
    put_checks(t);
    sql_put_text(t, ") AS bqfleet_s");
}

static void put_empty(struct sql_text *t)
{
    sql_put_text(t, "DELETE FROM ");
    sql_put_ref(t, t->cut->target);
    sql_put_text(t, "\nWHERE ");
    if (t->cut->fence) {
        sql_put_text(t, "IF(");
        put_fence(t);
        sql_put_text(t, ", TRUE, ERROR('bqfleet: the permit is lost'))");
    } else {
        sql_put_text(t, "TRUE");
    }
}

/* --- the whole ---------------------------------------------------------------------------------------------------------------------------- */

int sql_consolidate(const struct sql_cut *cut, struct buf *sql, doc **params, struct error *err)
{
    *params = NULL;
    if (cut->mode == WRITE_NONE)
        return error_set(err, ERR_USAGE, 0, "mode none has no consolidation");
    if (cut->mode == WRITE_REPLACE_PARTITIONS && (cut->partition == NULL || cut->partition->unit == PARTITION_NONE))
        return error_set(err, ERR_USAGE, 0, "mode %s: the run does not say how its target is partitioned", write_mode_name(cut->mode));
    if (sql_check_columns(cut->schema, cut->mode, cut->keys, cut->key_count, cut->order_by, cut->order_count, cut->insert_only,
                          cut->insert_only_count, err))
        return -1;
    if (cut->shard_count > LIMIT_SHARDS_PER_QUERY)
        return error_set(err, ERR_USAGE, 0, "%zu shards in one statement; at most %d", cut->shard_count, LIMIT_SHARDS_PER_QUERY);
    if (cut->load_count == 0 && cut->mode != WRITE_REPLACE)
        return 1;
    assert(cut->load_count == 0 || cut->shard_count > 0);
    struct sql_text t = {.sql = sql, .cut = cut};
    if (cut->load_count == 0)
        put_empty(&t);
    else if (cut->mode == WRITE_APPEND)
        put_insert(&t);
    else
        put_merge(&t);
    if (t.full || sql->len > LIMIT_SQL) {
        error_set(err, ERR_USAGE, 0, "the statement over %zu shards of %zu columns is longer than BigQuery's %d bytes; fold the shards first",
                  cut->shard_count, cut->schema->count, LIMIT_SQL);
        error_reason(err, "sqlTooLong");
        return -1;
    }
    *params = cut->load_count > 0 ? sql_cut_params(cut) : bq_params();
    if (cut->fence && cut->fence->token)
        permits_fence_params(*params, &(struct permit_grant){.slot = cut->fence->slot, .token = cut->fence->token});
    return 0;
}

int sql_view(const struct sql_cut *cut, struct buf *sql, struct error *err)
{
    static const struct sql_exclusion some;
    struct sql_cut shown = *cut;
    shown.mode = WRITE_APPEND;
    shown.exclusions = &some; /* there may be some in the side table by the time it is read */
    shown.exclusion_count = 1;
    struct sql_text t = {.sql = sql, .cut = &shown};
    assert(cut->base && (cut->side || cut->shard_count == 0));
    if (cut->shard_count > 0) {
        put_source(&t);
    } else {
        sql_put_text(&t, "SELECT ");
        sql_put_columns(&t, "");
        sql_put_text(&t, "\nFROM ");
        sql_put_ref(&t, cut->base);
    }
    if (!t.full && sql->len <= LIMIT_VIEW_SQL)
        return 0;
    error_set(err, ERR_USAGE, 0, "the view over %zu shards of %zu columns is longer than BigQuery's %d bytes", cut->shard_count, cut->schema->count, LIMIT_VIEW_SQL);
    error_reason(err, "sqlTooLong");
    return -1;
}
