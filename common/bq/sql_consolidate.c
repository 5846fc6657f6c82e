#include "common/bq/sql.h"

#include "common/base/limits.h"

#include <strings.h>

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

struct text { /* the statement while it is written; adding never fails, `full` says whether it fitted */
    struct buf *sql;
    const struct sql_cut *cut;
    bool full;
};

static void put(struct text *t, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void put(struct text *t, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char piece[1024]; /* every piece is a phrase of ours with at most a name in it */
    int n = vsnprintf(piece, sizeof(piece), fmt, ap);
    va_end(ap);
    assert(n >= 0 && (size_t)n < sizeof(piece));
    if (!t->full && buf_add(t->sql, piece, (size_t)n))
        t->full = true;
}

static void put_text(struct text *t, const char *s)
{
    if (!t->full && buf_puts(t->sql, s))
        t->full = true;
}

static void put_ref(struct text *t, const struct bq_ref *ref)
{
    struct buf name = BUF_INIT(4096);
    sql_quote_ref(&name, ref);
    put_text(t, name.data);
    buf_free(&name);
}

/* The column's name as the schema writes it: SQL does not mind the case, but readers do. */
static const struct field *column(const struct sql_cut *cut, const char *name)
{
    const struct field *f = schema_find(cut->schema, name);
    assert(f); /* sql_check_columns */
    return f;
}

static bool listed(const char *const *names, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcasecmp(names[i], name) == 0)
            return true;
    return false;
}

static void put_columns(struct text *t, const char *prefix)
{
    for (size_t i = 0; i < t->cut->schema->count; i++)
        put(t, "%s%s`%s`", i ? ", " : "", prefix, t->cut->schema->fields[i].name);
}

/* "NUMERIC(10, 2)" becomes "NUMERIC": not every CAST takes the parameters, and a NULL has no need of them. Names hold no parentheses. */
static void without_parameters(char *type)
{
    char *to = type;
    for (int depth = 0; *type; type++) {
        depth += *type == '(';
        if (depth == 0)
            *to++ = *type;
        depth -= *type == ')';
    }
    *to = '\0';
}

static void put_nulls(struct text *t)
{
    for (size_t i = 0; i < t->cut->schema->count; i++) {
        AUTO(free_ptr) char *type = field_sql_type(&t->cut->schema->fields[i]);
        without_parameters(type);
        put(t, "%sCAST(NULL AS ", i ? ", " : "");
        put_text(t, type);
        put(t, ")");
    }
}

/* --- order_by ---------------------------------------------------------------------------------------------------------------------------- */

/* What order_by compares. NaN is below every number and above NULL, in ranks and in comparisons alike, though SQL's own > says otherwise:
 * so a FLOAT64 column is two terms, whether it is a number and then which. */
#define TERMS_MAX 2
static size_t order_terms(const struct field *f, const char *side, char out[TERMS_MAX][1024])
{
    if (f->type != FIELD_FLOAT64) {
        snprintf(out[0], sizeof(out[0]), "%s.`%s`", side, f->name);
        return 1;
    }
    snprintf(out[0], sizeof(out[0]), "(NOT IS_NAN(%s.`%s`))", side, f->name);
    snprintf(out[1], sizeof(out[1]), "IF(IS_NAN(%s.`%s`), NULL, %s.`%s`)", side, f->name, side, f->name);
    return 2;
}

static void put_rank(struct text *t)
{
    const struct sql_cut *cut = t->cut;
    put_text(t, "ROW_NUMBER() OVER (PARTITION BY ");
    for (size_t i = 0; i < cut->key_count; i++)
        put(t, "%sbqfleet_r.`%s`", i ? ", " : "", column(cut, cut->keys[i])->name);
    put_text(t, " ORDER BY ");
    for (size_t i = 0; i < cut->order_count; i++) {
        char term[TERMS_MAX][1024];
        size_t n = order_terms(column(cut, cut->order_by[i]), "bqfleet_r", term);
        for (size_t k = 0; k < n; k++) {
            put_text(t, term[k]);
            put_text(t, " DESC NULLS LAST, ");
        }
    }
    put_text(t, cut->ages ? "bqfleet_r.bqfleet_age DESC, " : "");
    put_text(t, "bqfleet_r.bqfleet_item DESC, bqfleet_r.bqfleet_row DESC) AS bqfleet_rank");
}

/* S ranks at least as high as T: S1 > T1 OR (S1 = T1 AND (S2 > T2 OR (S2 = T2 AND ... Sn >= Tn))), where a NULL is lowest. */
static void put_not_lower(struct text *t)
{
    const struct sql_cut *cut = t->cut;
    size_t depth = 0;
    for (size_t i = 0; i < cut->order_count; i++) {
        char ours[TERMS_MAX][1024], theirs[TERMS_MAX][1024];
        const struct field *f = column(cut, cut->order_by[i]);
        size_t n = order_terms(f, "bqfleet_s", ours);
        order_terms(f, "bqfleet_t", theirs);
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
            put_text(t, piece);
        }
    }
    for (; depth > 0; depth--)
        put_text(t, "))");
}

/* --- the source -------------------------------------------------------------------------------------------------------------------------- */

static void put_loads(struct text *t)
{
    const struct sql_cut *cut = t->cut;
    put_text(t, "    bqfleet_loads AS (SELECT ");
    if (cut->side) {
        put_text(t, "L.load, L.number AS wanted FROM ");
        put_ref(t, cut->side);
        put_text(t, " AS L WHERE L.kind = 'load'),\n");
    } else {
        put_text(t, "L.load, L.rows AS wanted FROM UNNEST(@loads) AS L),\n");
    }
}

static void put_staged(struct text *t)
{
    const struct sql_cut *cut = t->cut;
    put_text(t, "    bqfleet_staged AS (\n");
    for (size_t i = 0; i < cut->shard_count; i++) {
        put_text(t, i ? "      UNION ALL SELECT " : "      SELECT ");
        put_columns(t, "");
        put_text(t, ", bqfleet_item, bqfleet_row, ");
        if (cut->ages)
            put(t, "CONCAT('%d/', bqfleet_load) AS bqfleet_load, %d AS bqfleet_age FROM ", cut->ages[i], cut->ages[i]);
        else
            put_text(t, "bqfleet_load FROM ");
        put_ref(t, &cut->shards[i]);
        put_text(t, "\n");
    }
    put_text(t, "    ),\n"
                "    bqfleet_found AS (SELECT bqfleet_load AS load, COUNT(*) AS found FROM bqfleet_staged GROUP BY bqfleet_load),\n");
}

static void put_accepted(struct text *t)
{
    const struct sql_cut *cut = t->cut;
    put_text(t, "    bqfleet_rows AS (\n      SELECT bqfleet_r.*");
    if (cut->key_count > 0) {
        put_text(t, ", ");
        put_rank(t);
    }
    put_text(t, "\n      FROM bqfleet_staged AS bqfleet_r\n");
    if (cut->exclusion_count > 0) {
        put_text(t, "      LEFT JOIN ");
        if (cut->side) {
            put_text(t, "(SELECT D.load, D.number AS item FROM ");
            put_ref(t, cut->side);
            put_text(t, " AS D WHERE D.kind = 'exclusion') AS bqfleet_x");
        } else {
            put_text(t, "UNNEST(@exclusions) AS bqfleet_x");
        }
        put_text(t, " ON bqfleet_x.load = bqfleet_r.bqfleet_load AND bqfleet_x.item = bqfleet_r.bqfleet_item\n");
    }
    put_text(t, "      WHERE bqfleet_r.bqfleet_load IN (SELECT L.load FROM bqfleet_loads AS L)");
    put_text(t, cut->exclusion_count > 0 ? " AND bqfleet_x.load IS NULL\n    )\n" : "\n    )\n");
}

static void put_checks(struct text *t)
{
    const struct sql_cut *cut = t->cut;
    put_text(t, "  UNION ALL\n  SELECT ");
    put_nulls(t);
    put_text(t, "\n  FROM bqfleet_loads AS L LEFT JOIN bqfleet_found AS F ON F.load = L.load\n"
                "  WHERE IF(IFNULL(F.found, 0) = L.wanted, FALSE, ERROR(CONCAT('bqfleet: load ', L.load, ' has ', "
                "CAST(IFNULL(F.found, 0) AS STRING), ' staged rows instead of ', CAST(L.wanted AS STRING))))\n");
    if (cut->side) {
        put_text(t, "  UNION ALL\n  SELECT ");
        put_nulls(t);
        put_text(t, "\n  FROM (SELECT COUNTIF(D.kind = 'load') AS loads, COUNTIF(D.kind = 'exclusion') AS exclusions, "
                    "IFNULL(SUM(D.number), 0) AS total FROM ");
        put_ref(t, cut->side);
        put_text(t, " AS D) AS C\n"
                    "  WHERE IF(C.loads = @side_loads AND C.exclusions = @side_exclusions AND C.total = @side_total, FALSE, "
                    "ERROR(CONCAT('bqfleet: the side table lists ', CAST(C.loads AS STRING), ' loads and ', "
                    "CAST(C.exclusions AS STRING), ' exclusions, not what was written')))\n");
    }
    if (cut->fence) {
        put_text(t, "  UNION ALL\n  SELECT ");
        put_nulls(t);
        put_text(t, "\n  FROM UNNEST([1]) AS bqfleet_one\n  WHERE IF(");
        put_text(t, cut->fence);
        put_text(t, ", FALSE, ERROR(CONCAT('bqfleet: the permit is lost', CAST(bqfleet_one AS STRING))))\n");
    }
}

static void put_source(struct text *t)
{
    put_text(t, "  WITH\n");
    put_loads(t);
    put_staged(t);
    put_accepted(t);
    put_text(t, "  SELECT ");
    put_columns(t, "bqfleet_r.");
    put_text(t, t->cut->key_count > 0 ? "\n  FROM bqfleet_rows AS bqfleet_r WHERE bqfleet_r.bqfleet_rank = 1\n" : "\n  FROM bqfleet_rows AS bqfleet_r\n");
    put_checks(t);
}

/* --- the statements ---------------------------------------------------------------------------------------------------------------------- */

static bool pruned(const struct sql_cut *cut)
{
    return cut->has_range && cut->partition_column && listed(cut->keys, cut->key_count, cut->partition_column);
}

static void put_update(struct text *t)
{
    const struct sql_cut *cut = t->cut;
    size_t set = 0;
    for (size_t i = 0; i < cut->schema->count; i++) {
        const char *name = cut->schema->fields[i].name;
        if (listed(cut->keys, cut->key_count, name) || listed(cut->insert_only, cut->insert_only_count, name))
            continue;
        if (set++ == 0) {
            put_text(t, "WHEN MATCHED");
            if (cut->order_count > 0) {
                put_text(t, " AND ");
                put_not_lower(t);
            }
            put_text(t, " THEN\n  UPDATE SET ");
        } else {
            put_text(t, ", ");
        }
        put(t, "`%s` = ", name);
        put(t, "bqfleet_s.`%s`", name);
    }
    if (set > 0)
        put_text(t, "\n");
}

static void put_merge(struct text *t)
{
    const struct sql_cut *cut = t->cut;
    put_text(t, "MERGE INTO ");
    put_ref(t, cut->target);
    put_text(t, " AS bqfleet_t\nUSING (\n");
    put_source(t);
    put_text(t, ") AS bqfleet_s\nON ");
    if (cut->mode == WRITE_REPLACE) {
        put_text(t, "FALSE\nWHEN NOT MATCHED BY SOURCE THEN\n  DELETE\n");
    } else {
        for (size_t i = 0; i < cut->key_count; i++) {
            const char *name = column(cut, cut->keys[i])->name;
            put(t, "%sbqfleet_t.`%s`", i ? " AND " : "", name);
            put(t, " = bqfleet_s.`%s`", name);
        }
        if (pruned(cut))
            put(t, " AND bqfleet_t.`%s` BETWEEN @part_lo AND @part_hi", column(cut, cut->partition_column)->name);
        put_text(t, "\n");
        put_update(t);
    }
    put_text(t, "WHEN NOT MATCHED THEN\n  INSERT (");
    put_columns(t, "");
    put_text(t, ")\n  VALUES (");
    put_columns(t, "bqfleet_s.");
    put_text(t, ")");
}

static void put_insert(struct text *t)
{
    put_text(t, "INSERT INTO ");
    put_ref(t, t->cut->target);
    put_text(t, " (");
    put_columns(t, "");
    put_text(t, ")\nSELECT ");
    put_columns(t, "bqfleet_s.");
    put_text(t, "\nFROM (\n");
    put_source(t);
    put_text(t, ") AS bqfleet_s");
}

static void put_empty(struct text *t)
{
    put_text(t, "DELETE FROM ");
    put_ref(t, t->cut->target);
    put_text(t, "\nWHERE ");
    if (t->cut->fence) {
        put_text(t, "IF(");
        put_text(t, t->cut->fence);
        put_text(t, ", TRUE, ERROR('bqfleet: the permit is lost'))");
    } else {
        put_text(t, "TRUE");
    }
}

/* --- parameters -------------------------------------------------------------------------------------------------------------------------- */

#define NUMBER_TEXT 24 /* bytes of an INT64 in decimal, with the NUL */

/* names and numbers as rows of two fields. */
static doc *pairs_param(doc *params, const char *name, const char *second, size_t count, const char *(*text)(const struct sql_cut *, size_t),
                        int64_t (*number)(const struct sql_cut *, size_t), const struct sql_cut *cut)
{
    const char *const fields[] = {"load", second}, *const types[] = {"STRING", "INT64"};
    AUTO(free_ptr) const char **values = xreallocarray(NULL, count * 2 + 1, sizeof(*values));
    AUTO(free_ptr) char *digits = xreallocarray(NULL, count + 1, NUMBER_TEXT);
    for (size_t i = 0; i < count; i++) {
        snprintf(digits + i * NUMBER_TEXT, NUMBER_TEXT, "%" PRId64, number(cut, i));
        values[2 * i] = text(cut, i);
        values[2 * i + 1] = digits + i * NUMBER_TEXT;
    }
    return bq_param_structs(params, name, fields, types, 2, values, count);
}

static const char *load_id(const struct sql_cut *cut, size_t i) { return cut->loads[i].id; }
static int64_t load_rows(const struct sql_cut *cut, size_t i) { return cut->loads[i].rows; }
static const char *exclusion_load(const struct sql_cut *cut, size_t i) { return cut->exclusions[i].load; }
static int64_t exclusion_item(const struct sql_cut *cut, size_t i) { return cut->exclusions[i].item; }

/* Proleptic Gregorian date of a day number, counted from 1970-01-01; years 1 to 9999 are all that BigQuery has. */
static void civil(int64_t days, int *year, int *month, int *day)
{
    int64_t z = days + 719468, era = (z >= 0 ? z : z - 146096) / 146097; /* 146,097 days in 400 years, beginning on 1 March */
    int64_t in_era = z - era * 146097;
    int64_t y = (in_era - in_era / 1460 + in_era / 36524 - in_era / 146096) / 365;
    int64_t in_year = in_era - (365 * y + y / 4 - y / 100), m = (5 * in_year + 2) / 153;
    *day = (int)(in_year - (153 * m + 2) / 5 + 1);
    *month = (int)(m < 10 ? m + 3 : m - 9);
    *year = (int)(y + era * 400 + (*month <= 2));
}

#define US_PER_DAY (86400 * US_PER_S)
static doc *range_param(doc *params, const char *name, const struct field *f, int64_t value)
{
    char text[64];
    int year, month, day;
    if (f->type == FIELD_INT64) {
        snprintf(text, sizeof(text), "%" PRId64, value);
    } else if (f->type == FIELD_DATE) {
        civil(value, &year, &month, &day);
        snprintf(text, sizeof(text), "%04d-%02d-%02d", year, month, day);
    } else {
        int64_t days = value / US_PER_DAY - (value % US_PER_DAY < 0), us = value - days * US_PER_DAY;
        civil(days, &year, &month, &day);
        snprintf(text, sizeof(text), "%04d-%02d-%02d %02d:%02d:%02d.%06d%s", year, month, day, (int)(us / (3600 * US_PER_S)),
                 (int)(us / (60 * US_PER_S) % 60), (int)(us / US_PER_S % 60), (int)(us % US_PER_S),
                 f->type == FIELD_TIMESTAMP ? "+00:00" : "");
    }
    return bq_param(params, name, field_type_name(f->type), text);
}

static doc *parameters(const struct sql_cut *cut)
{
    doc *params = bq_params();
    if (cut->side) {
        int64_t total = 0;
        for (size_t i = 0; i < cut->load_count; i++)
            total += cut->loads[i].rows;
        for (size_t i = 0; i < cut->exclusion_count; i++)
            total += cut->exclusions[i].item;
        bq_param_int(params, "side_loads", (int64_t)cut->load_count);
        bq_param_int(params, "side_exclusions", (int64_t)cut->exclusion_count);
        bq_param_int(params, "side_total", total);
    } else {
        pairs_param(params, "loads", "rows", cut->load_count, load_id, load_rows, cut);
        if (cut->exclusion_count > 0)
            pairs_param(params, "exclusions", "item", cut->exclusion_count, exclusion_load, exclusion_item, cut);
    }
    if (cut->mode == WRITE_MERGE && pruned(cut)) {
        const struct field *f = column(cut, cut->partition_column);
        range_param(params, "part_lo", f, cut->range_lo);
        range_param(params, "part_hi", f, cut->range_hi);
    }
    return params;
}

int sql_consolidate(const struct sql_cut *cut, struct buf *sql, doc **params, struct error *err)
{
    *params = NULL;
    if (cut->mode != WRITE_MERGE && cut->mode != WRITE_APPEND && cut->mode != WRITE_REPLACE)
        return error_set(err, ERR_USAGE, 0, "mode %s has no consolidation; merge, append and replace have", write_mode_name(cut->mode));
    if (sql_check_columns(cut->schema, cut->mode, cut->keys, cut->key_count, cut->order_by, cut->order_count, cut->insert_only,
                          cut->insert_only_count, err))
        return -1;
    if (cut->shard_count > LIMIT_SHARDS_PER_QUERY)
        return error_set(err, ERR_USAGE, 0, "%zu shards in one statement; at most %d", cut->shard_count, LIMIT_SHARDS_PER_QUERY);
    if (cut->load_count == 0 && cut->mode != WRITE_REPLACE)
        return 1;
    assert(cut->load_count == 0 || cut->shard_count > 0);
    struct text t = {.sql = sql, .cut = cut};
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
    *params = cut->load_count > 0 ? parameters(cut) : bq_params();
    return 0;
}
