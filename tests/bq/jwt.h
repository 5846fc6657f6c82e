#ifndef BQF_TESTS_BQ_JWT_H
#define BQF_TESTS_BQ_JWT_H

#include "common/base/doc.h"

struct evp_pkey_st;
/* 0 when the JWT is signed by that key, by RS256; then its parts are given. The caller frees them. */
int jwt_verify(struct evp_pkey_st *, const char *jwt, doc **head, doc **claims);
/* A public key in PEM form, or NULL. Freed by EVP_PKEY_free. */
struct evp_pkey_st *jwt_public_key(const char *pem);

#endif
