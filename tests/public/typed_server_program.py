"""A program with types that uses what a server has: mypy, as strict as can be, finds no mistake.

It is only read by mypy, never run.
"""
# mypy: strict-optional, disallow-untyped-defs, disallow-incomplete-defs, disallow-untyped-calls
# mypy: disallow-untyped-decorators, disallow-any-generics, warn-return-any

from __future__ import annotations

import datetime
import ssl
from collections.abc import Mapping
from typing import Any, assert_type

from coro_websocket import (
    BroadcastStats,
    ClientAddress,
    Connections,
    Draining,
    Group,
    HTTPResponse,
    Read,
    Request,
    Server,
    ServerConnection,
    TLSInfo,
    Write,
    basic_auth,
    bearer_auth,
    broadcast,
    serve,
    systemd_notify,
    systemd_sockets,
)
from coro_websocket.router import Route, Router

router = Router()


@router.route("/chat/{room}", process_request=bearer_auth({"t0ken": {"sub": "ann"}}, query="token"))
async def chat(req: Request, read: Read, write: Write, room: str) -> None:
    server: Server = req.server
    group = assert_type(server.group(room), Group)
    with group.member(write):
        async for msg in read:
            stats = group.broadcast(msg.payload, exclude=write, slow="latest")
            assert_type(stats, BroadcastStats)
    if server.draining or server.draining.is_set():
        return
    await server.draining
    await server.draining.wait()


@router.get("/healthz")
def healthz(req: Request) -> HTTPResponse:
    return HTTPResponse(200, body="OK\n")


@router.http("/logout", methods=["POST"])
async def logout(req: Request) -> HTTPResponse:
    answer = HTTPResponse(303, [("Location", "/")], b"", "See Other")
    return answer.with_cookie("session", "", max_age=0).with_headers({"Cache-Control": "no-store"})


async def echo(req: Request, read: Read, write: Write) -> None:
    async for msg in read:
        await write(msg.payload)


def look(req: Request) -> HTTPResponse | None:
    assert_type(req.client, ClientAddress | None)
    if req.client is not None:
        assert_type((req.client.host, req.client.port), tuple[str, int | None])
    assert_type(req.tls, TLSInfo | None)
    assert_type((req.path, req.query, req.cookies), tuple[str, dict[str, str], dict[str, str]])
    assert_type(req.params, Mapping[str, Any])
    assert_type((req.route, req.id, req.scheme), tuple[str | None, int | None, str])
    req.state.user = "ann"
    req.set_cookie("seen", "1", same_site="Strict")
    req.add_response_header("X-Served-By", "a")
    req.choose_subprotocol(None)
    return None


async def look_later(req: Request) -> HTTPResponse | None:
    return look(req)


def always(req: Request, response: HTTPResponse) -> HTTPResponse | None:
    return response.with_headers([("X-Request-Id", "1")])


async def always_later(req: Request, response: HTTPResponse) -> HTTPResponse:
    return response


def check_password(name: str, password: str) -> bool:
    return False


async def check_token(token: str) -> dict[str, str] | None:
    return None


async def serve_routes() -> None:
    async with serve(
        router,
        ["127.0.0.1", "::1"],
        8000,
        process_request=[
            look,
            look_later,
            basic_auth(check_password, realm="chat"),
            basic_auth({"ann": "s3cret"}, protect=lambda req: req.path != "/healthz"),
            basic_auth(("ann", "s3cret")),
            bearer_auth(check_token, cookie="session"),
            bearer_auth(["t0ken"]),
        ],
        process_response=always,
        trusted_proxies=["10.0.0.0/8", "unix"],
        proxy_protocol=["10.0.0.0/8"],
        max_connections=1000,
        max_connections_per_client=10,
        max_handshakes=None,
        origins=["https://*.example.com", None, lambda origin: origin == "https://a.example"],
        tls={"cert": "server.pem"},
        backlog=100,
        reuse_port=True,
        timeout=datetime.timedelta(seconds=3),
        headers={"Server": "chat"},
    ) as server:
        assert_type(server, Server)
        assert_type(server.connections, Connections)
        for connection in server.connections:
            assert_type(connection, ServerConnection)
            assert_type(connection.began, datetime.datetime)
            await connection.write(f"{connection.read.stats.bytes_in} from {connection.req.client}")
            await connection.close(4000, "enough")
        assert_type(server.connections.get(3), ServerConnection | None)
        assert_type(server.draining, Draining)
        writes = [each.write for each in server.connections]
        assert_type(broadcast(writes, "hello", slow="close"), list[Write])
        server.reload_tls()
        await server.drain(20)
        await server.drain(None, code=1001, reason="the end")
        await server.serve_forever(signals=True, drain_timeout=3)
        await server.wait_closed()


async def serve_one() -> None:
    server = await serve(echo, sock=systemd_sockets(), process_response=always_later)
    assert_type(server, Server)
    assert_type(systemd_notify("READY=1"), bool)
    async with server, serve(echo, path="/run/chat.sock", mode=0o660, owner=("chat", None)):
        pass
    async with serve(echo, tls=ssl.SSLContext(), process_request=look, origins=None):
        pass


def urls(req: Request) -> None:
    assert_type(router.url_for("chat", room="lobby"), str)
    assert_type(router.url_for(chat, req, room="lobby"), str)
    assert_type(router.routes, tuple[Route, ...])
    whole = Router({"/echo": echo, "/v1": router})
    whole.mount("/v2", router, name="v2", process_request=[look])
