"""A browser against our server: Chromium, headless, runs the tests' JavaScript in a page."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from coro_websocket import ConnectionClosedError, Message, Read, Request, Write, serve

from .conftest import missing

PAGE = Path(__file__).with_name("chromium.html")
START = 60.0  # seconds for a browser to start, on a machine that is busy
BOUND = 30.0

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio"])


class Browser:
    """A page in Chromium, and our server, which it is connected to.

    Attributes:
        accepted: the connections that the page has opened, as our handlers see them.
    """

    def __init__(self) -> None:
        self.accepted: asyncio.Queue[tuple[Request, Read, Write]] = asyncio.Queue()
        self.page: asyncio.Future[tuple[Read, Write]] = asyncio.get_running_loop().create_future()

    async def handler(self, request: Request, read: Read, write: Write) -> None:
        if request.pathname == "/control":
            self.page.set_result((read, write))
        elif request.pathname == "/echo":
            async for message in read:
                await write(message)
        else:
            self.accepted.put_nowait((request, read, write))
        await write.wait_closed()

    async def run(self, code: str) -> Any:
        """The result of an async JavaScript function with this body."""
        read, write = await self.page
        async with asyncio.timeout(BOUND):
            await write(code)
            message = await read()
        assert message is not None
        outcome = json.loads(message.payload)
        assert "error" not in outcome, outcome
        return outcome.get("result")

    async def meets(self) -> tuple[Request, Read, Write]:
        """The next connection of the page's that no echo answers."""
        async with asyncio.timeout(BOUND):
            return await self.accepted.get()


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        missing("Chromium is not installed")
    browser = Browser()
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(
            # The page is a file, which has no origin.
            serve(browser.handler, subprotocols=["chat"], origins=None, close_timeout=1)
        )
        profile = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        process = await asyncio.create_subprocess_exec(
            program,
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            *("--disable-dev-shm-usage", f"--user-data-dir={profile}"),
            f"{PAGE.as_uri()}#{server.url}",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(START):
                await asyncio.shield(browser.page)
            yield browser
        finally:
            process.kill()
            await process.wait()


async def test_it_offers_and_uses_permessage_deflate(browser: Browser) -> None:
    extensions, protocol, answer = await browser.run(
        """
        const ws = await opened("echo", ["other", "chat"]);
        ws.send("Grüße, 世界 🌍 ".repeat(10000));
        const answer = await received(ws);
        ws.close();
        await ws.closed;
        return [ws.extensions, ws.protocol, answer];
        """
    )
    assert extensions.startswith("permessage-deflate")
    assert protocol == "chat"
    assert answer == "Grüße, 世界 🌍 " * 10000


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 3_000_000])
async def test_text_and_binary_messages_of_every_length_come_back(
    browser: Browser, size: int
) -> None:
    text, binary = await browser.run(
        f"""
        const ws = await opened("echo");
        ws.send("x".repeat({size}));
        ws.send(new Uint8Array({size}).map((_, i) => i * 7));
        const text = await received(ws), binary = new Uint8Array(await received(ws));
        ws.close();
        return [text === "x".repeat({size}),
                binary.length === {size} && binary.every((byte, i) => byte === (i * 7) % 256)];
        """
    )
    assert text is True
    assert binary is True


@pytest.mark.parametrize("compress", [True, False])
async def test_fragments_of_ours_are_one_message_there(browser: Browser, compress: bool) -> None:
    running = asyncio.create_task(
        browser.run(
            """
            const ws = await opened("fragments");
            const first = await received(ws), second = await received(ws);
            ws.close();
            return [first, Array.from(new Uint8Array(second))];
            """
        )
    )
    _, read, write = await browser.meets()
    await write(["Grü", "", "ße"])
    await write(Message(b"\x01", 2, fin=False), compress=compress)
    await write.ping()
    await write(Message(b"\x02\x03", 0), compress=compress)
    assert await read() is None
    assert await running == ["Grüße", [1, 2, 3]]


async def test_a_ping_is_answered(browser: Browser) -> None:
    running = asyncio.create_task(
        browser.run('const ws = await opened("ping"); return await ws.closed;')
    )
    _, _, write = await browser.meets()
    assert await write.ping() > 0
    await write.close()
    assert (await running)["code"] == 1000


@pytest.mark.parametrize(
    ("code", "reason", "seen"),
    [
        (1000, "bye", {"code": 1000, "reason": "bye", "wasClean": True}),
        (1001, "", {"code": 1001, "reason": "", "wasClean": True}),
        (4001, "Grüße", {"code": 4001, "reason": "Grüße", "wasClean": True}),
        (None, "", {"code": 1005, "reason": "", "wasClean": True}),
    ],
)
async def test_it_sees_our_close_codes(
    browser: Browser, code: int | None, reason: str, seen: dict[str, object]
) -> None:
    running = asyncio.create_task(
        browser.run('const ws = await opened("close"); return await ws.closed;')
    )
    _, _, write = await browser.meets()
    await write.close(code, reason)
    assert await running == seen


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [("", 1005, ""), ("1000", 1000, ""), ('3001, "Grüße"', 3001, "Grüße"), ("4999", 4999, "")],
)
async def test_we_see_its_close_codes(
    browser: Browser, arguments: str, code: int, reason: str
) -> None:
    running = asyncio.create_task(
        browser.run(
            f"""
            const ws = await opened("close");
            ws.send("the last");
            ws.close({arguments});
            return await ws.closed;
            """
        )
    )
    _, read, _ = await browser.meets()
    message = await read()
    assert message is not None
    assert message.payload == "the last"
    if code in (1000, 1005):
        assert await read() is None
    else:
        with pytest.raises(ConnectionClosedError):
            await read()
    assert (read.close_code, read.close_reason) == (code, reason)
    # Our Close answers with its code.
    assert await running == {"code": code, "reason": "", "wasClean": True}
