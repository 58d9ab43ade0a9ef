"""The Transport interface; newline framing over any byte stream; sockets and the in-memory pair.

`peer.py` wants messages, an operating system gives bytes. A `ByteStream` receives and sends bytes; `LineTransport`
turns any of them into a transport. Unix sockets, TCP and memory are here, a child process and the process's own stdin
and stdout in `stdio.py`: all share this framing.

Spec: 2026-07-28 basic/transports/stdio (which allows "any similar channel"), basic/transports#custom-transports.
Wire: one message a line, b'{"jsonrpc":"2.0","id":1,"method":"ping"}\\n'

A transport owns its byte stream, and whoever made the transport closes it.

Deliberately absent: TLS for TCP, and anything that authenticates; put a Unix socket behind file
permissions and use HTTP across machines.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any, Literal, Protocol

from . import jsonrpc
from .dispatcher import Dispatch
from .jsonrpc import MAX_LINE, ConnectionClosed, Message, RpcError
from .peer import Peer

logger = logging.getLogger("mcp_min")

CHUNK = 64 * 2**10  # bytes asked for at once, the size of a Linux pipe
HIGH_WATER = 2**20  # bytes sent and not yet taken; past it, `send` waits for the reader
CLOSE_TIMEOUT = 1.0  # seconds that `close` gives the reader to take what is unsent

Garbage = Literal["answer", "skip", "close"]  # what a line that is no message leads to


class Transport(Protocol):
    """What carries messages between two peers; both ends use the same three methods."""

    def read(self) -> AsyncIterator[Message]:
        """Yield what arrives. Ends on a clean close, raises ConnectionClosed on any other."""

    async def write(self, message: Message | list[Message]) -> None:
        """Send one message, or a batch; waits while the reader is slow.

        Raises TypeError or ValueError for what is not JSON, before a byte is sent, and
        ConnectionClosed. When cancelled, the message has been sent whole or will be.
        """

    async def close(self) -> None:
        """Flush, close and leave nothing behind; may be called from any task and more than once."""


class ByteStream(Protocol):
    """Bytes both ways: all that `LineTransport` needs to know of a channel."""

    async def receive(self) -> bytes:
        """Return what has arrived, b"" at the end. Raises ConnectionClosed."""

    async def send(self, data: bytes) -> None:
        """Take `data` at once and whole, then wait while over HIGH_WATER bytes are unsent. Raises ConnectionClosed."""

    async def close(self) -> None: ...


class LineTransport:
    """Messages as lines over a byte stream.

    garbage: a server answers it with an error; a client skips it, since it is most likely a stray print() of the
    server; on TCP the server answers and closes, so that a web page which posts JSON to the port gets no further than
    its own first line of HTTP.
    max_line: bytes.
    """

    def __init__(self, stream: ByteStream, garbage: Garbage, max_line: int = MAX_LINE) -> None:
        self.stream = stream
        self._garbage = garbage
        self._max_line = max_line

    async def read(self) -> AsyncIterator[Any]:
        """Cut the stream at b"\\n" alone, wherever its chunks end; an over-long line is skipped and never stored."""
        line, size, more = bytearray(), 0, True
        while more:
            chunk = await self.stream.receive()
            more = chunk != b""
            *ends, rest = (chunk or b"\n").split(b"\n")  # a last line may lack its newline
            for end in ends:
                try:
                    if size + len(end) > self._max_line:
                        raise jsonrpc.invalid_request(f"a line has more than {self._max_line} bytes (option max_line)")
                    whole = bytes(line) + end if line else end
                    message = jsonrpc.decode_any(whole) if whole.strip() else None
                except RpcError as problem:
                    await self._refuse(problem)
                else:
                    if message is not None:
                        yield message
                line, size = bytearray(), 0
            size += len(rest)
            if size > self._max_line:
                line.clear()
            else:
                line += rest

    async def _refuse(self, problem: RpcError) -> None:
        if self._garbage == "skip":
            logger.warning("skipped a line that is no message: %s", problem)
            return
        await self.write(jsonrpc.error(problem.id, problem))
        if self._garbage == "close":
            raise ConnectionClosed(f"the other end sent a line that is no message: {problem}")

    async def write(self, message: Message | list[Message]) -> None:
        await self.stream.send(jsonrpc.encode(message))

    async def close(self) -> None:
        await self.stream.close()


async def answer(transport: Transport, dispatch: Dispatch, *, drain: float = 30, grace: float = 0.5) -> None:
    """Be the server of one connection until its client closes it, then close the transport.

    The end of input ends reading only: requests in flight get `drain` seconds to be answered. When
    this is cancelled they get `grace` seconds.
    """
    peer = Peer(transport.write, dispatch)
    reading = asyncio.get_running_loop().create_task(peer.run(transport.read()))
    patience = grace
    try:
        await asyncio.wait([reading])
        patience = drain
        await reading
    finally:
        reading.cancel()
        await peer.drain(patience)
        await transport.close()


# --- sockets -------------------------------------------------------------------------------------


class ConnectionStream:
    """A byte stream over the two halves that asyncio gives for a Unix or TCP socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        writer.transport.set_write_buffer_limits(high=HIGH_WATER)

    async def receive(self) -> bytes:
        try:
            return await self._reader.read(CHUNK)
        except OSError as error:  # a reset, and what the network reports: no route, timed out
            raise ConnectionClosed(f"the connection broke: {error}") from None

    async def send(self, data: bytes) -> None:
        if self._writer.is_closing():
            raise ConnectionClosed("the connection is closed")
        self._writer.write(data)
        try:
            await self._writer.drain()
        except OSError as error:
            raise ConnectionClosed(f"the connection broke: {error}") from None

    async def close(self) -> None:
        self._writer.close()
        # Bounded: a peer that does not read would keep the last bytes for ever.
        abort = asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, self._writer.transport.abort)
        # All who close wait for one future, which the cancellation of one of them must not cancel.
        with contextlib.suppress(OSError):
            await asyncio.shield(self._writer.wait_closed())
        abort.cancel()


# --- memory --------------------------------------------------------------------------------------


class MemoryStream:
    """One end of a pair of byte streams; what one sends, the other receives."""

    def __init__(self) -> None:
        self.other = self
        self._unread = bytearray()
        self._ended = False
        self._changed = asyncio.Event()  # set when this end's bytes have come or gone, or when it has ended

    async def receive(self) -> bytes:
        while not self._unread and not self._ended:
            await self._change()
        data = bytes(self._unread)
        self._unread.clear()
        self._changed.set()
        return data

    async def send(self, data: bytes) -> None:
        other = self.other
        if other._ended:
            raise ConnectionClosed("the connection is closed")
        other._unread += data
        other._changed.set()
        while len(other._unread) > HIGH_WATER and not other._ended:
            await other._change()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    async def close(self) -> None:
        for end in (self, self.other):
            end._ended = True
            end._changed.set()


def memory_pair() -> tuple[LineTransport, LineTransport]:
    """Return a client's and a server's end, joined in memory: the same bytes as on a wire, without a wire."""
    client, server = MemoryStream(), MemoryStream()
    client.other, server.other = server, client
    return LineTransport(client, "skip"), LineTransport(server, "answer")
