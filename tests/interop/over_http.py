"""The official Python servers, 2.3.0 and 1.30.0, over Streamable HTTP or HTTP+SSE, under uvicorn."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from mcp.server.sse import SseServerTransport
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route


class Endpoint:
    """An ASGI application for one path; Starlette takes a function for a handler of its own kind."""

    def __init__(self, manager: StreamableHTTPSessionManager) -> None:
        self.manager = manager

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.manager.handle_request(scope, receive, send)


def streamable_http(server: Any) -> Starlette:
    """Return an application that serves `/mcp`."""
    manager = StreamableHTTPSessionManager(app=server)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with manager.run():
            yield

    return Starlette(routes=[Route("/mcp", endpoint=Endpoint(manager))], lifespan=lifespan)


def http_with_sse(server: Any) -> Starlette:
    """Return an application that serves `/sse` and `/messages/`."""
    sse = SseServerTransport("/messages/")

    async def stream(request: Request) -> Response:
        async with sse.connect_sse(request.scope, request.receive, request._send) as streams:
            await server.run(streams[0], streams[1], server.create_initialization_options())
        return Response()

    return Starlette(routes=[Route("/sse", endpoint=stream), Mount("/messages/", app=sse.handle_post_message)])


def serve(server: Any, transport: str) -> None:
    """Serve until killed; the URL is the first line."""
    # With the protocol named, asyncio switches Nagle's algorithm off, as it does for a port that uvicorn opens itself.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    path = "mcp" if transport == "http" else "sse"
    print(f"http://127.0.0.1:{listener.getsockname()[1]}/{path}", flush=True)
    app = streamable_http(server) if transport == "http" else http_with_sse(server)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])
