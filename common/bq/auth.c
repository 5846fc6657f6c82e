#include "common/bq/auth.h"

#include "common/net/loop.h"

/* Credentials that never change: none at all, or one bearer token. */

struct fixed {
    struct auth auth;
    char *header; /* NULL: anonymous */
};

static void fixed_header(struct auth *a, auth_cb *cb, void *arg)
{
    cb(arg, ((struct fixed *)a)->header, NULL);
}

static void fixed_refused(struct auth *a, uint64_t stamp)
{
    (void)a; /* there is no other */
    (void)stamp;
}

static const char *fixed_describe(struct auth *a)
{
    return ((struct fixed *)a)->header ? "bearer token" : "anonymous";
}

static const char *fixed_project(struct auth *a)
{
    (void)a;
    return NULL;
}

static int64_t fixed_lives_ms(struct auth *a)
{
    (void)a;
    return -1;
}

static void fixed_free(struct auth *a)
{
    struct fixed *f = (struct fixed *)a;
    if (f->header)
        explicit_bzero(f->header, strlen(f->header));
    free(f->header);
    free(f);
}

static const struct auth_ops fixed_ops = {fixed_header, fixed_refused, fixed_describe, fixed_project, fixed_lives_ms, NULL, fixed_free};

static void on_header(void *arg, const char *header, const struct error *err)
{
    (void)header; /* what is wrong shows at the next request, too */
    (void)err;
    *(bool *)arg = true;
}

static bool is_true(void *arg)
{
    return *(bool *)arg;
}

const char *auth_find_project(struct auth *a, struct loop *loop, int64_t wait_ms)
{
    const char *project = auth_project(a);
    if (project && *project)
        return project;
    auth_header(a, on_header, &a->asked);
    loop_until(loop, is_true, &a->asked, wait_ms * US_PER_MS);
    return auth_project(a);
}

static struct auth *fixed_new(char *header)
{
    struct fixed *f = xcalloc(1, sizeof(*f));
    f->auth.ops = &fixed_ops;
    f->header = header;
    return &f->auth;
}

struct auth *auth_anonymous(void)
{
    return fixed_new(NULL);
}

/* A token read from a file often ends in a line break, which would end the header too. */
struct auth *auth_bearer(const char *token)
{
    return fixed_new(xasprintf("Authorization: Bearer %.*s", (int)strcspn(token, "\r\n"), token));
}
