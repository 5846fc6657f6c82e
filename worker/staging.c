#include "worker/staging.h"

#include "common/base/units.h"
#include "worker/dispatch.h"
#include "worker/load.h"
#include "worker/manifests.h"
#include "worker/pace.h"
#include "worker/room.h"
#include "worker/runs.h"
#include "worker/share.h"
#include "worker/shard.h"
#include "worker/stream.h"

#define LONG_MS 10000  /* a step of BigQuery that takes longer is worth a word */

struct staging {
    struct run *run;
    struct worker *w;
    struct shard *shard;
    void (*shard_ready)(void *arg); void *shard_arg; /* who waits for it besides; NULL: nobody */
    struct load *open, *running;
    struct load_list closed; /* take no more items; they go first */
    int64_t seq;             /* of the next load */
    struct timer *linger;    /* until the open load is old enough */
    struct timer *again;     /* until the running load is tried again */
    struct timer *pace;      /* until the shard may have another load */
    struct pace budget;
    struct buf scratch;      /* mode none: a row is checked into it */
    int64_t started_us;      /* the running load, or the wait for the shard */
    char trouble[160], slow[400];
};

static void poke(struct staging *, bool force);

/* --- rows --------------------------------------------------------------------------------------------------------------------------------------- */

static void spoil(struct item *item, const char *reason, const char *text)
{
    struct verdict v = verdict_of(FROM_ROW, 0, reason, text, strlen(text));
    dispatch_spoil(item, &v);
}

/* Mode none: the row is checked, where there is something to check it against, and kept as it came. */
static int add_plain(struct item *item, const char *row, size_t len, struct error *err)
{
    struct run *run = item->run;
    struct buf *scratch = &run->staging->scratch;
    buf_clear(scratch);
    if (run->check != NULL) {
        int rc = rowcheck_add(run->check, row, len, item->index, item->row_count, scratch, &item->range, err);
        if (rc != 0)
            return rc;
    } else {
        doc *d = doc_parse(row, len, "row", err);
        doc_free(d);
        if (d == NULL)
            return -1;
    }
    char *at = buf_reserve(&item->rows, len + 1);
    if (at == NULL)
        return -2;
    for (size_t i = 0; i < len; i++)
        at[i] = row[i] == '\n' || row[i] == '\r' ? ' ' : row[i];
    at[len] = '\n';
    at[len + 1] = '\0';
    item->rows.len += len + 1;
    return 0;
}

/* With the item, until it is done. As rowcheck_add. */
static int keep_row(struct item *item, const char *row, size_t len, bool none, struct error *err)
{
    struct run *run = item->run;
    size_t before = item->rows.len;
    int rc = none ? add_plain(item, row, len, err)
                  : rowcheck_add(run->check, row, len, item->index, item->row_count, &item->rows, &item->range, err);
    if (rc != 0)
        return rc;
    size_t more = item->rows.len - before + (none ? 0 : ROWS_SEAL_BYTES(LOAD_ID_LEN));
    item->charged += more;
    worker_hold(item->worker, (int64_t)more);
    return 0;
}

void staging_row(struct item *item, const char *row, size_t len)
{
    struct run *run = item->run;
    struct worker *w = item->worker;
    struct error err = ERROR_INIT;
    if (len > LIMIT_ROW) {
        spoil(item, "size", "a row of more than 32 MiB");
        return;
    }
    bool none = run->record->mode == WRITE_NONE || run->check == NULL;
    int rc = item->stream ? stream_row(item, row, len, &err) : keep_row(item, row, len, none, &err);
    if (none && (rc == -2 || item->charged > (size_t)w->o.buffer)) {
        room_outgrown(item);
        return;
    }
    if (rc == -2 && !(item->placed && stream_open(item))) { /* only a stream takes a row that is longer than the buffer */
        room_give_up(item);
        return;
    }
    if (rc == -2)
        rc = stream_row(item, row, len, &err);
    if (rc == -1) {
        error_prefix(&err, "row %" PRId64, item->row_count + 1);
        spoil(item, "row", err.text);
        return;
    }
    item->row_count++;
    metric_add(w->w.metrics, METRIC_ROWS, 1);
    metric_add(w->w.metrics, METRIC_ROW_BYTES, (int64_t)len);
    if (item->stream == NULL && item->charged >= room_share(item))
        (void)stream_open(item); /* without a place it goes on growing */
}

/* --- gathering ------------------------------------------------------------------------------------------------------------------------------------ */

struct load *staging_load(struct run *run)
{
    struct staging *st = run->staging;
    if (st->seq <= LOAD_SEQ_MAX)
        return load_new(run, st->seq++);
    runs_fatal(run, "this worker has made %d loads for the run; restart it for more", LOAD_SEQ_MAX + 1);
    return NULL;
}

static struct load *open_load(struct staging *st)
{
    if (st->open == NULL && (st->open = staging_load(st->run)) != NULL)
        timer_set(st->linger, st->w->o.linger_ms * US_PER_MS);
    return st->open;
}

static void close_open(struct staging *st)
{
    TAILQ_INSERT_TAIL(&st->closed, st->open, link);
    st->open = NULL;
    timer_stop(st->linger);
}

void staging_join(struct item *item)
{
    struct staging *st = item->run->staging;
    if (item->stream != NULL) {
        stream_done(item);
        return;
    }
    room_release(item);
    if (item->run->record->mode == WRITE_NONE) {
        if (item->worker->o.rows != NULL && item->rows.len > 0)
            item->worker->o.rows(item->worker->o.arg, item->index, item->rows.data, item->rows.len);
        item_drop_rows(item);
    }
    if (item->row_count == 0) {
        manifests_empty(item);
        return;
    }
    struct load *l = open_load(st);
    if (l != NULL && load_add(l, item) != 0) {
        close_open(st);
        l = open_load(st);
        if (l != NULL && load_add(l, item) != 0)
            abort(); /* more rows than a load's body takes are a stream's */
    }
    if (l == NULL) { /* the run is stopped */
        item_drop_rows(item);
        dispatch_add(item);
        return;
    }
    item_move(item, ITEM_STAGED);
    if (l->manifest_full)
        close_open(st);
    poke(st, false);
}

/* --- loading --------------------------------------------------------------------------------------------------------------------------------------- */

static void next_load(struct staging *st)
{
    st->running = NULL;
    st->w->loads_running--;
    staging_count_end(st->run);
    st->trouble[0] = '\0';
    dispatch_kick(st->w->dispatch); /* items of a run that was stuck may run again */
}

static void landed(struct staging *st, struct load *l, int64_t output_rows)
{
    if (output_rows != l->rows) {
        runs_fatal(st->run, "load %s: BigQuery counts %" PRId64 " rows, we sent %" PRId64, l->id, output_rows, l->rows);
        return;
    }
    struct log_ctx ctx = {.run = st->run->id, .worker = st->w->name, .job = l->id};
    log_line(LOG_DEBUG, &ctx, "%" PRId64 " rows of %" PRId64 " items are loaded", l->rows, l->item_count);
    metric_add(st->w->w.metrics, METRIC_LOADS, 1);
    next_load(st);
    manifests_load(l);
    load_free(l);
    poke(st, false);
}

/* BigQuery refused the rows. Whose they are is found by halves, without sinking the others. */
static void rejected(struct staging *st, struct load *l, const struct error *err)
{
    struct log_ctx ctx = {.run = st->run->id, .worker = st->w->name, .job = l->id};
    log_line(LOG_WARN, &ctx, "BigQuery refused the rows of %" PRId64 " items%s: %s", l->item_count, l->item_count > 1 ? ", which are split" : "", err->text);
    next_load(st);
    if (l->item_count == 1) {
        struct item *item = TAILQ_FIRST(&l->items);
        load_free(l);
        item->attempts++;
        item_set_failure(item, "load", err->text, strlen(err->text));
        manifests_fail(item);
    } else if (st->seq + 1 > LOAD_SEQ_MAX) {
        runs_fatal(st->run, "this worker has made %d loads for the run; restart it for more", LOAD_SEQ_MAX + 1);
        load_free(l);
    } else {
        struct load *halves[2];
        load_split(l, st->seq, halves);
        st->seq += 2;
        TAILQ_INSERT_HEAD(&st->closed, halves[1], link);
        TAILQ_INSERT_HEAD(&st->closed, halves[0], link);
    }
    poke(st, false);
}

static void loaded(void *arg, const struct bq_job_result *r)
{
    struct staging *st = arg;
    struct load *l = st->running;
    staging_count_tries(st->run, r->tries - l->next_try);
    l->job = NULL;
    if (r->err == NULL) {
        landed(st, l, r->output_rows);
        return;
    }
    metric_add(st->w->w.metrics, METRIC_LOADS_FAILED, 1);
    if (r->err->kind == ERR_TASK) {
        rejected(st, l, r->err);
    } else if (r->err->kind == ERR_RETRY || r->err->kind == ERR_QUOTA) {
        int64_t wait = load_put_off(l, r);
        char text[64];
        snprintf(st->trouble, sizeof(st->trouble), "%.100s, next try in %.40s", r->err->text, units_show_ms(wait, text, sizeof(text)));
        log_warn("load %s: %s, next try in %s", l->id, r->err->text, text);
        timer_set(st->again, wait * US_PER_MS);
    } else {
        runs_fatal(st->run, "load %s: %s", l->id, r->err->text);
    }
}

static void load_again(void *arg)
{
    struct staging *st = arg;
    st->trouble[0] = '\0';
    pace_tries(&st->budget, 1);
    load_start(st->running, shard_ref(st->shard), loaded, st);
}

static int64_t held(const struct staging *st)
{
    size_t bytes = (st->running ? st->running->body.len : 0) + (st->open ? st->open->body.len : 0);
    const struct load *l;
    TAILQ_FOREACH(l, &st->closed, link)
        bytes += l->body.len;
    return (int64_t)bytes;
}

bool staging_stuck(const struct run *run)
{
    const struct staging *st = run->staging;
    int64_t part = run->worker->o.buffer / 4;
    if (run->worker->held < part)
        return false;
    bool waits = st->running != NULL && (st->running->job == NULL || bq_job_parked(st->running->job));
    return held(st) >= (waits ? part : 3 * part);
}

static bool due(const struct staging *st)
{
    const struct load *l = st->open;
    return (int64_t)l->plain >= st->w->o.load_size || worker_full(st->w) || staging_stuck(st->run) || worker_draining(st->w) ||
           loop_now_us(st->w->w.loop) - l->opened_us >= st->w->o.linger_ms * US_PER_MS;
}

/* How long until the next load may start. */
static int64_t pace_us(struct staging *st)
{
    int64_t workers = pace_is_short(&st->budget) ? shares_live(st->w->shares) : 1;
    struct pace_view v = {.now_us = loop_now_us(st->w->w.loop), .hurry = worker_full(st->w), .leaving = worker_draining(st->w), .workers = workers};
    return pace_wait_us(&st->budget, &v);
}

int64_t staging_pace(struct run *run)
{
    return pace_us(run->staging);
}

void staging_count_load(struct run *run)
{
    pace_begins(&run->staging->budget, loop_now_us(run->worker->w.loop));
}

void staging_count_tries(struct run *run, int tries)
{
    pace_tries(&run->staging->budget, tries - 1);
}

void staging_count_end(struct run *run)
{
    pace_ends(&run->staging->budget, loop_now_us(run->worker->w.loop));
}

static void poke(struct staging *st, bool force)
{
    if (st->running != NULL || st->run->fatal)
        return;
    if (TAILQ_EMPTY(&st->closed) && (st->open == NULL || !(force || due(st))))
        return;
    if (!shard_ready(st->shard)) { /* others may still join until it is */
        if (shard_want(st->shard))
            st->started_us = loop_now_us(st->w->w.loop);
        return;
    }
    int64_t wait_us = pace_us(st);
    if (wait_us > 0) {
        timer_set(st->pace, wait_us);
        return;
    }
    timer_stop(st->pace);
    if (TAILQ_EMPTY(&st->closed))
        close_open(st);
    st->running = TAILQ_FIRST(&st->closed);
    TAILQ_REMOVE(&st->closed, st->running, link);
    st->w->loads_running++;
    st->started_us = loop_now_us(st->w->w.loop);
    staging_count_load(st->run);
    load_start(st->running, shard_ref(st->shard), loaded, st);
}

void staging_idle(struct run *run)
{
    poke(run->staging, true);
    streams_poke(run);
}

static void on_linger(void *arg)
{
    poke(arg, true);
}

static void on_pace(void *arg)
{
    poke(arg, true);
}

static void on_shard(void *arg)
{
    struct staging *st = arg;
    void (*ready)(void *) = st->shard_ready;
    st->shard_ready = NULL;
    pace_updated(&st->budget, loop_now_us(st->w->w.loop));
    if (ready != NULL)
        ready(st->shard_arg);
    poke(st, true);
}

const struct bq_ref *staging_shard(struct run *run, void (*ready)(void *arg), void *arg)
{
    struct staging *st = run->staging;
    st->shard_ready = NULL;
    if (shard_ready(st->shard))
        return shard_ref(st->shard);
    st->shard_ready = ready;
    st->shard_arg = arg;
    if (ready != NULL && shard_want(st->shard))
        st->started_us = loop_now_us(st->w->w.loop);
    return NULL;
}

/* --- room -------------------------------------------------------------------------------------------------------------------------------------------- */

bool staging_empty(const struct staging *st)
{
    return st->open == NULL && st->running == NULL && TAILQ_EMPTY(&st->closed);
}

bool staging_push(struct worker *w)
{
    bool any = false;
    struct run *run;
    TAILQ_FOREACH(run, &w->runs, link) {
        if (run->staging == NULL || run->fatal || staging_empty(run->staging))
            continue;
        poke(run->staging, true);
        any = true;
    }
    return any;
}

/* --- life --------------------------------------------------------------------------------------------------------------------------------------------- */

struct staging *staging_new(struct run *run)
{
    struct staging *st = xcalloc(1, sizeof(*st));
    st->run = run;
    st->w = run->worker;
    TAILQ_INIT(&st->closed);
    st->scratch = BUF_INIT(2 * LIMIT_LINE);
    st->linger = timer_new(st->w->w.loop, on_linger, st);
    st->again = timer_new(st->w->w.loop, load_again, st);
    st->pace = timer_new(st->w->w.loop, on_pace, st);
    pace_init(&st->budget, loop_now_us(st->w->w.loop), st->w->o.paced);
    st->shard = shard_new(run, on_shard, st);
    return st;
}

void staging_free(struct staging *st)
{
    if (st == NULL)
        return;
    streams_free(st->run);
    if (st->running != NULL)
        st->w->loads_running--;
    load_free(st->running);
    load_free(st->open);
    struct load *l;
    while ((l = TAILQ_FIRST(&st->closed)) != NULL) {
        TAILQ_REMOVE(&st->closed, l, link);
        load_free(l);
    }
    shard_free(st->shard);
    timer_free(st->linger);
    timer_free(st->again);
    timer_free(st->pace);
    buf_free(&st->scratch);
    free(st);
}

const char *staging_waits_for(struct staging *st)
{
    int64_t pause_ms = timer_is_set(st->pace) ? pace_us(st) / US_PER_MS : 0;
    if (pause_ms > LONG_MS) {
        char text[64];
        snprintf(st->slow, sizeof(st->slow), "the next load, in %s: BigQuery takes 1,500 a day into one table, 100,000 in a project", units_show_ms(pause_ms, text, sizeof(text)));
        return st->slow;
    }
    if (st->running == NULL || st->running->job == NULL) {
        const char *shard = shard_waits_for(st->shard);
        if (st->trouble[0] || shard[0] || !shard_wanted(st->shard))
            return st->trouble[0] ? st->trouble : shard;
    }
    int64_t since_ms = (loop_now_us(st->w->w.loop) - st->started_us) / US_PER_MS;
    if (since_ms < LONG_MS)
        return "";
    char time[64];
    units_show_ms(since_ms, time, sizeof(time));
    if (st->running != NULL)
        snprintf(st->slow, sizeof(st->slow), "BigQuery: load %s, %.240s, since %s", st->running->id, bq_job_state(st->running->job), time);
    else
        snprintf(st->slow, sizeof(st->slow), "BigQuery to create staging table %.60s, since %s", shard_ref(st->shard)->table, time);
    return st->slow;
}
