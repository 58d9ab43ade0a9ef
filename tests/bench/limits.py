"""What the project promises about its CPU per call, as a table, and whether one run kept it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tables import FLOOR, OFFICIAL, Line

OURS = "mcp_min, async def"


@dataclass(frozen=True)
class Limit:
    """mcp_min may take at most `factor` times what `against` takes under `load`."""

    load: str
    against: str
    factor: float


LIMITS = (
    Limit("1 in flight", FLOOR, 2.5),
    Limit("1 in flight", OFFICIAL, 1 / 5),
    Limit("64 in flight", FLOOR, 3.5),
    Limit("64 in flight", OFFICIAL, 1 / 12),
    Limit("64 in flight", "zeromcp 1.10.3, def", 1.0),
)


def check(lines: Iterable[Line]) -> list[tuple[bool, str]]:
    """Return for each limit that this run measured whether it was kept, and a sentence that says so."""
    cpu = {(line.era, line.load, line.name): line.cpu_us for line in lines}
    verdicts = []
    for era in dict.fromkeys(era for era, _, _ in cpu):
        for limit in LIMITS:
            ours, other = cpu.get((era, limit.load, OURS)), cpu.get((era, limit.load, limit.against))
            if ours is None or other is None:
                continue
            kept = ours <= limit.factor * other
            verdicts.append((kept, f"{era}, {limit.load}: {_sentence(limit, ours / other)}"))
    return verdicts


def _sentence(limit: Limit, ratio: float) -> str:
    return f"{ratio:.3f} times {limit.against}, at most {limit.factor:.3f} promised"
