#include "common/bus/bus_kafka.h"

#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

/*
 * The helper: one thread, started with the first job, for those calls of librdkafka that block until a broker has answered (metadata,
 * watermarks, offsets by time, committed offsets, administration, closing a member). It owns nothing: a job carries all it needs, is run
 * there, and is finished on the loop. Every job ends within a bound of its own.
 */

static struct kafka_job *next_job(struct kafka_helper *h)
{
    pthread_mutex_lock(&h->lock);
    struct kafka_job *job;
    while ((job = TAILQ_FIRST(&h->waiting)) == NULL && !h->stop)
        pthread_cond_wait(&h->wake, &h->lock);
    while (h->stop && job != NULL && !job->always)
        job = TAILQ_NEXT(job, link);
    if (job != NULL)
        TAILQ_REMOVE(&h->waiting, job, link);
    pthread_mutex_unlock(&h->lock);
    return job;
}

static void *work(void *arg)
{
    struct kafka_helper *h = arg;
    struct kafka_job *job;
    while ((job = next_job(h)) != NULL) {
        job->run(job);
        pthread_mutex_lock(&h->lock);
        TAILQ_INSERT_TAIL(&h->finished, job, link);
        pthread_mutex_unlock(&h->lock);
        uint64_t one = 1;
        if (write(h->fd, &one, sizeof(one)) < 0)
            abort(); /* an eventfd of ours: cannot be full, cannot be closed */
    }
    return NULL;
}

static struct kafka_job *take_finished(struct kafka_helper *h)
{
    pthread_mutex_lock(&h->lock);
    struct kafka_job *job = TAILQ_FIRST(&h->finished);
    if (job != NULL)
        TAILQ_REMOVE(&h->finished, job, link);
    pthread_mutex_unlock(&h->lock);
    return job;
}

static void on_finished(void *arg, int events)
{
    (void)events;
    struct kafka_helper *h = &((struct bus_kafka *)arg)->helper;
    uint64_t count;
    if (read(h->fd, &count, sizeof(count)) < 0)
        return;
    struct kafka_job *job;
    while ((job = take_finished(h)) != NULL)
        job->done(job);
}

/* Signals belong to the loop's thread. */
static void start(struct bus_kafka *k)
{
    struct kafka_helper *h = &k->helper;
    h->started = true;
    pthread_mutex_init(&h->lock, NULL);
    pthread_cond_init(&h->wake, NULL);
    TAILQ_INIT(&h->waiting);
    TAILQ_INIT(&h->finished);
    h->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (h->fd < 0)
        abort(); /* out of descriptors at start: as bad as out of memory */
    h->watch = watch_new(k->loop, h->fd, on_finished, k);
    watch_set(h->watch, WATCH_READ);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (pthread_create(&h->thread, NULL, work, h) != 0)
        abort();
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void kafka_helper_give(struct bus_kafka *k, struct kafka_job *job, bool urgent)
{
    struct kafka_helper *h = &k->helper;
    if (!h->started)
        start(k);
    pthread_mutex_lock(&h->lock);
    if (urgent)
        TAILQ_INSERT_HEAD(&h->waiting, job, link);
    else
        TAILQ_INSERT_TAIL(&h->waiting, job, link);
    pthread_cond_signal(&h->wake);
    pthread_mutex_unlock(&h->lock);
}

void kafka_helper_stop(struct bus_kafka *k)
{
    struct kafka_helper *h = &k->helper;
    if (!h->started)
        return;
    pthread_mutex_lock(&h->lock);
    h->stop = true;
    pthread_cond_signal(&h->wake);
    pthread_mutex_unlock(&h->lock);
    pthread_join(h->thread, NULL);
    TAILQ_CONCAT(&h->finished, &h->waiting, link);
    struct kafka_job *job;
    while ((job = take_finished(h)) != NULL)
        job->drop(job);
    watch_free(h->watch);
    close(h->fd);
    pthread_cond_destroy(&h->wake);
    pthread_mutex_destroy(&h->lock);
    h->started = false;
}
