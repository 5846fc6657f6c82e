#include "tests/unit/support_streams.h"

int64_t streams_rows[ITEMS_MOST];
int64_t streams_most_held, streams_most_places, streams_most_attempt;

/* --- handlers ------------------------------------------------------------------------------------------------------------------------------------------- */

static char letter(int64_t item, int64_t row)
{
    return (char)('a' + (item * 7 + row) % 26);
}

void streams_say_row(struct fake_child *f, int64_t item, int64_t row)
{
    static char text[WIDTH + 1];
    memset(text, letter(item, row), WIDTH);
    fake_say(f, "{\"item\":%" PRId64 ",\"row\":{\"k\":\"%s\",\"v\":%" PRId64 "}}\n", item, text, row);
}

void streams_say_done(struct fake_child *f, int64_t item)
{
    fake_say(f, "{\"item\":%" PRId64 ",\"done\":true}\n", item);
}

bool streams_usual(struct fake_child *f, const doc *msg)
{
    if (msg == NULL)
        fake_exit(f, 0, "exit status 0");
    else if (doc_get(msg, "hello") != NULL)
        fake_say(f, "{\"ready\":true}\n");
    if (msg != NULL)
        streams_most_attempt = i64_max(streams_most_attempt, doc_int(msg, "attempt", 0));
    return msg != NULL && doc_get(msg, "item") != NULL;
}

void streams_one_after_another(struct fake_child *f, const doc *msg)
{
    if (!streams_usual(f, msg))
        return;
    int64_t item = doc_int(msg, "item", -1);
    for (int64_t row = 0; row < streams_rows[item]; row++)
        streams_say_row(f, item, row);
    streams_say_done(f, item);
}

/* What streams_all_together() has been given. */
static struct {
    struct kit *kit;
    int serial;
    struct timer *timer;
    int64_t items[ITEMS_MOST];
    int count;
} together;

static void say_together(void *arg)
{
    (void)arg;
    struct fake_child *f = together.kit->fakes;
    while (f != NULL && f->serial != together.serial)
        f = f->next;
    if (f == NULL)
        return;
    for (int64_t row = 0; row < ROWS_MOST; row++)
        for (int i = 0; i < together.count; i++)
            if (row < streams_rows[together.items[i]])
                streams_say_row(f, together.items[i], row);
    while (together.count > 0)
        streams_say_done(f, together.items[--together.count]);
}

void streams_all_together(struct fake_child *f, const doc *msg)
{
    if (!streams_usual(f, msg))
        return;
    if (together.timer == NULL)
        together.timer = timer_new(f->kit->loop, say_together, NULL);
    if (together.serial != f->serial)
        together.count = 0;
    together.kit = f->kit;
    together.serial = f->serial;
    together.items[together.count++] = doc_int(msg, "item", -1);
    timer_set(together.timer, 20 * US_PER_MS);
}

/* --- the kit ---------------------------------------------------------------------------------------------------------------------------------------------- */

void streams_open(struct kit *k, int64_t buffer, int items, int64_t rows)
{
    kit_open(k, HANDLER_EXEC);
    k->options.buffer = buffer;
    k->options.load_size = buffer / 4;
    streams_most_held = streams_most_places = streams_most_attempt = 0;
    for (int i = 0; i < items; i++)
        streams_rows[i] = rows;
}

void streams_begin(struct kit *k, fake_script *script, int items, int64_t attempts)
{
    k->script = script;
    struct record *r = kit_record(k);
    r->attempts = attempts;
    kit_run(k, r);
    kit_publish(k, items);
    kit_start(k);
}

void streams_watch(struct kit *k)
{
    const struct worker *w = k->worker;
    if (w == NULL)
        return;
    streams_most_held = i64_max(streams_most_held, w->held);
    streams_most_places = i64_max(streams_most_places, w->places);
}

bool streams_all_done(struct kit *k)
{
    streams_watch(k);
    return all_done(k);
}

void streams_assert_bounded(const struct kit *k)
{
    assert_true(streams_most_held <= k->options.buffer + WIDTH + 200);
    assert_true(streams_most_places <= 8);
}

static const struct fold_load *load_of(const struct kit *k, const char *id, int64_t item)
{
    for (size_t l = 0; l < k->fold->load_count; l++) {
        if (strcmp(k->fold->loads[l].id, id) != 0)
            continue;
        for (size_t e = 0; e < k->fold->exclusion_count; e++)
            if (k->fold->exclusions[e].load == l && k->fold->exclusions[e].item == item)
                return NULL;
        return k->fold->loads[l].cut == LOAD_UNNEEDED ? NULL : &k->fold->loads[l];
    }
    return NULL;
}

void streams_assert_rows(struct kit *k)
{
    static bool seen[ITEMS_MOST][ROWS_MOST];
    int64_t count[ITEMS_MOST] = {0};
    memset(seen, 0, sizeof(seen));
    AUTO(doc_free_auto) doc *tables = bqmodel_tables(k->model);
    for (size_t t = 0; t < doc_len(tables); t++) {
        AUTO(doc_free_auto) doc *rows = bqmodel_rows(k->model, doc_str(doc_at(tables, t), NULL, ""));
        for (size_t i = 0; i < doc_len(rows); i++) {
            const doc *r = doc_at(rows, i);
            int64_t item = doc_int(r, "bqfleet_item", -1), row = doc_int(r, "bqfleet_row", -1);
            if (load_of(k, doc_str(r, "bqfleet_load", ""), item) == NULL)
                continue;
            assert_true(item >= 0 && item < ITEMS_MOST && row >= 0 && row < streams_rows[item]);
            assert_false(seen[item][row]);
            seen[item][row] = true;
            count[item]++;
            const char *text = doc_str(r, "k", "");
            assert_int_equal(doc_int(r, "v", -1), row);
            assert_int_equal(text[0], letter(item, row));
            assert_int_equal(text[WIDTH - 1], letter(item, row));
        }
    }
    for (int64_t i = 0; i < k->next_item; i++)
        if (count[i] != (fold_is_failed(k->fold, i) ? 0 : streams_rows[i]))
            fail_msg("item %" PRId64 " has %" PRId64 " rows of %" PRId64, i, count[i], streams_rows[i]);
}

void streams_close(struct kit *k)
{
    if (k->worker != NULL && worker_idle(k)) {
        assert_int_equal(k->worker->places, 0);
        assert_int_equal(k->worker->held, 0);
    }
    timer_free(together.timer);
    together.timer = NULL;
    together.count = 0;
    kit_close(k);
}

void streams_run(struct kit *k)
{
    assert_true(kit_wait(k, streams_all_done, 24 * 3600));
    assert_true(kit_wait(k, all_committed, 600));
    streams_assert_rows(k);
    streams_assert_bounded(k);
}
