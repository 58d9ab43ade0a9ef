"""A connection with memory: who is answered, who is not, and for how long anybody waits."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import logging
import selectors

import pytest

from mcp_min import jsonrpc, peer
from mcp_min.dispatcher import Call, Dispatcher
from mcp_min.jsonrpc import ConnectionClosed, RpcError
from mcp_min.peer import Peer, call_back

# --- what the tests stand on ---------------------------------------------------------------------


class VirtualTime(asyncio.SelectorEventLoop):
    """An event loop in which nobody waits: when all are waiting, the clock jumps to the next timer."""

    def __init__(self):
        loop = self
        self.now = 0.0

        class Selector(selectors.DefaultSelector):
            def select(self, timeout=None):
                assert timeout is not None, "everybody waits, and no timer is set"
                loop.now += timeout
                return super().select(0)

        super().__init__(Selector())

    def time(self):
        return self.now


def in_virtual_time(test):
    @functools.wraps(test)
    def run():
        failures = []
        with asyncio.Runner(loop_factory=VirtualTime) as runner:
            runner.get_loop().set_exception_handler(lambda loop, context: failures.append(context))
            runner.run(test())
        assert failures == []

    return run


class Wire:
    """A peer whose other end is the test: `sent` is what it wrote, and `gate` holds it back, as a slow reader would."""

    def __init__(self, **methods):
        self.sent = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.broken = False
        self.inbox = asyncio.Queue()
        self.peer = Peer(self.write, Dispatcher(methods).dispatch)

    async def write(self, message):
        if self.broken:
            raise ConnectionClosed("broken")
        self.sent.append(jsonrpc.decode(jsonrpc.encode(message)) if isinstance(message, dict) else message)
        await self.gate.wait()

    async def messages(self):
        while (message := await self.inbox.get()) is not None:
            yield message

    def answers(self):
        return {message["id"]: message.get("result", message.get("error")) for message in self.sent}


async def settle():
    """Let everything happen that can happen without waiting."""
    for _ in range(10):
        await asyncio.sleep(0)


def request(method, params=None, id=1):
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": params or {}}


def answer(id, result):
    return {"jsonrpc": "2.0", "id": id, "result": result}


def cancelled(id):
    return jsonrpc.notification("notifications/cancelled", {"requestId": id})


def progress(token, value, **more):
    return jsonrpc.notification("notifications/progress", {"progressToken": token, "progress": value, **more})


async def echo(params, call):
    return params


class Slow:
    """A handler that tells when it has begun and how it ended, and ends when told."""

    def __init__(self):
        self.begun = []
        self.ended = []
        self.go = asyncio.Event()

    async def __call__(self, params, call):
        self.begun.append(params)
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            raise
        self.ended.append("done")
        return params


# --- our requests --------------------------------------------------------------------------------


async def test_a_request_and_its_result():
    wire = Wire()
    asking = asyncio.create_task(wire.peer.request("tools/list", {"cursor": ""}))
    await settle()
    assert wire.sent == [{"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"cursor": ""}}]
    wire.peer.receive(answer(1, {"tools": []}))
    assert await asking == {"tools": []}


async def test_a_request_and_its_error():
    wire = Wire()
    asking = asyncio.create_task(wire.peer.request("a", {}))
    await settle()
    wire.peer.receive({"jsonrpc": "2.0", "id": 1, "error": {"code": -32602, "message": "No", "data": {"a": 1}}})
    with pytest.raises(RpcError) as raised:
        await asking
    assert (raised.value.code, raised.value.message, raised.value.data) == (-32602, "No", {"a": 1})


async def test_answers_find_their_requests_in_any_order():
    wire = Wire()
    tasks = [asyncio.create_task(wire.peer.request("a", {"n": n})) for n in range(100)]
    await settle()
    for message in reversed(wire.sent):
        wire.peer.receive(answer(message["id"], message["params"]))
    assert await asyncio.gather(*tasks) == [{"n": n} for n in range(100)]
    assert len({message["id"] for message in wire.sent}) == 100


async def test_an_id_may_be_known_beforehand_and_a_request_may_take_another_channel():
    wire, other = Wire(), Wire()
    id = wire.peer.new_id()
    asking = asyncio.create_task(wire.peer.request("a", {}, id=id, write=other.write))
    await settle()
    assert wire.sent == []
    assert other.sent[0]["id"] == id != wire.peer.new_id()
    wire.peer.receive(answer(id, {}))
    assert await asking == {}


ANSWERS_TO_NOBODY = [
    answer(2, {}),
    answer("1", {}),
    answer(0, {}),
    {"jsonrpc": "2.0", "error": {"code": -32700, "message": "Parse error"}},
    {"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "Parse error"}},
]


@pytest.mark.parametrize("message", ANSWERS_TO_NOBODY)
async def test_answers_that_nobody_waits_for_are_ignored(message):
    wire = Wire()
    asking = asyncio.create_task(wire.peer.request("a", {}))
    await settle()
    wire.peer.receive(message)
    await settle()
    assert not asking.done()
    wire.peer.receive(answer(1, {"right": True}))
    wire.peer.receive(answer(1, {"right": False}))
    assert await asking == {"right": True}
    assert len(wire.sent) == 1


async def test_a_request_that_cannot_be_written_was_never_sent():
    wire = Wire()
    with pytest.raises(TypeError):
        await wire.peer.request("a", {"x": object()})
    await settle()
    assert wire.sent == []


async def test_a_notification():
    wire = Wire()
    await wire.peer.notify("a")
    await wire.peer.notify("b", {"x": 1})
    assert wire.sent == [jsonrpc.notification("a"), jsonrpc.notification("b", {"x": 1})]
    wire.broken = True
    with pytest.raises(ConnectionClosed):
        await wire.peer.notify("c")


# --- their requests ------------------------------------------------------------------------------


async def test_ids_1_and_the_string_1_are_two_requests():
    slow = Slow()
    wire = Wire(slow=slow)
    wire.peer.receive(request("slow", {"n": 1}, id=1))
    wire.peer.receive(request("slow", {"n": 2}, id="1"))
    await settle()
    wire.peer.receive(cancelled("1"))
    await settle()
    slow.go.set()
    await settle()
    assert wire.sent == [answer(1, {"n": 1})]


async def test_an_id_in_flight_is_refused_and_free_again_afterwards():
    slow = Slow()
    wire = Wire(slow=slow, echo=echo)
    wire.peer.receive(request("slow", {"n": 1}))
    wire.peer.receive(request("echo", {"n": 2}))
    await settle()
    (refused,) = wire.sent
    assert (refused["id"], refused["error"]["code"]) == (1, -32600)
    assert "being answered" in refused["error"]["data"]["details"]
    slow.go.set()
    await settle()
    wire.peer.receive(request("echo", {"n": 3}))
    await settle()
    assert wire.sent[1:] == [answer(1, {"n": 1}), answer(1, {"n": 3})]


async def test_an_id_is_free_as_soon_as_its_answer_is_on_its_way():
    """A client that reads fast may send the next request while we still wait for the buffer to empty."""
    wire = Wire(echo=echo)
    wire.gate.clear()
    wire.peer.receive(request("echo", {"n": 1}))
    await settle()
    wire.peer.receive(request("echo", {"n": 2}))
    await settle()
    assert wire.sent == [answer(1, {"n": 1}), answer(1, {"n": 2})]


@pytest.mark.parametrize("error", [SystemExit(3), asyncio.CancelledError(), RuntimeError(), RecursionError()], ids=repr)
async def test_a_handler_that_fails_is_answered_and_the_next_one_served(error):
    async def fail(params, call):
        raise error

    wire = Wire(fail=fail, echo=echo)
    wire.peer.receive(request("fail", id=1))
    wire.peer.receive(request("echo", {"n": 2}, id=2))
    await settle()
    assert wire.answers()[1]["code"] == -32603
    assert wire.answers()[2] == {"n": 2}


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("value", [float("nan"), "\ud800", object(), b"", {1, 2}, nested(100_000)], ids=type)
async def test_an_answer_that_is_not_json_is_an_error(value, caplog):
    async def odd(params, call):
        return {"x": value}

    wire = Wire(odd=odd)
    wire.peer.receive(request("odd", id="7"))
    await settle()
    (message,) = wire.sent
    assert (message["id"], message["error"]["code"]) == ("7", -32603)
    assert message["error"]["data"] == {"details": "the answer that was made is not JSON"}
    assert "the answer to odd is not JSON" in caplog.text


async def test_an_answer_that_nobody_can_receive_any_more_is_dropped(caplog):
    caplog.set_level(logging.DEBUG, "mcp_min")
    wire = Wire(echo=echo)
    wire.broken = True
    wire.peer.receive(request("echo"))
    await settle()
    assert "an answer was lost: broken" in caplog.text


async def test_a_call_can_send_and_ask():
    async def chatty(params, call):
        await call.send(jsonrpc.notification("notifications/message", {"data": 1}))
        found = await call.request("roots/list", {})
        await call.session.notify(jsonrpc.notification("later"))
        return found

    wire = Wire(chatty=chatty)
    wire.peer.receive(request("chatty", id=9))
    await settle()
    assert [message["method"] for message in wire.sent] == ["notifications/message", "roots/list"]
    wire.peer.receive(answer(wire.sent[1]["id"], {"roots": []}))
    await settle()
    assert wire.sent[2:] == [jsonrpc.notification("later"), answer(9, {"roots": []})]


async def test_a_transport_with_several_channels_says_where_an_answer_goes():
    wire, other = Wire(echo=echo), Wire()
    call = Call(principal="ann")
    task = wire.peer.receive(request("echo", {"n": 1}), call, other.write)
    await task
    assert (wire.sent, other.sent) == ([], [answer(1, {"n": 1})])
    assert call.session is wire.peer.session
    assert wire.peer.receive(answer(99, {}), call, other.write) is None


async def test_ten_thousand_requests_in_flight_are_each_answered_once():
    slow = Slow()
    wire = Wire(slow=slow)
    for id in range(10_000):
        wire.peer.receive(request("slow", {"n": id}, id=id))
    await settle()
    slow.go.set()
    await settle()
    assert len(wire.sent) == 10_000
    assert wire.answers() == {id: {"n": id} for id in range(10_000)}


# --- cancellation of theirs ----------------------------------------------------------------------


async def test_nothing_is_sent_for_a_cancelled_request():
    slow = Slow()
    wire = Wire(slow=slow)
    wire.peer.receive(request("slow"))
    await settle()
    wire.peer.receive(cancelled(1))
    await settle()
    assert (slow.ended, wire.sent) == (["cancelled"], [])


async def test_a_request_may_be_cancelled_before_it_has_begun():
    slow = Slow()
    wire = Wire(slow=slow)
    wire.peer.receive(request("slow", {"n": 1}))
    wire.peer.receive(cancelled(1))
    wire.peer.receive(request("slow", {"n": 2}))
    slow.go.set()
    await settle()
    assert (slow.begun, wire.sent) == ([{"n": 2}], [answer(1, {"n": 2})])


async def test_nothing_is_sent_by_a_handler_that_does_not_stop():
    failures = []

    async def stubborn(params, call):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            for step in (call.send, call.request):
                failures.append(step)
        return {"still": "here"}

    wire = Wire(stubborn=stubborn, echo=echo)
    wire.peer.receive(request("stubborn"))
    await settle()
    wire.peer.receive(cancelled(1))
    wire.peer.receive(request("echo", {"n": 2}))
    await settle()
    assert failures == [None, None]
    assert wire.sent == [answer(1, {"n": 2})]


async def test_a_second_cancellation_leaves_the_handler_to_clean_up():
    ended = []

    async def tidy(params, call):
        try:
            await asyncio.Event().wait()
        finally:
            await settle()
            ended.append("clean")

    wire = Wire(tidy=tidy)
    wire.peer.receive(request("tidy"))
    await settle()
    wire.peer.receive(cancelled(1))
    await asyncio.sleep(0)
    wire.peer.receive(cancelled(1))
    await settle()
    await settle()
    assert (ended, wire.sent) == (["clean"], [])


@pytest.mark.parametrize("id", [2, "1", True, 1.0, None, [1], {"1": 1}, "", -1])
async def test_a_cancellation_of_something_else_is_ignored(id):
    slow = Slow()
    wire = Wire(slow=slow)
    wire.peer.receive(request("slow"))
    await settle()
    wire.peer.receive(cancelled(id))
    wire.peer.receive(jsonrpc.notification("notifications/cancelled"))
    wire.peer.receive(jsonrpc.notification("notifications/else", {"requestId": 1}))
    slow.go.set()
    await settle()
    assert wire.sent == [answer(1, {})]


async def test_a_cancellation_after_the_answer_is_ignored():
    wire = Wire(echo=echo)
    wire.gate.clear()
    wire.peer.receive(request("echo"))
    await settle()
    wire.peer.receive(cancelled(1))
    wire.gate.set()
    await settle()
    assert wire.sent == [answer(1, {})]


# --- in the task of whoever asks -----------------------------------------------------------------


async def here(wire, id=1, method="work", then=None):
    """Serve one request as a task that serves many does; return how often its task is still to be cancelled."""
    await wire.peer.answer(request(method, id=id), Call(wire.write, wire.peer.request), wire.write)
    if then is not None:
        await then.wait()
    return asyncio.current_task().cancelling()


class Stubborn(Slow):
    """A handler that does not end before it is told."""

    async def __call__(self, params, call):
        while not self.go.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await super().__call__(params, call)
        return params


class Timed(Slow):
    async def __call__(self, params, call):
        async with asyncio.timeout(60):
            return await super().__call__(params, call)


class Grouped(Slow):
    async def __call__(self, params, call):
        async with asyncio.TaskGroup() as group:
            work = [group.create_task(super(Grouped, self).__call__(params, call)) for _ in range(2)]
        return work[0].result()


WORK = [Slow, Stubborn, Timed, Grouped]


def nothing_is_left(peer):
    return (peer.in_flight, peer._answering, peer._tasks) == (0, {}, set())


@pytest.mark.parametrize("kind", WORK)
async def test_answered_here(kind):
    work = kind()
    wire = Wire(work=work)
    serving = asyncio.create_task(here(wire))
    await settle()
    assert (wire.peer.in_flight, wire.peer._tasks) == (1, {serving}), "no other task"
    work.go.set()
    assert await serving == 0
    assert wire.sent == [answer(1, {})]
    assert nothing_is_left(wire.peer)


@pytest.mark.parametrize("kind", WORK)
async def test_a_request_that_is_cancelled_here_leaves_the_task_to_the_next(kind):
    work, then = kind(), asyncio.Event()
    wire = Wire(work=work, echo=echo)
    serving = asyncio.create_task(here(wire, then=then))
    await settle()
    wire.peer.receive(cancelled(1))
    await settle()
    assert ("cancelled" in work.ended, wire.peer.in_flight, serving.done()) == (True, 0, False)
    work.go.set()
    then.set()
    assert await serving == 0, "asyncio.timeout and TaskGroup of the next request would believe that it is cancelled"
    assert wire.sent == []
    assert nothing_is_left(wire.peer)


@pytest.mark.parametrize("also_cancelled", [None, "before", "after"])
async def test_whoever_cancels_the_task_itself_ends_it(also_cancelled):
    work = Slow()
    wire = Wire(work=work)
    serving = asyncio.create_task(here(wire))
    await settle()
    if also_cancelled == "before":
        wire.peer.receive(cancelled(1))
    serving.cancel()
    if also_cancelled == "after":
        wire.peer.receive(cancelled(1))
    await settle()
    assert serving.cancelled()
    assert work.ended == ["cancelled"]
    assert nothing_is_left(wire.peer)


async def test_a_cancellation_that_a_handler_kept_to_itself_is_not_the_next_ones():
    async def keep(params, call):
        asyncio.current_task().cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
        return params

    work, then = Slow(), asyncio.Event()
    wire = Wire(keep=keep, work=work)

    async def serve_both():
        await here(wire, method="keep")
        return await here(wire, id=2, then=then)

    serving = asyncio.create_task(serve_both())
    await settle()
    wire.peer.receive(cancelled(2))
    await settle()
    assert (work.ended, serving.done()) == (["cancelled"], False)
    then.set()
    assert await serving == 1, "what was before"


@pytest.mark.parametrize("first", ["is cancelled", "is being sent"])
async def test_an_id_that_is_free_again_is_not_forgotten_by_who_had_it_first(first):
    work, next_one = Stubborn(), Slow()
    wire = Wire(work=work, next=next_one)
    serving = asyncio.create_task(here(wire))
    await settle()
    if first == "is cancelled":
        wire.peer.receive(cancelled(1))
    else:
        wire.gate.clear()
        work.go.set()
    await settle()
    following = asyncio.create_task(here(wire, method="next"))
    await settle()
    work.go.set()
    wire.gate.set()
    await serving
    assert wire.peer.in_flight == 1
    next_one.go.set()
    await following
    assert len(wire.sent) == (1 if first == "is cancelled" else 2)
    assert nothing_is_left(wire.peer)


async def test_an_id_in_flight_is_refused_here_too():
    work = Slow()
    wire = Wire(work=work)
    serving = asyncio.create_task(here(wire))
    await settle()
    with pytest.raises(RpcError, match="the id 1 belongs to a request that is being answered") as refused:
        await here(wire)
    assert (refused.value.code, refused.value.id) == (-32600, 1)
    work.go.set()
    await serving
    assert wire.sent == [answer(1, {})]
    assert nothing_is_left(wire.peer)


async def test_drain_waits_for_what_is_answered_here():
    work = Slow()
    wire = Wire(work=work)
    serving = asyncio.create_task(here(wire))
    await settle()
    draining = asyncio.create_task(wire.peer.drain(30))
    await settle()
    assert not draining.done()
    work.go.set()
    await draining
    assert (await serving, wire.sent) == (0, [answer(1, {})])


@in_virtual_time
async def test_drain_cancels_the_request_and_not_the_task_that_answers_it():
    work, then = Slow(), asyncio.Event()
    wire = Wire(work=work)
    serving = asyncio.create_task(here(wire, then=then))
    await settle()
    await wire.peer.drain(30)
    assert asyncio.get_running_loop().time() == 30
    assert (work.ended, wire.sent, serving.done()) == (["cancelled"], [], False)
    then.set()
    assert await serving == 0


# --- batches -------------------------------------------------------------------------------------


def batching(**methods):
    wire = Wire(**methods)
    wire.peer.session.batches = True
    return wire


async def test_a_batch_is_refused_where_none_was_negotiated():
    wire = Wire(echo=echo)
    wire.peer.receive([request("echo")])
    await settle()
    (message,) = wire.sent
    assert message["error"]["code"] == -32600
    assert "id" not in message
    assert "2025-03-26" in message["error"]["data"]["details"]


@pytest.mark.parametrize("length", [0, peer.MAX_BATCH + 1])
async def test_a_batch_has_a_size(length):
    wire = batching(echo=echo)
    wire.peer.receive([request("echo", id=id) for id in range(length)])
    await settle()
    (message,) = wire.sent
    assert message["error"]["code"] == -32600


async def test_a_batch_is_answered_by_one_array_in_any_order():
    slow, ours = Slow(), []
    wire = batching(slow=slow, echo=echo, note=lambda params, call: ours.append(params))
    asking = asyncio.create_task(wire.peer.request("a", {}))
    await settle()
    wire.sent.clear()
    members = [
        request("slow", {"n": 1}, id=1),
        request("echo", {"n": 2}, id=2),
        jsonrpc.notification("note"),
        answer(1, {"for": "us"}),
        {"jsonrpc": "2.0", "id": 3, "method": 5},
        "garbage",
        [request("echo", id=4)],
        request("nothing", id=5),
        request("echo", id=1),
    ]
    wire.peer.receive(members)
    await settle()
    assert wire.sent == []
    assert await asking == {"for": "us"}
    slow.go.set()
    await settle()
    (batch,) = wire.sent
    found = sorted((message.get("id", 0), message.get("error", {}).get("code", 0)) for message in batch)
    assert found == [(0, -32600), (0, -32600), (1, -32600), (1, 0), (2, 0), (3, -32600), (5, -32601)]


@pytest.mark.parametrize("members", [[jsonrpc.notification("a")] * 3, [answer(1, {})]])
async def test_a_batch_without_requests_has_no_answer(members):
    wire = batching()
    await wire.peer.receive(members)
    assert wire.sent == []


async def test_each_member_of_a_batch_can_be_cancelled():
    slow = Slow()
    wire = batching(slow=slow)
    wire.peer.receive([request("slow", {"n": n}, id=n) for n in range(3)])
    wire.peer.receive(cancelled(1))
    slow.go.set()
    await settle()
    assert wire.sent == [[answer(0, {"n": 0}), answer(2, {"n": 2})]]


async def test_a_batch_of_which_all_is_cancelled_has_no_answer():
    slow = Slow()
    wire = batching(slow=slow)
    finished = wire.peer.receive([request("slow", id=1), request("slow", id=2)])
    await settle()
    wire.peer.receive([cancelled(1), cancelled(2)])
    await finished
    assert (slow.ended, wire.sent) == (["cancelled"] * 2, [])


async def test_a_member_that_is_not_json_does_not_spoil_the_others():
    async def odd(params, call):
        return {"x": object()}

    wire = batching(odd=odd, echo=echo)
    wire.peer.receive([request("odd", id=1), request("echo", id=2)])
    await settle()
    (batch,) = wire.sent
    assert {message["id"]: "error" in message for message in batch} == {1: True, 2: False}


# --- progress ------------------------------------------------------------------------------------


async def test_progress_reaches_the_callback_before_the_result():
    wire, seen = Wire(), []
    params = {"name": "x", "_meta": {"own": 1}}
    asking = asyncio.create_task(wire.peer.request("a", params, on_progress=lambda *told: seen.append(told)))
    await settle()
    assert wire.sent[0]["params"] == {"name": "x", "_meta": {"own": 1, "progressToken": 1}}
    assert params == {"name": "x", "_meta": {"own": 1}}
    wire.peer.receive(progress(1, 0.5))
    wire.peer.receive(progress(1, 2, total=4, message="half"))
    wire.peer.receive(answer(1, {}))
    await asking
    assert seen == [(0.5, None, None), (2, 4, "half")]


async def test_a_callback_may_be_async_and_may_fail(caplog):
    wire, seen = Wire(), []

    async def show(value, total, message):
        seen.append(value)
        raise RuntimeError("in the callback")

    asking = asyncio.create_task(wire.peer.request("a", {}, on_progress=show))
    await settle()
    wire.peer.receive(progress(1, 1))
    wire.peer.receive(progress(1, 2))
    await settle()
    wire.peer.receive(answer(1, {}))
    await asking
    assert seen == [1, 2]
    assert "in the callback" in caplog.text


@pytest.mark.parametrize(
    "message",
    [
        progress(2, 1),
        progress("1", 1),
        progress(True, 1),
        progress(1.0, 1),
        progress(None, 1),
        progress([1], 1),
        progress(1, "1"),
        progress(1, None),
        jsonrpc.notification("notifications/progress"),
        jsonrpc.notification("notifications/message", {"progressToken": 1, "progress": 1}),
    ],
)
async def test_progress_of_something_else_is_ignored(message):
    wire, seen = Wire(), []
    asking = asyncio.create_task(wire.peer.request("a", {}, on_progress=lambda *told: seen.append(told)))
    await settle()
    wire.peer.receive(message)
    await settle()
    wire.peer.receive(answer(1, {}))
    await asking
    wire.peer.receive(progress(1, 5))
    await settle()
    assert seen == []


async def test_progress_that_nobody_wants_to_see_is_no_error(caplog):
    wire = Wire()
    asking = asyncio.create_task(wire.peer.request("a", {}, timeout=1000))
    await settle()
    wire.peer.receive(progress(1, 1))
    await settle()
    wire.peer.receive(answer(1, {}))
    assert await asking == {}
    assert caplog.records == []


async def test_call_back():
    async def later(value):
        return value + 1

    assert await call_back(lambda value: value, 1) == 1
    assert await call_back(later, 1) == 2
    assert await call_back(lambda: 1 / 0) is None


# --- timeouts ------------------------------------------------------------------------------------


async def ticking(wire, times, token=1):
    """Send a progress notification at each of these times."""
    loop = asyncio.get_running_loop()
    for time in times:
        await asyncio.sleep(time - loop.time())
        wire.peer.receive(progress(token, time))


# (timeout, max_timeout, progress at, the request ends at)
@pytest.mark.parametrize(
    ("timeout", "max_timeout", "ticks", "end"),
    [
        (5, None, [], 5),
        (5, 60, [], 5),
        (60, 5, [], 5),
        (None, 5, [], 5),
        (None, 5, [1, 2, 3, 4], 5),
        (5, None, [4], 9),
        (5, None, [4, 8, 12], 17),
        (5, 12, [4, 8, 11], 12),
        (5, 7, [4], 7),
        (0, None, [], 0),
    ],
)
def test_timeouts(timeout, max_timeout, ticks, end):
    async def run():
        wire = Wire()
        sending = asyncio.create_task(ticking(wire, ticks))
        with pytest.raises(TimeoutError, match=f"no answer to slow within {timeout} seconds, {max_timeout} in all"):
            await wire.peer.request("slow", {}, timeout=timeout, max_timeout=max_timeout)
        assert asyncio.get_running_loop().time() == end
        await sending
        await settle()
        assert [message["method"] for message in wire.sent] == ["slow", "notifications/cancelled"]
        assert wire.sent[1]["params"]["requestId"] == 1
        assert ("_meta" in wire.sent[0]["params"]) == (timeout is not None)
        wire.peer.receive(answer(1, {}))  # too late, and ignored
        wire.peer.receive(progress(1, 100))

    in_virtual_time(run)()


@in_virtual_time
async def test_an_answer_in_time():
    wire = Wire()
    asking = asyncio.create_task(wire.peer.request("slow", {}, timeout=5, max_timeout=8))
    await ticking(wire, [4, 7])
    wire.peer.receive(answer(1, {"in": "time"}))
    assert await asking == {"in": "time"}
    await asyncio.sleep(100)
    assert len(wire.sent) == 1


@in_virtual_time
async def test_a_request_without_a_timeout_waits():
    wire = Wire()
    asking = asyncio.create_task(wire.peer.request("slow", {}))
    await ticking(wire, [10**6])
    wire.peer.receive(answer(1, {}))
    assert await asking == {}


@in_virtual_time
async def test_a_write_that_is_stuck_times_out():
    wire = Wire()
    wire.gate.clear()
    with pytest.raises(TimeoutError):
        await wire.peer.request("slow", {}, timeout=5)
    assert asyncio.get_running_loop().time() == 5


@in_virtual_time
async def test_progress_in_the_moment_of_the_timeout():
    wire = Wire()
    loop = asyncio.get_running_loop()
    asking = asyncio.create_task(wire.peer.request("slow", {}, timeout=5))
    await settle()
    loop.call_at(5, wire.peer.receive, progress(1, 1))
    loop.call_at(5, wire.peer.receive, answer(1, {}))
    with pytest.raises(TimeoutError):
        await asking


# --- cancellation of ours ------------------------------------------------------------------------


async def test_the_other_end_is_told_that_nobody_waits():
    wire = Wire()
    asking = asyncio.create_task(wire.peer.request("slow", {}))
    await settle()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await settle()
    params = {"requestId": 1, "reason": "nobody waits for the answer any more"}
    assert wire.sent[1:] == [jsonrpc.notification("notifications/cancelled", params)]
    wire.peer.receive(answer(1, {}))


async def test_initialize_is_never_cancelled():
    wire = Wire()
    asking = asyncio.create_task(wire.peer.request("initialize", {}))
    await settle()
    asking.cancel()
    await asyncio.wait([asking])
    await settle()
    assert [message["method"] for message in wire.sent] == ["initialize"]


@in_virtual_time
async def test_initialize_that_times_out_is_not_cancelled_either():
    wire = Wire()
    with pytest.raises(TimeoutError):
        await wire.peer.request("initialize", {}, timeout=5)
    await settle()
    assert [message["method"] for message in wire.sent] == ["initialize"]


@pytest.mark.parametrize("answered_first", [True, False])
async def test_what_has_been_answered_is_not_cancelled(answered_first):
    wire = Wire()
    asking = asyncio.create_task(wire.peer.request("slow", {}))
    await settle()
    steps = [lambda: wire.peer.receive(answer(1, {})), asking.cancel]
    for step in steps if answered_first else reversed(steps):
        step()
    await asyncio.wait([asking])
    await settle()
    assert asking.cancelled()
    assert len(wire.sent) == 1


async def test_a_cancellation_that_cannot_be_sent_is_dropped(caplog):
    caplog.set_level(logging.DEBUG, "mcp_min")
    wire = Wire()
    asking = asyncio.create_task(wire.peer.request("slow", {}))
    await settle()
    wire.broken = True
    asking.cancel()
    await asyncio.wait([asking])
    await settle()
    assert "a message was lost: broken" in caplog.text


# --- the end -------------------------------------------------------------------------------------


async def test_everybody_who_waits_learns_that_the_connection_is_gone():
    wire = Wire()
    ended = []
    wire.peer.session.on_close.append(lambda: ended.append(1))
    tasks = [asyncio.create_task(wire.peer.request("slow", {})) for _ in range(3)]
    tasks += [asyncio.create_task(wire.peer.wait_closed()) for _ in range(2)]
    await settle()
    assert not wire.peer.closed
    tasks[3].cancel()
    tasks[2].cancel()
    wire.peer.fail(ConnectionClosed("exit status 1"))
    wire.peer.fail(ConnectionClosed("another reason"))
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(error) for error in results if isinstance(error, ConnectionClosed)] == ["exit status 1"] * 3
    assert wire.peer.closed
    assert ended == [1]
    with pytest.raises(ConnectionClosed, match="exit status 1"):
        await wire.peer.request("late", {})
    with pytest.raises(ConnectionClosed, match="exit status 1"):
        await wire.peer.wait_closed()
    await settle()
    assert [message["method"] for message in wire.sent] == ["slow"] * 3


@in_virtual_time
async def test_nobody_complains_of_a_loss_that_nobody_waited_for():
    wire = Wire()
    wire.gate.clear()
    asking = asyncio.create_task(wire.peer.request("slow", {}))
    await settle()
    wire.peer.fail(ConnectionClosed("gone"))  # while the request is still being written
    asking.cancel()
    await asyncio.wait([asking])
    assert asking.cancelled()
    del asking
    gc.collect()


async def test_run_receives_until_the_end():
    slow = Slow()
    wire = Wire(slow=slow)
    running = asyncio.create_task(wire.peer.run(wire.messages()))
    asking = asyncio.create_task(wire.peer.request("a", {}))
    wire.inbox.put_nowait(request("slow"))
    await settle()
    wire.inbox.put_nowait(None)
    await running
    with pytest.raises(ConnectionClosed, match="the other end closed the connection"):
        await asking
    slow.go.set()
    await settle()
    assert wire.sent[-1] == answer(1, {})  # the end of input ends reading only


@pytest.mark.parametrize(
    ("error", "passed_on"), [(ConnectionClosed("reset"), False), (RuntimeError("reset"), True)], ids=repr
)
async def test_run_with_a_broken_connection(error, passed_on):
    async def messages():
        yield answer(5, {})
        raise error

    wire = Wire()
    asking = asyncio.create_task(wire.peer.request("a", {}))
    await settle()
    (outcome,) = await asyncio.gather(wire.peer.run(messages()), return_exceptions=True)
    assert isinstance(outcome, RuntimeError) == passed_on
    with pytest.raises(ConnectionClosed, match="the other end" if passed_on else "reset"):
        await asking


async def test_drain_lets_requests_be_answered():
    slow = Slow()
    wire = Wire(slow=slow)
    wire.peer.receive(request("slow"))
    await settle()
    draining = asyncio.create_task(wire.peer.drain(30))
    await settle()
    assert not draining.done()
    slow.go.set()
    await draining
    assert wire.sent == [answer(1, {})]
    await wire.peer.drain(30)


async def test_drain_lets_everything_else_be_sent():
    wire = batching(echo=echo)
    wire.gate.clear()
    wire.peer.receive([request("echo")])
    wire.peer.receive([])
    await settle()
    draining = asyncio.create_task(wire.peer.drain(30))
    await settle()
    assert not draining.done()
    wire.gate.set()
    await draining
    assert len(wire.sent) == 2


@in_virtual_time
async def test_drain_cancels_what_is_left():
    slow, notes = Slow(), Slow()
    wire = Wire(slow=slow, note=notes)
    wire.peer.receive(request("slow"))
    wire.peer.receive(jsonrpc.notification("note"))
    await wire.peer.drain(30)
    assert asyncio.get_running_loop().time() == 30
    assert (slow.ended, notes.ended, wire.sent) == (["cancelled"], ["cancelled"], [])


@in_virtual_time
async def test_drain_does_not_wait_for_what_does_not_stop():
    stop = asyncio.Event()

    async def stubborn(params, call):
        while not stop.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await stop.wait()
        return {"after": "all"}

    wire = Wire(stubborn=stubborn)
    wire.peer.receive(request("stubborn"))
    await settle()
    await wire.peer.drain(30)
    assert 30 < asyncio.get_running_loop().time() < 31
    stop.set()
    await settle()
    assert wire.sent == []


async def test_nothing_is_left_behind():
    slow = Slow()
    wire = batching(slow=slow, echo=echo)
    tasks = [asyncio.create_task(wire.peer.request("a", {}, timeout=1000)) for _ in range(3)]
    for message in [request("slow", id=1), request("slow", id=2), request("echo", id=3), jsonrpc.notification("echo")]:
        wire.peer.receive(message)
    wire.peer.receive([request("echo", id=4), jsonrpc.notification("echo")])
    await settle()
    wire.peer.receive(cancelled(1))
    wire.peer.receive(answer(1, {}))
    tasks[1].cancel()
    wire.peer.receive(progress(3, 1))
    slow.go.set()
    await settle()
    assert wire.peer._waiting.keys() == {3}
    wire.peer.fail(ConnectionClosed("the end"))
    await asyncio.wait(tasks)
    await settle()
    assert (wire.peer._answering, wire.peer._waiting, wire.peer._tasks, wire.peer._unsent) == ({}, {}, set(), 0)


# --- a reader that does not read -----------------------------------------------------------------


async def flood(wire, count, make):
    for number in range(count):
        wire.inbox.put_nowait(make(number))
    return asyncio.create_task(wire.peer.run(wire.messages()))


@pytest.mark.parametrize(
    "make",
    [
        lambda number: request("echo", {"n": number}, id=number),
        lambda number: [request("echo", {"n": number}, id=number)],
        lambda number: [],  # refused
        lambda number: request("slow", id="the same"),  # refused but for the first
    ],
    ids=["requests", "batches", "refusals", "repeated ids"],
)
async def test_reading_pauses_while_answers_cannot_be_written(make):
    wire = batching(echo=echo, slow=Slow())
    wire.gate.clear()
    running = await flood(wire, 1000, make)
    for _ in range(1000):
        await asyncio.sleep(0)
    assert peer.MAX_UNSENT < len(wire.sent) < peer.MAX_UNSENT + 4 * peer.MAX_BURST < 600
    assert wire.inbox.qsize() > 400
    wire.gate.set()
    for _ in range(3000):
        await asyncio.sleep(0)
    assert wire.inbox.empty()
    assert len(wire.sent) >= 999
    wire.inbox.put_nowait(None)
    await running
    await wire.peer.drain(0)


@pytest.mark.parametrize(
    "make",
    [lambda number: request("slow", id=number), lambda number: jsonrpc.notification("slow")],
    ids=["requests", "notes"],
)
async def test_reading_pauses_while_too_much_is_going_on(make, monkeypatch):
    monkeypatch.setattr(peer, "MAX_TASKS", 100)
    slow = Slow()
    wire = Wire(slow=slow)
    running = await flood(wire, 300, make)
    for _ in range(300):
        await asyncio.sleep(0)
    assert len(slow.begun) == 101
    slow.go.set()
    for _ in range(1000):
        await asyncio.sleep(0)
    assert len(slow.ended) == 300
    wire.inbox.put_nowait(None)
    await running
