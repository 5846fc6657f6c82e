#include "common/base/log.h"
#include "common/fleet/envelope.h"
#include "coordinator/submit_internal.h"

/* An item that is with the bus, in its letter's room; or a manifest of failures (item -1), which is its own. */
struct flight { struct submit *s; struct letter *letter; int64_t item; size_t bytes; struct flight *prev, *next; };

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

static void land(struct submit *s, struct flight *f)
{
    s->out--;
    s->out_bytes -= (int64_t)f->bytes;
    if (s->flights == f)
        s->flights = f->next;
    else
        f->prev->next = f->next;
    if (f->next)
        f->next->prev = f->prev;
    if (f->item < 0)
        free(f);
}

static void take_off(struct flight *f, struct submit *s, struct letter *letter, int64_t item, size_t bytes)
{
    *f = (struct flight){.s = s, .letter = letter, .item = item, .bytes = bytes + sizeof(*f), .next = s->flights};
    if (f->next)
        f->next->prev = f;
    s->flights = f;
    s->out++;
    s->out_bytes += (int64_t)f->bytes;
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
    land(s, f);
    pump_later(s);
}

static void write_failures(struct submit *s)
{
    if (s->failure_count == 0)
        return;
    struct log_msg m = {.type = LOGM_MANIFEST, .manifest = {.failures = s->failures, .failure_count = s->failure_count}};
    struct flight *f = xmalloc(sizeof(*f));
    take_off(f, s, outbox_log(s->o.outbox, s->o.record, &m, on_manifest, f), -1, 0);
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
        item_fails(s, f->item, letter_key(f->letter), strlen(letter_key(f->letter)), err);
    } else if (err != NULL) {
        submit_cancel(s, EXIT_UNFINISHED, err);
    } else {
        s->acknowledged++;
        metric_add(s->o.world->metrics, METRIC_ITEMS_PUBLISHED, 1);
    }
    land(s, f);
    pump_later(s);
}

/* Blocks of 1, 2, 4, ... BLOCK items go round the partitions, so that at any number of items each has its share. */
static int32_t partition_of(struct submit *s, int64_t item)
{
    if (item < s->block_end)
        return s->block_partition;
    int64_t partitions = s->o.record->work_partitions, index = item, block = 1;
    while (block < BLOCK && index >= ROUNDS * block * partitions) {
        index -= ROUNDS * block * partitions;
        block = i64_min(BLOCK, block * 2);
    }
    s->block_end = item + block - index % block;
    s->block_partition = (int32_t)(index / block % partitions);
    return s->block_partition;
}

static void publish(struct submit *s, const struct item *item)
{
    struct record *r = s->o.record;
    struct envelope e = {.run = r->run, .run_len = strlen(r->run), .item = item->index, .key = item->key, .key_len = item->key_len,
                         .payload = item->payload, .payload_len = item->payload_len};
    struct error err;
    error_clear(&err);
    buf_clear(&s->envelope);
    if (envelope_encode(&e, &s->envelope, &err) != 0) {
        item_fails(s, item->index, item->key, item->key_len, &err);
        return;
    }
    struct letter_out out = {.topic = s->work, .partition = partition_of(s, item->index), .key = item->key, .key_len = item->key_len,
                             .value = s->envelope.data, .value_len = s->envelope.len, .run = r->run, .type = "application/x-bqfleet-item",
                             .room = sizeof(struct flight)};
    struct letter *letter = outbox_send(s->o.outbox, &out, on_item, NULL);
    take_off(letter_room(letter), s, letter, item->index, out.value_len);
    if (s->envelope.cap > LIMIT_PAYLOAD / 8) /* most items are small */
        buf_free(&s->envelope);
}

static bool room(const struct submit *s)
{
    return s->out < LIMIT_PUBLISHING && s->out_bytes < LIMIT_PUBLISHING_BYTES;
}

/* One from the source. False: no more now. */
static bool take(struct submit *s)
{
    struct item item = {.index = 0};
    struct error err;
    error_clear(&err);
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
        submit_cancel(s, err.kind == ERR_USAGE ? EXIT_USAGE : EXIT_UNFINISHED, &err);
        return false;
    }
    if (s->next_item == LIMIT_ITEMS) {
        error_set(&err, ERR_USAGE, 0, "more than %" PRId64 " items", LIMIT_ITEMS);
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
        land(s, s->flights);
    }
    failures_clear(s);
    free(s->failures);
    buf_free(&s->envelope);
}
