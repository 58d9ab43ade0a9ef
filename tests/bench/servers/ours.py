"""mcp_min, with the handler as `async def` or as `def` (which runs in a thread)."""

from __future__ import annotations

import sys

from mcp_min import Server

server = Server("bench", version="1")

if sys.argv[3:] == ["def"]:

    @server.tool
    def add(a: int, b: int) -> int:
        """Add two integers."""
        return a + b

else:

    @server.tool(name="add")
    async def add_on_the_loop(a: int, b: int) -> int:
        """Add two integers."""
        return a + b


@server.tool
async def length(text: str) -> int:
    """Count the characters of a text."""
    return len(text)


if __name__ == "__main__":
    server.run("stdio")
