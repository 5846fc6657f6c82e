#include "tests/bq/discovery.h"

#include <errno.h>
#include <strings.h>

#include "common/base/file.h"
#include "common/base/limits.h"
#include "tests/bq/internal.h"

/* Where in a body: a member's name, or an element's number. Its text is made only for what is wrong, as most is well. */
struct place { const struct place *outer; const char *name; size_t index; };
struct check {
    const doc *all;    /* the document */
    const doc *schemas;
    bool request;
    const char *what;  /* "jobs.insert" */
    const struct place *at;
    char *wrong;       /* the first thing */
};

static const doc *document(void)
{
    static doc *loaded; /* for all models of the process; never changed */
    struct error err = ERROR_INIT;
    size_t len = 0;
    if (loaded)
        return loaded;
    AUTO(free_ptr) char *text = file_read(BQF_DISCOVERY, LIMIT_DOCUMENT, &len, &err);
    loaded = text ? doc_parse(text, len, BQF_DISCOVERY, &err) : NULL;
    if (loaded == NULL) {
        fprintf(stderr, "bqmodel: %s\n", err.text);
        abort();
    }
    return loaded;
}

static void put_place(const struct place *at, struct buf *out)
{
    if (at == NULL)
        return;
    put_place(at->outer, out);
    if (at->name)
        buf_xprintf(out, "%s%s", at->outer ? "." : "", at->name);
    else
        buf_xprintf(out, "%s%zu", at->outer ? "." : "", at->index);
}

static bool wrong(struct check *c, const char *fmt, ...) PRINTF_LIKE(2, 3);
static bool wrong(struct check *c, const char *fmt, ...)
{
    struct error text = ERROR_INIT;
    va_list ap;
    va_start(ap, fmt);
    error_vset(&text, ERR_TASK, 0, fmt, ap);
    va_end(ap);
    struct buf where = BUF_INIT(SIZE_MAX / 2);
    put_place(c->at, &where);
    if (c->wrong == NULL)
        c->wrong = xasprintf("%s: %s%s%s", c->what, where.len ? where.data : "", where.len ? " " : "", text.text);
    buf_free(&where);
    return false;
}

/* --- values ---------------------------------------------------------------------------------------------------------------------------------- */

static bool is(const char *a, const char *b) { return strcmp(a, b) == 0; }

static bool is_decimal(const char *text, const char *format)
{
    bool natural = format[0] == 'u';
    size_t sign = !natural && text[0] == '-';
    char *end = NULL;
    errno = 0;
    if (text[sign] < '0' || text[sign] > '9')
        return false;
    long long value = natural ? (long long)(strtoull(text, &end, 10) >> 1) : strtoll(text, &end, 10);
    bool half = strstr(format, "32") != NULL;
    int64_t least = natural ? 0 : INT32_MIN, most = natural ? UINT32_MAX >> 1 : INT32_MAX;
    return *end == '\0' && errno == 0 && (!half || (value >= least && value <= most));
}

static bool in_enum(const doc *schema, const char *text)
{
    const doc *names = doc_get(schema, "enum");
    for (size_t i = 0; i < doc_len(names); i++)
        if (is(doc_str(doc_at(names, i), NULL, ""), text))
            return true;
    return doc_len(names) == 0;
}

static bool check_string(struct check *c, const doc *schema, const doc *value)
{
    const char *text = doc_str(value, NULL, NULL), *format = doc_str(schema, "format", "");
    if (doc_type(value) != DOC_STRING || text == NULL)
        return wrong(c, "is no string");
    if (strstr(format, "int64") && !is_decimal(text, format))
        return wrong(c, "is \"%s\", no %s", text, format);
    return in_enum(schema, text) || wrong(c, "is \"%s\", none of the values it may have", text);
}

static bool check_integer(struct check *c, const doc *schema, const doc *value)
{
    char text[24];
    snprintf(text, sizeof(text), "%" PRId64, doc_int(value, NULL, 0));
    return (doc_type(value) == DOC_INT && is_decimal(text, doc_str(schema, "format", "int32"))) || wrong(c, "is no integer of that size");
}

static bool check_value(struct check *, const doc *schema, const doc *value);

static bool check_inside(struct check *c, struct place at, const doc *schema, const doc *value)
{
    at.outer = c->at;
    c->at = &at;
    bool well = check_value(c, schema, value);
    c->at = at.outer;
    return well;
}

static bool check_array(struct check *c, const doc *schema, const doc *value)
{
    const doc *items = doc_field(schema, "items");
    if (doc_type(value) != DOC_ARRAY)
        return wrong(c, "is no array");
    for (size_t i = 0; i < doc_len(value); i++) {
        if (doc_type(doc_at(value, i)) == DOC_NULL)
            return wrong(c, "has a null at %zu", i);
        if (!check_inside(c, (struct place){.index = i}, items, doc_at(value, i)))
            return false;
    }
    return true;
}

/* An id that is missing is made by the service, says the page on jobs, though its field is called required. */
static bool may_lack(const char *what, const char *field)
{
    return is(what, "jobs.insert") && is(field, "jobId");
}

static bool check_object(struct check *c, const doc *schema, const doc *value)
{
    const doc *known = doc_field(schema, "properties"), *others = doc_field(schema, "additionalProperties");
    if (doc_type(value) != DOC_OBJECT)
        return wrong(c, "is no object");
    for (void *it = doc_first(value); it; it = doc_next(value, it)) {
        const doc *field = doc_field(known, doc_key(it)), *inner = field ? field : others;
        if (inner == NULL)
            return wrong(c, "has no field \"%s\" in BigQuery", doc_key(it));
        if (c->request && (doc_bool(inner, "readOnly", false) || doc_bool(inner, "deprecated", false)))
            return wrong(c, "sends \"%s\", which is %s", doc_key(it), doc_bool(inner, "readOnly", false) ? "only put out" : "deprecated");
        if (!check_inside(c, (struct place){.name = doc_key(it)}, inner, doc_value(it)))
            return false;
    }
    bool partial = is(c->what, "tables.patch") && c->request && c->at == NULL;
    const doc *required = doc_field(schema, "required");
    for (size_t i = 0; !partial && i < doc_len(required); i++) {
        const char *name = doc_str(doc_at(required, i), NULL, "");
        enum doc_type type = doc_type(doc_field(value, name));
        if ((type == DOC_NONE || type == DOC_NULL) && !may_lack(c->what, name))
            return wrong(c, "lacks \"%s\", which is required", name);
    }
    return true;
}

static bool check_value(struct check *c, const doc *schema, const doc *value)
{
    const char *reference = doc_str(schema, "$ref", NULL);
    if (reference)
        schema = doc_field(c->schemas, reference);
    const char *type = doc_str(schema, "type", "");
    if (is(type, "any"))
        return true;
    if (doc_type(value) == DOC_NULL) /* in a request as good as absent; the service leaves such fields out */
        return c->request || wrong(c, "is null");
    if (is(type, "object"))
        return check_object(c, schema, value);
    if (is(type, "array"))
        return check_array(c, schema, value);
    if (is(type, "string"))
        return check_string(c, schema, value);
    if (is(type, "integer"))
        return check_integer(c, schema, value);
    if (is(type, "boolean"))
        return doc_type(value) == DOC_BOOL || wrong(c, "is no boolean");
    if (is(type, "number"))
        return doc_type(value) == DOC_INT || doc_type(value) == DOC_REAL || wrong(c, "is no number");
    return wrong(c, "has the type \"%s\", which this validator does not know", type);
}

static struct check check_of(const char *what, bool request)
{
    const doc *all = document();
    return (struct check){.all = all, .schemas = doc_field(all, "schemas"), .request = request, .what = what};
}

char *discovery_check_answer(const char *schema, const doc *body)
{
    struct check c = check_of(schema, false);
    check_value(&c, doc_field(c.schemas, schema), body);
    return c.wrong;
}

/* --- the address ----------------------------------------------------------------------------------------------------------------------------- */

/* "/a/{+x}/b": a name in braces stands for one whole segment. */
static bool path_fits(const char *wanted, const char *path)
{
    while (*wanted && *path) {
        if (*wanted == '{') {
            size_t n = strcspn(path, "/");
            wanted = strchr(wanted, '}') + 1;
            path += n;
            if (n == 0)
                return false;
        } else if (*wanted++ != *path++) {
            return false;
        }
    }
    return *wanted == *path;
}

static const doc *find_method(struct check *c, const struct discovery_request *r, bool upload)
{
    const doc *methods = doc_field(c->all, "methods");
    /* A session is begun by POST; then its own address, which is the service's business, is used by PUT and DELETE. */
    bool session = upload && (is(r->method, "PUT") || is(r->method, "DELETE"));
    for (void *it = doc_first(methods); it; it = doc_next(methods, it)) {
        const char *path = doc_str(doc_value(it), upload ? "uploadPath" : "path", NULL);
        if (path && path_fits(path, r->path) && is(session ? "POST" : r->method, doc_str(doc_value(it), "httpMethod", ""))) {
            c->what = doc_key(it);
            return doc_value(it);
        }
    }
    wrong(c, "%s is no method of BigQuery (or discovery.py does not list it)", r->path);
    return NULL;
}

static bool check_text(struct check *c, const doc *schema, const char *name, const char *text)
{
    const char *type = doc_str(schema, "type", ""), *format = doc_str(schema, "format", "");
    bool well = is(type, "boolean") ? is(text, "true") || is(text, "false") : strstr(format, "int") ? is_decimal(text, format) : in_enum(schema, text);
    return well || wrong(c, "the query parameter %s is \"%s\"", name, text);
}

static bool check_query(struct check *c, const doc *method, const struct discovery_request *r, bool session)
{
    struct mrequest view = {.query = r->query};
    for (const char *p = r->query; *p;) {
        char name[64], value[2048];
        size_t n = strcspn(p, "&"), len = strcspn(p, "=&");
        snprintf(name, sizeof(name), "%.*s", (int)len, p);
        const doc *own = doc_field(doc_get(method, "parameters"), name), *global = doc_field(doc_get(c->all, "parameters"), name);
        bool here = own && is(doc_str(own, "location", ""), "query");
        view.query = p;
        if (len == 0 || len == n)
            return wrong(c, "the query parameters \"%s\" are not well formed", r->query);
        if (!(session && is(name, "upload_id")) && !here && global == NULL)
            return wrong(c, "BigQuery knows no query parameter %s", name);
        query_value(&view, name, value, sizeof(value));
        if (!check_text(c, here ? own : global, name, value))
            return false;
        p += n + (p[n] == '&');
        if (!doc_bool(own, "repeated", false) && query_value(&(struct mrequest){.query = p}, name, value, sizeof(value)))
            return wrong(c, "the query parameter %s is there twice", name);
    }
    return true;
}

/* --- requests -------------------------------------------------------------------------------------------------------------------------------- */

static bool check_body(struct check *c, const doc *method, const struct discovery_request *r, bool multipart)
{
    const char *schema = doc_str(method, "request", NULL), *type = r->content_type ? r->content_type : "";
    struct cell json = {r->body, r->len}, media;
    struct error err = ERROR_INIT;
    if (schema == NULL)
        return r->len == 0 || wrong(c, "takes no body");
    if (multipart && !multipart_split(type, r->body, r->len, &json, &media))
        return wrong(c, "the body is not of two parts, JSON and data");
    if (!multipart && strncasecmp(type, "application/json", 16) != 0)
        return wrong(c, "the body's type is \"%s\"", type);
    AUTO(doc_free_auto) doc *body = doc_parse(json.text, json.len, "the body", &err);
    return body ? check_value(c, doc_field(c->schemas, schema), body) : wrong(c, "%s", err.text);
}

char *discovery_check_request(const struct discovery_request *r, const char **answer)
{
    char kind[32] = "";
    bool upload = strncmp(r->path, "/upload/", 8) == 0, typed = query_value(&(struct mrequest){.query = r->query}, "uploadType", kind, sizeof(kind));
    bool multipart = is(kind, "multipart"), resumable = is(kind, "resumable");
    struct check c = check_of(r->method, true);
    *answer = NULL;
    const doc *method = find_method(&c, r, upload);
    bool session = resumable && !is(r->method, "POST");
    if (method == NULL || !check_query(&c, method, r, session))
        return c.wrong;
    if (upload ? !multipart && !resumable : typed)
        wrong(&c, "an uploadType \"%s\" on this path", kind);
    else if (session || check_body(&c, method, r, multipart))
        *answer = resumable && !session ? NULL : doc_str(method, "response", NULL);
    return c.wrong;
}
