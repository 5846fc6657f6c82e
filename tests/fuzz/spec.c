#include "coordinator/spec.h"

#include "tests/fuzz/fuzz.h"

/* Specs, with assignments of --set in lines behind a NUL. What is taken has what every spec must have; an error is the user's, with its place. */

static const char *some_env(const char *name)
{
    return strcmp(name, "SEASON") == 0 ? "2025" : NULL;
}

static void check(const struct spec *s)
{
    CHECK(s->batch && s->batch[0] && s->queue && s->job.handler && s->as_written);
    CHECK(s->job.timeout_ms > 0 && s->job.attempts > 0);
    CHECK(s->write.mode != WRITE_MERGE || s->write.key_count > 0);
    CHECK(s->write.mode == WRITE_NONE || s->write.table != NULL);
    CHECK(s->items.kind != ITEMS_RANGE || s->items.from <= s->items.to);
    CHECK(s->finish.every_ms >= 0 && s->finish.fold.stop_after >= 0);
    CHECK(s->finish.fold.tolerate_count >= 0 || (s->finish.fold.tolerate_percent >= 0 && s->finish.fold.tolerate_percent <= 100));
    (void)spec_reads_bigquery(s);
}

FUZZ(spec)
{
    enum { SETS = 8 };
    struct input in = input_of(data, size);
    struct error err = ERROR_INIT;
    char *sets[SETS + 1] = {NULL};
    size_t len;
    AUTO(free_ptr) char *text = input_text(&in, '\0', &len);
    for (int i = 0; i < SETS && input_left(&in) > 0; i++)
        sets[i] = input_text(&in, '\n', NULL);
    const char *path = fuzz_file(text, len);
    for (int embedded = 0; embedded < 2; embedded++) {
        AUTO(spec_free_auto) struct spec *s = spec_load(path, sets, some_env, embedded != 0, &err);
        if (s != NULL)
            check(s);
        else
            CHECK(err.kind == ERR_USAGE && (strncmp(err.text, path, strlen(path)) == 0 || strstr(err.text, "--set") != NULL));
    }
    for (int i = 0; i < SETS; i++)
        free(sets[i]);
}
