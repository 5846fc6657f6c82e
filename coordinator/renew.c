#include "coordinator/renew.h"

#include "common/base/log.h"
#include "common/bq/table.h"

/* A coordinator does not know when a table was renewed last: soon after its own start, then often enough for several rounds to fail. */
#define RENEW_FIRST_MS (INT64_C(3600) * 1000)
#define RENEW_EVERY_MS (INT64_C(12) * 3600 * 1000)

struct renew {
    struct world world;
    const struct record *record;
    const struct fold *fold;
    size_t at;               /* the next shard of this round */
    int failed;              /* in this round */
    struct bq_call *call;
    struct timer *timer;
};

static void next(struct renew *r);

static void on_renewed(void *arg, const struct bq_answer *a)
{
    struct renew *r = arg;
    r->call = NULL;
    if (a->err != NULL && r->failed++ == 0)
        log_line(LOG_WARN, &(struct log_ctx){.run = r->record->run}, "staging table of shard %s could not be kept for longer: %s",
                 r->fold->shards[r->at].incarnation, a->err->text);
    r->at++;
    next(r);
}

static void next(struct renew *r)
{
    if (r->at >= r->fold->shard_count) {
        timer_set(r->timer, (r->failed > 0 ? RENEW_FIRST_MS : RENEW_EVERY_MS) * US_PER_MS);
        return;
    }
    struct bq_ref ref;
    record_shard_ref(r->record, r->fold->shards[r->at].incarnation, &ref);
    r->call = bq_table_expire(r->world.bq, &ref, loop_wall_ms(r->world.loop) + EXPIRY_STAGING, on_renewed, r);
}

static void on_time(void *arg)
{
    struct renew *r = arg;
    r->at = 0;
    r->failed = 0;
    next(r);
}

struct renew *renew_start(const struct world *world, const struct record *record, const struct fold *fold)
{
    struct renew *r = xcalloc(1, sizeof(*r));
    *r = (struct renew){.world = *world, .record = record, .fold = fold};
    r->timer = timer_new(world->loop, on_time, r);
    timer_set(r->timer, RENEW_FIRST_MS * US_PER_MS);
    return r;
}

void renew_stop(struct renew *r)
{
    if (r == NULL)
        return;
    bq_call_cancel(r->call);
    timer_free(r->timer);
    free(r);
}
