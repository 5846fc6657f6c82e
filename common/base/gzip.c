#include "common/base/gzip.h"

#include <zlib.h>

#include "common/base/oom.h"

#define WINDOW (15 + 16) /* bits; 16: a gzip member and not a zlib stream */
#define ROOM 65536       /* bytes made place for at a time */

struct gzip { z_stream z; };

static void must(int rc, const char *what)
{
    if (rc == Z_MEM_ERROR)
        out_of_memory("zlib");
    if (rc != Z_OK) {
        fprintf(stderr, "bqfleet: zlib failed: %s: %d\n", what, rc);
        abort();
    }
}

struct gzip *gzip_new(void)
{
    struct gzip *g = xcalloc(1, sizeof(*g));
    must(deflateInit2(&g->z, 1, Z_DEFLATED, WINDOW, 8, Z_DEFAULT_STRATEGY), "deflateInit2");
    return g;
}

void gzip_free(struct gzip *g)
{
    if (g == NULL)
        return;
    deflateEnd(&g->z);
    free(g);
}

static void deflate_all(struct gzip *g, const void *data, size_t len, int flush, struct buf *out)
{
    for (const char *from = data;;) {
        uInt n = (uInt)size_min(len, 1 << 30); /* zlib counts in 32 bits */
        g->z.next_in = (Bytef *)(uintptr_t)from;
        g->z.avail_in = n;
        do {
            char *at = buf_reserve(out, ROOM);
            if (at == NULL)
                abort(); /* our bug: the ceiling is above what can come */
            g->z.next_out = (Bytef *)at;
            g->z.avail_out = ROOM;
            if (deflate(&g->z, n == len ? flush : Z_NO_FLUSH) == Z_STREAM_ERROR)
                abort();
            out->len += ROOM - g->z.avail_out;
        } while (g->z.avail_out == 0);
        from += n;
        len -= n;
        if (len == 0)
            return;
    }
}

void gzip_add(struct gzip *g, const void *data, size_t len, struct buf *out)
{
    deflate_all(g, data, len, Z_NO_FLUSH, out);
}

void gzip_end(struct gzip *g, struct buf *out)
{
    deflate_all(g, "", 0, Z_FINISH, out);
}

bool gzip_is(const void *data, size_t len)
{
    const unsigned char *p = data;
    return len >= 2 && p[0] == 0x1f && p[1] == 0x8b;
}

static int damaged(struct error *err, const char *why)
{
    return error_set(err, ERR_TASK, 0, "gzip: %s", why);
}

static int inflate_all(z_stream *z, const char *data, size_t len, struct buf *out, struct error *err)
{
    for (const char *end = data + len;;) {
        uInt n = (uInt)size_min((size_t)(end - data), 1 << 30);
        size_t room = size_min(ROOM, out->max - out->len);
        char *at = buf_reserve(out, room);
        if (at == NULL || room == 0)
            return damaged(err, "too large");
        z->next_in = (Bytef *)(uintptr_t)data;
        z->avail_in = n;
        z->next_out = (Bytef *)at;
        z->avail_out = (uInt)room;
        int rc = inflate(z, Z_NO_FLUSH);
        if (rc == Z_MEM_ERROR)
            out_of_memory("zlib"); /* and not damaged: what is damaged is given up for good */
        data += n - z->avail_in;
        out->len += room - z->avail_out;
        if (rc == Z_STREAM_END && data == end)
            return 0;
        if (rc == Z_STREAM_END)
            must(inflateReset(z), "inflateReset"); /* another member */
        else if (rc != Z_OK)
            return damaged(err, rc == Z_BUF_ERROR ? "cut short" : z->msg ? z->msg : "damaged");
    }
}

int gunzip(const void *data, size_t len, struct buf *out, struct error *err)
{
    z_stream z = {0};
    must(inflateInit2(&z, WINDOW), "inflateInit2");
    int rc = inflate_all(&z, data, len, out, err);
    inflateEnd(&z);
    if (out->data != NULL)
        out->data[out->len] = '\0';
    return rc;
}
