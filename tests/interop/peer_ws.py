"""The npm package ws, as a peer: in a process of Node.js that is told what to do.

Both ways one line of JSON is one command or event; node/connection.js is the other end.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from .peers import Peer, Place, Refused, Terms, Theirs, TheirServer

NODE = Path(__file__).parent / "node"
LINE = 16 * 1024 * 1024  # more than the largest message in base64


class NodeError(Exception):
    """What the package said was wrong."""


class NodeConnection(Theirs):
    def __init__(self, node: Node, number: int) -> None:
        self.node = node
        self.number = number
        self.messages: asyncio.Queue[str | bytes] = asyncio.Queue()
        self.pongs: asyncio.Queue[bytes] = asyncio.Queue()
        self.opening = asyncio.get_running_loop().create_future()
        self.end = asyncio.get_running_loop().create_future()
        self.echoes = asyncio.Event()

    def happened(self, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "message":
            data = base64.b64decode(event["data"])
            self.messages.put_nowait(data if event["binary"] else data.decode())
        elif kind == "pong":
            self.pongs.put_nowait(base64.b64decode(event["data"]))
        elif kind == "echoing":
            self.echoes.set()
        elif kind == "close":
            self.end.set_result((event["code"], event["reason"]))
        elif kind == "open":
            self.subprotocol = event["protocol"] or None
            self.headers = event["headers"]
            self.target = event["target"]
            self.compressed = "permessage-deflate" in event["extensions"]
            self.opening.set_result(None)
        elif kind == "refused":
            self.opening.set_exception(Refused(event["status"], event["body"]))
        elif kind == "error" and not self.opening.done():
            self.opening.set_exception(NodeError(event["message"]))

    async def command(self, command: str, data: bytes = b"", **more: Any) -> None:
        encoded = base64.b64encode(data).decode()
        await self.node.tell({"id": self.number, "command": command, "data": encoded, **more})

    async def send(self, message: str | bytes) -> None:
        binary = isinstance(message, bytes)
        data = message if isinstance(message, bytes) else message.encode()
        await self.command("send", data, binary=binary)

    async def send_fragments(self, fragments: Sequence[bytes], *, text: bool, pings: bool) -> None:
        for position, fragment in enumerate(fragments, 1):
            last = position == len(fragments)
            await self.command("send", fragment, binary=not text, fin=last)
            if pings and not last:
                await self.ping(b"between")

    async def receive(self) -> str | bytes:
        return await self.messages.get()

    async def ping(self, payload: bytes) -> None:
        await self.command("ping", payload)
        assert await self.pongs.get() == payload

    async def close(self, code: int, reason: str) -> None:
        await self.command("close", code=code, reason=reason)
        await self.ended()

    async def vanish(self) -> None:
        await self.command("terminate")
        await self.ended()

    async def ended(self) -> tuple[int | None, str]:
        code, reason = await asyncio.shield(self.end)
        return code, reason

    @asynccontextmanager
    async def echoing(self) -> AsyncIterator[None]:
        await self.command("echo")
        await self.echoes.wait()
        yield


class Node:
    """A process, and what it says."""

    def __init__(self) -> None:
        self.process: asyncio.subprocess.Process
        self.connections: dict[int, NodeConnection] = {}
        self.accepted: asyncio.Queue[Theirs] = asyncio.Queue()
        self.port = asyncio.get_running_loop().create_future()

    @asynccontextmanager
    async def running(self, script: str, settings: dict[str, Any]) -> AsyncIterator[Node]:
        self.process = await asyncio.create_subprocess_exec(
            "node",
            str(NODE / script),
            json.dumps(settings),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LINE,
        )
        listening = asyncio.create_task(self.listen())
        try:
            yield self
        finally:
            assert self.process.stdin is not None
            self.process.stdin.close()
            await listening
            assert await self.process.wait() == 0

    async def tell(self, command: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        await self.process.stdin.drain()

    async def listen(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            event = json.loads(line)
            if event["event"] == "listening":
                self.port.set_result(event["port"])
                continue
            number = event["id"]
            connection = self.connections.get(number)
            if connection is None:
                connection = self.connections[number] = NodeConnection(self, number)
            connection.happened(event)
            if event["event"] == "open":
                self.accepted.put_nowait(connection)


def common(terms: Terms) -> dict[str, Any]:
    return {
        "subprotocols": terms.subprotocols,
        "headers": terms.headers,
        "maxSize": terms.max_size,
    }


class Ws(Peer):
    name = "ws"
    tls_over_unix = False
    server_compresses = False

    @asynccontextmanager
    async def serve(self, place: Place, terms: Terms) -> AsyncIterator[TheirServer]:
        settings = common(terms) | {
            "path": place.path,
            "compress": self.server_compresses if terms.compress is None else terms.compress,
            "greeting": terms.greeting,
        }
        if place.tls:
            settings["cert"] = place.certificates.cert_path
            settings["key"] = place.certificates.key_path
        if terms.refusal is not None:
            settings["refusal"] = vars(terms.refusal)
        async with Node().running("server.js", settings) as node:
            port = await node.port
            yield TheirServer(replace(place, port=port), node.accepted)

    @asynccontextmanager
    async def connect_many(
        self, place: Place, terms: Terms, connections: int
    ) -> AsyncIterator[list[Theirs]]:
        settings = common(terms) | {
            "url": place.whole_url(terms.pathname),
            "compress": self.client_compresses if terms.compress is None else terms.compress,
            "origin": terms.origin,
            "connections": connections,
        }
        if place.tls and terms.trust:
            settings["ca"] = place.certificates.ca_path
        node = Node()
        numbered = [NodeConnection(node, number) for number in range(connections)]
        node.connections.update(enumerate(numbered))
        async with node.running("client.js", settings):
            for each in numbered:
                await each.opening
            yield list(numbered)
