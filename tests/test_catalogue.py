"""What is offered follows what is registered, and changes reach exactly those who asked for them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mcp_min import Client, ConnectionClosed, Server, spec
from mcp_min.dispatcher import Call, Session
from mcp_min.jsonrpc import Message, Params

META = {spec.PROTOCOL_VERSION: "2026-07-28", spec.CLIENT_CAPABILITIES: {}}
TOOLS, PROMPTS, RESOURCES = spec.CHANGES.values()


def request(method: str, params: Params | None = None, id: Any = 1, *, modern: bool = True) -> Message:
    params = dict(params or {}) | ({"_meta": META} if modern else {})
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": params}


class Wire:
    """The client's end of a connection: everything that is sent to it, in order."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[Message] = asyncio.Queue()
        self.session = Session(self.send)
        self.broken = False

    async def send(self, message: Message) -> None:
        if self.broken:
            raise ConnectionClosed("gone")
        await self.messages.put(message)

    async def next(self) -> Message:
        return await asyncio.wait_for(self.messages.get(), 5)

    async def ask(self, server: Server, message: Message) -> Message:
        answer = await server.dispatch(message, Call(self.send, session=self.session))
        assert answer is not None
        return answer


def offer() -> Server:
    """A server with one of everything."""
    server = Server("s")

    @server.tool
    def add(a: int, b: int) -> int: ...

    @server.prompt
    def review() -> str: ...

    @server.resource("config://app")
    def config() -> str: ...

    return server


# --- what is offered -----------------------------------------------------------------------------


def register_tool(server: Server) -> None:
    @server.tool(name="t")
    def tool() -> str: ...


def register_prompt(server: Server) -> None:
    @server.prompt(name="p")
    def prompt() -> str: ...


def register_resource(server: Server) -> None:
    @server.resource("a://b")
    def resource() -> str: ...


def register_template(server: Server) -> None:
    @server.resource("a://{b}")
    def template(b: str) -> str: ...


def register_completion(server: Server) -> None:
    @server.completion
    def complete(ref: dict, argument: dict, context: dict) -> list[str]: ...  # type: ignore[type-arg]


RESOURCES_DECLARED = {"listChanged": True, "subscribe": True}


@pytest.mark.parametrize(
    ("register", "declared", "methods"),
    [
        (register_tool, {"tools": {"listChanged": True}}, {"tools/list", "tools/call"}),
        (register_prompt, {"prompts": {"listChanged": True}}, {"prompts/list", "prompts/get"}),
        (register_resource, {"resources": RESOURCES_DECLARED}, set(spec.FAMILIES["resources"])),
        (register_template, {"resources": RESOURCES_DECLARED}, set(spec.FAMILIES["resources"])),
        (register_completion, {"completions": {}}, {"completion/complete"}),
    ],
)
def test_what_is_registered_is_declared_and_answered(
    register: Any, declared: dict[str, Any], methods: set[str]
) -> None:
    server = Server("s")
    before = set(server.methods)
    assert server.capabilities("2026-07-28") == {"logging": {}}
    register(server)
    assert server.capabilities("2026-07-28") == {"logging": {}} | declared
    assert set(server.methods) - before == methods


@pytest.mark.parametrize(
    ("version", "names"),
    [
        ("2026-07-28", {"logging", "completions", "extensions"}),
        ("2025-11-25", {"logging", "completions"}),
        ("2025-03-26", {"logging", "completions"}),
        ("2024-11-05", {"logging"}),
    ],
)
def test_a_revision_sees_the_capabilities_that_it_knows(version: str, names: set[str]) -> None:
    server = Server("s", extensions={"com.example/x": {"a": 1}})
    register_completion(server)
    declared = server.capabilities(version)
    assert set(declared) == names
    assert declared.get("extensions", {"com.example/x": {"a": 1}}) == {"com.example/x": {"a": 1}}


@pytest.mark.parametrize("method", ["tools/list", "prompts/get", "resources/read", "completion/complete"])
async def test_what_is_not_offered_is_no_method(method: str) -> None:
    answer = await Server("s").handle(request(method))
    assert answer is not None
    assert answer["error"]["code"] == -32601


def test_decorators_return_the_function() -> None:
    server = Server("s")

    def function() -> str: ...
    def template(b: str) -> str: ...
    def complete(ref: dict, argument: dict, context: dict) -> list[str]: ...  # type: ignore[type-arg]
    async def handler(params: Any, ctx: Any) -> Any: ...

    assert server.tool(function) is function
    assert server.tool(name="other")(function) is function
    assert server.prompt(function) is function
    assert server.prompt(name="other")(function) is function
    assert server.resource("a://b")(function) is function
    assert server.completion(complete) is complete
    assert server.method("x/y")(handler) is handler
    assert server.resource("a://{b}")(template) is template
    assert (list(server.tools), list(server.prompts)) == (["function", "other"], ["function", "other"])
    assert (list(server.resources), list(server.templates)) == (["a://b"], ["a://{b}"])
    assert server.completer is not None


@pytest.mark.parametrize("register", [register_tool, register_prompt, register_resource, register_template])
def test_nothing_is_registered_twice(register: Any) -> None:
    server = Server("s")
    register(server)
    with pytest.raises(ValueError, match="is registered already; remove it first"):
        register(server)


def test_what_was_removed_can_be_registered_again() -> None:
    server = Server("s")
    for _ in range(2):
        for register in (register_tool, register_prompt, register_resource, register_template):
            register(server)
        server.remove_tool("t")
        server.remove_prompt("p")
        server.remove_resource("a://b")
        server.remove_resource("a://{b}")
    assert [*server.tools, *server.prompts, *server.resources, *server.templates] == []
    assert "tools" in server.capabilities("2026-07-28"), "a list may be empty"
    for remove in (server.remove_tool, server.remove_prompt, server.remove_resource):
        with pytest.raises(KeyError):
            remove("nothing")


async def test_a_method_of_ones_own_stays_when_features_come() -> None:
    server = Server("s")

    @server.method("tools/list")
    async def listing(params: Params, ctx: Any) -> dict[str, Any]:
        return {"tools": ["mine"]}

    register_tool(server)
    answer = await server.handle(request("tools/list"))
    assert answer is not None
    assert answer["result"]["tools"] == ["mine"]


# --- subscriptions/listen ------------------------------------------------------------------------

EVERYTHING = {"toolsListChanged": True, "promptsListChanged": True, "resourcesListChanged": True}


@asynccontextmanager
async def listening(
    server: Server, wire: Wire, filter: dict[str, Any], id: Any = 1
) -> AsyncIterator[asyncio.Task[Any]]:
    """A subscription whose acknowledgement has been taken."""
    call = Call(wire.send, session=wire.session)
    task = asyncio.create_task(server.dispatch(request("subscriptions/listen", {"notifications": filter}, id), call))
    acknowledgement = await wire.next()
    assert acknowledgement["method"] == "notifications/subscriptions/acknowledged"
    assert acknowledgement["params"]["_meta"] == {spec.SUBSCRIPTION_ID: id}
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


def change(method: str, uri: str | None = None, id: Any = 1) -> Message:
    params = {"_meta": {spec.SUBSCRIPTION_ID: id}} | ({} if uri is None else {"uri": uri})
    return {"jsonrpc": "2.0", "method": method, "params": params}


@pytest.mark.parametrize(
    ("filter", "agreed"),
    [
        ({}, {}),
        (EVERYTHING, EVERYTHING),
        ({"toolsListChanged": True, "promptsListChanged": False}, {"toolsListChanged": True}),
        ({"toolsListChanged": 1, "somethingElse": True}, {}),
        ({"resourceSubscriptions": ["a://b"]}, {"resourceSubscriptions": ["a://b"]}),
        ({"resourceSubscriptions": []}, {}),
    ],
)
async def test_the_acknowledgement_says_what_was_agreed(filter: dict[str, Any], agreed: dict[str, Any]) -> None:
    server, wire = offer(), Wire()
    call = Call(wire.send)
    task = asyncio.create_task(server.dispatch(request("subscriptions/listen", {"notifications": filter}), call))
    assert (await wire.next())["params"]["notifications"] == agreed
    server.end_listeners()
    answer = await task
    assert answer is not None
    assert answer["result"]["_meta"][spec.SUBSCRIPTION_ID] == 1


async def test_what_is_not_offered_is_not_agreed() -> None:
    wire = Wire()
    call = Call(wire.send)
    wanted = {"notifications": EVERYTHING | {"resourceSubscriptions": ["a://b"]}}
    server = Server("s")
    task = asyncio.create_task(server.dispatch(request("subscriptions/listen", wanted), call))
    assert (await wire.next())["params"]["notifications"] == {}
    register_tool(server)
    assert await wire.next() == change(TOOLS), "it was asked for, and by now it is offered"
    server.end_listeners()
    await task


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"notifications": None},
        {"notifications": ["toolsListChanged"]},
        {"notifications": {"resourceSubscriptions": "a://b"}},
        {"notifications": {"resourceSubscriptions": [1]}},
    ],
)
async def test_a_malformed_filter_is_refused(params: Params) -> None:
    server, wire = offer(), Wire()
    answer = await wire.ask(server, request("subscriptions/listen", params))
    assert answer["error"]["code"] == -32602
    assert not server.listeners


async def test_listening_needs_a_stream() -> None:
    answer = await offer().handle(request("subscriptions/listen", {"notifications": {}}))
    assert answer is not None
    assert "can stream" in answer["error"]["data"]["details"]


async def test_listening_needs_a_request() -> None:
    server, wire = offer(), Wire()
    message = request("subscriptions/listen", {"notifications": {}})
    del message["id"]
    assert await asyncio.wait_for(server.dispatch(message, Call(wire.send)), 5) is None
    assert not server.listeners
    assert wire.messages.empty()


CHANGES: list[tuple[Any, str, str]] = [
    (Server.tools_changed, "toolsListChanged", TOOLS),
    (Server.prompts_changed, "promptsListChanged", PROMPTS),
    (Server.resources_changed, "resourcesListChanged", RESOURCES),
    (register_tool, "toolsListChanged", TOOLS),
    (register_prompt, "promptsListChanged", PROMPTS),
    (register_template, "resourcesListChanged", RESOURCES),
    (lambda server: server.remove_tool("add"), "toolsListChanged", TOOLS),
    (lambda server: server.remove_prompt("review"), "promptsListChanged", PROMPTS),
    (lambda server: server.remove_resource("config://app"), "resourcesListChanged", RESOURCES),
]


@pytest.mark.parametrize(("do", "key", "method"), CHANGES)
async def test_a_change_reaches_those_who_asked_for_it(do: Any, key: str, method: str) -> None:
    server, asked, other = offer(), Wire(), Wire()
    others = {name: True for name in EVERYTHING if name != key} | {"resourceSubscriptions": ["end://"]}
    async with (
        listening(server, asked, {key: True, "resourceSubscriptions": ["end://"]}),
        listening(server, other, others),
    ):
        do(server)
        server.resource_updated("end://")
        assert [await asked.next(), await asked.next()] == [change(method), change(spec.RESOURCE_UPDATED, "end://")]
        assert await other.next() == change(spec.RESOURCE_UPDATED, "end://")


async def test_updates_of_watched_resources_only() -> None:
    server, wire = offer(), Wire()
    async with listening(server, wire, {"resourceSubscriptions": ["a://1", "a://3"]}):
        for number in (1, 2, 3):
            server.resource_updated(f"a://{number}")
        server.resources_changed()
        assert await wire.next() == change(spec.RESOURCE_UPDATED, "a://1")
        assert await wire.next() == change(spec.RESOURCE_UPDATED, "a://3")
        server.resource_updated("a://1")
        assert await wire.next() == change(spec.RESOURCE_UPDATED, "a://1")


async def test_a_thousand_changes_while_nobody_reads_are_one() -> None:
    server, wire = offer(), Wire()
    async with listening(server, wire, {"toolsListChanged": True, "promptsListChanged": True}):
        for _ in range(1000):
            server.tools_changed()
        server.prompts_changed()
        assert [(await wire.next())["method"], (await wire.next())["method"]] == [TOOLS, PROMPTS]


async def test_changes_come_from_any_thread() -> None:
    server, wire = offer(), Wire()
    async with listening(server, wire, {"toolsListChanged": True}):
        thread = threading.Thread(target=server.tools_changed)
        thread.start()
        assert await wire.next() == change(TOOLS)
        thread.join()


async def test_two_subscriptions_of_one_connection() -> None:
    server, wire = offer(), Wire()
    async with listening(server, wire, {"toolsListChanged": True}, id=4):
        async with listening(server, wire, {"toolsListChanged": True}, id="five"):
            server.tools_changed()
            assert {(await wire.next())["params"]["_meta"][spec.SUBSCRIPTION_ID] for _ in range(2)} == {4, "five"}
        server.tools_changed()
        assert await wire.next() == change(TOOLS, id=4)


ENDINGS: list[Any] = [lambda server, wire: server.end_listeners(), lambda server, wire: wire.session.close()]


@pytest.mark.parametrize("end", ENDINGS, ids=["end_listeners", "the connection closes"])
async def test_a_subscription_ends_with_its_result(end: Any) -> None:
    server, wire = offer(), Wire()
    async with listening(server, wire, {"toolsListChanged": True}) as task:
        server.tools_changed()
        end(server, wire)
        server.tools_changed()  # too late
        answer = await asyncio.wait_for(task, 5)
        assert await wire.next() == change(TOOLS), "what was pending is told before the end"
    assert wire.messages.empty()
    assert answer["id"] == 1
    assert answer["result"]["resultType"] == "complete"
    assert answer["result"]["_meta"][spec.SUBSCRIPTION_ID] == 1
    assert not server.listeners
    assert not wire.session.on_close


async def test_a_cancelled_subscription_leaves_nothing_behind() -> None:
    server, wire = offer(), Wire()
    async with listening(server, wire, {"toolsListChanged": True}) as task:
        assert len(server.listeners) == 1
        task.cancel()
        await asyncio.wait([task])
        assert not server.listeners
        assert not wire.session.on_close


async def test_a_listener_whose_connection_broke_is_gone() -> None:
    server, wire = offer(), Wire()
    async with listening(server, wire, {"toolsListChanged": True}) as task:
        wire.broken = True
        server.tools_changed()
        await asyncio.wait_for(task, 5)
        assert not server.listeners


# --- legacy connections --------------------------------------------------------------------------


async def initialized(server: Server) -> Wire:
    wire = Wire()
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}}
    await wire.ask(server, request("initialize", params, modern=False))
    return wire


@pytest.mark.parametrize(("do", "key", "method"), CHANGES)
async def test_a_legacy_connection_hears_of_every_list(do: Any, key: str, method: str) -> None:
    server = offer()
    one, two, stranger = await initialized(server), await initialized(server), Wire()
    do(server)
    for wire in (one, two):
        assert await wire.next() == {"jsonrpc": "2.0", "method": method}
        wire.session.close()
    assert stranger.messages.empty()
    assert not server.listeners
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)


async def test_a_legacy_connection_subscribes_for_itself_alone() -> None:
    server = offer()
    one, two = await initialized(server), await initialized(server)
    subscribe = request("resources/subscribe", {"uri": "a://b"}, modern=False)
    assert (await one.ask(server, subscribe))["result"] == {}
    server.resource_updated("a://b")
    server.resource_updated("a://c")
    server.tools_changed()
    assert await one.next() == {"jsonrpc": "2.0", "method": spec.RESOURCE_UPDATED, "params": {"uri": "a://b"}}
    assert (await one.next())["method"] == TOOLS
    assert (await two.next())["method"] == TOOLS
    unsubscribe = request("resources/unsubscribe", {"uri": "a://b"}, modern=False)
    assert (await one.ask(server, unsubscribe))["result"] == {}
    assert (await one.ask(server, unsubscribe))["result"] == {}, "twice is no error"
    server.resource_updated("a://b")
    server.tools_changed()
    assert (await one.next())["method"] == TOOLS
    for wire in (one, two):
        wire.session.close()


async def test_a_second_initialize_makes_no_second_listener() -> None:
    server = offer()
    wire = await initialized(server)
    await wire.ask(server, request("initialize", {"protocolVersion": "2025-03-26"}, modern=False))
    assert len(server.listeners) == 1
    wire.session.close()


@pytest.mark.parametrize("uri", [None, 1, ["a://b"]])
async def test_only_strings_can_be_subscribed_to(uri: Any) -> None:
    server = offer()
    wire = await initialized(server)
    answer = await wire.ask(server, request("resources/subscribe", {"uri": uri}, modern=False))
    assert answer["error"]["code"] == -32602
    wire.session.close()


@pytest.mark.parametrize("method", ["resources/subscribe", "resources/unsubscribe"])
async def test_subscribing_needs_a_session(method: str) -> None:
    message = request(method, {"uri": "a://b"}, modern=False)
    stateless = await offer().handle(message)
    assert stateless is not None
    for answer in (stateless, await Wire().ask(offer(), message)):
        assert answer["error"]["code"] == -32602
        assert "send initialize first" in answer["error"]["data"]["details"]


@pytest.mark.parametrize("version", ["2026-07-28", "2025-06-18"])
async def test_a_client_hears_of_what_happens_at_run_time(version: str) -> None:
    server = offer()
    async with (
        Client(server, protocol_version=version) as client,
        client.listen(tools=True, resources=["config://app"]) as changes,
    ):
        register_tool(server)
        assert (await anext(changes))["method"] == TOOLS
        assert [tool["name"] for tool in await client.list_tools()] == ["add", "t"]
        server.resource_updated("config://app")
        assert await anext(changes) == {"method": spec.RESOURCE_UPDATED, "params": {"uri": "config://app"}}
