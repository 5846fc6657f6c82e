#include "worker/post.h"

#include <sys/queue.h>

#include "common/base/log.h"
#include "common/base/retry.h"
#include "common/base/units.h"

static const struct retry_policy policy = {.base_ms = 100, .cap_ms = 10000};
#define FULL_RECHECK_MS 100 /* a full queue says when it has room; this is for one that forgets to */

TAILQ_HEAD(post_list, post);
struct post {
    struct posts *owner;     /* NULL: forgotten while the bus still has it */
    TAILQ_ENTRY(post) link;  /* in owner's waiting or sent */
    bool sent, once, full, failed_hard;
    int failures;
    int64_t due_us;
    struct error err;
    post_cb *cb;
    void *arg;
    const char *topic;
    int32_t partition;
    bool tombstone;
    size_t key_len, value_len;
    char bytes[];            /* topic and a NUL, key, value */
};

struct posts {
    struct loop *loop;
    struct bus *bus;
    struct rnd *rnd;
    struct timer *timer;
    struct post_list waiting, sent;
    int64_t count, bytes;    /* of both */
    int64_t next_us;         /* when the timer fires */
    char trouble[256];
};

static void fire(void *arg);
static void space(void *arg);

struct posts *posts_new(struct loop *loop, struct bus *bus, struct rnd *rnd)
{
    struct posts *p = xcalloc(1, sizeof(*p));
    p->loop = loop;
    p->bus = bus;
    p->rnd = rnd;
    p->timer = timer_new(loop, fire, p);
    TAILQ_INIT(&p->waiting);
    TAILQ_INIT(&p->sent);
    bus_on_space(bus, space, p);
    return p;
}

void posts_free(struct posts *p)
{
    if (p == NULL)
        return;
    bus_on_space(p->bus, NULL, p);
    struct post *post;
    while ((post = TAILQ_FIRST(&p->waiting)) != NULL || (post = TAILQ_FIRST(&p->sent)) != NULL)
        post_forget(post);
    timer_free(p->timer);
    free(p);
}

static void wake_at(struct posts *p, int64_t due_us)
{
    int64_t now = loop_now_us(p->loop);
    if (timer_is_set(p->timer) && p->next_us <= due_us)
        return;
    p->next_us = due_us;
    timer_set(p->timer, i64_max(due_us - now, 0));
}

static void wait_until(struct post *post, int64_t delay_ms)
{
    struct posts *p = post->owner;
    if (post->sent) {
        TAILQ_REMOVE(&p->sent, post, link);
        TAILQ_INSERT_TAIL(&p->waiting, post, link);
    }
    post->sent = false;
    post->due_us = loop_now_us(p->loop) + delay_ms * US_PER_MS;
    wake_at(p, post->due_us);
}

static void uncount(struct posts *p, const struct post *post)
{
    p->count--;
    p->bytes -= (int64_t)(post->key_len + post->value_len);
}

static void finish(struct post *post, const struct error *err)
{
    struct posts *p = post->owner;
    TAILQ_REMOVE(post->sent ? &p->sent : &p->waiting, post, link);
    uncount(p, post);
    if (err == NULL)
        p->trouble[0] = '\0';
    post_cb *cb = post->cb;
    void *arg = post->arg;
    struct error copy = err ? *err : ERROR_INIT;
    bool ok = err == NULL;
    free(post);
    if (cb != NULL)
        cb(arg, ok ? NULL : &copy);
}

static void acked(void *arg, int32_t partition, int64_t offset, const struct error *err)
{
    (void)partition;
    (void)offset;
    struct post *post = arg;
    struct posts *p = post->owner;
    if (p == NULL) {
        free(post);
        return;
    }
    if (err == NULL || err->kind == ERR_TASK || err->kind == ERR_FATAL || err->kind == ERR_USAGE || post->once) {
        finish(post, err);
        return;
    }
    struct error again = *err;
    again.kind = ERR_RETRY;
    int64_t delay = retry_delay(&policy, ++post->failures, 0, &again, rnd_real(p->rnd));
    if (post->failures == 1)
        log_warn("a message to %s was not acknowledged, and is sent again: %s", post->topic, err->text);
    char wait[64];
    snprintf(p->trouble, sizeof(p->trouble), "%.64s: %.100s, next try in %s", bus_describe(p->bus), err->text,
             units_show_ms(delay, wait, sizeof(wait)));
    wait_until(post, delay);
}

static void hand_over(struct post *post)
{
    struct posts *p = post->owner;
    const char *key = post->bytes + strlen(post->topic) + 1;
    struct bus_out out = {.topic = post->topic, .partition = post->partition, .key = post->key_len ? key : NULL, .key_len = post->key_len,
                          .value = post->tombstone ? NULL : key + post->key_len, .value_len = post->value_len};
    struct error err = ERROR_INIT;
    if (bus_publish(p->bus, &out, acked, post, &err) == 0) {
        TAILQ_REMOVE(&p->waiting, post, link);
        TAILQ_INSERT_TAIL(&p->sent, post, link);
        post->sent = true;
    } else if (err.kind == ERR_RETRY && !post->once) {
        post->full = true;
        wait_until(post, FULL_RECHECK_MS);
    } else {
        post->err = err; /* told on the next turn, never from inside post_send */
        post->failed_hard = true;
        wait_until(post, 0);
    }
}

static void fire(void *arg)
{
    struct posts *p = arg;
    int64_t now = loop_now_us(p->loop), next = INT64_MAX;
    timer_stop(p->timer);
    struct post *post, *following;
    for (post = TAILQ_FIRST(&p->waiting); post != NULL; post = following) {
        following = TAILQ_NEXT(post, link);
        if (post->failed_hard)
            continue;
        if (post->due_us <= now)
            hand_over(post);
        if (!post->sent && post->due_us > now)
            next = i64_min(next, post->due_us);
    }
    if (next != INT64_MAX)
        wake_at(p, next);
    /* Last, one at a time from the start: a callback may send or forget others, or end the worker. */
    for (post = TAILQ_FIRST(&p->waiting); post != NULL; post = TAILQ_NEXT(post, link))
        if (post->failed_hard) {
            wake_at(p, now);
            struct error err = post->err;
            finish(post, &err);
            return;
        }
}

static void space(void *arg)
{
    struct posts *p = arg;
    int64_t now = loop_now_us(p->loop);
    bool any = false;
    struct post *post;
    TAILQ_FOREACH(post, &p->waiting, link) {
        if (post->full) {
            post->full = false;
            post->due_us = now;
            any = true;
        }
    }
    if (any)
        wake_at(p, now);
}

struct post *post_send(struct posts *p, const struct bus_out *out, bool once, post_cb *cb, void *arg)
{
    assert((out->key != NULL || out->key_len == 0) && (out->value != NULL || out->value_len == 0));
    size_t topic_len = strlen(out->topic), n = topic_len + 1 + out->key_len + out->value_len;
    struct post *post = xmalloc(sizeof(*post) + n);
    memset(post, 0, sizeof(*post));
    post->owner = p;
    post->once = once;
    post->cb = cb;
    post->arg = arg;
    post->partition = out->partition;
    post->tombstone = out->value == NULL;
    post->key_len = out->key_len;
    post->value_len = out->value_len;
    memcpy(post->bytes, out->topic, topic_len + 1);
    post->topic = post->bytes;
    if (out->key_len > 0)
        memcpy(post->bytes + topic_len + 1, out->key, out->key_len);
    if (out->value_len > 0)
        memcpy(post->bytes + topic_len + 1 + out->key_len, out->value, out->value_len);
    TAILQ_INSERT_TAIL(&p->waiting, post, link);
    p->count++;
    p->bytes += (int64_t)(post->key_len + post->value_len);
    hand_over(post);
    return post;
}

void post_forget(struct post *post)
{
    if (post == NULL)
        return;
    struct posts *p = post->owner;
    TAILQ_REMOVE(post->sent ? &p->sent : &p->waiting, post, link);
    uncount(p, post);
    post->owner = NULL;
    if (!post->sent)
        free(post); /* else its acknowledgement frees it */
}

int64_t posts_bytes(const struct posts *p)
{
    return p->bytes;
}

const char *posts_waits_for(const struct posts *p)
{
    return p->count > 0 ? p->trouble : "";
}
