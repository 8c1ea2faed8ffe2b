"""The command `coro-websocket`: demo, connect, serve.

Its exit status: 0 for a connection that ended cleanly (1000, 1001 or no code), or a server that a
signal has ended; 1 for a connection that did not or that could not be made, or a server that could
not begin; 2 for a wrong call, 130 when interrupted.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
from typing import TYPE_CHECKING

from .._errors import InvalidOption, InvalidURL, WebSocketError
from .._version import version
from .connect import add_connect
from .demo import add_demo
from .output import complain
from .serve import add_serve

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (default: the process's); its exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(arguments)
    options.arguments = list(arguments)
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.WARNING,
        format="%(name)s: %(message)s",
    )
    if isinstance(sys.stdout, io.TextIOWrapper):  # whatever it cannot show is not a reason to stop
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status: int = options.run(options)
        return status
    except (InvalidURL, InvalidOption) as error:
        complain(error)
        return 2
    except BrokenPipeError:  # whoever read what we print has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (WebSocketError, OSError) as error:
        complain(error)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="coro-websocket",
        description="WebSockets from the command line.",
    )
    parser.add_argument("--version", action="version", version=f"coro-websocket {version()}")
    parser.add_argument("-v", "--verbose", action="store_true", help="log what happens to stderr")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    add_demo(commands)
    add_connect(commands)
    add_serve(commands)
    return parser
