from .._errors import ConnectionClosedError
from .._options.options import Options
from .._rfc6455.engine import Engine
from .._streams.stream import Stream

class Connection:
    engine: Engine
    stream: Stream
    ended_with: ConnectionClosedError | None
    def __init__(
        self,
        engine: Engine,
        options: Options,
        stream: Stream,
        leftover: bytes = b"",
    ) -> None: ...
