#include "tests/bq/internal.h"

#include <strings.h>

#define CHUNK_UNIT 262144 /* bytes: every chunk but the last is a multiple of it */

/* Load jobs with their data: in one multipart body, or by a resumable session. */

static bool next_part(const char **p, const char *end, const char *line, size_t line_len, struct cell *head, struct cell *body)
{
    const char *begin = memmem(*p, (size_t)(end - *p), line, line_len);
    if (begin == NULL)
        return false;
    begin += line_len;
    if (end - begin >= 2 && memcmp(begin, "--", 2) == 0)
        return false;
    const char *stop = memmem(begin, (size_t)(end - begin), "\r\n\r\n", 4), *next = NULL;
    AUTO(free_ptr) char *closing = xasprintf("\r\n%.*s", (int)line_len, line);
    if (stop)
        next = memmem(stop + 2, (size_t)(end - stop - 2), closing, line_len + 2);
    if (next == NULL)
        return false;
    *head = (struct cell){begin, (size_t)(stop - begin)};
    const char *data = stop + 4 <= next ? stop + 4 : next;
    *body = (struct cell){data, (size_t)(next - data)};
    *p = next + 2;
    return true;
}

bool multipart_split(const char *content_type, const char *body, size_t len, struct cell *json, struct cell *media)
{
    const char *at = content_type ? strcasestr(content_type, "boundary=") : NULL;
    if (at == NULL || strncasecmp(content_type, "multipart/related", 17) != 0)
        return false;
    at += 9;
    at += *at == '"';
    AUTO(free_ptr) char *line = xasprintf("--%.*s", (int)strcspn(at, "\"; "), at);
    const char *p = body, *end = body + len;
    struct cell head;
    if (!next_part(&p, end, line, strlen(line), &head, json) || memmem(head.text, head.len, "application/json", 16) == NULL)
        return false;
    return next_part(&p, end, line, strlen(line), &head, media);
}

static struct session *find_session(struct bqmodel *m, const struct mrequest *r)
{
    uint64_t id = (uint64_t)query_int(r, "upload_id", 0);
    for (struct session *s = m->sessions; s; s = s->next)
        if (s->id == id)
            return m->o.session_ms > 0 && loop_now_ms(m->loop) - s->used_ms >= m->o.session_ms ? NULL : s;
    return NULL;
}

void session_free(struct session *s)
{
    doc_free(s->job);
    free(s->project);
    free(s->data);
    free(s->answer);
    free(s);
}

static void session_drop(struct bqmodel *m, struct session *s)
{
    for (struct session **at = &m->sessions; *at; at = &(*at)->next)
        if (*at == s) {
            *at = s->next;
            session_free(s);
            return;
        }
}

static void copy_job_id(const char *text, size_t len, char *out, size_t size)
{
    AUTO(doc_free_auto) doc *d = doc_parse(text, len, "request", NULL);
    snprintf(out, size, "%s", doc_str(d, "jobReference.jobId", ""));
}

void request_job_id(struct bqmodel *m, const struct mrequest *r, char *out, size_t size)
{
    struct cell json, media;
    const struct session *s = NULL;
    const char *at = strstr(r->path, "/jobs/") ? strstr(r->path, "/jobs/") + 6 : strstr(r->path, "/queries/") ? strstr(r->path, "/queries/") + 9 : NULL;
    const char *tail = strrchr(r->path, '/');
    out[0] = '\0';
    if (at)
        snprintf(out, size, "%.*s", (int)strcspn(at, "/"), at);
    else if (tail == NULL || strcmp(tail, "/jobs") != 0)
        return;
    else if (strcmp(r->method, "PUT") == 0 && (s = find_session(m, r)) != NULL)
        snprintf(out, size, "%s", doc_str(s->job, "jobReference.jobId", ""));
    else if (multipart_split(r->header(r, "Content-Type"), r->body, r->len, &json, &media))
        copy_job_id(json.text, json.len, out, size);
    else if (r->len > 0 && strcmp(r->method, "POST") == 0)
        copy_job_id(r->body, r->len, out, size);
}

/* --- one request ----------------------------------------------------------------------------------------------------------------------------- */

static void multipart(struct exchange *x, const struct route *to)
{
    struct cell json, media;
    struct error err = ERROR_INIT;
    if (!multipart_split(to->r->header(to->r, "Content-Type"), to->r->body, to->r->len, &json, &media)) {
        reply_error(x, 400, "badContent", "Bad multipart body");
        return;
    }
    AUTO(doc_free_auto) doc *body = doc_parse(json.text, json.len, "request", &err);
    if (body == NULL) {
        reply_error(x, 400, "parseError", "Parse Error: %s", err.text);
        return;
    }
    const struct mjob *j = model_job_insert(x->model, to->seg[0], body, media.text, media.len, &err);
    if (j)
        reply_job(x, j);
    else
        reply_error(x, err.code, err.reason, "%s", err.text);
}

/* --- sessions -------------------------------------------------------------------------------------------------------------------------------- */

static void start(struct exchange *x, const struct route *to)
{
    struct error err = ERROR_INIT;
    struct bqmodel *m = x->model;
    const char *length = to->r->header(to->r, "X-Upload-Content-Length");
    doc *job = doc_parse(to->r->body, to->r->len, "request", &err);
    if (job == NULL) {
        reply_error(x, 400, "parseError", "Parse Error: %s", err.text);
        return;
    }
    struct session *s = xcalloc(1, sizeof(*s));
    *s = (struct session){.next = m->sessions, .id = ++m->next_id, .project = xstrdup(to->seg[0]), .job = job, .total = length ? strtoll(length, NULL, 10) : -1,
                          .used_ms = loop_now_ms(m->loop)};
    m->sessions = s;
    m->counters.sessions++;
    reply_raw(x, 200, xasprintf("Location: %s%s?uploadType=resumable&upload_id=%" PRIu64, to->r->origin, to->r->path, s->id), NULL);
}

/* All bytes are there: now the job is made, and the session says the same for as long as it is asked. */
static void complete(struct session *s, struct bqmodel *m)
{
    struct error err = ERROR_INIT;
    const struct mjob *j = model_job_insert(m, s->project, s->job, s->len ? s->data : "", s->len, &err);
    AUTO(doc_free_auto) doc *d = j ? mjob_resource(j) : NULL;
    s->status = j ? 200 : err.code;
    s->answer = j ? doc_text(d) : error_body(err.code, err.reason, err.text);
    free(s->data);
    s->data = NULL;
}

static void append(struct session *s, const char *p, size_t n)
{
    if (s->len + n > s->cap) {
        s->cap = size_max(s->cap * 2, s->len + n);
        s->data = xrealloc(s->data, s->cap);
    }
    if (n > 0)
        memcpy(s->data + s->len, p, n);
    s->len += n;
}

struct range { int64_t first, last, total; bool query; }; /* total -1: unknown */

static bool read_range(const char *text, struct range *out)
{
    char total[32] = "";
    *out = (struct range){.query = true, .total = -1};
    if (text == NULL)
        return false;
    if (sscanf(text, "bytes %" SCNd64 "-%" SCNd64 "/%31s", &out->first, &out->last, total) == 3)
        out->query = false;
    else if (sscanf(text, "bytes */%31s", total) != 1)
        return false;
    if (strcmp(total, "*") != 0)
        out->total = strtoll(total, NULL, 10);
    return true;
}

static void tell(struct exchange *x, const struct session *s)
{
    if (s->answer) {
        AUTO(doc_free_auto) doc *answer = doc_parse(s->answer, strlen(s->answer), "answer", NULL);
        check_answer(x, s->status, answer);
        reply_raw(x, s->status, NULL, xstrdup(s->answer));
    } else {
        reply_raw(x, 308, s->len > 0 ? xasprintf("Range: bytes=0-%zu", s->len - 1) : NULL, NULL);
    }
}

static void put(struct exchange *x, const struct route *to, struct session *s, const struct bqmodel_fault *chaos)
{
    struct range range;
    const struct mrequest *r = to->r;
    char job_id[1100];
    request_job_id(x->model, r, job_id, sizeof(job_id));
    if (!read_range(r->header(r, "Content-Range"), &range)) { /* the whole of it at once */
        range = (struct range){.last = (int64_t)r->len - 1, .total = (int64_t)r->len};
    }
    if (range.total >= 0 && s->total >= 0 && range.total != s->total) {
        reply_error(x, 400, "invalid", "Content-Range's total differs from what was announced");
        return;
    }
    if (range.total >= 0)
        s->total = range.total;
    if (range.query || s->answer) {
        if (range.query && s->answer == NULL && (int64_t)s->len == s->total)
            complete(s, x->model);
        tell(x, s);
        return;
    }
    bool last = range.last + 1 == s->total;
    int64_t have = (int64_t)s->len, len = range.last - range.first + 1;
    if (len != (int64_t)r->len || range.first > have || (s->total >= 0 && range.last >= s->total)) {
        reply_error(x, 400, "invalid", "Invalid request. The chunk %" PRId64 "-%" PRId64 " does not follow the %" PRId64 " bytes received", range.first,
                    range.last, have);
        return;
    }
    if (!last && len % CHUNK_UNIT != 0) {
        reply_error(x, 400, "invalid", "Invalid request. The number of bytes uploaded is required to be equal or greater than 262144, except for the "
                    "final request, and a multiple of it");
        return;
    }
    const struct bqmodel_fault *f = fault_take(x->model, FAULT_KEEP, "PUT", job_id);
    f = f ? f : chaos;
    x->lose |= f != NULL && f->kind == BQMODEL_CUT_CHUNK;
    int64_t keep = f ? i64_min(f->bytes, len) : len;
    if (range.first + keep > have)
        append(s, r->body + (have - range.first), (size_t)(range.first + keep - have));
    if ((int64_t)s->len == s->total)
        complete(s, x->model);
    tell(x, s);
}

static void in_session(struct exchange *x, const struct route *to, bool is_put)
{
    char job_id[1100];
    struct bqmodel *m = x->model;
    struct session *s = find_session(m, to->r);
    request_job_id(m, to->r, job_id, sizeof(job_id));
    const struct bqmodel_fault *f = s && is_put ? fault_take(m, FAULT_GONE, "PUT", job_id) : NULL, *chunk = NULL;
    if (s && is_put && f == NULL)
        f = chaos_chunk(m, (int64_t)to->r->len);
    if (f && f->kind != BQMODEL_SESSION_GONE) {
        chunk = f;
        f = NULL;
    }
    int status = f ? f->status : 404;
    bool executed = f && f->executed;
    if (s == NULL || (f && !executed)) {
        reply_error(x, status, status == 410 ? "gone" : "notFound", "No upload session of this name");
    } else if (is_put) {
        s->used_ms = loop_now_ms(m->loop);
        if (executed && x->instead.status == 0)
            x->instead = (struct mreply){.status = status, .body = error_body(status, "gone", "No upload session of this name")};
        put(x, to, s, chunk);
    } else { /* as Google's servers answer it */
        m->counters.sessions_deleted++;
        reply_raw(x, 499, NULL, NULL);
    }
    if (s && (f || !is_put))
        session_drop(m, s);
}

void rest_upload(struct exchange *x, const struct route *to)
{
    char kind[32];
    query_value(to->r, "uploadType", kind, sizeof(kind));
    const char *method = to->r->method;
    bool post = strcmp(method, "POST") == 0, resumable = strcmp(kind, "resumable") == 0;
    if (post && strcmp(kind, "multipart") == 0)
        multipart(x, to);
    else if (post && resumable)
        start(x, to);
    else if (resumable && (strcmp(method, "PUT") == 0 || strcmp(method, "DELETE") == 0))
        in_session(x, to, strcmp(method, "PUT") == 0);
    else
        reply_error(x, 400, "invalid", "bqmodel: an upload of type \"%s\" is not known", kind);
}
