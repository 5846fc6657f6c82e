#include "coordinator/report.h"

#include "common/base/units.h"

/* --- made -------------------------------------------------------------------------------------------------------------------------------------- */

static doc *failed_items(const struct fold *f)
{
    doc *list = doc_array();
    for (size_t i = 0; i < f->failure_count && i < LIMIT_FAILED_SHOWN; i++) {
        const struct fold_failure *x = &f->failures[i];
        doc *d = doc_object();
        doc_set_int(d, "item", x->item);
        doc_set_str(d, "key", x->key);
        doc_set_int(d, "attempts", x->attempts);
        doc_set_str(d, "reason", x->reason);
        doc_set_str(d, "error", x->text);
        doc_add(list, d);
    }
    return list;
}

static doc *basics(const struct record *r)
{
    doc *d = doc_object();
    doc_set_str(d, "run", r->run);
    doc_set_str(d, "batch", r->batch);
    doc_set_str(d, "mode", write_mode_name(r->mode));
    if (r->has_target) {
        char name[1024];
        doc_set_str(d, "table", bq_ref_text(&r->target, name, sizeof(name)));
    } else {
        doc_set(d, "table", doc_null());
    }
    if (r->redrives[0] != '\0') {
        doc_set_str(d, "redrives", r->redrives);
        doc_set_bool(d, "adopts", r->adopts[0] != '\0');
        doc_set_int(d, "left_failed", r->left);
    }
    return doc_set_int(d, "submitted_ms", r->created_ms);
}

static void set_counts(doc *d, const struct record *r, const struct fold *f)
{
    int64_t inserted = 0, updated = 0, deleted = 0;
    doc *jobs = doc_array();
    for (size_t i = 0; i < f->cut_count; i++) {
        const struct fold_cut *c = &f->cuts[i];
        inserted += c->inserted;
        updated += c->updated;
        deleted += c->deleted;
        if (c->job != NULL && c->job[0] != '\0')
            doc_add(jobs, doc_string(c->job));
    }
    doc_set(d, "items", f->items >= 0 ? doc_integer(f->items) : doc_null());
    doc_set_int(d, "published", f->published);
    doc_set_int(d, "done", f->done);
    doc_set_int(d, "failed", f->failed);
    /* Rows that are loaded nowhere are in no manifest: not known. */
    doc_set(d, "without_rows", r->mode == WRITE_NONE ? doc_null() : doc_integer(f->empty));
    doc_set_int(d, "staged_rows", f->rows);
    doc_set_int(d, "inserted", inserted);
    doc_set_int(d, "updated", updated);
    doc_set_int(d, "deleted", deleted);
    doc_set(d, "jobs", jobs);
}

doc *report_of_fold(const struct record *r, const struct fold *f, int64_t now_ms)
{
    doc *d = basics(r);
    bool over = fold_settled(f);
    doc_set_str(d, "state", over ? run_end_name(f->end) : f->phase == RUN_ENDED ? "writing" : run_phase_name(f->phase));
    doc_set(d, "exit", over || f->phase == RUN_HELD ? doc_integer(fold_exit_code(f)) : doc_null());
    doc_set_str(d, "text", f->end_text ? f->end_text : "");
    int64_t cap = run_cap(f->parallel, r->parallel);
    doc_set_bool(d, "paused", f->paused && f->phase < RUN_HELD);
    doc_set(d, "parallel", cap > 0 ? doc_integer(cap) : doc_null());
    if (f->adopted_by != NULL)
        doc_set_str(d, "adopted_by", f->adopted_by);
    set_counts(d, r, f);
    doc_set_int(d, "duration_ms", i64_max((over ? f->effect_ms : now_ms) - r->created_ms, 0));
    return doc_set(d, "failed_items", failed_items(f));
}

doc *report_of_end(const struct catalog_run *run)
{
    doc *d = basics(run->record);
    const doc *e = run->end;
    doc_set_str(d, "state", run->standing == STANDING_VOID ? "withdrawn" : doc_str(e, "end", "open"));
    doc_set(d, "exit", e ? doc_integer(doc_int(e, "exit", EXIT_UNFINISHED)) : doc_null());
    doc_set_str(d, "text", doc_str(e, "text", ""));
    doc_set(d, "items", doc_int(e, "items", -1) >= 0 ? doc_integer(doc_int(e, "items", -1)) : doc_null());
    static const char *const counts[] = {"done", "failed", "inserted", "updated", "deleted"};
    for (size_t i = 0; i < ARRAY_LEN(counts); i++)
        doc_set_int(d, counts[i], doc_int(e, counts[i], 0));
    doc_set(d, "jobs", doc_array());
    if (e != NULL)
        doc_set_int(d, "duration_ms", i64_max(doc_int(e, "time_ms", 0) - run->record->created_ms, 0));
    return doc_set(d, "failed_items", doc_array());
}

/* --- printed ------------------------------------------------------------------------------------------------------------------------------------ */

static const char *count(const doc *d, const char *name, char *out, size_t size)
{
    return units_show_count(doc_int(d, name, 0), out, size);
}

/* For people the two add up; in the JSON form done counts both. */
static void print_items(FILE *to, const doc *d)
{
    char a[32], b[32], c[32];
    if (doc_get(d, "done") == NULL) /* written by an earlier process: the items are gone with it */
        return;
    bool known = doc_type(doc_get(d, "items")) == DOC_INT;
    const char *well = units_show_count(doc_int(d, "done", 0) - doc_int(d, "failed", 0), b, sizeof(b));
    fprintf(to, "  items  %s%s: %s done, %s failed", count(d, known ? "items" : "published", a, sizeof(a)), known ? "" : " published so far", well,
            count(d, "failed", c, sizeof(c)));
    if (doc_int(d, "without_rows", 0) > 0 && doc_str(d, "table", NULL) != NULL)
        fprintf(to, ", %s without rows", count(d, "without_rows", a, sizeof(a)));
    fputc('\n', to);
}

static void print_rows(FILE *to, const doc *d)
{
    char a[32], b[32], c[32];
    const char *table = doc_str(d, "table", NULL);
    if (table == NULL)
        return;
    fprintf(to, "  rows   %s inserted, %s updated, %s deleted in %s (%s)\n", count(d, "inserted", a, sizeof(a)), count(d, "updated", b, sizeof(b)),
            count(d, "deleted", c, sizeof(c)), table, doc_str(d, "mode", ""));
    const doc *jobs = doc_get(d, "jobs");
    if (doc_len(jobs) > 0)
        fprintf(to, "  job    %s%s\n", doc_str(doc_at(jobs, doc_len(jobs) - 1), NULL, ""), doc_len(jobs) > 1 ? " (the last of several)" : "");
}

static void print_failed(FILE *to, const doc *d)
{
    const doc *list = doc_get(d, "failed_items");
    int64_t failed = doc_int(d, "failed", 0);
    if (doc_len(list) == 0)
        return;
    fprintf(to, "Failed items:\n");
    for (size_t i = 0; i < doc_len(list); i++) {
        const doc *x = doc_at(list, i);
        fprintf(to, "  %s: %s, after %" PRId64 " attempt%s: %s\n", doc_str(x, "key", ""), doc_str(x, "reason", ""), doc_int(x, "attempts", 0),
                doc_int(x, "attempts", 0) == 1 ? "" : "s",
                doc_str(x, "error", ""));
    }
    if (failed > (int64_t)doc_len(list))
        fprintf(to, "  and %" PRId64 " more; --failed FILE writes them all\n", failed - (int64_t)doc_len(list));
}

/* Both ways: what it redrives, and what redrives it. */
static void print_redrives(FILE *to, const doc *d)
{
    int64_t left = doc_int(d, "left_failed", 0);
    char a[32];
    if (doc_get(d, "redrives") != NULL) {
        fprintf(to, "  of     run %s, whose failed items it redrives", doc_str(d, "redrives", ""));
        if (doc_bool(d, "adopts", false))
            fprintf(to, ", and whose rows are written with its own");
        if (left > 0)
            fprintf(to, "; %s others stay failed", units_show_count(left, a, sizeof(a)));
        fputc('\n', to);
    }
    if (doc_get(d, "redriven_by") != NULL)
        fprintf(to, "  again  its failed items: run %s\n", doc_str(d, "redriven_by", ""));
}

static void print_steering(FILE *to, const doc *d)
{
    char a[32];
    if (doc_bool(d, "paused", false))
        fprintf(to, "  pause  no more items are given to handlers\n");
    if (doc_int(d, "parallel", 0) > 0)
        fprintf(to, "  cap    %s items at once, across the fleet\n", count(d, "parallel", a, sizeof(a)));
}

static void print_text(FILE *to, const doc *d)
{
    char time[32];
    const char *text = doc_str(d, "text", "");
    fprintf(to, "Run %s of batch %s: %s%s%s\n", doc_str(d, "run", ""), doc_str(d, "batch", ""), doc_str(d, "state", ""), text[0] ? ": " : "", text);
    print_redrives(to, d);
    print_steering(to, d);
    print_items(to, d);
    print_rows(to, d);
    if (doc_get(d, "duration_ms") != NULL)
        fprintf(to, "  took   %s\n", units_show_ms(doc_int(d, "duration_ms", 0), time, sizeof(time)));
    if (doc_str(d, "waits_for", "")[0])
        fprintf(to, "  waits  for %s\n", doc_str(d, "waits_for", ""));
    if (doc_str(d, "next", "")[0])
        fprintf(to, "  next   %s\n", doc_str(d, "next", ""));
    print_failed(to, d);
}

void report_print(FILE *to, doc *runs, bool json)
{
    AUTO(doc_free_auto) doc *list = runs;
    if (json) {
        AUTO(doc_free_auto) doc *all = doc_set(doc_object(), "runs", doc_ref(list));
        AUTO(free_ptr) char *text = doc_text(all);
        fprintf(to, "%s\n", text);
    } else {
        for (size_t i = 0; i < doc_len(list); i++)
            print_text(to, doc_at(list, i));
    }
    fflush(to);
}

void report_print_one(FILE *to, doc *run, bool json)
{
    if (!json) {
        report_print(to, doc_add(doc_array(), run), false);
        return;
    }
    AUTO(doc_free_auto) doc *owned = run;
    AUTO(free_ptr) char *text = doc_text(owned);
    fprintf(to, "%s\n", text);
    fflush(to);
}
