"""The dispatcher: one message in, at most one out, whatever the handler does."""

from __future__ import annotations

import asyncio
import logging

import pytest

from mcp_min.dispatcher import Call, Dispatcher, Session
from mcp_min.jsonrpc import RpcError


def request(method, params=None, id=1):
    return {"jsonrpc": "2.0", "id": id, "method": method} | ({} if params is None else {"params": params})


def notification(method):
    return {"jsonrpc": "2.0", "method": method}


async def echo(params, call):
    return params


def raises(error):
    async def handler(params, call):
        raise error

    return handler


async def in_a_group(error):
    async with asyncio.TaskGroup() as group:
        group.create_task(raises(error)(None, None))


class Unusual(BaseException):
    """Such as what ends a call with questions."""


@pytest.mark.parametrize("params", [None, {}, {"a": [1, "é"]}])
async def test_a_result(params):
    answer = await Dispatcher({"echo": echo}).dispatch(request("echo", params), Call())
    assert answer == {"jsonrpc": "2.0", "id": 1, "result": params or {}}


@pytest.mark.parametrize("id", [0, 1, "1", "", -5, 10**30])
async def test_the_id_comes_back(id):
    answer = await Dispatcher({"echo": echo}).dispatch(request("echo", id=id), Call())
    assert answer["id"] == id
    assert type(answer["id"]) is type(id)


INTERNAL = {"code": -32603, "message": "Internal error"}
WITHIN = INTERNAL | {"data": {"details": "the work was cancelled from within"}}


@pytest.mark.parametrize(
    ("raised", "error"),
    [
        (RpcError(-32602, "Invalid params"), {"code": -32602, "message": "Invalid params"}),
        (RpcError(7, "Own", {"a": 1}), {"code": 7, "message": "Own", "data": {"a": 1}}),
        (RuntimeError("secret"), INTERNAL),
        (RecursionError("secret"), INTERNAL),
        (MemoryError("secret"), INTERNAL),
        (TimeoutError("secret"), INTERNAL),
        (StopAsyncIteration("secret"), INTERNAL),
        (SystemExit("secret"), INTERNAL),
        (SystemExit(0), INTERNAL),
        (BaseExceptionGroup("secret", [Unusual()]), INTERNAL),
        (asyncio.CancelledError("secret"), WITHIN),
    ],
    ids=repr,
)
async def test_what_a_handler_raises(raised, error, caplog):
    caplog.set_level(logging.CRITICAL)
    answer = await Dispatcher({"fail": raises(raised)}).dispatch(request("fail"), Call())
    assert answer == {"jsonrpc": "2.0", "id": 1, "error": error}


async def test_what_a_task_of_a_handler_raises(caplog):
    async def handler(params, call):
        await in_a_group(Unusual("secret"))

    answer = await Dispatcher({"fail": handler}).dispatch(request("fail"), Call())
    assert answer == {"jsonrpc": "2.0", "id": 1, "error": INTERNAL}
    assert "secret" in caplog.text


async def test_the_words_of_an_unexpected_exception_go_to_the_log(caplog):
    await Dispatcher({"fail": raises(RuntimeError("secret"))}).dispatch(request("fail"), Call())
    (record,) = caplog.records
    assert (record.name, record.levelname, record.getMessage()) == ("mcp_min", "ERROR", "fail failed")
    assert "RuntimeError: secret" in caplog.text


async def test_an_unknown_method():
    answer = await Dispatcher({}).dispatch(request("tools/" + "x" * 200), Call())
    assert answer["error"]["code"] == -32601
    assert answer["error"]["data"]["details"].startswith("there is no method 'tools/xxx")
    assert len(answer["error"]["data"]["details"]) < 150


@pytest.mark.parametrize(
    "handler", [echo, raises(RpcError(1, "x")), raises(RuntimeError()), raises(SystemExit(1)), None], ids=repr
)
async def test_a_notification_is_never_answered(handler, caplog):
    methods = {} if handler is None else {"note": handler}
    assert await Dispatcher(methods).dispatch(notification("note"), Call()) is None


async def test_a_cancelled_task_ends_cancelled():
    begun = asyncio.Event()

    async def handler(params, call):
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(Dispatcher({"wait": handler}).dispatch(request("wait"), Call()))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_closed_call_is_not_answered():
    """So that a handler which swallows its cancellation answers nothing."""

    async def handler(params, call):
        call.open = False
        return {}

    assert await Dispatcher({"a": handler}).dispatch(request("a"), Call()) is None


async def test_an_answered_call_is_closed():
    call = Call()
    assert await Dispatcher({"echo": echo}).dispatch(request("echo"), call) is not None
    assert not call.open


async def test_a_handler_sees_the_call_and_the_message():
    seen = []

    async def handler(params, call):
        seen.append((call, call.message))
        return {}

    call, message = Call(principal="ann"), request("a")
    await Dispatcher({"a": handler}).dispatch(message, call)
    assert seen == [(call, message)]


async def test_one_function_stands_around_every_handler():
    async def around(handler, params, call):
        if call.message["method"] == "refused":
            raise RpcError(1, "No")
        return {"inner": await handler({"a": 2}, "another call")}

    async def inner(params, call):
        return {"params": params, "call": call}

    dispatcher = Dispatcher({"a": inner, "refused": inner}, around)
    answer = await dispatcher.dispatch(request("a"), Call())
    assert answer["result"] == {"inner": {"params": {"a": 2}, "call": "another call"}}
    assert (await dispatcher.dispatch(request("refused"), Call()))["error"]["code"] == 1
    assert (await dispatcher.dispatch(request("b"), Call()))["error"]["code"] == -32601


async def test_methods_may_come_and_go():
    methods = {}
    dispatcher = Dispatcher(methods)
    methods["echo"] = echo
    assert "result" in await dispatcher.dispatch(request("echo"), Call())


def test_a_session_closes_once_the_last_first():
    ended = []
    session = Session(echo)
    session.on_close += [lambda: ended.append(1), lambda: ended.append(2)]
    session.close()
    session.close()
    assert ended == [2, 1]
    assert Session(echo).state is not session.state
    assert not session.batches
