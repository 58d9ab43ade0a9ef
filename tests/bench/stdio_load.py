"""CPU per call on stdio: every implementation in turn, round after round, one call in flight and 64.

A child lives for one round: it is opened, warmed up, measured with one call in flight, then with 64, and closed. A
call in flight is replaced as soon as its answer is read, so 64 stay in flight and answers that come together are
followed by questions that go together, as from a busy client.
"""

from __future__ import annotations

import wire
from children import Child, wall_ns
from rows import Row
from tables import Sample

DEPTHS = (1, 64)
WARM_UP = 200  # calls before the clock is read


def measure(row: Row, calls: int) -> list[Sample]:
    """Run one round of one row and return a sample for each number of calls in flight."""
    with row.start("stdio") as child:
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
    if sorted(wire.check_call(answer, era) for answer in answers) != list(ids):
        raise RuntimeError("an answer was lost or came twice")
