#include "tests/unit/support_poison.h"

#include <sys/queue.h>

#include "common/bus/bus_ops.h"

struct play play;

struct marks play_marks(int32_t partition)
{
    struct marks m;
    struct error err = ERROR_INIT;
    struct ackmap *map = ackmap_new(play.offsets[partition]);
    assert_int_equal(ackmap_load(map, play.metadata[partition], &m, &err), 0);
    ackmap_free(map);
    return m;
}

/* --- the bus, with a look at what is committed ------------------------------------------------------------------------------------------ */

static const struct bus_ops *honest;

/* One that is on its way. It is noted once it is acknowledged; its worker may die before, and then nobody is called. */
struct sent {
    LIST_ENTRY(sent) link;
    bus_done_cb *cb;
    void *arg;
    bool refused;
    int32_t partition;
    int64_t offset;
    char *metadata;
};
static LIST_HEAD(, sent) sents;

static void sent_free(struct sent *s)
{
    LIST_REMOVE(s, link);
    free(s->metadata);
    free(s);
}

static void answered(void *arg, const struct error *err)
{
    struct sent *s = arg;
    bus_done_cb *cb = s->cb;
    void *cb_arg = s->arg;
    struct error refusal = ERROR_INIT;
    if (s->refused) {
        error_set(&refusal, ERR_RETRY, 0, "the coordinator of the group moves");
        err = &refusal;
    } else if (err == NULL) {
        snprintf(play.metadata[s->partition], sizeof(play.metadata[0]), "%s", s->metadata);
        play.offsets[s->partition] = s->offset;
    }
    sent_free(s);
    if (cb != NULL)
        cb(cb_arg, err);
}

static bool says_outs(const struct bus_commit *c)
{
    struct marks m;
    struct error err = ERROR_INIT;
    struct ackmap *map = ackmap_new(c->offset);
    assert_int_equal(ackmap_load(map, c->metadata, &m, &err), 0);
    ackmap_free(map);
    return m.out.count > 0;
}

static struct bus_group *watched_join(struct bus *b, const struct bus_group_config *c, const struct bus_group_events *events, void *arg, struct error *err)
{
    play.events = *events;
    play.events_arg = arg;
    return honest->join(b, c, events, arg, err);
}

static void watched_commit(struct bus_group *g, const struct bus_commit *commits, size_t count, bus_done_cb *cb, void *arg)
{
    assert_int_equal(count, 1);
    struct sent *s = xcalloc(1, sizeof(*s));
    bool refused = play.no_commits || (play.no_outs && says_outs(commits));
    *s = (struct sent){.cb = cb, .arg = arg, .refused = refused, .partition = commits->partition, .offset = commits->offset,
                       .metadata = xstrdup(commits->metadata)};
    LIST_INSERT_HEAD(&sents, s, link);
    honest->group_commit(g, commits, refused ? 0 : 1, answered, s);
}

/* --- handlers ------------------------------------------------------------------------------------------------------------------------------ */

static struct fake_child *child_of(struct kit *k, int serial)
{
    struct fake_child *f = k->fakes;
    while (f != NULL && f->serial != serial)
        f = f->next;
    return f;
}

size_t play_held(int worker)
{
    size_t n = 0;
    for (size_t i = 0; i < play.held_count; i++)
        n += play.held[i].worker == worker;
    return n;
}

/* What children had that are gone is with nobody. */
static void forget(struct kit *k)
{
    size_t kept = 0;
    for (size_t i = 0; i < play.held_count; i++)
        if (child_of(k, play.held[i].serial) != NULL)
            play.held[kept++] = play.held[i];
    play.held_count = kept;
}

/* kit_publish deals items out: item 4 * n + p is the n-th of partition p. */
static void look(const struct held *h)
{
    int64_t offset = h->item / KIT_PARTITIONS;
    struct marks m = play_marks((int32_t)(h->item % KIT_PARTITIONS));
    if (m.alone == offset) {
        play.naming++;
        play.named[h->item]++;
        play.crowded += play_held(h->worker) > 1;
        for (int32_t p = 0; p < KIT_PARTITIONS; p++)
            play.open_beside += p != h->item % KIT_PARTITIONS && strcmp(play_marks(p).holder, m.holder) == 0;
    } else {
        play.unannounced += marks_careful(&m) && !offsets_has(&m.out, offset);
    }
}

static void slow(struct fake_child *f, const doc *msg)
{
    int64_t item = msg ? doc_int(msg, "item", -1) : -1;
    if (msg == NULL)
        fake_exit(f, 0, "exit status 0");
    else if (doc_get(msg, "hello") != NULL)
        fake_say(f, "{\"ready\":true}\n");
    if (item < 0)
        return;
    assert_true(item < PLAY_ITEMS && play.held_count < ARRAY_LEN(play.held));
    forget(f->kit);
    struct held *h = &play.held[play.held_count++];
    *h = (struct held){.serial = f->serial, .worker = play.owner[f->serial], .item = item};
    play.given[item]++;
    play.attempt[item] = (int)i64_max(play.attempt[item], doc_int(msg, "attempt", 0));
    look(h);
}

static struct children second_children;
static struct world second_world;

static struct child *second_child(void *kit, const struct child_spec *spec, const struct child_events *events, void *arg, struct error *err)
{
    struct kit *k = kit;
    assert_true(k->started + 1 < (int)ARRAY_LEN(play.owner));
    play.owner[k->started + 1] = 1;
    return k->children.ops->start(k, spec, events, arg, err);
}

void play_second(struct kit *k)
{
    static const struct child_ops ops = {.start = second_child};
    second_children = (struct children){.ops = &ops, .self = k};
    second_world = k->world;
    second_world.children = &second_children;
    struct error err = ERROR_INIT;
    struct worker_options o = k->options;
    o.world = &second_world;
    o.name = "w2";
    k->second = worker_start(&o, &err);
    assert_non_null(k->second);
}

void play_die(struct kit *k, int worker)
{
    forget(k);
    for (size_t i = 0; i < play.held_count; i++)
        if (play.held[i].worker == worker && play_held(worker) == 1)
            play.lone_deaths[play.held[i].item]++;
    play.deaths++;
    if (worker == 0) {
        worker_free(k->worker);
        kit_start(k);
    } else {
        worker_free(k->second);
        play_second(k);
    }
    forget(k);
}

static bool killed_by(struct kit *k, int worker)
{
    for (size_t i = 0; i < play.held_count; i++) {
        if (play.held[i].worker != worker || !play.deadly[play.held[i].item])
            continue;
        play_die(k, worker);
        return true;
    }
    return false;
}

void play_tick(struct kit *k)
{
    forget(k);
    for (int worker = 0; worker < 2; worker++)
        (void)killed_by(k, worker);
    for (size_t i = 0; i < play.held_count; i++) {
        int64_t item = play.held[i].item;
        if (play.fails[item] && play.attempt[item] == 1)
            fake_say(child_of(k, play.held[i].serial), "{\"item\":%" PRId64 ",\"error\":{\"kind\":\"retry\",\"message\":\"busy\"}}\n", item);
        else
            fake_say(child_of(k, play.held[i].serial), "{\"item\":%" PRId64 ",\"rows\":[{\"k\":\"x\",\"v\":%" PRId64 "}],\"done\":true}\n", item, item);
    }
    play.held_count = 0;
}

bool play_on(struct kit *k, bool (*cond)(struct kit *), int64_t seconds)
{
    int64_t until_ms = loop_now_ms(k->loop) + seconds * 1000;
    while (!cond(k)) {
        if (loop_now_ms(k->loop) >= until_ms)
            return false;
        loop_step(k->loop, 20 * US_PER_MS);
        if (loop_now_ms(k->loop) >= play.next_tick_ms) {
            play.next_tick_ms = loop_now_ms(k->loop) + PLAY_TICK_MS;
            play_tick(k);
        }
    }
    return true;
}

static struct bus_ops watched;

void play_open(struct kit *k, int items, int64_t window)
{
    memset(&play, 0, sizeof(play));
    for (int32_t p = 0; p < KIT_PARTITIONS; p++)
        play.offsets[p] = -1;
    kit_open(k, HANDLER_EXEC);
    k->script = slow;
    k->defs.v[0].window = window;
    k->options.parallel = 8;
    honest = k->bus->ops;
    watched = *honest;
    watched.group_commit = watched_commit;
    watched.join = watched_join;
    k->bus->ops = &watched;
    kit_run(k, kit_record(k));
    kit_publish(k, items);
}

void play_close(struct kit *k)
{
    kit_close(k);
    struct sent *last;
    while ((last = LIST_FIRST(&sents)) != NULL)
        sent_free(last);
}

bool play_finished(struct kit *k)
{
    return all_done(k) && all_committed(k);
}

static const struct fold_failure *failure_of(struct kit *k, int64_t item)
{
    for (size_t i = 0; i < k->fold->failure_count; i++)
        if (k->fold->failures[i].item == item)
            return &k->fold->failures[i];
    return NULL;
}

void play_assert_only_the_deadly_failed(struct kit *k)
{
    int deadly = 0;
    for (int64_t i = 0; i < k->next_item; i++) {
        const struct fold_failure *f = failure_of(k, i);
        assert_int_equal(f != NULL, play.deadly[i]);
        assert_int_equal(play.attempt[i], 1);
        deadly += play.deadly[i];
        if (f == NULL)
            continue;
        assert_string_equal(f->reason, "crash");
        assert_int_equal(f->attempts, LIMIT_KILLS);
        assert_non_null(strstr(f->text, "killed its worker 2 times while nothing else ran"));
        assert_int_equal(play.lone_deaths[i], LIMIT_KILLS);
    }
    assert_int_equal(k->fold->failed, deadly);
    assert_int_equal(k->fold->rows - (int64_t)k->fold->exclusion_count, k->next_item - deadly);
    assert_int_equal(play.open_beside + play.crowded + play.unannounced, 0);
}
