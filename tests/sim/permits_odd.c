#include "tests/sim/service_odd.h"

#include "tests/bq/internal.h"

/*
 * A person at the table of a target's permits. What must not break them, argued: rows of slots that nobody uses are nobody's; a row that is free may say whatever
 * it likes of its last job and of its end, since it is free by its empty holder; a copy of a free row has its token, so that whatever changes one changes the other.
 * All of it while no statement is at work on the table, which would otherwise write what it has read before. A table is dropped only while nothing is at work on its
 * target: a statement that has begun would know nothing of those who take a permit of the next table.
 */

static struct rnd *dice;

static size_t below(size_t n)
{
    return (size_t)rnd_below(dice, n);
}

static bool is_at_work(struct sim *s, const struct bq_ref *table)
{
    const struct mjob *j;
    TAILQ_FOREACH(j, &s->model->active, active)
        if (bq_ref_equal(&j->target, table))
            return true;
    return false;
}

#define HUNDRED "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define VERY_LONG "local/US/" HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED "eighty-characters-more-eighty-characters-more-eighty-characters-more-eighty-char" /* no other fits beside it */
enum { SLOT, HOLDER, TOKEN, EXPIRES, JOB, PURPOSE, COLUMNS };

static const char *text(const struct mtable *t, size_t row, size_t column)
{
    const char *value = t->rows[row]->cells[column].text;
    return value ? value : "";
}

/* Of one whose last job is still at work the purpose is there. */
static bool is_free(const struct mtable *t, size_t row)
{
    return text(t, row, HOLDER)[0] == '\0' && text(t, row, PURPOSE)[0] == '\0';
}

/* All rows of a slot: SIZE_MAX if one of them is not free. Else one of them. */
static size_t free_row(const struct mtable *t, const char *slot)
{
    size_t found = SIZE_MAX;
    for (size_t i = 0; i < t->count; i++) {
        if (strcmp(text(t, i, SLOT), slot) != 0)
            continue;
        if (!is_free(t, i))
            return SIZE_MAX;
        found = i;
    }
    return found;
}

static void set(struct cell *c, const char *value)
{
    *c = (struct cell){value, value ? strlen(value) : 0};
}

/* What a person's UPDATE of a slot does. */
static void change(struct mtable *t, const char *slot, const char *job, const char *expires)
{
    AUTO(free_ptr) char *of = xstrdup(slot);
    for (size_t i = 0; i < t->count; i++) {
        if (strcmp(text(t, i, SLOT), of) != 0)
            continue;
        struct row *old = t->rows[i];
        AUTO(free_ptr) struct cell *cells = xmemdup(old->cells, old->count * sizeof(*cells));
        set(&cells[JOB], job);
        set(&cells[EXPIRES], expires);
        t->rows[i] = row_new(cells, old->count);
        free(old);
    }
    t->version++;
    t->mutations++;
}

static void change_free(struct sim *s, struct mtable *t, const char *slot)
{
    static const char *const jobs[] = {"", "nonsense", VERY_LONG, "a/b", "other-project/US/bqfleet_cut_run-1_0", "local//bqfleet_cut_run-9_9", "other/EU/x local/US/y", "nonsense other/US/z local/US/a",
                                       "a-project-whose-name-is-longer-than-any-can-be-" HUNDRED HUNDRED "/US/x",
                                       "local/a-location-that-is-longer-than-any-can-be-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/x"};
    char until[32];
    int64_t now_us = loop_wall_us(s->loop);
    const char *job = jobs[below(ARRAY_LEN(jobs))];
    snprintf(until, sizeof(until), "%" PRId64, below(2) ? now_us - (int64_t)below(60) * US_PER_S : now_us + (int64_t)below(40) * US_PER_S);
    const char *expires = below(4) == 0 && job[0] == '\0' ? NULL : until;
    sim_did(s, DEED_MEDDLE, "somebody", "writes job \"%.60s\", expires %s into slot %s of %s", job, expires ? expires : "NULL", slot, t->ref.table);
    change(t, slot, job, expires);
}

static void copy(struct mtable *t, size_t row)
{
    const struct row *old = t->rows[row];
    mtable_append(t, row_new(old->cells, old->count));
    t->version++;
}

static bool has_slot(const struct mtable *t, const char *slot)
{
    for (size_t i = 0; i < t->count; i++)
        if (strcmp(text(t, i, SLOT), slot) == 0)
            return true;
    return false;
}

/* Of slots that nobody uses, here; so many that no answer has room for all of them, now and then: behind all those that are used, which nobody would see any more. */
static void add_nonsense(struct sim *s, struct mtable *t)
{
    static const char *const rows[] = {
        "{\"slot\":-3,\"holder\":\"x\",\"token\":\"t\",\"expires\":null,\"job\":null,\"purpose\":null}", "{\"slot\":5000,\"holder\":null,\"token\":null,\"expires\":null}",
        "{\"slot\":63,\"holder\":\"\",\"token\":\"spam\",\"expires\":\"2020-01-01T00:00:00Z\",\"job\":\"x\",\"purpose\":\"y (waited nothing\"}",
        "{\"slot\":7,\"holder\":\"me\",\"token\":\"mine\",\"expires\":\"2300-01-01T00:00:00Z\",\"job\":\"\",\"purpose\":\"(waited -5 s)\"}"};
    struct error err = ERROR_INIT;
    size_t at = below(ARRAY_LEN(rows)), count = at == 2 && t->count < 10 && has_slot(t, "0") && has_slot(t, "1") ? PERMIT_SLOTS_MAX : 1;
    if (t->count > PERMIT_SLOTS_MAX + 10)
        return;
    sim_did(s, DEED_MEDDLE, "somebody", "adds %zu rows %s to %s", count, rows[at], t->ref.table);
    AUTO(doc_free_auto) doc *row = doc_parse(rows[at], strlen(rows[at]), "row", &err);
    for (size_t i = 0; i < count; i++)
        mtable_append(t, row_read(t->schema, row, false, &err));
    t->version++;
}

void permits_odd_strikes(struct sim *s, struct rnd *rnd, const char *target, bool *dropped)
{
    char slot[8];
    struct bq_ref of = model_ref(s->model, target), ref;
    dice = rnd;
    permits_table(&of, &ref);
    struct mtable *t = model_table(s->model, &ref);
    if (t == NULL || is_at_work(s, &ref))
        return;
    snprintf(slot, sizeof(slot), "%zu", below(2));
    size_t row = free_row(t, slot), what = below(24);
    if (what == 0 && !is_at_work(s, &of)) {
        sim_did(s, DEED_MEDDLE, "somebody", "drops %s", ref.table);
        model_table_drop(s->model, t);
        *dropped = true;
    } else if (what < 4) {
        add_nonsense(s, t);
    } else if (what < 6 && row != SIZE_MAX && t->count < 10) {
        sim_did(s, DEED_MEDDLE, "somebody", "doubles slot %s of %s", slot, ref.table);
        copy(t, row);
    } else if (row != SIZE_MAX) {
        change_free(s, t, slot);
    }
}
