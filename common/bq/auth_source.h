#ifndef BQF_BQ_AUTH_SOURCE_H
#define BQF_BQ_AUTH_SOURCE_H

#include "common/base/doc.h"
#include "common/base/limits.h"
#include "common/base/rnd.h"
#include "common/bq/auth.h"
#include "common/net/http.h"

/* What the kinds of credentials share: for common/bq/auth_*.c only. A source makes tokens, one attempt at a time; auth_cached keeps
 * the token, repeats attempts and lets everybody wait for the same one. No text that leaves here holds a secret. */

struct auth_world {
    struct loop *loop;
    struct http *http;
    struct rnd *rnd;
    const char *(*env)(const char *);
};

#define SCOPE_BIGQUERY "https://www.googleapis.com/auth/bigquery"
#define SCOPE_CLOUD "https://www.googleapis.com/auth/cloud-platform" /* for tokens that are only exchanged for another */
#define IMPERSONATION_DEPTH 3 /* files within files */
#define TOKEN_LIFE_S 3600 /* that is asked for, and assumed where an answer does not say */

/* token NULL: err. lives_ms from now. */
typedef void source_cb(void *arg, const char *token, int64_t lives_ms, const struct error *err);
struct source;
struct source_ops {
    void (*fetch)(struct source *, source_cb *, void *arg); /* one attempt; calls back once, perhaps from inside */
    void (*stop)(struct source *);                          /* no callback comes any more */
    void (*free)(struct source *);                          /* stops, too */
    /* May be NULL. The project, as far as known; asked for once, it is fetched along with the next token. */
    const char *(*project)(struct source *);
};
struct source { const struct source_ops *ops; char *what; }; /* what: "service account a@b (FILE)" */
static inline void source_free(struct source *s) { if (s) s->ops->free(s); }
DEFINE_AUTO(source_free, struct source *)

/* Takes the source over. project and complaint may be NULL. */
struct auth *auth_cached(const struct auth_world *, struct source *, const char *project, const char *complaint);

/* --- sources; NULL with ERR_FATAL that names file and field -------------------------------------------------------------------------- */

struct source *source_from_doc(const struct auth_world *, const doc *, const char *file, const char *scope, int depth, struct error *);
struct source *source_key(const struct auth_world *, const doc *, const char *file, const char *scope, struct error *);
struct source *source_user(const struct auth_world *, const doc *, const char *file, bool external, struct error *);
struct source *source_external(const struct auth_world *, const doc *, const char *file, const char *scope, struct error *);
/* Takes inner over, also when it fails. delegates may be NULL. */
struct source *source_impersonated(const struct auth_world *, struct source *inner, const char *url, const doc *delegates, int64_t life_s,
                                   const char *file, const char *scope, struct error *);
/* Of a file, whose text is given back when whole is not NULL. named_by begins its errors. */
struct source *source_read(const struct auth_world *, const char *path, const char *named_by, doc **whole, struct error *);
/* The same, and before each fetch the file is looked at: when it is another one, it is read anew (keys are rotated). Takes first over. */
struct source *source_file(const struct auth_world *, const char *path, struct source *first);
/* looked: what was looked for before, for the message that says so. */
struct source *source_metadata(const struct auth_world *, const char *looked);

/* --- reading files ----------------------------------------------------------------------------------------------------------------------- */

/* A field that must be a text and not empty. NULL with ERR_FATAL. */
const char *field_need(const doc *, const char *field, const char *file, struct error *);
/* -1 with ERR_FATAL unless https, or http to this very machine: secrets are sent there. */
int url_check(const char *url, const char *field, const char *file, struct error *);
void secret_free(char *); /* overwrites it first; NULL allowed */
DEFINE_AUTO(secret_free, char *)

/* --- one request and its answer ------------------------------------------------------------------------------------------------------------ */

/* good: 2xx. Otherwise err. The response is valid during the call only. */
typedef void exchange_cb(void *arg, const struct http_response *good, const struct error *err);
struct exchange {
    const struct auth_world *world;
    struct http_call *call;
    struct buf body;
    struct http_slice slice;
    const char *const *secrets;
    const char *what, *advice;
    int status;                      /* of the last answer; 0: there was none */
    exchange_cb *cb;
    void *arg;
};
struct exchange_request {
    const char *method, *url;
    const char *const *headers;      /* may be NULL */
    struct buf *body;                /* moved from; may be NULL */
    const char *const *secrets;      /* NULL-terminated; never shown, whatever the answer says. Like what and advice: valid until the end */
    const char *what;                /* begins the text of errors */
    const char *advice;              /* ends it when the service says no */
    int64_t connect_ms, whole_ms;    /* 0: 10 s, 30 s */
    bool direct;                     /* past any proxy */
};
void exchange_send(struct exchange *, const struct auth_world *, const struct exchange_request *, exchange_cb *, void *arg);
void exchange_stop(struct exchange *);

/* A token as OAuth (access_token, expires_in) or IAM (accessToken, expireTime) puts it. The caller frees it with secret_free. NULL with err. */
char *exchange_token(const struct http_response *, const char *what, int64_t wall_ms, int64_t *lives_ms, struct error *);
/* "&name=value", the first without "&". */
void form_add(struct buf *, const char *name, const char *value);
/* "Authorization: Basic ..." */
char *basic_header(const char *user, const char *password);
/* Takes out of text every word that a secret contains or that contains one. */
void hide_secrets(char *text, const char *const *secrets);

/* --- signing: pure -------------------------------------------------------------------------------------------------------------------------- */

typedef struct evp_pkey_st jwt_key;
jwt_key *jwt_key_read(const char *pem); /* NULL: no private RSA key */
void jwt_key_free(jwt_key *);
/* A JWT signed by RS256, or NULL. key_id may be NULL. now_s: seconds since 1970. */
char *jwt_sign(jwt_key *, const char *key_id, const char *issuer, const char *scope, const char *audience, int64_t now_s);
/* Base64 with - and _, unpadded. The caller frees it. */
char *base64url(const void *, size_t);

#endif
