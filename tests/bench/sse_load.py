"""CPU per round trip on HTTP+SSE: a call by POST, its answer as an event on the stream opened by GET.

GET /sse                      event: endpoint, data: /messages?session_id=...
POST /messages?session_id=…   202, and on the stream: data: {"jsonrpc":"2.0","id":7,"result":{...}}
"""

from __future__ import annotations

import asyncio

import wire
from children import Child, wall_ns
from http_wire import HOST, TIMEOUT, Connection, get, post, run
from rows import Row
from tables import Sample, counted

WIDTHS = (1, 16)
WARM_UP = 20  # round trips on each stream before the clock is read
LINE = 2**20  # bytes of one event at most


class Stream:
    """One event stream and the connection that posts to it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: Connection) -> None:
        self.reader = reader
        self.writer = writer
        self.connection = connection
        self.port: int = writer.get_extra_info("peername")[1]
        self.path = ""

    @classmethod
    async def open(cls, port: int) -> Stream:
        """Open a stream, learn where to post, and do the handshake."""
        reader, writer = await asyncio.open_connection(HOST, port, limit=LINE)
        writer.write(get(port, "/sse"))
        stream = cls(reader, writer, await Connection.open(port))
        stream.path = (await stream.event()).decode()
        wire.check_opened(await stream.round_trip(wire.initialize(wire.OLDEST)), wire.OLDEST)
        await stream.connection.exchange(post(port, stream.path, wire.initialized()))
        return stream

    async def event(self) -> bytes:
        """Return the data of the next event; the heads of chunks between the lines are not looked at."""
        async with asyncio.timeout(TIMEOUT):
            while line := await self.reader.readline():
                if line.startswith(b"data:"):
                    return line[5:].strip()
        raise ConnectionError("the stream ended")

    async def round_trip(self, message: bytes) -> bytes:
        """Post one message and return the next event."""
        accepted = await self.connection.exchange(post(self.port, self.path, message))
        if accepted.status != 202:
            raise ValueError(f"expected 202, got {accepted.head!r}")
        return await self.event()

    async def run(self, ids: range) -> list[bytes]:
        """Make a call for each id, one after another."""
        return [await self.round_trip(wire.call(request_id, wire.OLDEST)) for request_id in ids]

    def close(self) -> None:
        """Hang up."""
        self.writer.transport.abort()
        self.connection.close()


def measure(row: Row, calls: int) -> list[Sample]:
    """Run one round of one row and return a sample for each number of streams."""
    with row.start("http") as child:
        return [run(_round_trips(child, row, width, max(calls // width, 1))) for width in WIDTHS]


async def _round_trips(child: Child, row: Row, width: int, each: int) -> Sample:
    streams = [await Stream.open(child.port) for _ in range(width)]
    await asyncio.gather(*(stream.run(range(WARM_UP)) for stream in streams))
    ids = range(WARM_UP, WARM_UP + each)
    before = child.cpu_ns()
    with wall_ns() as spent:
        answers = await asyncio.gather(*(stream.run(ids) for stream in streams))
    cpu = child.cpu_ns() - before
    for got in answers:
        if [wire.check_call(answer, row.era) for answer in got] != list(ids):
            raise RuntimeError("an answer was lost or swapped")
    for stream in streams:
        stream.close()
    total = width * each
    return Sample(row.era, row.name, counted(width, "stream"), cpu / total / 1e3, total / spent[0] * 1e9)
