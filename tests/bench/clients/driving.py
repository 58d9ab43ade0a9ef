"""What every client program does: calls in turn and at once, its own CPU time around them, one JSON line at the end.

    CLIENT.py COUNT REVISION COMMAND [ARG ...]      a server on stdio
    CLIENT.py COUNT REVISION http://127.0.0.1:…     a server over HTTP

A program brings `connect(target)`, and that `add(a, b)`, which returns the text of the answer. Process time is
that of the client alone: a server that it started is another process.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

Add = Callable[[int, int], Awaitable[str]]
Connect = Callable[[list[str]], AbstractAsyncContextManager[Add]]
DEPTHS = (1, 16)
MODERN = "2026-07-28"
ERA = sys.argv[2] if len(sys.argv) > 2 else ""
WARM_UP = 200  # calls before the clock is read
TIMEOUT = 120.0  # seconds for everything


async def _calls(add: Add, numbers: range, depth: int) -> None:
    remaining = iter(numbers)

    async def one_after_another() -> None:
        for number in remaining:
            answer = await add(number, 1)
            if answer != str(number + 1):
                raise ValueError(f"expected {number + 1}, got {answer}")

    await asyncio.gather(*(one_after_another() for _ in range(depth)))


async def _measure(connect: Connect, count: int, target: list[str]) -> None:
    async with asyncio.timeout(TIMEOUT), connect(target) as add:
        await _calls(add, range(WARM_UP), DEPTHS[-1])
        found = {}
        for depth in DEPTHS:
            cpu, wall = time.process_time_ns(), time.perf_counter_ns()
            await _calls(add, range(count), depth)
            found[depth] = {"cpu_ns": time.process_time_ns() - cpu, "wall_ns": time.perf_counter_ns() - wall}
    print(json.dumps(found))


def main(connect: Connect) -> None:
    """Measure one client."""
    asyncio.run(_measure(connect, int(sys.argv[1]), sys.argv[3:]))
