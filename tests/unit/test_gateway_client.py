"""Who sends: address behind proxies, origin, key, privacy."""

from ipaddress import ip_network
from typing import Any

import pytest

from ingest_gateway.admission.client_address import ProxyTrust, canonical
from ingest_gateway.admission.events import Admission, Rejected, SessionEvents
from ingest_gateway.admission.origins import can_match, origin_allowed
from ingest_gateway.admission.privacy import IpPolicy, anonymised, apply_ip_policy, asks_for_privacy
from ingest_gateway.admission.project_key import key_in_body, key_outside_body, parameters
from schemas.reasons import Reason

TRUSTED = (ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"))

# Address


@pytest.mark.parametrize(
    ("peer", "values", "client"),
    [
        ("198.51.100.7", ["203.0.113.5"], "198.51.100.7"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.5"], "203.0.113.5"),
        ("10.0.0.1", ["6.6.6.6, 203.0.113.5"], "203.0.113.5"),
        ("10.0.0.1", ["6.6.6.6, 203.0.113.5, 10.2.3.4"], "203.0.113.5"),
        ("10.0.0.1", ["6.6.6.6", "203.0.113.5,10.2.3.4"], "203.0.113.5"),
        ("10.0.0.1", ["10.9.9.9, 10.2.3.4"], "10.9.9.9"),
        ("10.0.0.1", ["203.0.113.5, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.5:4711"], "203.0.113.5"),
        ("2001:db8::1", ["[2606:4700::1]:4711"], "2606:4700::1"),
        ("::ffff:10.0.0.1", ["203.0.113.5"], "203.0.113.5"),
        ("unix", ["203.0.113.5"], None),
    ],
)
def test_the_client_is_the_first_hop_from_the_right_that_is_not_trusted(
    peer: str, values: list[str], client: str | None
) -> None:
    assert ProxyTrust(TRUSTED).client(peer, values) == client


def test_without_trusted_proxies_the_header_is_not_believed() -> None:
    assert ProxyTrust().client("10.0.0.1", ["203.0.113.5"]) == "10.0.0.1"


@pytest.mark.parametrize(
    ("value", "client"),
    [
        ('for="[2606:4700::1]:4711";proto=https, for=10.2.3.4', "2606:4700::1"),
        ("by=10.0.0.2;for=203.0.113.5;host=a", "203.0.113.5"),
        ("For=203.0.113.5", "203.0.113.5"),
        ("for=_hidden", "10.0.0.1"),
    ],
)
def test_forwarded_is_read_as_rfc_7239(value: str, client: str) -> None:
    assert ProxyTrust(TRUSTED, "forwarded").client("10.0.0.1", [value]) == client


def test_a_named_header_holds_one_address_from_a_trusted_peer() -> None:
    trust = ProxyTrust(TRUSTED, "cf-connecting-ip")
    assert trust.client("10.0.0.1", ["203.0.113.5"]) == "203.0.113.5"
    assert trust.client("198.51.100.7", ["203.0.113.5"]) == "198.51.100.7"
    assert trust.client("10.0.0.1", ["nonsense"]) == "10.0.0.1"


def test_addresses_have_one_form() -> None:
    assert [canonical(a) for a in ("2001:DB8:0::1", "::ffff:192.0.2.1", "fe80::1%eth0", "x")] == [
        "2001:db8::1",
        "192.0.2.1",
        "fe80::1",
        None,
    ]


# Privacy


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        ("keep", ("203.0.113.77", "2606:4700:1:2::3")),
        ("truncate", ("203.0.113.0", "2606:4700:1::")),
        ("drop", (None,) * 2),
    ],
)
def test_an_address_is_kept_truncated_or_dropped(policy: IpPolicy, kept: tuple[str | None, str | None]) -> None:
    assert (apply_ip_policy("203.0.113.77", policy), apply_ip_policy("2606:4700:1:2::3", policy)) == kept
    assert apply_ip_policy(None, policy) is None


def test_gpc_and_dnt_are_the_users_word() -> None:
    assert asks_for_privacy({b"sec-gpc": b"1"})
    assert asks_for_privacy({b"dnt": b"1"})
    assert not asks_for_privacy({b"dnt": b"0", b"sec-gpc": b"0"})
    assert not asks_for_privacy({})


def test_an_anonymous_request_tells_no_visitors_apart() -> None:
    events: Any = [{"id": "i"}]
    admission = Admission([SessionEvents("s", "v", events)], [], 1, {"referrer": "r", "device_fingerprint": "f"})
    assert anonymised(admission) == Admission([SessionEvents("s", None, events)], [], 1, {"referrer": "r"})
    assert anonymised(Admission([], [], None, {"device_fingerprint": "f"})).context is None


# Origin


@pytest.mark.parametrize(
    ("origin", "allowed", "may_send"),
    [
        ("https://shop.example", (), True),
        ("", ("https://shop.example",), True),
        ("https://shop.example", ("https://shop.example",), True),
        ("https://SHOP.example", ("https://shop.example/",), True),
        ("https://shop.example:443", ("https://shop.example",), True),
        ("https://shop.example:8443", ("https://shop.example",), False),
        ("http://shop.example", ("https://shop.example",), False),
        ("https://evil.example", ("https://shop.example",), False),
        ("https://shop.example.evil.example", ("https://shop.example",), False),
        ("https://a.shop.example", ("https://*.shop.example",), True),
        ("https://a.b.shop.example", ("https://*.shop.example",), True),
        ("https://shop.example", ("https://*.shop.example",), False),
        ("https://evilshop.example", ("https://*.shop.example",), False),
        ("null", ("https://shop.example",), False),
        ("http://localhost:3000", ("https://shop.example", "http://localhost:3000"), True),
    ],
)
def test_an_origin_matches_itself_and_a_wildcard_every_host_below(
    origin: str, allowed: tuple[str, ...], may_send: bool
) -> None:
    assert origin_allowed(origin, allowed) is may_send


@pytest.mark.parametrize(
    ("entry", "can"),
    [
        ("https://shop.example", True),
        ("https://shop.example/", True),
        ("http://localhost:3000", True),
        ("https://*.shop.example", True),
        ("chrome-extension://abcdef", True),
        ("null", True),
        ("shop.example", False),
        ("*", False),
        ("https://shop.example/cart", False),
        ("https://*", False),
        ("", False),
    ],
)
def test_an_entry_that_no_origin_can_match_is_told_from_one_that_some_do(entry: str, can: bool) -> None:
    assert can_match(entry) is can


# Key


@pytest.mark.parametrize(
    ("headers", "query", "key"),
    [
        ({b"authorization": b"Bearer tfk_1", b"x-traceflow-key": b"tfk_2"}, {"key": "tfk_3"}, "tfk_1"),
        ({b"authorization": b"bearer  tfk_1 "}, {}, "tfk_1"),
        ({b"authorization": b"Basic abc", b"x-traceflow-key": b"tfk_2"}, {"key": "tfk_3"}, "tfk_2"),
        ({}, {"key": "tfk_3"}, "tfk_3"),
        ({}, {}, None),
    ],
)
def test_a_key_is_looked_for_in_headers_then_the_query(
    headers: dict[bytes, bytes], query: dict[str, str], key: str | None
) -> None:
    assert key_outside_body(headers, query) == key


def test_a_key_may_be_in_the_body() -> None:
    assert key_in_body({"key": "tfk_4"}) == "tfk_4"
    assert key_in_body({"key": 4}) is None
    assert key_in_body([]) is None


def test_the_last_of_several_parameters_counts() -> None:
    assert parameters({"a": "1", "b": ["1", "2"]}) == {"a": "1", "b": "2"}


def test_nor_do_the_events_of_it_that_are_refused() -> None:
    def refused(event: Any) -> Rejected:
        return Rejected(0, Reason.EVENT_FIELD_INVALID, "why", "s", event)

    sent = [refused({"visitor_id": "alice@x.example", "event_type": 7}), refused("no object")]
    left = anonymised(Admission([], sent, None, None)).rejected
    assert left == [refused({"event_type": 7}), refused("no object")]
