"""The floor: an asyncio loop written by hand that answers the messages of the benchmark and does nothing else.

No validation, no dispatch, no tasks, no errors. What an implementation costs beyond this is what it adds.
The second argument is the revision whose result it answers with, since a floor does not look.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

OPENED = {
    "protocolVersion": "2025-11-25",
    "capabilities": {"tools": {}},
    "serverInfo": {"name": "floor", "version": "1"},
}
# A client that is measured against the floor may ask for the list before its first call.
FIXED: dict[str, dict[str, Any]] = {
    "initialize": OPENED,
    "tools/list": {
        "tools": [{"name": "add", "inputSchema": {"type": "object"}}],
        "ttlMs": 60_000,
        "cacheScope": "public",
    },
}
MODERN_PARTS = {
    "resultType": "complete",
    "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "floor", "version": "1"}},
}


def answer(line: bytes, extra: dict[str, Any]) -> bytes | None:
    """Return the answer to one message, None for a notification."""
    message = json.loads(line)
    if "id" not in message:
        return None
    if message["method"] in FIXED:
        result = FIXED[message["method"]] | extra
    else:
        arguments = message["params"]["arguments"]
        total = len(arguments["text"]) if "text" in arguments else arguments["a"] + arguments["b"]
        result = {"content": [{"type": "text", "text": str(total)}], "structuredContent": {"result": total}, **extra}
    return json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}).encode()


async def serve_stdio(extra: dict[str, Any]) -> None:
    """Answer lines until stdin ends."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    writer, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, sys.stdout)
    while line := await reader.readline():
        reply = answer(line, extra)
        if reply is not None:
            writer.write(reply + b"\n")


if __name__ == "__main__":
    asyncio.run(serve_stdio(MODERN_PARTS if sys.argv[2] == "2026-07-28" else {}))
