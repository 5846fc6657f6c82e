#include "common/base/rows.h"

/* Lines leave rowcheck_add() open and are closed here, once the load that carries them is known. */

static const char SEAL[] = ",\"bqfleet_load\":\"", CLOSE[] = "\"}\n";

static void put_text(char **at, const char *text, size_t len)
{
    memcpy(*at, text, len);
    *at += len;
}

int rows_seal(const char *in, size_t len, const char *load_id, struct buf *out)
{
    size_t start = out->len, id_len = strlen(load_id);
    for (const char *p = in, *end = in + len; p < end;) {
        const char *line_end = memchr(p, '\n', (size_t)(end - p));
        assert(line_end != NULL); /* rowcheck_add() ends every line */
        size_t n = (size_t)(line_end - p);
        char *at = buf_reserve(out, n + ROWS_SEAL_BYTES(id_len) + 1);
        if (at == NULL) {
            if (out->len > start) { /* all lines or none */
                out->len = start;
                out->data[start] = '\0';
            }
            return -1;
        }
        put_text(&at, p, n);
        put_text(&at, SEAL, sizeof(SEAL) - 1);
        put_text(&at, load_id, id_len);
        put_text(&at, CLOSE, sizeof(CLOSE)); /* with its NUL */
        out->len = (size_t)(at - out->data) - 1;
        p = line_end + 1;
    }
    return 0;
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
