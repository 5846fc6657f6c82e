#include "common/base/log.h"
#include "common/fleet/envelope.h"
#include "coordinator/submit_internal.h"

/* An item, or a manifest of failures (item -1), that is with the bus. */
struct flight { struct submit *s; struct letter *letter; int64_t item; size_t bytes; struct flight *prev, *next; char key[]; };

enum {
    BLOCK = 500,           /* items in a row on one partition, at most: a manifest's ranges stay short */
    ROUNDS = 4,            /* over all partitions before blocks double: a small run is spread over every worker too */
    TURN_ITEMS = 2000,     /* read in one turn of the loop, so that acknowledgements and signals are heard in between */
    MANIFEST_FAILURES = 200
};

static void pump_later(struct submit *s)
{
    if (s->step == SUBMIT_ITEMS && !timer_is_set(s->timer))
        timer_set(s->timer, 0);
}

/* --- what is on its way --------------------------------------------------------------------------------------------------------------------- */

static void land(struct flight *f)
{
    struct submit *s = f->s;
    s->out--;
    s->out_bytes -= (int64_t)f->bytes;
    if (f->prev)
        f->prev->next = f->next;
    else
        s->flights = f->next;
    if (f->next)
        f->next->prev = f->prev;
    free(f);
}

static struct flight *take_off(struct submit *s, int64_t item, const char *key, size_t key_len, size_t bytes)
{
    struct flight *f = xmalloc(sizeof(*f) + key_len + 1);
    *f = (struct flight){.s = s, .item = item, .bytes = bytes + sizeof(*f), .next = s->flights};
    if (key_len > 0)
        memcpy(f->key, key, key_len);
    f->key[key_len] = '\0';
    if (f->next)
        f->next->prev = f;
    s->flights = f;
    s->out++;
    s->out_bytes += (int64_t)f->bytes;
    return f;
}

/* --- items that fail here: too large for the bus -------------------------------------------------------------------------------------------- */

static void failures_clear(struct submit *s)
{
    for (size_t i = 0; i < s->failure_count; i++) {
        free((char *)(uintptr_t)s->failures[i].key);
        free((char *)(uintptr_t)s->failures[i].text);
    }
    s->failure_count = 0;
}

static void on_manifest(void *arg, int64_t offset, const struct error *err)
{
    struct flight *f = arg;
    struct submit *s = f->s;
    (void)offset;
    if (err != NULL)
        submit_cancel(s, EXIT_UNFINISHED, err);
    land(f);
    pump_later(s);
}

static void write_failures(struct submit *s)
{
    if (s->failure_count == 0)
        return;
    struct log_msg m = {.type = LOGM_MANIFEST, .manifest = {.failures = s->failures, .failure_count = s->failure_count}};
    struct flight *f = take_off(s, -1, NULL, 0, 0);
    f->letter = outbox_log(s->o.outbox, s->o.record, &m, on_manifest, f);
    failures_clear(s);
}

static void item_fails(struct submit *s, int64_t item, const char *key, size_t key_len, const struct error *why)
{
    if (s->failure_count == s->failure_cap) {
        s->failure_cap = s->failure_cap ? s->failure_cap * 2 : 16;
        s->failures = xreallocarray(s->failures, s->failure_cap, sizeof(*s->failures));
    }
    struct item_failure *f = &s->failures[s->failure_count++];
    *f = (struct item_failure){.item = item, .attempts = 0, .reason = "size", .key = xstrndup(key ? key : "", size_min(key_len, 128)),
                               .text = xstrndup(why->text, LIMIT_FAILURE_TEXT)};
    s->failed++;
    log_line(LOG_WARN, &(struct log_ctx){.run = s->o.record->run, .item1 = LOG_ITEM(item)}, "item %s fails: %s", f->key, why->text);
    outbox_dead(s->o.outbox, s->o.record, f);
    if (s->failure_count == MANIFEST_FAILURES)
        write_failures(s);
}

static void on_item(void *arg, int64_t offset, const struct error *err)
{
    struct flight *f = arg;
    struct submit *s = f->s;
    (void)offset;
    if (err != NULL && err->kind == ERR_TASK) {
        item_fails(s, f->item, f->key, strlen(f->key), err);
    } else if (err != NULL) {
        submit_cancel(s, EXIT_UNFINISHED, err);
    } else {
        s->acknowledged++;
        metric_add(s->o.world->metrics, METRIC_ITEMS_PUBLISHED, 1);
    }
    land(f);
    pump_later(s);
}

/* Blocks of 1, 2, 4, ... BLOCK items go round the partitions, so that at any number of items each has its share. */
static int32_t partition_of(int64_t index, int64_t partitions)
{
    int64_t block = 1;
    while (block < BLOCK && index >= ROUNDS * block * partitions) {
        index -= ROUNDS * block * partitions;
        block = i64_min(BLOCK, block * 2);
    }
    return (int32_t)(index / block % partitions);
}

static void publish(struct submit *s, const struct item *item)
{
    struct record *r = s->o.record;
    struct envelope e = {.run = r->run, .run_len = strlen(r->run), .item = item->index, .key = item->key, .key_len = item->key_len,
                         .payload = item->payload, .payload_len = item->payload_len};
    struct buf bytes = BUF_INIT(LIMIT_PAYLOAD + LIMIT_KEY + 1024);
    struct error err = ERROR_INIT;
    if (envelope_encode(&e, &bytes, &err) != 0) {
        item_fails(s, item->index, item->key, item->key_len, &err);
        buf_free(&bytes);
        return;
    }
    struct flight *f = take_off(s, item->index, item->key, size_min(item->key_len, 128), bytes.len);
    f->letter = outbox_send(s->o.outbox, &(struct letter_out){.topic = s->work, .partition = partition_of(item->index, r->work_partitions),
                                                              .key = item->key, .key_len = item->key_len, .value = bytes.data, .value_len = bytes.len,
                                                              .run = r->run, .type = "application/x-bqfleet-item"}, on_item, f);
    buf_free(&bytes);
}

static bool room(const struct submit *s)
{
    return s->out < LIMIT_PUBLISHING && s->out_bytes < LIMIT_PUBLISHING_BYTES;
}

/* One from the source. False: no more now. */
static bool take(struct submit *s)
{
    struct item item = {.index = 0};
    struct error err = ERROR_INIT;
    int rc = s->o.source.next(s->o.source.arg, &item, &err);
    if (rc == 0) {
        s->at_end = true;
        return false;
    }
    if (rc == 2) {
        s->source_waits = true;
        return false;
    }
    if (rc < 0) {
        error_prefix(&err, "the run is cancelled, nothing was written");
        submit_cancel(s, err.kind == ERR_USAGE ? EXIT_USAGE : EXIT_UNFINISHED, &err);
        return false;
    }
    if (s->next_item == LIMIT_ITEMS) {
        error_set(&err, ERR_USAGE, 0, "the run is cancelled, nothing was written: more than %" PRId64 " items", LIMIT_ITEMS);
        submit_cancel(s, EXIT_USAGE, &err);
        return false;
    }
    item.index = s->next_item++;
    if (err.kind == ERR_TASK)
        item_fails(s, item.index, item.key, item.key_len, &err);
    else
        publish(s, &item);
    return true;
}

void submit_items_pump(struct submit *s)
{
    submit_items_start(s);
    int taken = 0;
    while (!s->at_end && !s->source_waits && room(s) && taken < TURN_ITEMS && take(s))
        taken++;
    if (s->cancelling || s->step != SUBMIT_ITEMS)
        return;
    if (taken == TURN_ITEMS)
        timer_set(s->timer, 0);
    if (s->at_end)
        write_failures(s);
    if (s->at_end && s->out == 0)
        submit_go(s, SUBMIT_MARKS);
}

void submit_items_free(struct submit *s)
{
    while (s->flights) {
        letter_forget(s->flights->letter);
        land(s->flights);
    }
    failures_clear(s);
    free(s->failures);
}
