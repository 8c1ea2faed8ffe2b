"""Whether the application's source has changed, for `serve --reload`: for development only.

Files are looked at again and again, as that works on every file system, those of containers and
virtual machines among them.
"""

from __future__ import annotations

import os

__all__ = ["INTERVAL", "Watch"]

INTERVAL = 0.5  # seconds between two looks


class Watch:
    """The Python files below a folder, those of virtual environments and hidden folders aside."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._seen = self._look()

    def changed(self) -> str | None:
        """The path of a file that has changed, come or gone since the last look; None if none."""
        before, self._seen = self._seen, self._look()
        if before == self._seen:
            return None
        differ = {path for path, _ in before.items() ^ self._seen.items()}
        return os.path.relpath(min(differ), self._folder)

    def _look(self) -> dict[str, tuple[int, int]]:
        """When each was changed, and its size."""
        found = {}
        for folder, folders, files in os.walk(self._folder):
            folders[:] = [
                name
                for name in folders
                if not name.startswith((".", "__pycache__"))
                and name != "node_modules"
                and not os.path.exists(os.path.join(folder, name, "pyvenv.cfg"))
            ]
            for name in files:
                if name.endswith(".py"):
                    path = os.path.join(folder, name)
                    try:
                        state = os.stat(path)
                    except OSError:  # it has gone meanwhile
                        continue
                    found[path] = (state.st_mtime_ns, state.st_size)
        return found
