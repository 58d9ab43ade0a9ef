"""What a `listen` loop has asked to hear of and has not yet taken.

`listener.py` keeps what a server has to tell; this is the other end. Changes that come while the reader
is busy are kept, each once, in their order.

Spec: 2026-07-28 basic/patterns/subscriptions; 2025-11-25 server/resources#subscriptions.
Wire: ← {"method":"notifications/resources/updated","params":{"uri":"note://1",
         "_meta":{"io.modelcontextprotocol/subscriptionId":4}}}

A subscription owns the task that ends it: a request, or the wait for the connection's end.

Deliberately absent: a subscription that outlives its connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from .jsonrpc import Message, RequestId


class Subscription:
    """Changes of some lists, by the notification's method, and of some resources, by URI."""

    def __init__(self, methods: set[str], uris: set[str]) -> None:
        self.id: RequestId | None = None  # None on a legacy connection
        self._methods = methods
        self._uris = uris
        self._pending: dict[tuple[str, Any], Message] = {}  # each change once, in order
        self._changed = asyncio.Event()
        self._end: asyncio.Task[Any] | None = None

    def ends_with(self, work: Coroutine[Any, Any, Any]) -> None:
        """End when `work` does, and in the same way."""
        self._end = asyncio.get_running_loop().create_task(work)
        self._end.add_done_callback(lambda _: self._changed.set())

    def add(self, id: RequestId | None, message: Message) -> None:
        """Keep a change, if it is wanted here. id: of the subscription that it was sent for, None on a legacy one."""
        method, uri = message["method"], message["params"].get("uri")
        if id == self.id and (method in self._methods or uri in self._uris):
            self._pending[method, uri] = message
            self._changed.set()

    async def changes(self) -> AsyncIterator[Message]:
        """Yield what comes, until the end. Raises what the work raised that it ends with."""
        assert self._end is not None
        while True:
            while self._pending:
                yield self._pending.pop(next(iter(self._pending)))
            if self._end.done():
                self._end.result()
                return
            await self._changed.wait()
            self._changed.clear()

    async def close(self) -> None:
        """Stop the work, whatever has become of it."""
        if self._end is not None:
            self._end.cancel()
            await asyncio.wait([self._end])
