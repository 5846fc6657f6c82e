#include "coordinator/submit.h"

#include "common/base/log.h"
#include "coordinator/submit_internal.h"

/* In a record's `by`, so that coordinators know that nobody has the first right to consolidate. */
#define LEFT_MARK "bqfleet submit, "

bool submit_left(const struct record *r)
{
    return r->by != NULL && strncmp(r->by, LEFT_MARK, strlen(LEFT_MARK)) == 0;
}

static void tell_failure(struct submit *s)
{
    s->error_due = false;
    s->events.failed(s->arg, &s->error, s->code);
}

/* The one setter of the step. Legal moves go forward, or to failed. */
void submit_go(struct submit *s, enum submit_step to)
{
    if (s->step == SUBMIT_FAILED)
        return;
    assert(to > s->step || (to == SUBMIT_PLACES && s->step == SUBMIT_PLACES));
    static const char *const names[] = {"places", "catalog", "record", "replace", "items", "marks", "seal", "done", "failed"};
    log_debug("submitting %s: %s", s->o.record->run, names[to]);
    s->step = to;
    timer_set(s->timer, 0);
}

void submit_fail(struct submit *s, int code, const struct error *err)
{
    if (s->step == SUBMIT_FAILED || s->step == SUBMIT_DONE)
        return;
    s->error = *err;
    s->code = code;
    s->error_due = true;
    timer_stop(s->alive_timer);
    submit_go(s, SUBMIT_FAILED);
}

static void on_ended(void *arg, int64_t offset, const struct error *err)
{
    struct submit *s = arg;
    (void)offset;
    s->letter = NULL;
    if (err != NULL)
        log_warn("the run's end could not be written: %s", err->text);
    struct error told = s->error;
    submit_fail(s, s->code, &told);
}

static void cancelled(void *arg, int64_t offset, const struct error *err)
{
    struct submit *s = arg;
    if (!s->undoing) {
        on_ended(arg, offset, err);
        return;
    }
    doc *end = doc_object(); /* nobody tracks the run, to copy its end from the log */
    doc_set_str(end, "end", run_end_name(END_CANCEL));
    doc_set_int(end, "exit", EXIT_ENDED);
    doc_set_str(end, "text", s->error.text);
    doc_set_int(end, "time_ms", loop_wall_ms(s->loop));
    s->letter = outbox_batches(s->o.outbox, catalog_end_key(s->o.record->run), end, on_ended, s);
}

void submit_cancel(struct submit *s, int code, const struct error *err)
{
    if (s->cancelling || s->error_due || s->step >= SUBMIT_DONE)
        return;
    s->cancelling = true;
    s->error = *err;
    s->code = code;
    s->at_end = true; /* nothing more is published */
    timer_stop(s->alive_timer);
    letter_forget(s->letter);
    char text[LIMIT_FAILURE_TEXT];
    snprintf(text, sizeof(text), "%.*s", (int)sizeof(text) - 1, err->text);
    struct log_msg m = {.type = LOGM_CANCEL, .text = text};
    s->letter = outbox_log(s->o.outbox, s->o.record, &m, cancelled, s);
}

/* --- the record and what was there first --------------------------------------------------------------------------------------------------- */

/* Another process has, or had, a run of this id: this one only watches it. */
static void attach(struct submit *s)
{
    log_info("run %s exists already: nothing is submitted again", s->o.record->run);
    s->step = SUBMIT_DONE;
    s->events.opened(s->arg, true);
}

static void refuse(struct submit *s, const char *open_run)
{
    struct error err;
    error_set(&err, ERR_USAGE, 0, "run %s of batch %s is open; watch it with `%s %s`, or use --replace to cancel it first", open_run,
              s->o.record->batch, s->o.command, open_run);
    submit_fail(s, EXIT_ENDED, &err);
}

static void on_record(void *arg, int64_t offset, const struct error *err)
{
    struct submit *s = arg;
    s->letter = NULL;
    if (err != NULL) {
        struct error told = s->undoing ? s->error : *err;
        submit_fail(s, s->undoing ? s->code : EXIT_UNFINISHED, &told);
        return;
    }
    s->record_offset = offset;
    submit_catalog_read(s);
}

static int check_size(struct submit *s, const doc *record)
{
    AUTO(free_ptr) char *text = doc_text(record);
    if (strlen(text) <= LIMIT_RECORD)
        return 0;
    struct error err;
    error_set(&err, ERR_USAGE, 0, "the run's record has %zu bytes; at most %d: job.params, items.list or the table's schema are too large",
              strlen(text), LIMIT_RECORD);
    submit_fail(s, EXIT_USAGE, &err);
    return -1;
}

/* `batches` was read to the end it had: a run of our id or an open one of our batch is known, unless it is written in this moment. */
static void write_record(struct submit *s)
{
    struct record *r = s->o.record;
    struct catalog *runs = catalog_watch_runs(s->o.watch);
    if (catalog_find(runs, r->run) != NULL) {
        attach(s);
        return;
    }
    struct catalog_run *open = catalog_open_of(runs, r->batch);
    if (open != NULL && r->adopts[0] && strcmp(open->run, r->adopts) == 0) /* held, and to be adopted */
        open = NULL;
    if (open != NULL && !s->o.replace) {
        refuse(s, open->run);
        return;
    }
    if (open != NULL)
        snprintf(r->replaces, sizeof(r->replaces), "%s", open->run);
    uint64_t nonce = rnd_u64(s->o.world->rnd);
    snprintf(r->nonce, sizeof(r->nonce), "%016" PRIx64, nonce);
    r->created_ms = loop_wall_ms(s->loop);
    r->batches_seen = catalog_watch_next(s->o.watch);
    free(r->by);
    r->by = xasprintf("%s%s", s->o.leaves ? LEFT_MARK : "", outbox_by(s->o.outbox));
    doc *value = record_to_doc(r);
    if (check_size(s, value) != 0) {
        doc_free(value);
        return;
    }
    s->letter = outbox_batches(s->o.outbox, catalog_record_key(r), value, on_record, s);
}

static void withdraw(struct submit *s, const struct catalog_run *ours)
{
    doc *value = catalog_withdrawn_value(ours->void_because, loop_wall_ms(s->loop));
    outbox_batches(s->o.outbox, catalog_end_key(s->o.record->run), value, NULL, NULL);
    if (!s->undoing)
        refuse(s, ours->void_because);
}

/* Aborted before it was known whose run this is: only what is ours is ended. */
static void undo(struct submit *s)
{
    struct error told = s->error;
    if (s->step == SUBMIT_RECORD) /* it was withdrawn, or another's run */
        submit_fail(s, s->code, &told);
    else
        submit_cancel(s, s->code, &told);
}

/* The record was read back, and with it everything that was written before it: the first one of a name has it, in every reader's eyes. */
static void look_at_standing(struct submit *s)
{
    struct record *r = s->o.record;
    struct catalog_run *ours = catalog_find(catalog_watch_runs(s->o.watch), r->run);
    if (ours == NULL || strcmp(ours->record->nonce, r->nonce) != 0) { /* two of one id at once, and the other was first */
        outbox_batches(s->o.outbox, catalog_record_key(r), NULL, NULL, NULL);
        if (s->undoing)
            return;
        if (ours != NULL) {
            attach(s);
            return;
        }
        struct error err;
        error_set(&err, ERR_FATAL, 0, "the record of run %s was written, but cannot be read back; look at topic %s", r->run, s->batches);
        submit_fail(s, EXIT_UNFINISHED, &err);
        return;
    }
    if (ours->standing == STANDING_VOID) {
        withdraw(s, ours);
        return;
    }
    submit_go(s, SUBMIT_REPLACE);
}

void submit_catalog_read(struct submit *s)
{
    if (s->step == SUBMIT_CATALOG && catalog_watch_ready(s->o.watch))
        submit_go(s, SUBMIT_RECORD);
    else if (s->step == SUBMIT_RECORD && s->record_offset >= 0 && catalog_watch_next(s->o.watch) > s->record_offset)
        timer_set(s->timer, 0);
}

/* --- replacing, the seal ------------------------------------------------------------------------------------------------------------------ */

static void replaced(void *arg, int64_t offset, const struct error *err)
{
    struct submit *s = arg;
    (void)offset;
    s->letter = NULL;
    if (err != NULL)
        submit_cancel(s, EXIT_UNFINISHED, err);
    else
        submit_go(s, SUBMIT_ITEMS);
}

static struct letter *cancel_one(struct submit *s, const struct record *older, letter_cb *cb)
{
    char text[LIMIT_NAME + 32];
    snprintf(text, sizeof(text), "replaced by run %s", s->o.record->run);
    struct log_msg m = {.type = LOGM_CANCEL, .text = text};
    return outbox_log(s->o.outbox, older, &m, cb, s);
}

/* The older run's log decides between its completion and this cancel; either way the new run consolidates only after its outcome. That one may itself
 * replace a run that still waits for its outcome, and whose cancel was never written. */
static void cancel_older(struct submit *s)
{
    struct record *r = s->o.record;
    struct catalog *runs = catalog_watch_runs(s->o.watch);
    struct catalog_run *older = r->replaces[0] ? catalog_find(runs, r->replaces) : NULL;
    s->events.opened(s->arg, false);
    if (s->step != SUBMIT_REPLACE)
        return;
    struct catalog_run *o = r->replaces[0] ? catalog_find(runs, r->run) : NULL;
    while (o != NULL && (o = catalog_open_before(runs, o)) != NULL)
        if (o != older)
            cancel_one(s, o->record, NULL);
    if (older == NULL || older->standing != STANDING_OPEN)
        submit_go(s, SUBMIT_ITEMS);
    else
        s->letter = cancel_one(s, older->record, replaced);
}

static void sealed(void *arg, int64_t offset, const struct error *err)
{
    struct submit *s = arg;
    (void)offset;
    s->letter = NULL;
    if (err != NULL) {
        submit_cancel(s, EXIT_UNFINISHED, err);
        return;
    }
    timer_stop(s->alive_timer);
    submit_go(s, SUBMIT_DONE);
    s->events.sealed(s->arg, s->next_item);
}

static void write_seal(struct submit *s)
{
    struct log_msg m = {.type = LOGM_SEAL, .items = s->next_item, .ends = s->ends, .end_count = (size_t)s->o.record->work_partitions};
    s->letter = outbox_log(s->o.outbox, s->o.record, &m, sealed, s);
}

void submit_ended(struct submit *s, enum run_end end, const char *text)
{
    if (s->step < SUBMIT_ITEMS || s->step >= SUBMIT_DONE || s->cancelling)
        return;
    struct error err;
    error_set(&err, ERR_FATAL, 0, "run %s has ended while its items were published: %s%s%s", s->o.record->run, run_end_name(end),
              text && *text ? ": " : "", text ? text : "");
    submit_fail(s, end == END_CANCEL || end == END_ABANDON ? EXIT_ENDED : EXIT_UNFINISHED, &err);
}

/*
 * Aborted while the record is on its way:
 *   1. It may arrive or not. If it does, its batch's name is taken until its end is in `batches`, and nobody may be there to write that.
 *   2. It may find that another process has the run's id, or the batch's name: a cancel written now would end that one's run.
 *   3. So it is read back first. If the run is ours, its log gets the cancel, and `batches` the end.
 */
void submit_abort(struct submit *s, int code, const struct error *err)
{
    if (s->step > SUBMIT_RECORD) {
        submit_cancel(s, code, err);
    } else if (s->step < SUBMIT_RECORD || (s->letter == NULL && s->record_offset < 0)) {
        submit_fail(s, code, err);
    } else {
        s->undoing = true;
        s->error = *err;
        s->code = code;
    }
}

static void turn(void *arg)
{
    struct submit *s = arg;
    if (s->error_due) {
        tell_failure(s);
        return;
    }
    if (s->cancelling) /* only its own acknowledgement matters now */
        return;
    switch (s->step) {
    case SUBMIT_PLACES:
        submit_ask_places(s);
        break;
    case SUBMIT_CATALOG:
        submit_catalog_read(s);
        break;
    case SUBMIT_RECORD:
        if (s->record_offset >= 0 && catalog_watch_next(s->o.watch) > s->record_offset) {
            look_at_standing(s);
            if (s->undoing)
                undo(s);
        } else if (s->record_offset < 0 && s->letter == NULL)
            write_record(s);
        break;
    case SUBMIT_REPLACE:
        cancel_older(s);
        break;
    case SUBMIT_ITEMS:
        submit_items_pump(s);
        break;
    case SUBMIT_MARKS:
        submit_ask_ends(s);
        break;
    case SUBMIT_SEAL:
        write_seal(s);
        break;
    default:
        break;
    }
}

/* --- alive -------------------------------------------------------------------------------------------------------------------------------- */

static void say_alive(void *arg)
{
    struct submit *s = arg;
    struct log_msg m = {.type = LOGM_ALIVE, .published = s->acknowledged};
    /* With the bus away these would pile up; one that waits speaks for all. */
    if (outbox_waits_for(s->o.outbox)[0] == '\0')
        outbox_log(s->o.outbox, s->o.record, &m, NULL, NULL);
    timer_set(s->alive_timer, WAIT_ALIVE_EVERY * US_PER_MS);
}

void submit_items_start(struct submit *s)
{
    if (!timer_is_set(s->alive_timer))
        say_alive(s);
}

struct submit *submit_start(const struct submit_options *o, const struct submit_events *events, void *arg)
{
    struct submit *s = xcalloc(1, sizeof(*s));
    s->envelope = BUF_INIT(LIMIT_PAYLOAD + LIMIT_KEY + 1024);
    s->o = *o;
    s->events = *events;
    s->arg = arg;
    s->loop = o->world->loop;
    s->record_offset = -1;
    topic_work(s->work, o->world->prefix, o->record->queue);
    topic_results(s->results, o->world->prefix);
    topic_dead(s->dead, o->world->prefix);
    topic_batches(s->batches, o->world->prefix);
    s->timer = timer_new(s->loop, turn, s);
    s->alive_timer = timer_new(s->loop, say_alive, s);
    timer_set(s->timer, 0);
    return s;
}

void submit_free(struct submit *s)
{
    if (s == NULL)
        return;
    letter_forget(s->letter);
    submit_questions_free(s);
    submit_items_free(s);
    timer_free(s->timer);
    timer_free(s->alive_timer);
    free(s->ends);
    free(s);
}

void submit_ready(struct submit *s)
{
    s->source_waits = false;
    if (s->step == SUBMIT_ITEMS)
        timer_set(s->timer, 0);
}

void submit_state(const struct submit *s, struct submit_state *out)
{
    *out = (struct submit_state){.published = s->next_item, .acknowledged = s->acknowledged, .failed = s->failed, .sealed = s->step == SUBMIT_DONE,
                                 .waits_for = s->source_waits ? "the items' source" : outbox_waits_for(s->o.outbox)};
}
