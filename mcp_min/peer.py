"""A connection with memory: request ids, tasks in flight, cancellation, timeouts.

`dispatcher.py` answers one message; a peer keeps a conversation. It gives each incoming request a task of its own, so
that nothing waits in line, and matches each incoming answer with the request that waits for it. It does not know
whether it is client or server: both ends are a Peer.

Spec: 2026-07-28 basic/patterns/cancellation, basic/patterns/progress; 2025-11-25 basic/lifecycle#timeouts;
      2025-03-26 basic#batching.
Wire: → {"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"_meta":{"progressToken":7}, …}}
      ← {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":7,"progress":1}}
      ← {"jsonrpc":"2.0","id":7,"result":{…}}

The peer owns what answers each request, a task unless its caller lends one, and one future per request that waits;
`drain` and `fail` end them. The transport belongs to whoever made it.

Deliberately absent: stateless HTTP has no peer, since there is nothing to remember.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from . import jsonrpc
from .dispatcher import Call, Dispatch, Send, Session
from .jsonrpc import INTERNAL_ERROR, ConnectionClosed, Message, Params, RequestId, Result, RpcError

logger = logging.getLogger("mcp_min")

OnProgress = Callable[[float, float | None, str | None], object]
Reply = Callable[[Any], Coroutine[Any, Any, None]]  # takes an answer, or the list of answers to a batch

MAX_TASKS = 16_384  # requests being answered, and what else is going on; past it, reading pauses
# Answers that wait for a slow reader; past it, reading pauses. Two ends that both owe each other so many wait for one
# another until the timeouts of their requests: to read on would be to store without bound.
MAX_UNSENT = 256
MAX_BURST = 64  # messages taken in before their tasks get a turn; only then is it known what stays unsent
MAX_BATCH = 1_000  # members of one 2025-03-26 batch


@dataclass(slots=True, eq=False)
class _Waiting:
    """A request of ours that has no answer yet."""

    answer: asyncio.Future[Message]
    deadline: asyncio.Timeout
    timeout: float | None  # seconds, begun anew by each progress notification
    give_up_at: float  # in the loop's time, whatever the progress
    on_progress: OnProgress | None

    def renew(self) -> None:
        if self.timeout is not None and not self.deadline.expired():
            at = self.answer.get_loop().time() + self.timeout
            self.deadline.reschedule(min(at, self.give_up_at))


class Peer:
    """One end of a connection: `write` sends a message, `dispatch` answers one, `receive` takes one in."""

    def __init__(self, write: Send, dispatch: Dispatch) -> None:
        self.write = write
        self.session = Session(write)
        self._dispatch = dispatch
        self.new_id = itertools.count(1).__next__  # returns an id that no request of ours has had
        self._waiting: dict[RequestId, _Waiting] = {}  # our requests, by our ids
        self._answering: dict[RequestId, tuple[Call, asyncio.Task[Any]]] = {}  # theirs, by their ids
        self._tasks: set[asyncio.Task[Any]] = set()  # everything that is going on
        self._unsent = 0  # answers that are being written
        self._room = asyncio.Event()  # set when a task has ended
        # Why no answer can come any more; without a result while one can.
        self._end: asyncio.Future[ConnectionClosed] = asyncio.get_running_loop().create_future()

    @property
    def closed(self) -> bool:
        """Whether no answer can come any more."""
        return self._end.done()

    @property
    def in_flight(self) -> int:
        """How many requests are being answered."""
        return len(self._answering) + self._unsent

    async def wait_closed(self) -> Result:
        """Wait until the connection is lost. Raises ConnectionClosed then."""
        raise await asyncio.shield(self._end)

    # --- what comes in ---------------------------------------------------------------------------

    async def run(self, messages: AsyncIterator[Message]) -> None:
        """Receive until the other end closes; requests that wait for an answer then fail with ConnectionClosed."""
        reason = ConnectionClosed("the other end closed the connection")
        received = 0
        try:
            async for message in messages:
                self.receive(message)
                received += 1
                if received % MAX_BURST == 0:
                    await asyncio.sleep(0)
                while self._unsent > MAX_UNSENT or len(self._tasks) > MAX_TASKS:
                    self._room.clear()
                    await self._room.wait()
        except ConnectionClosed as error:
            reason = error
        finally:
            self.fail(reason)

    def receive(
        self, message: Message | list[Any], call: Call | None = None, reply: Reply | None = None
    ) -> asyncio.Task[Any] | None:
        """Take one checked message, or one unchecked batch, and return at once.

        call, reply: where its notifications and its answer go, by default where everything goes. Returns what answers.
        """
        call = call or Call(self.write, self.request)
        call.session = self.session
        reply = reply or self.write
        try:
            if isinstance(message, list):
                return self._receive_batch(message, call, reply)
            if "method" not in message:
                self._resolve(message)
                return None
            id = message.get("id")
            if id is None:
                self._hear(message)
            elif id in self._answering:
                raise _id_in_flight(id)
        except RpcError as problem:
            return self._start(self._send(jsonrpc.error(problem.id, problem), reply))
        # What `_start` does, written out: every request passes here, and so do those who read after it.
        task = asyncio.get_running_loop().create_task(self._answer(message, call, reply))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        if id is not None:
            self._answering[id] = (call, task)
        return task

    async def _answer(self, message: Message, call: Call, reply: Reply) -> None:
        answer = await self._dispatch(message, call)
        if answer is None:  # a notification's, or that of a cancelled request
            return
        del self._answering[message["id"]]
        self._unsent += 1
        try:
            await reply(answer)
        except ConnectionClosed as lost:
            logger.debug("an answer was lost: %s", lost)
        # encode() refused it before a byte was written: the request still wants its answer.
        except (TypeError, ValueError) as error:
            logger.error("the answer to %s is not JSON: %s", message["method"], error)
            problem = RpcError(INTERNAL_ERROR, "Internal error", {"details": "the answer that was made is not JSON"})
            await self._send(jsonrpc.error(message["id"], problem), reply)
        finally:
            self._unsent -= 1

    async def answer(self, message: Message, call: Call, reply: Reply) -> None:
        """Answer in the caller's task, which no cancelled request ends. Raises RpcError for an id in flight."""
        id, task = message["id"], asyncio.current_task()
        assert task is not None
        if id in self._answering:
            raise _id_in_flight(id)
        call.session, before = self.session, task.cancelling()  # a handler may have kept a cancellation to itself
        mine = self._answering[id] = (call, task)
        self._tasks.add(task)
        try:
            await self._answer(message, call, reply)
        except asyncio.CancelledError:
            if call.send is not None or task.cancelling() > before + 1:  # it was not `cancel`, or not alone
                raise
        finally:
            if self._answering.get(id) is mine:  # once answered or cancelled, the id may be another's
                del self._answering[id]
            self._ended(task)
        if call.send is None:
            task.uncancel()

    def _receive_batch(self, batch: list[Any], call: Call, reply: Reply) -> asyncio.Task[None]:
        """Answer an array with one array. Spec: 2025-03-26 basic#batching."""
        if not self.session.batches or not 0 < len(batch) <= MAX_BATCH:
            details = f"an array is accepted where 2025-03-26 was negotiated, with 1 to {MAX_BATCH} messages"
            raise jsonrpc.invalid_request(details)
        answers: list[Message] = []
        tasks: list[Awaitable[Any] | None] = []

        async def collect(answer: Message) -> None:
            jsonrpc.encode(answer)  # one that is not JSON must not spoil the others
            answers.append(answer)

        async def finish() -> None:
            await asyncio.gather(*filter(None, tasks), return_exceptions=True)
            if answers:
                await self._send(answers, reply)

        for member in batch:
            try:
                tasks.append(self.receive(jsonrpc.check(member), replace(call), collect))
            except RpcError as problem:
                answers.append(jsonrpc.error(problem.id, problem))
        return self._start(finish())

    def _hear(self, message: Message) -> None:
        method, params = message["method"], message.get("params", {})
        if method == "notifications/cancelled":
            self.cancel(params.get("requestId"))
        token, progress = params.get("progressToken"), params.get("progress")
        waiting = self._waiting.get(token) if type(token) in (str, int) else None
        if method == "notifications/progress" and waiting is not None and isinstance(progress, (int, float)):
            waiting.renew()
            if waiting.on_progress is not None:
                self._start(call_back(waiting.on_progress, progress, params.get("total"), params.get("message")))

    def cancel(self, id: Any) -> None:
        """Stop answering a request; an unknown id is ignored, since the answer may be on its way.

        MUST NOT send any further messages for it (2026-07-28 basic/transports/stdio#cancellation).
        """
        if type(id) in (str, int) and id in self._answering:  # True is no id, but equals 1
            call, task = self._answering.pop(id)
            call.open = False
            call.send = call.request = None
            task.cancel()

    # --- what goes out ---------------------------------------------------------------------------

    async def request(
        self,
        method: str,
        params: Params,
        *,
        timeout: float | None = None,
        max_timeout: float | None = None,
        on_progress: OnProgress | None = None,
        id: RequestId | None = None,
        write: Send | None = None,
    ) -> Result:
        """Send one request and wait for its answer.

        Spec: 2026-07-28 basic#requests, basic/patterns/cancellation#timeouts.
        timeout and max_timeout are in seconds, None waits for ever: `timeout` begins anew with each progress
        notification, `max_timeout` does not. on_progress(progress, total, message) may be `def` or `async def`. id:
        from `new_id`, for callers that must know it beforehand. write: the channel to use, where there are several.

        Raises RpcError when the peer answered with an error, ConnectionClosed when it never will, TimeoutError. On
        timeout or cancellation `notifications/cancelled` follows the request; the peer may have acted on it.
        """
        if self.closed:
            raise self._end.result()
        id = id or self.new_id()
        if timeout is not None or on_progress is not None:
            # MUST be unique across active requests (2026-07-28 basic/patterns/progress): the request's own id is.
            params = params | {"_meta": params.get("_meta", {}) | {"progressToken": id}}
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Message] = loop.create_future()
        deadline = asyncio.timeout(min((limit for limit in (timeout, max_timeout) if limit is not None), default=None))
        give_up_at = math.inf if max_timeout is None else loop.time() + max_timeout
        self._waiting[id] = _Waiting(answer, deadline, timeout, give_up_at, on_progress)
        try:
            async with deadline:
                await (write or self.write)(jsonrpc.request(id, method, params))
                message = await answer
            if "error" in message:
                problem = message["error"]
                raise RpcError(problem["code"], problem["message"], problem.get("data"))
            result: Result = message["result"]
            return result
        except (asyncio.CancelledError, TimeoutError) as error:
            # MUST NOT cancel `initialize` (2025-11-25 basic/utilities/cancellation), nor what has been answered.
            if id in self._waiting and method != "initialize":
                params = {"requestId": id, "reason": "nobody waits for the answer any more"}
                self._start(self._send(jsonrpc.notification("notifications/cancelled", params), self.write))
            if isinstance(error, TimeoutError):
                raise TimeoutError(f"no answer to {method} within {timeout} seconds, {max_timeout} in all") from None
            raise
        finally:
            self._waiting.pop(id, None)

    async def notify(self, method: str, params: Params | None = None) -> None:
        """Send a notification. Raises ConnectionClosed."""
        await self.write(jsonrpc.notification(method, params))

    def _resolve(self, message: Message) -> None:
        waiting = self._waiting.pop(message["id"], None) if message.get("id") is not None else None
        if waiting is None or waiting.answer.done():
            # SHOULD ignore an answer that arrives after the cancellation (2026-07-28 basic/patterns/cancellation).
            logger.debug("an answer that nobody waits for: %.200r", message)
        else:
            waiting.answer.set_result(message)

    # --- the end ---------------------------------------------------------------------------------

    def fail(self, reason: ConnectionClosed) -> None:
        """Fail what waits for an answer, and whatever is asked from now on; what is being answered goes on."""
        if not self._end.done():
            self._end.set_result(reason)
        while self._waiting:
            _, waiting = self._waiting.popitem()
            if not waiting.answer.done():
                waiting.answer.set_exception(reason)
                waiting.answer.exception()  # looked at here, since nobody may be waiting any more
        self.session.close()

    async def drain(self, timeout: float) -> None:
        """Let requests in flight be answered for up to `timeout` seconds, then cancel what is left."""
        for patience in (timeout, 0.1):
            with suppress(TimeoutError):  # before Python 3.11.3, `asyncio.timeout` fails whoever is cancelled
                await asyncio.wait_for(self._until_idle(), patience)
            for id in list(self._answering):
                self.cancel(id)
            for task in self._tasks:
                if not task.cancelling():
                    task.cancel()

    async def _until_idle(self) -> None:
        while self._tasks:
            self._room.clear()
            await self._room.wait()

    def _start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        self._room.set()

    async def _send(self, message: Any, write: Reply) -> None:
        """Send what nobody here waits for."""
        self._unsent += 1
        try:
            await write(message)
        except ConnectionClosed as lost:
            logger.debug("a message was lost: %s", lost)
        finally:
            self._unsent -= 1


def _id_in_flight(id: RequestId) -> RpcError:
    # MUST NOT match an id not yet answered (2026-07-28 basic#requests).
    return jsonrpc.invalid_request(f"the id {id!r:.100} belongs to a request that is being answered", id)


async def call_back(function: Callable[..., object], *args: Any) -> Any:
    """Call a user's callback, `def` or `async def`; an exception in it is logged, since nobody waits for it."""
    try:
        value = function(*args)
        return await value if inspect.isawaitable(value) else value
    except Exception:
        logger.exception("a callback failed: %r", function)
        return None
