"""One method per MCP request, the same in both eras; what the server asks reaches the callbacks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from mcp_min import Client, ConnectionClosed, Context, RpcError, Server, client, spec
from mcp_min.context import ROOTS, elicitation, sampling
from mcp_min.dispatcher import Call, Dispatcher

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


async def until(holds: Callable[[], bool]) -> None:
    """Let everything else run until something holds."""
    for _ in range(10_000):
        if holds():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came to hold")


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
    heard: list[str] = []

    async def listen() -> None:
        changes = client.listen(tools=True, prompts=True, resource_list=True, resources=["note://1"])
        async for change in changes:
            heard.append(change["method"])
            if len(heard) == 4:
                await changes.aclose()  # type: ignore[attr-defined]

    listening = asyncio.create_task(listen())
    await until(lambda: any("note://1" in listener.uris for listener in server.listeners))
    server.tools_changed()
    server.prompts_changed()
    server.resources_changed()
    server.resource_updated("note://1")
    await listening
    assert sorted(heard) == sorted([*spec.CHANGES.values(), spec.RESOURCE_UPDATED])
    await until(lambda: not any("note://1" in listener.uris for listener in server.listeners))


async def test_listening_ends_with_the_server_or_the_connection(connected: tuple[Client, Server, list[Any]]) -> None:
    client, server, _ = connected
    modern = client.protocol_version in spec.MODERN

    async def listen() -> list[Any]:
        return [change async for change in client.listen(tools=True)]

    listening = asyncio.create_task(listen())
    await until(lambda: bool(client._subscriptions._open and server.listeners))
    if modern:
        server.end_listeners()
        assert await listening == []
    else:
        await client.close()
        with pytest.raises(ConnectionClosed):
            await listening


class Fake:
    """A modern server that answers tools/call with these results, one after another."""

    def __init__(self, *results: dict[str, Any]) -> None:
        self.results, self.asked = list(results), []

    async def dispatch(self, message: dict[str, Any], call: Call) -> Any:
        async def answer(params: dict[str, Any], call: Call) -> dict[str, Any]:
            self.asked.append({key: value for key, value in params.items() if key != "_meta"})
            return self.results.pop(0) if len(self.results) > 1 else self.results[0]

        return await Dispatcher({"tools/call": answer, "tools/list": answer}).dispatch(message, call)


QUESTION = {"resultType": "input_required", "inputRequests": {"k": {"method": "elicitation/create", "params": {}}}}
CALLED = {"name": "t", "arguments": {}}


async def test_the_state_comes_back_as_it_was_and_none_is_invented() -> None:
    fake = Fake(QUESTION | {"requestState": "opaque"}, QUESTION, {"content": []})
    async with Client(fake, protocol_version="2026-07-28", on_elicit=elicited) as client:
        assert await client.call_tool("t") == {"content": []}
    answers = {"inputResponses": {"k": elicited({})}}
    assert fake.asked == [CALLED, CALLED | answers | {"requestState": "opaque"}, CALLED | answers]


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
    async with Client(Fake(result), protocol_version="2026-07-28", on_elicit=elicited, extensions=extensions) as client:
        if problem is None:
            assert await client.call_tool("t") == result
        else:
            with pytest.raises(RpcError) as caught:
                await client.call_tool("t")
            assert problem in str(caught.value)


async def test_pages_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MAX_PAGES", 3)
    async with Client(Fake({"tools": [{}], "nextCursor": ""}), protocol_version="2026-07-28") as endless:
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
async def test_what_is_declared(options: dict[str, Any], declared: dict[str, Any]) -> None:
    seen: list[Any] = []

    def look(direction: str, message: dict[str, Any]) -> None:
        if direction == "→":
            seen.append(message["params"]["_meta"][spec.CLIENT_CAPABILITIES])

    async with Client(Server("s"), on_message=look, **options):
        assert seen == [declared]


async def test_roots_may_be_computed() -> None:
    async with Client(
        make_server(), on_elicit=elicited, on_sample=sampled, roots=lambda: [{"uri": "file:///b"}]
    ) as client:
        assert (await client.call_tool("ask"))["content"][0]["text"] == "Bo m file:///b"


async def test_a_timeout_tells_the_server() -> None:
    cancelled = asyncio.Event()
    server = Server("s")

    @server.tool
    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with Client(server) as client:
        with pytest.raises(TimeoutError):
            await client.call_tool("slow", timeout=0.01)
        await asyncio.wait_for(cancelled.wait(), 5)


async def test_a_server_may_ping() -> None:
    server = Server("s")

    @server.tool
    async def back(ctx: Context) -> str:
        assert ctx.call.request is not None
        return str(await ctx.call.request("ping", {}))

    async with Client(server, protocol_version="2025-11-25") as client:
        assert (await client.call_tool("back"))["content"][0]["text"] == "{}"
