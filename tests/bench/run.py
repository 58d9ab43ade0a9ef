"""The benchmark: `python tests/bench/run.py [stdio] [startup]`, everything when nothing is named.

It makes an environment for each implementation (see environments.py), runs them in turn, round after round, so that
whatever else the machine does falls on all alike, and prints medians. Nothing here is collected by pytest.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import Any

import limits
import startup
import stdio_load
from tables import Sample, render, summarise


def run_stdio(options: argparse.Namespace) -> dict[str, Any]:
    """Measure stdio, print the table and return it as data."""
    chosen = [row for row in stdio_load.rows() if _wanted(f"{row.era} {row.name}", options.only)]
    samples: list[Sample] = []
    for number in range(options.rounds):
        for row in chosen:
            _say(f"stdio, round {number + 1} of {options.rounds}: {row.era} {row.name}")
            samples += stdio_load.measure(row, options.calls)
    lines = summarise(samples)
    verdicts = limits.check(lines)
    if not options.json:
        print(render(lines), *(f"{'kept  ' if kept else 'MISSED'} {text}" for kept, text in verdicts), sep="\n")
    return {"lines": [asdict(line) for line in lines], "kept": all(kept for kept, _ in verdicts)}


def run_startup(options: argparse.Namespace) -> dict[str, Any]:
    """Measure the start, print the table and return it as data."""
    _say("startup")
    pairs = startup.measure(options.rounds * STARTUP_PAIRS)
    if not options.json:
        print(startup.render(pairs))
    return {"pairs": [asdict(pair) for pair in pairs], "kept": all(pair.ratio <= pair.limit for pair in pairs)}


MODES = {"stdio": run_stdio, "startup": run_startup}
STARTUP_PAIRS = 3  # pairs to a round: a start is short and scatters more


def main() -> int:
    """Run the modes named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modes", nargs="*", metavar="MODE", help=f"of {', '.join(MODES)}; default: all")
    parser.add_argument("--rounds", type=int, default=7, help="rounds, of which the median counts (%(default)s)")
    parser.add_argument("--calls", type=int, default=2000, help="calls per round and load (%(default)s)")
    parser.add_argument("--only", action="append", help="only rows that contain this text; may be repeated")
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


def _wanted(name: str, only: list[str] | None) -> bool:
    return not only or any(text in name for text in only)


def _say(text: str) -> None:
    if sys.stderr.isatty():
        print(text, file=sys.stderr)


if __name__ == "__main__":
    raise SystemExit(main())
