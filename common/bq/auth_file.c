#include "common/bq/auth_source.h"

#include <sys/stat.h>

#include "common/base/file.h"
#include "common/base/log.h"

/* Credentials in a file. Keys are rotated by replacing the file (a mounted secret, a configuration system): who has read the old one must not need a
 * restart, and least of all find out at the next token, when the old key is deleted. */

struct file_source {
    struct source source;  /* what: the inner one's */
    struct auth_world world;
    char *path;
    struct source *inner;
    struct stat seen;
};

struct source *source_read(const struct auth_world *w, const char *path, const char *named_by, doc **whole, struct error *err)
{
    size_t len = 0;
    AUTO(secret_free_auto) char *text = file_read(path, LIMIT_CREDENTIALS, &len, err);
    if (text == NULL) {
        if (err)
            err->kind = ERR_FATAL;
        error_prefix(err, "the credentials that %s", named_by);
        error_reason(err, "credentials");
        return NULL;
    }
    doc *d = doc_parse(text, len, path, NULL); /* its error would quote the text */
    struct source *source = NULL;
    if (doc_type(d) != DOC_OBJECT)
        error_set(err, ERR_FATAL, 0, "the credentials that %s: %s: no JSON object; credentials are a file that gcloud or the Cloud console made", named_by, path);
    else
        source = source_from_doc(w, d, path, SCOPE_BIGQUERY, IMPERSONATION_DEPTH, err);
    error_reason(err, "credentials");
    if (source && whole)
        *whole = d;
    else
        doc_free(d);
    return source;
}

static bool is_another(const struct stat *a, const struct stat *b)
{
    return a->st_dev != b->st_dev || a->st_ino != b->st_ino || a->st_size != b->st_size || a->st_mtim.tv_sec != b->st_mtim.tv_sec ||
           a->st_mtim.tv_nsec != b->st_mtim.tv_nsec;
}

/* One that is half written, or gone for a moment, is looked at again before the next fetch. */
static void look(struct file_source *f)
{
    struct stat now;
    struct error err = ERROR_INIT;
    if (stat(f->path, &now) != 0 || !is_another(&now, &f->seen))
        return;
    f->seen = now;
    struct source *next = source_read(&f->world, f->path, "were rotated", NULL, &err);
    if (next == NULL) {
        log_warn("%s; those that were read before stay in use", err.text);
        return;
    }
    source_free(f->inner);
    f->inner = next;
    f->source.what = next->what;
    log_info("credentials: %s has changed and was read anew: %s", f->path, next->what);
}

static void file_fetch(struct source *s, source_cb *cb, void *arg)
{
    struct file_source *f = (struct file_source *)s;
    look(f);
    f->inner->ops->fetch(f->inner, cb, arg);
}

static void file_stop(struct source *s)
{
    struct file_source *f = (struct file_source *)s;
    f->inner->ops->stop(f->inner);
}

static void file_free(struct source *s)
{
    struct file_source *f = (struct file_source *)s;
    source_free(f->inner);
    free(f->path);
    free(f);
}

static const struct source_ops file_ops = {.fetch = file_fetch, .stop = file_stop, .free = file_free};

struct source *source_file(const struct auth_world *w, const char *path, struct source *first)
{
    struct file_source *f = xcalloc(1, sizeof(*f));
    f->source.ops = &file_ops;
    f->source.what = first->what;
    f->world = *w;
    f->path = xstrdup(path);
    f->inner = first;
    if (stat(path, &f->seen) != 0) /* then the next look finds another one */
        f->seen = (struct stat){0};
    return &f->source;
}
