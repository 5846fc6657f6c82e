#include "tests/bq/sql_exec.h"

/* Views: what they show, computed whenever somebody looks. */

static int find_tables(struct bqmodel *m, const struct stmt *s, struct error *err)
{
    for (size_t i = 0; i <= s->shard_count + 1; i++) {
        const struct bq_ref *ref = i < s->shard_count ? &s->shards[i] : i == s->shard_count ? &s->base : s->by_side ? &s->side : &s->base;
        if (model_table(m, ref))
            continue;
        error_set(err, ERR_TASK, 404, "Not found: Table %s:%s.%s was not found in location %s", ref->project, ref->dataset, ref->table, m->location);
        return error_reason(err, "notFound"), -1;
    }
    return 0;
}

/* Columns of a view are never REQUIRED. */
static struct schema *schema_of(struct bqmodel *m, const struct stmt *s, struct error *err)
{
    AUTO(doc_free_auto) doc *fields = doc_array();
    AUTO(doc_free_auto) doc *whole = schema_to_doc(model_table(m, &s->base)->schema);
    for (size_t i = 0; i < doc_len(doc_get(whole, "fields")); i++) {
        doc *field = doc_copy(doc_at(doc_get(whole, "fields"), i));
        if (strcmp(doc_str(field, "mode", ""), "REQUIRED") == 0)
            doc_set_str(field, "mode", "NULLABLE");
        doc_add(fields, field);
    }
    AUTO(doc_free_auto) doc *schema = doc_set(doc_object(), "fields", doc_ref(fields));
    return schema_parse(schema, err);
}

int mtable_set_view(struct bqmodel *m, struct mtable *t, const doc *body, struct error *err)
{
    const char *sql = doc_str(body, "view.query", ""), *at = sql;
    struct stmt *s = doc_bool(body, "view.useLegacySql", true) ? NULL : stmt_parse_view(sql, &at);
    if (s == NULL) {
        if (m->unknown == NULL)
            m->unknown = xasprintf("view: %.*s<<<HERE>>>%s", (int)(at - sql), sql, at);
        return error_set(err, ERR_TASK, 400, "Syntax error: the model does not know this view, from byte %d on", (int)(at - sql));
    }
    struct schema *schema = find_tables(m, s, err) == 0 ? schema_of(m, s, err) : NULL;
    if (schema == NULL) {
        stmt_free(s);
        return -1;
    }
    stmt_free(t->view);
    schema_free(t->schema);
    t->view = s;
    t->schema = schema;
    return 0;
}

doc *mtable_view_rows(struct bqmodel *m, const struct mtable *t, struct error *err)
{
    struct run r = {.m = m, .s = t->view, .err = err};
    r.target = run_table(&r, &t->view->base);
    doc *out = r.target != NULL && run_source(&r) == 0 ? doc_array() : NULL;
    for (size_t i = 0; out && i < r.count; i++) {
        doc *row = doc_object();
        for (size_t c = 0; c < t->view->columns.count; c++)
            doc_set(row, t->view->columns.at[c], value_doc(&r.target->schema->fields[r.columns[c]], src_cell(&r.rows[i], c)));
        doc_add(out, row);
    }
    run_release(&r);
    return out;
}
