"""The official SDK, mcp 2.3.0, at its lowest level: `mcp.server.lowlevel.Server` with handlers by hand."""

from __future__ import annotations

import asyncio
from typing import Any

import mcp_types as types
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

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


server: Server[Any] = Server("bench", version="1", on_list_tools=list_tools, on_call_tool=call_tool)


async def serve_stdio() -> None:
    """Answer lines until stdin ends."""
    async with stdio_server() as (read_stream, write_stream):
        await server.run(read_stream, write_stream, server.create_initialization_options())


if __name__ == "__main__":
    asyncio.run(serve_stdio())
