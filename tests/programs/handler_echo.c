#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/*
 * A handler that costs next to nothing: each item's payload is its one row. For benchmarks of the exec protocol, and a pattern for a fast handler: one
 * read takes all the lines there are, and one write answers them.
 */

#define CHUNK (1 << 20) /* bytes: more than a pipe holds */

static char in[2 * CHUNK], out[4 * CHUNK];
static size_t in_len, out_len;

static void flush(void)
{
    for (size_t at = 0; at < out_len;) {
        ssize_t n = write(1, out + at, out_len - at);
        if (n <= 0)
            exit(1);
        at += (size_t)n;
    }
    out_len = 0;
}

static void put(const char *text, size_t len)
{
    if (out_len + len > sizeof(out))
        flush();
    memcpy(out + out_len, text, len);
    out_len += len;
}

#define PUT(text) put(text, sizeof(text) - 1)

/* {"item":7,...,"payload":{...}} becomes {"item":7,"rows":[{...}],"done":true}: the item comes first in a line, the payload last. */
static void answer(const char *line, size_t len)
{
    static const char item[] = "{\"item\":", payload[] = "\"payload\":";
    if (len < sizeof(item) || memcmp(line, item, sizeof(item) - 1) != 0) {
        PUT("{\"ready\":true}\n");
        return;
    }
    const char *comma = memchr(line, ',', len), *row = comma ? memmem(comma, len - (size_t)(comma - line), payload, sizeof(payload) - 1) : NULL;
    if (row == NULL)
        exit(1);
    row += sizeof(payload) - 1;
    put(line, (size_t)(comma - line));
    PUT(",\"rows\":[");
    put(row, len - 1 - (size_t)(row - line));
    PUT("],\"done\":true}\n");
}

int main(void)
{
    ssize_t n;
    while ((n = read(0, in + in_len, sizeof(in) - in_len)) > 0) {
        in_len += (size_t)n;
        char *from = in, *end;
        while ((end = memchr(from, '\n', in_len - (size_t)(from - in))) != NULL) {
            answer(from, (size_t)(end - from));
            from = end + 1;
        }
        in_len -= (size_t)(from - in);
        memmove(in, from, in_len);
        if (in_len == sizeof(in))
            return 1;
        flush();
    }
    return 0;
}
