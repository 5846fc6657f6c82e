#include "worker/undecodable.h"

#include "worker/core.h"
#include "worker/intake.h"
#include "worker/post.h"

TAILQ_HEAD(bad_list, bad);
struct bad {
    struct undecodable *owner;
    TAILQ_ENTRY(bad) link;
    struct post *post;
    int32_t partition;
    int64_t offset;
};
struct undecodable {
    struct worker *w;
    struct intake *intake;
    struct bad_list list;
};

struct undecodable *undecodable_new(struct worker *w, struct intake *intake)
{
    struct undecodable *u = xcalloc(1, sizeof(*u));
    u->w = w;
    u->intake = intake;
    TAILQ_INIT(&u->list);
    return u;
}

static void forget(struct bad *b)
{
    b->owner->w->unfinished--;
    TAILQ_REMOVE(&b->owner->list, b, link);
    free(b);
}

void undecodable_free(struct undecodable *u)
{
    if (u == NULL)
        return;
    struct bad *b;
    while ((b = TAILQ_FIRST(&u->list)) != NULL) {
        post_forget(b->post);
        forget(b);
    }
    free(u);
}

static void sent(void *arg, const struct error *err)
{
    struct bad *b = arg;
    struct worker *w = b->owner->w;
    if (err != NULL)
        log_warn("partition %" PRId32 ", offset %" PRId64 ": its entry in %s could not be written: %s", b->partition, b->offset, w->dead, err->text);
    intake_done(b->owner->intake, b->partition, b->offset);
    forget(b);
    intake_room(w->intake);
    worker_moved(w);
}

void undecodable_add(struct undecodable *u, const struct bus_msg *m, const struct error *why)
{
    struct log_ctx ctx = {.worker = u->w->name, .topic = m->topic, .partition1 = m->partition + 1};
    log_line(LOG_WARN, &ctx, "offset %" PRId64 " is no item: %s", m->offset, why->text);
    struct bad *b = xcalloc(1, sizeof(*b));
    *b = (struct bad){.owner = u, .partition = m->partition, .offset = m->offset};
    TAILQ_INSERT_TAIL(&u->list, b, link);
    u->w->unfinished++;
    doc *entry = doc_object();
    doc_set_str(entry, "topic", m->topic);
    doc_set_int(entry, "partition", m->partition);
    doc_set_int(entry, "offset", m->offset);
    doc_set_str(entry, "reason", "envelope");
    doc_set_str(entry, "text", why->text);
    doc_set_int(entry, "bytes", (int64_t)m->value_len);
    doc_set_int(entry, "time_ms", loop_wall_ms(u->w->w.loop));
    doc_set_str(entry, "by", u->w->name);
    char *text = doc_text(entry);
    doc_free(entry);
    char key[64];
    snprintf(key, sizeof(key), "%" PRId32 "/%" PRId64, m->partition, m->offset);
    struct bus_out out = {.topic = u->w->dead, .partition = -1, .key = key, .key_len = strlen(key), .value = text, .value_len = strlen(text)};
    b->post = post_send(u->w->posts, &out, false, sent, b);
    free(text);
}
