"""The official SDK, mcp 2.3.0, at its lowest level: `mcp.server.lowlevel.Server` with handlers by hand."""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Any

import mcp_types as types
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler

MAX_BODY = 32 * 2**20  # bytes
NUMBER = {"type": "object", "properties": {"result": {"type": "integer"}}, "required": ["result"]}


def schema(**properties: str) -> dict[str, Any]:
    """Return the schema of an object whose members are all required."""
    members = {name: {"type": kind} for name, kind in properties.items()}
    return {"type": "object", "properties": members, "required": list(members)}


TOOLS = [
    types.Tool(name="add", description="Add.", input_schema=schema(a="integer", b="integer"), output_schema=NUMBER),
    types.Tool(name="length", description="Count.", input_schema=schema(text="string"), output_schema=NUMBER),
]


async def list_tools(ctx: Any, params: Any) -> types.ListToolsResult:
    """Answer `tools/list`."""
    return types.ListToolsResult(tools=TOOLS)


async def call_tool(ctx: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
    """Answer `tools/call`."""
    arguments = params.arguments or {}
    total = arguments["a"] + arguments["b"] if params.name == "add" else len(arguments["text"])
    return types.CallToolResult(
        content=[types.TextContent(type="text", text=str(total))], structured_content={"result": total}
    )


server: Server[Any] = Server(
    "bench",
    version="1",
    on_list_tools=list_tools,
    on_call_tool=call_tool,
    on_subscriptions_listen=ListenHandler(InMemorySubscriptionBus()),
)


async def serve_stdio() -> None:
    """Answer lines until stdin ends."""
    async with stdio_server() as (read_stream, write_stream):
        await server.run(read_stream, write_stream, server.create_initialization_options())


def serve_http(json_response: bool) -> None:
    """Serve Streamable HTTP and HTTP+SSE by uvicorn until killed; the URL is the first line."""
    import uvicorn
    from mcp.server.sse import SseServerTransport
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Mount, Route

    sse = SseServerTransport("/messages/")

    async def stream(request: Request) -> Response:
        async with sse.connect_sse(request.scope, request.receive, request._send) as streams:
            await server.run(streams[0], streams[1], server.create_initialization_options())
        return Response()

    routes: list[Any] = [Route("/sse", endpoint=stream), Mount("/messages/", app=sse.handle_post_message)]
    app = server.streamable_http_app(
        json_response=json_response, max_request_body_size=MAX_BODY, custom_starlette_routes=routes
    )
    # With the protocol named, asyncio switches Nagle's algorithm off, as it does for a port that uvicorn opens itself.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(1024)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}/mcp", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_keep_alive=75)).run(sockets=[listener])


if __name__ == "__main__":
    if sys.argv[1] == "http":
        serve_http(json_response=sys.argv[3:] == ["json"])
    else:
        asyncio.run(serve_stdio())
