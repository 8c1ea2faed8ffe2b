/* The server that every client is measured against: epoll, one thread, no library.
 *
 *   server [CERT KEY]      prints the port it listens on (with CERT and KEY: under TLS)
 *
 * GET /echo sends every frame back as it came, reserved bits included; so it agrees to
 * permessage-deflate without compressing anything: what the client's own compressor made is
 * what its decompressor gets. GET /source?N sends binary messages of N bytes without end, or
 * with permessage-deflate JSON documents that zlib has compressed before, each for itself; GET
 * /sink takes everything. */

#include "wire.h"

#include <openssl/evp.h>
#include <openssl/sha.h>
#include <zlib.h>

typedef enum { SHAKING, ECHO, SOURCE, SINK } role;

typedef struct {
    wire wire;
    role role;
    buffer in, out;
    uint64_t skip;   /* bytes of a payload that a sink has still to drop */
    uint8_t *block;  /* what a source sends, over and over */
    size_t block_size, block_at;
    int closing;
    uint32_t events;
} connection;

static int epoll;
static uint8_t scratch[1 << 18];

static void watch(connection *c) {
    uint32_t events = EPOLLIN;
    if (filled(&c->out) || c->role == SOURCE) events |= EPOLLOUT;
    if (events == c->events) return;
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(epoll, c->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, c->wire.fd, &event))
        die("epoll_ctl");
    c->events = events;
}

static void drop(connection *c) {
    wire_close(&c->wire);
    free(c->in.data);
    free(c->out.data);
    free(c->block);
    free(c);
}

static const char *find_header(const char *head, const char *name) {
    const char *line = strcasestr(head, name);
    return line ? line + strlen(name) : NULL;
}

/* The frames that a source sends over and over: plain messages of one size. */
static void fill_block(connection *c, size_t size) {
    size_t frame = size + 10, frames = frame < 65536 ? 262144 / frame : 2;
    c->block = calloc(frames, frame);
    for (size_t i = 0; i < frames; i++)
        c->block_size += write_header(c->block + c->block_size, FIN | BINARY, size, NULL) + size;
}

/* The same, of compressed documents that do not look back at each other. */
static void fill_deflated_block(connection *c, size_t size) {
    size_t most = compressBound(size) + 64;
    uint8_t *plain = malloc(size + 256), *packed = malloc(most);
    c->block = malloc(DOCUMENTS * (most + 10));
    for (unsigned i = 0; i < DOCUMENTS; i++) {
        z_stream stream = {0};
        if (deflateInit2(&stream, 6, Z_DEFLATED, -12, 8, Z_DEFAULT_STRATEGY) != Z_OK)
            die("deflateInit2");
        write_document((char *)plain, size, i);
        stream.next_in = plain, stream.avail_in = size;
        stream.next_out = packed, stream.avail_out = most;
        if (deflate(&stream, Z_SYNC_FLUSH) != Z_OK || stream.avail_in) die("deflate");
        size_t n = most - stream.avail_out - 4; /* without the tail (RFC 7692 section 7.2.1) */
        deflateEnd(&stream);
        c->block_size += write_header(c->block + c->block_size, FIN | RSV1 | BINARY, n, NULL);
        memcpy(c->block + c->block_size, packed, n);
        c->block_size += n;
    }
    free(plain);
    free(packed);
}

/* Answer the opening handshake; 0 if it is no such thing. */
static int shake_hands(connection *c, char *head) {
    const char *key = find_header(head, "\r\nSec-WebSocket-Key: ");
    if (!key) return 0;
    uint8_t digest[SHA_DIGEST_LENGTH];
    char text[128], accept[64], answer[512];
    snprintf(text, sizeof text, "%.24s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
    SHA1((uint8_t *)text, strlen(text), digest);
    EVP_EncodeBlock((uint8_t *)accept, digest, sizeof digest);
    size_t size = 256;
    if (!strncmp(head, "GET /sink", 9))
        c->role = SINK;
    else if (sscanf(head, "GET /source?%zu", &size) == 1)
        c->role = SOURCE;
    else
        c->role = ECHO;
    const char *offers = find_header(head, "\r\nSec-WebSocket-Extensions: ");
    const char *end = offers ? strstr(offers, "\r\n") : NULL;
    const char *offer = offers ? strstr(offers, "permessage-deflate") : NULL;
    int deflates = offer && offer < end;
    /* An echo's window is the client's, as it is the client's own stream. */
    int n = snprintf(answer, sizeof answer,
                     "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                     "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n%s%s%s\r\n",
                     accept, deflates ? "Sec-WebSocket-Extensions: permessage-deflate" : "",
                     deflates && strstr(offer, "client_max_window_bits") &&
                             strstr(offer, "server_max_window_bits=12")
                         ? "; server_max_window_bits=12; client_max_window_bits=12"
                         : "",
                     deflates ? "\r\n" : "");
    memcpy(room(&c->out, n), answer, n);
    c->out.end += n;
    if (c->role == SOURCE && deflates)
        fill_deflated_block(c, size);
    else if (c->role == SOURCE)
        fill_block(c, size);
    return 1;
}

/* Answer the frames that are here. */
static void echo(connection *c) {
    header h;
    while ((h = read_header(c->in.data + c->in.start, filled(&c->in))).size &&
           h.size + h.length <= filled(&c->in)) {
        const uint8_t *payload = c->in.data + c->in.start + h.size;
        uint8_t opcode = h.bits & 15;
        c->in.start += h.size + h.length;
        if (opcode == PONG) continue;
        uint8_t *to = room(&c->out, h.length + 14);
        size_t size = write_header(to, opcode == PING ? FIN | PONG : h.bits, h.length, NULL);
        mask_into(to + size, payload, h.length, h.key);
        c->out.end += size + h.length;
        if (opcode == CLOSE) {
            c->closing = 1;
            return;
        }
    }
}

/* Take n bytes of the scratch buffer, and what was left of a header. */
static void sink(connection *c, size_t n) {
    size_t at = 0;
    while (at < n) {
        if (c->skip) {
            uint64_t some = c->skip < n - at ? c->skip : n - at;
            c->skip -= some;
            at += some;
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
        if ((h.bits & 15) == CLOSE) {
            uint8_t close[] = {FIN | CLOSE, 2, 0x03, 0xe8};
            memcpy(room(&c->out, sizeof close), close, sizeof close);
            c->out.end += sizeof close;
            c->closing = 1;
            return;
        }
    }
}

/* Receive and answer; 0 once the connection has ended. */
static int readable(connection *c) {
    for (;;) {
        size_t held = filled(&c->in);
        int direct = c->role == SINK || c->role == SOURCE;
        size_t want = direct || held < sizeof scratch ? sizeof scratch : held;
        uint8_t *to = direct ? scratch : room(&c->in, want);
        ssize_t n = wire_receive(&c->wire, to, want);
        if (n < 0) return 1;
        if (n == 0) return 0;
        if (c->role == SINK) {
            sink(c, n);
        } else if (c->role == SOURCE) {
            header h = read_header(scratch, n);
            if (h.size && (h.bits & 15) == CLOSE) return 0;
        } else {
            c->in.end += n;
            if (c->role == SHAKING) {
                *room(&c->in, 1) = 0;
                char *head = (char *)c->in.data + c->in.start, *end = strstr(head, "\r\n\r\n");
                if (!end) continue;
                if (!shake_hands(c, head)) return 0;
                c->in.start += end + 4 - head;
            }
            if (c->role == ECHO) echo(c);
        }
        if (!more_is_here(&c->wire, n, want)) return 1;
        if (c->closing) return 1;
    }
}

/* Send what there is to send; 0 once the connection has ended. */
static int writable(connection *c) {
    while (filled(&c->out)) {
        ssize_t n = wire_send(&c->wire, c->out.data + c->out.start, filled(&c->out));
        if (n < 0) return 1;
        if (n == 0) return 0;
        c->out.start += n;
    }
    if (c->closing) return 0;
    for (int turns = 0; c->role == SOURCE && turns < 16; turns++) {
        ssize_t n = wire_send(&c->wire, c->block + c->block_at, c->block_size - c->block_at);
        if (n < 0) return 1;
        if (n == 0) return 0;
        c->block_at = (c->block_at + n) % c->block_size;
    }
    return 1;
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN);
    SSL_CTX *tls = NULL;
    if (argc == 3) {
        tls = SSL_CTX_new(TLS_server_method());
        prepare(tls);
        if (SSL_CTX_use_certificate_chain_file(tls, argv[1]) != 1 ||
            SSL_CTX_use_PrivateKey_file(tls, argv[2], SSL_FILETYPE_PEM) != 1)
            die("certificate");
    }
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 4096) ||
        getsockname(listener, (struct sockaddr *)&address, &size))
        die("listen");
    epoll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    struct epoll_event events[512];
    for (;;) {
        int n = epoll_wait(epoll, events, 512, -1);
        for (int i = 0; i < n; i++) {
            connection *c = events[i].data.ptr;
            if (!c) {
                int fd;
                while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    no_delay(fd);
                    c = calloc(1, sizeof *c);
                    c->wire.fd = fd;
                    if (tls) {
                        c->wire.ssl = SSL_new(tls);
                        SSL_set_fd(c->wire.ssl, fd);
                        SSL_set_accept_state(c->wire.ssl);
                    }
                    watch(c);
                }
                continue;
            }
            if ((events[i].events & ~EPOLLOUT && !readable(c)) || !writable(c))
                drop(c);
            else
                watch(c);
        }
    }
}
