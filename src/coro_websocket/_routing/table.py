"""The table of routes: which one a path belongs to, and the path of one. On werkzeug's Map.

The rule: there are no redirects, as browsers do not follow them where they open a WebSocket. A
path has a route, or it has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.routing import BuildError, Map, RequestRedirect, Rule, WebsocketMismatch

from .._errors import InvalidOption
from .._http.opening_errors import HandshakeError
from .._quoting import clip
from .converters import CONVERTERS
from .paths import MAX_SPLIT, decode_path
from .patterns import parse_pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from werkzeug.routing import BaseConverter

    from .patterns import Pattern

__all__ = ["Missing", "Route", "Table"]


@dataclass(frozen=True, eq=False)
class Route:
    """One route of a router.

    Attributes:
        pattern: as it was written, under the prefixes of the routers it was mounted with.
        name: what `url_for` knows it by.
        handler: the coroutine function of a WebSocket, or the function that answers plain HTTP.
        methods: the methods of plain HTTP; None for a WebSocket.
    """

    pattern: str
    name: str
    handler: Callable[..., Any]
    methods: frozenset[str] | None
    _named: bool  # by the user
    _parsed: Pattern
    _hooks: tuple[Callable[..., Any], ...]  # process_request, outermost first
    _subprotocols: tuple[str, ...] | None = None  # None: the server's

    def __repr__(self) -> str:
        kind = "WebSocket" if self.methods is None else " ".join(sorted(self.methods))
        return f"<Route {kind} {self.pattern!r} {self.name!r}>"


class Missing(LookupError):
    """There is no route for a path.

    `other_kind` says that there is one for plain HTTP where a WebSocket was asked for, or the
    other way round; `methods` has the methods that there is one for.
    """

    def __init__(self, methods: tuple[str, ...] = (), *, other_kind: bool = False) -> None:
        self.methods = methods
        self.other_kind = other_kind


class Table:
    """The routes of one router."""

    def __init__(self, converters: Mapping[str, type[BaseConverter]]) -> None:
        self.routes: list[Route] = []
        self._map = Map(
            converters={**CONVERTERS, **converters},
            strict_slashes=True,
            merge_slashes=False,
            redirect_defaults=False,
        )
        self._adapter = self._map.bind("host")

    def add_converters(self, other: Table) -> None:
        """Take over those of another table; InvalidOption if a name means two of them."""
        own = self._map.converters
        for name, converter in other._map.converters.items():
            if own.setdefault(name, converter) is not converter:
                raise InvalidOption(
                    f"the converter {clip(name)} is another one in a router that is mounted",
                    "converters",
                )

    def check(self, pattern: object) -> None:
        """InvalidOption if this is no pattern, or has a converter that there is not."""
        parsed = parse_pattern(pattern)
        for parameter in parsed.parameters.values():
            known = self._map.converters
            if parameter.converter in known:
                continue
            hint = f": there are {', '.join(name for name in known if name != 'default')}"
            if parameter.name in known:
                hint = f": did you mean {{{parameter.converter}:{parameter.name}}}?"
            raise InvalidOption(
                f"{clip(parsed.text)} is no pattern of a path: the converter "
                f"{clip(parameter.converter)} does not exist{hint}",
                "routes",
            )

    def add(self, route: Route) -> None:
        """Add a route; InvalidOption, and nothing is added, if it cannot be one."""
        for other in self.routes:
            if other._parsed.shape == route._parsed.shape and _overlap(other, route):
                raise InvalidOption(
                    f"{clip(route.pattern)} matches what {clip(other.pattern)} does", "routes"
                )
            both_named = other._named and route._named and other.name == route.name
            if both_named and other.handler is not route.handler:
                raise InvalidOption(f"another route is called {clip(route.name)}", "name")
        websocket = route.methods is None
        rule = _Rule(route._parsed.rule, endpoint=route, methods=route.methods, websocket=websocket)
        try:
            self._map.add(rule)
        except (LookupError, ValueError, TypeError) as error:
            raise InvalidOption(
                f"{clip(route.pattern)} is no pattern of a path: {error}", "routes"
            ) from error
        self.routes.append(route)

    def match(self, pathname: str, method: str, *, websocket: bool) -> tuple[Route, dict[str, Any]]:
        """The route of a path as it was sent, and the values of its parameters.

        Raises:
            Missing: there is none.
            HandshakeError: the path cannot be read.
        """
        path = decode_path(pathname) if pathname.startswith("/") else None
        if path is None:
            raise Missing
        try:
            route, values = self._adapter.match(path, method, websocket=websocket)
        except MethodNotAllowed as error:
            raise Missing(tuple(sorted(error.valid_methods or ()))) from None
        except WebsocketMismatch:
            raise Missing(other_kind=True) from None
        except (HTTPException, RequestRedirect):
            raise Missing from None
        return route, dict(values)

    def path_of(self, route: Route, values: Mapping[str, Any]) -> str:
        """The path that matches the route with these values; InvalidOption if none does."""
        try:
            url = self._adapter.build(route, values, force_external=True, append_unknown=False)
        except (BuildError, ValueError, TypeError) as error:
            raise self._unfit(route, values) from error
        path = "/" + url.partition("://host/")[2]
        if route.pattern.endswith("/") and not path.endswith("/"):
            path += "/"
        method = "GET" if route.methods is None else min(route.methods)
        try:
            found, read = self.match(path, method, websocket=route.methods is None)
        except (Missing, HandshakeError):
            raise self._unfit(route, values) from None
        if found is not route:
            raise InvalidOption(
                f"the path {clip(path)} of the route {clip(route.name)} would be matched by "
                f"{clip(found.pattern)}",
                "params",
            )
        if any(
            isinstance(value, str) and value != str(values[name]) for name, value in read.items()
        ):
            raise self._unfit(route, values)
        return path

    def _unfit(self, route: Route, values: Mapping[str, Any]) -> InvalidOption:
        # Without the values: they may be secrets.
        return InvalidOption(
            f"no path that {clip(route.pattern)} matches has these values of "
            f"{', '.join(values) or 'no parameters'}",
            "params",
        )


class _Rule(Rule):
    """A rule whose converters' arguments are those that were read already."""

    def get_converter(
        self, variable_name: str, converter_name: str, args: object, kwargs: object
    ) -> BaseConverter:
        pattern: Pattern = self.endpoint._parsed
        arguments, named = pattern.parameters[variable_name].arguments
        converter = super().get_converter(variable_name, converter_name, arguments, dict(named))
        if variable_name in pattern.split:
            converter.regex = f"(?![^/]{{{MAX_SPLIT + 1}}})(?:{converter.regex})"
        return converter


def _overlap(one: Route, other: Route) -> bool:
    if one.methods is None or other.methods is None:
        return one.methods is other.methods
    return not one.methods.isdisjoint(other.methods)
