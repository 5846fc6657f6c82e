#include "worker/load.h"

/* Of a manifest's bytes, the part that a load's own items may take; what finished meanwhile without rows goes along in the rest. */
#define RANGES_MAX (LIMIT_MANIFEST / 2)
#define RANGE_BYTES_MOST 12 /* of one range: two varints of numbers below LIMIT_ITEMS */

struct load *load_new(struct run *run, int64_t seq)
{
    struct load *l = xcalloc(1, sizeof(*l));
    l->run = run;
    load_id(l->id, run->worker->incarnation, seq);
    TAILQ_INIT(&l->items);
    l->measure_at = RANGES_MAX / RANGE_BYTES_MOST;
    l->body = BUF_INIT((size_t)run->worker->o.buffer * 2 + LIMIT_LINE);
    l->opened_us = loop_now_us(run->worker->w.loop);
    return l;
}

void load_free(struct load *l)
{
    if (l == NULL)
        return;
    bq_job_stop(l->job, false);
    struct item *item;
    while ((item = TAILQ_FIRST(&l->items)) != NULL)
        item_enlist(item, NULL);
    worker_hold(l->run->worker, -(int64_t)l->body.len);
    ranges_free(&l->ranges);
    buf_free(&l->body);
    doc_free(l->config);
    free(l);
}

static void merge_range(struct row_range *into, const struct row_range *r)
{
    if (r->any) {
        into->lo = into->any ? i64_min(into->lo, r->lo) : r->lo;
        into->hi = into->any ? i64_max(into->hi, r->hi) : r->hi;
    }
    into->any |= r->any;
    into->null |= r->null;
}

static void count_item(struct load *l, struct item *item)
{
    item_enlist(item, &l->items);
    l->item_count++;
    l->rows += item->row_count;
    merge_range(&l->range, &item->range);
    ranges_add(&l->ranges, item->index);
    if (l->ranges.count < l->measure_at)
        return;
    ranges_sort(&l->ranges); /* items come in blocks: mostly far fewer ranges are left */
    size_t size = ranges_encoded_size(l->ranges.v, l->ranges.count);
    l->manifest_full = size > RANGES_MAX / 4 * 3;
    l->measure_at = l->ranges.count + (RANGES_MAX - size_min(size, RANGES_MAX)) / RANGE_BYTES_MOST + 1;
}

int load_add(struct load *l, struct item *item)
{
    size_t before = l->body.len;
    if (l->manifest_full || rows_seal(item->rows.data, item->rows.len, l->id, &l->body) != 0)
        return -1;
    item->body_len = l->body.len - before;
    worker_hold(l->run->worker, (int64_t)item->body_len - (int64_t)item->charged);
    item->charged = 0;
    buf_free(&item->rows);
    count_item(l, item);
    return 0;
}

/* The digest of the bytes goes into the job's label: another load can never pass for this one under its id. */
static void freeze(struct load *l, const struct bq_ref *shard)
{
    char hex[65];
    sha256_hex(l->body.data, l->body.len, hex);
    memcpy(l->digest, hex, 40);
    ranges_sort(&l->ranges);
    l->config = bq_load_config(shard);
    l->slice = (struct http_slice){.data = l->body.data, .len = l->body.len};
}

void load_start(struct load *l, const struct bq_ref *shard, bq_job_cb *cb, void *arg)
{
    assert(l->job == NULL);
    const struct worker *w = l->run->worker;
    if (l->config == NULL)
        freeze(l, shard);
    char base[JOB_BASE_SIZE];
    job_base_load(base, l->run->id, l->id);
    struct bq_label labels[] = {{.name = "bqfleet_run", .value = l->run->id}, {.name = "bqfleet_kind", .value = "load"}};
    struct bq_job_spec spec = {.id_base = base, .location = l->run->record->location[0] ? l->run->record->location : NULL, .configuration = l->config,
                               .labels = labels, .label_count = ARRAY_LEN(labels), .digest = l->digest, .not_before_ms = w->started_ms,
                               .media = &l->slice, .media_count = 1, .first_try = l->next_try, .max_tries = l->next_try + LIMIT_TRIES};
    l->job = bq_job_start(l->run->bq, &spec, cb, arg);
}

void load_split(struct load *l, int64_t seq, struct load *halves[2])
{
    assert(l->job == NULL && l->item_count >= 2);
    int64_t first = l->item_count / 2;
    size_t at = 0;
    for (int half = 0; half < 2; half++) {
        struct load *h = halves[half] = load_new(l->run, seq + half);
        size_t from = at;
        for (int64_t i = half == 0 ? first : l->item_count - first; i > 0; i--) {
            struct item *item = TAILQ_FIRST(&l->items);
            at += item->body_len;
            count_item(h, item);
        }
        buf_xadd(&h->body, l->body.data + from, at - from);
        rows_reseal(h->body.data, h->body.len, h->id);
        worker_hold(l->run->worker, (int64_t)h->body.len);
        h->range = l->range; /* wider than its own rows' at worst */
    }
    assert(at == l->body.len);
    load_free(l);
}
