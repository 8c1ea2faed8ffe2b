"""Link-local addresses, which a machine has on each of its network interfaces."""

from __future__ import annotations

import pytest

from .conftest import ip

pytestmark = pytest.mark.deep

QUIET = {"ping_interval": None, "timeout": 60, "close_timeout": 60}
LINK_LOCAL = ("fe80::77:1", "fe80::77:2")


@pytest.fixture
def link_local(network):
    """The network, whose ends have link-local addresses too."""
    for name, address in zip(network.names, LINK_LOCAL, strict=True):
        ip("-n", name, "-6", "addr", "add", f"{address}/64", "dev", "cable", "nodad")
    return network


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("local", [None, "fe80::77:1%cable"])
def test_a_link_local_address_is_reached_by_its_zone(link_local, loop, local):
    options = {"loop": loop, **QUIET}
    server = link_local.start(1, "server", do="echo", host="fe80::77:2%cable", **options)
    url = server.until("listening")["url"]
    assert url.startswith("ws://[fe80::77:2%25cable]:")
    client = link_local.start(0, "client", url=url, do="ask", local_addr=local, **options)
    assert client.until("read")["messages"] == 60


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_zone_that_does_not_exist_is_told_by_its_name(link_local, loop):
    url = "ws://[fe80::77:2%25cable7]:8080/"
    client = link_local.start(0, "client", url=url, do="ask", loop=loop, **QUIET)
    failed = client.until("connect")
    assert failed["error"] == "ConnectError"
    assert "this machine has no network interface 'cable7'" in failed["text"]
