/* Random bytes from which masking keys are taken: see `fill_masking_key` in _frames.pyx. */
#ifndef CORO_WEBSOCKET_MASKING_KEYS_H
#define CORO_WEBSOCKET_MASKING_KEYS_H

#include "per_thread.h"

#include <stddef.h>
#include <stdint.h>

typedef struct {
    size_t left; /* bytes that no frame has used yet */
    uint8_t bytes[4096];
} masking_keys_pool;

static PER_THREAD masking_keys_pool masking_keys;

#endif
