#include "common/base/limits.h"
#include "common/base/log.h"
#include "common/bq/internal.h"

/*
 * A load's bytes. Few go in one request with the job. Many, and those of a feed, go by a resumable session, whose steps are:
 *   START  the job's JSON; the answer names the session
 *   PUT    the next chunk. 308 says how many bytes the server has kept: that, and never what was sent, is where to go on
 *   IDLE   a feed that has not ended has no more than a chunk. So many are kept back, so that its last chunk, which names the total, is never empty
 *   STATUS after a reply that did not come: an empty PUT asks the same
 *   ASK    the session is gone: perhaps because it was finished. Is there a job? If not, START again, unless a feed has let bytes go
 * The job exists once the last byte is in, so a 409 may come as late as then: the caller reads that job.
 */

enum step { UP_MULTIPART, UP_START, UP_PUT, UP_IDLE, UP_STATUS, UP_ASK };

struct bq_upload {
    struct bq *bq;
    char *job_id, *location;
    doc *job;
    const struct http_slice *media;
    size_t media_count;
    struct bq_feed *feed;       /* instead of media */
    int64_t total, offset;      /* bytes: of the media, or -1 until a feed has ended; that the server has */
    int64_t sent_to;            /* the highest byte that was sent of this session */
    enum step step;
    char *session;              /* its URL */
    int sessions, failures;     /* failures since the last progress */
    int64_t stalled_ms;         /* loop time of the last progress */
    char trouble[160];          /* what keeps it from progress; "": nothing */
    struct http_slice *slices;  /* of the request under way */
    char *head, *tail;          /* multipart: around the media */
    struct bq_call *call;
    struct timer *timer;
    bq_cb *cb;
    void *arg;
};

static const struct retry_policy policy = {.base_ms = 500, .cap_ms = 32000, .budget_ms = 600000};

static void step(struct bq_upload *);

void bq_upload_stop(struct bq_upload *u)
{
    if (u == NULL)
        return;
    bq_call_cancel(u->call);
    timer_free(u->timer);
    if (u->feed)
        feed_attach(u->feed, NULL, NULL);
    doc_free(u->job);
    free(u->job_id);
    free(u->location);
    free(u->session);
    free(u->slices);
    free(u->head);
    free(u->tail);
    free(u);
}

static void nobody_waits(void *arg, const struct bq_answer *a)
{
    (void)arg;
    (void)a;
}

const char *bq_upload_trouble(const struct bq_upload *u)
{
    return u->trouble;
}

void bq_upload_abandon(struct bq_upload *u)
{
    struct bq *bq = u->bq;
    AUTO(free_ptr) char *session = u->session ? xstrdup(u->session) : NULL;
    bq_upload_stop(u);
    if (session) /* answered by 499 */
        bq_send(bq, &(struct bq_request){.method = "DELETE", .url = session, .once = true}, nobody_waits, NULL);
}

static void end(struct bq_upload *u, const struct bq_answer *a)
{
    bq_cb *cb = u->cb;
    void *arg = u->arg;
    bq_upload_stop(u);
    cb(arg, a);
}

static void end_with(struct bq_upload *u, struct error *err)
{
    end(u, &(struct bq_answer){.status = err->code, .err = err, .maybe_executed = true});
}

/* Whether there is a chunk to send. */
static bool sendable(struct bq_upload *u)
{
    if (u->feed == NULL)
        return true;
    struct feed_state f = feed_state(u->feed);
    u->total = f.ended ? f.to : -1;
    return f.ended || f.to - u->offset > f.chunk;
}

static void go(struct bq_upload *u, enum step to)
{
    if (to == UP_PUT && !sendable(u))
        to = UP_IDLE;
    log_debug("upload of %s: step %d to %d at byte %" PRId64, u->job_id, (int)u->step, (int)to, u->offset);
    u->step = to;
    step(u);
}

static void on_timer(void *arg)
{
    struct bq_upload *u = arg;
    go(u, u->step);
}

static void woken(void *arg)
{
    struct bq_upload *u = arg;
    if (u->step != UP_IDLE || !sendable(u))
        return;
    u->failures = 0;
    u->stalled_ms = loop_now_ms(u->bq->loop); /* it was not the service that we waited for */
    go(u, UP_PUT);
}

/* Waits before the step `to`, or ends when there was no progress for too long. */
static void wait_then(struct bq_upload *u, enum step to, const struct error *err)
{
    int64_t elapsed_ms = loop_now_ms(u->bq->loop) - u->stalled_ms;
    int64_t delay_ms = retry_delay(&policy, ++u->failures, elapsed_ms, err, rnd_real(u->bq->rnd));
    if (delay_ms < 0) {
        struct error last = *err;
        end_with(u, &last);
        return;
    }
    metric_add(u->bq->metrics, METRIC_HTTP_RETRIES, 1);
    snprintf(u->trouble, sizeof(u->trouble), "%.159s", err->text);
    u->step = to;
    timer_set(u->timer, delay_ms * US_PER_MS);
}

/* How many bytes the server has: "bytes=0-41" (or "0-41") is 42; no header is none; -1: nonsense. */
static int64_t kept_bytes(const struct bq_answer *a)
{
    const char *range = http_header(a->http, "Range");
    if (range == NULL)
        return 0;
    const char *dash = strchr(range, '-');
    char *rest = NULL;
    int64_t last = dash ? strtoll(dash + 1, &rest, 10) : -1;
    return dash == NULL || rest == dash + 1 || last < 0 || last == INT64_MAX ? -1 : last + 1;
}

/* A 308: the server wants more. */
static void more(struct bq_upload *u, const struct bq_answer *a)
{
    struct error err = ERROR_INIT;
    int64_t kept = kept_bytes(a);
    if (u->feed && kept >= 0 && kept < feed_state(u->feed).from) { /* it has lost what it had */
        go(u, UP_ASK);
        return;
    }
    if (kept < 0 || kept > (u->feed ? u->sent_to : u->total)) {
        error_set(&err, ERR_FATAL, 308, "upload of %s: the server claims to have bytes that were not sent (Range: %s)", u->job_id,
                  http_header(a->http, "Range"));
        end_with(u, &err);
        return;
    }
    bool progress = kept > u->offset;
    u->offset = kept;
    if (progress) {
        u->failures = 0;
        u->trouble[0] = '\0';
        u->stalled_ms = loop_now_ms(u->bq->loop);
        if (u->feed)
            feed_let_go(u->feed, kept);
    }
    error_set(&err, ERR_RETRY, 308, "upload of %s stands still at byte %" PRId64, u->job_id, kept);
    if (kept == u->total) /* it has all, and has not finished yet */
        wait_then(u, UP_STATUS, &err);
    else if (progress || u->step == UP_STATUS)
        go(u, UP_PUT);
    else
        wait_then(u, UP_PUT, &err);
}

static void session_lost(struct bq_upload *u)
{
    struct error err = ERROR_INIT;
    if (u->feed && !bq_feed_whole(u->feed)) {
        error_set(&err, ERR_RETRY, 0, "upload of %s: its session is gone, and with it %" PRId64 " bytes that are no longer here", u->job_id,
                  feed_state(u->feed).from);
        error_reason(&err, "sessionLost");
        end_with(u, &err);
        return;
    }
    if (u->sessions < LIMIT_UPLOAD_SESSIONS) {
        go(u, UP_START);
        return;
    }
    error_set(&err, ERR_RETRY, 0, "upload of %s: %d sessions were lost", u->job_id, u->sessions);
    end_with(u, &err);
}

static void answered(void *arg, const struct bq_answer *a)
{
    struct bq_upload *u = arg;
    u->call = NULL;
    bool in_session = u->step == UP_PUT || u->step == UP_STATUS;
    if (u->step == UP_ASK) {
        struct error err = ERROR_INIT;
        if (a->err == NULL && a->doc == NULL) {
            session_lost(u);
        } else if (a->err) {
            end(u, a);
        } else {
            error_set(&err, ERR_FATAL, 409, "Already Exists: Job %s", u->job_id);
            error_reason(&err, "duplicate");
            end_with(u, &err);
        }
    } else if (u->step == UP_START && a->err == NULL) {
        const char *session = http_header(a->http, "Location");
        if (session == NULL || *session == '\0') { /* answered at once: by a server that takes the job without its data, which is none of ours */
            struct error err = ERROR_INIT;
            error_set(&err, ERR_RETRY, a->status, "upload of %s: the answer names no session", u->job_id);
            wait_then(u, UP_START, &err);
            return;
        }
        free(u->session);
        u->session = xstrdup(session);
        u->sessions++;
        u->offset = u->sent_to = 0;
        go(u, UP_PUT);
    } else if (in_session && a->err == NULL && a->status == 308) {
        more(u, a);
    } else if (in_session && a->err && (a->err->code == 404 || a->err->code == 410)) {
        go(u, UP_ASK);
    } else if (in_session && a->err && a->err->kind == ERR_RETRY) {
        wait_then(u, UP_STATUS, a->err);
    } else { /* the job; or an error that no repeat mends */
        end(u, a);
    }
}

/* --- the requests ------------------------------------------------------------------------------------------------------------------------ */

static void start_path(const struct bq *bq, struct buf *out)
{
    buf_xputs(out, "/projects/");
    http_escape(out, bq->project);
    buf_xputs(out, "/jobs");
}

static void send_multipart(struct bq_upload *u)
{
    char boundary[33];
    rnd_text(u->bq->rnd, boundary, sizeof(boundary) - 1); /* 160 random bits do not stand in the data */
    AUTO(free_ptr) char *json = doc_text(u->job);
    AUTO(free_ptr) char *type = xasprintf("Content-Type: multipart/related; boundary=%s", boundary);
    const char *const headers[] = {type, NULL};
    u->head = xasprintf("--%s\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n%s\r\n--%s\r\nContent-Type: */*\r\n\r\n", boundary, json,
                        boundary);
    u->tail = xasprintf("\r\n--%s--\r\n", boundary);
    u->slices = xreallocarray(NULL, u->media_count + 2, sizeof(*u->slices));
    u->slices[0] = (struct http_slice){u->head, strlen(u->head)};
    for (size_t i = 0; i < u->media_count; i++)
        u->slices[i + 1] = u->media[i];
    u->slices[u->media_count + 1] = (struct http_slice){u->tail, strlen(u->tail)};
    struct buf path = BUF_INIT(BQ_PATH_MAX);
    start_path(u->bq, &path);
    struct bq_request r = {.method = "POST", .path = path.data, .query = "uploadType=multipart", .upload = true, .headers = headers,
                           .media = u->slices, .media_count = u->media_count + 2, .sound = bq_is_job};
    u->call = bq_send(u->bq, &r, answered, u);
    buf_free(&path);
}

static void send_start(struct bq_upload *u)
{
    char length[64];
    snprintf(length, sizeof(length), "X-Upload-Content-Length: %" PRId64, u->total);
    const char *const headers[] = {"X-Upload-Content-Type: */*", u->feed ? NULL : length, NULL};
    struct buf path = BUF_INIT(BQ_PATH_MAX);
    start_path(u->bq, &path);
    struct bq_request r = {.method = "POST", .path = path.data, .query = "uploadType=resumable", .upload = true, .headers = headers,
                           .body = u->job};
    u->call = bq_send(u->bq, &r, answered, u);
    buf_free(&path);
}

/* The pieces of the media from byte `from`, `len` bytes of them. */
static size_t cut_slices(struct bq_upload *u, int64_t from, int64_t len)
{
    size_t n = 0;
    u->slices = xreallocarray(u->slices, u->media_count, sizeof(*u->slices));
    for (size_t i = 0; i < u->media_count && len > 0; i++) {
        int64_t size = (int64_t)u->media[i].len;
        if (from >= size) {
            from -= size;
            continue;
        }
        int64_t take = i64_min(size - from, len);
        u->slices[n++] = (struct http_slice){(const char *)u->media[i].data + from, (size_t)take};
        len -= take;
        from = 0;
    }
    return n;
}

/* The total of a Content-Range: a star while it is not known. The last byte is always sent with it. */
static void total_text(int64_t total, char *out, size_t size)
{
    if (total >= 0)
        snprintf(out, size, "%" PRId64, total);
    else
        snprintf(out, size, "*");
}

static void send_put(struct bq_upload *u)
{
    char range[96], total[24];
    struct feed_state f = u->feed ? feed_state(u->feed) : (struct feed_state){.to = u->total, .chunk = UPLOAD_CHUNK};
    int64_t len = i64_min(f.to - u->offset, f.chunk);
    bool last = u->total >= 0 && u->offset + len == u->total;
    size_t count = u->feed ? feed_slices(u->feed, u->offset, len, &u->slices) : cut_slices(u, u->offset, len);
    u->sent_to = i64_max(u->sent_to, u->offset + len);
    total_text(u->feed && !last ? -1 : u->total, total, sizeof(total));
    snprintf(range, sizeof(range), "Content-Range: bytes %" PRId64 "-%" PRId64 "/%s", u->offset, u->offset + len - 1, total);
    const char *const headers[] = {range, "Content-Type: application/octet-stream", NULL};
    struct bq_request r = {.method = "PUT", .url = u->session, .headers = headers, .media = u->slices, .media_count = count, .once = true, .again = u->failures > 0, .sound = bq_is_job};
    u->call = bq_send(u->bq, &r, answered, u);
}

static void send_status(struct bq_upload *u)
{
    static const struct http_slice nothing = {"", 0};
    char range[64], total[24];
    total_text(u->feed && u->sent_to < u->total ? -1 : u->total, total, sizeof(total));
    snprintf(range, sizeof(range), "Content-Range: bytes */%s", total);
    const char *const headers[] = {range, NULL};
    struct bq_request r = {.method = "PUT", .url = u->session, .headers = headers, .media = &nothing, .media_count = 1, .once = true, .again = u->failures > 0, .sound = bq_is_job};
    u->call = bq_send(u->bq, &r, answered, u);
}

static void step(struct bq_upload *u)
{
    switch (u->step) {
    case UP_MULTIPART: send_multipart(u); break;
    case UP_START: send_start(u); break;
    case UP_PUT: send_put(u); break;
    case UP_IDLE: break;
    case UP_STATUS: send_status(u); break;
    case UP_ASK: u->call = bq_job_get(u->bq, u->job_id, u->location, answered, u); break;
    }
}

static struct bq_upload *upload_new(struct bq *bq, const char *job_id, const char *location, const doc *job, bq_cb *cb, void *arg)
{
    struct bq_upload *u = xcalloc(1, sizeof(*u));
    u->bq = bq;
    u->job_id = xstrdup(job_id);
    u->location = location ? xstrdup(location) : NULL;
    u->job = doc_copy(job);
    u->cb = cb;
    u->arg = arg;
    u->stalled_ms = loop_now_ms(bq->loop);
    u->timer = timer_new(bq->loop, on_timer, u);
    return u;
}

struct bq_upload *bq_upload_start(struct bq *bq, const char *job_id, const char *location, const doc *job, const struct http_slice *media,
                                  size_t media_count, bq_cb *cb, void *arg)
{
    struct bq_upload *u = upload_new(bq, job_id, location, job, cb, arg);
    u->media = media;
    u->media_count = media_count;
    for (size_t i = 0; i < media_count; i++)
        u->total += (int64_t)media[i].len;
    u->step = u->total < LIMIT_MULTIPART ? UP_MULTIPART : UP_START;
    step(u);
    return u;
}

struct bq_upload *bq_upload_start_feed(struct bq *bq, const char *job_id, const char *location, const doc *job, struct bq_feed *feed, bq_cb *cb, void *arg)
{
    assert(bq_feed_whole(feed));
    struct bq_upload *u = upload_new(bq, job_id, location, job, cb, arg);
    u->feed = feed;
    u->total = -1;
    u->step = UP_START;
    feed_attach(feed, woken, u);
    step(u);
    return u;
}
