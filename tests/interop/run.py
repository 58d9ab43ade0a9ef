"""The interoperability grid: `python tests/interop/run.py`.

Our server with the official clients and our client with the official servers, each pair in each era that both speak,
over each transport; every client walks every cell of walk.py. The environments are made on the first run (see
tests/bench/environments.py). Nothing here is collected by pytest; the exit status is 1 when a cell failed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "bench"))

import environments  # noqa: E402

WALK_TIMEOUT = 120.0  # seconds for one client to walk one server
MODERN, LEGACY = "2026-07-28", "2025-11-25"
TAIL = 2000  # characters of a broken driver's stderr that are shown


@dataclass(frozen=True)
class Driver:
    """One program under this folder, and what it needs installed."""

    name: str
    program: str
    requirement: str
    eras: tuple[str, ...] = (MODERN, LEGACY)

    def command(self) -> list[str]:
        """Return the command that starts the program."""
        return [str(environments.python_for(self.requirement)), str(HERE / self.program)]


OUR_SERVER = Driver("mcp_min", "our_server.py", environments.BARE)
OUR_CLIENT = Driver("mcp_min", "our_client.py", environments.BARE)
SERVER_V2 = Driver("mcp 2.3.0", "official_server_v2.py", "mcp==2.3.0")
SERVER_V1 = Driver("mcp 1.30.0", "official_server_v1.py", "mcp==1.30.0", (LEGACY,))
CLIENT_V2 = Driver("mcp 2.3.0", "official_client_v2.py", "mcp==2.3.0")
CLIENT_V1 = Driver("mcp 1.30.0", "official_client_v1.py", "mcp==1.30.0", (LEGACY,))
CLIENT_TS = Driver("TypeScript SDK 1.32.2", "official_client_ts.py", environments.BARE, (LEGACY,))
CLIENTS = (CLIENT_V2, CLIENT_V1, CLIENT_TS)

OURS = [*((client, OUR_SERVER) for client in CLIENTS), (OUR_CLIENT, SERVER_V2), (OUR_CLIENT, SERVER_V1)]
# The same walks without mcp_min: they tell a fault of ours from one of theirs.
BASELINE = [(client, server) for client in CLIENTS for server in (SERVER_V2, SERVER_V1)]
TRANSPORTS = ("stdio", "http", "sse")
READY = ("stdio",)


@dataclass(frozen=True)
class Column:
    """One client with one server over one transport in one era, and how each cell came out."""

    title: str
    cells: dict[str, list[str]]


def walk(client: Driver, server: Driver, transport: str, era: str) -> Column:
    """Run one pair to its end."""
    arguments = ["--transport", transport, "--era", "modern" if era == MODERN else "legacy"]
    with _target(server, transport) as target, tempfile.TemporaryFile() as words:
        try:
            done = subprocess.run(
                [*client.command(), *arguments, "--", *target],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=words,
                env=environments.environment(),
                timeout=WALK_TIMEOUT,
            )
            outcome = _outcome(done.stdout)
        except subprocess.TimeoutExpired:
            outcome = {"revision": era, "cells": {"connect": ["fail", f"no outcome within {WALK_TIMEOUT:.0f} s"]}}
        if "connect" in outcome["cells"]:
            words.seek(0)
            print(words.read().decode(errors="replace")[-TAIL:], file=sys.stderr)
    if outcome["revision"] != era and "connect" not in outcome["cells"]:
        outcome["cells"]["connect"] = ["fail", f"expected {era}, negotiated {outcome['revision']}"]
    return Column(f"{client.name} -> {server.name}, {transport}, {era}", outcome["cells"])


def _outcome(stdout: bytes) -> dict[str, Any]:
    try:
        outcome: dict[str, Any] = json.loads(stdout)
    except ValueError:
        return {"revision": "", "cells": {"connect": ["fail", "the client ended without an outcome"]}}
    return outcome


@contextlib.contextmanager
def _target(server: Driver, transport: str) -> Iterator[list[str]]:
    # Yields what a client is to connect to: on stdio it starts the server itself, otherwise one is started here.
    command = [*server.command(), "--transport", transport]
    if transport == "stdio":
        yield command
        return
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environments.environment(),
    )
    watchdog = threading.Timer(WALK_TIMEOUT + 10, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        yield [process.stdout.readline().decode().strip()]
    finally:
        watchdog.cancel()
        process.kill()
        process.communicate()


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
    parser.add_argument("--transport", action="append", choices=TRANSPORTS, help="only this one; may be repeated")
    parser.add_argument("--only", default="", help="only pairs whose title contains this text")
    options = parser.parse_args()
    columns = []
    for transport in options.transport or READY:
        for client, server in BASELINE if options.baseline else OURS:
            for era in sorted({*client.eras} & {*server.eras}, reverse=True):
                if options.only in f"{client.name} -> {server.name}, {transport}, {era}":
                    columns.append(walk(client, server, transport, era))
    print(render(columns))
    outcomes = [outcome for column in columns for outcome, _ in column.cells.values()]
    print(f"{outcomes.count('pass')} passed, {outcomes.count('fail')} failed, {outcomes.count('n.a.')} not applicable")
    return 1 if "fail" in outcomes or not outcomes else 0


if __name__ == "__main__":
    raise SystemExit(main())
