#include "common/base/rows.h"

/* Lines leave rowcheck_add() open and are closed here, once the load that carries them is known. */

static const char SEAL[] = ",\"bqfleet_load\":\"", CLOSE[] = "\"}\n";

int rows_seal(const char *in, size_t len, const char *load_id, struct buf *out)
{
    size_t start = out->len;
    struct buf seal = BUF_INIT(sizeof(SEAL) + sizeof(CLOSE) + strlen(load_id));
    buf_xprintf(&seal, "%s%s%s", SEAL, load_id, CLOSE);
    int rc = 0;
    for (const char *p = in, *end = in + len; p < end && rc == 0;) {
        const char *line_end = memchr(p, '\n', (size_t)(end - p));
        assert(line_end != NULL); /* rowcheck_add() ends every line */
        size_t n = (size_t)(line_end - p);
        char *at = buf_reserve(out, n + seal.len);
        if (at == NULL)
            rc = -1;
        else {
            memcpy(at, p, n);
            memcpy(at + n, seal.data, seal.len);
            at[n + seal.len] = '\0';
            out->len += n + seal.len;
        }
        p = line_end + 1;
    }
    buf_free(&seal);
    if (rc != 0 && out->len > start) { /* all lines or none */
        out->len = start;
        out->data[start] = '\0';
    }
    return rc;
}

void rows_reseal(char *lines, size_t len, const char *new_load_id)
{
    size_t id_len = strlen(new_load_id);
    for (char *p = lines, *end = lines + len; p < end;) {
        char *line_end = memchr(p, '\n', (size_t)(end - p));
        assert(line_end != NULL);
        assert((size_t)(line_end - p) >= ROWS_SEAL_BYTES(id_len));
        char *id = line_end - 2 - id_len;
        assert(memcmp(id - (sizeof(SEAL) - 1), SEAL, sizeof(SEAL) - 1) == 0); /* the old id was as long */
        memcpy(id, new_load_id, id_len);
        p = line_end + 1;
    }
}
