#include "tests/sim/check.h"

#include "common/fleet/catalog.h"
#include "common/fleet/envelope.h"
#include "tests/sim/toil.h"
#include "tests/sim/service_odd.h"
#include "worker/ackmap.h"
#include "worker/marks.h"

/* What is seen while a fleet runs: messages, commits, requests, memory. */

struct ledger *check_run(struct check *c, const char *run, size_t len)
{
    struct ledger *l = NULL;
    if (c->last != NULL && strlen(c->last->record->run) == len && memcmp(c->last->record->run, run, len) == 0)
        return c->last;
    HASH_FIND(hh, c->by_run, run, len, l);
    c->last = l ? l : c->last;
    return l;
}

struct ledger *check_run_at(struct check *c, int32_t index)
{
    struct ledger *l = c->ledgers;
    while (l != NULL && l->index != index)
        l = l->next;
    return l;
}

void check_bereft(struct check *c, const char *table)
{
    for (struct ledger *l = c->ledgers; l; l = l->next) {
        AUTO(free_ptr) char *run = xstrdup(l->record->run);
        size_t len = strlen(run);
        for (char *at = run; *at; at++)
            *at = *at == '-' ? '_' : *at;
        l->bereft |= strncmp(table, run, len) == 0 && table[len] == '_';
    }
}

void check_log_gone(struct check *c, int32_t partition, int64_t before)
{
    c->log_lows[partition] = i64_max(c->log_lows[partition], before);
    for (struct ledger *l = c->ledgers; l; l = l->next)
        l->beyond |= l->record->log_partition == partition && l->record->log_offset < before;
}

void check_work_gone(struct check *c, int32_t partition, int64_t before)
{
    struct work_log *w = &c->work[partition];
    for (int64_t at = i64_max(w->passed, w->low); at < before; at++) {
        struct ledger *l = check_run_at(c, w->v[at].run);
        if (l != NULL && (w->v[at].item >= l->owners || l->owner[w->v[at].item] == OWNER_NONE))
            l->robbed = true;
    }
    w->low = i64_max(w->low, before);
}

/* A run that is to take another one over hears from that one's log whether it may. */
bool check_is_beyond(struct check *c, const struct ledger *l)
{
    for (; l != NULL; l = l->record->adopts[0] ? check_run(c, l->record->adopts, strlen(l->record->adopts)) : NULL)
        if (l->beyond)
            return true;
    return false;
}

void check_gone(struct check *c, const char *target)
{
    c->gone = target;
}

bool check_target_gone(const struct check *c, const char *target)
{
    return c->gone != NULL && strcmp(c->gone, target) == 0;
}

/* --- messages ------------------------------------------------------------------------------------------------------------------------------------- */

static void take_record(struct check *c, const void *value, size_t len)
{
    struct sim *s = c->sim;
    struct error err = ERROR_INIT;
    struct record *r = record_parse(value, len, &err);
    assert(r != NULL);
    if (check_run(c, r->run, strlen(r->run)) != NULL) { /* the first one of an id counts */
        record_free(r);
        return;
    }
    struct ledger *l = xcalloc(1, sizeof(*l)), **at = &c->ledgers;
    l->index = c->run_count++;
    l->record = r;
    l->items = -1;
    for (int i = 0; i < s->plan.batch_count; i++)
        if (strncmp(r->batch, s->plan.batches[i].name, strlen(s->plan.batches[i].name)) == 0)
            l->batch = &s->plan.batches[i];
    assert(l->batch != NULL);
    l->beyond = r->log_offset < c->log_lows[r->log_partition]; /* it went between its submitter's look and this */
    while (*at)
        at = &(*at)->next;
    *at = l;
    HASH_ADD_KEYPTR(hh, c->by_run, l->record->run, strlen(l->record->run), l);
}

static void take_end(struct check *c, const char *run, size_t len, const void *value, size_t value_len)
{
    struct ledger *l = check_run(c, run, len);
    struct error err = ERROR_INIT;
    AUTO(doc_free_auto) doc *d = doc_parse(value, value_len, "end", &err);
    if (l == NULL || d == NULL || l->end_told)
        return;
    l->end_told = true;
    l->told_exit = doc_int(d, "exit", -1);
    l->closed = strcmp(doc_str(d, "end", ""), "unknown") == 0;
    if (l->closed)
        return;
    if (l->phase != PHASE_ENDED && l->done == 0)
        l->withdrawn = true;
    else if (l->phase != PHASE_ENDED)
        sim_violated(c->sim, INV_ROWS, "`batches` says that %s has ended, and its log does not", l->record->run);
}

static void take_batches(struct check *c, const struct bus_out *o)
{
    const char *key = o->key;
    if (o->key_len > 4 && memcmp(key, "run/", 4) == 0 && o->value != NULL)
        take_record(c, o->value, o->value_len);
    if (o->key_len > 4 && memcmp(key, "end/", 4) == 0 && o->value != NULL)
        take_end(c, key + 4, o->key_len - 4, o->value, o->value_len);
}

static void note_number(struct ledger *l, int64_t item, int64_t number)
{
    if (item >= l->number_cap) {
        int64_t want = i64_max(64, item * 2);
        l->numbers = xreallocarray(l->numbers, (size_t)want, sizeof(*l->numbers));
        for (int64_t i = l->number_cap; i < want; i++)
            l->numbers[i] = -1;
        l->number_cap = want;
    }
    l->numbers[item] = number;
}

static void add_work(struct work_log *w, int64_t offset, struct work of)
{
    if (offset >= w->cap) {
        w->cap = i64_max(64, offset * 2);
        w->v = xreallocarray(w->v, (size_t)w->cap, sizeof(*w->v));
    }
    assert(offset >= w->count);
    while (w->count < offset) /* no messages */
        w->v[w->count++] = (struct work){.run = -1};
    w->v[w->count++] = of;
}

static void take_work(struct check *c, const struct bus_out *o, int32_t partition, int64_t offset)
{
    struct work_log *w = &c->work[partition];
    struct buf scratch = BUF_INIT(LIMIT_PAYLOAD * 2);
    struct envelope e;
    struct error err = ERROR_INIT;
    int rc = envelope_decode(o->value, o->value_len, &scratch, &e, &err);
    assert(rc == 0);
    (void)rc;
    struct ledger *l = check_run(c, e.run, e.run_len);
    add_work(w, offset, (struct work){.run = l ? l->index : -1, .item = e.item});
    if (l == NULL)
        sim_violated(c->sim, INV_ROWS, "an item of %.*s is published before its record", (int)e.run_len, e.run);
    char key[32];
    snprintf(key, sizeof(key), "%.*s", (int)e.key_len, e.key);
    note_number(l, e.item, strtol(key + 1, NULL, 10));
    c->sim->report->items++;
    buf_free(&scratch);
}

static void take_log(struct check *c, const struct bus_out *o, int64_t offset)
{
    struct log_msg m;
    struct logmsg_memory *memory;
    struct error err = ERROR_INIT;
    struct ledger *l = check_run(c, o->key, o->key_len);
    int rc = logmsg_decode(o->value, o->value_len, &m, &memory, &err);
    if (rc != 0 || l == NULL)
        sim_violated(c->sim, INV_ROWS, "a message in the log of %.*s: %s", (int)o->key_len, (const char *)o->key, rc ? err.text : "its record is not there");
    enum ledger_phase before = l->phase;
    ledger_apply(c, l, &m, offset);
    if (trace_on())
        trace("log", "%s %" PRId64 ": %s by %s: cut %" PRId64 " %s%s load %s (%zu ranges, %zu empty, %zu failed)%s%s", l->record->run, offset, log_type_name(m.type), m.by ? m.by : "?",
              m.cut, m.shard ? m.shard : "", m.type == LOGM_OUTCOME ? (m.ok ? " ok" : " failed") : "", m.type == LOGM_MANIFEST ? m.manifest.load : "",
              m.manifest.range_count, m.manifest.empty_count, m.manifest.failure_count, m.text ? " " : "", m.text ? m.text : "");
    if (before != l->phase)
        trace("log", "%s: phase %d, %" PRId64 " of %" PRId64 " done, %" PRId64 " failed", l->record->run, l->phase, l->done, l->items, l->failed);
    for (size_t i = 0; m.type == LOGM_MANIFEST && i < m.manifest.failure_count; i++)
        if (strncmp(m.manifest.failures[i].text, "it killed its worker ", 21) == 0)
            poison_convicted(c->sim, l, m.manifest.failures[i].item);
    stranger_heard(o);
    erosion_heard(l, &m);
    logmsg_free(memory);
}

/* An item that its seal does not know. */
static bool names_more(const struct ledger *l, const struct manifest *m)
{
    return l->phase != PHASE_PUBLISHING && m->empty_count > 0 && m->empty[m->empty_count - 1].first + m->empty[m->empty_count - 1].count > l->items;
}

void check_stray(struct check *c, const struct bus_out *o, int32_t partition, int64_t offset)
{
    const char *topic = o->topic + strlen(SIM_PREFIX);
    struct log_msg m;
    struct logmsg_memory *memory;
    struct error err = ERROR_INIT;
    if (strncmp(topic, "work.", 5) == 0)
        add_work(&c->work[partition], offset, (struct work){.run = -1});
    if (strcmp(topic, "results") == 0)
        c->log_ends[partition] = offset + 1;
    struct ledger *l = strcmp(topic, "results") == 0 && o->value != NULL ? check_run(c, o->key, o->key_len) : NULL;
    if (l == NULL || logmsg_decode(o->value, o->value_len, &m, &memory, &err) != 0)
        return;
    if ((m.type == LOGM_SEAL && l->phase == PHASE_PUBLISHING) || (m.type == LOGM_MANIFEST && names_more(l, &m.manifest)))
        l->contradicted = true;
    else
        ledger_apply(c, l, &m, offset);
    logmsg_free(memory);
}

/* It is a word of that process. */
static struct check *check_of(void *arg)
{
    struct proc *p = arg;
    proc_word(p);
    return p->sim->check;
}

static void on_acked(void *arg, const struct bus_out *o, int32_t partition, int64_t offset)
{
    struct check *c = check_of(arg);
    const char *topic = o->topic + strlen(SIM_PREFIX);
    if (strcmp(topic, "results") == 0) {
        c->log_ends[partition] = offset + 1;
        take_log(c, o, offset);
    }
    if (strncmp(topic, "work.", 5) == 0)
        take_work(c, o, partition, offset);
    else if (strcmp(topic, "batches") == 0)
        take_batches(c, o);
}

/* --- commits -------------------------------------------------------------------------------------------------------------------------------------- */

static void must_be_done(struct check *c, int32_t partition, int64_t at, const char *how)
{
    const struct work *w = &c->work[partition].v[at];
    const struct ledger *l = w->run >= 0 ? check_run_at(c, w->run) : NULL;
    if (l == NULL || !ledger_open(l) || at < c->work[partition].low /* deleted: nobody can do it any more */ || (w->item < l->owners && l->owner[w->item] != OWNER_NONE))
        return;
    sim_violated(c->sim, INV_COMMIT, "%s of work %d: offset %" PRId64 " carries item %" PRId64 " of %s, which is not done and whose run is open", how, partition, at, w->item,
                 l->record->run);
}

static void on_committed(void *arg, const char *topic, const struct bus_commit *commit)
{
    struct check *c = check_of(arg);
    struct work_log *w = &c->work[commit->partition];
    struct marks marks;
    struct error err = ERROR_INIT;
    (void)topic;
    marks_init(&marks);
    c->commits++;
    if (commit->offset > w->count)
        sim_violated(c->sim, INV_COMMIT, "work %d has %" PRId64 " messages, and %" PRId64 " is committed", commit->partition, w->count, commit->offset);
    for (int64_t at = w->passed; at < commit->offset; at++)
        must_be_done(c, commit->partition, at, "a commit");
    w->passed = i64_max(w->passed, commit->offset);
    if (commit->metadata != NULL && commit->metadata[0] != '\0') {
        struct ackmap *map = ackmap_new(commit->offset);
        if (ackmap_load(map, commit->metadata, &marks, &err) != 0)
            sim_violated(c->sim, INV_COMMIT, "a commit of work %d with metadata that makes no sense: %s", commit->partition, err.text);
        for (int64_t at = commit->offset; at < w->count; at++)
            if (ackmap_is_done(map, at))
                must_be_done(c, commit->partition, at, "the metadata of a commit");
        int64_t alone = marks.alone >= commit->offset && marks.alone < w->count ? marks.alone : -1;
        poison_named(arg, commit->partition, alone < 0 ? -1 : w->v[alone].run, alone < 0 ? -1 : w->v[alone].item);
        ackmap_free(map);
    }
}

/* --- requests ------------------------------------------------------------------------------------------------------------------------------------- */

static uint64_t digest(uint64_t h, const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)p[i]) * UINT64_C(1099511628211);
    return h;
}

/* Of a job's resource, without what differs for a good reason: the permit, and the border between parts. */
static uint64_t digest_job(const char *body, size_t len)
{
    static const char permit[] = "\"permit_", value[] = "\"parameterValue\":{\"value\":\"";
    uint64_t h = UINT64_C(14695981039346656037);
    const char *end = body + len, *at = memchr(body, '{', len);
    for (at = at ? at : body; at < end;) {
        const char *p = memmem(at, (size_t)(end - at), permit, sizeof(permit) - 1);
        const char *v = p ? memmem(p, (size_t)(end - p), value, sizeof(value) - 1) : NULL;
        const char *stop = v ? v + sizeof(value) - 1 : end;
        h = digest(h, at, (size_t)(stop - at));
        const char *quote = v ? memchr(stop, '"', (size_t)(end - stop)) : NULL;
        at = quote ? quote : end;
    }
    return h;
}

/* What the job does: its configuration. Of a multipart body that is the first part: what it loads is told by its label. Where it runs is part of what it is called. */
static void find_purpose(const char *id, size_t id_len, const char **body, size_t *len)
{
    static const char name[] = "\"configuration\"", border[] = "\r\n--", params[] = "\"queryParameters\"";
    const char *from = memmem(*body, *len, name, sizeof(name) - 1);
    size_t n = from ? *len - (size_t)(from - *body) : *len;
    from = from ? from : *body;
    const char *end = (*body)[0] == '-' ? memmem(from, n, border, sizeof(border) - 1) : NULL;
    /* All who see a permit's row free ask under one id, made of its token: they differ in who they are, and one of them gets it. */
    if (id_len > 20 && memcmp(id, "bqfleet_permit_take_", 20) == 0)
        end = memmem(from, n, params, sizeof(params) - 1);
    *body = from;
    *len = end ? (size_t)(end - from) : n;
}

static void take_job(struct check *c, const char *id, size_t id_len, const char *body, size_t len)
{
    struct purpose *p = NULL;
    bool gives_up = memmem(body, len, "\"giveup\"", 8) != NULL;
    find_purpose(id, id_len, &body, &len);
    uint64_t now = digest_job(body, len);
    HASH_FIND(hh, c->purposes, id, id_len, p);
    if (p == NULL) {
        p = xcalloc(1, sizeof(*p));
        *p = (struct purpose){.id = xstrndup(id, id_len), .digest = now, .gives_up = gives_up};
        HASH_ADD_KEYPTR(hh, c->purposes, p->id, id_len, p);
        return;
    }
    if (p->gives_up || gives_up) { /* whichever comes first is what the id stands for */
        if (!gives_up) {
            p->gives_up = false;
            p->digest = now;
        }
        return;
    }
    if (p->digest != now)
        sim_violated(c->sim, INV_JOB_ID, "job %s is asked for a second time as something else: %.900s", p->id, body);
}

static void on_requested(void *arg, const struct http_request *r)
{
    static const char name[] = "\"jobId\":\"";
    struct check *c = check_of(arg);
    if (trace_on())
        trace(((struct proc *)arg)->name, "%s %s", r->method, r->url);
    tamper_asked(arg, r);
    if (strcmp(r->method, "POST") != 0 || r->body_count == 0 || strstr(r->url, "/jobs") == NULL)
        return;
    const char *body = r->body->data, *id = memmem(body, r->body->len, name, sizeof(name) - 1);
    if (id == NULL)
        return;
    id += sizeof(name) - 1;
    const char *end = memchr(id, '"', r->body->len - (size_t)(id - body));
    take_job(c, id, (size_t)(end - id), body, r->body->len);
    meddler_asked(arg, id);
    service_odd_requested(c->sim, id, (size_t)(end - id), body, r->body->len);
    static const char *const writes[] = {"bqfleet_cut_", "bqfleet_direct_"};
    for (size_t i = 0; i < ARRAY_LEN(writes); i++)
        if (strncmp(id, writes[i], strlen(writes[i])) == 0)
            chaos_wrote(arg, writes[i]);
}

/* If that was the one by which it gives a partition up, it is as good as dead to whoever gets that next. */
static void on_refused(void *arg)
{
    poison_harm(arg);
}

void check_observe(struct proc *p, struct sleeper *sleeper)
{
    static const struct sleeper_observer all = {.acked = on_acked, .committed = on_committed, .refused = on_refused, .requested = on_requested};
    sleeper_observe(sleeper, &all, p);
}

/* --- now and then ------------------------------------------------------------------------------------------------------------------------------------ */

/* Rows that came in one piece while the buffer was not yet full: a line of each handler at once. */
static void check_memory(struct sim *s, const struct proc *p)
{
    struct worker_state state;
    int64_t slack = 1 << 20;
    for (int i = 0; i < s->plan.batch_count; i++)
        slack = i64_max(slack, (1 << 20) + 2 * s->plan.parallel * (s->plan.batches[i].big + 65536));
    worker_state(p->worker, &state);
    if (state.buffered > s->plan.buffer + slack)
        sim_violated(s, INV_MEMORY, "%s holds %" PRId64 " bytes of rows; its buffer has %" PRId64 ", and %" PRId64 " may be beside it", p->name, state.buffered,
                     s->plan.buffer, slack);
}

void check_tick(struct sim *s)
{
    for (int i = 0; i < s->plan.workers; i++)
        if (proc_lives(&s->workers[i]) && s->workers[i].worker)
            check_memory(s, &s->workers[i]);
    const char *unknown = bqmodel_unknown_statement(s->model), *wrong = bqmodel_violation(s->model);
    if (unknown || wrong)
        sim_violated(s, INV_SERVICE, "%s", unknown ? unknown : wrong);
}

bool check_settled(const struct check *c, char *what, size_t size)
{
    static const char *const phases[] = {"publishing", "working", "held", "ended"};
    for (const struct ledger *l = c->ledgers; l; l = l->next)
        if (!ledger_settled(l) || !l->end_told) {
            snprintf(what, size, "%s (%s): %" PRId64 " of %" PRId64 " items done, %" PRId64 " failed, %zu cuts%s", l->record->run, phases[l->phase], l->done, l->items, l->failed,
                     l->cut_count, ledger_settled(l) ? ", its end is not in `batches`" : "");
            return false;
        }
    for (int p = 0; p < SIM_PARTITIONS; p++)
        if (i64_max(c->work[p].passed, c->work[p].low) < c->work[p].count) {
            snprintf(what, size, "work partition %d, committed to %" PRId64 " of %" PRId64, p, c->work[p].passed, c->work[p].count);
            return false;
        }
    return true;
}

void check_open(struct sim *s)
{
    s->check = xcalloc(1, sizeof(*s->check));
    s->check->sim = s;
}

void check_close(struct sim *s)
{
    struct check *c = s->check;
    struct purpose *p, *tmp;
    HASH_ITER(hh, c->purposes, p, tmp) {
        HASH_DEL(c->purposes, p);
        free(p->id);
        free(p);
    }
    struct ledger *l;
    while ((l = c->ledgers) != NULL) {
        c->ledgers = l->next;
        HASH_DEL(c->by_run, l);
        ledger_free(l);
    }
    for (int i = 0; i < SIM_PARTITIONS; i++)
        free(c->work[i].v);
    free(c);
}
