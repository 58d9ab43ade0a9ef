"""The official SDK, mcp 1.30.0, at its lowest level: `mcp.server.lowlevel.Server` with its decorators."""

from __future__ import annotations

import asyncio
from typing import Any

import mcp.types as types
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

NUMBER = {"type": "object", "properties": {"result": {"type": "integer"}}, "required": ["result"]}


def schema(**properties: str) -> dict[str, Any]:
    """Return the schema of an object whose members are all required."""
    members = {name: {"type": kind} for name, kind in properties.items()}
    return {"type": "object", "properties": members, "required": list(members)}


server: Server[Any, Any] = Server("bench", version="1")


@server.list_tools()
async def list_tools() -> list[types.Tool]:
    """Answer `tools/list`."""
    return [
        types.Tool(name="add", description="Add.", inputSchema=schema(a="integer", b="integer"), outputSchema=NUMBER),
        types.Tool(name="length", description="Count.", inputSchema=schema(text="string"), outputSchema=NUMBER),
    ]


@server.call_tool()
async def call_tool(name: str, arguments: dict[str, Any]) -> tuple[list[types.TextContent], dict[str, Any]]:
    """Answer `tools/call`."""
    total = arguments["a"] + arguments["b"] if name == "add" else len(arguments["text"])
    return [types.TextContent(type="text", text=str(total))], {"result": total}


async def serve_stdio() -> None:
    """Answer lines until stdin ends."""
    async with stdio_server() as (read_stream, write_stream):
        await server.run(read_stream, write_stream, server.create_initialization_options())


if __name__ == "__main__":
    asyncio.run(serve_stdio())
