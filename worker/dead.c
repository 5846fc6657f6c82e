#include "worker/dead.h"

#define ENTRY_MAX 990000 /* bytes: below the usual limit of a message, which its key counts towards; beyond it the payload is left out */

static char *entry(const struct item *item, bool with_payload)
{
    doc *e = doc_object();
    doc_set_str(e, "run", item->run->id);
    doc_set_str(e, "batch", item->run->record->batch);
    doc_set_int(e, "item", item->index);
    doc_set(e, "key", doc_stringn(item_key(item), item->key_len));
    doc *payload = NULL;
    if (with_payload && item->payload_len > 0) {
        struct error err = ERROR_INIT;
        payload = doc_parse(item_payload(item), item->payload_len, "payload", &err);
        if (payload == NULL)
            payload = doc_stringn(item_payload(item), item->payload_len);
    }
    doc_set(e, "payload", payload ? payload : doc_null());
    if (!with_payload)
        doc_set_bool(e, "payload_left_out", true);
    doc_set_int(e, "attempts", item->attempts);
    doc_set_str(e, "reason", item->reason);
    doc_set_str(e, "text", item->text ? item->text : "");
    doc_set_int(e, "time_ms", loop_wall_ms(item->worker->w.loop));
    doc_set_str(e, "by", item->worker->name);
    char *text = doc_text(e);
    doc_free(e);
    return text;
}

struct post *dead_send(const struct item *item, post_cb *cb, void *arg)
{
    char *text = entry(item, true), key[LIMIT_NAME + 32];
    if (strlen(text) > ENTRY_MAX) {
        free(text);
        text = entry(item, false);
    }
    snprintf(key, sizeof(key), "%s/%" PRId64, item->run->id, item->index);
    struct bus_out out = {.topic = item->worker->dead, .partition = item->run->record->dead_partition, .key = key, .key_len = strlen(key),
                          .value = text, .value_len = strlen(text)};
    struct post *post = post_send(item->worker->posts, &out, false, cb, arg);
    free(text);
    return post;
}
