"""Feeds a LineTransport by hand, so that a test decides where the chunks end."""

from __future__ import annotations

import asyncio
from typing import Any

from mcp_min.jsonrpc import MAX_LINE, RpcError, decode
from mcp_min.stream import LineTransport


class Feeder:
    """A byte stream of given chunks, and what a LineTransport makes of them: messages, and errors in their place."""

    def __init__(self, chunks: list[bytes]) -> None:
        self.chunks = iter(chunks)
        self.items: list[Any] = []

    async def receive(self) -> bytes:
        return next(self.chunks, b"")

    async def send(self, data: bytes) -> None:
        answer = decode(data)
        error = answer["error"]
        self.items.append(RpcError(error["code"], error["message"], error.get("data"), id=answer.get("id")))

    async def close(self) -> None:
        return


def read_all(chunks: list[bytes], max_line: int = MAX_LINE) -> list[Any]:
    """Return what the chunks hold."""

    async def read() -> list[Any]:
        feeder = Feeder(chunks)
        async for message in LineTransport(feeder, "answer", max_line).read():
            feeder.items.append(message)
        return feeder.items

    return asyncio.run(read())
