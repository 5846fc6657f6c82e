#include "tests/bq/discovery.h"
#include "tests/bq/internal.h"

/* Every request and every good answer, against BigQuery's discovery document. */

static void remember(struct bqmodel *m, char *text)
{
    if (text == NULL)
        return;
    if (m->tell)
        fprintf(stderr, "bqmodel: violation: %s\n", text);
    if (m->violation)
        free(text);
    else
        m->violation = text;
}

void check_request(struct exchange *x, const struct mrequest *r)
{
    remember(x->model, discovery_check_request(&(struct discovery_request){.method = r->method, .path = r->path, .query = r->query,
                                                                           .content_type = r->header(r, "Content-Type"), .body = r->body, .len = r->len},
                                               &x->answer_schema));
}

void check_answer(struct exchange *x, int status, const doc *body)
{
    if (status != 200 || x->answer_schema == NULL)
        return;
    char *text = discovery_check_answer(x->answer_schema, body);
    remember(x->model, text ? xasprintf("the model's answer: %s", text) : NULL);
    free(text);
}

void check_length(struct bqmodel *m, const struct mrequest *r)
{
    bool body = strcmp(r->method, "POST") == 0 || strcmp(r->method, "PUT") == 0 || strcmp(r->method, "PATCH") == 0;
    if (body && r->header(r, "Content-Length") == NULL && r->header(r, "Transfer-Encoding") == NULL)
        remember(m, xasprintf("%s %s: without a Content-Length, which Google's servers answer by 411", r->method, r->path));
}

const char *bqmodel_violation(const struct bqmodel *m)
{
    return m->violation;
}

void bqmodel_forgive(struct bqmodel *m)
{
    free(m->violation);
    m->violation = NULL;
}

void check_no_violation(const struct bqmodel *m)
{
    if (m->violation == NULL)
        return;
    fprintf(stderr, "bqmodel: not as BigQuery's discovery document says: %s\n", m->violation);
    abort();
}
