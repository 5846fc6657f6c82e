#include "common/bq/sql.h"

#include <strings.h>

static const char *const mode_names[] = {
    [WRITE_MERGE] = "merge", [WRITE_APPEND] = "append", [WRITE_REPLACE] = "replace",
    [WRITE_REPLACE_PARTITIONS] = "replace-partitions", [WRITE_NONE] = "none",
};

const char *const null_keys_names[] = {"refuse", "equal", "distinct"};

const char *write_mode_name(enum write_mode mode)
{
    assert((size_t)mode < ARRAY_LEN(mode_names));
    return mode_names[mode];
}

/* --- identifiers ------------------------------------------------------------------------------------------------------------------------ */

#define IDENTIFIER_MAX 300 /* bytes: BigQuery allows 300 characters */

/* Within backquotes only a backquote, a backslash and line breaks could end or change an identifier. The other characters refused here
 * are those that BigQuery's flexible column names exclude. */
bool sql_identifier_ok(const char *name)
{
    for (const unsigned char *p = (const unsigned char *)name; *p; p++)
        if (*p < 0x20 || *p == 0x7f || strchr("!\"$()*,./;?@[\\]^`{}~", *p))
            return false;
    size_t len = strlen(name);
    return len > 0 && len <= IDENTIFIER_MAX;
}

void sql_quote(struct buf *sql, const char *identifier)
{
    if (!sql_identifier_ok(identifier))
        abort();
    buf_xprintf(sql, "`%s`", identifier);
}

/* Projects may carry a domain: "example.com:name". */
static bool project_ok(const char *name)
{
    return *name && name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:")] == '\0';
}

void sql_quote_ref(struct buf *sql, const struct bq_ref *ref)
{
    if (!project_ok(ref->project))
        abort();
    buf_xprintf(sql, "`%s`.", ref->project);
    sql_quote(sql, ref->dataset);
    buf_xputs(sql, ".");
    sql_quote(sql, ref->table);
}

void sql_nothing(struct buf *sql)
{
    buf_xputs(sql, "SELECT 'bqfleet: nothing to write'");
}

void sql_touch(const struct bq_ref *ref, struct buf *sql)
{
    buf_xputs(sql, "DELETE FROM ");
    sql_quote_ref(sql, ref);
    buf_xputs(sql, "\nWHERE FALSE");
}

void sql_give_up(struct buf *sql, const char *why)
{
    buf_xputs(sql, "SELECT ERROR('");
    for (const unsigned char *p = (const unsigned char *)why; *p; p++) {
        if (*p == '\'' || *p == '\\')
            buf_xprintf(sql, "\\%c", *p);
        else
            buf_xprintf(sql, "%c", *p < 0x20 || *p == 0x7f ? ' ' : *p);
    }
    buf_xputs(sql, "')");
}

/* --- whether columns can play their parts ---------------------------------------------------------------------------------------------- */

/* Why a column cannot be a key, or NULL. Keys are compared with =, and equal keys must mean the same row. */
static const char *key_trouble(const struct field *f)
{
    if (f->mode == MODE_REPEATED)
        return "it is an ARRAY; use a column with one value";
    switch (f->type) {
    case FIELD_FLOAT64:
        return "it is a FLOAT64, whose equality depends on rounding and never holds for NaN; store the key as NUMERIC, INT64 or STRING";
    case FIELD_JSON: case FIELD_GEOGRAPHY: case FIELD_STRUCT: case FIELD_INTERVAL: case FIELD_RANGE:
        return "values of its type cannot be compared exactly; use a STRING, INT64, NUMERIC, BYTES, BOOL, DATE, DATETIME, TIME or "
               "TIMESTAMP column";
    default:
        return NULL;
    }
}

static const char *order_trouble(const struct field *f)
{
    if (f->mode == MODE_REPEATED)
        return "it is an ARRAY";
    switch (f->type) {
    case FIELD_JSON: case FIELD_GEOGRAPHY: case FIELD_STRUCT: case FIELD_RANGE:
        return "values of its type have no order";
    default:
        return NULL;
    }
}

static bool listed(const char *const *names, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcasecmp(names[i], name) == 0)
            return true;
    return false;
}

static int check_list(const struct schema *schema, const char *what, const char *const *names, size_t count,
                      const char *(*trouble)(const struct field *), struct error *err)
{
    for (size_t i = 0; i < count; i++) {
        const struct field *f = schema_find(schema, names[i]);
        if (f == NULL)
            return error_set(err, ERR_USAGE, 0, "%s: the target table has no column %s", what, names[i]);
        const char *why = trouble ? trouble(f) : NULL;
        if (why)
            return error_set(err, ERR_USAGE, 0, "%s: column %s (%s) cannot be used: %s", what, f->name, field_type_name(f->type), why);
        if (listed(names, i, names[i]))
            return error_set(err, ERR_USAGE, 0, "%s: column %s is named twice", what, f->name);
    }
    return 0;
}

static int check_own_names(const struct schema *schema, struct error *err)
{
    for (size_t i = 0; i < schema->count; i++) {
        const char *name = schema->fields[i].name;
        if (strncasecmp(name, "bqfleet_", 8) == 0)
            return error_set(err, ERR_USAGE, 0, "the target table has a column %s; names that begin with bqfleet_ are taken for bookkeeping",
                             name);
        if (!sql_identifier_ok(name))
            return error_set(err, ERR_USAGE, 0, "the target table has a column whose name cannot be written in SQL: %s", name);
    }
    return 0;
}

int sql_check_table(const struct schema *schema, const char *const *keys, size_t key_count, const char *const *order_by, size_t order_count, struct error *err)
{
    if (check_own_names(schema, err) || check_list(schema, "--keys", keys, key_count, key_trouble, err) ||
        check_list(schema, "--order-by", order_by, order_count, order_trouble, err))
        return -1;
    return 0;
}

int sql_check_columns(const struct schema *schema, enum write_mode mode, const char *const *keys, size_t key_count,
                      const char *const *order_by, size_t order_count, const char *const *insert_only, size_t insert_only_count,
                      struct error *err)
{
    if (check_own_names(schema, err))
        return -1;
    if (mode == WRITE_MERGE && key_count == 0)
        return error_set(err, ERR_USAGE, 0, "write.keys: mode merge needs the columns that tell rows apart");
    if (check_list(schema, "write.keys", keys, key_count, key_trouble, err) ||
        check_list(schema, "write.order_by", order_by, order_count, order_trouble, err) ||
        check_list(schema, "write.insert_only", insert_only, insert_only_count, NULL, err))
        return -1;
    for (size_t i = 0; i < insert_only_count; i++)
        if (listed(keys, key_count, insert_only[i]))
            return error_set(err, ERR_USAGE, 0, "write.insert_only: column %s is a key, and keys never change", insert_only[i]);
    return 0;
}
