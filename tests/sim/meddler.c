#include "tests/sim/check.h"

#include <openssl/evp.h>
#include <zstd.h>

#include "common/fleet/wire.h"
#include "tests/sim/dice.h"
#include "tests/sim/toil.h"

/*
 * People and services that a worker meets. Somebody sets the offsets of its queue with Kafka's own tool while nobody is there, or overwrites what commits carry beside them;
 * another process has a member's name; a worker may not write where it must, or its credentials are refused altogether; tables cannot be made for a while, or not dropped;
 * somebody writes into a staging table; a load counts otherwise; a queue has offsets that are no messages.
 */
static struct meddler {
    struct sim *sim;
    struct rnd rnd;
    struct timer *timer, *soon;
    struct proc *asked; int lives; /* who is denied what it says next of the statement it has asked for */
    struct bus_group *tool;
    int how;                 /* what the tool does */
    bool unfit, miscounted, walled;  /* a worker's credentials were refused; a load counted otherwise */
    int64_t gaps;
} meddler;

#define WORK SIM_PREFIX "work." SIM_QUEUE

static double real(void)
{
    return rnd_real(&meddler.rnd);
}

static int64_t below(int64_t n)
{
    return (int64_t)rnd_below(&meddler.rnd, (uint64_t)n);
}

static int64_t spread_ms(int64_t from, int64_t to)
{
    return dice_spread(&meddler.rnd, from, to);
}

/* --- offsets --------------------------------------------------------------------------------------------------------------------------------------------------- */

enum { TOOL_CURRENT, TOOL_BACK, TOOL_FORWARD, TOOL_JUNK, TOOL_KINDS };

/* As ackmap.c packs them: a digit, and in base64 what zstd makes of the fields. */
static void pack_fields(const struct buf *fields, size_t cut, char *out)
{
    unsigned char packed[2048], text[3000];
    size_t n = ZSTD_compress(packed, sizeof(packed), fields->data, fields->len, 3);
    assert(!ZSTD_isError(n) && n > cut);
    EVP_EncodeBlock(text, packed, (int)(n - cut));
    snprintf(out, 4000, "1%s", (const char *)text);
}

static void junk_fields(char *out)
{
    struct buf fields = BUF_INIT(2000), runs = BUF_INIT(200);
    switch (below(6)) {
    case 0: /* more is done than a partition has */
        wire_varint(&runs, 1);
        wire_varint(&runs, below(2) ? (uint64_t)LIMIT_ACK_SPAN : UINT64_MAX / 2);
        wire_put_bytes(&fields, 1, runs.data, runs.len);
        break;
    case 1: wire_put_bytes(&fields, 1, "\xff\xff", 2); break;
    case 2: wire_put_int(&fields, 1, 5); break;                                  /* lengths that are a number */
    case 3: wire_put_int(&fields, 3, -below(2) - 1); break;                      /* fewer than no workers died */
    case 4: wire_put_bytes(&fields, 2, "a name that is much too long for it", 35); break;
    default:
        wire_put_bytes(&fields, 1, "\x01", 1);
        fields.len--;
    }
    wire_put_int(&fields, 99, 1);
    if (below(2))
        buf_xputs(&fields, "\x0a\x7f");
    pack_fields(&fields, below(4) == 0 ? 1 : 0, out);
    buf_free(&fields);
    buf_free(&runs);
}

static void junk(char out[4000])
{
    static const char *const texts[] = {"somebody's note", "2AAAA", "1", "1abc", "1!!!!", "1QUJDREVG", "1====", "{\"checkpoint\":7}"};
    if (real() < .5)
        snprintf(out, 4000, "%s", texts[below(ARRAY_LEN(texts))]);
    else
        junk_fields(out);
}

static int64_t set_forward(int32_t partition, int64_t committed)
{
    const struct work_log *w = &meddler.sim->check->work[partition];
    int64_t to = committed + 1 + below(w->count - committed);
    check_work_gone(meddler.sim->check, partition, to); /* nobody will get what is passed over */
    return to;
}

static void on_assigned(void *arg, int32_t partition, int64_t committed, const char *metadata)
{
    static const char *const names[] = {"as it is", "back", "forward", "as it is, with metadata"};
    struct work_log *w = &meddler.sim->check->work[partition];
    char text[4000] = "";
    int64_t to = committed;
    (void)arg, (void)metadata;
    if (committed < 0 || (meddler.how == TOOL_FORWARD && committed >= w->count))
        return;
    if (meddler.how == TOOL_BACK)
        to = below(committed + 1);
    else if (meddler.how == TOOL_FORWARD)
        to = set_forward(partition, committed);
    else if (meddler.how == TOOL_JUNK)
        junk(text);
    sim_did(meddler.sim, DEED_MEDDLE, "tool", "sets the offset of work %d from %" PRId64 " to %" PRId64 " (%s) %.60s", partition, committed, to, names[meddler.how], text);
    bus_group_commit(meddler.tool, &(struct bus_commit){.partition = partition, .offset = to, .metadata = text}, 1, NULL, NULL);
}

static void on_revoked(void *arg, int32_t partition, bool lost)
{
    (void)arg, (void)partition, (void)lost;
}

static void on_message(void *arg, const struct bus_msg *m)
{
    (void)arg, (void)m;
}

static void on_left(void *arg)
{
    leaver_reopen(arg);
}

static void put_away(void)
{
    struct bus_group *tool = meddler.tool;
    meddler.tool = NULL;
    if (tool != NULL)
        bus_group_leave(tool, true, on_left, meddler.sim);
}

static void on_settled(void *arg)
{
    (void)arg;
    put_away();
}

static void on_cleared(struct sim *s)
{
    static const struct bus_group_events events = {.assigned = on_assigned, .revoked = on_revoked, .message = on_message, .settled = on_settled};
    struct error err = ERROR_INIT;
    meddler.tool = bus_join(s->bus, &(struct bus_group_config){.group = SIM_PREFIX "workers." SIM_QUEUE, .topic = WORK}, &events, s, &err);
    assert(meddler.tool != NULL);
    bus_group_pause(meddler.tool);
}

/* The tool wants a group without members: the whole fleet goes, and comes again. */
static void set_offsets(void)
{
    struct sim *s = meddler.sim;
    if (meddler.tool != NULL || leaver_is_shut())
        return;
    meddler.how = (int)below(TOOL_KINDS + 2);
    meddler.how = meddler.how >= TOOL_KINDS ? TOOL_JUNK : meddler.how;
    sim_did(s, DEED_MEDDLE, "operator", "takes all workers away");
    leaver_clear(s, on_cleared);
}

/* --- the bus ------------------------------------------------------------------------------------------------------------------------------------------------------ */

static struct proc *any_worker(void)
{
    struct proc *p = &meddler.sim->workers[below(meddler.sim->plan.workers)];
    return proc_lives(p) && p->worker != NULL && !p->paused && p->again_us == 0 && !p->failed ? p : NULL;
}

static void fence(void)
{
    struct proc *p = any_worker();
    if (p == NULL)
        return;
    sim_did(meddler.sim, DEED_MEDDLE, p->name, "is fenced: another process has its name");
    poison_harm(p);
    sleeper_fence(p->sleeper);
}

static void cut(unsigned way, int64_t ms, const char *what)
{
    struct proc *p = any_worker();
    if (p == NULL)
        return;
    sim_did(meddler.sim, DEED_REFUSE, p->name, "%s for %" PRId64 " ms", what, ms);
    proc_cut(p, way, ms);
}

static void deny_topics(void)
{
    cut(CUT_TOPICS, spread_ms(50, 20000), "may not write into logs");
}

static void blind(void)
{
    cut(below(3) ? CUT_READS : CUT_LOG, spread_ms(2000, 60000), "may not read logs");
}

static void on_soon(void *arg)
{
    struct proc *p = meddler.asked;
    (void)arg;
    if (!proc_lives(p) || p->lives != meddler.lives || p->paused || p->again_us != 0 || meddler.sim->calm)
        return;
    bool reads = below(4) == 0;
    int64_t ms = spread_ms(500, 30000);
    sim_did(meddler.sim, DEED_REFUSE, p->name, "may not %s logs for %" PRId64 " ms", reads ? "read" : "write into", ms);
    proc_cut(p, reads ? CUT_READS : CUT_TOPICS, ms);
}

void meddler_asked(struct proc *p, const char *id)
{
    bool matters = strncmp(id, "bqfleet_direct_", 15) == 0 || strncmp(id, "bqfleet_permit_take", 19) == 0;
    if (meddler.timer == NULL || meddler.sim->toil.rates[TOIL_DENY] <= 0 || p->kind != PROC_WORKER || !matters || timer_is_set(meddler.soon) || real() > .1)
        return;
    meddler.asked = p;
    meddler.lives = p->lives;
    timer_set(meddler.soon, 0);
}

/* Entries of failed items pile up. */
static void strain(void)
{
    cut(CUT_BUS_OUT, spread_ms(3000, 20000), "reaches no broker");
}

/* Offsets of markers, and of messages whose transaction was aborted. */
static void leave_gap(void)
{
    struct sim *s = meddler.sim;
    int32_t partition = (int32_t)below(s->plan.partitions);
    int64_t count = real() < .3 ? 1 + below(200) : 3000 + below(6000);
    if (meddler.gaps + count > 60000)
        return;
    meddler.gaps += count;
    sim_did(s, DEED_MEDDLE, "stranger", "leaves %" PRId64 " offsets without a message in work %d", count, partition);
    bus_memory_skip(s->bus, WORK, partition, count);
}

/* --- BigQuery -------------------------------------------------------------------------------------------------------------------------------------------------------- */

static void fault(const struct bqmodel_fault *f, const char *what)
{
    sim_did(meddler.sim, DEED_SERVICE, "service", "%s", what);
    bqmodel_fault(meddler.sim->model, f);
}

static void no_tables(void)
{
    static const char path[] = "POST /bigquery/v2/projects/local/datasets/ds/tables";
    if (meddler.sim->toil.outage)
        fault(&(struct bqmodel_fault){.match = path, .kind = BQMODEL_STATUS, .status = 503, .times = -1}, "makes no tables any more");
    else if (below(3) == 0)
        fault(&(struct bqmodel_fault){.match = path, .kind = BQMODEL_STATUS, .status = 403, .reason = "quotaExceeded", .message = "Quota exceeded: tables",
                                      .times = 1 + (int)below(4)}, "has a quota of tables");
    else if (below(2))
        fault(&(struct bqmodel_fault){.match = path, .kind = BQMODEL_STATUS, .status = 503, .times = 4 + (int)below(30)},
              "makes no tables for a while");
    else
        fault(&(struct bqmodel_fault){.match = path, .kind = BQMODEL_LOSE_REPLY, .times = 1 + (int)below(3)},
              "makes tables and does not say so");
}

static void no_drops(void)
{
    fault(&(struct bqmodel_fault){.match = "DELETE /bigquery/v2/projects/local/datasets/ds/tables", .kind = BQMODEL_STATUS, .status = 403, .reason = "accessDenied",
                                  .message = "Access Denied: bigquery.tables.delete", .times = 1 + (int)below(20)}, "refuses to drop tables");
}

/* Loads fail again and again, or none is taken for a while: who waits for that asks again half an hour later at worst. */
static void hold_loads(void)
{
    struct sim *s = meddler.sim;
    int64_t now = loop_now_us(s->loop), ms = spread_ms(1000, 60000);
    if (below(2)) {
        fault(&(struct bqmodel_fault){.match = "bqfleet_load", .kind = BQMODEL_JOB_ERROR, .reason = "backendError", .message = "Backend error.", .times = 10 + (int)below(20)},
              "fails loads");
        return;
    }
    sim_did(s, DEED_SERVICE, "service", "takes no loads for %" PRId64 " ms", ms);
    bqmodel_wall(s->model, BQMODEL_WALL_LOADS, now, now + ms * US_PER_MS);
    s->slowed_ms += meddler.walled ? 0 : 4 * 1800000;
    meddler.walled = true;
}

/* All that it asks. It may then end each run that it works for: that is told in the words of the refusal. */
static void make_unfit(void)
{
    meddler.unfit = true;
    cut(below(2) ? CUT_UNKNOWN : CUT_DENIED, spread_ms(200, 20000), "has its credentials refused");
}

static void miscount(void)
{
    meddler.miscounted = true;
    fault(&(struct bqmodel_fault){.match = "bqfleet_load", .kind = BQMODEL_JOB_MISCOUNT, .bytes = below(2) ? 1 : -1}, "counts a row of a load more or less than there is");
}

/* A row of a staging table a second time, as somebody's repaired export would bring it: the run may not be written from there. Of another load than any: nobody looks at it. */
static void write_into_staging(void)
{
    static const char staging[] = "local.ds.bqf_";
    struct sim *s = meddler.sim;
    AUTO(doc_free_auto) doc *all = bqmodel_tables(s->model);
    const char *found = NULL;
    int64_t count = 0;
    for (size_t i = 0; i < doc_len(all); i++) {
        const char *name = doc_str(doc_at(all, i), NULL, "");
        if (strncmp(name, staging, sizeof(staging) - 1) == 0 && bqmodel_count(s->model, name) > 0 && below(++count) == 0)
            found = name;
    }
    if (found == NULL)
        return;
    AUTO(doc_free_auto) doc *rows = bqmodel_rows(s->model, found);
    if (doc_get(doc_at(rows, 0), "bqfleet_load") == NULL) /* a list of exclusions, or of loads */
        return;
    AUTO(doc_free_auto) doc *one = doc_add(doc_array(), doc_copy(doc_at(rows, (size_t)below((int64_t)doc_len(rows)))));
    bool foreign = real() < .5;
    if (foreign)
        doc_set_str((doc *)(uintptr_t)doc_at(one, 0), "bqfleet_load", "nobodys_load");
    else
        check_bereft(s->check, found + sizeof(staging) - 1);
    AUTO(free_ptr) char *text = doc_text(one);
    sim_did(s, DEED_MEDDLE, "somebody", "writes a row of %s load into %s", foreign ? "no" : "its", found);
    bqmodel_insert(s->model, found, text);
}

bool meddler_excuses(const struct sim *s, const struct ledger *l)
{
    (void)s;
    bool fatal = l->ended_by == LOGM_FATAL && !l->failed_end;
    bool refused = strstr(l->why, "Access Denied: the simulation says so") != NULL || strstr(l->why, "Invalid Credentials") != NULL;
    return fatal && ((meddler.unfit && refused) || (meddler.miscounted && strstr(l->why, ": BigQuery counts ") != NULL));
}

/* --- when -------------------------------------------------------------------------------------------------------------------------------------------------------------- */

static void (*const deeds[])(void) = {[TOIL_OFFSETS] = set_offsets, [TOIL_FENCE] = fence, [TOIL_DENY] = deny_topics, [TOIL_BLIND] = blind, [TOIL_STRAIN] = strain,
                                      [TOIL_GAP] = leave_gap, [TOIL_NO_TABLES] = no_tables, [TOIL_NO_DROPS] = no_drops, [TOIL_UNFIT] = make_unfit,
                                      [TOIL_MISCOUNT] = miscount, [TOIL_STAGING] = write_into_staging, [TOIL_LOADS] = hold_loads};
_Static_assert(ARRAY_LEN(deeds) == TOILS, "a rate for each");

static void again(void)
{
    dice_again(meddler.timer, &meddler.rnd, dice_sum(meddler.sim->toil.rates, TOILS));
}

static void on_step(void *arg)
{
    (void)arg;
    size_t what = dice_pick(&meddler.rnd, meddler.sim->toil.rates, TOILS);
    deeds[what]();
    again();
}

void meddler_open(struct sim *s)
{
    memset(&meddler, 0, sizeof(meddler));
    meddler.sim = s;
    rnd_seeded(&meddler.rnd, s->plan.seed ^ UINT64_C(0x1d8e4e27c47d124f));
    if (dice_sum(s->toil.rates, TOILS) <= 0)
        return;
    meddler.timer = timer_new(s->loop, on_step, NULL);
    meddler.soon = timer_new(s->loop, on_soon, NULL);
    if (s->toil.late_topic)
        timer_set(meddler.timer, 10 * US_PER_S);
    else
        again();
}

void meddler_calm(void)
{
    timer_free(meddler.timer);
    timer_free(meddler.soon);
    meddler.timer = meddler.soon = NULL;
}

void meddler_close(void)
{
    meddler_calm();
}
