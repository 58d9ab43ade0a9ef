"""What it costs to begin: the import, and a child process from its start to its first answer.

Each figure is a pair, measured alternately (ABBA), so that a slow moment of the machine falls on both halves; the ratio
is the median of the pairs' ratios. Byte code is compiled before the first pair, as an installation would have done.

    import      a fresh interpreter runs one statement and reports how long the statement took;
                beside it the whole process, interpreter included
    first answer    from spawning a child with one tool to the answer to its first request
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import environments
import wire
from children import Child, wall_ns
from rows import Row

TIMEOUT = 60.0  # seconds for one child
LIMIT = 1.5  # times asyncio by hand, promised for each figure
WARM_UP = 2  # pairs that do not count
TIMED = "import time; start = time.perf_counter_ns(); {statement}; print(time.perf_counter_ns() - start)"
OURS = "import mcp_min; mcp_min.Server"
ASYNCIO = "import asyncio, json"


@dataclass(frozen=True)
class Pair:
    """Two medians in milliseconds, and the median of the ratios of the pairs."""

    name: str
    ours_ms: float
    floor_ms: float
    ratio: float
    limit: float


def measure(rounds: int) -> list[Pair]:
    """Return one pair for each figure."""
    return [
        _pair("import, the statement alone", _statement(OURS), _statement(ASYNCIO), rounds),
        _pair("import, the whole process", _process(OURS), _process(ASYNCIO), rounds),
        _pair("spawn to first answer", _first_answer("ours.py"), _first_answer("floor.py"), rounds),
    ]


def render(pairs: list[Pair]) -> str:
    """Return the pairs as a table in Markdown."""
    out = ["| start | mcp_min, ms | asyncio by hand, ms | ratio | at most |", "|" + " --- |" * 5]
    out += [
        f"| {pair.name} | {pair.ours_ms:.1f} | {pair.floor_ms:.1f} | {pair.ratio:.2f} | {pair.limit} |"
        for pair in pairs
    ]
    return "\n".join(out)


def _pair(name: str, ours: Callable[[], int], floor: Callable[[], int], rounds: int) -> Pair:
    taken: list[tuple[int, int]] = []
    for number in range(WARM_UP + rounds):
        if number % 2:
            second, first = floor(), ours()
        else:
            first, second = ours(), floor()
        taken.append((first, second))
    counted = taken[WARM_UP:]
    ratio = median(a / b for a, b in counted)
    return Pair(name, median(a for a, _ in counted) / 1e6, median(b for _, b in counted) / 1e6, ratio, LIMIT)


def _statement(statement: str) -> Callable[[], int]:
    return lambda: int(_run(TIMED.format(statement=statement)))


def _process(statement: str) -> Callable[[], int]:
    def whole() -> int:
        with wall_ns() as spent:
            _run(statement)
        return spent[0]

    return whole


def _run(code: str) -> bytes:
    command = [str(environments.python_for()), "-c", code]
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=environments.environment(),
        timeout=TIMEOUT,
        check=True,
    ).stdout


def _first_answer(program: str) -> Callable[[], int]:
    def spawn() -> int:
        command = Row("", environments.BARE, program, wire.LEGACY).command("stdio")
        start = time.perf_counter_ns()
        with Child(command) as child:
            child.send(wire.initialize() + b"\n")
            answer = child.line()
            spent = time.perf_counter_ns() - start
        wire.check_opened(answer)
        return spent

    return spawn
