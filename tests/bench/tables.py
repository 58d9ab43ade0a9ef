"""Samples to a table: medians over the rounds, and ratios of medians to the floor and to the official SDK."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

FLOOR = "floor"
OFFICIAL = "mcp 2.3.0"


@dataclass(frozen=True)
class Sample:
    """One round of one row under one load."""

    era: str
    name: str
    load: str
    cpu_us: float  # microseconds of the server's CPU per call
    rate: float  # calls per second, the load generator's share included


@dataclass(frozen=True)
class Line:
    """One row under one load, over all rounds."""

    era: str
    name: str
    load: str
    cpu_us: float
    rate: float
    to_floor: float | None
    to_official: float | None


def summarise(samples: Iterable[Sample]) -> list[Line]:
    """Return a line for each (era, load, name), in order of appearance within its era and load."""
    groups: dict[tuple[str, str, str], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.era, sample.load, sample.name), []).append(sample)
    cpu = {key: median(sample.cpu_us for sample in group) for key, group in groups.items()}
    lines = []
    for key, group in groups.items():
        era, load, name = key
        floor, official = cpu.get((era, load, FLOOR)), cpu.get((era, load, OFFICIAL))
        rate = median(sample.rate for sample in group)
        lines.append(Line(era, name, load, cpu[key], rate, _ratio(cpu[key], floor), _ratio(cpu[key], official)))
    order = list(dict.fromkeys((era, load) for era, load, _ in groups))
    return sorted(lines, key=lambda line: order.index((line.era, line.load)))


def render(lines: Iterable[Line]) -> str:
    """Return the lines as a table in Markdown."""
    out = ["| revision | load | implementation | CPU µs/call | x floor | x mcp 2.3.0 | calls/s |", "|" + " --- |" * 7]
    for line in lines:
        cells = (line.era, line.load, line.name, f"{line.cpu_us:.1f}", _times(line.to_floor), _times(line.to_official))
        out.append("| " + " | ".join((*cells, f"{line.rate:,.0f}")) + " |")
    return "\n".join(out)


def counted(number: int, noun: str) -> str:
    """Return "1 stream", "2 streams"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _ratio(value: float, reference: float | None) -> float | None:
    return value / reference if reference else None


def _times(ratio: float | None) -> str:
    if ratio is None:
        return "-"
    return f"{ratio:.2f}" if ratio >= 0.2 else f"{ratio:.3f} (1/{1 / ratio:.1f})"
