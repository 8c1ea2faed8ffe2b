"""The programs in examples/, run as they are, with clients that are not ours."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from ports import reserved_port
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as their_connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from .documented import BOUND, listening, running

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio"])

CHAT = Path(__file__).parents[2] / "examples/chat.py"


@contextlib.asynccontextmanager
async def chat() -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    with reserved_port() as port:
        env = {"PORT": str(port), "CHAT_TOKENS": "s3cret=ann other=bob"}
        async with running(sys.executable, "-W", "error", str(CHAT), env=env) as process:
            await listening(process, port)
            yield process, port


def room(port: int, name: str, token: str, **options: Any) -> their_connect:
    url = f"ws://127.0.0.1:{port}/chat/{name}?token={token}"
    return their_connect(url, proxy=None, **options)


async def told(theirs: ClientConnection) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(await theirs.recv())
    return said


async def test_the_chat_server_has_rooms_tokens_and_a_health_check():
    assert len(CHAT.read_text().splitlines()) < 50
    async with (
        asyncio.timeout(BOUND),
        chat() as (process, port),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as probe,
    ):
        assert (await probe.get("/healthz")).text == "OK\n"
        assert (await probe.get("/chat/lobby?token=s3cret")).status_code == 426
        assert (await probe.get("/")).status_code == 404
        for token in ("", "wrong"):
            with pytest.raises(InvalidStatus, match="401"):
                await room(port, "lobby", token)

        async with (
            room(port, "lobby", "s3cret") as ann,
            room(port, "caf%C3%A9", "s3cret") as elsewhere,
        ):
            assert await told(ann) == {"user": "ann", "event": "joined", "members": 1}
            assert await told(elsewhere) == {"user": "ann", "event": "joined", "members": 1}
            async with room(port, "lobby", "other") as bob:
                for each in (ann, bob):
                    assert await told(each) == {"user": "bob", "event": "joined", "members": 2}
                await bob.send("Grüße")
                await ann.send(b"no text")
                await ann.send("hello")
                both = [{"user": "bob", "text": "Grüße"}, {"user": "ann", "text": "hello"}]
                for each in (ann, bob):
                    got = [await told(each), await told(each)]
                    assert sorted(got, key=str) == sorted(both, key=str)
                bob.transport.abort()  # no Close frame
            assert await told(ann) == {"user": "bob", "event": "left", "members": 1}
            await ann.send("x" * 20_000)
            with pytest.raises(ConnectionClosedError, match="1009"):
                await told(ann)

            process.send_signal(signal.SIGTERM)
            with pytest.raises(ConnectionClosedError, match="1012"):
                while True:
                    assert "text" not in await told(elsewhere)
            assert await process.wait() == 0
