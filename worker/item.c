#include "worker/core.h"
#include "worker/intake.h"
#include "worker/quarantine.h"
#include "worker/room.h"
#include "worker/stream.h"

static const unsigned legal[ITEM_STATES] = { /* bits of the states that may follow */
    [ITEM_WAITING] = 1u << ITEM_WAITING | 1u << ITEM_RUNNING | 1u << ITEM_FAILING | 1u << ITEM_HELD,
    [ITEM_RUNNING] = 1u << ITEM_WAITING | 1u << ITEM_FAILING | 1u << ITEM_STAGED | 1u << ITEM_SETTLED | 1u << ITEM_HELD,
    [ITEM_FAILING] = 1u << ITEM_SETTLED | 1u << ITEM_HELD,
    [ITEM_STAGED] = 1u << ITEM_WAITING | 1u << ITEM_SETTLED | 1u << ITEM_FAILING | 1u << ITEM_HELD,
    [ITEM_SETTLED] = 1u << ITEM_HELD,
    [ITEM_HELD] = 0,
};

static size_t item_size(size_t key_len, size_t payload_len)
{
    return sizeof(struct item) + key_len + payload_len + 2;
}

struct item *item_new(struct worker *w, int64_t index, const char *key, size_t key_len, const char *payload, size_t payload_len)
{
    struct item *i = spares_take(&w->spares, item_size(key_len, payload_len));
    memset(i, 0, sizeof(*i));
    i->worker = w;
    i->index = index;
    i->first.partition = -1;
    i->rows = BUF_INIT((size_t)w->o.buffer);
    i->taken_us = loop_now_us(w->w.loop);
    i->key_len = key_len;
    i->payload_len = payload_len;
    if (key_len > 0)
        memcpy(i->bytes, key, key_len);
    i->bytes[key_len] = '\0';
    if (payload_len > 0)
        memcpy(i->bytes + key_len + 1, payload, payload_len);
    i->bytes[key_len + 1 + payload_len] = '\0';
    TAILQ_INSERT_TAIL(&w->items, i, all);
    w->unfinished++;
    w->taken_bytes += (int64_t)(key_len + payload_len);
    return i;
}

void item_delivered(struct item *i, int32_t partition, int64_t offset)
{
    struct delivery *d = &i->first;
    if (d->partition >= 0) {
        while (d->next != NULL && !(d->partition == partition && d->offset == offset))
            d = d->next;
        if (d->partition == partition && d->offset == offset)
            return;
        d->next = xcalloc(1, sizeof(*d));
        d = d->next;
    }
    d->partition = partition;
    d->offset = offset;
}

void item_move(struct item *i, enum item_state to)
{
    if (!(legal[i->state] >> to & 1))
        abort(); /* our bug, and a crash is safe: a wrong commit would not be */
    i->state = to;
}

void item_enlist(struct item *i, struct item_list *list)
{
    if (i->list != NULL)
        TAILQ_REMOVE(i->list, i, link);
    i->list = list;
    if (list != NULL)
        TAILQ_INSERT_TAIL(list, i, link);
}

void item_drop_rows(struct item *i)
{
    if (i->stream != NULL)
        stream_abandon(i->stream);
    room_release(i);
    if (i->charged > 0)
        worker_hold(i->worker, -(int64_t)i->charged);
    i->charged = 0;
    i->row_count = 0;
    i->range = (struct row_range){0};
    if (i->rows.data != NULL)
        buf_free(&i->rows);
}

void item_set_failure(struct item *i, const char *reason, const char *text, size_t len)
{
    free(i->text);
    i->reason = reason;
    i->text_len = size_min(len, LIMIT_DEAD_TEXT);
    i->text = xstrndup(text ? text : "", text ? i->text_len : 0);
    i->text_len = strlen(i->text);
}

static void forget(struct item *i)
{
    struct worker *w = i->worker;
    if (w->guarded)
        quarantine_forget(i);
    item_enlist(i, NULL);
    if (i->run != NULL) {
        item_drop_rows(i);
        itemmap_remove(&i->run->items, i);
    }
    for (struct delivery *d = i->first.next, *next; d != NULL; d = next) {
        next = d->next;
        free(d);
    }
    TAILQ_REMOVE(&w->items, i, all);
    w->unfinished--;
    w->taken_bytes -= (int64_t)(i->key_len + i->payload_len);
    buf_free(&i->rows);
    free(i->text);
    spares_give(&w->spares, i, item_size(i->key_len, i->payload_len));
}

/* An acknowledged manifest marks every delivery of an item, whatever assignment it came with:
 * 1. An item of p3 joins a load; then it is delivered a second time, from p5. 2. It is here, so the second delivery only joins it. 3. The manifest is
 * acknowledged: were only the first delivery marked, p5 could never commit past the second one. */
void item_finish(struct item *i)
{
    for (const struct delivery *d = &i->first; d != NULL; d = d->next)
        intake_done(i->worker->intake, d->partition, d->offset);
    forget(i);
}

void item_abandon(struct item *i)
{
    forget(i);
}

struct log_ctx item_ctx(const struct item *i)
{
    return (struct log_ctx){.run = i->run->id, .worker = i->worker->name, .handler = i->run->record->handler, .item1 = LOG_ITEM(i->index),
                            .attempt = (int)i->attempts + 1};
}
