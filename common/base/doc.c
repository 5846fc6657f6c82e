#include "common/base/doc.h"

#include <errno.h>
#include <math.h>

#include <jansson.h>

#include "common/base/buf.h"
#include "common/base/limits.h"
#include "common/base/oom.h"
#include "common/base/utf8.h"

static json_t *made(json_t *d)
{
    if (d == NULL)
        out_of_memory("a JSON document");
    return d;
}

static void done(int rc)
{
    if (rc != 0)
        made(NULL);
}

doc *doc_parse(const char *text, size_t len, const char *what, struct error *err)
{
    if (len > LIMIT_DOCUMENT) {
        error_set(err, ERR_TASK, 0, "%s: %zu bytes of JSON, more than the %d that are read", what, len, LIMIT_DOCUMENT);
        return NULL;
    }
    size_t blank = 0;
    while (blank < len && strchr(" \t\r\n", text[blank]) != NULL && text[blank] != '\0')
        blank++;
    if (blank == len) {
        error_set(err, ERR_TASK, 0, "%s: line 1, column 1: no JSON here, only %zu bytes of space", what, len);
        return NULL;
    }
    json_error_t at;
    json_t *d = json_loadb(text, len, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &at);
    if (d == NULL)
        error_set(err, ERR_TASK, 0, "%s: line %d, column %d: %s", what, at.line, at.column, at.text);
    return d;
}

doc *doc_ref(doc *d)
{
    return json_incref(d);
}

void doc_free(doc *d)
{
    json_decref(d);
}

enum doc_type doc_type(const doc *d)
{
    if (d == NULL)
        return DOC_NONE;
    switch (json_typeof(d)) {
    case JSON_OBJECT: return DOC_OBJECT;
    case JSON_ARRAY: return DOC_ARRAY;
    case JSON_STRING: return DOC_STRING;
    case JSON_INTEGER: return DOC_INT;
    case JSON_REAL: return DOC_REAL;
    case JSON_TRUE:
    case JSON_FALSE: return DOC_BOOL;
    case JSON_NULL: break;
    }
    return DOC_NULL;
}

const doc *doc_field(const doc *object, const char *key)
{
    return json_object_get(object, key);
}

static const doc *step(const doc *d, const char *name, size_t len)
{
    if (json_is_object(d)) {
        AUTO(free_ptr) char *key = xstrndup(name, len);
        return json_object_get(d, key);
    }
    if (!json_is_array(d) || len == 0 || len > 9)
        return NULL;
    size_t index = 0;
    for (size_t i = 0; i < len; i++) {
        if (name[i] < '0' || name[i] > '9')
            return NULL;
        index = index * 10 + (size_t)(name[i] - '0');
    }
    return json_array_get(d, index);
}

const doc *doc_get(const doc *d, const char *path)
{
    if (path == NULL || *path == '\0')
        return d;
    while (d != NULL) {
        size_t len = strcspn(path, ".");
        d = step(d, path, len);
        if (path[len] == '\0')
            break;
        path += len + 1;
    }
    return d;
}

const char *doc_str(const doc *d, const char *path, const char *fallback)
{
    const doc *at = doc_get(d, path);
    if (!json_is_string(at))
        return fallback;
    const char *s = json_string_value(at);
    /* A text with a NUL inside would be read as another, shorter one. */
    return strlen(s) == json_string_length(at) ? s : fallback;
}

static bool whole_number(const char *s, int64_t *out)
{
    const char *digits = *s == '-' ? s + 1 : s;
    if (*digits == '\0' || strspn(digits, "0123456789") != strlen(digits))
        return false;
    errno = 0;
    *out = strtoll(s, NULL, 10);
    return errno == 0;
}

int64_t doc_int(const doc *d, const char *path, int64_t fallback)
{
    const doc *at = doc_get(d, path);
    int64_t value = 0;
    if (json_is_integer(at))
        return json_integer_value(at);
    if (json_is_string(at) && whole_number(json_string_value(at), &value))
        return value;
    if (json_is_real(at)) {
        double real = json_real_value(at);
        if (real >= -0x1p63 && real < 0x1p63 && real == floor(real))
            return (int64_t)real;
    }
    return fallback;
}

double doc_real(const doc *d, const char *path, double fallback)
{
    const doc *at = doc_get(d, path);
    if (json_is_number(at))
        return json_number_value(at);
    if (!json_is_string(at) || json_string_length(at) == 0)
        return fallback;
    char *end = NULL;
    double value = strtod(json_string_value(at), &end);
    return *end == '\0' ? value : fallback;
}

bool doc_bool(const doc *d, const char *path, bool fallback)
{
    const doc *at = doc_get(d, path);
    if (json_is_boolean(at))
        return json_is_true(at);
    const char *s = doc_str(at, NULL, "");
    if (strcmp(s, "true") == 0)
        return true;
    return strcmp(s, "false") == 0 ? false : fallback;
}

size_t doc_len(const doc *d)
{
    return json_is_array(d) ? json_array_size(d) : json_object_size(d);
}

const doc *doc_at(const doc *array, size_t i)
{
    return json_array_get(array, i);
}

/* jansson's iterators want a document that may change; ours are only read. */
void *doc_first(const doc *object)
{
    return json_is_object(object) ? json_object_iter((json_t *)(uintptr_t)object) : NULL;
}

void *doc_next(const doc *object, void *it)
{
    return json_object_iter_next((json_t *)(uintptr_t)object, it);
}

const char *doc_key(void *it)
{
    return json_object_iter_key(it);
}

const doc *doc_value(void *it)
{
    return json_object_iter_value(it);
}

doc *doc_object(void)
{
    return made(json_object());
}

doc *doc_array(void)
{
    return made(json_array());
}

static bool is_utf8(const char *s, size_t n)
{
    uint32_t code;
    for (size_t i = 0, len = 0; i < n; i += len)
        if ((len = utf8_step(s + i, n - i, &code)) == 0)
            return false;
    return true;
}

/* Each byte that does not belong to a character becomes one U+FFFD. */
static char *mended(const char *s, size_t n, size_t *out_len)
{
    struct buf out = BUF_INIT(n * (sizeof(UTF8_REPLACEMENT) - 1));
    uint32_t code;
    for (size_t i = 0; i < n;) {
        size_t len = utf8_step(s + i, n - i, &code);
        if (len == 0)
            buf_xputs(&out, UTF8_REPLACEMENT);
        else
            buf_xadd(&out, s + i, len);
        i += len == 0 ? 1 : len;
    }
    *out_len = out.len;
    return buf_steal(&out);
}

doc *doc_string(const char *s)
{
    return doc_stringn(s, strlen(s));
}

doc *doc_stringn(const char *s, size_t n)
{
    if (is_utf8(s, n))
        return made(json_stringn_nocheck(s, n));
    size_t len = 0;
    AUTO(free_ptr) char *good = mended(s, n, &len);
    return made(json_stringn_nocheck(good, len));
}

doc *doc_integer(int64_t value)
{
    return made(json_integer(value));
}

doc *doc_number(double value)
{
    return isfinite(value) ? made(json_real(value)) : doc_null(); /* JSON has no NaN and no infinity */
}

doc *doc_boolean(bool value)
{
    return made(json_boolean(value));
}

doc *doc_null(void)
{
    return made(json_null());
}

doc *doc_set(doc *object, const char *key, doc *child)
{
    assert(json_is_object(object));
    if (child == NULL)
        return object;
    size_t len = strlen(key);
    if (is_utf8(key, len)) {
        done(json_object_set_new_nocheck(object, key, child));
        return object;
    }
    AUTO(free_ptr) char *good = mended(key, len, &len);
    done(json_object_set_new_nocheck(object, good, child));
    return object;
}

doc *doc_set_str(doc *object, const char *key, const char *value)
{
    return value == NULL ? object : doc_set(object, key, doc_string(value));
}

doc *doc_set_int(doc *object, const char *key, int64_t value)
{
    return doc_set(object, key, doc_integer(value));
}

doc *doc_set_int_text(doc *object, const char *key, int64_t value)
{
    char text[24];
    snprintf(text, sizeof(text), "%" PRId64, value);
    return doc_set(object, key, doc_string(text));
}

doc *doc_set_bool(doc *object, const char *key, bool value)
{
    return doc_set(object, key, doc_boolean(value));
}

doc *doc_add(doc *array, doc *child)
{
    assert(json_is_array(array));
    done(json_array_append_new(array, made(child)));
    return array;
}

doc *doc_copy(const doc *d)
{
    return made(json_deep_copy(d));
}

doc *doc_copy_top(const doc *d)
{
    return made(json_copy((doc *)(uintptr_t)d));
}

bool doc_equal(const doc *a, const doc *b)
{
    return json_equal(a, b) == 1;
}

char *doc_text(const doc *d)
{
    char *text = json_dumps(d, JSON_COMPACT | JSON_ENCODE_ANY);
    if (text == NULL)
        made(NULL);
    return text;
}
