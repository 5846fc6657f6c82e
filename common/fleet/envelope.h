#ifndef BQF_FLEET_ENVELOPE_H
#define BQF_FLEET_ENVELOPE_H

#include "common/base/buf.h"
#include "common/base/error.h"

/*
 * A work message: a small fixed part that the fleet needs, then the payload, passed through unparsed. Pure functions, fuzzed.
 *   byte 0      version (1)
 *   byte 1      flags: 1 = payload is zstd
 *   varint      item index
 *   byte        length of the run id, then the run id
 *   varint      length of the key, then the key
 *   rest        payload (JSON text; empty: none); compressed: varint of its plain length first
 */
struct envelope {
    const char *run; size_t run_len;
    int64_t item;
    const char *key; size_t key_len;
    const char *payload; size_t payload_len;
};
enum { ENVELOPE_VERSION = 1 };

/* Appends. -1 with ERR_TASK when the key or payload is over its limit, or out's ceiling is passed. Payloads of 256 bytes and more are
 * compressed when that makes them smaller. */
int envelope_encode(const struct envelope *, struct buf *out, struct error *);
/* Pointers into data, or into scratch when the payload was compressed. -1 with ERR_TASK: truncated, another version, over a limit. */
int envelope_decode(const void *data, size_t len, struct buf *scratch, struct envelope *, struct error *);

#endif
