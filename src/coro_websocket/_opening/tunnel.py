"""A connection through a proxy: what is said over the pipe until the proxy has connected us."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._http.opening_errors import ProxyError

if TYPE_CHECKING:
    from .._options.proxy import Proxy
    from .._streams.opening_pipes import Pipe
    from .http_tunnel import Tunnel
    from .socks import SocksTunnel

__all__ = ["open_tunnel"]


async def open_tunnel(pipe: Pipe, proxy: Proxy, tunnel: Tunnel | SocksTunnel) -> None:
    """Have the proxy, at the other end of the pipe, connect on to the server.

    Raises ProxyError or SocksRefusal; the pipe is then closed.
    """
    try:
        opened = False
        while not opened:
            if tunnel.request:
                await pipe.send(tunnel.request)
            opened = tunnel.receive(await pipe.receive())
    except ProxyError:
        pipe.close()
        raise
    except OSError as error:
        pipe.close()
        reason = error.strerror or error
        raise ProxyError(f"the connection to the proxy {proxy.where} was lost: {reason}") from error
    except BaseException:
        pipe.close()
        raise
