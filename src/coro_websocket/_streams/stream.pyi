from typing import Any

class Stream:
    socket: Any
    lost: bool
