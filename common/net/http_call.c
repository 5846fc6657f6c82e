#include "common/net/http_curl.h"

#include <strings.h>

#include "common/base/failures.h"
#include "common/base/oom.h"

/* One request on its easy handle: options, the bytes in both directions, its deadlines. http_error.c says what went wrong. */

#define DEFAULT_CONNECT_MS 10000
#define DEFAULT_FIRST_BYTE_MS 60000
#define DEFAULT_STALL_MS 30000
#define DEFAULT_WHOLE_MS 300000
#define CONNECT_GRACE_MS 500 /* curl's own limit on connecting comes first: it divides it among a name's addresses */
#define UPLOAD_BUFFER (128 * 1024)
#define DOWNLOAD_BUFFER (64 * 1024)

static void curlu_free(CURLU **u)
{
    curl_url_cleanup(*u);
}

static void curl_string_free(char **s)
{
    curl_free(*s);
}

/* "host:port" for messages; also finds out whether curl could use the URL at all. */
static int parse_url(struct http_call *c)
{
    AUTO(curlu_free) CURLU *u = curl_url();
    AUTO(curl_string_free) char *scheme = NULL;
    AUTO(curl_string_free) char *host = NULL;
    AUTO(curl_string_free) char *port = NULL;
    CURLUcode rc = u != NULL ? curl_url_set(u, CURLUPART_URL, c->url, 0) : CURLUE_OUT_OF_MEMORY;
    if (rc == CURLUE_OK)
        rc = curl_url_get(u, CURLUPART_SCHEME, &scheme, 0);
    if (rc == CURLUE_OK)
        rc = curl_url_get(u, CURLUPART_HOST, &host, 0);
    if (rc == CURLUE_OK)
        rc = curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT);
    if (rc == CURLUE_OUT_OF_MEMORY)
        out_of_memory("an HTTP request");
    if (rc != CURLUE_OK)
        return failure_set(&c->err, FROM_REQUEST, 0, "url", "not a URL: \"%.300s\"", c->url);
    if (strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0)
        return failure_set(&c->err, FROM_REQUEST, 0, "url", "not an http or https URL: \"%.300s\"", c->url);
    c->where = xasprintf("%s:%s", host, port);
    return 0;
}

static void copy_body(struct http_call *c, const struct http_request *r)
{
    c->has_body = (r->body != NULL && r->body_count > 0) || r->read != NULL;
    if (r->body == NULL) {
        c->body_len = r->read != NULL ? r->read_len : 0;
        return;
    }
    c->slices = xmemdup(r->body, r->body_count * sizeof(*r->body));
    c->request.read = NULL;
    for (size_t i = 0; i < r->body_count; i++)
        c->body_len += (int64_t)r->body[i].len;
}

static void add_header_line(struct http_call *c, const char *line)
{
    struct curl_slist *longer = curl_slist_append(c->header_lines, line);
    if (longer == NULL)
        out_of_memory("an HTTP request's header");
    c->header_lines = longer;
}

struct http_call *call_new(struct http_curl *h, const struct http_request *r, http_cb *cb, void *arg)
{
    struct http_call *c = xcalloc(1, sizeof(*c));
    c->owner = h;
    c->cb = cb;
    c->arg = arg;
    c->request = *r;
    c->url = xstrdup(r->url);
    c->method = xstrdup(r->method);
    c->body = BUF_INIT(r->max_body > 0 ? r->max_body : LIMIT_HTTP_BODY);
    c->headers = BUF_INIT(LIMIT_HTTP_HEADERS);
    c->request.connect_ms = r->connect_ms > 0 ? r->connect_ms : DEFAULT_CONNECT_MS;
    c->request.first_byte_ms = r->first_byte_ms > 0 ? r->first_byte_ms : DEFAULT_FIRST_BYTE_MS;
    c->request.stall_ms = r->stall_ms > 0 ? r->stall_ms : DEFAULT_STALL_MS;
    c->request.whole_ms = r->whole_ms > 0 ? r->whole_ms : DEFAULT_WHOLE_MS;
    copy_body(c, r);
    for (const char *const *line = r->headers; line != NULL && *line != NULL; line++)
        add_header_line(c, *line);
    add_header_line(c, "Expect:"); /* no 100-continue: it costs a round trip, or a second where it is not answered */
    parse_url(c);
    return c;
}

void call_release_easy(struct http_call *c)
{
    curl_easy_cleanup(c->easy);
    c->easy = NULL;
    timer_free(c->deadline);
    c->deadline = NULL;
}

void call_free(struct http_call *c)
{
    if (c == NULL)
        return;
    call_release_easy(c);
    curl_slist_free_all(c->header_lines);
    buf_free(&c->headers);
    buf_free(&c->body);
    free(c->slices);
    free(c->url);
    free(c->method);
    free(c->where);
    free(c);
}

/* Deadlines */

int64_t call_deadline_us(const struct http_call *c)
{
    const struct http_request *r = &c->request;
    int64_t whole = c->started_us + r->whole_ms * US_PER_MS;
    int64_t phase = 0;
    switch (c->phase) {
    case PHASE_CONNECT:
        phase = c->attempt_us + (r->connect_ms + CONNECT_GRACE_MS) * US_PER_MS;
        break;
    case PHASE_WAIT:
        phase = c->moved_us + r->first_byte_ms * US_PER_MS;
        break;
    case PHASE_SEND:
    case PHASE_RECEIVE:
        phase = c->moved_us + r->stall_ms * US_PER_MS;
        break;
    }
    return i64_min(whole, phase);
}

void call_arm(struct http_call *c)
{
    timer_set(c->deadline, call_deadline_us(c) - loop_now_us(c->owner->loop));
}

static void moved(struct http_call *c)
{
    c->moved_us = loop_now_us(c->owner->loop);
}

static void set_phase(struct http_call *c, enum call_phase phase)
{
    c->phase = phase;
    moved(c);
    call_arm(c);
}

/* What curl calls */

static int on_connected(void *arg, char *remote_ip, char *local_ip, int remote_port, int local_port)
{
    (void)remote_ip;
    (void)local_ip;
    (void)remote_port;
    (void)local_port;
    struct http_call *c = arg;
    c->was_sent = true;
    set_phase(c, c->has_body ? PHASE_SEND : PHASE_WAIT);
    return CURL_PREREQFUNC_OK;
}

static int on_progress(void *arg, curl_off_t down_total, curl_off_t down, curl_off_t up_total, curl_off_t up)
{
    (void)down_total;
    (void)up_total;
    struct http_call *c = arg;
    if (c->state == CALL_CANCELLED)
        return 1;
    if (c->up != up || c->down != down)
        moved(c);
    c->up = up;
    c->down = down;
    return 0;
}

static size_t give_slices(struct http_call *c, char *out, size_t max)
{
    size_t done = 0;
    while (done < max && c->slice < c->request.body_count) {
        const struct http_slice *s = &c->slices[c->slice];
        size_t n = size_min(s->len - c->slice_at, max - done);
        if (n > 0)
            memcpy(out + done, (const char *)s->data + c->slice_at, n);
        done += n;
        c->slice_at += n;
        if (c->slice_at == s->len) {
            c->slice++;
            c->slice_at = 0;
        }
    }
    return done;
}

static size_t on_read(char *out, size_t size, size_t count, void *arg)
{
    struct http_call *c = arg;
    size_t max = size * count, n = 0;
    if (c->state == CALL_CANCELLED)
        return CURL_READFUNC_ABORT;
    if (c->body_len >= 0)
        max = size_min(max, (size_t)(c->body_len - c->given));
    if (max > 0)
        n = c->request.read != NULL ? c->request.read(c->request.read_arg, out, max) : give_slices(c, out, max);
    assert(n <= max);
    if (c->state == CALL_CANCELLED)
        return CURL_READFUNC_ABORT;
    if (n == 0 && c->given < c->body_len) {
        c->refusal = REFUSED_READER;
        return CURL_READFUNC_ABORT;
    }
    c->given += (int64_t)n;
    moved(c);
    if (c->phase == PHASE_SEND && (n == 0 || c->given == c->body_len))
        set_phase(c, PHASE_WAIT);
    return n;
}

/* curl sends a body again by itself when a kept-alive connection turns out to be dead. */
static int on_seek(void *arg, curl_off_t offset, int origin)
{
    struct http_call *c = arg;
    if (c->given == 0 && offset == 0)
        return CURL_SEEKFUNC_OK;
    if (c->request.read != NULL || origin != SEEK_SET || offset != 0)
        return CURL_SEEKFUNC_FAIL;
    c->slice = c->slice_at = 0;
    c->given = 0;
    return CURL_SEEKFUNC_OK;
}

static void forget_answer(struct http_call *c)
{
    buf_clear(&c->headers);
    c->header_count = 0;
}

static size_t refuse(struct http_call *c, enum call_refusal why)
{
    c->refusal = why;
    return 0; /* less than was offered: curl ends the transfer */
}

static size_t on_status_line(struct http_call *c, const char *line, size_t len)
{
    const char *space = memchr(line, ' ', len);
    bool interim = space != NULL && space + 1 < line + len && space[1] == '1';
    c->answered = true;
    forget_answer(c);
    if (interim)
        moved(c);
    else if (c->phase != PHASE_RECEIVE)
        set_phase(c, PHASE_RECEIVE);
    return len;
}

static size_t on_header(char *line, size_t size, size_t count, void *arg)
{
    struct http_call *c = arg;
    size_t len = size * count;
    moved(c);
    if (len >= 5 && memcmp(line, "HTTP/", 5) == 0)
        return on_status_line(c, line, len);
    const char *end = line + len;
    const char *colon = memchr(line, ':', len);
    if (colon == NULL || memchr(line, '\0', len) != NULL)
        return len;
    const char *value = colon + 1;
    while (value < end && (*value == ' ' || *value == '\t'))
        value++;
    while (end > value && strchr(" \t\r\n", end[-1]) != NULL)
        end--;
    if (c->header_count == LIMIT_HTTP_HEADER_COUNT || buf_add(&c->headers, line, (size_t)(colon - line)) != 0 ||
        buf_add(&c->headers, "", 1) != 0 || buf_add(&c->headers, value, (size_t)(end - value)) != 0 ||
        buf_add(&c->headers, "", 1) != 0)
        return refuse(c, REFUSED_HEADERS);
    c->header_count++;
    return len;
}

static size_t on_body(char *data, size_t size, size_t count, void *arg)
{
    struct http_call *c = arg;
    size_t len = size * count;
    moved(c);
    return buf_add(&c->body, data, len) == 0 ? len : refuse(c, REFUSED_BODY);
}

/* The easy handle */

/* curl copies texts; without one, a DELETE would go out as a GET, or past its proxy. */
static void set_text(CURL *e, CURLoption option, const char *text)
{
    if (curl_easy_setopt(e, option, text) == CURLE_OUT_OF_MEMORY)
        out_of_memory("an HTTP request");
}

static void set_method(struct http_call *c)
{
    CURL *e = c->easy;
    bool wants_length = strcmp(c->method, "POST") == 0 || strcmp(c->method, "PUT") == 0 || strcmp(c->method, "PATCH") == 0;
    if (c->has_body || wants_length) {
        curl_easy_setopt(e, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(e, CURLOPT_INFILESIZE_LARGE, (curl_off_t)c->body_len);
    } else if (strcmp(c->method, "HEAD") == 0) {
        curl_easy_setopt(e, CURLOPT_NOBODY, 1L);
    }
    set_text(e, CURLOPT_CUSTOMREQUEST, c->method);
}

static void set_callbacks(struct http_call *c)
{
    CURL *e = c->easy;
    curl_easy_setopt(e, CURLOPT_PRIVATE, c);
    curl_easy_setopt(e, CURLOPT_READFUNCTION, on_read);
    curl_easy_setopt(e, CURLOPT_READDATA, c);
    curl_easy_setopt(e, CURLOPT_SEEKFUNCTION, on_seek);
    curl_easy_setopt(e, CURLOPT_SEEKDATA, c);
    curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(e, CURLOPT_HEADERDATA, c);
    curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(e, CURLOPT_WRITEDATA, c);
    curl_easy_setopt(e, CURLOPT_PREREQFUNCTION, on_connected);
    curl_easy_setopt(e, CURLOPT_PREREQDATA, c);
    curl_easy_setopt(e, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(e, CURLOPT_XFERINFODATA, c);
    curl_easy_setopt(e, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(e, CURLOPT_ERRORBUFFER, c->curl_text);
}

static void set_connection(struct http_call *c, bool fresh_connection)
{
    CURL *e = c->easy;
    const struct http_curl *h = c->owner;
    curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(e, CURLOPT_QUICK_EXIT, 1L); /* a cancelled call must not wait for a name server */
    set_text(e, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
    /* Wait for a connection that is being made, if it may turn out to be HTTP/2. Without TLS that is never decided, and libcurl 7.88
     * would keep all but one request waiting. */
    bool may_share = strncasecmp(c->url, "https:", 6) == 0 && !fresh_connection;
    curl_easy_setopt(e, CURLOPT_PIPEWAIT, may_share ? 1L : 0L);
    curl_easy_setopt(e, CURLOPT_FRESH_CONNECT, fresh_connection ? 1L : 0L);
    curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, (long)c->request.connect_ms);
    curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(e, CURLOPT_TCP_KEEPIDLE, 60L);
    curl_easy_setopt(e, CURLOPT_TCP_KEEPINTVL, 30L);
    curl_easy_setopt(e, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    curl_easy_setopt(e, CURLOPT_UPLOAD_BUFFERSIZE, (long)UPLOAD_BUFFER);
    curl_easy_setopt(e, CURLOPT_BUFFERSIZE, (long)DOWNLOAD_BUFFER);
    if (h->ca_file != NULL)
        set_text(e, CURLOPT_CAINFO, h->ca_file);
    if (h->proxy != NULL)
        set_text(e, CURLOPT_PROXY, h->proxy);
    if (c->request.direct)
        set_text(e, CURLOPT_NOPROXY, "*");
}

void call_prepare(struct http_call *c, bool fresh_connection)
{
    if (c->easy == NULL)
        c->easy = curl_easy_init();
    if (c->easy == NULL)
        out_of_memory("an HTTP request");
    curl_easy_reset(c->easy);
    forget_answer(c);
    buf_clear(&c->body);
    c->slice = c->slice_at = 0;
    c->given = 0;
    c->up = c->down = 0;
    c->answered = false;
    c->refusal = REFUSED_NOT;
    c->curl_text[0] = '\0';
    set_text(c->easy, CURLOPT_URL, c->url);
    curl_easy_setopt(c->easy, CURLOPT_HTTPHEADER, c->header_lines);
    set_text(c->easy, CURLOPT_USERAGENT, c->owner->user_agent);
    set_text(c->easy, CURLOPT_ACCEPT_ENCODING, "gzip");
    set_method(c);
    set_callbacks(c);
    set_connection(c, fresh_connection);
    c->attempt_us = loop_now_us(c->owner->loop);
    set_phase(c, PHASE_CONNECT);
}
