#include "tests/unit/support_items.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

static void on_ready(void *arg)
{
    ((struct reading *)arg)->ready = true;
}

static bool is_ready(void *arg)
{
    return ((struct reading *)arg)->ready;
}

void reading_begin(struct reading *r, enum items_kind kind, const char *source, const char *key, struct script *s)
{
    *r = (struct reading){0};
    rnd_seeded(&r->rnd, 1);
    r->world.loop = s != NULL ? s->loop : loop_new();
    r->world.bq = s != NULL ? s->bq : NULL;
    r->world.rnd = &r->rnd;
    r->spec.path = (char *)"spec.yaml";
    r->spec.items.kind = kind;
    r->spec.items.source = (char *)source;
    r->spec.items.key = (char *)key;
    r->spec.items.line = 3;
    r->spec.items.column = 5;
}

void reading_open(struct reading *r)
{
    r->items = items_open(&r->spec, &r->world, NULL, on_ready, r, &r->err);
    if (r->items == NULL)
        fail_msg("%s", r->err.text);
}

void reading_end(struct reading *r)
{
    items_close(r->items);
    if (r->world.bq == NULL)
        loop_free(r->world.loop);
}

int reading_next(struct reading *r, struct item *item)
{
    for (;;) {
        r->ready = false;
        r->err = ERROR_INIT;
        int rc = items_next(r->items, item, &r->err);
        if (rc != 2)
            return rc;
        assert_true(loop_until(r->world.loop, is_ready, r, 10 * US_PER_S));
    }
}

void gives(struct reading *r, int64_t index, const char *key, const char *payload)
{
    struct item item;
    int rc = reading_next(r, &item);
    if (rc != 1)
        fail_msg("%d instead of item %s: %s", rc, key, r->err.text);
    assert_int_equal(item.index, index);
    assert_int_equal(item.key_len, strlen(key));
    assert_memory_equal(item.key, key, item.key_len);
    assert_non_null(item.payload);
    if (payload == NULL)
        return;
    if (item.payload_len != strlen(payload) || memcmp(item.payload, payload, item.payload_len) != 0)
        fail_msg("payload %.*s instead of %s", (int)item.payload_len, item.payload, payload);
}

void fails_alone(struct reading *r, int64_t index, const char *key, const char *why)
{
    struct item item;
    if (reading_next(r, &item) != 1)
        fail_msg("%s", r->err.text);
    assert_int_equal(item.index, index);
    assert_null(item.payload);
    assert_int_equal(item.key_len, strlen(key));
    assert_memory_equal(item.key, key, item.key_len);
    assert_int_equal(r->err.kind, ERR_TASK);
    assert_string_equal(r->err.reason, "size");
    if (strstr(r->err.text, why) == NULL)
        fail_msg("%s", r->err.text);
}

void ends(struct reading *r)
{
    struct item item;
    if (reading_next(r, &item) != 0)
        fail_msg("not the end: %s", r->err.text);
    assert_int_equal(reading_next(r, &item), 0);
}

void ends_in_error(struct reading *r, const char *said)
{
    const char *source = r->spec.items.source;
    struct item item;
    int rc;
    while ((rc = reading_next(r, &item)) == 1)
        ;
    assert_int_equal(rc, -1);
    assert_int_equal(r->err.kind, ERR_USAGE);
    const char *text = source != NULL && strncmp(r->err.text, source, strlen(source)) == 0 ? r->err.text + strlen(source) : r->err.text;
    if (strncmp(text, said, strlen(said)) != 0)
        fail_msg("\"%s\" instead of \"%s\"", text, said);
    assert_int_equal(reading_next(r, &item), -1);
}
