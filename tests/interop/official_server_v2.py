"""The official server, mcp 2.3.0 at its lowest level: what the walk asks for, in both eras."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

import fixture
import mcp_types as types
import over_http
from arguments import server_transport
from fixture import Json
from mcp import MCPDeprecationWarning, MCPError
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ResourceUpdated
from walk import MODERN

# Logging, sampling and roots are deprecated in 2026-07-28, and here they are tried nevertheless.
warnings.simplefilter("ignore", MCPDeprecationWarning)

Result = types.CallToolResult | types.InputRequiredResult
bus = InMemorySubscriptionBus()
state = {"level": "debug"}
cancelled = asyncio.Event()


def words(text: str) -> types.CallToolResult:
    """Return the result of a tool that answers in words."""
    return types.CallToolResult.model_validate(fixture.text(text))


async def add(ctx: Any, params: Any) -> Result:
    return words(str(params.arguments["a"] + params.arguments["b"]))


async def weather(ctx: Any, params: Any) -> Result:
    found = {"city": params.arguments["city"], "celsius": 21}
    return types.CallToolResult(content=words(str(found)).content, structured_content=found)


async def fail(ctx: Any, params: Any) -> Result:
    return types.CallToolResult(content=words("it broke").content, is_error=True)


async def count(ctx: Any, params: Any) -> Result:
    total = params.arguments["n"]
    for step in range(1, total + 1):
        await ctx.session.report_progress(step, total, f"step {step}")
    await asyncio.sleep(fixture.PAUSE)
    return words(f"counted to {total}")


async def chatty(ctx: Any, params: Any) -> Result:
    if ctx.protocol_version == MODERN or state["level"] == "debug":
        await ctx.session.send_log_message("debug", "not heard", related_request_id=ctx.request_id)
    await ctx.session.send_log_message("info", "heard", related_request_id=ctx.request_id)
    return words("said")


async def hang(ctx: Any, params: Any) -> Result:
    await ctx.session.report_progress(0)
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        cancelled.set()
        raise
    raise AssertionError("nothing sets the event")


async def was_cancelled(ctx: Any, params: Any) -> Result:
    await cancelled.wait()
    return words("yes")


async def ask_name(ctx: Any, params: Any) -> Result:
    form = types.ElicitRequestFormParams(message="Your name?", requested_schema=fixture.ASK_NAME)
    if ctx.protocol_version != MODERN:
        answer = await ctx.session.elicit_form("Your name?", fixture.ASK_NAME, ctx.request_id)
    elif not params.input_responses:
        return types.InputRequiredResult(input_requests={"name": types.ElicitRequest(params=form)})
    else:
        answer = params.input_responses["name"]
    return words(f"Hello, {answer.content['name']}" if answer.action == "accept" else f"no name: {answer.action}")


async def ask_model(ctx: Any, params: Any) -> Result:
    asked = types.CreateMessageRequestParams.model_validate({"messages": fixture.MESSAGES, "maxTokens": 100})
    if ctx.protocol_version != MODERN:
        answer = await ctx.session.create_message(asked.messages, max_tokens=100, related_request_id=ctx.request_id)
    elif not params.input_responses:
        return types.InputRequiredResult(input_requests={"model": types.CreateMessageRequest(params=asked)})
    else:
        answer = params.input_responses["model"]
    return words(f"the model says {answer.content.text}")


async def ask_roots(ctx: Any, params: Any) -> Result:
    if ctx.protocol_version != MODERN:
        answer = await ctx.session.list_roots()
    elif not params.input_responses:
        return types.InputRequiredResult(input_requests={"roots": types.ListRootsRequest()})
    else:
        answer = params.input_responses["roots"]
    return words(" ".join(str(root.uri) for root in answer.roots))


async def touch(ctx: Any, params: Any) -> Result:
    await bus.publish(ResourceUpdated(uri=fixture.FIXED))
    if ctx.protocol_version != MODERN:
        await ctx.session.send_resource_updated(fixture.FIXED)
    return words("touched")


TOOLS: dict[str, Callable[[Any, Any], Awaitable[Result]]] = {
    tool.__name__: tool
    for tool in (add, weather, fail, count, chatty, hang, was_cancelled, ask_name, ask_model, ask_roots, touch)
}


async def call_tool(ctx: Any, params: types.CallToolRequestParams) -> Result:
    return await TOOLS[params.name](ctx, params)


def listing(kind: Any, member: str, items: list[Json]) -> Any:
    """Return a handler that answers with one fixed list."""

    async def handler(ctx: Any, params: Any) -> Any:
        return kind.model_validate({member: items, "ttlMs": 0, "cacheScope": "private"})

    return handler


async def read_resource(ctx: Any, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
    found = fixture.note(params.uri)
    if found is None:
        raise MCPError(-32602 if ctx.protocol_version == MODERN else -32002, "no such note", {"uri": params.uri})
    return types.ReadResourceResult(
        contents=[types.TextResourceContents(uri=params.uri, text=found, mime_type="text/plain")]
    )


async def get_prompt(ctx: Any, params: types.GetPromptRequestParams) -> types.GetPromptResult:
    return types.GetPromptResult.model_validate({"messages": fixture.greeting((params.arguments or {})["who"])})


async def complete(ctx: Any, params: types.CompleteRequestParams) -> types.CompleteResult:
    return types.CompleteResult(completion=types.Completion(values=fixture.completions(params.argument.value)))


async def set_level(ctx: Any, params: types.SetLevelRequestParams) -> types.EmptyResult:
    state["level"] = params.level
    return types.EmptyResult()


async def subscribe(ctx: Any, params: Any) -> types.EmptyResult:
    return types.EmptyResult()  # one client, one resource: `touch` tells it in any case


server: Server[Any] = Server(
    "official",
    version="2.3.0",
    on_list_tools=listing(types.ListToolsResult, "tools", fixture.TOOLS),
    on_call_tool=call_tool,
    on_list_resources=listing(types.ListResourcesResult, "resources", fixture.RESOURCES),
    on_list_resource_templates=listing(types.ListResourceTemplatesResult, "resourceTemplates", fixture.TEMPLATES),
    on_read_resource=read_resource,
    on_subscribe_resource=subscribe,
    on_unsubscribe_resource=subscribe,
    on_subscriptions_listen=ListenHandler(bus),
    on_list_prompts=listing(types.ListPromptsResult, "prompts", fixture.PROMPTS),
    on_get_prompt=get_prompt,
    on_completion=complete,
    on_set_logging_level=set_level,
)


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
