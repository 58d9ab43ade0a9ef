"""What a `listen` loop takes: each change once, in order, only what was asked for, from the moment it stands."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Callable
from typing import Any

import pytest
from raw_peers import Scripted, initialized, others, until

from mcp_min import Client, ConnectionClosed, RpcError, Server, serve_http, spec, subscription
from mcp_min.dispatcher import Call

ERAS = ["2026-07-28", "2025-11-25"]
LISTS = list(spec.CHANGES.values())
TOOLS, PROMPTS, RESOURCES = LISTS


def make_server() -> Server:
    server = Server("s")

    async def text() -> str:
        return "text"

    server.tool(text)
    server.prompt(text)
    server.resource("a://1")(text)
    return server


def names(changes: list[dict[str, Any]]) -> list[str]:
    return [change["params"].get("uri", change["method"]) for change in changes]


@pytest.fixture(params=ERAS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@contextlib.asynccontextmanager
async def on_transport(kind: str, server: Server, **options: Any) -> Any:
    if kind == "memory":
        async with Client(server, **options) as client:
            yield client
    else:
        async with serve_http(server, port=0) as http, Client(http.url, **options) as client:
            yield client


@pytest.mark.parametrize("kind", ["memory", "http"])
@pytest.mark.parametrize(
    ("wanted", "heard"),
    [
        ({"tools": True}, [TOOLS]),
        ({"prompts": True}, [PROMPTS]),
        ({"resource_list": True}, [RESOURCES]),
        ({"resources": ["a://1"]}, ["a://1"]),
        ({"resources": "a://1"}, ["a://1"]),
        ({"resources": ("a://2", "a://1")}, ["a://1", "a://2"]),
        ({"tools": True, "prompts": True, "resource_list": True, "resources": ["a://2"]}, [*LISTS, "a://2"]),
    ],
)
async def test_what_is_wanted_is_heard_and_nothing_else(kind: str, version: str, wanted: Any, heard: list[str]) -> None:
    server = make_server()
    async with (
        on_transport(kind, server, protocol_version=version) as client,
        client.listen(**wanted) as changes,
    ):
        for change in (server.tools_changed, server.prompts_changed, server.resources_changed):
            change()
        for uri in ("a://1", "a://2", "a://3"):
            server.resource_updated(uri)
        async with asyncio.timeout(5):
            assert sorted(names([await anext(changes) for _ in heard])) == sorted(heard)


async def test_a_loop_alone_is_enough(version: str) -> None:
    server = make_server()
    async with Client(server, protocol_version=version) as client:
        before = others()

        async def listen() -> list[str]:
            heard = []
            async with contextlib.aclosing(aiter(client.listen(tools=True, resources=["a://1"]))) as changes:
                async for change in changes:
                    heard.append(change["method"])
                    if len(heard) == 2:
                        break
            return heard

        listening = asyncio.create_task(listen())
        await until(lambda: any("a://1" in listener.uris for listener in server.listeners))
        server.tools_changed()
        server.resource_updated("a://1")
        assert sorted(await listening) == [spec.RESOURCE_UPDATED, TOOLS]
        assert not [task for task in others() if "Peer.request" in repr(task)]
        await until(lambda: not any(listener.uris for listener in server.listeners))
        await until(lambda: others() == before)


async def test_each_change_once_and_in_order_while_the_reader_is_busy(version: str) -> None:
    server = make_server()
    heard: list[str] = []

    def look(direction: str, message: dict[str, Any]) -> None:
        if direction == "←" and message.get("method") in (*LISTS, spec.RESOURCE_UPDATED):
            heard.append(message["method"])

    async with (
        Client(server, protocol_version=version, on_message=look) as client,
        client.listen(tools=True, resources=["a://1"]) as changes,
    ):
        told = [TOOLS, spec.RESOURCE_UPDATED, TOOLS, spec.RESOURCE_UPDATED]
        for number, method in enumerate(told, 1):
            server.tools_changed() if method == TOOLS else server.resource_updated("a://1")
            await until(lambda number=number: len(heard) == number)
        assert heard == told
        await client.ping()  # what had come before has been taken in
        assert names([await anext(changes) for _ in range(2)]) == [TOOLS, "a://1"]
        waiting = asyncio.ensure_future(anext(changes))
        await client.ping()
        assert not waiting.done()
        server.tools_changed()
        assert names([await waiting]) == [TOOLS]


async def test_a_reader_that_is_too_far_behind_misses_some(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscription, "MAX_PENDING", 2)
    server = make_server()
    uris = ["a://1", "a://2", "a://3"]
    async with (
        Client(server, protocol_version=version) as client,
        client.listen(resources=uris) as changes,
        client.listen(resources=["a://3"]) as third,
    ):
        for uri in uris:
            server.resource_updated(uri)
        await anext(third)
        assert names([await anext(changes) for _ in range(2)]) == uris[:2]
        server.resource_updated("a://1")
        assert names([await anext(changes)]) == ["a://1"]


@pytest.mark.parametrize("updated", ["note://1", "note://1/part", "note://10", "note://"])
async def test_a_part_of_what_is_watched_may_be_named(updated: str) -> None:
    """Spec: 2025-11-25 server/resources#subscriptions."""

    async def subscribe(params: dict[str, Any], call: Call) -> dict[str, Any]:
        assert call.session is not None
        for uri in (updated, 5, None, "note://1/end"):
            message = {"jsonrpc": "2.0", "method": spec.RESOURCE_UPDATED, "params": {"uri": uri}}
            await call.session.notify(message)
        return {}

    server = Scripted(initialize=initialized(ERAS[1]), notifications__initialized={}, resources__unsubscribe={})
    server.methods["resources/subscribe"] = subscribe
    async with (
        Client(server, protocol_version=ERAS[1]) as client,
        client.listen(resources=["note://1/"]) as changes,
    ):
        heard = names([await anext(changes)])
        heard += [] if heard == ["note://1/end"] else names([await anext(changes)])
    assert heard == ([updated] if updated in ("note://1", "note://1/part") else []) + ["note://1/end"]


async def test_two_of_one_connection_hear_what_each_wants(version: str) -> None:
    server = make_server()
    sent: list[str] = []

    def look(direction: str, message: dict[str, Any]) -> None:
        if direction == "→" and message.get("method") == "resources/unsubscribe":
            sent.append(message["params"]["uri"])

    client = Client(server, protocol_version=version, on_message=look)
    async with client, client.listen(resources=["a://1", "a://2"]) as first:
        async with client.listen(resources=["a://2", "a://3"]) as second:
            for uri in ("a://1", "a://2", "a://3"):
                server.resource_updated(uri)
            assert names([await anext(first), await anext(first)]) == ["a://1", "a://2"]
            assert names([await anext(second), await anext(second)]) == ["a://2", "a://3"]
        assert sent == ([] if version == ERAS[0] else ["a://3"])  # the other still wants a://2
        server.resource_updated("a://2")
        assert names([await anext(first)]) == ["a://2"]
    assert sorted(sent) == ([] if version == ERAS[0] else ["a://1", "a://2", "a://3"])
    assert server.listeners == set()


# --- the end -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["memory", "http"])
async def test_the_server_ends_it_after_what_was_pending(kind: str) -> None:
    server = make_server()
    async with on_transport(kind, server) as client, client.listen(tools=True) as changes:
        server.tools_changed()
        server.end_listeners()
        assert names([change async for change in changes]) == [TOOLS]
        await client.ping()


async def test_a_server_may_cancel_it() -> None:
    told = asyncio.Event()

    async def listen(params: dict[str, Any], call: Call) -> dict[str, Any]:
        id = call.message["id"]
        assert call.send is not None
        meta = {"_meta": {spec.SUBSCRIPTION_ID: id}}
        await call.send({"jsonrpc": "2.0", "method": subscription.ACKNOWLEDGED, "params": meta})
        for other in (99, id):
            told.set()
            await call.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": other}})
            await call.send({"jsonrpc": "2.0", "method": TOOLS, "params": meta})
            for another in ({}, {"_meta": {spec.SUBSCRIPTION_ID: 99}}):  # is not meant
                await call.send({"jsonrpc": "2.0", "method": PROMPTS, "params": another})
        await asyncio.Event().wait()
        return {}

    server = Scripted()
    server.methods["subscriptions/listen"] = listen
    client = Client(server, protocol_version=ERAS[0])
    async with client, client.listen(tools=True, prompts=True) as changes:
        await told.wait()
        assert names([change async for change in changes]) == [TOOLS]


@pytest.mark.parametrize("kind", ["memory", "http"])
async def test_it_breaks_with_the_connection(kind: str, version: str) -> None:
    server = make_server()
    async with on_transport(kind, server, protocol_version=version) as client, client.listen(tools=True) as changes:
        waiting = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(0)
        await client.close()
        with pytest.raises(ConnectionClosed):
            await waiting
        with pytest.raises(ConnectionClosed, match="the client is closed"):
            await client.listen(tools=True).__aenter__()


DIES = """
import os, sys
sys.path.insert(0, '.')
from mcp_min import Server
server = Server("s")
@server.tool
async def die() -> None:
    os._exit(3)
@server.resource("a://1")
async def text() -> str:
    return "text"
server.run()
"""


async def test_it_does_not_outlive_its_server_but_the_client_does(version: str) -> None:
    async with Client([sys.executable, "-c", DIES], protocol_version=version, timeout=30) as client:
        async with client.listen(tools=True, resources=["a://1"]) as changes:
            with pytest.raises(ConnectionClosed, match="exited with code 3"):
                await client.call_tool("die")
            with pytest.raises(ConnectionClosed, match="exited with code 3"):
                await anext(changes)
        async with client.listen(resources=["a://1"]):
            assert len(await client.list_tools()) == 1


@pytest.mark.parametrize(
    ("answers", "error", "said"),
    [
        ({}, RpcError, "Method not found"),
        ({"subscriptions__listen": RpcError(-32602, "too many")}, RpcError, "too many"),
        ({"subscriptions__listen": lambda params: asyncio.Event().wait()}, TimeoutError, "not acknowledged within"),
        ({"resources__subscribe": RpcError(-32602, "which?")}, RpcError, "which?"),
        ({"resources__subscribe": lambda params: asyncio.Event().wait()}, TimeoutError, "resources/subscribe"),
    ],
)
async def test_it_never_stands(
    answers: dict[str, Any], error: type[Exception], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription, "SUBSCRIBE_TIMEOUT", 0.01)
    monkeypatch.setattr(subscription, "UNSUBSCRIBE_TIMEOUT", 0.01)
    server = Scripted(initialize=initialized(ERAS[1]), notifications__initialized={}, **answers)
    version = ERAS["resources__subscribe" in answers]
    async with Client(server, protocol_version=version) as client:
        before = others()
        with pytest.raises(error, match=said):
            await client.listen(resources=["a://1"]).__aenter__()
        await until(lambda: others() == before)
        assert client._subscriptions == []


async def test_leaving_is_not_held_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscription, "UNSUBSCRIBE_TIMEOUT", 0.01)
    answers: dict[str, Any] = {"resources__unsubscribe": lambda params: asyncio.Event().wait()}
    server = Scripted(
        initialize=initialized(ERAS[1]), notifications__initialized={}, resources__subscribe={}, **answers
    )
    async with Client(server, protocol_version=ERAS[1]) as client, client.listen(resources=["a://1"]):
        pass
    assert server.heard[-1] == "resources__unsubscribe"


@pytest.mark.parametrize(
    "leave", [lambda task: task.cancel(), lambda task: task.get_loop().call_soon(task.cancel)], ids=["now", "later"]
)
async def test_the_server_is_told_when_a_reader_is_cancelled(version: str, leave: Callable[[Any], Any]) -> None:
    server = make_server()
    async with Client(server, protocol_version=version) as client:

        async def listen() -> None:
            async with client.listen(resources=["a://1"]) as changes:
                await anext(changes)

        listening = asyncio.create_task(listen())
        await until(lambda: any("a://1" in listener.uris for listener in server.listeners))
        leave(listening)
        with pytest.raises(asyncio.CancelledError):
            await listening
        await until(lambda: not any(listener.uris for listener in server.listeners))


async def test_what_the_server_agrees_to_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mcp_min")
    server = Server("s")

    @server.tool
    async def text() -> str:
        return "text"

    async with Client(server) as client, client.listen(tools=True, prompts=True):
        assert "the server agrees to {'toolsListChanged': True}" in caplog.text
