"""CPU per call on Streamable HTTP: at 1, 16 and 64 kept-alive connections, and with bodies of 1 and 16 MiB.

Each connection has one call in flight, and in 2025-11-25 a session of its own. The rate is bounded by this client
too, which shares the machine; the CPU per call is not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import wire
from children import Child, wall_ns
from http_wire import Connection, modern_headers, open_session, post, run
from rows import Row
from tables import Sample, counted

WIDTHS = (1, 16, 64)
MIB = 2**20
BODIES = {"1 MiB": (MIB, 16), "16 MiB": (16 * MIB, 3)}  # size of the text, calls per round
WARM_UP = 10  # calls on each connection before the clock is read


@dataclass
class Caller:
    """One connection and what its requests carry."""

    connection: Connection
    port: int
    era: str
    headers: str

    @classmethod
    async def open(cls, port: int, era: str) -> Caller:
        """Connect, and in 2025-11-25 open a session."""
        connection = await Connection.open(port)
        if era == wire.LEGACY:
            return cls(connection, port, era, await open_session(connection, port))
        return cls(connection, port, era, "")

    def request(self, body: bytes, name: str) -> bytes:
        """Return the request that carries `body`, a call of the tool `name`."""
        headers = modern_headers("tools/call", name) if self.era == wire.MODERN else self.headers
        return post(self.port, "/mcp", body, headers)

    async def call_all(self, requests: list[tuple[int, bytes]]) -> list[bytes]:
        """Send the requests one after another and return the messages of the answers."""
        return [(await self.connection.exchange(request)).message() for _, request in requests]


def measure_calls(row: Row, calls: int) -> list[Sample]:
    """Run one round of one row and return a sample for each number of connections."""
    with row.start("http") as child:
        return [run(_calls(child, row, width, max(calls // width, 1))) for width in WIDTHS]


def measure_bodies(row: Row) -> list[Sample]:
    """Run one round of one row and return a sample for each size of body."""
    with row.start("http") as child:
        return [run(_bodies(child, row, *load)) for load in BODIES.items()]


async def _calls(child: Child, row: Row, width: int, each: int) -> Sample:
    callers = [await Caller.open(child.port, row.era) for _ in range(width)]
    numbers = iter(range(10**9))
    await asyncio.gather(*(_checked(caller, WARM_UP, numbers) for caller in callers))
    work = [(caller, _questions(caller, each, numbers)) for caller in callers]
    before = child.cpu_ns()
    with wall_ns() as spent:
        answers = await asyncio.gather(*(caller.call_all(questions) for caller, questions in work))
    cpu = child.cpu_ns() - before
    for (_, questions), got in zip(work, answers, strict=True):
        _check(questions, got, row.era)
    for caller in callers:
        caller.connection.close()
    total = width * each
    return Sample(row.era, row.name, counted(width, "connection"), cpu / total / 1e3, total / spent[0] * 1e9)


def _questions(caller: Caller, count: int, numbers: Iterator[int]) -> list[tuple[int, bytes]]:
    ids = [next(numbers) for _ in range(count)]
    return [(request_id, caller.request(wire.call(request_id, caller.era), "add")) for request_id in ids]


async def _checked(caller: Caller, count: int, numbers: Iterator[int]) -> None:
    questions = _questions(caller, count, numbers)
    _check(questions, await caller.call_all(questions), caller.era)


def _check(questions: list[tuple[int, bytes]], answers: list[bytes], era: str) -> None:
    if [wire.check_call(answer, era) for answer in answers] != [request_id for request_id, _ in questions]:
        raise RuntimeError("an answer was lost or swapped")


async def _bodies(child: Child, row: Row, load: str, bounds: tuple[int, int]) -> Sample:
    size, calls = bounds
    caller = await Caller.open(child.port, row.era)
    await _checked(caller, WARM_UP, iter(range(WARM_UP)))
    ids = range(WARM_UP, WARM_UP + calls)
    questions = [(request_id, caller.request(wire.length(request_id, size, row.era), "length")) for request_id in ids]
    before = child.cpu_ns()
    with wall_ns() as spent:
        answers = await caller.call_all(questions)
    cpu = child.cpu_ns() - before
    for request_id, answer in zip(ids, answers, strict=True):
        wire.check_number(answer, request_id, size, row.era)
    caller.connection.close()
    return Sample(row.era, row.name, load, cpu / calls / 1e3, calls / spent[0] * 1e9)
