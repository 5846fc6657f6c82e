#include "common/base/limits.h"
#include "common/bq/internal.h"
#include "tests/fuzz/answers.h"

/*
 * Resumable uploads against a server that says anything about what it has: of bytes that are all here, or of a feed, by the first byte. It ends once, with
 * an answer or an error, and no byte is asked for that was let go.
 */

struct sending { struct answers a; bool over; };

static void came(void *arg, const struct bq_answer *a)
{
    struct sending *s = arg;
    CHECK(!s->over && (a->err == NULL || a->err->kind != ERR_NONE));
    s->over = true;
}

static void nothing(void *arg) { (void)arg; }

static void media(struct sending *s, const doc *job)
{
    static const char bytes[LIMIT_MULTIPART / 2 + 12345];
    const struct http_slice slices[] = {{bytes, sizeof(bytes)}, {bytes, 1}, {bytes, sizeof(bytes)}, {bytes, sizeof(bytes)}, {bytes, sizeof(bytes)},
                                        {bytes, sizeof(bytes)}};
    struct bq_upload *u = bq_upload_start(s->a.bq, "job", "EU", job, slices, ARRAY_LEN(slices), came, s);
    answers_run(&s->a, &s->over);
    if (!s->over)
        bq_upload_abandon(u);
}

/* More bytes come, or the end, between answers. */
static void feed(struct sending *s, const doc *job, unsigned plan)
{
    static const char bytes[UPLOAD_UNIT / 2];
    struct bq_feed *f = bq_feed_new(UPLOAD_UNIT, nothing, s);
    struct bq_upload *u = bq_upload_start_feed(s->a.bq, "job", "EU", job, f, came, s);
    for (int i = 0; i < 8 && !s->over; i++) {
        bq_feed_add(f, bytes, plan & (1U << i) ? sizeof(bytes) : 100);
        for (int turn = 0; turn < 3 && !s->over; turn++)
            loop_step(s->a.loop, US_PER_S);
    }
    if (!s->over)
        bq_feed_end(f);
    answers_run(&s->a, &s->over);
    if (!s->over) {
        CHECK(bq_upload_trouble(u) != NULL);
        bq_upload_stop(u);
    }
    bq_feed_free(f);
}

FUZZ(bq_upload)
{
    struct input in = input_of(data, size);
    struct sending s = {.over = false};
    struct error err = ERROR_INIT;
    unsigned choice = input_byte(&in), plan = choice & 1 ? input_byte(&in) : 0;
    AUTO(doc_free_auto) doc *job = doc_parse("{\"configuration\":{}}", 20, "job", &err);
    answers_begin(&s.a, in);
    if (choice & 1)
        feed(&s, job, plan);
    else
        media(&s, job);
    answers_end(&s.a);
}
