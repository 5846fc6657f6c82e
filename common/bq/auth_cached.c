#include "common/base/log.h"
#include "common/base/retry.h"
#include "common/bq/auth_source.h"

#include <sys/queue.h>

/*
 * The token that everybody shares. While it lives it is handed out at once; EARLY before its end another one is fetched behind it. Without
 * one, callers wait in a list for the one fetch that is under way. In this order, because of these races:
 * 1. A fetch ends: the list is taken off and the state is at rest before the first caller hears of it, who may ask again.
 * 2. A 401 concerns the token that its request carried; one that has been replaced meanwhile takes nothing away.
 */

#define EARLY_US (225 * US_PER_S)    /* the metadata server hands out the old token until four minutes before its end */
#define LAST_US (10 * US_PER_S)      /* so close to its end a token may not survive the way to the service */
#define REST_US (30 * US_PER_S)      /* between two fetches behind a token that still lives */

/* Of one fetch; who waits for it has repeats of its own (ten minutes). */
static const struct retry_policy policy = {.base_ms = 500, .cap_ms = 8000, .max_tries = 4, .budget_ms = 20000};

struct waiter {
    STAILQ_ENTRY(waiter) link;
    auth_cb *cb;
    void *arg;
};
STAILQ_HEAD(waiters, waiter);

struct cached {
    struct auth auth;
    struct auth_world world;
    struct source *source;
    char *project, *complaint;  /* may be NULL */
    char *header;               /* NULL: no token */
    int64_t ends_us;            /* of the token, by the loop's clock */
    int64_t rest_until_us;      /* no fetch behind the token before */
    bool used;                  /* since it came: else nobody needs another one early */
    bool fetching;              /* from the first try to the outcome, waits between tries included */
    int failures;
    int64_t began_ms;
    struct timer *again, *early;
    struct waiters waiters;
};

static void attempt(void *arg);

static void tell(struct waiters *list, const char *header, const struct error *err)
{
    for (struct waiter *w; (w = STAILQ_FIRST(list)) != NULL;) {
        STAILQ_REMOVE_HEAD(list, link);
        auth_cb *cb = w->cb;
        void *arg = w->arg;
        free(w);
        cb(arg, header, err);
    }
}

/* A caller may free the cache: nothing of it is touched once the first one was told. */
static void tell_all(struct cached *c, const struct error *err)
{
    struct waiters list = STAILQ_HEAD_INITIALIZER(list);
    STAILQ_CONCAT(&list, &c->waiters);
    if (STAILQ_EMPTY(&list))
        return;
    c->used = true;
    AUTO(secret_free_auto) char *header = err ? NULL : xstrdup(c->header);
    tell(&list, header, err);
}

static int64_t life_left_us(const struct cached *c)
{
    return c->header ? c->ends_us - loop_now_us(c->world.loop) : 0;
}

static void forget(struct cached *c)
{
    secret_free(c->header);
    c->header = NULL;
    timer_stop(c->early);
}

static void keep(struct cached *c, const char *token, int64_t lives_ms)
{
    forget(c);
    c->header = xasprintf("Authorization: Bearer %s", token);
    c->ends_us = loop_now_us(c->world.loop) + lives_ms * US_PER_MS;
    c->rest_until_us = loop_now_us(c->world.loop) + REST_US;
    c->used = false;
    timer_set(c->early, i64_max(lives_ms * US_PER_MS - EARLY_US, REST_US));
    log_debug("credentials: a new token from %s, for %" PRId64 " s", c->source->what, lives_ms / 1000);
}

static void give_up(struct cached *c, struct error *err)
{
    error_reason(err, "credentials");
    c->rest_until_us = loop_now_us(c->world.loop) + REST_US;
    if (life_left_us(c) > LAST_US) {
        log_warn("no new token; the old one lasts for another %" PRId64 " s: %s", life_left_us(c) / US_PER_S, err->text);
        timer_set(c->early, REST_US);
    }
}

static void fetched(void *arg, const char *token, int64_t lives_ms, const struct error *error)
{
    struct cached *c = arg;
    struct error err = error ? *error : ERROR_INIT;
    if (token) {
        keep(c, token, lives_ms);
    } else {
        int64_t elapsed_ms = loop_now_ms(c->world.loop) - c->began_ms;
        int64_t delay_ms = retry_delay(&policy, ++c->failures, elapsed_ms, &err, rnd_real(c->world.rnd));
        if (delay_ms >= 0) {
            log_debug("%s; again in %" PRId64 " ms", err.text, delay_ms);
            timer_set(c->again, delay_ms * US_PER_MS);
            return;
        }
        give_up(c, &err);
    }
    c->fetching = false;
    tell_all(c, token ? NULL : &err);
}

static void attempt(void *arg)
{
    struct cached *c = arg;
    c->source->ops->fetch(c->source, fetched, c);
}

static void fetch(struct cached *c)
{
    if (c->fetching)
        return;
    c->fetching = true;
    c->failures = 0;
    c->began_ms = loop_now_ms(c->world.loop);
    attempt(c);
}

static void on_early(void *arg)
{
    struct cached *c = arg;
    if (c->used && life_left_us(c) > 0)
        fetch(c);
}

/* --- as an auth ---------------------------------------------------------------------------------------------------------------------------- */

static void cached_header(struct auth *a, auth_cb *cb, void *arg)
{
    struct cached *c = (struct cached *)a;
    int64_t left = life_left_us(c);
    if (left > LAST_US) {
        c->used = true;
        if (left <= EARLY_US && loop_now_us(c->world.loop) >= c->rest_until_us)
            fetch(c);
        /* A fetch that ended at once has replaced the token by another one, never by none. */
        cb(arg, c->header, NULL);
        return;
    }
    struct waiter *w = xmalloc(sizeof(*w));
    *w = (struct waiter){.cb = cb, .arg = arg};
    STAILQ_INSERT_TAIL(&c->waiters, w, link);
    fetch(c);
}

static void cached_refused(struct auth *a, uint64_t stamp)
{
    struct cached *c = (struct cached *)a;
    if (c->header && auth_stamp(c->header) == stamp) {
        log_info("credentials: a token of %s was refused before its end", c->source->what);
        forget(c);
    }
}

static const char *cached_describe(struct auth *a)
{
    return ((struct cached *)a)->source->what;
}

static const char *cached_project(struct auth *a)
{
    struct cached *c = (struct cached *)a;
    return c->project ? c->project : c->source->ops->project ? c->source->ops->project(c->source) : NULL;
}

static const char *cached_complaint(struct auth *a)
{
    return ((struct cached *)a)->complaint;
}

static int64_t cached_lives_ms(struct auth *a)
{
    struct cached *c = (struct cached *)a;
    return c->header ? i64_max(life_left_us(c) / US_PER_MS, 0) : -1;
}

static void cached_free(struct auth *a)
{
    struct cached *c = (struct cached *)a;
    struct waiters list = STAILQ_HEAD_INITIALIZER(list);
    STAILQ_CONCAT(&list, &c->waiters);
    source_free(c->source);
    timer_free(c->again);
    timer_free(c->early);
    secret_free(c->header);
    free(c->project);
    free(c->complaint);
    free(c);
    struct error err = ERROR_INIT;
    error_set(&err, ERR_FATAL, 0, "the client is closed");
    tell(&list, NULL, &err);
}

static const struct auth_ops cached_ops = {cached_header, cached_refused, cached_describe, cached_project, cached_lives_ms, cached_complaint, cached_free};

struct auth *auth_cached(const struct auth_world *w, struct source *source, const char *project, const char *complaint)
{
    struct cached *c = xcalloc(1, sizeof(*c));
    c->auth.ops = &cached_ops;
    c->world = *w;
    c->source = source;
    c->project = project ? xstrdup(project) : NULL;
    c->complaint = complaint ? xstrdup(complaint) : NULL;
    c->again = timer_new(w->loop, attempt, c);
    c->early = timer_new(w->loop, on_early, c);
    STAILQ_INIT(&c->waiters);
    return &c->auth;
}
