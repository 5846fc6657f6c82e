#include "common/base/limits.h"
#include "common/fleet/fold.h"
#include "tests/fuzz/fuzz.h"

/* Log messages, and a fold of whatever decodes: bytes in front of each message say how long it is. */

#define ITEMS_MOST (1 << 20) /* a fold has a bit for each: a hundred megabytes of them would only be slow */

static void wire_again(const struct log_msg *m)
{
    struct buf once = BUF_INIT(4 << 20), twice = BUF_INIT(4 << 20);
    struct log_msg m2;
    struct logmsg_memory *memory = NULL;
    struct error err = ERROR_INIT;
    CHECK(logmsg_encode(m, &once) == 0);
    CHECK(logmsg_decode(once.data, once.len, &m2, &memory, &err) == 0);
    CHECK(logmsg_encode(&m2, &twice) == 0);
    CHECK(once.len == twice.len && memcmp(once.data, twice.data, once.len) == 0);
    logmsg_free(memory);
    buf_free(&once);
    buf_free(&twice);
}

static int64_t highest(const struct log_msg *m)
{
    int64_t most = m->type == LOGM_SEAL ? m->items : 0;
    if (m->type != LOGM_MANIFEST)
        return most;
    for (size_t i = 0; i < m->manifest.range_count; i++)
        most = i64_max(most, m->manifest.ranges[i].first + m->manifest.ranges[i].count);
    for (size_t i = 0; i < m->manifest.empty_count; i++)
        most = i64_max(most, m->manifest.empty[i].first + m->manifest.empty[i].count);
    for (size_t i = 0; i < m->manifest.failure_count; i++)
        most = i64_max(most, m->manifest.failures[i].item);
    return most;
}

FUZZ(logmsg)
{
    struct input in = input_of(data, size);
    struct fold *fold = fold_new(&(struct fold_config){.tolerate_count = 1, .stop_after = 3});
    for (int64_t offset = 0; input_left(&in) > 0; offset++) {
        size_t len = size_min(input_byte(&in), input_left(&in));
        len = len == 255 ? input_left(&in) : len;
        uint8_t *bytes = xmemdup(in.p, len);
        in.p += len;
        struct log_msg m;
        struct logmsg_memory *memory = NULL;
        struct error err = ERROR_INIT;
        if (logmsg_decode(bytes, len, &m, &memory, &err) == 0) {
            wire_again(&m);
            int64_t done = fold->done;
            if (highest(&m) <= ITEMS_MOST)
                (void)fold_apply(fold, &m, offset, offset * 1000, &err);
            CHECK(fold->done >= done && fold->failed >= 0 && fold->failed + fold->empty <= fold->done);
        } else {
            CHECK(err.kind == ERR_FATAL || err.kind == ERR_TASK);
        }
        logmsg_free(memory);
        free(bytes);
    }
    fold_free(fold);
}
