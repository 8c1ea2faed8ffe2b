"""basic_auth and bearer_auth: who is let in, what others are answered, and what nobody sees."""

from __future__ import annotations

import asyncio
import base64
import hmac
import logging
from typing import Any

import aiohttp
import httpx
import pytest
import websockets
from hypothesis import given
from hypothesis import strategies as st
from tests.helpers.raw_peer import BOUND, watchdog

from coro_websocket import (
    HandshakeError,
    HTTPResponse,
    InvalidOption,
    InvalidOptionType,
    Request,
    basic_auth,
    bearer_auth,
    connect,
    serve,
)

__all__ = ["watchdog"]

pytestmark = pytest.mark.usefixtures("no_tasks_left")


async def tell_state(req, read, write):
    await write(repr(sorted(vars(req.state).items())))


async def said(url: str, **options: Any) -> Any:
    async with connect(url, **options) as (_, read, _):
        return (await read()).payload


def serving(hook, **options):
    return serve(tell_state, process_request=hook, **options)


def logged_by_us(caplog) -> str:
    return "\n".join(r.getMessage() for r in caplog.records if r.name.startswith("coro_websocket"))


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def basic_request(user: str, password: str) -> Request:
    return Request([("Authorization", basic(user, password))])


def bearer_request(token: str) -> Request:
    return Request([("Authorization", f"Bearer {token}")])


# Basic


async def test_clients_of_all_kinds_come_in_with_their_password():
    async with serving(basic_auth({"ann": "s3cret:", "bob": "grüße"}, realm="chat")) as server:
        expected = "[('user', 'ann')]"
        place = f"127.0.0.1:{server.port}/"
        assert await said(f"ws://ann:s3cret%3A@{place}") == expected
        assert await said(server.url, headers={"Authorization": basic("bob", "grüße")}) == (
            "[('user', 'bob')]"
        )
        async with websockets.connect(f"ws://ann:s3cret%3A@{place}") as ws:
            assert await ws.recv() == expected
        async with aiohttp.ClientSession() as session:
            auth = aiohttp.encode_basic_auth("ann", "s3cret:")
            async with session.ws_connect(server.url, headers={"Authorization": auth}) as ws:
                assert (await ws.receive()).data == expected


async def test_others_are_asked_for_it(caplog):
    caplog.set_level(logging.DEBUG)
    async with serving(basic_auth(("ann", "s3cret"), realm='a "b" \\')) as server:
        async with httpx.AsyncClient() as client:
            url = server.url.replace("ws://", "http://")
            for auth in (None, ("ann", "wr0ng"), ("bob", "s3cret"), ("", "")):
                response = await client.get(url, auth=auth)
                assert response.status_code == 401
                assert response.headers["WWW-Authenticate"] == (
                    'Basic realm="a \\"b\\" \\\\", charset="UTF-8"'
                )
                assert response.text == "expected a name and a password\n"
            assert (await client.get(url, auth=("ann", "s3cret"))).status_code == 426
        with pytest.raises(HandshakeError, match="401"):
            await connect(server.url, headers={"Authorization": basic("ann", "wr0ng")})
    assert "s3cret" not in caplog.text
    assert "wr0ng" not in caplog.text
    assert basic("ann", "wr0ng")[6:] not in caplog.text


@pytest.mark.parametrize(
    "values",
    [
        ["Basic"],
        ["Basic "],
        ["Basic %%%"],
        ["Basic " + base64.b64encode(b"ann").decode()],
        ["Basic " + base64.b64encode(b"ann:s3cret\xff").decode()],
        ["Basic " + base64.b64encode(b"ann:s3cret\n").decode()],
        ["Basic " + base64.b64encode(b"ann:s3cret").decode()[:-1]],
        ["Bearer " + base64.b64encode(b"ann:s3cret").decode()],
        ["Basic" + base64.b64encode(b"ann:s3cret").decode()],
        [basic("ann", "s3cret")] * 2,
        [""],
    ],
)
def test_what_are_no_credentials_is_answered_as_none(values):
    req = Request([("Authorization", value) for value in values])
    assert basic_auth(("ann", "s3cret"))(req).status == 401  # type: ignore[union-attr]
    assert not vars(req.state)


def test_the_name_of_the_scheme_is_in_any_case():
    req = Request([("authorization", basic("ann", "s3cret").replace("Basic", "bAsIc"))])
    assert basic_auth(("ann", "s3cret"))(req) is None


@given(st.text(), st.text(), st.text(), st.text())
def test_only_the_right_name_and_password_come_in(user, password, name, secret):
    user, name = user.replace(":", ""), name.replace(":", "")
    try:
        req, right = basic_request(user, password), basic_request(name, secret)
    except UnicodeEncodeError:
        return
    hook = basic_auth({name: secret})
    let_in = hook(req) is None
    assert not let_in or (user, password) == (name, secret)
    printable = not any(c < " " or c == "\x7f" for c in name + secret)
    assert (hook(right) is None) == printable


def test_a_name_that_does_not_exist_costs_the_comparison_too(monkeypatch):
    compared = []
    digest = hmac.compare_digest

    def counting(one, other):
        compared.append((len(one), len(other)))
        return digest(one, other)

    hook = basic_auth({"ann": "s3cret"})
    monkeypatch.setattr(hmac, "compare_digest", counting)
    for user in ("ann", "bob"):
        for password in ("s3cret", "x" * 1000):
            hook(basic_request(user, password))
    assert compared == [(32, 32)] * 4


class User:
    name = "ann"


@pytest.mark.parametrize(
    ("result", "user"), [(True, "ann"), ("Ann", "Ann"), (None, None), (False, None), (0, None)]
)
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_function_decides_who_comes_in(result, user, asynchronous):
    seen = []

    def check(name, password):
        seen.append((name, password))
        return result

    async def check_later(name, password):
        await asyncio.sleep(0)
        return check(name, password)

    async with serving(basic_auth(check_later if asynchronous else check)) as server:
        url = server.url.replace("//", "//ann:s3cret@")
        if user is not None:
            assert await said(url) == f"[('user', {user!r})]"
        else:
            with pytest.raises(HandshakeError, match="401"):
                await connect(url)
        assert seen == [("ann", "s3cret")]
        with pytest.raises(HandshakeError, match="401"):
            await connect(server.url)
        assert len(seen) == 1


async def test_a_function_may_answer_otherwise_or_fail(caplog):
    async def check(name, password):
        if name == "late":
            return HTTPResponse(429, {"Retry-After": "60"})
        raise OSError("the database is down")

    async with serving(basic_auth(check)) as server:
        for name, code in (("late", 429), ("ann", 500)):
            with pytest.raises(HandshakeError) as caught:
                await connect(server.url.replace("//", f"//{name}:s3cret@"))
            assert caught.value.response is not None
            assert caught.value.response.code == code
    assert "the database is down" in caplog.text
    assert "s3cret" not in caplog.text


# Bearer


async def test_a_token_comes_in_the_header(caplog):
    caplog.set_level(logging.DEBUG)
    hook = bearer_auth({"t0ken": {"sub": "ann"}}, realm="chat")
    async with serving(hook) as server:
        for token, code, parameters in (
            (None, 401, 'realm="chat"'),
            ("Bearer wr0ng", 401, 'realm="chat", error="invalid_token"'),
            ("Bearer wr0ng wr0ng", 401, 'realm="chat", error="invalid_token"'),
            ("Bearer", 401, 'realm="chat", error="invalid_token"'),
            (basic("t0ken", ""), 401, 'realm="chat"'),
        ):
            headers = {"Authorization": token} if token is not None else {}
            with pytest.raises(HandshakeError) as caught:
                await connect(server.url, headers=headers)
            response = caught.value.response
            assert response is not None
            assert (response.code, response["WWW-Authenticate"]) == (code, f"Bearer {parameters}")
        headers = {"Authorization": "Bearer t0ken"}
        assert await said(server.url, headers=headers) == "[('token_claims', {'sub': 'ann'})]"
        async with websockets.connect(server.url, additional_headers=headers) as ws:
            assert "ann" in str(await ws.recv())
    assert "t0ken" not in logged_by_us(caplog)
    assert "wr0ng" not in logged_by_us(caplog)


async def test_browsers_may_send_it_in_the_query_a_cookie_or_a_subprotocol(caplog):
    caplog.set_level(logging.DEBUG)
    hook = bearer_auth("t0k+en=", query="token", cookie="session", subprotocol="bearer.")
    plain = bearer_auth("t0ken", subprotocol="bearer.")
    async with serving(hook) as server:
        for target in ("?token=t0k%2Ben%3D", "?a=b&token=t0k+en=", "?%74oken=t0k%2ben="):
            assert await said(server.url + target) == "[('token_claims', True)]"
        assert await said(server.url, headers={"Cookie": "a=b; session=t0k+en="})
    async with serving(plain, subprotocols=["chat"]) as server:
        offered = ["chat", "bearer.t0ken"]
        async with connect(server.url, subprotocol=offered) as (res, _, _):
            assert res.subprotocol == "chat"
        async with aiohttp.ClientSession() as session:
            async with session.ws_connect(server.url, protocols=offered) as ws:
                assert ws.protocol == "chat"
        with pytest.raises(HandshakeError, match="401"):
            await connect(server.url, subprotocol=["chat", "bearer.wr0ng"])
        with pytest.raises(HandshakeError, match="401"):
            await connect(server.url + "?token=t0ken")  # not in use here
    assert "t0k" not in logged_by_us(caplog).replace("'token_claims'", "")
    assert "wr0ng" not in logged_by_us(caplog)


@pytest.mark.parametrize(
    "req",
    [
        Request([("Authorization", "Bearer a")], pathname="/?token=a"),
        Request(pathname="/?token=a&token=a"),
        Request([("Sec-WebSocket-Protocol", "bearer.a")], pathname="/?token=a"),
        Request([("Sec-WebSocket-Protocol", "bearer.a, bearer.b")]),
    ],
)
def test_a_token_in_two_places_is_a_malformed_request(req):
    # RFC 6750 sections 2 and 3.1.
    hook = bearer_auth("a", query="token", cookie="session", subprotocol="bearer.")
    answer = hook(req)
    assert isinstance(answer, HTTPResponse)
    assert answer.status == 400
    assert answer.headers["WWW-Authenticate"] == 'Bearer error="invalid_request"'
    assert not vars(req.state)


def test_a_cookie_counts_where_there_is_no_other_token():
    hook = bearer_auth("a", query="token", cookie="session")
    stale, fresh = ("Cookie", "session=stale"), ("Cookie", "session=a")
    for headers, pathname, status in (
        ([stale], "/?token=a", None),
        ([stale, ("Authorization", "Bearer a")], "/", None),
        ([fresh], "/?token=stale", 401),
        ([fresh], "/", None),
        ([stale], "/", 401),
    ):
        answer = hook(Request(headers, pathname=pathname))
        assert (answer.status if isinstance(answer, HTTPResponse) else answer) == status


@given(st.text(), st.lists(st.text(min_size=1)))
def test_only_tokens_that_are_known_come_in(token, known):
    req = Request([("Authorization", f"Bearer {token}")])
    let_in = bearer_auth(known)(req) is None
    assert not let_in or token.strip() in known


@given(st.text(), st.text(), st.text())
def test_nothing_that_is_sent_raises_anything(header, query, cookie):
    req = Request([("Authorization", header), ("Cookie", cookie)], pathname="/?" + query)
    basic_auth({"ann": "s3cret"})(req)
    bearer_auth("t0ken", query="token", cookie="session", subprotocol="b.")(req)


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_function_may_read_what_the_token_says(asynchronous):
    def check(token):
        return {"sub": token} if token.startswith("t0ken") else None

    async def check_later(token):
        return check(token)

    async with serving(bearer_auth(check_later if asynchronous else check)) as server:
        headers = {"Authorization": "Bearer t0ken1"}
        assert await said(server.url, headers=headers) == "[('token_claims', {'sub': 't0ken1'})]"
        with pytest.raises(HandshakeError, match="401"):
            await connect(server.url, headers={"Authorization": "Bearer wr0ng"})


# Both


async def test_hooks_compose():
    def health(req):
        return HTTPResponse(200) if req.pathname == "/health" else None

    def admins(req):
        return None if req.state.user == "ann" else HTTPResponse(403)

    hooks = [health, basic_auth({"ann": "a", "bob": "b"}), admins]
    async with asyncio.timeout(BOUND), serving(hooks) as server:
        async with httpx.AsyncClient() as client:
            url = server.url.replace("ws://", "http://")
            assert (await client.get(url + "health")).status_code == 200
            assert (await client.get(url)).status_code == 401
            assert (await client.get(url, auth=("bob", "b"))).status_code == 403
            assert (await client.get(url, auth=("ann", "a"))).status_code == 426


async def test_only_what_is_to_be_protected_is():
    def private(req):
        return req.pathname.startswith("/private")

    for hook in (basic_auth(("a", "b"), protect=private), bearer_auth("a", protect=private)):
        async with serving(hook) as server:
            assert await said(server.url + "open") == "[]"
            with pytest.raises(HandshakeError, match="401"):
                await connect(server.url + "private")


async def always_later(req):
    return True


@pytest.mark.parametrize(
    ("make", "option"),
    [
        (lambda: basic_auth(5), "credentials"),  # type: ignore[arg-type]
        (lambda: basic_auth("s3cret"), "credentials"),  # type: ignore[arg-type]
        (lambda: basic_auth(("s3cret", 5)), "credentials"),  # type: ignore[arg-type]
        (lambda: basic_auth({"a:b": "s3cret"}), "credentials"),
        (lambda: basic_auth(lambda one: True), "credentials"),  # type: ignore[arg-type,misc]
        (lambda: basic_auth({}, realm="\n"), "realm"),
        (lambda: basic_auth({}, realm=5), "realm"),  # type: ignore[arg-type]
        (lambda: basic_auth({}, protect=5), "protect"),  # type: ignore[arg-type]
        (lambda: basic_auth({}, protect=lambda: True), "protect"),  # type: ignore[arg-type,misc]
        (lambda: bearer_auth("a", protect=always_later), "protect"),
        (lambda: bearer_auth(5), "tokens"),  # type: ignore[arg-type]
        (lambda: bearer_auth(b"s3cret"), "tokens"),  # type: ignore[arg-type]
        (lambda: bearer_auth([5]), "tokens"),  # type: ignore[list-item]
        (lambda: bearer_auth(""), "tokens"),
        (lambda: bearer_auth({"s3cret": None}), "tokens"),
        (lambda: bearer_auth(lambda: True), "tokens"),  # type: ignore[arg-type,misc]
        (lambda: bearer_auth("a", realm="\n"), "realm"),
        (lambda: bearer_auth("a", query=""), "query"),
        (lambda: bearer_auth("a", cookie="a b"), "cookie"),
        (lambda: bearer_auth("a", subprotocol="a b"), "subprotocol"),
        (lambda: bearer_auth("a", subprotocol=5), "subprotocol"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_used_is_refused_at_once_and_not_shown(make, option):
    with pytest.raises(InvalidOption) as caught:
        make()
    assert caught.value.option == option
    assert "s3cret" not in str(caught.value)


def test_the_kind_of_a_mistake_is_told():
    with pytest.raises(InvalidOptionType, match="a mapping, a \\(name, password\\) or a function"):
        basic_auth(["ann"])  # type: ignore[arg-type]
