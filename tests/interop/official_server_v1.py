"""The official server, mcp 1.30.0 at its lowest level: what the walk asks for, up to 2025-11-25."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import fixture
import mcp.types as types
import over_http
from arguments import server_transport
from fixture import Json
from mcp import McpError
from mcp.server.lowlevel import Server
from mcp.server.lowlevel.helper_types import ReadResourceContents
from mcp.server.stdio import stdio_server
from pydantic import AnyUrl

server: Server[Any, Any] = Server("official", version="1.30.0")
state = {"level": "debug"}
cancelled = asyncio.Event()


async def add(session: Any, arguments: Json) -> Json:
    return fixture.text(str(arguments["a"] + arguments["b"]))


async def weather(session: Any, arguments: Json) -> Json:
    found = {"city": arguments["city"], "celsius": 21}
    return fixture.text(str(found)) | {"structuredContent": found}


async def fail(session: Any, arguments: Json) -> Json:
    return fixture.text("it broke") | {"isError": True}


async def count(session: Any, arguments: Json) -> Json:
    token = server.request_context.meta.progressToken
    total = arguments["n"]
    for step in range(1, total + 1):
        await session.send_progress_notification(token, step, total, f"step {step}", request_id())
    await asyncio.sleep(fixture.PAUSE)
    return fixture.text(f"counted to {total}")


async def chatty(session: Any, arguments: Json) -> Json:
    if state["level"] == "debug":
        await session.send_log_message("debug", "not heard", related_request_id=request_id())
    await session.send_log_message("info", "heard", related_request_id=request_id())
    return fixture.text("said")


async def hang(session: Any, arguments: Json) -> Json:
    await session.send_progress_notification(server.request_context.meta.progressToken, 0, None, None, request_id())
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        cancelled.set()
        raise
    raise AssertionError("nothing sets the event")


async def was_cancelled(session: Any, arguments: Json) -> Json:
    await cancelled.wait()
    return fixture.text("yes")


async def ask_name(session: Any, arguments: Json) -> Json:
    answer = await session.elicit("Your name?", fixture.ASK_NAME, request_id())
    accepted = answer.action == "accept"
    return fixture.text(f"Hello, {answer.content['name']}" if accepted else f"no name: {answer.action}")


async def ask_model(session: Any, arguments: Json) -> Json:
    messages = [types.SamplingMessage.model_validate(message) for message in fixture.MESSAGES]
    answer = await session.create_message(messages, max_tokens=100, related_request_id=request_id())
    return fixture.text(f"the model says {answer.content.text}")


async def ask_roots(session: Any, arguments: Json) -> Json:
    return fixture.text(" ".join(str(root.uri) for root in (await session.list_roots()).roots))


async def touch(session: Any, arguments: Json) -> Json:
    await session.send_resource_updated(AnyUrl(fixture.FIXED))
    return fixture.text("touched")


TOOLS: dict[str, Callable[[Any, Json], Awaitable[Json]]] = {
    tool.__name__: tool
    for tool in (add, weather, fail, count, chatty, hang, was_cancelled, ask_name, ask_model, ask_roots, touch)
}


def request_id() -> Any:
    """Return the id of the request being handled, which routes what is sent meanwhile."""
    return server.request_context.request_id


@server.list_tools()
async def list_tools() -> list[types.Tool]:
    return [types.Tool.model_validate(tool) for tool in fixture.TOOLS]


@server.call_tool()
async def call_tool(name: str, arguments: Json) -> types.CallToolResult:
    return types.CallToolResult.model_validate(await TOOLS[name](server.request_context.session, arguments))


@server.list_resources()
async def list_resources() -> list[types.Resource]:
    return [types.Resource.model_validate(resource) for resource in fixture.RESOURCES]


@server.list_resource_templates()
async def list_resource_templates() -> list[types.ResourceTemplate]:
    return [types.ResourceTemplate.model_validate(template) for template in fixture.TEMPLATES]


@server.read_resource()
async def read_resource(uri: AnyUrl) -> list[ReadResourceContents]:
    found = fixture.note(str(uri))
    if found is None:
        raise McpError(types.ErrorData(code=-32002, message="no such note", data={"uri": str(uri)}))
    return [ReadResourceContents(content=found, mime_type="text/plain")]


@server.subscribe_resource()
async def subscribe(uri: AnyUrl) -> None:
    """Accept any subscription: one client, one resource, and `touch` tells it in any case."""


@server.list_prompts()
async def list_prompts() -> list[types.Prompt]:
    return [types.Prompt.model_validate(prompt) for prompt in fixture.PROMPTS]


@server.get_prompt()
async def get_prompt(name: str, arguments: dict[str, str] | None) -> types.GetPromptResult:
    return types.GetPromptResult.model_validate({"messages": fixture.greeting((arguments or {})["who"])})


@server.completion()
async def complete(ref: Any, argument: types.CompletionArgument, context: Any) -> types.Completion:
    return types.Completion(values=fixture.completions(argument.value))


@server.set_logging_level()
async def set_level(level: types.LoggingLevel) -> None:
    state["level"] = level


async def serve_stdio() -> None:
    """Answer lines until stdin ends."""
    async with stdio_server() as (read_stream, write_stream):
        await server.run(read_stream, write_stream, server.create_initialization_options())


if __name__ == "__main__":
    chosen = server_transport()
    if chosen == "stdio":
        asyncio.run(serve_stdio())
    else:
        over_http.serve(server, chosen)
