#include "tests/sim/check_rows.h"
#include "tests/sim/service_odd.h"

#include "tests/sim/toil.h"

/* What must be true at the end of the model's jobs and tables. */

/* --- effects -------------------------------------------------------------------------------------------------------------------------------------- */

static void cut_base(const struct ledger *l, const struct lcut *c, char base[JOB_BASE_SIZE])
{
    if (c->shard[0])
        job_base_shard_cut(base, l->record->run, c->shard, c->number);
    else
        job_base_cut(base, l->record->run, c->number);
}

/* Shown by a view, rows are counted as they were loaded. */
static int64_t loaded(struct sim *s, const struct ledger *l, const struct lcut *c)
{
    int64_t n = 0;
    for (size_t i = 0; i < l->load_count; i++)
        n += l->loads[i]->cut == c - l->cuts && l->loads[i]->fresh > 0 ? l->loads[i]->rows : 0;
    for (const struct ledger *a = l; c->last && a->record->adopts[0];) {
        const struct ledger *older = check_run(s->check, a->record->adopts, strlen(a->record->adopts));
        if (older == NULL || strcmp(older->adopted_by, l->record->run) != 0)
            break;
        for (size_t i = 0; i < older->load_count; i++)
            n += older->loads[i]->cut < 0 && older->loads[i]->fresh > 0 ? older->loads[i]->rows : 0;
        a = older;
    }
    return n;
}

static void check_figures(struct sim *s, struct ledger *l, const struct lcut *c, const struct mjob *found, const char *base)
{
    struct effects e = found->effects;
    if (way_shows(l->batch))
        e = (struct effects){.inserted = loaded(s, l, c)};
    if (e.inserted != c->inserted || e.updated != c->updated || e.deleted != c->deleted)
        sim_violated(s, INV_EFFECT, "%s has written %" PRId64 "+%" PRId64 "-%" PRId64 " rows, and its outcome says %" PRId64 "+%" PRId64 "-%" PRId64, base, e.inserted, e.updated,
                     e.deleted, c->inserted, c->updated, c->deleted);
}

static const struct mjob *effect_of(struct sim *s, struct ledger *l, const struct lcut *c)
{
    char base[JOB_BASE_SIZE];
    int count = 0;
    cut_base(l, c, base);
    const struct mjob *found = effect_find(s, base, &count);
    bool only_marks = c->loads == 0;
    /* Nobody knew any more how it ended when it was closed: it was written, or was not. */
    if (l->closed && c->state == LCUT_OPEN && count <= 1)
        return found;
    int want = c->state == LCUT_DONE && l->batch->mode != WRITE_NONE;
    if (count != want && !(only_marks && count <= 1 && l->batch->mode != WRITE_NONE))
        sim_violated(s, INV_EFFECT, "%s: %d effects instead of %d (loads %" PRId64 ", state %d)", base, count, want, c->loads, c->state);
    if (found && c->loads > 0 && c->state == LCUT_DONE)
        check_figures(s, l, c, found, base);
    return found;
}

/* Of one target, in the order in which they were written. */
static void gather(struct sim *s, const struct batch_plan *b, struct writes *out)
{
    for (struct ledger *l = s->check->ledgers; l; l = l->next)
        for (size_t i = 0; i < l->cut_count && strcmp(l->batch->target, b->target) == 0; i++) {
            const struct mjob *j = effect_of(s, l, &l->cuts[i]);
            if (j != NULL && !way_shows(b))
                writes_add(out, (struct written){.l = l, .c = &l->cuts[i], .since = i, .started_ms = j->started_ms, .ended_ms = j->ended_ms, .job = j});
        }
    if (way_shows(b))
        view_gather(s, b, out);
    writes_sort(out);
}

static void check_permits(struct sim *s, const struct batch_plan *b, const struct writes *cuts)
{
    for (size_t i = 0; i < cuts->count && b->permits > 0; i++) {
        int at_once = 0;
        for (size_t k = 0; k < cuts->count; k++)
            at_once += cuts->v[k].started_ms <= cuts->v[i].started_ms && cuts->v[i].started_ms < cuts->v[k].ended_ms;
        if (at_once > b->permits)
            sim_violated(s, INV_PERMITS, "%d statements wrote into %s at once, at %" PRId64 ", under %d permits", at_once, b->target, cuts->v[i].started_ms, b->permits);
    }
}

/* A run that replaces another writes when nothing of that one can come any more. */
static void check_replaced(struct sim *s, const struct writes *cuts)
{
    for (size_t i = 0; i < cuts->count; i++)
        for (size_t k = 0; k < cuts->count; k++) {
            const struct written *older = &cuts->v[i], *newer = &cuts->v[k];
            /* One that was closed as unknown may be at work still: the person who closed it was told so. */
            if (strcmp(newer->l->record->replaces, older->l->record->run) == 0 && !older->l->closed && newer->started_ms < older->ended_ms)
                sim_violated(s, INV_EFFECT, "%s writes into %s from %" PRId64 " on, and %s, which it replaces, until %" PRId64, newer->l->record->run,
                             newer->l->batch->target, newer->started_ms, older->l->record->run, older->ended_ms);
        }
}

/* Rows to nobody: BigQuery has heard nothing of such a run. */
static void check_nothing(struct sim *s, const struct ledger *l)
{
    char name[LIMIT_NAME + 4];
    snprintf(name, sizeof(name), "_%s_", l->record->run);
    const struct mjob *j;
    TAILQ_FOREACH(j, &s->model->jobs, link)
        if (strstr(j->id, name) != NULL)
            sim_violated(s, INV_EFFECT, "%s writes nothing, and there is job %s", l->record->run, j->id);
}

static void check_target(struct sim *s, const struct batch_plan *b)
{
    struct writes cuts = {0};
    if (!ways_is_first(s, b) || check_target_gone(s->check, b->target))
        return;
    gather(s, b, &cuts);
    if (b->mode == WRITE_NONE) {
        for (const struct ledger *l = s->check->ledgers; l; l = l->next)
            if (l->batch == b)
                check_nothing(s, l);
        return;
    }
    check_permits(s, b, &cuts);
    check_replaced(s, &cuts);
    if (way_shows(b))
        view_check_end(s, b);
    AUTO(doc_free_auto) doc *rows = bqmodel_rows(s->model, b->target);
    rows_check(s, b, rows, &cuts, b->target);
    free(cuts.v);
    s->report->rows += (int64_t)doc_len(rows);
}

/* --- runs ----------------------------------------------------------------------------------------------------------------------------------------- */

static bool is_written(const struct ledger *l)
{
    return l->phase == PHASE_ENDED && !l->failed_end && (l->ended_by == LOGM_SEAL || l->ended_by == LOGM_ACCEPT);
}

int64_t ledger_exit(const struct ledger *l)
{
    if (is_written(l))
        return EXIT_WRITTEN;
    return !l->failed_end && (l->ended_by == LOGM_CANCEL || l->ended_by == LOGM_ADOPTED || l->ended_by == LOGM_ABANDON) ? EXIT_ENDED : EXIT_UNFINISHED;
}

/* A run that is written has every item in exactly one place; what failed is within what it tolerates, unless somebody accepted it. */
static void check_run_end(struct sim *s, const struct ledger *l)
{
    bool written = is_written(l);
    int64_t failed = 0;
    if (l->closed && !check_is_beyond(s->check, l))
        sim_violated(s, INV_ROWS, "%s is closed as unknown, and everybody could fold its log", l->record->run);
    if (l->closed)
        return;
    for (int64_t i = 0; i < l->items && written; i++) {
        if (i >= l->owners || l->owner[i] == OWNER_NONE)
            sim_violated(s, INV_ROWS, "%s is written, and its item %" PRId64 " is nowhere", l->record->run, i);
        failed += l->owner[i] == OWNER_FAILED;
        if (l->owner[i] >= 0 && l->cuts[l->loads[l->owner[i]]->cut].state != LCUT_DONE)
            sim_violated(s, INV_ROWS, "%s is written, and item %" PRId64 " is in an increment that is not", l->record->run, i);
    }
    if (written && failed != l->failed)
        sim_violated(s, INV_ROWS, "%s has %" PRId64 " failed items, and %" PRId64 " were told", l->record->run, failed, l->failed);
    int64_t code = ledger_exit(l);
    if (!l->withdrawn && l->told_exit != code)
        sim_violated(s, INV_ROWS, "%s ends with %" PRId64 ", and `batches` says %" PRId64, l->record->run, code, l->told_exit);
}

static bool is_bereft(struct sim *s, const struct ledger *l)
{
    for (; l != NULL; l = l->record->adopts[0] ? check_run(s->check, l->record->adopts, strlen(l->record->adopts)) : NULL)
        if (l->bereft || check_target_gone(s->check, l->batch->target))
            return true;
    return false;
}

/* Somebody decided otherwise about a run whose failed items it redrives, or that one does. */
static bool is_orphan(struct sim *s, const struct ledger *l)
{
    while (l->record->adopts[0]) {
        const struct ledger *older = check_run(s->check, l->record->adopts, strlen(l->record->adopts));
        if (older == NULL || strcmp(older->adopted_by, l->record->run) != 0)
            return true;
        l = older;
    }
    return false;
}

/* Of all that goes wrong here only little may end a run. */
static void check_loud(struct sim *s, const struct ledger *l)
{
    bool stopped = l->record->finish.stop_after > 0 && l->failed >= l->record->finish.stop_after && strncmp(l->why, "stop_after:", 11) == 0;
    if (service_odd_explains(l))
        return;
    if (l->withdrawn || l->contradicted || l->closed || (l->robbed && l->ended_by == LOGM_LOST) || is_bereft(s, l) || is_orphan(s, l) || meddler_excuses(s, l))
        return;
    /* The last one of a job's tries may have failed for the other thing that was drawn. */
    bool exhausted = l->failed_end && s->hard && (strstr(l->why, "Backend error") != NULL || strstr(l->why, "due to concurrent update") != NULL);
    /* Statements that read but a few tables are drawn for the sake of folding; a run may have more than they can be folded into. */
    exhausted |= l->failed_end && s->plan.shards_at_once > 0 && s->plan.shards_at_once < 8 && strstr(l->why, "more staging tables than") != NULL;
    if ((l->failed_end && !exhausted) || l->ended_by == LOGM_LOST || (l->ended_by == LOGM_FATAL && !stopped))
        sim_violated(s, INV_LOUD, "%s ends as %s, for which there is no reason: %s", l->record->run, l->failed_end ? "failed" : log_type_name(l->ended_by), l->why);
    if (l->ended_by == LOGM_ABANDON && s->plan.quiet)
        sim_violated(s, INV_LOUD, "%s is abandoned, and nobody was silent", l->record->run);
}

void check_end(struct sim *s)
{
    for (struct ledger *l = s->check->ledgers; l; l = l->next) {
        check_loud(s, l);
        check_run_end(s, l);
        s->report->runs++;
        s->report->ends[l->withdrawn ? 0 : l->failed_end ? 15 : l->ended_by]++;
    }
    for (int i = 0; i < s->plan.batch_count; i++)
        check_target(s, &s->plan.batches[i]);
    poison_check_end(s);
    check_tick(s);
}
