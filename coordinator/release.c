#include "coordinator/release.h"

#include "common/base/log.h"
#include "common/fleet/consolidate.h"
#include "common/fleet/view.h"

/*
 * Each round begins with a look at the view: it may be released by now, and changes are made under its etag.
 *
 *   LOOK      not ours, or free: done       cuts to be compacted: COMPACT       else DROP
 *   COMPACT   the job of the run's end      done: LOOK       failed for everybody: LOOK, and no more of it       else a pause, LOOK
 *   DROP      the bases that the view does not read, one after another; a pause when one cannot be dropped; then FREE
 *   FREE      over its base, and labelled so      done; 412: LOOK
 */
enum step { STEP_LOOK, STEP_COMPACT, STEP_DROP, STEP_FREE, STEP_PAUSE };

struct release {
    struct world world;
    const struct record *record;
    const struct fold *fold;
    enum step step;
    size_t limit;
    struct tables_plan plan;
    struct cut_shown shown;
    bool given_up;            /* nothing can be compacted */
    struct view_state state;
    int64_t drop_at;          /* of the bases: 0 is what was before the run, then its cuts', and the last is its end's */
    int failures;
    char why[160];
    struct consolidate *consolidate;
    struct bq_call *call;
    struct timer *timer;
    void (*done)(void *);
    void (*tell)(void *, const struct error *);
    void *arg;
};

static const struct retry_policy patience = {.base_ms = 2000, .cap_ms = 60000};

static void look(void *arg);

static void pause_after(struct release *r, const struct error *err, const char *doing)
{
    struct error copy = *err;
    error_prefix(&copy, "the view of run %s: %s", r->record->run, doing);
    snprintf(r->why, sizeof(r->why), "%.150s", copy.text);
    int64_t wait_ms = i64_min(patience.cap_ms, patience.base_ms << (r->failures < 5 ? r->failures : 5));
    r->failures++;
    r->step = STEP_PAUSE;
    timer_set(r->timer, (wait_ms / 2 + (int64_t)rnd_below(r->world.rnd, (uint64_t)wait_ms)) * US_PER_MS);
    if (copy.kind == ERR_FATAL) /* the others pass */
        r->tell(r->arg, &copy);
}

/* --- freeing it --------------------------------------------------------------------------------------------------------------------------- */

static void on_freed(void *arg, const struct bq_answer *a)
{
    struct release *r = arg;
    r->call = NULL;
    if (a->err == NULL)
        r->done(r->arg);
    else if (a->err->code == 412)
        look(r);
    else
        pause_after(r, a->err, "it cannot be given free");
}

/* It shows the base and nothing else: so it does after a compaction, and not after a cut that failed when its shards were in the view already. */
static void set_free(struct release *r)
{
    struct bq_ref base;
    struct buf sql = BUF_INIT(2 * LIMIT_VIEW_SQL);
    struct error err = ERROR_INIT;
    struct view_labels labels = {.record = r->record, .open = false, .cut = r->state.cut, .base = r->state.base, .was = r->state.was};
    tables_base_ref(r->record, r->state.base, &base);
    r->step = STEP_FREE;
    if (tables_view_text(r->record, r->fold, &base, NULL, 0, -1, &sql, &err) != 0)
        pause_after(r, &err, "its text");
    else
        r->call = view_set(&r->world, &labels, sql.data, r->state.etag, on_freed, r);
    buf_free(&sql);
}

static void drop_next(struct release *r);

static void on_dropped(void *arg, const struct bq_answer *a)
{
    struct release *r = arg;
    r->call = NULL;
    if (a->err != NULL)
        pause_after(r, a->err, "an old table behind it cannot be dropped");
    else
        drop_next(r);
}

/* Nobody else makes these names, and the view does not read them. */
static void drop_next(struct release *r)
{
    r->step = STEP_DROP;
    while (r->drop_at < (int64_t)r->fold->cut_count + 2) {
        int64_t at = r->drop_at++;
        char suffix[BASE_SUFFIX_SIZE];
        if (at == 0)
            snprintf(suffix, sizeof(suffix), "%s", r->state.was);
        else if (at <= (int64_t)r->fold->cut_count)
            tables_base_cut(suffix, r->record, r->fold->cuts[at - 1].number);
        else
            tables_base_end(suffix, r->record);
        if (at > 0 && at <= (int64_t)r->fold->cut_count) {
            struct tables_plan p;
            tables_plan(r->record, r->fold, at - 1, r->limit, &p);
            if (!p.compacts)
                continue;
        }
        if (suffix[0] == '\0' || strcmp(suffix, r->state.base) == 0)
            continue;
        struct bq_ref ref;
        tables_base_ref(r->record, suffix, &ref);
        r->call = bq_table_delete(r->world.bq, &ref, on_dropped, r);
        return;
    }
    set_free(r);
}

/* --- what is listed ----------------------------------------------------------------------------------------------------------------------- */

static void on_compacted(void *arg, struct log_msg *outcome, const struct error *err)
{
    struct release *r = arg;
    struct error copy = err ? *err : ERROR_INIT;
    if (outcome != NULL && !outcome->ok) {
        r->given_up = true;
        log_line(LOG_ERROR, &(struct log_ctx){.run = r->record->run}, "what the run had shown so far cannot be kept, and its view goes back to what it was: %s", outcome->text);
    }
    consolidate_stop(r->consolidate, outcome != NULL);
    r->consolidate = NULL;
    if (outcome != NULL)
        look(r);
    else
        pause_after(r, &copy, "what it shows cannot be compacted from here");
}

static const struct fold_cut *last_done(const struct fold *f)
{
    for (size_t i = f->cut_count; i > 0; i--)
        if (f->cuts[i - 1].state == CUT_DONE)
            return &f->cuts[i - 1];
    return NULL;
}

static void compact(struct release *r)
{
    struct consolidate_options o = {.world = &r->world, .of = {.record = r->record, .fold = r->fold, .cut = last_done(r->fold), .shown = &r->shown},
                                    .shards_at_once = r->limit};
    r->step = STEP_COMPACT;
    r->consolidate = consolidate_start(&o, on_compacted, r);
}

static void on_look(void *arg, const struct bq_answer *a)
{
    struct release *r = arg;
    r->call = NULL;
    view_read(a->err == NULL ? a->doc : NULL, r->record, &r->state);
    if (a->err != NULL)
        pause_after(r, a->err, "it cannot be looked at");
    else if (!r->state.mine || !r->state.open)
        r->done(r->arg);
    else if (r->plan.loads == 0 || r->state.cut >= r->plan.number || r->given_up)
        drop_next(r);
    else
        compact(r);
}

static void look(void *arg)
{
    struct release *r = arg;
    r->step = STEP_LOOK;
    r->drop_at = 0;
    r->call = bq_table_look(r->world.bq, &r->record->target, on_look, r);
}

struct release *release_start(const struct world *w, const struct record *record, const struct fold *f, size_t limit, void (*done)(void *),
                              void (*tell)(void *, const struct error *), void *arg)
{
    struct release *r = xcalloc(1, sizeof(*r));
    *r = (struct release){.world = *w, .record = record, .fold = f, .limit = limit, .shown = {.ends = true, .compacts = true}, .done = done, .tell = tell, .arg = arg};
    tables_plan(record, f, (int64_t)f->cut_count, limit, &r->plan);
    r->timer = timer_new(w->loop, look, r);
    timer_set(r->timer, 0);
    return r;
}

void release_stop(struct release *r)
{
    if (r == NULL)
        return;
    consolidate_stop(r->consolidate, false);
    bq_call_cancel(r->call);
    timer_free(r->timer);
    free(r);
}

const char *release_state(const struct release *r, char *out, size_t size)
{
    if (r->step == STEP_PAUSE)
        snprintf(out, size, "%s", r->why);
    else if (r->step == STEP_COMPACT && r->consolidate != NULL)
        consolidate_state(r->consolidate, out, size);
    else
        snprintf(out, size, "BigQuery to %s", r->step == STEP_DROP ? "drop the tables that were behind the view" : "change the view");
    return out;
}
