#include "common/bq/auth_source.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include "common/base/oom.h"

/* A JWT bearer assertion (RFC 7523), signed with a service account's own key. */

enum { SOME_MEMORY = 65536 }; /* bytes: what a signature needs several times over */

DEFINE_AUTO(EVP_MD_CTX_free, EVP_MD_CTX *)
DEFINE_AUTO(BIO_free, BIO *)

/* An encrypted key must not make OpenSSL ask for a password on the terminal. */
static int no_password(char *out, int size, int writing, void *arg)
{
    (void)out;
    (void)size;
    (void)writing;
    (void)arg;
    return -1;
}

/* Empties OpenSSL's queue of errors, which may quote what was read. No memory ends the process: it says nothing of a key. OpenSSL forgets that some of its
 * errors came of it: then there is none now, either. */
static void errors_end(void)
{
    unsigned long code;
    void *some = OPENSSL_malloc(SOME_MEMORY);
    bool no_memory = some == NULL || ERR_peek_error() == 0; /* not even for the words */
    OPENSSL_free(some);
    while ((code = ERR_get_error()) != 0)
        no_memory = no_memory || ERR_GET_REASON(code) == ERR_R_MALLOC_FAILURE;
    if (no_memory)
        out_of_memory("OpenSSL, with a private key");
}

jwt_key *jwt_key_read(const char *pem)
{
    AUTO(BIO_free_auto) BIO *bio = BIO_new_mem_buf(pem, -1);
    if (bio == NULL)
        out_of_memory("OpenSSL, for a private key");
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL);
    if (key == NULL)
        errors_end();
    if (key && EVP_PKEY_get_base_id(key) != EVP_PKEY_RSA) {
        EVP_PKEY_free(key);
        key = NULL;
    }
    ERR_clear_error();
    return key;
}

void jwt_key_free(jwt_key *key)
{
    EVP_PKEY_free(key);
}

char *base64url(const void *data, size_t len)
{
    char *out = xmalloc(4 * ((len + 2) / 3) + 1);
    int n = EVP_EncodeBlock((unsigned char *)out, data, (int)len);
    while (n > 0 && out[n - 1] == '=')
        n--;
    out[n] = '\0';
    for (char *p = out; *p; p++)
        *p = *p == '+' ? '-' : *p == '/' ? '_' : *p;
    return out;
}

static char *encoded(doc *d)
{
    AUTO(free_ptr) char *text = doc_text(d);
    return base64url(text, strlen(text));
}

/* RSASSA-PKCS1-v1_5 over SHA-256; NULL when OpenSSL will not. */
static char *signature(jwt_key *key, const char *text)
{
    AUTO(EVP_MD_CTX_free_auto) EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    AUTO(free_ptr) unsigned char *raw = NULL;
    const unsigned char *bytes = (const unsigned char *)text;
    size_t len = 0, count = strlen(text);
    bool ok = ctx != NULL && EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, key) == 1 && EVP_DigestSign(ctx, NULL, &len, bytes, count) == 1;
    if (ok) {
        raw = xmalloc(len);
        ok = EVP_DigestSign(ctx, raw, &len, bytes, count) == 1;
    }
    if (!ok)
        errors_end();
    return ok ? base64url(raw, len) : NULL;
}

char *jwt_sign(jwt_key *key, const char *key_id, const char *issuer, const char *scope, const char *audience, int64_t now_s)
{
    AUTO(doc_free_auto) doc *head = doc_set_str(doc_set_str(doc_object(), "alg", "RS256"), "typ", "JWT");
    doc_set_str(head, "kid", key_id);
    AUTO(doc_free_auto) doc *claims = doc_set_str(doc_set_str(doc_object(), "iss", issuer), "scope", scope);
    doc_set_str(claims, "aud", audience);
    doc_set_int(doc_set_int(claims, "iat", now_s), "exp", now_s + TOKEN_LIFE_S);
    AUTO(free_ptr) char *first = encoded(head);
    AUTO(free_ptr) char *second = encoded(claims);
    AUTO(free_ptr) char *text = xasprintf("%s.%s", first, second);
    AUTO(free_ptr) char *last = signature(key, text);
    ERR_clear_error();
    return last ? xasprintf("%s.%s", text, last) : NULL;
}
