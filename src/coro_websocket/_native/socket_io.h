/* recv and send on a non-blocking socket: what is left to the caller is the errno. */
#ifndef CORO_WEBSOCKET_SOCKET_IO_H
#define CORO_WEBSOCKET_SOCKET_IO_H

#include <errno.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#ifdef MSG_NOSIGNAL
#define SOCKET_SEND_FLAGS MSG_NOSIGNAL
#else
#define SOCKET_SEND_FLAGS 0 /* Python ignores SIGPIPE */
#endif

/* Bytes received; 0 at the end; -1 if nothing is there; else a negative errno minus 1. */
static inline ssize_t socket_receive(int fd, void *to, size_t n)
{
    ssize_t got;
    do
        got = recv(fd, to, n, 0);
    while (got < 0 && errno == EINTR);
    if (got >= 0)
        return got;
    return errno == EAGAIN || errno == EWOULDBLOCK ? -1 : -1 - (ssize_t)errno;
}

/* Bytes taken; -1 if none can be taken now; else a negative errno minus 1. */
static inline ssize_t socket_send(int fd, const void *from, size_t n)
{
    ssize_t taken;
    do
        taken = send(fd, from, n, SOCKET_SEND_FLAGS);
    while (taken < 0 && errno == EINTR);
    if (taken >= 0)
        return taken;
    return errno == EAGAIN || errno == EWOULDBLOCK ? -1 : -1 - (ssize_t)errno;
}

/* socket_send for two pieces of memory, one behind the other. */
static inline ssize_t socket_send_both(int fd, const void *first, size_t n, const void *second,
                                       size_t m)
{
    struct iovec pieces[2] = {{(void *)first, n}, {(void *)second, m}};
    struct msghdr message = {.msg_iov = pieces, .msg_iovlen = 2};
    ssize_t taken;
    do
        taken = sendmsg(fd, &message, SOCKET_SEND_FLAGS);
    while (taken < 0 && errno == EINTR);
    if (taken >= 0)
        return taken;
    return errno == EAGAIN || errno == EWOULDBLOCK ? -1 : -1 - (ssize_t)errno;
}

/* Ends the connection, but leaves the descriptor open. */
static inline void socket_end(int fd) { shutdown(fd, SHUT_RDWR); }

#endif
