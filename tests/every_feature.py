"""A server with every feature, to be served over each transport; `python every_feature.py` serves it on stdio.

What a test must know of it or make it do goes through tools, since it may run in another process.
"""

from __future__ import annotations

import asyncio
from typing import Any

from mcp_min import Context, Server, ToolError
from mcp_min.context import ROOTS, elicitation, sampling

FORM = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


def make_server() -> Server:
    server = Server("every feature", version="1", instructions="Try it.", page_size=3)
    cancelled: list[str] = []
    released: dict[str, asyncio.Event] = {}
    meetings: dict[str, tuple[list[int], asyncio.Event]] = {}

    @server.tool
    async def echo(text: str) -> str:
        return text

    @server.tool
    async def work(steps: int, ctx: Context) -> str:
        for step in range(1, steps + 1):
            await ctx.progress(step, total=steps, message=f"step {step}")
            await ctx.log("warning", {"step": step}, logger="work")
        await ctx.log("debug", "not wanted")
        return "done"

    @server.tool
    async def wait(ctx: Context, name: str) -> None:
        """Report that it has begun, and end when it is released or cancelled."""
        try:
            await ctx.progress(1)
            await released.setdefault(name, asyncio.Event()).wait()
        except asyncio.CancelledError:
            cancelled.append(name)
            raise

    @server.tool
    async def release(name: str) -> None:
        released.setdefault(name, asyncio.Event()).set()

    @server.tool
    async def was_cancelled(name: str) -> bool:
        return name in cancelled

    @server.tool
    async def meet(name: str, number: int, of: int) -> int:
        """Return when all have come."""
        present, complete = meetings.setdefault(name, ([], asyncio.Event()))
        present.append(number)
        if len(present) == of:
            complete.set()
        await complete.wait()
        return number

    @server.tool
    async def ask(ctx: Context) -> dict[str, Any]:
        questions = {"who": elicitation("Who?", FORM), "what": sampling("Say", max_tokens=5), "where": ROOTS}
        answers = await ctx.ask(questions)
        again = await ctx.elicit("And who else?", FORM)
        return {**answers, "else": again}

    @server.tool
    async def fail(how: str) -> str:
        raise ToolError("too bad") if how == "tool" else ZeroDivisionError("a secret")

    @server.tool
    async def change(what: str) -> None:
        if what == "tools":
            server.tools_changed()
        else:
            server.resource_updated(what)

    @server.resource("note://text")
    async def text() -> str:
        return "é世🎉"

    @server.resource("note://bytes", mime_type="application/octet-stream")
    async def data() -> bytes:
        return bytes(range(256))

    @server.resource("note://{id}/part")
    async def part(id: str) -> str:
        return id

    @server.prompt
    async def review(code: str) -> str:
        return f"Review {code}"

    @server.completion
    async def complete(ref: dict[str, Any], argument: dict[str, Any], context: dict[str, Any]) -> list[str]:
        return [argument["value"] + end for end in "xyz"]

    return server


if __name__ == "__main__":
    make_server().run()
