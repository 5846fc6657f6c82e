#include "coordinator/redrive.h"

#include "coordinator/track.h"

/* --- which items --------------------------------------------------------------------------------------------------------------------------------- */

/* A redrive that may have written what it took. */
static bool has_taken(const struct catalog_run *r, const char *run)
{
    if (r->standing == STANDING_VOID || r->record->adopts[0] != '\0' || strcmp(r->record->redrives, run) != 0)
        return false;
    return r->end == NULL || doc_int(r->end, "exit", EXIT_UNFINISHED) == EXIT_WRITTEN || strcmp(doc_str(r->end, "end", ""), "unknown") == 0;
}

void redrive_choose(struct redrive_choice *c, struct catalog *runs, const char *run, const struct dead_filter *filter)
{
    *c = (struct redrive_choice){.filter = *filter};
    for (struct catalog_run *r = catalog_next(runs, NULL); r != NULL; r = catalog_next(runs, r)) {
        if (!has_taken(r, run))
            continue;
        if (c->before_count == ARRAY_LEN(c->before)) { /* more than anybody tells apart: then all is taken */
            c->before[0] = (struct dead_filter){.item = -1};
            return;
        }
        dead_filter_from_doc(&c->before[c->before_count++], r->record->selection);
    }
}

void redrive_failure(struct redrive_choice *c, const struct item_failure *f, int64_t time_ms)
{
    if (!dead_filter_takes(&c->filter, f, time_ms))
        return;
    for (size_t i = 0; i < c->before_count; i++)
        if (dead_filter_takes(&c->before[i], f, time_ms)) {
            c->taken_before++;
            return;
        }
    if (f->attempts == 0 && strcmp(f->reason, "size") == 0)
        c->never_queued++;
    else
        itemset_add(&c->selected, f->item);
}

/* --- whether ------------------------------------------------------------------------------------------------------------------------------------- */

static int no(struct error *err, const char *fmt, ...) PRINTF_LIKE(2, 3);
static int no(struct error *err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    error_vset(err, ERR_FATAL, 0, fmt, ap);
    va_end(ap);
    return -1;
}

static int64_t left_of(const struct fold *f, const struct redrive_choice *c)
{
    return f->failed - c->selected.count;
}

static int judge_ended(struct catalog *runs, const struct catalog_run *r, const struct fold *f, const char *flags, struct error *err)
{
    const struct catalog_run *first = r->record->adopts[0] ? catalog_find(runs, r->record->adopts) : NULL;
    if (f->end == END_ADOPTED)
        return no(err, "run %s was redriven by run %s, and its rows were written with that run's: redrive that one, if items of it failed", r->run, f->adopted_by);
    if (!fold_settled(f))
        return no(err, "run %s is being written just now: redrive it once it is", r->run);
    if (fold_exit_code(f) == EXIT_WRITTEN)
        return 0;
    if (first != NULL && first->standing == STANDING_OPEN)
        return no(err, "run %s has ended unwritten (%s); the run it was to redrive is still held: bqfleet redrive %s%s", r->run, run_end_name(f->end), first->run,
                  flags);
    return no(err, "run %s has ended unwritten (%s): there is nothing that a redrive could complete; run the batch again", r->run, run_end_name(f->end));
}

static int judge_held(struct catalog *runs, const struct catalog_run *r, const struct fold *f, const struct redrive_choice *c, bool accept_rest,
                      const char *flags, struct error *err)
{
    const struct catalog_run *heir = catalog_heir_of(runs, r->run), *up = r;
    int depth = 0;
    if (heir != NULL) {
        no(err, "run %s redrives run %s already: watch it with bqfleet watch %s%s; to begin anew, cancel it first", heir->run, r->run, heir->run, flags);
        error_reason(err, "open");
        return -1;
    }
    while (up != NULL && up->record->adopts[0] != '\0' && depth < LIMIT_ADOPTED) {
        up = catalog_find(runs, up->record->adopts);
        depth++;
    }
    if (depth >= LIMIT_ADOPTED - 1)
        return no(err, "run %s is the last of %d redrives of redrives: accept it (bqfleet finish %s --accept-failed%s), then redrive what failed", r->run, depth,
                  r->run, flags);
    if (!accept_rest && c->selected.count > 0 && left_of(f, c) > fold_tolerated(f))
        return no(err, "%" PRId64 " failed items of the held run %s are not selected, and it tolerates %" PRId64 ": the new run would be held for them. Redrive them "
                  "too, or give --accept-rest to write the run without them", left_of(f, c), r->run, fold_tolerated(f));
    return 0;
}

int redrive_judge(struct catalog *runs, const struct catalog_run *r, const struct fold *f, const struct redrive_choice *c, bool accept_rest, const char *flags,
                  struct error *err)
{
    if (r->standing == STANDING_VOID)
        return no(err, "run %s was withdrawn: it has no items", r->run);
    if (f->phase == RUN_PUBLISHING || f->phase == RUN_WORKING)
        return no(err, "run %s is still %s: wait for its end (bqfleet watch %s%s)", r->run, run_phase_name(f->phase), r->run, flags);
    if (f->phase == RUN_ENDED && judge_ended(runs, r, f, flags, err) != 0)
        return -1;
    if (f->phase == RUN_HELD && judge_held(runs, r, f, c, accept_rest, flags, err) != 0)
        return -1;
    if (c->selected.count > 0)
        return 0;
    if (f->failed == 0)
        return no(err, "no item of run %s has failed: there is nothing to redrive", r->run);
    if (c->taken_before > 0)
        return no(err, "the %" PRId64 " failed items of run %s that are meant were redriven before", c->taken_before, r->run);
    if (c->never_queued > 0)
        return no(err, "the %" PRId64 " failed items of run %s that are meant never were in the queue, being too large for it", c->never_queued, r->run);
    if (r->record->redrives[0] != '\0')
        return no(err, "run %s has %" PRId64 " failed items, and none of them is meant; it is a redrive of run %s: name that one if others of its items are meant",
                  r->run, f->failed, r->record->redrives);
    return no(err, "run %s has %" PRId64 " failed items, and none of them is meant (bqfleet dead list %s%s shows them)", r->run, f->failed, r->run, flags);
}

/* --- the record ---------------------------------------------------------------------------------------------------------------------------------- */

/* The rows that were missing come to those that were written: a second `replace` would take these away, and so it is with partitions. */
static enum write_mode added_to(const struct record *r)
{
    return r->mode != WRITE_REPLACE && r->mode != WRITE_REPLACE_PARTITIONS ? r->mode : r->key_count > 0 ? WRITE_MERGE : WRITE_APPEND;
}

struct record *redrive_record(const struct world *world, const struct record *of, const struct fold *f, const struct redrive_choice *c, bool accept_rest,
                              const char *run_id, struct error *err)
{
    char id[ID_LEN + 1];
    id_new(id, loop_wall_ms(world->loop), world->rnd);
    if (run_id != NULL && id_check_run(run_id, err) != 0)
        return NULL;
    struct record *r = track_copy_record(of, err);
    if (r == NULL)
        return NULL;
    bool held = f->phase == RUN_HELD;
    snprintf(r->run, sizeof(r->run), "%s", run_id ? run_id : id);
    memcpy(r->redrives, of->run, sizeof(r->redrives));
    memcpy(r->adopts, held ? of->run : "", held ? sizeof(r->adopts) : 1);
    r->replaces[0] = '\0';
    r->mode = held ? of->mode : added_to(of);
    /* All at the end: an increment would be on the table before the adopted rows, which win a tie against what is there; and a redrive that ends unwritten
     * must have written nothing, so that it can be repeated. */
    r->every_ms = 0;
    r->via = r->via == VIA_DIRECT ? VIA_STAGING : r->via;
    doc_free(r->selection);
    r->selection = dead_filter_to_doc(&c->filter);
    r->left = left_of(f, c);
    /* What is tolerated is so of the whole: a number, of which those that stay failed are used up. */
    r->finish.tolerate_count = fold_tolerated(f) - (held && !accept_rest ? r->left : 0);
    r->finish.tolerate_percent = 0;
    assert(r->finish.tolerate_count >= 0);
    return r;
}
