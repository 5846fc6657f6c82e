#include "worker/marks.h"

enum { FIELD_HOLDER = 2, FIELD_TAKEOVERS, FIELD_UNTIL, FIELD_SUSPECTS, FIELD_OUT, FIELD_ALONE, FIELD_KILLED, FIELD_KILLS };
#define DISTANCE_MOST (INT64_C(1) << 40) /* offsets; more makes no sense */

/* --- offsets ---------------------------------------------------------------------------------------------------------------------- */

static size_t place_of(const struct offsets *o, int64_t offset)
{
    size_t i = 0;
    while (i < o->count && o->v[i] < offset)
        i++;
    return i;
}

bool offsets_has(const struct offsets *o, int64_t offset)
{
    size_t i = place_of(o, offset);
    return i < o->count && o->v[i] == offset;
}

bool offsets_add(struct offsets *o, int64_t offset)
{
    size_t i = place_of(o, offset);
    if (i < o->count && o->v[i] == offset)
        return true;
    if (o->count == LIMIT_SUSPECTS)
        return false;
    memmove(&o->v[i + 1], &o->v[i], (o->count - i) * sizeof(*o->v));
    o->v[i] = offset;
    o->count++;
    return true;
}

void offsets_remove(struct offsets *o, int64_t offset)
{
    size_t i = place_of(o, offset);
    if (i == o->count || o->v[i] != offset)
        return;
    o->count--;
    memmove(&o->v[i], &o->v[i + 1], (o->count - i) * sizeof(*o->v));
}

static void offsets_cut(struct offsets *o, int64_t below)
{
    while (o->count > 0 && o->v[0] < below)
        offsets_remove(o, o->v[0]);
}

/* --- in the metadata ---------------------------------------------------------------------------------------------------------------- */

void marks_init(struct marks *m)
{
    *m = (struct marks){.alone = -1, .killed = -1};
}

static void put_offsets(struct buf *fields, unsigned field, const struct offsets *o, int64_t base)
{
    struct buf gaps = BUF_INIT(LIMIT_SUSPECTS * 10);
    int64_t at = base;
    for (size_t i = 0; i < o->count; i++) {
        if (o->v[i] < at)
            continue;
        wire_varint(&gaps, (uint64_t)(o->v[i] - at));
        at = o->v[i] + 1;
    }
    if (gaps.len > 0)
        wire_put_bytes(fields, field, gaps.data, gaps.len);
    buf_free(&gaps);
}

void marks_put(const struct marks *m, int64_t base, struct buf *fields)
{
    wire_put_str(fields, FIELD_HOLDER, m->holder);
    if (m->takeovers > 0 && m->until > base) {
        wire_put_int(fields, FIELD_TAKEOVERS, m->takeovers);
        wire_put_int(fields, FIELD_UNTIL, m->until - base);
    }
    put_offsets(fields, FIELD_SUSPECTS, &m->suspects, base);
    put_offsets(fields, FIELD_OUT, &m->out, base);
    if (m->alone >= base)
        wire_put_int(fields, FIELD_ALONE, m->alone - base);
    if (m->killed >= base) {
        wire_put_int(fields, FIELD_KILLED, m->killed - base);
        wire_put_int(fields, FIELD_KILLS, m->kills);
    }
}

static int take_offsets(struct offsets *o, const struct wire_field *f, int64_t base)
{
    struct wire w = {.p = f->data, .end = f->data + f->len};
    int64_t at = base;
    *o = (struct offsets){0};
    while (w.p < w.end) {
        uint64_t gap;
        if (o->count == LIMIT_SUSPECTS || wire_get_varint(&w, &gap) != 0 || gap > (uint64_t)DISTANCE_MOST)
            return -1;
        at += (int64_t)gap;
        o->v[o->count++] = at++;
    }
    return 0;
}

static int take_text(struct marks *m, const struct wire_field *f)
{
    if (f->len == 0 || f->len >= sizeof(m->holder) || memchr(f->data, '\0', f->len) != NULL)
        return -1;
    memcpy(m->holder, f->data, f->len);
    m->holder[f->len] = '\0';
    return 0;
}

int marks_take(struct marks *m, const struct wire_field *f, int64_t base)
{
    if (f->field < FIELD_HOLDER || f->field > FIELD_KILLS)
        return 0;
    if (f->is_bytes != (f->field == FIELD_HOLDER || f->field == FIELD_SUSPECTS || f->field == FIELD_OUT))
        return -1;
    if (!f->is_bytes && (f->value < 0 || f->value > DISTANCE_MOST))
        return -1;
    switch (f->field) {
    case FIELD_HOLDER: return take_text(m, f);
    case FIELD_TAKEOVERS: m->takeovers = f->value; break;
    case FIELD_UNTIL: m->until = base + f->value; break;
    case FIELD_SUSPECTS: return take_offsets(&m->suspects, f, base);
    case FIELD_OUT: return take_offsets(&m->out, f, base);
    case FIELD_ALONE: m->alone = base + f->value; break;
    case FIELD_KILLED: m->killed = base + f->value; break;
    default: m->kills = f->value;
    }
    return 0;
}

/* --- what follows from them -------------------------------------------------------------------------------------------------------------- */

static void count_takeover(struct marks *m, int64_t base, int64_t end)
{
    if (m->takeovers == 0)
        m->until = i64_max(base, end) + LIMIT_DOUBT;
    m->takeovers++;
}

/* Those that handlers had when the last worker died come before older suspects, should there be too many. */
static void suspect_out(struct marks *m)
{
    struct offsets older = m->suspects;
    m->suspects = m->out;
    for (size_t i = 0; i < older.count; i++)
        (void)offsets_add(&m->suspects, older.v[i]);
}

static void count_kill(struct marks *m)
{
    m->kills = m->killed == m->alone ? m->kills + 1 : 1;
    m->killed = m->alone;
    if (!offsets_has(&m->suspects, m->alone)) {
        if (m->suspects.count == LIMIT_SUSPECTS)
            m->suspects.count--;
        (void)offsets_add(&m->suspects, m->alone);
    }
}

bool marks_take_over(struct marks *m, const char *incarnation, int64_t base, int64_t end)
{
    bool died = m->holder[0] != '\0' && strcmp(m->holder, incarnation) != 0;
    if (died && m->alone >= 0) {
        count_kill(m);
    } else if (died && !marks_careful(m)) {
        count_takeover(m, base, end);
    } else if (died && m->out.count > 0) {
        count_takeover(m, base, end);
        suspect_out(m);
    }
    m->holder[0] = '\0';
    m->alone = -1;
    m->out.count = 0;
    return died;
}

void marks_pass(struct marks *m, int64_t base)
{
    offsets_cut(&m->suspects, base);
    if (m->killed < base) {
        m->killed = -1;
        m->kills = 0;
    }
    if (m->takeovers > 0 && base >= m->until && m->suspects.count == 0)
        m->takeovers = m->until = 0;
}

void marks_clear(struct marks *m, int64_t offset)
{
    offsets_remove(&m->suspects, offset);
    if (m->killed == offset) {
        m->killed = -1;
        m->kills = 0;
    }
}
