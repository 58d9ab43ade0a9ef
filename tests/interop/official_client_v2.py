"""The official client, mcp 2.3.0, walking a server in either era."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import mcp_types as types
from arguments import Target
from driving import main
from mcp import Client, MCPDeprecationWarning, MCPError, StdioServerParameters
from walk import MODERN, ROOTS, Callbacks, Json, OnProgress

# Logging, sampling, roots and ping are deprecated in 2026-07-28, and here they are tried nevertheless.
warnings.simplefilter("ignore", MCPDeprecationWarning)


def plain(model: Any) -> Json:
    """Return a model as the JSON of the wire."""
    dumped: Json = model.model_dump(by_alias=True, mode="json", exclude_none=True)
    return dumped


class Subject:
    """The official `Client` as the walk wants it."""

    def __init__(self, client: Client, callbacks: Callbacks) -> None:
        self.client = client
        self.callbacks = callbacks
        self.revision = client.protocol_version
        self.modern = self.revision == MODERN
        self.skips = {"ping": "removed in 2026-07-28"} if self.modern else {}

    async def call(self, name: str, arguments: Json, on_progress: OnProgress | None = None) -> Json:
        async def progressed(progress: float, total: float | None, message: str | None) -> None:
            assert on_progress is not None
            on_progress(progress, total, message)

        callback = progressed if on_progress else None
        return plain(await self.client.call_tool(name, arguments, progress_callback=callback))

    async def tools(self) -> list[Json]:
        return [plain(tool) for tool in (await self.client.list_tools()).tools]

    async def resources(self) -> list[Json]:
        return [plain(resource) for resource in (await self.client.list_resources()).resources]

    async def templates(self) -> list[Json]:
        return [plain(template) for template in (await self.client.list_resource_templates()).resource_templates]

    async def read(self, uri: str) -> Json:
        return plain(await self.client.read_resource(uri))

    async def prompts(self) -> list[Json]:
        return [plain(prompt) for prompt in (await self.client.list_prompts()).prompts]

    async def prompt(self, name: str, arguments: dict[str, str]) -> Json:
        return plain(await self.client.get_prompt(name, arguments))

    async def complete(self, ref: Json, argument: dict[str, str]) -> Json:
        return plain(await self.client.complete(types.PromptReference.model_validate(ref), argument))

    async def set_level(self, level: Any) -> None:
        if not self.modern:  # a modern client is given its level when it is made
            await self.client.set_logging_level(level)

    async def ping(self) -> None:
        await self.client.send_ping()

    async def watch(self, uri: str, then: Callable[[], Awaitable[Any]]) -> str:
        if not self.modern:
            await self.client.subscribe_resource(uri)
            await then()
            return await self.callbacks.updated.get()
        async with self.client.listen(resource_subscriptions=[uri]) as changes:
            await then()
            async for change in changes:
                return str(getattr(change, "uri", change))
        raise ConnectionError("the stream ended without an update")

    def code(self, error: Exception) -> int | None:
        return error.code if isinstance(error, MCPError) else None


@asynccontextmanager
async def connect(target: Target, callbacks: Callbacks) -> AsyncIterator[Subject]:
    """Open a client whose callbacks are those of the walk."""

    async def elicit(context: Any, params: Any) -> types.ElicitResult:
        return types.ElicitResult.model_validate(callbacks.elicit(plain(params)))

    async def sample(context: Any, params: Any) -> types.CreateMessageResult:
        return types.CreateMessageResult.model_validate(callbacks.sample(plain(params)))

    async def roots(context: Any) -> types.ListRootsResult:
        return types.ListRootsResult.model_validate({"roots": ROOTS})

    async def log(params: Any) -> None:
        callbacks.log(plain(params))

    async def message(message: Any) -> None:
        if isinstance(message, types.ResourceUpdatedNotification):
            callbacks.updated.put_nowait(message.params.uri)

    async with Client(
        _server(target),
        mode="auto" if target.era == "modern" else "legacy",
        elicitation_callback=elicit,
        sampling_callback=sample,
        list_roots_callback=roots,
        logging_callback=log,
        log_level="info" if target.era == "modern" else None,
        message_handler=message,
    ) as client:
        yield Subject(client, callbacks)


def _server(target: Target) -> Any:
    if target.transport == "stdio":
        return StdioServerParameters(command=target.words[0], args=target.words[1:])
    if target.transport == "http":
        return target.url
    from mcp.client.sse import sse_client

    return sse_client(target.url)


if __name__ == "__main__":
    asyncio.run(main(connect))
