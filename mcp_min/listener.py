"""Who wants to hear of which changes, and how they are told.

`context.py` tells of a request while it is answered; a listener tells of what nobody's request has
brought about. It holds a set of pending changes, not a queue: a thousand updates of one resource
while its reader is slow are one notification. In the modern era a `subscriptions/listen` request is
a listener with the filter it asked for; a legacy connection is one whose filter grows with each
`resources/subscribe`. Whoever makes a listener runs it and ends it.

Spec: 2026-07-28 basic/patterns/subscriptions; 2025-11-25 server/resources#subscriptions.
Wire: ← {"method":"notifications/resources/updated","params":{"uri":"note://1",
         "_meta":{"io.modelcontextprotocol/subscriptionId":4}}}

Deliberately absent: history. Who connects later asks for the list.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from . import jsonrpc, spec
from .dispatcher import Send
from .jsonrpc import Params, RequestId

Change = tuple[str, str | None]  # a notification's method, and the URI of an updated resource
MAX_URIS = 10_000  # resources one listener may watch


class Listener:
    """One reader of changes. `run` tells them until `end`; `post` may be called from any thread."""

    def __init__(self, send: Send, subscription_id: RequestId | None = None) -> None:
        self.methods: set[str] = set()  # list changes that are wanted
        self.uris: set[str] = set()  # resources whose updates are wanted
        self._send = send
        self._subscription_id = subscription_id  # None on a legacy connection
        self._loop = asyncio.get_running_loop()
        self._pending: dict[Change, None] = {}  # a set that keeps its order
        self._changed: asyncio.Future[None] | None = None  # while `run` waits; an Event would weigh twice as much
        self._ended = False

    def post(self, change: Change) -> None:
        """Tell of a change, if it is wanted; returns at once."""
        method, uri = change
        if (uri in self.uris if method == spec.RESOURCE_UPDATED else method in self.methods) and not self._ended:
            self._loop.call_soon_threadsafe(self._add, change)

    def _add(self, change: Change) -> None:
        self._pending[change] = None
        self._wake()

    def _wake(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    def watch(self, uri: Any) -> None:
        """Want updates of one more resource. Raises RpcError -32602."""
        if not isinstance(uri, str) or len(self.uris) >= MAX_URIS:
            raise jsonrpc.invalid_params(f"uri: a string, and one of at most {MAX_URIS} that one listener watches")
        self.uris.add(uri)

    def end(self) -> None:
        """Let `run` return when it has told what is pending."""
        self._ended = True
        self._wake()

    async def run(self) -> None:
        """Send changes as they come. Returns after `end`, or when nobody can be told any more."""
        with contextlib.suppress(ConnectionError):
            while self._pending or not self._ended:
                if not self._pending:
                    self._changed = self._loop.create_future()
                    await self._changed
                while self._pending:
                    method, uri = next(iter(self._pending))
                    del self._pending[method, uri]
                    await self.notify(method, {} if uri is None else {"uri": uri})

    async def notify(self, method: str, params: Params) -> None:
        """Send a notification under this subscription's id. Raises ConnectionClosed."""
        if self._subscription_id is not None:
            # MUST carry the subscription's id (2026-07-28 basic/patterns/subscriptions).
            params = {"_meta": {spec.SUBSCRIPTION_ID: self._subscription_id}, **params}
        await self._send(jsonrpc.notification(method, params or None))
