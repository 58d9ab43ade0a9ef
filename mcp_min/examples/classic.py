"""The HTTP endpoint under the standard library's own `ThreadingHTTPServer`, for those who want nothing else.

    python -m mcp_min.examples.classic [PORT]          serves what examples/files.py serves

`Endpoint` turns a request into a response and knows no sockets, so that any HTTP server can stand
around it. Here the stock handler is the request: it has a method, a path and headers, it can read a
body, and it can write a stream. Each request has a thread and an event loop of its own.

That is less than `serve_http` gives, and good for loopback. The stock parser takes much that it should
refuse, a client that hangs up is noticed when it is next written to, an idle stream holds its
thread, and there are no sessions, so that legacy clients are served without a memory.

Spec: 2026-07-28 basic/transports/streamable-http.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ..guards import Guards, Refused
from ..server import Server
from ..streamable_http import Endpoint

MAX_BODY = 4 * 2**20  # bytes


class Handler(BaseHTTPRequestHandler):
    """One request; the stock protocol version, HTTP/1.0, ends every response with its connection."""

    endpoint: Endpoint
    headers: dict[str, str]  # type: ignore[assignment]  # a plain dict where the stock one is an email.message
    timeout = 30  # seconds that a read or a write may take
    principal: Any = None
    on_hangup: Callable[[], object] | None = None  # not called: nobody watches the connection while the handler works
    hung_up = False

    def do_POST(self) -> None:
        self.method, self.peer = self.command, self.client_address[0]
        self.path, _, self.query = self.path.partition("?")
        self.headers = {name.lower(): value for name, value in self.headers.items()}
        response = asyncio.run(self.endpoint(self))
        if response is not None:
            self.stream(response.status, {**response.headers, "Content-Length": str(len(response.body))})
            self.wfile.write(response.body)

    do_GET = do_DELETE = do_OPTIONS = do_POST

    async def body(self) -> bytes:
        length = self.headers.get("content-length", "0")
        if not length.isdecimal() or len(length) > 9 or int(length) > MAX_BODY:
            raise Refused(413, f"a body has a Content-Length of at most {MAX_BODY}")
        return self.rfile.read(int(length))

    def stream(self, status: int, headers: Mapping[str, str], *, keep_alive: bytes = b"") -> Handler:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        return self

    async def write(self, data: bytes) -> None:
        self.wfile.write(data)

    def close(self, data: bytes) -> None:
        raise NotImplementedError("only a session ends a stream before its answer")


def classic(server: Server, port: int = 8000) -> ThreadingHTTPServer:
    """Listen on loopback; `serve_forever` answers. Raises OSError."""
    guards = Guards()
    handler = type("Handler", (Handler,), {"endpoint": Endpoint(server.dispatch, guards)})
    http = ThreadingHTTPServer(("127.0.0.1", port), handler)
    guards.bind("127.0.0.1", http.server_port)
    return http


if __name__ == "__main__":
    from .files import server

    http = classic(server, *map(int, sys.argv[1:]))
    print(f"listening on http://127.0.0.1:{http.server_port}/mcp", file=sys.stderr)
    http.serve_forever()
