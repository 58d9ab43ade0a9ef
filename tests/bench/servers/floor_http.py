"""The floor over HTTP: asyncio streams by hand, keep-alive, event streams, and nothing that is not asked for.

It trusts its client: no check of a header, no limit, no error. What it does have to do for an answer is what a server
cannot leave out: find the end of the head, read the length, read the body, write a head and a body.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from typing import Any

from floor import MODERN_PARTS, OPENED, answer

ERA = sys.argv[2]
EXTRA: dict[str, Any] = MODERN_PARTS if ERA == "2026-07-28" else {}
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n\r\n"
ACCEPTED = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
ENDED = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
MAX_HEAD = 2**16  # bytes
streams: dict[int, asyncio.StreamWriter] = {}  # what /sse opened, by session id


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the requests of one connection until it ends."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"GET"):
                await keep_open(head, reader, writer)
                return
            if head.startswith(b"DELETE"):
                writer.write(ENDED)
                continue
            length = LENGTH.search(head)
            body = await reader.readexactly(int(length[1])) if length else b""
            if b"subscriptions/listen" in head:
                writer.write(STREAM + b"data: " + acknowledgement(body) + b"\n\n")
                await reader.read()
                return
            reply = answer(body, EXTRA)
            if head.startswith(b"POST /messages"):
                post_to_stream(head, reply, writer)
            elif reply is None:
                writer.write(ACCEPTED)
            else:
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nMcp-Session-Id: floor\r\n"
                    b"Content-Length: %d\r\n\r\n%b" % (len(reply), reply)
                )
    except (asyncio.IncompleteReadError, ConnectionError):
        pass  # the client hung up
    finally:
        writer.close()


async def keep_open(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Hold an event stream until the client hangs up."""
    writer.write(STREAM + b":\n\n")
    if head.startswith(b"GET /sse"):
        session = len(streams)
        streams[session] = writer
        writer.write(b"event: endpoint\ndata: /messages?session_id=%d\n\n" % session)
    await reader.read()


def post_to_stream(head: bytes, reply: bytes | None, writer: asyncio.StreamWriter) -> None:
    """Accept a message and send its answer on the stream that it belongs to."""
    writer.write(ACCEPTED)
    if reply is not None:
        session = int(head.partition(b"session_id=")[2].partition(b" ")[0])
        streams[session].write(b"event: message\ndata: %b\n\n" % reply)


def acknowledgement(body: bytes) -> bytes:
    """Return the first message on a listen stream."""
    message = json.loads(body)
    params = {
        "notifications": message["params"]["notifications"],
        "_meta": {"io.modelcontextprotocol/subscriptionId": message["id"]},
    }
    method = "notifications/subscriptions/acknowledged"
    return json.dumps({"jsonrpc": "2.0", "method": method, "params": params}).encode()


async def main() -> None:
    """Serve until killed; the URL is the first line."""
    OPENED["protocolVersion"] = ERA
    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=MAX_HEAD)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
