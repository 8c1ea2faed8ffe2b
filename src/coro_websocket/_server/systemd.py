"""Being a service of systemd: sockets that it listens on for us, and telling it how we are.

The rule: what the environment says is taken once, and only if it is meant for this process; then
it is removed, so that no program that we start takes it for its own.

See sd_listen_fds(3) and sd_notify(3).
"""

from __future__ import annotations

import os
import socket
import threading
from typing import TYPE_CHECKING

from .._checks import wrong_type
from .._errors import InvalidOption
from .._quoting import clip

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["systemd_notify", "systemd_sockets"]

FIRST = 3  # the first descriptor that is passed
UNNAMED = "unknown"  # what systemd itself calls a socket without a name

_lock = threading.Lock()
_passed: list[tuple[str, int]] = []  # the names and descriptors that nobody has taken yet
_names: dict[str, None] = {}  # all names that were passed, in their order


def systemd_sockets(names: str | Iterable[str] | None = None) -> list[socket.socket]:
    """The sockets that systemd has opened for this program (socket activation).

    Each is given once, to `serve`:

        sockets = systemd_sockets()
        serve(handler, sock=sockets) if sockets else serve(handler, port=8000)

    Args:
        names: only those with this name, or one of these (`FileDescriptorName=` in the socket
            unit; by default the unit's own name); None, the default: all.

    Returns:
        The sockets, in the order of the unit's `ListenStream=` lines; none if systemd has passed
        none to this process. They are not inherited by programs that this one starts.

    Raises:
        InvalidOption: systemd has passed sockets, but none with a name that was asked for; or
            LISTEN_FDS is wrong.
    """
    wanted = _check_names(names)
    with _lock:
        _take_from_environment()
        missing = [name for name in wanted or () if name not in _names]
        if missing and _names:
            raise InvalidOption(
                f"systemd has passed no socket named {clip(missing[0])}, only "
                f"{clip(', '.join(_names))}: FileDescriptorName= in the socket unit "
                "names them",
                "names",
            )
        taken = [each for each in _passed if wanted is None or each[0] in wanted]
        sockets: list[socket.socket] = []
        for each in taken:
            try:
                sockets.append(socket.socket(fileno=each[1]))
            except OSError as error:
                for sock in sockets:
                    sock.detach()
                raise InvalidOption(
                    f"descriptor {each[1]}, which LISTEN_FDS says systemd has passed, is not a "
                    f"socket: {error.strerror or error}",
                    "LISTEN_FDS",
                ) from None
        _passed[:] = [each for each in _passed if each not in taken]
        return sockets


def _check_names(names: str | Iterable[str] | None) -> tuple[str, ...] | None:
    if names is None:
        return None
    if isinstance(names, str):
        return (names,)
    try:
        found = tuple(names)
    except TypeError:
        raise wrong_type("names", "str, several of them, or None", names) from None
    for name in found:
        if not isinstance(name, str):
            raise wrong_type("names: each", "str", name)
    return found


def _take_from_environment() -> None:
    """Note what is passed to this process, and remove it from the environment."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return  # none, or for the process that has started this one
    os.environ.pop("LISTEN_PID")
    os.environ.pop("LISTEN_PIDFDID", None)
    count = os.environ.pop("LISTEN_FDS", "")
    names = os.environ.pop("LISTEN_FDNAMES", "").split(":")
    if not (count.isascii() and count.isdigit()) or len(count) > 5:
        raise InvalidOption(
            f"LISTEN_FDS must be the number of sockets passed, not {clip(count)}", "LISTEN_FDS"
        )
    for index in range(int(count)):
        descriptor = FIRST + index
        try:
            os.set_inheritable(descriptor, False)
        except OSError as error:
            raise InvalidOption(
                f"LISTEN_FDS says {count} sockets, but descriptor {descriptor} is not open: "
                f"{error.strerror}",
                "LISTEN_FDS",
            ) from None
        name = (names[index] if index < len(names) else "") or UNNAMED
        _passed.append((name, descriptor))
        _names[name] = None


def systemd_notify(state: str) -> bool:
    """Tell systemd the state of this service; for units with `Type=notify`.

    `serve_forever(signals=True)` and the command do so by themselves.

    Args:
        state: "READY=1", "STOPPING=1", "STATUS=what to show", or several such lines.

    Returns:
        Whether it was told; False, and nothing done, if NOTIFY_SOCKET is not in the environment,
        or nobody listens there: that is never a reason for a service to fail.
    """
    if not isinstance(state, str):
        raise wrong_type("state", "str", state)
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")) or not hasattr(socket, "AF_UNIX"):
        return False
    if path.startswith("@"):  # an abstract name
        path = "\0" + path[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.sendto(state.encode(), path)
    except (OSError, ValueError):
        return False
    return True
