/* What the system knows of a socket's other end, without reading from the socket. */
#ifndef CORO_WEBSOCKET_PEER_STATE_H
#define CORO_WEBSOCKET_PEER_STATE_H

#include <stddef.h>

#ifdef _WIN32

static inline int socket_ended(int fd) { return (void)fd, 0; }
static inline size_t socket_unacknowledged(int fd) { return (void)fd, (size_t)0; }
static inline int socket_unanswered(int fd) { return (void)fd, 0; }

#else

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#ifdef __linux__
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#endif

#ifdef POLLRDHUP
#define SOCKET_END (POLLRDHUP | POLLHUP)
#else
#define SOCKET_END POLLHUP
#endif

/* Whether nothing more will come behind what waits to be received. */
static inline int socket_ended(int fd)
{
    struct pollfd look = {.fd = fd, .events = SOCKET_END};
    return poll(&look, 1, 0) > 0 && (look.revents & (SOCKET_END | POLLERR)) != 0;
}

/* Bytes sent that the peer's side has not taken yet; 0 where the system does not tell. */
static inline size_t socket_unacknowledged(int fd)
{
    int waiting = 0;
#if defined(SIOCOUTQ)
    if (ioctl(fd, SIOCOUTQ, &waiting) < 0)
        return 0;
#elif defined(SO_NWRITE)
    socklen_t size = sizeof waiting;
    if (getsockopt(fd, SOL_SOCKET, SO_NWRITE, &waiting, &size) < 0)
        return 0;
#else
    (void)fd;
#endif
    return waiting > 0 ? (size_t)waiting : 0;
}

/* Whether the peer's system has not answered what was sent last; 0 where ours does not tell.
 * A peer that reads nothing, and so has no room for more, answers all the same. */
static inline int socket_unanswered(int fd)
{
#ifdef __linux__
    struct tcp_info info = {0};
    socklen_t size = sizeof info;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) < 0)
        return 0;
    return info.tcpi_probes > 1 ||
           (info.tcpi_unacked > 0 && info.tcpi_last_ack_recv > info.tcpi_last_data_sent);
#else
    return socket_unacknowledged(fd) > 0;
#endif
}

#endif
#endif
