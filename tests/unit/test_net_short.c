#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/net/child.h"
#include "common/net/http_server.h"

/* The system takes and gives a few bytes at a time, or none yet, and signals come in between: nothing is lost, doubled or out of order. */

#define WAIT (60 * US_PER_S)
#define SENT (300 * 1024)

static atomic_int signals;

static void on_signal(int signo)
{
    (void)signo;
    atomic_fetch_add(&signals, 1);
}

/* Every 200 us (or SIGNALS_US, for a process so slow that it would do nothing else), and without SA_RESTART: system calls that wait are interrupted. */
static int set_up(void **state)
{
    (void)state;
    atomic_store(&signals, 0);
    struct sigaction act = {.sa_handler = on_signal};
    sigaction(SIGALRM, &act, NULL);
    const char *given = getenv("SIGNALS_US");
    struct timeval every = {.tv_usec = given ? strtol(given, NULL, 10) : 200};
    return setitimer(ITIMER_REAL, &(struct itimerval){every, every}, NULL);
}

static int tear_down(void **state)
{
    (void)state;
    int rc = setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 0}}, NULL);
    signal(SIGALRM, SIG_IGN); /* also what is under way */
    return rc;
}

/* No two places nearby are alike. */
static char byte_at(size_t i)
{
    return (char)('!' + (i * 7 + i / 89 * 13 + i / 4096) % 90);
}

static void fill(char *to, size_t len)
{
    for (size_t i = 0; i < len; i++)
        to[i] = byte_at(i);
}

static void assert_filled(const struct buf *b, size_t len)
{
    assert_int_equal(b->len, len);
    for (size_t i = 0; i < len; i++)
        if (b->data[i] != byte_at(i))
            fail_msg("byte %zu is %d, not %d", i, b->data[i], byte_at(i));
}

struct talk {
    struct buf out;
    bool over;
    int status;
};

static size_t on_out(void *arg, const char *data, size_t len)
{
    struct talk *t = arg;
    buf_xadd(&t->out, data, len);
    return len;
}

static void on_err(void *arg, const char *data, size_t len)
{
    (void)arg;
    fail_msg("stderr: %.*s", (int)len, data);
}

static void on_exited(void *arg, int status, const char *text)
{
    (void)text;
    struct talk *t = arg;
    t->over = true;
    t->status = status;
}

static bool is_over(void *arg)
{
    return ((struct talk *)arg)->over;
}

/* Every pipe that this process has an end of, the child's with it, as small as the system allows. */
static int make_pipes_small(void)
{
    int count = 0;
    for (int fd = 3; fd < 64; fd++)
        count += fcntl(fd, F_SETPIPE_SZ, 4096) == 4096;
    return count;
}

static void a_child_behind_tiny_pipes_gets_and_gives_every_byte(void **state)
{
    (void)state;
    static const struct child_events events = {.out = on_out, .err = on_err, .exited = on_exited};
    const char *const argv[] = {"dd", "bs=777", "status=none", NULL}; /* reads and writes as the bytes come */
    struct talk t = {.out = BUF_INIT(1 << 20)};
    struct loop *loop = loop_new();
    struct children *children = children_posix(loop);
    struct error err = ERROR_INIT;
    struct child *c = child_start(children, &(struct child_spec){.argv = argv}, &events, &t, &err);
    if (c == NULL)
        fail_msg("%s", err.text);
    assert_true(make_pipes_small() >= 2);
    char *text = xmalloc(SENT);
    fill(text, SENT);
    for (size_t at = 0; at < SENT; at += 10240) /* the second piece already finds the pipe full */
        assert_int_equal(child_write(c, text + at, size_min(10240, SENT - at)), 0);
    assert_true(child_unsent(c) > SENT / 2);
    child_close_stdin(c);
    assert_true(loop_until(loop, is_over, &t, WAIT));
    assert_int_equal(t.status, 0);
    assert_filled(&t.out, SENT);
    assert_true(atomic_load(&signals) > 0);
    free(text);
    buf_free(&t.out);
    child_drop(c);
    children_free(children);
    loop_free(loop);
}

struct served { struct buf got; int requests; };

static void on_request(void *arg, struct http_exchange *x, const struct http_server_request *r)
{
    struct served *s = arg;
    s->requests++;
    buf_clear(&s->got);
    buf_xadd(&s->got, r->body, r->body_len);
    http_exchange_answer(x, 200, NULL, r->body, r->body_len);
}

/* A client with buffers of a few KiB, that sends and takes a few bytes in a turn. */
struct narrow {
    int fd;
    struct buf request, answer;
    size_t sent, whole;
};

static void narrow_open(struct narrow *n, int port)
{
    const int small = 2048;
    n->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(n->fd >= 0);
    assert_int_equal(setsockopt(n->fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
    assert_int_equal(setsockopt(n->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    while (connect(n->fd, (const struct sockaddr *)&at, sizeof(at)) != 0)
        if (errno == EISCONN)
            break;
        else
            assert_true(errno == EINTR || errno == EALREADY || errno == EINPROGRESS);
    assert_int_equal(fcntl(n->fd, F_SETFL, O_NONBLOCK), 0);
}

static void narrow_turn(struct narrow *n)
{
    ssize_t done = send(n->fd, n->request.data + n->sent, size_min(1500, n->request.len - n->sent), MSG_NOSIGNAL);
    if (done < 0)
        assert_true(errno == EAGAIN || errno == EINTR);
    else
        n->sent += (size_t)done;
    char part[700];
    done = recv(n->fd, part, sizeof(part), 0);
    if (done < 0)
        assert_true(errno == EAGAIN || errno == EINTR);
    else
        buf_xadd(&n->answer, part, (size_t)done);
    const char *body = n->answer.len > 0 ? strstr(n->answer.data, "\r\n\r\n") : NULL;
    n->whole = body != NULL ? (size_t)(body + 4 - n->answer.data) + SENT : SIZE_MAX;
}

static void a_server_on_narrow_sockets_takes_and_gives_every_byte(void **state)
{
    (void)state;
    struct served s = {.got = BUF_INIT(1 << 20)};
    struct narrow n = {.request = BUF_INIT(1 << 20), .answer = BUF_INIT(1 << 20), .whole = SIZE_MAX};
    struct error err = ERROR_INIT;
    struct loop *loop = loop_new();
    struct http_server *server = http_server_new(loop, "127.0.0.1", 0, 1 << 20, on_request, &s, &err);
    if (server == NULL)
        fail_msg("%s", err.text);
    narrow_open(&n, http_server_port(server));
    buf_xprintf(&n.request, "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n", SENT);
    char *text = xmalloc(SENT);
    fill(text, SENT);
    buf_xadd(&n.request, text, SENT);
    int64_t end = loop_now_us(loop) + WAIT;
    while (n.answer.len < n.whole) {
        narrow_turn(&n);
        loop_step(loop, US_PER_MS);
        assert_true(loop_now_us(loop) < end);
    }
    assert_int_equal(s.requests, 1);
    assert_filled(&s.got, SENT);
    assert_int_equal(n.answer.len, n.whole);
    buf_consume(&n.answer, n.whole - SENT);
    assert_filled(&n.answer, SENT);
    assert_true(atomic_load(&signals) > 0);
    close(n.fd);
    free(text);
    buf_free(&n.request);
    buf_free(&n.answer);
    buf_free(&s.got);
    http_server_free(server);
    loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_child_behind_tiny_pipes_gets_and_gives_every_byte, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_server_on_narrow_sockets_takes_and_gives_every_byte, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
