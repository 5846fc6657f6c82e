#include "tests/sim/check.h"

/* The history of a run: a line for everything that the world saw, with its time. The same seed gives the same lines, byte for byte. */

static struct { struct sim *sim; FILE *out; } to;

void trace_to(struct sim *s, FILE *out)
{
    to.sim = s;
    to.out = out;
}

bool trace_on(void)
{
    return to.out != NULL;
}

void trace(const char *who, const char *fmt, ...)
{
    if (to.out == NULL)
        return;
    int64_t us = to.sim->loop ? loop_now_us(to.sim->loop) - to.sim->began_us : 0;
    fprintf(to.out, "%9" PRId64 ".%06" PRId64 "  %-12s ", us / US_PER_S, us % US_PER_S, who);
    va_list ap;
    va_start(ap, fmt);
    vfprintf(to.out, fmt, ap);
    va_end(ap);
    fputc('\n', to.out);
}

const char *invariant_name(int n)
{
    static const char *const names[INV_COUNT] = {
        [INV_ROWS] = "the target holds what must be there", [INV_COMMIT] = "no commit passes an item that is not done", [INV_EFFECT] = "one effect per cut",
        [INV_PERMITS] = "never more guarded statements than permits", [INV_PROGRESS] = "every run ends within its time", [INV_MEMORY] = "memory stays under its bound",
        [INV_LOUD] = "no run gives up over what it must survive",
        [INV_JOB_ID] = "a job's id has one purpose", [INV_SERVICE] = "BigQuery is asked only what it knows", [INV_CRASH] = "the product's own assertions hold"};
    return n > 0 && n < INV_COUNT ? names[n] : "?";
}

void sim_violated(struct sim *s, int invariant, const char *fmt, ...)
{
    struct report *r = s->report;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(r->text, sizeof(r->text), fmt, ap);
    va_end(ap);
    r->violation = invariant;
    r->virtual_ms = s->loop ? sim_ms(s) : 0;
    trace("VIOLATION", "%d, %s: %s", invariant, invariant_name(invariant), r->text);
    fflush(NULL);
    _Exit(1); /* what is left is of no interest, and may not be in a state to be freed */
}

const char *deed_name(enum deed d)
{
    static const char *const names[DEED_COUNT] = {
        [DEED_KILL] = "kills", [DEED_RESTART] = "restarts", [DEED_PAUSE] = "pauses", [DEED_CUT] = "network cuts", [DEED_EXPEL] = "expulsions", [DEED_SKEW] = "clock jumps",
        [DEED_BROKER] = "brokers away", [DEED_WIDEN] = "partitions added", [DEED_SERVICE] = "faults of BigQuery", [DEED_STEER] = "commands", [DEED_SUBMIT] = "submissions",
        [DEED_REDRIVE] = "redrives", [DEED_DROP] = "staging tables gone", [DEED_CRASH] = "handlers' deaths", [DEED_BAD] = "handlers' bad answers",
        [DEED_REFUSE] = "refusals of credentials", [DEED_STRANGE] = "strange messages", [DEED_LEAVE] = "departures", [DEED_MEDDLE] = "meddlings", [DEED_TAMPER] = "tamperings", [DEED_ERODE] = "logs and queues cut off",
        [DEED_LOOK] = "looks"};
    return names[d];
}

void sim_did(struct sim *s, enum deed d, const char *who, const char *fmt, ...)
{
    s->report->deeds[d]++;
    if (!trace_on())
        return;
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    trace(who, "** %s", text);
}
