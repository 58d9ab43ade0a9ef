"""Memory of an idle event stream, and of the session it belongs to, in KiB of the server's private memory.

A server is warmed up with some streams, which are left open; then many more are opened, and the growth is divided by
their number. What the kernel keeps for a socket is not counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from statistics import median

import wire
from children import Child
from http_wire import HOST, TIMEOUT, Connection, get, modern_headers, open_session, post
from rows import Row

WARM_UP = 50  # streams opened before the first look
STREAMS = 500  # streams opened between the two looks
SETTLE = 0.5  # seconds for the server to finish what opening left to do


@dataclass(frozen=True)
class Weight:
    """What one kind of thing weighs in one implementation."""

    era: str
    name: str
    kind: str
    kib: float


def measure(row: Row) -> list[Weight]:
    """Weigh one implementation once."""
    with row.start("http") as child:
        return asyncio.run(_weigh(child, row))


def summarise(weights: list[Weight]) -> list[Weight]:
    """Return the median of each kind."""
    groups: dict[tuple[str, str, str], list[float]] = {}
    for weight in weights:
        groups.setdefault((weight.era, weight.kind, weight.name), []).append(weight.kib)
    return [Weight(era, name, kind, median(group)) for (era, kind, name), group in sorted(groups.items())]


def render(weights: list[Weight]) -> str:
    """Return the weights as a table in Markdown."""
    out = ["| revision | kept open | implementation | KiB each |", "|" + " --- |" * 4]
    out += [f"| {weight.era} | {weight.kind} | {weight.name} | {weight.kib:.1f} |" for weight in weights]
    return "\n".join(out)


async def _weigh(child: Child, row: Row) -> list[Weight]:
    if row.era == wire.MODERN:
        body = wire.listen(1)
        question = post(child.port, "/mcp", body, modern_headers("subscriptions/listen"))
        return [await _growth(child, row, "subscriptions/listen", lambda: _open_stream(child.port, question))]
    if row.era == wire.OLDEST:
        question = get(child.port, "/sse")
        return [await _growth(child, row, "GET /sse", lambda: _open_stream(child.port, question))]
    connection = await Connection.open(child.port)
    sessions: list[str] = []

    async def open_one() -> None:
        sessions.append(await open_session(connection, child.port))

    async def open_next() -> object:
        return await _open_stream(child.port, get(child.port, "/mcp", sessions.pop()))

    first = await _growth(child, row, "session", open_one)
    return [first, await _growth(child, row, "GET /mcp of a session", open_next)]


async def _growth(child: Child, row: Row, kind: str, open_one: Callable[[], Awaitable[object]]) -> Weight:
    kept = [await open_one() for _ in range(WARM_UP)]
    await asyncio.sleep(SETTLE)
    before = child.private_bytes()
    kept += [await open_one() for _ in range(STREAMS)]
    await asyncio.sleep(SETTLE)
    grown = child.private_bytes() - before
    for stream in kept:
        if isinstance(stream, asyncio.StreamWriter):
            stream.transport.abort()
    return Weight(row.era, row.name, kind, grown / STREAMS / 1024)


async def _open_stream(port: int, question: bytes) -> asyncio.StreamWriter:
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(question)
    async with asyncio.timeout(TIMEOUT):
        head = await reader.readuntil(b"\r\n\r\n")
    if head.split(b" ", 2)[1] != b"200" or b"event-stream" not in head:
        raise ValueError(f"expected an event stream, got {head!r}")
    return writer
