"""Our server: what the walk asks for, written once for both eras."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any, TypedDict

import fixture
from arguments import server_transport

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # an official client passes no PYTHONPATH on

from mcp_min import Context, Server, ToolError

server = Server("ours", version="1")
cancelled = asyncio.Event()


class Weather(TypedDict):
    """What `weather` answers, as structure."""

    city: str
    celsius: int


@server.tool
async def add(a: int, b: int) -> int:
    return a + b


@server.tool
def weather(city: str) -> Weather:
    return {"city": city, "celsius": 21}


@server.tool
def fail() -> str:
    raise ToolError("it broke")


@server.tool
async def count(n: int, ctx: Context) -> str:
    for step in range(1, n + 1):
        await ctx.progress(step, total=n, message=f"step {step}")
    await asyncio.sleep(fixture.PAUSE)
    return f"counted to {n}"


@server.tool
async def chatty(ctx: Context) -> str:
    await ctx.log("debug", "not heard")
    await ctx.log("info", "heard")
    return "said"


@server.tool
async def hang(ctx: Context) -> str:
    await ctx.progress(0)
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        cancelled.set()
        raise
    return "nothing sets the event"


@server.tool
async def was_cancelled() -> str:
    await cancelled.wait()
    return "yes"


@server.tool
async def ask_name(ctx: Context) -> str:
    answer = await ctx.elicit("Your name?", fixture.ASK_NAME)
    return f"Hello, {answer['content']['name']}" if answer["action"] == "accept" else f"no name: {answer['action']}"


@server.tool
async def ask_model(ctx: Context) -> str:
    answer = await ctx.sample(fixture.MESSAGES, max_tokens=100)
    return f"the model says {answer['content']['text']}"


@server.tool
async def ask_roots(ctx: Context) -> str:
    return " ".join(root["uri"] for root in await ctx.roots())


@server.tool
def touch() -> str:
    server.resource_updated(fixture.FIXED)
    return "touched"


@server.resource(fixture.FIXED, mime_type="text/plain")
def fixed() -> str:
    return "fixed text"


@server.resource(fixture.TEMPLATE, mime_type="text/plain")
def about(topic: str) -> str:
    return f"a note about {topic}"


@server.prompt
def greet(who: str) -> str:
    return f"Greet {who}"


@server.completion
def complete(ref: dict[str, Any], argument: dict[str, str], context: dict[str, Any]) -> list[str]:
    return fixture.completions(argument["value"])


async def serve_on_a_port(transport: str) -> None:
    """Serve HTTP until killed; the URL is the first line."""
    from mcp_min import serve_http

    async with serve_http(server, host="127.0.0.1", port=0) as http:
        print(http.url if transport == "http" else http.url.replace("/mcp", "/sse"), flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    chosen = server_transport()
    if chosen == "stdio":
        server.run("stdio")
    else:
        asyncio.run(serve_on_a_port(chosen))
