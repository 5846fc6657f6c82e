#include "tests/unit/support_permits.h"

int site_open(void **state)
{
    static const struct bq_ref target = {"local", "ds", "t"};
    struct site *s = xcalloc(1, sizeof(*s));
    s->loop = loop_new_virtual(INT64_C(1767225600) * US_PER_S);
    rnd_seeded(&s->rnd, 7);
    struct bqmodel_options o = {.dml_ms = 800, .pending_ms = 100, .rnd = &s->rnd};
    bqmodel_documented_limits(&o);
    s->model = bqmodel_new(s->loop, &o);
    s->auth = auth_anonymous();
    s->slots = 2;
    bqmodel_add_table(s->model, "ds.t", "k:STRING, v:INT64");
    permits_table(&target, &s->table);
    *state = s;
    return 0;
}

struct client *site_client_of(struct site *s, const char *project)
{
    struct client *c = &s->clients[s->count++];
    char holder[32];
    c->site = s;
    c->number = (int)s->count;
    c->work_ms = 1000;
    c->bq = bq_new(&(struct bq_options){.loop = s->loop, .http = bqmodel_http(s->model), .auth = s->auth, .rnd = &s->rnd, .base_url = "http://model",
                                        .project = project});
    snprintf(holder, sizeof(holder), "client %d", c->number);
    c->permits = permits_new(&(struct permits_options){.bq = c->bq, .rnd = &s->rnd, .table = s->table, .holder = holder, .slots = s->slots, .quantum_ms = s->quantum_ms});
    return c;
}

struct client *site_client(struct site *s)
{
    return site_client_of(s, "local");
}

/* The process is gone: nothing of it acts any more, and nothing is said. */
void client_kill(struct client *c)
{
    bq_job_stop(c->job, false);
    c->job = NULL;
    permits_free(c->permits);
    c->permits = NULL;
    timer_free(c->timer);
    c->timer = NULL;
}

int site_close(void **state)
{
    struct site *s = *state;
    for (size_t i = 0; i < s->count; i++) {
        client_kill(&s->clients[i]);
        doc_free(s->clients[i].configuration);
        bq_free(s->clients[i].bq);
    }
    assert_null(bqmodel_unknown_statement(s->model));
    bqmodel_free(s->model);
    auth_free(s->auth);
    loop_free(s->loop);
    free(s);
    return 0;
}

static void work_done(void *arg)
{
    struct client *c = arg;
    c->site->at_once--;
    c->done++;
    permit_end(c->use, false);
    c->use = NULL;
    if (--c->left > 0)
        client_want(c);
}

/* "Guarded work": a stretch of time in which at most `slots` clients may be. */
static void granted(void *arg, const struct permit_grant *grant, const struct error *err)
{
    struct client *c = arg;
    struct site *s = c->site;
    if (grant == NULL) {
        assert_non_null(err);
        c->refused = true;
        c->use = NULL;
        return;
    }
    snprintf(c->token, sizeof(c->token), "%s", grant->token);
    c->longest_us = i64_max(c->longest_us, loop_now_us(s->loop) - c->asked_us);
    s->most_at_once = s->most_at_once > ++s->at_once ? s->most_at_once : s->at_once;
    if (c->stay)
        return;
    if (c->timer == NULL)
        c->timer = timer_new(s->loop, work_done, c);
    timer_set(c->timer, c->work_ms * US_PER_MS);
}

void client_want(struct client *c)
{
    char base[64];
    snprintf(base, sizeof(base), "work_%d_%d", c->number, c->tries++);
    c->asked_us = loop_now_us(c->site->loop);
    c->use = permits_want(c->permits, base, "test", granted, c);
}

static void on_permit(void *arg, const struct permit_grant *grant, const struct error *err)
{
    struct wisher *w = arg;
    w->granted = grant != NULL;
    w->refused = err != NULL;
    w->use = grant != NULL ? w->use : NULL;
}

void wisher_want(struct wisher *w, struct client *c, const char *job)
{
    *w = (struct wisher){.granted = false};
    w->use = permits_want(c->permits, job, "test", on_permit, w);
}

bool wisher_has_one(void *w) { return ((struct wisher *)w)->granted; }

bool site_done(void *arg)
{
    const struct site *s = arg;
    for (size_t i = 0; i < s->count; i++)
        if (s->clients[i].left > 0)
            return false;
    return true;
}
bool client_has_one(void *arg) { return ((struct client *)arg)->token[0] != '\0'; }
bool site_never(void *arg) { return arg == NULL; }
bool client_rests(void *arg) { return permits_rest(((struct client *)arg)->permits); }

bool client_gave_back(void *arg) { return permits_given_back(((struct client *)arg)->permits); }

void site_run_all(struct site *s, int each)
{
    for (size_t i = 0; i < s->count; i++) {
        s->clients[i].left = each;
        client_want(&s->clients[i]);
    }
    UNTIL(s, site_done, s);
}

doc *site_row(struct site *s, size_t slot)
{
    char name[700];
    snprintf(name, sizeof(name), "%s.%s.%s", s->table.project, s->table.dataset, s->table.table);
    AUTO(doc_free_auto) doc *rows = bqmodel_rows(s->model, name);
    for (size_t i = 0; i < doc_len(rows); i++)
        if (doc_int(doc_at(rows, i), "slot", -1) == (int64_t)slot)
            return doc_copy(doc_at(rows, i));
    return NULL;
}
