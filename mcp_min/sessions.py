"""HTTP with memory: `Mcp-Session-Id`, GET streams, resumption, and the older `/sse` with `/messages`.

`streamable_http.py` forgets each request with its answer. The revisions before 2026-07-28 keep a
session: the server may ask the client something in the middle of a call, tell of changes on a
stream that no request opened, and give the rest of a stream to a client that lost it. A session is
a `Peer` whose write has several channels: each request's own event stream, and the standalone one.

Spec: 2025-11-25 basic/transports#streamable-http; 2024-11-05 basic/transports#http-with-sse.
Wire: → POST /mcp  {"method":"initialize", …}              ← 200, Mcp-Session-Id: 1868a90c…
      → POST /mcp, Mcp-Session-Id: 1868a90c… {"method":"tools/call", …}
      ← 200 text/event-stream   id: 3-1 ⏎ data: {"method":"notifications/progress", …} …
      → GET /mcp, Mcp-Session-Id: 1868a90c…, Last-Event-ID: 3-1     ← what came after that event

A session owns its peer and its event streams. It ends by DELETE, after `idle` seconds without a
request or an open stream, when it must make room, or with the server.

Deliberately absent: sessions that survive the process, and ids chosen by clients.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import parse_qs

from . import jsonrpc, spec, sse
from .dispatcher import Call
from .jsonrpc import ConnectionClosed, Message, RpcError
from .peer import Peer
from .streamable_http import (
    EVENTS,
    PATHS,
    Endpoint,
    Grant,
    Refused,
    Request,
    Response,
    Stream,
    event,
    is_modern,
    read_message,
    reply,
)

REPLAY_EVENTS = 1000  # of one stream, kept for a client that lost it
REPLAY_BYTES = 4 * 2**20  # of one stream, likewise
REPLAY_STREAMS = 32  # of one session, finished or not yet collected
RETRY = 1000  # milliseconds after which a client comes back to a stream that was closed before its answer
PRIMED_SINCE = "2025-11-25"  # clients before would take an event without data for a broken message


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """How many sessions there may be, and for how long nobody needs to use one."""

    max_sessions: int = 1000
    session_idle: float = 1800  # seconds; a person may come back from lunch


class EventStream:
    """The events of one request, or of the standalone stream, whether somebody reads them now or later."""

    def __init__(self, name: str, primed: bool) -> None:
        self.name = name  # unique in the session; an event's id is name-number
        self.primed = primed
        self.answer: Message | list[Message] | None = None
        self.begun = asyncio.Event()  # set when there is an answer, an event, or the wish to close
        self._released = asyncio.Event()  # set when the HTTP response that carries the stream should end
        self._events: deque[tuple[int, bytes]] = deque()
        self._size = 0
        self._last = 0  # number of the newest event
        self._http: Stream | None = None

    @property
    def attached(self) -> bool:
        """Whether an HTTP response carries this stream."""
        return self._http is not None

    @property
    def streamed(self) -> bool:
        """Whether the answer must come as an event, since something came before it."""
        return self._last > 0 or self.answer is None

    async def send(self, message: Message | list[Message]) -> None:
        """Add an event, and write it where somebody reads; waits while the reader is slow."""
        self._last += 1
        data = event(message, f"{self.name}-{self._last}")
        self._events.append((self._last, data))
        self._size += len(data)
        while len(self._events) > REPLAY_EVENTS or self._size > REPLAY_BYTES:
            self._size -= len(self._events.popleft()[1])
        self.begun.set()
        if self._http is not None:
            await self._write(self._http, data)

    async def finish(self, answer: Message | list[Message]) -> None:
        """Add the answer, which is an event only if others came before it, and release the response."""
        streamed = self._last > 0 or self._released.is_set() or self.begun.is_set()
        self.answer = answer
        if streamed:
            await self.send(answer)
        self.begun.set()
        self.release()

    def release(self) -> None:
        """End the HTTP response that carries the stream; what comes later waits for its reader."""
        self._http = None
        self.begun.set()
        self._released.set()

    async def carry(self, request: Request, headers: dict[str, str], after: int = 0) -> None:
        """Be the response to `request`: the events after that number, then those to come, until released."""
        self._released.clear()
        http = request.stream(200, EVENTS | headers, keep_alive=sse.COMMENT)
        request.on_hangup(self.release)
        prime = sse.encode("", id=f"{self.name}-{after}", retry=RETRY) if self.primed else sse.COMMENT
        await self._write(http, prime)
        while after < self._last:
            for number, data in [item for item in self._events if item[0] > after]:
                await self._write(http, data)
                after = number
            after = max(after, self._last if not self._events else self._events[-1][0])
        if self.answer is None:
            self._http = http
            await self._released.wait()

    async def _write(self, http: Stream, data: bytes) -> None:
        try:
            await http.write(data)
        except ConnectionError:  # the reader has gone, and may come back for the rest
            self.release()


class HttpSession:
    """One client's memory: a peer, and the streams that have not been read to their end."""

    def __init__(self, endpoint: Endpoint, grant: Grant, now: float) -> None:
        self.id = secrets.token_hex(16)  # 128 bits, visible ASCII
        self.principal = grant.principal
        self.used = now
        self.held = False  # by the stream that it lives and dies with, in HTTP+SSE
        self.standalone = EventStream("0", primed=False)
        self.streams: dict[str, EventStream] = {"0": self.standalone}
        self.peer = Peer(self.standalone.send, endpoint.dispatch)
        self._streams_made = 0

    def new_stream(self, primed: bool) -> EventStream:
        """Make the stream of one request; the oldest is forgotten past the bound."""
        self._streams_made += 1
        stream = EventStream(str(self._streams_made), primed)
        self.streams[stream.name] = stream
        if len(self.streams) > REPLAY_STREAMS:
            waiting = [name for name, stream in self.streams.items() if stream.answer is not None]
            for name in waiting[:1]:
                del self.streams[name]
        return stream

    @property
    def busy(self) -> bool:
        """Whether somebody reads a stream of this session."""
        return self.held or any(stream.attached for stream in self.streams.values())

    async def close(self, reason: str) -> None:
        """End what is being answered and every stream."""
        self.peer.fail(ConnectionClosed(reason))
        for stream in self.streams.values():
            stream.release()
        await self.peer.drain(0)


class Sessions:
    """Stands in front of an endpoint: what belongs to a session is answered here, all else as before."""

    def __init__(
        self, endpoint: Endpoint, limits: SessionLimits | None = None, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.endpoint = endpoint
        self.table: dict[str, HttpSession] = {}
        self._limits = limits or SessionLimits()
        self._now = now
        self._sweep: asyncio.TimerHandle | None = None
        self._closing: set[asyncio.Task[None]] = set()
        for path in PATHS:
            endpoint.routes[path] = {"POST": self.post, "GET": self.get, "DELETE": self.delete}
        endpoint.routes["/sse"] = {"GET": self.sse}
        endpoint.routes["/messages"] = {"POST": self.messages}

    # --- Streamable HTTP -------------------------------------------------------------------------

    async def post(self, request: Request, grant: Grant) -> Response | None:
        """Take one message, or a batch of the revision that has them."""
        try:
            message = await read_message(request)
        except RpcError as problem:
            return reply(jsonrpc.error(problem.id, problem), 400)
        if isinstance(message, dict) and is_modern(message, request.headers):
            return await self.endpoint.answer(message, request, grant)
        id = request.headers.get(spec.SESSION_HEADER)
        if id is not None:
            return await self._receive(self._find(id, grant), message, request, grant)
        if isinstance(message, dict) and message.get("method") == "initialize" and "id" in message:
            return await self._open(message, request, grant)
        if isinstance(message, list):
            details = "an array needs a session that negotiated 2025-03-26"
            return reply(
                jsonrpc.error(None, RpcError(jsonrpc.INVALID_REQUEST, "Invalid request", {"details": details})), 400
            )
        return await self.endpoint.answer(message, request, grant)

    async def _open(self, message: Message, request: Request, grant: Grant) -> Response | None:
        session = HttpSession(self.endpoint, grant, self._now())
        self._make_room()
        self.table[session.id] = session
        self._sweep_later()
        response = await self._receive(session, message, request, grant)
        if session.peer.session.state:
            return response
        self._end(session, "initialize failed")
        return Response(response.status, {"Content-Type": "application/json"}, response.body) if response else None

    async def _receive(self, session: HttpSession, message: Any, request: Request, grant: Grant) -> Response | None:
        session.used = self._now()
        members = message if isinstance(message, list) else [message]
        call = Call(principal=grant.principal, scopes=grant.scopes, headers=request.headers)
        if (
            not any(isinstance(member, dict) and "method" in member and "id" in member for member in members)
            and members
        ):
            session.peer.receive(message, call, self._ignore)
            return Response(202)
        stream = session.new_stream(request.headers.get(spec.VERSION_HEADER, "") >= PRIMED_SINCE)
        call.send, call.close_stream = stream.send, stream.release
        call.request = partial(session.peer.request, write=stream.send)
        session.peer.receive(message, call, stream.finish)
        headers = {"Mcp-Session-Id": session.id}
        await stream.begun.wait()
        if stream.streamed:
            await stream.carry(request, headers | self.endpoint.guards.cors(request))
            session.used = self._now()
            return None
        session.streams.pop(stream.name, None)
        answer: Any = stream.answer
        status = 400 if isinstance(answer, dict) and "id" not in answer else 200
        response = self.endpoint.finished(answer, modern=False) if isinstance(answer, dict) else reply(answer, 200)
        return Response(max(status, response.status), {**response.headers, **headers}, response.body)

    async def _ignore(self, answer: Message) -> None:
        return

    async def get(self, request: Request, grant: Grant) -> Response | None:
        """Open the standalone stream, or go on with the one that `Last-Event-ID` names."""
        id = request.headers.get(spec.SESSION_HEADER)
        if id is None:
            raise Refused(405, "a stream needs the header Mcp-Session-Id of a session", {"Allow": "POST"})
        session = self._find(id, grant)
        name, _, number = request.headers.get("last-event-id", "0-").rpartition("-")
        stream = session.streams.get(name)
        if stream is None or not ((number.isascii() and number.isdigit()) or number == ""):
            raise Refused(400, "the events after this Last-Event-ID are not kept; open a stream without it")
        if stream.attached:
            raise Refused(409, "this stream has a reader already; one stream, one reader")
        session.used = self._now()
        await stream.carry(request, {"Mcp-Session-Id": id} | self.endpoint.guards.cors(request), int(number or 0))
        session.used = self._now()
        return None

    async def delete(self, request: Request, grant: Grant) -> Response:
        """End a session."""
        session = self._find(request.headers.get(spec.SESSION_HEADER, ""), grant)
        self._end(session, "the client ended the session")
        return Response(204)

    # --- the table -------------------------------------------------------------------------------

    def _find(self, id: str, grant: Grant) -> HttpSession:
        session = self.table.get(id)
        # Another principal's session does not exist for this one.
        if session is None or session.principal != grant.principal:
            raise Refused(404, "there is no such session; send initialize to begin one")
        return session

    def _make_room(self) -> None:
        if len(self.table) < self._limits.max_sessions:
            return
        quiet = [session for session in self.table.values() if not session.busy]
        if not quiet:
            raise Refused(503, f"{self._limits.max_sessions} sessions are open (max_sessions)")
        self._end(min(quiet, key=lambda session: session.used), "the session made room for another")

    def _end(self, session: HttpSession, reason: str) -> None:
        if self.table.pop(session.id, None) is not None:
            task = asyncio.get_running_loop().create_task(session.close(reason))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def _sweep_later(self) -> None:
        if self._sweep is None and self.table:
            self._sweep = asyncio.get_running_loop().call_later(self._limits.session_idle / 4, self.sweep)

    def sweep(self) -> None:
        """End the sessions that have been silent for too long; runs by itself while there are any."""
        self._sweep = None
        now = self._now()
        for session in list(self.table.values()):
            if not session.busy and now - session.used > self._limits.session_idle:
                self._end(session, "the session was idle for too long")
        self._sweep_later()

    async def close(self) -> None:
        """End every session."""
        for session in list(self.table.values()):
            self._end(session, "the server is shutting down")
        if self._sweep is not None:
            self._sweep.cancel()
        if self._closing:
            await asyncio.wait(self._closing)

    # --- HTTP+SSE, 2024-11-05 --------------------------------------------------------------------

    async def sse(self, request: Request, grant: Grant) -> None:
        """Open a session that lasts as long as its stream, and tell the client where to post."""
        session = HttpSession(self.endpoint, grant, self._now())
        self._make_room()
        self.table[session.id] = session
        gone = asyncio.Event()
        request.on_hangup(gone.set)
        stream = request.stream(200, EVENTS | self.endpoint.guards.cors(request), keep_alive=sse.COMMENT)

        async def write(message: Message) -> None:
            try:
                await stream.write(event(message))
            except ConnectionError as error:
                gone.set()
                raise ConnectionClosed(str(error)) from None

        session.held = True
        session.peer = Peer(write, self.endpoint.dispatch)
        session.peer.session.on_close.append(gone.set)
        try:
            await stream.write(sse.encode(f"/messages?session_id={session.id}", event="endpoint"))
            await gone.wait()
        except ConnectionError:
            pass
        finally:
            self._end(session, "the client closed its stream")

    async def messages(self, request: Request, grant: Grant) -> Response:
        """Take one message of an HTTP+SSE session; its answer comes on the stream."""
        id = parse_qs(request.query).get("session_id", [""])[0]
        session = self._find(id, grant)
        try:
            message = await read_message(request)
        except RpcError as problem:
            return reply(jsonrpc.error(problem.id, problem), 400)
        session.used = self._now()
        peer = session.peer
        peer.receive(message, Call(peer.write, peer.request, None, grant.principal, grant.scopes, request.headers))
        return Response(202, {"Content-Type": "text/plain"}, b"Accepted")
