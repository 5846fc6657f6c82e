#ifndef BQF_BQ_AUTH_H
#define BQF_BQ_AUTH_H

#include "common/base/error.h"

/* Where requests get their credentials. Loop thread only. An auth is freed after every bq that uses it, and before its http and loop. */
struct auth;
struct loop;
struct http;
struct rnd;
/* header: "Authorization: Bearer ...", or NULL when requests go without. err: ERR_RETRY or ERR_FATAL, with the reason "credentials". */
typedef void auth_cb(void *arg, const char *header, const struct error *err);

struct auth_ops {
    void (*header)(struct auth *, auth_cb *, void *arg); /* calls back once; may do so from inside */
    void (*refused)(struct auth *, uint64_t stamp);      /* a 401 for the header with that stamp: it is of no use any more */
    const char *(*describe)(struct auth *);              /* "anonymous", "service account a@b (FILE)": never the secret */
    const char *(*project)(struct auth *);               /* that the credentials belong to; NULL: unknown, perhaps until a token was asked for */
    int64_t (*lives_ms)(struct auth *);                  /* so long its present token does; -1: there is none, or it does not end as far as is known */
    const char *(*complaint)(struct auth *);             /* what the user should mend about their file, or NULL; the function, too */
    void (*free)(struct auth *);                         /* calls back whoever still waits, with an error */
};
struct auth { const struct auth_ops *ops; bool asked; }; /* first member; asked: auth_find_project's */

struct auth *auth_anonymous(void);
struct auth *auth_bearer(const char *token);

/* What the user chose, and where else to look. env, loop, http and rnd must outlive the result; they are unused by fixed credentials. */
struct auth_choice {
    const char *how;                    /* auto, anonymous, bearer, adc; NULL: auto */
    const char *token;                  /* NULL: none */
    const char *url;                    /* of BigQuery */
    bool emulator;                      /* that url is an emulator's */
    const char *(*env)(const char *);
    struct loop *loop;
    struct http *http;
    struct rnd *rnd;
};
/* auto: none for an emulator or a plain http:// address without a token; else the token; else the application default credentials.
 * Reads files, sends nothing yet. NULL with ERR_USAGE or ERR_FATAL. */
struct auth *auth_choose(const struct auth_choice *, struct error *);
/* The project of the credentials, where need be after having asked the metadata server for it and a token, for so long at most. NULL: unknown. For starting. */
const char *auth_find_project(struct auth *, struct loop *, int64_t wait_ms);

static inline void auth_header(struct auth *a, auth_cb *cb, void *arg) { a->ops->header(a, cb, arg); }
static inline void auth_refused(struct auth *a, uint64_t stamp) { a->ops->refused(a, stamp); }
static inline const char *auth_describe(struct auth *a) { return a->ops->describe(a); }
static inline const char *auth_project(struct auth *a) { return a->ops->project(a); }
static inline const char *auth_complaint(struct auth *a) { return a->ops->complaint ? a->ops->complaint(a) : NULL; }
static inline int64_t auth_lives_ms(struct auth *a) { return a->ops->lives_ms(a); }
static inline void auth_free(struct auth *a) { if (a) a->ops->free(a); }

/* Tells one header from another without keeping it: requests that went out with the old token get their 401 when a new one is there
 * already, which they must not take with them. FNV-1a; 0 for none. */
static inline uint64_t auth_stamp(const char *header)
{
    uint64_t h = header ? UINT64_C(14695981039346656037) : 0;
    for (; header && *header; header++)
        h = (h ^ (unsigned char)*header) * UINT64_C(1099511628211);
    return h;
}

#endif
