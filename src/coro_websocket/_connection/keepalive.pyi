import enum

class Verdict(enum.IntEnum):
    NOTHING = ...
    ASK = ...
    GONE = ...

class Keepalive:
    due: float
    def __init__(
        self,
        now: float,
        *,
        ping_interval: float | None,
        ping_timeout: float | None,
        heartbeat: float | None,
    ) -> None: ...
    def next_at(self) -> float: ...
    def heartbeat_due(self, now: float) -> bool: ...
    def look(
        self,
        now: float,
        received: int,
        sent: int,
        taken: int,
        paused: bool,
        held_back: bool,
        unanswered: bool,
    ) -> Verdict: ...
