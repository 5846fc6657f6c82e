#include <errno.h>
#include <sys/stat.h>

#include "common/base/log.h"
#include "common/bq/auth_source.h"

/* Which credentials: the user's choice, then the documented order of application default credentials: the file that
 * GOOGLE_APPLICATION_CREDENTIALS names, the one that gcloud left, the metadata server. */

/* --- fields ---------------------------------------------------------------------------------------------------------------------------------- */

const char *field_need(const doc *d, const char *field, const char *file, struct error *err)
{
    const char *value = doc_str(d, field, "");
    if (*value != '\0')
        return value;
    error_set(err, ERR_FATAL, 0, "%s: the field %s is missing, or no text; make or download these credentials again", file, field);
    return NULL;
}

static bool is_loopback(const char *host, size_t len)
{
    static const char *const names[] = {"localhost", "127.0.0.1", "[::1]"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strlen(names[i]) == len && memcmp(names[i], host, len) == 0)
            return true;
    return false;
}

int url_check(const char *url, const char *field, const char *file, struct error *err)
{
    bool plain = strncmp(url, "http://", 7) == 0, good = plain || strncmp(url, "https://", 8) == 0;
    const char *host = good ? strstr(url, "://") + 3 : url;
    size_t whole = strcspn(host, "/?#\\"), name = *host == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":/?#\\");
    for (const char *p = url; *p; p++)
        good &= *p > ' ' && *p < 0x7f && *p != '\\';
    good &= name > 0 && name <= whole && (name == whole || host[name] == ':');
    for (size_t i = name + 1; i < whole; i++) /* nothing but a port: no name before an @ either */
        good &= host[i] >= '0' && host[i] <= '9';
    if (good && !memchr(host, '@', name) && (!plain || is_loopback(host, name)))
        return 0;
    return error_set(err, ERR_FATAL, 0, "%s: the field %s must be an https:// address: secrets are sent there", file, field);
}

/* --- files ----------------------------------------------------------------------------------------------------------------------------------- */

static struct source *impersonated_from(const struct auth_world *w, const doc *d, const char *file, const char *scope, int depth, struct error *err)
{
    const char *url = field_need(d, "service_account_impersonation_url", file, err);
    const doc *inner_doc = doc_get(d, "source_credentials");
    if (url == NULL)
        return NULL;
    if (doc_type(inner_doc) != DOC_OBJECT || depth == 0) {
        error_set(err, ERR_FATAL, 0, "%s: the field source_credentials is missing, or nested too deep", file);
        return NULL;
    }
    struct source *inner = source_from_doc(w, inner_doc, file, SCOPE_CLOUD, depth - 1, err);
    return inner ? source_impersonated(w, inner, url, doc_get(d, "delegates"), TOKEN_LIFE_S, file, scope, err) : NULL;
}

struct source *source_from_doc(const struct auth_world *w, const doc *d, const char *file, const char *scope, int depth, struct error *err)
{
    const char *type = field_need(d, "type", file, err);
    if (type == NULL)
        return NULL;
    if (strcmp(type, "service_account") == 0)
        return source_key(w, d, file, scope, err);
    if (strcmp(type, "authorized_user") == 0)
        return source_user(w, d, file, false, err);
    if (strcmp(type, "external_account_authorized_user") == 0)
        return source_user(w, d, file, true, err);
    if (strcmp(type, "external_account") == 0)
        return source_external(w, d, file, scope, err);
    if (strcmp(type, "impersonated_service_account") == 0)
        return impersonated_from(w, d, file, scope, depth, err);
    error_set(err, ERR_FATAL, 0, "%s: credentials of type %.40s are not supported; use a service_account, authorized_user, external_account or "
              "impersonated_service_account", file, type);
    return NULL;
}

/* What the user should mend about it, or NULL; the caller frees it. */
static char *complaint_of(const char *path, const doc *d)
{
    struct stat st;
    const char *type = doc_str(d, "type", "");
    bool secret = strcmp(type, "external_account") != 0 || doc_get(d, "client_secret");
    if (!secret || stat(path, &st) != 0 || (st.st_mode & (S_IRGRP | S_IROTH)) == 0)
        return NULL;
    return xasprintf("%s holds a secret and can be read by others than its owner (mode %04o); chmod 600 it", path, (unsigned)(st.st_mode & 07777));
}

/* Auth objects are made once a process, and so is the complaint said once. */
static struct auth *open_file(const struct auth_world *w, const char *path, const char *named_by, struct error *err)
{
    doc *whole = NULL;
    struct source *source = source_read(w, path, named_by, &whole, err);
    AUTO(doc_free_auto) doc *d = whole;
    if (source == NULL)
        return NULL;
    AUTO(free_ptr) char *complaint = complaint_of(path, d);
    if (complaint)
        log_warn("%s", complaint);
    return auth_cached(w, source_file(w, path, source), doc_str(d, "project_id", doc_str(d, "quota_project_id", NULL)), complaint);
}

/* Where gcloud leaves a login, or NULL when there is no home. */
static char *gcloud_path(const struct auth_world *w)
{
    const char *dir = w->env("CLOUDSDK_CONFIG"), *home = w->env("HOME");
    if (dir && *dir)
        return xasprintf("%s/application_default_credentials.json", dir);
    return home && *home ? xasprintf("%s/.config/gcloud/application_default_credentials.json", home) : NULL;
}

static struct auth *open_default(const struct auth_choice *o, struct error *err)
{
    struct auth_world w = {.loop = o->loop, .http = o->http, .rnd = o->rnd, .env = o->env};
    const char *named = o->env("GOOGLE_APPLICATION_CREDENTIALS");
    if (named && *named)
        return open_file(&w, named, "GOOGLE_APPLICATION_CREDENTIALS names", err);
    AUTO(free_ptr) char *path = gcloud_path(&w);
    struct stat st;
    if (path && (stat(path, &st) == 0 || (errno != ENOENT && errno != ENOTDIR)))
        return open_file(&w, path, "gcloud left", err);
    AUTO(free_ptr) char *looked = xasprintf("BQFLEET_TOKEN, BQFLEET_TOKEN_FILE, --token (none); GOOGLE_APPLICATION_CREDENTIALS (not set); %.300s (absent)",
                                            path ? path : "gcloud's file (no HOME)");
    return auth_cached(&w, source_metadata(&w, looked), NULL, NULL);
}

/* --- the choice -------------------------------------------------------------------------------------------------------------------------------- */

struct auth *auth_choose(const struct auth_choice *o, struct error *err)
{
    const char *how = o->how ? o->how : "auto";
    bool token = o->token && *o->token, automatic = strcmp(how, "auto") == 0;
    bool plain = strncmp(o->url, "http://", 7) == 0;
    if (strcmp(how, "anonymous") == 0 || (automatic && (o->emulator || (plain && !token))))
        return auth_anonymous();
    if (strcmp(how, "adc") != 0 && token)
        return auth_bearer(o->token);
    if (strcmp(how, "bearer") == 0) {
        error_set(err, ERR_USAGE, 0, "--auth bearer needs a token: BQFLEET_TOKEN, BQFLEET_TOKEN_FILE or --token");
        return NULL;
    }
    const char *host = plain ? o->url + strlen("http://") : "";
    if (plain && !is_loopback(host, *host == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":/")))
        log_warn("%s is plain http: the token of the application default credentials goes there for everybody on the way to read", o->url);
    return open_default(o, err);
}
