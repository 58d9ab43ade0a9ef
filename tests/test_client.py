"""One method per MCP request, the same in both eras; what the server asks reaches the callbacks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from raw_peers import Scripted, initialized

from mcp_min import Client, ConnectionClosed, Context, RpcError, Server, client, serve_http, spec
from mcp_min.context import ROOTS, elicitation, sampling

ERAS = ["2026-07-28", "2025-11-25"]
FORM = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


def make_server() -> Server:
    server = Server("s", "2", instructions="do", page_size=2)

    @server.tool
    async def add(a: int, b: int) -> int:
        return a + b

    @server.tool
    async def ask(ctx: Context) -> str:
        questions = {"form": elicitation("Who?", FORM), "model": sampling("Say", max_tokens=5), "roots": ROOTS}
        answers = await ctx.ask(questions)
        return f"{answers['form']['content']['name']} {answers['model']['model']} {answers['roots']['roots'][0]['uri']}"

    @server.tool
    async def work(ctx: Context) -> str:
        await ctx.progress(1, total=2, message="half")
        await ctx.log("debug", "working")
        return "done"

    @server.resource("note://1")
    async def note() -> str:
        return "one"

    @server.resource("note://{id}/text")
    async def text(id: str) -> str:
        return id

    @server.prompt
    async def review(code: str = "") -> str:
        return f"review {code}"

    @server.completion
    async def complete(ref: dict[str, Any], argument: dict[str, Any], context: dict[str, Any]) -> list[str]:
        return [argument["value"] + str(len(context))]

    return server


def elicited(params: dict[str, Any]) -> dict[str, Any]:
    return {"action": "accept", "content": {"name": "Bo"}}


async def sampled(params: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": {"type": "text", "text": "x"}, "model": "m"}


@pytest.fixture(params=ERAS)
async def connected(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Client, Server, list[Any]]]:
    server, logs = make_server(), []
    async with Client(
        server,
        protocol_version=request.param,
        on_elicit=elicited,
        on_sample=sampled,
        roots=[{"uri": "file:///a"}],
        on_log=logs.append,
        extensions={"com.example/x": {}},
    ) as connected:
        yield connected, server, logs


async def test_every_method(connected: tuple[Client, Server, list[Any]]) -> None:
    client, _, _ = connected
    assert [tool["name"] for tool in await client.list_tools()] == ["add", "ask", "work"]  # of two pages
    assert [resource["uri"] for resource in await client.list_resources()] == ["note://1"]
    assert [template["uriTemplate"] for template in await client.list_resource_templates()] == ["note://{id}/text"]
    assert [prompt["name"] for prompt in await client.list_prompts()] == ["review"]
    assert (await client.call_tool("add", {"a": 1, "b": 2}))["content"][0]["text"] == "3"
    assert (await client.read_resource("note://7/text"))["contents"][0]["text"] == "7"
    assert (await client.get_prompt("review", {"code": "x"}))["messages"][0]["content"]["text"] == "review x"
    assert (await client.get_prompt("review"))["messages"][0]["content"]["text"] == "review "
    ref, argument = {"type": "ref/prompt", "name": "review"}, {"name": "code", "value": "a"}
    assert (await client.complete(ref, argument))["completion"]["values"] == ["a0"]
    assert (await client.complete(ref, argument, {"arguments": {}}))["completion"]["values"] == ["a1"]
    await client.ping()


async def test_questions_reach_the_callbacks(connected: tuple[Client, Server, list[Any]]) -> None:
    result = await connected[0].call_tool("ask")
    assert result["content"] == [{"type": "text", "text": "Bo m file:///a"}]


async def test_progress_and_logs(connected: tuple[Client, Server, list[Any]]) -> None:
    client, _, logs = connected
    seen: list[Any] = []
    await client.set_log_level("debug")
    await client.call_tool("work", on_progress=lambda *told: seen.append(told), timeout=10)
    assert seen == [(1, 2, "half")]
    assert logs == [{"level": "debug", "data": "working"}]


async def test_listen(connected: tuple[Client, Server, list[Any]]) -> None:
    client, server, _ = connected
    async with client.listen(tools=True, prompts=True, resource_list=True, resources=["note://1"]) as changes:
        server.tools_changed()
        server.prompts_changed()
        server.resources_changed()
        server.resource_updated("note://1")
        heard = [(await anext(changes))["method"] for _ in range(4)]
    assert sorted(heard) == sorted([*spec.CHANGES.values(), spec.RESOURCE_UPDATED])


QUESTION = {"resultType": "input_required", "inputRequests": {"k": {"method": "elicitation/create", "params": {}}}}
CALLED = {"name": "t", "arguments": {}}


async def test_the_state_comes_back_as_it_was_and_none_is_invented() -> None:
    results = iter([QUESTION | {"requestState": "opaque"}, QUESTION, {"content": []}])
    server = Scripted(tools__call=lambda params: next(results))
    async with Client(server, protocol_version="2026-07-28", on_elicit=elicited) as client:
        assert await client.call_tool("t") == {"content": []}
    answers = {"inputResponses": {"k": elicited({})}}
    asked = [{key: value for key, value in params.items() if key != "_meta"} for params in server.asked]
    assert asked == [CALLED, CALLED | answers | {"requestState": "opaque"}, CALLED | answers]


@pytest.mark.parametrize(
    ("result", "extensions", "problem"),
    [
        (QUESTION, None, "input was asked for 32 times"),
        (QUESTION | {"inputRequests": {"k": {"method": "roots/list"}}}, None, "has not declared"),
        ({"resultType": "task"}, None, "the resultType 'task'"),
        ({"resultType": "task"}, {"io.modelcontextprotocol/tasks": {}}, None),
    ],
)
async def test_results_that_are_not_complete(result: Any, extensions: Any, problem: str | None) -> None:
    server = Scripted(tools__call=result)
    async with Client(server, protocol_version="2026-07-28", on_elicit=elicited, extensions=extensions) as client:
        if problem is None:
            assert await client.call_tool("t") == result
        else:
            with pytest.raises(RpcError) as caught:
                await client.call_tool("t")
            assert problem in str(caught.value)


async def test_pages_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MAX_PAGES", 3)
    server = Scripted(tools__list={"tools": [{}], "nextCursor": ""})
    async with Client(server, protocol_version="2026-07-28") as endless:
        with pytest.raises(RpcError) as caught:
            await endless.list_tools()
    assert "more than 3 pages" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "declared"),
    [
        ({}, {}),
        ({"on_elicit": elicited}, {"elicitation": {}}),
        ({"on_sample": sampled, "capabilities": {"sampling": {"tools": {}}}}, {"sampling": {"tools": {}}}),
        ({"roots": lambda: [{"uri": "file:///b"}]}, {"roots": {}}),
        ({"extensions": {"a/b": {}}}, {"extensions": {"a/b": {}}}),
    ],
)
async def test_what_the_server_is_told(options: dict[str, Any], declared: dict[str, Any]) -> None:
    seen: list[Any] = []

    def look(direction: str, message: dict[str, Any]) -> None:
        if direction == "→":
            seen.append(message["params"]["_meta"][spec.CLIENT_CAPABILITIES])

    async with Client(Server("s"), on_message=look, **options):
        assert seen == [declared]


class Slow:
    """A server with a tool that never ends, over any transport."""

    def __init__(self) -> None:
        self.began, self.cancelled = asyncio.Event(), asyncio.Event()
        self.server = Server("s")

        @self.server.tool
        async def slow() -> None:
            self.began.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled.set()


@pytest.mark.parametrize("kind", ["memory", "http"])
@pytest.mark.parametrize("version", ERAS)
async def test_who_waits_no_longer_tells_the_server(version: str, kind: str) -> None:
    slow = Slow()
    async with (
        serve_http(slow.server, port=0) as http,
        Client(http.url if kind == "http" else slow.server, protocol_version=version) as client,
    ):
        for timeout in (0.05, None):
            slow.began.clear()
            slow.cancelled.clear()
            calling = asyncio.create_task(client.call_tool("slow", timeout=timeout))
            await slow.began.wait()
            if timeout is None:
                calling.cancel()
            with pytest.raises((TimeoutError, asyncio.CancelledError)):
                await calling
            await asyncio.wait_for(slow.cancelled.wait(), 5)
        await client.ping()


async def test_the_clients_timeouts_are_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow()
    for options in ({"timeout": 0.01}, {"timeout": None, "max_timeout": 0.01}):
        async with Client(slow.server, protocol_version=ERAS[0], **options) as client:
            with pytest.raises(TimeoutError):
                await client.call_tool("slow")


SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


@pytest.mark.parametrize(
    ("schema", "result", "problem"),
    [
        (SCHEMA, {"structuredContent": {"n": 1}}, None),
        (SCHEMA, {"structuredContent": {"n": "1"}}, "structuredContent.n"),
        (SCHEMA, {"structuredContent": {}}, "'n' is required"),
        (SCHEMA, {"structuredContent": {}, "isError": True}, None),
        (SCHEMA, {"content": []}, None),
        (None, {"structuredContent": {}}, None),
        ({"type": 5}, {"structuredContent": {}}, None),
        ({"$ref": "https://example.com/schema"}, {"structuredContent": {}}, None),
        ("x", {"structuredContent": {}}, None),
    ],
)
async def test_structured_results_are_checked(schema: Any, result: dict[str, Any], problem: str | None) -> None:
    """Spec: 2026-07-28 server/tools#output-schema."""
    tool = {"name": "t"} | ({} if schema is None else {"outputSchema": schema})
    server = Scripted(tools__list={"tools": [tool]}, tools__call=result)
    async with Client(server, protocol_version="2026-07-28") as client:
        assert await client.call_tool("t") == result  # nothing is known of it yet
        await client.list_tools()
        if problem is None:
            assert await client.call_tool("t") == result
        else:
            with pytest.raises(RpcError, match="t: ") as caught:
                await client.call_tool("t")
            assert problem in str(caught.value)
        assert await client.call_tool("other") == result


async def test_a_schema_that_has_changed_is_not_held_against_the_result() -> None:
    server = Server("s")
    server.tool(name="t", output_schema=SCHEMA)(lambda: {"n": 1})
    async with Client(server) as client, client.listen(tools=True) as changes:
        await client.list_tools()
        server.remove_tool("t")
        server.tool(name="t", output_schema={"type": "object"})(lambda: {"other": 1})
        await anext(changes)
        assert (await client.call_tool("t"))["structuredContent"] == {"other": 1}


@pytest.mark.parametrize("cache", [True, False])
async def test_after_a_header_mismatch_it_looks_which_arguments_are_headers(cache: bool) -> None:
    """Spec: 2026-07-28 basic/transports/streamable-http#client-behavior."""
    header = {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}
    server = Server("s", ttl_ms=60_000)

    @server.tool(input_schema=header)
    async def where(region: str) -> str:
        return region

    heard: list[str] = []

    def look(direction: str, message: dict[str, Any]) -> None:
        if direction == "→":
            heard.append(message["method"])

    async with serve_http(server, port=0) as http, Client(http.url, cache=cache, on_message=look) as client:
        assert (await client.call_tool("where", {"region": "eu"}))["content"][0]["text"] == "eu"
        assert heard == ["server/discover", "tools/call", "tools/list", "tools/call"]


async def test_a_header_mismatch_that_stays_is_the_callers() -> None:
    mismatch = RpcError(spec.HEADER_MISMATCH, "Header mismatch")
    server = Scripted(tools__call=mismatch, tools__list={"tools": [], "ttlMs": 60_000})
    async with Client(server, protocol_version="2026-07-28", cache=True) as client:
        await client.list_tools()
        with pytest.raises(RpcError, match="Header mismatch"):
            await client.call_tool("t")
    assert server.heard == ["tools__list", "tools__call", "tools__list", "tools__call"]


@pytest.mark.parametrize(
    ("result", "problem"),
    [
        ({"tools": 5}, "tools is 5"),
        ({"tools": [5]}, "tools must hold objects only"),
        ({"tools": [{}, None]}, "tools must hold objects only"),
    ],
)
async def test_what_is_no_list(result: dict[str, Any], problem: str) -> None:
    async with Client(Scripted(tools__list=result), protocol_version="2026-07-28") as client:
        with pytest.raises(RpcError, match=problem):
            await client.list_tools()


@pytest.mark.parametrize("version", ERAS)
async def test_a_request_of_ones_own(version: str) -> None:
    server = Server("s")

    @server.method("example/echo")
    async def echo(params: dict[str, Any], ctx: Context) -> dict[str, Any]:
        return {"said": params.get("say"), "meta": ctx.meta.get("a/b")}

    async with Client(server, protocol_version=version) as client:
        found = await client.request("example/echo", {"say": "x", "_meta": {"a/b": 1}})
        assert (found["said"], found["meta"]) == ("x", 1)
        assert (await client.request("example/echo"))["said"] is None


async def test_a_result_of_any_kind_is_complete_on_a_legacy_connection() -> None:
    server = Scripted(initialize=initialized("2025-11-25"), tools__call={"resultType": "odd"})
    async with Client(server, protocol_version="2025-11-25") as client:
        assert await client.call_tool("t") == {"resultType": "odd"}


async def test_input_is_for_some_methods_only() -> None:
    async with Client(Scripted(tools__list=QUESTION), protocol_version="2026-07-28", on_elicit=elicited) as client:
        with pytest.raises(RpcError, match="the resultType 'input_required'"):
            await client.list_tools()


async def test_a_log_level_goes_with_each_modern_request() -> None:
    levels: list[Any] = []

    def look(direction: str, message: dict[str, Any]) -> None:
        if direction == "→":
            levels.append(message["params"]["_meta"].get(spec.LOG_LEVEL))

    async with Client(Server("s"), on_message=look) as client:
        await client.set_log_level("error")
        await client.ping()
    assert levels == [None, "error"]


@pytest.mark.parametrize("version", ERAS)
async def test_a_log_level_that_there_is_not_spoils_nothing(version: str) -> None:
    async with Client(Server("s"), protocol_version=version) as client:
        with pytest.raises(ValueError, match="level 'loud': there are debug, info"):
            await client.set_log_level("loud")
        await client.ping()


async def test_a_ping_tells_what_was_not_searched_for() -> None:
    async with Client(make_server(), protocol_version="2026-07-28") as client:
        assert client.capabilities == {}
        await client.ping()
        assert "tools" in client.capabilities


@pytest.mark.parametrize("version", [None, *ERAS])
async def test_a_ping_may_come_first(version: str | None) -> None:
    client = Client(make_server(), protocol_version=version)
    await client.ping()
    await client.close()


async def test_a_callback_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with Client(make_server(), on_log=lambda params: 1 / 0) as client:
        await client.set_log_level("debug")
        assert (await client.call_tool("work", on_progress=lambda *told: 1 / 0))["content"][0]["text"] == "done"
    assert "a callback failed" in caplog.text


async def test_logs_that_nobody_wants_are_dropped() -> None:
    async with Client(make_server(), protocol_version="2025-11-25") as client:
        assert (await client.call_tool("work"))["content"][0]["text"] == "done"


async def test_a_server_may_ping() -> None:
    server = Server("s")

    @server.tool
    async def back(ctx: Context) -> str:
        assert ctx.call.request is not None
        return str(await ctx.call.request("ping", {}))

    async with Client(server, protocol_version="2025-11-25") as client:
        assert (await client.call_tool("back"))["content"][0]["text"] == "{}"


def test_a_version_that_there_is_not() -> None:
    with pytest.raises(ValueError, match="protocol_version 'x': there are 2026-07-28"):
        Client(Server("s"), protocol_version="x")


async def test_options_are_of_http_only() -> None:
    with pytest.raises(TypeError, match="headers: for URLs only"):
        async with Client(Server("s"), headers={}):
            raise AssertionError
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_what_is_fresh_is_not_asked_for_again() -> None:
    server = Scripted(tools__list={"tools": [{"name": "t"}], "ttlMs": 60_000})
    async with Client(server, protocol_version="2026-07-28", cache=True) as client:
        assert await client.list_tools() == await client.list_tools() == [{"name": "t"}]
    assert server.heard == ["tools__list"]
    with pytest.raises(ConnectionClosed, match="the client is closed"):
        await client.list_tools()
