"""The client of mcp_min."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import driving

from mcp_min import Client


@contextlib.asynccontextmanager
async def connect(target: list[str]) -> AsyncIterator[driving.Add]:
    """Open a client at the revision asked for."""
    async with Client(target[0] if target[0].startswith("http") else target, protocol_version=driving.ERA) as client:

        async def add(a: int, b: int) -> str:
            result = await client.call_tool("add", {"a": a, "b": b})
            text: str = result["content"][0]["text"]
            return text

        yield add


if __name__ == "__main__":
    driving.main(connect)
