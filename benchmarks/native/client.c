/* The floor for clients, and the load for servers: epoll, one thread, no library.
 *
 *   client MODE PORT PATH CONNECTIONS SIZE SECONDS TLS DEFLATE PID
 *
 * MODE echo keeps one message in flight on each connection, receive counts messages, send sends
 * them without end, setup opens and closes connections one after the other, idle opens them,
 * prints a line and keeps them until stdin ends; each has then echoed a message. broadcast sends a
 * message on the first connection once all have received the last one. Prints messages,
 * CPU and wall-clock seconds, and as server_cpu the CPU seconds of process PID meanwhile.
 *
 * DEFLATE sends messages as deflate's stored blocks: they cost nothing to compress here and
 * little to decompress there, but what comes back the server has to compress. */

#include "wire.h"

#include <sys/random.h>

typedef struct {
    wire wire;
    buffer in, out;
    uint64_t skip;
    int blocked;
} connection;

static uint8_t scratch[1 << 18];
static uint64_t random_state;
static int deflate;
static uint8_t *documents[DOCUMENTS];
static unsigned next_document;

/* CPU seconds that a process has used; 0 for none. */
static double cpu_of(pid_t pid) {
    clockid_t clock;
    struct timespec used;
    if (!pid) return 0;
    if (clock_getcpuclockid(pid, &clock) || clock_gettime(clock, &used)) die("clock_getcpuclockid");
    return used.tv_sec + used.tv_nsec * 1e-9;
}

static void draw(uint8_t key[4]) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    memcpy(key, &random_state, 4);
}

static connection *open_connection(int port, const char *path, SSL_CTX *tls) {
    connection *c = calloc(1, sizeof *c);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    char head[512];
    c->wire.fd = socket(AF_INET, SOCK_STREAM, 0);
    /* From an address of this process's own: those of 127.0.0.1 would be used up in seconds, as
     * ports rest for a minute after a connection. */
    const int no_port = 1;
    const unsigned own = getpid() & 0xffff;
    struct sockaddr_in from = {.sin_family = AF_INET,
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK + 0x10000 + (own << 4))};
    setsockopt(c->wire.fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &no_port, sizeof no_port);
    if (bind(c->wire.fd, (struct sockaddr *)&from, sizeof from)) die("bind");
    /* A server that says it is ready may listen a moment later. */
    for (double until = now() + 5; connect(c->wire.fd, (struct sockaddr *)&address, sizeof address);)
        if (errno != ECONNREFUSED || now() > until || usleep(10000)) die("connect");
    no_delay(c->wire.fd);
    if (tls) {
        c->wire.ssl = SSL_new(tls);
        SSL_set_fd(c->wire.ssl, c->wire.fd);
        if (SSL_connect(c->wire.ssl) != 1) die("SSL_connect");
    }
    int n = snprintf(head, sizeof head,
                     "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\n"
                     "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                     "Sec-WebSocket-Version: 13\r\n%s\r\n",
                     path, port,
                     deflate ? "Sec-WebSocket-Extensions: permessage-deflate; "
                               "client_max_window_bits\r\n"
                             : "");
    if (wire_send(&c->wire, head, n) != n) die("send");
    char *end = NULL;
    while (!end) {
        ssize_t got = wire_receive(&c->wire, room(&c->in, 4096), 4095);
        if (got <= 0) die("handshake");
        c->in.end += got;
        c->in.data[c->in.end] = 0;
        end = strstr((char *)c->in.data, "\r\n\r\n");
    }
    if (strncmp((char *)c->in.data, "HTTP/1.1 101", 12)) {
        fprintf(stderr, "%s\n", c->in.data);
        exit(1);
    }
    c->in.start = (uint8_t *)end + 4 - c->in.data;
    fcntl(c->wire.fd, F_SETFL, O_NONBLOCK);
    return c;
}

static void close_connection(connection *c) {
    wire_close(&c->wire);
    free(c->in.data);
    free(c->out.data);
    free(c);
}

static void put_message(connection *c, size_t size) {
    const uint8_t *payload = documents[deflate ? next_document++ % DOCUMENTS : 0];
    uint8_t key[4];
    draw(key);
    uint8_t *to = room(&c->out, size + 14);
    size_t n = write_header(to, FIN | (deflate ? RSV1 : 0) | BINARY, size, key);
    mask_into(to + n, payload, size, key);
    c->out.end += n + size;
}

/* A payload to send: of *size bytes, which for DEFLATE becomes what it is encoded. */
static uint8_t *document(size_t *size, unsigned seed) {
    size_t n = *size;
    uint8_t *data = malloc(n + 256);
    if (!deflate) {
        memset(data, 'x', n);
        return data;
    }
    if (n > 65535) n = 65535; /* one stored block (RFC 1951 section 3.2.4) */
    data[0] = 0;
    data[1] = n & 255, data[2] = n >> 8;
    data[3] = ~n & 255, data[4] = ~n >> 8 & 255;
    write_document((char *)data + 5, n, seed);
    data[n + 5] = 0; /* the message's end (RFC 7692 section 7.2.1) */
    *size = n + 6;
    return data;
}

static void flush_out(connection *c) {
    while (filled(&c->out)) {
        ssize_t n = wire_send(&c->wire, c->out.data + c->out.start, filled(&c->out));
        if (n == 0) die("send");
        if (n < 0) return;
        c->out.start += n;
    }
}

/* The messages that n more bytes in the scratch buffer end. */
static size_t count(connection *c, size_t n) {
    size_t at = 0, messages = 0;
    while (at < n) {
        if (c->skip) {
            uint64_t some = c->skip < n - at ? c->skip : n - at;
            c->skip -= some;
            at += some;
            messages += c->skip == 0;
            continue;
        }
        size_t some = n - at < 14 ? n - at : 14, held = filled(&c->in);
        memcpy(room(&c->in, some), scratch + at, some);
        header h = read_header(c->in.data + c->in.start, held + some);
        if (!h.size) {
            c->in.end += some;
            at += some;
            continue;
        }
        at += h.size - held;
        c->in.start = c->in.end = 0;
        c->skip = h.length;
        messages += h.length == 0;
    }
    return messages;
}

int main(int argc, char **argv) {
    if (argc != 10) {
        fprintf(stderr, "client MODE PORT PATH CONNECTIONS SIZE SECONDS TLS DEFLATE PID\n");
        return 2;
    }
    const char *mode = argv[1], *path = argv[3];
    int port = atoi(argv[2]), connections = atoi(argv[4]);
    size_t size = strtoul(argv[5], NULL, 10);
    double seconds = atof(argv[6]);
    signal(SIGPIPE, SIG_IGN);
    if (getrandom(&random_state, sizeof random_state, 0) != sizeof random_state) die("getrandom");
    SSL_CTX *tls = atoi(argv[7]) ? SSL_CTX_new(TLS_client_method()) : NULL;
    if (tls) prepare(tls);
    deflate = atoi(argv[8]);
    pid_t server = atoi(argv[9]);
    size_t plain = size;
    for (unsigned i = 0; i < (deflate ? DOCUMENTS : 1); i++) {
        size = plain;
        documents[i] = document(&size, i);
    }
    size_t messages = 0;
    double cpu = cpu_seconds(), server_cpu = cpu_of(server), wall = now();
    if (!strcmp(mode, "setup")) {
        for (; now() - wall < seconds; messages++) close_connection(open_connection(port, path, tls));
    } else {
        connection **all = calloc(connections, sizeof *all);
        int epoll = epoll_create1(0);
        for (int i = 0; i < connections; i++) {
            all[i] = open_connection(port, path, tls);
            size_t left = filled(&all[i]->in); /* what came behind the answer's head */
            memcpy(scratch, all[i]->in.data + all[i]->in.start, left);
            all[i]->in.start = all[i]->in.end = 0;
            count(all[i], left);
            struct epoll_event event = {.events = EPOLLIN, .data.ptr = all[i]};
            epoll_ctl(epoll, EPOLL_CTL_ADD, all[i]->wire.fd, &event);
        }
        if (!strcmp(mode, "idle")) {
            for (int i = 0; i < connections; i++) {
                put_message(all[i], size);
                flush_out(all[i]);
                fcntl(all[i]->wire.fd, F_SETFL, 0);
                ssize_t got = wire_receive(&all[i]->wire, scratch, sizeof scratch);
                if (got <= 0) die("no answer");
                if (deflate && !(scratch[0] & RSV1)) die("no compressed answer");
            }
            printf("open\n");
            fflush(stdout);
            while (getchar() != EOF) {}
            return 0;
        }
        int echoing = !strcmp(mode, "echo"), sending = !strcmp(mode, "send");
        int broadcasting = !strcmp(mode, "broadcast"), missing = connections;
        struct epoll_event events[512];
        for (int warm = 0; warm < 2; warm++) {
            double until;
            if (warm == 1) messages = 0;
            cpu = cpu_seconds();
            server_cpu = cpu_of(server);
            wall = now();
            until = wall + (warm ? seconds : 0.2);
            if (!warm && (echoing || broadcasting))
                for (int i = 0; i < (broadcasting ? 1 : connections); i++) {
                    put_message(all[i], size);
                    flush_out(all[i]);
                }
            while (now() < until) {
                if (sending) {
                    for (int i = 0; i < connections; i++) {
                        connection *c = all[i];
                        for (size_t n = 0; filled(&c->out) < 65536; n++) {
                            put_message(c, size);
                            messages++;
                        }
                        flush_out(c);
                        if (filled(&c->out)) {
                            struct epoll_event event = {.events = EPOLLOUT, .data.ptr = c};
                            epoll_ctl(epoll, EPOLL_CTL_MOD, c->wire.fd, &event);
                            epoll_wait(epoll, events, 1, 1000);
                            flush_out(c);
                        }
                    }
                    continue;
                }
                int n = epoll_wait(epoll, events, 512, 1000);
                for (int i = 0; i < n; i++) {
                    connection *c = events[i].data.ptr;
                    ssize_t got;
                    flush_out(c);
                    do {
                        got = wire_receive(&c->wire, scratch, sizeof scratch);
                        if (got == 0) die("the connection ended");
                        if (got > 0) {
                            size_t here = count(c, got);
                            messages += here;
                            missing -= broadcasting ? here : 0;
                            if (echoing) {
                                while (here--) put_message(c, size);
                                flush_out(c);
                            } else if (!missing) {
                                missing = connections;
                                put_message(all[0], size);
                                flush_out(all[0]);
                            }
                        }
                    } while (got > 0 && more_is_here(&c->wire, got, sizeof scratch));
                    uint32_t wanted = EPOLLIN | (filled(&c->out) ? EPOLLOUT : 0);
                    if (c->blocked != !!filled(&c->out)) {
                        struct epoll_event event = {.events = wanted, .data.ptr = c};
                        epoll_ctl(epoll, EPOLL_CTL_MOD, c->wire.fd, &event);
                        c->blocked = !!filled(&c->out);
                    }
                }
            }
        }
    }
    printf("{\"messages\": %zu, \"cpu\": %f, \"server_cpu\": %f, \"wall\": %f}\n", messages,
           cpu_seconds() - cpu, cpu_of(server) - server_cpu, now() - wall);
    return 0;
}
