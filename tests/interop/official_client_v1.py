"""The official client, mcp 1.30.0, walking a server; it speaks nothing newer than 2025-11-25."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import mcp.types as types
from arguments import Target
from driving import main
from mcp import ClientSession, McpError, StdioServerParameters, stdio_client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from pydantic import AnyUrl
from walk import ROOTS, Callbacks, Json, OnProgress


def plain(model: Any) -> Json:
    """Return a model as the JSON of the wire."""
    dumped: Json = model.model_dump(by_alias=True, mode="json", exclude_none=True)
    return dumped


class Subject:
    """The official `ClientSession` as the walk wants it."""

    def __init__(self, session: ClientSession, callbacks: Callbacks, revision: str) -> None:
        self.session = session
        self.callbacks = callbacks
        self.revision = revision
        self.skips = {"cancel": "this client never sends notifications/cancelled"}

    async def call(self, name: str, arguments: Json, on_progress: OnProgress | None = None) -> Json:
        async def progressed(progress: float, total: float | None, message: str | None) -> None:
            assert on_progress is not None
            on_progress(progress, total, message)

        callback = progressed if on_progress else None
        return plain(await self.session.call_tool(name, arguments, progress_callback=callback))

    async def tools(self) -> list[Json]:
        return [plain(tool) for tool in (await self.session.list_tools()).tools]

    async def resources(self) -> list[Json]:
        return [plain(resource) for resource in (await self.session.list_resources()).resources]

    async def templates(self) -> list[Json]:
        return [plain(template) for template in (await self.session.list_resource_templates()).resourceTemplates]

    async def read(self, uri: str) -> Json:
        return plain(await self.session.read_resource(AnyUrl(uri)))

    async def prompts(self) -> list[Json]:
        return [plain(prompt) for prompt in (await self.session.list_prompts()).prompts]

    async def prompt(self, name: str, arguments: dict[str, str]) -> Json:
        return plain(await self.session.get_prompt(name, arguments))

    async def complete(self, ref: Json, argument: dict[str, str]) -> Json:
        return plain(await self.session.complete(types.PromptReference.model_validate(ref), argument))

    async def set_level(self, level: Any) -> None:
        await self.session.set_logging_level(level)

    async def ping(self) -> None:
        await self.session.send_ping()

    async def watch(self, uri: str, then: Callable[[], Awaitable[Any]]) -> str:
        await self.session.subscribe_resource(AnyUrl(uri))
        await then()
        return await self.callbacks.updated.get()

    def code(self, error: Exception) -> int | None:
        return error.error.code if isinstance(error, McpError) else None


@asynccontextmanager
async def connect(target: Target, callbacks: Callbacks) -> AsyncIterator[Subject]:
    """Open a session whose callbacks are those of the walk."""

    async def elicit(context: Any, params: Any) -> types.ElicitResult:
        return types.ElicitResult.model_validate(callbacks.elicit(plain(params)))

    async def sample(context: Any, params: Any) -> types.CreateMessageResult:
        return types.CreateMessageResult.model_validate(callbacks.sample(plain(params)))

    async def roots(context: Any) -> types.ListRootsResult:
        return types.ListRootsResult.model_validate({"roots": ROOTS})

    async def log(params: Any) -> None:
        callbacks.log(plain(params))

    async def message(message: Any) -> None:
        notification = getattr(message, "root", None)
        if isinstance(notification, types.ResourceUpdatedNotification):
            callbacks.updated.put_nowait(str(notification.params.uri))

    async with (
        _streams(target) as streams,
        ClientSession(
            streams[0],
            streams[1],
            elicitation_callback=elicit,
            sampling_callback=sample,
            list_roots_callback=roots,
            logging_callback=log,
            message_handler=message,
        ) as session,
    ):
        opened = await session.initialize()
        yield Subject(session, callbacks, str(opened.protocolVersion))


def _streams(target: Target) -> Any:
    if target.transport == "stdio":
        return stdio_client(StdioServerParameters(command=target.words[0], args=target.words[1:]))
    return streamable_http_client(target.url) if target.transport == "http" else sse_client(target.url)


if __name__ == "__main__":
    asyncio.run(main(connect))
