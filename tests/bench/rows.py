"""The lines of the tables: which implementation runs where, and how it is started."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import environments
import wire
from children import Child

SERVERS = Path(__file__).parent / "servers"
V2, V1, ZERO = "mcp==2.3.0", "mcp==1.30.0", "zeromcp==1.10.3"
DEFAULT = "mcp 2.3.0, its default"


@dataclass(frozen=True)
class Row:
    """One implementation in one era."""

    name: str
    requirement: str
    program: str
    era: str
    arguments: tuple[str, ...] = ()

    def command(self, transport: str) -> list[str]:
        """Return the command that starts the server."""
        python = str(environments.python_for(self.requirement))
        return [python, str(SERVERS / self.program), transport, self.era, *self.arguments]

    def start(self, transport: str) -> Child:
        """Return the server as a child process, to be used as a context manager."""
        return Child(self.command(transport))


def _both_eras(*rows: Row) -> list[Row]:
    return [*rows, *(Row(row.name, row.requirement, row.program, wire.MODERN, row.arguments) for row in rows)]


STDIO = [
    *_both_eras(
        Row("floor", environments.BARE, "floor.py", wire.LEGACY),
        Row("mcp_min, async def", environments.BARE, "ours.py", wire.LEGACY),
        Row("mcp_min, def", environments.BARE, "ours.py", wire.LEGACY, ("def",)),
        Row("mcp 2.3.0", V2, "official_v2.py", wire.LEGACY),
    ),
    Row("mcp 1.30.0", V1, "official_v1.py", wire.LEGACY),
    Row("zeromcp 1.10.3, def", ZERO, "zero.py", wire.LEGACY),
    Row("zeromcp 1.10.3, async def", ZERO, "zero.py", wire.LEGACY, ("async",)),
]

# The official SDK answers with plain JSON where it is told to, as mcp_min does; its default is an event stream.
HTTP = [
    *_both_eras(
        Row("floor", environments.BARE, "floor_http.py", wire.LEGACY),
        Row("mcp_min, async def", environments.BARE, "ours.py", wire.LEGACY),
        Row("mcp 2.3.0", V2, "official_v2.py", wire.LEGACY, ("json",)),
        Row(DEFAULT, V2, "official_v2.py", wire.LEGACY),
    ),
    Row("zeromcp 1.10.3, def", ZERO, "zero.py", wire.LEGACY),
]

SSE = [
    Row("floor", environments.BARE, "floor_http.py", wire.OLDEST),
    Row("mcp_min, async def", environments.BARE, "ours.py", wire.OLDEST),
    Row("mcp 2.3.0", V2, "official_v2.py", wire.OLDEST),
    Row("zeromcp 1.10.3, def", ZERO, "zero.py", wire.OLDEST),
]

CLIENTS = [
    *_both_eras(
        Row("floor", environments.BARE, "floor.py", wire.LEGACY),
        Row("mcp_min, async def", environments.BARE, "ours.py", wire.LEGACY),
        Row("mcp 2.3.0", V2, "official_v2.py", wire.LEGACY),
    ),
    Row("mcp 1.30.0", V1, "official_v1.py", wire.LEGACY),
]

# An idle stream is the same in either of the official SDK's modes, and zeromcp has none but that of HTTP+SSE.
MEMORY = [row for row in HTTP if row.requirement != ZERO and row.name != DEFAULT] + SSE
