"""What a client has asked to hear of, and has not yet taken.

`listener.py` keeps what a server has to tell; this is the other end. Changes that come while a reader
is busy are kept, each once, in their order. In the modern era they carry the id of the request that
wants them, which lasts as long as the reader does; on a legacy connection they carry none, and every
subscription looks at all of them.

Spec: 2026-07-28 basic/patterns/subscriptions; 2025-11-25 server/resources#subscriptions.
Wire: → {"id":4,"method":"subscriptions/listen","params":{"notifications":{"resourceSubscriptions":["note://1"]}, …}}
      ← {"method":"notifications/subscriptions/acknowledged", …}
      ← {"method":"notifications/resources/updated","params":{"uri":"note://1",
         "_meta":{"io.modelcontextprotocol/subscriptionId":4}}}

A subscription owns the task that waits for its end.

Deliberately absent: a subscription that outlives its connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator
from typing import Any

from . import spec
from .connection import Connection, within
from .jsonrpc import ConnectionClosed, Message, Params, RequestId, RpcError

logger = logging.getLogger("mcp_min")

MAX_PENDING = 10_000  # changes that a reader may be behind; those that come then are dropped
SUBSCRIBE_TIMEOUT = 60.0  # seconds for the answer to `resources/subscribe`, or the acknowledgement
UNSUBSCRIBE_TIMEOUT = 2.0  # seconds; leaving a loop should not take longer
ACKNOWLEDGED = "notifications/subscriptions/acknowledged"
# The notifications that subscriptions want.
HEARD = (*spec.CHANGES.values(), spec.RESOURCE_UPDATED, ACKNOWLEDGED, "notifications/cancelled")


class Subscription:
    """Changes of lists, by the filter's keys, and of resources: `async for`, inside or without `async with`.

    others: all that are open on this connection, itself included while it is.
    """

    def __init__(self, connection: Connection, others: list[Subscription], lists: list[str], uris: list[str]) -> None:
        self.uris = uris
        self._connection = connection
        self._others = others
        self._filter = dict.fromkeys(lists, True) | ({"resourceSubscriptions": uris} if uris else {})
        self._methods = {spec.CHANGES[key] for key in lists}
        self._id: RequestId | None = None  # of the request that listens; None on a legacy connection
        self._pending: dict[tuple[str, Any], Message] = {}  # each change once, in order
        self._news = asyncio.Event()  # a change has come, or the acknowledgement, or the end

    async def __aenter__(self) -> AsyncGenerator[Message, None]:
        """Begin; what changes from now on is heard of."""
        self._changes = self._listen()
        await anext(self._changes)
        return self._changes

    async def __aexit__(self, *exc: object) -> None:
        await self._changes.aclose()

    async def __aiter__(self) -> AsyncGenerator[Message, None]:
        async with self as changes:
            async for change in changes:
                yield change

    def hear(self, method: str, params: Params) -> None:
        """Take a notification, if it is for this subscription and wanted."""
        # A server that ends a subscription MUST send this (2026-07-28 basic/patterns/cancellation).
        if method == "notifications/cancelled" and params.get("requestId", "") == self._id:
            self._end.cancel()
        if params.get("_meta", {}).get(spec.SUBSCRIPTION_ID) != self._id:
            return
        uri = params.get("uri")
        if (method in self._methods or self._watches(uri)) and len(self._pending) < MAX_PENDING:
            told = {key: value for key, value in params.items() if key != "_meta"}
            self._pending[method, uri] = {"method": method, "params": told}
            self._news.set()
        elif method == ACKNOWLEDGED:
            # SHOULD check the acknowledged filter (2026-07-28 basic/patterns/subscriptions).
            logger.info("asked to hear of %r, the server agrees to %r", self._filter, params.get("notifications"))
            self._news.set()

    def _watches(self, uri: Any) -> bool:
        # It may name a part of what is watched (2025-11-25 server/resources#subscriptions).
        return isinstance(uri, str) and any(f"{uri}/".startswith(f"{watched.rstrip('/')}/") for watched in self.uris)

    async def _listen(self) -> AsyncGenerator[Any, None]:
        """Yield None when the subscription stands, then each change. Raises what ended the connection."""
        await self._connection.opened()
        peer, modern = self._connection.peer, self._connection.modern
        self._others.append(self)
        self._id = peer.new_id() if modern else None
        asked = self._connection.stamped({"notifications": self._filter})
        end = peer.request("subscriptions/listen", asked, id=self._id) if modern else peer.wait_closed()
        self._end = asyncio.get_running_loop().create_task(end)
        self._end.add_done_callback(lambda _: self._news.set())
        try:
            if modern:
                await within(SUBSCRIBE_TIMEOUT, self._news.wait(), "the subscription was not acknowledged")
                self._raise_end()
            else:
                for uri in self.uris:
                    await peer.request("resources/subscribe", {"uri": uri}, timeout=SUBSCRIBE_TIMEOUT)
            yield None
            while self._pending or not self._end.done():
                await self._news.wait()
                self._news.clear()
                while self._pending:
                    yield self._pending.pop(next(iter(self._pending)))
            self._raise_end()
        finally:
            self._others.remove(self)
            self._end.cancel()
            await asyncio.wait([self._end])
            if not modern:
                still_wanted = {uri for other in self._others for uri in other.uris}
                with contextlib.suppress(ConnectionClosed, RpcError, TimeoutError):
                    for uri in set(self.uris) - still_wanted:
                        await peer.request("resources/unsubscribe", {"uri": uri}, timeout=UNSUBSCRIBE_TIMEOUT)

    def _raise_end(self) -> None:
        if self._end.done() and not self._end.cancelled():
            self._end.result()
