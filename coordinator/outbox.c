#include "coordinator/outbox.h"

#include <sys/queue.h>

#include "common/base/log.h"
#include "common/base/spares.h"

enum letter_state { LETTER_WAITING, LETTER_OUT, LETTER_REFUSED };

struct letter {
    struct outbox *box;
    TAILQ_ENTRY(letter) link;  /* of the list of its state */
    enum letter_state state;
    int64_t due_us;            /* while waiting: not before; 0: when there is room */
    int failures;
    struct error *error;       /* while refused */
    letter_cb *cb;
    void *arg;
    const char *type;
    int32_t partition;
    bool tombstone;
    size_t size;               /* of all of it */
    size_t key_len, value_len;
    char *topic, *run, *key, *value; /* into bytes, behind the sender's room */
    _Alignas(max_align_t) char bytes[];
};
TAILQ_HEAD(letters, letter);

struct ticket { struct outbox *box; void *owner; LIST_ENTRY(ticket) link; };

struct outbox {
    struct world world;
    char *by;
    struct letters lists[3];   /* by state */
    LIST_HEAD(, ticket) tickets;
    int64_t count;
    struct spares spares;      /* memory of letters */
    struct timer *timer;
    int64_t armed_us;          /* when it is due, while it is set */
    bool stopped;
    char waits_for[256];
};

/* Resent for as long as the process lives: whoever sends decides when to give up. */
static const struct retry_policy patience = {.base_ms = 200, .cap_ms = 10000};

static void turn(void *arg);

static void arm(struct outbox *b, int64_t due_us)
{
    if (timer_is_set(b->timer) && b->armed_us <= due_us)
        return;
    b->armed_us = due_us;
    timer_set(b->timer, i64_max(due_us - loop_now_us(b->world.loop), 0));
}

static void on_space(void *arg)
{
    struct outbox *b = arg;
    if (!TAILQ_EMPTY(&b->lists[LETTER_WAITING]))
        arm(b, 0);
}

struct outbox *outbox_new(const struct world *world, const char *by)
{
    struct outbox *b = xcalloc(1, sizeof(*b));
    b->world = *world;
    b->by = xstrdup(by);
    for (size_t i = 0; i < ARRAY_LEN(b->lists); i++)
        TAILQ_INIT(&b->lists[i]);
    LIST_INIT(&b->tickets);
    b->timer = timer_new(world->loop, turn, b);
    bus_on_space(world->bus, on_space, b);
    return b;
}

const char *outbox_by(const struct outbox *b)
{
    return b->by;
}

static void take_out(struct letter *l)
{
    TAILQ_REMOVE(&l->box->lists[l->state], l, link);
    l->box->count--;
}

static void forget(struct letter *l)
{
    free(l->error);
    spares_give(&l->box->spares, l, l->size);
}

static void letter_free(struct letter *l)
{
    take_out(l);
    forget(l);
}

/* The one setter of a letter's state; it goes to the end of its list. */
static void move(struct letter *l, enum letter_state to)
{
    TAILQ_REMOVE(&l->box->lists[l->state], l, link);
    l->state = to;
    TAILQ_INSERT_TAIL(&l->box->lists[to], l, link);
}

void outbox_stop(struct outbox *b)
{
    if (b == NULL || b->stopped)
        return;
    b->stopped = true;
    bus_on_space(b->world.bus, NULL, b);
    timer_free(b->timer);
    b->timer = NULL;
}

void outbox_free(struct outbox *b)
{
    if (b == NULL)
        return;
    assert(b->stopped);
    for (size_t i = 0; i < ARRAY_LEN(b->lists); i++)
        while (!TAILQ_EMPTY(&b->lists[i]))
            letter_free(TAILQ_FIRST(&b->lists[i]));
    struct ticket *t;
    while ((t = LIST_FIRST(&b->tickets)) != NULL) {
        LIST_REMOVE(t, link);
        free(t);
    }
    spares_free(&b->spares);
    free(b->by);
    free(b);
}

/* --- sending ------------------------------------------------------------------------------------------------------------------------------ */

static void answer(struct letter *l, int64_t offset, const struct error *err)
{
    take_out(l); /* the callback may stop the outbox */
    if (l->cb)
        l->cb(l->arg, offset, err);
    forget(l);
}

static void wait_and_repeat(struct letter *l, const struct error *err)
{
    struct outbox *b = l->box;
    struct error again = *err;
    again.kind = ERR_RETRY;
    int64_t delay = retry_delay(&patience, ++l->failures, 0, &again, rnd_real(b->world.rnd));
    l->due_us = loop_now_us(b->world.loop) + delay * US_PER_MS;
    snprintf(b->waits_for, sizeof(b->waits_for), "%.200s", err->text);
    move(l, LETTER_WAITING);
    arm(b, l->due_us);
}

static void refuse(struct letter *l, const struct error *err)
{
    l->error = xmemdup(err, sizeof(*err));
    move(l, LETTER_REFUSED);
    arm(l->box, 0);
}

static void on_ack(void *arg, int32_t partition, int64_t offset, const struct error *err)
{
    struct letter *l = arg;
    struct outbox *b = l->box;
    (void)partition;
    if (b->stopped) {
        letter_free(l);
        return;
    }
    if (err != NULL && (err->kind == ERR_RETRY || err->kind == ERR_QUOTA)) {
        wait_and_repeat(l, err);
        return;
    }
    if (err == NULL)
        b->waits_for[0] = '\0';
    answer(l, offset, err);
}

/* False when the queue is full: nothing else need be tried now. */
static bool publish(struct letter *l)
{
    struct bus_header headers[2];
    size_t n = 0;
    if (l->run)
        headers[n++] = (struct bus_header){.name = "bqfleet-run", .value = l->run, .len = strlen(l->run)};
    if (l->type)
        headers[n++] = (struct bus_header){.name = "content-type", .value = l->type, .len = strlen(l->type)};
    struct bus_out out = {.topic = l->topic, .partition = l->partition, .key = l->key, .key_len = l->key_len,
                          .value = l->tombstone ? NULL : l->value, .value_len = l->value_len, .headers = headers, .header_count = n};
    struct error err;
    error_clear(&err);
    if (bus_publish(l->box->world.bus, &out, on_ack, l, &err) == 0) {
        move(l, LETTER_OUT);
        return true;
    }
    if (err.kind == ERR_RETRY && strcmp(err.reason, "full") == 0) {
        l->due_us = 0;
        return false;
    }
    if (err.kind == ERR_RETRY || err.kind == ERR_QUOTA)
        wait_and_repeat(l, &err);
    else
        refuse(l, &err);
    return true;
}

static void send_due(struct outbox *b)
{
    int64_t now = loop_now_us(b->world.loop), next = INT64_MAX;
    struct letter *l, *after;
    for (l = TAILQ_FIRST(&b->lists[LETTER_WAITING]); l != NULL; l = after) {
        after = TAILQ_NEXT(l, link);
        if (l->due_us > now) {
            next = i64_min(next, l->due_us);
            continue;
        }
        if (!publish(l))
            return; /* on_space comes */
    }
    if (next != INT64_MAX)
        arm(b, next);
}

static void turn(void *arg)
{
    struct outbox *b = arg;
    struct letter *l;
    while ((l = TAILQ_FIRST(&b->lists[LETTER_REFUSED])) != NULL) {
        answer(l, -1, l->error);
        if (b->stopped)
            return;
    }
    send_due(b);
}

static char *put(char **at, const void *data, size_t len)
{
    char *to = *at;
    assert(data != NULL || len == 0);
    if (len > 0)
        memcpy(to, data, len);
    to[len] = '\0';
    *at = to + len + 1;
    return to;
}

struct letter *outbox_send(struct outbox *b, const struct letter_out *out, letter_cb *cb, void *arg)
{
    assert(!b->stopped);
    size_t topic = strlen(out->topic), run = out->run ? strlen(out->run) : 0;
    size_t size = sizeof(struct letter) + out->room + topic + run + out->key_len + out->value_len + 4;
    struct letter *l = spares_take(&b->spares, size);
    *l = (struct letter){.box = b, .size = size, .cb = cb, .arg = out->room > 0 ? l->bytes : arg, .type = out->type, .partition = out->partition, .tombstone = out->value == NULL,
                         .key_len = out->key_len, .value_len = out->value_len};
    char *at = l->bytes + out->room;
    l->topic = put(&at, out->topic, topic);
    l->key = put(&at, out->key, out->key_len);
    l->value = put(&at, out->value, out->value_len);
    l->run = out->run ? put(&at, out->run, run) : NULL;
    TAILQ_INSERT_TAIL(&b->lists[LETTER_WAITING], l, link);
    b->count++;
    publish(l);
    return l;
}

void *letter_room(struct letter *l)
{
    return l->bytes;
}

const char *letter_key(const struct letter *l)
{
    return l->key;
}

void letter_forget(struct letter *l)
{
    if (l != NULL)
        l->cb = NULL;
}

int64_t outbox_waiting(const struct outbox *b)
{
    return b->count;
}

const char *outbox_waits_for(const struct outbox *b)
{
    return b->waits_for;
}

/* --- what is sent ------------------------------------------------------------------------------------------------------------------------- */

struct letter *outbox_log(struct outbox *b, const struct record *r, struct log_msg *m, letter_cb *cb, void *arg)
{
    struct buf bytes = BUF_INIT(LIMIT_MANIFEST * 2);
    m->by = b->by;
    m->text = m->text ? m->text : "";
    m->shard = m->shard ? m->shard : "";
    m->job = m->job ? m->job : "";
    m->run = m->run ? m->run : "";
    m->manifest.incarnation = m->manifest.incarnation ? m->manifest.incarnation : "";
    m->manifest.load = m->manifest.load ? m->manifest.load : "";
    int rc = logmsg_encode(m, &bytes);
    assert(rc == 0); /* texts are cut by those who write them */
    (void)rc;
    char topic[TOPIC_SIZE];
    topic_results(topic, b->world.prefix);
    struct letter *l = outbox_send(b, &(struct letter_out){.topic = topic, .partition = r->log_partition, .key = r->run,
                                                           .key_len = strlen(r->run), .value = bytes.data, .value_len = bytes.len}, cb, arg);
    log_debug("run %s: says %s", r->run, log_type_name(m->type));
    buf_free(&bytes);
    return l;
}

struct letter *outbox_batches(struct outbox *b, char *key, doc *value, letter_cb *cb, void *arg)
{
    char topic[TOPIC_SIZE];
    topic_batches(topic, b->world.prefix);
    AUTO(free_ptr) char *text = value ? doc_text(value) : NULL;
    struct letter *l = outbox_send(b, &(struct letter_out){.topic = topic, .key = key, .key_len = strlen(key), .value = text,
                                                           .value_len = text ? strlen(text) : 0, .type = "application/json"}, cb, arg);
    doc_free(value);
    free(key);
    return l;
}

void outbox_dead(struct outbox *b, const struct record *r, const struct item_failure *f)
{
    AUTO(doc_free_auto) doc *d = doc_object();
    doc_set_str(d, "run", r->run);
    doc_set_str(d, "batch", r->batch);
    doc_set_int(d, "item", f->item);
    doc_set_str(d, "key", f->key);
    doc_set_int(d, "attempts", f->attempts);
    doc_set_str(d, "reason", f->reason);
    doc_set_str(d, "text", f->text);
    doc_set_int(d, "time_ms", loop_wall_ms(b->world.loop));
    doc_set_str(d, "by", b->by);
    AUTO(free_ptr) char *text = doc_text(d);
    char topic[TOPIC_SIZE], key[LIMIT_NAME + 32];
    topic_dead(topic, b->world.prefix);
    snprintf(key, sizeof(key), "%s/%" PRId64, r->run, f->item);
    outbox_send(b, &(struct letter_out){.topic = topic, .partition = r->dead_partition, .key = key, .key_len = strlen(key), .value = text,
                                        .value_len = strlen(text), .run = r->run, .type = "application/json"}, NULL, NULL);
}

/* --- tickets ------------------------------------------------------------------------------------------------------------------------------ */

struct ticket *ticket_new(struct outbox *b, void *owner)
{
    struct ticket *t = xcalloc(1, sizeof(*t));
    t->box = b;
    t->owner = owner;
    LIST_INSERT_HEAD(&b->tickets, t, link);
    return t;
}

void *ticket_take(struct ticket *t)
{
    void *owner = t->box->stopped ? NULL : t->owner;
    LIST_REMOVE(t, link);
    free(t);
    return owner;
}

void ticket_forget(struct ticket *t)
{
    if (t != NULL)
        t->owner = NULL;
}
