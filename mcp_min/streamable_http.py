"""An HTTP request to an HTTP response: guards, then `POST /mcp`, no sockets.

`stream.py` carries messages over a connection; over HTTP each message is a request of its own. An
`Endpoint` turns one into a response, by the same `dispatch`. There is no peer here, since there is
nothing to remember: that absence is what the 2026-07-28 revision is about. Who wants the memory of
the older ones stands `sessions.py` in front.

The reply is plain JSON until the handler sends its first notification; from then on it is an event
stream, and the answer its last event.

Spec: 2026-07-28 basic/transports/streamable-http, basic/patterns/cancellation.
Wire: → POST /mcp, MCP-Protocol-Version: 2026-07-28, Mcp-Method: tools/call, Mcp-Name: add  {"jsonrpc":"2.0",…}
      ← 200, Content-Type: application/json  {"jsonrpc":"2.0","id":1,"result":{…}}

Whoever calls the endpoint owns the connection: a server of ours, a serverless function, another
framework. It needs a `Request` with these six members, and a `stream` only if it can stream.

Deliberately absent: sockets, TLS, and what makes a user known; `extras/auth.py` does that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from . import jsonrpc, spec, sse
from .dispatcher import Call, Dispatch
from .jsonrpc import INVALID_REQUEST, Message, RpcError

PATHS = ("/mcp", "/mcp/")  # proxies and users write both
EVENTS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",  # SHOULD, so that nginx passes events on at once
}
# By which status a client learns of an error (2026-07-28 streamable-http); what is not named has 200.
STATUS = dict.fromkeys(spec.MODERN_ERRORS, 400) | {
    jsonrpc.PARSE_ERROR: 400,
    jsonrpc.INVALID_REQUEST: 400,
    jsonrpc.INVALID_PARAMS: 400,
    jsonrpc.METHOD_NOT_FOUND: 404,
    spec.INSUFFICIENT_SCOPE: 403,
}
# What a page of an allowed origin may send besides `Mcp-…`.
_SENDABLE = frozenset({"accept", "authorization", "content-type", "last-event-id", "x-api-key"})


class Stream(Protocol):
    """An event stream that has been opened to the client."""

    async def write(self, data: bytes) -> None:
        """Send, waiting while the reader is slow. Raises ConnectionError when nobody reads any more."""
        ...


class Request(Protocol):
    """What the endpoint needs of an HTTP request."""

    method: str
    path: str  # without the query
    query: str
    headers: dict[str, str]  # names in lower case
    peer: str  # the client's address
    principal: Any  # set here, for the access log

    async def body(self) -> bytes:
        """Read the body, under the server's limits."""
        ...

    def on_hangup(self, callback: Callable[[], object]) -> None:
        """Call `callback` when the client hangs up."""
        ...

    def stream(self, status: int, headers: Mapping[str, str], *, keep_alive: bytes) -> Stream:
        """Begin an answer that has no length; it ends when the endpoint returns None."""
        ...


class Response(NamedTuple):
    """A whole answer."""

    status: int
    headers: Mapping[str, str] = MappingProxyType({})
    body: bytes = b""


class Refused(Exception):
    """A request that is not served. headers: of the response, such as WWW-Authenticate."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message
        self.headers = headers or {}


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

    allowed_addresses: networks such as "10.0.0.0/8", empty for everybody. allowed_hosts: names by which
    browsers and proxies may call this server, besides the addresses that it is bound to.
    allowed_origins: "https://app.example" of web pages that may. rate: requests a second for each address
    and each principal, that many at once; None for no limit.
    """

    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    allowed_addresses: tuple[str, ...] = ()
    rate: float | None = None
    now: Callable[[], float] = time.monotonic
    bound: set[str] = field(default_factory=set)  # "127.0.0.1:8000": where the server really listens
    _buckets: dict[str, tuple[float, float]] = field(default_factory=dict)  # key: (requests left, when)

    def bind(self, host: str, port: int) -> None:
        """Let requests name the address that the server is bound to, and localhost for loopback."""
        names = {host, "localhost"} if host in ("127.0.0.1", "::1", "localhost") else {host}
        if host == "localhost":
            names |= {"127.0.0.1", "::1"}
        for name in names:
            shown = f"[{name}]" if ":" in name else name
            self.bound |= {f"{shown}:{port}"} | ({shown} if port in (80, 443) else set())

    def check(self, request: Request) -> None:
        """Refuse what no handler should see, before a byte of the body is read. Raises Refused 403, 421 or 429."""
        if self.allowed_addresses and not any(
            ip_address(request.peer) in ip_network(network) for network in self.allowed_addresses
        ):
            raise Refused(403, f"the address {request.peer} is not in allowed_addresses")
        host = request.headers.get("host", "").lower()
        if (
            host not in self.bound
            and host not in self.allowed_hosts
            and host.rpartition(":")[0] not in self.allowed_hosts
        ):
            raise Refused(421, f"the Host {host!r:.100} is not this server's; allowed_hosts would allow it")
        origin = request.headers.get("origin")
        # MUST validate Origin, 403 if present and invalid (streamable-http#security--endpoint). Never
        # compared with Host: in a DNS rebinding attack both name the attacker.
        if origin is not None and not self.allows(origin):
            raise Refused(403, f"the Origin {origin!r:.100} is not allowed; allowed_origins would allow it")
        self.limit(request.peer)

    def allows(self, origin: str) -> bool:
        """Whether pages of this origin may call: those listed, and this server's own."""
        scheme, _, host = origin.partition("://")
        return origin in self.allowed_origins or (scheme in ("http", "https") and host.lower() in self.bound)

    def limit(self, who: str) -> None:
        """Count a request against `who`. Raises Refused 429."""
        if self.rate is None:
            return
        now = self.now()
        left, then = self._buckets.pop(who, (self.rate, now))
        left = min(max(self.rate, 1), left + (now - then) * self.rate)
        self._buckets[who] = (left - 1 if left >= 1 else left, now)
        if len(self._buckets) > _MAX_BUCKETS:
            del self._buckets[next(iter(self._buckets))]  # the one that has been silent longest
        if left < 1:
            wait = {"Retry-After": str(int((1 - left) / self.rate) + 1)}
            raise Refused(429, f"over {self.rate:g} requests a second (rate)", wait)

    def cors(self, request: Request) -> dict[str, str]:
        """Return what lets a page of an allowed origin read the response."""
        origin = request.headers.get("origin")
        if origin is None or not self.allows(origin):
            return {}
        exposed = "Mcp-Session-Id, WWW-Authenticate"
        return {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": exposed, "Vary": "Origin"}


_MAX_BUCKETS = 10_000  # principals and addresses whose rate is remembered

Route = Callable[[Request, Grant], Awaitable[Response | None]]


class Endpoint:
    """Answers HTTP requests: `await endpoint(request)` is a Response, or None when it has been streamed."""

    def __init__(self, dispatch: Dispatch, guards: Guards, auth: Auth | None = None) -> None:
        self.dispatch = dispatch
        self.guards = guards
        self.auth = auth
        self.routes: dict[str, dict[str, Route]] = {path: {"POST": self.post} for path in PATHS}

    async def __call__(self, request: Request) -> Response | None:
        """Answer one request: guards, then what needs no authentication, then the route."""
        try:
            self.guards.check(request)
            response = self._before_authentication(request)
            if response is None:
                grant = Grant() if self.auth is None else await self.auth.authenticate(request.headers)
                if grant.principal is not None:
                    request.principal = grant.principal
                    self.guards.limit(f"principal {grant.principal}")
                response = await self._route(request)(request, grant)
        except Refused as refused:
            problem = RpcError(INVALID_REQUEST, refused.message)
            response = reply(jsonrpc.error(None, problem), refused.status, refused.headers)
        extra = self.guards.cors(request)
        if response is None or not extra:
            return response
        return Response(response.status, {**response.headers, **extra}, response.body)

    def _before_authentication(self, request: Request) -> Response | None:
        if request.method == "OPTIONS":
            wanted = request.headers.get("access-control-request-headers", "").lower().split(",")
            allowed = [name.strip() for name in wanted if name.strip() in _SENDABLE or name.strip().startswith("mcp-")]
            methods = ", ".join(self.routes.get(request.path, {}))
            preflight = {"Access-Control-Allow-Methods": methods, "Access-Control-Allow-Headers": ", ".join(allowed)}
            return Response(204, preflight | {"Access-Control-Max-Age": "600"})
        if self.auth is not None and self.auth.metadata is not None and request.path in _METADATA:
            return Response(200, {"Content-Type": "application/json"}, jsonrpc.encode(self.auth.metadata))
        return None

    def _route(self, request: Request) -> Route:
        methods = self.routes.get(request.path)
        if methods is None:
            raise Refused(404, f"nothing is at this path; MCP is at {PATHS[0]}")
        if request.method not in methods:
            allowed = ", ".join(methods)
            raise Refused(405, f"{request.method} is not served here, but {allowed}", {"Allow": allowed})
        return methods[request.method]

    async def post(self, request: Request, grant: Grant) -> Response | None:
        """Answer one message that needs no memory."""
        try:
            message = await read_message(request)
            if isinstance(message, list):
                raise jsonrpc.invalid_request("an array needs a session that negotiated 2025-03-26")
        except RpcError as problem:
            return reply(jsonrpc.error(problem.id, problem), 400)
        return await self.answer(message, request, grant)

    async def answer(self, message: Message, request: Request, grant: Grant) -> Response | None:
        """Dispatch one message; the reply is JSON, or a stream once the handler has sent something."""
        call = Call(None, None, None, grant.principal, grant.scopes, request.headers)
        if "id" not in message or "method" not in message:
            if "method" in message:
                await self.dispatch(message, call)
            return Response(202)
        stream: Stream | None = None

        async def send(notification: Message) -> None:
            nonlocal stream
            if stream is None:
                stream = request.stream(200, EVENTS | self.guards.cors(request), keep_alive=sse.COMMENT)
                await stream.write(sse.COMMENT)  # some proxies hold the head until a first byte follows
            await stream.write(event(notification))

        call.send = send
        modern = is_modern(message, request.headers)
        if modern:
            # MUST treat a client's disconnect as cancellation; before 2026-07-28 it MUST NOT be taken for one.
            _cancel_on_hangup(request, call)
        answer = await self.dispatch(message, call)
        if answer is None:
            return None
        if stream is not None:
            await stream.write(event(answer))
            return None
        return self.finished(answer, modern)

    def finished(self, answer: Message, modern: bool) -> Response:
        """Return the response that carries an answer as JSON, with the status that its revision gives it."""
        code = answer["error"]["code"] if "error" in answer else None
        extra: Mapping[str, str] = {}
        if code == spec.INSUFFICIENT_SCOPE and self.auth is not None:
            extra = self.auth.insufficient(answer["error"]["data"]["scopes"])
        status = STATUS.get(code or 0, 200) if modern or code == spec.INSUFFICIENT_SCOPE else 200
        return reply(answer, status, extra)


_METADATA = tuple("/.well-known/oauth-protected-resource" + path for path in ("", *PATHS))


def is_modern(message: Message, headers: Mapping[str, str]) -> bool:
    """Whether the status of an error follows 2026-07-28."""
    version = headers.get(spec.VERSION_HEADER)
    meta = message.get("params", {}).get("_meta")
    return (isinstance(meta, dict) and spec.PROTOCOL_VERSION in meta) or (
        version is not None and version not in spec.LEGACY
    )


def _cancel_on_hangup(request: Request, call: Call) -> None:
    task = asyncio.current_task()

    def cancel() -> None:
        call.open = False
        if task is not None:
            task.cancel()

    request.on_hangup(cancel)


async def read_message(request: Request) -> Message | list[Any]:
    """Read the JSON of a POST. Raises RpcError -32700, Refused 415, or what the server's limits raise."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    # A page may post text/plain to any host unasked; only application/json makes its browser ask first.
    if kind != "application/json":
        raise Refused(415, f"Content-Type must be application/json, not {kind!r:.50}")
    return jsonrpc.decode_any(await request.body())


def reply(answer: Any, status: int, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response with a JSON body."""
    return Response(status, {"Content-Type": "application/json", **(headers or {})}, jsonrpc.encode(answer))


def event(message: Any, id: str | None = None) -> bytes:
    """Return a message as an event."""
    return sse.encode(jsonrpc.encode(message)[:-1].decode("ascii"), event="message", id=id)
