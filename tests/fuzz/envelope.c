#include "common/base/limits.h"
#include "common/fleet/envelope.h"
#include "tests/fuzz/fuzz.h"

/* Work messages. What decodes says the same once it is encoded again, whether its payload travels plain or compressed. */

static bool same(const char *a, size_t a_len, const char *b, size_t b_len)
{
    return a_len == b_len && (a_len == 0 || memcmp(a, b, a_len) == 0);
}

FUZZ(envelope)
{
    struct buf scratch = BUF_INIT(2 * LIMIT_PAYLOAD), again = BUF_INIT(2 * LIMIT_PAYLOAD), scratch2 = BUF_INIT(2 * LIMIT_PAYLOAD);
    struct envelope e, e2;
    struct error err = ERROR_INIT;
    if (envelope_decode(data, size, &scratch, &e, &err) != 0) {
        CHECK(err.kind == ERR_TASK && err.text[0] != '\0');
    } else {
        CHECK(e.item >= 0 && e.item < LIMIT_ITEMS && e.run_len > 0 && e.key_len <= LIMIT_KEY && e.payload_len <= LIMIT_PAYLOAD);
        CHECK(envelope_encode(&e, &again, &err) == 0);
        CHECK(envelope_decode(again.data, again.len, &scratch2, &e2, &err) == 0);
        CHECK(e2.item == e.item && same(e.run, e.run_len, e2.run, e2.run_len) && same(e.key, e.key_len, e2.key, e2.key_len));
        CHECK(same(e.payload, e.payload_len, e2.payload, e2.payload_len));
    }
    buf_free(&scratch);
    buf_free(&again);
    buf_free(&scratch2);
}
