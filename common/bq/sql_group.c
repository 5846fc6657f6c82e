#include "common/bq/sql_group.h"

#include "common/base/units.h"
#include "common/bq/sql.h"

#include <strings.h>

#define INDEX "item"
#define INDEX_TOO "bqfleet_item"

const struct field *sql_group_index(const struct schema *result)
{
    const struct field *f = schema_find(result, INDEX_TOO);
    return f != NULL ? f : schema_find(result, INDEX);
}

struct schema *sql_select_result(const struct bq_dry_result *r, struct error *err)
{
    if (r->err != NULL) {
        *err = *r->err;
        return NULL;
    }
    if (!r->known || r->fields == NULL) {
        error_set(err, ERR_FATAL, 0, "this service does not say what a statement would do (dry run), so it cannot be looked at");
        return NULL;
    }
    if (strcmp(r->statement, "SELECT") == 0)
        return schema_parse(r->fields, err);
    error_set(err, ERR_USAGE, 0, "it is a %.40s; a query handler is one SELECT, whose rows are written for it", r->statement);
    return NULL;
}

/* --- whether it fits ----------------------------------------------------------------------------------------------------------------------- */

static int check_index(const struct sql_group *g, struct error *err)
{
    const struct field *f = sql_group_index(g->result);
    if (f == NULL)
        return error_set(err, ERR_USAGE, 0, "it returns no column " INDEX ": return the index of the item beside each row, as in SELECT i.item, ... "
                         "FROM UNNEST(@items) AS i");
    if (f->type != FIELD_INT64 || f->mode == MODE_REPEATED)
        return error_set(err, ERR_USAGE, 0, "its column %s is %s%s; it has to be the INT64 of that name in @items", f->name,
                         f->mode == MODE_REPEATED ? "an ARRAY of " : "a ", field_type_name(f->type));
    if (strcasecmp(f->name, INDEX) == 0 && g->target != NULL && schema_find(g->target, INDEX) != NULL)
        return error_set(err, ERR_USAGE, 0, "the target has a column " INDEX " of its own: return the item's index as " INDEX_TOO);
    return 0;
}

static bool is_made_up(const char *name)
{
    size_t digits = name[0] == 'f' ? strspn(name + 1, "0123456789") : 0;
    return digits > 0 && strcmp(name + 1 + digits, "_") == 0;
}

static int unknown_column(const struct sql_group *g, size_t i, struct error *err)
{
    const char *name = g->result->fields[i].name;
    AUTO(free_ptr) const char **known = xcalloc(g->target->count + 1, sizeof(*known));
    for (size_t k = 0; k < g->target->count; k++)
        known[k] = g->target->fields[k].name;
    const char *nearest = units_nearest(name, known, g->target->count);
    if (nearest != NULL)
        return error_set(err, ERR_USAGE, 0, "it returns a column %s, which the target has not; did you mean %s?", name, nearest);
    if (is_made_up(name))
        return error_set(err, ERR_USAGE, 0, "its column %zu has no name; give it that of the target's column, by AS", i + 1);
    return error_set(err, ERR_USAGE, 0, "it returns a column %s, which the target has not", name);
}

static int check_columns(const struct sql_group *g, struct error *err)
{
    const struct schema *r = g->result;
    const struct field *index = sql_group_index(r);
    for (size_t i = 0; i < r->count; i++) {
        const char *name = r->fields[i].name;
        for (size_t k = 0; k < i; k++)
            if (strcasecmp(r->fields[k].name, name) == 0)
                return error_set(err, ERR_USAGE, 0, "it returns two columns %s", name);
        if (&r->fields[i] != index && g->target != NULL && schema_find(g->target, name) == NULL)
            return unknown_column(g, i, err);
    }
    return 0;
}

/* The target's column is among those that it returns, and not as the index. */
static bool returns(const struct sql_group *g, const char *name)
{
    const struct field *f = schema_find(g->result, name);
    return f != NULL && f != sql_group_index(g->result);
}

static int check_missing(const struct sql_group *g, struct error *err)
{
    for (size_t i = 0; g->target != NULL && i < g->target->count; i++) {
        const struct field *f = &g->target->fields[i];
        if (f->mode == MODE_REQUIRED && !f->has_default && !returns(g, f->name))
            return error_set(err, ERR_USAGE, 0, "it does not return column %s, which is REQUIRED in the target", f->name);
    }
    for (size_t i = 0; i < g->key_count; i++)
        if (!returns(g, g->keys[i]))
            return error_set(err, ERR_USAGE, 0, "it does not return column %s, which is one of write.keys", g->keys[i]);
    return 0;
}

int sql_group_check(const struct sql_group *g, struct error *err)
{
    if (check_index(g, err) != 0 || check_columns(g, err) != 0 || check_missing(g, err) != 0)
        return -1;
    return 0;
}

/* --- the statement ------------------------------------------------------------------------------------------------------------------------- */

static bool is_key(const struct sql_group *g, const char *name)
{
    for (size_t i = 0; i < g->key_count; i++)
        if (strcasecmp(g->keys[i], name) == 0)
            return true;
    return false;
}

/* Within a string of SQL. */
static void put_escaped(struct buf *sql, const char *text)
{
    for (; *text; text++)
        buf_xprintf(sql, *text == '\'' || *text == '\\' ? "\\%c" : "%c", *text);
}

static void put_key(struct buf *sql, const char *name, const char *index)
{
    buf_xprintf(sql, "IF(bqfleet_q.`%s` IS NULL, ERROR(CONCAT('bqfleet: key column ", name);
    put_escaped(sql, name);
    buf_xprintf(sql, " is NULL in a row of item ', CAST(bqfleet_q.`%s` AS STRING))), bqfleet_q.`%s`), ", index, name);
}

/* In the target's order, by the target's names. */
static void put_columns(const struct sql_group *g, struct buf *sql, bool values)
{
    const char *index = sql_group_index(g->result)->name;
    for (size_t i = 0; i < g->target->count; i++) {
        const char *name = g->target->fields[i].name;
        if (!returns(g, name))
            continue;
        if (!values)
            buf_xprintf(sql, "`%s`, ", name);
        else if (!is_key(g, name))
            buf_xprintf(sql, "bqfleet_q.`%s`, ", name);
        else
            put_key(sql, name, index);
    }
}

void sql_group_insert(const struct sql_group *g, struct buf *sql)
{
    const char *index = sql_group_index(g->result)->name;
    buf_xputs(sql, "INSERT INTO ");
    sql_quote_ref(sql, g->shard);
    buf_xputs(sql, " (");
    put_columns(g, sql, false);
    buf_xputs(sql, "bqfleet_item, bqfleet_row, bqfleet_load)\nSELECT ");
    put_columns(g, sql, true);
    buf_xprintf(sql, "IF(bqfleet_i.item IS NULL, ERROR(CONCAT('" SQL_GROUP_STRAY "', IFNULL(CAST(bqfleet_q.`%s` AS STRING), 'NULL'), "
                "', which is none of those in @items')), bqfleet_i.item), ROW_NUMBER() OVER (PARTITION BY bqfleet_q.`%s`) - 1, @load\nFROM (\n", index, index);
    buf_xputs(sql, g->select);
    /* A line of its own: the text may end in a comment. */
    buf_xprintf(sql, "\n) AS bqfleet_q LEFT JOIN UNNEST(@items) AS bqfleet_i ON bqfleet_i.item = bqfleet_q.`%s`", index);
}

void sql_group_range(const struct bq_ref *shard, const struct field *column, struct buf *sql)
{
    const char *before = "", *after = "";
    if (column->type == FIELD_DATE) {
        before = "UNIX_DATE(";
        after = ")";
    } else if (column->type == FIELD_TIMESTAMP) {
        before = "UNIX_MICROS(";
        after = ")";
    } else if (column->type == FIELD_DATETIME) {
        before = "UNIX_MICROS(TIMESTAMP(";
        after = ", 'UTC'))";
    }
    buf_xprintf(sql, "SELECT %sMIN(`%s`)%s AS lo, %sMAX(`%s`)%s AS hi, COUNTIF(`%s` IS NULL) AS missing\nFROM ", before, column->name, after, before, column->name,
                after, column->name);
    sql_quote_ref(sql, shard);
    buf_xputs(sql, " WHERE bqfleet_load = @load");
}

doc *sql_group_params(const char *const *items, size_t count, const char *params, const char *load)
{
    static const char *const fields[] = {"item", "key", "payload"}, *const types[] = {"INT64", "STRING", "JSON"};
    doc *list = bq_param_structs(bq_params(), "items", fields, types, ARRAY_LEN(fields), items, count);
    bq_param(list, "params", "JSON", params);
    return bq_param(list, "load", "STRING", load);
}
