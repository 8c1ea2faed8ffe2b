"""What Python 2.7 runs before the suite with --fast: it compresses fast, not well.

Most of the time that the suite takes itself is zlib's, at its usual level. The level decides how
many bytes are sent and nothing that a case looks at: whatever it is, the stream is RFC 1951's.
"""

import functools
import zlib

_compressobj = zlib.compressobj


@functools.wraps(_compressobj)
def _fast(level=1, *settings):  # type: ignore[no-untyped-def]
    return _compressobj(1, *settings)


zlib.compressobj = _fast  # type: ignore[assignment]
