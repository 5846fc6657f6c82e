#include "tests/bq/internal.h"

#define MAX_BODY (512 * 1024 * 1024) /* bytes of a request */

/* The model on a socket. */

struct served {
    struct exchange x; /* first */
    struct http_exchange *http;
};

static void answer(struct exchange *x, struct mreply *r)
{
    struct http_exchange *http = ((struct served *)(void *)x)->http;
    if (r->status == 0) { /* cut short rather than dropped: a client may send again by itself what was dropped before the first byte */
        static const char *const cut[] = {"Content-Length: 1000", "Connection: close", NULL};
        http_exchange_answer(http, 200, cut, "{", 1);
        return;
    }
    bool typed = r->header && strncmp(r->header, "Content-Type", 12) == 0;
    size_t len = r->body ? strlen(r->body) : 0, n = 0;
    AUTO(free_ptr) char *length = xasprintf("Content-Length: %zu", len);
    const char *headers[5] = {NULL};
    if (r->header)
        headers[n++] = r->header;
    if (!typed)
        headers[n++] = "Content-Type: application/json; charset=UTF-8";
    if (x->cut == CUT_CONNECTION) {
        headers[n++] = length;
        headers[n++] = "Connection: close";
        len = (size_t)x->kept;
    }
    http_exchange_answer(http, r->status, headers, r->body ? r->body : "", len);
}

static const char *header(const struct mrequest *r, const char *name)
{
    return http_exchange_header(r->header_arg, name);
}

static void on_request(void *arg, struct http_exchange *http, const struct http_server_request *given)
{
    struct bqmodel *m = arg;
    const char *host = http_exchange_header(http, "Host"), *query = strchr(given->target, '?');
    AUTO(free_ptr) char *origin = xasprintf("http://%s", host ? host : "localhost");
    struct served *s = (struct served *)(void *)exchange_new(m, answer, sizeof(*s), model_spread_us(m, m->o.latency_ms));
    s->http = http;
    struct mrequest r = {.method = given->method, .path = given->path, .query = query ? query + 1 : "", .origin = origin, .header = header,
                         .header_arg = http, .body = given->body, .len = given->body_len};
    if (strncmp(r.path, "/control/", 9) != 0)
        check_length(m, &r);
    model_handle(&s->x, &r);
}

int bqmodel_serve(struct bqmodel *m, const char *address, int port, struct error *err)
{
    assert(m->server == NULL);
    m->server = http_server_new(m->loop, address, port, MAX_BODY, on_request, m, err);
    m->tell = m->server != NULL;
    return m->server ? http_server_port(m->server) : -1;
}

void server_close(struct bqmodel *m)
{
    http_server_free(m->server);
    m->server = NULL;
}

/* --- control --------------------------------------------------------------------------------------------------------------------------------- */

static void control_table(struct exchange *x, const doc *d)
{
    struct bqmodel *m = x->model;
    struct error err = ERROR_INIT;
    struct bq_ref ref;
    if (bq_ref_parse(doc_str(d, "ref", ""), m->project, &ref, &err)) {
        reply_error(x, 400, "invalid", "%s", err.text);
        return;
    }
    model_dataset_add(m, ref.project, ref.dataset);
    struct mtable *t = model_table(m, &ref);
    AUTO(doc_free_auto) doc *resource = doc_object();
    for (void *it = doc_first(d); it; it = doc_next(d, it))
        if (strcmp(doc_key(it), "ref") != 0 && strcmp(doc_key(it), "rows") != 0)
            doc_set(resource, doc_key(it), doc_copy(doc_value(it)));
    if (t == NULL && (t = model_table_add(m, &ref, resource, &err)) == NULL) {
        reply_error(x, 400, "invalid", "%s", err.text);
        return;
    }
    const doc *rows = doc_get(d, "rows");
    for (size_t i = 0; i < doc_len(rows); i++) {
        struct row *row = row_read(t->schema, doc_at(rows, i), false, &err);
        if (row == NULL) {
            reply_error(x, 400, "invalid", "row %zu: %s", i, err.text);
            return;
        }
        mtable_append(t, row);
    }
    t->version++;
    reply_doc(x, 200, mtable_resource(m, t));
}

static doc *counters_doc(const struct bqmodel *m)
{
    const struct bqmodel_counters *c = &m->counters;
    const struct { const char *name; int64_t value; } rows[] = {
        {"requests", c->requests}, {"requests_at_once", c->requests_at_once}, {"loads", c->loads}, {"queries", c->queries}, {"merges", c->merges},
        {"inserts", c->inserts}, {"deletes", c->deletes}, {"updates", c->updates}, {"gives_up", c->gives_up}, {"groups", c->groups}, {"dry_runs", c->dry_runs}, {"failed", c->failed}, {"duplicates", c->duplicates},
        {"loads_at_once", c->loads_at_once}, {"dml_at_once", c->dml_at_once}, {"reruns", c->reruns}, {"faults", c->faults}, {"bytes_billed", c->bytes_billed}, {"limited", c->limited}, {"tokens", c->tokens},
        {"grants_refused", c->grants_refused}, {"turned_away", c->turned_away},
        {"sessions", c->sessions}, {"sessions_deleted", c->sessions_deleted},
    };
    doc *out = doc_object(), *jobs = doc_array();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        doc_set_int(out, rows[i].name, rows[i].value);
    doc *chaos = doc_object();
    for (size_t i = 0; i < BQMODEL_CHAOS_KINDS; i++)
        doc_set_int(chaos, bqmodel_chaos_name((enum bqmodel_chaos_kind)i), c->chaos[i]);
    doc_set(out, "chaos", chaos);
    doc_set(out, "unknown_statement", m->unknown ? doc_string(m->unknown) : doc_null());
    doc_set(out, "violation", m->violation ? doc_string(m->violation) : doc_null());
    const struct mjob *j;
    TAILQ_FOREACH(j, &m->jobs, link)
    {
        AUTO(doc_free_auto) doc *whole = mjob_resource(j);
        const doc *labels = doc_get(j->configuration, "labels"), *error = doc_get(whole, "status.errorResult");
        doc *one = doc_set_str(doc_set_str(doc_object(), "id", j->id), "state", doc_str(whole, "status.state", ""));
        doc_set_str(one, "kind", j->is_load ? "LOAD" : j->stmt ? stmt_type(j->stmt) : "?");
        doc_set_int(doc_set_int(one, "started_ms", j->started_ms), "ended_ms", j->ended_ms);
        doc_set_str(one, "table", j->target.table);
        doc_set(one, "labels", labels ? doc_copy(labels) : doc_object());
        doc_add(jobs, doc_set(one, "error", error ? doc_copy(error) : doc_null()));
    }
    return doc_set(out, "jobs", jobs);
}

static void control_wall(struct exchange *x, const doc *d)
{
    struct bqmodel *m = x->model;
    const char *of = doc_str(d, "of", "jobs");
    int64_t from_us = loop_now_us(m->loop) + doc_int(d, "after_ms", 0) * US_PER_MS;
    bqmodel_wall(m, strcmp(of, "loads") == 0 ? BQMODEL_WALL_LOADS : strcmp(of, "queries") == 0 ? BQMODEL_WALL_QUERIES : BQMODEL_WALL_JOBS, from_us,
                 from_us + doc_int(d, "for_ms", 0) * US_PER_MS);
    reply_doc(x, 200, doc_object());
}

static void named_table(struct exchange *x, const struct mrequest *r, bool expire)
{
    char name[640];
    struct bq_ref ref;
    struct error err = ERROR_INIT;
    query_value(r, "table", name, sizeof(name));
    if (bq_ref_parse(name, x->model->project, &ref, &err)) {
        reply_error(x, 400, "invalid", "%s", err.text);
    } else if (!bqmodel_has_table(x->model, name)) {
        reply_error(x, 404, "notFound", "Not found: Table %s", name);
    } else if (expire) {
        bqmodel_expire(x->model, name);
        reply_doc(x, 200, doc_object());
    } else {
        reply_doc(x, 200, bqmodel_rows(x->model, name));
    }
}

bool control_handle(struct exchange *x, const struct mrequest *r)
{
    if (strncmp(r->path, "/control/", 9) != 0)
        return false;
    const char *what = r->path + 9;
    bool post = strcmp(r->method, "POST") == 0;
    struct error err = ERROR_INIT;
    AUTO(doc_free_auto) doc *d = post && r->len > 0 ? doc_parse(r->body, r->len, "request", &err) : NULL;
    if (post && err.kind != ERR_NONE) {
        reply_error(x, 400, "parseError", "%s", err.text);
    } else if (post && strcmp(what, "table") == 0) {
        control_table(x, d);
    } else if (post && strcmp(what, "fault") == 0) {
        if (bqmodel_fault_doc(x->model, d, &err))
            reply_error(x, 400, "invalid", "%s", err.text);
        else
            reply_doc(x, 200, doc_object());
    } else if (post && strcmp(what, "clear-faults") == 0) {
        bqmodel_clear_faults(x->model);
        reply_doc(x, 200, doc_object());
    } else if (post && strcmp(what, "revoke-tokens") == 0) {
        bqmodel_revoke_tokens(x->model);
        reply_doc(x, 200, doc_object());
    } else if (post && strcmp(what, "wall") == 0) {
        control_wall(x, d);
    } else if (post && strcmp(what, "chaos") == 0) {
        if (bqmodel_chaos_doc(x->model, d, &err))
            reply_error(x, 400, "invalid", "%s", err.text);
        else
            reply_doc(x, 200, doc_object());
    } else if (strcmp(what, "rows") == 0 || strcmp(what, "expire") == 0) {
        named_table(x, r, strcmp(what, "expire") == 0);
    } else if (strcmp(what, "counters") == 0) {
        reply_doc(x, 200, counters_doc(x->model));
    } else {
        reply_error(x, 404, "notFound", "there is no %s", r->path);
    }
    return true;
}
