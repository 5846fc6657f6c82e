#include "tests/bq/internal.h"

/*
 * Limits over time, by the name of a table (to drop it and make it anew does not help). BigQuery's pages name the numbers; that a window slides, and
 * that what was refused does not count, is ours. A failed load counts.
 */

#define TEN_S_MS INT64_C(10000)
#define DAY_MS INT64_C(86400000)
#define HOUR_MS INT64_C(3600000)
#define PARTITIONED 10 /* times as many updates of a table with partitions */

struct window { int64_t *at_ms; size_t count; };
struct usage {
    UT_hash_handle hh;
    char *name;
    struct window dml, updates, loads, inserts;
};

void bqmodel_documented_limits(struct bqmodel_options *o)
{
    o->dml_per_10s = 25;
    o->updates_per_10s = 5;
    o->loads_per_day = 1500;
    o->project_loads_per_day = 100000;
    o->inserts_per_day = 1500;
    o->inserts_at_once = 10;
    o->inserts_queued = 100;
    o->requests_most = 300;
}

static struct usage *usage_of_name(struct bqmodel *m, const char *name)
{
    struct usage *u = NULL;
    HASH_FIND_STR(m->usage, name, u);
    if (u == NULL) {
        u = xcalloc(1, sizeof(*u));
        u->name = xstrdup(name);
        HASH_ADD_KEYPTR(hh, m->usage, u->name, strlen(u->name), u);
    }
    return u;
}

static struct usage *usage_of(struct bqmodel *m, const struct bq_ref *table)
{
    char name[640];
    return usage_of_name(m, bq_ref_text(table, name, sizeof(name)));
}

void usage_free(struct bqmodel *m)
{
    struct usage *u, *next;
    HASH_ITER(hh, m->usage, u, next)
    {
        HASH_DEL(m->usage, u);
        free(u->name);
        free(u->dml.at_ms);
        free(u->updates.at_ms);
        free(u->loads.at_ms);
        free(u->inserts.at_ms);
        free(u);
    }
}

/* Counts one more, unless there are `most` within the time; most 0: without limit. */
static bool one_more(struct bqmodel *m, struct window *w, int64_t most, int64_t span_ms)
{
    int64_t now = loop_now_ms(m->loop);
    size_t old = 0;
    while (old < w->count && now - w->at_ms[old] >= span_ms)
        old++;
    w->count -= old;
    if (old > 0)
        memmove(w->at_ms, w->at_ms + old, w->count * sizeof(*w->at_ms));
    if (most > 0 && (int64_t)w->count >= most)
        return false;
    w->at_ms = xreallocarray(w->at_ms, w->count + 1, sizeof(*w->at_ms));
    w->at_ms[w->count++] = now;
    return true;
}

static int64_t weekday(int64_t day) /* 0: Sunday */
{
    return ((day + 4) % 7 + 7) % 7;
}

/* Eight hours behind UTC, seven from the second Sunday of March to the first of November, at two o'clock there. */
int64_t california_day(int64_t wall_ms)
{
    int64_t day = wall_ms / DAY_MS, year = 1970, first = 0;
    for (int64_t length = 365; first + length <= day; length = 365 + (year % 4 == 0 && (year % 100 != 0 || year % 400 == 0))) {
        first += length;
        year++;
    }
    int64_t leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    int64_t march = first + 59 + leap, november = first + 304 + leap;
    int64_t begins = (march + (7 - weekday(march)) % 7 + 7) * DAY_MS + 10 * HOUR_MS, ends = (november + (7 - weekday(november)) % 7) * DAY_MS + 9 * HOUR_MS;
    return (wall_ms - (wall_ms >= begins && wall_ms < ends ? 7 : 8) * HOUR_MS) / DAY_MS;
}

/* The same for a day. */
static bool one_more_today(struct bqmodel *m, struct window *w, int64_t most)
{
    int64_t ahead_ms = loop_wall_ms(m->loop) - loop_now_ms(m->loop);
    if (m->o.calendar_days && w->count > 0 && california_day(w->at_ms[w->count - 1] + ahead_ms) != california_day(loop_wall_ms(m->loop)))
        w->count = 0;
    return one_more(m, w, most, m->o.calendar_days ? 2 * DAY_MS : DAY_MS);
}

static bool refused(struct bqmodel *m, struct error *err, const char *reason, const char *text)
{
    m->counters.limited++;
    error_set(err, ERR_TASK, 403, "%s", text);
    error_reason(err, reason);
    return false;
}

bool limit_dml(struct bqmodel *m, const struct bq_ref *table, struct error *err)
{
    return m->o.dml_per_10s == 0 || one_more(m, &usage_of(m, table)->dml, m->o.dml_per_10s, TEN_S_MS) ||
           refused(m, err, "rateLimitExceeded", "Exceeded rate limits: too many table dml insert operations for this table");
}

bool limit_load(struct bqmodel *m, const struct bq_ref *table, struct error *err)
{
    return m->o.loads_per_day == 0 || one_more_today(m, &usage_of(m, table)->loads, m->o.loads_per_day) ||
           refused(m, err, "quotaExceeded", "Quota exceeded: Your table exceeded quota for imports or query appends per table.");
}

bool limit_project_loads(struct bqmodel *m, const char *project, struct error *err)
{
    return m->o.project_loads_per_day == 0 || one_more_today(m, &usage_of_name(m, project)->loads, m->o.project_loads_per_day) ||
           refused(m, err, "quotaExceeded", "Quota exceeded: Your project exceeded quota for imports per project.");
}

bool limit_insert(struct bqmodel *m, const struct bq_ref *table)
{
    return m->o.inserts_per_day > 0 && !one_more_today(m, &usage_of(m, table)->inserts, m->o.inserts_per_day);
}

bool limit_outstanding(struct bqmodel *m, struct error *err)
{
    return refused(m, err, "quotaExceeded", "Quota exceeded: Your table exceeded quota for total number of DML jobs writing to a table, pending + running.");
}

void bqmodel_wall(struct bqmodel *m, enum bqmodel_wall of, int64_t from_us, int64_t until_us)
{
    m->wall.of = (int)of;
    m->wall.from_us = from_us;
    m->wall.until_us = until_us;
}

bool limit_wall(struct bqmodel *m, bool load, struct error *err)
{
    int64_t now = loop_now_us(m->loop);
    if ((m->wall.of & (load ? BQMODEL_WALL_LOADS : BQMODEL_WALL_QUERIES)) == 0 || now < m->wall.from_us || now >= m->wall.until_us)
        return true;
    return refused(m, err, "quotaExceeded", load ? "Quota exceeded: Your project exceeded quota for imports per project."
                                                 : "Quota exceeded: Your project exceeded quota for free query bytes scanned.");
}

bool limit_update(struct bqmodel *m, const struct bq_ref *table, bool by_dml, struct error *err)
{
    if (m->o.updates_per_10s == 0)
        return true;
    const struct mtable *t = model_table(m, table);
    bool partitioned = t && (doc_get(t->body, "timePartitioning") || doc_get(t->body, "rangePartitioning"));
    int64_t most = by_dml ? 0 : m->o.updates_per_10s * (partitioned ? PARTITIONED : 1);
    return one_more(m, &usage_of(m, table)->updates, most, TEN_S_MS) ||
           refused(m, err, "rateLimitExceeded", "Exceeded rate limits: too many table update operations for this table");
}

/* The reason is documented, the text is not. */
bool limit_requests(struct exchange *x)
{
    struct bqmodel *m = x->model;
    if (m->o.requests_most == 0 || m->requests_now <= m->o.requests_most)
        return true;
    m->counters.limited++;
    reply_error(x, 403, "rateLimitExceeded", "Exceeded rate limits: too many concurrent requests");
    return false;
}
