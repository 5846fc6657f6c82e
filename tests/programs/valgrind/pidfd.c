/*
 * pidfd_open() for programs under valgrind, which knows the call from 3.21 on only and says ENOSYS before. Built as a shared object and preloaded, it starts a
 * program, which valgrind does not follow, and is sent the descriptor by it; built with -DHELPER, it is that program. tests/valgrind builds both.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct letter { /* one byte, and a descriptor beside it */
    char byte;
    struct iovec iov;
    _Alignas(struct cmsghdr) char beside[CMSG_SPACE(sizeof(int))];
    struct msghdr msg;
};

static struct msghdr *letter_make(struct letter *l)
{
    memset(l, 0, sizeof(*l));
    l->iov = (struct iovec){&l->byte, 1};
    l->msg = (struct msghdr){.msg_iov = &l->iov, .msg_iovlen = 1, .msg_control = l->beside, .msg_controllen = sizeof(l->beside)};
    return &l->msg;
}

#ifdef HELPER

/* PID SOCKET: status 0 when the descriptor was sent, else the error's number. */
int main(int argc, char **argv)
{
    if (argc != 3)
        return EINVAL;
    int fd = (int)syscall(SYS_pidfd_open, atoi(argv[1]), 0);
    if (fd < 0)
        return errno;
    struct letter l;
    struct msghdr *msg = letter_make(&l);
    struct cmsghdr *header = CMSG_FIRSTHDR(msg);
    *header = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(fd)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(header), &fd, sizeof(fd));
    return sendmsg(atoi(argv[2]), msg, 0) == 1 ? 0 : errno;
}

#else

#include <stdio.h>

static int received(int from)
{
    struct letter l;
    struct msghdr *msg = letter_make(&l);
    int fd = -1;
    if (recvmsg(from, msg, MSG_CMSG_CLOEXEC) == 1 && CMSG_FIRSTHDR(msg) != NULL)
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(msg)), sizeof(fd));
    return fd;
}

int pidfd_open(pid_t pid, unsigned flags)
{
    long known = syscall(SYS_pidfd_open, pid, flags);
    const char *helper = getenv("PIDFD_HELPER");
    int ends[2];
    if (known >= 0 || errno != ENOSYS || helper == NULL || socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0)
        return (int)known;
    char number[16], end[16];
    snprintf(number, sizeof(number), "%d", (int)pid);
    snprintf(end, sizeof(end), "%d", ends[1]);
    pid_t child = fork();
    if (child == 0) {
        execl(helper, helper, number, end, (char *)NULL);
        _exit(ENOSYS);
    }
    close(ends[1]);
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    int fd = received(ends[0]);
    close(ends[0]);
    errno = fd >= 0 ? errno : WIFEXITED(status) && WEXITSTATUS(status) != 0 ? WEXITSTATUS(status) : ENOSYS;
    return fd;
}

#endif
