"""CPU per call on stdio: every implementation in turn, round after round, one call in flight and 64.

A child lives for one round: it is opened, warmed up, measured with one call in flight, then with 64, and closed. A
call in flight is replaced as soon as its answer is read, so 64 stay in flight and answers that come together are
followed by questions that go together, as from a busy client.
"""

from __future__ import annotations

from dataclasses import dataclass

import environments
import wire
from children import Child, wall_ns
from tables import Sample

DEPTHS = (1, 64)
WARM_UP = 200  # calls before the clock is read


@dataclass(frozen=True)
class Row:
    """One line of the table: what runs, and how it is started."""

    name: str
    requirement: str
    program: str
    era: str
    arguments: tuple[str, ...] = ()


def rows() -> list[Row]:
    """Return the implementations, each in the eras that it speaks."""
    both = [
        row
        for era in wire.ERAS
        for row in (
            Row("floor", environments.BARE, "floor.py", era),
            Row("mcp_min, async def", environments.BARE, "ours.py", era),
            Row("mcp_min, def", environments.BARE, "ours.py", era, ("def",)),
            Row("mcp 2.3.0", "mcp==2.3.0", "official_v2.py", era),
        )
    ]
    legacy_only = [
        Row("mcp 1.30.0", "mcp==1.30.0", "official_v1.py", wire.LEGACY),
        Row("zeromcp 1.10.3, def", "zeromcp==1.10.3", "zero.py", wire.LEGACY),
        Row("zeromcp 1.10.3, async def", "zeromcp==1.10.3", "zero.py", wire.LEGACY, ("async",)),
    ]
    return sorted(both + legacy_only, key=lambda row: row.era)


def measure(row: Row, calls: int) -> list[Sample]:
    """Run one round of one row and return a sample for each number of calls in flight."""
    python = environments.python_for(row.requirement)
    with Child(python, row.program, "stdio", row.era, *row.arguments) as child:
        if row.era == wire.LEGACY:
            child.send(wire.initialize() + b"\n")
            wire.check_opened(child.line())
            child.send(wire.initialized() + b"\n")
        _drive(child, row.era, range(WARM_UP), DEPTHS[-1])
        samples = []
        first = WARM_UP
        for depth in DEPTHS:
            questions = range(first, first + calls)
            first += calls
            before = child.cpu_ns()
            with wall_ns() as spent:
                _drive(child, row.era, questions, depth)
            cpu = child.cpu_ns() - before
            samples.append(Sample(row.era, row.name, f"{depth} in flight", cpu / calls / 1e3, calls / spent[0] * 1e9))
        return samples


def _drive(child: Child, era: str, ids: range, depth: int) -> None:
    # Everything that costs the generator time is done before or after the exchange.
    questions = [wire.call(request_id, era) + b"\n" for request_id in ids]
    answers: list[bytes] = []
    child.send(b"".join(questions[:depth]))
    sent = min(depth, len(questions))
    while len(answers) < len(questions):
        lines = child.lines()
        answers += lines
        more = questions[sent : sent + len(lines)]
        sent += len(more)
        if more:
            child.send(b"".join(more))
    if sorted(map(wire.check_call, answers)) != list(ids):
        raise RuntimeError("an answer was lost or came twice")
