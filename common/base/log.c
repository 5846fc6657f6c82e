#include "common/base/log.h"

#include <errno.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

#include "common/base/units.h"
#include "common/base/utf8.h"

#define LINE_MAX_BYTES 16384 /* a line that is longer is cut: one write of it stays whole on a pipe's reader side */
#define FIELD_MAX 256        /* bytes of a name in a line */
#define STUCK_MS 1000        /* a stderr that takes nothing for so long loses the line */

static const char *const level_names[] = {"debug", "info", "warn", "error"};

/* The one log of the process. */
static struct {
    enum log_level level;
    bool json, json_known;
    int64_t (*wall_ms)(void *);
    void *clock;
    void (*before)(void *), (*after)(void *);
    void *around;
    void (*sink)(void *, enum log_level, const char *, size_t);
    void *sink_arg;
} log_state = {.level = LOG_INFO};

struct line {
    char text[LINE_MAX_BYTES];
    size_t len, room; /* room: bytes that may be used now */
};

void log_setup(enum log_level level, enum log_format format, int64_t (*wall_ms)(void *), void *clock)
{
    log_state.level = level;
    log_state.json = format == LOG_JSON || (format == LOG_AUTO && !isatty(STDERR_FILENO));
    log_state.json_known = true;
    log_state.wall_ms = wall_ms;
    log_state.clock = clock;
}

void log_around(void (*before)(void *), void (*after)(void *), void *arg)
{
    log_state.before = before;
    log_state.after = after;
    log_state.around = arg;
}

void log_sink(void (*sink)(void *, enum log_level, const char *line, size_t len), void *arg)
{
    log_state.sink = sink;
    log_state.sink_arg = arg;
}

bool log_enabled(enum log_level level)
{
    return level >= log_state.level;
}

int log_level_parse(const char *name, enum log_level *level, struct error *err)
{
    for (size_t i = 0; i < ARRAY_LEN(level_names); i++)
        if (strcmp(level_names[i], name) == 0) {
            *level = (enum log_level)i;
            return 0;
        }
    return error_set(err, ERR_USAGE, 0, "\"%.100s\" is not a log level; write debug, info, warn or error", name);
}

static bool put(struct line *l, const char *p, size_t n)
{
    if (n > l->room - l->len)
        return false;
    memcpy(l->text + l->len, p, n);
    l->len += n;
    return true;
}

static void puts_line(struct line *l, const char *s)
{
    put(l, s, strlen(s));
}

/* How one character of foreign text is written: itself, or an escape that keeps a line one line and a terminal unharmed. */
static size_t escaped(const char *p, size_t n, bool json, char out[16], size_t *out_len)
{
    static const char named[] = "\n\r\t", letters[] = "nrt";
    uint32_t code = 0;
    size_t len = utf8_step(p, n, &code);
    const char *name = len == 1 && code != 0 ? strchr(named, (int)code) : NULL;
    if (len == 0)
        *out_len = (size_t)(json ? snprintf(out, 16, "%s", UTF8_REPLACEMENT) : snprintf(out, 16, "\\x%02x", (unsigned char)*p));
    else if (name != NULL)
        *out_len = (size_t)snprintf(out, 16, "\\%c", letters[name - named]);
    else if (code < 0x20 || (code >= 0x7f && code < 0xa0))
        *out_len = (size_t)snprintf(out, 16, json ? "\\u%04x" : "\\x%02x", code);
    else if (json && (code == '"' || code == '\\'))
        *out_len = (size_t)snprintf(out, 16, "\\%c", (char)code);
    else
        memcpy(out, p, *out_len = len);
    return len == 0 ? 1 : len;
}

/* Whole characters while there is room, then "...". */
static void put_escaped(struct line *l, const char *s, size_t n, bool json)
{
    size_t end = l->room;
    l->room = end - size_min(3, end - l->len);
    for (size_t i = 0; i < n;) {
        char one[16];
        size_t one_len = 0;
        i += escaped(s + i, n - i, json, one, &one_len);
        if (!put(l, one, one_len)) {
            l->room = end;
            puts_line(l, "...");
            return;
        }
    }
    l->room = end;
}

static void field_text(struct line *l, const char *name, const char *value, bool json)
{
    if (value == NULL)
        return;
    puts_line(l, json ? ",\"" : l->len > 0 ? " " : "");
    puts_line(l, name);
    puts_line(l, json ? "\":\"" : " ");
    put_escaped(l, value, strnlen(value, FIELD_MAX), json);
    puts_line(l, json ? "\"" : "");
}

static void field_number(struct line *l, const char *name, int64_t value, bool json)
{
    char text[64];
    snprintf(text, sizeof(text), json ? ",\"%s\":%" PRId64 : "%s %" PRId64, name, value);
    puts_line(l, json || l->len == 0 ? "" : " ");
    puts_line(l, text);
}

static void put_context(struct line *l, const struct log_ctx *c, bool json)
{
    field_text(l, "run", c->run, json);
    if (c->item1 > 0)
        field_number(l, "item", c->item1 - 1, json);
    if (c->attempt > 0)
        field_number(l, "attempt", c->attempt, json);
    field_text(l, "worker", c->worker, json);
    field_text(l, "handler", c->handler, json);
    field_text(l, "job", c->job, json);
    field_text(l, "topic", c->topic, json);
    if (c->partition1 > 0)
        field_number(l, "partition", c->partition1 - 1, json);
}

static void put_time(struct line *l, bool json)
{
    char text[64] = "";
    if (log_state.wall_ms == NULL)
        return;
    int64_t now = log_state.wall_ms(log_state.clock);
    if (json) {
        puts_line(l, "\"time\":\"");
        puts_line(l, units_show_time(now, text, sizeof(text)));
        puts_line(l, "\",");
        return;
    }
    time_t seconds = (time_t)(now / 1000); /* people on a terminal read their own clock */
    struct tm tm = {0};
    localtime_r(&seconds, &tm);
    strftime(text, sizeof(text), "%H:%M:%S ", &tm);
    puts_line(l, text);
}

static void compose(struct line *l, enum log_level level, const struct log_ctx *ctx, const char *msg, size_t msg_len, bool json)
{
    struct line context; /* on the stack: per thread, it would cost every thread of a library its size */
    context.len = 0;
    context.room = sizeof(context.text);
    if (ctx != NULL)
        put_context(&context, ctx, json);
    l->len = 0;
    l->room = sizeof(l->text);
    puts_line(l, json ? "{" : "");
    put_time(l, json);
    if (json) {
        puts_line(l, "\"level\":\"");
        puts_line(l, level_names[level]);
        puts_line(l, "\",\"msg\":\"");
        l->room -= context.len + 3; /* the quote, the brace and the line break */
        put_escaped(l, msg, msg_len, json);
        l->room = sizeof(l->text);
        puts_line(l, "\"");
        put(l, context.text, context.len);
        puts_line(l, "}\n");
        return;
    }
    char word[16];
    snprintf(word, sizeof(word), "%-5s ", level_names[level]);
    puts_line(l, word);
    if (context.len > 0) {
        puts_line(l, "[");
        put(l, context.text, context.len);
        puts_line(l, "] ");
    }
    l->room -= 1;
    put_escaped(l, msg, msg_len, json);
    l->room = sizeof(l->text);
    puts_line(l, "\n");
}

/* One write(2) a line, so that lines of several processes on one pipe stay apart; the rest only when the kernel took a part. */
static void write_out(const char *p, size_t n)
{
    while (n > 0) {
        ssize_t wrote = write(STDERR_FILENO, p, n);
        if (wrote > 0) {
            p += wrote;
            n -= (size_t)wrote;
        } else if (wrote < 0 && errno == EAGAIN) {
            struct pollfd fd = {.fd = STDERR_FILENO, .events = POLLOUT};
            if (poll(&fd, 1, STUCK_MS) <= 0)
                return;
        } else if (!(wrote < 0 && errno == EINTR)) {
            return;
        }
    }
}

void log_line(enum log_level level, const struct log_ctx *ctx, const char *fmt, ...)
{
    if (!log_enabled(level))
        return;
    char msg[LINE_MAX_BYTES];
    struct line line;
    int saved = errno;
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(msg, sizeof(msg), fmt, ap);
    va_end(ap);
    size_t len = n < 0 ? 0 : size_min((size_t)n, sizeof(msg) - 1);
    bool json = log_state.json_known ? log_state.json : !isatty(STDERR_FILENO);
    compose(&line, level, ctx, msg, len, json);
    if (log_state.sink != NULL) {
        log_state.sink(log_state.sink_arg, level, line.text, line.len - 1);
    } else {
        if (log_state.before != NULL)
            log_state.before(log_state.around);
        write_out(line.text, line.len);
        if (log_state.after != NULL)
            log_state.after(log_state.around);
    }
    errno = saved;
}
