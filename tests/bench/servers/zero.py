"""zeromcp 1.10.3, as its README shows it (`def`, one request at a time) or with its asyncio loop (`async`)."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading

from zeromcp import McpServer

MAX_BODY = 32 * 2**20  # bytes

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


def serve_http() -> None:
    """Serve in a thread per connection until killed; the URL is the first line."""
    server.post_body_limit = MAX_BODY
    with contextlib.redirect_stdout(sys.stderr):
        server.serve("127.0.0.1", 0)
    print(f"http://127.0.0.1:{server._http_server.server_address[1]}/mcp", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    if sys.argv[1] == "http":
        serve_http()
    elif sys.argv[3:] == ["async"]:
        asyncio.run(server.stdio_async())
    else:
        server.stdio()
