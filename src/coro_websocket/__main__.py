"""`python -m coro_websocket`: the same as the command `coro-websocket`."""

from ._cli import main

raise SystemExit(main())
