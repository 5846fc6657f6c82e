#include "common/bq/dry_run.h"

#include "common/bq/internal.h"

struct dry { bq_dry_cb *cb; void *arg; };

static void answered(void *arg, const struct bq_answer *a)
{
    const struct dry *d = arg;
    struct error err = ERROR_INIT;
    struct bq_dry_result r = {.err = a->err, .statement = "", .bytes = -1};
    if (a->err == NULL) {
        const doc *result = doc_get(a->doc, "status.errorResult"), *schema = doc_get(a->doc, "statistics.query.schema");
        r.known = doc_bool(a->doc, "configuration.dryRun", false);
        r.statement = doc_str(a->doc, "statistics.query.statementType", "");
        r.bytes = doc_int(a->doc, "statistics.totalBytesProcessed", doc_int(a->doc, "statistics.query.totalBytesProcessed", -1));
        r.fields = doc_type(doc_get(schema, "fields")) == DOC_ARRAY ? schema : NULL;
        if (doc_type(result) == DOC_OBJECT) {
            bq_classify(0, doc_str(result, "reason", ""), doc_str(result, "message", ""), true, &err);
            r.err = &err;
        }
    }
    d->cb(d->arg, &r);
}

struct bq_call *bq_dry_run(struct bq *bq, const doc *configuration, const char *location, bq_dry_cb *cb, void *arg)
{
    static const struct bq_hooks hooks = {.release = free};
    struct dry *d = xcalloc(1, sizeof(*d));
    *d = (struct dry){.cb = cb, .arg = arg};
    struct buf path = BUF_INIT(BQ_PATH_MAX);
    buf_xputs(&path, "/projects/");
    http_escape(&path, bq->project);
    buf_xputs(&path, "/jobs");
    doc *place = doc_set_str(doc_object(), "projectId", bq->project);
    if (location != NULL && location[0] != '\0')
        doc_set_str(place, "location", location);
    doc *dry = doc_set_bool(doc_copy_top(configuration), "dryRun", true);
    AUTO(doc_free_auto) doc *body = doc_set(doc_set(doc_object(), "jobReference", place), "configuration", dry);
    struct bq_call *call = bq_send_owned(bq, &(struct bq_request){.method = "POST", .path = path.data, .body = body}, answered, d, &hooks);
    buf_free(&path);
    return call;
}
