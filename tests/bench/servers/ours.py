"""mcp_min, with the handler as `async def` or as `def` (which runs in a thread)."""

from __future__ import annotations

import asyncio
import sys

from mcp_min import Server

MAX_BODY = 32 * 2**20  # bytes

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


async def serve_over_http() -> None:
    """Serve HTTP until killed; the URL is the first line."""
    from mcp_min import serve_http

    async with serve_http(server, host="127.0.0.1", port=0, max_body=MAX_BODY) as http:
        print(http.url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    if sys.argv[1] == "http":
        asyncio.run(serve_over_http())
    else:
        server.run("stdio")
