"""The groups of a server, by their names.

The rule: a name has one group while that has members, or while anybody holds it.
"""

from __future__ import annotations

import threading
import weakref

from .._checks import wrong_type
from .._connection.group import Group

__all__ = ["NamedGroups"]


class NamedGroups:
    """Groups that are made when they are first asked for, and forgotten when nobody has them."""

    def __init__(self) -> None:
        # Connections hold the groups that they are in.
        self._groups: weakref.WeakValueDictionary[str, Group] = weakref.WeakValueDictionary()
        self._lock = threading.Lock()

    def get(self, name: str) -> Group:
        """The group of this name. May be called in any thread."""
        if not isinstance(name, str):
            raise wrong_type("name", "str", name)
        with self._lock:
            group = self._groups.get(name)
            if group is None:
                group = self._groups[name] = Group(name)
            return group
