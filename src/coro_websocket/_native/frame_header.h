/* The frame header: parsing and writing it (RFC 6455 section 5.2).
 *
 * Every rule that one header can break on its own is checked here and nowhere
 * else: reserved opcodes, the length's encoding, the two rules of control frames.
 * What needs the connection's state (masking by role, reserved bits, fragments)
 * is the engine's. Lengths are unsigned 64-bit; no sum here can wrap.
 */
#ifndef CORO_WEBSOCKET_FRAME_HEADER_H
#define CORO_WEBSOCKET_FRAME_HEADER_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define FRAME_HEADER_MAX 14

typedef struct {
    uint64_t length;
    uint32_t size; /* of the header itself: 2 to 14 */
    uint8_t fin;
    uint8_t rsv; /* rsv1 rsv2 rsv3 as the bits 4 2 1 */
    uint8_t opcode;
    uint8_t masked;
    uint8_t key[4];
} frame_header;

enum frame_header_status {
    FRAME_HEADER_OK = 1,
    FRAME_HEADER_PARTIAL = 0,
    FRAME_RESERVED_OPCODE = -1,
    FRAME_CONTROL_FRAGMENTED = -2,
    FRAME_CONTROL_TOO_LONG = -3,
    FRAME_LENGTH_NOT_MINIMAL = -4,
    FRAME_LENGTH_SIGN_BIT = -5
};

static inline uint64_t load_big_endian(const uint8_t *p, int n)
{
    uint64_t value = 0;
    for (int i = 0; i < n; i++)
        value = value << 8 | p[i];
    return value;
}

/* Parse the header at p, of which n bytes are there. What the first two bytes
 * already show to be wrong is reported before the rest of the header is there. */
static inline int frame_header_parse(const uint8_t *p, size_t n, frame_header *h)
{
    if (n < 2)
        return FRAME_HEADER_PARTIAL;
    h->fin = p[0] >> 7;
    h->rsv = p[0] >> 4 & 7;
    h->opcode = p[0] & 15;
    h->masked = p[1] >> 7;
    uint8_t length7 = p[1] & 127;
    uint32_t size = 2;
    h->length = length7;

    if ((h->opcode & 7) > 2)
        return FRAME_RESERVED_OPCODE;
    if (h->opcode & 8) {
        if (!h->fin)
            return FRAME_CONTROL_FRAGMENTED;
        if (length7 > 125)
            return FRAME_CONTROL_TOO_LONG;
    }
    if (length7 == 126) {
        if (n < 4)
            return FRAME_HEADER_PARTIAL;
        h->length = load_big_endian(p + 2, 2);
        size = 4;
        if (h->length < 126)
            return FRAME_LENGTH_NOT_MINIMAL;
    } else if (length7 == 127) {
        if (n < 10)
            return FRAME_HEADER_PARTIAL;
        h->length = load_big_endian(p + 2, 8);
        size = 10;
        if (h->length >> 63)
            return FRAME_LENGTH_SIGN_BIT;
        if (h->length < 65536)
            return FRAME_LENGTH_NOT_MINIMAL;
    }
    if (h->masked) {
        if (n < size + 4)
            return FRAME_HEADER_PARTIAL;
        memcpy(h->key, p + size, 4);
        size += 4;
    } else {
        memset(h->key, 0, 4);
    }
    h->size = size;
    return FRAME_HEADER_OK;
}

/* Write the header to p, which has room for FRAME_HEADER_MAX bytes, with the
 * shortest length (section 5.2). Returns its size. */
static inline size_t frame_header_write(uint8_t *p, const frame_header *h)
{
    size_t size;
    p[0] = (uint8_t)(h->fin << 7 | h->rsv << 4 | h->opcode);
    if (h->length < 126) {
        p[1] = (uint8_t)h->length;
        size = 2;
    } else if (h->length < 65536) {
        p[1] = 126;
        p[2] = (uint8_t)(h->length >> 8);
        p[3] = (uint8_t)h->length;
        size = 4;
    } else {
        p[1] = 127;
        for (int i = 0; i < 8; i++)
            p[2 + i] = (uint8_t)(h->length >> (56 - 8 * i));
        size = 10;
    }
    if (h->masked) {
        p[1] |= 128;
        memcpy(p + size, h->key, 4);
        size += 4;
    }
    return size;
}

#endif
