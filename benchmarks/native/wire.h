/* What both ends of the benchmarks share: buffers, sockets under TLS or not, frame headers.
 *
 * It trusts its peer: no limits, no checks. It is the floor that libraries are compared with,
 * not an example of how to read from a network. RFC 6455 section 5.2. */

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define FIN 0x80
#define RSV1 0x40
#define MASKED 0x80
#define CONTROL 0x08
#define CLOSE 0x08
#define PING 0x09
#define PONG 0x0a
#define BINARY 0x02

static void die(const char *what) {
    perror(what);
    exit(1);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static inline double cpu_seconds(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return used.ru_utime.tv_sec + used.ru_stime.tv_sec +
           (used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1e-6;
}

/* Bytes from start to end. */
typedef struct {
    uint8_t *data;
    size_t start, end, capacity;
} buffer;

static size_t filled(const buffer *b) { return b->end - b->start; }

static uint8_t *room(buffer *b, size_t n) {
    if (b->start == b->end) b->start = b->end = 0;
    if (b->capacity - b->end < n) {
        memmove(b->data, b->data + b->start, filled(b));
        b->end -= b->start;
        b->start = 0;
        if (b->capacity - b->end < n) {
            b->capacity = b->end + n + b->end / 2;
            b->data = realloc(b->data, b->capacity);
            if (!b->data) die("realloc");
        }
    }
    return b->data + b->end;
}

/* A non-blocking socket, under TLS if ssl is not NULL. */
typedef struct {
    int fd;
    SSL *ssl;
} wire;

/* The bytes received or sent; 0 at the end of the stream, -1 if it would block. */
static ssize_t wire_io(wire *w, uint8_t *data, size_t n, int sending) {
    ssize_t done;
    if (!w->ssl) {
        done = sending ? send(w->fd, data, n, MSG_NOSIGNAL) : recv(w->fd, data, n, 0);
        if (done < 0) return errno == EAGAIN ? -1 : 0;
        return done;
    }
    ERR_clear_error();
    done = sending ? SSL_write(w->ssl, data, n > 1 << 30 ? 1 << 30 : (int)n)
                   : SSL_read(w->ssl, data, n > 1 << 30 ? 1 << 30 : (int)n);
    if (done > 0) return done;
    int error = SSL_get_error(w->ssl, (int)done);
    return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? -1 : 0;
}

static ssize_t wire_receive(wire *w, void *data, size_t n) { return wire_io(w, data, n, 0); }

static ssize_t wire_send(wire *w, const void *data, size_t n) {
    return wire_io(w, (uint8_t *)data, n, 1);
}

/* Whether there may be more at once, after `got` of `wanted` bytes: one receive call a message. */
static int more_is_here(wire *w, ssize_t got, size_t wanted) {
    return w->ssl ? SSL_has_pending(w->ssl) : (size_t)got == wanted;
}

/* Receive a record's header and its payload at once. */
static void prepare(SSL_CTX *tls) {
    SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(tls, 1);
}

static void wire_close(wire *w) {
    if (w->ssl) SSL_free(w->ssl);
    close(w->fd);
}

typedef struct {
    uint8_t bits;
    int masked;
    uint8_t key[4];
    uint64_t length;
    size_t size; /* of the header itself; 0 while it is not all here */
} header;

static header read_header(const uint8_t *data, size_t n) {
    header h = {0};
    if (n < 2) return h;
    size_t size = 2;
    uint64_t length = data[1] & 127;
    size_t extended = length == 126 ? 2 : length == 127 ? 8 : 0;
    if (n < size + extended) return h;
    if (extended) {
        length = 0;
        for (size_t i = 0; i < extended; i++) length = length << 8 | data[size + i];
        size += extended;
    }
    h.masked = data[1] >> 7;
    if (h.masked) {
        if (n < size + 4) return h;
        memcpy(h.key, data + size, 4);
        size += 4;
    }
    h.bits = data[0];
    h.length = length;
    h.size = size;
    return h;
}

/* Write a header, masked if key is not NULL; its size, 14 at most. */
static size_t write_header(uint8_t *to, uint8_t bits, uint64_t length, const uint8_t *key) {
    size_t size = 2, extended = length < 126 ? 0 : length < 65536 ? 2 : 8;
    to[0] = bits;
    to[1] = (key ? MASKED : 0) | (extended == 0 ? (uint8_t)length : extended == 2 ? 126 : 127);
    for (size_t i = 0; i < extended; i++) to[size++] = length >> 8 * (extended - 1 - i);
    if (key) {
        memcpy(to + size, key, 4);
        size += 4;
    }
    return size;
}

static void mask_into(uint8_t *restrict to, const uint8_t *restrict from, size_t n,
                      const uint8_t key[4]) {
    uint32_t word;
    uint64_t twice;
    size_t i = 0;
    memcpy(&word, key, 4);
    twice = (uint64_t)word << 32 | word;
    for (; i + 8 <= n; i += 8) {
        uint64_t v;
        memcpy(&v, from + i, 8);
        v ^= twice;
        memcpy(to + i, &v, 8);
    }
    for (; i < n; i++) to[i] = from[i] ^ key[i & 3];
}

static void no_delay(int fd) {
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

#define DOCUMENTS 64 /* alike but not the same, as compressors like to see the same again */

/* n bytes of a JSON document, into a buffer of 200 bytes more. */
static void write_document(char *to, size_t n, unsigned seed) {
    size_t at = 0;
    for (unsigned row = seed * 31; at < n; row++)
        at += snprintf(to + at, 200,
                       "{\"id\": %u, \"symbol\": \"%s\", \"price\": %.5f, \"side\": \"%s\"}, ",
                       7000000 + row * 13, row % 3 ? "EURUSD" : "BTCUSDT", 1.07 + row * 0.00137,
                       row % 2 ? "buy" : "sell");
}
