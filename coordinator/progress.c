#include "coordinator/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include "common/base/doc.h"
#include "common/base/log.h"
#include "common/base/units.h"

enum { DRAW_EVERY_MS = 100, PLAIN_EVERY_MS = 10000, PLAIN_LOOK_MS = 250, RATE_WINDOW_MS = 10000, RATE_POINTS = 20 };
enum mode { MODE_DRAWN, MODE_PLAIN, MODE_JSON, MODE_NONE };

struct progress {
    struct loop *loop;
    enum mode mode;
    bool colour;
    struct timer *timer;
    void (*view)(void *, struct progress_view *);
    void *arg;
    bool drawn;                  /* a line of ours is on the terminal */
    char last[512];              /* what it says */
    int64_t said_us;
    char said_phase[64], said_waits[320];
    struct { int64_t us, done; } points[RATE_POINTS]; /* a ring, for the rate */
    size_t first, count;
};

/* --- the line ------------------------------------------------------------------------------------------------------------------------------ */

static void bar(const struct progress_view *v, int width, char *out, size_t size)
{
    int full = v->total > 0 ? (int)((double)v->done / (double)v->total * width) : 0;
    size_t at = 0;
    for (int i = 0; i < width && at + 1 < size; i++)
        out[at++] = i < full ? '=' : i == full ? '>' : ' ';
    out[at] = '\0';
}

static void put_left(const struct progress_view *v, double rate, char *out, size_t size)
{
    char time[32];
    if (rate > 0 && v->total > v->done && v->total > 0)
        snprintf(out, size, ", %s left", units_show_ms((int64_t)((double)(v->total - v->done) / rate * 1000), time, sizeof(time)));
}

const char *progress_line(const struct progress_view *v, double rate, int columns, char *out, size_t size)
{
    char done[32], total[32] = "?", speed[48] = "", left[64] = "", failed[48] = "", flight[96] = "", gauge[32] = "", waits[340] = "";
    units_show_count(v->done, done, sizeof(done));
    if (v->total >= 0)
        units_show_count(v->total, total, sizeof(total));
    if (rate > 0)
        snprintf(speed, sizeof(speed), rate < 10 ? ", %.1f/s" : ", %.0f/s", rate);
    put_left(v, rate, left, sizeof(left));
    if (v->failed > 0)
        snprintf(failed, sizeof(failed), ", %" PRId64 " failed", v->failed);
    if (v->in_flight > 0)
        snprintf(flight, sizeof(flight), ", %" PRId64 " in flight", v->in_flight);
    if (v->cap > 0)
        snprintf(flight + strlen(flight), sizeof(flight) - strlen(flight), ", at most %" PRId64 " at once", v->cap);
    if (v->total > 0 && columns >= 60) {
        char cells[24];
        bar(v, 20, cells, sizeof(cells));
        snprintf(gauge, sizeof(gauge), " [%s]", cells);
    }
    if (v->waits_for[0])
        snprintf(waits, sizeof(waits), "; waits for %s", v->waits_for);
    int n = snprintf(out, size, "%s: %s%s %s/%s%s%s%s%s%s", v->label, v->phase, gauge, done, total, speed, left, failed, flight, waits);
    if (n > columns && columns >= 4 && (size_t)columns < size) {
        size_t cut = (size_t)columns - 3;
        while (cut > 0 && ((unsigned char)out[cut] & 0xC0) == 0x80) /* not inside a character */
            cut--;
        memcpy(out + cut, "...", 4);
    }
    return out;
}

/* --- the rate -------------------------------------------------------------------------------------------------------------------------------- */

static double rate_of(struct progress *p, int64_t done)
{
    int64_t now = loop_now_us(p->loop);
    size_t last = (p->first + p->count + RATE_POINTS - 1) % RATE_POINTS;
    if (p->count == 0 || now - p->points[last].us >= RATE_WINDOW_MS * US_PER_MS / RATE_POINTS) {
        if (p->count == RATE_POINTS) {
            p->first = (p->first + 1) % RATE_POINTS;
            p->count--;
        }
        size_t at = (p->first + p->count++) % RATE_POINTS;
        p->points[at].us = now;
        p->points[at].done = done;
    }
    int64_t us = now - p->points[p->first].us, items = done - p->points[p->first].done;
    return us > US_PER_S / 2 && items > 0 ? (double)items / ((double)us / (double)US_PER_S) : 0;
}

/* --- the terminal ------------------------------------------------------------------------------------------------------------------------------ */

static int columns(void)
{
    struct winsize w;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 10 ? w.ws_col : 80;
}

static void wipe(void *arg)
{
    struct progress *p = arg;
    if (p->drawn)
        fputs("\r\033[K", stderr);
    p->drawn = false;
}

static void draw(void *arg)
{
    struct progress *p = arg;
    if (p->last[0] == '\0')
        return;
    if (p->colour)
        fprintf(stderr, "\r\033[K\033[36m%s\033[0m", p->last);
    else
        fprintf(stderr, "\r\033[K%s", p->last);
    fflush(stderr);
    p->drawn = true;
}

static void say_json(const struct progress_view *v, double rate)
{
    AUTO(doc_free_auto) doc *d = doc_object();
    doc_set_str(d, "batch", v->label);
    doc_set_str(d, "phase", v->phase);
    doc_set_int(d, "done", v->done);
    doc_set(d, "total", v->total >= 0 ? doc_integer(v->total) : doc_null());
    doc_set_int(d, "failed", v->failed);
    doc_set(d, "in_flight", v->in_flight >= 0 ? doc_integer(v->in_flight) : doc_null());
    doc_set(d, "parallel", v->cap > 0 ? doc_integer(v->cap) : doc_null());
    doc_set(d, "rate", doc_number(rate));
    doc_set_str(d, "waits_for", v->waits_for);
    AUTO(free_ptr) char *text = doc_text(d);
    fprintf(stderr, "%s\n", text);
}

static void turn(void *arg)
{
    struct progress *p = arg;
    struct progress_view v = {.label = "", .phase = "", .total = -1, .in_flight = -1};
    p->view(p->arg, &v);
    double rate = rate_of(p, v.done);
    int64_t now = loop_now_us(p->loop);
    if (p->mode == MODE_DRAWN) {
        progress_line(&v, rate, columns() - 1, p->last, sizeof(p->last));
        draw(p);
        timer_set(p->timer, DRAW_EVERY_MS * US_PER_MS);
        return;
    }
    bool news = strcmp(p->said_phase, v.phase) != 0 || (v.waits_for[0] && p->said_waits[0] == '\0');
    if (news || now - p->said_us >= PLAIN_EVERY_MS * US_PER_MS) {
        p->said_us = now;
        snprintf(p->said_phase, sizeof(p->said_phase), "%s", v.phase);
        snprintf(p->said_waits, sizeof(p->said_waits), "%s", v.waits_for);
        if (p->mode == MODE_JSON)
            say_json(&v, rate);
        else
            fprintf(stderr, "%s\n", progress_line(&v, rate, (int)sizeof(p->last) - 1, p->last, sizeof(p->last)));
    }
    timer_set(p->timer, PLAIN_LOOK_MS * US_PER_MS);
}

static enum mode mode_of(const char *mode, const char *(*env)(const char *))
{
    if (mode != NULL && strcmp(mode, "none") == 0)
        return MODE_NONE;
    if (mode != NULL && strcmp(mode, "json") == 0)
        return MODE_JSON;
    const char *term = env("TERM");
    bool drawn = isatty(STDERR_FILENO) && term != NULL && strcmp(term, "dumb") != 0;
    return (mode == NULL || strcmp(mode, "auto") == 0) && drawn ? MODE_DRAWN : MODE_PLAIN;
}

struct progress *progress_start(struct loop *loop, const char *mode, const char *(*env)(const char *), void (*view)(void *, struct progress_view *), void *arg)
{
    enum mode m = mode_of(mode, env);
    if (m == MODE_NONE)
        return NULL;
    struct progress *p = xcalloc(1, sizeof(*p));
    const char *no_color = env("NO_COLOR");
    *p = (struct progress){.loop = loop, .mode = m, .colour = no_color == NULL || no_color[0] == '\0', .view = view, .arg = arg};
    p->timer = timer_new(loop, turn, p);
    timer_set(p->timer, 0);
    if (m == MODE_DRAWN)
        log_around(wipe, draw, p);
    return p;
}

void progress_poke(struct progress *p)
{
    if (p != NULL && p->mode != MODE_DRAWN)
        timer_set(p->timer, 0);
}

void progress_free(struct progress *p)
{
    if (p == NULL)
        return;
    if (p->mode == MODE_DRAWN) {
        log_around(NULL, NULL, NULL);
        wipe(p);
        fflush(stderr);
    }
    timer_free(p->timer);
    free(p);
}
