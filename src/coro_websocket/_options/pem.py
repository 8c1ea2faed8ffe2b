"""PEM text and the files that hold it: what `tls.cert`, `tls.key` and `tls.ca` are given as.

The rule: key material stays where it came from. No message and no `repr` shows it, and no file
holds it, not even for a moment if the system can help it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import sys
import tempfile
from typing import TYPE_CHECKING, Any, TypeAlias

from .._errors import InvalidOption
from .._quoting import clip

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

__all__ = ["PEM", "as_file", "pem_content", "pem_text", "read_pem", "redacted_pem"]

PEM: TypeAlias = str | bytes | os.PathLike[str]
"""PEM text, which is what has "-----BEGIN" in it, or else the path of a file that holds it."""

# A key that was meant to be PEM may come as bare base64, and would be taken for a path.
_MAY_BE_A_KEY = re.compile(r"[A-Za-z0-9+/=_-]{48,}")


def pem_text(value: PEM) -> bytes | None:
    """`value` if it is PEM text, None if it is a path."""
    if isinstance(value, str):
        value = value.encode("ascii", "replace") if "-----BEGIN" in value else b""
    return value if isinstance(value, bytes) and b"-----BEGIN" in value else None


def read_pem(value: PEM, option: str) -> bytes:
    text = pem_text(value)
    if text is not None:
        return text
    try:
        with open(value, "rb") as file:
            return file.read()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not a path"
        raise InvalidOption(
            f"{option} cannot be read: {reason}: {redacted_pem(value)}", option
        ) from None


@contextlib.contextmanager
def as_file(value: PEM, text: bytes, option: str) -> Iterator[str]:
    """The path of a file that holds `text`, read from `value`, for as long as the context lasts.

    OpenSSL, by way of Python, reads certificate and key from files only.

    PEM text, and what came through a pipe, is kept in memory where the system can give that a path;
    elsewhere in a file that only this user can read, and which is removed whatever happens.
    """
    if pem_text(value) is None and os.path.isfile(value):
        yield os.fsdecode(value)
        return
    with contextlib.ExitStack() as stack:
        try:
            path = _in_memory(text, stack) or _in_temporary_file(text, stack)
        except OSError as error:
            raise InvalidOption(
                f"{option} cannot be handed to OpenSSL as PEM text, as no temporary file can be "
                f"written ({error.strerror}): give the path of a file",
                option,
            ) from error
        yield path


def _in_memory(text: bytes, stack: contextlib.ExitStack) -> str | None:
    if sys.platform != "linux" or not hasattr(os, "memfd_create"):
        return None
    try:
        descriptor = os.memfd_create("pem")
    except OSError:
        return None
    stack.callback(os.close, descriptor)
    path = f"/proc/self/fd/{descriptor}"
    if not os.path.exists(path):
        return None
    with open(descriptor, "wb", closefd=False) as file:
        file.write(text)
    return path


def _in_temporary_file(text: bytes, stack: contextlib.ExitStack) -> str:
    descriptor, path = tempfile.mkstemp(suffix=".pem")
    stack.callback(os.unlink, path)
    with open(descriptor, "wb") as file:
        file.write(text)
    return path


def pem_content(value: PEM) -> Hashable:
    """Stands for the content of PEM text, of which no key is kept, or of a file."""
    text = pem_text(value)
    if text is not None:
        return hashlib.sha256(text).digest()
    status = os.stat(value)
    if not stat.S_ISREG(status.st_mode):
        raise OSError("what a pipe or a directory has is not known beforehand")
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def redacted_pem(value: Any) -> str:
    """A path as it is; PEM text, or what may be some, hidden."""
    if pem_text(value) is not None:
        return "[PEM text]"
    path = os.fsdecode(value)
    return "[hidden]" if "\n" in path or _MAY_BE_A_KEY.fullmatch(path) else clip(path, 255)
