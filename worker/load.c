#include "worker/load.h"

/* Of a manifest's bytes, the part that a load's own items may take; what finished meanwhile without rows goes along in the rest. */
#define RANGES_MAX (LIMIT_MANIFEST / 2)
#define RANGE_BYTES_MOST 12 /* of one range: two varints of numbers below LIMIT_ITEMS */

static size_t plain_max(const struct run *run)
{
    return (size_t)run->worker->o.buffer * 2 + LIMIT_LINE;
}

struct load *load_new(struct run *run, int64_t seq)
{
    struct load *l = xcalloc(1, sizeof(*l));
    l->run = run;
    load_id(l->id, run->worker->incarnation, seq);
    TAILQ_INIT(&l->items);
    l->measure_at = RANGES_MAX / RANGE_BYTES_MOST;
    l->body = BUF_INIT(GZIP_MOST(plain_max(run)));
    l->opened_us = loop_now_us(run->worker->w.loop);
    return l;
}

void load_free(struct load *l)
{
    if (l == NULL)
        return;
    bq_job_stop(l->job, l->run->over || l->run->fatal); /* nobody will report it */
    struct item *item;
    while ((item = TAILQ_FIRST(&l->items)) != NULL)
        item_enlist(item, NULL);
    worker_hold(l->run->worker, -(int64_t)l->body.len);
    ranges_free(&l->ranges);
    buf_free(&l->body);
    gzip_free(l->gzip);
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

void load_take(struct load *l, struct item *item)
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

static bool is_packed(const struct load *l)
{
    return l->run->worker->o.compress;
}

/* Sealed rows as they are, or as the next piece of the gzip member. */
static void append(struct load *l, const char *rows, size_t len)
{
    size_t before = l->body.len;
    if (l->gzip == NULL && is_packed(l))
        l->gzip = gzip_new();
    if (is_packed(l))
        gzip_add(l->gzip, rows, len, &l->body);
    else
        buf_xadd(&l->body, rows, len);
    l->plain += len;
    worker_hold(l->run->worker, (int64_t)(l->body.len - before));
}

static int add_packed(struct load *l, const struct item *item)
{
    struct buf sealed = BUF_INIT(plain_max(l->run) - l->plain);
    int rc = rows_seal(item->rows.data, item->rows.len, l->id, &sealed);
    if (rc == 0)
        append(l, sealed.data, sealed.len);
    buf_free(&sealed);
    return rc;
}

/* Without a copy in between. */
static int add_plain(struct load *l, const struct item *item)
{
    size_t before = l->body.len;
    if (rows_seal(item->rows.data, item->rows.len, l->id, &l->body) != 0)
        return -1;
    l->plain = l->body.len;
    worker_hold(l->run->worker, (int64_t)(l->body.len - before));
    return 0;
}

int load_add(struct load *l, struct item *item)
{
    size_t before = l->plain;
    if (l->manifest_full || (is_packed(l) ? add_packed(l, item) : add_plain(l, item)) != 0)
        return -1;
    item->body_len = l->plain - before;
    worker_hold(l->run->worker, -(int64_t)item->charged);
    item->charged = 0;
    buf_free(&item->rows);
    load_take(l, item);
    return 0;
}

void load_stream(struct load *l, struct bq_feed *feed, const struct item *item, const char *nonce)
{
    l->feed = feed;
    snprintf(l->digest, sizeof(l->digest), "item-%" PRId64 "-attempt-%" PRId64 "-nonce-%s", item->index, item->attempts + 1, nonce);
}

/* The digest of the bytes goes into the job's label: another load can never pass for this one under its id. */
static void freeze(struct load *l, const struct bq_ref *shard)
{
    char hex[65];
    l->config = bq_load_config(shard);
    if (l->feed != NULL)
        return;
    if (l->gzip != NULL) {
        size_t before = l->body.len;
        gzip_end(l->gzip, &l->body);
        worker_hold(l->run->worker, (int64_t)(l->body.len - before));
        gzip_free(l->gzip);
        l->gzip = NULL;
    }
    sha256_hex(l->body.data, l->body.len, hex);
    memcpy(l->digest, hex, 40);
    ranges_sort(&l->ranges);
    l->slice = (struct http_slice){.data = l->body.data, .len = l->body.len};
}

static void start_job(struct load *l, const char *base, const char *kind, int64_t timeout_ms, bq_job_cb *cb, void *arg)
{
    const struct run *run = l->run;
    bool media = l->body.len > 0;
    struct bq_label labels[] = {{.name = "bqfleet_run", .value = run->id}, {.name = "bqfleet_kind", .value = kind}};
    struct bq_job_spec spec = {.id_base = base, .location = run->record->location[0] ? run->record->location : NULL, .configuration = l->config,
                               .labels = labels, .label_count = ARRAY_LEN(labels), .digest = l->digest, .not_before_ms = run->worker->started_ms,
                               .media = media ? &l->slice : NULL, .media_count = media ? 1 : 0, .feed = l->feed, .timeout_ms = timeout_ms,
                               .first_try = l->next_try, .max_tries = l->next_try + LIMIT_TRIES};
    assert(l->job == NULL);
    l->job = bq_job_start(run->bq, &spec, cb, arg);
}

void load_start(struct load *l, const struct bq_ref *shard, bq_job_cb *cb, void *arg)
{
    char base[JOB_BASE_SIZE];
    if (l->config == NULL)
        freeze(l, shard);
    job_base_load(base, l->run->id, l->id);
    start_job(l, base, "load", 0, cb, arg);
}

void load_start_query(struct load *l, doc *config, int64_t timeout_ms, bq_job_cb *cb, void *arg)
{
    char base[JOB_BASE_SIZE];
    if (l->config == NULL) {
        AUTO(free_ptr) char *text = doc_text(config);
        char hex[65];
        sha256_hex(text, strlen(text), hex);
        memcpy(l->digest, hex, 40);
        l->config = config;
    }
    job_base_query(base, l->run->id, l->id);
    start_job(l, base, "query", timeout_ms, cb, arg);
}

#define AGAIN_MS 30000 /* after the tries of a load are spent; they are granted anew */

int64_t load_put_off(struct load *l, const struct bq_job_result *r)
{
    /* A try that is known to have failed needs another id; one that nobody knows of is asked for again. */
    l->next_try = r->decided ? r->tries : (int)i64_max(r->tries - 1, 0);
    return i64_max(r->err->retry_after_ms, AGAIN_MS);
}

/* Its rows, as they were before they were packed. */
static void unpack(struct load *l, struct buf *rows)
{
    struct error err = ERROR_INIT;
    if (gunzip(l->body.data, l->body.len, rows, &err) != 0)
        abort(); /* we made it */
    assert(rows->len == l->plain);
}

void load_split(struct load *l, int64_t seq, struct load *halves[2])
{
    assert(l->job == NULL && l->gzip == NULL && l->item_count >= 2);
    int64_t first = l->item_count / 2;
    size_t at = 0;
    struct buf unpacked = BUF_INIT(l->plain + 1);
    if (is_packed(l))
        unpack(l, &unpacked);
    char *rows = is_packed(l) ? unpacked.data : l->body.data;
    for (int half = 0; half < 2; half++) {
        struct load *h = halves[half] = load_new(l->run, seq + half);
        size_t from = at;
        for (int64_t i = half == 0 ? first : l->item_count - first; i > 0; i--) {
            struct item *item = TAILQ_FIRST(&l->items);
            at += item->body_len;
            load_take(h, item);
        }
        rows_reseal(rows + from, at - from, h->id);
        append(h, rows + from, at - from);
        h->range = l->range; /* wider than its own rows' at worst */
    }
    assert(at == l->plain);
    buf_free(&unpacked);
    load_free(l);
}
