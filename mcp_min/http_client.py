"""An HTTP/1.1 client on asyncio streams: a request out, a status, headers and a body in.

`http_server.py` is the other end. This file knows no MCP: it moves bytes, keeps connections for the next
request, and turns whatever a server, a proxy or the network does wrong into one sentence.

Spec: RFC 9110 (redirects), RFC 9112 (framing, proxies), RFC 3986 (URLs).
Wire: → POST /mcp HTTP/1.1          ← HTTP/1.1 200 OK
        Host: 127.0.0.1:8000          Content-Type: application/json
        Content-Length: 46            Content-Length: 36

A `Response` owns its connection until its body has been read or it is closed; then the `HttpClient` keeps the
connection, or drops it. `HttpClient.close` drops them all.

A connection is kept when its answer ended where it said it would, and nothing followed.
A request is sent once. An error says whether it was `sent`; who knows that twice does no harm may send it again.
A redirect is followed when it changes neither the origin nor the method. Whatever else happens is an error that
names the origin and the phase, "http://127.0.0.1:8000: waiting for the answer: the connection was closed".

Deliberately absent: HEAD, HTTP/2, cookies, compression, caches, trailers, folded headers, `https://` and SOCKS
proxies, address ranges in NO_PROXY, and a timeout for a request as a whole, for which there is `asyncio.timeout`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import os
import re
import sys
from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from .jsonrpc import ConnectionClosed

if TYPE_CHECKING:
    import ssl

T = TypeVar("T")

MAX_HEAD = 64 * 2**10  # bytes of a status line with its headers, and of a line between chunks
MAX_BODY = 64 * 2**20  # bytes that `Response.read` collects
MAX_INTERIM = 10  # 1xx answers before the one that counts
MAX_REDIRECTS = 5  # RFC 2068's figure; more is a loop
MAX_IDLE = 8  # connections kept for one origin
IDLE = 4.0  # seconds a connection is kept; Node.js closes after 5, and a request sent in that moment is lost
CONNECTING = "connecting"  # the phase before a byte of the request has left
LOOPBACK = ("localhost", "127.0.0.1", "::1")  # which is another machine to the proxy
HAPPY_EYEBALLS = 0.25  # seconds until the next address is tried beside the first (RFC 8305)

_HOST = r"\[[0-9a-f:.]+\]|[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\.?"
_URL = re.compile(rf"(https?)://({_HOST})(?::([0-9]{{1,5}}))?([/?][!-~]*)?", re.IGNORECASE)
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_TEXT = r"[\t -~\x80-\xff]*"
_HEAD = re.compile(rf"HTTP/1\.([01]) ([1-5][0-9]{{2}})(?: {_TEXT})?\r\n((?:{_TOKEN}:{_TEXT}\r\n)*)\r\n")
_HEADER = re.compile(rf"{_TOKEN}\n{_TEXT}")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r\n")

# What this file writes itself; written twice, the two ends could understand different things.
_RESERVED = frozenset({"host", "connection", "content-length", "transfer-encoding", "accept-encoding"})


class HttpError(ConnectionClosed):
    """No usable answer: from where, while doing what, and why stand in the text.

    sent: False when no byte of the request has left, so that it may be sent again whatever it does.
    """

    def __init__(self, text: str, *, sent: bool = True) -> None:
        super().__init__(text)
        self.sent = sent


class Timeouts(NamedTuple):
    """Seconds for each phase, None for ever.

    connect: name lookup, TCP, proxy and TLS together. write: until the kernel has taken the request. head: until
    status and headers have come. read: until the next piece of a body that `Response.read` collects.
    """

    connect: float | None = 10.0
    write: float | None = 30.0
    head: float | None = 60.0
    read: float | None = 60.0


# --- where to ------------------------------------------------------------------------------------


class Origin(NamedTuple):
    """Whom a connection leads to (RFC 6454); what is meant for one origin must not reach another."""

    scheme: str
    authority: str  # the Host header: brackets around an IPv6 address, no port where it is the scheme's own
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


Proxy = tuple[Origin, str]  # where requests go instead, and the header line that lets them through, or ""


@functools.lru_cache(maxsize=64)  # a client asks for the same few again and again
def split_url(url: str) -> tuple[Origin, str]:
    """Return the origin of `url` and its request target: "/" where there is no path; the fragment is dropped.

    Raises ValueError, which does not show a password.
    """
    url = url.partition("#")[0]
    if "@" in re.split("[/?]", url.partition("://")[2])[0]:
        raise ValueError("a URL must not hold a user name or password; send an Authorization header instead")
    if (match := _URL.fullmatch(url)) is None:
        raise ValueError(f"{url!r} is no URL: http:// or https://, a host, a path, percent-encoded where not ASCII")
    scheme, host, digits, target = match[1].lower(), match[2].lower(), match[3], match[4] or "/"
    default = 443 if scheme == "https" else 80
    port = int(digits or default)
    if not 0 < port < 2**16:
        raise ValueError(f"{url!r} has no port between 1 and 65535")
    origin = Origin(scheme, host if port == default else f"{host}:{port}", host.strip("[]"), port)
    return origin, target if target.startswith("/") else f"/{target}"


def find_proxy(origin: Origin) -> Proxy | None:
    """Return what HTTP_PROXY, HTTPS_PROXY and NO_PROXY say about `origin`; loopback never goes through a proxy.

    NO_PROXY lists hosts, with a port or without, each with its subdomains, or "*". Lower-case names come first.

    Raises ValueError for a proxy other than http://[user:password@]host:port.
    """
    name = f"{origin.scheme}_proxy"
    url = origin.host not in LOOPBACK and (os.environ.get(name) or os.environ.get(name.upper()))
    if not url:
        return None
    exempt = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    for entry in exempt.lower().replace(",", " ").split():
        suffix = "." + entry.lstrip("*.")
        if entry == "*" or f".{origin.host}".endswith(suffix) or f".{origin.host}:{origin.port}".endswith(suffix):
            return None
    scheme, _, rest = url.rpartition("://")
    if scheme not in ("", "http"):
        raise ValueError(f"{name.upper()} must be http://host:port; {scheme}:// proxies are not supported")
    from urllib.parse import unquote  # 3 ms to import, which only the few who need it shall wait for

    login, _, address = rest.rpartition("@")
    credentials = base64.b64encode(unquote(login).encode()).decode()
    return split_url(f"http://{address}")[0], f"Proxy-Authorization: Basic {credentials}\r\n" if login else ""


def _redirected(method: str, origin: Origin, target: str, status: int, location: str) -> str:
    from urllib.parse import urljoin

    try:
        to, target = split_url(urljoin(f"{origin}{target}", location))
    except ValueError as error:
        raise HttpError(f"{origin}: redirected to an unusable address: {error}") from None
    # Another origin is not to see the headers and body meant for this one; 301 to 303 would turn POST into GET.
    if to != origin or (status < 307 and method != "GET"):
        raise HttpError(f"{origin}: {method} is not redirected by {status} to {to}{target}; use that if you trust it")
    return target


@functools.lru_cache(maxsize=256)  # a client says the same things in each request
def _header_line(name: str, value: str) -> str:
    if not _HEADER.fullmatch(f"{name}\n{value}") or name.lower() in _RESERVED:
        raise ValueError(f"header {name!r} cannot be sent: no token, not one line of Latin-1, or not the caller's")
    return f"{name}: {value}\r\n"


# --- one request and its answer ------------------------------------------------------------------


class Response:
    """An answer: `status`, `headers` by lower-case name (repeated ones joined by a comma), and a body to be read once.

    A body read to its end gives the connection back. Until then the connection is this response's: close it, for
    instance with `contextlib.closing`. Closing is how a client tells a server that it wants no more of an answer.
    """

    def __init__(self, client: HttpClient, origin: Origin) -> None:
        self._client = client
        self._origin = origin
        self._open = False  # it has a connection

    async def _phase(self, name: str, seconds: float | None, step: Awaitable[T]) -> T:
        # The one place where what asyncio raises becomes a sentence; everything below runs in a phase.
        self._phase_name = name
        try:
            if seconds is None:
                return await step
            async with asyncio.timeout(seconds):
                return await step
        except BaseException as error:
            self.close()
            if isinstance(error, HttpError) or not isinstance(error, (OSError, EOFError, asyncio.LimitOverrunError)):
                raise
            told = str(error) or type(error).__name__
            if isinstance(error, TimeoutError):
                told = f"not done within {seconds} s"
            elif isinstance(error, EOFError):
                told = "the connection was closed"
            elif isinstance(error, asyncio.LimitOverrunError):
                told = f"no end within {MAX_HEAD} bytes"
            raise self._error(told) from None

    def _error(self, text: str) -> HttpError:
        return HttpError(f"{self._origin}: {self._phase_name}: {text}", sent=self._phase_name != CONNECTING)

    async def _perform(self, data: bytes, proxy: Proxy | None) -> None:
        timeouts, kept = self._client.timeouts, self._client._take(self._origin)
        if kept is None:
            await self._phase(CONNECTING, timeouts.connect, self._connect(proxy))
        else:
            (self._reader, self._writer), self._open = kept, True
        self._writer.write(data)
        # Most requests are with the kernel by now, and a timer for nothing would cost a tenth of the whole.
        if self._writer.transport.get_write_buffer_size():
            await self._phase("sending the request", timeouts.write, self._writer.drain())
        await self._phase("waiting for the answer", timeouts.head, self._begin())

    async def _connect(self, proxy: Proxy | None) -> None:
        to, header = proxy or (self._origin, "")
        # Cancelled in the moment that it is won, asyncio's race of addresses forgets its socket. No need for it here.
        delay = None if to.host in LOOPBACK else HAPPY_EYEBALLS
        self._reader, self._writer = await asyncio.open_connection(
            to.host, to.port, limit=MAX_HEAD, happy_eyeballs_delay=delay
        )
        self._open = True
        self._client._connections.add(self._writer)
        if self._origin.scheme == "https":
            if proxy:
                await self._open_tunnel(to, header)
            import ssl  # some builds of Python have none, and plain HTTP needs none

            context = self._client.ssl_context = self._client.ssl_context or ssl.create_default_context()
            await self._writer.start_tls(context, server_hostname=self._origin.host)

    async def _open_tunnel(self, proxy: Origin, header: str) -> None:
        # RFC 9112 3.2.3: host and port, the port also where it is the scheme's own.
        target = self._origin.authority.removesuffix(f":{self._origin.port}") + f":{self._origin.port}"
        self._writer.write(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{header}\r\n".encode())
        await self._read_head()
        if self.status // 100 != 2:
            raise self._error(f"the proxy {proxy} refused a tunnel with status {self.status}")
        # In a tunnel the server speaks second. What the proxy adds here would pass for the server's words under TLS.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0):
                await self._reader.read(1)
                raise self._error(f"the proxy {proxy} does not keep to its tunnel")

    async def _read_head(self) -> None:
        for _ in range(MAX_INTERIM):
            first = await self._reader.readexactly(1)
            # Said at once: who greets in another protocol waits for an answer and never ends a head.
            if first != b"H":
                raise self._error(f"the answer is not HTTP: it begins with {first!r}")
            head = first + await self._reader.readuntil(b"\r\n\r\n")
            if (match := _HEAD.fullmatch(head.decode("latin-1"))) is None:
                raise self._error(f"the answer has a malformed head: {head[:60]!r}")
            if match[2] >= "200":
                self._reusable, self.status = match[1] == "1", int(match[2])
                self.headers: dict[str, str] = {}
                for line in match[3].split("\r\n")[:-1]:
                    name, _, value = line.partition(":")
                    name, value = name.lower(), value.strip(" \t")
                    # RFC 9110 5.3: repeated headers are one list. A repeated length is no number then, and refused.
                    self.headers[name] = f"{self.headers[name]}, {value}" if name in self.headers else value
                return
        raise self._error(f"more than {MAX_INTERIM} interim answers")

    async def _begin(self) -> None:
        await self._read_head()
        coding, length = self.headers.get("transfer-encoding"), self.headers.get("content-length")
        # RFC 9112 6.3: both together "ought to be handled as an error".
        if coding is not None and (coding.lower() != "chunked" or length is not None):
            raise self._error(f"the answer has Transfer-Encoding {coding!r} and Content-Length {length!r}")
        # RFC 9112 6.3: an invalid Content-Length is an unrecoverable error. `int` alone would take "+5" and "1_0".
        if length is not None and not (length.isdecimal() and len(length) < 16):
            raise self._error(f"the Content-Length {length!r} is no number")
        self._chunked, self._to_eof = coding is not None, coding is None and length is None
        self._left = 0 if self._chunked else sys.maxsize if length is None else int(length)
        if self._to_eof or "close" in self.headers.get("connection", "").lower():
            self._reusable = False
        # RFC 9112 6.3: these have no body, whatever their headers say; some servers send one all the same.
        if self.status in (204, 304):
            self.close()
        elif self._left == 0 and not self._chunked:
            self._end()

    async def read(self) -> bytes:
        """Return the whole body.

        Raises HttpError, also for a body over the client's `max_body`. Cancelled, it drops the connection.
        """
        body, limit = bytearray(), self._client.max_body
        while piece := await self.read_some(self._client.timeouts.read):
            body += piece
            if len(body) + (0 if self._to_eof else self._left) > limit:
                self.close()
                raise self._error(f"it has more than {limit} bytes (option max_body)")
        return bytes(body)

    async def read_some(self, silence: float | None = None) -> bytes:
        """Return the next piece of the body as it comes, b"" at its end; that of an event stream may have none.

        silence: seconds to wait for the piece. Raises HttpError. Cancelled, it drops the connection.
        """
        return await self._phase("reading the body", silence, self._next_piece()) if self._open else b""

    async def _next_piece(self) -> bytes:
        if self._left == 0:  # only chunks go on then
            self._left = await self._read_chunk_size()
        # A byte more than was announced would be taken for the next answer: look for it. `read(0)` does not wait.
        piece = await self._reader.read(self._left if self._chunked else self._left + 1)
        if self._left and not piece and not self._to_eof:
            raise self._error("the connection was closed before its end")
        self._reusable = self._reusable and len(piece) <= self._left
        piece = piece[: self._left]
        self._left -= len(piece)
        if not piece or not (self._left or self._chunked):
            self._end()
        elif not self._left and await self._reader.readexactly(2) != b"\r\n":
            raise self._error("a chunk does not end where it should")
        return piece

    async def _read_chunk_size(self) -> int:
        line = await self._reader.readuntil(b"\r\n")
        if (match := _CHUNK_SIZE.fullmatch(line)) is None:
            raise self._error(f"{line[:60]!r} is no chunk size")
        size = int(match[1], 16)
        # Trailers are of no use to anybody here, and not worth reading.
        if size == 0 and await self._reader.readuntil(b"\r\n") != b"\r\n":
            self._reusable = False
        return size

    def _end(self) -> None:
        idle = self._client._idle.setdefault(self._origin, [])
        if self._reusable and len(idle) < MAX_IDLE:
            self._open = False
            idle.append((self._reader, self._writer, asyncio.get_running_loop().time()))
        self.close()

    def close(self) -> None:
        """Drop the connection, unless the body has been read to its end; may be called more than once.

        A task that waits for the next piece gets HttpError, or the end of a body that has no announced length.
        """
        if self._open:
            self._open = False
            self._client._drop(self._writer)


# --- the client ----------------------------------------------------------------------------------


class HttpClient:
    """Sends requests, and keeps connections for the next ones.

    ssl_context: instead of the system's certificates. max_body: bytes that `Response.read` collects.
    """

    def __init__(
        self, *, ssl_context: ssl.SSLContext | None = None, timeouts: Timeouts | None = None, max_body: int = MAX_BODY
    ) -> None:
        self.ssl_context = ssl_context
        self.timeouts = timeouts or Timeouts()
        self.max_body = max_body
        self._connections: set[asyncio.StreamWriter] = set()
        self._idle: dict[Origin, list[tuple[asyncio.StreamReader, asyncio.StreamWriter, float]]] = {}

    async def request(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None) -> Response:
        """Send one request and return its answer as soon as the head is here.

        Raises HttpError, and ValueError for a URL, a header or a proxy that cannot be used. Cancelled,
        it drops the connection; the server may have acted on the request.
        """
        origin, target = split_url(url)
        proxy = find_proxy(origin)
        lines = "".join([_header_line(name, value) for name, value in headers.items()])
        if body is not None:
            lines += f"Content-Length: {len(body)}\r\n"
        for _ in range(MAX_REDIRECTS + 1):
            # RFC 9112 3.2.2: a proxy MUST get the absolute form. Through a tunnel, no proxy gets it.
            at, credentials = (origin, proxy[1]) if proxy and origin.scheme == "http" else ("", "")
            start = f"{method} {at}{target} HTTP/1.1\r\nHost: {origin.authority}\r\n{credentials}"
            data = f"{start}Accept-Encoding: identity\r\n{lines}\r\n".encode("latin-1") + (body or b"")
            response = Response(self, origin)
            await response._perform(data, proxy)
            location = response.headers.get("location")
            if location is None or response.status not in (301, 302, 303, 307, 308):
                return response
            response.close()
            target = _redirected(method, origin, target, response.status, location)
        raise HttpError(f"{origin}: more than {MAX_REDIRECTS} redirects")

    def _take(self, origin: Origin) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        # The one used last: the others may grow old and be dropped.
        idle = self._idle.get(origin, [])
        oldest = asyncio.get_running_loop().time() - IDLE
        while idle:
            reader, writer, since = idle.pop()
            if since > oldest and not reader.at_eof() and not writer.is_closing():
                return reader, writer
            self._drop(writer)
        return None

    def _drop(self, writer: asyncio.StreamWriter) -> None:
        self._connections.discard(writer)
        writer.transport.abort()

    def close(self) -> None:
        """Drop every connection, also those whose answer is being read; asyncio closes the sockets in its next step."""
        for writer in [*self._connections]:
            self._drop(writer)
