"""HTTP with memory: `Mcp-Session-Id`, GET streams, resumption, and the older `/sse` with `/messages`.

`streamable_http.py` forgets each request with its answer. The revisions before 2026-07-28 keep a
session: the server may ask the client something in the middle of a call, tell of changes on a
stream that no request opened, and give the rest of a stream to a client that lost it. A session is
a `Peer` whose write has several channels: each request's own event stream, and the standalone one.
HTTP+SSE is a session with the standalone one alone.

A request is answered in the task that serves it, as without a session; only batches and what comes to
`/messages` have tasks of their own. When its client hangs up, or its handler lets go of the response,
that task works on, and what it says is kept for whoever comes back.

Spec: 2025-11-25 basic/transports#streamable-http; 2024-11-05 basic/transports#http-with-sse.
Wire: → POST /mcp  {"method":"initialize", …}              ← 200, Mcp-Session-Id: 1868a90c…
      → POST /mcp, Mcp-Session-Id: 1868a90c… {"method":"tools/call", …}
      ← 200 text/event-stream   id: 3-1 ⏎ data: {"method":"notifications/progress", …} …
      → GET /mcp, Mcp-Session-Id: 1868a90c…, Last-Event-ID: 3-1     ← what came after that event

`Sessions` owns the sessions, and one task that looks for idle ones while there are any. A session owns
its peer and its event streams. It ends by DELETE, after `session_idle` seconds in which nobody used it,
when it must make room, with its stream in HTTP+SSE, or with the server.

Deliberately absent: sessions that survive the process, and ids chosen by clients.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from . import jsonrpc, spec, sse
from .dispatcher import Call
from .guards import Refused
from .jsonrpc import ConnectionClosed, Params, Result
from .peer import Peer
from .streamable_http import PATHS, Endpoint, Request, Response, Stream, event, reply

REPLAY = 2**20  # bytes of events that a session keeps for a client that lost them, or its newest event
RETRY = 1000  # milliseconds after which a client comes back to a stream that ended before the answer
RESUMABLE_SINCE = "2025-11-25"  # clients before would take an event without data for a broken message
MESSAGES = "/messages"
_EVENT_ID = re.compile(r"([0-9]{1,15})-([0-9]{1,15})")  # stream and number


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """How many sessions there may be, what each may ask for at once, and for how long nobody needs to use one."""

    max_sessions: int = 1000
    max_in_flight: int = 100  # requests of one session that are being answered
    session_idle: float = 1800  # seconds; a person may come back from lunch


class EventStream:
    """What is said about one request, or about none, whether somebody reads it now, later or never."""

    response: Response | None = None  # whole, where no stream is needed
    over: asyncio.Future[None] | None = None  # done when the response to a GET shall end; each has its own
    done = False  # nothing more will be said
    _last = 0  # number of the newest event
    _read = 0  # number of the newest one that has been written to a reader
    _reader: Stream | None = None

    def __init__(self, session: HttpSession, request: Request | None = None) -> None:
        self.name = str(next(session.names))  # the id of an event is name-number
        self.kept: list[bytes] = []  # the newest events, for who has lost them
        self._session = session
        self._request = request  # whose response will carry the stream as soon as something is said

    async def send(self, message: Any) -> None:
        """Add an event; waits while its reader is slow. Raises as `jsonrpc.encode` and `Endpoint.stream` do."""
        data = event(jsonrpc.encode(message), f"{self.name}-{self._last + 1}")
        self._last += 1
        self._session.keep(self, data)
        if self._request is not None:
            await self._begin(self._request)
        await self._flush()

    async def ask(self, method: str, params: Params) -> Result:
        """Ask the client, in the course of what the stream is about. Raises as `Peer.request`."""
        return await self._session.peer.request(method, params, write=self.send)

    async def finish(self, answer: Any) -> None:
        """Take the answer, which is an event where something was said before it. Raises as `send`."""
        if self._request is None:
            await self.send(answer)
        else:
            self.response = self._session.sessions.endpoint.finished(answer)
            self._request = None

    def end(self) -> None:
        """Let the response end: all has been said, or nothing is to be said of a request that was cancelled."""
        if self._request is not None and self._session.ended:
            problem = jsonrpc.invalid_request("the session ended before the answer; send initialize to begin another")
            self.response = reply(jsonrpc.error(None, problem), 404)
        elif self._request is not None:
            self.response = Response(202)
        self.done = True
        self.lose(self.over)
        if not self.kept:
            self._session.streams.pop(self.name, None)

    def release(self) -> None:
        """End the response; what is said from now on waits for who comes for it."""
        with suppress(OSError, Refused):  # it has ended, or there can be no stream: then the answer comes whole
            if self._request is not None:
                self._open(self._request)
            if self._reader is not None and self.over is None:
                self._reader.close(sse.COMMENT if self._session.ended else self._come_back())
            self.lose(self.over)

    def lose(self, over: asyncio.Future[None] | None) -> None:
        """Do without a reader that has gone, unless another has come. over: what the one that has gone waited for."""
        if over is self.over:
            self._request = self._reader = None
            if over is not None and not over.done():  # a future, which costs less than an event
                over.set_result(None)
            self._session.readers.discard(self)
            self._session.used = self._session.sessions.now()

    def watch(self, request: Request) -> None:
        """Count on who waits for this response, until it hangs up; it may have already."""
        self._session.readers.add(self)
        request.on_hangup = partial(self.lose, self.over)
        if request.hung_up:
            self.lose(self.over)

    async def resume(self, request: Request, after: int | None = None, first: bytes | None = None) -> None:
        """Let the response to `request` carry the stream, from the event after that number on, until it is over.

        Raises Refused 409 while another does, or 503.
        """
        if self._reader is not None or self._request is not None:
            raise Refused(409, "this stream has a reader already; one stream, one reader")
        if after is not None:
            self._read = min(after, self._last)
        over = self.over = asyncio.get_running_loop().create_future()
        try:
            await self._begin(request, first)
            await self._flush()
            if not self.done:
                await over
        finally:  # also when whoever serves the request cancels it
            self.lose(over)

    async def _begin(self, request: Request, first: bytes | None = None) -> None:
        resumable = request.headers.get(spec.VERSION_HEADER, "") >= RESUMABLE_SINCE
        self._open(request)
        self.watch(request)
        # Something is written at once: some proxies hold the head until a byte follows.
        await self._write(first or (self._come_back() if resumable else sse.COMMENT))

    def _open(self, request: Request) -> None:
        self._reader = self._session.sessions.endpoint.stream(request, {"Mcp-Session-Id": self._session.id})
        self._request = None
        self._session.streams[self.name] = self  # now the client knows its name

    def _come_back(self) -> bytes:
        """Return what tells a client from where to go on, and when: SHOULD be sent first, and before an early end."""
        return sse.encode("", id=f"{self.name}-{self._read}", retry=RETRY)

    async def _flush(self) -> None:
        """Write what the reader has not got; in order, though several may do so at once."""
        # Of what has not been read, the oldest may have been forgotten, or all.
        while self._reader is not None and (left := min(self._last - self._read, len(self.kept))) > 0:
            self._read = self._last - left + 1
            await self._write(self.kept[-left])

    async def _write(self, data: bytes) -> None:
        reader, over = self._reader, self.over
        try:
            if reader is not None:
                await reader.write(data)
        except OSError:  # it has gone, and may come back for the rest
            self.lose(over)


class HttpSession:
    """One client's memory: a peer, and the streams that have not been read to their end."""

    def __init__(self, sessions: Sessions, principal: str | None) -> None:
        self.id = secrets.token_hex(16)  # 128 bits; MUST be visible ASCII (2025-11-25 basic/transports)
        self.sessions = sessions
        self.principal = principal
        self.ended = False
        self.readers: set[EventStream] = set()  # those whose response a client waits for
        self.used = sessions.now()  # when the last of them was lost, or the newest message came
        self.names = itertools.count()
        self.standalone = EventStream(self)
        self.streams: dict[str, EventStream] = {self.standalone.name: self.standalone}
        self.peer = Peer(self.standalone.send, sessions.endpoint.dispatch)
        self._order: list[EventStream] = []  # whose event is the oldest that is kept, the next, …
        self._kept = 0  # bytes of them

    def receive(self, message: Any, call: Call, stream: EventStream) -> Awaitable[Any] | None:
        """Let the peer take a message; return what answers it, if anything does, as `Peer.receive`.

        A request with a stream of its own is answered only where what is returned is awaited, as `Peer.answer`.
        Raises Refused 429 when it would be one request too many.
        """
        alone = isinstance(message, dict)
        if alone and ("method" not in message or "id" not in message):
            self.peer.receive(message, call)
            return None
        requests = 1 if alone else len(message)
        if self.peer.in_flight + requests > self.sessions.limits.max_in_flight:
            raise Refused(429, f"{self.peer.in_flight} requests of this session are being answered (max_in_flight)")
        call.send, call.request = stream.send, stream.ask
        take = self.peer.answer if alone and stream is not self.standalone else self.peer.receive
        return take(message, call, stream.finish)

    def keep(self, stream: EventStream, data: bytes) -> None:
        """Keep an event, and forget the oldest ones for it."""
        self.streams[stream.name] = stream
        stream.kept.append(data)
        self._order.append(stream)
        self._kept += len(data)
        while self._kept > REPLAY and len(self._order) > 1:
            oldest = self._order.pop(0)
            self._kept -= len(oldest.kept.pop(0))
            if oldest.done and not oldest.kept:
                del self.streams[oldest.name]

    async def close(self, reason: str, drain: float = 0) -> None:
        """End what is not answered after `drain` seconds, and every response."""
        self.ended = True
        await self.peer.drain(drain)
        self.peer.fail(ConnectionClosed(reason))
        for stream in list(self.streams.values()):
            stream.release()


class Sessions:
    """Stands behind an endpoint, and answers there what belongs to a session. now: a clock, in seconds."""

    def __init__(
        self, endpoint: Endpoint, limits: SessionLimits | None = None, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.table: dict[str, HttpSession] = {}
        self.endpoint = endpoint
        self.limits = limits or SessionLimits()
        self.now = now
        self._sweeper: asyncio.Task[None] | None = None
        endpoint.legacy = self.post
        for path in PATHS:
            endpoint.routes[path] |= {"GET": self.get, "DELETE": self.delete}
        endpoint.routes |= {"/sse": {"GET": self.sse}, MESSAGES: {"POST": endpoint.post}}

    # --- the routes ------------------------------------------------------------------------------

    async def post(self, message: Any, request: Request, call: Call) -> Response | None:
        """Take one message, or a batch of the revision that has them."""
        if request.path == MESSAGES:
            session = self._find(request.query.removeprefix("session_id="), request, call)
            session.receive(message, call, session.standalone)
            return Response(202)
        if spec.SESSION_HEADER in request.headers:
            session = self._find(request.headers[spec.SESSION_HEADER], request, call)
            return await self._exchange(session, message, request, call)
        session = await self._new(call)
        response = await self._exchange(session, message, request, call)
        if not session.peer.session.state:
            await self._end(session, "initialize failed")
        elif response is not None:
            response = response._replace(headers={**response.headers, "Mcp-Session-Id": session.id})
        return response

    async def _exchange(self, session: HttpSession, message: Any, request: Request, call: Call) -> Response | None:
        stream = EventStream(session, request)
        if request.headers.get(spec.VERSION_HEADER, "") >= RESUMABLE_SINCE:
            call.close_stream = stream.release
        answered = session.receive(message, call, stream)
        if answered is None:
            return Response(202)
        stream.watch(request)
        try:
            # The task of a batch may be cancelled by the end of its session, and only its response ends by that.
            await (asyncio.wait([answered]) if isinstance(answered, asyncio.Task) else answered)
        finally:  # also when whoever serves the request cancels it
            stream.end()
        return stream.response

    async def get(self, request: Request, call: Call) -> None:
        """Open the standalone stream, or go on with the one that `Last-Event-ID` names."""
        session = self._find(request.headers.get(spec.SESSION_HEADER), request, call)
        stream, after = session.standalone, None
        if "last-event-id" in request.headers:
            event_id = _EVENT_ID.fullmatch(request.headers["last-event-id"])
            if event_id is None or event_id[1] not in session.streams:
                raise Refused(400, "what came after this Last-Event-ID is not kept; open a stream without it")
            stream, after = session.streams[event_id[1]], int(event_id[2])
        await stream.resume(request, after)

    async def delete(self, request: Request, call: Call) -> Response:
        """End a session."""
        session = self._find(request.headers.get(spec.SESSION_HEADER), request, call)
        await self._end(session, "the client ended the session")
        return Response(204)

    async def sse(self, request: Request, call: Call) -> None:
        """Open an HTTP+SSE session, which lasts as long as its stream, and tell the client where to post."""
        session = await self._new(call)
        try:
            where = f"{MESSAGES}?session_id={session.id}"
            await session.standalone.resume(request, first=sse.encode(where, event="endpoint"))
        finally:
            await self._end(session, "the client closed its stream")

    # --- the table -------------------------------------------------------------------------------

    def _find(self, id: str | None, request: Request, call: Call) -> HttpSession:
        if id is None:
            raise Refused(405, "this needs a session, and the header Mcp-Session-Id to name it", {"Allow": "POST"})
        # MUST respond with 400 to a version that is not supported (2025-11-25 basic/transports).
        if request.headers.get(spec.VERSION_HEADER, spec.ASSUMED) not in spec.LEGACY:
            raise Refused(400, f"MCP-Protocol-Version must be one of {', '.join(spec.LEGACY)} in a session")
        session = self.table.get(id)
        # Another principal's session does not exist for this one.
        if session is None or session.principal != call.principal:
            raise Refused(404, "there is no such session; send initialize to begin one")
        session.used = self.now()
        return session

    async def _new(self, call: Call) -> HttpSession:
        # One that has no state yet is being opened.
        unused = [session for session in self.table.values() if session.peer.session.state and not session.readers]
        full = len(self.table) >= self.limits.max_sessions
        if full and not unused:
            raise Refused(503, f"{self.limits.max_sessions} sessions are in use (max_sessions)")
        session = HttpSession(self, call.principal)
        self.table[session.id] = session
        if self._sweeper is None or self._sweeper.done():
            self._sweeper = asyncio.get_running_loop().create_task(self._sweep())
        if full:
            oldest = min(unused, key=lambda session: session.used)
            await self._end(oldest, "the session made room for another")
        return session

    async def _end(self, session: HttpSession, reason: str) -> None:
        if self.table.pop(session.id, None) is not None:
            await session.close(reason)

    async def _sweep(self) -> None:
        while self.table:
            await asyncio.sleep(self.limits.session_idle / 4)
            await self.sweep()

    async def sweep(self) -> None:
        """End the sessions that nobody has used for too long; runs by itself while there are any."""
        for session in list(self.table.values()):
            if not session.readers and self.now() - session.used > self.limits.session_idle:
                await self._end(session, "nobody used the session for too long")

    async def close(self, drain: float = 5) -> None:
        """End every session. drain: seconds that requests in flight get to be answered."""
        reason = "the server is shutting down"
        await asyncio.gather(*(session.close(reason, drain) for session in self.table.values()))
        for session in list(self.table.values()):  # those that began meanwhile too
            await self._end(session, reason)
        if self._sweeper is not None:
            self._sweeper.cancel()
