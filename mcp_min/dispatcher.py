"""The tiny dispatcher: one message in, at most one out.

`jsonrpc.py` says what a message is; this file says who answers it. It looks the method up in a
dict, awaits the handler, and turns exceptions into error answers. It is the only place that does.

    >>> async def echo(params, call): return params
    >>> await Dispatcher({"echo": echo}).dispatch(
    ...     {"jsonrpc": "2.0", "id": 1, "method": "echo", "params": {"a": 1}}, Call())
    {'jsonrpc': '2.0', 'id': 1, 'result': {'a': 1}}

Every transport ends here: it makes a `Call`, which holds what only a transport can know, and
awaits `dispatch(message, call)`. Transports and protocol know nothing else of one another.

Deliberately absent: MCP. Which methods exist is the table's affair, what stands around them
(the era of a request, an audit log) the middleware's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from . import jsonrpc
from .jsonrpc import INTERNAL_ERROR, METHOD_NOT_FOUND, Message, Params, Result, RpcError

logger = logging.getLogger("mcp_min")

Send = Callable[[Message], Coroutine[Any, Any, None]]
Handler = Callable[[Params, Any], Awaitable[Result]]
Next = Callable[[Message, Any], Awaitable[Result]]
Middleware = Callable[[Next, Message, Any], Awaitable[Result]]
Dispatch = Callable[[Message, "Call"], Coroutine[Any, Any, Message | None]]


class Ask(Protocol):
    """Sends a request to the other end and returns its result; raises RpcError, ConnectionClosed or TimeoutError."""

    async def __call__(self, method: str, params: Params) -> Result: ...


@dataclass(slots=True, eq=False)
class Session:
    """What a connection remembers between its messages, for the revisions that have a memory.

    The transport makes one per connection (a pipe, a socket, an `Mcp-Session-Id`) and closes it.
    """

    notify: Send  # to the other end, about no request in particular
    state: dict[str, Any] = field(default_factory=dict)  # the protocol layer's, a transport never looks inside
    on_close: list[Callable[[], object]] = field(default_factory=list)
    batches: bool = False  # whether arrays of messages are welcome, which the protocol layer decides

    def close(self) -> None:
        """Run what was to happen at the end of the connection, each once."""
        while self.on_close:
            self.on_close.pop()()


@dataclass(slots=True, eq=False)
class Call:
    """What a transport knows about one message, for the time it is being answered."""

    send: Send | None = None  # a notification about this request; None where the answer cannot be a stream
    request: Ask | None = None  # ask the client; None on a stateless transport
    session: Session | None = None  # None on a stateless transport
    principal: str | None = None  # who authenticated, None without authentication
    scopes: frozenset[str] | None = None  # what the principal was granted, None where grants have no scopes
    headers: Mapping[str, str] | None = None  # of the HTTP request, names in lower case; None elsewhere
    open: bool = True  # False once answered or cancelled: nothing more may be sent about it
    close_stream: Callable[[], None] | None = None  # ends an HTTP response stream early, the answer is fetched later


class Dispatcher:
    """A table `method -> handler(params, call)` behind one function, `dispatch`.

    Middleware is `async def (call_next, message, call) -> result`; the first listed is the
    outermost. It may pass another object on in place of `call`, and handlers receive that.
    """

    def __init__(self, methods: Mapping[str, Handler], middleware: Iterable[Middleware] = ()) -> None:
        self.methods = methods
        self._enter: Next = self._invoke
        for layer in reversed(list(middleware)):
            self._enter = partial(layer, self._enter)

    async def dispatch(self, message: Message, call: Call) -> Message | None:
        """Answer one checked message: the response to a request, None to a notification or a cancelled request.

        Raises nothing but CancelledError, and that only when the task that awaits it is cancelled.
        """
        id: Any = message.get("id")  # None: a notification, whose result and errors nobody awaits
        try:
            answer = jsonrpc.result(id, await self._enter(message, call))
        except RpcError as problem:
            answer = jsonrpc.error(id, problem)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            answer = jsonrpc.error(
                id, RpcError(INTERNAL_ERROR, "Internal error", {"details": "the work was cancelled"})
            )
        # A handler may call sys.exit(); asyncio would end the whole process for it.
        except (Exception, SystemExit):
            logger.exception("%s failed", message["method"])
            answer = jsonrpc.error(id, RpcError(INTERNAL_ERROR, "Internal error"))
        if id is None or not call.open:
            return None
        call.open = False
        return answer

    async def _invoke(self, message: Message, call: Any) -> Result:
        handler = self.methods.get(message["method"])
        if handler is None:
            if "id" not in message:  # an unknown notification is none of our business
                return {}
            raise RpcError(METHOD_NOT_FOUND, "Method not found", {"details": f"no method {message['method']!r}"})
        return await handler(message.get("params", {}), call)
