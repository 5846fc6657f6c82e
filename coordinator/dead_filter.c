#include "coordinator/dead_filter.h"

#include <time.h>

#include "common/base/units.h"

enum { KEY_CUT = 128 - 3 }; /* bytes of a key that a manifest has at least, when it was cut */

int dead_filter_time(const char *flag, const char *text, int64_t now_ms, int64_t *out, struct error *err)
{
    int64_t ago_ms;
    if (units_duration_ms(text, &ago_ms, err) == 0) {
        *out = i64_max(now_ms - ago_ms, 1);
        return 0;
    }
    if (err != NULL)
        *err = ERROR_INIT;
    static const char *const forms[] = {"%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d"};
    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        struct tm tm = {0};
        const char *rest = strptime(text, forms[i], &tm);
        if (rest == NULL)
            continue;
        int64_t fraction_ms = 0;
        if (i < 2 && *rest == '.')
            for (int64_t unit = 100; *++rest >= '0' && *rest <= '9'; unit /= 10)
                fraction_ms += unit * (*rest - '0');
        if (*rest == 'Z')
            rest++;
        if (*rest != '\0')
            continue;
        *out = (int64_t)timegm(&tm) * 1000 + fraction_ms;
        return 0;
    }
    return error_set(err, ERR_USAGE, 0, "--%s %s: a time is written 2026-01-31T12:00:00Z (UTC), 2026-01-31, or how long ago: 2h", flag, text);
}

int dead_filter_read(struct dead_filter *f, const struct settings *s, int64_t now_ms, struct error *err)
{
    *f = (struct dead_filter){.item = -1};
    if (s->text != NULL && strlen(s->text) >= sizeof(f->reason))
        return error_set(err, ERR_USAGE, 0, "--reason %.80s...: there is no such error class", s->text);
    if (s->key != NULL && strlen(s->key) > LIMIT_KEY)
        return error_set(err, ERR_USAGE, 0, "--key has %zu bytes; no key has more than %d", strlen(s->key), LIMIT_KEY);
    if (s->item != NULL && units_int(s->item, 0, LIMIT_ITEMS - 1, &f->item, err) != 0)
        return error_set(err, ERR_USAGE, 0, "--item %s: an item's number is wanted; --key is for its key", s->item);
    if ((s->since != NULL && dead_filter_time("since", s->since, now_ms, &f->since_ms, err) != 0) ||
        (s->until != NULL && dead_filter_time("until", s->until, now_ms, &f->until_ms, err) != 0))
        return -1;
    snprintf(f->reason, sizeof(f->reason), "%s", s->text ? s->text : "");
    snprintf(f->key, sizeof(f->key), "%s", s->key ? s->key : "");
    return 0;
}

bool dead_filter_all(const struct dead_filter *f)
{
    return f->reason[0] == '\0' && f->item < 0 && f->key[0] == '\0' && f->since_ms == 0 && f->until_ms == 0;
}

static bool same_key(const char *wanted, const char *known)
{
    size_t n = strlen(known);
    return strcmp(wanted, known) == 0 || (n >= KEY_CUT && strlen(wanted) > n && strncmp(wanted, known, n) == 0);
}

bool dead_filter_takes(const struct dead_filter *f, const struct item_failure *x, int64_t time_ms)
{
    return (f->reason[0] == '\0' || strcmp(f->reason, x->reason) == 0) && (f->item < 0 || f->item == x->item) &&
           (f->key[0] == '\0' || same_key(f->key, x->key)) && time_ms >= f->since_ms && (f->until_ms == 0 || time_ms < f->until_ms);
}

doc *dead_filter_to_doc(const struct dead_filter *f)
{
    if (dead_filter_all(f))
        return NULL;
    doc *d = doc_object();
    doc_set_str(d, "reason", f->reason);
    doc_set_int(d, "item", f->item);
    doc_set_str(d, "key", f->key);
    doc_set_int(d, "since_ms", f->since_ms);
    return doc_set_int(d, "until_ms", f->until_ms);
}

void dead_filter_from_doc(struct dead_filter *f, const doc *d)
{
    *f = (struct dead_filter){.item = d ? doc_int(d, "item", -1) : -1};
    if (d == NULL)
        return;
    snprintf(f->reason, sizeof(f->reason), "%s", doc_str(d, "reason", ""));
    snprintf(f->key, sizeof(f->key), "%s", doc_str(d, "key", ""));
    f->since_ms = doc_int(d, "since_ms", 0);
    f->until_ms = doc_int(d, "until_ms", 0);
}
