#include <bqfleet/handler.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/*
 * A plugin that does what an item's key tells it. Anything else than the words below: one row, {"k":KEY,"v":INDEX}.
 *   none, many:N, lines (a row over two lines), rowless (text that is no row), nan, retry (the first time), task, fatal, silent (no message), odd (a result
 *   that means nothing), told (a failure, but returns that it is done), print (on stdout, what looks like an answer), late (an answer after its own end),
 *   crash, exit, progress, stdin, state
 * The run's params: {"open":"fatal"|"retry"|"emit"}.
 */
struct state { long items; char batch[64]; };

static int is(struct bqfleet_text t, const char *word)
{
    return t.len == strlen(word) && memcmp(t.data, word, t.len) == 0;
}

static int begins(struct bqfleet_text t, const char *word)
{
    return t.len >= strlen(word) && memcmp(t.data, word, strlen(word)) == 0;
}

static int fail(const struct bqfleet_host *host, struct bqfleet_call *call, int result, const char *text)
{
    return host->fail(call, result, text, strlen(text));
}

static int emit(const struct bqfleet_host *host, struct bqfleet_call *call, const char *row)
{
    return host->emit(call, row, strlen(row));
}

static int demo_open(const struct bqfleet_host *host, struct bqfleet_call *call, const struct bqfleet_hello *hello, void **state)
{
    static const char *const modes[] = {"fatal", "retry", "emit"};
    struct state *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return BQFLEET_RETRY;
    *state = s;
    if (!BQFLEET_HAS(host, progress) || !BQFLEET_HAS(hello, schema) || host->abi != BQFLEET_HOST_ABI)
        return fail(host, call, BQFLEET_FATAL, "the host is older than version 1");
    snprintf(s->batch, sizeof(s->batch), "%.*s", (int)hello->batch.len, hello->batch.data);
    for (int i = 0; i < 3; i++) {
        char piece[32];
        int n = snprintf(piece, sizeof(piece), "\"open\":\"%s\"", modes[i]);
        if (n < 0 || hello->params.len < (size_t)n || memmem(hello->params.data, hello->params.len, piece, (size_t)n) == NULL)
            continue;
        free(s);
        if (i == 2)
            return emit(host, call, "{}");
        return fail(host, call, i == 0 ? BQFLEET_FATAL : BQFLEET_RETRY, i == 0 ? "the model is of another season" : "the licence server is away");
    }
    printf("opened for %s\n", s->batch);
    return BQFLEET_DONE;
}

static void demo_close(void *state)
{
    struct state *s = state;
    fprintf(stderr, "closed after %ld items\n", s->items);
    free(s);
}

/* A row with the item's key, escaped as far as JSON demands. */
static int one_row(const struct bqfleet_host *host, struct bqfleet_call *call, const struct bqfleet_item *item, long long v)
{
    char row[8192];
    size_t n = (size_t)sprintf(row, "{\"k\":\"");
    for (size_t i = 0; i < item->key.len && n < sizeof(row) - 64; i++) {
        unsigned char c = (unsigned char)item->key.data[i];
        n += (size_t)sprintf(row + n, c < 0x20 || c == '"' || c == '\\' ? "\\u%04x" : "%c", c);
    }
    n += (size_t)sprintf(row + n, "\",\"v\":%lld}", v);
    return host->emit(call, row, n);
}

static int misbehave(const struct bqfleet_host *host, struct bqfleet_call *call, const struct bqfleet_item *item)
{
    if (is(item->key, "silent"))
        return BQFLEET_TASK;
    if (is(item->key, "odd"))
        return 42;
    if (is(item->key, "told")) {
        emit(host, call, "{\"k\":\"told\",\"v\":1}");
        fail(host, call, BQFLEET_TASK, "told and forgotten");
        return BQFLEET_DONE;
    }
    if (is(item->key, "crash")) {
        printf("about to crash\n");
        abort();
    }
    if (is(item->key, "exit"))
        exit(7);
    if (is(item->key, "rowless")) {
        emit(host, call, "{\"k\":\"rowless\"},\"done\":true");
        return BQFLEET_DONE;
    }
    return -1;
}

static int demo_process(void *state, const struct bqfleet_host *host, struct bqfleet_call *call, const struct bqfleet_item *item)
{
    struct state *s = state;
    s->items++;
    if (is(item->key, "none"))
        return BQFLEET_DONE;
    if (begins(item->key, "many:")) {
        for (long i = 0, n = atol(item->key.data + 5); i < n; i++)
            if (one_row(host, call, item, i) != 0)
                return BQFLEET_TASK;
        return BQFLEET_DONE;
    }
    if (is(item->key, "lines"))
        return emit(host, call, "{\"k\":\n\"lines\",\n\"v\":1}");
    if (is(item->key, "nan"))
        return emit(host, call, "{\"k\":\"nan\",\"f\":NaN}");
    if (is(item->key, "retry") && item->attempt == 1)
        return fail(host, call, BQFLEET_RETRY, "not this time");
    if (is(item->key, "task"))
        return fail(host, call, BQFLEET_TASK, "line 1 \"quoted\"\nline 2");
    if (is(item->key, "fatal"))
        return fail(host, call, BQFLEET_FATAL, "the database is gone for good");
    if (is(item->key, "print"))
        printf("{\"item\":%lld,\"row\":{\"k\":\"forged\",\"v\":0}}\n", (long long)item->index);
    if (is(item->key, "progress"))
        for (int i = 0; i <= 10; i++)
            host->progress(call, i / 10.0);
    if (is(item->key, "stdin") && (getchar() != EOF || read(STDIN_FILENO, &(char){0}, 1) != 0))
        return fail(host, call, BQFLEET_FATAL, "stdin is the protocol's");
    if (is(item->key, "state"))
        return one_row(host, call, item, s->items);
    int result = misbehave(host, call, item);
    return result >= 0 ? result : one_row(host, call, item, (long long)item->index);
}

BQFLEET_PLUGIN("demo", demo_open, demo_process, demo_close)
