"""What networks do to connections, and that each ends as docs/faults.md says, in that time.

Times are those of the parts' own clock. One that is too late is measured once more, since the
machine may have been busy.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.deep

ROOT = str(Path(__file__).parents[2])
SPARE = 1.0  # seconds that it may take more than is said
QUIET = {"ping_interval": None, "timeout": 60, "close_timeout": 60}
PINGS = {"ping_interval": 0.5, "ping_timeout": 1.5, "timeout": 60, "close_timeout": 0.5}


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request):
    return request.param


class TooLate(AssertionError):
    pass


def within(seconds: float, began: float, said: dict[str, Any]) -> None:
    took = said["at"] - began
    if took >= seconds + SPARE:
        raise TooLate(f"after {took:.2f} s, and not within {seconds} s: {said}")


def measured(test: Callable[..., None]) -> Callable[..., None]:
    """Run it again, in a network of its own, where something came too late."""

    @functools.wraps(test)
    def run(network, **others):
        try:
            test(network=network, **others)
        except TooLate:
            network.again()
            test(network=network, **others)

    return run


def next_said(part, event):
    """What it has said of such an event, or will say."""
    return next((said for said in part.said if said["event"] == event), None) or part.until(event)


@pytest.fixture(scope="session")
def cable_certificates(tmp_path_factory):
    """Files for a server at 10.77.0.2."""
    import trustme

    folder = tmp_path_factory.mktemp("cable")
    ca = trustme.CA()
    issued = ca.issue_cert("10.77.0.2")
    (folder / "cert.pem").write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(folder / "key.pem")
    ca.cert_pem.write_to_path(folder / "ca.pem")
    return {name: str(folder / f"{name}.pem") for name in ("cert", "key", "ca")}


def connected(network, server, client, files=None):
    """The library's server in the one namespace, its client in the other; over TLS with `files`."""
    scheme = "ws"
    if files is not None:
        scheme = "wss"
        server = {**server, "tls": {"cert": files["cert"], "key": files["key"]}}
        client = {**client, "ca": files["ca"]}
    serving = network.start(1, "server", **server)
    port = serving.until("listening")["port"]
    connecting = network.start(0, "client", url=f"{scheme}://10.77.0.2:{port}/", **client)
    connecting.until("open")
    serving.until("open")
    return serving, connecting


@pytest.mark.parametrize(
    "how",
    [
        {"loss": 0.03},
        {"delay": 0.01},
        {"reorder": 0.3},
        {"loss": 0.02, "delay": 0.005, "reorder": 0.2},
    ],
    ids=["loss", "delay", "reordering", "all of it"],
)
def test_what_tcp_mends_is_not_noticed(network, how, loop):
    network.cable(**how)
    options = {"loop": loop, **QUIET}
    _, client = connected(network, {"do": "echo", **options}, {"do": "ask", **options})
    assert client.until("read")["messages"] == 60


@pytest.mark.parametrize("side", ["client", "server"])
@measured
def test_a_cut_cable_is_noticed_by_who_reads(network, side, loop):
    options = {"loop": loop, "do": "read"}
    other = {**options, **QUIET}
    ends = connected(
        network,
        {**(other if side == "client" else {**options, **PINGS})},
        {**(other if side == "server" else {**options, **PINGS})},
    )
    end = ends[1 if side == "client" else 0]
    cut = network.cable(cut=True)
    ended = end.until("read")
    assert ended["error"] == "PingTimeout"
    assert ended["code"] == 1006
    within(2.0, cut, ended)


@pytest.mark.parametrize(
    ("side", "over"),
    [("client", "tcp"), ("server", "tcp"), ("client", "tls"), ("server", "tls+deflate")],
)
@measured
def test_a_cable_cut_inside_a_message_is_noticed_by_reader_and_writer(
    network, side, over, loop, cable_certificates
):
    """The one end sends without end, the other reads: both have their ends of a broken message."""
    do = "flood compressed" if "deflate" in over else "flood"
    flood = {"loop": loop, "do": do, **PINGS}
    read = {"loop": loop, "do": "read", **PINGS}
    network.cable(delay=0.002)
    ends = connected(
        network,
        flood if side == "server" else read,
        flood if side == "client" else read,
        cable_certificates if "tls" in over else None,
    )
    writer, reader = ends if side == "server" else reversed(ends)
    reader.until("message")
    cut = network.cable(cut=True)
    for part, event in ((writer, "write"), (writer, "read"), (reader, "read")):
        said = next_said(part, event)
        assert said["error"] in ("PingTimeout", "ConnectionClosedError"), said
        within(2.0, cut, said)
    assert "ping_timeout" in reader.said[-1]["text"]


@pytest.mark.parametrize("side", ["client", "server"])
@measured
def test_a_writer_that_is_blocked_learns_that_its_peer_has_vanished(network, side, loop):
    flood = {"loop": loop, "do": "flood", **PINGS}
    idle = {"loop": loop, "do": "idle", **QUIET, "read_high_water": 1000}
    # While the peer answers nothing at all it is taken for dead; so the cable is cut meanwhile.
    flood["ping_timeout"] = 3
    ends = connected(
        network, flood if side == "server" else idle, flood if side == "client" else idle
    )
    writer = ends[0 if side == "server" else 1]
    writer.until("blocked")
    cut = network.cable(cut=True)
    said = writer.until("write")
    assert said["error"] == "ConnectionClosedError"
    within(3.5, cut, said)


@pytest.mark.parametrize("side", ["client", "server"])
@measured
def test_a_peer_that_vanished_without_fin_resets_once_it_is_back(network, side, loop):
    """Half-open: its process died while the cable was cut. What comes next is answered by RST."""
    dies = {"loop": loop, "do": "read", **QUIET}
    asks = {"loop": loop, "do": "read", **PINGS, "ping_timeout": 60}
    server, client = connected(
        network, asks if side == "server" else dies, asks if side == "client" else dies
    )
    peer, end = (client, server) if side == "server" else (server, client)
    network.cable(cut=True)
    peer.end()
    back = network.cable(cut=False)
    said = end.until("read")
    assert said["error"] == "ConnectionClosedError"
    assert said["code"] == 1006
    within(0.5, back, said)


@pytest.mark.parametrize("side", ["client", "server"])
@measured
def test_closing_into_a_cut_cable_ends_within_close_timeout(network, side, loop):
    ends = connected(
        network,
        {"loop": loop, "do": "close", **QUIET, "close_timeout": 0.5},
        {"loop": loop, "do": "close", **QUIET, "close_timeout": 0.5},
    )
    end = ends[1 if side == "client" else 0]
    network.cable(cut=True)
    end.tell("")
    began = end.until("closing")["at"]
    closed = end.until("closed")
    assert closed["at"] - began > 0.4
    within(0.5, began, closed)
    said = next_said(end, "read")
    assert said["code"] in (1000, 1006)


@pytest.mark.parametrize(("host", "phase"), [("10.77.0.2", "connect"), ("nowhere.test", "resolve")])
@measured
def test_connecting_into_nothing_ends_at_the_timeout_of_its_phase(network, host, phase, loop):
    if phase == "resolve":
        nameserver = network.start(1, "nameserver")
        network.resolve_with(0, "nameserver 10.77.0.2\noptions timeout:2 attempts:1\n")
        nameserver.until("listening")
    else:
        network.cable(cut=True)
    client = network.start(0, "client", url=f"ws://{host}:80/", do="read", loop=loop, timeout=0.5)
    began = client.until("connecting")["at"]
    said = client.until("connect")
    assert (said["error"], said["phase"]) == ("ConnectTimeout", phase)
    assert said["at"] - began > 0.4
    within(0.5, began, said)
    if phase == "resolve":
        nameserver.until("asked")


@measured
def test_a_port_on_which_nobody_listens_is_told_at_once(network, loop):
    client = network.start(0, "client", url="ws://10.77.0.2:81/", do="read", loop=loop, timeout=60)
    began = client.until("connecting")["at"]
    said = client.until("connect")
    assert (said["error"], said["phase"]) == ("ConnectError", "connect")
    within(0, began, said)


@pytest.mark.parametrize(
    ("how", "scheme", "error", "phase"),
    [
        ("reset in TLS", "wss", "TLSError", "tls"),
        ("reset in the upgrade", "ws", "ConnectError", "handshake"),
        ("reset in the answer", "ws", "ConnectError", "handshake"),
        ("hang up in the upgrade", "ws", "ConnectError", "handshake"),
    ],
)
@measured
def test_an_end_inside_the_handshake_is_told_at_once(
    network, how, scheme, error, phase, loop, cable_certificates
):
    server, port = raw_server(network, how, cable_certificates)
    url = f"{scheme}://10.77.0.2:{port}/"
    client = network.start(0, "client", url=url, do="read", loop=loop, timeout=60)
    said = client.until("connect")
    assert (said["error"], said["phase"]) == (error, phase)
    within(0, server.until("ends")["at"], said)


def raw_server(network, how, files):
    """A server by hand, and its port."""
    part = network.start(1, "raw", how=how, answer_with=ROOT, cert=files["cert"], key=files["key"])
    return part, part.until("listening")["port"]


@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("how", ["reset", "truncated in a message", "truncated between messages"])
@measured
def test_a_reset_and_tls_without_close_notify_are_an_abnormal_end(
    network, how, side, loop, cable_certificates
):
    """What came whole is delivered. A FIN alone anybody could have sent (RFC 8446 section 6.1)."""
    files = cable_certificates
    over_tls = how != "reset"
    if side == "client":
        peer, port = raw_server(network, how, files)
        options = {"ca": files["ca"]} if over_tls else {}
        url = f"{'wss' if over_tls else 'ws'}://10.77.0.2:{port}/"
        end = network.start(0, "client", url=url, do="read", loop=loop, **options, **QUIET)
    else:
        tls = {"cert": files["cert"], "key": files["key"]} if over_tls else None
        end = network.start(1, "server", do="read", loop=loop, tls=tls, **QUIET)
        port = end.until("listening")["port"]
        peer = network.start(0, "raw client", how=how, port=port, ca=files["ca"])
    said = end.until("read")
    assert (said["error"], said["code"]) == ("ConnectionClosedError", 1006)
    assert [line["len"] for line in end.said if line["event"] == "message"] == [1000]
    within(0, peer.until("ends")["at"], said)
