#include "worker/stream.h"

#include "common/base/units.h"
#include "common/bq/feed.h"
#include "worker/dispatch.h"
#include "worker/handlers/handler.h"
#include "worker/load.h"
#include "worker/manifests.h"
#include "worker/room.h"
#include "worker/runs.h"
#include "worker/staging.h"

#define LONG_MS 10000        /* a step of BigQuery that takes longer is worth a word */
#define AGAIN_MS 30000       /* after a failure, before the item may run again */
#define SCRATCH_KEPT 65536   /* bytes of a buffer that is kept for the next row */
#define NONCE_LEN 12

/*
 *   waiting   for the shard, or after a failure before which no byte was let go: the upload begins anew, under the same id
 *   sending   bytes go as they come
 *   closing   the item is done, and the load waits until the shard may have another one
 *   ending    the last byte goes, or has gone; the job
 */
enum stream_state { STREAM_WAITING, STREAM_SENDING, STREAM_CLOSING, STREAM_ENDING, STREAM_STATES };
static const unsigned legal[STREAM_STATES] = { /* bits of the states that may follow */
    [STREAM_WAITING] = 1u << STREAM_SENDING, [STREAM_SENDING] = 1u << STREAM_WAITING | 1u << STREAM_CLOSING,
    [STREAM_CLOSING] = 1u << STREAM_WAITING | 1u << STREAM_ENDING, [STREAM_ENDING] = 1u << STREAM_WAITING,
};

struct stream {
    TAILQ_ENTRY(stream) link;  /* in run->streams */
    struct worker *w;
    struct run *run;
    struct item *item;
    struct load *load;         /* its id and job; and the item, once done */
    struct bq_feed *feed;
    enum stream_state state;
    bool done;                 /* the item is */
    bool counted;              /* its load is in the shard's budget */
    int64_t charged;           /* in worker->held */
    struct timer *timer;       /* waiting: until the next attempt. closing: until there may be a load */
    struct buf open, sealed;   /* one row */
    int64_t since_us;          /* in this state, for waits that are told */
    char trouble[160], slow[400];
};

static void set_state(struct stream *s, enum stream_state to)
{
    if (!(legal[s->state] >> to & 1))
        abort();
    s->state = to;
    s->since_us = loop_now_us(s->w->w.loop);
}

static void charge(struct stream *s)
{
    int64_t kept = (int64_t)bq_feed_held(s->feed), more = kept - s->charged;
    s->charged = kept;
    worker_hold(s->w, more);
}

bool stream_full(const struct stream *s)
{
    return (int64_t)bq_feed_held(s->feed) >= s->w->window;
}

static void on_kept(void *arg)
{
    struct stream *s = arg;
    charge(s);
    dispatch_kick(s->w->dispatch); /* its handler may be read again */
}

static void stream_free(struct stream *s, bool remote)
{
    struct item *item = s->item;
    if (s->counted)
        staging_count_end(s->run);
    bq_job_stop(s->load->job, remote);
    s->load->job = NULL;
    load_free(s->load);
    bq_feed_free(s->feed);
    worker_hold(s->w, -s->charged);
    s->w->loads_running--;
    TAILQ_REMOVE(&s->run->streams, s, link);
    timer_free(s->timer);
    buf_free(&s->open);
    buf_free(&s->sealed);
    free(s);
    item->stream = NULL;
    room_release(item);
}

void stream_abandon(struct stream *s)
{
    stream_free(s, true);
}

void streams_free(struct run *run)
{
    struct stream *s;
    while ((s = TAILQ_FIRST(&run->streams)) != NULL)
        stream_free(s, !run->worker->failed);
}

/* --- its end ------------------------------------------------------------------------------------------------------------------------------------------ */

static void landed(struct stream *s, int64_t output_rows)
{
    struct load *l = s->load;
    struct worker *w = s->w;
    if (!s->done || output_rows != l->rows) {
        runs_fatal(s->run, "load %s: BigQuery counts %" PRId64 " rows, we sent %" PRId64, l->id, output_rows, l->rows);
        return;
    }
    struct log_ctx ctx = item_ctx(s->item);
    ctx.job = l->id;
    log_line(LOG_DEBUG, &ctx, "the item's %" PRId64 " rows are loaded", l->rows);
    metric_add(w->w.metrics, METRIC_LOADS, 1);
    manifests_load(l);
    stream_free(s, false);
}

/* BigQuery refused the rows: no other attempt would make better ones, as for a group load that holds one item. */
static void rejected(struct stream *s, const struct error *err)
{
    struct item *item = s->item;
    if (!s->done) { /* not the rows, but what the upload was asked for */
        struct verdict v = verdict_of(FROM_ROW, 0, "load", err->text, strlen(err->text));
        dispatch_spoil(item, &v);
        return;
    }
    stream_free(s, false);
    item->attempts++;
    item_set_failure(item, "load", err->text, strlen(err->text));
    manifests_fail(item);
}

/* Bytes are lost that are not here any more. The load that this leaves, if it ever lands, is in no manifest. */
static void run_again(struct stream *s, const struct error *err)
{
    struct item *item = s->item;
    struct log_ctx ctx = item_ctx(item);
    ctx.job = s->load->id;
    log_line(LOG_WARN, &ctx, "the item runs again, as its load came to nothing: %s", err->text);
    if (!s->done) {
        struct verdict v = {.outcome = OUT_LARGE};
        dispatch_spoil(item, &v);
        return;
    }
    stream_free(s, false);
    item_drop_rows(item);
    item->large = true;
    dispatch_add_later(item, AGAIN_MS);
}

static void begin_again(struct stream *s, const struct bq_job_result *r)
{
    struct load *l = s->load;
    int64_t wait = load_put_off(l, r);
    char text[64];
    snprintf(s->trouble, sizeof(s->trouble), "%.100s, next try in %.40s", r->err->text, units_show_ms(wait, text, sizeof(text)));
    log_warn("load %s: %s, next try in %s", l->id, r->err->text, text);
    set_state(s, STREAM_WAITING);
    timer_set(s->timer, wait * US_PER_MS);
}

static void loaded(void *arg, const struct bq_job_result *r)
{
    struct stream *s = arg;
    staging_count_tries(s->run, r->tries - s->load->next_try);
    s->load->job = NULL;
    if (r->err == NULL) {
        landed(s, r->output_rows);
        return;
    }
    metric_add(s->w->w.metrics, METRIC_LOADS_FAILED, 1);
    if (r->err->kind == ERR_TASK)
        rejected(s, r->err);
    else if (r->err->kind != ERR_RETRY && r->err->kind != ERR_QUOTA)
        runs_fatal(s->run, "load %s: %s", s->load->id, r->err->text);
    else if (bq_feed_whole(s->feed))
        begin_again(s, r);
    else
        run_again(s, r->err);
}

/* --- its way --------------------------------------------------------------------------------------------------------------------------------------------- */

/* The last byte makes the load: not before the shard may have another one. */
static void close_feed(struct stream *s)
{
    if (s->state == STREAM_SENDING)
        set_state(s, STREAM_CLOSING);
    if (!bq_feed_ended(s->feed)) {
        int64_t wait_us = staging_pace(s->run);
        if (wait_us > 0) {
            timer_set(s->timer, wait_us);
            return;
        }
        staging_count_load(s->run);
        s->counted = true;
        bq_feed_end(s->feed);
        charge(s);
    }
    set_state(s, STREAM_ENDING);
}

static void shard_is_ready(void *run)
{
    streams_poke(run);
}

static void go_on(struct stream *s)
{
    if (s->run->fatal)
        return;
    if (s->state == STREAM_WAITING && !timer_is_set(s->timer)) {
        const struct bq_ref *shard = staging_shard(s->run, shard_is_ready, s->run);
        if (shard == NULL)
            return;
        s->trouble[0] = '\0';
        set_state(s, STREAM_SENDING);
        load_start(s->load, shard, loaded, s);
    }
    if (s->done && (s->state == STREAM_SENDING || s->state == STREAM_CLOSING))
        close_feed(s);
}

static void on_timer(void *arg)
{
    go_on(arg);
}

void streams_poke(struct run *run)
{
    struct stream *s;
    TAILQ_FOREACH(s, &run->streams, link)
        go_on(s);
}

/* --- rows ------------------------------------------------------------------------------------------------------------------------------------------------- */

/* From the end, and memory is given back at once, so that the rows are never here twice. Their order means nothing: each carries its number. */
static void take_rows(struct stream *s, struct buf *rows)
{
    while (rows->len > 0) {
        size_t from = rows->len - size_min(rows->len, UPLOAD_UNIT);
        while (from > 0 && rows->data[from - 1] != '\n')
            from--;
        buf_clear(&s->sealed);
        if (rows_seal(rows->data + from, rows->len - from, s->load->id, &s->sealed) != 0)
            abort(); /* its ceiling is above that of a row */
        bq_feed_add(s->feed, s->sealed.data, s->sealed.len);
        buf_shrink(rows, from);
    }
    buf_free(&s->sealed);
}

bool stream_open(struct item *item)
{
    struct run *run = item->run;
    struct worker *w = item->worker;
    assert(item->stream == NULL && item->state == ITEM_RUNNING);
    if (run->fatal || run->record->mode == WRITE_NONE || (!item->placed && !room_place(w)))
        return false;
    struct load *load = staging_load(run);
    if (load == NULL)
        return false;
    struct stream *s = xcalloc(1, sizeof(*s));
    s->w = w;
    s->run = run;
    s->item = item;
    s->open = s->sealed = BUF_INIT(2 * LIMIT_LINE);
    s->timer = timer_new(w->w.loop, on_timer, s);
    s->since_us = loop_now_us(w->w.loop);
    s->feed = bq_feed_new((size_t)w->chunk, on_kept, s);
    s->load = load;
    char nonce[NONCE_LEN + 1];
    rnd_text(w->w.rnd, nonce, NONCE_LEN);
    load_stream(s->load, s->feed, item, nonce);
    TAILQ_INSERT_TAIL(&run->streams, s, link);
    w->loads_running++;
    if (!item->placed)
        room_take(item);
    item->stream = s;
    s->charged = (int64_t)item->charged;
    item->charged = 0;
    take_rows(s, &item->rows);
    charge(s);
    go_on(s);
    return true;
}

int stream_row(struct item *item, const char *row, size_t len, struct error *err)
{
    struct stream *s = item->stream;
    buf_clear(&s->open);
    buf_clear(&s->sealed);
    int rc = rowcheck_add(s->run->check, row, len, item->index, item->row_count, &s->open, &item->range, err);
    if (rc == -2)
        return error_set(err, ERR_TASK, 0, "it is too long in the form in which it would be loaded");
    if (rc != 0)
        return -1;
    if (rows_seal(s->open.data, s->open.len, s->load->id, &s->sealed) != 0)
        abort(); /* twice the longest line has room for a row's end */
    bq_feed_add(s->feed, s->sealed.data, s->sealed.len);
    if (s->open.cap > SCRATCH_KEPT)
        buf_free(&s->open);
    if (s->sealed.cap > SCRATCH_KEPT)
        buf_free(&s->sealed);
    charge(s);
    item->handler->stalled = stream_full(s);
    return 0;
}

void stream_done(struct item *item)
{
    struct stream *s = item->stream;
    s->done = true;
    load_take(s->load, item);
    item_move(item, ITEM_STAGED);
    go_on(s);
}

/* --- looks at them ------------------------------------------------------------------------------------------------------------------------------------------ */

bool streams_none(const struct run *run)
{
    return TAILQ_EMPTY(&run->streams);
}

bool streams_flow(const struct worker *w)
{
    const struct run *run;
    const struct stream *s;
    TAILQ_FOREACH(run, &w->runs, link)
        TAILQ_FOREACH(s, &run->streams, link)
            if (!run->fatal && s->charged > (bq_feed_ended(s->feed) ? 0 : w->chunk))
                return true;
    return false;
}

bool streams_end(const struct worker *w)
{
    const struct run *run;
    const struct stream *s;
    TAILQ_FOREACH(run, &w->runs, link)
        TAILQ_FOREACH(s, &run->streams, link)
            if (s->done)
                return true;
    return false;
}

const char *streams_waits_for(struct run *run)
{
    struct stream *s;
    TAILQ_FOREACH(s, &run->streams, link) {
        if (s->trouble[0])
            return s->trouble;
        if (s->load->job != NULL && bq_job_trouble(s->load->job)[0]) {
            snprintf(s->slow, sizeof(s->slow), "the upload of item %" PRId64 " to go on: %.160s", s->item->index, bq_job_trouble(s->load->job));
            return s->slow;
        }
        int64_t since_ms = (loop_now_us(s->w->w.loop) - s->since_us) / US_PER_MS;
        char time[64];
        if (s->state == STREAM_ENDING && since_ms >= LONG_MS && s->load->job != NULL) {
            snprintf(s->slow, sizeof(s->slow), "BigQuery: load %s of item %" PRId64 ", %.240s, since %s", s->load->id, s->item->index, bq_job_state(s->load->job),
                     units_show_ms(since_ms, time, sizeof(time)));
            return s->slow;
        }
        if (s->state == STREAM_CLOSING && timer_is_set(s->timer) && staging_pace(run) > LONG_MS * US_PER_MS) {
            snprintf(s->slow, sizeof(s->slow), "the load of item %" PRId64 ", in %s: BigQuery takes 1,500 a day into one table", s->item->index,
                     units_show_ms(staging_pace(run) / US_PER_MS, time, sizeof(time)));
            return s->slow;
        }
    }
    return "";
}
