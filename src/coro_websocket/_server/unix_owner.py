"""Who owns a unix socket's file: users and groups, by name or by number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from .._checks import check_int, is_int, wrong_type
from .._errors import InvalidOption
from .._quoting import clip

try:
    import grp
    import pwd
except ImportError:  # Windows
    grp = pwd = None  # type: ignore[assignment]

__all__ = ["Owner", "check_owner"]

UserOrGroup: TypeAlias = "str | int | None"
Owner: TypeAlias = "str | int | Sequence[UserOrGroup]"

KEEP = -1  # what chown() does not change
MOST = 2**32 - 2  # the last number means KEEP


def check_owner(owner: Owner | None) -> tuple[int, int]:
    """The numbers of the user and of the group; -1 for what is not to be changed."""
    if owner is None:
        return KEEP, KEEP
    user, group = _pair(owner)
    if pwd is None:
        raise InvalidOption("owner: this platform's files have no such owners", "owner")
    return _number(user, "user"), _number(group, "group")


def _pair(owner: object) -> tuple[object, object]:
    if isinstance(owner, str) or is_int(owner):
        return owner, None
    if (
        isinstance(owner, Sequence)
        and not isinstance(owner, (bytes, bytearray))
        and len(owner) == 2
    ):
        return owner[0], owner[1]
    raise wrong_type("owner", "a user's name or number, or a pair of a user and a group", owner)


def _number(value: object, what: str) -> int:
    if value is None:
        return KEEP
    if isinstance(value, str):
        try:
            return pwd.getpwnam(value).pw_uid if what == "user" else grp.getgrnam(value).gr_gid
        except (KeyError, ValueError):
            raise InvalidOption(f"owner: there is no {what} {clip(value)}", "owner") from None
    if not is_int(value):
        raise wrong_type(f"owner: the {what}", "a name or a number", value, "owner")
    return check_int(f"owner: the {what}", value, 0, MOST, option="owner")
