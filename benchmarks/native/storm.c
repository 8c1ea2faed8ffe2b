/* Opens WebSockets at 127.0.0.1 as fast as it can, and keeps them until all are open.
 *
 *     storm PORT CONNECTIONS AT_ONCE
 *
 * AT_ONCE of them are in their opening handshake at any time. Prints how many were opened, and in
 * how many wall-clock seconds. */

#include "wire.h"

static const char request[] = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
                              "Connection: Upgrade\r\n"
                              "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                              "Sec-WebSocket-Version: 13\r\n\r\n";

typedef struct {
    int fd, asked;
    size_t n;
    char head[4096];
} opening;

static void begin(opening *o, int epoll, const struct sockaddr_in *address) {
    o->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (o->fd < 0) die("socket");
    if (connect(o->fd, (const struct sockaddr *)address, sizeof *address) && errno != EINPROGRESS)
        die("connect");
    o->asked = 0;
    o->n = 0;
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = o};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, o->fd, &event)) die("epoll_ctl");
}

/* Whether the answer is here. */
static int go_on(opening *o) {
    if (!o->asked) {
        if (send(o->fd, request, sizeof request - 1, MSG_NOSIGNAL) != sizeof request - 1) {
            if (errno == EAGAIN || errno == ENOTCONN) return 0;
            die("send");
        }
        o->asked = 1;
    }
    for (;;) {
        if (o->n == sizeof o->head - 1) die("too long an answer");
        ssize_t got = recv(o->fd, o->head + o->n, sizeof o->head - 1 - o->n, 0);
        if (got < 0 && errno == EAGAIN) return 0;
        if (got <= 0) die("recv");
        o->n += got;
        o->head[o->n] = 0;
        if (!strstr(o->head, "\r\n\r\n")) continue;
        if (!strncmp(o->head, "HTTP/1.1 101", 12)) return 1;
        fprintf(stderr, "%s\n", o->head);
        exit(1);
    }
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)atoi(argv[1])),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    int connections = atoi(argv[2]), at_once = atoi(argv[3]), begun = 0, open = 0;
    opening *all = calloc(at_once, sizeof *all);
    struct epoll_event events[512];
    int epoll = epoll_create1(0);
    if (!all || epoll < 0) die("storm");
    double wall = now();
    while (begun < connections && begun < at_once) begin(&all[begun++], epoll, &address);
    while (open < connections) {
        int n = epoll_wait(epoll, events, 512, 60000);
        if (n <= 0) die("nothing came for a minute");
        for (int i = 0; i < n; i++) {
            opening *o = events[i].data.ptr;
            if (!go_on(o)) continue;
            open++;
            epoll_ctl(epoll, EPOLL_CTL_DEL, o->fd, NULL); /* it stays open */
            if (begun < connections) {
                begin(o, epoll, &address);
                begun++;
            }
        }
    }
    printf("{\"messages\": %d, \"wall\": %f}\n", open, now() - wall);
    return 0;
}
