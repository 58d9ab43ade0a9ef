"""The benchmark: `python tests/bench/run.py [MODE ...]`, everything when no mode is named.

    stdio     CPU per call and calls per second, one call in flight and 64
    startup   the import, and a child from its start to its first answer
    http      the same at 1, 16 and 64 kept-alive connections
    bodies    the same with a request of 1 MiB and of 16 MiB
    sse       the same for round trips over HTTP+SSE, on 1 and 16 streams
    client    the CPU of a client per call, on stdio and over HTTP, against a server written by hand
    memory    what a session and an idle event stream weigh

It makes an environment for each implementation (see environments.py), runs them in turn, round after round, so that
whatever else the machine does falls on all alike, and prints medians. CPU per call is the server's own, from the
kernel's clock of its process; calls per second are bounded by the load generator too, which shares the machine.
Nothing here is collected by pytest.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import client_load
import http_load
import limits
import memory_load
import rows
import sse_load
import startup
import stdio_load
from rows import Row
from tables import Sample, render, summarise

STARTUP_PAIRS = 3  # pairs to a round: a start is short and scatters more


def run_calls(mode: str, table: list[Row], options: argparse.Namespace, measure: Callable[[Row], list[Sample]]) -> Any:
    """Measure one kind of call in every row, print the table and return it as data."""
    lines = summarise(_rounds(mode, table, options, measure))
    verdicts = limits.check(lines)
    if not options.json:
        print(render(lines), *(f"{'kept  ' if kept else 'MISSED'} {text}" for kept, text in verdicts), "", sep="\n")
    return {"lines": [asdict(line) for line in lines], "kept": all(kept for kept, _ in verdicts)}


def run_startup(options: argparse.Namespace) -> Any:
    """Measure the start, print the table and return it as data."""
    _say("startup")
    pairs = startup.measure(options.rounds * STARTUP_PAIRS)
    if not options.json:
        print(startup.render(pairs), "", sep="\n")
    return {"pairs": [asdict(pair) for pair in pairs], "kept": all(pair.ratio <= pair.limit for pair in pairs)}


def run_memory(options: argparse.Namespace) -> Any:
    """Weigh sessions and idle streams, print the table and return it as data."""
    weights = memory_load.summarise(_rounds("memory", rows.MEMORY, options, memory_load.measure))
    verdicts = limits.check_weights(weights)
    if not options.json:
        print(
            memory_load.render(weights),
            *(f"{'kept  ' if kept else 'MISSED'} {text}" for kept, text in verdicts),
            sep="\n",
        )
    return {"weights": [asdict(weight) for weight in weights], "kept": all(kept for kept, _ in verdicts)}


MODES: dict[str, Callable[[argparse.Namespace], Any]] = {
    "stdio": lambda options: run_calls(
        "stdio", rows.STDIO, options, lambda row: stdio_load.measure(row, options.calls)
    ),
    "startup": run_startup,
    "http": lambda options: run_calls(
        "http", rows.HTTP, options, lambda row: http_load.measure_calls(row, options.calls)
    ),
    "bodies": lambda options: run_calls("bodies", rows.HTTP, options, http_load.measure_bodies),
    "sse": lambda options: run_calls("sse", rows.SSE, options, lambda row: sse_load.measure(row, options.calls)),
    "memory": run_memory,
    "client": lambda options: run_calls(
        "client", rows.CLIENTS, options, lambda row: client_load.measure(row, options.calls)
    ),
}


def main() -> int:
    """Run the modes named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modes", nargs="*", metavar="MODE", help=f"of {', '.join(MODES)}; default: all")
    parser.add_argument("--rounds", type=int, default=7, help="rounds, of which the median counts (%(default)s)")
    parser.add_argument("--calls", type=int, default=2000, help="calls per round and load (%(default)s)")
    parser.add_argument(
        "--only", action="append", help="only rows whose revision and name contain this text; repeatable"
    )
    parser.add_argument("--json", action="store_true", help="print the medians as JSON")
    parser.add_argument("--check", action="store_true", help="exit 1 when a promised limit was missed")
    options = parser.parse_args()
    unknown = set(options.modes) - set(MODES)
    if unknown:
        parser.error(f"no such mode: {', '.join(sorted(unknown))}")
    results = {mode: MODES[mode](options) for mode in options.modes or MODES}
    if options.json:
        print(json.dumps(results, indent=2))
    return 1 if options.check and not all(result["kept"] for result in results.values()) else 0


def _rounds(mode: str, table: list[Row], options: argparse.Namespace, measure: Callable[[Row], list[Any]]) -> list[Any]:
    chosen = [row for row in table if not options.only or any(text in f"{row.era} {row.name}" for text in options.only)]
    measured = []
    for number in range(options.rounds):
        for row in chosen:
            _say(f"{mode}, round {number + 1} of {options.rounds}: {row.era} {row.name}")
            measured += measure(row)
    return measured


def _say(text: str) -> None:
    if sys.stderr.isatty():
        print(text, file=sys.stderr)


if __name__ == "__main__":
    raise SystemExit(main())
