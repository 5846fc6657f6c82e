#include "coordinator/cleanup.h"

#include <uthash.h>

#include "common/base/log.h"
#include "common/bq/table.h"

enum { AT_ONCE = 8 }; /* deletions in flight */

struct victim { struct cleanup *owner; char name[128]; struct bq_call *call; bool done; UT_hash_handle hh; };

struct cleanup {
    struct world world;
    const struct record *record;
    char prefix[128];
    struct victim *victims;  /* by name */
    struct victim *next;     /* not yet asked for */
    struct bq_call *list;
    struct timer *timer;
    int running, dropped, failed;
    void (*done)(void *, int);
    void *arg;
};

static void add(struct cleanup *c, const char *name)
{
    struct victim *v;
    HASH_FIND_STR(c->victims, name, v);
    if (v != NULL || strlen(name) >= sizeof(v->name))
        return;
    v = xcalloc(1, sizeof(*v));
    v->owner = c;
    snprintf(v->name, sizeof(v->name), "%s", name);
    HASH_ADD_STR(c->victims, name, v);
}

static void drop_more(struct cleanup *c);

static void on_deleted(void *arg, const struct bq_answer *a)
{
    struct victim *v = arg;
    struct cleanup *c = v->owner;
    v->call = NULL;
    c->running--;
    if (a->err == NULL) {
        c->dropped++;
    } else {
        if (c->failed++ == 0)
            log_line(LOG_WARN, &(struct log_ctx){.run = c->record->run}, "staging table %s was not dropped (it expires by itself): %s", v->name,
                     a->err->text);
    }
    drop_more(c);
}

static void finish(void *arg)
{
    struct cleanup *c = arg;
    log_debug("run %s: %d staging tables dropped, %d left to expire", c->record->run, c->dropped, c->failed);
    c->done(c->arg, c->dropped);
}

static void drop_more(struct cleanup *c)
{
    for (; c->next != NULL && c->running < AT_ONCE; c->next = c->next->hh.next) {
        struct bq_ref ref;
        record_shard_ref(c->record, "", &ref);
        memcpy(ref.table, c->next->name, sizeof(c->next->name));
        c->running++;
        c->next->call = bq_table_delete(c->world.bq, &ref, on_deleted, c->next);
    }
    if (c->running == 0 && c->next == NULL)
        timer_set(c->timer, 0);
}

static void on_list(void *arg, const struct bq_answer *a)
{
    struct cleanup *c = arg;
    c->list = NULL;
    if (a->err != NULL)
        log_debug("run %s: its staging tables could not be listed: %s", c->record->run, a->err->text);
    size_t prefix = strlen(c->prefix);
    for (size_t i = 0; a->err == NULL && i < doc_len(a->doc); i++) {
        const doc *table = doc_at(a->doc, i);
        const char *name = doc_str(table, "id", "");
        /* Just an incarnation behind it: the shards of run day_2 begin like those of run day. */
        if (strncmp(name, c->prefix, prefix) == 0 && strlen(name) == prefix + INCARNATION_LEN &&
            record_owns_labels(c->record, doc_get(table, "labels")))
            add(c, name);
    }
    c->next = c->victims;
    drop_more(c);
}

struct cleanup *cleanup_start(const struct world *world, const struct record *r, const struct fold *f, void (*done)(void *, int), void *arg)
{
    struct cleanup *c = xcalloc(1, sizeof(*c));
    *c = (struct cleanup){.world = *world, .record = r, .done = done, .arg = arg};
    c->timer = timer_new(world->loop, finish, c);
    if (!r->has_target || world->bq == NULL) {
        timer_set(c->timer, 0);
        return c;
    }
    shard_table(c->prefix, r->run, "");
    for (size_t i = 0; i < f->shard_count; i++) {
        char name[128];
        shard_table(name, r->run, f->shards[i].incarnation);
        add(c, name);
    }
    c->list = bq_table_list(world->bq, r->staging_project, r->staging_dataset, c->prefix, on_list, c);
    return c;
}

void cleanup_stop(struct cleanup *c)
{
    if (c == NULL)
        return;
    bq_call_cancel(c->list);
    struct victim *v, *tmp;
    HASH_ITER(hh, c->victims, v, tmp) {
        HASH_DEL(c->victims, v);
        bq_call_cancel(v->call);
        free(v);
    }
    timer_free(c->timer);
    free(c);
}
