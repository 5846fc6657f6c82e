#include "common/bq/permits_set.h"

#include <sys/queue.h>

struct entry {
    SLIST_ENTRY(entry) link;
    struct bq_ref table;
    struct bq *bq;
    struct permits *permits;
};

struct permits_set {
    struct bq *bq;
    struct rnd *rnd;
    char *holder;
    int64_t lease_ms;
    SLIST_HEAD(, entry) entries;
};

struct permits_set *permits_set_new(struct bq *bq, struct rnd *rnd, const char *holder, int64_t lease_ms)
{
    struct permits_set *s = xcalloc(1, sizeof(*s));
    *s = (struct permits_set){.bq = bq, .rnd = rnd, .holder = xstrdup(holder), .lease_ms = lease_ms};
    return s;
}

void permits_set_free(struct permits_set *s)
{
    struct entry *e;
    if (s == NULL)
        return;
    while ((e = SLIST_FIRST(&s->entries)) != NULL) {
        SLIST_REMOVE_HEAD(&s->entries, link);
        permits_free(e->permits);
        bq_free(e->bq);
        free(e);
    }
    free(s->holder);
    free(s);
}

struct permits *permits_set_get(struct permits_set *s, const struct bq_ref *table, const char *project, const char *location, int slots)
{
    struct entry *e;
    SLIST_FOREACH(e, &s->entries, link) {
        if (bq_ref_equal(&e->table, table)) {
            permits_widen(e->permits, slots);
            return e->permits;
        }
    }
    e = xcalloc(1, sizeof(*e));
    e->table = *table;
    e->bq = bq_new_for(s->bq, project);
    e->permits = permits_new(&(struct permits_options){.bq = e->bq, .rnd = s->rnd, .table = *table, .location = location, .holder = s->holder,
                                                       .slots = slots, .lease_ms = s->lease_ms});
    SLIST_INSERT_HEAD(&s->entries, e, link);
    return e->permits;
}

bool permits_set_given_back(void *set)
{
    const struct permits_set *s = set;
    const struct entry *e;
    if (s == NULL)
        return true;
    SLIST_FOREACH(e, &s->entries, link)
        if (!permits_given_back(e->permits))
            return false;
    return true;
}
