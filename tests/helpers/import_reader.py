"""Which modules a source file names: imports of Python, imports and cimports of Cython.

Imports for types only and those inside a function count like any other.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

# What begins or ends a statement of Cython that is an import, in text without strings.
_STATEMENT = re.compile(
    r"(?:^|;)[ \t]*(?:from[ \t]+(?P<base>\.*[\w.]*)[ \t]+c?import\b[ \t]*(?P<names>\([^)]*\)|[^;\n]*)"
    r"|c?import[ \t]+(?P<modules>[^;\n]*))",
    re.MULTILINE,
)
_STRING = re.compile(r'"""(.*?)"""|\'\'\'(.*?)\'\'\'|"([^"\n]*)"|\'([^\'\n]*)\'', re.DOTALL)
_COMMENT = re.compile(r"#[^\n]*")
_CONTINUED = re.compile(r"\\\n")


def module_of(path: Path, source_folder: Path) -> str:
    """The dotted name of the module that a file is, or is a part of."""
    parts = path.relative_to(source_folder).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(
    source: str, module: str, *, package: bool = False, cython: bool = False
) -> set[str]:
    """The absolute names of what a module imports: `a` of `import a`, `a.b` of `from a import b`.

    package: the module is the `__init__` of a package.
    """
    home = module if package else module.rpartition(".")[0]
    found: set[str] = set()
    for base, names in _cython_imports(source) if cython else _python_imports(source):
        absolute = _absolute(base, home)
        found.update(absolute if name == "*" else f"{absolute}.{name}" for name in names)
        if not names:
            found.add(absolute)
    return found


def strings_of(source: str, *, cython: bool = False) -> set[str]:
    """The string constants in a source: a module may be named by one too, as in `sys.modules`."""
    if cython:
        return {"".join(filter(None, groups)) for groups in _STRING.findall(_uncommented(source))}
    tree = ast.parse(source)
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def _python_imports(source: str) -> Iterator[tuple[str, list[str]]]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, []
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or ""), [alias.name for alias in node.names]


def _cython_imports(source: str) -> Iterator[tuple[str, list[str]]]:
    text = _CONTINUED.sub(" ", _COMMENT.sub("", _STRING.sub('""', _uncommented(source))))
    for match in _STATEMENT.finditer(text):
        if match["modules"] is not None:
            for name in _names(match["modules"]):
                yield name, []
        else:
            yield match["base"], _names(match["names"])


def _uncommented(source: str) -> str:
    """The source without whole lines of comment, whose apostrophes would seem to begin strings."""
    return re.sub(r"^[ \t]*#[^\n]*", "", source, flags=re.MULTILINE)


def _names(listed: str) -> list[str]:
    """The names of `a, b as c`, with or without parentheses around them."""
    return [each.split()[0] for each in listed.strip("() \t\n").split(",") if each.strip()]


def _absolute(base: str, home: str) -> str:
    dots = len(base) - len(base.lstrip("."))
    if not dots:
        return base
    parts = home.split(".")
    return ".".join([*parts[: len(parts) - dots + 1], *filter(None, [base[dots:]])])
