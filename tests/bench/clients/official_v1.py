"""The official client, mcp 1.30.0."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import driving
from mcp import ClientSession, StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client


@contextlib.asynccontextmanager
async def connect(target: list[str]) -> AsyncIterator[driving.Add]:
    """Open a session."""
    http = target[0].startswith("http")
    streams: Any = (
        streamable_http_client(target[0])
        if http
        else stdio_client(StdioServerParameters(command=target[0], args=target[1:]))
    )
    async with streams as opened, ClientSession(opened[0], opened[1]) as session:
        await session.initialize()

        async def add(a: int, b: int) -> str:
            result: Any = await session.call_tool("add", {"a": a, "b": b})
            return str(result.content[0].text)

        yield add


if __name__ == "__main__":
    driving.main(connect)
