#include "common/host/host.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "common/base/limits.h"
#include "common/host/library.h"
#include "common/host/lines.h"

#define FLUSH_BYTES 65536  /* of answers that wait to be written */
#define FLUSH_US 1000      /* since the last write: the next item may be a slow one, and no answer shall wait for it long */
#define PROGRESS_US 100000 /* between two words about progress */
#define READ_BYTES 1048576 /* asked for at once */

/* What is being called: an item, or the start. */
struct bqfleet_call {
    int64_t item;          /* -1: the start */
    struct buf rows;       /* "{...},{...}": not yet in an answer */
    int result;            /* of fail(); BQFLEET_DONE: it was not called */
    struct buf message;
};

/* One process, one library, one call at a time. */
struct host {
    struct bqfleet_host table; /* first: calls carry no way back to us, so there is one host */
    struct library library;
    void *state;
    bool open;
    int in, out;
    struct buf input, output;
    struct buf scratch;
    struct bqfleet_call call;
    int64_t written_us, progress_us;
};
static struct host host;

static int64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * US_PER_S + t.tv_nsec / 1000;
}

/* --- answers -------------------------------------------------------------------------------------------------------------------------------- */

static void flush(void)
{
    size_t at = 0;
    while (at < host.output.len) {
        ssize_t n = write(host.out, host.output.data + at, host.output.len - at);
        if (n < 0 && errno != EINTR)
            _exit(1); /* the worker is gone */
        at += n > 0 ? (size_t)n : 0;
    }
    buf_clear(&host.output);
    host.written_us = now_us();
}

/* What the call has emitted becomes part of an answer; last: which it ends. */
static void put_rows(struct bqfleet_call *c, bool last)
{
    buf_xprintf(&host.output, "{\"item\":%" PRId64, c->item);
    if (c->rows.len > 0) {
        buf_xputs(&host.output, ",\"rows\":[");
        buf_xadd(&host.output, c->rows.data, c->rows.len);
        buf_xputs(&host.output, "]");
    }
    buf_xputs(&host.output, last ? ",\"done\":true}\n" : "}\n");
    buf_clear(&c->rows);
    if (c->rows.cap > READ_BYTES)
        buf_free(&c->rows);
    if (host.output.len >= FLUSH_BYTES)
        flush();
}

static void put_error(int64_t item, const char *kind, const char *message, size_t len)
{
    buf_xputs(&host.output, "{");
    if (item >= 0)
        buf_xprintf(&host.output, "\"item\":%" PRId64 ",", item);
    buf_xprintf(&host.output, "\"error\":{\"kind\":\"%s\",\"message\":", kind);
    json_put_string(&host.output, message, len);
    buf_xputs(&host.output, "}}\n");
}

/* --- what plugins may call -------------------------------------------------------------------------------------------------------------------- */

static int fail(struct bqfleet_call *c, int result, const char *message, size_t len)
{
    if (c->result == BQFLEET_DONE && result != BQFLEET_DONE) {
        c->result = result;
        buf_clear(&c->message);
        buf_xadd(&c->message, message, size_min(len, LIMIT_DEAD_TEXT));
    }
    return result;
}

static int fail_text(struct bqfleet_call *c, const char *text)
{
    return fail(c, BQFLEET_TASK, text, strlen(text));
}

static int emit(struct bqfleet_call *c, const char *row, size_t len)
{
    if (c->item < 0)
        return fail_text(c, "emit() without an item: rows belong to process()");
    if (len > LIMIT_ROW)
        return fail_text(c, "a row of more than 32 MiB");
    if (!json_is_object(row, len))
        return fail_text(c, "emit() was given something that is not one JSON object");
    if (c->rows.len > 0)
        buf_xputs(&c->rows, ",");
    size_t from = c->rows.len;
    buf_xadd(&c->rows, row, len);
    /* An answer is a line. A carriage return is space between a row's tokens as a line break is, and as wrong inside of its strings. */
    for (char *p = c->rows.data + from, *end = c->rows.data + c->rows.len; (p = memchr(p, '\n', (size_t)(end - p))) != NULL;)
        *p++ = '\r';
    if (c->rows.len >= FLUSH_BYTES)
        put_rows(c, false);
    return c->result;
}

static void progress(struct bqfleet_call *c, double share)
{
    int64_t now = now_us();
    if (c->item < 0 || !(share >= 0 && share <= 1) || now - host.progress_us < PROGRESS_US)
        return;
    host.progress_us = now;
    buf_xprintf(&host.output, "{\"item\":%" PRId64 ",\"progress\":%.3f}\n", c->item, share);
    flush();
}

/* --- calling ---------------------------------------------------------------------------------------------------------------------------------- */

static struct bqfleet_call *begin(int64_t item)
{
    host.call.item = item;
    host.call.result = BQFLEET_DONE;
    buf_clear(&host.call.rows);
    buf_clear(&host.call.message);
    return &host.call;
}

/* The result that counts, and a message when it is a failure. */
static int settle(struct bqfleet_call *c, int returned, const char *function)
{
    char text[128];
    bool known = returned >= BQFLEET_DONE && returned <= BQFLEET_FATAL;
    snprintf(text, sizeof(text), known ? "%s() of the plugin returned %d and gave no message" : "%s() of the plugin returned %d, which means nothing", function,
             returned);
    if (returned != BQFLEET_DONE)
        fail(c, known ? returned : BQFLEET_TASK, text, strlen(text));
    if (c->result < BQFLEET_DONE || c->result > BQFLEET_FATAL)
        c->result = BQFLEET_TASK;
    return c->result;
}

/* No item can be worked on: the run is told, and so is the log. */
static int refuse(const char *text, size_t len)
{
    put_error(-1, "fatal", text, len);
    flush();
    fprintf(stderr, "%.*s\n", (int)len, text);
    return 1;
}

static int greet(const struct bqfleet_hello *hello)
{
    if (host.open)
        return 0;
    struct bqfleet_call *c = begin(-1);
    int result = BQFLEET_DONE;
    if (host.library.handler.open != NULL)
        result = settle(c, host.library.handler.open(&host.table, c, hello, &host.state), "open");
    if (result == BQFLEET_FATAL)
        return refuse(c->message.data ? c->message.data : "", c->message.len);
    if (result != BQFLEET_DONE) {
        fprintf(stderr, "%.*s\n", (int)c->message.len, c->message.len ? c->message.data : "");
        return 1;
    }
    host.open = true;
    buf_xputs(&host.output, "{\"ready\":true}\n");
    flush();
    return 0;
}

static void process(const struct bqfleet_item *item)
{
    static const char *const kinds[] = {[BQFLEET_RETRY] = "retry", [BQFLEET_TASK] = "task", [BQFLEET_FATAL] = "fatal"};
    struct bqfleet_call *c = begin(item->index);
    int result = settle(c, host.library.handler.process(host.state, &host.table, c, item), "process");
    if (result == BQFLEET_DONE)
        put_rows(c, true);
    else
        put_error(item->index, kinds[result], c->message.len ? c->message.data : "", c->message.len);
    if (host.output.len >= FLUSH_BYTES || now_us() - host.written_us >= FLUSH_US)
        flush();
}

/* 0, or the status to exit with. */
static int take_line(const char *line, size_t len)
{
    struct bqfleet_hello hello;
    struct bqfleet_item item;
    struct error err = ERROR_INIT;
    int kind = line_parse(line, len, &hello, &item, &host.scratch, &err);
    if (kind < 0 || (kind == LINE_ITEM && !host.open)) {
        fprintf(stderr, "%s\n", kind < 0 ? err.text : "an item before the hello");
        return 1;
    }
    if (kind == LINE_HELLO)
        return greet(&hello);
    process(&item);
    return 0;
}

/* --- the process -------------------------------------------------------------------------------------------------------------------------------- */

static int take_input(void)
{
    size_t at = 0;
    int status = 0;
    for (char *end; status == 0 && at < host.input.len && (end = memchr(host.input.data + at, '\n', host.input.len - at)) != NULL;) {
        size_t len = (size_t)(end - host.input.data) - at;
        status = len > 0 ? take_line(host.input.data + at, len) : 0;
        at += len + 1;
    }
    buf_consume(&host.input, at);
    if (host.output.len > 0) /* nothing more is at hand: whoever waits for an answer shall have it */
        flush();
    return status;
}

static int serve(void)
{
    for (;;) {
        char *room = buf_reserve(&host.input, READ_BYTES);
        if (room == NULL) {
            fprintf(stderr, "a line from the worker of more than %d bytes\n", LIMIT_LINE);
            return 1;
        }
        ssize_t n = read(host.in, room, READ_BYTES);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n == 0 ? 0 : 1;
        host.input.len += (size_t)n;
        int status = take_input();
        if (status != 0)
            return status;
    }
}

/* The pipes of the protocol move to other numbers, which the plugin's own children do not inherit; 0 and 1 become harmless. */
static int take_pipes(void)
{
    host.in = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    host.out = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (host.in < 0 || host.out < 0 || nothing < 0 || dup2(nothing, STDIN_FILENO) < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
        return -1;
    close(nothing);
    setvbuf(stdout, NULL, _IOLBF, 0); /* what is printed before a crash is its last word */
    return 0;
}

bool plugin_host_wanted(int argc, char **argv)
{
    return argc >= 2 && strcmp(argv[1], PLUGIN_HOST_FLAG) == 0;
}

int plugin_host(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: %s " PLUGIN_HOST_FLAG " LIB.so\n", argv[0]);
        return EXIT_USAGE;
    }
    prctl(PR_SET_NAME, "bqfleet-plugin");
    host = (struct host){.table = {.abi = BQFLEET_HOST_ABI, .size = sizeof(host.table), .emit = emit, .fail = fail, .progress = progress},
                         .input = BUF_INIT(LIMIT_LINE), .output = BUF_INIT(SIZE_MAX / 2), .scratch = BUF_INIT(LIMIT_LINE),
                         .call = {.rows = BUF_INIT((size_t)2 * LIMIT_ROW), .message = BUF_INIT(LIMIT_DEAD_TEXT)}};
    struct error err = ERROR_INIT;
    if (take_pipes() != 0) {
        perror("bqfleet plugin host");
        return 1;
    }
    if (library_open(&host.library, argv[2], &err) != 0)
        return refuse(err.text, strlen(err.text));
    int status = serve();
    if (host.open && host.library.handler.close != NULL)
        host.library.handler.close(host.state);
    buf_free(&host.input);
    buf_free(&host.output);
    buf_free(&host.scratch);
    buf_free(&host.call.rows);
    buf_free(&host.call.message);
    return status;
}
