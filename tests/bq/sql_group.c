#include "tests/bq/sql_select.h"

/*
 * A user's SELECT over a group of items, alone or within the product's INSERT: every word of ours must be as written here. What is computed of it goes into
 * the effects: rows of the shard, or a result that is read page by page.
 */
struct group_stmt {
    struct select *select;
    struct names columns;  /* of the target, in the INSERT's order */
    struct names keys;     /* of these, those that may not be NULL */
    char *index;           /* the SELECT's column with the item */
};

void stmt_group_free(struct group_stmt *g)
{
    if (g == NULL)
        return;
    select_free(g->select);
    names_free(&g->columns);
    names_free(&g->keys);
    free(g->index);
    free(g);
}

/* --- reading ----------------------------------------------------------------------------------------------------------------------------- */

static bool is(const char **p, const char *text)
{
    size_t n = strlen(text);
    if (strncmp(*p, text, n) != 0)
        return false;
    *p += n;
    return true;
}

static bool is_name(const char **p, const char *before, const char *name, const char *after)
{
    return is(p, before) && is(p, "`") && is(p, name) && is(p, "`") && is(p, after);
}

static char *quoted(const char **p)
{
    const char *end = **p == '`' ? strchr(*p + 1, '`') : NULL;
    if (end == NULL)
        return NULL;
    char *name = xstrndup(*p + 1, (size_t)(end - *p) - 1);
    *p = end + 1;
    return name;
}

static bool ref(const char **p, struct bq_ref *out)
{
    AUTO(free_ptr) char *project = quoted(p);
    AUTO(free_ptr) char *dataset = project && is(p, ".") ? quoted(p) : NULL;
    AUTO(free_ptr) char *table = dataset && is(p, ".") ? quoted(p) : NULL;
    if (table == NULL)
        return false;
    snprintf(out->project, sizeof(out->project), "%s", project);
    snprintf(out->dataset, sizeof(out->dataset), "%s", dataset);
    snprintf(out->table, sizeof(out->table), "%s", table);
    return true;
}

static bool columns(const char **p, struct group_stmt *g)
{
    while (!is(p, "bqfleet_item, bqfleet_row, bqfleet_load)\nSELECT ")) {
        AUTO(free_ptr) char *name = quoted(p);
        if (name == NULL || !is(p, ", "))
            return false;
        names_add(&g->columns, name, strlen(name));
    }
    return true;
}

/* The index's name is whatever stands there first, and again everywhere else. */
static bool index_again(const char **p, struct group_stmt *g, const char *before, const char *after)
{
    if (!is(p, before))
        return false;
    AUTO(free_ptr) char *name = quoted(p);
    if (name == NULL || (g->index && strcmp(g->index, name) != 0))
        return false;
    if (g->index == NULL)
        g->index = xstrdup(name);
    return is(p, after);
}

static bool values(const char **p, struct group_stmt *g)
{
    for (size_t i = 0; i < g->columns.count; i++) {
        const char *name = g->columns.at[i];
        if (is_name(p, "bqfleet_q.", name, ", "))
            continue;
        if (!is_name(p, "IF(bqfleet_q.", name, " IS NULL, ERROR(CONCAT('bqfleet: key column ") || !is(p, name) ||
            !index_again(p, g, " is NULL in a row of item ', CAST(bqfleet_q.", " AS STRING))), ") || !is_name(p, "bqfleet_q.", name, "), "))
            return false;
        names_add(&g->keys, name, strlen(name));
    }
    return index_again(p, g, "IF(bqfleet_i.item IS NULL, ERROR(CONCAT('bqfleet: the query returned a row of item ', IFNULL(CAST(bqfleet_q.",
                       " AS STRING), 'NULL'), ', which is none of those in @items')), bqfleet_i.item), ") &&
           index_again(p, g, "ROW_NUMBER() OVER (PARTITION BY bqfleet_q.", ") - 1, @load\nFROM (\n");
}

static bool insert(const char **p, struct group_stmt *g, struct bq_ref *target)
{
    static const char after[] = "\n) AS bqfleet_q LEFT JOIN UNNEST(@items) AS bqfleet_i ON bqfleet_i.item = bqfleet_q.";
    if (!is(p, "INSERT INTO ") || !ref(p, target) || !is(p, " (") || !columns(p, g) || !values(p, g))
        return false;
    const char *end = strstr(*p, after);
    if (end == NULL)
        return false;
    g->select = select_parse(*p, (size_t)(end - *p), p);
    return g->select != NULL && index_again(p, g, after, "") && **p == '\0';
}

struct group_stmt *stmt_group_parse(const char *sql, struct bq_ref *target, const char **at)
{
    struct group_stmt *g = xcalloc(1, sizeof(*g));
    const char *p = sql;
    bool good = strncmp(sql, "INSERT", 6) == 0 ? insert(&p, g, target) : (g->select = select_parse(sql, strlen(sql), &p)) != NULL;
    if (p > *at)
        *at = p;
    if (good)
        return g;
    stmt_group_free(g);
    return NULL;
}

/* --- what it returns --------------------------------------------------------------------------------------------------------------------- */

doc *stmt_group_fields(const struct group_stmt *g)
{
    doc *fields = doc_array();
    for (size_t i = 0; i < select_columns(g->select); i++) {
        doc *f = doc_set_str(doc_object(), "name", select_name(g->select, i));
        doc_add(fields, doc_set_str(doc_set_str(f, "type", field_type_name(select_type(g->select, i))), "mode", "NULLABLE"));
    }
    return doc_set(doc_object(), "fields", fields);
}

static size_t find(const struct group_stmt *g, const char *name)
{
    for (size_t i = 0; i < select_columns(g->select); i++)
        if (strcasecmp(select_name(g->select, i), name) == 0)
            return i;
    return SIZE_MAX;
}

/* What an analyzer sees. */
static int check(struct run *r, const struct group_stmt *g)
{
    if (find(g, g->index) == SIZE_MAX)
        return run_fail(r, "invalidQuery", "Name %s not found inside bqfleet_q at [2:1]", g->index);
    for (size_t i = 0; i < g->columns.count; i++) {
        const struct field *f = schema_find(r->target->schema, g->columns.at[i]);
        size_t at = find(g, g->columns.at[i]);
        if (f == NULL || at == SIZE_MAX)
            return run_fail(r, "invalidQuery", "Name %s not found inside bqfleet_q at [2:1]", g->columns.at[i]);
        enum field_type type = select_type(g->select, at);
        if (type != f->type && !(type == FIELD_INT64 && (f->type == FIELD_FLOAT64 || f->type == FIELD_NUMERIC)))
            return run_fail(r, "invalidQuery", "Query column %zu has type %s which cannot be inserted into column %s, which has type %s at [2:1]", i + 1,
                            field_type_name(type), f->name, field_type_name(f->type));
    }
    return 0;
}

/* --- what it does ------------------------------------------------------------------------------------------------------------------------ */

static int check_row(struct run *r, const struct group_stmt *g, const struct selected *s, size_t row, struct entry *items)
{
    size_t n = select_columns(g->select);
    const char *index = selected_at(s, n, row, find(g, g->index));
    if (index == NULL || entry_find(items, index, strlen(index)) == NULL)
        return run_fail(r, "invalidQuery", "bqfleet: the query returned a row of item %s, which is none of those in @items", index ? index : "NULL");
    for (size_t i = 0; i < g->keys.count; i++)
        if (selected_at(s, n, row, find(g, g->keys.at[i])) == NULL)
            return run_fail(r, "invalidQuery", "bqfleet: key column %s is NULL in a row of item %s", g->keys.at[i], index);
    return 0;
}

static int add_row(struct run *r, const struct group_stmt *g, const struct selected *s, size_t row, struct entry *items, const char *load, struct effects *e)
{
    size_t n = select_columns(g->select);
    struct error why = ERROR_INIT;
    AUTO(doc_free_auto) doc *object = doc_object();
    if (check_row(r, g, s, row, items))
        return -1;
    const char *index = selected_at(s, n, row, find(g, g->index));
    for (size_t i = 0; i < g->columns.count; i++) {
        const char *text = selected_at(s, n, row, find(g, g->columns.at[i]));
        doc_set(object, g->columns.at[i], text ? doc_string(text) : doc_null());
    }
    doc_set_str(object, "bqfleet_item", index);
    doc_set_int(object, "bqfleet_row", entry_find(items, index, strlen(index))->value++);
    doc_set_str(object, "bqfleet_load", load);
    struct row *made = row_read(r->target->schema, object, false, &why);
    if (made == NULL)
        return run_fail(r, "invalidQuery", "%s", why.text);
    e->added = xreallocarray(e->added, e->added_count + 1, sizeof(*e->added));
    e->added[e->added_count++] = made;
    e->inserted++;
    return 0;
}

static int insert_rows(struct run *r, const struct group_stmt *g, const struct selected *s, struct effects *e)
{
    AUTO(free_ptr) struct group_item *list = NULL;
    struct entry *items = NULL;
    size_t count = 0;
    const char *load = NULL;
    int rc = check(r, g) || run_param(r, "load", FIELD_STRING, &load) || select_items(r, &list, &count) ? -1 : 0;
    for (size_t i = 0; rc == 0 && i < count; i++) {
        char text[24];
        snprintf(text, sizeof(text), "%" PRId64, list[i].item);
        entry_put(&items, text, strlen(text));
    }
    for (size_t i = 0; rc == 0 && i < selected_rows(s, select_columns(g->select)); i++)
        rc = add_row(r, g, s, i, items, load, e);
    entries_free(&items);
    return rc;
}

static doc *result(const struct group_stmt *g, const struct selected *s)
{
    doc *rows = doc_array();
    size_t n = select_columns(g->select);
    for (size_t i = 0; i < selected_rows(s, n); i++) {
        doc *cells = doc_array();
        for (size_t c = 0; c < n; c++) {
            const char *text = selected_at(s, n, i, c);
            doc_add(cells, doc_set(doc_object(), "v", text ? doc_string(text) : doc_null()));
        }
        doc_add(rows, doc_set(doc_object(), "f", cells));
    }
    return rows;
}

int run_group(struct run *r, struct effects *e)
{
    const struct group_stmt *g = r->s->group;
    struct selected s;
    if (select_run(r, g->select, &s))
        return -1;
    int rc = 0;
    if (r->s->kind == STMT_GROUP)
        rc = insert_rows(r, g, &s, e);
    else
        e->result = result(g, &s);
    selected_free(&s);
    return rc;
}

int stmt_group_analyze(struct bqmodel *m, const struct stmt *s, struct error *err)
{
    struct run r = {.m = m, .s = s, .err = err};
    if (s->kind != STMT_GROUP)
        return 0;
    r.target = run_table(&r, &s->target);
    return r.target ? check(&r, s->group) : -1;
}
