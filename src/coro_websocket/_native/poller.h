/* An epoll descriptor of our own, where the system has epoll: level-triggered, for reading, or
 * for nothing but the end of the stream. */
#ifndef CORO_WEBSOCKET_POLL_H
#define CORO_WEBSOCKET_POLL_H

#include <errno.h>
#include <stddef.h>

#ifdef __linux__

#define POLL_AVAILABLE 1

#include <sys/epoll.h>
#include <unistd.h>

typedef struct epoll_event poll_event;

static inline void *poll_owner(const poll_event *event) { return event->data.ptr; }

/* A descriptor, or a negative errno. */
static inline int poll_open(void)
{
    int fd = epoll_create1(EPOLL_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static inline void poll_close(int fd) { close(fd); }

/* 0, or a negative errno. */
static inline int poll_add(int poll, int fd, void *owner, int end_only)
{
    struct epoll_event event = {.events = end_only ? EPOLLRDHUP : EPOLLIN, .data.ptr = owner};
    return epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static inline void poll_remove(int poll, int fd)
{
    struct epoll_event event = {0};
    epoll_ctl(poll, EPOLL_CTL_DEL, fd, &event);
}

/* How many events there are now. */
static inline int poll_events(int poll, poll_event *events, int most)
{
    int n = epoll_wait(poll, events, most, 0);
    return n < 0 ? 0 : n;
}

#else

#define POLL_AVAILABLE 0

typedef struct {
    void *owner;
} poll_event;

static inline void *poll_owner(const poll_event *event) { return event->owner; }
static inline int poll_open(void) { return -ENOSYS; }
static inline void poll_close(int fd) { (void)fd; }

static inline int poll_add(int poll, int fd, void *owner, int end_only)
{
    (void)poll, (void)fd, (void)owner, (void)end_only;
    return -ENOSYS;
}

static inline void poll_remove(int poll, int fd) { (void)poll, (void)fd; }

static inline int poll_events(int poll, poll_event *events, int most)
{
    (void)poll, (void)events, (void)most;
    return 0;
}

#endif
#endif
