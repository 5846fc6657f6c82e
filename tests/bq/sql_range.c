#include "tests/bq/sql_select.h"

#include <time.h>

/* Where a load's rows lie: the smallest and greatest value of a column, and how many have none. The only SELECT of the product's own. */
struct range_stmt { struct bq_ref table; char *column; enum field_type type; };

static const struct { enum field_type type; const char *before, *after; } forms[] = {
    {FIELD_INT64, "", ""}, {FIELD_DATE, "UNIX_DATE(", ")"}, {FIELD_TIMESTAMP, "UNIX_MICROS(", ")"}, {FIELD_DATETIME, "UNIX_MICROS(TIMESTAMP(", ", 'UTC'))"},
};

static bool tail(const char *p, struct bq_ref *ref)
{
    char *parts[3] = {ref->project, ref->dataset, ref->table};
    const size_t sizes[3] = {sizeof(ref->project), sizeof(ref->dataset), sizeof(ref->table)};
    for (int i = 0; i < 3; i++) {
        const char *end = *p == '`' ? strchr(p + 1, '`') : NULL;
        if (end == NULL || (size_t)(end - p) > sizes[i])
            return false;
        snprintf(parts[i], sizes[i], "%.*s", (int)(end - p - 1), p + 1);
        p = end + 1;
        if (i < 2 && *p++ != '.')
            return false;
    }
    return strcmp(p, " WHERE bqfleet_load = @load") == 0;
}

struct range_stmt *range_parse(const char *sql)
{
    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        char name[304], text[2048];
        const char *b = forms[i].before, *a = forms[i].after;
        int n = snprintf(text, sizeof(text), "SELECT %sMIN(`", b);
        size_t len = strncmp(sql, text, (size_t)n) == 0 ? strcspn(sql + n, "`") : sizeof(name);
        if (len >= sizeof(name))
            continue;
        snprintf(name, sizeof(name), "%.*s", (int)len, sql + n);
        n = snprintf(text, sizeof(text), "SELECT %sMIN(`%s`)%s AS lo, %sMAX(`%s`)%s AS hi, COUNTIF(`%s` IS NULL) AS missing\nFROM ", b, name, a, b, name, a, name);
        struct range_stmt r = {.type = forms[i].type};
        if (strncmp(sql, text, (size_t)n) != 0 || !tail(sql + n, &r.table))
            continue;
        struct range_stmt *made = xmalloc(sizeof(*made));
        *made = r;
        made->column = xstrdup(name);
        return made;
    }
    return NULL;
}

void range_free(struct range_stmt *r)
{
    if (r)
        free(r->column);
    free(r);
}

doc *range_fields(void)
{
    static const char *const names[] = {"lo", "hi", "missing"};
    doc *fields = doc_array();
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        doc_add(fields, doc_set_str(doc_set_str(doc_object(), "name", names[i]), "type", "INTEGER"));
    return doc_set(doc_object(), "fields", fields);
}

static doc *number(enum field_type type, const char *text)
{
    char out[24];
    struct tm tm = {0};
    if (text == NULL)
        return doc_set(doc_object(), "v", doc_null());
    snprintf(out, sizeof(out), "%.23s", text); /* INT64; TIMESTAMP in microseconds */
    if (type == FIELD_DATE && strptime(text, "%Y-%m-%d", &tm) != NULL)
        snprintf(out, sizeof(out), "%" PRId64, (int64_t)timegm(&tm) / 86400);
    else if (type == FIELD_DATETIME && strptime(text, "%Y-%m-%dT%H:%M:%S", &tm) != NULL)
        snprintf(out, sizeof(out), "%" PRId64, (int64_t)timegm(&tm) * US_PER_S);
    return doc_set_str(doc_object(), "v", out);
}

int run_range(struct run *r, struct effects *e)
{
    const struct range_stmt *s = r->s->range;
    const struct mtable *t = run_table(r, &s->table);
    const struct cell *lo = NULL, *hi = NULL;
    const char *load = NULL;
    size_t column = 0, loads = 0, nulls = 0;
    if (t == NULL || run_column(r, t, s->column, &column) || run_column(r, t, "bqfleet_load", &loads) || run_param(r, "load", FIELD_STRING, &load))
        return -1;
    const struct field *f = &t->schema->fields[column];
    if (f->type != s->type)
        return run_fail(r, "invalidQuery", "No matching signature for a %s at [1:8]", field_type_name(f->type));
    for (size_t i = 0; i < t->count; i++) {
        const struct cell *c = &t->rows[i]->cells[column];
        if (strcmp(t->rows[i]->cells[loads].text, load) != 0)
            continue;
        nulls += c->text == NULL;
        lo = c->text && (lo == NULL || value_compare(f, c, lo) < 0) ? c : lo;
        hi = c->text && (hi == NULL || value_compare(f, c, hi) > 0) ? c : hi;
    }
    char count[24];
    snprintf(count, sizeof(count), "%zu", nulls);
    doc *cells = doc_add(doc_add(doc_array(), number(f->type, lo ? lo->text : NULL)), number(f->type, hi ? hi->text : NULL));
    doc_add(cells, doc_set_str(doc_object(), "v", count));
    e->result = doc_add(doc_array(), doc_set(doc_object(), "f", cells));
    return 0;
}
