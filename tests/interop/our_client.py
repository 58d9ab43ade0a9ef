"""Our client, walking a server in either era."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from arguments import Target
from driving import main
from walk import MODERN, ROOTS, Callbacks, Json, OnProgress

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mcp_min import Client, RpcError

RETRY = 0.2  # seconds between two changes made while waiting for the first update


class Subject:
    """`mcp_min.Client` as the walk wants it."""

    def __init__(self, client: Client, callbacks: Callbacks) -> None:
        self.client = client
        self.callbacks = callbacks
        self.revision = client.protocol_version
        self.skips = {"ping": "removed in 2026-07-28"} if self.revision == MODERN else {}

    async def call(self, name: str, arguments: Json, on_progress: OnProgress | None = None) -> Json:
        return await self.client.call_tool(name, arguments, on_progress=on_progress)

    async def tools(self) -> list[Json]:
        return await self.client.list_tools()

    async def resources(self) -> list[Json]:
        return await self.client.list_resources()

    async def templates(self) -> list[Json]:
        return await self.client.list_resource_templates()

    async def read(self, uri: str) -> Json:
        return await self.client.read_resource(uri)

    async def prompts(self) -> list[Json]:
        return await self.client.list_prompts()

    async def prompt(self, name: str, arguments: dict[str, str]) -> Json:
        return await self.client.get_prompt(name, arguments)

    async def complete(self, ref: Json, argument: dict[str, str]) -> Json:
        return await self.client.complete(ref, argument)

    async def set_level(self, level: str) -> None:
        await self.client.set_log_level(level)

    async def ping(self) -> None:
        await self.client.ping()

    async def watch(self, uri: str, then: Callable[[], Awaitable[Any]]) -> str:
        changes = aiter(self.client.listen(resources=[uri]))
        first = asyncio.ensure_future(anext(changes))
        # A change made before the subscription stands is not reported, so it is made again until one is.
        while not first.done():
            await then()
            await asyncio.wait([first], timeout=RETRY)
        return str(first.result()["params"]["uri"])

    def code(self, error: Exception) -> int | None:
        return error.code if isinstance(error, RpcError) else None


@asynccontextmanager
async def connect(target: Target, callbacks: Callbacks) -> AsyncIterator[Subject]:
    """Open a client whose callbacks are those of the walk."""
    async with Client(
        target.words if target.transport == "stdio" else target.url,
        protocol_version=None if target.era == "modern" else "2025-11-25",
        on_elicit=callbacks.elicit,
        on_sample=callbacks.sample,
        roots=ROOTS,
        on_log=callbacks.log,
    ) as client:
        yield Subject(client, callbacks)


if __name__ == "__main__":
    asyncio.run(main(connect))
