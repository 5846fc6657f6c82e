#include "worker/quarantine_internal.h"

#include "worker/dispatch.h"
#include "worker/intake.h"

#define IDLE_TICKS 4 /* a second */

struct ward *ward_of(const struct quarantine *q, int32_t partition)
{
    return partition >= 0 && partition < q->ward_count ? q->wards[partition] : NULL;
}

static bool plain(const struct ward *d)
{
    return !d->open || (d->known && !marks_careful(&d->marks) && d->marks.suspects.count == 0);
}

void quarantine_look(struct quarantine *q)
{
    bool guarded = q->state != QUIET || q->out_count > 0 || !TAILQ_EMPTY(&q->kept) || !TAILQ_EMPTY(&q->suspects);
    for (int32_t i = 0; i < q->ward_count && !guarded; i++)
        guarded = q->wards[i] != NULL && !plain(q->wards[i]);
    q->w->guarded = guarded;
}

void ward_restate(struct quarantine *q, int32_t partition)
{
    struct ward *d = q->wards[partition];
    d->known = false;
    d->number = 0;
    q->w->guarded = true;
    intake_commit_soon(q->w->intake, partition);
}

bool wards_known(const struct quarantine *q, const struct item *item)
{
    for (int32_t i = 0; i < q->ward_count; i++)
        if (q->wards[i] != NULL && q->wards[i]->open && !q->wards[i]->known && (item == NULL || offset_in(item, i) >= 0))
            return false;
    return true;
}

void quarantine_assigned(struct quarantine *q, int32_t partition, const struct marks *marks)
{
    if (partition >= q->ward_count) {
        q->wards = xreallocarray(q->wards, (size_t)partition + 1, sizeof(struct ward *));
        memset(q->wards + q->ward_count, 0, (size_t)(partition + 1 - q->ward_count) * sizeof(struct ward *));
        q->ward_count = partition + 1;
    }
    struct ward *d = q->wards[partition];
    if (d == NULL)
        d = q->wards[partition] = xmalloc(sizeof(*d));
    *d = (struct ward){.marks = *marks};
    const struct ackmap *map = intake_map(q->w->intake, partition);
    int64_t base = ackmap_next(map);
    if (!marks_take_over(&d->marks, q->w->incarnation, base, base + ackmap_span(map)))
        return;
    struct log_ctx ctx = {.worker = q->w->name, .partition1 = partition + 1};
    log_line(LOG_WARN, &ctx, "the partition's last worker died, or was expelled; %" PRId64 " of them in a row%s", d->marks.takeovers,
             d->marks.suspects.count > 0 ? ": the items it had at the end run one at a time" : "");
}

void quarantine_revoked(struct quarantine *q, int32_t partition)
{
    if (ward_of(q, partition) == NULL)
        return;
    free(q->wards[partition]);
    q->wards[partition] = NULL;
    q->stirred = true;
    quarantine_look(q);
    dispatch_kick(q->w->dispatch);
}

void quarantine_delivered(struct quarantine *q, int32_t partition)
{
    struct ward *d = ward_of(q, partition);
    if (d == NULL || d->open || q->leaving)
        return;
    d->open = true;
    d->idle = 0;
    ward_restate(q, partition);
}

bool quarantine_tick(struct quarantine *q, int32_t partition, bool idle)
{
    struct ward *d = ward_of(q, partition);
    if (d == NULL || !d->open || q->leaving)
        return false;
    d->idle = idle ? d->idle + 1 : 0;
    if (d->idle < IDLE_TICKS || q->state != QUIET)
        return true;
    d->open = false;
    quarantine_look(q);
    return false;
}

bool quarantine_open(const struct quarantine *q, int32_t partition)
{
    const struct ward *d = ward_of(q, partition);
    return d != NULL && (d->open || d->marks.takeovers > 0 || d->marks.kills > 0);
}

int64_t offset_in(const struct item *item, int32_t partition)
{
    for (const struct delivery *v = &item->first; v != NULL; v = v->next)
        if (v->partition == partition)
            return v->offset;
    return -1;
}

const struct marks *quarantine_marks(struct quarantine *q, int32_t partition, bool last)
{
    const struct ward *d = ward_of(q, partition);
    assert(d != NULL);
    struct marks *m = &q->said;
    *m = d->marks;
    if (!d->open || last || q->leaving || q->state == LANDING)
        return m;
    if (q->state == NAMING || q->state == RUNNING) {
        m->alone = q->current ? offset_in(q->current, partition) : -1;
        if (m->alone < 0)
            return m;
    } else {
        for (size_t i = 0; i < q->out_count; i++) {
            int64_t offset = offset_in(q->out[i].item, partition);
            if (offset >= 0)
                (void)offsets_add(&m->out, offset); /* there is room: LIMIT_CAREFUL is less than LIMIT_SUSPECTS */
        }
    }
    snprintf(m->holder, sizeof(m->holder), "%s", q->w->incarnation);
    return m;
}

uint64_t quarantine_sent(struct quarantine *q, int32_t partition)
{
    struct ward *d = ward_of(q, partition);
    if (d == NULL || d->known || d->number != 0)
        return 0;
    return d->number = ++q->numbers;
}

void quarantine_answered(struct quarantine *q, uint64_t number, bool ok)
{
    for (int32_t i = 0; i < q->ward_count; i++) {
        struct ward *d = q->wards[i];
        if (d == NULL || d->number != number)
            continue;
        d->known = ok;
        d->number = 0;
        q->stirred = true;
        dispatch_kick(q->w->dispatch);
    }
}

void quarantine_leave(struct quarantine *q)
{
    if (q->leaving)
        return;
    q->leaving = true;
    for (int32_t i = 0; i < q->ward_count; i++)
        if (q->wards[i] != NULL && q->wards[i]->open)
            intake_commit_soon(q->w->intake, i);
}
