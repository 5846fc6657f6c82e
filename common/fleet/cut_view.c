#include "common/fleet/cut_view.h"

#include "common/base/log.h"
#include "common/fleet/side.h"
#include "common/fleet/view.h"

/*
 * Before the job of a cut that lists: the list's table, a look at the view, its change. Before one that compacts: a look, taking the view if it is still free,
 * the new base's table. Behind that one's job: a look, the change. Wherever another one was quicker (a change is refused by the etag) it looks again.
 */
struct cut_view {
    struct world world;
    struct cut_of of;
    int64_t at;               /* of the cut in its fold */
    struct cut_shown shown;
    struct tables_plan plan;
    bool after;
    bool had;                 /* the run has had the view, and the job of its first cut is there */
    bool lacks;               /* its last change was refused since something is not there */
    struct bq_ref list;
    struct buf rows; struct http_slice slice; /* of the list's load */
    doc *configuration;
    struct view_state state;
    struct bq_call *call;
    struct timer *timer;      /* ready at once */
    cut_view_cb *cb;
    void *arg;
};

static void look(struct cut_view *v);

static void end(struct cut_view *v, enum cut_view_end how, const struct error *err)
{
    struct error copy = err ? *err : ERROR_INIT;
    v->cb(v->arg, how, err ? &copy : NULL);
}

static void fail(struct cut_view *v, const struct error *err, const char *doing)
{
    struct error copy = *err;
    error_prefix(&copy, "%s", doing);
    end(v, CUT_VIEW_FAILED, &copy);
}

static void on_ready(void *arg)
{
    end(arg, CUT_VIEW_READY, NULL);
}

/* --- changing it -------------------------------------------------------------------------------------------------------------------------- */

static void on_base(void *arg, const struct bq_answer *a)
{
    struct cut_view *v = arg;
    v->call = NULL;
    if (a->err != NULL && a->err->code != 409)
        fail(v, a->err, "the table that the view's rows are to be in");
    else
        end(v, CUT_VIEW_READY, NULL);
}

/* The names of what is read and written are known now. */
static void make_base(struct cut_view *v)
{
    char suffix[BASE_SUFFIX_SIZE];
    if (v->shown.ends)
        tables_base_end(suffix, v->of.record);
    else
        tables_base_cut(suffix, v->of.record, v->plan.number);
    tables_base_ref(v->of.record, v->state.base, &v->shown.base);
    tables_base_ref(v->of.record, suffix, &v->shown.into);
    v->call = view_make_base(&v->world, v->of.record, suffix, on_base, v);
}

/* The view is gone, which a look tells; or, where that finds it in its place again, a table that it is to name: nobody can ever show that one's rows. */
static void lose(struct cut_view *v, const struct error *err)
{
    struct error copy = *err;
    if (!v->lacks) {
        v->lacks = true;
        look(v);
        return;
    }
    copy.kind = ERR_FATAL;
    error_prefix(&copy, "a table that the view is to show is gone, and the rows in it with it");
    end(v, CUT_VIEW_GONE, &copy);
}

static void on_changed(void *arg, const struct bq_answer *a)
{
    struct cut_view *v = arg;
    v->call = NULL;
    if (a->err != NULL && a->err->code == 404)
        lose(v, a->err);
    else if (a->err != NULL && a->err->code == 412)
        look(v);
    else if (a->err != NULL)
        fail(v, a->err, "the view cannot be changed");
    else if (v->after || !v->shown.compacts)
        end(v, CUT_VIEW_READY, NULL);
    else
        make_base(v);
}

static void change(struct cut_view *v)
{
    bool taking = !v->state.mine;
    char suffix[BASE_SUFFIX_SIZE];
    struct bq_ref base;
    struct buf sql = BUF_INIT(2 * LIMIT_VIEW_SQL);
    struct error err = ERROR_INIT;
    snprintf(suffix, sizeof(suffix), "%s", v->state.base);
    if (v->after && v->shown.ends)
        tables_base_end(suffix, v->of.record);
    else if (v->after)
        tables_base_cut(suffix, v->of.record, v->plan.number);
    tables_base_ref(v->of.record, suffix, &base);
    struct view_labels labels = {.record = v->of.record, .open = true, .cut = v->shown.compacts && !v->after ? -1 : v->plan.number, .base = suffix,
                                 .was = taking ? v->state.base : v->state.was};
    int rc = 0;
    if (v->after || !v->shown.compacts)
        rc = tables_view_text(v->of.record, v->of.fold, &base, &v->list, v->plan.from, v->after ? -1 : v->at, &sql, &err);
    if (rc != 0)
        fail(v, &err, "the view");
    else
        v->call = view_set(&v->world, &labels, sql.len > 0 ? sql.data : NULL, v->state.etag, on_changed, v);
    buf_free(&sql);
}

/* --- looking at it ------------------------------------------------------------------------------------------------------------------------ */

/* Asked for behind the look at the view: a run whose first cut has a job has had the view. Or it has it since that look, by another coordinator of it, and the job
 * is at work, and may fail and be tried again: that tells another look. */
static void on_first_job(void *arg, const struct bq_answer *a)
{
    struct cut_view *v = arg;
    v->call = NULL;
    v->had = a->err == NULL && a->doc != NULL;
    if (a->err != NULL)
        fail(v, a->err, "whether the view was this run's before");
    else if (a->doc == NULL)
        change(v);
    else
        look(v);
}

static void judge_others(struct cut_view *v)
{
    struct error err;
    char base[JOB_BASE_SIZE], id[JOB_BASE_SIZE + 4];
    if (v->state.open) {
        error_set(&err, ERR_RETRY, 0, "run %s is at the view, and releases it when it has ended", v->state.run);
        end(v, CUT_VIEW_BUSY, &err);
    } else if (!v->plan.takes || v->after || v->had) {
        end(v, v->after ? CUT_VIEW_READY : CUT_VIEW_PAST, NULL);
    } else {
        cut_job_base(base, cut_view_of(v));
        snprintf(id, sizeof(id), "%s_t0", base);
        v->call = bq_job_get(v->world.bq, id, v->of.record->location[0] ? v->of.record->location : NULL, on_first_job, v);
    }
}

static void judge_own(struct cut_view *v)
{
    bool beyond = v->state.cut >= v->plan.number;
    if (v->after)
        beyond ? end(v, CUT_VIEW_READY, NULL) : change(v);
    else if (v->shown.compacts)
        beyond ? end(v, CUT_VIEW_PAST, NULL) : make_base(v);
    else
        beyond ? end(v, CUT_VIEW_READY, NULL) : change(v);
}

static void on_look(void *arg, const struct bq_answer *a)
{
    struct cut_view *v = arg;
    struct error err;
    char name[1024];
    v->call = NULL;
    view_read(a->err == NULL ? a->doc : NULL, v->of.record, &v->state);
    if (a->err != NULL) {
        fail(v, a->err, "the view");
    } else if (!v->state.ours) {
        bq_ref_text(&v->of.record->target, name, sizeof(name));
        error_set(&err, ERR_FATAL, 404, "the view %s %s while the run went on, and the run cannot show its rows; the table behind the view, %s_bqfleet_..., is as "
                  "it was. Bring the view back, or name another, and run the batch again", name,
                  v->state.there ? "was replaced by something that is not bqfleet's" : "was dropped", name);
        end(v, CUT_VIEW_GONE, &err);
    } else if (v->state.mine && v->state.open) {
        judge_own(v);
    } else if (v->state.mine) { /* released: this process sleeps behind its run */
        end(v, v->after ? CUT_VIEW_READY : CUT_VIEW_PAST, NULL);
    } else {
        judge_others(v);
    }
}

static void look(struct cut_view *v)
{
    v->call = bq_table_look(v->world.bq, &v->of.record->target, on_look, v);
}

static void on_list(void *arg, const struct bq_answer *a)
{
    struct cut_view *v = arg;
    v->call = NULL;
    if (a->err != NULL && a->err->code != 409)
        fail(v, a->err, "the list of loads");
    else
        look(v);
}

void cut_view_before(struct cut_view *v)
{
    if (v->shown.compacts)
        look(v);
    else if (v->plan.widens)
        v->call = side_table(&v->world, v->of.record, &v->list, 0, on_list, v);
    else
        timer_set(v->timer, 0);
}

void cut_view_after(struct cut_view *v)
{
    v->after = true;
    look(v);
}

/* --- the rest ------------------------------------------------------------------------------------------------------------------------------ */

const struct cut_of *cut_view_of(struct cut_view *v)
{
    v->of.cut = &v->of.fold->cuts[v->at]; /* they move when there are more */
    v->of.shown = &v->shown;
    return &v->of;
}

bool cut_view_compacts(const struct cut_view *v)
{
    return v->shown.compacts;
}

int cut_view_list(struct cut_view *v, struct bq_job_spec *spec, struct error *err)
{
    if (v->configuration == NULL) {
        v->configuration = bq_load_config(&v->list);
        if (side_rows(cut_view_of(v), &v->rows) != 0)
            return error_set(err, ERR_FATAL, 0, "the cut's loads and exclusions need more than %d bytes", LIMIT_SIDE_BYTES);
        v->slice = (struct http_slice){.data = v->rows.data, .len = v->rows.len};
    }
    spec->configuration = v->configuration;
    spec->media = &v->slice;
    spec->media_count = 1;
    return 0;
}

struct cut_view *cut_view_new(const struct world *w, const struct cut_of *of, size_t limit, cut_view_cb *cb, void *arg)
{
    struct cut_view *v = xcalloc(1, sizeof(*v));
    *v = (struct cut_view){.world = *w, .of = *of, .at = of->cut - of->fold->cuts, .rows = BUF_INIT(LIMIT_SIDE_BYTES), .cb = cb, .arg = arg};
    bool ends = of->shown && of->shown->ends;
    tables_plan(of->record, of->fold, ends ? (int64_t)of->fold->cut_count : v->at, limit, &v->plan);
    v->shown = (struct cut_shown){.compacts = v->plan.compacts, .ends = ends, .from = v->plan.from};
    tables_list_ref(of->record, v->plan.compacted, &v->list);
    v->timer = timer_new(w->loop, on_ready, v);
    return v;
}

void cut_view_free(struct cut_view *v)
{
    if (v == NULL)
        return;
    bq_call_cancel(v->call);
    timer_free(v->timer);
    buf_free(&v->rows);
    doc_free(v->configuration);
    free(v);
}
