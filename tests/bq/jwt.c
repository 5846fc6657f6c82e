#include "tests/bq/jwt.h"

#include <openssl/evp.h>
#include <openssl/pem.h>

#include "common/base/base.h"

/* Only what base64url gives. */
static unsigned char *decode(const char *text, size_t n, size_t *len)
{
    char *padded = xcalloc(1, n + 4);
    for (size_t i = 0; i < n; i++)
        padded[i] = text[i] == '-' ? '+' : text[i] == '_' ? '/' : text[i];
    size_t pad = (4 - n % 4) % 4;
    memset(padded + n, '=', pad);
    unsigned char *out = xcalloc(1, n + 4);
    int got = EVP_DecodeBlock(out, (unsigned char *)padded, (int)(n + pad));
    free(padded);
    *len = got < 0 ? 0 : (size_t)got - pad;
    return out;
}

static doc *decode_doc(const char *text, size_t n)
{
    size_t len;
    unsigned char *json = decode(text, n, &len);
    doc *d = doc_parse((char *)json, len, "jwt", NULL);
    free(json);
    return d;
}

int jwt_verify(struct evp_pkey_st *key, const char *jwt, doc **head, doc **claims)
{
    const char *dot = strchr(jwt, '.'), *last = strrchr(jwt, '.');
    if (dot == NULL || dot == last)
        return -1;
    size_t len;
    unsigned char *signature = decode(last + 1, strlen(last + 1), &len);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool good = EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, key) == 1 &&
                EVP_DigestVerify(ctx, signature, len, (const unsigned char *)jwt, (size_t)(last - jwt)) == 1;
    EVP_MD_CTX_free(ctx);
    free(signature);
    if (!good)
        return -1;
    *head = decode_doc(jwt, (size_t)(dot - jwt));
    *claims = decode_doc(dot + 1, (size_t)(last - dot - 1));
    if (strcmp(doc_str(*head, "alg", ""), "RS256") == 0)
        return 0;
    doc_free(*head);
    doc_free(*claims);
    return -1;
}

struct evp_pkey_st *jwt_public_key(const char *pem)
{
    BIO *bio = BIO_new_mem_buf(pem, -1);
    EVP_PKEY *key = PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL);
    BIO_free(bio);
    return key;
}
