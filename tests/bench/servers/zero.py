"""zeromcp 1.10.3, as its README shows it (`def`, one request at a time) or with its asyncio loop (`async`)."""

from __future__ import annotations

import asyncio
import sys

from zeromcp import McpServer

server = McpServer("bench", version="1")

if sys.argv[3:] == ["async"]:

    @server.tool
    async def add(a: int, b: int) -> int:
        """Add two integers."""
        return a + b

else:

    @server.tool
    def add(a: int, b: int) -> int:
        """Add two integers."""
        return a + b


@server.tool
def length(text: str) -> int:
    """Count the characters of a text."""
    return len(text)


if __name__ == "__main__":
    if sys.argv[3:] == ["async"]:
        asyncio.run(server.stdio_async())
    else:
        server.stdio()
