"""HTTP requests without sockets, so that a test decides when a client reads, waits or hangs up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

from mcp_min import spec, sse

HOST = "127.0.0.1:8000"
MODERN, LEGACY = spec.MODERN[0], spec.LEGACY[0]
META = {spec.PROTOCOL_VERSION: MODERN, spec.CLIENT_CAPABILITIES: {}}
PATIENCE = 5  # seconds after which a test gives up on what should happen at once


class ByHand:
    """A request, and what has come back on its stream. `read` set: the client takes what is sent."""

    def __init__(
        self,
        message: Any = None,
        headers: Mapping[str, str | None] | None = None,
        *,
        method: str = "POST",
        path: str = "/mcp",
        query: str = "",
        peer: str = "127.0.0.1",
    ) -> None:
        given = {"host": HOST, "content-type": "application/json", **(headers or {})}
        self.headers = {name: value for name, value in given.items() if value is not None}
        self.method, self.path, self.query, self.peer = method, path, query, peer
        self.principal: Any = None
        self.data = message if isinstance(message, bytes) else json.dumps(message).encode()
        self.bodies_read = 0
        self.hung_up = False
        self.begun = asyncio.Event()  # the head of a stream has been sent
        self.closed = asyncio.Event()  # the stream has ended before its answer
        self.read = asyncio.Event()
        self.read.set()
        self.streamed: list[bytes] = []
        self.status: int | None = None
        self.sent_headers: Mapping[str, str] = {}
        self.on_hangup: Callable[[], object] | None = None
        self._parser = sse.Parser()
        self._events: asyncio.Queue[sse.Event] = asyncio.Queue()

    async def body(self) -> bytes:
        self.bodies_read += 1
        return self.data

    def hang_up(self) -> None:
        self.hung_up = True
        self.read.set()
        if self.on_hangup is not None:
            self.on_hangup()

    def stream(self, status: int, headers: Mapping[str, str], *, keep_alive: bytes) -> ByHand:
        assert keep_alive == b":\n\n"
        assert not self.begun.is_set(), "a response begins once"
        self.status, self.sent_headers = status, headers
        self.begun.set()
        return self

    async def write(self, data: bytes) -> None:
        if not self.hung_up:
            self.streamed.append(data)
            for event in self._parser.feed(data):
                if event.data:  # not the one that primes a client to come back
                    self._events.put_nowait(event)
        await self.read.wait()
        if self.hung_up:
            raise ConnectionResetError("the client has gone")

    def close(self, data: bytes) -> None:
        if self.hung_up:
            raise ConnectionResetError("the client has gone")
        self.streamed.append(data)
        self._parser.feed(data)
        self.closed.set()
        self.hang_up()  # nobody reads any more

    async def event(self) -> sse.Event:
        """Wait for the next event that has data."""
        async with asyncio.timeout(PATIENCE):
            return await self._events.get()

    @property
    def last_event_id(self) -> str:
        """What a client would come back with."""
        return self._parser.last_event_id

    async def message(self) -> Any:
        """Wait for the next message."""
        return json.loads((await self.event()).data)

    def messages(self) -> list[Any]:
        """All that has come and was not waited for."""
        return [json.loads(self._events.get_nowait().data) for _ in range(self._events.qsize())]


def call(name: str, id: Any = 1, **arguments: Any) -> dict[str, Any]:
    """A legacy call of a tool."""
    return {"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": name, "arguments": arguments}}


def modern(method: str, id: Any = 1, headers: Mapping[str, str | None] | None = None, **params: Any) -> ByHand:
    """A request of the modern era, with the headers that repeat it."""
    repeated = {"mcp-protocol-version": MODERN, "mcp-method": method}
    if method in spec.NAME_OF and isinstance(params.get(spec.NAME_OF[method]), str):
        repeated["mcp-name"] = params[spec.NAME_OF[method]]
    message = {"jsonrpc": "2.0", "id": id, "method": method, "params": {"_meta": META, **params}}
    return ByHand(message, {**repeated, **(headers or {})})


async def becomes(condition: Callable[[], object]) -> None:
    """Wait for what has no event of its own."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)
