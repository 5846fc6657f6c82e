/*
 * The semaphore of statements (common/bq/permits.h): one row, so one permit; clients that die, and are stopped for as long as you like; requests that
 * arrive late, after their sender's death too; answers that are not heard. All orders of all of it, within the bounds below.
 *
 * Claim: never two guarded statements at work that have passed their fence; no job base succeeds twice.
 *
 * Time is not modelled: a lease may be over at any moment. What this shows holds for every lease, and every clock.
 * A rule left out, to see that it matters:
 *   -DNO_SETTLE    who takes a row does not look at the job that its last holder named
 *   -DNO_FENCE     the guarded statement does not look at the row
 *   -DNO_NAME      a job is inserted before the row names it
 *   -DTRUST_UNHEARD   a permit is used for another job although a statement about it was not heard of: it may come late, and undo a newer one's name
 */
#define CLIENTS 2
#ifdef TWINS           /* both clients want the same base, of which a second try may follow a first one that failed */
#define BASES 1
#define TRIES 2
#define EACH_JOB(of) of(0) of(1)
#define first_base 0
#define last_base 0
#else                  /* client 0 has two jobs to do, client 1 one; with -DSHARED that is the second of the other's */
#define BASES 3
#define TRIES 1
#define EACH_JOB(of) of(0) of(1) of(2)
#ifdef SHARED
#define OTHER 1
#else
#define OTHER 2
#endif
#define first_base (me == 0 -> 0 : OTHER)
#define last_base (me == 0 -> 1 : OTHER)
#endif
#ifndef TOKENS
#define TOKENS 3       /* 0 is what the row has at first; each take makes another one */
#endif
#define STATEMENTS 2   /* of a client: one that it waits for, and one of which it has heard nothing */
#ifndef DEATHS
#define DEATHS 1
#endif

#define bit(n) (1 << (n))
#define job(base, try) ((base) * TRIES + (try))

mtype = { take, keep, close, release };

/* --- BigQuery -------------------------------------------------------------------------------------------------------------------------------- */

typedef row_t { byte token; byte names; bool held; bool past };
row_t row;

#define FREE 0
#define SENT 1         /* it will be executed once, some time or never */
#define ZERO 2         /* executed; it has changed no row */
#define ONE 3          /* executed; it has changed the row */
typedef statement_t { mtype kind; byte state; byte token; byte names; byte seen_token; byte seen_names; bool alone /* nobody waits for it */ };
statement_t statements[CLIENTS * STATEMENTS];

#define ABSENT 0
#define PENDING 1
#define RUNNING 2
#define FAILED 3
#define SUCCEEDED 4
byte state[BASES * TRIES];
byte token_of[BASES * TRIES];
byte inserts[BASES * TRIES];   /* on their way: a bit for each token that one carries */
byte running, next_token = 1, deaths;

#define takeable (!row.held || row.past)

inline execute(s)
{
    s.state = ZERO;
    if
    :: s.kind == take && row.token == s.seen_token && row.names == s.seen_names && takeable ->
        row.token = s.token; row.names = s.names; row.held = true; row.past = false; s.state = ONE
    :: s.kind == keep && row.token == s.token -> row.names = s.names; row.past = false; s.state = ONE
    :: s.kind == close && row.token == s.token -> row.names = s.names; row.past = false; row.held = false; s.state = ONE
    :: s.kind == release && row.token == s.token -> row.names = 0; row.held = false; row.past = true; s.state = ONE
    :: else
    fi;
    if
    :: s.alone -> s.state = FREE; s.alone = false; s.token = 0; s.names = 0; s.seen_token = 0; s.seen_names = 0; s.kind = 0
    :: else
    fi
}

#define EXECUTED(n) :: atomic { statements[n].state == SENT -> execute(statements[n]) }
/* An insert arrives: the first one has the id, the others are told that it exists. */
#define ARRIVES(n) :: d_step { inserts[n] != 0 -> t = 0; do :: inserts[n] & bit(t) -> break :: else -> t++ od; arrive(n) } \
                   :: d_step { inserts[n] & (inserts[n] - 1) -> t = TOKENS - 1; do :: inserts[n] & bit(t) -> break :: else -> t-- od; arrive(n) }
/* A job begins: its fence is read from the snapshot of that moment. */
#define BEGINS(n) :: atomic { state[n] == PENDING -> if :: refused(n) -> state[n] = FAILED :: else -> state[n] = RUNNING; running++; assert(running <= 1) fi; token_of[n] = 0 }
#define ENDS(n) :: atomic { state[n] == RUNNING -> running--; if :: state[n] = SUCCEEDED; assert(n % TRIES == 0 || state[n - n % TRIES] != SUCCEEDED) :: state[n] = FAILED fi }
#ifdef NO_FENCE
#define refused(n) false
#else
#define refused(n) (row.token != token_of[n] || row.past)
#endif

inline arrive(n)
{
    inserts[n] = inserts[n] & ~bit(t);
    if
    :: state[n] == ABSENT -> state[n] = PENDING; token_of[n] = t
    :: else
    fi;
    t = 0
}

active proctype bigquery()
{
    byte t;
end:
    do
    :: d_step { !row.past -> row.past = true }
    EXECUTED(0) EXECUTED(1) EXECUTED(2) EXECUTED(3)
    EACH_JOB(ARRIVES)
    EACH_JOB(BEGINS)
    EACH_JOB(ENDS)
    od
}

/* --- clients ----------------------------------------------------------------------------------------------------------------------------------- */

/* Sends a statement and waits for it: it has changed the row, or not, or nothing was heard, and nothing will be; or its sender dies. */
#define other_free (statements[me * STATEMENTS + (1 - at % STATEMENTS)].state == FREE)
#define say(k, tok, nm, stok, snm, changed, unchanged, unheard) \
    atomic { \
        at = (statements[me * STATEMENTS].state == FREE -> me * STATEMENTS : me * STATEMENTS + 1); \
        statements[at].kind = k; statements[at].token = tok; statements[at].names = nm; statements[at].seen_token = stok; statements[at].seen_names = snm; \
        statements[at].state = SENT \
    } \
    if \
    :: atomic { statements[at].state == ONE -> clear(at); at = 0; goto changed } \
    :: atomic { statements[at].state == ZERO -> clear(at); at = 0; goto unchanged } \
    :: atomic { other_free -> forget(at); at = 0; goto unheard } \
    :: atomic { deaths < DEATHS && other_free -> deaths++; forget(at); goto dead } \
    fi

inline clear(n)
{
    statements[n].state = FREE; statements[n].token = 0; statements[n].names = 0; statements[n].seen_token = 0; statements[n].seen_names = 0; statements[n].kind = 0
}

inline forget(n)
{
    if
    :: statements[n].state == SENT -> statements[n].alone = true
    :: else -> clear(n)
    fi
}

#define at_work(j) (state[j] == PENDING || state[j] == RUNNING)
#define last_try(b) job(b, TRIES - 1)
#define is_over(b) (state[job(b, 0)] == SUCCEEDED || state[last_try(b)] == SUCCEEDED || state[last_try(b)] == FAILED)
#define rests(b) (!at_work(job(b, 0)) && !at_work(last_try(b)))

#ifdef TRUST_UNHEARD
#define trusts_not false
#else
#define trusts_not unheard
#endif

proctype client(byte me)
{
    byte base, token, names, seen, orphans, at, i;
    bool unsure, unheard;
    goto begin;
dead:
    atomic { token = 0; names = 0; seen = 0; orphans = 0; at = 0; i = 0; unsure = false; unheard = false }
begin:
    atomic { base = first_base; do :: base < last_base && is_over(base) -> base++ :: else -> break od }
read:
    if
    :: atomic { is_over(base) && base == last_base -> token = 0; unsure = false; goto end }
    :: atomic { unsure && row.token == token && row.names != 0 -> unsure = false; names = row.names; goto settle }
    :: atomic { !(unsure && row.token == token) && next_token < TOKENS && takeable ->
        unsure = false; unheard = false; token = next_token; next_token++; seen = row.token; orphans = row.names; names = row.names | bit(base) }
    :: d_step { deaths < DEATHS -> deaths++ } goto dead
    fi;
    say(take, token, names, seen, orphans, settle, refused_take, ask);
refused_take:
    atomic { token = 0; names = 0; orphans = 0; seen = 0; goto read }
lost_sight:
    unheard = true;
ask: /* the row will tell whether it is ours */
    atomic { unsure = true; names = 0; seen = 0; goto read }
settle: /* held; who was named before must be over, or not there: whoever inserts it now has no token */
    seen = 0;
#ifndef NO_SETTLE
    do
    :: atomic { orphans != 0 && (orphans & bit(i)) && rests(i) -> orphans = orphans & ~bit(i); i = 0 }
    :: atomic { orphans != 0 && !(orphans & bit(i)) -> i++ }
    :: orphans == 0 -> break
    :: d_step { deaths < DEATHS -> deaths++ } goto dead
    od;
#endif
    orphans = 0;
name:
    atomic {
        if
        :: is_over(base) && base == last_base -> goto let_go
        :: is_over(base) && base < last_base -> base++; goto name
        :: !is_over(base) && trusts_not -> goto give_up
        :: else
        fi
    }
#ifdef NO_NAME
    goto use;
#endif
    if
    :: names == bit(base) -> goto use
    :: else
    fi;
    say(keep, token, bit(base), 0, names, named, refused_take, lost_sight);
named:
    names = bit(base);
use: /* granted: the insert of the first try that is not known to have failed */
    atomic {
        if
        :: is_over(base) -> goto name
        :: else
        fi;
        i = job(base, (state[job(base, 0)] == FAILED -> TRIES - 1 : 0));
        inserts[i] = inserts[i] | bit(token);
        i = 0
    }
working:
    if
    :: is_over(base) || state[job(base, 0)] == FAILED
    :: say(keep, token, names, 0, names, working, lost, deaf) /* renewed */
    :: atomic { base < last_base && names == bit(base) && !trusts_not -> skip }
        say(keep, token, bit(base) | bit(base + 1), 0, names, ahead, lost, deaf) /* the next one's name beside it */
#ifdef CLOSES
    :: atomic { names == bit(base) && state[job(base, 0)] != ABSENT -> skip }
        say(close, token, names, 0, names, lost, lost, deaf) /* it is the last one: whoever sees it over may take the row */
#endif
    :: d_step { deaths < DEATHS -> deaths++ } goto dead
    fi;
    atomic {
        if
        :: is_over(base) && base < last_base && (names & bit(base + 1)) && !trusts_not -> base++; goto use
        :: else -> goto name
        fi
    }
deaf:
    atomic { unheard = true; goto working }
ahead:
    atomic { names = bit(base) | bit(base + 1); goto working }
lost: /* the guarded job is waited for, then a permit is wanted anew */
    atomic { is_over(base) || rests(base) -> token = 0; names = 0; goto read }
give_up: /* another job wants another token */
    say(release, token, 0, 0, 0, refused_take, refused_take, refused_take);
let_go:
    say(release, token, 0, 0, 0, end, end, end);
end:
    skip
}

init { atomic { row.past = true; run client(0); run client(1) } }
