#include "worker/room.h"

#include "common/base/units.h"
#include "worker/dispatch.h"
#include "worker/staging.h"
#include "worker/stream.h"

void room_init(struct worker *w)
{
    int64_t buffer = w->o.buffer = i64_max(w->o.buffer, LIMIT_BUFFER_LEAST);
    int64_t streams = w->o.streams > 0 ? w->o.streams : LIMIT_STREAMS;
    int64_t chunk = buffer / (4 * streams) / UPLOAD_UNIT * UPLOAD_UNIT;
    w->chunk = i64_min(i64_max(chunk, UPLOAD_UNIT), UPLOAD_CHUNK);
    w->window = 2 * w->chunk;
    w->places_most = i64_min(buffer / 2 / w->window, streams); /* one at least */
    w->share = i64_max(w->window, i64_min(w->o.load_size, buffer / 4));
}

/* --- places --------------------------------------------------------------------------------------------------------------------------------------- */

size_t room_share(const struct item *item)
{
    return (size_t)(item->placed ? item->worker->window : item->worker->share);
}

bool room_place(const struct worker *w)
{
    return w->places < w->places_most;
}

void room_take(struct item *item)
{
    assert(!item->placed && room_place(item->worker));
    item->placed = true;
    item->worker->places++;
}

void room_release(struct item *item)
{
    if (!item->placed)
        return;
    item->placed = false;
    item->worker->places--;
    dispatch_kick(item->worker->dispatch);
}

/* --- giving way ------------------------------------------------------------------------------------------------------------------------------------- */

static bool is_loaded(const struct item *item)
{
    return item->run->record->mode != WRITE_NONE;
}

static void give_up(struct item *item, bool alone)
{
    struct log_ctx ctx = item_ctx(item);
    struct verdict v = {.outcome = alone ? OUT_SOLO : OUT_LARGE};
    log_line(LOG_INFO, &ctx, "the item is given up and runs again %s: the buffer is full of unfinished items",
             alone ? "alone" : "when it can be loaded while its rows come");
    dispatch_spoil(item, &v);
}

void room_give_up(struct item *item)
{
    give_up(item, !is_loaded(item));
}

void room_outgrown(struct item *item)
{
    char text[256], size[64];
    snprintf(text, sizeof(text), "the item's rows outgrow the buffer of %s, in which rows that are shown rather than loaded are kept until it is done; raise --buffer",
             units_show_bytes(item->worker->o.buffer, size, sizeof(size)));
    struct verdict v = verdict_of(FROM_ROW, 0, "size", text, strlen(text));
    dispatch_spoil(item, &v);
}

/* Unfinished items without a place. */
struct candidates { struct item *largest, *youngest_large, *youngest; int64_t count; };

static struct candidates look(const struct worker *w)
{
    struct candidates c = {.count = 0};
    struct item *item;
    TAILQ_FOREACH(item, &w->items, all) {
        if (item->state != ITEM_RUNNING || item->placed || item->charged == 0)
            continue;
        c.count++;
        if (c.youngest == NULL || item->started_us >= c.youngest->started_us)
            c.youngest = item;
        if (!is_loaded(item) || (int64_t)item->charged < w->window)
            continue;
        if (c.largest == NULL || item->charged > c.largest->charged)
            c.largest = item;
        if (c.youngest_large == NULL || item->started_us >= c.youngest_large->started_us)
            c.youngest_large = item;
    }
    return c;
}

void room_make(struct worker *w)
{
    while (worker_full(w) && !staging_push(w) && !streams_flow(w)) {
        struct candidates c = look(w);
        if (c.count == 0)
            return; /* a run that stops: its bytes go with it */
        if (c.largest != NULL && stream_open(c.largest))
            continue;
        if (c.count == 1 && !is_loaded(c.youngest)) {
            room_outgrown(c.youngest);
            continue;
        }
        if (c.count == 1 && streams_end(w))
            return; /* it is the next one to have a place */
        room_give_up(c.youngest_large != NULL ? c.youngest_large : c.youngest);
    }
}
