/* How long an echo takes on a connection that is established, while many others are opened.
 *
 *   rush PORT PATH CONNECTIONS AT_ONCE
 *
 * Opens CONNECTIONS WebSocket connections, AT_ONCE of them under way at any time, and keeps them.
 * Meanwhile another, which was opened before, sends a small message, and once that is back the next
 * one a millisecond later. Prints the messages, the longest and the mean time of an echo in seconds,
 * and the seconds that all connections took. One thread: what it waits for is the server. */

#include "wire.h"

#define PAUSE 0.001
#define ECHO_SIZE 32

static struct sockaddr_in address;
static char request[512];
static int request_size, epoll;

/* A socket that connects; a server whose queue is full lets it wait, and nobody else. */
static int begin(void) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (fd < 0) die("socket");
    no_delay(fd);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS)
        die("connect");
    return fd;
}

static void ask(int fd) {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if ((errno = error)) die("connect");
    if (send(fd, request, request_size, MSG_NOSIGNAL) != request_size) die("send");
}

static void watch(int fd, int operation, uint32_t events, int which) {
    struct epoll_event event = {.events = events, .data.u32 = which};
    if (epoll_ctl(epoll, operation, fd, &event)) die("epoll_ctl");
}

/* Whether all of the answer's head is here; nothing comes behind it. */
static int answered(int fd, char *answer, size_t *held, size_t size) {
    ssize_t got = recv(fd, answer + *held, size - 1 - *held, 0);
    if (got < 0 && errno == EAGAIN) return 0;
    if (got <= 0) die("handshake");
    *held += got;
    answer[*held] = 0;
    if (!strstr(answer, "\r\n\r\n")) return 0;
    if (strncmp(answer, "HTTP/1.1 101", 12)) {
        fprintf(stderr, "%s\n", answer);
        exit(1);
    }
    return 1;
}

int main(int argc, char **argv) {
    if (argc != 5) {
        fprintf(stderr, "rush PORT PATH CONNECTIONS AT_ONCE\n");
        return 2;
    }
    int port = atoi(argv[1]), connections = atoi(argv[3]), at_once = atoi(argv[4]);
    address = (struct sockaddr_in){.sin_family = AF_INET,
                                   .sin_port = htons((uint16_t)port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    request_size = snprintf(request, sizeof request,
                            "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\n"
                            "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                            "Sec-WebSocket-Version: 13\r\n\r\n",
                            argv[2], port);
    char (*answers)[1024] = calloc(connections + 1, sizeof *answers);
    size_t *held = calloc(connections + 1, sizeof *held);
    int *fds = calloc(connections + 1, sizeof *fds);
    if (!answers || !held || !fds) die("calloc");

    epoll = epoll_create1(0);
    struct epoll_event events[256];
    int last = connections; /* the one that is established */
    fds[last] = begin();
    watch(fds[last], EPOLL_CTL_ADD, EPOLLOUT, last);
    if (epoll_wait(epoll, events, 1, 5000) != 1) die("connect");
    ask(fds[last]);
    watch(fds[last], EPOLL_CTL_MOD, EPOLLIN, last);
    do {
        if (epoll_wait(epoll, events, 1, 5000) != 1) die("handshake");
    } while (!answered(fds[last], answers[last], &held[last], sizeof *answers));
    uint8_t message[64];
    const uint8_t key[4] = {1, 2, 3, 4}, payload[ECHO_SIZE] = {0};
    size_t size = write_header(message, FIN | BINARY, ECHO_SIZE, key);
    mask_into(message + size, payload, ECHO_SIZE, key);
    size += ECHO_SIZE;

    int begun = 0, done = 0;
    size_t echoes = 0, missing = 0;
    double longest = 0, total = 0, start = now(), sent = 0, due = start;
    while (done < connections || missing) {
        while (begun < connections && begun - done < at_once) {
            fds[begun] = begin();
            watch(fds[begun], EPOLL_CTL_ADD, EPOLLOUT, begun);
            begun++;
            if (!missing && now() >= due) break;
        }
        if (!missing && done < connections && now() >= due) {
            sent = now();
            if (send(fds[last], message, size, MSG_NOSIGNAL) != (ssize_t)size) die("send");
            missing = ECHO_SIZE + 2;
        }
        int n = epoll_wait(epoll, events, 256, 1);
        for (int i = 0; i < n; i++) {
            int which = events[i].data.u32;
            if (which != last) {
                if (events[i].events & EPOLLOUT) {
                    ask(fds[which]);
                    watch(fds[which], EPOLL_CTL_MOD, EPOLLIN, which);
                    continue;
                }
                if (!answered(fds[which], answers[which], &held[which], sizeof *answers)) continue;
                watch(fds[which], EPOLL_CTL_DEL, 0, which);
                done++;
                continue;
            }
            uint8_t back[64];
            ssize_t got = recv(fds[last], back, missing < sizeof back ? missing : sizeof back, 0);
            if (got < 0 && errno == EAGAIN) continue;
            if (got <= 0) die("the connection ended");
            missing -= got;
            if (missing) continue;
            double took = now() - sent;
            longest = took > longest ? took : longest;
            total += took;
            echoes++;
            due = now() + PAUSE;
        }
        if (now() - start > 60) {
            fprintf(stderr, "%d of %d connections in 60 s\n", done, connections);
            return 1;
        }
    }
    printf("{\"messages\": %zu, \"delay\": %f, \"mean\": %f, \"wall\": %f}\n", echoes, longest,
           total / echoes, now() - start);
    return 0;
}
