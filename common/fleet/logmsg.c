#include "common/fleet/logmsg.h"

#include "common/fleet/logmsg_fields.h"
#include "common/fleet/wire.h"

static const char *const type_names[LOGM_TYPES] = {
    [LOGM_ALIVE] = "alive", [LOGM_SEAL] = "seal", [LOGM_MANIFEST] = "manifest", [LOGM_CUT] = "cut", [LOGM_PAUSE] = "pause",
    [LOGM_RESUME] = "resume", [LOGM_PARALLEL] = "parallel", [LOGM_ACCEPT] = "accept", [LOGM_ADOPTED] = "adopted",
    [LOGM_CANCEL] = "cancel", [LOGM_ABANDON] = "abandon", [LOGM_FATAL] = "fatal", [LOGM_LOST] = "lost", [LOGM_OUTCOME] = "outcome",
};

const char *log_type_name(enum log_type t)
{
    return t > 0 && t < LOGM_TYPES ? type_names[t] : "unknown";
}

enum { KEY_SHOWN = 128 };

static void put_cut_text(struct buf *b, unsigned field, const char *s, size_t max)
{
    size_t n = s ? strlen(s) : 0;
    if (n > max) {
        n = max;
        while (n > 0 && ((unsigned char)s[n] & 0xc0) == 0x80) /* not inside a UTF-8 character */
            n--;
    }
    if (n > 0)
        wire_put_bytes(b, field, s, n);
}

static void put_ranges(struct buf *b, unsigned field, const struct item_range *v, size_t count)
{
    if (count == 0)
        return;
    wire_varint(b, (uint64_t)field << 3 | 2);
    wire_varint(b, ranges_encoded_size(v, count));
    int64_t at = 0;
    for (size_t i = 0; i < count; i++) {
        assert(v[i].first >= at && v[i].count > 0);
        wire_varint(b, (uint64_t)(v[i].first - at));
        wire_varint(b, (uint64_t)v[i].count);
        at = v[i].first + v[i].count;
    }
}

static void put_failure(struct buf *b, const struct item_failure *f)
{
    struct buf one = BUF_INIT(4096);
    wire_put_int(&one, FF_ITEM, f->item);
    wire_put_int(&one, FF_ATTEMPTS, f->attempts);
    put_cut_text(&one, FF_KEY, f->key, KEY_SHOWN);
    put_cut_text(&one, FF_REASON, f->reason, 64);
    put_cut_text(&one, FF_TEXT, f->text, LIMIT_FAILURE_TEXT);
    wire_put_bytes(b, F_FAILURE, one.data, one.len);
    buf_free(&one);
}

static void put_manifest(struct buf *b, const struct manifest *m)
{
    if (m->load != NULL && m->load[0] != '\0') {
        wire_put_str(b, F_INCARNATION, m->incarnation);
        wire_put_str(b, F_LOAD, m->load);
        wire_put_int(b, F_ROWS, m->rows);
        put_ranges(b, F_RANGES, m->ranges, m->range_count);
    }
    put_ranges(b, F_EMPTY, m->empty, m->empty_count);
    for (size_t i = 0; i < m->failure_count; i++)
        put_failure(b, &m->failures[i]);
    if (m->has_range) {
        wire_put_int(b, F_RANGE_LO, m->range_lo);
        wire_put_int(b, F_RANGE_HI, m->range_hi);
    }
    if (m->range_null)
        wire_put_int(b, F_RANGE_NULL, 1);
    if (m->succeeded > 0)
        wire_put_int(b, F_SUCCEEDED, m->succeeded);
}

static void put_ends(struct buf *b, const struct seal_end *ends, size_t count)
{
    struct buf all = BUF_INIT(1 << 20);
    for (size_t i = 0; i < count; i++) {
        wire_varint(&all, (uint64_t)ends[i].partition);
        wire_varint(&all, (uint64_t)ends[i].offset);
    }
    wire_put_bytes(b, F_ENDS, all.data, all.len);
    buf_free(&all);
}

static void put_outcome(struct buf *b, const struct log_msg *m)
{
    wire_put_int(b, F_CUT, m->cut);
    wire_put_str(b, F_SHARD, m->shard);
    wire_put_int(b, F_OK, m->ok);
    wire_put_str(b, F_JOB, m->job);
    wire_put_int(b, F_INSERTED, m->inserted);
    wire_put_int(b, F_UPDATED, m->updated);
    wire_put_int(b, F_DELETED, m->deleted);
    wire_put_int(b, F_ROWS, m->rows);
}

static void put_fields(struct buf *b, const struct log_msg *m)
{
    switch (m->type) {
    case LOGM_ALIVE:
        wire_put_int(b, F_PUBLISHED, m->published);
        if (m->left)
            wire_put_int(b, F_LEFT, 1);
        break;
    case LOGM_SEAL:
        wire_put_int(b, F_ITEMS, m->items);
        put_ends(b, m->ends, m->end_count);
        break;
    case LOGM_MANIFEST:
        put_manifest(b, &m->manifest);
        break;
    case LOGM_CUT:
        wire_put_int(b, F_CUT, m->cut);
        wire_put_str(b, F_SHARD, m->shard);
        for (size_t i = 0; i < m->load_count; i++)
            wire_put_str(b, F_NAMED_LOAD, m->loads[i]);
        break;
    case LOGM_PARALLEL:
        wire_put_int(b, F_PARALLEL, m->parallel);
        break;
    case LOGM_ADOPTED:
        wire_put_str(b, F_RUN, m->run);
        break;
    case LOGM_LOST:
        wire_put_int(b, F_MISSING, m->missing);
        break;
    case LOGM_ABANDON:
        wire_put_int(b, F_HEARD, m->heard);
        break;
    case LOGM_OUTCOME:
        put_outcome(b, m);
        break;
    default:
        break;
    }
}

int logmsg_encode(const struct log_msg *m, struct buf *out)
{
    assert(m->type > 0 && m->type < LOGM_TYPES);
    struct buf b = BUF_INIT(64 << 20);
    const char head[2] = {LOGM_VERSION, (char)m->type};
    buf_xadd(&b, head, 2);
    put_fields(&b, m);
    put_cut_text(&b, F_BY, m->by, 256);
    put_cut_text(&b, F_TEXT, m->text, 2048);
    int rc = buf_add(out, b.data, b.len);
    buf_free(&b);
    return rc;
}
