"""Router: many handlers in one server, chosen by the path of the request.

    from coro_websocket import HTTPResponse, serve
    from coro_websocket.router import Router

    router = Router()

    @router.route("/chat/{room}")
    async def chat(req, read, write, room):
        ...

    @router.get("/healthz")
    def health(req):
        return HTTPResponse(200, body="OK\\n")

    async with serve(router, port=8000) as server:
        await server.serve_forever()

It needs werkzeug: `pip install "coro-websocket[router]"`.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, overload

from ._checks import wrong_type
from ._errors import InvalidOption, InvalidOptionType
from ._http.answers import refusal
from ._http.http_response import HTTPResponse
from ._http.opening_errors import HandshakeError
from ._http.request_and_response import Found
from ._http.request_rules import asks_for_upgrade, choose_subprotocol
from ._options.header_rules import check_subprotocols
from ._quoting import clip
from ._routing.functions import ask, check_http_function, check_methods
from ._routing.patterns import join_patterns, parse_pattern
from ._server.callables import name_of, wrong_arguments
from ._server.handler import check_handler
from ._server.hooks import Routing, check_hooks

try:
    from ._routing.converters import check_converters
    from ._routing.table import Missing, Route, Table
except ModuleNotFoundError as error:
    if str(error.name).partition(".")[0] != "werkzeug":
        raise
    raise ModuleNotFoundError(
        "coro_websocket.router needs werkzeug: pip install 'coro-websocket[router]'",
        name=error.name,
    ) from None

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ._connection.read_write import Read, Write
    from ._http.request_and_response import Request
    from ._server.hooks import Answer, ProcessRequest

__all__ = ["Route", "Router"]

_Handler = TypeVar("_Handler", bound=Callable[..., Awaitable[object]])
_Answer = TypeVar("_Answer", bound=Callable[..., "HTTPResponse | Awaitable[HTTPResponse]"])
_Hooks: TypeAlias = "ProcessRequest | Sequence[ProcessRequest] | None"
_NONE: Mapping[str, Any] = MappingProxyType({})


class Router(Routing):
    """Handlers by path: give it to `serve` in place of a handler.

        Router({"/chat/{room}": chat, "/files/{path:path}": files, "/api": another_router})

    A pattern is text with parameters in braces. `{name}` matches the text of one segment,
    `{name:int}`, `{name:float}`, `{name:uuid}` and `{name:any(a, b)}` what they say, and
    `{name:path}` text with slashes in it. The handler gets the values as keyword arguments:
    `async def chat(req, read, write, room)`; hooks find them in `req.params`.

    What no pattern matches is answered with 404, without an upgrade, and another method with 405.
    There are no redirects; a slash at the end of a path makes no difference.

    Args:
        routes: the handler of each pattern; a Router is mounted there.
        converters: more converters, by name: subclasses of werkzeug.routing.BaseConverter.

    Raises:
        InvalidOption: a pattern cannot be read, or matches the same paths as another one.
        InvalidOptionType: a handler cannot be one, or does not take the parameters of its pattern.
            Where it needs more of them, `serve` raises it: a router that this one is mounted in
            may have them.
    """

    def __init__(
        self,
        routes: Mapping[str, Callable[..., Awaitable[object]] | Router] = _NONE,
        *,
        converters: Mapping[str, Any] = _NONE,
    ) -> None:
        for name, given in (("routes", routes), ("converters", converters)):
            if not isinstance(given, Mapping):
                raise wrong_type(name, "a mapping", given)
        self._table = Table(check_converters(converters))
        self._mounts: list[tuple[Router, Callable[[Route], Route]]] = []  # where this is mounted
        for pattern, handler in routes.items():
            if isinstance(handler, Router):
                self.mount(pattern, handler)
            else:
                self.route(pattern, handler)

    @property
    def routes(self) -> tuple[Route, ...]:
        """All routes, those of mounted routers among them, in the order in which they came."""
        return tuple(self._table.routes)

    def __repr__(self) -> str:
        return f"<Router {len(self._table.routes)} routes>"

    # Adding routes

    @overload
    def route(
        self,
        pattern: str,
        handler: _Handler,
        *,
        name: str | None = None,
        process_request: _Hooks = None,
        subprotocols: Sequence[str] | None = None,
    ) -> _Handler: ...
    @overload
    def route(
        self,
        pattern: str,
        handler: None = None,
        *,
        name: str | None = None,
        process_request: _Hooks = None,
        subprotocols: Sequence[str] | None = None,
    ) -> Callable[[_Handler], _Handler]: ...
    def route(
        self,
        pattern: str,
        handler: Any = None,
        *,
        name: str | None = None,
        process_request: _Hooks = None,
        subprotocols: Sequence[str] | None = None,
    ) -> Any:
        """Add a WebSocket; without a handler, this is a decorator for one.

        Args:
            pattern: the path.
            handler: a coroutine function, handler(req, read, write, **parameters).
            name: what `url_for` knows the route by; by default the name of the handler.
            process_request: hooks of this route alone, as those of `serve`, after which they
                come.
            subprotocols: those that this handler speaks, favourite first, in place of the server's.

        Returns:
            The handler.

        Raises:
            InvalidOption: as for Router.
        """
        self._table.check(pattern)
        if handler is None:
            return functools.partial(
                self.route,
                pattern,
                name=name,
                process_request=process_request,
                subprotocols=subprotocols,
            )
        spoken = check_subprotocols(subprotocols) if subprotocols is not None else None
        hooks = _hooks(process_request)
        self._add(_new_route(pattern, handler, None, name, hooks, subprotocols=spoken))
        return handler

    @overload
    def get(
        self,
        pattern: str,
        function: _Answer,
        *,
        name: str | None = None,
        process_request: _Hooks = None,
    ) -> _Answer: ...
    @overload
    def get(
        self,
        pattern: str,
        function: None = None,
        *,
        name: str | None = None,
        process_request: _Hooks = None,
    ) -> Callable[[_Answer], _Answer]: ...
    def get(
        self,
        pattern: str,
        function: Any = None,
        *,
        name: str | None = None,
        process_request: _Hooks = None,
    ) -> Any:
        """Add what answers GET and HEAD in plain HTTP: `http` with these methods."""
        return self.http(pattern, function, name=name, process_request=process_request)

    @overload
    def http(
        self,
        pattern: str,
        function: _Answer,
        *,
        methods: Iterable[str] = ("GET",),
        name: str | None = None,
        process_request: _Hooks = None,
    ) -> _Answer: ...
    @overload
    def http(
        self,
        pattern: str,
        function: None = None,
        *,
        methods: Iterable[str] = ("GET",),
        name: str | None = None,
        process_request: _Hooks = None,
    ) -> Callable[[_Answer], _Answer]: ...
    def http(
        self,
        pattern: str,
        function: Any = None,
        *,
        methods: Iterable[str] = ("GET",),
        name: str | None = None,
        process_request: _Hooks = None,
    ) -> Any:
        """Add what answers in plain HTTP, a health check or a page; or a decorator for it.

        Args:
            pattern: the path, which may be that of a WebSocket too.
            function: a function or coroutine function, function(req, **parameters), that returns
                an HTTPResponse. A request that it gets has no body.
            methods: which it answers, HEAD with GET; others are answered with 405.
            name: what `url_for` knows the route by; by default the name of the function.
            process_request: hooks of this route alone, as those of `serve`, after which they
                come.

        Returns:
            The function.

        Raises:
            InvalidOption: as for Router.
        """
        self._table.check(pattern)
        if function is None:
            return functools.partial(
                self.http, pattern, methods=methods, name=name, process_request=process_request
            )
        checked = check_methods(methods)
        self._add(_new_route(pattern, function, checked, name, _hooks(process_request)))
        return function

    def mount(
        self,
        prefix: str,
        router: Router,
        *,
        name: str | None = None,
        process_request: _Hooks = None,
    ) -> None:
        """Add the routes of another router under a prefix, also those that it gets later.

        Args:
            prefix: "/api", say. Parameters in it go to all handlers of the router.
            router: the other one. It may be mounted in several places.
            name: what stands before the names of its routes, with a dot between; by default
                nothing does.
            process_request: hooks of these routes, before those of their own.

        Raises:
            InvalidOption: as for Router.
        """
        if not isinstance(router, Router):
            raise wrong_type("router", "a Router", router)
        if self._is_under(router):
            raise InvalidOption("a router cannot be mounted under itself", "router")
        parse_pattern(prefix)
        hooks = _hooks(process_request)
        before = f"{_checked_name(name)}." if name is not None else ""

        def under(route: Route) -> Route:
            return _new_route(
                join_patterns(prefix, route.pattern),
                route.handler,
                route.methods,
                before + route.name,
                (*hooks, *route._hooks),
                named=route._named,
                subprotocols=route._subprotocols,
            )

        self._table.add_converters(router._table)
        for route in router.routes:
            self._add(under(route))
        router._mounts.append((self, under))

    def _is_under(self, router: Router) -> bool:
        return self is router or any(above._is_under(router) for above, _ in self._mounts)

    def _add(self, route: Route) -> None:
        self._table.add(route)
        for above, under in self._mounts:
            above._add(under(route))

    # URLs

    def url_for(
        self,
        route: str | Callable[..., Any],
        req: Request | None = None,
        /,
        **params: Any,
    ) -> str:
        """The path of a route; with a request, the URL under which its client reaches it.

            router.url_for("chat", room="lobby")  # "/chat/lobby"
            router.url_for("chat", req, room="lobby")  # "wss://example.com/chat/lobby"

        Args:
            route: its name, or its handler.
            req: a request whose `Host`, which the client chose, and scheme the URL is to have.
            **params: a value for each parameter of the pattern; they are percent-encoded.

        Raises:
            InvalidOption: there is no such route, or its pattern matches no path with these
                values, or several routes have the name.
        """
        found = self._named(route, params.keys())
        path = self._table.path_of(found, params)
        if req is None:
            return path
        if not req.host:
            raise InvalidOption("the request has no Host to make a URL of", "req")
        secure = "s" if req.scheme == "wss" else ""
        scheme = f"ws{secure}" if found.methods is None else f"http{secure}"
        return f"{scheme}://{req.host}{path}"

    def _named(self, wanted: object, params: Iterable[str]) -> Route:
        called = [each for each in self._table.routes if wanted in (each.name, each.handler)]
        if not called:
            shown = clip(wanted) if isinstance(wanted, str) else "that function"
            names = [each.name for each in self._table.routes]
            close = difflib.get_close_matches(str(wanted)[:64], names, 1)
            hint = f": did you mean {close[0]!r}?" if close else ""
            raise InvalidOption(f"no route is called {shown}{hint}", "route")
        fitting = [each for each in called if set(each._parsed.parameters) == set(params)]
        if not fitting:
            expected = " or ".join(f"({', '.join(each._parsed.parameters)})" for each in called)
            raise InvalidOption(
                f"the route {clip(called[0].name)} has the parameters {expected}, "
                f"not ({clip(', '.join(params))[1:-1]})",
                "params",
            )
        if any(each.handler is not fitting[0].handler for each in fitting):
            raise InvalidOption(
                f"several routes are called {clip(fitting[0].name)}: give them a name each, "
                "or give the handler",
                "route",
            )
        return fitting[0]

    # What the server asks

    def _check(self) -> None:
        for route in self._table.routes:
            try:
                _check_called(route, more=False)
            except InvalidOptionType as error:
                raise InvalidOptionType(
                    f"the route {clip(route.pattern)}: {error}", error.option
                ) from None

    def _find(self, req: Request) -> None:
        """Find the route of a request, before hooks may look at it: `req.route`, `req.params`."""
        req._bind(found=self._found(req))

    def _found(self, req: Request) -> Found:
        upgrades = asks_for_upgrade(req)
        try:
            try:
                route, params = self._table.match(req.pathname, req.method, websocket=upgrades)
            except Missing as missing:
                if upgrades or not missing.other_kind:
                    raise
                # The rules of an opening handshake say what is missing.
                route, params = self._table.match(req.pathname, req.method, websocket=True)
        except HandshakeError as error:
            # Its frames have the request, which is to have it.
            return Found(None, _NONE, error.with_traceback(None))
        except Missing as missing:
            return Found(None, _NONE, _not_found(missing, upgrades=upgrades))
        return Found(route.pattern, MappingProxyType(params), route)

    def _answer(self, req: Request) -> Answer:
        """What a request gets in place of an upgrade; None if the rules of one are to decide."""
        assert req._found is not None
        route = req._found.target
        if isinstance(route, HandshakeError):
            assert route.response is not None
            return HTTPResponse._of(route.response)
        if route._subprotocols is not None and not req._chosen:
            req._choose(choose_subprotocol(req, route._subprotocols))
        if route.methods is None and not route._hooks:
            return None
        return self._ask(route, req)

    async def _ask(self, route: Route, req: Request) -> HTTPResponse | None:
        for hook in route._hooks:
            answer = await ask(hook, req)
            if answer is not None and not isinstance(answer, HTTPResponse):
                raise InvalidOptionType(
                    f"process_request of the route {clip(route.pattern)} must return None or an "
                    f"HTTPResponse, not {type(answer).__name__}, which {clip(name_of(hook))} "
                    "returned",
                    "process_request",
                )
            if answer is not None:
                return answer
        if route.methods is None:
            return None
        answer = await ask(route.handler, req, **req.params)
        if not isinstance(answer, HTTPResponse):
            raise TypeError(
                f"the function of {route.pattern!r} must return an HTTPResponse, "
                f"not {type(answer).__name__}"
            )
        return answer

    def __call__(self, req: Request, read: Read, write: Write) -> Awaitable[object]:
        """Call the handler of the request's route, as the server does once it is open."""
        if req._found is None:
            self._find(req)
        assert req._found is not None
        route = req._found.target
        if isinstance(route, HandshakeError):
            raise route
        answer: Awaitable[object] = route.handler(req, read, write, **req._found.params)
        return answer


def _not_found(missing: Missing, *, upgrades: bool) -> HandshakeError:
    if missing.methods and not upgrades:
        allowed = ", ".join(missing.methods)
        return refusal(
            405,
            f"expected one of the methods {allowed} (RFC 9110 section 15.5.6)",
            [("Allow", allowed)],
        )
    if upgrades and (missing.other_kind or missing.methods):
        return refusal(404, "there is no WebSocket at this path, but plain HTTP")
    return refusal(404, "there is nothing at this path (RFC 9110 section 15.5.5)")


def _new_route(
    pattern: str,
    handler: Callable[..., Any],
    methods: frozenset[str] | None,
    name: str | None,
    hooks: tuple[ProcessRequest, ...],
    *,
    named: bool | None = None,
    subprotocols: tuple[str, ...] | None = None,
) -> Route:
    route = Route(
        pattern,
        _checked_name(name) if name is not None else name_of(handler),
        handler,
        methods,
        name is not None if named is None else named,
        parse_pattern(pattern),
        hooks,
        subprotocols,
    )
    _check_called(route, more=True)  # those of a prefix, perhaps
    return route


def _takes_a_request_alone(function: Callable[..., Any], parameters: tuple[str, ...]) -> bool:
    alone, handler = (wrong_arguments(function, count, parameters) is None for count in (1, 3))
    return alone and not handler


def _check_called(route: Route, *, more: bool) -> None:
    """InvalidOptionType if the handler cannot be called with what the pattern has, or `more`."""
    parameters = tuple(route._parsed.parameters)
    if route.methods is None:
        if callable(route.handler) and _takes_a_request_alone(route.handler, parameters):
            raise InvalidOptionType(
                f"{clip(name_of(route.handler))} takes a request alone, as what answers plain HTTP "
                "does: add it by router.get() or router.http(); a WebSocket is handled by an "
                "async def handler(req, read, write)",
                "handler",
            )
        check_handler(route.handler, parameters, more=more)
    else:
        check_http_function(route.handler, parameters, more=more)


def _hooks(process_request: _Hooks) -> tuple[ProcessRequest, ...]:
    return check_hooks(process_request, None).process_request


def _checked_name(name: object) -> str:
    if not isinstance(name, str):
        raise wrong_type("name", "str", name)
    if not name:
        raise InvalidOption("the name of a route must not be empty", "name")
    return name
