#ifndef BQF_BASE_IDS_H
#define BQF_BASE_IDS_H

#include "common/base/error.h"
#include "common/base/rnd.h"

/* A time-ordered unique id: 10 characters of milliseconds, 16 random ones; a-z0-9 only (Crockford's base 32, lower case). */
#define ID_LEN 26
void id_new(char out[ID_LEN + 1], int64_t wall_ms, struct rnd *);

/* Names a user chooses (run ids, batches, queues, handlers, workers): [A-Za-z0-9_.-]{1,128}, the first a letter or digit.
 * what names the thing in the message: "run id". 0 or -1 with ERR_USAGE. */
int id_check_name(const char *what, const char *name, struct error *);
/* Run ids go into job ids and labels: [a-z0-9_-]{1,63}. */
int id_check_run(const char *run_id, struct error *);

/* FNV-1a over n bytes, continued from h (start with HASH_START): spreads keys, names digests; not for secrets. */
#define HASH_START UINT64_C(0xcbf29ce484222325)
uint64_t hash_bytes(uint64_t h, const void *p, size_t n);
/* SHA-256 as 64 hexadecimal characters: digests of what must never differ. */
#define SHA256_BYTES 32
void sha256(const void *p, size_t n, unsigned char out[SHA256_BYTES]); /* loop thread only */
void sha256_hex(const void *p, size_t n, char out[2 * SHA256_BYTES + 1]);

#endif
