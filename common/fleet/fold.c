#include "common/fleet/fold_internal.h"

static const char *const phase_names[] = {"publishing", "working", "held", "ended"};
static const char *const end_names[] = {"open", "written", "accepted", "cancelled", "adopted", "fatal", "abandoned", "lost", "failed"};

const char *run_phase_name(enum run_phase p)
{
    return phase_names[p];
}

const char *run_end_name(enum run_end e)
{
    return end_names[e];
}

struct fold *fold_new(const struct fold_config *config)
{
    struct fold *f = xcalloc(1, sizeof(*f));
    f->config = *config;
    f->items = -1;
    f->end_offset = -1;
    f->load_index = xcalloc(1, sizeof(struct fold_index));
    return f;
}

static void free_texts(struct fold *f)
{
    for (size_t i = 0; i < f->failure_count; i++) {
        free(f->failures[i].key);
        free(f->failures[i].reason);
        free(f->failures[i].text);
    }
    for (size_t i = 0; i < f->cut_count; i++) {
        free(f->cuts[i].job);
        free(f->cuts[i].text);
    }
    free(f->end_text);
    free(f->adopted_by);
}

void fold_free(struct fold *f)
{
    if (f == NULL)
        return; /* nothing to free */
    free_texts(f);
    fold_index_free(f->load_index);
    free(f->ends);
    free(f->bits);
    free(f->failed_bits);
    free(f->loads);
    free(f->exclusions);
    free(f->failures);
    free(f->shards);
    free(f->cuts);
    free(f);
}

bool fold_is_done(const struct fold *f, int64_t item)
{
    return item >= 0 && item < f->bits_len && (f->bits[item / 64] >> (item % 64) & 1) != 0;
}

bool fold_is_failed(const struct fold *f, int64_t item)
{
    return item >= 0 && item < f->failed_len && (f->failed_bits[item / 64] >> (item % 64) & 1) != 0;
}

int64_t fold_next_failed(const struct fold *f, int64_t from)
{
    for (int64_t i = i64_max(from, 0); i < f->failed_len; i++) {
        uint64_t rest = f->failed_bits[i / 64] >> (i % 64);
        if (rest != 0)
            return i + __builtin_ctzll(rest);
        i |= 63; /* nothing more in this word */
    }
    return -1;
}

/* 29 % of 100 items are 29 items: binary fractions must not make them 28.999. */
int64_t fold_tolerated(const struct fold *f)
{
    const double slack = 1 + 1e-12;
    if (f->config.tolerate_count >= 0)
        return f->config.tolerate_count;
    return f->items < 0 ? 0 : (int64_t)(f->config.tolerate_percent * (double)f->items * slack / 100);
}

bool fold_over_tolerance(const struct fold *f)
{
    return (f->config.tolerate_count >= 0 || f->items >= 0) && f->failed > fold_tolerated(f);
}

bool fold_must_stop(const struct fold *f)
{
    return f->phase != RUN_ENDED && f->phase != RUN_HELD && f->config.stop_after > 0 && f->in_a_row >= f->config.stop_after;
}

/* The one setter of the phase. What may follow what: */
static void set_phase(struct fold *f, enum run_phase to)
{
    static const bool legal[4][4] = {
        [RUN_PUBLISHING] = {[RUN_WORKING] = true, [RUN_ENDED] = true},
        [RUN_WORKING] = {[RUN_HELD] = true, [RUN_ENDED] = true},
        [RUN_HELD] = {[RUN_ENDED] = true},
    };
    assert(legal[f->phase][to]);
    f->phase = to;
}

static void end_run(struct fold *f, enum run_end end, int64_t offset, const char *text)
{
    set_phase(f, RUN_ENDED);
    f->end = end;
    f->end_offset = offset;
    f->end_text = xstrdup(text);
}

/* The message that makes the log's items complete ends the run as its last cut, or holds it. */
static void check_complete(struct fold *f, int64_t offset)
{
    if (f->phase != RUN_WORKING || f->done < f->items)
        return;
    if (fold_over_tolerance(f)) {
        set_phase(f, RUN_HELD);
        return;
    }
    fold_cut_run(f, offset, true);
    end_run(f, END_COMPLETE, offset, "");
}

static int apply_seal(struct fold *f, const struct log_msg *m, int64_t offset, struct error *err)
{
    if (f->phase != RUN_PUBLISHING)
        return 1;
    if (fold_highest(f) >= m->items)
        return error_set(err, ERR_FATAL, 0, "the log reports item %" PRId64 " as done, but its seal says %" PRId64 " items", fold_highest(f),
                         m->items);
    f->items = m->items;
    f->published = m->items;
    if (m->end_count > 0)
        f->ends = xmemdup(m->ends, m->end_count * sizeof(*m->ends));
    f->end_count = m->end_count;
    set_phase(f, RUN_WORKING);
    check_complete(f, offset);
    return 0;
}

static int apply_cut(struct fold *f, const struct log_msg *m, int64_t offset)
{
    if (f->phase == RUN_ENDED || f->phase == RUN_HELD)
        return 1;
    if (m->shard[0] != '\0')
        return fold_cut_shard(f, m, offset);
    if (m->cut != f->run_cuts)
        return 1;
    fold_cut_run(f, offset, false);
    return 0;
}

static int apply_accept(struct fold *f, const struct log_msg *m, int64_t offset)
{
    if (f->phase != RUN_HELD)
        return 1;
    fold_cut_run(f, offset, true);
    end_run(f, END_ACCEPTED, offset, m->text);
    return 0;
}

static int apply_end(struct fold *f, const struct log_msg *m, int64_t offset)
{
    static const enum run_end ends[LOGM_TYPES] = {
        [LOGM_CANCEL] = END_CANCEL, [LOGM_FATAL] = END_FATAL, [LOGM_ABANDON] = END_ABANDON, [LOGM_LOST] = END_LOST, [LOGM_ADOPTED] = END_ADOPTED,
    };
    bool valid = f->phase != RUN_ENDED;
    if (m->type == LOGM_ABANDON)
        valid = f->phase == RUN_PUBLISHING && m->heard >= f->heard;
    if (m->type == LOGM_LOST || m->type == LOGM_FATAL)
        valid = valid && f->phase != RUN_HELD && (m->type == LOGM_FATAL || f->phase == RUN_WORKING);
    if (m->type == LOGM_ADOPTED)
        valid = f->phase == RUN_HELD && fold_open_cut(f) == NULL;
    if (!valid)
        return 1;
    if (m->type == LOGM_ADOPTED)
        f->adopted_by = xstrdup(m->run);
    end_run(f, ends[m->type], offset, m->text);
    return 0;
}

static int apply_setting(struct fold *f, const struct log_msg *m)
{
    if (f->phase == RUN_ENDED)
        return 1;
    if (m->type == LOGM_PARALLEL)
        f->parallel = m->parallel;
    else
        f->paused = m->type == LOGM_PAUSE;
    return 0;
}

static int apply_outcome(struct fold *f, const struct log_msg *m, int64_t offset)
{
    if (fold_settle_cut(f, m) != 0)
        return 1;
    if (!m->ok) {
        if (f->phase != RUN_ENDED) {
            end_run(f, END_FAILED, offset, m->text);
        } else {
            f->end = END_FAILED;
            free(f->end_text);
            f->end_text = xstrdup(m->text);
        }
        fold_void_open_cuts(f, m->shard[0] ? fold_find_shard(f, m->shard) : -1);
    }
    return 0;
}

/* 0: it had an effect; 1: it had none; -1: the log contradicts itself. */
static int apply(struct fold *f, const struct log_msg *m, int64_t offset, struct error *err)
{
    switch (m->type) {
    case LOGM_ALIVE:
        f->published = i64_max(f->published, m->published);
        f->left = f->left || m->left;
        return f->phase == RUN_PUBLISHING ? 0 : 1;
    case LOGM_SEAL:
        return apply_seal(f, m, offset, err);
    case LOGM_MANIFEST: {
        if (f->phase == RUN_ENDED)
            return 1;
        int rc = fold_manifest(f, &m->manifest, offset, err);
        if (rc == 0)
            check_complete(f, offset);
        return rc;
    }
    case LOGM_CUT:
        return apply_cut(f, m, offset);
    case LOGM_ACCEPT:
        return apply_accept(f, m, offset);
    case LOGM_PAUSE:
    case LOGM_RESUME:
    case LOGM_PARALLEL:
        return apply_setting(f, m);
    case LOGM_OUTCOME:
        return apply_outcome(f, m, offset);
    default:
        return apply_end(f, m, offset);
    }
}

int fold_apply(struct fold *f, const struct log_msg *m, int64_t offset, int64_t time_ms, struct error *err)
{
    assert(offset >= f->next_offset);
    f->now_ms = time_ms;
    int rc = apply(f, m, offset, err);
    if (rc < 0)
        return -1;
    if (m->type == LOGM_ALIVE || m->type == LOGM_SEAL) {
        f->last_alive_ms = i64_max(f->last_alive_ms, time_ms);
        f->heard = offset + 1;
    }
    if (rc == 0)
        f->effect_ms = time_ms;
    f->next_offset = offset + 1;
    f->messages++;
    f->ignored += rc;
    return 0;
}

bool fold_settled(const struct fold *f)
{
    return f->phase == RUN_ENDED && fold_open_cut(f) == NULL;
}

int fold_exit_code(const struct fold *f)
{
    if (f->phase == RUN_HELD)
        return EXIT_HELD;
    switch (f->end) {
    case END_COMPLETE:
    case END_ACCEPTED:
        return EXIT_WRITTEN;
    case END_CANCEL:
    case END_ADOPTED:
    case END_ABANDON:
        return EXIT_ENDED;
    default:
        return EXIT_UNFINISHED;
    }
}
