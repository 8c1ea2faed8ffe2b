"""Whom `Forwarded` and `X-Forwarded-For` are believed to name: RFC 7239."""

from __future__ import annotations

import ipaddress
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coro_websocket import InvalidOption, InvalidOptionType
from coro_websocket._http.client_address import ClientAddress, check_networks
from coro_websocket._http.forwarded import find_client, forwarded_hops, x_forwarded_hops
from coro_websocket._http.headers import Headers

TRUSTED = check_networks(["10.0.0.0/8", "2001:db8:ffff::/48", "unix"], "trusted_proxies")
PEER = ClientAddress("10.0.0.1", 4000)
CLIENT = ClientAddress("203.0.113.5")


def found(*headers, peer=PEER):
    return find_client(Headers(headers), peer, TRUSTED)


def client(*headers, peer=PEER):
    return found(*headers, peer=peer).client


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("for=203.0.113.5", CLIENT),
        ("For=203.0.113.5;by=10.0.0.1", CLIENT),
        ('by=10.0.0.1; for="203.0.113.5:4711"', ("203.0.113.5", 4711)),
        ('for="203.0.113.5:_port"', CLIENT),
        ('for="[2001:db8:cafe::17]:4711"', ("2001:db8:cafe::17", 4711)),
        ('for="[2001:DB8:cafe::17]"', ("2001:db8:cafe::17", None)),
        ("for=[2001:db8:cafe::17]", ("2001:db8:cafe::17", None)),  # quotes were forgotten
        ('for="[::ffff:203.0.113.5]"', CLIENT),
        ("for=_hidden", ("_hidden", None)),
        ('for="_SEVKISEK:_x"', ("_SEVKISEK", None)),
        ("for=1.1.1.1, for=203.0.113.5", CLIENT),
        ("for=1.1.1.1, for=203.0.113.5, for=10.9.9.9", CLIENT),
        (", for=203.0.113.5,,", CLIENT),
        ('for="203\\.0.113.5"', CLIENT),
        # Nobody knows, or nobody can read it.
        ("for=unknown", PEER),
        ("for=1.1.1.1, for=unknown, for=10.9.9.9", ("10.9.9.9", None)),
        ("for=1.1.1.1, proto=https", PEER),
        ("for=1.1.1.1, nonsense", PEER),
        ("for=203.0.113.5;for=203.0.113.6", PEER),
        ("for=203.0.113.5:99999", PEER),
        ("for=203.0.113", PEER),
        ("for=fe80::1%eth0", PEER),
        ("for=", PEER),
        ("", PEER),
        ('for="203.0.113.5', PEER),
        ("for=203.0.113.5 by=x", PEER),
    ],
)
def test_forwarded_is_read_from_its_end(value, expected):
    assert client(("Forwarded", value)) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("203.0.113.5", CLIENT),
        ("1.1.1.1, 203.0.113.5, 10.2.2.2,10.3.3.3", CLIENT),
        ("203.0.113.5:4711", ("203.0.113.5", 4711)),
        ("2001:db8:cafe::17", ("2001:db8:cafe::17", None)),
        ("[2001:db8:cafe::17]:80", ("2001:db8:cafe::17", 80)),
        ("::ffff:203.0.113.5", CLIENT),
        ("203.0.113.5, 2001:db8:ffff::1", CLIENT),
        ("203.0.113.5, unix:", CLIENT),
        ("10.5.5.5, 10.4.4.4", ("10.5.5.5", None)),
        ("1.1.1.1, unknown", PEER),
        ("1.1.1.1, 256.0.0.1", PEER),
        ("1.1.1.1, 010.0.0.1", PEER),
        ("1.1.1.1, example.org", PEER),
        ("1.1.1.1, ' OR 1=1", PEER),
    ],
)
def test_x_forwarded_for_is_read_from_its_end(value, expected):
    assert client(("X-Forwarded-For", value)) == expected


def test_lines_of_one_header_are_one_list():
    assert client(("X-Forwarded-For", "1.1.1.1"), ("X-Forwarded-For", "203.0.113.5")) == CLIENT
    assert client(("Forwarded", "for=1.1.1.1"), ("forwarded", "for=203.0.113.5")) == CLIENT


@pytest.mark.parametrize("peer", [ClientAddress("203.0.113.9", 1), ClientAddress("fe80::1%1", 1)])
def test_a_peer_that_is_not_trusted_is_the_client_whatever_it_says(peer):
    said = [("Forwarded", "for=1.1.1.1;proto=https"), ("X-Forwarded-For", "1.1.1.1")]
    assert found(*said, ("X-Forwarded-Proto", "https"), peer=peer) == (peer, None, False)


def test_peers_of_a_unix_socket_are_trusted_where_that_is_said():
    header = ("X-Forwarded-For", "203.0.113.5")
    assert client(header, peer=None) == CLIENT
    nobody = check_networks([], "trusted_proxies")
    assert find_client(Headers([header]), None, nobody).client is None


def test_both_headers_count_only_where_they_agree():
    ours = ("X-Forwarded-For", "203.0.113.5")
    spoofed = ("Forwarded", "for=10.1.1.1")  # which the proxy has passed on
    assert found(ours, spoofed) == (PEER, None, True)
    assert client(("Forwarded", "for=203.0.113.5"), ("X-Forwarded-For", "10.1.1.1")) == PEER
    assert client(ours, ("Forwarded", 'for="203.0.113.5:99"')) == ("203.0.113.5", 99)


@pytest.mark.parametrize(
    ("headers", "scheme"),
    [
        ([("Forwarded", "for=203.0.113.5;proto=https")], "wss"),
        ([("Forwarded", "for=203.0.113.5;proto=HTTP")], "ws"),
        ([("Forwarded", "for=203.0.113.5;proto=gopher")], None),
        ([("Forwarded", "for=203.0.113.5;proto=https, for=10.1.1.1;proto=http")], "wss"),
        ([("Forwarded", "for=1.1.1.1;proto=https, for=203.0.113.5;proto=http")], "ws"),
        ([("Forwarded", "proto=https")], "wss"),
        ([("X-Forwarded-Proto", "https")], "wss"),
        ([("X-Forwarded-Proto", "ws")], "ws"),
        ([("X-Forwarded-For", "203.0.113.5, 10.1.1.1"), ("X-Forwarded-Proto", "https")], "wss"),
        (
            [("X-Forwarded-For", "203.0.113.5, 10.1.1.1"), ("X-Forwarded-Proto", "https, http")],
            "wss",
        ),
        ([("X-Forwarded-For", "1.1.1.1, 203.0.113.5"), ("X-Forwarded-Proto", "https, http")], "ws"),
        ([("Forwarded", "for=203.0.113.5"), ("X-Forwarded-Proto", "https")], "wss"),
        # The client may have sent one of them.
        ([("Forwarded", "for=203.0.113.5;proto=https"), ("X-Forwarded-Proto", "http")], None),
        ([("X-Forwarded-For", "203.0.113.5")], None),
        ([], None),
    ],
)
def test_the_scheme_is_that_by_which_the_client_has_come(headers, scheme):
    assert found(*headers).scheme == scheme


SPOOFED = st.one_of(
    st.text('",;=\\ \tfor1.0[]:_"', max_size=40),
    st.sampled_from(['for="', 'for=1.1.1.1;by="', 'for=10.1.1.1, for="\\', ",", 'x="a\\"', '"""']),
)


@given(
    SPOOFED,
    st.sampled_from(
        ["for=203.0.113.5", 'proto=https;for="203.0.113.5"', 'FOR="203.0.113.5";x="a, b";y=z']
    ),
)
def test_whatever_a_client_sends_what_its_proxy_adds_is_found(spoofed, added):
    """Even a quote that is left open does not swallow it."""
    assert next(forwarded_hops([f"{spoofed}, {added}"])).address == CLIENT
    assert client(("Forwarded", f"{spoofed}, {added}")) == CLIENT
    assert client(("Forwarded", spoofed), ("Forwarded", added)) == CLIENT
    assert client(("X-Forwarded-For", f"{spoofed}, 203.0.113.5")) == CLIENT


@given(st.text(max_size=60), st.text(max_size=60), st.text(max_size=20))
def test_nothing_that_comes_raises(forwarded, addresses, proto):
    seen = found(
        ("Forwarded", forwarded), ("X-Forwarded-For", addresses), ("X-Forwarded-Proto", proto)
    )
    assert seen.client is not None
    assert seen.scheme in ("ws", "wss", None)


@given(
    st.lists(
        st.tuples(st.ip_addresses(), st.none() | st.integers(0, 65535)), min_size=1, max_size=5
    )
)
def test_what_a_proxy_writes_is_read_again(addresses):
    expected = [ClientAddress.of_socket((str(ip), port)) for ip, port in reversed(addresses)]
    nodes = [
        str(ClientAddress(f"[{ip}]" if ip.version == 6 and port is None else str(ip), port))
        for ip, port in addresses
    ]
    nodes = [node.strip("'") for node in nodes]
    forwarded = ", ".join(f'by=_me;for="{node}"' for node in nodes)
    assert [hop.address for hop in forwarded_hops([forwarded])] == expected
    assert [hop.address for hop in x_forwarded_hops([",".join(nodes)])] == expected


@pytest.mark.parametrize(
    "value",
    [
        '"' * 60_000,
        "," * 60_000,
        "\\" * 60_000 + '"',
        'a="' + '\\"' * 30_000,
        "for=10.0.0.1," * 4500,
        "a=b;" * 15_000,
        "," + " " * 60_000 + "x",
        "a=b;" + " \t" * 30_000 + "=",
        "a=b" + " " * 60_000 + "x",
    ],
)
def test_long_headers_take_time_in_proportion(value):
    start = time.process_time()
    found(("Forwarded", value), ("X-Forwarded-For", value))
    assert time.process_time() - start < 1


def test_a_chain_without_end_ends():
    assert client(
        ("X-Forwarded-For", ",".join(f"10.1.{n >> 8}.{n & 255}" for n in range(9000)))
    ) == (
        "10.1.35.8",
        None,
    )


# Addresses and networks


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (("192.0.2.1", 80), "192.0.2.1:80"),
        (("::1", 80, 0, 0), "[::1]:80"),
        (("::ffff:192.0.2.1", 80, 0, 0), "192.0.2.1:80"),
        (("fe80::1%eth0", 80, 0, 2), "[fe80::1%eth0]:80"),
    ],
)
def test_an_address_of_a_socket_in_words(address, text):
    assert str(ClientAddress.of_socket(address)) == text


def test_addresses_that_are_no_ip_address_in_words():
    assert ClientAddress.of_socket("/run/socket") is None
    assert str(ClientAddress("2001:db8::1")) == "2001:db8::1"
    assert str(ClientAddress("/run/a\nb")) == r"'/run/a\nb'"


def test_a_client_is_an_ipv4_address_or_the_first_half_of_an_ipv6_address():
    def same(one, other):
        return ClientAddress(one, 1).counts_as == ClientAddress(other, 2).counts_as

    assert same("192.0.2.1", "192.0.2.1")
    assert not same("192.0.2.1", "192.0.2.2")
    assert same("2001:db8::1", "2001:db8::ffff:0:0:2")
    assert not same("2001:db8::1", "2001:db8:0:1::1")
    assert same("_a", "_a")
    assert not same("_a", "_b")


@pytest.mark.parametrize(
    "networks",
    [
        ["192.0.2.0/24"],
        ("192.0.2.1", "10.0.0.0/8"),
        [ipaddress.ip_address("192.0.2.1")],
        {ipaddress.ip_network("192.0.2.0/30")},
        ["::ffff:192.0.2.0/120"],
        ["0.0.0.0/0"],
    ],
)
def test_networks_may_be_given_in_several_ways(networks):
    checked = check_networks(networks, "trusted_proxies")
    assert checked.has(ClientAddress("192.0.2.1"))
    assert checked.has(ClientAddress("::ffff:192.0.2.1"))
    assert not checked.has(ClientAddress("2001:db8::1"))
    assert not checked.has(ClientAddress("_hidden"))
    assert not checked.has(None)


@pytest.mark.parametrize(
    ("networks", "error", "said"),
    [
        ("10.0.0.0/8", InvalidOptionType, "must be a list of networks"),
        (5, InvalidOptionType, "must be a list of networks"),
        ([5], InvalidOptionType, "each of trusted_proxies must be str or an object of ipaddress"),
        (["10.0.0.1/8"], InvalidOption, "did you mean '10.0.0.0/8'?"),
        (["example.org"], InvalidOption, "'example.org' is not a network: expected"),
        (["*"], InvalidOption, "'*' is not a network: expected"),
    ],
)
def test_what_is_no_list_of_networks_is_refused(networks, error, said):
    with pytest.raises(error) as caught:
        check_networks(networks, "trusted_proxies")
    assert said in str(caught.value)
    assert caught.value.option == "trusted_proxies"
