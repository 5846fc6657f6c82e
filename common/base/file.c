#include "common/base/file.h"

#include <errno.h>

#include "common/base/buf.h"

static void file_close(FILE **f)
{
    if (*f != NULL)
        fclose(*f);
}

char *file_read(const char *path, size_t max, size_t *len, struct error *err)
{
    AUTO(file_close) FILE *f = fopen(path, "re");
    if (f == NULL) {
        error_set(err, ERR_USAGE, errno, "%s: cannot be read: %s", path, strerror(errno));
        return NULL;
    }
    AUTO(buf_free) struct buf text = BUF_INIT(max);
    char chunk[16384];
    size_t n;
    while ((n = fread(chunk, 1, sizeof(chunk), f)) > 0)
        if (buf_add(&text, chunk, n) != 0) {
            error_set(err, ERR_USAGE, 0, "%s: more than the %zu bytes that are read", path, max);
            return NULL;
        }
    if (ferror(f)) {
        error_set(err, ERR_USAGE, errno, "%s: cannot be read: %s", path, strerror(errno));
        return NULL;
    }
    *len = text.len;
    return buf_steal(&text);
}
