#include "common/base/units.h"
#include "coordinator/live.h"

/* `status`: the open runs of a fleet, or one run, with the workers; and what will happen next by itself. */

static const char *next_of(const struct track *t, const struct catalog_run *heir, const char *flags, char *out, size_t size)
{
    const struct fold *f = track_fold(t);
    const char *run = track_record(t)->run;
    if (track_unknown(t))
        snprintf(out, size, "nothing: its log is gone; `bqfleet watch %s%s` asks BigQuery", run, flags);
    else if (f->paused && f->phase < RUN_HELD)
        snprintf(out, size, "nothing but that items already with handlers end%s, until `bqfleet resume %s%s`", f->phase == RUN_PUBLISHING ? " and its submitter goes on publishing" : "",
                 run, flags);
    else if (f->phase == RUN_PUBLISHING)
        snprintf(out, size, "its submitter publishes the rest and seals it; silent for %d min, it is abandoned", WAIT_ABANDON / 60000);
    else if (f->phase == RUN_WORKING)
        snprintf(out, size, "workers do the other %" PRId64 " items; then it is %s", f->items - f->done,
                 fold_over_tolerance(f) ? "held, having failed more than it tolerates" : "consolidated");
    else if (f->phase == RUN_HELD && heir != NULL)
        snprintf(out, size, "run %s redrives its failed items; when that is complete, its rows are written with them", heir->run);
    else if (f->phase == RUN_HELD)
        snprintf(out, size, "nothing by itself: `bqfleet redrive %s%s` runs the failed items again, `bqfleet finish %s --accept-failed%s` writes it without "
                 "them, `bqfleet cancel %s%s` drops it", run, flags, run, flags, run, flags);
    else if (!fold_settled(f) && track_submitter_left(t))
        snprintf(out, size, "a coordinator (watch or serve) runs its consolidation, at once: its submitter has left");
    else if (!fold_settled(f))
        snprintf(out, size, "its submitter (%s) runs its consolidation, or another coordinator (watch or serve) once it was there for %d s",
                 track_record(t)->by, WAIT_SECOND_COORDINATOR / 3 * 4 / 1000);
    else
        out[0] = '\0';
    return out;
}

static doc *describe(struct live *l, struct track *t)
{
    char text[2048];
    doc *d = report_of_fold(track_record(t), track_fold(t), loop_wall_ms(l->setup.world.loop));
    doc_set_str(d, "queue", track_record(t)->queue);
    doc_set_str(d, "handler", track_record(t)->handler);
    const struct record *r = track_record(t);
    const struct fold *f = track_fold(t);
    const struct catalog_run *heir = catalog_redriver_of(catalog_watch_runs(coordinator_watch(l->coordinator)), r->run);
    if (heir != NULL)
        doc_set_str(d, "redriven_by", heir->run);
    track_waits_for(t, text, sizeof(text));
    if (text[0] == '\0' && (f->phase == RUN_PUBLISHING || f->phase == RUN_WORKING))
        presence_waits_for(l->presence, r->queue, r->handler, text, sizeof(text));
    doc_set_str(d, "waits_for", text);
    return doc_set_str(d, "next", next_of(t, heir != NULL && heir->record->adopts[0] ? heir : NULL, l->flags, text, sizeof(text)));
}

/* A worker that was killed takes no leave. Its items are with others long before. */
enum { FORGET_SILENT_MS = 5 * 60000 };

static doc *describe_workers(struct live *l, const char *queue)
{
    doc *list = doc_array();
    for (size_t i = 0; i < presence_count(l->presence); i++) {
        struct presence_worker w;
        presence_at(l->presence, i, &w);
        if ((queue != NULL && strcmp(w.queue, queue) != 0) || (!w.live && w.silent_ms > FORGET_SILENT_MS))
            continue;
        doc *d = doc_copy(w.said);
        doc_set_str(d, "name", w.name);
        doc_set_bool(d, "live", w.live);
        if (w.alone != NULL)
            doc_set(d, "died_with", doc_set_int(doc_copy(w.alone), "ago_ms", w.alone_ms));
        doc_add(list, doc_set_int(d, "silent_ms", w.silent_ms));
    }
    return list;
}

/* Of an item in quarantine. */
static void print_alone(const doc *item, const char *how)
{
    char age[32] = "";
    if (item == NULL)
        return;
    printf("; %s item %" PRId64 " of run %s (key %s) alone", how, doc_int(item, "item", -1), doc_str(item, "run", ""), doc_str(item, "key", ""));
    if (doc_int(item, "ago_ms", -1) >= 0)
        printf(", %s ago", units_show_ms(doc_int(item, "ago_ms", 0), age, sizeof(age)));
}

static void print_worker(const doc *w)
{
    char age[32];
    const doc *oldest = doc_get(w, "oldest");
    printf("  %s, queue %s: ", doc_str(w, "name", ""), doc_str(w, "queue", ""));
    if (!doc_bool(w, "live", false)) {
        printf("silent for %s; its items go to others once its session has ended", units_show_ms(doc_int(w, "silent_ms", 0), age, sizeof(age)));
        print_alone(doc_get(w, "alone"), "its last word was that it runs");
        printf("\n");
        return;
    }
    printf("%" PRId64 " in flight, %" PRId64 " waiting", doc_int(w, "in_flight", 0), doc_int(w, "waiting", 0));
    if (doc_type(oldest) == DOC_OBJECT)
        printf("; oldest %s, for %s", doc_str(oldest, "key", ""), units_show_ms(doc_int(oldest, "age_ms", 0), age, sizeof(age)));
    if (doc_str(w, "waits_for", "")[0])
        printf("; waits for %s", doc_str(w, "waits_for", ""));
    print_alone(doc_get(w, "died_with"), "its last process was not heard of again once it ran");
    printf("%s\n", doc_bool(w, "draining", false) ? "; draining" : "");
}

static void print_all(struct live *l, doc *runs, doc *workers)
{
    if (live_json(l)) {
        AUTO(doc_free_auto) doc *all = doc_set(doc_set(doc_object(), "runs", runs), "workers", workers);
        AUTO(free_ptr) char *text = doc_text(all);
        printf("%s\n", text);
        return;
    }
    if (doc_len(runs) == 0)
        printf("No open runs.\n");
    report_print(stdout, runs, false);
    printf(doc_len(workers) > 0 ? "Workers:\n" : "No workers have shown themselves.\n");
    for (size_t i = 0; i < doc_len(workers); i++)
        print_worker(doc_at(workers, i));
    doc_free(workers);
}

/* All that was asked for has been read. */
static bool all_read(void *arg)
{
    struct live *l = arg;
    if (!presence_ready(l->presence))
        return false;
    for (struct track *t = coordinator_next(l->coordinator, NULL); t != NULL; t = coordinator_next(l->coordinator, t))
        if (!track_live(t) && !track_unknown(t))
            return false;
    return true;
}

static void follow(struct live *l, const struct record *r)
{
    struct error err = ERROR_INIT;
    if (coordinator_track(l->coordinator, r, TRACK_LOOKS, &err) == NULL)
        fprintf(stderr, "bqfleet: %s\n", err.text);
}

static int show(struct live *l, struct catalog_run *one)
{
    doc *runs = doc_array();
    struct catalog *all = catalog_watch_runs(coordinator_watch(l->coordinator));
    for (struct catalog_run *r = one ? one : catalog_next(all, NULL); r != NULL; r = one ? NULL : catalog_next(all, r)) {
        struct track *t = coordinator_find(l->coordinator, r->run);
        if (t != NULL && !(track_unknown(t) && r->end != NULL))
            doc_add(runs, describe(l, t));
        else if (one != NULL)
            doc_add(runs, report_of_end(r));
    }
    print_all(l, runs, describe_workers(l, one ? one->record->queue : NULL));
    return EXIT_WRITTEN;
}

int command_status(struct command_env *env, char *const *args, int count)
{
    struct live l = {.past_held = true};
    struct error err = ERROR_INIT;
    int code = live_open(&l, env, SETUP_BUS, NULL);
    if (code >= 0)
        return code;
    if ((code = live_read_runs(&l)) >= 0)
        return live_close(&l, code);
    struct catalog_run *one = count > 0 ? live_named(&l, args[0]) : NULL;
    if (count > 0 && one == NULL)
        return live_close(&l, EXIT_USAGE);
    l.presence = presence_start(&l.setup.world, NULL, NULL, &err);
    if (l.presence == NULL)
        return live_close(&l, command_fail(&err));
    struct catalog *all = catalog_watch_runs(coordinator_watch(l.coordinator));
    for (struct catalog_run *r = catalog_next(all, NULL); r != NULL; r = catalog_next(all, r))
        if (r == one || (one == NULL && r->standing == STANDING_OPEN))
            follow(&l, r->record);
    code = live_until(&l, all_read, env->settings->wait_ms, "the log of a run");
    return live_close(&l, code >= 0 ? code : show(&l, one));
}
