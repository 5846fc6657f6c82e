#include "tests/bq/sql_dedupe.h"

/* Rows of which partitions, where the statement says so: those within the bounds and in the list. */
struct mscope { bool given, range, null, listed; };
struct dedupe_stmt { struct bq_ref table; struct mscope compared, rewritten; bool survey, own; /* compared is another scope than rewritten */ };

void dedupe_stmt_free(struct dedupe_stmt *d)
{
    free(d);
}

/* --- the text --------------------------------------------------------------------------------------------------------------------------- */

static bool keys(struct parser *in, const char *prefix)
{
    const struct names *want = &in->s->keys;
    if (want->count == 0)
        return column_list(in, prefix, &in->s->keys);
    for (size_t i = 0; i < want->count; i++)
        if (!is_fmt(in, "%s%s`%s`", i ? ", " : "", prefix, want->at[i]))
            return false;
    return true;
}

/* A.`k` IS NULL OR A.`l` IS NULL: captured the first time, wanted again afterwards. */
static bool apart(struct parser *in, const char *alias)
{
    struct names *want = &in->s->apart;
    for (size_t i = 0; want->count > 0 && i < want->count; i++)
        if (!is_fmt(in, "%s%s.`%s` IS NULL", i ? " OR " : "", alias, want->at[i]))
            return false;
    if (want->count > 0)
        return true;
    do {
        const char *name = NULL;
        size_t len = 0;
        if (!is_fmt(in, "%s.", alias) || !quoted(in, &name, &len) || !is(in, " IS NULL"))
            return false;
        names_add(want, name, len);
    } while (is(in, " OR "));
    return true;
}

static bool scope(struct parser *in, const char *alias, const char *name, struct mscope *out)
{
    struct mscope s = {.given = true};
    const char *column = NULL;
    size_t len = 0;
    struct parser look = *in;
    if (!is(&look, "(") || !is_fmt(&look, "%s.", alias) || !quoted(&look, &column, &len) || len > 300)
        return false;
    AUTO(free_ptr) char *c = xstrndup(column, len);
    (void)is(in, "(");
    s.range = is_fmt(in, "%s.`%s` BETWEEN @%s_lo AND @", alias, c, name) && is_fmt(in, "%s_hi", name);
    s.null = (!s.range || is(in, " OR ")) && is_fmt(in, "%s.`%s` IS NULL", alias, c);
    if (!is(in, ")") || !(s.range || s.null))
        return false;
    struct parser more = *in;
    if (is(&more, " AND ") && part_id(&more, alias)) {
        *in = more;
        s.listed = is_fmt(in, " IN UNNEST(@%s)", name);
        if (!s.listed)
            return false;
    }
    bool again = out->given;
    bool same = out->range == s.range && out->null == s.null && out->listed == s.listed;
    *out = s;
    return !again || same;
}

static bool survey(struct parser *in)
{
    struct dedupe_stmt *d = in->s->dedupe;
    d->survey = true;
    if (!is(in, "SELECT bqfleet_a.bqfleet_part AS part, SUM(bqfleet_a.bqfleet_rows) AS total, SUM(IF(bqfleet_a.bqfleet_same > 1, bqfleet_a.bqfleet_rows, 0)) "
                "AS repeated, COUNTIF(bqfleet_a.bqfleet_same > 1 AND bqfleet_a.bqfleet_first = 1) AS several, "
                "SUM(IF(bqfleet_a.bqfleet_null, bqfleet_a.bqfleet_rows, 0)) AS missing\nFROM (\n  SELECT bqfleet_g.bqfleet_part, bqfleet_g.bqfleet_rows, "
                "bqfleet_g.bqfleet_null, IF(bqfleet_g.bqfleet_null, 1, SUM(bqfleet_g.bqfleet_rows) OVER (PARTITION BY ") ||
        !keys(in, "bqfleet_g.") || !is(in, ")) AS bqfleet_same, ROW_NUMBER() OVER (PARTITION BY ") || !keys(in, "bqfleet_g.") ||
        !is(in, " ORDER BY bqfleet_g.bqfleet_part) AS bqfleet_first\n  FROM (\n    SELECT "))
        return false;
    bool whole = is(in, "''");
    if ((!whole && !part_id(in, "bqfleet_t")) || !is(in, " AS bqfleet_part, ") || (!is(in, "FALSE") && !apart(in, "bqfleet_t")) ||
        !is(in, " AS bqfleet_null, ") || !keys(in, "bqfleet_t.") || !is(in, ", COUNT(*) AS bqfleet_rows\n    FROM ") || !ref(in, &d->table) ||
        !is(in, " AS bqfleet_t"))
        return false;
    return (whole || (is(in, "\n    WHERE ") && scope(in, "bqfleet_t", "compared", &d->compared))) && is(in, "\n    GROUP BY bqfleet_part, bqfleet_null, ") &&
           keys(in, "bqfleet_t.") && is(in, "\n  ) AS bqfleet_g\n) AS bqfleet_a\nGROUP BY part\nHAVING repeated > 0 OR missing > 0\nORDER BY part");
}

static bool ranked(struct parser *in)
{
    if (!is(in, "\n  FROM (\n    SELECT bqfleet_r.*, ROW_NUMBER() OVER (PARTITION BY ") || !keys(in, "bqfleet_r.") ||
        (is(in, ", IF(") && !(apart(in, "bqfleet_r") && is(in, ", TO_JSON_STRING(bqfleet_r), NULL)"))) || !is(in, " ORDER BY "))
        return false;
    while (!is(in, "TO_JSON_STRING(bqfleet_r) DESC) AS bqfleet_rank\n    FROM "))
        if (!parse_term(in))
            return false;
    return same_ref(in, &in->s->target) && is(in, " AS bqfleet_r");
}

/* What is written comes last. */
static bool columns_ahead(const struct parser *in)
{
    struct parser look = *in;
    look.p = strstr(in->p, "\n  INSERT (");
    return look.p != NULL && is(&look, "\n  INSERT (") && parse_columns(&look, "");
}

static bool empty_branch(struct parser *in)
{
    if (!is(in, "  UNION ALL\n  SELECT ") || !parse_nulls(in) || !is(in, "\n  FROM UNNEST([1]) AS bqfleet_one\n  WHERE "))
        return false;
    return is(in, "FALSE\n") ||
           (is(in, "IF(") && parse_fence(in) && is(in, ", FALSE, ERROR(CONCAT('bqfleet: the permit is lost', CAST(bqfleet_one AS STRING))))\n"));
}

static bool merge(struct parser *in)
{
    struct stmt *s = in->s;
    struct dedupe_stmt *d = s->dedupe;
    if (!is(in, "MERGE INTO ") || !ref(in, &s->target) || !is(in, " AS bqfleet_t\nUSING (\n  SELECT bqfleet_q.* EXCEPT (bqfleet_rank)") ||
        !columns_ahead(in) || !ranked(in))
        return false;
    bool parts = is(in, "\n    WHERE ");
    if (parts) {
        struct parser look = *in;
        d->own = scope(&look, "bqfleet_r", "compared", &d->compared);
        if (d->own)
            in->p = look.p;
        else
            d->compared = (struct mscope){0};
        if (!d->own && !scope(in, "bqfleet_r", "rewritten", &d->rewritten))
            return false;
    }
    if (!is(in, "\n  ) AS bqfleet_q\n  WHERE (bqfleet_q.bqfleet_rank = 1") || (s->apart.count > 0 && !(is(in, " OR ") && apart(in, "bqfleet_q"))) || !is(in, ")") ||
        (d->own && !(is(in, " AND ") && scope(in, "bqfleet_q", "rewritten", &d->rewritten))) || !is(in, "\n"))
        return false;
    if (!empty_branch(in))
        return false;
    return is(in, ") AS bqfleet_s\nON FALSE\nWHEN NOT MATCHED BY SOURCE") &&
           (!parts || (is(in, " AND ") && scope(in, "bqfleet_t", "rewritten", &d->rewritten))) && is(in, " THEN\n  DELETE\nWHEN NOT MATCHED THEN\n  INSERT (") &&
           parse_columns(in, "") && is(in, ")\n  VALUES (") && parse_columns(in, "bqfleet_s.") && is(in, ")");
}

bool dedupe_stmt_parse(struct parser *in)
{
    in->s->dedupe = xcalloc(1, sizeof(*in->s->dedupe));
    bool looks = strncmp(in->p, "SELECT", 6) == 0;
    in->s->kind = looks ? STMT_SELECT : STMT_REPLACE;
    return (looks ? survey(in) : merge(in)) && *in->p == '\0';
}

/* --- its rows ---------------------------------------------------------------------------------------------------------------------------- */

struct scoped { const struct mscope *s; const char *name; const struct field *field; size_t at; struct cell lo, hi; char *texts[2]; struct entry *ids; };

static const doc *param_of(const struct run *r, const char *name)
{
    for (size_t i = 0; i < doc_len(r->params); i++)
        if (strcmp(doc_str(doc_at(r->params, i), "name", ""), name) == 0)
            return doc_at(r->params, i);
    return NULL;
}

static int open_scope(struct run *r, const struct mscope *s, const char *name, struct scoped *out)
{
    *out = (struct scoped){.s = s, .name = name};
    if (!s->given)
        return 0;
    if (run_column(r, r->target, r->s->parts->column, &out->at))
        return -1;
    out->field = &r->target->schema->fields[out->at];
    for (int i = 0; i < 2 && s->range; i++) {
        char bound[32];
        const char *given = NULL;
        struct cell *c = i ? &out->hi : &out->lo;
        snprintf(bound, sizeof(bound), "%s_%s", name, i ? "hi" : "lo");
        if (run_param(r, bound, out->field->type, &given))
            return -1;
        AUTO(doc_free_auto) doc *text = doc_string(given);
        AUTO(doc_free_auto) doc *clean = value_clean_one(out->field, text, NULL);
        if (clean == NULL)
            return run_fail(r, "invalid", "Invalid value for query parameter '%s': %s", bound, given);
        c->text = out->texts[i] = value_text(out->field, clean, &c->len);
    }
    const doc *list = doc_get(param_of(r, name), "parameterValue.arrayValues");
    if (s->listed && list == NULL)
        return run_fail(r, "invalidQuery", "Query parameter '%s' not found at [1:1]", name);
    for (size_t i = 0; s->listed && i < doc_len(list); i++) {
        const char *id = doc_str(doc_at(list, i), "value", "");
        entry_put(&out->ids, id, strlen(id));
    }
    return 0;
}

static void close_scope(struct scoped *s)
{
    free(s->texts[0]);
    free(s->texts[1]);
    entries_free(&s->ids);
}

/* 1: it is; 0; -1: failed. */
static int within(struct run *r, const struct scoped *s, const struct row *row)
{
    char id[MPART_TEXT];
    if (!s->s->given)
        return 1;
    const struct cell *c = &row->cells[s->at];
    bool fits = c->text == NULL ? s->s->null : s->s->range && value_compare(s->field, c, &s->lo) >= 0 && value_compare(s->field, c, &s->hi) <= 0;
    if (!fits || !s->s->listed)
        return fits;
    return mpart_of(r, r->s->parts, r->target, row, id) ? -1 : entry_find(s->ids, id, strlen(id)) != NULL;
}

/* Its key as a text; whether one of it is a NULL that equals nothing. */
static int key_of(struct run *r, const struct row *row, struct buf *key, bool *null)
{
    *null = false;
    buf_clear(key);
    buf_xputs(key, "k");
    for (size_t i = 0; i < r->s->keys.count; i++) {
        size_t at = 0;
        if (run_column(r, r->target, r->s->keys.at[i], &at))
            return -1;
        key_add(key, &row->cells[at]);
        for (size_t k = 0; k < r->s->apart.count; k++)
            *null = *null || (strcmp(r->s->apart.at[k], r->s->keys.at[i]) == 0 && row->cells[at].text == NULL);
    }
    return 0;
}

static doc *cell_doc(doc *cells, const char *text)
{
    return doc_add(cells, doc_set_str(doc_object(), "v", text));
}

doc *dedupe_stmt_fields(void)
{
    static const char *const names[] = {"part", "total", "repeated", "several", "missing"};
    doc *fields = doc_array();
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        doc_add(fields, doc_set_str(doc_set_str(doc_object(), "name", names[i]), "type", i ? "INTEGER" : "STRING"));
    return doc_set(doc_object(), "fields", fields);
}

struct tally { char part[MPART_TEXT]; int64_t rows, repeated, several, missing; };

static int by_part(const void *a, const void *b)
{
    return strcmp(((const struct tally *)a)->part, ((const struct tally *)b)->part);
}

static struct tally *tally_of(struct tally **all, size_t *count, const char *part)
{
    for (size_t i = 0; i < *count; i++)
        if (strcmp((*all)[i].part, part) == 0)
            return &(*all)[i];
    *all = xreallocarray(*all, *count + 1, sizeof(**all));
    struct tally *t = &(*all)[(*count)++];
    *t = (struct tally){.rows = 0};
    snprintf(t->part, sizeof(t->part), "%s", part);
    return t;
}

/* found: rows of the key. value: the row by which it is counted. */
static int count_keys(struct run *r, const struct scoped *scoped, struct entry **all, struct buf *key)
{
    for (size_t i = 0; i < r->target->count; i++) {
        bool null = false;
        int in = within(r, scoped, r->target->rows[i]);
        if (in < 0 || (in > 0 && key_of(r, r->target->rows[i], key, &null)))
            return -1;
        if (in == 0 || null)
            continue;
        struct entry *e = entry_put(all, key->data, key->len);
        if (e->found++ == 0)
            e->value = (int64_t)i;
    }
    return 0;
}

static int tally_all(struct run *r, const struct scoped *scoped, struct entry *all, struct buf *key, struct tally **tallies, size_t *count)
{
    for (size_t i = 0; i < r->target->count; i++) {
        const struct row *row = r->target->rows[i];
        char id[MPART_TEXT] = "";
        bool null = false;
        int in = within(r, scoped, row);
        if (in < 0 || (in > 0 && (key_of(r, row, key, &null) || (r->s->parts && mpart_of(r, r->s->parts, r->target, row, id)))))
            return -1;
        if (in == 0)
            continue;
        const struct entry *e = null ? NULL : entry_find(all, key->data, key->len);
        struct tally *t = tally_of(tallies, count, id);
        t->rows++;
        t->missing += null;
        t->repeated += e && e->found > 1;
        t->several += e && e->found > 1 && e->value == (int64_t)i;
    }
    return 0;
}

int run_survey(struct run *r, struct effects *e)
{
    struct dedupe_stmt *d = r->s->dedupe;
    struct entry *all = NULL;
    struct scoped scoped = {.s = &d->compared};
    struct buf key = BUF_INIT(KEY_MAX);
    AUTO(free_ptr) struct tally *tallies = NULL;
    size_t count = 0;
    r->target = run_table(r, &d->table);
    int rc = r->target == NULL || open_scope(r, &d->compared, "compared", &scoped) || count_keys(r, &scoped, &all, &key) ||
             tally_all(r, &scoped, all, &key, &tallies, &count) ? -1 : 0;
    if (count > 0)
        qsort(tallies, count, sizeof(*tallies), by_part);
    e->result = doc_array();
    for (size_t i = 0; i < count && rc == 0; i++) {
        const int64_t numbers[] = {tallies[i].rows, tallies[i].repeated, tallies[i].several, tallies[i].missing};
        doc *cells = cell_doc(doc_array(), tallies[i].part);
        for (size_t k = 0; k < ARRAY_LEN(numbers); k++) {
            AUTO(free_ptr) char *text = xasprintf("%" PRId64, numbers[k]);
            cell_doc(cells, text);
        }
        doc *row = doc_set(doc_object(), "f", cells);
        if (tallies[i].repeated > 0 || tallies[i].missing > 0)
            doc_add(e->result, row);
        else
            doc_free(row);
    }
    close_scope(&scoped);
    entries_free(&all);
    buf_free(&key);
    return rc;
}

/* --- the rewrite ------------------------------------------------------------------------------------------------------------------------- */

/* Greater than 0: a stays rather than b. */
static int compare_rows(const struct run *r, const struct row *a, const struct row *b)
{
    size_t n = r->s->order_count;
    AUTO(free_ptr) const struct cell **x = xcalloc(n + 1, sizeof(*x)), **y = xcalloc(n + 1, sizeof(*y));
    for (size_t i = 0; i < n; i++) {
        size_t at = r->columns[run_position(r, r->s->order[i].column)];
        x[i] = &a->cells[at];
        y[i] = &b->cells[at];
    }
    int order = terms_compare(r, x, y);
    struct buf one = BUF_INIT(KEY_MAX), other = BUF_INIT(KEY_MAX);
    for (size_t i = 0; i < a->count; i++) {
        key_add(&one, &a->cells[i]);
        key_add(&other, &b->cells[i]);
    }
    order = order ? order : strcmp(one.data, other.data);
    buf_free(&one);
    buf_free(&other);
    return order;
}

static int choose(struct run *r, const struct scoped *compared, struct entry **best, bool *kept)
{
    struct buf key = BUF_INIT(KEY_MAX);
    int rc = 0;
    for (size_t i = 0; i < r->target->count && rc == 0; i++) {
        bool null = false;
        int in = within(r, compared, r->target->rows[i]);
        rc = in < 0 || key_of(r, r->target->rows[i], &key, &null) ? -1 : 0;
        kept[i] = null;
        if (rc || in == 0 || null)
            continue;
        struct entry *e = entry_put(best, key.data, key.len);
        if (e->found++ == 0 || compare_rows(r, r->target->rows[i], r->target->rows[e->value]) > 0)
            e->value = (int64_t)i;
    }
    for (const struct entry *e = *best; e; e = e->hh.next)
        kept[e->value] = true;
    buf_free(&key);
    return rc;
}

static int map(struct run *r)
{
    r->columns = xcalloc(r->s->columns.count + 1, sizeof(*r->columns));
    if (r->s->columns.count != r->target->schema->count)
        return run_fail(r, "invalidQuery", "bqmodel: %zu of %zu columns are kept", r->s->columns.count, r->target->schema->count);
    for (size_t i = 0; i < r->s->columns.count; i++)
        if (run_column(r, r->target, r->s->columns.at[i], &r->columns[i]))
            return -1;
    return 0;
}

int run_dedupe(struct run *r, struct effects *e)
{
    const struct dedupe_stmt *d = r->s->dedupe;
    struct scoped compared = {.s = &d->compared}, rewritten = {.s = &d->rewritten};
    struct entry *best = NULL;
    AUTO(free_ptr) bool *kept = xcalloc(r->target->count + 1, sizeof(*kept));
    if (r->s->columns.count != r->target->schema->count)
        return run_fail(r, "invalidQuery", "Queries in UNION ALL have mismatched column count; query 1 has %zu columns, query 2 has %zu columns at [1:1]",
                        r->target->schema->count, r->s->columns.count);
    int rc = map(r) || open_scope(r, &d->rewritten, "rewritten", &rewritten) || open_scope(r, &d->compared, "compared", &compared) ||
             choose(r, d->own ? &compared : &rewritten, &best, kept) || (r->s->fence.present && run_fence(r)) ? -1 : 0;
    for (size_t i = 0; i < r->target->count && rc == 0; i++) {
        const struct row *row = r->target->rows[i];
        int in = within(r, &rewritten, row);
        rc = in < 0 ? -1 : 0;
        if (in <= 0)
            continue;
        effects_change(e, i, NULL);
        if (!kept[i])
            continue;
        e->added = xreallocarray(e->added, e->added_count + 1, sizeof(*e->added));
        e->added[e->added_count++] = row_new(row->cells, row->count);
        e->inserted++;
    }
    close_scope(&compared);
    close_scope(&rewritten);
    entries_free(&best);
    return rc;
}
