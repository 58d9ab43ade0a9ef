"""The official client, mcp 2.3.0."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import driving
from mcp import Client, StdioServerParameters


@contextlib.asynccontextmanager
async def connect(target: list[str]) -> AsyncIterator[driving.Add]:
    """Open a client at the revision asked for."""
    http = target[0].startswith("http")
    server: Any = target[0] if http else StdioServerParameters(command=target[0], args=target[1:])
    async with Client(server, mode=driving.MODERN if driving.ERA == driving.MODERN else "legacy") as client:

        async def add(a: int, b: int) -> str:
            result: Any = await client.call_tool("add", {"a": a, "b": b})
            return str(result.content[0].text)

        yield add


if __name__ == "__main__":
    driving.main(connect)
