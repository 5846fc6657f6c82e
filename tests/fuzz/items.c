#include "coordinator/items.h"

#include "common/base/limits.h"
#include "tests/fuzz/fuzz.h"

/* CSV, NDJSON and lines, by the first byte. Items come in order, keys are never empty and never twice, payloads are JSON; an error names file and line. */

FUZZ(items)
{
    static const enum items_kind kinds[] = {ITEMS_FILE, ITEMS_CSV, ITEMS_LINES};
    struct input in = input_of(data, size);
    unsigned choice = input_byte(&in);
    enum items_kind kind = kinds[choice % ARRAY_LEN(kinds)];
    const char *path = fuzz_file(in.p, input_left(&in));
    struct loop *loop = loop_new();
    struct world world = {.loop = loop};
    struct spec spec = {.path = (char *)"spec.yaml", .items = {.kind = kind, .source = (char *)path, .key = kind == ITEMS_LINES ? NULL : (char *)"id"}};
    struct error err = ERROR_INIT;
    struct items *items = items_open(&spec, &world, NULL, NULL, NULL, &err);
    CHECK(items != NULL);
    struct item item;
    int rc;
    for (int64_t index = 0; (rc = items_next(items, &item, &err)) == 1; index++) {
        CHECK(item.index == index && item.key_len > 0 && item.key_len <= LIMIT_KEY + 1 && memchr(item.key, '\0', item.key_len) == NULL);
        if (item.payload == NULL) {
            CHECK(err.kind == ERR_TASK && strcmp(err.reason, "size") == 0);
            continue;
        }
        CHECK(kind == ITEMS_LINES || item.payload_len > 0);
        if (item.payload_len > 0) {
            AUTO(doc_free_auto) doc *d = doc_parse(item.payload, item.payload_len, "payload", &err);
            CHECK(doc_type(d) == DOC_OBJECT || kind == ITEMS_LINES);
        }
    }
    CHECK(rc == 0 || (rc == -1 && err.kind == ERR_USAGE && strncmp(err.text, path, strlen(path)) == 0));
    CHECK(items_next(items, &item, &err) == rc);
    items_close(items);
    loop_free(loop);
}
