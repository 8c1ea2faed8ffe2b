/* One large block, asked for and given back: see `keep_large_blocks` in buffers.pyx. */
#ifndef CORO_WEBSOCKET_LARGE_BLOCK_H
#define CORO_WEBSOCKET_LARGE_BLOCK_H

#include "per_thread.h"

#include <stdlib.h>

static PER_THREAD int large_blocks_kept; /* it was shown; once more by each thread does no harm */

static inline void large_block_show(size_t size)
{
    void *volatile block = malloc(size); /* volatile: else the compiler leaves both calls out */
    free(block);
}

#endif
