"""Who may send requests at all: the guards at the front door of HTTP.

A server on a port hears from anybody: from web pages that a browser on the same machine has open, from
scanners, from clients that ask too often. The guards look at a request's address, Host and Origin before
a byte of its body is read, and count how often it comes; who sent it, an `Auth` finds out.

Spec: 2026-07-28 basic/transports/streamable-http#security--endpoint; RFC 9110 section 7.4 (421).
Wire: → POST /mcp, Host: 127.0.0.1:8000, Origin: https://evil.example
      ← 403  {"jsonrpc":"2.0","error":{"code":-32600,"message":"the Origin … allowed_origins would allow it"}}

Deliberately absent: what makes a sender known; `extras/auth.py` has API keys and tokens.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, Protocol

from .jsonrpc import INVALID_REQUEST, RpcError

MAX_REMEMBERED = 10_000  # addresses and principals of which something is remembered
_PORT = re.compile(r":[0-9]{0,5}\Z")  # and no more: what a Host says is remembered once it is let in


class Refused(RpcError):
    """A request that is not served, for a reason that HTTP has a status for. headers: such as WWW-Authenticate."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(INVALID_REQUEST, message)
        self.status = status
        self.headers = headers


@dataclass(frozen=True, slots=True)
class Grant:
    """Who sent a request, and what for."""

    principal: str | None = None
    scopes: frozenset[str] | None = None  # None: no scopes are in use, nothing is refused for lack of one


class Auth(Protocol):
    """What makes the sender of a request known; see `extras/auth.py`."""

    metadata: dict[str, Any] | None  # the RFC 9728 document, None without one

    async def authenticate(self, headers: Mapping[str, str]) -> Grant:
        """Return who sent these headers. Raises Refused 401 or 403, with `WWW-Authenticate`."""
        ...

    def insufficient(self, scopes: list[str]) -> Mapping[str, str]:
        """Return the headers that tell a client which scopes a request needs."""
        ...


@dataclass(slots=True)
class Guards:
    """Who may send requests at all. Every refusal names the option that would allow the request.

    allowed_hosts: names, with a port or for any, by which this server may be called besides the
    addresses that it is bound to. allowed_origins: "https://app.example" of web pages that may call.
    allowed_addresses: networks such as "10.0.0.0/8", empty for everybody. rate: requests a second for
    each address and each principal, that many at once; None for no limit. now: a clock, in seconds.
    Raises ValueError for a network or a rate that is none.
    """

    allowed_hosts: Iterable[str] = ()
    allowed_origins: Iterable[str] = ()
    allowed_addresses: Iterable[str] = ()
    rate: float | None = None
    now: Callable[[], float] = time.monotonic
    check: Callable[[str, str, str], None] = field(init=False)
    _networks: list[IPv4Network | IPv6Network] = field(default_factory=list, init=False)
    _bound: set[str] = field(default_factory=set, init=False)  # "127.0.0.1:8000": where the server really listens
    _buckets: dict[str, tuple[float, float]] = field(default_factory=dict, init=False)  # who: (requests left, when)

    def __post_init__(self) -> None:
        self.allowed_hosts, self.allowed_origins = _names(self.allowed_hosts), _names(self.allowed_origins)
        self._networks = [ip_network(name) for name in _names(self.allowed_addresses)]
        if self.rate is not None and self.rate <= 0:
            raise ValueError(f"rate={self.rate}: give a number of requests a second, or None")
        # Nearly every request comes from where the one before came from: who was let in is remembered.
        self.check = lru_cache(MAX_REMEMBERED)(self._check)

    def bind(self, host: str, port: int) -> None:
        """Let requests name the address that the server is bound to, and localhost for loopback."""
        for name in (host.lower(), *_ALIASES.get(host, ())):
            shown = f"[{name}]" if ":" in name else name
            # A URL with its scheme's own port shows none.
            self._bound |= {f"{shown}:{port}", shown} if port in (80, 443) else {f"{shown}:{port}"}

    def _check(self, peer: str, host: str, origin: str) -> None:
        """Refuse what no handler should see, before a byte of the body is read. Raises Refused 403 or 421."""
        if self._networks and not any(ip_address(peer) in network for network in self._networks):
            raise Refused(403, f"the address {peer} is not in allowed_addresses")
        name = host.lower()
        if name not in self._bound and not {name, _PORT.sub("", name)}.intersection(self.allowed_hosts):
            raise Refused(421, f"the Host {name!r:.100} is not this server's; allowed_hosts would allow it")
        # MUST validate Origin, 403 if present and invalid (streamable-http#security--endpoint). Never
        # compared with Host: in a DNS rebinding attack both name the attacker.
        if origin and not self.cors(origin):
            raise Refused(403, f"the Origin {origin!r:.100} is not allowed; allowed_origins would allow it")

    def limit(self, who: str) -> None:
        """Count a request against `who`. Raises Refused 429."""
        if self.rate is None:
            return
        now, most = self.now(), max(self.rate, 1)
        left, then = self._buckets.pop(who, (most, now))
        left = min(most, left + (now - then) * self.rate)
        self._buckets[who] = (left - 1 if left >= 1 else left, now)
        if len(self._buckets) > MAX_REMEMBERED:
            del self._buckets[next(iter(self._buckets))]  # the one that has been silent longest
        if left < 1:
            wait = {"Retry-After": str(int((1 - left) / self.rate) + 1)}
            raise Refused(429, f"over {self.rate:g} requests a second (rate)", wait)

    def cors(self, origin: str) -> dict[str, str]:
        """Return what lets a page read the response: the server's own or one of an allowed origin, {} for others."""
        scheme, _, host = origin.lower().partition("://")
        if origin.lower() not in self.allowed_origins and not (scheme in ("http", "https") and host in self._bound):
            return {}
        exposed = "Mcp-Session-Id, WWW-Authenticate"
        return {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": exposed, "Vary": "Origin"}


_ALIASES = {"127.0.0.1": ("localhost",), "::1": ("localhost",), "localhost": ("127.0.0.1", "::1")}


def _names(given: Iterable[str]) -> frozenset[str]:
    # A lone string is one name and not its letters; an empty one, as from a variable that is not set, is none.
    return frozenset(name.lower() for name in ([given] if isinstance(given, str) else given) if name)
