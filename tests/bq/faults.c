#include "tests/bq/internal.h"

#include "common/base/limits.h"

static char *copy(const char *s, const char *fallback)
{
    return s || fallback ? xstrdup(s ? s : fallback) : NULL;
}

void bqmodel_fault(struct bqmodel *m, const struct bqmodel_fault *given)
{
    struct fault *f = xcalloc(1, sizeof(*f));
    f->f = *given;
    f->f.match = copy(given->match, "");
    f->f.reason = copy(given->reason, "backendError");
    f->f.message = copy(given->message, "a fault of the model");
    f->f.body = copy(given->body, NULL);
    f->f.times = given->times ? given->times : 1;
    f->f.status = given->status ? given->status : given->kind == BQMODEL_SESSION_GONE ? 404 : 503;
    TAILQ_INSERT_TAIL(&m->faults, f, link);
}

static void fault_free(struct bqmodel *m, struct fault *f)
{
    TAILQ_REMOVE(&m->faults, f, link);
    free((char *)(uintptr_t)f->f.match);
    free((char *)(uintptr_t)f->f.reason);
    free((char *)(uintptr_t)f->f.message);
    free((char *)(uintptr_t)f->f.body);
    free(f);
}

void bqmodel_clear_faults(struct bqmodel *m)
{
    while (!TAILQ_EMPTY(&m->faults))
        fault_free(m, TAILQ_FIRST(&m->faults));
}

static enum fault_group group_of(enum bqmodel_fault_kind kind)
{
    switch (kind) {
    case BQMODEL_JOB_ERROR: case BQMODEL_JOB_SLOW: case BQMODEL_JOB_PENDING: case BQMODEL_JOB_MISCOUNT: case BQMODEL_JOB_UNSEEN:
    case BQMODEL_JOB_BARE: return FAULT_JOB;
    case BQMODEL_KEEP_FEWER: case BQMODEL_CUT_CHUNK: return FAULT_KEEP;
    case BQMODEL_SESSION_GONE: return FAULT_GONE;
    default: return FAULT_REQUEST;
    }
}

const struct bqmodel_fault *fault_next(struct bqmodel *m, enum fault_group group, const char *subject, const char *job_id, struct fault **last)
{
    struct fault *f = *last ? TAILQ_NEXT(*last, link) : TAILQ_FIRST(&m->faults);
    for (; f; f = TAILQ_NEXT(f, link)) {
        if (f->f.times == 0 || group_of(f->f.kind) != group || (!strstr(subject, f->f.match) && !strstr(job_id, f->f.match)))
            continue;
        if (f->f.skip > 0) {
            f->f.skip--;
            continue;
        }
        if (f->f.times > 0)
            f->f.times--;
        m->counters.faults++;
        *last = f;
        return &f->f;
    }
    return NULL;
}

const struct bqmodel_fault *fault_take(struct bqmodel *m, enum fault_group group, const char *subject, const char *job_id)
{
    struct fault *last = NULL;
    return fault_next(m, group, subject, job_id, &last);
}

static const char *const kind_names[] = {
    [BQMODEL_LOSE_REPLY] = "lose_reply", [BQMODEL_DROP_BEFORE] = "drop_before", [BQMODEL_STATUS] = "status",
    [BQMODEL_CUT_REPLY] = "cut_reply", [BQMODEL_CUT_BODY] = "cut_body", [BQMODEL_DELAY] = "delay",
    [BQMODEL_JOB_ERROR] = "job_error", [BQMODEL_JOB_SLOW] = "job_slow", [BQMODEL_JOB_PENDING] = "job_pending",
    [BQMODEL_JOB_MISCOUNT] = "job_miscount", [BQMODEL_JOB_UNSEEN] = "job_unseen", [BQMODEL_JOB_BARE] = "job_bare", [BQMODEL_HASTY] = "hasty",
    [BQMODEL_KEEP_FEWER] = "keep_fewer", [BQMODEL_CUT_CHUNK] = "cut_chunk", [BQMODEL_SESSION_GONE] = "session_gone",
};

int bqmodel_fault_doc(struct bqmodel *m, const doc *d, struct error *err)
{
    static const char *const known[] = {"match", "kind", "skip", "times", "status", "reason", "message", "body", "executed", "ms", "bytes", "retry_after_s"};
    for (void *it = doc_first(d); it; it = doc_next(d, it)) {
        bool found = false;
        for (size_t i = 0; i < ARRAY_LEN(known); i++)
            found |= strcmp(known[i], doc_key(it)) == 0;
        if (!found)
            return error_set(err, ERR_USAGE, 0, "a fault has no %s", doc_key(it));
    }
    size_t kind = 0;
    const char *name = doc_str(d, "kind", "");
    while (kind < ARRAY_LEN(kind_names) && strcmp(kind_names[kind], name) != 0)
        kind++;
    if (kind == ARRAY_LEN(kind_names))
        return error_set(err, ERR_USAGE, 0, "there is no fault of kind \"%s\"", name);
    bqmodel_fault(m, &(struct bqmodel_fault){
        .match = doc_str(d, "match", NULL), .kind = (enum bqmodel_fault_kind)kind, .skip = (int)doc_int(d, "skip", 0),
        .times = (int)doc_int(d, "times", 0), .status = (int)doc_int(d, "status", 0), .reason = doc_str(d, "reason", NULL),
        .message = doc_str(d, "message", NULL), .body = doc_str(d, "body", NULL), .executed = doc_bool(d, "executed", false),
        .ms = doc_int(d, "ms", 0), .bytes = doc_int(d, "bytes", 0),
        .retry_after_s = (int)doc_int(d, "retry_after_s", 0)});
    return 0;
}
