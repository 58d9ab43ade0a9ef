"""What a client has asked to hear of, and has not yet taken.

`listener.py` keeps what a server has to tell; this is the other end. Changes that come while a reader
is busy are kept, each once, in their order. In the modern era they carry the id of the request that
wants them, which lasts as long as the reader does; on a legacy connection they carry none, and every
subscription looks at all of them.

Spec: 2026-07-28 basic/patterns/subscriptions; 2025-11-25 server/resources#subscriptions.
Wire: ← {"method":"notifications/resources/updated","params":{"uri":"note://1",
         "_meta":{"io.modelcontextprotocol/subscriptionId":4}}}

A subscription owns the task that waits for its end.

Deliberately absent: a subscription that outlives its connection.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

from . import spec
from .connection import Connection
from .jsonrpc import ConnectionClosed, Message, Params, RequestId, RpcError

MAX_PENDING = 10_000  # changes that a reader may be behind; those that come then are dropped
SUBSCRIBE_TIMEOUT = 60.0  # seconds for the answer to `resources/subscribe`
UNSUBSCRIBE_TIMEOUT = 2.0  # seconds; leaving a loop should not take longer
# The notifications that subscriptions want.
HEARD = (*spec.CHANGES.values(), spec.RESOURCE_UPDATED, "notifications/cancelled")


class Subscription:
    """Changes of some lists, by the notification's method, and of some resources, by URI."""

    def __init__(self, methods: set[str], uris: set[str]) -> None:
        self.id: RequestId | None = None  # of the request that listens; None on a legacy connection
        self.uris = uris
        self._methods = methods
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
        if id == self.id and (method in self._methods or self._watches(uri)) and len(self._pending) < MAX_PENDING:
            self._pending[method, uri] = message
            self._changed.set()

    def _watches(self, uri: Any) -> bool:
        # It may name a part of what is watched (2025-11-25 server/resources#subscriptions).
        return isinstance(uri, str) and any(f"{uri}/".startswith(f"{watched.rstrip('/')}/") for watched in self.uris)

    async def changes(self) -> AsyncIterator[Message]:
        """Yield what comes, until the end. Raises what the work raised that it ends with."""
        assert self._end is not None
        while self._pending or not self._end.done():
            if self._pending:
                yield self._pending.pop(next(iter(self._pending)))
            else:
                self._changed.clear()
                await self._changed.wait()
        if not self._end.cancelled():
            self._end.result()

    def cancel(self) -> None:
        """Stop the work: the end, after what has come."""
        if self._end is not None:
            self._end.cancel()

    async def close(self) -> None:
        """Stop the work, whatever has become of it."""
        self.cancel()
        if self._end is not None:
            await asyncio.wait([self._end])


class Subscriptions:
    """All that are read at the moment."""

    def __init__(self) -> None:
        self._open: list[Subscription] = []

    def hear(self, method: str, params: Params) -> None:
        """Take a notification for whoever it is for."""
        id = params.get("_meta", {}).get(spec.SUBSCRIPTION_ID)
        message = {"method": method, "params": {key: value for key, value in params.items() if key != "_meta"}}
        for subscription in self._open:
            subscription.add(id, message)
            # A server that ends a subscription MUST send this (2026-07-28 basic/patterns/cancellation).
            if method == "notifications/cancelled" and subscription.id == params.get("requestId", ""):
                subscription.cancel()

    async def listen(
        self, connected: Callable[[], Awaitable[Connection]], lists: list[str], uris: list[str]
    ) -> AsyncGenerator[Message, None]:
        """Yield changes of lists, by the filter's keys, and of resources, until closed or ended by the server.

        Raises ConnectionClosed, and RpcError where the server refuses.
        """
        connection = await connected()
        subscription = Subscription({spec.CHANGES[key] for key in lists}, set(uris))
        self._open.append(subscription)
        try:
            if connection.modern:
                subscription.id = connection.peer.new_id()
                wanted = dict.fromkeys(lists, True) | ({"resourceSubscriptions": uris} if uris else {})
                params = connection.stamped({"notifications": wanted})
                end = connection.peer.request("subscriptions/listen", params, id=subscription.id)
            else:
                for uri in uris:
                    await connection.request("resources/subscribe", {"uri": uri}, timeout=SUBSCRIBE_TIMEOUT)
                end = connection.peer.wait_closed()
            subscription.ends_with(end)
            async for change in subscription.changes():
                yield change
        finally:
            self._open.remove(subscription)
            await subscription.close()
            if not connection.modern:
                await self._unsubscribe(connection, uris)

    async def _unsubscribe(self, connection: Connection, uris: list[str]) -> None:
        still_wanted = {uri for other in self._open for uri in other.uris}
        with contextlib.suppress(ConnectionClosed, RpcError, TimeoutError):
            for uri in uris:
                if uri not in still_wanted:
                    await connection.request("resources/unsubscribe", {"uri": uri}, timeout=UNSUBSCRIBE_TIMEOUT)
