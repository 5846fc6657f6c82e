#include "coordinator/failed.h"

#include <errno.h>
#include <uthash.h>

#include "common/base/log.h"

struct line { int64_t item; bool found; const struct fold_failure *known; UT_hash_handle hh; };

struct failed {
    struct world world;
    const struct record *record;
    const struct fold *fold;
    char *path, *part;       /* written beside it first, so that the file is whole or absent */
    FILE *file;
    struct line *lines;      /* by item */
    struct bus_follow *follow;
    struct ticket *ticket;
    struct timer *timer;     /* the end, told on a turn of its own */
    int64_t until, count;
    struct error error;
    failed_cb *cb;
    void *arg;
};

static void put(struct failed *f, doc *line)
{
    AUTO(doc_free_auto) doc *d = line;
    AUTO(free_ptr) char *text = doc_text(d);
    fprintf(f->file, "%s\n", text);
    f->count++;
}

static doc *about(int64_t item, const char *error, const char *reason, int64_t attempts)
{
    doc *d = doc_object();
    doc_set_int(d, "item", item);
    doc_set_str(d, "error", error);
    doc_set_str(d, "reason", reason);
    return doc_set_int(d, "attempts", attempts);
}

/* --- from `dead` --------------------------------------------------------------------------------------------------------------------------------- */

/* The log decides what failed; beyond what the fold keeps of it, an entry of an item that is done is taken at its word. */
static bool wanted(struct failed *f, int64_t item, struct line **line)
{
    HASH_FIND(hh, f->lines, &item, sizeof(item), *line);
    if (*line != NULL)
        return !(*line)->found;
    if (f->fold->failed <= (int64_t)f->fold->failure_count || !fold_is_done(f->fold, item))
        return false;
    *line = xcalloc(1, sizeof(**line));
    (*line)->item = item;
    HASH_ADD(hh, f->lines, item, sizeof(item), *line);
    return true;
}

/* Without its payload an item is named as the spec's own file would. */
static doc *only_key(const struct failed *f, const char *key)
{
    return doc_set_str(doc_object(), doc_str(f->record->spec, "items.key", "key"), key);
}

static doc *payload_of(const struct failed *f, const doc *entry)
{
    const doc *payload = doc_get(entry, "payload");
    if (doc_type(payload) == DOC_OBJECT)
        return doc_copy(payload);
    doc *d = only_key(f, doc_str(entry, "key", ""));
    if (payload != NULL && doc_type(payload) != DOC_NULL)
        doc_set(d, "payload", doc_copy(payload));
    return d;
}

static void take_entry(struct failed *f, const doc *entry)
{
    struct line *line = NULL;
    int64_t item = doc_int(entry, "item", -1);
    if (strcmp(doc_str(entry, "run", ""), f->record->run) != 0 || !wanted(f, item, &line))
        return;
    line->found = true;
    doc *d = payload_of(f, entry);
    put(f, doc_set(d, "_bqfleet", about(item, doc_str(entry, "text", ""), doc_str(entry, "reason", ""), doc_int(entry, "attempts", 0))));
}

static void on_message(void *arg, const struct bus_msg *m)
{
    struct failed *f = arg;
    size_t run = strlen(f->record->run);
    if (m->value == NULL || m->key_len < run || memcmp(m->key, f->record->run, run) != 0)
        return;
    struct error err = ERROR_INIT;
    AUTO(doc_free_auto) doc *entry = doc_parse(m->value, m->value_len, "an entry of the dead topic", &err);
    if (entry != NULL)
        take_entry(f, entry);
    else
        log_debug("%s", err.text);
}

/* --- the end ------------------------------------------------------------------------------------------------------------------------------------- */

static void put_the_rest(struct failed *f)
{
    struct line *line, *tmp;
    HASH_ITER(hh, f->lines, line, tmp) {
        if (line->found || line->known == NULL)
            continue;
        const struct fold_failure *x = line->known;
        doc *d = only_key(f, x->key);
        put(f, doc_set(d, "_bqfleet", about(x->item, x->text, x->reason, x->attempts)));
    }
}

static int close_file(struct failed *f, struct error *err)
{
    bool bad = ferror(f->file) != 0;
    bad = fclose(f->file) != 0 || bad;
    f->file = NULL;
    if (bad || rename(f->part, f->path) != 0)
        return error_set(err, ERR_FATAL, errno, "%s cannot be written: %s", f->path, strerror(errno));
    return 0;
}

static void finish(void *arg)
{
    struct failed *f = arg;
    if (f->file != NULL) {
        put_the_rest(f);
        close_file(f, &f->error);
    }
    struct error err = f->error;
    f->cb(f->arg, f->count, err.kind == ERR_NONE ? NULL : &err);
}

static void stop_reading(struct failed *f)
{
    if (f->follow)
        bus_follow_stop(f->follow);
    f->follow = NULL;
    timer_set(f->timer, 0);
}

static void on_end(void *arg, int64_t next)
{
    struct failed *f = arg;
    if (next >= f->until)
        stop_reading(f);
}

static void on_failed(void *arg, const struct error *err)
{
    struct failed *f = arg;
    f->follow = NULL;
    log_warn("the failed items' payloads cannot be read: %s", err->text);
    timer_set(f->timer, 0);
}

static void on_marks(void *arg, int64_t low, int64_t high, const struct error *err)
{
    static const struct bus_follow_events follow = {.message = on_message, .at_end = on_end, .failed = on_failed};
    struct failed *f = ticket_take(arg);
    if (f == NULL)
        return;
    f->ticket = NULL;
    f->until = high;
    char topic[TOPIC_SIZE];
    topic_dead(topic, f->world.prefix);
    struct error why = err ? *err : ERROR_INIT;
    /* Retention may have taken its beginning: what is left is still worth having. */
    if (err == NULL)
        f->follow = bus_follow(f->world.bus, topic, f->record->dead_partition, i64_max(low, f->record->dead_offset), &follow, f, &why);
    if (f->follow == NULL) {
        log_warn("the failed items' payloads cannot be read: %s", why.text);
        timer_set(f->timer, 0);
    }
}

static void open_file(struct failed *f)
{
    f->file = fopen(f->part, "w");
    if (f->file == NULL) {
        error_set(&f->error, ERR_FATAL, errno, "%s cannot be written: %s", f->path, strerror(errno));
        timer_set(f->timer, 0);
        return;
    }
    if (f->fold->failed == 0) {
        timer_set(f->timer, 0);
        return;
    }
    char topic[TOPIC_SIZE];
    topic_dead(topic, f->world.prefix);
    bus_watermarks(f->world.bus, topic, f->record->dead_partition, on_marks, f->ticket);
}

struct failed *failed_start(const struct world *world, struct outbox *outbox, const struct record *r, const struct fold *fold, const char *path,
                            failed_cb *cb, void *arg)
{
    struct failed *f = xcalloc(1, sizeof(*f));
    *f = (struct failed){.world = *world, .record = r, .fold = fold, .path = xstrdup(path), .part = xasprintf("%s.part", path), .cb = cb, .arg = arg};
    f->timer = timer_new(world->loop, finish, f);
    for (size_t i = 0; i < fold->failure_count; i++) {
        struct line *line = xcalloc(1, sizeof(*line));
        line->item = fold->failures[i].item;
        line->known = &fold->failures[i];
        HASH_ADD(hh, f->lines, item, sizeof(line->item), line);
    }
    if (fold->failed > 0)
        f->ticket = ticket_new(outbox, f);
    open_file(f);
    return f;
}

void failed_stop(struct failed *f)
{
    if (f == NULL)
        return;
    if (f->follow)
        bus_follow_stop(f->follow);
    ticket_forget(f->ticket);
    timer_free(f->timer);
    if (f->file)
        fclose(f->file);
    struct line *line, *tmp;
    HASH_ITER(hh, f->lines, line, tmp) {
        HASH_DEL(f->lines, line);
        free(line);
    }
    free(f->path);
    free(f->part);
    free(f);
}
