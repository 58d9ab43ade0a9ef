"""An HTTP request to an HTTP response: `POST /mcp` behind the guards, no sockets.

`stream.py` carries messages over a connection; over HTTP each message is a request of its own. An
`Endpoint` turns one into a response, by the same `dispatch`. There is no peer here, since there is
nothing to remember: that absence is what the 2026-07-28 revision is about. What the older ones
remember is in `sessions.py`; where that stands behind the endpoint, it gets their messages.

The reply is plain JSON until the handler sends its first notification; from then on it is an event
stream, and the answer its last event.

Spec: 2026-07-28 basic/transports/streamable-http, basic/patterns/cancellation; RFC 9728 section 3.
Wire: → POST /mcp, MCP-Protocol-Version: 2026-07-28, Mcp-Method: tools/call, Mcp-Name: add  {"jsonrpc":"2.0",…}
      ← 200, Content-Type: application/json  {"jsonrpc":"2.0","id":1,"result":{…}}

Whoever calls the endpoint owns the connection: a server of ours, a serverless function, another framework.

Deliberately absent: sockets, TLS, and what makes a user known; `extras/auth.py` does that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from . import jsonrpc, spec, sse
from .dispatcher import Call, Dispatch
from .guards import Auth, Guards, Refused
from .jsonrpc import ConnectionClosed, Message, RpcError

PATHS = ("/mcp", "/mcp/")  # proxies and users write both
METADATA = "/.well-known/oauth-protected-resource"  # and, after it, the path of the resource
JSON: Mapping[str, str] = MappingProxyType({"Content-Type": "application/json"})
# SHOULD tell nginx not to hold events back (streamable-http#receiving-messages); other proxies obey no-transform.
EVENTS = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}
# By which status a modern client learns of an error (streamable-http); what is not named has 200.
STATUS = dict.fromkeys(spec.MODERN_ERRORS, 400) | {jsonrpc.METHOD_NOT_FOUND: 404}
STATUS |= {jsonrpc.PARSE_ERROR: 400, jsonrpc.INVALID_REQUEST: 400, jsonrpc.INVALID_PARAMS: 400}


class Stream(Protocol):
    """An event stream that has been opened to the client."""

    async def write(self, data: bytes) -> None:
        """Send at once, then wait while the reader is slow. Raises OSError when nobody reads any more."""
        ...

    def close(self, data: bytes) -> None:
        """Send the last piece, though the request has no answer yet. Raises OSError when nobody reads any more."""
        ...


class Request(Protocol):
    """What the endpoint needs of an HTTP request."""

    method: str
    path: str  # without the query
    query: str
    headers: dict[str, str]  # names in lower case
    peer: str  # the client's address
    principal: Any  # set here, for the access log
    on_hangup: Callable[[], object] | None  # set here, and called when the client hangs up
    hung_up: bool  # whether it has already

    async def body(self) -> bytes:
        """Read the body, under the server's limits."""
        ...

    def stream(self, status: int, headers: Mapping[str, str], *, keep_alive: bytes) -> Stream:
        """Begin an answer that has no length; it ends when the endpoint returns None."""
        ...


class Response(NamedTuple):
    """A whole answer."""

    status: int
    headers: Mapping[str, str] = MappingProxyType({})
    body: bytes = b""


# --- the endpoint --------------------------------------------------------------------------------

Route = Callable[[Request, Call], Awaitable[Response | None]]


class Endpoint:
    """Answers HTTP requests: `await endpoint(request)` is a Response, or None when it has been streamed."""

    # Takes the messages that belong to a session, or begin one.
    legacy: Callable[[Any, Request, Call], Awaitable[Response | None]] | None = None

    def __init__(self, dispatch: Dispatch, guards: Guards, auth: Auth | None = None) -> None:
        self.dispatch = dispatch
        self.guards = guards
        self.auth = auth
        self.routes: dict[str, dict[str, Route]] = {path: {"POST": self.post} for path in PATHS}

    async def __call__(self, request: Request) -> Response | None:
        """Answer one request: guards, then what needs no authentication, then the route.

        Raises what the server's limits raise, and OSError when a stream has lost its reader.
        """
        origin = request.headers.get("origin")
        response: Response | None
        try:
            # An Origin that is empty is present, and as invalid as "null".
            self.guards.check(request.peer, request.headers.get("host", ""), "null" if origin == "" else origin or "")
            if self.guards.rate is not None:
                self.guards.limit(request.peer)
            if request.method == "OPTIONS":
                response = self._preflight(request)
            elif self.auth is not None and self.auth.metadata is not None and request.path.startswith(METADATA):
                response = reply(self.auth.metadata)
            else:
                call = Call(headers=request.headers)
                if self.auth is not None:
                    await self._authenticate(self.auth, request, call)
                route = self.routes.get(request.path, {}).get(request.method, self._refuse)
                response = await route(request, call)
        except RpcError as problem:
            status, more = (problem.status, problem.headers) if isinstance(problem, Refused) else (400, None)
            response = reply(jsonrpc.error(problem.id, problem), status, more)
        if response is not None and origin is not None:
            response = response._replace(headers={**response.headers, **self.guards.cors(origin)})
        return response

    def _preflight(self, request: Request) -> Response:
        methods = ", ".join(self.routes.get(request.path, ()))
        wanted = request.headers.get("access-control-request-headers", "")
        wanted = wanted if wanted.isascii() and wanted.isprintable() else ""  # no name of a header is anything else
        allowed = {"Access-Control-Allow-Methods": methods, "Access-Control-Allow-Headers": wanted}
        return Response(204, {**allowed, "Access-Control-Max-Age": "600"})

    async def _authenticate(self, auth: Auth, request: Request, call: Call) -> None:
        grant = await auth.authenticate(request.headers)
        request.principal = call.principal = grant.principal
        call.scopes = grant.scopes
        self.guards.limit(f"principal {grant.principal}")

    async def _refuse(self, request: Request, call: Call) -> Response:
        allowed = ", ".join(self.routes.get(request.path, ()))
        if not allowed:
            raise Refused(404, f"nothing is at this path; MCP is at {PATHS[0]}")
        raise Refused(405, f"{request.method} is not served here, but {allowed}", {"Allow": allowed})

    async def post(self, request: Request, call: Call) -> Response | None:
        """Answer one message: as JSON, or as an event stream once something was sent before the answer."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        # A page may post text/plain to any host unasked; only application/json makes its browser ask first.
        if kind != "application/json":
            raise Refused(415, f"Content-Type must be application/json, not {kind!r:.50}")
        message = jsonrpc.decode_any(await request.body())
        if self.legacy is not None and request.headers.get(spec.VERSION_HEADER) not in spec.MODERN:
            begins = isinstance(message, dict) and message.get("method") == "initialize" and "id" in message
            if begins or spec.SESSION_HEADER in request.headers or request.path not in PATHS:
                return await self.legacy(message, request, call)
        if isinstance(message, list) or "method" not in message:
            raise jsonrpc.invalid_request("an array or an answer belongs to a session, and this request names none")
        if "id" not in message:
            await self.dispatch(message, call)
            return Response(202)
        exchange = _Exchange(self, request, call, asyncio.current_task())
        call.send, request.on_hangup = exchange.send, exchange.hang_up
        if request.hung_up:  # told as soon as it is known what that means to the request
            asyncio.get_running_loop().call_soon(exchange.hang_up)
        try:
            answer = await self.dispatch(message, call)
        finally:
            call.send = None  # or both would keep the message until the garbage collector comes by
        if answer is None or "error" in answer or exchange.stream is not None:
            return await exchange.finish(answer)
        return Response(200, JSON, jsonrpc.encode(answer))

    def stream(self, request: Request, headers: Mapping[str, str] = MappingProxyType({})) -> Stream:
        """Begin a response that is an event stream. Raises RpcError when the server has no room for one."""
        headers = {**EVENTS, **headers, **self.guards.cors(request.headers.get("origin", ""))}
        try:
            return request.stream(200, headers, keep_alive=sse.COMMENT)
        except Exception as full:  # one of the server's limits, in its own words
            raise Refused(503, f"there can be no event stream: {full.args[-1]}") from None

    def finished(self, answer: Message, modern: bool = False) -> Response:
        """Return the response that carries an answer, with the status of its revision. Raises as `jsonrpc.encode`."""
        status, headers = 200, JSON
        if "error" in answer:
            code, data = answer["error"]["code"], answer["error"].get("data")
            if modern or "id" not in answer or code in spec.MODERN_ERRORS:
                status = STATUS.get(code, 200)
            if code == spec.INSUFFICIENT_SCOPE and self.auth is not None and isinstance(data, dict):
                status, headers = 403, {**JSON, **self.auth.insufficient(data.get("scopes", []))}
        return Response(status, headers, jsonrpc.encode(answer))


@dataclass(slots=True, eq=False)
class _Exchange:
    """One request and the stream that its answer has become, once something was sent before it."""

    endpoint: Endpoint
    request: Request
    call: Call
    task: asyncio.Task[Any] | None
    stream: Stream | None = None

    async def send(self, notification: Message) -> None:
        data = event(jsonrpc.encode(notification))
        if self.stream is None:
            self.stream, data = self.endpoint.stream(self.request), sse.COMMENT + data
            self.call.headers = None  # they have been checked, and an idle stream shall weigh little
        try:
            await self.stream.write(data)
        except OSError as lost:
            if self.call.stands_alone:
                raise ConnectionClosed(str(lost)) from None

    async def finish(self, answer: Message | None) -> Response | None:
        # None: the client has hung up, whatever the handler made of it.
        response = None if answer is None else self.endpoint.finished(answer, self.call.stands_alone)
        if self.stream is None or response is None:
            return response
        await self.stream.write(event(response.body))
        return None

    def hang_up(self) -> None:
        # MUST be treated as cancellation (streamable-http#cancellation); before 2026-07-28, it SHOULD NOT.
        if self.call.stands_alone and self.call.open and self.task is not None:
            self.call.open = False
            self.task.cancel()


def reply(answer: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response with a JSON body."""
    return Response(status, {**JSON, **(headers or {})}, jsonrpc.encode(answer))


def event(body: bytes, id: str | None = None) -> bytes:
    """Return an encoded message as an event."""
    return sse.encode(body[:-1].decode("ascii"), event="message", id=id)
