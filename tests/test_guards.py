"""The guards without an endpoint: whose requests are let in, and how often."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_min import guards
from mcp_min.guards import Grant, Guards, Refused

HOST = "127.0.0.1:8000"


class Clock:
    """Time that a test lets pass."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def bound(host: str = "127.0.0.1", port: int = 8000, **options: Any) -> Guards:
    made = Guards(**options)
    made.bind(host, port)
    return made


# (what the guards are given, the request's address, Host and Origin, the status of the refusal)
VISITS: list[tuple[dict[str, Any], tuple[str, str, str], int | None]] = [
    ({}, ("127.0.0.1", HOST, ""), None),
    ({}, ("127.0.0.1", "LocalHost:8000", ""), None),
    ({}, ("127.0.0.1", "", ""), 421),
    ({}, ("127.0.0.1", "127.0.0.1", ""), 421),
    ({}, ("127.0.0.1", "127.0.0.1:80", ""), 421),
    ({}, ("127.0.0.1", "evil.example:8000", ""), 421),
    ({}, ("127.0.0.1", "evil.example", "http://evil.example"), 421),
    ({"allowed_hosts": "mcp.example"}, ("127.0.0.1", "mcp.example", ""), None),
    ({"allowed_hosts": ["MCP.example"]}, ("127.0.0.1", "mcp.example:443", ""), None),
    ({"allowed_hosts": ["mcp.example:8443"]}, ("127.0.0.1", "mcp.example", ""), 421),
    ({"allowed_hosts": ["mcp.example", ""]}, ("127.0.0.1", "", ""), 421),
    ({"allowed_hosts": ["mcp.example", ""]}, ("127.0.0.1", ":443", ""), 421),
    ({"allowed_hosts": ["mcp.example"]}, ("127.0.0.1", "mcp.example:65535", ""), None),
    ({"allowed_hosts": ["mcp.example"]}, ("127.0.0.1", "mcp.example:", ""), None),
    *(({"allowed_hosts": ["mcp.example"]}, ("127.0.0.1", f"mcp.example:{port}", ""), 421)
      for port in ("000443", "http", "443\n", " 443", "443:443", "x" * 32_000)),
    ({"host": "::1"}, ("::1", "[::1]:8000", ""), None),
    ({"host": "localhost", "port": 80}, ("::1", "[::1]", ""), None),
    ({"port": 443}, ("127.0.0.1", "127.0.0.1", ""), None),
    ({}, ("127.0.0.1", HOST, "null"), 403),
    ({}, ("127.0.0.1", HOST, "http://evil.example"), 403),
    ({}, ("127.0.0.1", HOST, f"http://{HOST}"), None),
    ({}, ("127.0.0.1", HOST, f"https://{HOST}"), None),
    ({}, ("127.0.0.1", HOST, f"ftp://{HOST}"), 403),
    ({"allowed_origins": ["https://App.example"]}, ("127.0.0.1", HOST, "https://app.example"), None),
    ({"allowed_origins": ["https://app.example"]}, ("127.0.0.1", HOST, "http://app.example"), 403),
    ({"allowed_origins": ["*"]}, ("127.0.0.1", HOST, "http://app.example"), 403),
    ({"allowed_addresses": ["10.0.0.0/8"]}, ("127.0.0.1", HOST, ""), 403),
    ({"allowed_addresses": ["127.0.0.0/8", "::1"]}, ("127.0.0.1", HOST, ""), None),
    ({"allowed_addresses": ["127.0.0.0/8", "::1"]}, ("::1", HOST, ""), None),
]  # fmt: skip


@pytest.mark.parametrize(("options", "visit", "status"), VISITS)
def test_who_is_let_in(options: dict[str, Any], visit: tuple[str, str, str], status: int | None) -> None:
    door = bound(**options)
    for _ in range(2):  # what was decided once is decided so again
        if status is None:
            door.check(*visit)
        else:
            with pytest.raises(Refused, match=r"allowed_(addresses|hosts|origins)") as refused:
                door.check(*visit)
            assert refused.value.status == status


def test_what_is_remembered_belongs_to_the_whole_request() -> None:
    door = bound()
    door.check("127.0.0.1", HOST, "")
    for visit in [("127.0.0.1", HOST, "http://evil.example"), ("127.0.0.1", "evil.example", "")]:
        with pytest.raises(Refused):
            door.check(*visit)


def test_who_was_refused_is_not_remembered() -> None:
    door = Guards(allowed_hosts=["mcp.example"])
    for _ in range(2):
        with pytest.raises(Refused, match="allowed_hosts"):
            door.check("127.0.0.1", HOST, "")
    door.check("127.0.0.1", "mcp.example", "")
    door.bind("127.0.0.1", 8000)
    for _ in range(2):
        door.check("127.0.0.1", HOST, "")
    remembered = door.check.cache_info()  # type: ignore[attr-defined]
    assert (remembered.currsize, remembered.hits, remembered.maxsize) == (2, 1, guards.MAX_REMEMBERED)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"rate": 0}, "rate=0"), ({"rate": -1}, "rate=-1"), ({"allowed_addresses": ["10.0.0.1/8"]}, "10.0.0.1/8")],
)
def test_options_that_are_none(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Guards(**options)


@pytest.mark.parametrize(
    ("rate", "visits"),
    [
        (2, [(0, 2, None), (0, 1, "1"), (0.5, 1, None), (0, 1, "1"), (10, 2, None), (0, 1, "1")]),
        (0.1, [(0, 1, None), (0, 1, "11"), (5, 1, "6"), (5, 1, None)]),
    ],
)
def test_how_often(rate: float, visits: list[tuple[float, int, str | None]]) -> None:
    clock = Clock()
    door = Guards(rate=rate, now=clock)
    for pause, times, wait in visits:
        clock.seconds += pause
        for _ in range(times):
            if wait is None:
                door.limit("somebody")
            else:
                with pytest.raises(Refused, match=r"\(rate\)") as refused:
                    door.limit("somebody")
                assert (refused.value.status, refused.value.headers) == (429, {"Retry-After": wait})
    door.limit("somebody else")


def test_without_a_rate_nobody_is_counted() -> None:
    door = Guards()
    for _ in range(1000):
        door.limit("somebody")
    assert door._buckets == {}


def test_what_is_remembered_of_rates_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "MAX_REMEMBERED", 3)
    door = Guards(rate=2, now=Clock())
    for who in "abcad":
        door.limit(who)
    assert list(door._buckets) == ["c", "a", "d"]  # the one that was silent longest is forgotten


def test_what_a_page_may_read() -> None:
    door = bound(allowed_origins=["https://app.example"])
    assert door.cors("https://evil.example") == {}
    assert door.cors("https://APP.example") == {
        "Access-Control-Allow-Origin": "https://APP.example",
        "Access-Control-Expose-Headers": "Mcp-Session-Id, WWW-Authenticate",
        "Vary": "Origin",
    }


def test_a_grant_has_no_scopes_unless_it_is_given_some() -> None:
    assert Grant("somebody") == Grant("somebody", None)
