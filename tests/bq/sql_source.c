#include "tests/bq/sql_exec.h"

/* The rows a statement reads: those of the accepted loads, less the exclusions, the first of each key; and the checks that fail it. */

int run_fail(struct run *r, const char *reason, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    error_vset(r->err, ERR_TASK, 0, fmt, ap);
    va_end(ap);
    error_reason(r->err, reason);
    return -1;
}

struct entry *entry_find(struct entry *all, const char *key, size_t len)
{
    struct entry *e = NULL;
    HASH_FIND(hh, all, key, len, e);
    return e;
}

struct entry *entry_put(struct entry **all, const char *key, size_t len)
{
    struct entry *e = entry_find(*all, key, len);
    if (e)
        return e;
    e = xcalloc(1, sizeof(*e));
    e->key = xmemdup(key, len + 1);
    e->len = len;
    HASH_ADD_KEYPTR(hh, *all, e->key, e->len, e);
    return e;
}

void entries_free(struct entry **all)
{
    struct entry *e, *next;
    HASH_ITER(hh, *all, e, next)
    {
        HASH_DEL(*all, e);
        free(e->key);
        free(e);
    }
}

const struct mtable *run_table(struct run *r, const struct bq_ref *ref)
{
    const struct mtable *t = model_table(r->m, ref);
    if (t == NULL)
        run_fail(r, "notFound", "Not found: Table %s:%s.%s was not found in location %s", ref->project, ref->dataset, ref->table, r->m->location);
    if (t != NULL && t->view != NULL) {
        run_fail(r, "invalidQuery", "bqmodel: %s is a view, and no statement of the product's is about one", ref->table);
        return NULL;
    }
    return t;
}

int run_column(struct run *r, const struct mtable *t, const char *name, size_t *out)
{
    const struct field *f = schema_find(t->schema, name);
    if (f == NULL)
        return run_fail(r, "invalidQuery", "Unrecognized name: %s at [1:1]", name);
    *out = (size_t)(f - t->schema->fields);
    return 0;
}

size_t run_position(const struct run *r, const char *column)
{
    for (size_t i = 0; i < r->s->columns.count; i++)
        if (strcasecmp(r->s->columns.at[i], column) == 0)
            return i;
    return SIZE_MAX;
}

/* --- parameters ------------------------------------------------------------------------------------------------------------------------------ */

static const doc *param(const struct run *r, const char *name)
{
    for (size_t i = 0; i < doc_len(r->params); i++)
        if (strcmp(doc_str(doc_at(r->params, i), "name", ""), name) == 0)
            return doc_at(r->params, i);
    return NULL;
}

int run_param(struct run *r, const char *name, enum field_type type, const char **text)
{
    const doc *p = param(r, name);
    if (p == NULL)
        return run_fail(r, "invalidQuery", "Query parameter '%s' not found at [1:1]", name);
    if (strcmp(doc_str(p, "parameterType.type", ""), field_type_name(type)) != 0)
        return run_fail(r, "invalidQuery", "Query parameter '%s' has type %s, wanted %s", name, doc_str(p, "parameterType.type", "?"), field_type_name(type));
    *text = doc_str(p, "parameterValue.value", NULL);
    return *text ? 0 : run_fail(r, "invalid", "Invalid value for query parameter '%s'", name);
}

/* Adds an entry for each (load, number). apart: the number is part of the key. */
static void add_pair(struct entry **into, const char *load, int64_t number, bool apart)
{
    struct buf key = BUF_INIT(8192);
    buf_xputs(&key, load);
    if (apart)
        buf_xprintf(&key, "|%" PRId64, number);
    entry_put(into, key.data ? key.data : "", key.len)->value = number;
    buf_free(&key);
}

static int pairs(struct run *r, const char *name, const char *second, struct entry **into, bool apart)
{
    const doc *p = param(r, name), *types = doc_get(p, "parameterType.arrayType.structTypes"), *list = doc_get(p, "parameterValue.arrayValues");
    if (p == NULL)
        return run_fail(r, "invalidQuery", "Query parameter '%s' not found at [1:1]", name);
    if (doc_len(types) != 2 || strcmp(doc_str(types, "0.name", ""), "load") || strcmp(doc_str(types, "0.type.type", ""), "STRING") ||
        strcmp(doc_str(types, "1.name", ""), second) || strcmp(doc_str(types, "1.type.type", ""), "INT64"))
        return run_fail(r, "invalidQuery", "Query parameter '%s' is not an ARRAY<STRUCT<load STRING, %s INT64>>", name, second);
    for (size_t i = 0; i < doc_len(list); i++) {
        const doc *row = doc_get(doc_at(list, i), "structValues");
        const char *load = doc_str(row, "load.value", NULL), *number = doc_str(doc_field(row, second), "value", NULL);
        if (load == NULL || number == NULL)
            return run_fail(r, "invalid", "Invalid value for query parameter '%s'", name);
        add_pair(into, load, strtoll(number, NULL, 10), apart);
    }
    return 0;
}

/* Loads and exclusions from the side table, and its own check. */
static int side(struct run *r)
{
    const struct mtable *t = run_table(r, &r->s->side);
    size_t kind = 0, load = 0, number = 0;
    int64_t seen[2] = {0}, total = 0;
    if (t == NULL || run_column(r, t, "kind", &kind) || run_column(r, t, "load", &load) || run_column(r, t, "number", &number))
        return -1;
    for (size_t i = 0; i < t->count; i++) {
        const struct cell *c = t->rows[i]->cells;
        const char *what = c[kind].text ? c[kind].text : "", *id = c[load].text ? c[load].text : "";
        int64_t n = c[number].text ? strtoll(c[number].text, NULL, 10) : 0;
        bool excluded = strcmp(what, "exclusion") == 0;
        total += n;
        seen[1] += excluded;
        seen[0] += strcmp(what, "load") == 0;
        if (strcmp(what, "load") == 0)
            add_pair(&r->loads, id, n, false);
        else if (excluded && r->s->exclusions)
            add_pair(&r->excluded, id, n, true);
    }
    if (r->s->kind == STMT_VIEW)
        return 0;
    const char *want[3];
    if (run_param(r, "side_loads", FIELD_INT64, &want[0]) || run_param(r, "side_exclusions", FIELD_INT64, &want[1]) ||
        run_param(r, "side_total", FIELD_INT64, &want[2]))
        return -1;
    if (seen[0] == strtoll(want[0], NULL, 10) && seen[1] == strtoll(want[1], NULL, 10) && total == strtoll(want[2], NULL, 10))
        return 0;
    return run_fail(r, "invalidQuery", "bqfleet: the side table lists %" PRId64 " loads and %" PRId64 " exclusions, not what was written", seen[0], seen[1]);
}

/* The range of the partition column: literally, so that a wrong one shows as a second row of a key, or one that stayed. */
int seen_range_open(struct run *r, struct seen_range *g)
{
    static const char *const name[] = {"part_lo", "part_hi"};
    *g = (struct seen_range){.s = r->s};
    if (r->s->part_column == NULL)
        return 0;
    if (run_column(r, r->target, r->s->part_column, &g->at))
        return -1;
    g->field = &r->target->schema->fields[g->at];
    for (int i = 0; i < 2 && r->s->part_range; i++) {
        const char *given = NULL;
        struct cell *c = i ? &g->hi : &g->lo;
        if (run_param(r, name[i], g->field->type, &given))
            return -1;
        AUTO(doc_free_auto) doc *text = doc_string(given);
        AUTO(doc_free_auto) doc *clean = value_clean_one(g->field, text, NULL);
        if (clean == NULL)
            return run_fail(r, "invalid", "Invalid value for query parameter '%s': %s", name[i], given);
        c->text = g->texts[i] = value_text(g->field, clean, &c->len);
    }
    return 0;
}

bool seen_range_has(const struct seen_range *g, const struct row *row)
{
    if (g->field == NULL)
        return true;
    const struct cell *c = &row->cells[g->at];
    if (c->text == NULL)
        return g->s->part_null;
    return g->s->part_range && value_compare(g->field, c, &g->lo) >= 0 && value_compare(g->field, c, &g->hi) <= 0;
}

void seen_range_close(struct seen_range *g)
{
    free(g->texts[0]);
    free(g->texts[1]);
}

/* --- columns --------------------------------------------------------------------------------------------------------------------------------- */

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

/* A column of a table has the type the statement gives its NULLs. */
static int check_type(struct run *r, const struct field *f, size_t i)
{
    AUTO(free_ptr) char *type = field_sql_type(f);
    without_parameters(type);
    if (r->s->kind == STMT_VIEW || strcmp(type, r->s->types.at[i]) == 0)
        return 0;
    return run_fail(r, "invalidQuery", "Column %zu in UNION ALL has incompatible types: %s, %s (%s)", i + 1, type, r->s->types.at[i], f->name);
}

static int map_columns(struct run *r, const struct mtable *t, size_t **out)
{
    const struct names *names = &r->s->columns;
    *out = xcalloc(names->count + 1, sizeof(**out));
    for (size_t i = 0; i < names->count; i++)
        if (run_column(r, t, names->at[i], &(*out)[i]) || check_type(r, &t->schema->fields[(*out)[i]], i))
            return -1;
    return 0;
}

/* SELECT * of a shard: the columns that the statement goes on with, in that order, and the bookkeeping. */
static int check_all(struct run *r, const struct mtable *t)
{
    static const char *const own[] = {"bqfleet_item", "bqfleet_row", "bqfleet_load"};
    size_t n = r->s->columns.count;
    bool same = t->schema->count == n + ARRAY_LEN(own);
    for (size_t i = 0; same && i < t->schema->count; i++)
        same = strcmp(t->schema->fields[i].name, i < n ? r->s->columns.at[i] : own[i - n]) == 0;
    return same ? 0 : run_fail(r, "invalidQuery", "bqmodel: %s has not the columns of the shards it is folded with", t->ref.table);
}

static int open_shards(struct run *r)
{
    r->shards = xcalloc(r->s->shard_count + 1, sizeof(*r->shards));
    for (size_t i = 0; i < r->s->shard_count; i++) {
        struct shard *sh = &r->shards[i];
        sh->table = run_table(r, &r->s->shards[i]);
        if (sh->table == NULL || map_columns(r, sh->table, &sh->columns) || run_column(r, sh->table, "bqfleet_item", &sh->item) ||
            run_column(r, sh->table, "bqfleet_row", &sh->row) || run_column(r, sh->table, "bqfleet_load", &sh->load))
            return -1;
        if (r->s->folds && check_all(r, sh->table))
            return -1;
    }
    struct shard *base = &r->shards[r->s->shard_count];
    base->table = r->s->has_base ? run_table(r, &r->s->base) : NULL;
    if (r->s->has_base && (base->table == NULL || map_columns(r, base->table, &base->columns)))
        return -1;
    return map_columns(r, r->target, &r->columns);
}

/* --- order ----------------------------------------------------------------------------------------------------------------------------------- */

void src_terms(const struct run *r, const struct src *row, const struct cell **out)
{
    for (size_t i = 0; i < r->s->order_count; i++)
        out[i] = src_cell(row, run_position(r, r->s->order[i].column));
}

static int term_compare(const struct run *r, const struct term *t, const struct cell *a, const struct cell *b)
{
    bool na = a->text == NULL || (t->form == TERM_NUMBER && value_is_nan(a)), nb = b->text == NULL || (t->form == TERM_NUMBER && value_is_nan(b));
    if (na || nb)
        return nb - na;
    if (t->form == TERM_NOT_NAN)
        return value_is_nan(b) - value_is_nan(a);
    return value_compare(&r->target->schema->fields[r->columns[run_position(r, t->column)]], a, b);
}

int terms_compare(const struct run *r, const struct cell *const *a, const struct cell *const *b)
{
    int order = 0;
    for (size_t i = 0; i < r->s->order_count && order == 0; i++)
        order = term_compare(r, &r->s->order[i], a[i], b[i]);
    return order;
}

static int check_order(struct run *r)
{
    for (size_t i = 0; i < r->s->order_count; i++) {
        const struct term *t = &r->s->order[i];
        size_t at = run_position(r, t->column);
        if (at == SIZE_MAX)
            return run_fail(r, "invalidQuery", "Unrecognized name: %s at [1:1]", t->column);
        bool number = r->target->schema->fields[r->columns[at]].type == FIELD_FLOAT64;
        if (number != (t->form != TERM_PLAIN)) /* SQL allows it, but NaN would not be where the product says it is */
            return run_fail(r, "invalidQuery", "bqmodel: IS_NAN goes with FLOAT64 columns and with no others; %s", t->column);
    }
    for (size_t i = 0; i < r->s->keys.count; i++)
        if (run_position(r, r->s->keys.at[i]) == SIZE_MAX)
            return run_fail(r, "invalidQuery", "Unrecognized name: %s at [1:1]", r->s->keys.at[i]);
    for (size_t i = 0; i < r->s->apart.count; i++)
        if (run_position(r, r->s->apart.at[i]) == SIZE_MAX)
            return run_fail(r, "invalidQuery", "Unrecognized name: %s at [1:1]", r->s->apart.at[i]);
    return 0;
}

/* --- rows ------------------------------------------------------------------------------------------------------------------------------------ */

void key_add(struct buf *key, const struct cell *c)
{
    if (c->text == NULL) {
        buf_xputs(key, "N;");
        return;
    }
    buf_xprintf(key, "%zu:", c->len);
    buf_xadd(key, c->text, c->len);
}

static void take(struct run *r, struct src row)
{
    if (r->count == r->cap) {
        r->cap = r->cap ? r->cap * 2 : 64;
        r->rows = xreallocarray(r->rows, r->cap, sizeof(*r->rows));
    }
    r->rows[r->count++] = row;
}

/* Keeps the row if it is the first of its key so far. Equal keys: NULLs are equal here, unless the statement sets rows with them apart. */
static void take_ranked(struct run *r, struct entry **best, struct src row)
{
    for (size_t i = 0; i < r->s->apart.count; i++)
        if (src_cell(&row, run_position(r, r->s->apart.at[i]))->text == NULL) {
            take(r, row);
            return;
        }
    struct buf key = BUF_INIT(KEY_MAX);
    buf_xputs(&key, "k");
    for (size_t i = 0; i < r->s->keys.count; i++)
        key_add(&key, src_cell(&row, run_position(r, r->s->keys.at[i])));
    struct entry *e = entry_put(best, key.data, key.len);
    buf_free(&key);
    if (e->found++ == 0) {
        e->value = (int64_t)r->count;
        take(r, row);
        return;
    }
    struct src *other = &r->rows[e->value];
    AUTO(free_ptr) const struct cell **a = xcalloc(r->s->order_count + 1, sizeof(*a)), **b = xcalloc(r->s->order_count + 1, sizeof(*b));
    src_terms(r, &row, a);
    src_terms(r, other, b);
    int order = terms_compare(r, a, b);
    if (order == 0)
        order = row.age - other->age;
    if (order == 0)
        order = row.item != other->item ? (row.item > other->item) - (row.item < other->item) : (row.number > other->number) - (row.number < other->number);
    if (order > 0)
        *other = row;
}

static int64_t integer(const struct cell *c)
{
    return c->text ? strtoll(c->text, NULL, 10) : INT64_MIN;
}

static bool excluded(const struct run *r, const char *load, int64_t item)
{
    struct buf key = BUF_INIT(8192);
    buf_xprintf(&key, "%s|%" PRId64, load, item);
    bool yes = entry_find(r->excluded, key.data, key.len) != NULL;
    buf_free(&key);
    return yes;
}

static void gather(struct run *r)
{
    struct entry *best = NULL;
    for (size_t i = 0; i < r->s->shard_count; i++) {
        const struct shard *sh = &r->shards[i];
        for (size_t k = 0; k < sh->table->count; k++) {
            const struct row *row = sh->table->rows[k];
            const struct cell *cell = &row->cells[sh->load];
            AUTO(free_ptr) char *load = cell->text == NULL ? NULL : r->s->ages ? xasprintf("%d/%s", r->s->ages[i], cell->text) : xstrndup(cell->text, cell->len);
            struct entry *e = load ? entry_find(r->loads, load, strlen(load)) : NULL;
            if (e == NULL)
                continue;
            e->found++;
            struct src src = {row, sh, integer(&row->cells[sh->item]), integer(&row->cells[sh->row]), r->s->ages ? r->s->ages[i] : 0};
            if (r->s->exclusions && excluded(r, load, src.item))
                continue;
            if (r->s->keys.count > 0)
                take_ranked(r, &best, src);
            else
                take(r, src);
        }
    }
    const struct shard *base = &r->shards[r->s->shard_count];
    for (size_t k = 0; base->table && k < base->table->count; k++) {
        struct src src = {base->table->rows[k], base, -1, -1, -1};
        if (r->s->keys.count > 0)
            take_ranked(r, &best, src);
        else
            take(r, src);
    }
    entries_free(&best);
}

int run_fence(struct run *r)
{
    const struct fence *f = &r->s->fence;
    const struct mtable *t = run_table(r, &f->table);
    size_t slot = 0, token = 0, expires = 0;
    const char *our_slot = "", *our_token = "";
    if (run_param(r, "permit_slot", FIELD_INT64, &our_slot) || run_param(r, "permit_token", FIELD_STRING, &our_token))
        return -1;
    if (t == NULL || run_column(r, t, "slot", &slot) || run_column(r, t, "token", &token) || run_column(r, t, "expires", &expires))
        return -1;
    for (size_t i = 0; i < t->count; i++) {
        const struct cell *c = t->rows[i]->cells;
        if (integer(&c[slot]) == strtoll(our_slot, NULL, 10) && c[token].text && strcmp(c[token].text, our_token) == 0 && c[expires].text &&
            integer(&c[expires]) > loop_wall_us(r->m->loop))
            return 0;
    }
    return run_fail(r, "invalidQuery", "bqfleet: the permit is lost%s", r->s->kind == STMT_EMPTY ? "" : "1");
}

int run_source(struct run *r)
{
    if (open_shards(r) || check_order(r))
        return -1;
    bool plain = r->s->kind == STMT_VIEW && r->s->shard_count == 0;
    if (!plain && (r->s->by_side ? side(r) : (pairs(r, "loads", "rows", &r->loads, false) ||
                                   (r->s->exclusions && pairs(r, "exclusions", "item", &r->excluded, true)))))
        return -1;
    gather(r);
    for (const struct entry *e = r->loads; e && r->s->kind != STMT_VIEW; e = e->hh.next)
        if (e->found != e->value)
            return run_fail(r, "invalidQuery", "bqfleet: load %s has %" PRId64 " staged rows instead of %" PRId64, e->key, e->found, e->value);
    return r->s->fence.present ? run_fence(r) : 0;
}

void run_release(struct run *r)
{
    for (size_t i = 0; r->shards && i <= r->s->shard_count; i++)
        free(r->shards[i].columns);
    free(r->shards);
    free(r->columns);
    free(r->rows);
    entries_free(&r->loads);
    entries_free(&r->excluded);
}
