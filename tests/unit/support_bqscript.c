#include "tests/unit/support_bqscript.h"

#include <stdarg.h>
#include <setjmp.h>
#include <strings.h>
#include <cmocka.h>

#include "tests/bq/discovery.h"

#define REQUEST_MAX (64 * 1024 * 1024) /* bytes of a recorded request */

struct script_call {
    struct script_call *next;
    struct script *script;
    struct timer *timer;
    const struct line *line;
    http_cb *cb;
    void *arg;
};

static void call_free(struct script_call *c)
{
    struct script_call **p = &c->script->calls;
    while (*p != c)
        p = &(*p)->next;
    *p = c->next;
    timer_free(c->timer);
    free(c);
}

static void answer(void *arg)
{
    struct script_call *c = arg;
    const struct line *line = c->line;
    http_cb *cb = c->cb;
    void *cb_arg = c->arg;
    call_free(c);
    char name[64] = "";
    struct http_header header = {name, NULL};
    struct error err = ERROR_INIT;
    struct buf body = BUF_INIT(REQUEST_MAX);
    struct http_response r = {.status = line->status, .body = &body};
    if (line->header) {
        snprintf(name, sizeof(name), "%.*s", (int)strcspn(line->header, ":"), line->header);
        header.value = strchr(line->header, ':') + 2;
        r.headers = &header;
        r.header_count = 1;
    }
    if (line->answer)
        buf_xputs(&body, line->answer);
    if (line->status == 0) {
        error_set(&err, ERR_RETRY, 0, "the connection was reset");
        r.err = &err;
        r.maybe_executed = true;
    }
    cb(cb_arg, &r);
    buf_free(&body);
}

/* A request is one that BigQuery has, or to a session's own address, or one of a test that is about requests as such. */
static void check(const struct http_request *r, const char *headers, size_t len)
{
    const char *at = strstr(r->url, "/bigquery/v2/projects/"), *upload = strstr(r->url, "/upload/"), *type = NULL, *answer;
    if (at == NULL)
        return;
    at = upload ? upload : at;
    AUTO(free_ptr) char *path = xstrndup(at, strcspn(at, "?"));
    const char *query = at + strlen(path);
    for (size_t i = 0; r->headers && r->headers[i]; i++) {
        type = strncasecmp(r->headers[i], "Content-Type: ", 14) == 0 ? r->headers[i] + 14 : type;
        headers += strlen(r->headers[i]) + 1;
        len -= strlen(r->headers[i]) + 1;
    }
    AUTO(free_ptr) char *wrong = discovery_check_request(
        &(struct discovery_request){.method = r->method, .path = path, .query = *query ? query + 1 : "", .content_type = type, .body = headers, .len = len}, &answer);
    if (wrong)
        fail_msg("not as BigQuery's discovery document says: %s", wrong);
}

static struct http_call *script_send(struct http *http, const struct http_request *r, http_cb *cb, void *arg)
{
    struct script *s = (struct script *)http;
    buf_clear(&s->last);
    buf_xputs(&s->last, "");
    for (size_t i = 0; r->headers && r->headers[i]; i++)
        buf_xprintf(&s->last, "%s\n", r->headers[i]);
    for (size_t i = 0; i < r->body_count; i++)
        buf_xadd(&s->last, r->body[i].data, r->body[i].len);
    check(r, s->last.data, s->last.len);
    if (s->at == s->count)
        fail_msg("a request too many: %s %s\n%.2000s", r->method, r->url, s->last.data);
    const struct line *line = &s->lines[s->at++];
    if (strcmp(line->method, r->method) != 0 || !strstr(r->url, line->url) || (line->has && !memmem(s->last.data, s->last.len, line->has, strlen(line->has))))
        fail_msg("request %zu should be %s ..%s.. with ..%s.., and is %s %s\n%.2000s", s->at, line->method, line->url,
                 line->has ? line->has : "", r->method, r->url, s->last.data);
    struct script_call *c = xcalloc(1, sizeof(*c));
    *c = (struct script_call){.next = s->calls, .script = s, .line = line, .cb = cb, .arg = arg};
    s->calls = c;
    c->timer = timer_new(s->loop, answer, c);
    timer_set(c->timer, US_PER_MS);
    return (struct http_call *)c;
}

static void script_cancel(struct http *http, struct http_call *call)
{
    (void)http;
    call_free((struct script_call *)call);
}

static const struct http_ops script_ops = {.send = script_send, .cancel = script_cancel};

#define START_US INT64_C(1700000000000000) /* virtual wall clock: 2023-11-14 */

void script_begin(struct script *s, const struct line *lines, size_t count)
{
    *s = (struct script){.http = {&script_ops}, .lines = lines, .count = count, .last = BUF_INIT(REQUEST_MAX)};
    s->loop = loop_new_virtual(START_US);
    s->auth = auth_anonymous();
    rnd_seeded(&s->rnd, 1);
    struct bq_options o = {.loop = s->loop, .http = &s->http, .auth = s->auth, .rnd = &s->rnd, .base_url = "http://bq", .project = "p"};
    s->bq = bq_new(&o);
}

void script_end(struct script *s)
{
    if (s->at != s->count)
        fail_msg("request %zu did not come: %s ..%s..", s->at + 1, s->lines[s->at].method, s->lines[s->at].url);
    bq_free(s->bq);
    assert_null(s->calls);
    auth_free(s->auth);
    loop_free(s->loop);
    buf_free(&s->last);
}

static bool is_set(void *flag)
{
    return *(const bool *)flag;
}

void script_run(struct script *s, const bool *flag)
{
    if (!loop_until(s->loop, is_set, (void *)(uintptr_t)flag, 3600 * US_PER_S))
        fail_msg("nothing came of it in an hour");
}
