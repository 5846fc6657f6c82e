#include "common/bq/sql_dedupe.h"

#include "common/base/limits.h"
#include "common/bq/permits.h"
#include "common/bq/sql_internal.h"

#define DAY_FIRST INT64_C(-719162) /* 0001-01-01, and 9999-12-31: all that BigQuery has */
#define DAY_LAST INT64_C(2932896)
#define US_PER_DAY (86400 * US_PER_S)

/* The part of a cut that the pieces of text want. */
static struct sql_cut cut_of(const struct sql_dedupe *d)
{
    return (struct sql_cut){.target = d->table, .schema = d->schema, .mode = WRITE_MERGE, .keys = d->keys, .key_count = d->key_count,
                            .null_keys = d->null_keys == NULL_KEYS_EQUAL ? NULL_KEYS_EQUAL : NULL_KEYS_DISTINCT, .order_by = d->order_by,
                            .order_count = d->order_count, .partition = d->partition, .fence = d->fence};
}

int sql_dedupe_check(const struct sql_dedupe *d, struct error *err)
{
    return sql_check_table(d->schema, d->keys, d->key_count, d->order_by, d->order_count, err);
}

/* --- which rows -------------------------------------------------------------------------------------------------------------------------- */

/* Constants, since only those prune, and a table that demands a filter takes them for one; then the very partitions. */
static void put_scope(struct sql_text *t, const struct sql_scope *s, const char *alias, const char *name)
{
    const struct partition *p = t->cut->partition;
    bool range = s->count == 0 || s->has_range, null = s->count == 0 || s->has_null;
    sql_put(t, "(");
    if (range)
        sql_put(t, "%s.`%s` BETWEEN @%s_lo AND @%s_hi", alias, p->column, name, name);
    if (null)
        sql_put(t, "%s%s.`%s` IS NULL", range ? " OR " : "", alias, p->column);
    sql_put(t, ")");
    if (s->count == 0)
        return;
    sql_put(t, " AND ");
    sql_put_partition(t, alias);
    sql_put(t, " IN UNNEST(@%s)", name);
}

static void scope_params(doc *params, const struct partition *p, const struct sql_scope *s, const char *name)
{
    int64_t lo = s->lo, hi = s->hi;
    char text[64], lo_name[32], hi_name[32];
    snprintf(lo_name, sizeof(lo_name), "%s_lo", name);
    snprintf(hi_name, sizeof(hi_name), "%s_hi", name);
    if (s->count == 0) {
        lo = p->type == FIELD_INT64 ? INT64_MIN : p->type == FIELD_DATE ? DAY_FIRST : DAY_FIRST * US_PER_DAY;
        hi = p->type == FIELD_INT64 ? INT64_MAX : p->type == FIELD_DATE ? DAY_LAST : (DAY_LAST + 1) * US_PER_DAY - 1;
    }
    if (s->count == 0 || s->has_range) {
        partition_value(p->type, lo, text);
        bq_param(params, lo_name, field_type_name(p->type), text);
        partition_value(p->type, hi, text);
        bq_param(params, hi_name, field_type_name(p->type), text);
    }
    if (s->count > 0)
        bq_param_array(params, name, "STRING", s->ids, s->count);
}

static void put_keys(struct sql_text *t, const char *alias)
{
    const struct sql_cut *cut = t->cut;
    for (size_t i = 0; i < cut->key_count; i++)
        sql_put(t, "%s%s.`%s`", i ? ", " : "", alias, sql_column(cut, cut->keys[i])->name);
}

/* Whether the row has NULL in a key where that equals nothing. */
static bool can_be_apart(const struct sql_cut *cut)
{
    bool any = false;
    for (size_t i = 0; i < cut->key_count && cut->null_keys == NULL_KEYS_DISTINCT; i++)
        any = any || sql_null_key(cut, cut->keys[i]);
    return any;
}

static void put_is_apart(struct sql_text *t, const char *alias)
{
    const struct sql_cut *cut = t->cut;
    bool first = true;
    for (size_t i = 0; i < cut->key_count; i++) {
        if (!sql_null_key(cut, cut->keys[i]))
            continue;
        sql_put(t, "%s%s.`%s` IS NULL", first ? "" : " OR ", alias, sql_column(cut, cut->keys[i])->name);
        first = false;
    }
}

static int done(const struct sql_text *t, struct error *err)
{
    if (!t->full && t->sql->len <= LIMIT_SQL)
        return 0;
    return error_set(err, ERR_USAGE, 0, "the statement over %zu columns is longer than BigQuery's %d bytes", t->cut->schema->count, LIMIT_SQL);
}

/* --- the survey -------------------------------------------------------------------------------------------------------------------------- */

int sql_dedupe_survey(const struct sql_dedupe *d, struct buf *sql, doc **params, struct error *err)
{
    struct sql_cut cut = cut_of(d);
    struct sql_text t = {.sql = sql, .cut = &cut};
    sql_put_text(&t, "SELECT bqfleet_a.bqfleet_part AS part, SUM(bqfleet_a.bqfleet_rows) AS total, "
                     "SUM(IF(bqfleet_a.bqfleet_same > 1, bqfleet_a.bqfleet_rows, 0)) AS repeated, "
                     "COUNTIF(bqfleet_a.bqfleet_same > 1 AND bqfleet_a.bqfleet_first = 1) AS several, "
                     "SUM(IF(bqfleet_a.bqfleet_null, bqfleet_a.bqfleet_rows, 0)) AS missing\n"
                     "FROM (\n  SELECT bqfleet_g.bqfleet_part, bqfleet_g.bqfleet_rows, bqfleet_g.bqfleet_null, "
                     "IF(bqfleet_g.bqfleet_null, 1, SUM(bqfleet_g.bqfleet_rows) OVER (PARTITION BY ");
    put_keys(&t, "bqfleet_g");
    sql_put_text(&t, ")) AS bqfleet_same, ROW_NUMBER() OVER (PARTITION BY ");
    put_keys(&t, "bqfleet_g");
    sql_put_text(&t, " ORDER BY bqfleet_g.bqfleet_part) AS bqfleet_first\n  FROM (\n    SELECT ");
    if (d->partition)
        sql_put_partition(&t, "bqfleet_t");
    else
        sql_put_text(&t, "''");
    sql_put_text(&t, " AS bqfleet_part, ");
    if (can_be_apart(&cut))
        put_is_apart(&t, "bqfleet_t");
    else
        sql_put_text(&t, "FALSE");
    sql_put_text(&t, " AS bqfleet_null, ");
    put_keys(&t, "bqfleet_t");
    sql_put_text(&t, ", COUNT(*) AS bqfleet_rows\n    FROM ");
    sql_put_ref(&t, d->table);
    sql_put_text(&t, " AS bqfleet_t");
    if (d->partition) {
        sql_put_text(&t, "\n    WHERE ");
        put_scope(&t, &d->compared, "bqfleet_t", "compared");
    }
    sql_put_text(&t, "\n    GROUP BY bqfleet_part, bqfleet_null, ");
    put_keys(&t, "bqfleet_t");
    sql_put_text(&t, "\n  ) AS bqfleet_g\n) AS bqfleet_a\nGROUP BY part\nHAVING repeated > 0 OR missing > 0\nORDER BY part");
    *params = bq_params();
    if (d->partition)
        scope_params(*params, d->partition, &d->compared, "compared");
    return done(&t, err);
}

/* --- the rewrite ------------------------------------------------------------------------------------------------------------------------- */

/* Rows that are alike in all of order_by are ordered by all that they have, so that statements one after another agree on which of them stays. Those that are
 * alike in that, too, are the same row for all purposes. */
static void put_first(struct sql_text *t, bool apart)
{
    const struct sql_cut *cut = t->cut;
    sql_put_text(t, "ROW_NUMBER() OVER (PARTITION BY ");
    put_keys(t, "bqfleet_r");
    if (apart) {
        sql_put_text(t, ", IF(");
        put_is_apart(t, "bqfleet_r");
        sql_put_text(t, ", TO_JSON_STRING(bqfleet_r), NULL)"); /* they all stay: not in one place, which could be more than a machine holds */
    }
    sql_put_text(t, " ORDER BY ");
    for (size_t i = 0; i < cut->order_count; i++) {
        char term[SQL_TERMS_MAX][1024];
        size_t n = sql_order_terms(sql_column(cut, cut->order_by[i]), "bqfleet_r", term);
        for (size_t k = 0; k < n; k++) {
            sql_put_text(t, term[k]);
            sql_put_text(t, " DESC NULLS LAST, ");
        }
    }
    sql_put_text(t, "TO_JSON_STRING(bqfleet_r) DESC) AS bqfleet_rank");
}

static void put_kept(struct sql_text *t, const struct sql_dedupe *d, const char *scope)
{
    bool apart = can_be_apart(t->cut);
    sql_put_text(t, "  SELECT bqfleet_q.* EXCEPT (bqfleet_rank)\n  FROM (\n    SELECT bqfleet_r.*, ");
    put_first(t, apart);
    sql_put_text(t, "\n    FROM ");
    sql_put_ref(t, d->table);
    sql_put_text(t, " AS bqfleet_r");
    if (d->partition) {
        sql_put_text(t, "\n    WHERE ");
        put_scope(t, &d->compared, "bqfleet_r", scope);
    }
    sql_put_text(t, "\n  ) AS bqfleet_q\n  WHERE (bqfleet_q.bqfleet_rank = 1");
    if (apart) {
        sql_put_text(t, " OR ");
        put_is_apart(t, "bqfleet_q");
    }
    sql_put_text(t, ")");
    if (d->partition && d->apart) {
        sql_put_text(t, " AND ");
        put_scope(t, &d->rewritten, "bqfleet_q", "rewritten");
    }
    sql_put_text(t, "\n");
}

/* A branch without rows. Its columns are those that will be written: a column that the table got since it was looked at would lose its values, and makes the
 * branches differ, so that the statement fails. */
static void put_empty(struct sql_text *t)
{
    struct buf condition = BUF_INIT(LIMIT_PERMIT_SQL);
    sql_put_text(t, "  UNION ALL\n  SELECT ");
    sql_put_nulls(t);
    sql_put_text(t, "\n  FROM UNNEST([1]) AS bqfleet_one\n  WHERE ");
    if (t->cut->fence == NULL) {
        sql_put_text(t, "FALSE\n");
        return;
    }
    permits_fence(t->cut->fence->permits, &condition);
    sql_put_text(t, "IF(");
    sql_put_text(t, condition.data);
    sql_put_text(t, ", FALSE, ERROR(CONCAT('bqfleet: the permit is lost', CAST(bqfleet_one AS STRING))))\n");
    buf_free(&condition);
}

int sql_dedupe(const struct sql_dedupe *d, struct buf *sql, doc **params, struct error *err)
{
    struct sql_cut cut = cut_of(d);
    struct sql_text t = {.sql = sql, .cut = &cut};
    const struct sql_scope *scope = d->apart ? &d->rewritten : &d->compared;
    const char *compared = d->apart ? "compared" : "rewritten";
    sql_put_text(&t, "MERGE INTO ");
    sql_put_ref(&t, d->table);
    sql_put_text(&t, " AS bqfleet_t\nUSING (\n");
    put_kept(&t, d, compared);
    put_empty(&t);
    sql_put_text(&t, ") AS bqfleet_s\nON FALSE\nWHEN NOT MATCHED BY SOURCE");
    if (d->partition) {
        sql_put_text(&t, " AND ");
        put_scope(&t, scope, "bqfleet_t", "rewritten");
    }
    sql_put_text(&t, " THEN\n  DELETE\nWHEN NOT MATCHED THEN\n  INSERT (");
    sql_put_columns(&t, "");
    sql_put_text(&t, ")\n  VALUES (");
    sql_put_columns(&t, "bqfleet_s.");
    sql_put_text(&t, ")");
    *params = bq_params();
    if (d->partition)
        scope_params(*params, d->partition, scope, "rewritten");
    if (d->partition && d->apart)
        scope_params(*params, d->partition, &d->compared, "compared");
    if (d->fence && d->fence->token)
        permits_fence_params(*params, &(struct permit_grant){.slot = d->fence->slot, .token = d->fence->token});
    return done(&t, err);
}
