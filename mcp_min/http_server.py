"""An HTTP/1.1 server: `http.server` gives the vocabulary, asyncio the waiting; it knows no MCP.

The files before this one turn a request into an answer and never see a socket. Here the bytes of a
connection become a `Request`, one function is awaited with it, and what that returns or writes becomes
bytes again.

Spec: RFC 9112 (messages) and RFC 9110 (what they mean). What two readers could understand in two ways
is refused, never repaired.
Wire (⏎ is CR LF):
    → POST /mcp HTTP/1.1⏎ Host: 127.0.0.1:8000⏎ Content-Length: 40⏎ ⏎ {"jsonrpc":"2.0","id":1,"method":"ping"}
    ← HTTP/1.1 200 OK⏎ Server: mcp_min⏎ Date: …⏎ Content-Type: application/json⏎ Content-Length: 36⏎ ⏎ {"jsonrpc": …

`HttpServer` owns the listening socket, the connections and the one timer that keeps every time limit and
sends every keep-alive. A `Connection` owns its socket and its one task. In that task a `Request` after the
other is made, read, handed to the application and answered. There is no thread, queue or timer per connection.

Rules of this file:
- `parse_request` is the only parser of heads, and nobody looks at the raw bytes after it.
- `Connection.due` is finite while the peer owes us bytes. Such a connection can be closed at any time, and
  is when there are too many: half-sent requests cannot keep out whole ones. So is one whose peer has ended its side.
- A body left unread, like every error, closes the connection: what follows might be read as a request. It
  closes gently, since a reset for bytes that nobody read would overtake the answer.
- The application may work on when the peer is lost. Such a connection holds no socket and counts for no limit.

Deliberately absent: routes, decoded paths, TLS settings (give an `SSLContext`), compression, upgrades, HTTP/2,
trailers, and all guards (Host, Origin, who may ask): the application has the head before the body is read.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache, partial
from http.server import BaseHTTPRequestHandler
from math import inf
from ssl import SSLContext
from typing import Any

logger = logging.getLogger("mcp_min")
access = logging.getLogger("mcp_min.access")

# RFC 9110 section 5.6.2 and RFC 9112 sections 3 and 5. Visible ASCII in the target, no `"` and no fragment; no
# space before the colon, no line that continues another, and in values no control character but the tab.
TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
REQUEST_LINE = re.compile(rf"({TOKEN}) (?:https?://([!$-.0->@-~]+))?(/[!$->@-~]*|\*)(?:\?([!$-~]*))? (HTTP/1\.[01])")
FIELD = re.compile(rf"({TOKEN}):([\t -~\x80-\xff]*+)")
CLOSE = re.compile(r"(?i)(?<![^,\s])close(?![^,\s])")  # among the options in Connection
CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})(?:;[\t -~\x80-\xff]*)?\r\n")
# RFC 9110 section 5.3: only lists may come in several lines; anything else could be read two ways.
LISTS = re.compile(r"accept(-[a-z]+)?|cache-control|connection|cookie|forwarded|via|x-forwarded-for")

ErrorBody = Callable[[int, str], bytes]  # a status and a sentence to the JSON that tells them
# An application returns status, headers and body, or None when it has streamed its answer.
Application = Callable[["Connection"], Awaitable[tuple[int, Mapping[str, str], bytes] | None]]


@dataclass(frozen=True, slots=True)
class Limits:
    """Every bound in one table: bytes, seconds, and numbers of things. Each is an option of the same name."""

    max_head: int = 32 * 2**10  # bytes; Node takes 16 KiB, nginx 32: tokens and tracing headers are long
    max_body: int = 4 * 2**20  # bytes, with the framing of chunks: tiny chunks cost more than they carry
    head_timeout: float = 10  # seconds, from the first byte; also from connecting to the first byte
    body_timeout: float = 30  # seconds, for the whole body
    idle_timeout: float = 75  # seconds between requests, nginx's: proxies keep connections for a minute
    write_timeout: float = 60  # seconds, nginx's; a peer that has not caught up with us for so long is dropped
    connections: int = 1000  # besides those that stream; `ulimit -n` must allow for both
    streams: int = 1000  # open at once; each costs 10 KiB when idle
    keep_alive: float = 15  # seconds of silence on a stream; proxies cut it after 30 to 125
    linger: float = 2  # seconds for a refusal to arrive before the connection goes
    tick: float = 0.5  # seconds; how exactly all other times are kept


class HttpError(Exception):
    """`HttpError(status, sentence)`: a request that is refused. Applications may raise it too."""


def _parts(pattern: re.Pattern[str], line: str) -> tuple[str | Any, ...]:
    if (match := pattern.fullmatch(line)) is None:
        raise HttpError(400, "a head is `METHOD /path HTTP/1.1` and lines of `Name: value`, each ended by CR LF")
    return match.groups("")


# A client says the same things in each request. What is remembered is bounded by max_head: 144 lines and their parts.
_request_line = lru_cache(16)(partial(_parts, REQUEST_LINE))


@lru_cache(128)
def _field(line: str) -> tuple[str, str]:
    name, value = _parts(FIELD, line)
    return name.lower(), value.strip(" \t")


# --- the connection ------------------------------------------------------------------------------


class Connection(asyncio.StreamReaderProtocol, BaseHTTPRequestHandler):
    """One connection and its task, in the words of `http.server`; to the application, the request that it serves.

    method, path (not decoded: compare it whole), query (likewise), headers (names in lower case) and peer
    (an address) are there when the application is called. principal is for it to set, and goes into the
    access log; so is on_hangup, which is called once, when the peer ends its side or is lost. A peer that ends
    its side might still read, but hardly one does: `asyncio.current_task().cancel` suits work that is worth
    nothing without a reader. hung_up tells whether it has happened already.
    """

    # In 30 attributes and no more, a dict shares its keys with its like, and weighs 1 KiB less.
    __slots__ = ("_headers_buffer", "caught_up", "due", "http", "peer", "reader", "writer")
    protocol_version = request_version = "HTTP/1.1"
    method = query = requestline = ""
    headers: dict[str, str]  # type: ignore[assignment]  # a plain dict where the stock one is an email.message
    principal: object = None
    on_hangup: Callable[[], object] | None = None
    close_connection = hung_up = lost = answered = False  # answered: some of the answer is on the wire
    length: int | None = None  # bytes of the body still to be read; None when not known
    _headers_buffer: list[bytes]  # the stock methods', until it is sent in one piece with the body

    def __init__(self, http: HttpServer) -> None:  # not the stock handler's, which reads, answers and closes
        self.http = http
        self.reader = asyncio.StreamReader(http.limits.max_head)
        self.due = http.now + http.limits.head_timeout  # loop time by which the peer must have sent what it owes
        self.caught_up = http.now  # loop time when it had last taken all that we sent
        asyncio.StreamReaderProtocol.__init__(self, self.reader, self.handle)

    def eof_received(self) -> bool:
        self._hang_up()
        return bool(super().eof_received())

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._hang_up()
        self.lost = True  # and takes no place any more, though its work may go on

    def _hang_up(self) -> None:
        if self.on_hangup is not None and not self.hung_up:
            self.on_hangup()
        self.hung_up = True

    def check(self, now: float) -> None:
        """Enforce the time limits; called at every tick."""
        if self.writer.transport.get_write_buffer_size() == 0:
            self.caught_up = now
        if now >= self.caught_up + self.http.limits.write_timeout:
            self.writer.transport.abort()
        elif now >= self.due:
            self.reader.set_exception(HttpError(408, "the request did not arrive in time (head_timeout, body_timeout)"))

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:  # type: ignore[override]
        """Serve one request after the other, then close. Cancelled, the connection is cut."""
        self.writer, http, served = writer, self.http, 0
        self.peer: str = (writer.get_extra_info("peername") or [""])[0]  # lost before it was asked
        http.admit(self)
        # asyncio reads up to 256 KiB at once, for which C libraries may map memory anew each time: up to a quarter of
        # the CPU of a call. Only the transports of its own loops have the attribute, and those of TLS have not.
        if hasattr(writer.transport, "max_size"):
            writer.transport.max_size = 2**16
        try:
            while not (self.close_connection or http.closing) and (first := await reader.read(1)):
                self.due = http.now + http.limits.head_timeout
                self.requestline, self.method, self.length, self.answered, self.principal = "", "", None, False, None
                try:
                    if not first.isalpha():  # TLS, for example, which waits for an answer
                        raise HttpError(400, "this is not HTTP/1.1")
                    self.parse_request(first + await reader.readuntil(b"\r\n\r\n"))
                    self.due = inf
                    if (answer := await http.application(self)) is not None:
                        self.respond(*answer)
                    elif self in http.streams:
                        http.streams[self].put(b"")  # the last chunk is the empty one
                    else:
                        raise ConnectionResetError("the application has no answer")
                except Exception as error:
                    self.refuse(error)
                finally:
                    # An idle connection shall hold no answer of many megabytes.
                    self.on_hangup = answer = None
                    http.streams.pop(self, None)
                if self.length != 0:
                    await self.linger()
                served += 1
                # Only a peer that is behind, or has gone, is waited for.
                if served % 16 == 0 or writer.is_closing() or writer.transport.get_write_buffer_size() > 0:
                    await writer.drain()
                    await asyncio.sleep(0)  # requests that arrived together must not keep the loop from others
                self.due = http.now + http.limits.idle_timeout
        except (EOFError, OSError, HttpError):
            pass  # any way to lose a connection, or to be idle for too long
        except asyncio.CancelledError:
            writer.transport.abort()  # by `HttpServer.close`, or by the application's own hang-up callback
        finally:
            await self.finish()

    async def finish(self) -> None:  # type: ignore[override]  # awaits where the stock one blocks
        """Close, and wait until the peer has all that was sent, or has been cut off."""
        if self.requestline and not self.answered:  # whoever hangs up early leaves a trace too
            access.info('%s %r "%s" -', self.peer, self.principal, self.requestline)
        # Over TLS, the peer owes us its goodbye.
        self.due = inf if self.writer.can_write_eof() else self.http.now + self.http.limits.write_timeout
        if not self.writer.is_closing():  # asyncio's TLS, closed twice, forgets what it has to send and can be asked
            self.writer.close()
        try:
            await self.writer.wait_closed()
        except (Exception, asyncio.CancelledError):  # it was lost in one way or another, or we are to hurry
            self.writer.transport.abort()
        del self.http.connections[self]

    async def linger(self) -> None:
        """End our side, then discard what the peer still sends until it ends its own."""
        self.due = self.http.now + self.http.limits.linger
        if self.writer.can_write_eof():
            self.writer.write_eof()
        while await self.reader.read(self.http.limits.max_head):
            pass

    # --- the request -----------------------------------------------------------------------------

    def parse_request(self, data: bytes) -> None:  # type: ignore[override]  # raises where the stock one answers
        """Take in a head with its empty line. Raises HttpError 400 or 501."""
        first, *lines = data[:-4].decode("latin-1").split("\r\n")
        self.method, authority, self.path, self.query, self.request_version = _request_line(first)
        self.requestline = f"{self.method} {self.path} {self.request_version}"  # no query: logs shall name no session
        headers: dict[str, str] = {}
        for name, value in map(_field, lines):
            if name in headers and not LISTS.fullmatch(name):
                raise HttpError(400, "only a header that is a list may come twice")
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        self.headers = headers
        old = self.request_version == "HTTP/1.0"
        self.close_connection = old or CLOSE.search(headers.get("connection", "")) is not None
        length, coding = headers.get("content-length", "0"), headers.get("transfer-encoding")
        # RFC 9112 section 3.2: MUST respond with 400 to an HTTP/1.1 request without Host. The authority of an
        # absolute target would take precedence over Host; here they must agree, whoever looks.
        if not old and "host" not in headers:
            raise HttpError(400, "the header Host is missing")
        if authority not in ("", headers.get("host")):
            raise HttpError(400, "the target must be a path, or a URL of the host in Host")
        if not length.isdecimal() or len(length) > 19:
            raise HttpError(400, "Content-Length must be digits, at most 19")
        # RFC 9112 section 6.1: both "might indicate an attempt to perform request smuggling", and HTTP/1.0
        # with a coding must be taken for faulty framing.
        if coding and ("content-length" in headers or old):
            raise HttpError(400, "no coding with a length, or in HTTP/1.0")
        if coding is not None and coding.lower() != "chunked":
            raise HttpError(501, "the only Transfer-Encoding here is chunked")
        if self.method not in ("GET", "POST", "DELETE", "OPTIONS", "HEAD"):
            raise HttpError(501, "the methods here are GET, POST, DELETE, OPTIONS and HEAD")
        self.length = int(length) if coding is None else None

    async def body(self) -> bytes:
        """Read the body, b"" when there is none or it has been read. Only now an expected 100 Continue is sent.

        Raises HttpError 400, 408, 413, 415, 431 or 503, and EOFError or OSError when the peer hangs up: let them
        pass. When cancelled, part of the body has been read, and the connection will be closed.
        """
        if self.headers.get("content-encoding", "identity") != "identity":
            raise HttpError(415, "send the body without a coding")
        if (self.length or 0) > self.http.limits.max_body:
            raise HttpError(413, "the body is too long (max_body)")
        # RFC 9110 section 10.1.1: MUST send 100 or a final status, and MUST ignore it in HTTP/1.0.
        if self.length != 0 and "expect" in self.headers and self.request_version == "HTTP/1.1":
            self.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.due = self.http.now + self.http.limits.body_timeout
        body = await (self._chunks() if self.length is None else self.reader.readexactly(self.length))
        self.due, self.length = inf, 0
        return body

    async def _chunks(self) -> bytes:
        reader, body, room, size = self.reader, bytearray(), self.http.limits.max_body, 1
        while size > 0:
            line = await reader.readuntil(b"\n")
            if (match := CHUNK.fullmatch(line)) is None:
                raise HttpError(400, "a chunk begins with its length in hexadecimal digits and CR LF")
            size = int(match[1], 16)
            room -= len(line) + size
            if room < 0:
                raise HttpError(413, "the body is too long (max_body)")
            body += await reader.readexactly(size)
            if await reader.readexactly(2) != b"\r\n":
                raise HttpError(400, "a chunk ends with CR LF, and trailers are not taken")
            await asyncio.sleep(0)  # a million tiny chunks that arrived together must not keep the loop from others
        return bytes(body)

    # --- the answer ------------------------------------------------------------------------------

    def respond(self, status: int, headers: Mapping[str, str], body: bytes | None) -> None:
        """Send an answer; without a body only its head, which leaves with the first piece of the stream."""
        if self.answered:
            raise RuntimeError("this request has been answered")
        self.close_connection |= self.http.closing or self.length != 0
        access.info('%s %r "%s" %s', self.peer, self.principal, self.requestline, status)
        self._headers_buffer = head = []
        self.send_response_only(status)
        head.append(self.http.stamp)
        for name, value in headers.items():
            # RFC 9110 section 5.5: a field value has no CR, LF or NUL; one of them would let a value write headers.
            if not f"{name}{value}".isprintable():
                raise ValueError(f"the header {name!r}: {value!r} holds a control character")
            self.send_header(name, value)
        if self.close_connection:
            head.append(b"Connection: close\r\n")
        if body is None:
            # Before HTTP/1.1, the end of the connection ends the answer.
            head.append(b"Transfer-Encoding: chunked\r\n\r\n" if self.request_version == "HTTP/1.1" else b"\r\n")
            return
        # RFC 9110 section 8.6: MUST NOT send Content-Length in a 204.
        head.append(b"Content-Length: %d\r\n\r\n" % len(body) if status != 204 else b"\r\n")
        self.answered = True
        self.writer.write(b"".join(head) + (b"" if self.method == "HEAD" else body))

    def refuse(self, error: Exception) -> None:
        """Answer with an error, and end the connection; raise it again where the peer has gone."""
        status, sentence = 500, "internal error, see the server's log"
        if isinstance(error, HttpError):
            status, sentence = error.args
        elif isinstance(error, asyncio.LimitOverrunError):
            status, sentence = 431, "the head, or a line between chunks, is too long (max_head)"
        elif self.hung_up and isinstance(error, (EOFError, OSError)):
            raise error
        else:
            logger.error("the application failed at %s", self.requestline, exc_info=error)
        self.length = None  # whatever the peer goes on to send, it is no request
        if not self.answered:  # else all that is left to say is that the answer ends before its end
            self.respond(status, {"Content-Type": "application/json"}, self.http.error_body(status, sentence))

    def stream(self, status: int, headers: Mapping[str, str], *, keep_alive: bytes) -> Stream:
        """Begin an answer without a known length; it ends when the application returns None.

        keep_alive is sent after Limits.keep_alive seconds of silence. Raises HttpError 503 when too many
        streams are open.
        """
        opened, limit = self.http.streams, self.http.limits.streams
        if len(opened) >= limit and sum(not one.lost for one in opened) >= limit:
            raise HttpError(503, "too many streams are open (streams)")
        self.respond(status, headers, None)
        self.headers = {}  # an idle stream shall weigh little
        stream = opened[self] = Stream(self, keep_alive)
        return stream


@dataclass(slots=True, eq=False)
class Stream:
    """An answer in pieces. It belongs to one request: a late `write` cannot reach somebody else's answer."""

    connection: Connection
    keep_alive: bytes
    due: float = inf  # loop time of the next one; silence before the first piece is the application's

    async def write(self, data: bytes) -> None:
        """Send `data` at once and whole, then wait while the peer is too far behind.

        Raises OSError when the stream is over or the peer has gone.
        """
        if data:
            self.put(data)
        await self.connection.writer.drain()

    def put(self, data: bytes) -> None:
        connection, http = self.connection, self.connection.http
        # Until it is told of the hang-up, the application is rather cancelled by that than failed by this.
        if http.streams.get(connection) is not self or (connection.hung_up and connection.writer.is_closing()):
            raise ConnectionResetError("the stream is over")
        self.due = http.now + http.limits.keep_alive
        if connection.request_version == "HTTP/1.1":
            data = b"%x\r\n%b\r\n" % (len(data), data)
        head, connection._headers_buffer = connection._headers_buffer, []
        connection.writer.write(b"".join(head) + (b"" if connection.method == "HEAD" else data))
        connection.answered = True

    def close(self, data: bytes) -> None:
        """End the answer with `data`, and with it the connection, while the application still works. As `write`."""
        self.put(data)
        self.put(b"")
        self.connection._hang_up()  # as if the peer had: nobody reads what may still be tried
        self.connection.writer.close()


# --- the server: what is shared ------------------------------------------------------------------


class HttpServer:
    """A listening socket, its connections, and their one timer.

    application is awaited with each request, in the task of its connection: context variables that it sets
    outlive the request. An HttpError that it raises is sent, any other exception is logged and answered with
    500. error_body makes the JSON of every refusal.
    """

    closing = False

    def __init__(self, application: Application, error_body: ErrorBody, limits: Limits | None = None) -> None:
        self.application = application
        self.error_body = error_body
        self.limits = limits or Limits()
        self.connections: dict[Connection, asyncio.Task[object] | None] = {}  # oldest first
        self.streams: dict[Connection, Stream] = {}  # the answers that have no length

    async def start(self, host: str, port: int, *, ssl: SSLContext | None = None, reuse_port: bool = False) -> None:
        """Listen; `self.port` is the port, also where 0 was asked for. Raises OSError."""
        self.loop = asyncio.get_running_loop()
        self.now = self.loop.time()
        options: dict[str, Any] = {"reuse_port": reuse_port, "backlog": 256}
        if ssl is not None:  # what we have sent shall arrive before it ends
            options |= {"ssl": ssl, "ssl_handshake_timeout": self.limits.head_timeout}
            options["ssl_shutdown_timeout"] = self.limits.write_timeout
        self.listener = await self.loop.create_server(lambda: Connection(self), host, port, **options)
        self.port: int = self.listener.sockets[0].getsockname()[1]
        self.tick()

    def tick(self) -> None:
        """Look at every time limit. The clock that the limits are kept by stands still in between."""
        self.now = self.loop.time()
        self.timer = self.loop.call_later(self.limits.tick, self.tick)
        self.stamp = f"Server: mcp_min\r\nDate: {formatdate(usegmt=True)}\r\n".encode()
        for connection in list(self.connections):
            connection.check(self.now)
        for connection, stream in self.streams.items():
            if self.now >= stream.due and not connection.writer.is_closing():
                stream.put(stream.keep_alive)

    def admit(self, connection: Connection) -> None:
        """Take in a connection; when there are too many, the oldest that is worth least goes, or else the new one."""
        held = [one for one in self.connections if one not in self.streams and not one.lost]
        if len(held) >= self.limits.connections:
            oldest = next((one for one in held if one.due < inf or one.hung_up), connection)
            oldest.lost = True
            oldest.writer.transport.abort()
        self.connections[connection] = asyncio.current_task()

    async def close(self, deadline: float = 10) -> None:
        """Stop listening, let requests in flight be answered, cancel them after `deadline` seconds.

        Tell the application to end its streams just before: an answer that has begun is in flight. Requests that
        are not whole are refused with 503, and idle connections closed, at once. Cancelled, it cancels them all.
        """
        self.closing = True
        self.listener.close()
        for connection in self.connections:
            if connection.due < inf:
                connection.reader.set_exception(HttpError(503, "the server is closing, try again"))
        work = asyncio.gather(*filter(None, self.connections.values()), return_exceptions=True)
        work.add_done_callback(asyncio.Future.exception)  # cancelled, it complains unless that is looked at
        try:
            await asyncio.wait([work], timeout=deadline)
        finally:
            work.cancel()
            self.timer.cancel()
        await asyncio.wait([work], timeout=self.limits.linger)  # and no longer, whatever it makes of that
