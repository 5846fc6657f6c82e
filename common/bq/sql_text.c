#include "common/bq/sql_internal.h"

#include <strings.h>

void sql_put(struct sql_text *t, const char *fmt, ...)
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

void sql_put_text(struct sql_text *t, const char *s)
{
    if (!t->full && buf_puts(t->sql, s))
        t->full = true;
}

void sql_put_ref(struct sql_text *t, const struct bq_ref *ref)
{
    struct buf name = BUF_INIT(4096);
    sql_quote_ref(&name, ref);
    sql_put_text(t, name.data);
    buf_free(&name);
}

const struct field *sql_column(const struct sql_cut *cut, const char *name)
{
    const struct field *f = schema_find(cut->schema, name);
    assert(f); /* sql_check_columns */
    return f;
}

bool sql_listed(const char *const *names, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcasecmp(names[i], name) == 0)
            return true;
    return false;
}

bool sql_null_key(const struct sql_cut *cut, const char *key)
{
    return cut->null_keys != NULL_KEYS_REFUSE && sql_column(cut, key)->mode != MODE_REQUIRED;
}

void sql_put_columns(struct sql_text *t, const char *prefix)
{
    for (size_t i = 0; i < t->cut->schema->count; i++)
        sql_put(t, "%s%s`%s`", i ? ", " : "", prefix, t->cut->schema->fields[i].name);
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

void sql_put_column_nulls(struct sql_text *t)
{
    for (size_t i = 0; i < t->cut->schema->count; i++) {
        AUTO(free_ptr) char *type = field_sql_type(&t->cut->schema->fields[i]);
        without_parameters(type);
        sql_put(t, "%sCAST(NULL AS ", i ? ", " : "");
        sql_put_text(t, type);
        sql_put(t, ")");
    }
}

void sql_put_nulls(struct sql_text *t)
{
    sql_put_text(t, t->cut->mode == WRITE_REPLACE_PARTITIONS ? "CAST(NULL AS STRING), " : "");
    sql_put_column_nulls(t);
}

void sql_put_partition(struct sql_text *t, const char *alias)
{
    struct buf id = BUF_INIT(4096);
    partition_sql(t->cut->partition, alias, &id);
    sql_put_text(t, id.data);
    buf_free(&id);
}

/* What order_by compares. NaN is below every number and above NULL, in ranks and in comparisons alike, though SQL's own > says otherwise:
 * so a FLOAT64 column is two terms, whether it is a number and then which. */
size_t sql_order_terms(const struct field *f, const char *side, char out[SQL_TERMS_MAX][1024])
{
    if (f->type != FIELD_FLOAT64) {
        snprintf(out[0], sizeof(out[0]), "%s.`%s`", side, f->name);
        return 1;
    }
    snprintf(out[0], sizeof(out[0]), "(NOT IS_NAN(%s.`%s`))", side, f->name);
    snprintf(out[1], sizeof(out[1]), "IF(IS_NAN(%s.`%s`), NULL, %s.`%s`)", side, f->name, side, f->name);
    return 2;
}

/* --- parts of a source ------------------------------------------------------------------------------------------------------------------- */

void sql_put_loads(struct sql_text *t)
{
    const struct sql_cut *cut = t->cut;
    sql_put_text(t, "    bqfleet_loads AS (SELECT ");
    if (cut->side) {
        sql_put_text(t, "L.load, L.number AS wanted FROM ");
        sql_put_ref(t, cut->side);
        sql_put_text(t, " AS L WHERE L.kind = 'load'),\n");
    } else {
        sql_put_text(t, "L.load, L.rows AS wanted FROM UNNEST(@loads) AS L),\n");
    }
}

void sql_put_found(struct sql_text *t)
{
    sql_put_text(t, "    bqfleet_found AS (SELECT bqfleet_load AS load, COUNT(*) AS found FROM bqfleet_staged GROUP BY bqfleet_load)");
}

void sql_put_load_check(struct sql_text *t)
{
    sql_put_text(t, "\n  FROM bqfleet_loads AS L LEFT JOIN bqfleet_found AS F ON F.load = L.load\n"
                    "  WHERE IF(IFNULL(F.found, 0) = L.wanted, FALSE, ERROR(CONCAT('bqfleet: load ', L.load, ' has ', "
                    "CAST(IFNULL(F.found, 0) AS STRING), ' staged rows instead of ', CAST(L.wanted AS STRING))))\n");
}
