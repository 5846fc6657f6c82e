#ifndef BQF_BQ_AUTH_H
#define BQF_BQ_AUTH_H

#include "common/base/error.h"

/* Where requests get their credentials. Anonymous and a static bearer token here; keys, metadata servers and exchanges come behind
 * the same interface. */
struct auth;
/* header: "Authorization: Bearer ...", or NULL when requests go without. err: ERR_RETRY or ERR_FATAL. */
typedef void auth_cb(void *arg, const char *header, const struct error *err);

struct auth_ops {
    void (*header)(struct auth *, auth_cb *, void *arg); /* may call back from inside */
    void (*refused)(struct auth *);                      /* a 401: the token is of no use any more */
    const char *(*describe)(struct auth *);              /* "anonymous", "bearer token": never the secret */
    void (*free)(struct auth *);
};
struct auth { const struct auth_ops *ops; }; /* first member */

struct auth *auth_anonymous(void);
struct auth *auth_bearer(const char *token);
static inline void auth_header(struct auth *a, auth_cb *cb, void *arg) { a->ops->header(a, cb, arg); }
static inline void auth_refused(struct auth *a) { a->ops->refused(a); }
static inline const char *auth_describe(struct auth *a) { return a->ops->describe(a); }
static inline void auth_free(struct auth *a) { if (a) a->ops->free(a); }

#endif
