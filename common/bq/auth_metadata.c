#include "common/bq/auth_source.h"

#include <strings.h>

/* The metadata server of Google's own machines (Compute Engine, GKE, Cloud Run): the token of the account they run as. It is asked by plain
 * HTTP, on the machine's own network; that it is what it claims to be, its header says. */

#define METADATA_HOST "metadata.google.internal"
#define METADATA_CONNECT_MS 3000 /* it is near */
#define METADATA_PROBE_MS 1000   /* or not there at all */
#define METADATA_WHOLE_MS 10000
#define METADATA_ROOT "/computeMetadata/v1/"

struct metadata_source {
    struct source source;
    struct auth_world world;
    char *url, *project_url, *looked, *project;
    bool expected;       /* it is there, if perhaps not yet: the user or the environment says so, or it has answered before */
    bool wants_project;  /* somebody has asked for it */
    struct exchange exchange;
    source_cb *cb;
    void *arg;
};

/* Nobody there, or something else: this is no machine of Google's, and this was the last place to look. That is said at once, without repeats. */
static void say_where(const struct metadata_source *m, struct error *err)
{
    char last[300];
    snprintf(last, sizeof(last), "%.299s", err->text);
    if (m->expected || err->kind != ERR_RETRY || m->exchange.status > 299)
        return;
    error_set(err, ERR_FATAL, 0, "no credentials for BigQuery; looked for: %s; %s. Set one of them (gcloud auth application-default login makes such a file), "
              "or for an emulator BIGQUERY_EMULATOR_HOST or --auth anonymous", m->looked, last);
}

static bool is_google(const struct http_response *r)
{
    const char *flavor = http_header(r, "Metadata-Flavor");
    return flavor && strcasecmp(flavor, "Google") == 0;
}

static void metadata_answer(void *arg, const struct http_response *r, const struct error *failure)
{
    struct metadata_source *m = arg;
    struct error err = ERROR_INIT;
    int64_t lives_ms = 0;
    AUTO(secret_free_auto) char *token = NULL;
    if (r && !is_google(r))
        error_set(&err, ERR_RETRY, r->status, "%s: the answer lacks the header Metadata-Flavor: Google; something else answers there (a proxy? NO_PROXY)",
                  m->source.what);
    else if (r)
        token = exchange_token(r, m->source.what, loop_wall_ms(m->world.loop), &lives_ms, &err);
    if (!r)
        err = *failure;
    m->expected |= token != NULL;
    say_where(m, &err);
    m->cb(m->arg, token, lives_ms, token ? NULL : &err);
}

static void ask(struct metadata_source *m, const char *url, exchange_cb *cb)
{
    static const char *const headers[] = {"Metadata-Flavor: Google", NULL};
    struct exchange_request r = {
        .method = "GET", .url = url, .headers = headers, .direct = true, .what = m->source.what,
        .advice = "this machine or pod may run without a service account; attach one, or on GKE bind the pod's (Workload Identity)",
        .connect_ms = m->expected ? METADATA_CONNECT_MS : METADATA_PROBE_MS,
        .whole_ms = m->expected ? METADATA_WHOLE_MS : METADATA_PROBE_MS * 3,
    };
    exchange_send(&m->exchange, &m->world, &r, cb, m);
}

/* Whatever became of it: the token matters more. Where nobody answers, that one will not be had either. */
static void project_answer(void *arg, const struct http_response *r, const struct error *failure)
{
    struct metadata_source *m = arg;
    if (r && is_google(r) && r->body && r->body->len > 0 && r->body->len < 64) /* as long as a project may be called, and more */
        m->project = xstrndup(r->body->data, strcspn(r->body->data, "\r\n \t"));
    if (failure && m->exchange.status == 0)
        metadata_answer(m, NULL, failure);
    else
        ask(m, m->url, metadata_answer);
}

static void metadata_fetch(struct source *s, source_cb *cb, void *arg)
{
    struct metadata_source *m = (struct metadata_source *)s;
    m->cb = cb;
    m->arg = arg;
    if (m->wants_project && m->project == NULL)
        ask(m, m->project_url, project_answer);
    else
        ask(m, m->url, metadata_answer);
}

static const char *metadata_project(struct source *s)
{
    struct metadata_source *m = (struct metadata_source *)s;
    m->wants_project = true;
    return m->project;
}

static void metadata_stop(struct source *s)
{
    exchange_stop(&((struct metadata_source *)s)->exchange);
}

static void metadata_free(struct source *s)
{
    struct metadata_source *m = (struct metadata_source *)s;
    metadata_stop(s);
    free(m->url);
    free(m->project_url);
    free(m->project);
    free(m->looked);
    free(m->source.what);
    free(m);
}

static const struct source_ops metadata_ops = {.fetch = metadata_fetch, .stop = metadata_stop, .free = metadata_free, .project = metadata_project};

/* Set where pods and services run: there the server may be a moment late. */
static const char *const googles[] = {"KUBERNETES_SERVICE_HOST", "K_SERVICE", "CLOUD_RUN_JOB", "FUNCTION_TARGET"};

struct source *source_metadata(const struct auth_world *w, const char *looked)
{
    const char *host = w->env("GCE_METADATA_HOST");
    bool named = host && *host, expected = named;
    for (size_t i = 0; i < ARRAY_LEN(googles); i++)
        expected |= w->env(googles[i]) != NULL;
    if (!named)
        host = METADATA_HOST;
    struct metadata_source *m = xcalloc(1, sizeof(*m));
    m->source.ops = &metadata_ops;
    m->source.what = xasprintf("metadata server %s", host);
    m->world = *w;
    m->expected = expected;
    m->url = xasprintf("http://%s" METADATA_ROOT "instance/service-accounts/default/token", host);
    m->project_url = xasprintf("http://%s" METADATA_ROOT "project/project-id", host);
    m->looked = xstrdup(looked);
    return &m->source;
}
