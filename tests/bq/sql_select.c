#include "tests/bq/sql_select.h"

enum kind { E_ITEM, E_KEY, E_ROW, E_JSON, E_TEXT, E_NUMBER, E_ADD, E_MUL, E_DIV, E_CAST, E_ERROR, E_IF };
struct expr {
    enum kind kind;
    enum field_type type;
    char *text;            /* a literal; JSON: the member's name */
    bool of_params;        /* JSON */
    int64_t number;
    struct expr *of[4];
};
struct column { char *name; struct expr *e; };
struct select {
    struct column *columns; size_t count;
    struct expr *times;    /* rows of an item; NULL: one */
    struct expr *left, *right; /* WHERE left = right */
};

/* --- reading ----------------------------------------------------------------------------------------------------------------------------- */

struct in { const char *p, *end; };

static void skip(struct in *in)
{
    for (;;) {
        const char *from = in->p;
        while (in->p < in->end && strchr(" \t\r\n", *in->p))
            in->p++;
        if (in->end - in->p >= 2 && (in->p[0] == '-' && in->p[1] == '-'))
            while (in->p < in->end && *in->p != '\n')
                in->p++;
        if (in->p == from)
            return;
    }
}

static bool word(struct in *in, const char *text)
{
    struct in next = *in;
    skip(&next);
    size_t n = strlen(text);
    if ((size_t)(next.end - next.p) < n || strncmp(next.p, text, n) != 0)
        return false;
    next.p += n;
    bool name = text[n - 1] >= '0' && text[n - 1] != '\'';
    if (name && next.p < next.end && (*next.p == '_' || (*next.p >= '0' && *next.p <= '9') || ((*next.p | 32) >= 'a' && (*next.p | 32) <= 'z')))
        return false;
    *in = next;
    return true;
}

static char *name_of(struct in *in)
{
    skip(in);
    bool quoted = in->p < in->end && *in->p == '`';
    const char *from = in->p + quoted;
    size_t n = 0;
    while (from + n < in->end && (from[n] == '_' || (from[n] >= '0' && from[n] <= '9') || ((from[n] | 32) >= 'a' && (from[n] | 32) <= 'z')))
        n++;
    in->p = from + n + quoted;
    return n ? xstrndup(from, n) : NULL;
}

static struct expr *expression(struct in *);

static void expr_free(struct expr *e)
{
    for (size_t i = 0; e && i < ARRAY_LEN(e->of); i++)
        expr_free(e->of[i]);
    if (e)
        free(e->text);
    free(e);
}

static struct expr *node(enum kind kind, enum field_type type)
{
    struct expr *e = xcalloc(1, sizeof(*e));
    e->kind = kind;
    e->type = type;
    return e;
}

static bool text_of(struct in *in, char **out)
{
    if (!word(in, "'"))
        return false;
    const char *end = memchr(in->p, '\'', (size_t)(in->end - in->p));
    if (end == NULL)
        return false;
    *out = xstrndup(in->p, (size_t)(end - in->p));
    in->p = end + 1;
    return true;
}

/* Frees the node when `good` is false. */
static struct expr *if_good(struct expr *e, bool good)
{
    if (good)
        return e;
    expr_free(e);
    return NULL;
}

static bool sub(struct in *in, struct expr *e, size_t i, const char *then)
{
    e->of[i] = expression(in);
    return e->of[i] != NULL && word(in, then);
}

static struct expr *json_value(struct in *in)
{
    struct expr *e = node(E_JSON, FIELD_STRING);
    char *path = NULL;
    e->of_params = word(in, "@params");
    bool good = (e->of_params || word(in, "i.payload")) && word(in, ",") && text_of(in, &path) && word(in, ")") && strncmp(path, "$.", 2) == 0;
    if (good)
        e->text = xstrdup(path + 2);
    free(path);
    return if_good(e, good);
}

static struct expr *cast(struct in *in)
{
    static const struct { const char *name; enum field_type type; } types[] = {{"INT64", FIELD_INT64}, {"STRING", FIELD_STRING}, {"FLOAT64", FIELD_FLOAT64}};
    struct expr *e = node(E_CAST, FIELD_STRING);
    bool good = sub(in, e, 0, "AS"), known = false;
    for (size_t i = 0; good && !known && i < ARRAY_LEN(types); i++)
        if ((known = word(in, types[i].name)))
            e->type = types[i].type;
    return if_good(e, good && known && word(in, ")"));
}

static struct expr *condition(struct in *in)
{
    struct expr *e = node(E_IF, FIELD_STRING);
    bool good = sub(in, e, 0, "=") && sub(in, e, 1, ",") && sub(in, e, 2, ",") && sub(in, e, 3, ")");
    if (good)
        e->type = e->of[e->of[2]->kind == E_ERROR ? 3 : 2]->type;
    return if_good(e, good);
}

static struct expr *primary(struct in *in)
{
    struct expr *e;
    char *text = NULL;
    if (word(in, "i.item"))
        return node(E_ITEM, FIELD_INT64);
    if (word(in, "i.key"))
        return node(E_KEY, FIELD_STRING);
    if (word(in, "JSON_VALUE("))
        return json_value(in);
    if (word(in, "CAST("))
        return cast(in);
    if (word(in, "IF("))
        return condition(in);
    if (word(in, "ERROR(")) {
        e = node(E_ERROR, FIELD_STRING);
        return if_good(e, sub(in, e, 0, ")"));
    }
    if (word(in, "DIV(")) {
        e = node(E_DIV, FIELD_INT64);
        return if_good(e, sub(in, e, 0, ",") && sub(in, e, 1, ")"));
    }
    if (text_of(in, &text)) {
        e = node(E_TEXT, FIELD_STRING);
        e->text = text;
        return e;
    }
    if (word(in, "r"))
        return node(E_ROW, FIELD_INT64);
    skip(in);
    if (in->p < in->end && *in->p >= '0' && *in->p <= '9') {
        char *end = NULL;
        e = node(E_NUMBER, FIELD_INT64);
        e->number = strtoll(in->p, &end, 10);
        in->p = end;
        return e;
    }
    return NULL;
}

/* From left to right: the tests need no precedence. */
static struct expr *expression(struct in *in)
{
    struct expr *e = primary(in);
    while (e != NULL) {
        enum kind kind = word(in, "+") ? E_ADD : word(in, "*") ? E_MUL : E_TEXT;
        if (kind == E_TEXT)
            break;
        struct expr *both = node(kind, FIELD_INT64);
        both->of[0] = e;
        both->of[1] = primary(in);
        e = if_good(both, both->of[1] != NULL);
    }
    return e;
}

static bool column(struct in *in, struct select *s)
{
    s->columns = xreallocarray(s->columns, s->count + 1, sizeof(*s->columns));
    struct column *c = &s->columns[s->count];
    *c = (struct column){.e = expression(in)};
    if (c->e == NULL)
        return false;
    s->count++;
    c->name = word(in, "AS") ? name_of(in)
              : c->e->kind == E_ITEM ? xstrdup("item") : c->e->kind == E_KEY ? xstrdup("key") : c->e->kind == E_ROW ? xstrdup("r") : xasprintf("f%zu_", s->count - 1);
    return c->name != NULL;
}

static bool statement(struct in *in, struct select *s)
{
    if (!word(in, "SELECT"))
        return false;
    do
        if (!column(in, s))
            return false;
    while (word(in, ","));
    if (!word(in, "FROM") || !word(in, "UNNEST(@items)") || !word(in, "AS") || !word(in, "i"))
        return false;
    if (word(in, ",")) {
        if (!word(in, "UNNEST(GENERATE_ARRAY(1,") || (s->times = expression(in)) == NULL || !word(in, "))") || !word(in, "AS") || !word(in, "r"))
            return false;
    }
    if (word(in, "WHERE") && ((s->left = expression(in)) == NULL || !word(in, "=") || (s->right = expression(in)) == NULL))
        return false;
    skip(in);
    return in->p == in->end;
}

struct select *select_parse(const char *sql, size_t len, const char **at)
{
    struct select *s = xcalloc(1, sizeof(*s));
    struct in in = {sql, sql + len};
    bool good = statement(&in, s);
    *at = in.p;
    if (good)
        return s;
    select_free(s);
    return NULL;
}

void select_free(struct select *s)
{
    if (s == NULL)
        return;
    for (size_t i = 0; i < s->count; i++) {
        free(s->columns[i].name);
        expr_free(s->columns[i].e);
    }
    free(s->columns);
    expr_free(s->times);
    expr_free(s->left);
    expr_free(s->right);
    free(s);
}

size_t select_columns(const struct select *s) { return s->count; }
const char *select_name(const struct select *s, size_t i) { return s->columns[i].name; }
enum field_type select_type(const struct select *s, size_t i) { return s->columns[i].e->type; }

/* --- computing --------------------------------------------------------------------------------------------------------------------------- */

struct at { struct run *r; const struct group_item *item; const doc *payload, *params; int64_t row; };

/* 0 with a text of the caller's, NULL for NULL; -1: failed. */
static int value(const struct at *at, const struct expr *e, char **out);

static int number(const struct at *at, const struct expr *e, int64_t *out, bool *null)
{
    AUTO(free_ptr) char *text = NULL;
    if (value(at, e, &text))
        return -1;
    *null = *null || text == NULL;
    *out = text ? strtoll(text, NULL, 10) : 0;
    return 0;
}

static int arithmetic(const struct at *at, const struct expr *e, char **out)
{
    int64_t a = 0, b = 0;
    bool null = false;
    if (number(at, e->of[0], &a, &null) || number(at, e->of[1], &b, &null))
        return -1;
    if (null)
        return 0;
    if (e->kind == E_DIV && b == 0)
        return run_fail(at->r, "invalidQuery", "division by zero: %" PRId64 " / 0", a);
    *out = xasprintf("%" PRId64, e->kind == E_ADD ? a + b : e->kind == E_MUL ? a * b : a / b);
    return 0;
}

static int cast_value(const struct at *at, const struct expr *e, char **out)
{
    char *text = NULL, *end = NULL;
    if (value(at, e->of[0], &text))
        return -1;
    *out = text;
    if (text == NULL || e->type == FIELD_STRING)
        return 0;
    if (e->type == FIELD_INT64)
        (void)strtoll(text, &end, 10);
    else
        (void)strtod(text, &end);
    if (end != text && *end == '\0')
        return 0;
    run_fail(at->r, "invalidQuery", "Bad %s value: %s", e->type == FIELD_INT64 ? "int64" : "double", text);
    free(text);
    *out = NULL;
    return -1;
}

static char *json_text(const doc *from, const char *name)
{
    const doc *d = doc_field(from, name);
    if (doc_type(d) == DOC_STRING)
        return xstrdup(doc_str(d, NULL, ""));
    return doc_type(d) == DOC_NONE || doc_type(d) == DOC_NULL || doc_type(d) == DOC_OBJECT || doc_type(d) == DOC_ARRAY ? NULL : doc_text(d);
}

static int choice(const struct at *at, const struct expr *e, char **out)
{
    AUTO(free_ptr) char *a = NULL, *b = NULL;
    if (value(at, e->of[0], &a) || value(at, e->of[1], &b))
        return -1;
    return value(at, e->of[a && b && strcmp(a, b) == 0 ? 2 : 3], out);
}

static int value(const struct at *at, const struct expr *e, char **out)
{
    AUTO(free_ptr) char *text = NULL;
    *out = NULL;
    switch (e->kind) {
    case E_ITEM: *out = xasprintf("%" PRId64, at->item->item); return 0;
    case E_KEY: *out = at->item->key ? xstrdup(at->item->key) : NULL; return 0;
    case E_ROW: *out = xasprintf("%" PRId64, at->row); return 0;
    case E_JSON: *out = json_text(e->of_params ? at->params : at->payload, e->text); return 0;
    case E_TEXT: *out = xstrdup(e->text); return 0;
    case E_NUMBER: *out = xasprintf("%" PRId64, e->number); return 0;
    case E_ADD: case E_MUL: case E_DIV: return arithmetic(at, e, out);
    case E_CAST: return cast_value(at, e, out);
    case E_IF: return choice(at, e, out);
    case E_ERROR: break;
    }
    if (value(at, e->of[0], &text))
        return -1;
    return run_fail(at->r, "invalidQuery", "%s", text ? text : "");
}

static int wanted(const struct at *at, const struct select *s, bool *yes)
{
    AUTO(free_ptr) char *a = NULL, *b = NULL;
    *yes = true;
    if (s->left == NULL)
        return 0;
    if (value(at, s->left, &a) || value(at, s->right, &b))
        return -1;
    *yes = a && b && strcmp(a, b) == 0;
    return 0;
}

static int add_row(const struct at *at, const struct select *s, struct selected *out)
{
    if (out->count + s->count > out->cap) {
        out->cap = 2 * out->cap + s->count;
        out->texts = xreallocarray(out->texts, out->cap, sizeof(char *));
    }
    for (size_t c = 0; c < s->count; c++) {
        if (value(at, s->columns[c].e, &out->texts[out->count]))
            return -1;
        out->count++;
    }
    return 0;
}

static int rows_of(struct at *at, const struct select *s, struct selected *out)
{
    int64_t times = 1;
    bool yes = true, null = false;
    if (s->times && number(at, s->times, &times, &null))
        return -1;
    for (at->row = 1; !null && at->row <= times; at->row++)
        if (wanted(at, s, &yes) || (yes && add_row(at, s, out)))
            return -1;
    return 0;
}

static const doc *param(const struct run *r, const char *name)
{
    for (size_t i = 0; i < doc_len(r->params); i++)
        if (strcmp(doc_str(doc_at(r->params, i), "name", ""), name) == 0)
            return doc_at(r->params, i);
    return NULL;
}

int select_items(struct run *r, struct group_item **out, size_t *count)
{
    static const char *const names[] = {"item", "key", "payload"}, *const kinds[] = {"INT64", "STRING", "JSON"};
    const doc *p = param(r, "items"), *types = doc_get(p, "parameterType.arrayType.structTypes"), *list = doc_get(p, "parameterValue.arrayValues");
    bool good = doc_len(types) == ARRAY_LEN(names);
    for (size_t i = 0; good && i < ARRAY_LEN(names); i++)
        good = strcmp(doc_str(doc_at(types, i), "name", ""), names[i]) == 0 && strcmp(doc_str(doc_at(types, i), "type.type", ""), kinds[i]) == 0;
    if (!good)
        return run_fail(r, "invalidQuery", "Query parameter 'items' is not an ARRAY<STRUCT<item INT64, key STRING, payload JSON>> at [1:1]");
    *count = doc_len(list);
    *out = xcalloc(*count + 1, sizeof(**out));
    for (size_t i = 0; i < *count; i++) {
        const doc *row = doc_get(doc_at(list, i), "structValues");
        (*out)[i] = (struct group_item){.item = doc_int(row, "item.value", -1), .key = doc_str(row, "key.value", NULL), .payload = doc_str(row, "payload.value", NULL)};
    }
    return 0;
}

int select_run(struct run *r, const struct select *s, struct selected *out)
{
    AUTO(free_ptr) struct group_item *items = NULL;
    size_t count = 0;
    const char *text = doc_str(param(r, "params"), "parameterValue.value", NULL);
    AUTO(doc_free_auto) doc *params = text ? doc_parse(text, strlen(text), "params", NULL) : NULL;
    *out = (struct selected){.count = 0};
    int rc = select_items(r, &items, &count);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        const char *json = items[i].payload;
        AUTO(doc_free_auto) doc *payload = json ? doc_parse(json, strlen(json), "payload", NULL) : NULL;
        struct at at = {.r = r, .item = &items[i], .payload = payload, .params = params};
        rc = json && payload == NULL ? run_fail(r, "invalid", "Invalid value for query parameter 'items': not JSON") : rows_of(&at, s, out);
    }
    if (rc != 0)
        selected_free(out);
    return rc;
}

void selected_free(struct selected *s)
{
    for (size_t i = 0; i < s->count; i++)
        free(s->texts[i]);
    free(s->texts);
    *s = (struct selected){.count = 0};
}
