#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/*
 * A handler that keeps book: each item takes MS milliseconds, as many at once as are given, and items below SLOW_BELOW take SLOW_MS. Each start is a line in LOG
 * before anything else happens: the item, and nanoseconds of CLOCK_MONOTONIC. What was started twice was processed again.
 *   handler_sleep LOG MS [SLOW_BELOW SLOW_MS]
 */

#define MOST 8192

static struct { int64_t item, due_ns; } pending[MOST];
static size_t count;

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void start(FILE *book, const char *line, char **argv, int argc)
{
    const char *at = strstr(line, "\"item\":");
    if (at == NULL) {
        puts("{\"ready\":true}");
        return;
    }
    int64_t item = atoll(at + 7), now = now_ns();
    int64_t ms = argc > 4 && item < atoll(argv[3]) ? atoll(argv[4]) : atoll(argv[2]);
    if (count == MOST)
        exit(3);
    pending[count].item = item;
    pending[count++].due_ns = now + ms * 1000000;
    fprintf(book, "%" PRId64 " %" PRId64 "\n", item, now);
}

/* Answers what is due; milliseconds until the next one is, -1 for never. */
static int answer_due(void)
{
    int64_t now = now_ns(), next = INT64_MAX;
    for (size_t i = 0; i < count;) {
        if (pending[i].due_ns <= now) {
            printf("{\"item\":%" PRId64 ",\"done\":true}\n", pending[i].item);
            pending[i] = pending[--count];
            continue;
        }
        next = pending[i].due_ns < next ? pending[i].due_ns : next;
        i++;
    }
    return next == INT64_MAX ? -1 : (int)((next - now) / 1000000) + 1;
}

int main(int argc, char **argv)
{
    static char in[1 << 20];
    size_t have = 0;
    FILE *book = argc > 2 ? fopen(argv[1], "a") : NULL;
    if (book == NULL)
        return 2;
    struct pollfd fd = {.fd = STDIN_FILENO, .events = POLLIN};
    for (;;) {
        int wait_ms = answer_due();
        fflush(book);
        fflush(stdout);
        if (poll(&fd, 1, wait_ms) <= 0)
            continue;
        ssize_t n = read(STDIN_FILENO, in + have, sizeof(in) - have);
        if (n <= 0)
            return 0;
        have += (size_t)n;
        char *line = in, *end;
        while ((end = memchr(line, '\n', have - (size_t)(line - in))) != NULL) {
            *end = '\0';
            start(book, line, argv, argc);
            line = end + 1;
        }
        have -= (size_t)(line - in);
        memmove(in, line, have);
    }
}
