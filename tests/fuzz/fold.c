#include "common/fleet/fold.h"

#include "common/base/limits.h"
#include "tests/fuzz/fuzz.h"

/*
 * A run's log, message by message in the words of a small world (few items, loads, shards), against a second, naive account of it: which items are
 * done, and by what. Each message goes through the wire. Two folds of one log agree; what is done stays done; an ended run stays ended.
 */

enum { ITEMS = 48, LOADS = 12, SHARDS = 3, MESSAGES = 200 };
enum how { NOT_DONE, BY_LOAD, EMPTY, FAILED };

struct naive { enum how item[ITEMS]; int64_t load[ITEMS]; bool seen[LOADS]; };

static const char *const incarnations[SHARDS] = {"aaaaaaaaaa", "bbbbbbbbbb", "cccccccccc"};
static char load_names[LOADS][LOAD_ID_LEN + 1];

struct texts {
    struct item_range ranges[4], empty[4];
    struct item_failure failures[4];
    struct seal_end ends[2];
    const char *loads[3];
    int64_t load;
};

static size_t some_ranges(struct input *in, struct item_range *v)
{
    size_t n = (size_t)input_small(in, 4);
    int64_t at = 0, kept = 0;
    for (size_t i = 0; i < n; i++) {
        int64_t first = at + input_small(in, 8), count = 1 + input_small(in, 12);
        if (first + count > ITEMS)
            break;
        v[kept++] = (struct item_range){first, count};
        at = first + count + 1;
    }
    return (size_t)kept;
}

static void a_manifest(struct input *in, struct log_msg *m, struct texts *t)
{
    t->load = input_small(in, LOADS + 2);
    if (t->load < LOADS) {
        m->manifest.load = load_names[t->load];
        m->manifest.incarnation = incarnations[t->load % SHARDS];
        m->manifest.rows = input_small(in, 100);
        m->manifest.ranges = t->ranges;
        m->manifest.range_count = some_ranges(in, t->ranges);
    }
    m->manifest.empty = t->empty;
    m->manifest.empty_count = some_ranges(in, t->empty);
    m->manifest.failures = t->failures;
    m->manifest.failure_count = (size_t)input_small(in, 4);
    for (size_t i = 0; i < m->manifest.failure_count; i++)
        t->failures[i] = (struct item_failure){.item = input_small(in, ITEMS), .attempts = 1, .key = "k", .reason = "row", .text = ""};
    m->manifest.succeeded = input_small(in, 2);
}

static struct log_msg message(struct input *in, struct texts *t)
{
    struct log_msg m = {.type = (enum log_type)(1 + input_small(in, LOGM_TYPES - 1))};
    int64_t choice = input_small(in, 256);
    t->load = -1;
    switch (m.type) {
    case LOGM_ALIVE: m.published = choice; break;
    case LOGM_SEAL:
        m.items = choice % 8 == 0 ? choice % ITEMS : ITEMS;
        m.ends = t->ends;
        m.end_count = 1;
        t->ends[0] = (struct seal_end){0, 100};
        break;
    case LOGM_MANIFEST: a_manifest(in, &m, t); break;
    case LOGM_CUT:
        m.cut = choice % 4;
        m.shard = choice & 64 ? incarnations[choice % SHARDS] : "";
        m.loads = t->loads;
        for (m.load_count = 0; m.load_count < (size_t)(choice / 64); m.load_count++)
            t->loads[m.load_count] = load_names[input_small(in, LOADS)];
        break;
    case LOGM_PARALLEL: m.parallel = choice; break;
    case LOGM_ABANDON: m.heard = choice; break;
    case LOGM_OUTCOME:
        m.cut = choice % 4;
        m.shard = choice & 64 ? incarnations[choice % SHARDS] : "";
        m.ok = choice < 192;
        m.job = "job";
        break;
    default: m.text = "why"; m.run = "other"; break;
    }
    return m;
}

static void naive_mark(struct naive *n, int64_t item, enum how how, int64_t load)
{
    if (n->item[item] != NOT_DONE)
        return;
    n->item[item] = how;
    n->load[item] = load;
}

static void naive_manifest(struct naive *n, const struct log_msg *m, const struct texts *t)
{
    if (t->load < LOADS && n->seen[t->load])
        return;
    if (t->load < LOADS)
        n->seen[t->load] = true;
    for (size_t i = 0; i < m->manifest.range_count; i++)
        for (int64_t k = 0; k < m->manifest.ranges[i].count; k++)
            naive_mark(n, m->manifest.ranges[i].first + k, BY_LOAD, t->load);
    for (size_t i = 0; i < m->manifest.empty_count; i++)
        for (int64_t k = 0; k < m->manifest.empty[i].count; k++)
            naive_mark(n, m->manifest.empty[i].first + k, EMPTY, -1);
    for (size_t i = 0; i < m->manifest.failure_count; i++)
        naive_mark(n, m->manifest.failures[i].item, FAILED, -1);
}

static bool has_item(const struct log_msg *m, int64_t item)
{
    for (size_t i = 0; i < m->manifest.range_count; i++)
        if (item >= m->manifest.ranges[i].first && item < m->manifest.ranges[i].first + m->manifest.ranges[i].count)
            return true;
    return false;
}

/* Items that accepted loads hold and no exclusion takes out of them, each once, are those that the naive account has by a load. */
static void compare(const struct fold *f, const struct naive *n)
{
    int64_t done = 0, failed = 0, empty = 0, loaded = 0, standing = 0, uncut = 0;
    for (int64_t i = 0; i < ITEMS; i++) {
        CHECK(fold_is_done(f, i) == (n->item[i] != NOT_DONE));
        CHECK(fold_is_failed(f, i) == (n->item[i] == FAILED));
        done += n->item[i] != NOT_DONE;
        failed += n->item[i] == FAILED;
        empty += n->item[i] == EMPTY;
        loaded += n->item[i] == BY_LOAD;
    }
    CHECK(f->done == done && f->failed == failed && f->empty == empty);
    for (size_t i = 0; i < f->load_count; i++) {
        CHECK(f->loads[i].cut < (int64_t)f->cut_count);
        uncut += f->loads[i].cut == LOAD_UNCUT;
        if (f->loads[i].cut != LOAD_UNNEEDED)
            standing += f->loads[i].items - (int64_t)f->loads[i].exclusion_count;
    }
    CHECK(standing == loaded);
    CHECK(fold_has_uncut(f) == (uncut > 0));
    for (size_t i = 0; i < f->exclusion_count; i++)
        CHECK(f->exclusions[i].load < f->load_count && fold_is_done(f, f->exclusions[i].item));
    if (f->phase == RUN_ENDED && (f->end == END_COMPLETE || f->end == END_ACCEPTED))
        CHECK(f->done == f->items && uncut == 0 && f->cuts[f->cut_count - 1].last);
    if (f->phase == RUN_HELD)
        CHECK(f->done == f->items && fold_over_tolerance(f) && fold_exit_code(f) == EXIT_HELD);
}

/* The wire's copy of the message, folded by both. */
static void fold_both(struct fold *f, struct fold *g, const struct log_msg *m, int64_t offset, struct naive *naive, const struct texts *t)
{
    struct buf wire = BUF_INIT(1 << 20);
    struct log_msg got;
    struct logmsg_memory *memory = NULL;
    struct error err = ERROR_INIT;
    char before[65], after[65], twin[65];
    CHECK(logmsg_encode(m, &wire) == 0);
    CHECK(logmsg_decode(wire.data, wire.len, &got, &memory, &err) == 0 && got.type == m->type);
    for (int64_t i = 0; m->type == LOGM_MANIFEST && i < ITEMS; i++)
        CHECK(has_item(m, i) == has_item(&got, i));
    enum run_phase phase = f->phase;
    int64_t end_offset = f->end_offset;
    fold_digest(f, before);
    int rc = fold_apply(f, &got, offset, offset, &err);
    CHECK(fold_apply(g, &got, offset, offset, &err) == rc);
    fold_digest(f, after);
    fold_digest(g, twin);
    CHECK(strcmp(after, twin) == 0);
    CHECK(rc == 0 || (err.kind == ERR_FATAL && strcmp(before, after) == 0));
    CHECK(phase != RUN_ENDED || (f->phase == RUN_ENDED && f->end_offset == end_offset));
    if (rc == 0 && m->type == LOGM_MANIFEST && phase != RUN_ENDED)
        naive_manifest(naive, m, t);
    compare(f, naive);
    logmsg_free(memory);
    buf_free(&wire);
}

FUZZ(fold)
{
    struct input in = input_of(data, size);
    struct fold_config config = {.stop_after = 3};
    config.tolerate_count = input_small(&in, 8) - 2; /* below 0: by percent */
    config.tolerate_percent = (double)input_small(&in, 101);
    for (int i = 0; i < LOADS; i++)
        load_id(load_names[i], incarnations[i % SHARDS], i);
    struct fold *f = fold_new(&config), *g = fold_new(&config);
    struct naive naive = {0};
    for (int64_t offset = 0; offset < MESSAGES && input_left(&in) > 0; offset++) {
        struct texts t = {0};
        struct log_msg m = message(&in, &t);
        fold_both(f, g, &m, offset, &naive, &t);
    }
    fold_free(f);
    fold_free(g);
}
