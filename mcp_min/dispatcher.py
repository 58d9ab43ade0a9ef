"""The tiny dispatcher: one message in, at most one out.

`jsonrpc.py` says what a message is; this file says who answers it. It looks the method up in a
dict, awaits the handler, and turns exceptions into error answers. It is the only place that does.

    >>> async def echo(params, call): return params
    >>> await Dispatcher({"echo": echo}).dispatch(
    ...     {"jsonrpc": "2.0", "id": 1, "method": "echo", "params": {"a": 1}}, Call())
    {'jsonrpc': '2.0', 'id': 1, 'result': {'a': 1}}

Every transport ends here: it makes and owns a `Call`, which holds what only a transport can know, and
awaits `dispatch(message, call)`. Transports and protocol know nothing else of one another.

Spec: JSON-RPC 2.0 sections 4 and 5; 2026-07-28 basic#responses, basic#notifications.
Deliberately absent: MCP. Which methods exist is the table's affair.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from . import jsonrpc
from .jsonrpc import INTERNAL_ERROR, METHOD_NOT_FOUND, Message, Params, Result, RpcError

logger = logging.getLogger("mcp_min")

Send = Callable[[Message], Coroutine[Any, Any, None]]
Handler = Callable[[Params, Any], Awaitable[Result]]
Around = Callable[[Handler, Params, Any], Awaitable[Result]]
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
    stands_alone: bool = False  # set by the protocol: nothing is remembered for it, and who hangs up wants it to end
    message: Message = field(default_factory=dict)  # the one being answered; set by `dispatch`


class Dispatcher:
    """A table `method -> handler(params, call)` behind one function, `dispatch`.

    around(handler, params, call) stands between the two, for a protocol with something to do for every request;
    what is no method has a handler too, which says so.
    """

    def __init__(self, methods: Mapping[str, Handler], around: Around | None = None) -> None:
        self.methods = methods
        self._around = around or _directly

    async def dispatch(self, message: Message, call: Call) -> Message | None:
        """Answer one checked message: the response to a request, None to a notification or a cancelled request.

        Raises nothing but CancelledError, and that only when the task that awaits it is cancelled.
        """
        method, id = message["method"], message.get("id")  # no id: a notification, whose result nobody awaits
        call.message = message
        answer: Message = {"jsonrpc": "2.0", "id": id}
        try:
            handler = self.methods.get(method) or _missing(method)
            answer["result"] = await self._around(handler, message.get("params", {}), call)
        except RpcError as problem:
            answer = jsonrpc.error(id, problem)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            details = {"details": "the work was cancelled from within"}
            answer = jsonrpc.error(id, RpcError(INTERNAL_ERROR, "Internal error", details))
        # A handler may call sys.exit(), for which asyncio would end the whole process, or lose a task of its group.
        except (Exception, SystemExit, BaseExceptionGroup):
            logger.exception("%s failed", method)
            answer = jsonrpc.error(id, RpcError(INTERNAL_ERROR, "Internal error"))
        if id is None or not call.open:
            return None
        call.open = False
        return answer


def _missing(method: str) -> Handler:
    async def missing(params: Params, call: Any) -> Result:
        raise RpcError(METHOD_NOT_FOUND, "Method not found", {"details": f"there is no method {method!r:.100}"})

    return missing


async def _directly(handler: Handler, params: Params, call: Call) -> Result:
    return await handler(params, call)
