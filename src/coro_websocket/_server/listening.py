"""Sockets to listen on: every address of a name, or a unix socket and its file.

The rules: a name is served as far as this machine has its addresses, never on half of them
because a port is in use. A unix socket's file is replaced or deleted only where nobody else can
be listening on it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .._errors import InvalidOption, ServeError
from .._quoting import clip
from .._runtimes.lookup import look_up_to_listen
from .log import logger

try:
    import fcntl
except ImportError:  # Windows, where Python has no unix sockets
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from .._runtimes.event_loop import SocketLoop

__all__ = ["Access", "UnixFile", "check_listening", "listen_tcp", "listen_unix"]

FREE_PORT_TRIES = 20  # for a port that every address of a name has free
LOCK_TRIES = 100
LOCK_PAUSE = 0.01  # seconds between two tries

# These say nothing of one address: where they come, the others are not served either.
NOT_OF_AN_ADDRESS = frozenset(
    {errno.EADDRINUSE, errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
)


def check_listening(sock: socket.socket) -> None:
    option = getattr(socket, "SO_ACCEPTCONN", None)
    if option is None or sock.getsockopt(socket.SOL_SOCKET, option):
        return
    raise InvalidOption("sock must listen already: bind it, and call its listen()", "sock")


# TCP


async def listen_tcp(
    loop: SocketLoop, hosts: Sequence[str], port: int, backlog: int, *, reuse_port: bool = False
) -> list[socket.socket]:
    """Listen on the addresses of all `hosts`, on the same port.

    Each has to have an address that is listened on; its others that cannot be had are logged.
    """
    tries = 1 if port else FREE_PORT_TRIES
    tcp = _TCP(backlog, reuse_port)
    found = [await _look_up(loop, host, port) for host in hosts]
    while True:
        tries -= 1
        try:
            listeners, failed = tcp.listen_on_all(found, port)
            break
        except _CannotListen as error:
            # A port that one address has free may be another's in use.
            if error.errno != errno.EADDRINUSE or not tries:
                where = _where(hosts[error.index], port)
                raise _cannot_listen(where, error) from error.__cause__
    for host, why in failed:
        logger.warning("listening on %s, but not on %s", _where(hosts[host], port), why)
    return listeners


def _where(host: str, port: int) -> str:
    where = clip(host) if host else "every address"
    return where + (f", port {port}" if port else "")


async def _look_up(loop: SocketLoop, host: str, port: int) -> list[Any]:
    try:
        return list(dict.fromkeys(await look_up_to_listen(loop, host, port)))
    except ValueError as error:  # UnicodeError too: no name, and not for any resolver
        raise InvalidOption(f"host: {clip(host)} is not a host name: {error}", "host") from None
    except OSError as error:
        raise _cannot_listen(_where(host, port), error) from error


class _CannotListen(OSError):
    """None of the addresses of a host can be had, or one that must be."""

    index = 0  # of the host


@dataclass(frozen=True)
class _TCP:
    """How TCP sockets are made to listen."""

    backlog: int
    reuse_port: bool

    def listen_on_all(
        self, hosts: Sequence[Sequence[Any]], port: int
    ) -> tuple[list[socket.socket], list[tuple[int, str]]]:
        """The sockets that listen; of which hosts which addresses cannot be had, and why."""
        listeners: list[socket.socket] = []
        failed: list[tuple[int, str]] = []
        taken: set[Any] = set()  # two names may have an address in common
        try:
            for index, addresses in enumerate(hosts):
                new = [address for address in addresses if address not in taken]
                taken.update(new)
                if new or not addresses:
                    found, wrong = self._listen_on_host(index, new, port)
                    listeners += found
                    failed += [(index, why) for why in wrong]
                    port = found[0].getsockname()[1]
        except BaseException:
            for listener in listeners:
                listener.close()
            raise
        return listeners, failed

    def _listen_on_host(
        self, index: int, addresses: Sequence[Any], port: int
    ) -> tuple[list[socket.socket], list[str]]:
        listeners: list[socket.socket] = []
        failed: list[str] = []
        number: int | None = None
        try:
            for family, kind, proto, _, address in addresses:
                try:
                    listener = self._listen((family, kind, proto), (address[0], port, *address[2:]))
                except OSError as error:
                    if error.errno in NOT_OF_AN_ADDRESS or len(addresses) == 1:
                        raise
                    failed.append(f"{address[0]}: {error.strerror or error}")
                    number = error.errno
                    continue
                listeners.append(listener)
                port = listener.getsockname()[1]
            if not listeners:
                raise OSError(number, "; ".join(failed))
        except BaseException as error:
            for listener in listeners:
                listener.close()
            if not isinstance(error, OSError):
                raise
            cannot = _CannotListen(error.errno, error.strerror or str(error))
            cannot.index = index
            raise cannot from error
        return listeners, failed

    def _listen(self, kind: tuple[int, int, int], address: Any) -> socket.socket:
        listener = socket.socket(*kind)
        try:
            if os.name == "posix":
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if self.reuse_port:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if listener.family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(address)
            listener.listen(self.backlog)
        except BaseException:
            listener.close()
            raise
        return listener


# Unix sockets


@dataclass(frozen=True)
class UnixFile:
    """The file of a unix socket that we listen on."""

    path: str
    device: int
    inode: int

    @classmethod
    def at(cls, path: str) -> UnixFile | None:
        """The one that was just bound to; None for an abstract name, which has no file."""
        if path.startswith("\0"):
            return None
        found = os.lstat(path)
        return cls(os.path.abspath(path), found.st_dev, found.st_ino)

    def delete(self) -> None:
        """Delete it, if it is still ours; call this before the socket is closed.

        As long as it is open, no other file has its inode number.
        """
        with contextlib.suppress(OSError):
            found = os.lstat(self.path)
            if (found.st_dev, found.st_ino) == (self.device, self.inode):
                os.unlink(self.path)


@dataclass(frozen=True)
class Access:
    """Who may connect to a unix socket: its file's permissions and owner.

    Attributes:
        mode: the permissions; None: those that the umask leaves.
        user: a number; -1: the user that the process runs as.
        group: a number; -1: the group that a new file gets.
    """

    mode: int | None = None
    user: int = -1
    group: int = -1

    def apply(self, path: str) -> None:
        """Give them to a socket's file, and to nothing that somebody has put in its place."""
        if (self.user, self.group) != (-1, -1):
            os.chown(path, self.user, self.group, follow_symlinks=False)
        if self.mode is None:
            return
        if os.chmod in os.supports_follow_symlinks:
            os.chmod(path, self.mode, follow_symlinks=False)
        elif hasattr(os, "O_PATH"):  # Linux
            descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW)
            try:
                if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                    raise OSError(errno.ENOTSOCK, "its file has been replaced")
                os.chmod(f"/proc/self/fd/{descriptor}", self.mode)
            finally:
                os.close(descriptor)
        else:
            os.chmod(path, self.mode)


async def listen_unix(
    loop: SocketLoop, path: str, backlog: int, access: Access
) -> tuple[socket.socket, UnixFile | None]:
    """Listen on a unix socket; one that a server has left behind is replaced."""
    if not hasattr(socket, "AF_UNIX"):
        raise InvalidOption("this platform has no unix sockets", "path")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        async with _only_one_starts(loop, path):
            _make_room(path)
            listener.bind(path)
            file = UnixFile.at(path)
            try:
                access.apply(path)
                listener.listen(backlog)  # nobody can connect before this
            except BaseException:
                if file is not None:
                    file.delete()
                raise
            return listener, file
    except BaseException as error:
        listener.close()
        if isinstance(error, OSError):
            raise _cannot_listen(f"the unix socket {clip(path)}", error) from error
        raise


def _make_room(path: str) -> None:
    """Delete a socket's file that nobody listens on; raise OSError where somebody does."""
    if path.startswith("\0"):
        return
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return  # bind() refuses it
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)
                return
            except BlockingIOError:  # its backlog is full
                pass
        raise OSError(errno.EADDRINUSE, "another server listens on it")


@contextlib.asynccontextmanager
async def _only_one_starts(loop: SocketLoop, path: str) -> AsyncIterator[None]:
    """Keep other servers from looking at this path until we listen on it.

    A socket that is bound and does not listen yet looks like one left behind. The lock is on the
    folder, so that it leaves nothing there; where it cannot be had, we go on without.
    """
    if path.startswith("\0"):
        yield
        return
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, folder)
            for _ in range(LOCK_TRIES):
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                await loop.sleep(LOCK_PAUSE)
        yield


def _cannot_listen(where: str, error: OSError) -> ServeError:
    return ServeError(f"cannot listen on {where}: {error.strerror or error}", error.errno)
