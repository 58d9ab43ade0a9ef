"""The benchmark's own HTTP client: requests as bytes, one exchange at a time on a kept-alive connection.

    POST /mcp HTTP/1.1              HTTP/1.1 200 OK
    MCP-Protocol-Version: ...       Content-Length: 96
    Mcp-Session-Id: ...
                                    {"jsonrpc":"2.0","id":7,"result":{...}}
    {"jsonrpc":"2.0","id":7,...

It reads what the measured servers write, plain bodies and chunked ones, and is no general client. It is an
asyncio.Protocol and not a pair of streams, so that it costs less than the servers it drives. And it never sleeps:
whoever sends to a sleeping process pays for waking it, some 12 µs on a virtual machine, and only servers slower than
this client would ever find it asleep.
"""

from __future__ import annotations

import asyncio
import re
import selectors
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import wire

HOST = "127.0.0.1"
TIMEOUT = 120.0  # seconds for one exchange
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
SESSION = re.compile(rb"\r\nmcp-session-id: *([!-~]+)", re.IGNORECASE)
DATA = re.compile(rb"^data: *(.+?)\r?$", re.MULTILINE)
T = TypeVar("T")


class _Sleepless(selectors.DefaultSelector):
    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return super().select(0)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` as asyncio.run does, on a loop that never sleeps."""
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(_Sleepless())) as runner:
        return runner.run(work)


@dataclass(frozen=True)
class Reply:
    """One response: its head as it came, and its body with any chunks joined."""

    head: bytes
    body: bytes

    @property
    def status(self) -> int:
        """The status code."""
        return int(self.head.split(b" ", 2)[1])

    def message(self) -> bytes:
        """Return the message in the body, which is the body itself or the data of its last event."""
        events: list[bytes] = DATA.findall(self.body)
        return events[-1] if events else self.body


class Connection(asyncio.Protocol):
    """One kept-alive connection."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._waiting: asyncio.Future[Reply] | None = None
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(cls, port: int) -> Connection:
        """Connect to a server on this machine."""
        _, connection = await asyncio.get_running_loop().create_connection(cls, HOST, port)
        return connection

    def close(self) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    async def exchange(self, request: bytes) -> Reply:
        """Send one request and return its response.

        Raises ConnectionError when the server hangs up, TimeoutError when it does not answer.
        """
        assert self._transport is not None
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        async with asyncio.timeout(TIMEOUT):
            return await self._waiting

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if hasattr(transport, "max_size"):  # bytes to a read; for asyncio's 256 KiB, memory may be mapped anew
            transport.max_size = 2**16

    def data_received(self, data: bytes) -> None:
        self._received += data
        reply = _parse(self._received)
        if reply is not None and self._waiting is not None and not self._waiting.done():
            self._received.clear()
            self._waiting.set_result(reply)

    def connection_lost(self, error: Exception | None) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(ConnectionError(f"the server hung up after {bytes(self._received[:300])!r}"))


def _parse(received: bytearray) -> Reply | None:
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = bytes(received[:end])
    start = end + 4
    length = LENGTH.search(head)
    if length is not None:
        stop = start + int(length[1])
        return Reply(head, bytes(received[start:stop])) if len(received) >= stop else None
    if CHUNKED.search(head) is None:
        return Reply(head, b"")
    body = bytearray()
    while (line := received.find(b"\r\n", start)) >= 0:
        size = int(received[start:line], 16)
        if len(received) < line + 4 + size:
            return None
        if size == 0:
            return Reply(head, bytes(body))
        body += received[line + 2 : line + 2 + size]
        start = line + 4 + size
    return None


def post(port: int, path: str, body: bytes, headers: str = "") -> bytes:
    """Return a whole request; `headers` are lines that end in CR LF."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\nContent-Type: application/json\r\n"
        f"Accept: application/json, text/event-stream\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    )
    return head.encode() + body


def get(port: int, path: str, headers: str = "") -> bytes:
    """Return a request for an event stream."""
    return f"GET {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\nAccept: text/event-stream\r\n{headers}\r\n".encode()


def modern_headers(method: str, name: str = "") -> str:
    """Return the header lines that 2026-07-28 wants."""
    lines = f"MCP-Protocol-Version: {wire.MODERN}\r\nMcp-Method: {method}\r\n"
    return f"{lines}Mcp-Name: {name}\r\n" if name else lines


async def open_session(connection: Connection, port: int) -> str:
    """Do the handshake of 2025-11-25 and return the header lines for everything after it."""
    opened = await connection.exchange(post(port, "/mcp", wire.initialize()))
    wire.check_opened(opened.message())
    headers = f"MCP-Protocol-Version: {wire.LEGACY}\r\n"
    session = SESSION.search(opened.head)
    if session is not None:
        headers += f"Mcp-Session-Id: {session[1].decode()}\r\n"
    accepted = await connection.exchange(post(port, "/mcp", wire.initialized(), headers))
    if accepted.status != 202:
        raise ValueError(f"expected 202, got {accepted.head!r}")
    return headers
