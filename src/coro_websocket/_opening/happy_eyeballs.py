"""TCP to a host: its addresses are tried a little after one another, and the first to answer wins.

RFC 8305, "Happy Eyeballs".
"""

from __future__ import annotations

import collections
import errno
import os
from typing import TYPE_CHECKING

from .._http.opening_errors import ConnectError
from .._runtimes.lookup import scoped
from .._streams.user_socket import ConnectionSocket
from .resolve import resolve

if TYPE_CHECKING:
    from .._options.options import Options
    from .._options.proxy import Proxy
    from .._runtimes.event_loop import Running, SocketLoop
    from .phase import Phase
    from .resolve import Address

__all__ = ["connect_host", "os_reason"]

ATTEMPT_DELAY = 0.25  # seconds from one address to the next (RFC 8305 section 5)


async def connect_host(
    loop: SocketLoop,
    options: Options,
    host: str,
    port: int,
    phase: Phase,
    proxy: Proxy | None = None,
) -> ConnectionSocket:
    async with phase.of("resolve", proxy):
        addresses = await resolve(loop, options, host, port)
    async with phase.of("connect", proxy):
        return await _connect_first(loop, addresses, options.local_addr, f"{host} port {port}")


async def _connect_first(
    loop: SocketLoop,
    addresses: list[Address],
    local_addr: tuple[str, int] | None,
    where: str,
) -> ConnectionSocket:
    """The first address that answers (RFC 8305 section 5)."""
    attempts = [Attempt(loop, address, local_addr) for address in addresses]
    try:
        if len(attempts) == 1:
            await attempts[0].run()
        else:
            await _race(loop, attempts)
    except BaseException:
        for attempt in attempts:
            attempt.abandon()
        raise
    for attempt in attempts:
        if attempt.sock is not None:
            return attempt.sock
    for attempt in attempts:
        if not isinstance(attempt.error, OSError):
            raise attempt.error
    reasons = "; ".join(attempt.why() for attempt in attempts)
    raise ConnectError(f"cannot connect to {where}: {reasons}") from attempts[-1].error


async def _race(loop: SocketLoop, attempts: list[Attempt]) -> None:
    """Run the attempts until one has connected; all others are abandoned."""
    waiting = collections.deque(attempts)
    running: dict[Running, Attempt] = {}
    try:
        while waiting or running:
            if waiting:
                attempt = waiting.popleft()
                running[loop.spawn(attempt.run)] = attempt
            await loop.wait(running, ATTEMPT_DELAY if waiting else None, first=True)
            for task in [each for each in running if each.done()]:
                if running.pop(task).sock is not None:
                    return
    finally:
        for task, attempt in running.items():
            attempt.abandon()
            task.cancel()
        await loop.wait(running)


class Attempt:
    """To connect to one address. At its end it has a `sock`, or else an `error`."""

    def __init__(
        self, loop: SocketLoop, address: Address, local_addr: tuple[str, int] | None
    ) -> None:
        self.loop = loop
        self.address = address
        self.local_addr = local_addr
        self.sock: ConnectionSocket | None = None
        self.error: Exception = OSError(errno.ECANCELED, os.strerror(errno.ECANCELED))
        self.abandoned = False

    async def run(self) -> None:
        try:
            self.sock = await self._connect()
        except Exception as error:
            self.error = error
        if self.abandoned:  # in the moment in which it connected
            self.abandon()

    async def _connect(self) -> ConnectionSocket:
        family, kind, proto, remote = self.address
        sock = ConnectionSocket(family, kind, proto)
        try:
            if self.local_addr is not None:
                sock.bind(scoped(self.local_addr))
            await self.loop.connect(sock, scoped(remote))
        except BaseException:
            sock.release()
            raise
        return sock

    def abandon(self) -> None:
        self.abandoned = True
        if self.sock is not None:
            self.sock.release()
            self.sock = None

    def why(self) -> str:
        """The address, and why it cannot be connected to."""
        host, error = str(self.address[3][0]), self.error
        reason = os_reason(error) if isinstance(error, OSError) else str(error)
        unusable = isinstance(error, OSError) and error.errno == errno.EINVAL
        if unusable and host.startswith("fe80:") and "%" not in host:
            reason += " (a link-local address needs a zone, as in fe80::1%eth0)"
        return f"{host}: {reason}"


def os_reason(error: OSError) -> str:
    """What the system says; asyncio puts words of its own in place of that."""
    return os.strerror(error.errno) if error.errno else str(error)
