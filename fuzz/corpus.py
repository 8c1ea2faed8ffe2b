"""The corpus that is kept: a file for each target, an input in each line, in base64."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "corpus"


def inputs(target: str) -> list[bytes]:
    path = FOLDER / f"{target}.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    return [base64.b64decode(line, validate=True) for line in lines]


def unpack(target: str, folder: Path) -> None:
    """Put the inputs into a folder as libFuzzer has them: a file each, named by its hash."""
    folder.mkdir(parents=True, exist_ok=True)
    for data in inputs(target):
        (folder / hashlib.sha1(data).hexdigest()).write_bytes(data)


def pack(target: str, folder: Path) -> None:
    """Keep the inputs in a folder, the shortest first."""
    found = sorted((path.read_bytes() for path in folder.iterdir()), key=lambda d: (len(d), d))
    FOLDER.mkdir(exist_ok=True)
    lines = [base64.b64encode(data).decode() + "\n" for data in found]
    (FOLDER / f"{target}.txt").write_text("".join(lines))
