#include "common/bq/bq.h"

#include "common/base/limits.h"
#include "common/bq/internal.h"

#include <strings.h>

/* --- the client -------------------------------------------------------------------------------------------------------------------------- */

/* "localhost:9050" and "http://localhost:9050/bigquery/v2/" mean the same server. */
static char *tidy_url(const char *url)
{
    static const char path[] = "/bigquery/v2";
    char *out = strstr(url, "://") ? xstrdup(url) : xasprintf("http://%s", url);
    size_t n = strlen(out);
    while (n > 0 && out[n - 1] == '/')
        out[--n] = '\0';
    if (n > sizeof(path) && strcmp(out + n - (sizeof(path) - 1), path) == 0)
        out[n - (sizeof(path) - 1)] = '\0';
    return out;
}

static struct bq *make(const struct bq_options *o)
{
    struct bq *bq = xcalloc(1, sizeof(*bq));
    bq->loop = o->loop;
    bq->http = o->http;
    bq->auth = o->auth;
    bq->rnd = o->rnd;
    bq->metrics = o->metrics;
    bq->base_url = tidy_url(o->base_url);
    bq->project = xstrdup(o->project);
    LIST_INIT(&bq->calls);
    return bq;
}

struct bq *bq_new(const struct bq_options *o)
{
    struct bq *bq = make(o);
    bq->gate = gate_new(o->loop, o->rnd, o->requests > 0 ? o->requests : LIMIT_HTTP_REQUESTS);
    bq->quotas = quotas_new(o->loop, o->rnd);
    return bq;
}

struct bq *bq_new_for(struct bq *bq, const char *project)
{
    struct bq *made = make(&(struct bq_options){.loop = bq->loop, .http = bq->http, .auth = bq->auth, .rnd = bq->rnd, .metrics = bq->metrics,
                                       .base_url = bq->base_url, .project = project});
    made->root = bq_root(bq);
    made->gate = bq->gate;
    made->quotas = bq->quotas;
    return made;
}

void bq_free(struct bq *bq)
{
    if (bq == NULL)
        return;
    while (!LIST_EMPTY(&bq->calls))
        bq_call_cancel(LIST_FIRST(&bq->calls));
    if (bq->root == NULL) {
        gate_free(bq->gate);
        quotas_free(bq->quotas);
    }
    free(bq->base_url);
    free(bq->project);
    free(bq);
}

struct loop *bq_loop(struct bq *bq)
{
    return bq->loop;
}

const char *bq_project(struct bq *bq)
{
    return bq->project;
}

const char *bq_waits_for(struct bq *bq)
{
    return gate_waits_for(bq->gate);
}

const char *bq_base_url(struct bq *bq)
{
    return bq->base_url;
}

/* --- names ------------------------------------------------------------------------------------------------------------------------------- */

/* What may stand in a name beside letters, digits and underscores; in a table's name any other letters, too. */
#define PROJECT_ALSO "-.:"
#define TABLE_ALSO "-  "

static bool part_ok(const char *at, size_t n, const char *also, bool any_letters)
{
    for (const char *p = at; p < at + n; p++) {
        bool letter = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') || *p == '_';
        if (!letter && ((unsigned char)*p >= 0x80 ? !any_letters : *p == '\0' || !strchr(also, *p)))
            return false;
    }
    return n > 0;
}

/* Takes a part that ends before `end`, if its characters are allowed and it fits. */
static bool take(const char *at, const char *end, const char *also, bool any_letters, char *out, size_t size)
{
    size_t n = (size_t)(end - at);
    if (n >= size || !part_ok(at, n, also, any_letters))
        return false;
    memcpy(out, at, n);
    out[n] = '\0';
    return true;
}

bool bq_ref_ok(const struct bq_ref *ref)
{
    return part_ok(ref->project, strlen(ref->project), PROJECT_ALSO, false) && part_ok(ref->dataset, strlen(ref->dataset), "", false) &&
           part_ok(ref->table, strlen(ref->table), TABLE_ALSO, true);
}

/* Backquotes are dropped wherever they stand in pairs: `a.b.c`, `a`.`b`.`c`. */
static int unquote(const char *text, char *out, size_t size)
{
    size_t n = 0, quotes = 0;
    for (; *text; text++) {
        if (*text == '`')
            quotes++;
        else if (n + 1 < size)
            out[n++] = *text;
        else
            return -1;
    }
    out[n] = '\0';
    return quotes % 2 ? -1 : 0;
}

int bq_ref_parse(const char *text, const char *default_project, struct bq_ref *ref, struct error *err)
{
    char plain[640] = "", project[64] = "", dataset[256], table[256];
    if (unquote(text, plain, sizeof(plain)) == 0) {
        const char *dot = strrchr(plain, '.'), *before = NULL; /* before: what ends the project */
        for (const char *p = plain; dot && p < dot; p++)
            if (*p == '.' || *p == ':')
                before = p;
        bool whole = dot && take(dot + 1, dot + strlen(dot), TABLE_ALSO, true, table, sizeof(table)) &&
                     take(before ? before + 1 : plain, dot, "", false, dataset, sizeof(dataset)) &&
                     (before == NULL || take(plain, before, PROJECT_ALSO, false, project, sizeof(project)));
        if (whole && before == NULL && default_project)
            snprintf(project, sizeof(project), "%s", default_project);
        if (whole && project[0] == '\0')
            return error_set(err, ERR_USAGE, 0, "%s: no project is known; write project.dataset.table, or set GOOGLE_CLOUD_PROJECT", text);
        if (whole && !part_ok(project, strlen(project), PROJECT_ALSO, false))
            return error_set(err, ERR_USAGE, 0, "%s: \"%s\" is not a project's name", text, project);
        if (whole) {
            memcpy(ref->project, project, sizeof(project));
            memcpy(ref->dataset, dataset, sizeof(dataset));
            memcpy(ref->table, table, sizeof(table));
            return 0;
        }
    }
    return error_set(err, ERR_USAGE, 0, "%s is not a table's name; write dataset.table or project.dataset.table", text);
}

const char *bq_ref_text(const struct bq_ref *ref, char *out, size_t size)
{
    snprintf(out, size, "%s.%s.%s", ref->project, ref->dataset, ref->table);
    return out;
}

/* Names of datasets and tables are case-sensitive. */
bool bq_ref_equal(const struct bq_ref *a, const struct bq_ref *b)
{
    return strcmp(a->project, b->project) == 0 && strcmp(a->dataset, b->dataset) == 0 && strcmp(a->table, b->table) == 0;
}

/* --- shared by the requests -------------------------------------------------------------------------------------------------------------- */

void bq_job_path(const char *project, const char *job_id, const char *suffix, struct buf *out)
{
    buf_xputs(out, "/projects/");
    http_escape(out, project);
    buf_xputs(out, "/jobs/");
    http_escape(out, job_id);
    buf_xputs(out, suffix);
}

void bq_location_query(const char *location, struct buf *out)
{
    if (location == NULL || *location == '\0')
        return;
    buf_xputs(out, "location=");
    http_escape(out, location);
    buf_xputs(out, "&");
}

doc *bq_job_resource(const struct bq *bq, const char *job_id, const char *location, const doc *configuration)
{
    doc *reference = doc_set_str(doc_object(), "projectId", bq->project);
    doc_set_str(reference, "jobId", job_id);
    if (location && *location)
        doc_set_str(reference, "location", location);
    doc *resource = doc_set(doc_object(), "jobReference", reference);
    return doc_set(resource, "configuration", doc_ref((doc *)(uintptr_t)configuration));
}
