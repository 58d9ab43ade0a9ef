"""CPU per call of a client, one call in flight and 16, on stdio and over HTTP, against the hand-written floor server.

The client measures itself (see clients/driving.py): its process time holds neither the server's nor the start's.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import environments
from rows import Row
from tables import Sample

CLIENTS = Path(__file__).parent / "clients"
TIMEOUT = 180.0  # seconds for one client


def measure(row: Row, calls: int) -> list[Sample]:
    """Run one round of one client and return a sample for each transport and number of calls in flight."""
    samples = _samples(row, calls, "stdio", Row("floor", environments.BARE, "floor.py", row.era).command("stdio"))
    with Row("floor", environments.BARE, "floor_http.py", row.era).start("http") as child:
        return samples + _samples(row, calls, "HTTP", [f"http://127.0.0.1:{child.port}/mcp"])


def _samples(row: Row, calls: int, transport: str, target: list[str]) -> list[Sample]:
    python = str(environments.python_for(row.requirement))
    done = subprocess.run(
        [python, str(CLIENTS / row.program), str(calls), row.era, *target],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=environments.environment(),
        timeout=TIMEOUT,
        check=True,
    )
    return [
        Sample(
            row.era,
            row.name,
            f"{transport}, {depth} in flight",
            spent["cpu_ns"] / calls / 1e3,
            calls / spent["wall_ns"] * 1e9,
        )
        for depth, spent in json.loads(done.stdout).items()
    ]
