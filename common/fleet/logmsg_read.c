#include <sys/queue.h>

#include "common/fleet/logmsg.h"
#include "common/fleet/logmsg_fields.h"
#include "common/fleet/wire.h"

/* What a decoded message points to: every block it needed, and its growing lists. */
struct block {
    SLIST_ENTRY(block) link;
    char bytes[];
};
struct logmsg_memory {
    SLIST_HEAD(, block) blocks;
    struct ranges ranges, empty;
    struct item_failure *failures;
    size_t failure_cap;
    const char **loads;
    size_t load_cap;
    struct seal_end *ends;
};

void logmsg_free(struct logmsg_memory *m)
{
    if (m == NULL)
        return;
    while (!SLIST_EMPTY(&m->blocks)) {
        struct block *b = SLIST_FIRST(&m->blocks);
        SLIST_REMOVE_HEAD(&m->blocks, link);
        free(b);
    }
    ranges_free(&m->ranges);
    ranges_free(&m->empty);
    free(m->failures);
    free(m->loads);
    free(m->ends);
    free(m);
}

/* A NUL-terminated copy; NUL bytes inside would hide the rest, so they become '?'. */
static const char *keep(struct logmsg_memory *m, const struct wire_field *f)
{
    struct block *b = xmalloc(sizeof(*b) + f->len + 1);
    if (f->len > 0)
        memcpy(b->bytes, f->data, f->len);
    b->bytes[f->len] = '\0';
    for (size_t i = 0; i < f->len; i++)
        if (b->bytes[i] == '\0')
            b->bytes[i] = '?';
    SLIST_INSERT_HEAD(&m->blocks, b, link);
    return b->bytes;
}

static int get_ranges(const struct wire_field *f, struct ranges *out)
{
    if (!f->is_bytes || out->count > 0)
        return -1;
    struct wire w = {.p = f->data, .end = f->data + f->len};
    int64_t at = 0;
    while (w.p != w.end) {
        uint64_t gap, count;
        if (wire_get_varint(&w, &gap) != 0 || wire_get_varint(&w, &count) != 0)
            return -1;
        if (gap > (uint64_t)LIMIT_ITEMS || count == 0 || count > (uint64_t)LIMIT_ITEMS)
            return -1;
        int64_t first = at + (int64_t)gap;
        at = first + (int64_t)count;
        if (at > LIMIT_ITEMS)
            return -1;
        if (out->count == out->cap) {
            out->cap = out->cap ? out->cap * 2 : 16;
            out->v = xreallocarray(out->v, out->cap, sizeof(*out->v));
        }
        out->v[out->count++] = (struct item_range){.first = first, .count = (int64_t)count};
    }
    return 0;
}

static int get_failure(const struct wire_field *f, struct logmsg_memory *mem, struct manifest *m)
{
    if (!f->is_bytes)
        return -1;
    struct item_failure one = {.item = -1, .key = "", .reason = "", .text = ""};
    struct wire w = {.p = f->data, .end = f->data + f->len};
    struct wire_field g;
    int rc;
    while ((rc = wire_next(&w, &g)) == 1) {
        if (g.field == FF_ITEM && !g.is_bytes)
            one.item = g.value;
        else if (g.field == FF_ATTEMPTS && !g.is_bytes)
            one.attempts = g.value;
        else if (g.field == FF_KEY && g.is_bytes)
            one.key = keep(mem, &g);
        else if (g.field == FF_REASON && g.is_bytes)
            one.reason = keep(mem, &g);
        else if (g.field == FF_TEXT && g.is_bytes)
            one.text = keep(mem, &g);
    }
    if (rc != 0 || one.item < 0 || one.item >= LIMIT_ITEMS)
        return -1;
    if (m->failure_count == mem->failure_cap) {
        mem->failure_cap = mem->failure_cap ? mem->failure_cap * 2 : 8;
        mem->failures = xreallocarray(mem->failures, mem->failure_cap, sizeof(*mem->failures));
    }
    mem->failures[m->failure_count++] = one;
    m->failures = mem->failures;
    return 0;
}

static int get_ends(const struct wire_field *f, struct logmsg_memory *mem, struct log_msg *m)
{
    if (!f->is_bytes || mem->ends != NULL)
        return -1;
    mem->ends = xcalloc(f->len / 2 + 1, sizeof(*mem->ends)); /* each end takes two bytes at least */
    m->ends = mem->ends;
    struct wire w = {.p = f->data, .end = f->data + f->len};
    while (w.p != w.end) {
        uint64_t partition, offset;
        if (wire_get_varint(&w, &partition) != 0 || wire_get_varint(&w, &offset) != 0 || partition > INT32_MAX || offset > INT64_MAX)
            return -1;
        m->ends[m->end_count++] = (struct seal_end){.partition = (int32_t)partition, .offset = (int64_t)offset};
    }
    return 0;
}

static int get_named_load(const struct wire_field *f, struct logmsg_memory *mem, struct log_msg *m)
{
    if (!f->is_bytes)
        return -1;
    if (m->load_count == mem->load_cap) {
        mem->load_cap = mem->load_cap ? mem->load_cap * 2 : 8;
        mem->loads = xreallocarray(mem->loads, mem->load_cap, sizeof(*mem->loads));
    }
    mem->loads[m->load_count++] = keep(mem, f);
    m->loads = mem->loads;
    return 0;
}

/* Scalars: where field number n goes. Texts and numbers each have their row. */
static const char **text_place(struct log_msg *m, unsigned field)
{
    switch (field) {
    case F_BY: return &m->by;
    case F_TEXT: return &m->text;
    case F_INCARNATION: return &m->manifest.incarnation;
    case F_LOAD: return &m->manifest.load;
    case F_SHARD: return &m->shard;
    case F_RUN: return &m->run;
    case F_JOB: return &m->job;
    default: return NULL;
    }
}

static int64_t *number_place(struct log_msg *m, unsigned field)
{
    switch (field) {
    case F_PUBLISHED: return &m->published;
    case F_ITEMS: return &m->items;
    case F_ROWS: return m->type == LOGM_MANIFEST ? &m->manifest.rows : &m->rows;
    case F_RANGE_LO: return &m->manifest.range_lo;
    case F_RANGE_HI: return &m->manifest.range_hi;
    case F_SUCCEEDED: return &m->manifest.succeeded;
    case F_CUT: return &m->cut;
    case F_PARALLEL: return &m->parallel;
    case F_MISSING: return &m->missing;
    case F_INSERTED: return &m->inserted;
    case F_UPDATED: return &m->updated;
    case F_DELETED: return &m->deleted;
    case F_HEARD: return &m->heard;
    default: return NULL;
    }
}

static int get_field(const struct wire_field *f, struct log_msg *m, struct logmsg_memory *mem)
{
    switch (f->field) {
    case F_ENDS: return get_ends(f, mem, m);
    case F_RANGES: return get_ranges(f, &mem->ranges);
    case F_EMPTY: return get_ranges(f, &mem->empty);
    case F_FAILURE: return get_failure(f, mem, &m->manifest);
    case F_RANGE_NULL: m->manifest.range_null = f->value != 0; return 0;
    case F_NAMED_LOAD: return get_named_load(f, mem, m);
    case F_OK: m->ok = f->value != 0; return 0;
    case F_LEFT: m->left = f->value != 0; return 0;
    default: break;
    }
    const char **text = text_place(m, f->field);
    int64_t *number = number_place(m, f->field);
    if ((text != NULL && !f->is_bytes) || (number != NULL && f->is_bytes))
        return -1;
    if (text != NULL)
        *text = keep(mem, f);
    if (number != NULL)
        *number = f->value;
    if (f->field == F_RANGE_LO)
        m->manifest.has_range = true;
    return 0;
}

/* Incarnations and loads become parts of tables' names and of statements, so they are what load_id() makes and nothing else. */
static bool is_incarnation(const char *s)
{
    return strlen(s) == INCARNATION_LEN && strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789") == INCARNATION_LEN;
}

static bool is_load_of(const char *load, const char *incarnation)
{
    return strlen(load) == LOAD_ID_LEN && strncmp(load, incarnation, INCARNATION_LEN) == 0 && load[INCARNATION_LEN] == '-' &&
           strspn(load + INCARNATION_LEN + 1, "0123456789") == LOAD_ID_LEN - INCARNATION_LEN - 1;
}

/* Sums over every load or cut of a run stay far from overflowing. */
#define COUNT_MAX (INT64_C(1) << 50)

static bool counts_make_sense(const struct log_msg *m)
{
    const int64_t counts[] = {m->manifest.rows, m->manifest.succeeded, m->rows, m->inserted, m->updated, m->deleted, m->published, m->missing, m->cut};
    for (size_t i = 0; i < ARRAY_LEN(counts); i++)
        if (counts[i] < 0 || counts[i] > COUNT_MAX)
            return false;
    return true;
}

/* What a well-formed message of its type must have. */
static bool makes_sense(const struct log_msg *m)
{
    const struct manifest *f = &m->manifest;
    if (!counts_make_sense(m))
        return false;
    switch (m->type) {
    case LOGM_SEAL:
        return m->items >= 0 && m->items <= LIMIT_ITEMS;
    case LOGM_MANIFEST:
        return f->load[0] == '\0' ? f->range_count == 0 : is_incarnation(f->incarnation) && is_load_of(f->load, f->incarnation);
    case LOGM_CUT:
    case LOGM_OUTCOME:
        return m->shard[0] == '\0' || is_incarnation(m->shard);
    case LOGM_ADOPTED:
        return m->run[0] != '\0';
    case LOGM_PARALLEL:
        return m->parallel >= 0;
    default:
        return true;
    }
}

static int unknown(struct error *err, const char *what, int value)
{
    error_set(err, ERR_FATAL, 0, "a message of the run's log has %s %d, which this version does not know: it was written by a later one; update this program",
              what, value);
    error_reason(err, "version");
    return -1;
}

int logmsg_decode(const void *data, size_t len, struct log_msg *m, struct logmsg_memory **memory, struct error *err)
{
    *memory = NULL;
    const unsigned char *p = data;
    if (len < 2)
        return error_set(err, ERR_TASK, 0, "a message of the run's log is truncated");
    if (p[0] != LOGM_VERSION)
        return unknown(err, "version", p[0]);
    if (p[1] == 0 || p[1] >= LOGM_TYPES)
        return unknown(err, "type", p[1]);
    *m = (struct log_msg){.type = (enum log_type)p[1], .shard = "", .run = "", .text = "", .job = "", .by = ""};
    m->manifest.incarnation = m->manifest.load = "";
    struct logmsg_memory *mem = xcalloc(1, sizeof(*mem));
    struct wire w = {.p = p + 2, .end = p + len};
    struct wire_field f;
    int rc;
    while ((rc = wire_next(&w, &f)) == 1)
        if (get_field(&f, m, mem) != 0) {
            rc = -1;
            break;
        }
    m->manifest.ranges = mem->ranges.v;
    m->manifest.range_count = mem->ranges.count;
    m->manifest.empty = mem->empty.v;
    m->manifest.empty_count = mem->empty.count;
    if (rc != 0 || !makes_sense(m)) {
        logmsg_free(mem);
        return error_set(err, ERR_TASK, 0, "a message of the run's log (%s) does not decode", log_type_name((enum log_type)p[1]));
    }
    *memory = mem;
    return 0;
}
