#include "common/bq/auth_source.h"

#include <strings.h>

/* The metadata server of Google's own machines (Compute Engine, GKE, Cloud Run): the token of the account they run as. It is asked by plain
 * HTTP, on the machine's own network; that it is what it claims to be, its header says. */

#define METADATA_HOST "metadata.google.internal"
#define METADATA_CONNECT_MS 3000 /* it is near, or not there at all */
#define METADATA_WHOLE_MS 10000

struct metadata_source {
    struct source source;
    struct auth_world world;
    char *url, *looked;
    bool named; /* by the user: then it is there, if perhaps not yet */
    struct exchange exchange;
    source_cb *cb;
    void *arg;
};

static void metadata_answer(void *arg, const struct http_response *r, const struct error *failure)
{
    struct metadata_source *m = arg;
    struct error err = ERROR_INIT;
    int64_t lives_ms = 0;
    AUTO(secret_free_auto) char *token = NULL;
    const char *flavor = r ? http_header(r, "Metadata-Flavor") : NULL;
    if (r && (flavor == NULL || strcasecmp(flavor, "Google") != 0))
        error_set(&err, ERR_RETRY, r->status, "%s: the answer lacks the header Metadata-Flavor: Google; something else answers there (a proxy? NO_PROXY)",
                  m->source.what);
    else if (r)
        token = exchange_token(r, m->source.what, loop_wall_ms(m->world.loop), &lives_ms, &err);
    m->cb(m->arg, token, lives_ms, token ? NULL : r ? &err : failure);
}

static void metadata_fetch(struct source *s, source_cb *cb, void *arg)
{
    static const char *const headers[] = {"Metadata-Flavor: Google", NULL};
    struct metadata_source *m = (struct metadata_source *)s;
    m->cb = cb;
    m->arg = arg;
    struct exchange_request r = {
        .method = "GET", .url = m->url, .headers = headers, .what = m->source.what,
        .advice = "this machine or pod may run without a service account; attach one, or on GKE bind the pod's (Workload Identity)",
        .connect_ms = METADATA_CONNECT_MS, .whole_ms = METADATA_WHOLE_MS,
    };
    exchange_send(&m->exchange, &m->world, &r, metadata_answer, m);
}

static void metadata_stop(struct source *s)
{
    exchange_stop(&((struct metadata_source *)s)->exchange);
}

/* Nobody there, or something else: this is no machine of Google's, and this was the last place to look. */
static void metadata_never(struct source *s, struct error *err)
{
    struct metadata_source *m = (struct metadata_source *)s;
    char last[300];
    snprintf(last, sizeof(last), "%.299s", err->text);
    if (m->named || err->kind != ERR_RETRY || m->exchange.status > 299)
        return;
    error_set(err, ERR_FATAL, 0, "no credentials for BigQuery; looked for: %s; %s. Set one of them (gcloud auth application-default login makes such a file), "
              "or for an emulator BIGQUERY_EMULATOR_HOST or --auth anonymous", m->looked, last);
}

static void metadata_free(struct source *s)
{
    struct metadata_source *m = (struct metadata_source *)s;
    metadata_stop(s);
    free(m->url);
    free(m->looked);
    free(m->source.what);
    free(m);
}

static const struct source_ops metadata_ops = {.fetch = metadata_fetch, .stop = metadata_stop, .free = metadata_free, .never = metadata_never};

struct source *source_metadata(const struct auth_world *w, const char *looked)
{
    const char *host = w->env("GCE_METADATA_HOST");
    bool named = host && *host;
    if (!named)
        host = METADATA_HOST;
    struct metadata_source *m = xcalloc(1, sizeof(*m));
    m->source.ops = &metadata_ops;
    m->source.what = xasprintf("metadata server %s", host);
    m->world = *w;
    m->named = named;
    m->url = xasprintf("http://%s/computeMetadata/v1/instance/service-accounts/default/token", host);
    m->looked = xstrdup(looked);
    return &m->source;
}
