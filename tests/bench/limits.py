"""What the project promises, as tables, and whether one run kept it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from memory_load import Weight
from tables import FLOOR, OFFICIAL, Line

OURS = "mcp_min, async def"
ZERO = "zeromcp 1.10.3, def"
STREAM_KIB = 12.0  # KiB for one idle event stream at most
SESSION = "session"  # what memory_load weighs beside streams, and nothing is promised of


@dataclass(frozen=True)
class Limit:
    """mcp_min may take at most `factor` times the CPU that `against` takes under `load`."""

    load: str
    against: str
    factor: float


LIMITS = (
    Limit("1 in flight", FLOOR, 2.5),
    Limit("1 in flight", OFFICIAL, 1 / 5),
    Limit("64 in flight", FLOOR, 3.5),
    Limit("64 in flight", OFFICIAL, 1 / 12),
    Limit("64 in flight", ZERO, 1.0),
    Limit("stdio, 1 in flight", FLOOR, 2.0),
    Limit("HTTP, 1 in flight", FLOOR, 2.5),
    Limit("16 connections", FLOOR, 3.0),
    Limit("16 connections", OFFICIAL, 1 / 8),
    Limit("16 connections", ZERO, 1 / 2),
)


def check(lines: Iterable[Line]) -> list[tuple[bool, str]]:
    """Return for each limit that this run measured whether it was kept, and a sentence that says so."""
    cpu = {(line.era, line.load, line.name): line.cpu_us for line in lines}
    verdicts = []
    for era in dict.fromkeys(era for era, _, _ in cpu):
        for limit in LIMITS:
            ours, other = cpu.get((era, limit.load, OURS)), cpu.get((era, limit.load, limit.against))
            if ours is not None and other is not None:
                said = f"{ours / other:.3f} times {limit.against}, at most {limit.factor:.3f} promised"
                verdicts.append((ours <= limit.factor * other, f"{era}, {limit.load}: {said}"))
    return verdicts


def check_weights(weights: Iterable[Weight]) -> list[tuple[bool, str]]:
    """Return the same for each kind of event stream."""
    return [
        (
            weight.kib <= STREAM_KIB,
            f"{weight.era}, {weight.kind}: {weight.kib:.1f} KiB, at most {STREAM_KIB:.0f} promised",
        )
        for weight in weights
        if weight.name == OURS and weight.kind != SESSION
    ]
