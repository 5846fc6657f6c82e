/*
 * How fast rows are checked: MB/s of a 20-column row set through rowcheck_add() and rows_seal() into a load's body, and through jansson, which only parses.
 *     rows_bench [ROWS [ROUNDS]]
 * One line of JSON for rows as compact encoders write them, one for those with spaces, as Python does.
 */
#include <jansson.h>
#include <time.h>

#include "common/base/gzip.h"
#include "common/base/limits.h"
#include "common/base/rows.h"

static const char SCHEMA[] =
    "{\"fields\":\"player_id:INT64 REQUIRED, season:INT64 REQUIRED, system:STRING REQUIRED, name:STRING, team:STRING(3),"
    "games:INT64, minutes:FLOAT64, points:FLOAT64, rebounds:FLOAT64, assists:FLOAT64, usage_rate:NUMERIC, salary:NUMERIC(12,2),"
    "active:BOOL, born:DATE, last_game:DATETIME, created_at:TIMESTAMP, notes:STRING, digest:BYTES, ratings:FLOAT64 REPEATED,"
    "extra:JSON\"}";

/* Processor time: what else runs on the machine does not count. */
static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint32_t lcg(uint32_t *state)
{
    *state = *state * 1664525U + 1013904223U;
    return *state >> 8;
}

/* One row a line; spaced as Python's json.dumps() does when `spaced`. */
static void make_rows(struct buf *b, int rows, bool spaced)
{
    uint32_t r = 7;
    const char *c = spaced ? ", " : ",", *k = spaced ? ": " : ":";
    for (int i = 0; i < rows; i++) {
        buf_xprintf(b, "{\"player_id\"%s%u%s\"season\"%s2025%s\"system\"%s\"ridge-%u\"%s\"name\"%s\"Player Number %u\"%s\"team\"%s\"%c%cX\"%s",
                    k, lcg(&r), c, k, c, k, lcg(&r) % 9, c, k, lcg(&r), c, k, (char)('A' + lcg(&r) % 26), (char)('A' + lcg(&r) % 26), c);
        buf_xprintf(b, "\"games\"%s%u%s\"minutes\"%s%.2f%s\"points\"%s%.15g%s\"rebounds\"%s%.15g%s\"assists\"%s%.4f%s", k, lcg(&r) % 83, c, k,
                    lcg(&r) % 4800 / 100.0, c, k, lcg(&r) / 1e6 + 0.123456789, c, k, lcg(&r) / 3e6, c, k, lcg(&r) / 1e6, c);
        buf_xprintf(b, "\"usage_rate\"%s\"0.%u\"%s\"salary\"%s\"%u.50\"%s\"active\"%s%s%s\"born\"%s\"19%02u-%02u-%02u\"%s", k,
                    lcg(&r) % 100000, c, k, lcg(&r), c, k, lcg(&r) & 1 ? "true" : "false", c, k, 80 + lcg(&r) % 20, 1 + lcg(&r) % 12,
                    1 + lcg(&r) % 28, c);
        buf_xprintf(b, "\"last_game\"%s\"2025-%02u-%02uT19:30:00\"%s\"created_at\"%s\"2025-%02u-%02uT%02u:15:30.%06uZ\"%s", k,
                    1 + lcg(&r) % 12, 1 + lcg(&r) % 28, c, k, 1 + lcg(&r) % 12, 1 + lcg(&r) % 28, lcg(&r) % 24, lcg(&r) % 1000000, c);
        buf_xprintf(b, "\"notes\"%s\"Played %u minutes in the last game and is expected to start; coach said \\\"ready\\\".\"%s", k,
                    lcg(&r) % 48, c);
        buf_xprintf(b, "\"digest\"%s\"q83vASNFZ4mrze8BI0VniQ==\"%s\"ratings\"%s[%.3f%s%.3f%s%.3f]%s\"extra\"%s{\"v\"%s%u%s\"tags\"%s[\"a\"%s\"b\"]}}\n",
                    k, c, k, lcg(&r) / 1e6, c, lcg(&r) / 1e6, c, lcg(&r) / 1e6, c, k, k, lcg(&r), c, k, c);
    }
}

#define FULL (16 * 1024 * 1024) /* bytes of a load */

/* The load is full: the next one. */
static size_t next_body(struct gzip **g, struct buf *body)
{
    if (*g != NULL)
        gzip_end(*g, body);
    gzip_free(*g);
    *g = *g ? gzip_new() : NULL;
    size_t len = body->len;
    buf_clear(body);
    return len;
}

/* An item of a row: checked into its own buffer, then, as it is done, sealed into the load's body; packed, by way of a buffer in between. */
static double scan_round(struct rowcheck *rc, const struct buf *in, struct buf *item, struct buf *sealed, struct buf *body, bool pack, size_t *sent)
{
    struct gzip *g = pack ? gzip_new() : NULL;
    size_t plain = 0;
    struct error err = ERROR_INIT;
    struct row_range range = {0};
    int64_t n = 0;
    double start = now();
    for (const char *p = in->data, *end = p + in->len; p < end; n++) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        if (plain > FULL)
            *sent += next_body(&g, body);
        plain = plain > FULL ? 0 : plain;
        buf_clear(item);
        buf_clear(sealed);
        if (rowcheck_add(rc, p, (size_t)(stop - p), n, 0, item, &range, &err) != 0 || rows_seal(item->data, item->len, "0123456789abcdef-1", pack ? sealed : body) != 0) {
            fprintf(stderr, "%s\n", err.text);
            exit(1);
        }
        if (g != NULL)
            gzip_add(g, sealed->data, sealed->len, body);
        plain += item->len;
        p = stop + 1;
    }
    *sent += next_body(&g, body);
    gzip_free(g);
    return now() - start;
}

static double jansson_round(const struct buf *in)
{
    double start = now();
    for (const char *p = in->data, *end = p + in->len; p < end;) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        json_decref(json_loadb(p, (size_t)(stop - p), 0, NULL));
        p = stop + 1;
    }
    return now() - start;
}

static double best_of(int rounds, struct rowcheck *rc, const struct buf *in, bool pack, size_t *sent)
{
    struct buf item = BUF_INIT(LIMIT_DOCUMENT), sealed = BUF_INIT(LIMIT_DOCUMENT), body = BUF_INIT(GZIP_MOST((size_t)LIMIT_DOCUMENT));
    double best = 1e9;
    for (int i = 0; i < rounds; i++) {
        *sent = 0;
        double t = scan_round(rc, in, &item, &sealed, &body, pack, sent);
        best = t < best ? t : best;
    }
    buf_free(&item);
    buf_free(&sealed);
    buf_free(&body);
    return best;
}

static void measure(struct rowcheck *rc, int rows, int rounds, bool spaced)
{
    struct buf in = BUF_INIT(LIMIT_DOCUMENT * 8UL);
    make_rows(&in, rows, spaced);
    double other = 1e9;
    for (int i = 0; i < (rounds + 3) / 4; i++) {
        double t = jansson_round(&in);
        other = t < other ? t : other;
    }
    size_t plain = 0, packed = 0;
    double mb = (double)in.len / 1e6, best = best_of(rounds, rc, &in, false, &plain), packing = best_of((rounds + 3) / 4, rc, &in, true, &packed);
    printf("{\"spaced\":%s,\"row_bytes\":%zu,\"mb_s\":%.1f,\"ns_a_row\":%.0f,\"jansson_mb_s\":%.1f,\"gzip_mb_s\":%.1f,\"gzip_ratio\":%.1f}\n",
           spaced ? "true" : "false", in.len / (size_t)rows, mb / best, best * 1e9 / rows, mb / other, mb / packing, (double)plain / (double)packed);
    buf_free(&in);
}

int main(int argc, char **argv)
{
    int rows = argc > 1 ? atoi(argv[1]) : 20000, rounds = argc > 2 ? atoi(argv[2]) : 20;
    struct error err = ERROR_INIT;
    AUTO(doc_free_auto) doc *d = doc_parse(SCHEMA, sizeof(SCHEMA) - 1, "schema", &err);
    AUTO(schema_free_auto) struct schema *schema = d == NULL ? NULL : schema_parse(d, &err);
    AUTO(rowcheck_free_auto) struct rowcheck *rc =
        schema == NULL ? NULL : rowcheck_new(schema, &(struct rowcheck_options){.partition_column = "created_at"}, &err);
    if (rc == NULL || rows < 1 || rounds < 1) {
        fprintf(stderr, "rows_bench: %s\n", err.text);
        return 2;
    }
    measure(rc, rows, rounds, false);
    measure(rc, rows, rounds, true);
    return 0;
}
