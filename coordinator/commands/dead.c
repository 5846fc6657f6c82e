#include "common/base/log.h"
#include "common/base/units.h"
#include "coordinator/dead_filter.h"
#include "coordinator/live.h"
#include "coordinator/runlog.h"

/* `dead list [RUN]`, `dead show RUN ITEM`: the failed items of a run, or of all that are known, as the logs have them. */
struct dead {
    struct live live;
    struct dead_filter filter;
    bool json, show;
    const struct record *record;     /* of the run that is read */
    struct runlog *log;
    struct itemset selected;
    struct failed *failed;
    bool done;
    struct error err;
    int64_t listed;
};

static struct dead *dead_of(struct live *l)
{
    return (struct dead *)(void *)l;
}

/* --- text ---------------------------------------------------------------------------------------------------------------------------------------- */

static void print_short(const struct record *r, const struct item_failure *f, int64_t time_ms)
{
    char when[32];
    printf("%s  %s item %" PRId64 " (%s): %s, after %" PRId64 " attempts: %s\n", units_show_time(time_ms, when, sizeof(when)), r->run, f->item, f->key,
           f->reason, f->attempts, f->text);
}

static void print_whole(const doc *line)
{
    const doc *about = doc_get(line, "_bqfleet");
    AUTO(doc_free_auto) doc *payload = doc_object();
    for (void *it = doc_first(line); it != NULL; it = doc_next(line, it))
        if (strcmp(doc_key(it), "_bqfleet") != 0)
            doc_set(payload, doc_key(it), doc_copy(doc_value(it)));
    AUTO(free_ptr) char *text = doc_text(payload);
    char when[32] = "unknown";
    if (doc_int(about, "time_ms", 0) > 0)
        units_show_time(doc_int(about, "time_ms", 0), when, sizeof(when));
    printf("Item %" PRId64 " of run %s\n  failed    %s, after %" PRId64 " attempts\n  when      %s\n  item      %s\n  error     %s\n",
           doc_int(about, "item", -1), doc_str(about, "run", ""), doc_str(about, "reason", ""), doc_int(about, "attempts", 0), when, text,
           doc_str(about, "error", ""));
}

/* --- one run -------------------------------------------------------------------------------------------------------------------------------------- */

static void on_failure(void *arg, const struct item_failure *f, int64_t time_ms)
{
    struct dead *d = arg;
    if (!dead_filter_takes(&d->filter, f, time_ms))
        return;
    itemset_add(&d->selected, f->item);
    d->listed++;
    if (!d->json && !d->show) /* all there is to say in a line is in the log */
        print_short(d->record, f, time_ms);
}

static void on_line(void *arg, const doc *line)
{
    struct dead *d = arg;
    if (d->show && !d->json) {
        print_whole(line);
        return;
    }
    AUTO(free_ptr) char *text = doc_text(line);
    printf("%s\n", text);
}

static void on_listed(void *arg, int64_t items, const struct error *err)
{
    struct dead *d = arg;
    (void)items;
    if (err != NULL)
        d->err = *err;
    d->done = true;
}

static void on_log(void *arg, const struct error *err)
{
    struct dead *d = arg;
    if (err != NULL)
        d->err = *err;
    if (err != NULL || (!d->json && !d->show)) {
        d->done = true;
        return;
    }
    d->failed = failed_start(&(struct failed_options){.world = &d->live.setup.world, .outbox = d->live.outbox, .record = d->record,
                                                      .fold = runlog_fold(d->log), .only = &d->selected, .line = on_line, .arg = d, .done = on_listed});
}

static bool is_done(void *arg)
{
    return dead_of(arg)->done;
}

/* -1, or an exit code. */
static int list_run(struct dead *d, const struct record *r)
{
    static const struct runlog_events events = {.failure = on_failure, .done = on_log};
    d->record = r;
    d->done = false;
    d->err = ERROR_INIT;
    d->log = runlog_start(&d->live.setup.world, r, &events, d, &d->err);
    int code = d->log ? live_until(&d->live, is_done, 0, "the log of a run") : -1;
    failed_stop(d->failed);
    runlog_free(d->log);
    itemset_free(&d->selected);
    d->failed = NULL;
    d->log = NULL;
    return code;
}

static int list_all(struct dead *d)
{
    struct catalog *runs = catalog_watch_runs(coordinator_watch(d->live.coordinator));
    for (struct catalog_run *r = catalog_next(runs, NULL); r != NULL; r = catalog_next(runs, r)) {
        if (r->standing == STANDING_VOID || (r->end != NULL && doc_int(r->end, "failed", 0) == 0))
            continue;
        int code = list_run(d, r->record);
        if (code >= 0)
            return code;
        if (d->err.kind != ERR_NONE)
            log_warn("%s", d->err.text);
    }
    return EXIT_WRITTEN;
}

static int list_named(struct dead *d, const char *text)
{
    struct catalog_run *run = live_named(&d->live, text);
    if (run == NULL)
        return EXIT_USAGE;
    int code = list_run(d, run->record);
    if (code >= 0)
        return code;
    if (d->err.kind != ERR_NONE)
        return command_fail(&d->err);
    if (d->show && d->listed == 0) {
        fprintf(stderr, "bqfleet: no such item of run %s has failed; `bqfleet dead list %s%s` lists those that have (a number is the item's; --key KEY is for keys)\n",
                run->run, run->run, d->live.flags);
        return EXIT_NO;
    }
    return EXIT_WRITTEN;
}

/* --- the commands --------------------------------------------------------------------------------------------------------------------------------- */

/* NDJSON unless text was asked for: it is made to be run again. */
static bool wants_json(const struct command_env *env, bool show)
{
    const struct config *c = env->config;
    for (size_t i = 0; i < c->count; i++)
        if (strcmp(c->rows[i].name, "output") == 0 && c->sources[i] == FROM_DEFAULT)
            return !show;
    return strcmp(env->settings->output, "json") == 0;
}

/* A number is an item's, anything else a key. */
static int read_item(struct dead_filter *f, const char *text, struct error *err)
{
    if (text[0] != '\0' && text[strspn(text, "0123456789")] == '\0')
        return units_int(text, 0, LIMIT_ITEMS - 1, &f->item, err);
    if (strlen(text) > LIMIT_KEY)
        return error_set(err, ERR_USAGE, 0, "no key has more than %d bytes", LIMIT_KEY);
    memcpy(f->key, text, strlen(text) + 1);
    return 0;
}

static int wrong_usage(void)
{
    fprintf(stderr, "bqfleet dead: usage: bqfleet dead list [RUN], or bqfleet dead show RUN ITEM (its number, or a key that is no number), or bqfleet dead show RUN --key KEY\n");
    return EXIT_USAGE;
}

int command_dead(struct command_env *env, char *const *args, int count)
{
    struct dead d = {.show = strcmp(args[0], "show") == 0};
    struct error err = ERROR_INIT;
    struct dead_filter wanted;
    bool list = strcmp(args[0], "list") == 0, by_key = d.show && env->settings->key != NULL;
    if ((!list && !d.show) || (list && count > 2) || (d.show && count != (by_key ? 2 : 3)))
        return wrong_usage();
    d.json = wants_json(env, d.show);
    if (dead_filter_read(&d.filter, env->settings, 0, &err) != 0 || (d.show && !by_key && read_item(&d.filter, args[2], &err) != 0))
        return command_fail(&err);
    int code = live_open(&d.live, env, SETUP_BUS, NULL);
    if (code >= 0)
        return code;
    dead_filter_read(&wanted, env->settings, loop_wall_ms(d.live.setup.world.loop), &err); /* checked above: only what time it is was not known */
    d.filter.since_ms = wanted.since_ms;
    d.filter.until_ms = wanted.until_ms;
    if ((code = live_read_runs(&d.live)) < 0)
        code = count > 1 ? list_named(&d, args[1]) : list_all(&d);
    return live_close(&d.live, code);
}
