#include "common/fleet/catalog.h"

#include <uthash.h>

#include "common/base/log.h"

struct entry {
    struct catalog_run pub; /* first: entries are given out as this */
    char *key;              /* of its record */
    bool known;             /* has a record */
    UT_hash_handle hh;
};

struct catalog {
    struct entry *runs;     /* by run id, in the order they were first heard of */
    size_t skipped;
};

struct catalog *catalog_new(void)
{
    return xcalloc(1, sizeof(struct catalog));
}

static void entry_free(struct entry *e)
{
    record_free(e->pub.record);
    doc_free(e->pub.end);
    free(e->key);
    free(e);
}

void catalog_free(struct catalog *c)
{
    if (c == NULL)
        return;
    struct entry *e, *tmp;
    HASH_ITER(hh, c->runs, e, tmp) {
        HASH_DEL(c->runs, e);
        entry_free(e);
    }
    free(c);
}

static struct entry *find(struct catalog *c, const char *run, size_t len)
{
    struct entry *e;
    HASH_FIND(hh, c->runs, run, len, e);
    return e;
}

static struct entry *find_or_add(struct catalog *c, const char *run, size_t len)
{
    struct entry *e = find(c, run, len);
    if (e == NULL && len < sizeof(e->pub.run)) {
        e = xcalloc(1, sizeof(*e));
        memcpy(e->pub.run, run, len);
        HASH_ADD_KEYPTR(hh, c->runs, e->pub.run, len, e);
    }
    return e;
}

static struct catalog_run *shown(struct entry *e)
{
    return e != NULL && e->known ? &e->pub : NULL;
}

struct catalog_run *catalog_find_n(struct catalog *c, const char *run, size_t len)
{
    return shown(find(c, run, len));
}

struct catalog_run *catalog_find(struct catalog *c, const char *run)
{
    return catalog_find_n(c, run, strlen(run));
}

static bool open_as(const struct entry *e, const char *batch)
{
    return e->known && e->pub.standing == STANDING_OPEN && strcmp(e->pub.record->batch, batch) == 0;
}

/* The newest of those that are open and lie before `below`. */
static struct catalog_run *newest_open(struct catalog *c, const char *batch, int64_t below)
{
    struct catalog_run *last = NULL;
    for (struct entry *e = c->runs; e != NULL; e = e->hh.next)
        if (open_as(e, batch) && e->pub.offset < below && (last == NULL || e->pub.offset > last->offset))
            last = &e->pub;
    return last;
}

struct catalog_run *catalog_open_of(struct catalog *c, const char *batch)
{
    return newest_open(c, batch, INT64_MAX);
}

struct catalog_run *catalog_open_before(struct catalog *c, const struct catalog_run *run)
{
    return newest_open(c, run->record->batch, run->offset);
}

bool catalog_older_open(struct catalog *c, const struct record *r)
{
    const struct catalog_run *own = r->replaces[0] ? catalog_find(c, r->run) : NULL;
    const struct catalog_run *older = r->replaces[0] ? catalog_find(c, r->replaces) : NULL;
    return (older != NULL && older->standing == STANDING_OPEN) || (own != NULL && catalog_open_before(c, own) != NULL);
}

struct catalog_run *catalog_heir_of(struct catalog *c, const char *run)
{
    struct catalog_run *heir = NULL;
    for (struct entry *e = c->runs; e != NULL; e = e->hh.next)
        if (e->known && e->pub.standing == STANDING_OPEN && strcmp(e->pub.record->adopts, run) == 0 && (heir == NULL || e->pub.offset > heir->offset))
            heir = &e->pub;
    return heir;
}

static bool open_or_written(const struct catalog_run *r)
{
    return r->standing == STANDING_OPEN || (r->standing == STANDING_ENDED && doc_int(r->end, "exit", EXIT_UNFINISHED) == EXIT_WRITTEN);
}

struct catalog_run *catalog_redriver_of(struct catalog *c, const char *run)
{
    struct catalog_run *last = NULL;
    for (struct entry *e = c->runs; e != NULL; e = e->hh.next)
        if (e->known && open_or_written(&e->pub) && strcmp(e->pub.record->redrives, run) == 0 && (last == NULL || e->pub.offset > last->offset))
            last = &e->pub;
    return last;
}

struct catalog_run *catalog_last_of(struct catalog *c, const char *batch)
{
    struct catalog_run *last = NULL;
    for (struct entry *e = c->runs; e != NULL; e = e->hh.next)
        if (e->known && e->pub.standing != STANDING_VOID && strcmp(e->pub.record->batch, batch) == 0 &&
            (last == NULL || e->pub.offset > last->offset))
            last = &e->pub;
    return last;
}

struct catalog_run *catalog_next(struct catalog *c, const struct catalog_run *it)
{
    const struct entry *at = (const struct entry *)(const void *)it;
    struct entry *e = at ? at->hh.next : c->runs;
    while (e != NULL && !e->known)
        e = e->hh.next;
    return shown(e);
}

size_t catalog_count(const struct catalog *c)
{
    size_t n = 0;
    for (const struct entry *e = c->runs; e != NULL; e = e->hh.next)
        n += e->known;
    return n;
}

static bool withdrawn(const struct entry *e)
{
    return strcmp(doc_str(e->pub.end, "end", ""), "withdrawn") == 0;
}

/* Whether o has the name that e wants. */
static bool in_the_way(const struct entry *o, const struct entry *e)
{
    const struct record *r = e->pub.record;
    if (o == e || !o->known || o->pub.standing == STANDING_VOID || o->pub.offset > e->pub.offset || strcmp(o->pub.record->batch, r->batch) != 0)
        return false;
    if (r->batches_seen > 0)
        return o->pub.offset >= r->batches_seen;
    return o->pub.standing == STANDING_OPEN && strcmp(r->replaces, o->pub.run) != 0 && strcmp(r->adopts, o->pub.run) != 0;
}

/* The first record of a name wins it, here and in every other reader. */
static void judge(struct catalog *c, struct entry *e)
{
    struct catalog_run *p = &e->pub;
    p->standing = p->end ? STANDING_ENDED : STANDING_OPEN;
    const char *because = withdrawn(e) ? doc_str(p->end, "because", "") : NULL;
    for (struct entry *o = c->runs; o != NULL && because == NULL; o = o->hh.next)
        if (in_the_way(o, e))
            because = o->pub.run;
    if (because == NULL)
        return;
    p->standing = STANDING_VOID;
    snprintf(p->void_because, sizeof(p->void_because), "%s", because);
}

/* A run that turned out to be withdrawn is in nobody's way. */
static void judge_again(struct catalog *c, const struct entry *gone)
{
    for (struct entry *e = c->runs; e != NULL; e = e->hh.next)
        if (e != gone && e->known && e->pub.standing == STANDING_VOID && strcmp(e->pub.void_because, gone->pub.run) == 0)
            judge(c, e);
}

static struct catalog_run *apply_record(struct catalog *c, const char *run, size_t run_len, const char *key, const void *value, size_t len, int64_t offset)
{
    struct entry *e = find_or_add(c, run, run_len);
    if (e == NULL)
        return NULL;
    if (value == NULL) {
        if (e->key == NULL || strcmp(e->key, key) != 0)
            return NULL; /* a second record of that id, or one long gone */
        HASH_DEL(c->runs, e);
        entry_free(e);
        return NULL;
    }
    if (e->known)
        return &e->pub;
    struct error err = ERROR_INIT;
    struct record *r = record_parse(value, len, &err);
    if (r == NULL || strncmp(r->run, run, run_len) != 0 || strlen(r->run) != run_len) {
        log_warn("a run's record (%s) is skipped: %s", key, r ? "it names another run" : err.text);
        record_free(r);
        c->skipped++;
        return NULL;
    }
    e->pub.record = r;
    e->pub.offset = offset;
    e->key = xstrdup(key);
    e->known = true;
    judge(c, e); /* an end that was read before the record (compaction keeps only the last of each key) closes it all the same */
    return &e->pub;
}

static struct catalog_run *apply_state(struct catalog *c, const char *run, const doc *d)
{
    struct entry *e = find_or_add(c, run, strlen(run));
    if (e == NULL)
        return NULL;
    e->pub.paused = doc_bool(d, "paused", false);
    e->pub.parallel = doc_int(d, "parallel", 0);
    e->pub.over = doc_bool(d, "over", false);
    return shown(e);
}

static struct catalog_run *apply_end(struct catalog *c, const char *run, doc *d)
{
    struct entry *e = find_or_add(c, run, strlen(run));
    if (e == NULL || e->pub.end != NULL)
        return shown(e);
    e->pub.end = doc_ref(d);
    if (e->known && withdrawn(e)) {
        judge(c, e);
        judge_again(c, e);
    } else if (e->known && e->pub.standing == STANDING_OPEN) {
        e->pub.standing = STANDING_ENDED;
    }
    return shown(e);
}

struct catalog_run *catalog_apply(struct catalog *c, const void *key, size_t key_len, const void *value, size_t value_len, int64_t offset)
{
    AUTO(free_ptr) char *k = xstrndup(key_len ? key : "", key_len);
    if (strncmp(k, "run/", 4) == 0) {
        const char *run = k + 4, *slash = strchr(run, '/');
        return slash ? apply_record(c, run, (size_t)(slash - run), k, value, value_len, offset) : NULL;
    }
    bool state = strncmp(k, "state/", 6) == 0, end = strncmp(k, "end/", 4) == 0;
    if ((!state && !end) || value == NULL)
        return NULL;
    struct error err = ERROR_INIT;
    AUTO(doc_free_auto) doc *d = doc_parse(value, value_len, k, &err);
    if (d == NULL) {
        log_warn("a message of the batches topic is skipped: %s", err.text);
        c->skipped++;
        return NULL;
    }
    return state ? apply_state(c, k + 6, d) : apply_end(c, k + 4, d);
}

char *catalog_record_key(const struct record *r)
{
    return xasprintf("run/%s/%s", r->run, r->nonce);
}

char *catalog_state_key(const char *run)
{
    return xasprintf("state/%s", run);
}

char *catalog_end_key(const char *run)
{
    return xasprintf("end/%s", run);
}

/* A run whose end leaves nothing of it to be worked on, while its end is not in `batches` because a cut's outcome is still to come. Once it is settled, the end
 * says it. */
static bool is_over(const struct fold *f)
{
    return f->phase == RUN_ENDED && f->end != END_COMPLETE && f->end != END_ACCEPTED && f->end != END_ADOPTED;
}

doc *catalog_state_value(const struct fold *f)
{
    doc *d = doc_object();
    doc_set_bool(d, "paused", f->paused);
    doc_set_bool(d, "over", is_over(f));
    return doc_set_int(d, "parallel", f->parallel);
}

bool catalog_state_is(const struct catalog_run *known, const struct fold *f)
{
    bool over = is_over(f) && !fold_settled(f);
    return known->paused == f->paused && known->parallel == f->parallel && (known->over || !over);
}

doc *catalog_end_value(const struct fold *f, int64_t time_ms)
{
    int64_t inserted = 0, updated = 0, deleted = 0;
    for (size_t i = 0; i < f->cut_count; i++) {
        inserted += f->cuts[i].inserted;
        updated += f->cuts[i].updated;
        deleted += f->cuts[i].deleted;
    }
    doc *d = doc_object();
    doc_set_str(d, "end", run_end_name(f->end));
    doc_set_int(d, "exit", fold_exit_code(f));
    doc_set_str(d, "text", f->end_text);
    doc_set_int(d, "offset", f->end_offset);
    doc_set_int(d, "time_ms", time_ms);
    doc_set_int(d, "items", f->items);
    doc_set_int(d, "done", f->done);
    doc_set_int(d, "failed", f->failed);
    doc_set_int(d, "inserted", inserted);
    doc_set_int(d, "updated", updated);
    return doc_set_int(d, "deleted", deleted);
}

doc *catalog_withdrawn_value(const char *because_run, int64_t time_ms)
{
    doc *d = doc_object();
    doc_set_str(d, "end", "withdrawn");
    doc_set_int(d, "exit", EXIT_ENDED);
    doc_set_str(d, "because", because_run);
    return doc_set_int(d, "time_ms", time_ms);
}
