#include "common/base/json.h"

#include <jansson.h> /* after ours: its json_is_object is a macro */

#include "common/host/lines.h"
#include "tests/fuzz/fuzz.h"
#include "worker/handlers/exec_proto.h"

/* Lines between a worker and its handlers, both ways, and the JSON scanner under them, against jansson: what is JSON there is understood here. */

/* A string is what jansson makes of it, and is written in a form that stands for the same. */
static void a_string(const char *text, size_t len)
{
    struct buf mine = BUF_INIT(4 << 20), quoted = BUF_INIT(8 << 20);
    json_t *j = json_loadb(text, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    struct json_scan scan = json_scan_of(text, len);
    struct span value;
    json_space(&scan);
    if (json_is_string(j)) {
        CHECK(json_value(&scan, &value) == 0 && json_get_string(value, &mine) == 0);
        CHECK(mine.len == json_string_length(j) && (mine.len == 0 || memcmp(mine.data, json_string_value(j), mine.len) == 0));
    }
    json_decref(j);
    json_put_string(&quoted, text, len);
    j = json_loadb(quoted.data, quoted.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    CHECK(json_is_string(j));
    json_t *same = json_stringn(text, len); /* NULL: no UTF-8 */
    CHECK(same == NULL || json_equal(same, j));
    buf_clear(&mine);
    CHECK(json_get_string((struct span){quoted.data, quoted.len}, &mine) == 0);
    CHECK(mine.len == json_string_length(j) && (mine.len == 0 || memcmp(mine.data, json_string_value(j), mine.len) == 0));
    json_decref(same);
    json_decref(j);
    buf_free(&mine);
    buf_free(&quoted);
}

static json_t *loaded(struct span s)
{
    return json_loadb(s.p, s.n, JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, NULL);
}

static void an_answer(const char *line, size_t len)
{
    struct answer a;
    struct error err = ERROR_INIT;
    int rc = answer_parse(line, len, &a, &err);
    json_t *j = json_loadb(line, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL), *item = json_object_get(j, "item");
    CHECK(rc >= -1 && rc <= 1);
    CHECK(rc != 1 || !json_is_object(j)); /* only that goes to the log unread */
    CHECK(rc >= 0 || err.text[0] != '\0');
    if (rc == 0 && json_is_object(j) && memchr(line, '\\', len) == NULL) { /* an escaped name of a member is one that we do not know */
        CHECK(a.has_item == (item != NULL) && (!a.has_item || json_integer_value(item) == a.item));
        CHECK(a.done == json_is_true(json_object_get(j, "done")) && a.ready == json_is_true(json_object_get(j, "ready")));
        json_t *row = a.row.n > 0 ? loaded(a.row) : NULL;
        CHECK(a.row.n == 0 || json_is_object(row));
        json_decref(row);
    }
    struct span rows = a.rows, row;
    int more = 1;
    for (int i = 0; rc == 0 && a.rows.n > 0 && more == 1 && i < 10000; i++) {
        more = answer_next_row(&rows, &row);
        CHECK(more <= 0 || (row.n > 0 && row.p >= line && row.p + row.n <= line + len));
    }
    if (rc == 0 && a.error.n > 0) {
        AUTO(free_ptr) char *text = NULL;
        enum answer_error kind = answer_error(a.error, &text);
        CHECK(kind <= ANSWER_FATAL && text != NULL);
    }
    json_decref(j);
}

static void a_request(const char *line, size_t len)
{
    struct bqfleet_hello hello;
    struct bqfleet_item item;
    struct buf scratch = BUF_INIT(4 << 20);
    struct error err = ERROR_INIT;
    int rc = line_parse(line, len, &hello, &item, &scratch, &err);
    CHECK(rc == LINE_HELLO || rc == LINE_ITEM || (rc == -1 && err.kind == ERR_TASK));
    buf_free(&scratch);
}

FUZZ(lines)
{
    struct input in = input_of(data, size);
    size_t len;
    AUTO(free_ptr) char *line = input_rest(&in, &len);
    json_t *j = json_loadb(line, len, JSON_ALLOW_NUL, NULL);
    CHECK(!json_is_object(j) || (json_is_object)(line, len));
    json_decref(j);
    a_string(line, len);
    an_answer(line, len);
    a_request(line, len);
}
