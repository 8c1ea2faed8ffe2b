"""The examples of docs/serving.md and docs/authentication.md do what is said behind them.

What is no program in these and the other pages about servers is run too: options and names exist.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import hmac
import inspect
import json
import re
import socket
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from tests.helpers.raw_peer import BOUND

import coro_websocket
from coro_websocket import HandshakeError, HTTPResponse, connect, serve
from coro_websocket.router import Router

DOCS = Path(__file__).parents[2] / "docs"
PROGRAM = re.compile(r"<!-- example: ([\w-]+) -->\n```python\n(.*?)```", re.DOTALL)
FRAGMENT = re.compile(r"(?<! -->\n)```python\n(.*?)```", re.DOTALL)

PRINTED = {
    "serving": "HELLO\n",
    "both-ways": "['1', 'you said hi']\n",
    "health": "200 b'OK\\n'\nhello ann\n",
    "first-message": "welcome\n4401\n",
    "too-often": "401\n401\n401\n429\n",
}


def text_of(page: str) -> str:
    return (DOCS / page).read_text()


PROGRAMS = {
    name: code
    for page in ("serving.md", "authentication.md")
    for name, code in PROGRAM.findall(text_of(page))
}


def test_every_program_is_known():
    assert PROGRAMS.keys() == PRINTED.keys()


@pytest.mark.parametrize("name", PRINTED)
def test_a_program_prints_what_it_says(name: str):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAMS[name]],
        capture_output=True,
        text=True,
        timeout=BOUND,
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", PRINTED[name])


# Fragments, each page's from top to bottom, with what they speak of.


class Sessions:
    async def find(self, session: str | None) -> Any:
        return types.SimpleNamespace(user="ann") if session == "1" else None


class FakeJWT(types.ModuleType):
    """Of PyJWT, what the page uses."""

    class InvalidTokenError(Exception):
        pass

    def decode(self, token: str, *_: Any, **__: Any) -> dict[str, str]:
        if not token.startswith("t0ken"):
            raise self.InvalidTokenError
        return {"sub": "ann", "scope": token.removeprefix("t0ken.").replace(".", " ")}


class Listeners:
    """Sockets that listen, as systemd and users have them."""

    def __init__(self) -> None:
        self._opened: list[socket.socket] = []

    def open(self, *_: str) -> list[socket.socket]:
        self._opened.append(socket.create_server(("127.0.0.1", 0)))
        return self._opened[-1:]

    def close(self) -> None:
        for each in self._opened:
            each.close()

    def serve(self, *arguments: Any, **options: Any) -> None:
        """`serve`, of which nobody awaits what it returns."""
        if options.get("sock") == "systemd":
            options["sock"] = self.open()
        serve(*arguments, **options).close()


async def tell(req, read, write):
    await write(f"{vars(req.state)} {req.subprotocol}")


def known_names(listeners: Listeners) -> dict[str, Any]:
    return {
        **vars(coro_websocket),
        "serve": listeners.serve,
        "systemd_sockets": listeners.open,
        "listener": listeners.open()[0],
        "router": Router(),
        "admin": tell,
        "chat": tell,
        "graphql": tell,
        "tenants": {"https://one.example"},
        "asyncio": asyncio,
        "hmac": hmac,
        "json": json,
        "handler": tell,
        "shout": tell,
        "sessions": Sessions(),
        "jwt": FakeJWT("jwt"),
        "public_key": "",
        "hashes": {"ann": "hash of s3cret"},
        "hash_of": lambda password: f"hash of {password}",
        "health": lambda req: None,
    }


async def run(code: str, names: dict[str, Any]) -> None:
    compiled = compile(code, "<docs>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = eval(compiled, names)  # noqa: S307
    if inspect.isawaitable(result):
        await result


async def fragments_of(page: str) -> dict[str, Any]:
    with contextlib.closing(Listeners()) as listeners:
        names = known_names(listeners)
        for code in FRAGMENT.findall(text_of(page)):
            await run(code, names)
    return names


async def outcome(server: Any, **options: Any) -> Any:
    """The status that it is refused with, or what the handler says."""
    try:
        async with connect(server.url, **options) as (_, read, _):
            return (await read()).payload
    except HandshakeError as error:
        assert error.response is not None
        return error.response.code


async def test_the_fragments_of_serving_run():
    assert "serve_until_told" in await fragments_of("serving.md")


async def test_the_fragments_of_authentication_do_what_they_say():
    names = await fragments_of("authentication.md")

    async with serve(tell, process_request=names["from_the_database"]) as server:
        assert await outcome(server) == 401
        assert "ann" in await outcome(server, headers={"Cookie": "session=1"})

    for check in (names["check"], names["check_slowly"]):
        async with serve(tell, process_request=coro_websocket.basic_auth(check)) as server:
            for password, expected in (("s3cret", "{'user': 'ann'} None"), ("wr0ng", 401)):
                authorization = coro_websocket.parse_url(f"ws://ann:{password}@h/").authorization
                assert authorization is not None
                headers = {"Authorization": authorization}
                assert await outcome(server, headers=headers) == expected

    hooks = [coro_websocket.bearer_auth(names["claims_of"]), names["only_writers"]]
    async with serve(tell, process_request=hooks) as server:
        for token, refused in (("wr0ng", 401), ("t0ken.read", 403), ("t0ken.read.write", None)):
            found = await outcome(server, headers={"Authorization": f"Bearer {token}"})
            assert found == refused or (refused is None and "ann" in found)

    async with serve(tell, process_request=names["need_a_version"]) as server:
        assert await outcome(server, subprotocol=["v1", "v2"]) == "{} v2"
        assert await outcome(server, subprotocol=["v1"]) == 400

    changed = names["always"](coro_websocket.Request(), HTTPResponse(200))
    assert list(changed.headers) == [("X-Request-Id", "none")]


@pytest.mark.parametrize("page", ["connections.md", "listening.md", "routing.md", "security.md"])
async def test_the_fragments_of_other_pages_run(page: str):
    assert FRAGMENT.search(text_of(page))
    await fragments_of(page)


def test_every_option_of_serve_is_in_the_table():
    table = text_of("serving.md").partition("## Options")[2].partition("\n## ")[0]
    named = set(
        re.findall(
            r"`(\w+)`",
            "\n".join(row.split("|")[1] for row in table.splitlines() if row.startswith("|")),
        )
    )
    from coro_websocket._server.serve import ADDRESS_AND_HANDSHAKE, SERVER_OPTIONS

    assert named == {*ADDRESS_AND_HANDSHAKE, *SERVER_OPTIONS}
