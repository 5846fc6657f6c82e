#include "worker/handlers/words.h"

#include "common/base/limits.h"

#define WORDS_LINE 4096 /* bytes of a line in the log; longer ones become several */

void words_init(struct words *w)
{
    w->line = BUF_INIT(WORDS_LINE);
    w->tail = BUF_INIT(2 * LIMIT_LAST_WORDS);
    w->cut = false;
}

void words_free(struct words *w)
{
    buf_free(&w->line);
    buf_free(&w->tail);
}

void words_end(struct words *w, const struct log_ctx *ctx)
{
    while (w->line.len > 0 && w->line.data[w->line.len - 1] == '\r')
        w->line.len--;
    if (w->line.len > 0)
        log_line(LOG_INFO, ctx, "%.*s", (int)w->line.len, w->line.data);
    buf_clear(&w->line);
}

static void keep(struct words *w, const char *data, size_t len)
{
    if (len > LIMIT_LAST_WORDS) {
        data += len - LIMIT_LAST_WORDS;
        len = LIMIT_LAST_WORDS;
        w->cut = true;
    }
    if (w->tail.len + len > w->tail.max) {
        buf_consume(&w->tail, w->tail.len - (LIMIT_LAST_WORDS - size_min(len, LIMIT_LAST_WORDS)));
        w->cut = true;
    }
    buf_xadd(&w->tail, data, len);
}

void words_add(struct words *w, const struct log_ctx *ctx, const char *data, size_t len)
{
    keep(w, data, len);
    while (len > 0) {
        const char *end = memchr(data, '\n', len);
        size_t n = size_min(end ? (size_t)(end - data) : len, WORDS_LINE - w->line.len);
        buf_xadd(&w->line, data, n);
        bool whole = end != NULL && data + n == end;
        if (whole || w->line.len == WORDS_LINE)
            words_end(w, ctx);
        n += whole ? 1 : 0;
        data += n;
        len -= n;
    }
}

const char *words_tail(const struct words *w)
{
    return w->tail.len == 0 ? "" : w->tail.data + (w->tail.len > LIMIT_LAST_WORDS ? w->tail.len - LIMIT_LAST_WORDS : 0);
}

char *words_death(const struct words *w, const char *how)
{
    const char *tail = words_tail(w);
    size_t n = strlen(tail);
    while (n > 0 && (tail[n - 1] == '\n' || tail[n - 1] == '\r'))
        n--;
    if (n == 0)
        return xasprintf("%.200s", how);
    return xasprintf("%.200s: %s%.*s", how, w->cut || tail != w->tail.data ? "..." : "", (int)n, tail);
}
