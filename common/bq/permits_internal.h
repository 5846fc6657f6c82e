#ifndef BQF_BQ_PERMITS_INTERNAL_H
#define BQF_BQ_PERMITS_INTERNAL_H

#include <sys/queue.h>

#include "common/base/ids.h"
#include "common/base/limits.h"
#include "common/bq/permits.h"

/* What permits.c, permits_take.c and permits_hold.c share. */

/*
 *   REST      no wish, nothing held
 *   READ      the rows are asked for              free row: TAKE    closing rows: CHECK   none: WAIT    table or row missing: MAKE
 *   CHECK     the job of a closing row is asked for   over: TAKE    at work: WAIT
 *   WAIT      until the rows are read again
 *   MAKE      table or rows are made              then READ
 *   TAKE      the UPDATE of a free row            held: SETTLE or USE    not: WAIT    unknown: READ, whose token decides
 *   SETTLE    held; the job of the last holder is looked at until it is over    then USE, or NAME
 *   NAME      held; the row gets the next wish's job                           then USE
 *   USE       held; a guarded job is at work                                   then NAME or RELEASE; closed: READ or REST
 *   RELEASE   held                                                             then READ or REST
 * Held, the lease is renewed in SETTLE and USE. When that shows that it is lost, SETTLE goes back to READ; USE stays until the guarded job is over.
 */
enum step { REST, READ, CHECK, WAIT, MAKE, TAKE, SETTLE, NAME, USE, RELEASE };

#define LOOKS 30            /* looks at the rows in a wait of the usual length: the more processes wait, the less often each looks */
#define LOOK_LEAST_MS 1000
#define LOOK_MOST_MS 4000
#define SETTLE_EVERY_MS 2000
#define SKEW_MS 2000        /* BigQuery's Date has whole seconds */
#define TYPICAL_MS 10000    /* a wait, before there was one */
#define QUANTUM_GROWS 8     /* times the quantum at most, as long as nobody else takes the permit in between */

struct permit_use {
    TAILQ_ENTRY(permit_use) link;
    struct permit_uses *list;
    struct permits *p;
    char *job, *purpose;    /* "PROJECT/LOCATION/BASE" */
    permit_cb *cb;
    void *arg;
    int64_t since_us;
};
TAILQ_HEAD(permit_uses, permit_use);

/* What we know of a row from one look to the next. */
struct sight {
    char token[40];
    int64_t expires_us, since_us; /* since when it has stood there unchanged, by our clock */
    int tries;                    /* takes from this token that are over and have not changed it */
};

struct permits {
    struct permits_options o;
    struct loop *loop;
    enum step step;
    struct permit_uses wishes;
    struct permit_uses refused;   /* each is being told why */
    bool *gone;                   /* set when this is freed meanwhile, by one of them */
    struct permit_use *used;      /* the one whose job is guarded, or NULL */
    struct timer *timer, *renew;
    struct bq_call *call;
    struct permits_make *make;
    struct bq_job *job;           /* the one permit statement that is under way */
    bool inserted;                /* BigQuery has it */
    doc *configuration;
    struct permit_rows rows;
    struct sight sights[PERMIT_SLOTS_MAX];
    bool held, unsure;            /* unsure: whether it is, until the row is read */
    bool unheard;                 /* what became of a statement about the row is not known: it may come late, and undo what a newer one has named */
    int slot;
    char token[ID_LEN + 1], last_token[ID_LEN + 1], digest[41];
    struct permit_grant grant;
    int64_t held_us, quantum_ms, seq;
    struct permit_use *ahead;     /* the wish whose job the row names, or is to name, beside the used one's */
    bool ahead_named, courteous;  /* courteous: this look was put off for others */
    bool at_work;                 /* BigQuery has the used one's job */
    enum { OPEN, CLOSING, CLOSED } closing; /* asked for; the row is closed: it is nobody's when the used one's job is over */
    size_t checking;              /* which of the rows is looked at: */
    struct permit_row checked;    /* the closing row whose job is looked at */
    int64_t checked_ms;           /* when that job ended; 0: not known to have */
    int64_t typical_ms;           /* how long wishes wait: those of all processes, as the rows tell it */
    char orphan[PERMIT_JOBS];     /* the jobs that the row named when it was taken, or names when it is to be */
    struct bq *orphan_bq;
    int orphan_try, failures;
    char named[PERMIT_JOBS];      /* the jobs that the row names now */
    char purpose[160], text[512], trouble[256];
};

/* permits.c */
/* What is to be done now; from REST, with nothing under way. */
void permits_next(struct permits *);
void permits_wait(struct permits *, int64_t ms);
/* Until this process looks again. Whoever has waited longer than is usual looks more often. */
void permits_wait_turn(struct permits *);
/* Trouble of ours, or of the service: again after a while; or it will not pass, and everybody here is told. */
void permits_troubled(struct permits *, const struct error *);
void permits_refuse_all(struct permits *, const struct error *);
/* A statement: word and token, and seq if it is not negative, make its job's id. */
void permits_start(struct permits *, enum permit_statement, const struct permit_change *, const char *word, const char *token, int64_t seq, int first_try,
                   bq_job_cb *);
/* No other job under this token: it was held long enough, others wait too; or the row may come to name an older job again. */
static inline bool permits_over(const struct permits *p) { return p->unheard || loop_now_us(p->loop) - p->held_us >= p->quantum_ms * US_PER_MS; }
/* What became of the statement is not known. */
static inline bool permits_unheard(const struct bq_job_result *r) { return r->err != NULL && !r->decided; }
static inline bool permits_changed_one(const struct bq_job_result *r) { return i64_max(r->affected, r->updated) > 0; }

/* permits_take.c */
void permits_look(struct permits *);
/* The longest time between two looks of those who wait, milliseconds. */
int64_t permits_look_ms(const struct permits *);
void permits_on_timer(void *permits);

/* permits_hold.c */
/* The permit is ours: what the row's last holder left is settled, or the first wish is granted. */
void permits_held(struct permits *);
void permits_name(struct permits *);    /* for the next wish */
void permits_name_ahead(struct permits *);
void permits_give(struct permits *, struct permit_use *);
void permits_release(struct permits *);
void permits_settle(struct permits *);  /* looks at the last holder's job again */
/* Asks for the orphan's next try. False: it names no job of our making. */
bool permits_ask_orphan(struct permits *, bq_cb *);
void permits_close(struct permits *);   /* if it is time */
void permits_lost(struct permits *);
void permits_renew(void *permits);      /* the timer's */

#endif
