#include "tests/fuzz/answers.h"

enum { HEADERS = 4, TURNS = 3000 };

struct answers_call {
    struct answers_call *next;
    struct answers *whose;
    struct timer *timer;
    http_cb *cb;
    void *arg;
};

static void call_free(struct answers_call *c)
{
    struct answers_call **p = &c->whose->calls;
    while (*p != c)
        p = &(*p)->next;
    *p = c->next;
    timer_free(c->timer);
    free(c);
}

/* "Name: value" apart; the value within the line. */
static bool split(char *line, struct http_header *h)
{
    char *colon = strchr(line, ':');
    if (colon == NULL)
        return false;
    *colon = '\0';
    *h = (struct http_header){line, colon + 1 + strspn(colon + 1, " ")};
    return true;
}

static void answer(void *arg)
{
    static const int statuses[] = {200, 200, 200, 200, 308, 204, 400, 401, 403, 404, 409, 410, 412, 429, 500, 503};
    struct answers_call *c = arg;
    struct answers *a = c->whose;
    http_cb *cb = c->cb;
    void *cb_arg = c->arg;
    call_free(c);
    bool used_up = input_left(&a->in) == 0;
    unsigned choice = used_up ? 6 : input_byte(&a->in);
    struct http_header headers[HEADERS];
    char *lines[HEADERS];
    struct buf body = BUF_INIT(4 << 20);
    struct error err = ERROR_INIT;
    struct http_response r = {.status = statuses[choice % ARRAY_LEN(statuses)], .body = &body, .headers = headers};
    size_t taken = 0, len;
    while (choice & 64 && taken < HEADERS && input_left(&a->in) > 0) {
        lines[taken] = input_text(&a->in, '\n', NULL);
        if (split(lines[taken], &headers[r.header_count]))
            r.header_count++;
        else if (lines[taken][0] == '\0')
            choice = 0;
        taken++;
    }
    AUTO(free_ptr) char *text = input_text(&a->in, '\0', &len);
    buf_xadd(&body, text, len);
    if (choice >= 250) {
        r.status = 0;
        error_set(&err, ERR_RETRY, 0, "the connection was reset");
        r.err = &err;
        r.maybe_executed = true;
    }
    cb(cb_arg, &r);
    buf_free(&body);
    while (taken > 0)
        free(lines[--taken]);
}

static struct http_call *answers_send(struct http *http, const struct http_request *r, http_cb *cb, void *arg)
{
    struct answers *a = (struct answers *)http;
    CHECK(r->method && r->url && r->url[0]);
    struct answers_call *c = xcalloc(1, sizeof(*c));
    *c = (struct answers_call){.next = a->calls, .whose = a, .cb = cb, .arg = arg};
    a->calls = c;
    c->timer = timer_new(a->loop, answer, c);
    timer_set(c->timer, US_PER_MS);
    return (struct http_call *)c;
}

static void answers_cancel(struct http *http, struct http_call *call)
{
    (void)http;
    call_free((struct answers_call *)call);
}

void answers_begin(struct answers *a, struct input in)
{
    static const struct http_ops ops = {.send = answers_send, .cancel = answers_cancel};
    *a = (struct answers){.http = {&ops}, .in = in};
    a->loop = loop_new_virtual(INT64_C(1700000000000000));
    a->auth = auth_anonymous();
    rnd_seeded(&a->rnd, 1);
    a->bq = bq_new(&(struct bq_options){.loop = a->loop, .http = &a->http, .auth = a->auth, .rnd = &a->rnd, .base_url = "http://bq", .project = "p"});
}

void answers_run(struct answers *a, const bool *over)
{
    for (int turn = 0; turn < TURNS && !*over; turn++)
        loop_step(a->loop, 60 * US_PER_S);
}

void answers_end(struct answers *a)
{
    bq_free(a->bq);
    CHECK(a->calls == NULL);
    auth_free(a->auth);
    loop_free(a->loop);
}
