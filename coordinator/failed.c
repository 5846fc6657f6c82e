#include "coordinator/failed.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uthash.h>

#include "common/base/log.h"
#include "coordinator/work_read.h"

/* What the fold keeps of a failure, by item. */
struct known { int64_t item; const struct fold_failure *failure; UT_hash_handle hh; };

struct failed {
    struct failed_options o;
    struct world world;
    char *path, *part;       /* written beside it first, so that the file is whole or absent */
    FILE *file;
    struct known *known;
    struct itemset given;
    int64_t wanted;          /* how many there are */
    struct bus_follow *follow;
    struct work_read *work;
    struct ticket *ticket;
    struct timer *timer;     /* the next step, on a turn of its own */
    void (*step)(struct failed *);
    int64_t until;
    struct error error;
};

static void then(struct failed *f, void (*step)(struct failed *))
{
    f->step = step;
    timer_set(f->timer, 0);
}

static void on_timer(void *arg)
{
    struct failed *f = arg;
    f->step(f);
}

static bool is_wanted(const struct failed *f, int64_t item)
{
    return fold_is_failed(f->o.fold, item) && (f->o.only == NULL || itemset_has(f->o.only, item)) && !itemset_has(&f->given, item);
}

static bool all_given(const struct failed *f)
{
    return f->given.count >= f->wanted;
}

/* --- one object ---------------------------------------------------------------------------------------------------------------------------------- */

static void put(struct failed *f, int64_t item, doc *line, doc *about)
{
    AUTO(doc_free_auto) doc *d = doc_set(line, "_bqfleet", about);
    itemset_add(&f->given, item);
    if (f->o.line != NULL) {
        f->o.line(f->o.arg, d);
        return;
    }
    AUTO(free_ptr) char *text = doc_text(d);
    fprintf(f->file, "%s\n", text);
}

static doc *about(const struct failed *f, int64_t item, const char *error, const char *reason, int64_t attempts, int64_t time_ms)
{
    doc *d = doc_object();
    doc_set_str(d, "run", f->o.record->run);
    doc_set_int(d, "item", item);
    doc_set_str(d, "error", error);
    doc_set_str(d, "reason", reason);
    doc_set_int(d, "attempts", attempts);
    return doc_set(d, "time_ms", time_ms > 0 ? doc_integer(time_ms) : doc_null());
}

static doc *about_known(const struct failed *f, int64_t item, const struct fold_failure **failure)
{
    struct known *k;
    HASH_FIND(hh, f->known, &item, sizeof(item), k);
    *failure = k ? k->failure : NULL;
    return k ? about(f, item, k->failure->text, k->failure->reason, k->failure->attempts, 0) : about(f, item, "", "", 0, 0);
}

/* Without its payload an item is named as the spec's own file would. */
static doc *only_key(const struct failed *f, const char *key)
{
    return doc_set_str(doc_object(), doc_str(f->o.record->spec, "items.key", "key"), key);
}

static doc *line_of(const struct failed *f, const char *key, const doc *payload)
{
    if (doc_type(payload) == DOC_OBJECT)
        return doc_copy(payload);
    doc *d = only_key(f, key);
    if (payload != NULL && doc_type(payload) != DOC_NULL)
        doc_set(d, "payload", doc_copy(payload));
    return d;
}

/* --- from `dead` --------------------------------------------------------------------------------------------------------------------------------- */

/* An entry that was too large for its payload says so: the queue still has that. */
static void take_entry(struct failed *f, const doc *entry)
{
    int64_t item = doc_int(entry, "item", -1);
    if (strcmp(doc_str(entry, "run", ""), f->o.record->run) != 0 || !is_wanted(f, item) || doc_bool(entry, "payload_left_out", false))
        return;
    put(f, item, line_of(f, doc_str(entry, "key", ""), doc_get(entry, "payload")),
        about(f, item, doc_str(entry, "text", ""), doc_str(entry, "reason", ""), doc_int(entry, "attempts", 0), doc_int(entry, "time_ms", 0)));
}

static void on_message(void *arg, const struct bus_msg *m)
{
    struct failed *f = arg;
    size_t run = strlen(f->o.record->run);
    if (m->value == NULL || m->key_len < run || memcmp(m->key, f->o.record->run, run) != 0)
        return;
    struct error err = ERROR_INIT;
    AUTO(doc_free_auto) doc *entry = doc_parse(m->value, m->value_len, "an entry of the dead topic", &err);
    if (entry != NULL)
        take_entry(f, entry);
    else
        log_debug("%s", err.text);
}

static void read_work(struct failed *f);

static void stop_reading(struct failed *f)
{
    if (f->follow)
        bus_follow_stop(f->follow);
    f->follow = NULL;
    then(f, read_work);
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
    bus_follow_stop(f->follow);
    f->follow = NULL;
    log_warn("the failed items' entries in dead cannot be read: %s", err->text);
    then(f, read_work);
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
        f->follow = bus_follow(f->world.bus, topic, f->o.record->dead_partition, i64_max(low, f->o.record->dead_offset), &follow, f, &why);
    if (f->follow == NULL) {
        log_warn("the failed items' entries in dead cannot be read: %s", why.text);
        then(f, read_work);
    }
}

static void read_dead(struct failed *f)
{
    char topic[TOPIC_SIZE];
    topic_dead(topic, f->world.prefix);
    f->ticket = ticket_new(f->o.outbox, f);
    bus_watermarks(f->world.bus, topic, f->o.record->dead_partition, on_marks, f->ticket);
}

/* --- from the queue ------------------------------------------------------------------------------------------------------------------------------- */

static void put_the_rest(struct failed *f);

static void on_work(void *arg, const struct envelope *e)
{
    struct failed *f = arg;
    const struct fold_failure *known;
    if (!is_wanted(f, e->item))
        return;
    AUTO(doc_free_auto) doc *payload = e->payload_len > 0 ? doc_parse(e->payload, e->payload_len, "payload", NULL) : NULL;
    AUTO(free_ptr) char *key = xstrndup(e->key, e->key_len);
    if (payload == NULL && e->payload_len > 0)
        payload = doc_stringn(e->payload, e->payload_len);
    put(f, e->item, line_of(f, key, payload), about_known(f, e->item, &known));
    if (all_given(f)) {
        work_read_pause(f->work);
        then(f, put_the_rest);
    }
}

static void on_work_done(void *arg, const struct error *err)
{
    struct failed *f = arg;
    if (err != NULL)
        log_warn("the failed items' payloads cannot be read from the queue: %s", err->text);
    then(f, put_the_rest);
}

static void read_work(struct failed *f)
{
    static const struct work_read_events events = {.item = on_work, .done = on_work_done};
    if (all_given(f))
        then(f, put_the_rest);
    else
        f->work = work_read_start(&f->world, f->o.outbox, f->o.record, f->o.fold, &events, f);
}

/* --- the end -------------------------------------------------------------------------------------------------------------------------------------- */

static int close_file(struct failed *f, struct error *err)
{
    bool bad = ferror(f->file) != 0;
    errno = 0;
    bad = fclose(f->file) != 0 || bad;
    f->file = NULL;
    bad = bad || (f->part && rename(f->part, f->path) != 0);
    if (bad)
        return error_set(err, ERR_FATAL, errno, "%s cannot be written: %s", f->path, errno ? strerror(errno) : "some of it was lost");
    return 0;
}

static void finish(struct failed *f)
{
    if (f->file != NULL)
        close_file(f, &f->error);
    struct error err = f->error;
    f->o.done(f->o.arg, f->given.count, err.kind == ERR_NONE ? NULL : &err);
}

static void put_the_rest(struct failed *f)
{
    struct known *k, *tmp;
    HASH_ITER(hh, f->known, k, tmp)
        if (is_wanted(f, k->item)) {
            const struct fold_failure *failure;
            put(f, k->item, only_key(f, k->failure->key), about_known(f, k->item, &failure));
        }
    if (!all_given(f))
        log_warn("%" PRId64 " more failed items are left out: their entries in dead are gone, and their messages from the queue", f->wanted - f->given.count);
    finish(f);
}

/* A plain file, or a new one, is replaced when it is whole. A device or a pipe is written to, and never replaced by a file. */
static void open_file(struct failed *f)
{
    struct stat st;
    if (stat(f->path, &st) != 0 || S_ISREG(st.st_mode))
        f->part = xasprintf("%s.part", f->path);
    f->file = fopen(f->part ? f->part : f->path, "we");
    if (f->file == NULL)
        error_set(&f->error, ERR_FATAL, errno, "%s cannot be written: %s", f->path, strerror(errno));
    then(f, f->file == NULL || f->wanted == 0 ? finish : read_dead);
}

int failed_check(const char *path, struct error *err)
{
    struct stat st;
    int rc;
    if (path[0] == '\0') {
        errno = ENOENT;
        rc = -1;
    } else if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
        errno = EISDIR;
        rc = -1;
    } else if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) {
        rc = access(path, W_OK);
    } else { /* the file is written beside its name, then renamed */
        const char *slash = strrchr(path, '/');
        AUTO(free_ptr) char *folder = slash == NULL ? xstrdup(".") : slash == path ? xstrdup("/") : xstrndup(path, (size_t)(slash - path));
        rc = access(folder, W_OK | X_OK);
    }
    return rc == 0 ? 0 : error_set(err, ERR_USAGE, errno, "--failed: %s cannot be written: %s", path[0] != '\0' ? path : "\"\"", strerror(errno));
}

struct failed *failed_start(const struct failed_options *o)
{
    struct failed *f = xcalloc(1, sizeof(*f));
    *f = (struct failed){.o = *o, .world = *o->world};
    f->wanted = o->only ? o->only->count : o->fold->failed;
    f->timer = timer_new(f->world.loop, on_timer, f);
    for (size_t i = 0; i < o->fold->failure_count; i++) {
        struct known *k = xcalloc(1, sizeof(*k));
        k->item = o->fold->failures[i].item;
        k->failure = &o->fold->failures[i];
        HASH_ADD(hh, f->known, item, sizeof(k->item), k);
    }
    if (o->line != NULL) {
        then(f, f->wanted == 0 ? finish : read_dead);
        return f;
    }
    f->path = xstrdup(o->path);
    open_file(f);
    return f;
}

void failed_stop(struct failed *f)
{
    if (f == NULL)
        return;
    if (f->follow)
        bus_follow_stop(f->follow);
    work_read_free(f->work);
    ticket_forget(f->ticket);
    timer_free(f->timer);
    if (f->file)
        fclose(f->file);
    struct known *k, *tmp;
    HASH_ITER(hh, f->known, k, tmp) {
        HASH_DEL(f->known, k);
        free(k);
    }
    itemset_free(&f->given);
    free(f->path);
    free(f->part);
    free(f);
}
