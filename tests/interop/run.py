"""The interoperability grid: `python tests/interop/run.py`.

Our server with the official clients and our client with the official servers, each pair in each era that both speak,
over each transport; every client walks every cell of walk.py. The environments are made on the first run (see
tests/bench/environments.py). Nothing here is collected by pytest; the exit status is 1 when a cell failed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import Any

from drivers import BASELINE, LEGACY, MODERN, OURS, Driver, child_variables

WALK_TIMEOUT = 120.0  # seconds for one client to walk one server
TAIL = 2000  # characters of a broken driver's stderr that are shown
# HTTP+SSE belongs to the oldest revision, and nothing says how a modern message would travel on it.
ERAS = {"stdio": {MODERN, LEGACY}, "http": {MODERN, LEGACY}, "sse": {LEGACY}}


@dataclass(frozen=True)
class Column:
    """One client with one server over one transport in one era, and how each cell came out."""

    title: str
    cells: dict[str, list[str]]


def walk(client: Driver, server: Driver, transport: str, era: str) -> Column:
    """Run one pair to its end."""
    arguments = ["--transport", transport, "--era", "modern" if era == MODERN else "legacy", "--cells", server.cells]
    with server.serve(transport) as target, tempfile.TemporaryFile() as words:
        try:
            done = subprocess.run(
                [*client.command(), *arguments, "--", *target],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=words,
                env=child_variables(),
                timeout=WALK_TIMEOUT,
            )
            outcome = _outcome(done.stdout)
        except subprocess.TimeoutExpired:
            outcome = {"revision": "", "cells": {"connect": ["fail", f"no outcome within {WALK_TIMEOUT:.0f} s"]}}
        if "connect" in outcome["cells"]:
            words.seek(0)
            print(words.read().decode(errors="replace")[-TAIL:], file=sys.stderr)
    if outcome["revision"] != era and "connect" not in outcome["cells"]:
        outcome["cells"]["connect"] = ["fail", f"expected {era}, negotiated {outcome['revision']}"]
    return Column(_title(client, server, transport, era), outcome["cells"])


def _title(client: Driver, server: Driver, transport: str, era: str) -> str:
    return f"{client.name} -> {server.name}, {transport}, {era}"


def _outcome(stdout: bytes) -> dict[str, Any]:
    try:
        outcome: dict[str, Any] = json.loads(stdout)
    except ValueError:
        return {"revision": "", "cells": {"connect": ["fail", "the client ended without an outcome"]}}
    return outcome


def render(columns: list[Column]) -> str:
    """Return the grid as a table in Markdown, and a line for each cell that did not pass."""
    names = list(dict.fromkeys(cell for column in columns for cell in column.cells))
    lines = ["| | " + " | ".join(str(number + 1) for number in range(len(columns))) + " |"]
    lines.append("|" + " --- |" * (len(columns) + 1))
    for name in names:
        outcomes = (column.cells.get(name, [""])[0] for column in columns)
        lines.append(f"| {name} | " + " | ".join(outcomes) + " |")
    lines += [f"{number + 1}: client -> server = {column.title}" for number, column in enumerate(columns)]
    for number, column in enumerate(columns):
        for name, (outcome, why) in column.cells.items():
            if outcome != "pass":
                lines.append(f"{outcome}: {number + 1} {name}: {why}")
    return "\n".join(lines)


def main() -> int:
    """Walk the grid and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--baseline", action="store_true", help="official clients with official servers instead")
    parser.add_argument("--transport", action="append", choices=tuple(ERAS), help="only this one; may be repeated")
    parser.add_argument("--only", default="", help="only pairs whose title contains this text")
    options = parser.parse_args()
    columns = [walk(*pair) for pair in _pairs(BASELINE if options.baseline else OURS, options)]
    print(render(columns))
    outcomes = [outcome for column in columns for outcome, _ in column.cells.values()]
    print(f"{outcomes.count('pass')} passed, {outcomes.count('fail')} failed, {outcomes.count('n.a.')} not applicable")
    return 1 if "fail" in outcomes or not outcomes else 0


def _pairs(grid: list[tuple[Driver, Driver]], options: argparse.Namespace) -> list[tuple[Driver, Driver, str, str]]:
    pairs = []
    for transport in options.transport or ERAS:
        for client, server in grid:
            if not (client.runnable() and server.runnable()):
                print(f"left out: {client.name} -> {server.name}: no Node here")
                continue
            for era in sorted({*client.eras} & {*server.eras} & ERAS[transport], reverse=True):
                if options.only in _title(client, server, transport, era):
                    pairs.append((client, server, transport, era))
    return pairs


if __name__ == "__main__":
    raise SystemExit(main())
