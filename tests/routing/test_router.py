"""A Router in a server: what reaches which handler, and what is answered without an upgrade."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect as their_connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol
from werkzeug.routing import BaseConverter

from coro_websocket import (
    HandshakeError,
    HTTPResponse,
    InvalidOption,
    InvalidOptionType,
    Request,
    Server,
    basic_auth,
    bearer_auth,
    connect,
    serve,
)
from coro_websocket.router import Route, Router

pytestmark = pytest.mark.usefixtures("no_tasks_left")
BOUND = 20.0


async def tell(req: Any, read: Any, write: Any, **params: Any) -> None:
    await write(repr((req.route, params, dict(req.params) == params)))


async def told(server: Server, path: str) -> str:
    """What the handler of a path says to `websockets`."""
    async with their_connect(server.url.rstrip("/") + path, proxy=None) as theirs:
        return str(await theirs.recv())


async def status(server: Server, path: str) -> tuple[int, bytes]:
    """What `websockets` is refused with."""
    with pytest.raises(InvalidStatus) as caught:
        await told(server, path)
    return caught.value.response.status_code, bytes(caught.value.response.body)


@contextlib.asynccontextmanager
async def http(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.url.replace("ws:", "http:")) as client:
        yield client


async def test_each_path_has_its_handler_which_gets_the_parameters():
    async def chat(req, read, write, room, n):
        await write(f"chat {room} {n!r}")

    async def files(req, read, write, *, path):
        await write(f"files {path}")

    router = Router({"/chat/{room}/{n:int}": chat, "/files/{path:path}": files, "/{x}": tell})
    async with asyncio.timeout(BOUND), serve(router) as server:
        assert await told(server, "/chat/caf%C3%A9/7?token=x") == "chat café 7"
        assert await told(server, "/files/a/b/") == "files a/b"
        assert await told(server, "/y") == "('/{x}', {'x': 'y'}, True)"


async def test_what_no_pattern_matches_is_answered_with_404_before_the_upgrade(caplog):
    caplog.set_level(logging.DEBUG, "coro_websocket")
    async with asyncio.timeout(BOUND), serve(Router({"/chat/{room}": tell})) as server:
        for path in ("/", "/chat", "/chat/a/b", "/chat/..", "/Chat/a"):
            assert (await status(server, path))[0] == 404
        assert (await status(server, "/chat/%FF"))[0] == 400
        assert (await status(server, "/chat/" + "x" * 5000))[0] == 414
        async with http(server) as client:
            assert (await client.get("/nothing?token=secret")).status_code == 404
    assert "answered with 404 by the router" in caplog.text
    ours = [each.getMessage() for each in caplog.records if "coro_websocket" in each.name]
    assert "secret" not in "".join(ours)


def test_a_refusal_that_a_request_keeps_makes_no_cycle_for_the_garbage_collector():
    request = Request(pathname="/" + "x" * 5000)
    Router()._find(request)
    assert request._found.target.response.code == 414
    assert request._found.target.__traceback__ is None


async def test_plain_http_stands_beside_websockets():
    router = Router()
    router.route("/both", tell)

    @router.get("/both")
    async def page(req):
        return HTTPResponse(200, {"Content-Type": "text/html"}, "<p>page</p>")

    @router.get("/users/{name}/{n:int}")
    def user(req, name, n):
        return HTTPResponse(200, body=f"{name} {n!r} {req.params['name']}")

    @router.http("/thing", methods=["DELETE", "post"])
    def thing(req):
        return HTTPResponse(204)

    async with asyncio.timeout(BOUND), serve(router) as server, http(server) as client:
        assert await told(server, "/both") == "('/both', {}, True)"
        answer = await client.get("/both")
        assert (answer.status_code, answer.text) == (200, "<p>page</p>")
        answer = await client.head("/both")
        assert (answer.status_code, answer.content) == (200, b"")
        assert (await client.get("/users/a%2Fb/7")).text == "a/b 7 a/b"
        for method in ("DELETE", "POST"):
            assert (await client.request(method, "/thing")).status_code == 204
        answer = await client.get("/thing")
        assert (answer.status_code, answer.headers["Allow"]) == (405, "DELETE, POST")
        answer = await client.put("/both")
        assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD")
        assert (await client.post("/thing", content=b"body")).status_code == 413


async def test_a_path_that_has_only_the_other_kind_says_so():
    router = Router({"/socket": tell})
    router.get("/page", lambda req: HTTPResponse(200))
    async with asyncio.timeout(BOUND), serve(router) as server, http(server) as client:
        answer = await client.get("/socket")
        assert (answer.status_code, answer.headers["Upgrade"]) == (426, "websocket")
        answer = await client.post("/socket")
        assert (answer.status_code, answer.headers["Allow"]) == (405, "GET")
        code, body = await status(server, "/page")
        assert (code, b"plain HTTP" in body) == (404, True)


async def test_the_servers_hooks_come_first_and_know_the_route():
    seen = []

    def hook(req: Request) -> HTTPResponse | None:
        seen.append((req.route, dict(req.params)))
        return HTTPResponse(200) if req.pathname == "/early" else None

    router = Router({"/chat/{room}": tell})
    async with (
        asyncio.timeout(BOUND),
        serve(router, process_request=hook) as server,
        http(server) as client,
    ):
        await told(server, "/chat/a")
        assert (await client.get("/early")).status_code == 200
        assert (await client.get("/late")).status_code == 404
    assert seen == [("/chat/{room}", {"room": "a"}), (None, {}), (None, {})]


async def test_a_route_may_have_hooks_of_its_own_and_those_of_a_mount_come_before():
    calls: list[str] = []

    def hook(name: str, answer: HTTPResponse | None = None) -> Any:
        async def process_request(req: Request) -> HTTPResponse | None:
            calls.append(f"{name} {req.params.get('x')}")
            req.state.name = name
            return answer

        return process_request

    async def handler(req, read, write, x):
        await write(req.state.name)

    inner = Router()
    inner.route("/in/{x}", handler, process_request=[hook("one"), hook("two")])
    inner.route("/no/{x}", handler, process_request=hook("no", HTTPResponse(401)))
    inner.get("/page", lambda req: HTTPResponse(200), process_request=hook("page"))
    router = Router()
    router.mount("/m", inner, process_request=hook("mount"))
    router.get("/free", lambda req: HTTPResponse(200))
    async with asyncio.timeout(BOUND), serve(router) as server, http(server) as client:
        assert await told(server, "/m/in/a") == "two"
        assert (await status(server, "/m/no/b"))[0] == 401
        assert (await client.get("/m/page")).status_code == 200
        assert (await client.get("/free")).status_code == 200
    assert calls == ["mount a", "one a", "two a", "mount b", "no b", "mount None", "page None"]


async def fails(*_: Any, **__: Any) -> Any:
    raise ValueError("a secret")


@pytest.mark.parametrize("function", [fails, lambda req: None, lambda req: "OK"])
async def test_a_function_that_fails_or_answers_nothing_is_logged_and_answered_with_500(
    function: Any, caplog
):
    router = Router()
    router.get("/page", function)
    router.route("/socket", tell, process_request=fails)
    async with asyncio.timeout(BOUND), serve(router) as server, http(server) as client:
        answer = await client.get("/page")
        assert answer.status_code == 500
        assert "secret" not in answer.text
        assert (await status(server, "/socket"))[0] == 500
    assert "Traceback" in caplog.text


async def test_origins_and_the_rules_of_the_upgrade_hold_with_a_router_too():
    async with asyncio.timeout(BOUND), serve(Router({"/": tell}), subprotocols=["b"]) as server:
        with pytest.raises(HandshakeError) as caught:
            await connect(server.url, origin="https://evil.example")
        assert caught.value.response.code == 403
        async with connect(server.url, subprotocol=["a", "b"]) as (res, read, _):
            assert res.subprotocol == "b"
            assert (await read()).payload == "('/', {}, True)"


async def test_a_route_may_have_subprotocols_of_its_own():
    async def handler(req, read, write):
        await write(str(req.subprotocol))

    def choose(req: Request) -> None:
        if req.route == "/chosen":
            req.choose_subprotocol("b")

    inner = Router()
    inner.route("/own", handler, subprotocols=["x", "a"])
    inner.route("/none", handler, subprotocols=[])
    inner.route("/chosen", handler, subprotocols=["a"])
    router = Router({"/m": inner, "/server": handler, "/chosen": handler})
    router.route("/decorated", subprotocols=["a"])(handler)
    options: Any = {"subprotocols": ["b", "a"], "process_request": choose}
    async with asyncio.timeout(BOUND), serve(router, **options) as server:
        for path, agreed in [
            ("/m/own", "a"),
            ("/m/none", None),
            ("/m/chosen", "a"),
            ("/chosen", "b"),
            ("/server", "b"),
            ("/decorated", "a"),
        ]:
            url = server.url.rstrip("/") + path
            offered = [Subprotocol("a"), Subprotocol("b")]
            async with their_connect(url, proxy=None, subprotocols=offered) as theirs:
                assert theirs.subprotocol == agreed
                assert await theirs.recv() == str(agreed)
    for wrong in ("a", ["a b"], ["a", "a"]):
        with pytest.raises(InvalidOption):
            Router().route("/", handler, subprotocols=wrong)


# Routers in routers


async def test_a_router_in_a_router_gets_the_parameters_of_its_prefix():
    inner = Router({"/": tell, "/feeds/{topic}": tell})
    router = Router({"/{tenant}/v1": inner, "/": tell})
    inner.route("/late", tell, name="late")
    async with asyncio.timeout(BOUND), serve(router) as server:
        assert await told(server, "/a/v1") == "('/{tenant}/v1/', {'tenant': 'a'}, True)"
        assert (
            await told(server, "/b/v1/feeds/c")
            == "('/{tenant}/v1/feeds/{topic}', {'tenant': 'b', 'topic': 'c'}, True)"
        )
        assert "late" in await told(server, "/a/v1/late/")
    assert router.url_for("late", tenant="x") == "/x/v1/late"
    assert [route.pattern for route in inner.routes] == ["/", "/feeds/{topic}", "/late"]


def test_a_router_may_be_mounted_twice_under_two_names_and_deeply():
    async def feed(req, read, write, topic):
        pass

    inner = Router({"/{topic}": feed})
    middle = Router()
    middle.mount("/m/", inner, name="m")
    router = Router()
    router.mount("/one", middle, name="one")
    router.mount("/two", middle, name="two")
    assert [route.pattern for route in router.routes] == ["/one/m/{topic}", "/two/m/{topic}"]
    assert router.url_for("one.m.feed", topic="a") == "/one/m/a"
    assert router.url_for("two.m.feed", topic="a") == "/two/m/a"


def test_what_does_not_fit_under_a_prefix_is_refused():
    async def feed(req, read, write, topic):
        pass

    inner = Router({"/{topic}": feed})
    with pytest.raises(InvalidOptionType, match=r"handler\(req, read, write, tenant, topic\)"):
        Router({"/{tenant}": inner})
    with pytest.raises(InvalidOption, match="comes twice"):
        Router({"/{topic}": inner})
    with pytest.raises(InvalidOption, match="under itself"):
        inner.mount("/a", inner)
    router = Router({"/a": inner})
    with pytest.raises(InvalidOption, match="under itself"):
        inner.mount("/b", router)
    with pytest.raises(InvalidOptionType, match="router must be a Router"):
        router.mount("/c", feed)  # type: ignore[arg-type]


async def test_a_converter_that_fails_is_answered_with_500_and_logged(caplog):
    class Day(BaseConverter):
        def to_python(self, value: str) -> date:
            return date.fromisoformat(value)  # raises ValueError, and no ValidationError

    router = Router({"/days/{day:day}": tell}, converters={"day": Day})
    async with serve(router) as server:
        assert "datetime.date(2024, 2, 29)" in await told(server, "/days/2024-02-29")
        assert await status(server, "/days/2023-02-29") == (500, b"the router has failed\n")
    assert "refused with 500: the router has failed" in caplog.text
    assert "day is out of range" in caplog.text


def test_converters_come_with_the_router_that_is_mounted():
    class One(BaseConverter):
        regex = "1"

    class Two(BaseConverter):
        regex = "2"

    inner = Router({"/{n:one}": tell}, converters={"one": One})
    router = Router({"/a": inner})
    assert router.url_for(tell, n="1") == "/a/1"
    with pytest.raises(InvalidOption, match="'one' is another one"):
        Router({"/a": inner}, converters={"one": Two})


async def test_a_handler_whose_parameters_no_path_gives_is_refused_by_serve():
    async def feed(req, read, write, tenant, topic):
        pass

    inner = Router({"/{topic}": feed})
    with pytest.raises(InvalidOptionType, match=r"the route '/\{topic\}'.*takes.*tenant, topic"):
        serve(inner)
    async with serve(Router({"/{tenant}": inner})):
        pass


# What can be a route


def check(req, read, write):
    pass


async def no_room(req, read, write):
    pass


@pytest.mark.parametrize(
    ("add", "said"),
    [
        (lambda r: r.route("/{room}", no_room), r"handler\(req, read, write, room\).*takes"),
        (lambda r: r.route("/{read}", no_room), r"takes \(req, read, write\)"),
        (lambda r: r.route("/", check), "put async before it"),
        (lambda r: r.route("/", lambda: None), "takes no arguments"),
        (lambda r: r.get("/{room}", lambda req: None), r"function\(req, room\)"),
        (lambda r: r.get("/", 5), "cannot be called"),
        (lambda r: r.http("/", fails, methods="GET"), "methods must be a list"),
        (lambda r: r.http("/", fails, methods=[5]), "a method must be str"),
        (lambda r: r.route("/", tell, name=5), "name must be str"),
        (lambda r: r.route("/", tell, process_request=5), "process_request"),
        (lambda r: r.mount("/a", r.__class__(), process_request=lambda: 1), "process_request"),
        (lambda r: r.__class__([("/", tell)]), "routes must be a mapping"),
        (lambda r: r.__class__(converters=5), "converters must be a mapping"),
    ],
)
def test_what_cannot_be_called_so_is_refused_when_it_is_added(add: Any, said: str):
    with pytest.raises(InvalidOptionType, match=said):
        add(Router())


@pytest.mark.parametrize(
    ("add", "said"),
    [
        (lambda r: r.route("chat", tell), "start with '/'"),
        (lambda r: r.route("/{x:nothing}", tell), "'nothing' does not exist: there are string,"),
        (lambda r: r.route("/{int:x}", tell), "did you mean {x:int}"),
        (lambda r: r.route("/{x:nothing}"), "'nothing' does not exist"),  # before it decorates
        (lambda r: r.route(tell), r"a pattern must be str, as in @router.route\('/path'\), not"),
        (lambda r: r.get(tell), "a pattern must be str, as in"),
        (lambda r: r.route("/chat/:room", tell), "written in braces"),
        (lambda r: r.get("/files/*", fails), "written in braces"),
        (lambda r: r.route("/h", lambda req: HTTPResponse(200)), r"add it by router.get\(\)"),
        (lambda r: r.url_for("named", x=1), r"has the parameters \(\), not \(x\)"),
        (lambda r: r.route("/a/", tell), "'/a/' matches what '/a' does"),
        (lambda r: r.route("/b", fails, name="named"), "another route is called 'named'"),
        (lambda r: r.route("/b", tell, name=""), "must not be empty"),
        (lambda r: r.http("/", fails, methods=[]), "must not be empty"),
        (lambda r: r.http("/", fails, methods=["A B"]), "'A B' is no method"),
        (lambda r: r.http("/", fails, methods=["CONNECT"]), "'CONNECT' is no method"),
        (lambda r: r.mount("b", Router()), "start with '/'"),
    ],
)
def test_a_route_that_can_be_none_is_refused_when_it_is_added(add: Any, said: str):
    router = Router()
    router.route("/a", tell, name="named")
    with pytest.raises(InvalidOption, match=said):
        add(router)
    assert len(router.routes) == 1


def test_handlers_of_every_kind_may_have_routes():
    class Methods:
        async def handler(self, req, read, write, x):
            pass

        async def __call__(self, req, read, write):
            pass

    router = Router({"/a/{x}": Methods().handler, "/b": Methods()})
    router.route("/c", functools.partial(no_room))
    assert [route.name for route in router.routes] == ["handler", "Methods", "no_room"]
    assert repr(router) == "<Router 3 routes>"
    assert repr(router.routes[2]) == "<Route WebSocket '/c' 'no_room'>"
    assert all(isinstance(route, Route) for route in router.routes)


def test_decorators_give_back_what_they_decorate():
    router = Router()

    @router.route("/a")
    @router.route("/b", name="b")
    async def handler(req, read, write):
        pass

    @router.get("/a")
    def page(req):
        return HTTPResponse(200)

    assert handler.__name__ == "handler"
    assert page(None).status == 200
    assert [route.pattern for route in router.routes] == ["/b", "/a", "/a"]


# URLs


async def test_a_url_leads_to_its_route_from_the_request_of_a_client():
    seen = []

    async def chat(req, read, write, room):
        seen.append((router.url_for("chat", req, room="a b"), router.url_for("page", req)))
        await write(room)

    router = Router({"/chat/{room}": chat})
    router.get("/page", lambda req: HTTPResponse(200), name="page")
    async with asyncio.timeout(BOUND), serve(router) as server:
        assert await told(server, router.url_for(chat, room="x/y")) == "x/y"
        base = server.url.rstrip("/")
        assert seen == [(f"{base}/chat/a%20b", f"{base.replace('ws:', 'http:')}/page")]


async def test_a_url_behind_tls_is_wss(certificates):
    async def chat(req, read, write):
        await write(router.url_for(chat, req))

    router = Router({"/chat": chat})
    tls = {"cert": certificates.cert, "key": certificates.key}
    async with asyncio.timeout(BOUND), serve(router, tls=tls) as server:
        url = f"wss://localhost:{server.port}/chat"
        async with connect(url, tls={"ca": certificates.ca}) as (_, read, _):
            assert (await read()).payload == url


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda r: r.url_for("chatt", room="a"), "no route is called 'chatt': did you mean 'chat'"),
        (lambda r: r.url_for(fails), "no route is called that function"),
        (lambda r: r.url_for("chat"), r"has the parameters \(room\), not \(\)"),
        (lambda r: r.url_for("chat", room="a", x=1), r"parameters \(room\), not \(room, x\)"),
        (lambda r: r.url_for("chat", room=""), "no path that"),
        (lambda r: r.url_for("same", x=1), "several routes are called 'same'"),
        (lambda r: r.url_for("chat", Request(), room="a"), "has no Host"),
    ],
)
def test_a_url_that_leads_nowhere_is_refused(call: Any, said: str):
    async def same(req, read, write, x):
        pass

    router = Router({"/a/{x}": same})
    same = functools.partial(same)
    router.route("/b/{x}", same)
    router.route("/chat/{room}", tell, name="chat")
    with pytest.raises(InvalidOption, match=said):
        call(router)


def test_without_werkzeug_the_extra_is_named():
    code = "import sys; sys.modules['werkzeug'] = None; import coro_websocket.router"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "needs werkzeug: pip install 'coro-websocket[router]'" in done.stderr
    code = "import sys, coro_websocket; assert 'werkzeug' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# docs/routing.md

DOCUMENT = (Path(__file__).parents[2] / "docs/routing.md").read_text()


@pytest.mark.parametrize("name", ["router", "mount"])
def test_an_example_of_docs_routing_prints_what_stands_there(name: str):
    code, _, rest = DOCUMENT.split(f"<!-- example: {name} -->\n```python\n")[1].partition("```")
    printed = rest.split("```text\n")[1].split("```")[0]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=BOUND
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", printed)


def test_the_hooks_of_docs_routing_are_those_that_routes_take():
    code = DOCUMENT.split("<!-- fragment: hooks -->\n```python\n")[1].split("```")[0]
    router = Router()
    names = {"router": router, "chat": tell, "admin": Router({"/": tell})}
    names |= {"bearer_auth": bearer_auth, "check_token": bool}
    names |= {"basic_auth": basic_auth, "check_password": lambda *_: True, "log_access": print}
    exec(code, names)
    assert [len(route._hooks) for route in router.routes] == [1, 2]
